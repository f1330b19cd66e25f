//! Judges a scenario file: what is written, against what can be carried out.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::raw::{self, Field, Scalar, Spread};
use super::{ClassPlan, HANDSHAKES_MAX, Problems, Scenario, Source, TIMEOUT_DEFAULT, units};
use crate::args::{CONNECTIONS_MAX, REQUESTS_MAX, STREAMS_MAX};
use crate::clients::Outcome;
use crate::distribution::Distribution;
use crate::fleet;
use crate::grpc::CallKind;
use crate::request::{Expected, ExpectedBytes, PathTemplate, RequestKind, What};
use crate::tls::{Offer, Version};
use crate::websocket::MESSAGE_BYTES_MAX;

/// Makes a scenario of what a file says.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn judge(file: &Path, text: &str, raw: &raw::File) -> Result<Scenario, Problems> {
    let judge = Judge { file, text, problems: RefCell::new(Problems::new(file)) };
    let scenario = judge.scenario(raw);
    judge.problems.into_inner().or(Some(scenario))
}

/// Who judges. A value that is wrong is noted, and something harmless stands for it, so that all that is wrong is found at once.
struct Judge<'f> {
    file: &'f Path,
    text: &'f str,
    problems: RefCell<Problems>,
}

impl Judge<'_> {
    fn scenario(&self, raw: &raw::File) -> Scenario {
        let (load, connection, target) = (&raw.load, &raw.connection, &raw.target);
        let http2 = self.choice(connection.protocol.as_ref(), &[("http/1.1", false), ("h2", true)]);
        let version =
            self.choice(raw.tls.version.as_ref(), &[("1.2", Version::Tls12), ("1.3", Version::Tls13)]);
        let names = |list: &[Field<String>]| list.iter().map(|name| name.get_ref().clone()).collect();
        let classes = self.classes(raw);
        let kinds = self.kinds(raw, &classes, http2.unwrap_or(false));
        self.everyone_asks_for_something(raw, &classes, &kinds);
        self.durations_fit(raw);
        if let Some(streams) = load.streams.as_ref().filter(|streams| *streams.get_ref() > 1)
            && http2 != Some(true)
        {
            self.note(
                streams.span(),
                "several requests at the same time need `protocol = \"h2\"` in [connection]",
            );
        }
        Scenario {
            name: self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            description: Some(raw.description.get_ref().clone()),
            target: target.address.as_ref().map(|address| address.get_ref().clone()),
            server_names: self.server_names(target.server_name.as_ref()),
            pki: target.pki.as_ref().map(|path| self.path(path)),
            ca: target.ca.as_ref().map(|path| self.path(path)),
            offer: Offer {
                version,
                suites: names(&raw.tls.suites),
                groups: names(&raw.tls.groups),
                http2: http2.unwrap_or(false),
            },
            connections: self.count(&load.connections, 1..=CONNECTIONS_MAX),
            streams: load.streams.as_ref().map_or(1, |count| self.count(count, 1..=STREAMS_MAX)),
            per_connection: connection.requests.as_ref().map(|spread| self.spread(spread, self.number(1))),
            think_time: connection
                .think_time
                .as_ref()
                .map_or(Distribution::Always(0.0), |spread| self.spread(spread, self.seconds())),
            storm_every: connection.storm_every.as_ref().map(|text| self.duration(text)),
            handshakes_max: connection
                .handshakes_max
                .as_ref()
                .map_or(HANDSHAKES_MAX, |count| self.count(count, 1..=CONNECTIONS_MAX)),
            kept: self.choice(connection.client.as_ref(), &[("same", true), ("next", false)]).unwrap_or(true),
            resume: connection.resume.as_ref().is_some_and(|resume| *resume.get_ref()),
            requests_max: load.requests.as_ref().map(|count| self.count_long(count, 1..=REQUESTS_MAX)),
            duration_max: load.duration.as_ref().map(|text| self.duration(text)),
            rate: load.rate.as_ref().and_then(|rate| self.or_note(rate.span(), rate.get_ref().parse())),
            timeout: load.timeout.as_ref().map_or(TIMEOUT_DEFAULT, |text| self.duration(text)),
            hold: None,
            seed: load.seed.as_ref().map_or(1, |seed| *seed.get_ref()),
            classes,
            kinds,
        }
    }

    /// Rules about several keys of `load` and `connection`.
    fn durations_fit(&self, raw: &raw::File) {
        let (load, connection) = (&raw.load, &raw.connection);
        let rates = load.rate.as_ref().and_then(|rate| rate.get_ref().parse::<crate::rate::Rates>().ok());
        let lasts = rates.as_ref().and_then(crate::rate::Rates::duration);
        if load.requests.is_none() && load.duration.is_none() && lasts.is_none() {
            self.note(load.connections.span(), "[load] needs `requests` or `duration`, or it has no end");
        }
        if let (Some(duration), Some(_)) = (&load.duration, lasts) {
            self.note(
                duration.span(),
                "`rate` says how long each of its rates lasts; leave `duration` out, or give one rate alone",
            );
        }
        if let (Some(think_time), Some(_)) = (&connection.think_time, &load.rate) {
            self.note(
                think_time.span(),
                "with `rate` requests are due at their times; `think_time` is for closed loops",
            );
        }
    }

    fn classes(&self, raw: &raw::File) -> Vec<ClassPlan> {
        if raw.clients.is_empty() {
            let source = Source::Fleet { class: fleet::Class::Valid, count: None };
            let name = fleet::Class::Valid.name().to_owned();
            return vec![ClassPlan { name, share: 1.0, source, outcome: Outcome::Served }];
        }
        self.names_differ(raw.clients.iter().map(|class| &class.get_ref().name));
        let classes = raw.clients.iter().map(|class| {
            let span = class.span();
            let class = class.get_ref();
            ClassPlan {
                name: class.name.get_ref().clone(),
                share: self.share(class.share.as_ref()),
                source: self.source(class, span),
                outcome: self
                    .choice(
                        class.outcome.as_ref(),
                        &[("served", Outcome::Served), ("refused", Outcome::Refused)],
                    )
                    .unwrap_or(Outcome::Served),
            }
        });
        classes.collect()
    }

    fn source(&self, class: &raw::Class, span: Range<usize>) -> Source {
        let anonymous = class.anonymous.as_ref().is_some_and(|anonymous| *anonymous.get_ref());
        if let (Some(count), None) = (&class.count, &class.class) {
            self.note(count.span(), "`count` goes with `class`");
        }
        match (&class.class, &class.cert, &class.key, anonymous) {
            (Some(name), None, None, false) => {
                let known: Vec<_> = fleet::Class::ALL.iter().map(|class| (class.name(), *class)).collect();
                let class_of_fleet = self.choice(Some(name), &known).unwrap_or(fleet::Class::Valid);
                let count = class.count.as_ref().map(|count| self.count(count, 1..=u32::MAX) as usize);
                Source::Fleet { class: class_of_fleet, count }
            }
            (None, Some(cert), Some(key), false) => {
                Source::Files { cert: self.path(cert), key: self.path(key) }
            }
            (None, None, None, true) => Source::Anonymous,
            _ => {
                self.note(span, "clients need one of `class`, `cert` with `key`, and `anonymous = true`");
                Source::Anonymous
            }
        }
    }

    fn kinds(&self, raw: &raw::File, classes: &[ClassPlan], http2: bool) -> Vec<RequestKind> {
        if raw.requests.is_empty() {
            self.note(0..0, "there is no [[requests]]");
        }
        self.names_differ(raw.requests.iter().map(|request| &request.get_ref().name));
        let kinds = raw.requests.iter().enumerate().map(|(index, request)| {
            let request = request.get_ref();
            let what = self.what(request, http2, raw.load.timeout.as_ref());
            RequestKind {
                index,
                name: request.name.get_ref().clone(),
                share: self.share(request.share.as_ref()),
                classes: request.clients.iter().filter_map(|name| self.class(name, classes)).collect(),
                method: request.method.as_ref().map_or(Method::GET, |name| self.method(name)),
                path: self.path_template(&request.path),
                fresh_paths: request
                    .fresh_percent
                    .as_ref()
                    .map_or(0, |percent| self.count_long(percent, 0..=100)),
                fields: request.headers.iter().filter_map(|(name, value)| self.field(name, value)).collect(),
                body: request.body.as_ref().map_or(smallest(what), |body| self.body(body, what)),
                what,
                expected: self.expected(&request.expect, classes, answered_with(what, http2)),
            }
        });
        kinds.collect()
    }

    /// The size of a body, or of each message.
    fn body(&self, body: &Field<Spread>, what: What) -> Distribution {
        let judged = self.spread(body, self.bytes());
        let (least, most) = judged.ends();
        if what != What::Request && most > MESSAGE_BYTES_MAX as f64 {
            self.note(body.span(), "a message has 64 MiB at the most");
        }
        if matches!(what, What::Call { kind: CallKind::ServerStream, .. }) && least < 4.0 {
            self.note(body.span(), "the request of a server stream has four bytes at the least: how many messages are to come back");
        }
        judged
    }

    fn method(&self, name: &Field<String>) -> Method {
        // CONNECT asks for no resource, and TRACE has no answer that could be checked.
        let method = name.get_ref().parse().ok();
        let usual = method.filter(|method| ![Method::CONNECT, Method::TRACE].contains(method));
        let upper = name.get_ref().bytes().all(|byte| byte.is_ascii_uppercase());
        usual.filter(|_| upper).unwrap_or_else(|| {
            self.note(name.span(), format!("`{}` is no method that can be used", name.get_ref()));
            Method::GET
        })
    }

    fn what(&self, request: &raw::Request, http2: bool, timeout: Option<&Field<String>>) -> What {
        let messages = |count: &Field<u64>| self.count(count, 1..=MESSAGES_MAX);
        if request.grpc.is_some() || request.websocket.is_some() {
            for (what, span) in [
                ("method", request.method.as_ref().map(Field::span)),
                ("fresh_percent", request.fresh_percent.as_ref().map(Field::span)),
                ("headers", request.headers.keys().next().map(Field::span)),
                ("expect.sha256", request.expect.sha256.as_ref().map(Field::span)),
            ] {
                if let Some(span) = span {
                    self.note(span, format!("`{what}` has no meaning for gRPC and WebSockets"));
                }
            }
        }
        match (&request.grpc, &request.websocket) {
            (None, None) => What::Request,
            (Some(grpc), None) => {
                if !http2 {
                    self.note(grpc.span(), "gRPC needs `protocol = \"h2\"` in [connection]");
                }
                let grpc = grpc.get_ref();
                let kinds = [
                    ("unary", CallKind::Unary),
                    ("server-stream", CallKind::ServerStream),
                    ("client-stream", CallKind::ClientStream),
                    ("bidi", CallKind::Bidi),
                ];
                What::Call {
                    kind: self.choice(Some(&grpc.kind), &kinds).unwrap_or(CallKind::Unary),
                    messages: grpc.messages.as_ref().map_or(1, messages),
                    deadline: grpc.deadline.as_ref().map(|text| self.duration(text)),
                    status: grpc.status.as_ref().map_or(0, |status| self.count(status, 0..=u32::MAX)),
                }
            }
            (None, Some(websocket)) => {
                let raw::WebSocket { messages: count, between } = websocket.get_ref();
                let between = between.as_ref().map_or(Duration::ZERO, |text| self.duration(text));
                let count = messages(count);
                let limit =
                    timeout.and_then(|text| units::duration(text.get_ref()).ok()).unwrap_or(TIMEOUT_DEFAULT);
                if between * count >= limit {
                    let takes = between * count;
                    self.note(
                        websocket.span(),
                        format!("it takes {takes:?} at the least, and [load] `timeout` is {limit:?}"),
                    );
                }
                What::WebSocket { messages: count, between }
            }
            (Some(_), Some(websocket)) => {
                self.note(websocket.span(), "a request is either a gRPC call or a WebSocket");
                What::Request
            }
        }
    }

    fn expected(&self, expect: &raw::Expect, classes: &[ClassPlan], usual: u16) -> Expected {
        let status = |status| self.count(status, 101..=599) as u16;
        let special = expect.status_for.iter();
        let bytes = expect.body.as_ref().map_or(ExpectedBytes::Any, |body| match body.get_ref().as_str() {
            "same" => ExpectedBytes::Same,
            "any" => ExpectedBytes::Any,
            text => ExpectedBytes::Exactly(self.or_note(body.span(), units::bytes(text)).unwrap_or(0)),
        });
        Expected {
            status: expect.status.as_ref().map_or(usual, status),
            status_for: special
                .filter_map(|(name, value)| Some((self.class(name, classes)?, status(value))))
                .collect(),
            bytes: Cell::new(bytes),
            sha256: expect.sha256.as_ref().and_then(|text| {
                let hash = sha256(text.get_ref());
                self.or_note(text.span(), hash.ok_or("a SHA-256 has 64 hexadecimal digits"))
            }),
        }
    }

    /// Who makes no request at all, or only some that nobody makes, is a misunderstanding.
    fn everyone_asks_for_something(&self, raw: &raw::File, classes: &[ClassPlan], kinds: &[RequestKind]) {
        for (index, class) in classes.iter().enumerate() {
            if !kinds.iter().any(|kind| kind.is_made_by(index)) {
                let span = raw.clients.get(index).map_or(0..0, |class| class.get_ref().name.span());
                self.note(
                    span,
                    format!("clients `{}` make no request: every one names other `clients`", class.name),
                );
            }
        }
    }

    fn names_differ<'n>(&self, names: impl Iterator<Item = &'n Field<String>>) {
        let mut seen = HashSet::new();
        for name in names {
            if name.get_ref().is_empty() {
                self.note(name.span(), "a name cannot be empty");
            } else if !seen.insert(name.get_ref()) {
                self.note(name.span(), format!("there is another `{}`", name.get_ref()));
            }
        }
    }

    fn class(&self, name: &Field<String>, classes: &[ClassPlan]) -> Option<usize> {
        let found = classes.iter().position(|class| class.name == *name.get_ref());
        if found.is_none() {
            let names: Vec<_> = classes.iter().map(|class| format!("`{}`", class.name)).collect();
            let message = format!("there are no clients `{}`, but {}", name.get_ref(), names.join(", "));
            self.note(name.span(), message);
        }
        found
    }

    fn server_names(&self, names: Option<&Field<raw::OneOrMany>>) -> Vec<String> {
        let Some(names) = names else { return Vec::new() };
        let mut all = Vec::new();
        for name in &names.get_ref().0 {
            match expanded(name) {
                Ok(more) => all.extend(more),
                Err(reason) => self.note(names.span(), format!("`{name}` {reason}")),
            }
        }
        if all.len() > NAMES_MAX {
            self.note(names.span(), format!("{} names, and {NAMES_MAX} are allowed", all.len()));
            all.truncate(NAMES_MAX);
        }
        all
    }

    fn path_template(&self, path: &Field<String>) -> PathTemplate {
        let template = PathTemplate::new(path.get_ref());
        let template = template.map_err(|reason| format!("`{}` {reason}", path.get_ref()));
        self.or_note(path.span(), template).unwrap_or_default()
    }

    fn field(&self, name: &Field<String>, value: &Field<String>) -> Option<(HeaderName, HeaderValue)> {
        let name_read: Option<HeaderName> = name.get_ref().to_ascii_lowercase().parse().ok();
        let Some(name_read) = name_read else {
            self.note(name.span(), format!("`{}` is no name of a header", name.get_ref()));
            return None;
        };
        if OUR_FIELDS.contains(&name_read.as_str()) {
            self.note(name.span(), format!("`{name_read}` is set by what else the scenario says"));
            return None;
        }
        let value_read = HeaderValue::from_str(value.get_ref());
        let value_read = value_read.map_err(|_| format!("{:?} is no value of a header", value.get_ref()));
        self.or_note(value.span(), value_read).map(|value| (name_read, value))
    }

    fn share(&self, share: Option<&Field<f64>>) -> f64 {
        let Some(share) = share else { return 1.0 };
        let value = *share.get_ref();
        if value.is_finite() && value > 0.0 && value <= SHARE_MAX {
            return value;
        }
        self.note(share.span(), format!("a share is more than 0 and up to {SHARE_MAX}, and not {value}"));
        1.0
    }

    fn count(&self, value: &Field<u64>, allowed: RangeInclusive<u32>) -> u32 {
        let allowed = u64::from(*allowed.start())..=u64::from(*allowed.end());
        self.count_long(value, allowed) as u32
    }

    fn count_long(&self, value: &Field<u64>, allowed: RangeInclusive<u64>) -> u64 {
        if allowed.contains(value.get_ref()) {
            return *value.get_ref();
        }
        let (least, most) = (allowed.start(), allowed.end());
        self.note(value.span(), format!("{} is not from {least} to {most}", value.get_ref()));
        *least
    }

    fn duration(&self, text: &Field<String>) -> Duration {
        let duration = units::duration(text.get_ref());
        let positive = duration.and_then(|duration| match duration.is_zero() {
            true => Err(format!("`{}` must be more than nothing", text.get_ref())),
            false => Ok(duration),
        });
        self.or_note(text.span(), positive).unwrap_or(TIMEOUT_DEFAULT)
    }

    /// A number that may differ from time to time; `read` reads one, as a float.
    fn spread(&self, spread: &Field<Spread>, read: impl Fn(&Scalar) -> Result<f64, String>) -> Distribution {
        let judged = match spread.get_ref() {
            Spread::Always(value) => read(value).map(Distribution::Always),
            Spread::Spread(raw::SpreadTable { min: Some(min), max: Some(max), mean: None }) => read(min)
                .and_then(|min| match read(max)? {
                    max if max >= min => Ok(Distribution::Between(min, max)),
                    _ => Err("`max` is less than `min`".to_owned()),
                }),
            Spread::Spread(raw::SpreadTable { min: None, max: None, mean: Some(mean) }) => {
                read(mean).map(Distribution::Mean)
            }
            Spread::Spread(_) => Err("write `{ min = ..., max = ... }` or `{ mean = ... }`".to_owned()),
        };
        self.or_note(spread.span(), judged).unwrap_or(Distribution::Always(1.0))
    }

    fn number(&self, least: u64) -> impl Fn(&Scalar) -> Result<f64, String> {
        move |value| match value {
            Scalar::Number(number) if (least..=REQUESTS_MAX).contains(number) => Ok(*number as f64),
            Scalar::Number(number) => Err(format!("{number} is not from {least} to {REQUESTS_MAX}")),
            Scalar::Text(text) => Err(format!("{text:?} is no whole number")),
        }
    }

    fn seconds(&self) -> impl Fn(&Scalar) -> Result<f64, String> {
        |value| match value {
            Scalar::Text(text) => units::duration(text).map(|duration| duration.as_secs_f64()),
            Scalar::Number(number) => Err(format!("{number} needs a unit: `\"{number}s\"` for example")),
        }
    }

    fn bytes(&self) -> impl Fn(&Scalar) -> Result<f64, String> {
        |value| match value {
            Scalar::Text(text) => units::bytes(text).map(|bytes| bytes as f64),
            Scalar::Number(number) => Err(format!("{number} needs a unit: `\"{number}B\"` for example")),
        }
    }

    /// One of several words.
    fn choice<T: Copy>(&self, word: Option<&Field<String>>, words: &[(&str, T)]) -> Option<T> {
        let word = word?;
        let found = words.iter().find(|(known, _)| known == word.get_ref());
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(known, _)| format!("`{known}`")).collect();
            self.note(word.span(), format!("`{}` is none of {}", word.get_ref(), known.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A path, which begins at the directory of the file.
    fn path(&self, path: &Field<String>) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path.get_ref())
    }

    fn or_note<T, E: ToString>(&self, span: Range<usize>, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.note(span, error.to_string())).ok()
    }

    fn note(&self, span: Range<usize>, message: impl Into<String>) {
        self.problems.borrow_mut().add(self.text, Some(span), message);
    }
}

/// The status of an answer that does what was asked for.
fn answered_with(what: What, http2: bool) -> u16 {
    match what {
        // RFC 6455 §4.1, RFC 8441 §5.
        What::WebSocket { .. } if !http2 => 101,
        _ => 200,
    }
}

/// The size of a body of which nothing is said.
fn smallest(what: What) -> Distribution {
    let counts = matches!(what, What::Call { kind: CallKind::ServerStream, .. });
    Distribution::Always(if counts { 4.0 } else { 0.0 })
}

/// All names that a name with `{A..B}` stands for.
fn expanded(name: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = name.split_once('{') else { return Ok(vec![name.to_owned()]) };
    let range = rest.split_once('}').and_then(|(range, after)| {
        let (least, most) = range.split_once("..")?;
        Some((least.parse::<u32>().ok()?, most.parse::<u32>().ok()?, after))
    });
    match range {
        Some((least, most, after)) if least <= most && (most - least) < NAMES_MAX as u32 => {
            Ok((least..=most).map(|number| format!("{before}{number}{after}")).collect())
        }
        Some((least, most, _)) if least <= most => Err(format!("stands for more than {NAMES_MAX} names")),
        _ => Err("has a `{` that begins no range such as `{1..100}`".to_owned()),
    }
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// As many hosts as a gateway is likely to have.
const NAMES_MAX: usize = 100_000;
/// In one call or WebSocket.
const MESSAGES_MAX: u32 = 100_000;
const SHARE_MAX: f64 = 1e9;
/// Fields that follow from other keys, or that would make requests mean something else (RFC 9110 §7.6.1).
const OUR_FIELDS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "user-agent",
    "keep-alive",
];
