//! What a policy looks at, from its JSON form: the paths into the context, and which of principal, action and resource.
//!
//! Sound in one direction, as for Rego: what is not reported is looked at by no evaluation. There is no way to the context but the
//! variable; an expression of a kind that is not known here looks at everything.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::cedar::LOOKS_MAX;
use crate::problem::Place;

/// What policies look at, and how large they are.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Paths into the context, with the first policy that takes each. The empty one is the whole of it.
    pub(super) context: BTreeMap<Vec<String>, Place>,
    pub(super) principal: bool,
    pub(super) action: bool,
    pub(super) resource: bool,
    /// Expressions in all policies.
    pub(super) expressions: usize,
    /// How often policies may look at each character of a text and at each item of a set.
    pub(super) looks: Looks,
    /// Bytes of all literals and patterns.
    pub(super) literal_bytes: usize,
    /// A policy that is too deep.
    too_deep: Option<Place>,
    /// The first policies that come to more than the bounds allow.
    pub(super) too_much: BTreeMap<&'static str, Place>,
}

impl Uses {
    /// Adds what the policy looks at that is written so and stands there.
    pub(super) fn add(&mut self, policy: &Json, at: &Place) {
        let is_any = |scope: &Json| scope["op"] == "All";
        self.principal |= !is_any(&policy["principal"]);
        self.action |= !is_any(&policy["action"]);
        self.resource |= !is_any(&policy["resource"]);
        self.expressions += 1;
        match policy["conditions"].as_array() {
            // `when` and `unless` are joined as by `&&`.
            Some(conditions) => {
                let level = conditions.len();
                conditions.iter().for_each(|condition| self.expression(&condition["body"], at, level));
            }
            None => self.everything(at),
        }
        for (what, amount, most) in self.amounts() {
            if amount > most {
                self.too_much.entry(what).or_insert_with(|| at.clone());
            }
        }
    }

    /// What is counted, how much there is of it, and how much there may be.
    pub(super) fn amounts(&self) -> [(&'static str, usize, usize); 4] {
        [
            (EXPRESSIONS, self.expressions, EXPRESSIONS_MAX),
            (LITERAL_BYTES, self.literal_bytes, LITERAL_BYTES_MAX),
            (LITERAL_LOOKS, self.looks.at_literals, LOOKS_MAX),
            (FIELDS, self.context.len(), FIELDS_MAX),
        ]
    }

    /// Where a policy begins that has more levels than are allowed, and how many those are.
    pub(super) fn too_deep(&self) -> Option<(&Place, usize)> {
        self.too_deep.as_ref().map(|at| (at, LEVELS_MAX))
    }

    fn everything(&mut self, at: &Place) {
        (self.principal, self.action, self.resource) = (true, true, true);
        self.read(Vec::new(), at);
    }

    fn read(&mut self, path: Vec<String>, at: &Place) {
        self.context.entry(path).or_insert_with(|| at.clone());
    }

    fn expression(&mut self, expression: &Json, at: &Place, level: usize) {
        self.expressions += 1;
        if level > LEVELS_MAX {
            self.too_deep.get_or_insert_with(|| at.clone());
            return self.everything(at);
        }
        if let Some(path) = context_path(expression) {
            if path.len() > PATH_FIELDS_MAX {
                self.too_deep.get_or_insert_with(|| at.clone());
            }
            return self.read(path, at);
        }
        let Some((operator, operands)) = expression.as_object().and_then(|object| object.iter().next())
        else {
            return self.everything(at);
        };
        let each = |operands: &[&Json], uses: &mut Self| {
            operands.iter().for_each(|operand| uses.expression(operand, at, level + 1));
        };
        match (operator.as_str(), operands) {
            ("Value", literal) => self.literal_bytes += text_bytes(literal),
            ("Var", Json::String(name)) => match name.as_str() {
                "principal" => self.principal = true,
                "action" => self.action = true,
                "resource" => self.resource = true,
                _ => self.everything(at),
            },
            ("!" | "neg" | "isEmpty", _) => each(&[&operands["arg"]], self),
            (".", _) => each(&[&operands["left"]], self),
            ("has", _) => {
                // `has a.b` asks for one after the other.
                let names = operands["attr"].as_array().map_or(1, Vec::len);
                self.expression(&operands["left"], at, level + names);
            }
            ("like", _) => {
                let looks = of_pattern(&operands["pattern"]);
                self.literal_bytes += pattern_bytes(&operands["pattern"]);
                self.looks.at_characters += looks;
                self.looks.at_literals = self
                    .looks
                    .at_literals
                    .saturating_add(literals_in(&operands["left"]).saturating_mul(looks));
                each(&[&operands["left"]], self);
            }
            ("is", _) => {
                each(&[&operands["left"]], self);
                if let Some(within) = operands.get("in") {
                    self.looks.at_items += usize::from(is_set_of_an_entity(within));
                    each(&[within], self);
                }
            }
            ("if-then-else", _) => each(&[&operands["if"], &operands["then"], &operands["else"]], self),
            ("Record", Json::Object(fields)) => fields.values().for_each(|field| each(&[field], self)),
            ("Set", Json::Array(items)) => {
                // Items are compared with one another, by halves.
                let compared = items.iter().filter(|item| !is_hashed(item) && has_variable(item)).count();
                self.looks.at_items += compared * items.len().checked_ilog2().unwrap_or(0) as usize;
                items.iter().for_each(|item| each(&[item], self));
            }
            // A function with its arguments, most of which are read from text.
            (_, Json::Array(arguments)) => {
                self.expressions += FUNCTION_EXPRESSIONS;
                arguments.iter().for_each(|argument| each(&[argument], self));
            }
            (_, Json::Object(sides))
                if sides.len() == 2 && sides.contains_key("left") && sides.contains_key("right") =>
            {
                let (left, right) = (&operands["left"], &operands["right"]);
                let walks = match operator.as_str() {
                    "==" | "!=" => !is_hashed(left) && !is_hashed(right),
                    // Sets of plain values are hashed, so that it looks at one item.
                    "contains" => !is_hashed(right) && !is_set_of_literals(left),
                    "in" => is_set_of_an_entity(right),
                    "containsAll" | "containsAny" => true,
                    _ => false,
                };
                self.looks.at_items += usize::from(walks);
                each(&[left, right], self);
            }
            _ => self.everything(at),
        }
    }
}

/// What bounds the time that policies take for a request of a certain size.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Looks {
    /// How often all patterns of `like` together may look at one character, at worst.
    at_characters: usize,
    /// How many comparisons walk all items of a set.
    at_items: usize,
    /// At how many characters of literals patterns may look.
    at_literals: usize,
}

impl Looks {
    /// At how many characters and items policies may look, of so many bytes of text and so many values; an item counts as many
    /// characters.
    pub(super) fn at(self, text_bytes: usize, items: usize) -> usize {
        let at_text = text_bytes.saturating_mul(self.at_characters);
        let at_items = items.saturating_mul(self.at_items).saturating_mul(ITEM_CHARACTERS);
        at_text.saturating_add(at_items).saturating_add(self.at_literals)
    }
}

/// The path of an expression that is the context, something in it, or the question whether something is in it.
fn context_path(expression: &Json) -> Option<Vec<String>> {
    let (operator, operands) = expression.as_object()?.iter().next()?;
    match (operator.as_str(), operands) {
        ("Var", Json::String(name)) if name == "context" => Some(Vec::new()),
        ("." | "has", Json::Object(_)) => {
            let mut path = context_path(&operands["left"])?;
            match &operands["attr"] {
                Json::String(name) => path.push(name.clone()),
                // `has a.b`: looks at both.
                Json::Array(names) => path.extend(names.iter().map_while(Json::as_str).map(str::to_owned)),
                _ => {}
            }
            Some(path)
        }
        _ => None,
    }
}

fn is_literal(expression: &Json) -> bool {
    expression.get("Value").is_some()
}

/// Whether an expression is a plain value, which sets find by its hash.
fn is_hashed(expression: &Json) -> bool {
    is_literal(expression) || matches!(expression["Var"].as_str(), Some("principal" | "action" | "resource"))
}

/// Whether the right side of `in` may be a set that is not written there, so that all its items are walked.
fn is_set_of_an_entity(expression: &Json) -> bool {
    !is_hashed(expression) && !expression["Set"].is_array()
}

/// Whether there is anything in an expression that is not written there.
fn has_variable(expression: &Json) -> bool {
    match expression {
        Json::Object(fields) => fields.contains_key("Var") || fields.values().any(has_variable),
        Json::Array(items) => items.iter().any(has_variable),
        _ => false,
    }
}

/// Bytes of all literals in an expression.
fn literals_in(expression: &Json) -> usize {
    match expression {
        Json::Object(fields) => fields
            .iter()
            .map(|(name, field)| if name == "Value" { text_bytes(field) } else { literals_in(field) })
            .sum(),
        Json::Array(items) => items.iter().map(literals_in).sum(),
        _ => 0,
    }
}

/// Bytes of all texts in a literal.
fn text_bytes(literal: &Json) -> usize {
    match literal {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(text_bytes).sum(),
        Json::Object(fields) => fields.values().map(text_bytes).sum(),
        _ => 0,
    }
}

fn is_set_of_literals(expression: &Json) -> bool {
    expression["Set"].as_array().is_some_and(|items| items.iter().all(is_literal))
}

/// Bytes of a pattern, a `*` being one.
fn pattern_bytes(pattern: &Json) -> usize {
    let items = pattern.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| item["Literal"].as_str().map_or(1, str::len)).sum()
}

/// How often a pattern may look at one character of a text. Behind a `*` the search begins anew with each character, as far as the
/// pattern matched; what is in front of the first is looked at once.
fn of_pattern(pattern: &Json) -> usize {
    let items = pattern.as_array().map_or(&[][..], Vec::as_slice);
    let behind = items.iter().skip_while(|item| item["Literal"].is_string());
    1 + behind.map(|item| item["Literal"].as_str().map_or(0, str::len)).sum::<usize>()
}

/// As how many expressions a call of a function counts: reading an address or a time takes that much longer.
const FUNCTION_EXPRESSIONS: usize = 9;
/// As how many characters an item counts.
const ITEM_CHARACTERS: usize = 64;
/// Expressions in all policies together.
const EXPRESSIONS_MAX: usize = 20_000;
/// Bytes of all literals and patterns together. Sets of literals are made, hashed and sorted for each request.
const LITERAL_BYTES_MAX: usize = 256 * 1024;
/// Fields of the context that policies name. The schema has each of them, and is checked for every method.
const FIELDS_MAX: usize = 256;
pub(super) const EXPRESSIONS: &str = "expressions";
pub(super) const LITERAL_BYTES: &str = "bytes of literals and patterns";
pub(super) const LITERAL_LOOKS: &str = "comparisons of literals with patterns";
pub(super) const FIELDS: &str = "fields, headers and parameters of the context that policies name";
/// Levels that a policy may have. A level takes stack when it is evaluated, and an engine may count on 1 MiB of it
/// ([`CompiledPolicy::worker`](crate::engine::CompiledPolicy::worker)); the workers of the server have more.
const LEVELS_MAX: usize = 100;
/// Fields of one path into the context; the longest that there is has four. It is evaluated from the inside, field by field.
const PATH_FIELDS_MAX: usize = 8;
