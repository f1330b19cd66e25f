//! `ringward prove` on configurations made by chance, with load balancers that forward identities, conditions, expressions, splits and
//! rewrites: what it says of a route is the least that somebody has proved who gets there, of all who try everything.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_testkit::{Authority, Client, Http2, Issued, Leaf, flags, kind};
use serde_json::Value;

use self::support::{Builder, Gateway, Host};

const NAMES: [&str; 3] = ["a.example.com", "b.example.com", "*.example.org"];
/// What clients ask for in handshakes and requests.
const ASKED: [&str; 4] = ["a.example.com", "b.example.com", "x.example.org", "x.invalid"];
/// Routes by chance: an identifier, what they match, and what they do.
const ROUTES: [(&str, &str, &str); 8] = [
    ("rest", "path = \"/{rest...}\"", ""),
    ("plain", "path = \"/a/{id}\"", ""),
    ("gold", "path = \"/a/{id}\", headers = { x-tier = \"gold\" }", ""),
    ("query", "path = \"/q\", query = { k = \"1\" }", ""),
    ("regex", "regex = \"/v[0-9]+/x\"", ""),
    ("split", "path = \"/s\"", "split = { weights = { echo = 1, next = 1 }, by = \"source_address\" }"),
    ("rewrite", "path = \"/w/{id}\"", "rewrite = { path = \"/a/{id}\", host = \"b.example.com\" }"),
    ("acme", "path = \"/i\", identity = { organization = \"Acme\" }", ""),
];
/// Requests, of which each route takes one at least: a target and the tier.
const REQUESTS: [(&str, Option<&str>); 9] = [
    ("/", None),
    ("/a/1", None),
    ("/a/1", Some("gold")),
    ("/q", None),
    ("/q?k=1", None),
    ("/v2/x", None),
    ("/s", None),
    ("/w/1", None),
    ("/i", None),
];

/// Numbers that look random and are always the same (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn one<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }
}

/// Whom the bundles of a configuration trust.
struct Authorities {
    partners: Authority,
    others: Authority,
}

/// A configuration by chance, with `require` on routes by their number in the order of the file, and the hosts that believe load
/// balancers. Not all of them are accepted.
fn by_chance(
    seed: u64,
    authorities: &Authorities,
    require: &BTreeMap<usize, &str>,
) -> (Builder, BTreeSet<&'static str>) {
    let mut believing = BTreeSet::new();
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut builder = Gateway::builder()
        .signed_by(&authorities.partners)
        .trust("others", &[&authorities.others])
        .listener("http2 = true");
    builder = builder.section("[cluster.next]\nendpoints = \"127.0.0.1:1\"\n");
    let mut names = NAMES.to_vec();
    let mut number = 0;
    for _ in 0..1 + numbers.below(3) {
        let name = names.remove(numbers.below(names.len()));
        let mode = numbers.one(&["off", "observe", "optional", "required", "required"]);
        let trust = numbers.one(&["\"partners\"", "\"others\"", "[\"partners\", \"others\"]"]);
        let mut host = Host::new(&[name]).client_auth(&match mode {
            "off" => "mode = \"off\"".to_owned(),
            _ => format!("mode = {mode:?}, trust = {trust}"),
        });
        if mode != "off" && numbers.below(2) == 0 {
            let clients = numbers.one(&["\"partners\"", "\"others\""]);
            let header = numbers.one(&["", ", others = \"refuse\""]);
            believing.insert(name);
            let from = "{ san_dns = \"edge.example\" }";
            host = host.key(&format!("forwarded_identity = {{ from = {from}, trust = {clients}{header} }}"));
        }
        for (id, matching, lines) in ROUTES {
            if id != "rest" && numbers.below(2) == 0 {
                continue;
            }
            let own = match numbers.below(3) {
                0 => format!("client_auth = {:?}\n", numbers.one(&["off", "optional", "required"])),
                _ => String::new(),
            };
            let require = require.get(&number).map(|require| format!("require = {require:?}\n"));
            let tag = format!("response_headers = {{ set = {{ x-route = \"{name} {id}\" }} }}\n");
            let lines = format!("id = {id:?}\n{lines}\n{own}{tag}{}", require.unwrap_or_default());
            host = host.route(matching, &lines);
            number += 1;
        }
        builder = builder.host(host);
    }
    (builder, believing)
}

/// What somebody has proved who gets to a route, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proved {
    Nothing,
    ToALoadBalancer,
    ToUs,
}

impl Proved {
    fn word(self) -> &'static str {
        match self {
            Proved::Nothing => "none",
            Proved::ToALoadBalancer => "forwarded",
            Proved::ToUs => "mtls",
        }
    }
}

/// Somebody who tries: with which certificate, and which one is forwarded.
struct Visitor {
    identity: Option<Issued>,
    forwarded: Option<String>,
    /// By getting anywhere where load balancers are believed, if it has a certificate of its own.
    proves: Proved,
}

impl Visitor {
    /// By getting to a host of this name.
    fn proves_to(&self, host: &str, believing: &BTreeSet<&str>) -> Proved {
        // Elsewhere a load balancer is a client like any other.
        if self.identity.is_some() && !believing.contains(host) { Proved::ToUs } else { self.proves }
    }
}

/// Everybody: with a certificate or without, by load balancers or directly.
fn visitors(authorities: &Authorities) -> Vec<Visitor> {
    let Authorities { partners, others } = authorities;
    let acme = |name: &str| Leaf::client(name).organization("Acme");
    let item = |issued: &Issued| format!(":{}:", STANDARD.encode(issued.leaf()));
    let strange = Authority::root("Unknown Root");
    let mut visitors = vec![Visitor { identity: None, forwarded: None, proves: Proved::Nothing }];
    for authority in [partners, others] {
        let own = authority.issue(&acme("own"));
        visitors.push(Visitor { identity: Some(own), forwarded: None, proves: Proved::ToUs });
        let balancer = authority.issue(&Leaf::client("edge").dns("edge.example"));
        // Whoever comes to the load balancer without one, or with one that nobody has to accept.
        visitors.push(Visitor { identity: Some(balancer.clone()), forwarded: None, proves: Proved::Nothing });
        let stranger = Some(item(&strange.issue(&acme("stranger"))));
        visitors.push(Visitor {
            identity: Some(balancer.clone()),
            forwarded: stranger,
            proves: Proved::Nothing,
        });
        for clients in [partners, others] {
            let client = Some(item(&clients.issue(&acme("forwarded"))));
            let proves = Proved::ToALoadBalancer;
            visitors.push(Visitor { identity: Some(balancer.clone()), forwarded: client, proves });
        }
        // Somebody with a stolen certificate and no key for it, who is no load balancer: it is its own connection's.
        let spoofed = Some(item(&partners.issue(&acme("victim"))));
        visitors.push(Visitor { identity: None, forwarded: spoofed, proves: Proved::Nothing });
    }
    visitors
}

/// The fields of a request besides the host.
fn fields<'f>(visitor: &'f Visitor, tier: Option<&'f str>) -> Vec<(&'f str, &'f str)> {
    let forwarded = visitor.forwarded.as_deref().map(|value| ("client-cert", value));
    forwarded.into_iter().chain(tier.map(|tier| ("x-tier", tier))).collect()
}

/// The routes that a visitor gets to on one connection, by what they say of themselves.
fn try_everything(client: &Client, gateway: &Gateway, visitor: &Visitor, http2: bool) -> Vec<String> {
    let alpn = if http2 { "h2" } else { "http/1.1" };
    let Ok(mut connection) = client.clone().alpn(&[alpn]).connect(gateway.edge) else { return Vec::new() };
    let tries = ASKED.into_iter().flat_map(|host| REQUESTS.map(|(target, tier)| (host, target, tier)));
    if !http2 {
        let reached = tries.filter_map(|(host, target, tier)| {
            let fields = [vec![("host", host)], fields(visitor, tier)].concat();
            let response = connection.request("GET", target, &fields, b"").ok()?;
            response.headers.get("x-route").map(str::to_owned)
        });
        return reached.collect();
    }
    let mut http2 = Http2::new(connection, &[]);
    let reached = tries.enumerate().filter_map(|(index, (host, target, tier))| {
        let stream = u32::try_from(2 * index + 1).unwrap();
        let head = [(":method", "GET"), (":scheme", "https"), (":path", target), (":authority", host)];
        http2.head(stream, &[head.to_vec(), fields(visitor, tier)].concat(), true).ok()?;
        route_of(&mut http2, stream)
    });
    reached.collect()
}

/// What the response on a stream says of its route, once all of it has come.
fn route_of(http2: &mut Http2, stream: u32) -> Option<String> {
    let mut route = None;
    loop {
        let frame = http2.frame().ok().filter(|frame| frame.kind != kind::GOAWAY)?;
        match frame.kind {
            kind::HEADERS => {
                let fields = frame.fields();
                route = fields.iter().find(|(name, _)| name == "x-route").map(|(_, value)| value.clone());
            }
            kind::DATA if !frame.payload.is_empty() => {
                let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                http2.send(kind::WINDOW_UPDATE, 0, 0, &moved).ok()?;
            }
            kind::RST_STREAM => return None,
            _ => {}
        }
        if frame.stream == stream && frame.flags & flags::END_STREAM != 0 {
            return route;
        }
    }
}

/// What `prove` says of each route, in the order of the file: what the route says of itself, and its weakest.
fn proved(report: &Value) -> Vec<(String, String)> {
    let hosts = report["listeners"][0]["hosts"].as_array().unwrap();
    let of_host = |host: &Value| {
        let name = host["names"][0].as_str().unwrap().to_owned();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let routes = host["routes"].as_array().unwrap().clone();
        routes
            .into_iter()
            .map(move |route| (format!("{name} {}", text(&route["id"])), text(&route["weakest"])))
            .collect::<Vec<_>>()
    };
    hosts.iter().flat_map(of_host).collect()
}

fn prove(builder: Builder) -> (Value, bool) {
    let (said, ok) = builder.command("prove", &["--json"]);
    (serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}")), ok)
}

#[test]
fn what_is_proved_is_the_least_that_anybody_has_proved_who_gets_there() {
    let authorities =
        Authorities { partners: Authority::root("Test Root"), others: Authority::root("Other Root") };
    let visitors = visitors(&authorities);
    let (mut accepted, mut seen) = (0, BTreeMap::<String, usize>::new());
    for seed in 1..200 {
        let none = BTreeMap::new();
        let (report, ok) = prove(by_chance(seed, &authorities, &none).0);
        if !ok {
            continue;
        }
        accepted += 1;
        let (builder, believing) = by_chance(seed, &authorities, &none);
        let gateway = builder.start();
        let mut found = BTreeMap::<String, Proved>::new();
        for server_name in ASKED.into_iter().map(Some).chain([None]) {
            for (number, visitor) in visitors.iter().enumerate() {
                let client = gateway.anonymous().accept_any_server();
                let client = match &visitor.identity {
                    Some(identity) => client.identity(identity),
                    None => client,
                };
                let client = match server_name {
                    Some(name) => client.server_name(name),
                    None => client.without_sni(),
                };
                let http2 = (seed as usize + number) % 2 == 0;
                for route in try_everything(&client, &gateway, visitor, http2) {
                    let host = route.split(' ').next().unwrap().to_owned();
                    let proves = visitor.proves_to(&host, &believing);
                    let least = found.entry(route).or_insert(proves);
                    *least = proves.min(*least);
                }
            }
        }
        let proved = proved(&report);
        for (route, weakest) in &proved {
            let found = found.get(route).map(|proved| proved.word());
            assert_eq!(found, Some(&**weakest), "seed {seed}: {route}");
            *seen.entry(weakest.clone()).or_default() += 1;
        }
        assert_eq!(found.len(), proved.len(), "seed {seed}: {found:?}");
        check_requirements(seed, &authorities, &proved);
        if accepted == CONFIGURATIONS {
            break;
        }
    }
    assert_eq!(accepted, CONFIGURATIONS, "so many configurations were accepted");
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 3), "each was there: {seen:?}");
}

/// What is declared is accepted up to what was found, and refused beyond.
fn check_requirements(seed: u64, authorities: &Authorities, proved: &[(String, String)]) {
    let strength = ["none", "forwarded", "mtls"];
    let met = proved.iter().enumerate().filter(|(_, (_, weakest))| weakest != "none");
    let met: BTreeMap<usize, &str> = met.map(|(number, (_, weakest))| (number, &**weakest)).collect();
    assert!(prove(by_chance(seed, authorities, &met).0).1, "seed {seed}: {met:?}");
    // One route of each strength is enough.
    for weak in &strength[..2] {
        let Some(number) = proved.iter().position(|(_, weakest)| weakest == weak) else { continue };
        let stronger = strength[strength.iter().position(|word| word == weak).unwrap() + 1];
        let (report, ok) = prove(by_chance(seed, authorities, &BTreeMap::from([(number, stronger)])).0);
        assert!(!ok, "seed {seed}: {} is {weak}, not {stronger}: {report}", proved[number].0);
    }
}

/// How many configurations are tried.
const CONFIGURATIONS: usize = 8;
