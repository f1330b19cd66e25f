//! With the cache and without it, every policy decides every request alike: tried on policies and requests that are made up.
//!
//! That the trial would find a fault is tried as well: each part that is left out of a projection has to be noticed.

use std::net::SocketAddr;

mod cedar;

use super::*;
use crate::input::sample;
use crate::input::shape::InputShape;
use crate::input::subject::Claims;
use crate::input::view::{ConnectionView, RouteView};
use crate::set::{Limits, PolicySet, Source};

/// Conditions over all fields. Each holds for some of the requests below and not for others.
const CONDITIONS: &[&str] = &[
    "input.request.method == \"GET\"",
    "input.request.path == \"/a\"",
    "startswith(input.request.path, \"/a/\")",
    "input.request.segments[0] == \"a\"",
    "input.request.segments == [\"a\", \"b c\"]",
    "contains(input.request.raw_path, \"?\")",
    "count(input.request.query) == 2",
    "input.request.query.page[0] == \"1\"",
    "\"2\" in input.request.query.page",
    "count(input.request.query[\"a b\"]) == 1",
    "input.request.host == \"a.example\"",
    "input.request.scheme == \"https\"",
    "input.request.protocol == \"HTTP/1.1\"",
    "input.request.headers[\"x-a\"] == \"1\"",
    "input.request.headers[\"x-a\"] == \"\"",
    "not input.request.headers[\"x-a\"]",
    "input.request.headers_all[\"x-a\"] == [\"1\", \"2\"]",
    "startswith(input.request.headers.cookie, \"s=\")",
    "input.client.verified",
    "input.client.tenant == \"t1\"",
    "input.client.name == \"n\"",
    "\"ou\" in input.client.subject.organizational_units",
    "count(input.client.san.dns) > 1",
    "input.client.san.dns[0] == \"d1\"",
    "input.client.extensions[\"1.2.3\"] == \"x\"",
    "not input.client.extensions[\"1.2.3\"]",
    "input.client.not_after_unix > 1900000000",
    "object.get(input.client, \"serial\", \"\") == \"0a\"",
    "input.connection.remote_addr == \"192.0.2.1\"",
    "input.connection.remote_port > 1000",
    "input.connection.resumed",
    "input.connection.sni == \"a.example\"",
    "input.connection.auth_age_seconds < 60",
    "count(input.connection) == 10",
    "input.route.id == \"r1\"",
    "input.route.template == \"/a/{id}\"",
    "input.route.upstream == \"u1\"",
    "input.route.params.id == \"7\"",
    "count(input.route.params) == 2",
    "input.route.labels.team == \"x\"",
    "count(input.route.labels) == 0",
    "count(input.route) == 5",
    "input.time.unix_s % 2 == 0",
    "input.time.unix_s > 1800000030",
    "input.version == 1",
    "data.table[input.client.tenant][input.request.method]",
    "f(input.request.path, input.client.name)",
    "some uri in input.client.san.uri; startswith(uri, \"spiffe://x/\")",
    "every name in input.client.san.dns { startswith(name, \"d\") }",
    "regex.match(`^/a/[0-9]+$`, input.request.path)",
    "input.request.path == concat(\"/\", [\"\", input.route.params.id])",
];

/// As above, over the fields of OPA-Envoy's input.
const ENVOY: &[&str] = &[
    "input.attributes.request.http.method == \"GET\"",
    "input.attributes.request.http.path == \"/a?page=1\"",
    "input.attributes.request.http.path == \"/a\"",
    "endswith(input.attributes.request.http.path, \"?\")",
    "input.attributes.request.http.host == \"a.example\"",
    "input.attributes.request.http.scheme == \"https\"",
    "input.attributes.request.http.protocol == \"HTTP/1.1\"",
    "input.attributes.request.http.headers[\"x-a\"] == \"1\"",
    "input.attributes.request.http.headers[\"x-a\"] == \"1,2\"",
    "not input.attributes.request.http.headers[\"x-a\"]",
    "header(\"x-a\") == \"\"",
    "startswith(input.attributes.request.http.headers[\":path\"], \"/a\")",
    "input.attributes.request.http.headers[\":authority\"] == \"b.example\"",
    "input.attributes.request.http.headers[\":method\"] == \"POST\"",
    "input.attributes.request.http.headers[\":scheme\"] == \"http\"",
    "input.parsed_query[\"a;b\"][_] == \"1\"",
    "input.attributes.request.time == \"2027-01-15T08:00:00Z\"",
    "endswith(input.attributes.request.time, \"1Z\")",
    "input.attributes.source.address.socketAddress.address == \"192.0.2.1\"",
    "input.attributes.source.address.socketAddress.portValue > 1000",
    "input.attributes.source.principal == \"spiffe://x/1\"",
    "input.attributes.source.principal == \"d1\"",
    "not input.attributes.source.principal",
    "count(input.attributes.source) == 2",
    "input.attributes.tlsSession.sni == \"a.example\"",
    "not input.attributes.tlsSession",
    "input.attributes.contextExtensions.team == \"x\"",
    "not input.attributes.contextExtensions",
    "count(input.attributes.contextExtensions) == 2",
    "input.attributes.metadataContext.filterMetadata.ringward.client.tenant == \"t1\"",
    "input.attributes.metadataContext.filterMetadata.ringward.route.params.id == \"7\"",
    "input.attributes.metadataContext.filterMetadata.ringward.route.id == \"r1\"",
    "input.attributes.metadataContext.filterMetadata.ringward.connection.auth_age_seconds < 60",
    "input.attributes.metadataContext.filterMetadata.ringward.time.unix_s % 2 == 0",
    "input.parsed_path[0] == \"a\"",
    "input.parsed_path == [\"\"]",
    "count(input.parsed_query) == 2",
    "input.parsed_query.page[0] == \"1\"",
    "count(input.parsed_query[\"a b\"]) == 1",
    "input.version.ext_authz == \"v3\"",
    "data.table[input.attributes.metadataContext.filterMetadata.ringward.client.tenant][input.attributes.request.http.method]",
    "some part in input.parsed_path; part == \"7\"",
];

/// As above, over the fields of Kong's input.
const KONG: &[&str] = &[
    "input.client_ip == \"192.0.2.1\"",
    "input.consumer.username == \"n\"",
    "not input.consumer",
    "input.request.http.method == \"GET\"",
    "input.request.http.path == \"/a\"",
    "input.request.http.host == \"a.example\"",
    "input.request.http.port == \"8443\"",
    "input.request.http.scheme == \"https\"",
    "input.request.http.headers[\"x-a\"] == \"1\"",
    "input.request.http.headers[\"x-a\"] == [\"1\", \"2\"]",
    "not input.request.http.headers[\"x-a\"]",
    "input.request.http.querystring.page == \"1\"",
    "input.request.http.querystring.page == [\"2\", \"1\"]",
    "input.request.http.querystring.page == true",
    "input.request.http.querystring[\"a b\"] == true",
    "count(input.request.http.querystring) == 2",
    "input.request.http.tls.client_verify == \"SUCCESS\"",
    "input.request.http.tls.version == \"TLSv1.3\"",
    "input.request.http.uri_captures.named.id == \"7\"",
    "count(input.request.http.uri_captures.unnamed) == 2",
    "input.ringward.client.tenant == \"t1\"",
    "input.ringward.connection.resumed",
    "input.ringward.route.labels.team == \"x\"",
    "input.ringward.time.unix_s % 2 == 0",
    "input.route.name == \"r1\"",
    "input.service.name == \"u1\"",
    "data.table[input.ringward.client.tenant][input.request.http.method]",
];

fn conditions(shape: InputShape) -> &'static [&'static str] {
    match shape {
        InputShape::Native => CONDITIONS,
        InputShape::EnvoyV3 => ENVOY,
        InputShape::Kong => KONG,
    }
}

const DATA: &str = r#"{"table": {"t1": {"GET": true}, "t2": {"POST": true}}}"#;

/// xorshift64, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

fn compiled(shape: InputShape, rules: &str) -> Arc<dyn CompiledPolicy> {
    let text = format!("package p\n{rules}\nf(path, name) if {{ path == \"/a\"; name == \"n\" }}\n");
    let sources = vec![Source::new("p.rego", text.as_bytes()), Source::new("data.json", DATA.as_bytes())];
    let limits = Limits { time_budget: Duration::from_secs(10), ..Limits::default() };
    let set = PolicySet::new(sources, "data.p.decision", limits).with_input(shape);
    crate::compile(&set).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Some rules with some conditions, each with a result of its own.
fn rules(random: &mut Random, shape: InputShape) -> String {
    let result = |allowed: bool, rule: &str| match shape {
        InputShape::Kong => format!("{{\"allow\": {allowed}, \"message\": \"{rule}\"}}"),
        _ => format!("{{\"allowed\": {allowed}, \"rule\": \"{rule}\"}}"),
    };
    let mut rules = format!("default decision := {}\n", result(false, "default"));
    for rule in 0..1 + random.below(4) {
        let allowed = random.of(&[true, true, false]);
        let head = if rule == 0 { "decision :=" } else { "else :=" };
        let mut conditions: Vec<_> = (0..1 + random.below(3)).map(|_| random.of(conditions(shape))).collect();
        // A variable may be bound once.
        conditions.sort_unstable();
        conditions.dedup();
        let body = conditions.join("\n\t");
        rules += &format!("{head} {} if {{\n\t{body}\n}} ", result(allowed, &rule.to_string()));
    }
    rules
}

/// A request with everything behind it, of few enough values that many requests are alike in much.
struct Case {
    subject: Subject,
    /// Which of the subjects it is: a connection has one.
    connection: usize,
    request: Parts,
}

#[derive(Clone)]
struct Parts {
    method: &'static str,
    path: &'static str,
    raw_path: &'static str,
    query: Option<&'static str>,
    host: &'static str,
    scheme: &'static str,
    protocol: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    id: &'static str,
    template: &'static str,
    upstream: &'static str,
    params: &'static [(&'static str, &'static str)],
    labels: Vec<(String, String)>,
    now_unix: i64,
}

impl Parts {
    fn random(random: &mut Random) -> Self {
        let headers: &[&[(&str, &str)]] = &[
            &[],
            &[("x-a", "1")],
            &[("x-a", "")],
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "2"), ("x-b", "0"), ("x-a", "1")],
            &[("x-a", "1, 2")],
            &[("cookie", "s=1"), ("cookie", "t=2")],
            &[("x-forwarded-client-cert", "1"), ("x-b", "1")],
        ];
        let labels: &[&[(&str, &str)]] =
            &[&[], &[("team", "x")], &[("team", "")], &[("team", "x"), ("tier", "1")], &[("teamx", "")]];
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            method: random.of(&["GET", "POST", "get"]),
            path: random.of(&["/a", "/a/7", "/a/b%20c", "/", "/7", "/A"]),
            raw_path: random.of(&["/a", "/a?page=1"]),
            query: random.of(&[
                None,
                Some(""),
                Some("page=1"),
                Some("page=2&page=1"),
                Some("page=12"),
                Some("page=1&a+b=1"),
                Some("a%20b"),
                Some("%70age=1"),
                Some("page"),
                Some("page="),
                Some("a;b=1"),
                Some("a%3Bb=1"),
            ]),
            host: random.of(&["a.example", "b.example"]),
            scheme: random.of(&["https", "http"]),
            protocol: random.of(&["HTTP/1.1", "HTTP/1.0"]),
            headers: random.of(headers).to_vec(),
            id: random.of(&["r1", "r2"]),
            template: random.of(&["/a/{id}", "/{rest...}"]),
            upstream: random.of(&["u1", "u2"]),
            params: random.of(&[
                &[][..],
                &[("id", "7")][..],
                &[("id", "")][..],
                &[("id", "7"), ("x", "y")][..],
                &[("i", "d7")][..],
            ]),
            labels: random.of(labels).iter().map(own).collect(),
            now_unix: 1_800_000_000 + random.of(&[0, 1, 59, 60, 61]),
        }
    }

    /// Another request that differs in few fields.
    fn changed(&self, random: &mut Random) -> Self {
        let (mut changed, other) = (self.clone(), Self::random(random));
        match random.below(14) {
            0 => changed.method = other.method,
            1 => changed.path = other.path,
            2 => changed.raw_path = other.raw_path,
            3 => changed.query = other.query,
            4 => changed.host = other.host,
            5 => changed.scheme = other.scheme,
            6 => changed.protocol = other.protocol,
            7 => changed.headers = other.headers,
            8 => changed.id = other.id,
            9 => changed.template = other.template,
            10 => changed.upstream = other.upstream,
            11 => changed.params = other.params,
            12 => changed.labels = other.labels,
            _ => changed.now_unix = other.now_unix,
        }
        changed
    }

    fn view<'a>(&'a self, headers: &'a Headers<'a>) -> RequestView<'a> {
        RequestView {
            method: self.method,
            path: self.path,
            raw_path: self.raw_path,
            query: self.query,
            host: self.host,
            scheme: self.scheme,
            protocol: self.protocol,
            headers,
            route: RouteView {
                id: self.id,
                template: self.template,
                params: self.params,
                upstream: self.upstream,
                labels: &self.labels,
            },
            now_unix: self.now_unix,
            ..sample::request()
        }
    }
}

struct Headers<'a>(&'a [(&'static str, &'static str)]);

impl crate::HeaderSource for Headers<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.0.for_each(each);
    }
}

fn subject(random: &mut Random) -> Subject {
    if random.below(8) == 0 {
        return Subject::from_claims(&Claims::default(), &connection(random));
    }
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    let claims = Claims {
        name: random.of(&["n", "m"]),
        tenant: random.of(&["t1", "t2", ""]),
        // Not all of these are told from names of other kinds, see `cedar::request`.
        identity: random.of(&["n", "m", "/n", "x:y@z", "a@z"]),
        spiffe_id: random.of(&["", "", "spiffe://x/1", "spiffe://y/1"]),
        emails: texts(random.of(&[&["a@z"][..], &[][..]])),
        serial: random.of(&["0a", "0b"]),
        organizational_units: texts(random.of(&[&["ou"][..], &["o", "u"][..], &[][..]])),
        dns: texts(random.of(&[&["d1"][..], &["d1", "d2"][..], &["d1d2"][..], &["e", "d1"][..], &[][..]])),
        uris: texts(random.of(&[&["spiffe://x/1"][..], &["spiffe://y/1"][..], &[][..]])),
        extensions: random.of(&[&[][..], &[("1.2.3", "x")][..], &[("1.2.3", "")][..]]).to_vec(),
        not_after_unix: random.of(&[1_900_000_000, 1_900_000_001]),
        ..sample::claims()
    };
    Subject::from_claims(&claims, &connection(random))
}

fn connection(random: &mut Random) -> ConnectionView<'static> {
    let address = random.of(&[[192, 0, 2, 1], [192, 0, 2, 2]]);
    ConnectionView {
        remote: SocketAddr::from((address, random.of(&[1000, 1001]))),
        resumed: random.of(&[true, false]),
        sni: random.of(&["a.example", ""]),
        auth_time_unix: 1_800_000_000 - random.of(&[0, 1, 30]),
        ..sample::connection()
    }
}

/// How many connections there are.
const CONNECTIONS: usize = 48;

/// Requests that are often alike in all but one field, over a few connections.
fn cases(random: &mut Random, count: usize) -> Vec<Case> {
    let subjects: Vec<Subject> = (0..CONNECTIONS).map(|_| subject(random)).collect();
    let mut request = Parts::random(random);
    (0..count)
        .map(|_| {
            request = match random.below(12) {
                0 => Parts::random(random),
                1..7 => request.changed(random),
                _ => request.clone(),
            };
            let connections = 1 + random.below(subjects.len());
            let connection = random.below(connections);
            Case { subject: subjects[connection].clone(), connection, request: request.clone() }
        })
        .collect()
}

/// Decides all cases with the cache and without it. Returns the number of hits, and of the case that differs if one does.
fn compare(policy: &dyn CompiledPolicy, projection: Projection, cases: &[Case]) -> (usize, Option<usize>) {
    let options = CacheOptions {
        entries: 64,
        bytes: 256 * 1024,
        verify_every: NonZeroU32::MAX,
        misses_per_second: None,
    };
    let cache = Some(Box::new(Cache::new(Arc::new(projection), &options)));
    let mut cached = CachingWorker { engine: policy.worker(), cache, budget: None, budget_beside: None };
    let (mut plain, mut marks) = (policy.worker(), vec![SubjectMark::default(); CONNECTIONS]);
    let (mut hits, now) = (0, Instant::now());
    for (index, case) in cases.iter().enumerate() {
        let headers = Headers(&case.request.headers);
        let request = case.request.view(&headers);
        let expected = plain.decide(&case.subject, &request);
        let mark = &mut marks[case.connection];
        let answer = cached.decide(mark, &mut || case.subject.clone(), &request, now);
        hits += usize::from(answer.lookup == Some(Lookup::Hit));
        let same = match (&answer.verdict, &expected) {
            (Verdict::Decided(decision), Ok(expected)) => **decision == *expected,
            (Verdict::Failed(error), Err(expected)) => error == expected,
            _ => false,
        };
        if !same {
            return (hits, Some(index));
        }
    }
    (hits, None)
}

fn try_policies(shape: InputShape, seed: u64, policies: usize, requests: usize) {
    let (mut random, mut hits) = (Random(seed), 0);
    for number in 0..policies {
        let rules = rules(&mut random, shape);
        let policy = compiled(shape, &rules);
        let projection = (**policy.projection().unwrap_or_else(|why| panic!("{rules}\n{why:?}"))).clone();
        let (found, wrong) = compare(&*policy, projection, &cases(&mut random, requests));
        assert_eq!(wrong, None, "policy {number} of seed {seed}:\n{rules}");
        hits += found;
    }
    assert!(hits * 20 > policies * requests, "only {hits} hits: the requests try nothing");
}

#[test]
fn cached_decisions_are_those_of_the_policy() {
    for shape in InputShape::ALL {
        try_policies(shape, 0x9e37_79b9_7f4a_7c15, 50, 100);
    }
}

/// As above, with 120,000 pairs of policy and request, in some three seconds:
/// `cargo test -p ringward-policy --lib -- --ignored equivalence`.
#[test]
#[ignore = "more of the same, for whoever changes the cache"]
fn cached_decisions_are_those_of_the_policy_in_a_hundred_thousand_cases() {
    for shape in InputShape::ALL {
        (1..=4).for_each(|seed| try_policies(shape, seed * 0x2545_f491_4f6c_dd1d, 250, 120));
    }
}

#[test]
fn a_projection_that_lacks_any_part_is_found_out() {
    let (mut random, mut unexpected) = (Random(0xdead_beef_cafe_f00d), Vec::new());
    let all =
        InputShape::ALL.into_iter().flat_map(|shape| conditions(shape).iter().map(move |text| (shape, text)));
    for (shape, condition) in all {
        let policy = compiled(shape, &format!("default decision := false\ndecision if {{ {condition} }}"));
        let projection = policy.projection().unwrap_or_else(|why| panic!("{condition}: {why:?}"));
        let cases = cases(&mut random, 2000);
        let (_, wrong) = compare(&*policy, (**projection).clone(), &cases);
        assert_eq!(wrong, None, "{condition}");
        let broken: Vec<_> = (0..).map_while(|index| projection.without(index)).collect();
        for broken in broken {
            // What makes no difference to any request may be missing: some of the whole of something, and what is never true.
            let redundant = NEVER_NOTICED.iter().any(|(whose, part)| {
                *whose == *condition && part.is_none_or(|part| is_without(projection, &broken, part))
            });
            let (_, wrong) = compare(&*policy, broken.clone(), &cases);
            if wrong.is_some() == redundant {
                unexpected.push(format!("{condition}: noticed {}, with {broken:?}", wrong.is_some()));
            }
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:#?}");
}

/// Whether `broken` lacks the part that is written so.
fn is_without(whole: &Projection, broken: &Projection, part: &str) -> bool {
    let has = |projection: &Projection| format!("{projection:?}").contains(part);
    has(whole) && !has(broken)
}

/// Conditions that depend on less than they read, with the part that may be missing; `None` for every part.
const NEVER_NOTICED: &[(&str, Option<&str>)] = &[
    // The number of fields is always the same.
    ("count(input.connection) == 10", None),
    ("count(input.route) == 5", None),
    ("count(input.attributes.source) == 2", None),
    // The path never ends so, the query never begins so.
    ("endswith(input.attributes.request.http.path, \"?\")", Some("Path")),
    ("startswith(input.attributes.request.http.headers[\":path\"], \"/a\")", Some("Query")),
    // A name stands in for the next, and who is not verified has none.
    ("input.attributes.source.principal == \"spiffe://x/1\"", Some("\"verified\"")),
    ("input.attributes.source.principal == \"spiffe://x/1\"", Some("\"dn\"")),
    ("input.attributes.source.principal == \"spiffe://x/1\"", Some("\"dns\"")),
    ("input.attributes.source.principal == \"d1\"", Some("\"verified\"")),
    ("input.attributes.source.principal == \"d1\"", Some("\"dn\"")),
    ("not input.attributes.source.principal", None),
    ("input.consumer.username == \"n\"", Some("\"verified\"")),
    ("not input.consumer", None),
    // Alike for all connections here.
    ("input.request.http.port == \"8443\"", None),
    ("input.request.http.tls.version == \"TLSv1.3\"", None),
];
