//! What of a request a policy's decision depends on, from the policy's text alone.
//!
//! Here is which parts the paths of the native input depend on; the other shapes have a module each.
//!
//! Two requests that agree in every part of the projection cannot be told apart by the policy, so one decision serves both.
//! That holds because of what was found out before: [`Reads`] has every path into the input that any rule can take, and every
//! called builtin is known to follow from its arguments or not. Whatever is not understood here makes the policy not
//! cacheable, with a reason; it never makes the projection smaller.

mod envoy;
mod kong;

use regorus::Value;

use crate::ast::{LiteralStmt, Visit, place, walk_statement};
use crate::check::calls::Impure;
use crate::check::rules::Rules;
use crate::input::shape::InputShape;
use crate::input::values::text;
use crate::problem::{Place, Problem};
use crate::reads::Reads;

/// The parts of a request that a policy's decision depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    /// Paths below `input.client` and `input.connection`, `client` or `connection` included: they stay the same for as long
    /// as a connection lives.
    pub(super) subject: Vec<Vec<String>>,
    /// What each request has of its own, in the order in which it is written into a key.
    pub(super) fields: Vec<Accessor>,
    /// The paths into the document that all of this comes from.
    pub(super) reads: Vec<Vec<String>>,
}

/// One part of a request that can be read straight from its view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Accessor {
    Method,
    /// The path, and the segments that are made of it.
    Path,
    RawPath,
    /// The query as received; all its values follow from it.
    Query,
    /// The values of one name of the query.
    QueryValues(Box<str>),
    Host,
    Scheme,
    Protocol,
    /// The values of one header field.
    Header(Box<str>),
    RouteId,
    RouteTemplate,
    RouteUpstream,
    RouteParams,
    RouteParam(Box<str>),
    RouteLabels,
    RouteLabel(Box<str>),
    /// The second of the decision. `auth_age_seconds` is made of it and of a part of the subject.
    Second,
}

impl Projection {
    /// The projection of a policy.
    ///
    /// # Errors
    /// Every reason why decisions of the policy must not be given again, with its place.
    pub(crate) fn of(
        rules: &Rules<'_>,
        shape: InputShape,
        reads: &Reads,
        impure: &Impure,
    ) -> Result<Self, Vec<Problem>> {
        let mut reasons = Withs::of(rules);
        for (name, at) in impure {
            reasons.push(
                reason(at, format!("`{name}` does not follow from the input"))
                    .help("read the time from `input.time.unix_s`; nothing stands in for random values"),
            );
        }
        Self::reading(shape, reads, reasons)
    }

    /// The projection of a policy whose decisions follow from what it reads of the native input, and from nothing else.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(crate) fn of_reads(reads: &Reads) -> Result<Self, Vec<Problem>> {
        Self::reading(InputShape::Native, reads, Vec::new())
    }

    /// The projection of these reads, unless there are `reasons` against one.
    fn reading(shape: InputShape, reads: &Reads, mut reasons: Vec<Problem>) -> Result<Self, Vec<Problem>> {
        let mut projection = Self::default();
        for (path, at) in reads.paths() {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let added = match shape {
                InputShape::Native => projection.add(&names),
                InputShape::EnvoyV3 => envoy::add(&mut projection, &names),
                InputShape::Kong => kong::add(&mut projection, &names),
            };
            if let Err(Unkeyable { message, help }) = added {
                reasons.push(reason(at, message).help(help));
            }
            projection.reads.push(path.to_vec());
        }
        if !reasons.is_empty() {
            reasons.sort();
            return Err(reasons);
        }
        projection.fields.sort();
        projection.fields.dedup();
        projection.subject.sort();
        projection.subject.dedup();
        Ok(projection)
    }

    fn add(&mut self, path: &[&str]) -> Result<(), Unkeyable> {
        let field = match path {
            ["client", ..] => {
                self.add_subject(path);
                return Ok(());
            }
            ["connection", rest @ ..] => {
                // The age is the time of the proof and that of the decision.
                if rest.first().is_none_or(|name| *name == AUTH_AGE) {
                    self.add_subject(&["connection", AUTH_TIME]);
                    self.fields.push(Accessor::Second);
                }
                if rest.first().is_none_or(|name| *name != AUTH_AGE) {
                    self.add_subject(path);
                }
                return Ok(());
            }
            ["request", "body", ..] => {
                return Err(Unkeyable::body(&["request", "body"]));
            }
            ["request", "headers" | "headers_all"] => {
                return Err(Unkeyable::headers("input.request.headers[\"x-team\"]"));
            }
            ["request", "headers" | "headers_all", name, ..] => Accessor::Header((*name).into()),
            ["request", "host", ..] => Accessor::Host,
            ["request", "id", ..] => return Err(Unkeyable::id("input.request.id")),
            ["request", "method", ..] => Accessor::Method,
            ["request", "path" | "segments", ..] => Accessor::Path,
            ["request", "protocol", ..] => Accessor::Protocol,
            ["request", "query"] => Accessor::Query,
            ["request", "query", name, ..] => Accessor::QueryValues((*name).into()),
            ["request", "raw_path", ..] => Accessor::RawPath,
            ["request", "scheme", ..] => Accessor::Scheme,
            ["route"] => {
                self.fields.extend([
                    Accessor::RouteId,
                    Accessor::RouteTemplate,
                    Accessor::RouteUpstream,
                    Accessor::RouteParams,
                    Accessor::RouteLabels,
                ]);
                return Ok(());
            }
            ["route", "id", ..] => Accessor::RouteId,
            ["route", "labels"] => Accessor::RouteLabels,
            ["route", "labels", name, ..] => Accessor::RouteLabel((*name).into()),
            ["route", "params"] => Accessor::RouteParams,
            ["route", "params", name, ..] => Accessor::RouteParam((*name).into()),
            ["route", "template", ..] => Accessor::RouteTemplate,
            ["route", "upstream", ..] => Accessor::RouteUpstream,
            ["time"] | ["time", "unix_s", ..] => Accessor::Second,
            // The same in every request.
            ["version", ..] => return Ok(()),
            _ => return Err(Unkeyable::whole(path)),
        };
        self.fields.push(field);
        Ok(())
    }

    /// Adds a path below `ringward`, where other shapes have what the native input has beside the request.
    fn add_ringward(&mut self, path: &[&str], ringward: &[&str]) -> Result<(), Unkeyable> {
        match path.strip_prefix(ringward) {
            Some(native @ ["client" | "connection" | "route" | "time", ..]) => self.add(native),
            _ => Err(Unkeyable::whole(path)),
        }
    }

    fn add_subject(&mut self, path: &[&str]) {
        self.subject.push(path.iter().map(ToString::to_string).collect());
    }

    /// The part of a whole input document that the policy is known to read. It must decide alike on both, which is tried
    /// before a policy is loaded.
    pub(crate) fn of_document(&self, input: &Value) -> Value {
        let mut projected = Value::new_object();
        self.reads.iter().for_each(|path| copy(input, &mut projected, path));
        projected
    }

    /// A projection that lacks one part, to see that tests find it.
    #[cfg(test)]
    pub(crate) fn without(&self, index: usize) -> Option<Self> {
        let mut broken = self.clone();
        if index < broken.fields.len() {
            broken.fields.remove(index);
        } else if index < broken.fields.len() + broken.subject.len() {
            broken.subject.remove(index - broken.fields.len());
        } else {
            return None;
        }
        Some(broken)
    }

    /// A projection of a policy one of whose reads was missed.
    #[cfg(test)]
    pub(crate) fn without_read(&self, index: usize) -> Self {
        let mut broken = self.clone();
        broken.reads.remove(index);
        broken
    }
}

/// A read that no key can hold.
struct Unkeyable {
    message: String,
    help: String,
}

impl Unkeyable {
    fn whole(path: &[&str]) -> Self {
        let message = match path {
            [] => "the whole `input` is read".to_owned(),
            ["request"] => "the whole `input.request` is read".to_owned(),
            ["attributes" | "request" | "ringward", ..] => {
                format!("the whole `input.{}` is read", path.join("."))
            }
            path => format!("`input.{}` is read, which is not understood", path.join(".")),
        };
        let example =
            if path.first() == Some(&"attributes") { "attributes.request.http.path" } else { "request.path" };
        Self { message, help: format!("read single fields, such as `input.{example}`") }
    }

    fn headers(example: &str) -> Self {
        let help = format!("name the fields, as in `{example}`");
        Self { message: "all header fields are read".to_owned(), help }
    }

    fn id(path: &str) -> Self {
        let message = format!("`{path}` is read, which no two requests have in common");
        Self { message, help: "leave it to the log, which has it for every request".to_owned() }
    }

    fn body(path: &[&str]) -> Self {
        let message = format!("`input.{}` is read, and bodies are not compared", path.join("."));
        Self {
            message,
            help: "give requests that need no look at their body a policy of their own".to_owned(),
        }
    }
}

/// Finds every `with`: it replaces documents and functions for a part of the evaluation, so that neither reads nor calls tell
/// what that part depends on.
struct Withs(Vec<Problem>);

impl Withs {
    fn of(rules: &Rules<'_>) -> Vec<Problem> {
        let mut found = Self(Vec::new());
        rules.definitions.iter().for_each(|definition| found.rule(definition.rule));
        found.0
    }
}

impl Visit for Withs {
    fn statement(&mut self, statement: &LiteralStmt) {
        if let Some(first) = statement.with_mods.first() {
            let found =
                reason(&place(&first.span), "`with` replaces a part of the input, data or a function");
            self.0.push(found.help("use `with` in tests, and functions with arguments in policies"));
        }
        walk_statement(self, statement);
    }
}

fn reason(at: &Place, message: impl Into<String>) -> Problem {
    Problem::warning(at, message)
}

/// Copies what is at `path`, or where the path leaves objects, below objects that are made as needed.
fn copy(from: &Value, into: &mut Value, path: &[String]) {
    let (Some((name, rest)), Value::Object(fields)) = (path.split_first(), from) else {
        return *into = from.clone();
    };
    let name = text(name);
    if let (Some(value), Ok(into)) = (fields.get(&name), into.as_object_mut()) {
        copy(value, into.get_or_insert_with(name, Value::new_object), rest);
    }
}

const AUTH_AGE: &str = "auth_age_seconds";
const AUTH_TIME: &str = "auth_time_unix";

#[cfg(test)]
mod tests;
