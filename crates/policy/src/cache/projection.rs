//! What of a request a policy's decision depends on, from the policy's text alone.
//!
//! Two requests that agree in every part of the projection cannot be told apart by the policy, so one decision serves both.
//! That holds because of what was found out before: [`Reads`] has every path into the input that any rule can take, and every
//! called builtin is known to follow from its arguments or not. Whatever is not understood here makes the policy not
//! cacheable, with a reason; it never makes the projection smaller.

use regorus::Value;

use crate::ast::{LiteralStmt, Visit, place, walk_statement};
use crate::check::calls::Impure;
use crate::check::rules::Rules;
use crate::documents;
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
    pub(crate) fn of(rules: &Rules<'_>, reads: &Reads, impure: &Impure) -> Result<Self, Vec<Problem>> {
        let mut projection = Self::default();
        let mut reasons = Withs::of(rules);
        for (name, at) in impure {
            reasons.push(
                reason(at, format!("`{name}` does not follow from the input"))
                    .help("read the time from `input.time.unix_s`; nothing stands in for random values"),
            );
        }
        for (path, at) in reads.paths() {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            if let Err(Unkeyable { message, help }) = projection.add(&names) {
                reasons.push(reason(at, message).help(help));
            }
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
                return Err(Unkeyable {
                    message: "`input.request.body` is read, and bodies are not compared".to_owned(),
                    help: "give requests that need no look at their body a policy of their own",
                });
            }
            ["request", "headers" | "headers_all"] => {
                return Err(Unkeyable {
                    message: "all header fields are read".to_owned(),
                    help: "name the fields, as in `input.request.headers[\"x-team\"]`",
                });
            }
            ["request", "headers" | "headers_all", name, ..] => Accessor::Header((*name).into()),
            ["request", "host", ..] => Accessor::Host,
            ["request", "id", ..] => {
                return Err(Unkeyable {
                    message: "`input.request.id` is read, which no two requests have in common".to_owned(),
                    help: "leave it to the log, which has it for every request",
                });
            }
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

    fn add_subject(&mut self, path: &[&str]) {
        self.subject.push(path.iter().map(ToString::to_string).collect());
    }

    /// The part of a whole input document that the projection stands for. A policy must decide alike on both, which is tried
    /// before a policy is loaded.
    pub(crate) fn of_document(&self, input: &Value) -> Value {
        let mut projected = Value::new_object();
        let subject = self.subject.iter().map(|path| path.iter().map(String::as_str).collect::<Vec<_>>());
        let fields = self.fields.iter().flat_map(Accessor::paths);
        for path in subject.chain(fields).chain([vec!["version"]]) {
            if let Some(value) = documents::at(input, &path) {
                put(&mut projected, &path, value);
            }
        }
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
}

impl Accessor {
    /// Everything in the input that follows from this part.
    fn paths(&self) -> Vec<Vec<&str>> {
        match self {
            Self::Method => vec![vec!["request", "method"]],
            Self::Path => vec![vec!["request", "path"], vec!["request", "segments"]],
            Self::RawPath => vec![vec!["request", "raw_path"]],
            Self::Query => vec![vec!["request", "query"]],
            Self::QueryValues(name) => vec![vec!["request", "query", name]],
            Self::Host => vec![vec!["request", "host"]],
            Self::Scheme => vec![vec!["request", "scheme"]],
            Self::Protocol => vec![vec!["request", "protocol"]],
            Self::Header(name) => {
                vec![vec!["request", "headers", name], vec!["request", "headers_all", name]]
            }
            Self::RouteId => vec![vec!["route", "id"]],
            Self::RouteTemplate => vec![vec!["route", "template"]],
            Self::RouteUpstream => vec![vec!["route", "upstream"]],
            Self::RouteParams => vec![vec!["route", "params"]],
            Self::RouteParam(name) => vec![vec!["route", "params", name]],
            Self::RouteLabels => vec![vec!["route", "labels"]],
            Self::RouteLabel(name) => vec![vec!["route", "labels", name]],
            Self::Second => vec![vec!["time"], vec!["connection", AUTH_AGE]],
        }
    }
}

/// A read that no key can hold.
struct Unkeyable {
    message: String,
    help: &'static str,
}

impl Unkeyable {
    fn whole(path: &[&str]) -> Self {
        let message = match path {
            [] => "the whole `input` is read".to_owned(),
            ["request"] => "the whole `input.request` is read".to_owned(),
            path => format!("`input.{}` is read, which is not understood", path.join(".")),
        };
        Self { message, help: "read single fields, such as `input.request.path`" }
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

/// Puts `value` at `path`, below objects that are made as needed.
fn put(document: &mut Value, path: &[&str], value: &Value) {
    let [name, rest @ ..] = path else { return *document = value.clone() };
    let Ok(fields) = document.as_object_mut() else { return };
    put(fields.get_or_insert_with(text(name), Value::new_object), rest, value);
}

const AUTH_AGE: &str = "auth_age_seconds";
const AUTH_TIME: &str = "auth_time_unix";

#[cfg(test)]
mod tests;
