//! Upstreams that are away, slow, wrong or lying: the client is told, never misled, and the record says whose fault it was.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ringward_testkit::{ClientError, Closing, DEADLINE, Echo, Gate, Pattern, Script, eventually};

use self::support::{Gateway, HOST, Host, congested, deserted, on_both_drivers};

on_both_drivers!(a_refused_connection_is_502, a_body_shorter_than_promised_does_not_look_complete,);

const ERRORS: &str = "ringward_upstream_errors_total";
const RETRIES: &str = "ringward_upstream_retries_total";

fn a_refused_connection_is_502(driver: &str) {
    let (_socket, nobody) = deserted();
    let gateway = Gateway::builder().io(driver).endpoints(&[nobody], "").start();
    let mut connection = gateway.connect();
    for _ in 0..2 {
        let response = connection.get("/").unwrap();
        assert_eq!((response.status, response.text(), response.keeps_alive()), (502, "bad gateway\n", true));
    }
    let record = gateway.wait_for_record("flag", "upstream_connect");
    assert_eq!((&record["status"], &record["cluster"]), (&502.into(), &"others".into()), "{record}");
    gateway.wait_for_metric(ERRORS, &[("cluster", "others"), ("reason", "upstream_connect")], 2.0);
}

#[test]
fn an_endpoint_that_does_not_take_the_connection_is_504() {
    let (_socket, _waiting, address) = congested();
    let gateway = Gateway::builder().endpoints(&[address], "connect_timeout = \"100ms\"").start();
    let mut connection = gateway.connect();
    let started = Instant::now();
    assert_eq!(connection.get("/").unwrap().status, 504);
    assert!(started.elapsed() >= Duration::from_millis(100));
    gateway.wait_for_metric(ERRORS, &[("reason", "upstream_connect_timeout")], 1.0);
    assert_eq!(connection.get("/").unwrap().status, 504, "and the connection is none the worse");
}

#[test]
fn an_upstream_that_does_not_answer_is_504() {
    let gateway = Gateway::builder().cluster("response_timeout = \"2s\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().read_body().wait(&gate));
    for chunked in [None, Some(false), Some(true)] {
        let mut connection = gateway.connect();
        let response = match chunked {
            None => connection.get("/stuck").unwrap(),
            Some(chunked) => connection.upload("/stuck", Pattern::new(100_000), chunked).unwrap(),
        };
        assert_eq!((response.status, response.text()), (504, "gateway timeout\n"), "{chunked:?}");
    }
    gateway.wait_for_metric(ERRORS, &[("reason", "upstream_timeout")], 3.0);
    gate.open();
    gateway.assert_serves();
}

/// The head has to be there in time; a piece of it now and then is no answer.
#[test]
fn a_head_that_trickles_does_not_extend_the_response_timeout() {
    let gateway = Gateway::builder().cluster("response_timeout = \"300ms\"").start();
    let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(100));
    gateway.upstream.on("/trickle", Script::new().trickle(head, Duration::from_millis(20)));
    assert_eq!(gateway.connect().get("/trickle").unwrap().status, 504);
}

#[test]
fn a_body_that_trickles_is_waited_for() {
    let gateway = Gateway::builder().cluster("response_timeout = \"3s\"").start();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 180\r\n\r\n";
    let body = "0123456789".repeat(18);
    gateway.upstream.on("/trickle", Script::new().send(head).trickle(&body, Duration::from_millis(20)));
    assert_eq!(gateway.connect().get("/trickle").unwrap().text(), body);
}

#[test]
fn a_routes_response_timeout_replaces_the_clusters() {
    let host = Host::new(&[HOST])
        .route("path = \"/quick\"", "response_timeout = \"100ms\"")
        .route("path = \"/patient\"", "");
    let gateway = Gateway::builder().host(host).start();
    let gate = Gate::new();
    for path in ["/quick", "/patient"] {
        gateway.upstream.on(path, Script::new().wait(&gate).respond(200, &[], "late"));
    }
    let mut patient = gateway.connect();
    let head = patient.head("GET", "/patient", &[]);
    patient.send(&head).unwrap();
    assert_eq!(gateway.connect().get("/quick").unwrap().status, 504);
    gate.open();
    assert_eq!(patient.response().unwrap().text(), "late");
}

#[test]
fn a_request_that_timed_out_is_not_sent_again() {
    let gateway = Gateway::builder().cluster("response_timeout = \"3s\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().wait(&gate));
    let mut connection = gateway.connect();
    // So that the next request finds a kept connection: only such a one can be stale, and this one is not, it is slow.
    assert_eq!(connection.get("/").unwrap().status, 200);
    assert_eq!(connection.get("/stuck").unwrap().status, 504);
    gateway.wait_for_metric(ERRORS, &[("reason", "upstream_timeout")], 1.0);
    assert_eq!(gateway.metric(RETRIES, &[]), 0.0);
    assert_eq!(gateway.upstream.requests().len(), 2, "the first, and the slow one once");
    gate.open();
}

#[test]
fn an_upstream_that_stalls_in_its_body_does_not_look_complete() {
    let gateway = Gateway::builder().cluster("response_timeout = \"2s\"").start();
    let gate = Gate::new();
    for (path, framing) in
        [("/length", "content-length: 20"), ("/chunked", "transfer-encoding: chunked"), ("/close", "x: y")]
    {
        let script =
            Script::new().send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\n12345\r\n")).wait(&gate);
        gateway.upstream.on(path, script);
        let mut connection = gateway.connect();
        let error = connection.get(path).unwrap_err();
        assert!(matches!(error, ClientError::Cut | ClientError::Reset), "{path}: {error}");
        let record = gateway.wait_for_record("path", path);
        assert_eq!(
            (&record["flag"], &record["status"]),
            (&"upstream_timeout".into(), &200.into()),
            "{record}"
        );
    }
    gate.open();
}

fn a_body_shorter_than_promised_does_not_look_complete(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let lies = [
        ("/length", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "upstream_truncated"),
        ("/nothing", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "upstream_truncated"),
        ("/chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nshort", "upstream_closed"),
        (
            "/no-last-chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "upstream_closed",
        ),
        (
            "/no-trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\nx: y\r\n",
            "upstream_closed",
        ),
    ];
    for (path, message, flag) in lies {
        gateway.upstream.on(path, Script::new().send(message).close());
        let mut connection = gateway.connect();
        let head = connection.head("GET", path, &[]);
        connection.send(&head).unwrap();
        // RFC 9112 §8: neither the framing nor TLS may make an incomplete message look complete.
        let (received, closing) = connection.wait_closed();
        assert!(matches!(closing, Closing::Cut | Closing::Reset), "{path}: {closing:?}");
        let text = String::from_utf8_lossy(&received).into_owned();
        let record = gateway.wait_for_record("path", path);
        assert_eq!((&record["flag"], &record["status"]), (&flag.into(), &200.into()), "{record}");
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{path}: status 200 was never sent: {text:?}"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !body.contains("0\r\n"), "{path}: {text}");
        // To a client of HTTP/1.0 a chunked body ends with the connection: only how that ends can tell.
        let mut connection = gateway.connect();
        connection.send(format!("GET {path} HTTP/1.0\r\nhost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        let (_, closing) = connection.wait_closed();
        assert!(matches!(closing, Closing::Cut | Closing::Reset), "{path} for HTTP/1.0: {closing:?}");
    }
    gateway.wait_for_closed("exchange", 2 * lies.len());
    gateway.assert_serves();
}

/// The record says what the client saw, also when the body turns out to be malformed before a byte of the head has left.
#[test]
fn a_malformed_body_right_behind_its_head_is_recorded_as_the_client_saw_it() {
    let gateway = Gateway::start();
    for (path, body) in [("/size", "x\r\n"), ("/second", "5\r\nshort\r\nx\r\n"), ("/end", "2\r\nno end")] {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        gateway.upstream.on(path, Script::new().send(format!("{head}{body}")).close());
        let mut connection = gateway.connect();
        let request = connection.head("GET", path, &[("connection", "close")]);
        connection.send(&request).unwrap();
        let (received, closing) = connection.wait_closed();
        let seen = match String::from_utf8_lossy(&received).get(9..12) {
            Some(status) => status.parse().unwrap(),
            None => 0,
        };
        // A 502 is an answer like any other; anything else must not look complete.
        assert!(
            seen == 502 || matches!(closing, Closing::Cut | Closing::Reset),
            "{path}: {seen} {closing:?}"
        );
        let record = gateway.wait_for_record("path", path);
        assert_eq!(
            (&record["flag"], &record["status"]),
            (&"upstream_body_malformed".into(), &seen.into()),
            "{record}"
        );
    }
}

#[test]
fn a_body_longer_than_promised_is_cut_off_and_its_connection_is_given_up() {
    let gateway = Gateway::start();
    let surplus =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    gateway.upstream.on("/surplus", Script::new().send(surplus));
    gateway.upstream.on("/head", Script::new().send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"));
    gateway
        .upstream
        .on("/none", Script::new().send("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\nevil"));
    let mut connection = gateway.connect();
    for (number, path) in ["/surplus", "/none"].into_iter().enumerate() {
        let response = connection.get(path).unwrap();
        assert_eq!(response.text(), if path == "/none" { "" } else { "ok" });
        assert!(response.keeps_alive());
        assert_eq!(gateway.upstream.connections_accepted(), number + 1);
    }
    let head = connection.head("HEAD", "/head", &[]);
    connection.send(&head).unwrap();
    assert_eq!(connection.response_to_head().unwrap().headers.get("content-length"), Some("4"));
    assert_eq!(Echo::of(&connection.get("/next").unwrap()).target, "/next");
    assert_eq!(gateway.upstream.connections_accepted(), 4);
}

#[test]
fn a_malformed_response_head_is_502() {
    let gateway = Gateway::start();
    let heads = [
        "garbage\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : z\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 0\r\n\r\n",
    ];
    let mut connection = gateway.connect();
    for (number, head) in heads.into_iter().enumerate() {
        let path = format!("/{number}");
        gateway.upstream.on(&path, Script::new().send(head).close());
        let response = connection.get(&path).unwrap();
        assert_eq!((response.status, response.text()), (502, "bad gateway\n"), "{head:?}");
    }
    gateway.wait_for_metric(ERRORS, &[("reason", "upstream_head_malformed")], heads.len() as f64);
    gateway.assert_serves();
}

#[test]
fn an_endless_response_head_is_502() {
    let gateway = Gateway::builder().limits("head_bytes_max = \"8KiB\", fields_max = 50").start();
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(100_000));
    gateway.upstream.on("/endless", Script::new().send(endless).close());
    let fields: String = (0..51).map(|number| format!("x-{number}: a\r\n")).collect();
    gateway
        .upstream
        .on("/many", Script::new().send(format!("HTTP/1.1 204 No Content\r\n{fields}\r\n")).close());
    let fields: String = (0..50).map(|number| format!("x-{number}: a\r\n")).collect();
    gateway
        .upstream
        .on("/enough", Script::new().send(format!("HTTP/1.1 204 No Content\r\n{fields}\r\n")).close());
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/endless").unwrap().status, 502);
    assert_eq!(connection.get("/many").unwrap().status, 502);
    assert_eq!(connection.get("/enough").unwrap().status, 204);
}

#[test]
fn an_upstream_that_breaks_off_without_an_answer_is_502() {
    let gateway = Gateway::start();
    gateway.upstream.on("/close", Script::new().close());
    gateway.upstream.on("/reset", Script::new().reset());
    gateway.upstream.on("/part", Script::new().send("HTTP/1.1 200 OK\r\nconte").close());
    for path in ["/close", "/reset", "/part"] {
        // On a fresh connection, and on one that was used before.
        for warm in [false, true] {
            let mut connection = gateway.connect();
            gateway.upstream.close_connections();
            eventually(DEADLINE, "all are closed", || gateway.upstream.connections_open() == 0);
            if warm {
                assert_eq!(connection.get("/warm").unwrap().status, 200);
            }
            assert_eq!(connection.get(path).unwrap().status, 502, "{path}, warm {warm}");
            assert_eq!(connection.upload(path, Pattern::new(100_000), false).unwrap().status, 502, "{path}");
        }
    }
}

/// The time limits of the client are the client's: an upstream may take what `response_timeout` gives it.
#[test]
fn an_upstream_that_pauses_longer_than_a_client_may_is_waited_for() {
    let gateway = Gateway::builder().limits("body_timeout = \"200ms\", header_timeout = \"200ms\"").start();
    let gate = Gate::new();
    gateway.upstream.on(
        "/events",
        Script::new().send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").wait(&gate).send("later"),
    );
    gateway.upstream.on(
        "/hints",
        Script::new().send("HTTP/1.1 103 Early Hints\r\n\r\n").wait(&gate).respond(200, &[], "ok"),
    );
    gateway.upstream.on(
        "/chunks",
        Script::new()
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .wait(&gate)
            .send("5\r\nlater\r\n0\r\n\r\n"),
    );
    let paths = ["/events", "/hints", "/chunks"];
    let mut connections = paths.map(|_| gateway.connect());
    for (connection, path) in connections.iter_mut().zip(paths) {
        let head = connection.head("GET", path, &[]);
        connection.send(&head).unwrap();
        // The first piece has arrived: from now on it is the upstream's turn.
        connection.tcp().peek(&mut [0]).unwrap();
    }
    // Who stalls in a body now is thrown out after `body_timeout`; that is the clock of this test.
    for _ in 0..2 {
        let mut stalling = gateway.connect();
        let head = stalling.head("POST", "/", &[("content-length", "100000")]);
        stalling.send(&head).unwrap();
        assert_eq!(stalling.response().unwrap().status, 408);
    }
    gate.open();
    for (connection, path) in connections.iter_mut().zip(paths) {
        let response = connection.response().map_err(|error| format!("{path}: {error}")).unwrap();
        assert_eq!(response.text(), if path == "/hints" { "ok" } else { "firstlater" });
    }
}

#[test]
fn an_upload_to_an_upstream_that_takes_nothing_is_504() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::builder()
        .limits("body_bytes_max = \"unlimited\"")
        .endpoints(&[listener.local_addr().unwrap()], "response_timeout = \"300ms\"")
        .start();
    let mut connection = gateway.connect();
    // More than the buffers of both kernels hold, so that the gateway cannot send it all.
    let response = connection.upload("/", Pattern::new(64 << 20), false).unwrap();
    assert_eq!(response.status, 504);
}

#[test]
fn an_upstream_that_falls_silent_after_an_interim_response_is_given_up() {
    let gateway = Gateway::builder().cluster("response_timeout = \"3s\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/hints", Script::new().send("HTTP/1.1 103 Early Hints\r\n\r\n").wait(&gate));
    let response = gateway.connect().get("/hints").unwrap();
    assert_eq!((&response.interim[..], response.status), (&[103][..], 504));
}
