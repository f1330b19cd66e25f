//! What is asked for: kinds of requests, and one request of a kind.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use http::{HeaderName, HeaderValue, Method};

use crate::answer::{Answer, CallOutcome};
use crate::distribution::Distribution;
use crate::failure::{Failure, FailureKind};
use crate::grpc::CallKind;
use crate::mix::Mix;

/// All requests of a run.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(crate) kinds: Vec<RequestKind>,
    /// For each class of clients the indices of those that it makes, by their shares.
    by_class: Vec<(Vec<usize>, Mix)>,
}

/// Requests that differ in their numbers only.
#[derive(Clone, Debug)]
pub(crate) struct RequestKind {
    /// Among the kinds of the run.
    pub(crate) index: usize,
    pub(crate) name: String,
    /// Of all requests that the same clients make.
    pub(crate) share: f64,
    /// Indices of the classes of clients that make it; all, if none are named.
    pub(crate) classes: Vec<usize>,
    pub(crate) method: Method,
    pub(crate) path: PathTemplate,
    /// Of a hundred requests so many have a path below `path` that no other request has.
    pub(crate) fresh_paths: u64,
    /// Sent along, besides what every request has.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Bytes of the body, or of each message.
    pub(crate) body: Distribution,
    pub(crate) what: What,
    pub(crate) expected: Expected,
}

/// What happens in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A request with an answer.
    Request,
    /// A gRPC call, with so many messages in the direction that has many.
    Call { kind: CallKind, messages: u32, deadline: Option<Duration>, status: u32 },
    /// A WebSocket with so many messages, one after the other, each after a pause.
    WebSocket { messages: u32, between: Duration },
}

/// What the answer has to be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// By the index of the class of clients, where it is another one. Of such an answer nothing else is checked.
    pub(crate) status_for: Vec<(usize, u16)>,
    pub(crate) bytes: Cell<ExpectedBytes>,
    /// SHA-256 of the body.
    pub(crate) sha256: Option<[u8; 32]>,
}

/// How large the bodies of answers must be. That they are as large as their own heads say is checked in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpectedBytes {
    /// So large.
    Exactly(u64),
    /// All as large as the first.
    Same,
    /// Each may be different.
    Any,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Message<'k> {
    pub(crate) kind: &'k RequestKind,
    pub(crate) path: Cow<'k, str>,
    pub(crate) body_bytes: u64,
    /// The connection is to be closed after it.
    pub(crate) is_last: bool,
}

/// A path with a query, in which numbers may differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A number from the first to the second.
    Between(u64, u64),
    /// The number of the request in its run.
    Number,
}

impl Requests {
    /// Requests of these kinds, made by clients of so many classes, for each of which there is one at least.
    pub(crate) fn new(kinds: Vec<RequestKind>, classes: usize) -> Requests {
        let by_class = (0..classes).map(|class| {
            let made = kinds.iter().filter(|kind| kind.is_made_by(class));
            let (indices, shares): (Vec<_>, Vec<_>) = made.map(|kind| (kind.index, kind.share)).unzip();
            (indices, Mix::new(shares))
        });
        Requests { by_class: by_class.collect(), kinds }
    }

    /// Draws what a client of this class asks for.
    pub(crate) fn kind(&self, class: usize, random: &mut Rng) -> &RequestKind {
        let (indices, mix) = &self.by_class[class];
        &self.kinds[indices[mix.draw(random)]]
    }
}

impl RequestKind {
    /// Whether clients of this class make it.
    pub(crate) fn is_made_by(&self, class: usize) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }

    /// The request of this number in the run.
    pub(crate) fn message(&self, number: u64, random: &mut Rng) -> Message<'_> {
        let mut path = self.path.render(number, random);
        let fresh_before = |number| number * self.fresh_paths / 100;
        // Those that are fresh are spread evenly.
        if fresh_before(number) < fresh_before(number + 1) {
            let end = path.find('?').unwrap_or(path.len());
            path.to_mut().insert_str(end, &format!("/{}-{number}", std::process::id()));
        }
        Message { kind: self, path, body_bytes: self.body.draw_count(random, 0), is_last: false }
    }

    /// Whether it may be sent again if nobody knows whether it arrived (RFC 9110 §9.2.2).
    pub(crate) fn is_idempotent(&self) -> bool {
        self.what == What::Request && self.method.is_idempotent()
    }

    /// Whether it says how long its body is also if it has none (RFC 9110 §8.6).
    fn has_length(&self, body_bytes: u64) -> bool {
        body_bytes > 0 || matches!(self.method, Method::POST | Method::PUT | Method::PATCH)
    }
}

impl Message<'_> {
    /// Bytes of the body, or of all messages that are sent.
    pub(crate) fn sent_bytes(&self) -> u64 {
        let messages = match self.kind.what {
            What::Call { kind: CallKind::ClientStream | CallKind::Bidi, messages, .. } => messages,
            What::WebSocket { messages, .. } => messages,
            What::Call { .. } | What::Request => 1,
        };
        self.body_bytes * u64::from(messages)
    }

    /// Writes the head of HTTP/1.1 for this authority behind what is in `head`.
    pub(crate) fn write_head(&self, authority: &str, head: &mut Vec<u8>) {
        for text in
            [self.kind.method.as_str(), " ", &self.path, " HTTP/1.1\r\nhost: ", authority, USUAL_FIELDS]
        {
            head.extend_from_slice(text.as_bytes());
        }
        for (name, value) in &self.kind.fields {
            for bytes in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(bytes);
            }
        }
        if self.kind.has_length(self.body_bytes) {
            head.extend_from_slice(format!("content-length: {}\r\n", self.body_bytes).as_bytes());
        }
        if self.is_last {
            head.extend_from_slice(b"connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
    }

    /// The head of HTTP/2 for this authority.
    ///
    /// # Errors
    /// If it cannot be said in HTTP/2.
    pub(crate) fn http2_head(&self, authority: &str) -> Result<http::Request<()>, http::Error> {
        let uri = ["https://", authority, &self.path].concat();
        let mut request = http::Request::builder()
            .method(&self.kind.method)
            .uri(uri)
            .header("user-agent", USER_AGENT)
            .header("accept", "*/*");
        for (name, value) in &self.kind.fields {
            request = request.header(name, value);
        }
        if self.kind.has_length(self.body_bytes) {
            request = request.header("content-length", self.body_bytes);
        }
        request.body(())
    }
}

impl Expected {
    /// Whether an answer to a client of this class is right.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self, what: What, class: usize, answer: &Answer) -> Result<(), Failure> {
        let special = self.status_for.iter().find(|(of, _)| *of == class);
        let status = special.map_or(self.status, |(_, status)| *status);
        if answer.status != status {
            let detail = format!("{} where {status} was expected", answer.status);
            return Err(Failure::new(FailureKind::Status, detail));
        }
        if special.is_some() {
            return Ok(());
        }
        if let Some(call) = answer.call {
            call.check(what)?;
        }
        match self.bytes.get() {
            ExpectedBytes::Exactly(bytes) if bytes != answer.body_bytes => {
                let detail = format!("a body of {} bytes where {bytes} were expected", answer.body_bytes);
                return Err(Failure::new(FailureKind::Length, detail));
            }
            ExpectedBytes::Same => self.bytes.set(ExpectedBytes::Exactly(answer.body_bytes)),
            _ => {}
        }
        if self.sha256.is_some() && self.sha256 != answer.sha256 {
            let seen = answer.sha256.map(|hash| hex(&hash)).unwrap_or_default();
            return Err(Failure::new(FailureKind::Body, format!("a body of SHA-256 {seen}")));
        }
        Ok(())
    }
}

impl CallOutcome {
    fn check(self, what: What) -> Result<(), Failure> {
        let What::Call { kind, messages, status, .. } = what else { return Ok(()) };
        // Something else than a server of gRPC has answered, with the HTTP status that was expected.
        let Some(seen) = self.status else { return Ok(()) };
        if seen != status {
            let detail = format!("grpc-status {seen} where {status} was expected");
            return Err(Failure::new(FailureKind::GrpcStatus, detail));
        }
        let wanted = kind.messages_expected(messages);
        if status == GRPC_OK && self.messages != wanted {
            let detail = format!("{} messages where {wanted} were expected", self.messages);
            return Err(Failure::new(FailureKind::Length, detail));
        }
        Ok(())
    }
}

impl PathTemplate {
    /// Reads a path in which `{A..B}` is any number from A to B, and `{n}` the number of the request in its run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(text: &str) -> Result<PathTemplate, String> {
        if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must begin with `/` and hold visible ASCII characters only".to_owned());
        }
        let mut pieces = Vec::new();
        let mut left = text;
        while let Some((before, after)) = left.split_once('{') {
            let (inside, after) = after.split_once('}').ok_or("has a `{` without its `}`")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::new(inside)?);
            left = after;
        }
        if left.contains('}') {
            return Err("has a `}` without its `{`".to_owned());
        }
        if !left.is_empty() {
            pieces.push(Piece::Text(left.to_owned()));
        }
        Ok(PathTemplate(pieces))
    }

    fn render(&self, number: u64, random: &mut Rng) -> Cow<'_, str> {
        if let [Piece::Text(text)] = &*self.0 {
            return Cow::Borrowed(text);
        }
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Between(least, most) => path.push_str(&random.u64(*least..=*most).to_string()),
                Piece::Number => path.push_str(&number.to_string()),
            }
        }
        Cow::Owned(path)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Between(least, most) => write!(f, "{{{least}..{most}}}")?,
                Piece::Number => f.write_str("{n}")?,
            }
        }
        Ok(())
    }
}

impl Piece {
    fn new(inside: &str) -> Result<Piece, String> {
        if inside == "n" {
            return Ok(Piece::Number);
        }
        let ends = inside.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match ends {
            Some((least, most)) if least <= most => Ok(Piece::Between(least, most)),
            _ => {
                Err(format!("has `{{{inside}}}`, which is neither `{{n}}` nor a range such as `{{1..1000}}`"))
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const GRPC_OK: u32 = 0;
pub(crate) const USER_AGENT: &str = concat!("ringward-load/", env!("CARGO_PKG_VERSION"));
/// The end of the Host field, and what follows it in each request.
const USUAL_FIELDS: &str =
    concat!("\r\nuser-agent: ringward-load/", env!("CARGO_PKG_VERSION"), "\r\naccept: */*\r\n");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_paths_stay_in_their_range() {
        let mut random = Rng::with_seed(7);
        let template = PathTemplate::new("/orders/{1..3}/items?page={n}").unwrap();
        let mut seen: Vec<_> = (0..100).map(|_| template.render(9, &mut random).into_owned()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3].map(|number| format!("/orders/{number}/items?page=9")));
    }

    #[test]
    fn malformed_paths_are_refused() {
        for (text, wanted) in [
            ("orders", "must begin"),
            ("/a b", "visible ASCII"),
            ("/{1..2", "without its `}`"),
            ("/1}", "without its `{`"),
            ("/{m}", "`{m}`, which is neither"),
            ("/{2..1}", "neither"),
            ("/{-1..1}", "neither"),
        ] {
            let error = PathTemplate::new(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
