//! Which virtual host and which route: looked up for every request, in tables of very different sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringward_benches::{CpuTime, criterion};
use ringward_config::{
    Conditions, HostPattern, HostTable, Methods, PathPattern, RequestFacts, RouteMatch, Routes, TextCondition,
};
use ringward_identity::PeerIdentity;

const SIZES: [usize; 3] = [10, 1000, 10_000];
/// More than branch prediction learns by heart, few enough that the names themselves stay in the cache.
const LOOKUPS: usize = 256;

const FIELDS: [(&str, &str); 8] = [
    ("accept", "application/json"),
    ("accept-encoding", "gzip, br"),
    ("accept-language", "en"),
    ("cache-control", "no-cache"),
    ("content-type", "application/json"),
    ("user-agent", "client/1.0"),
    ("x-request-id", "4f1f0f3c"),
    ("x-trace", "1"),
];

/// Paths spread over a table of templates with one parameter each, and a path that only the catch-all takes. The time is that
/// of one lookup.
fn routes(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("route");
    for size in SIZES {
        let template = |index: usize| format!("/service-{}/v1/collection-{index}/{{id}}", index % 97);
        let patterns = (0..size - 1).map(template).chain(["/{rest...}".to_owned()]);
        let routes = patterns.enumerate().map(|(index, text)| {
            let path = PathPattern::parse(&text).expect("a template that is right");
            (RouteMatch::new(path, Methods::All), index)
        });
        let routes = Routes::build(routes).expect("no template twice");
        let path = |lookup: usize| template(spread(lookup, size - 1)).replace("{id}", "17");
        let hits: Vec<String> = (0..LOOKUPS).map(path).collect();
        let mut next = hits.iter().cycle();
        group.bench_function(BenchmarkId::new("hit", size), |b| {
            b.iter(|| routes.find("GET", black_box(next.next().expect("endless")), |_| true));
        });
        group.bench_function(BenchmarkId::new("catch_all", size), |b| {
            b.iter(|| routes.find("GET", black_box("/service-1/v1/nothing/like/that"), |_| true));
        });
    }
    group.finish();
}

/// A request with as many fields as a browser sends.
struct Request;

impl RequestFacts for Request {
    fn header(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let fields = FIELDS.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        fields.for_each(|(_, value)| each(value.as_bytes()));
    }

    fn query(&self) -> Option<&str> {
        Some("page=2&size=50")
    }

    fn identity(&self) -> Option<&PeerIdentity> {
        None
    }
}

/// Three routes for each template: one that asks for a header which the request has not, one for a parameter which it has, and
/// one for everything else.
fn conditions(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("route");
    for size in SIZES {
        let template = |index: usize| format!("/service-{}/v1/collection-{index}/{{id}}", index % 97);
        let asking = |index: usize| {
            let condition = [("x-canary".into(), TextCondition::Present(true))];
            let parameter = [("page".into(), TextCondition::Exact("2".into()))];
            match index % 3 {
                0 => Conditions { headers: condition.into(), ..Conditions::default() },
                1 => Conditions { query: parameter.into(), ..Conditions::default() },
                _ => Conditions::default(),
            }
        };
        let templates = size.div_ceil(3);
        let routes = (0..templates * 3).map(|index| {
            let path = PathPattern::parse(&template(index / 3)).expect("a template that is right");
            (RouteMatch { path, methods: Methods::All, conditions: asking(index) }, index)
        });
        let routes = Routes::build(routes).expect("no route that asks for nothing more");
        let path = |lookup: usize| template(spread(lookup, templates)).replace("{id}", "17");
        let hits: Vec<String> = (0..LOOKUPS).map(path).collect();
        let mut next = hits.iter().cycle();
        group.bench_function(BenchmarkId::new("conditions", size), |b| {
            let met = |conditions: &Conditions| conditions.are_met_by(&Request);
            b.iter(|| routes.find("GET", black_box(next.next().expect("endless")), met));
        });
    }
    group.finish();
}

/// Names spread over a table of exact names, and one below a wildcard. The time is that of one lookup, of which the handshake
/// makes one and each request one more.
fn hosts(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("host");
    for size in SIZES {
        let name = |index: usize| format!("tenant-{index}.api.example.com");
        let mut table = HostTable::new();
        for (index, text) in (0..size).map(name).chain(["*.files.example.com".to_owned()]).enumerate() {
            let pattern = HostPattern::parse(&text).expect("a pattern that is right");
            table.insert(&pattern, index).expect("no pattern twice");
        }
        let hits: Vec<String> = (0..LOOKUPS).map(|lookup| name(spread(lookup, size))).collect();
        let mut next = hits.iter().cycle();
        group.bench_function(BenchmarkId::new("exact", size), |b| {
            b.iter(|| table.lookup(black_box(next.next().expect("endless"))));
        });
        group.bench_function(BenchmarkId::new("wildcard", size), |b| {
            b.iter(|| table.lookup(black_box("a.files.example.com")));
        });
    }
    group.finish();
}

/// Indices all over a table, without any order.
fn spread(lookup: usize, size: usize) -> usize {
    lookup * 7919 % size
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = routes, conditions, hosts
}
criterion_main!(benches);
