//! Policies that look into the bodies of requests: what they see, and that the upstream gets what was decided about, whole.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::process::Command;

use ringward_testkit::{
    Closing, Connection, DEADLINE, Echo, Leaf, Pattern, Response, eventually, sha256_hex,
};

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream};

/// What it sees is in its answer. Denies JSON with `"deny": true`, and texts with `forbidden`.
const POLICY: &str = r#"package ringward.authz

default decision := {"allowed": false, "rule": "default"}

decision := {"allowed": false, "headers": seen, "rule": "json"} if {
	input.request.body.json.deny == true
} else := {"allowed": false, "headers": seen, "rule": "text"} if {
	contains(input.request.body.text, "forbidden")
} else := {"allowed": true, "response_headers_to_add": seen}

seen := {
	"x-size": sprintf("%d", [input.request.body.size]),
	"x-truncated": sprintf("%v", [input.request.body.truncated]),
	"x-json": substring(json.marshal(object.get(input.request.body, "json", "none")), 0, 100),
}
"#;

/// Bytes that the policy may look at.
const CAP: u64 = 64 << 10;

fn builder(policy: &str) -> Builder {
    Gateway::builder()
        .policy("main", policy)
        .host(Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", "policy_body_max = \"64KiB\""))
}

fn gateway() -> Gateway {
    builder(POLICY).limits("body_bytes_max = \"100MiB\"").start()
}

/// Clients get nothing then but what answers them.
fn without_tickets(builder: Builder) -> Builder {
    builder.listener("resumption = \"off\"")
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn post_json(connection: &mut Connection, body: &str) -> Response {
    connection.request("POST", "/", &[JSON], body.as_bytes()).unwrap()
}

/// Size, whether it was truncated, and the JSON that the policy saw.
fn seen(response: &Response) -> (&str, &str, &str) {
    let field = |name| response.headers.get(name).unwrap_or("-");
    (field("x-size"), field("x-truncated"), field("x-json"))
}

/// These bytes in chunks of so many.
fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

fn send_chunked(connection: &mut Connection, fields: &[(&str, &str)], body: &[u8], size: usize) -> Response {
    let fields = [fields, &[("transfer-encoding", "chunked")]].concat();
    let request = [connection.head("POST", "/", &fields), chunked(body, size)].concat();
    connection.send(&request).unwrap();
    connection.response().unwrap()
}

#[track_caller]
fn is_whole(response: &Response, body: &[u8]) {
    let echo = Echo::of(response);
    assert_eq!((echo.body_bytes, echo.body_sha256), (body.len() as u64, sha256_hex(body)));
}

#[test]
fn a_field_of_json_decides() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let good = r#"{"deny": false, "n": 1.5}"#;
    let response = post_json(&mut connection, good);
    assert_eq!(response.status, 200);
    assert_eq!(seen(&response), ("25", "false", r#"{"deny":false,"n":1.5}"#));
    is_whole(&response, good.as_bytes());
    // Nothing is remembered of it: the next request differs in its body alone, and a denied one keeps the connection.
    for _ in 0..2 {
        let response = post_json(&mut connection, r#"{"deny": true}"#);
        assert_eq!((response.status, seen(&response).2), (403, r#"{"deny":true}"#));
        assert_eq!(post_json(&mut connection, r#"{"deny": false}"#).status, 200);
    }
    assert_eq!(gateway.wait_for_record("rule", "json")["status"], 403);
    assert!(!gateway.process.stdout().contains("deny\":"), "bodies are not for the log");
    assert_eq!(gateway.upstream.requests().len(), 3);
    assert_eq!(gateway.metric("ringward_connections_accepted_total", &[]), 1.0);
}

#[test]
fn requests_without_body_are_decided_too() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    for response in [
        connection.get("/").unwrap(),
        connection.request("GET", "/", &[JSON], b"").unwrap(),
        connection.request("POST", "/", &[JSON, ("content-length", "0")], b"").unwrap(),
        send_chunked(&mut connection, &[JSON], b"", 1),
    ] {
        assert_eq!((response.status, seen(&response)), (200, ("0", "false", "\"none\"")));
    }
}

#[test]
fn as_much_as_is_allowed_is_whole_and_a_byte_more_is_not() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    for (bytes, size, truncated) in [(CAP, CAP, "false"), (CAP + 1, CAP, "true"), (10 << 20, CAP, "true")] {
        let body = Pattern::new(bytes);
        for is_chunked in [false, true] {
            let response = connection.upload("/", body, is_chunked).unwrap();
            let (seen_size, seen_truncated, _) = seen(&response);
            assert_eq!((seen_size, seen_truncated), (&*size.to_string(), truncated), "{bytes} {is_chunked}");
            let echo = Echo::of(&response);
            assert_eq!((echo.body_bytes, echo.body_sha256), (bytes, body.sha256_hex()), "{is_chunked}");
        }
    }
    // JSON that is cut is none.
    let json = |bytes: u64| format!("{{\"deny\": true, \"x\": \"{}\"}}", "x".repeat(bytes as usize - 23));
    assert_eq!(json(CAP).len() as u64, CAP);
    assert_eq!(post_json(&mut connection, &json(CAP)).status, 403);
    let cut = post_json(&mut connection, &json(CAP + 1));
    assert_eq!((cut.status, seen(&cut).1, seen(&cut).2), (200, "true", "\"none\""));
    assert_eq!(gateway.upstream.errors(), [""; 0]);
}

#[test]
fn chunks_of_any_size_are_one_body_and_stay_chunks() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let body = format!("{{\"x\": \"{}\"}}", "y".repeat(5000));
    for size in [1, 7, 1000, 10_000] {
        let response = send_chunked(&mut connection, &[JSON], body.as_bytes(), size);
        assert_eq!((response.status, seen(&response).0), (200, "5009"), "chunks of {size}");
        is_whole(&response, body.as_bytes());
        let denied = send_chunked(&mut gateway.connect(), &[JSON], br#"{"deny": true}"#, size);
        assert_eq!((denied.status, seen(&denied).0), (403, "14"), "chunks of {size}");
    }
    let requests = gateway.upstream.requests();
    assert!(requests.iter().all(|request| request.headers.get("transfer-encoding") == Some("chunked")));
    // What is mostly framing is not collected without end.
    let bloated = vec![b'x'; CAP as usize];
    let response = send_chunked(&mut connection, &[], &bloated, 1);
    assert_eq!((response.status, seen(&response).1), (200, "true"));
    is_whole(&response, &bloated);
}

#[test]
fn every_split_of_a_request_decides_alike() {
    let gateway = gateway();
    let body = br#"{"deny": true}"#;
    for (fields, body) in [
        ([JSON, ("content-length", "14")], body.to_vec()),
        ([JSON, ("transfer-encoding", "chunked")], chunked(body, 5)),
    ] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/", &fields);
        let request = [head.clone(), body].concat();
        for split in (head.len()..request.len()).step_by(3) {
            connection.send(&request[..split]).unwrap();
            connection.send(&request[split..]).unwrap();
            let response = connection.response().unwrap();
            assert_eq!((response.status, seen(&response).0), (403, "14"), "split at {split}");
            if fields[1].0 == "transfer-encoding" {
                connection = gateway.connect();
            }
        }
    }
}

#[test]
fn what_comes_behind_a_body_is_the_next_request() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let head = |length: &str| connection.head("POST", "/first", &[JSON, ("content-length", length)]);
    let allowed = [head("15"), b"{\"deny\": false}".to_vec()].concat();
    let denied = [head("14"), b"{\"deny\": true}".to_vec()].concat();
    let framed = connection.head("POST", "/chunked", &[JSON, ("transfer-encoding", "chunked")]);
    let framed = [framed, chunked(b"{\"deny\": false}", 4)].concat();
    let last = connection.head("GET", "/last", &[]);
    connection.send(&[allowed.clone(), denied, framed, allowed, last].concat()).unwrap();
    let statuses: Vec<u16> = (0..5).map(|_| connection.response().unwrap().status).collect();
    assert_eq!(statuses, [200, 403, 200, 200, 200]);
    let targets: Vec<String> =
        gateway.upstream.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/first", "/chunked", "/first", "/last"]);
    assert_eq!(gateway.upstream.errors(), [""; 0]);
}

#[test]
fn a_client_that_expects_100_gets_it_before_the_decision_and_once() {
    let gateway = without_tickets(builder(POLICY)).start();
    for (body, status) in [("{\"deny\": false}", 200), ("{\"deny\": true }", 403)] {
        for framing in [("content-length", "15"), ("transfer-encoding", "chunked")] {
            let mut connection = gateway.connect();
            let head = connection.head("POST", "/", &[JSON, ("expect", "100-continue"), framing]);
            connection.send(&head).unwrap();
            // Blocks until something comes, and nothing but the interim response can.
            connection.tcp().peek(&mut [0]).unwrap();
            let body = if framing.1 == "chunked" { chunked(body.as_bytes(), 4) } else { body.into() };
            connection.send(&body).unwrap();
            let response = connection.response().unwrap();
            assert_eq!((response.status, &response.interim[..]), (status, &[100][..]), "{framing:?}");
        }
    }
    // Who sends without waiting is not told.
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[JSON, ("expect", "100-continue"), ("content-length", "15")]);
    connection.send(&[head, b"{\"deny\": false}".to_vec()].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert!(gateway.upstream.requests().iter().all(|request| request.headers.get("expect").is_none()));
}

#[test]
fn curl_sends_its_body_when_it_is_told_to() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let gateway = gateway();
    let files = gateway.client_files("curl", &gateway.partner);
    let ca = gateway.pki.write_authorities("curl-ca.pem", &[&gateway.root]);
    let port = gateway.edge.port();
    for (body, status) in [("{\"deny\": false}", "200"), ("{\"deny\": true}", "403")] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"])
            .arg(&ca)
            .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1"), "--cert"])
            .arg(&files.chain)
            .arg("--key")
            .arg(&files.key)
            // It would wait much longer than the test may take.
            .args(["--expect100-timeout", "1000", "--header", "expect: 100-continue"])
            .args(["--header", "content-type: application/json", "--data-binary", body])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg(format!("https://{HOST}:{port}/"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{output:?}");
    }
}

/// Of each of these bodies a lenient upstream could read another value than the policy.
#[test]
fn json_that_could_be_read_otherwise_is_not_decided_about() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let bodies = [
        r#"{"deny": true, "deny": false}"#,
        r#"{"deny": false, "\u0064eny": true}"#,
        r#"{"n": 123456789012345678901}"#,
        r#"{"n": 0.12345678901234567}"#,
        r#"{"n": 1e400}"#,
        r#"{"deny": false,}"#,
        "\u{feff}{}",
        &deep,
    ];
    for body in bodies {
        assert_eq!(post_json(&mut connection, body).status, 400, "{body}");
    }
    assert_eq!(gateway.upstream.requests().len(), 0);
    gateway.wait_for_record("flag", "request_body_unreadable");
    // Deeper still, which must not overflow a stack.
    let deepest = "[".repeat(60_000);
    assert_eq!(post_json(&mut connection, &deepest).status, 400);
    let just = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(post_json(&mut connection, &just).status, 200);
    // Where nobody says JSON, it is text.
    let text = connection.request("POST", "/", &[("content-type", "text/plain")], b"{").unwrap();
    assert_eq!((text.status, seen(&text).2), (200, "\"none\""));
    let coded = connection.request("POST", "/", &[JSON, ("content-encoding", "gzip")], b"{").unwrap();
    assert_eq!((coded.status, seen(&coded).2), (200, "\"none\""));
}

#[test]
fn a_body_that_comes_too_slowly_is_408() {
    let gateway = without_tickets(builder(POLICY).limits("body_timeout = \"300ms\"")).start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("content-length", "1000")]);
    connection.send(&head).unwrap();
    // Never quiet for long, and never done.
    let mut sent = 0;
    while connection.send(b"x").is_ok() && sent < 900 && !is_readable(&connection) {
        sent += 1;
    }
    assert!(sent < 900, "it may take as long as it wants");
    assert_eq!(connection.response().unwrap().status, 408);
    assert_eq!(gateway.upstream.requests().len(), 0);
    gateway.wait_for_record("flag", "request_body_timeout");
    gateway.wait_for_closed("body_timeout", 1);
}

/// Waits a moment for an answer.
fn is_readable(connection: &Connection) -> bool {
    let tcp = connection.tcp();
    let before = tcp.read_timeout().unwrap();
    tcp.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
    let peeked = tcp.peek(&mut [0]);
    tcp.set_read_timeout(before).unwrap();
    peeked.is_ok()
}

#[test]
fn a_client_that_vanishes_is_never_decided_about() {
    let gateway = without_tickets(builder(POLICY)).start();
    let expecting = ("expect", "100-continue");
    for (framing, part) in [
        (("content-length", "1000"), &b"{\"deny\": false}"[..]),
        (("transfer-encoding", "chunked"), b"f\r\n{\"deny\": false}\r\n"),
    ] {
        for politely in [true, false] {
            let mut connection = gateway.connect();
            let head = connection.head("POST", "/", &[JSON, expecting, framing]);
            connection.send(&head).unwrap();
            // Once it is told to go on, its body is being read.
            connection.tcp().peek(&mut [0]).unwrap();
            connection.send(part).unwrap();
            if politely {
                connection.close_notify().unwrap();
                assert!(connection.response().is_err());
            } else {
                connection.reset();
            }
        }
    }
    gateway.wait_for_no_connections();
    eventually(DEADLINE, "all are recorded", || gateway.lines("request").len() == 4);
    assert!(gateway.lines("request").iter().all(|line| line["flag"] == "client_gone"));
    assert_eq!(gateway.metric("ringward_policy_decisions_total", &[]), 0.0);
    assert_eq!(gateway.upstream.requests().len(), 0);
    gateway.assert_serves();
}

#[test]
fn broken_chunks_are_400_before_a_decision() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    connection.send(&[head, b"2\r\nabX\r\n".to_vec()].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 400);
    assert!(matches!(connection.wait_closed().1, Closing::Notified));
    assert_eq!(gateway.metric("ringward_policy_decisions_total", &[]), 0.0);
}

#[test]
fn a_body_beyond_the_routes_limit_is_413_before_it_is_read() {
    let gateway = builder(POLICY).limits("body_bytes_max = \"1KiB\"").start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("content-length", "1025"), ("expect", "100-continue")]);
    connection.send(&head).unwrap();
    assert_eq!(connection.response().unwrap().status, 413, "and no 100");
    // Of a chunked one it is known later.
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    connection.send(&[head, b"401\r\n".to_vec(), vec![b'x'; 1025]].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 413);
    assert_eq!(gateway.metric("ringward_policy_decisions_total", &[]), 0.0);
    assert_eq!(gateway.upstream.requests().len(), 0);
}

#[test]
fn a_denied_upload_ends_with_its_answer() {
    let gateway = gateway();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("content-length", "10000000")]);
    let mut begun = [head, b"forbidden".to_vec()].concat();
    begun.resize(begun.len() + CAP as usize, b'x');
    connection.send(&begun).unwrap();
    let response = connection.response().unwrap();
    assert_eq!((response.status, response.headers.get("connection")), (403, Some("close")));
    assert_eq!(seen(&response).1, "true");
    assert!(matches!(connection.wait_closed().1, Closing::Notified));
    assert_eq!(gateway.upstream.requests().len(), 0);
}

#[test]
fn trailers_and_later_chunks_arrive_as_they_come() {
    let played = PlayedUpstream::start();
    let gateway = Gateway::builder()
        .policy("main", POLICY)
        .section(&format!("[cluster.played]\nendpoints = [\"{}\"]", played.address()))
        .host(
            Host::new(&[HOST])
                .policy("main")
                .route("path = \"/{rest...}\"", "policy_body_max = \"8B\"\ncluster = \"played\""),
        )
        .start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/", &[("transfer-encoding", "chunked")]);
    connection.send(&[head, b"5\r\nhello\r\n5;x=y\r\nworld\r\n".to_vec()].concat()).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    assert_eq!(upstream.exactly(20), "5\r\nhello\r\n5\r\nworld\r\n");
    connection.send(b"1\r\n!\r\n0\r\nx-checksum: ok\r\n\r\n").unwrap();
    assert_eq!(upstream.exactly(27), "1\r\n!\r\n0\r\nx-checksum: ok\r\n\r\n");
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n");
    let response = connection.response().unwrap();
    assert_eq!((response.status, seen(&response).0, seen(&response).1), (204, "8", "true"));
}

#[test]
fn the_policy_in_force_when_the_body_is_there_decides() {
    let other = POLICY.replace("deny == true", "deny == false");
    for (before, after, status) in [(POLICY, &*other, 403), (&*other, POLICY, 200)] {
        let gateway = builder(before).start();
        for framing in [("content-length", "15"), ("transfer-encoding", "chunked")] {
            let mut connection = gateway.connect();
            let head = connection.head("POST", "/", &[JSON, framing]);
            let body = b"{\"deny\": false}";
            let body = if framing.1 == "chunked" { chunked(body, 4) } else { body.to_vec() };
            connection.send(&[&head, &body[..7]].concat()).unwrap();
            gateway.change(|gateway| {
                gateway.pki.write("policies/main/policy.rego", after);
            });
            connection.send(&body[7..]).unwrap();
            let response = connection.response().unwrap();
            assert_eq!((response.status, seen(&response).0), (status, "15"), "{framing:?}");
            gateway.change(|gateway| {
                gateway.pki.write("policies/main/policy.rego", before);
            });
        }
    }
}

#[test]
fn a_client_that_is_revoked_while_its_body_arrives_is_not_served() {
    let gateway = without_tickets(builder(POLICY)).stateful().start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let mut connection = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    let head = connection.head("POST", "/late", &[("expect", "100-continue"), ("content-length", "5")]);
    connection.send(&head).unwrap();
    // Once it is told to go on, its body is being read.
    connection.tcp().peek(&mut [0]).unwrap();
    connection.send(b"he").unwrap();
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    connection.send(b"llo").unwrap();
    let answer = connection.response();
    assert!(answer.as_ref().map_or(true, |response| response.status == 403), "{answer:?}");
    assert_eq!(gateway.metric("ringward_policy_decisions_total", &[]), 0.0);
    assert!(!gateway.has_reached("/late"));
}

#[test]
fn bodies_that_are_held_have_a_limit_together() {
    let gateway = without_tickets(Gateway::builder())
        .server("policy_body_memory_max = \"4MiB\"")
        .policy("main", POLICY)
        .host(Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", "policy_body_max = \"1MiB\""))
        .start();
    let begin = || {
        let mut connection = gateway.connect();
        let head = connection.head("POST", "/", &[("content-length", "1048576")]);
        connection.send(&[head, vec![b'x'; 1_048_575]].concat()).unwrap();
        connection
    };
    // Two have room, with the copies that their policy will look at.
    let mut waiting: Vec<Connection> = (0..6).map(|_| begin()).collect();
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "policy_body_memory")], 4.0);
    let refused = waiting.iter().position(is_readable).unwrap();
    let response = waiting.remove(refused).response().unwrap();
    assert_eq!((response.status, response.headers.get("retry-after")), (503, Some("1")));
    // Small ones that are there are served all the same; and when the others end, there is room again.
    assert_eq!(gateway.connect().post("/", b"x").unwrap().status, 200);
    drop(waiting);
    gateway.wait_for_no_connections();
    for _ in 0..6 {
        let mut connection = begin();
        connection.send(b"x").unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, seen(&response).0), (200, "1048576"));
    }
}

/// Who has had a large body looked at and goes on slowly, or with a byte of the next request, keeps no room for it.
#[test]
fn what_is_given_back_is_not_kept() {
    let kinds = [("chunked", "trickles"), ("chunked", "pipelines"), ("content-length", "pipelines")];
    for (framing, then) in kinds {
        let gateway = Gateway::builder()
            .server("policy_body_memory_max = \"4MiB\"")
            // Longer than is waited: connections that end for their slowness would give back what they should not have kept.
            .limits("body_bytes_max = \"10MiB\", header_timeout = \"5m\", body_timeout = \"5m\"")
            .policy("main", POLICY)
            .host(
                Host::new(&[HOST])
                    .policy("main")
                    .route("path = \"/{rest...}\"", "policy_body_max = \"1MiB\""),
            )
            .start();
        let begin = |nth: u32| {
            let body = vec![b'x'; (1 << 20) - usize::from(then == "pipelines")];
            let mut connection = gateway.connect();
            let (field, mut body) = match framing {
                "chunked" => (("transfer-encoding", "chunked"), chunked(&body, 10_000)),
                _ => (("content-length", "1048575"), body),
            };
            if then == "trickles" {
                // More than is looked at, and no end.
                body.truncate(body.len() - 5);
                body.extend(b"1\r\nx\r\n");
            } else {
                body.extend(b"G");
            }
            let head = connection.head("POST", "/", &[field]);
            connection.send(&[head, body].concat()).unwrap();
            gateway.wait_for_metric("ringward_policy_decisions_total", &[], f64::from(nth));
            if then == "trickles" {
                connection.send(b"1\r\nx\r\n").unwrap();
            } else {
                assert_eq!(connection.response().unwrap().status, 200);
            }
            connection
        };
        // What the first ones leave is what is reused.
        let mut open: Vec<Connection> = (1..=4).map(&begin).collect();
        let before = gateway.process.resident_bytes();
        open.extend((5..=44).map(&begin));
        eventually(DEADLINE, &format!("{framing} {then}: memory is given back"), || {
            gateway.process.resident_bytes() < before + (40 << 20)
        });
        assert_eq!(open.len(), 44);
    }
}

#[test]
fn a_route_allows_what_its_policy_reads() {
    let check = |policy: &str, keys: &str| {
        let builder = Gateway::builder()
            .policy("main", policy)
            .host(Host::new(&[HOST]).policy("main").route("path = \"/up\"", keys));
        builder.check()
    };
    let refused = check(POLICY, "");
    assert!(
        refused.contains(
            "the policy \"main\" reads the bodies of requests, which the route \"up\" does not allow"
        ) && refused.contains("add policy_body_max = \"64KiB\""),
        "{refused}"
    );
    let whole = "package ringward.authz\ndefault decision := false\ndecision if { r := input.request; r.method == \"GET\" }\n";
    let unseen =
        "the policy \"main\" is given the whole input, and on the route \"up\" the bodies in it are empty";
    assert!(check(whole, "").contains(unseen));
    assert!(!check(whole, "policy_body_max = \"64KiB\"").contains(unseen));
    let allowed = check(POLICY, "policy_body_max = \"64KiB\"");
    assert!(allowed.contains("no errors") && !allowed.contains("policy_body_max"), "{allowed}");
    assert!(
        allowed.contains(
            "decisions are not cached: `input.request.body` is read, and bodies are not compared ("
        ) && allowed.contains("policy.rego:"),
        "{allowed}"
    );
    let useless =
        check("package ringward.authz\n\ndefault decision := true\n", "policy_body_max = \"64KiB\"");
    assert!(useless.contains("warning: `policy_body_max` of the route \"up\" has no effect"), "{useless}");
}

/// A policy that names no body and is handed the whole input does not keep a route from being served, and is told that there is
/// something that it did not see.
#[test]
fn a_policy_that_reads_everything_is_told_of_a_body_that_it_may_not_see() {
    let policy = r#"package ringward.authz

default decision := false

decision := {"allowed": true, "response_headers_to_add": {"x-body": json.marshal(part(input))}}

part(document) := document.request.body
"#;
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    let post = connection.request("POST", "/", &[JSON], br#"{"a": 1}"#).unwrap();
    assert_eq!(post.headers.get("x-body"), Some(r#"{"size":0,"text":"","truncated":true}"#));
    for nothing in [&[][..], &[("content-length", "0")]] {
        let response = connection.request("GET", "/", nothing, b"").unwrap();
        assert_eq!(response.headers.get("x-body"), Some(r#"{"size":0,"text":"","truncated":false}"#));
    }
}
