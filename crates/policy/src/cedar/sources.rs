//! From files to policies and entities that were checked: the one place where a policy set in Cedar is judged. As many problems as
//! possible are collected.

use std::collections::HashMap;

use cedar_policy::{
    Effect, Entities, Policy, PolicyId, PolicySet as Policies, Schema, ValidationMode, ValidationWarning,
    Validator,
};
use serde_json::Value as Json;

use crate::cedar::named::{Listed, Named};
use crate::cedar::request::Size;
use crate::cedar::scan;
use crate::cedar::schema::{ADDRESS, ADDRESS_IP, schema};
use crate::cedar::trial::{self, Trial};
use crate::cedar::uses::{EXPRESSIONS, FIELDS, Uses};
use crate::cedar::{LOOKS_MAX, ancestors, beginning, place_of, text_of};
use crate::check::nearest;
use crate::decision::{REASON_BYTES_MAX, RULE_BYTES_MAX};
use crate::input::document::is_hidden;
use crate::input::schema::{Lookup, look_up, names_below};
use crate::input::shape::InputShape;
use crate::problem::{Mention, Place, Problem, Severity};
use crate::set::{PolicySet, Source};

/// A policy set that passed all checks.
pub(super) struct Checked {
    pub(super) policies: Policies,
    pub(super) entities: Entities,
    /// How large the attributes of one entity are, at most.
    pub(super) attributes: Size,
    /// By the number that is the id of the policy.
    pub(super) rules: Vec<Rule>,
    pub(super) uses: Uses,
    pub(super) mentions: Vec<Mention>,
    pub(super) trials: Vec<Trial>,
    pub(super) warnings: Vec<Problem>,
}

/// What is known of a policy beside its conditions.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its `@id`, or its place.
    pub(super) name: String,
    /// Its `@reason`.
    pub(super) reason: Option<String>,
    pub(super) allows: bool,
    pub(super) at: Place,
}

/// What a file is by its name.
enum Kind {
    Policies,
    Entities,
    Schema,
    Tests,
}

impl Kind {
    fn of(path: &str) -> Option<Self> {
        let (stem, ending) = path.rsplit_once('.')?;
        match ending {
            "cedar" => Some(Self::Policies),
            "json" => Some(Self::Entities),
            "cedarschema" => Some(Self::Schema),
            "toml" if stem.ends_with(".test") => Some(Self::Tests),
            _ => None,
        }
    }
}

impl Checked {
    /// Reads and checks the files of a set.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub(super) fn of(set: &PolicySet) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        set.sources().iter().for_each(|source| reader.source(source));
        let Reader {
            policies,
            rules,
            texts,
            uses,
            mut named,
            trials,
            schema: own,
            entities,
            mut problems,
            ..
        } = reader;
        if rules.is_empty() && problems.is_empty() {
            let at = set.sources().first().map_or_else(Place::default, |source| beginning(&source.path));
            let problem = Problem::error(&at, "there is no policy, so nothing would be allowed");
            problems.push(problem.help("write `permit (principal, action, resource) when { ... };`"));
        }
        bounds(&uses, &mut problems);
        headers(&uses, &mut problems);
        if !problems.is_empty() {
            // Types are worth looking at only in policies that could all be read.
            return Err(problems);
        }
        let schema = schema(own, uses.context.keys().map(Vec::as_slice), &mut problems);
        let (mut attributes, mut listed) = (Size::default(), Vec::new());
        let entities = schema.as_ref().map(|(schema, _)| {
            read_entities(&entities, schema, &uses, &mut listed, &mut attributes, &mut problems)
        });
        let (Some((schema, declared)), Some(entities)) = (schema, entities) else { return Err(problems) };
        named.judge(&declared, &listed, &mut problems);
        validate(schema, &policies, &rules, &texts, &mut problems);
        unknown(&uses, &mut problems);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(problems);
        }
        let Named { mentions, .. } = named;
        Ok(Self { policies, entities, attributes, rules, uses, mentions, trials, warnings: problems })
    }
}

/// Reads files one by one.
#[derive(Default)]
struct Reader<'s> {
    policies: Policies,
    rules: Vec<Rule>,
    /// The text that each policy stands in.
    texts: Vec<&'s str>,
    uses: Uses,
    named: Named,
    trials: Vec<Trial>,
    schema: Option<&'s Source>,
    entities: Vec<&'s Source>,
    /// Where each name of a policy was given first.
    names: HashMap<String, Place>,
    /// Policies in all files, as the scan counts them.
    scanned: usize,
    problems: Vec<Problem>,
}

impl<'s> Reader<'s> {
    fn source(&mut self, source: &'s Source) {
        let at = beginning(&source.path);
        let kind = Kind::of(&source.path);
        let bytes_max = match kind {
            Some(Kind::Entities) => ENTITIES_BYTES_MAX,
            _ => TEXT_BYTES_MAX,
        };
        if source.bytes.len() > bytes_max {
            let message = format!("file has {} bytes, more than {bytes_max}", source.bytes.len());
            return self
                .problems
                .push(Problem::error(&at, message).help("split the policy by host or route"));
        }
        match kind {
            Some(Kind::Policies) => match text_of(source) {
                Ok(text) => self.policies(&source.path, text),
                Err(problem) => self.problems.push(problem),
            },
            Some(Kind::Entities) => self.entities.push(source),
            Some(Kind::Schema) => {
                if let Some(first) = self.schema.replace(source) {
                    let message = format!("there is another schema, {}", first.path);
                    self.problems
                        .push(Problem::error(&at, message).help("write all declarations into one file"));
                }
            }
            Some(Kind::Tests) => trial::read(source, &mut self.trials, &mut self.problems),
            None => {
                let help = "a policy in Cedar holds *.cedar, *.json with entities, one *.cedarschema and *.test.toml";
                self.problems.push(Problem::error(&at, "unknown kind of file").help(help));
            }
        }
    }

    fn policies(&mut self, file: &str, text: &'s str) {
        if let Some(problem) = scan::scan(file, text, &mut self.scanned) {
            return self.problems.push(problem);
        }
        let read: Policies = match text.parse() {
            Ok(read) => read,
            Err(errors) => {
                let errors: cedar_policy::ParseErrors = errors;
                return self
                    .problems
                    .extend(errors.iter().map(|error| place_of(error, &beginning(file), Some(text))));
            }
        };
        if let Some(template) = read.templates().next() {
            let start = template.as_ref().loc().map_or(0, |loc| loc.start());
            let problem = Problem::error(
                &scan::place(file, text, start),
                "templates (`?principal`, `?resource`) are not supported",
            );
            self.problems.push(problem.help("write a policy for each, or one for a group"));
        }
        // In order of the text: of several policies that decide alike, the first gives name and reason.
        let mut found: Vec<(usize, &Policy)> = read
            .policies()
            .map(|policy| (policy.as_ref().loc().map_or(0, |loc| loc.start()), policy))
            .collect();
        found.sort_by_key(|(start, _)| *start);
        for (start, policy) in found {
            self.policy(file, text, start, policy);
        }
    }

    fn policy(&mut self, file: &str, text: &'s str, start: usize, policy: &Policy) {
        let at = scan::place(file, text, start);
        let name = match policy.annotation("id") {
            Some(id) => {
                self.one_line("id", id, RULE_BYTES_MAX, &at);
                id.to_owned()
            }
            None => unnamed(&at),
        };
        if let Some(first) = self.names.insert(name.clone(), at.clone()) {
            let message =
                format!("policy `{name}` is named like the one at line {} of {}", first.line, first.file);
            let help = "give each policy an `@id` of its own: logs tell them apart by it";
            self.problems.push(Problem::error(&at, message).help(help));
        }
        let reason = policy.annotation("reason").map(str::to_owned);
        if let Some(reason) = &reason {
            self.one_line("reason", reason, REASON_BYTES_MAX, &at);
        }
        match policy.to_json() {
            Ok(json) => {
                self.uses.add(&json, &at);
                self.named.add(policy, &json, &name, &at);
            }
            Err(error) => self.problems.push(place_of(&error, &at, None)),
        }
        let number = PolicyId::new(self.rules.len().to_string());
        if let Err(error) = self.policies.add(policy.new_id(number)) {
            self.problems.push(place_of(&error, &at, None));
        }
        self.rules.push(Rule { name, reason, allows: policy.effect() == Effect::Permit, at });
        self.texts.push(text);
    }

    fn one_line(&mut self, what: &str, text: &str, bytes_max: usize, at: &Place) {
        if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
            let message = format!("`@{what}` has to be one line of 1 to {bytes_max} bytes, for the log");
            self.problems.push(Problem::error(at, message));
        }
        if let Some(hidden) = text.chars().find(|character| is_formatting(*character)) {
            let message = format!("`@{what}` has the character U+{:04X} in it", u32::from(hidden));
            let help = "write text that logs show as it is: nothing invisible, nothing that reorders it";
            self.problems.push(Problem::error(at, message).help(help));
        }
    }
}

/// What logs call a policy without `@id`: its place, by the name of its file without directories.
fn unnamed(at: &Place) -> String {
    let file = at.file.rsplit('/').next().unwrap_or_default();
    let shown = file.chars().filter(|character| !character.is_control() && !is_formatting(*character));
    let short: String = shown.take(RULE_BYTES_MAX / 5).collect();
    format!("{short}:{}", at.line)
}

/// What bounds the time of a decision and the stack that it needs: Cedar itself looks at no clock.
fn bounds(uses: &Uses, problems: &mut Vec<Problem>) {
    for (what, amount, most) in uses.amounts() {
        let Some(at) = uses.too_much.get(what) else { continue };
        let help = match what {
            EXPRESSIONS => "put what clients have in common into groups of entities",
            FIELDS => "look at one header field or parameter with several values",
            _ => "write less of them, and shorter ones, or put what is compared into entities",
        };
        problems.push(Problem::error(at, format!("there are {amount} {what}, more than {most}")).help(help));
    }
    if let Some((at, levels_max)) = uses.too_deep() {
        let help = "write several policies, or a set, as in `[\"a\", \"b\"].contains(...)`";
        problems.push(
            Problem::error(at, format!("the policy is nested deeper than {levels_max} levels")).help(help),
        );
    }
}

/// Header fields that no request has.
fn headers(uses: &Uses, problems: &mut Vec<Problem>) {
    for (path, at) in &uses.context {
        let [request, headers, name, ..] = path.as_slice() else { continue };
        if request != "request" || !matches!(headers.as_str(), "headers" | "headers_all") {
            continue;
        }
        let lower = name.to_ascii_lowercase();
        let (why, help) = if is_hidden(&lower) {
            (
                "clients cannot say who they are by it",
                "`principal` and `context.client` say who the client is".to_owned(),
            )
        } else if lower != *name {
            ("names are in lower case", format!("write \"{lower}\""))
        } else {
            continue;
        };
        problems.push(Problem::error(at, format!("header `{name}` is never there, since {why}")).help(help));
    }
}

/// Fields that there are not, where Cedar takes them for fields that are never there: behind `has`.
fn unknown(uses: &Uses, problems: &mut Vec<Problem>) {
    for (path, at) in &uses.context {
        let known = if *path == ADDRESS_IP { &ADDRESS.map(str::to_owned)[..] } else { path };
        if let Lookup::Unknown { parent, name } = look_up_literally(known) {
            let found = problems.iter().any(|problem| {
                problem.severity == Severity::Error
                    && problem.file == at.file
                    && problem.message.contains(&name)
            });
            if !found {
                let within =
                    if parent.is_empty() { "context".to_owned() } else { format!("context.{parent}") };
                let problem = Problem::error(at, format!("`{within}` has no field `{name}`"));
                problems.push(match nearest(&name, names_below(InputShape::Native, &parent)) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => problem.help("`ringward policy schema` prints all fields"),
                });
            }
        }
    }
}

/// Where `*` is no name that is computed but a name, as it is in Cedar: none of our fields.
fn look_up_literally(path: &[String]) -> Lookup {
    let parent = path.iter().position(|name| name == "*").map(|index| path[..index].join("."));
    match parent {
        Some(parent) if names_below(InputShape::Native, &parent).next().is_some() => {
            Lookup::Unknown { parent, name: "*".to_owned() }
        }
        _ => look_up(InputShape::Native, path),
    }
}

/// The entities of all files, each as the schema says.
fn read_entities<'s>(
    sources: &[&'s Source],
    schema: &Schema,
    uses: &Uses,
    listed: &mut Vec<Listed<'s>>,
    attributes: &mut Size,
    problems: &mut Vec<Problem>,
) -> Entities {
    let mut entities = Entities::empty();
    let before = problems.len();
    for source in sources {
        let at = beginning(&source.path);
        let text = match text_of(source) {
            Ok(text) => text,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match serde_json::from_str::<Json>(text) {
            Ok(json) => {
                larger(attributes, &json, uses, &at, problems);
                listed.push(Listed { file: &source.path, text, json });
            }
            Err(error) => {
                let at = Place::new(&source.path, error.line() as u32, error.column() as u32);
                problems.push(Problem::error(&at, format!("entities are no JSON: {error}")));
            }
        }
    }
    let mut count = 0;
    for Listed { file, json, .. } in &*listed {
        count += json.as_array().map_or(0, Vec::len);
        if count > ENTITIES_MAX {
            let message = format!("there are {count} entities, more than {ENTITIES_MAX}");
            let problem = Problem::error(&beginning(file), message);
            problems.push(problem.help("list the clients that belong to groups, and no others"));
            break;
        }
    }
    // Cedar finds out who is in which group, which takes long if groups are nested without bound.
    if problems.len() == before
        && let Some((index, message)) = ancestors::too_many(listed.iter().map(|listed| &listed.json))
    {
        let Listed { file, text, .. } = &listed[index];
        let at = entity_place(&message, file, text).unwrap_or_else(|| beginning(file));
        problems.push(Problem::error(&at, message).help("put groups into fewer others"));
    }
    if problems.len() > before {
        return entities;
    }
    for Listed { file, text, .. } in &*listed {
        match entities.clone().add_entities_from_json_str(text, Some(schema)) {
            Ok(more) => entities = more,
            Err(error) => {
                let at = beginning(file);
                let problem = place_of(&error, &at, None);
                let at = entity_place(&problem.message, file, text).unwrap_or(at);
                problems.push(Problem { line: at.line, column: at.column, ..problem });
            }
        }
    }
    entities
}

/// Takes the attributes and tags of a file's entities into account: they have to leave time for what policies compare.
fn larger(attributes: &mut Size, listed: &Json, uses: &Uses, at: &Place, problems: &mut Vec<Problem>) {
    for entity in listed.as_array().into_iter().flatten() {
        let parts = || ["attrs", "tags"].into_iter().filter_map(|part| entity.get(part));
        let bytes = parts().map(|part| part.to_string().len()).sum::<usize>();
        attributes.text_bytes = attributes.text_bytes.max(bytes);
        attributes.items = attributes.items.max(parts().map(items).sum());
    }
    if uses.looks.at(attributes.text_bytes, attributes.items) > LOOKS_MAX {
        let message = format!(
            "an entity has {} bytes and {} values of attributes, too many for what policies compare",
            attributes.text_bytes, attributes.items
        );
        let help = "put clients into groups instead, or shorten patterns with `*`";
        problems.push(Problem::error(at, message).help(help));
    }
}

/// Values in a value, those of sets and records too. A reference to an entity is one.
fn items(value: &Json) -> usize {
    match value {
        Json::Array(listed) => 1 + listed.iter().map(items).sum::<usize>(),
        Json::Object(fields) => {
            let is_reference = fields.len() == 2
                && ["type", "id"].iter().all(|name| fields.get(*name).is_some_and(Json::is_string));
            1 + if is_reference { 0 } else { fields.values().map(items).sum() }
        }
        _ => 1,
    }
}

/// The place of the entity that a message of Cedar's is about, which names it as `Type::"id"`.
fn entity_place(message: &str, file: &str, text: &str) -> Option<Place> {
    let (_, rest) = message.split_once("::\"")?;
    let (id, _) = rest.split_once('"')?;
    text.find(&format!("\"{id}\"")).map(|at| scan::place(file, text, at))
}

/// Has Cedar check the types of all policies. Strictly: what could go wrong with any request is an error.
fn validate(
    schema: Schema,
    policies: &Policies,
    rules: &[Rule],
    texts: &[&str],
    problems: &mut Vec<Problem>,
) {
    let result = Validator::new(schema).validate(policies, ValidationMode::Strict);
    let place = |id: &PolicyId| {
        let index = number(id).filter(|index| *index < rules.len());
        index.map_or_else(|| (Place::default(), None), |index| (rules[index].at.clone(), Some(texts[index])))
    };
    for error in result.validation_errors() {
        let (at, text) = place(error.policy_id());
        problems.push(in_plain_words(place_of(error, &at, text)));
    }
    for warning in result.validation_warnings() {
        let (at, text) = place(warning.policy_id());
        let problem = in_plain_words(place_of(warning, &at, text));
        problems.push(match warning {
            // A `forbid` that forbids nothing is no protection, and who wrote it believes it is.
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                problem
                    .help("remove the policy, or compare with what requests have: clients, methods, routes")
            }
            _ => Problem { severity: Severity::Warning, ..problem },
        });
    }
    // A mistake is found again for each method and for clients with and without certificate.
    problems.sort();
    problems.dedup();
}

/// A finding of Cedar's checker without the number that is the id of the policy here, and the method that it looked at.
fn in_plain_words(problem: Problem) -> Problem {
    let unnumbered =
        |text: String| match text.strip_prefix("for policy `").and_then(|rest| rest.split_once('`')) {
            Some((_, said)) => said.trim_start_matches([',', ':', ' ']).to_owned(),
            None => text,
        };
    let mut message = unnumbered(problem.message);
    if let Some((before, rest)) = message.split_once(" for Ringward::Action::\"")
        && let Some((_, behind)) = rest.split_once('"')
    {
        message = [before, behind].concat();
    }
    let help = if message.starts_with("extension constructors") {
        Some("`context.connection.remote_ip` is the client's address as `ip(...)` makes it".to_owned())
    } else if message.contains("`request.body.json`") {
        Some(
            "JSON of a client has no type that could be checked: look at `text`, or write the policy in Rego"
                .to_owned(),
        )
    } else {
        problem.help.map(unnumbered)
    };
    Problem { message, help, ..problem }
}

/// Whether a character shows as nothing or changes how what is around it is shown, as no identity may have it either.
fn is_formatting(character: char) -> bool {
    matches!(
        character,
        '\u{00ad}'
            | '\u{061c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// The number of a policy.
pub(super) fn number(id: &PolicyId) -> Option<usize> {
    AsRef::<str>::as_ref(id).parse().ok()
}

/// As large as policies in Rego.
const TEXT_BYTES_MAX: usize = 256 * 1024;
/// As the tables of the matcher.
const ENTITIES_BYTES_MAX: usize = 16 << 20;
const ENTITIES_MAX: usize = 20_000;
