//! A table of requests, and what becomes of each.

use std::collections::BTreeMap;

use ringward_testkit::{Echo, Pattern};

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

/// What was seen of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// None if there was no answer.
    status: Option<u16>,
    location: Option<String>,
    /// What the upstream got, if it got it.
    target: Option<String>,
    /// What the upstream got, by names in lower case.
    fields: BTreeMap<String, Vec<String>>,
    /// What the client got.
    answer: BTreeMap<String, Vec<String>>,
}

/// A header field that is not the same, and the sentence of the guide about it.
pub(crate) struct Differs {
    pub(crate) field: &'static str,
    /// What it looks like.
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

    pub(crate) fn ends(self, before: End) -> Row {
        Row { before, ..self }
    }

    /// Ringward does something else, and this sentence of the guide says so.
    pub(crate) fn but(self, after: End, says: &'static str) -> Row {
        Row { after: Some((after, says)), ..self }
    }

    fn name(&self) -> String {
        let who = self.who.unwrap_or("nobody");
        format!("{} {}{} by {who}, {:?}, {:?}", self.method, self.host, self.target, self.sni, self.fields)
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
            0 => connection.request(self.method, self.target, &self.fields, b""),
            bytes => connection.upload(self.target, Pattern::new(bytes), false),
        });
        let Ok(response) = response else { return Seen::default() };
        let echo = serde_json::from_slice::<Echo>(&response.body).ok().filter(|_| response.status == 200);
        let collect = |headers: &ringward_testkit::Headers| {
            headers.iter().fold(BTreeMap::<String, Vec<String>>::new(), |mut all, (name, value)| {
                all.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
                all
            })
        };
        let location = response.headers.get("location").map(|to| to.replace(&format!(":{}", edge.port), ""));
        Seen {
            status: Some(response.status),
            location,
            fields: echo.as_ref().map(|echo| collect(&echo.headers)).unwrap_or_default(),
            target: echo.map(|echo| echo.target),
            answer: collect(&response.headers),
        }
    }
}

impl Seen {
    #[track_caller]
    fn is(&self, end: &End, what: &str) {
        let seen = (self.status, self.location.as_deref(), self.target.as_deref());
        let wanted = match *end {
            End::Passed(target) => (Some(200), None, Some(target)),
            End::Answered(status) => (Some(status), None, None),
            End::SentTo(status, to) => (Some(status), Some(to), None),
            End::Refused => (None, None, None),
        };
        assert_eq!(seen, wanted, "{what}: {self:?}");
    }
}

/// Sends every request to both, and compares; `differs` are the fields that upstreams see otherwise, and `answers` those of clients.
#[track_caller]
pub(crate) fn compare(scene: &Scene, before: Edge, after: Edge, rows: &[Row], differs: &[Differs], answers: &[Differs]) {
    let mut used = vec![false; differs.len() + answers.len()];
    for row in rows {
        let (old, new) = (row.ask(scene, before), row.ask(scene, after));
        old.is(&row.before, &format!("before: {}", row.name()));
        let Some((end, says)) = &row.after else {
            new.is(&row.before, &format!("Ringward: {}", row.name()));
            let (of_requests, of_answers) = used.split_at_mut(differs.len());
            same(&old.fields, &new.fields, differs, of_requests, &row.name());
            same(&old.answer, &new.answer, answers, of_answers, &row.name());
            continue;
        };
        assert_ne!(end, &row.before, "{} is no difference", row.name());
        new.is(end, &format!("Ringward: {}", row.name()));
        scene.guide_says(says);
    }
    for (differs, used) in differs.iter().chain(answers).zip(used) {
        assert!(used, "{} does not differ", differs.field);
        scene.guide_says(differs.says);
    }
}

/// Sends every request to Ringward, where the others are not at hand.
#[track_caller]
pub(crate) fn check(scene: &Scene, after: Edge, rows: &[Row]) {
    for row in rows {
        let seen = row.ask(scene, after);
        let end = row.after.as_ref().map_or(&row.before, |(end, _)| end);
        seen.is(end, &format!("Ringward: {}", row.name()));
        if let Some((_, says)) = &row.after {
            scene.guide_says(says);
        }
    }
}

#[track_caller]
fn same(
    old: &BTreeMap<String, Vec<String>>,
    new: &BTreeMap<String, Vec<String>>,
    differs: &[Differs],
    used: &mut [bool],
    what: &str,
) {
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (old, new) = (old.get(name).map(|all| all.join(" | ")), new.get(name).map(|all| all.join(" | ")));
        if old == new {
            continue;
        }
        let known = differs.iter().position(|known| known.field == name);
        let known = known.unwrap_or_else(|| panic!("{what}: {name} was {old:?} and is {new:?}"));
        used[known] = true;
        assert!((differs[known].before)(old.as_deref()), "{what}: {name} was {old:?}");
        assert!((differs[known].after)(new.as_deref()), "{what}: {name} is {new:?}");
    }
}
