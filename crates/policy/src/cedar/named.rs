//! What policies and entities name that there may not be: attributes behind `has`, groups, clients, routes and tenants.
//!
//! To Cedar these are things that happen not to be there, so a misspelt `forbid` would forbid nothing, without a word.

use std::collections::HashSet;

use cedar_policy::Policy;
use ringward_identity::SpiffeId;
use serde_json::Value as Json;

use crate::cedar::request::{ANONYMOUS, CLIENT, ROUTE, is_tenant};
use crate::cedar::schema::Attributes;
use crate::check::nearest;
use crate::problem::{Mention, Mentioned, Place, Problem};

/// What policies name.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Routes and tenants, which the configuration has or has not.
    pub(super) mentions: Vec<Mention>,
    /// Attributes behind `has`, other than in the context.
    asked: Vec<(Of, String, Place)>,
    /// Entities whose attributes are taken.
    read: Vec<(Uid, Place)>,
    /// All entities.
    literals: Vec<(Uid, Place)>,
    /// Attributes of records that policies make.
    made: HashSet<String>,
}

/// What is asked for an attribute.
#[derive(Debug, Clone, Copy)]
enum Of {
    Principal,
    Action,
    Resource,
    /// What may be anything.
    Any,
}

/// Type and id of an entity.
type Uid = (String, String);

/// Entities of one file, with its text, in which they stand in the same order.
pub(super) struct Listed<'s> {
    pub(super) file: &'s str,
    pub(super) text: &'s str,
    pub(super) json: Json,
}

impl Named {
    /// Adds what a policy names; `json` is the policy, too.
    pub(super) fn add(&mut self, policy: &Policy, json: &Json, rule: &str, at: &Place) {
        for entity in policy.entity_literals() {
            let uid = (entity.type_name().to_string(), entity.id().unescaped().to_owned());
            self.mentions.extend(mentioned(&uid).map(|(of, name)| mention(of, name, rule, at)));
            self.literals.push((uid, at.clone()));
        }
        // No recursion: how deep a policy may be is judged elsewhere.
        let mut left = vec![&json["conditions"]];
        while let Some(next) = left.pop() {
            match next {
                Json::Object(object) => {
                    if let (1, Some((operator, operands))) = (object.len(), object.iter().next()) {
                        self.expression(operator, operands, rule, at);
                    }
                    left.extend(object.values());
                }
                Json::Array(items) => left.extend(items),
                _ => {}
            }
        }
    }

    fn expression(&mut self, operator: &str, operands: &Json, rule: &str, at: &Place) {
        let sides = (&operands["left"], &operands["right"]);
        match operator {
            "has" => {
                let of = match (variable(sides.0), sides.0.get("Var").is_some()) {
                    // Judged by its whole path.
                    (Some("context"), _) => return,
                    (Some("principal"), true) => Of::Principal,
                    (Some("action"), true) => Of::Action,
                    (Some("resource"), true) => Of::Resource,
                    _ => Of::Any,
                };
                let attributes = match &operands["attr"] {
                    Json::Array(names) => names.iter().collect(),
                    name => vec![name],
                };
                for (index, name) in attributes.into_iter().filter_map(Json::as_str).enumerate() {
                    let of = if index == 0 { of } else { Of::Any };
                    self.asked.push((of, name.to_owned(), at.clone()));
                }
            }
            "." => {
                self.read.extend(uid(&sides.0["Value"]["__entity"]).map(|uid| (uid, at.clone())));
            }
            "Record" => {
                self.made.extend(operands.as_object().into_iter().flatten().map(|(name, _)| name.clone()))
            }
            "==" | "!=" | "contains" => {
                let of_route = |other: &Json| {
                    let items = other["Set"].as_array().map_or(std::slice::from_ref(other), Vec::as_slice);
                    let names = items.iter().filter_map(|item| item["Value"].as_str());
                    names.map(|name| mention(Mentioned::Route, name, rule, at)).collect()
                };
                let names: Vec<_> = match sides {
                    (other, route) | (route, other) if is_route_id(route) => of_route(other),
                    _ => Vec::new(),
                };
                self.mentions.extend(names);
            }
            _ => {}
        }
    }

    /// Judges all of it. Adds what the entities mention.
    pub(super) fn judge(
        &mut self,
        attributes: &Attributes,
        listed: &[Listed<'_>],
        problems: &mut Vec<Problem>,
    ) {
        self.attributes(attributes, problems);
        let each = || listed.iter().flat_map(|listed| listed.json.as_array().into_iter().flatten());
        let known: HashSet<Uid> = each().filter_map(|entity| uid(&entity["uid"])).collect();
        let parents: HashSet<Uid> = each().flat_map(parents).collect();
        let mut said = HashSet::new();
        for (uid, at) in &self.read {
            if !known.contains(uid) && said.insert(uid) {
                let message = format!("{} is not among the entities, and has no attributes", shown(uid));
                problems.push(Problem::error(at, message).help(
                    "asked for one, Cedar ends in an error: add it to the entities, or remove the condition",
                ));
            }
        }
        for (uid, at) in &self.literals {
            if !said.insert(uid) {
                continue;
            }
            if uid.0 == GROUP && !known.contains(uid) && !parents.contains(uid) {
                let groups = known.iter().filter(|known| known.0 == GROUP).map(|known| known.1.as_str());
                let problem =
                    Problem::warning(at, format!("nothing is in {}: no entity has it as parent", shown(uid)));
                problems.push(match nearest(&uid.1, groups) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help("groups are entities, and parents of others, in *.json"),
                });
            }
            problems.extend(never(uid, at));
        }
        listed.iter().for_each(|listed| self.entities(listed, &known, problems));
        self.mentions.truncate(MENTIONS_MAX);
    }

    fn attributes(&self, attributes: &Attributes, problems: &mut Vec<Problem>) {
        for (of, name, at) in &self.asked {
            let (what, declared) = match of {
                Of::Principal => ("`principal`", &attributes.client),
                Of::Resource => ("`resource`", &attributes.route),
                Of::Action => ("`action`", &attributes.action),
                Of::Any => ("what is asked for it", &attributes.any),
            };
            let made = matches!(of, Of::Any) && self.made.contains(name);
            if made || declared.contains(name) {
                continue;
            }
            let problem = Problem::error(
                at,
                format!("attribute `{name}` is never there: {what} has none of this name"),
            );
            problems.push(match nearest(name, declared.iter().map(String::as_str)) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => {
                    problem.help("attributes of clients, routes and groups are declared in *.cedarschema")
                }
            });
        }
    }

    /// What the entities of a file name.
    fn entities(&mut self, listed: &Listed<'_>, known: &HashSet<Uid>, problems: &mut Vec<Problem>) {
        let mut cursor = Cursor::new(listed);
        let (mut mentions, mut said, mut warned) = (HashSet::new(), HashSet::new(), 0);
        for entity in listed.json.as_array().into_iter().flatten() {
            let Some(uid) = uid(&entity["uid"]) else { continue };
            cursor.to(&uid.1);
            if let Some((of, name)) = mentioned(&uid)
                && mentions.insert((of, name.to_owned()))
            {
                self.mentions.push(mention(of, name, "", &cursor.place));
            }
            if warned >= WARNINGS_MAX {
                continue;
            }
            let missing =
                parents(entity).filter(|parent| !known.contains(parent) && said.insert(parent.clone()));
            for parent in missing {
                let message = format!("{} is in {}, which is no entity", shown(&uid), shown(&parent));
                problems.push(
                    Problem::warning(&cursor.place, message)
                        .help("check its spelling, or add it to the entities"),
                );
                warned += 1;
            }
            if let Some(problem) = never(&uid, &cursor.place) {
                problems.push(problem);
                warned += 1;
            }
        }
    }
}

/// Finds entities in the text that lists them, in their order, and counts lines on the way.
struct Cursor<'s> {
    text: &'s str,
    offset: usize,
    place: Place,
}

impl<'s> Cursor<'s> {
    fn new(listed: &Listed<'s>) -> Self {
        Self { text: listed.text, offset: 0, place: Place::new(listed.file, 1, 1) }
    }

    /// Goes to the next text `id`. Where it is written otherwise, as with `\u0061`, the entity before stands for it.
    fn to(&mut self, id: &str) {
        let written = Json::from(id).to_string();
        let Some(ahead) = self.text[self.offset..].find(&written) else { return };
        for character in self.text[self.offset..self.offset + ahead].chars() {
            match character {
                '\n' => (self.place.line, self.place.column) = (self.place.line + 1, 1),
                _ => self.place.column += 1,
            }
        }
        self.offset += ahead;
    }
}

/// The variable that an expression is a part of.
fn variable(expression: &Json) -> Option<&str> {
    let mut at = expression;
    while let Some(access) = at.get(".") {
        at = &access["left"];
    }
    at["Var"].as_str()
}

/// `context.route.id`
fn is_route_id(expression: &Json) -> bool {
    let (id, route) = (&expression["."], &expression["."]["left"]["."]);
    id["attr"] == "id" && route["attr"] == "route" && route["left"]["Var"] == "context"
}

/// An entity as JSON has it.
fn uid(json: &Json) -> Option<Uid> {
    let json = json.get("__entity").unwrap_or(json);
    Some((json["type"].as_str()?.to_owned(), json["id"].as_str()?.to_owned()))
}

fn parents(entity: &Json) -> impl Iterator<Item = Uid> {
    entity["parents"].as_array().into_iter().flatten().filter_map(uid)
}

/// What of the configuration an entity stands for.
fn mentioned((of, id): &Uid) -> Option<(Mentioned, &str)> {
    match of.as_str() {
        ROUTE => Some((Mentioned::Route, id)),
        CLIENT => {
            let (tenant, _) = id.split_once('/')?;
            (!tenant.is_empty() && is_tenant(tenant)).then_some((Mentioned::Tenant, tenant))
        }
        _ => None,
    }
}

fn mention(of: Mentioned, name: &str, rule: &str, at: &Place) -> Mention {
    let Place { file, line, column } = at.clone();
    Mention { of, name: name.to_owned(), rule: rule.to_owned(), file, line, column }
}

/// Says so if an entity can be no principal.
fn never(uid: &Uid, at: &Place) -> Option<Problem> {
    let (of, id) = uid;
    let is_spiffe = id.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
    let why = match of.as_str() {
        ANONYMOUS if !id.is_empty() => "clients without certificate are all `Ringward::Anonymous::\"\"`",
        CLIENT if id.is_empty() => "every client has a name",
        CLIENT if id.starts_with('/') => "a tenant's name stands before the slash",
        CLIENT if is_spiffe && SpiffeId::parse(id).is_err() => "it is not written as SPIFFE IDs are",
        _ => return None,
    };
    Some(Problem::warning(at, format!("{} is never a principal: {why}", shown(uid))))
}

fn shown((of, id): &Uid) -> String {
    format!("`{of}::{}`", Json::from(id.as_str()))
}

const GROUP: &str = "Ringward::Group";
/// Warnings of one file of entities: enough to see what is wrong with it.
const WARNINGS_MAX: usize = 32;
/// More routes and tenants than configurations have; the process that checks may say only so much.
const MENTIONS_MAX: usize = 4096;
