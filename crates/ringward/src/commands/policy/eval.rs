//! `ringward policy eval`.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ringward_identity::{IdentityOptions, PeerIdentity};
use ringward_policy::child::Task;
use ringward_policy::{
    Described, Evaluated, Evaluation, ExplainedBody, ExplainedRule, Explanation, InputShape, Outcome,
    client_claims,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::source::{PolicySource, print_json};
use crate::commands::{read, read_chain};
use crate::failure::{EXIT_RUNTIME, Failure};
use crate::table::printable;
use crate::terminal::say;

/// Evaluate a policy on an input that you describe, and say why it decides so.
///
/// An input may be given in part. A section (`client`, `request`, `connection`, `route`, `time`) that is not given is that of
/// an invented request, which `policy schema` shows. In a section that is given, claims, header fields, query and the
/// route's fields are empty unless given.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: PolicySource,
    /// An input as JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The certificate of the client; PEM, with its intermediates. It is taken for verified, and belongs to no tenant:
    /// `ringward check --cert` asks whether and where it would be admitted.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The method of the request.
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The path of the request, a query behind `?` included.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The host that is asked for.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// A header field; may be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Say which conditions held and which failed.
    #[arg(long)]
    explain: bool,
    /// Exit code 1 unless the request is allowed.
    #[arg(long)]
    fail: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(flatten)]
    evaluated: &'a Evaluated,
    /// The whole input.
    input: &'a Value,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = &arguments.source;
    let set = source.load()?;
    let input = source.complete(set.input(), &arguments.input(set.input())?)?;
    let task = Task::Evaluate(Evaluation { input: input.clone(), explain: arguments.explain });
    let evaluated: Evaluated = source.ask(&set, &task, Duration::ZERO)?;
    let decided = evaluated.error.is_none();
    if source.json {
        print_json(&Answer { ok: decided, evaluated: &evaluated, input: &input })?;
    } else {
        say(Told(&evaluated));
    }
    let expected = decided && (!arguments.fail || evaluated.decision == "allowed");
    if expected { Ok(()) } else { Err(Failure::Reported(EXIT_RUNTIME)) }
}

impl Arguments {
    /// The input as far as it is given.
    fn input(&self, shape: InputShape) -> Result<Value, Failure> {
        let mut input = read_input(self.input.as_deref())?;
        if shape != InputShape::Native {
            merge(&mut input, self.described()?.input(shape))?;
            return Ok(input);
        }
        let Some(sections) = input.as_object_mut() else { return Ok(input) };
        if let Some(file) = &self.cert {
            if sections.contains_key("client") {
                return Err(Failure::Usage(
                    "`--cert` and `client` of the input both say who asks".to_owned(),
                ));
            }
            sections.insert("client".to_owned(), claims_of(file)?);
        }
        if self.path.is_none() && self.method.is_none() && self.host.is_none() && self.headers.is_empty() {
            return Ok(input);
        }
        let request = sections.entry("request").or_insert_with(|| json!({}));
        if let Some(request) = request.as_object_mut() {
            self.put_request(request)?;
        }
        Ok(input)
    }

    /// What the options say.
    fn described(&self) -> Result<Described, Failure> {
        let values = |fields: &Value| {
            let fields = fields.as_object().into_iter().flatten();
            let texts = |values: &Value| {
                values.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            fields.map(|(name, values)| (name.clone(), texts(values))).collect()
        };
        Ok(Described {
            method: self.method.clone(),
            path: self.path.clone(),
            host: self.host.clone(),
            headers: values(&self.headers()?),
            client: self.cert.as_deref().map(claims_of).transpose()?,
        })
    }

    /// Puts what the options say over a request of the input.
    fn put_request(&self, request: &mut Map<String, Value>) -> Result<(), Failure> {
        for (name, text) in [("method", &self.method), ("host", &self.host)] {
            if let Some(text) = text {
                request.insert(name.to_owned(), json!(text));
            }
        }
        if let Some(path) = &self.path {
            // What followed from another path.
            request.remove("segments");
            request.remove("raw_path");
            if let Some((path, _)) = path.split_once('?') {
                request.remove("query");
                request.insert("raw_path".to_owned(), json!(self.path));
                request.insert("path".to_owned(), json!(path));
            } else {
                request.insert("path".to_owned(), json!(path));
            }
        }
        if !self.headers.is_empty() {
            if ["headers", "headers_all"].iter().any(|name| request.contains_key(*name)) {
                let both = "`--header` and the input both give header fields: give all of them in one place";
                return Err(Failure::Usage(both.to_owned()));
            }
            request.insert("headers_all".to_owned(), self.headers()?);
        }
        Ok(())
    }

    fn headers(&self) -> Result<Value, Failure> {
        let mut fields = json!({});
        for header in &self.headers {
            let Some((name, value)) = header.split_once(':') else {
                return Err(Failure::Usage(format!(
                    "`--header {header}` is no header field: write `name: value`"
                )));
            };
            let values = &mut fields[name.trim().to_ascii_lowercase()];
            match values.as_array_mut() {
                Some(values) => values.push(json!(value.trim())),
                None => *values = json!([value.trim()]),
            }
        }
        Ok(fields)
    }
}

/// Adds what the options say to an input that does not say it.
fn merge(input: &mut Value, described: Value) -> Result<(), Failure> {
    let (Some(fields), Value::Object(described)) = (input.as_object_mut(), described) else { return Ok(()) };
    for (name, value) in described {
        match fields.get_mut(&name) {
            None => drop(fields.insert(name, value)),
            Some(given) if value.is_object() => merge(given, value)?,
            Some(_) => {
                return Err(Failure::Usage(format!(
                    "`{name}` is said by an option and by the input: say it once"
                )));
            }
        }
    }
    Ok(())
}

/// Reads an input; an empty one without a file.
///
/// # Errors
/// If it cannot be read, or is no JSON.
pub(super) fn read_input(file: Option<&Path>) -> Result<Value, Failure> {
    let Some(file) = file else { return Ok(json!({})) };
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let all = io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        all.map_err(|error| Failure::Usage(format!("standard input cannot be read: {error}")))?;
        bytes
    } else {
        read(file)?
    };
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::Usage(format!("the input has more than {INPUT_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Usage(format!("`{}` is no JSON: {error}", file.display())))
}

fn claims_of(file: &Path) -> Result<Value, Failure> {
    let refused = |reason: String| Failure::Usage(format!("`{}` {reason}", file.display()));
    let chain = read_chain(file).map_err(refused)?;
    let peer = PeerIdentity::from_verified_chain(&chain, &IdentityOptions::default());
    let peer = peer.map_err(|error| refused(format!("gives no identity: {error}")))?;
    Ok(client_claims(&peer))
}

/// A decision with its reasons, for people.
struct Told<'a>(&'a Evaluated);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evaluated { decision, rule, reason, error, result, explanation } = self.0;
        write!(f, "{decision}")?;
        for (what, text) in [("rule", rule), ("reason", reason), ("error", error)] {
            if let Some(text) = text {
                write!(f, "\n  {what:<7} {}", printable(text))?;
            }
        }
        if let Some(result) = result {
            write!(f, "\n  {:<7} {}", "result", printable(&result.to_string()))?;
        }
        explanation.iter().try_for_each(|explanation| tell(f, explanation))
    }
}

fn tell(f: &mut fmt::Formatter<'_>, explanation: &Explanation) -> fmt::Result {
    let is_untried = |rule: &&ExplainedRule| rule.bodies.iter().all(|body| body.outcome == Outcome::NotTried);
    let (untried, tried): (Vec<_>, Vec<_>) = explanation.rules.iter().partition(is_untried);
    for rule in tried {
        let calls = if rule.function { " (all calls together)" } else { "" };
        write!(f, "\n\n{}{calls}", rule.rule)?;
        rule.bodies.iter().try_for_each(|body| tell_body(f, body))?;
    }
    let untried: Vec<&str> = untried.iter().map(|rule| rule.rule.as_str()).collect();
    if !untried.is_empty() {
        write!(f, "\n\nnot tried: {}", untried.join(", "))?;
    }
    Ok(())
}

fn tell_body(f: &mut fmt::Formatter<'_>, body: &ExplainedBody) -> fmt::Result {
    let ExplainedBody { file, line, head, outcome, failed } = body;
    let outcome = match outcome {
        Outcome::Held => "held",
        Outcome::Failed => "failed",
        Outcome::NotTried => "not tried",
    };
    write!(f, "\n  {outcome:<9}  {file}:{line}  {}", shortened(head))?;
    let Some(failed) = failed else { return Ok(()) };
    write!(f, "\n    failed at {file}:{}  {}", failed.line, shortened(&failed.text))?;
    for (path, value) in &failed.input {
        write!(f, "\n      input.{path} = {}", shortened(&value.to_string()))?;
    }
    Ok(())
}

/// Fit for a line; `--json` has it whole.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

const CHARS_MAX: usize = 120;
/// Far more than any request has.
const INPUT_BYTES_MAX: u64 = 1 << 20;
