//! A table of requests, and what becomes of each.

use std::collections::{BTreeMap, BTreeSet};

use ringward_testkit::{Echo, Headers, Pattern};

use super::scene::{Edge, Scene};

/// A request, and what becomes of it.
pub(crate) struct Row {
    /// Who asks, by the name in [`Scene::people`]; nobody shows no certificate.
    who: Option<&'static str>,
    /// The name in the handshake; none is sent if there is none.
    sni: Option<&'static str>,
    host: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body_bytes: u64,
    chunked: bool,
    /// What ends each line of the head.
    line_end: &'static str,
    before: End,
    /// What Ringward does, and the sentence of the guide about it; the same as before if there is none.
    after: Option<(End, &'static str)>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The upstream gets it, with this target.
    Passed(&'static str),
    /// It is answered with this status.
    Answered(u16),
    /// The client is sent elsewhere.
    SentTo(u16, &'static str),
    /// There is no HTTP, but a TLS alert or the end of the connection.
    Refused,
}

/// Names in lower case, with their values.
type Fields = BTreeMap<String, Vec<String>>;

/// What was seen of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// None if there was no answer.
    status: Option<u16>,
    location: Option<String>,
    /// What the upstream got, if it got it.
    target: Option<String>,
    /// What the upstream got.
    fields: Fields,
    /// What the client got.
    answer: Fields,
}

/// A header field that is not the same, what it looks like, and the sentence of the guide about it.
pub(crate) struct Differs {
    pub(crate) field: &'static str,
    pub(crate) before: fn(Option<&str>) -> bool,
    pub(crate) after: fn(Option<&str>) -> bool,
    pub(crate) says: &'static str,
}

/// `GET` by nobody; `host` is the name in the handshake as well.
pub(crate) fn get(host: &'static str, target: &'static str) -> Row {
    Row {
        who: None,
        sni: Some(host),
        host,
        method: "GET",
        target,
        fields: Vec::new(),
        body_bytes: 0,
        chunked: false,
        line_end: "\r\n",
        before: End::Passed(target),
        after: None,
    }
}

impl Row {
    pub(crate) fn by(self, who: &'static str) -> Row {
        Row { who: Some(who), ..self }
    }

    pub(crate) fn sni(self, sni: Option<&'static str>) -> Row {
        Row { sni, ..self }
    }

    pub(crate) fn method(self, method: &'static str) -> Row {
        Row { method, ..self }
    }

    pub(crate) fn field(mut self, name: &'static str, value: &'static str) -> Row {
        self.fields.push((name, value));
        self
    }

    /// `POST` with so many bytes.
    pub(crate) fn body(self, body_bytes: u64) -> Row {
        Row { method: "POST", body_bytes, ..self }
    }

    /// `POST` that says how many bytes it has, and waits before it sends any.
    pub(crate) fn announced(self, length: &'static str) -> Row {
        Row { method: "POST", ..self }.field("content-length", length)
    }

    /// Without saying how many.
    pub(crate) fn chunked(self) -> Row {
        Row { chunked: true, ..self }
    }

    /// With line feeds alone, which RFC 9112 §2.2 lets a recipient accept.
    pub(crate) fn line_feeds(self) -> Row {
        Row { line_end: "\n", ..self }
    }

    pub(crate) fn ends(self, before: End) -> Row {
        Row { before, ..self }
    }

    /// Ringward does something else, and this sentence of the guide says so.
    pub(crate) fn but(self, after: End, says: &'static str) -> Row {
        Row { after: Some((after, says)), ..self }
    }

    fn name(&self) -> String {
        let who = self.who.unwrap_or("nobody");
        let Row { method, host, target, sni, fields, body_bytes, .. } = self;
        format!("{method} {host}{target} by {who}, {sni:?}, {fields:?}, {body_bytes} bytes")
    }

    fn ask(&self, scene: &Scene, edge: Edge) -> Seen {
        let client = scene.client(self.sni.unwrap_or(self.host)).host(self.host);
        let client = if self.sni.is_none() { client.without_sni() } else { client };
        let client = match self.who {
            Some(who) => client.identity(&scene.people[who]),
            None => client,
        };
        let connection = client.connect(edge.address());
        let response = connection.and_then(|mut connection| match self.body_bytes {
            0 => {
                let head = connection.head(self.method, self.target, &self.fields);
                let head = String::from_utf8(head).unwrap().replace("\r\n", self.line_end);
                connection.send(head.as_bytes())?;
                if self.method == "HEAD" { connection.response_to_head() } else { connection.response() }
            }
            bytes => connection.upload(self.target, Pattern::new(bytes), self.chunked),
        });
        let Ok(response) = response else { return Seen::default() };
        let echo = serde_json::from_slice::<Echo>(&response.body).ok().filter(|_| response.status == 200);
        let collect = |headers: &Headers| {
            headers.iter().fold(Fields::new(), |mut all, (name, value)| {
                all.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
                all
            })
        };
        let mut answer = collect(&response.headers);
        if response.status >= 300 {
            // Its page is nobody's but the proxy's own.
            answer.retain(|name, _| !PAGE.contains(&name.as_str()));
        }
        let location = response.headers.get("location").map(|to| to.replace(&format!(":{}", edge.port), ""));
        Seen {
            status: Some(response.status),
            location,
            fields: echo.as_ref().map(|echo| collect(&echo.headers)).unwrap_or_default(),
            target: echo.map(|echo| echo.target),
            answer,
        }
    }
}

impl Seen {
    /// What is wrong with it.
    fn check(&self, end: &End) -> Option<String> {
        let seen = (self.status, self.location.as_deref(), self.target.as_deref());
        let wanted = match *end {
            End::Passed(target) => (Some(200), None, Some(target)),
            End::Answered(status) => (Some(status), None, None),
            End::SentTo(status, to) => (Some(status), Some(to), None),
            End::Refused => (None, None, None),
        };
        (seen != wanted).then(|| format!("{seen:?}, not {end:?}"))
    }
}

/// Sends every request to both, and compares; `upstream` are the fields that upstreams see otherwise, and `client` those of clients.
#[track_caller]
pub(crate) fn compare(
    scene: &Scene,
    [before, after]: [Edge; 2],
    rows: &[Row],
    upstream: &[Differs],
    client: &[Differs],
) {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for row in rows {
        let (old, new) = (row.ask(scene, before), row.ask(scene, after));
        let end = row.after.as_ref().map_or(&row.before, |(end, _)| end);
        wrong.extend(old.check(&row.before).map(|what| format!("before: {}: {what}", row.name())));
        wrong.extend(new.check(end).map(|what| format!("Ringward: {}: {what}", row.name())));
        if let Some((_, says)) = &row.after {
            assert_ne!(end, &row.before, "{} is no difference", row.name());
            wrong.extend(scene.guide_lacks(says));
            continue;
        }
        let mut different = differences(&old.fields, &new.fields, upstream, &mut used);
        different.extend(differences(&old.answer, &new.answer, client, &mut used));
        wrong.extend(different.into_iter().map(|what| format!("{}: {what}", row.name())));
    }
    for differs in upstream.iter().chain(client) {
        if !used.contains(&(differs.field, differs.says)) {
            wrong.push(format!("{} never differs", differs.field));
        }
        wrong.extend(scene.guide_lacks(differs.says));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends every request to Ringward, where the other one is not at hand.
#[track_caller]
pub(crate) fn check(scene: &Scene, after: Edge, rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        let end = row.after.as_ref().map_or(&row.before, |(end, _)| end);
        let seen = row.ask(scene, after);
        wrong.extend(seen.check(end).map(|what| format!("{}: {what}", row.name())));
        wrong.extend(row.after.as_ref().and_then(|(_, says)| scene.guide_lacks(says)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fields that are not the same on both sides, unless they are known to differ as they do.
fn differences(
    old: &Fields,
    new: &Fields,
    known: &[Differs],
    used: &mut BTreeSet<(&'static str, &'static str)>,
) -> Vec<String> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut wrong = Vec::new();
    for name in names {
        let (old, new) = (old.get(name).map(|all| all.join(" | ")), new.get(name).map(|all| all.join(" | ")));
        if old == new || NOT_COMPARED.contains(&name.as_str()) {
            continue;
        }
        let as_known = |known: &&Differs| {
            known.field == name && (known.before)(old.as_deref()) && (known.after)(new.as_deref())
        };
        match known.iter().find(as_known) {
            Some(known) => _ = used.insert((known.field, known.says)),
            None => {
                wrong.push(format!("{name} was {:.60} and is {:.60}", format!("{old:?}"), format!("{new:?}")))
            }
        }
    }
    wrong
}

/// About the page of an error or a redirect.
const PAGE: [&str; 3] = ["cache-control", "content-type", "server"];
/// Of the connection alone; where redirects lead, which is compared without the port; and the length of an echo, which is that of what upstreams got.
const NOT_COMPARED: [&str; 4] = ["connection", "date", "location", "content-length"];
