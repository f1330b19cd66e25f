//! `ringward prove`: what it says is what a client finds that tries everything.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::collections::BTreeSet;

use ringward_testkit::{Authority, Client, Http2, Issued, Leaf, flags, kind};
use serde_json::Value;

use self::support::{Builder, Gateway, HOST, Host};

fn parsed((said, _): (String, bool)) -> Value {
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

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

const NAMES: [&str; 5] =
    ["a.example.com", "b.example.com", "*.example.com", "c.example.org", "*.sub.example.com"];
/// From the most special to the most general.
const TEMPLATES: [&str; 3] = ["/a/b", "/a/{id}", "/{rest...}"];
const PATHS: [&str; 4] = ["/a/b", "/a/7", "/a/b/c", "/"];

/// A configuration by chance. Not all of them are accepted.
fn by_chance(seed: u64, others: &Authority) -> Builder {
    // The first numbers of small seeds are much alike.
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut builder = Gateway::builder().trust("others", &[others]).listener("http2 = true");
    let mut names = NAMES.to_vec();
    for _ in 0..2 + numbers.below(3) {
        let name = names.remove(numbers.below(names.len()));
        if numbers.below(4) == 0 {
            builder = builder.listener(&format!("default_host = {name:?}"));
        }
        let mode = numbers.one(&["off", "observe", "optional", "required", "required"]);
        let trust = numbers.one(&["\"partners\"", "\"others\"", "[\"partners\", \"others\"]"]);
        let mut host = Host::new(&[name]).client_auth(&match mode {
            "off" => "mode = \"off\"".to_owned(),
            _ => format!("mode = {mode:?}, trust = {trust}"),
        });
        let routes = 1 + numbers.below(TEMPLATES.len());
        for template in &TEMPLATES[TEMPLATES.len() - routes..] {
            let own = match numbers.below(3) {
                0 => format!("client_auth = {:?}", numbers.one(&["off", "optional", "required"])),
                _ => String::new(),
            };
            host = host.route(&format!("path = {template:?}"), &own);
        }
        builder = builder.host(host);
    }
    builder
}

/// Who tries.
struct Clients<'a> {
    gateway: &'a Gateway,
    other: Issued,
    stranger: Issued,
}

const CLIENTS: [&str; 4] = ["anonymous", "partners", "others", "strangers"];

impl Clients<'_> {
    fn client(&self, name: &str) -> Client {
        match name {
            "anonymous" => self.gateway.anonymous(),
            "partners" => self.gateway.client(),
            "others" => self.gateway.anonymous().identity(&self.other),
            _ => self.gateway.anonymous().identity(&self.stranger),
        }
        .accept_any_server()
    }

    /// Whether requests of a client get through, for each pair of host and path.
    fn try_everything(&self, client: &Client, protocol: &str) -> Vec<bool> {
        let pairs = ASKED.into_iter().flat_map(|host| PATHS.map(|path| (host, path)));
        let Ok(connection) = client.clone().alpn(&[protocol]).connect(self.gateway.edge) else {
            return vec![false; ASKED.len() * PATHS.len()];
        };
        if protocol == "h2" {
            let mut http2 = Http2::new(connection, &[]);
            return pairs
                .enumerate()
                .map(|(index, (host, path))| {
                    let stream = u32::try_from(2 * index + 1).unwrap();
                    let fields =
                        [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", host)];
                    // A client that was refused learns of it now.
                    http2.head(stream, &fields, true).is_ok() && status(&mut http2, stream) == Some(200)
                })
                .collect();
        }
        let mut connection = connection;
        pairs
            .map(|(host, path)| {
                let response = connection.request("GET", path, &[("host", host)], b"");
                response.is_ok_and(|response| response.status == 200)
            })
            .collect()
    }
}

/// The status of a response, once all of it has come; `None` if the client learns that it is refused.
fn status(http2: &mut Http2, stream: u32) -> Option<u16> {
    let mut status = None;
    loop {
        let frame = http2.frame().ok().filter(|frame| frame.kind != kind::GOAWAY)?;
        match frame.kind {
            kind::HEADERS => status = Some(frame.status()),
            kind::DATA if !frame.payload.is_empty() => {
                let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                http2.send(kind::WINDOW_UPDATE, 0, 0, &moved).ok()?;
            }
            kind::RST_STREAM => return None,
            _ => {}
        }
        if frame.stream == stream && frame.flags & flags::END_STREAM != 0 {
            return status;
        }
    }
}

/// What `prove` says of a request: whether everybody is served, and otherwise the clients of which bundles.
fn predicted(
    listener: &Value,
    server_name: Option<&str>,
    host: &str,
    path: &str,
) -> Option<(bool, BTreeSet<String>)> {
    let scopes = listener["scopes"].as_array().unwrap();
    let hosts = listener["hosts"].as_array().unwrap();
    let scope = match server_name {
        None => scopes.iter().position(|scope| scope["no_name"] == true),
        Some(name) => entry(scopes, "server_names", name),
    }?;
    let host = &hosts[entry(hosts, "names", host)?];
    if host["scope"] != scope {
        return None;
    }
    let routes = host["routes"].as_array().unwrap();
    let template = PATHS.iter().position(|known| *known == path).unwrap().min(TEMPLATES.len() - 1);
    let mut candidates = TEMPLATES[template..].iter();
    let route = candidates.find_map(|template| routes.iter().find(|route| route["path"] == **template))?;
    let trusted = scopes[scope]["trust"].as_array().unwrap().iter();
    let trusted = trusted.map(|name| name.as_str().unwrap().to_owned()).collect();
    Some((route["weakest"] == "none", trusted))
}

/// Which of `entries` has this name: itself, or a pattern for it, or else all that are unknown.
fn entry(entries: &[Value], names: &str, name: &str) -> Option<usize> {
    let pattern = name.split_once('.').map(|(_, parent)| format!("*.{parent}")).unwrap();
    let has = |entry: &Value, name: &str| entry[names].as_array().unwrap().iter().any(|own| own == name);
    let find = |name: &str| entries.iter().position(|entry| has(entry, name));
    let unknown = || entries.iter().position(|entry| entry["unknown_names"] == true);
    find(name).or_else(|| find(&pattern)).or_else(unknown)
}

/// What clients ask for: names of the configuration, or such that its patterns stand for, and one more.
const ASKED: [&str; 6] =
    ["a.example.com", "b.example.com", "x.example.com", "c.example.org", "x.sub.example.com", "x.invalid"];

#[test]
fn what_is_proved_is_what_a_client_finds_that_tries_everything() {
    let others = Authority::root("Other Root");
    let stranger = Authority::root("Unknown Root").issue(&Leaf::client("stranger"));
    let mut accepted = 0;
    for seed in 1..40 {
        // Whether it is accepted is what other tests are for.
        if by_chance(seed, &others).check().contains("error:") {
            continue;
        }
        accepted += 1;
        let gateway = by_chance(seed, &others).start();
        let clients = Clients {
            gateway: &gateway,
            other: others.issue(&Leaf::client("other")),
            stranger: stranger.clone(),
        };
        let report = parsed(gateway.command("prove", &["--json"]));
        assert_eq!(report["ok"], true, "{report}");
        let listener = &report["listeners"][0];
        for server_name in ASKED.into_iter().map(Some).chain([None]) {
            for name in CLIENTS {
                let client = match server_name {
                    Some(server_name) => clients.client(name).server_name(server_name),
                    None => clients.client(name).without_sni(),
                };
                for protocol in ["http/1.1", "h2"] {
                    let found = clients.try_everything(&client, protocol);
                    let pairs = ASKED.into_iter().flat_map(|host| PATHS.map(|path| (host, path)));
                    for ((host, path), found) in pairs.zip(found) {
                        let predicted = predicted(listener, server_name, host, path);
                        let expected = match &predicted {
                            None => Some(false),
                            Some((open, _)) if name == "anonymous" => Some(*open),
                            Some((_, trusted)) if trusted.contains(name) => Some(true),
                            Some((false, _)) => Some(false),
                            // Nobody has to show a certificate; what becomes of a bad one is not said.
                            Some((true, _)) => None,
                        };
                        assert!(
                            expected.is_none_or(|expected| expected == found),
                            "seed {seed}: {name} by {protocol} to {server_name:?}, asking {host} for {path}: {found}, {predicted:?}"
                        );
                    }
                }
            }
        }
        if accepted == CONFIGURATIONS {
            return;
        }
    }
    panic!("only {accepted} configurations were accepted");
}

/// How many configurations are tried.
const CONFIGURATIONS: usize = 6;

/// Bugs of other proxies by which mutual TLS went away unnoticed, written as configurations of this one.
#[test]
fn ways_in_which_mutual_tls_was_lost_elsewhere_are_refused() {
    let strict = "mode = \"required\", trust = \"partners\"";
    for (what, builder, complaint) in [
        (
            "another router of the host switches it off (traefik 13639)",
            Gateway::builder().host(
                Host::new(&[HOST])
                    .key("require = \"mtls\"")
                    .route("path = \"/{rest...}\"", "")
                    .route("path = \"/public\"", "client_auth = \"off\""),
            ),
            "client_auth is \"off\", but `require` says \"mtls\"",
        ),
        (
            "wanted by path, optional in the handshake (traefik 9202, envoy 25447)",
            Gateway::builder().host(
                Host::new(&[HOST])
                    .client_auth("mode = \"optional\", trust = \"partners\"")
                    .key("require = \"mtls\"")
                    .route("path = \"/admin\"", "client_auth = \"required\"")
                    .route("path = \"/{rest...}\"", ""),
            ),
            "client_auth of the host is \"optional\", but `require` says \"mtls\"",
        ),
        (
            "configured and not enforced (ingress-nginx 9303)",
            Gateway::builder().host(
                Host::new(&[HOST])
                    .client_auth("mode = \"observe\", trust = \"partners\"")
                    .route("path = \"/{rest...}\"", "require = \"mtls\""),
            ),
            "client_auth of the host is \"observe\", but `require` says \"mtls\"",
        ),
        (
            "an expression takes what a route protects (traefik 9202, 7530)",
            Gateway::builder().host(
                Host::new(&[HOST])
                    .key("require = \"mtls\"")
                    .route("path = \"/admin/{rest...}\"", "")
                    .route("regex = \"/adm[a-z]+/.*\"", "client_auth = \"off\""),
            ),
            "client_auth is \"off\", but `require` says \"mtls\"",
        ),
        (
            "a header that another proxy writes is as good as a handshake",
            Gateway::builder().host(
                Host::new(&[HOST])
                    .key("forwarded_identity = { from = { san_dns = \"edge.example\" } }")
                    .route("path = \"/{rest...}\"", "require = \"mtls\""),
            ),
            "load balancers vouch for clients here",
        ),
        (
            "a laxer host answers whoever names none (gateway-api 3630)",
            Gateway::builder()
                .listener("default_host = \"open.example.com\"")
                .host(Host::new(&["open.example.com"]).client_auth("mode = \"off\""))
                .host(Host::new(&[HOST]).client_auth(strict).key("require = \"mtls\"")),
            "laxer",
        ),
    ] {
        let (said, ok) = builder.command("prove", &[]);
        assert!(!ok && said.contains(complaint), "{what}: {said}");
    }
}

#[test]
fn of_a_configuration_that_is_refused_nothing_is_proved() {
    let host = Host::new(&[HOST]).client_auth("mode = \"off\"").key("require = \"mtls\"");
    let report =
        parsed(Gateway::builder().host(host.route("path = \"/\"", "")).command("prove", &["--json"]));
    assert_eq!((&report["ok"], &report["listeners"]), (&false.into(), &serde_json::json!([])), "{report}");
    assert!(report["problems"][1]["message"].as_str().unwrap().contains("`require`"), "{report}");
}

/// Coalescing (contour 5240, nginx-gateway-fabric 3659): hosts share connections exactly if their rules are the same.
#[test]
fn hosts_are_of_one_scope_exactly_if_their_rules_are_the_same() {
    let config = Gateway::builder()
        .trust("others", &[&Authority::root("Other Root")])
        .host(Host::new(&["a.example.com", "*.a.example.com"]))
        .host(Host::new(&["b.example.com"]))
        .host(Host::new(&["c.example.com"]).client_auth("mode = \"required\", trust = \"others\""));
    let report = parsed(config.command("prove", &["--json"]));
    let scopes: Vec<&Value> =
        report["listeners"][0]["hosts"].as_array().unwrap().iter().map(|host| &host["scope"]).collect();
    assert_eq!(scopes, [0, 0, 1], "{report}");
    assert_eq!(
        report["listeners"][0]["scopes"][0]["server_names"],
        serde_json::json!(["a.example.com", "*.a.example.com", "b.example.com"])
    );
}

#[test]
fn the_table_says_what_gets_there_and_warns_of_a_way_around() {
    let config = Gateway::builder()
        .host(
            Host::new(&[HOST])
                .route("path = \"/orders/{id}\", methods = [\"GET\", \"PUT\"]", "require = \"mtls\""),
        )
        .another_listener("inside")
        .host(
            Host::new(&["inside.example.com"])
                .client_auth("mode = \"off\"")
                .route("path = \"/{rest...}\"", ""),
        );
    let (said, ok) = config.command("prove", &[]);
    assert!(ok, "{said}");
    let row = said.lines().find(|line| line.contains("/orders/{id}")).unwrap();
    let cells: Vec<&str> = row.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
    assert_eq!(
        cells,
        [HOST, "GET PUT", "/orders/{id}", "http/1.1 h2", "mtls (partners)", "mtls", "-", HOST],
        "{said}"
    );
    assert!(said.contains("none (off)"), "{said}");
    assert!(said.contains("warning:") && said.contains("clients that have proved nothing reach"), "{said}");
}
