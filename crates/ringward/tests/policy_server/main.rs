//! Policies that an OPA server decides: what it is asked, what its answers mean, and that nothing else ever lets a request through.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod failures;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use ringward_testkit::{Connection, DEADLINE, Echo, Gate, Leaf, Script, Upstream, eventually};
use serde_json::{Value, json};

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream, on_both_drivers};

on_both_drivers!(
    the_server_decides,
    a_server_behind_a_unix_socket_decides,
    a_client_that_is_revoked_during_the_question_is_not_served,
);

const QUESTIONS: &str = "ringward_policy_server_questions_total";
const DECISION: &str = "/v1/data/ringward/authz/decision";

/// Whose one policy `main` is decided by this server. `keys` are those of `server`. Unless they say otherwise there is much time
/// to answer, so that nothing is late on a busy machine.
fn asking(server: &str, keys: &str) -> Builder {
    Gateway::builder().section(&policy(server, keys)).host(Host::new(&[HOST]).policy("main"))
}

/// As [`asking`], with bodies of this size in the questions.
fn asking_with_bodies(server: &str, keys: &str, body_max: &str) -> Builder {
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/{rest...}\"", &format!("policy_body_max = \"{body_max}\""));
    Gateway::builder().section(&policy(server, keys)).host(host)
}

fn policy(server: &str, keys: &str) -> String {
    let timeout = if keys.contains("timeout") { "" } else { ", timeout = \"10s\"" };
    format!("[policy.main]\nengine = \"opa\"\nserver = {{ address = \"{server}\"{keys}{timeout} }}\n")
}

/// An OPA server whose answer to everything is this.
fn opa(answer: &str) -> Upstream {
    let opa = Upstream::start();
    says(&opa, answer);
    opa
}

fn says(opa: &Upstream, answer: &str) {
    opa.on("*", Script::new().read_body().respond(200, &[("content-type", "application/json")], answer));
}

/// Waits until so many questions have come to this end.
#[track_caller]
fn wait_for(gateway: &Gateway, outcome: &str, count: usize) {
    gateway.wait_for_metric(QUESTIONS, &[("policy", "main"), ("outcome", outcome)], count as f64);
}

/// A request without a decision about it: 500, and the upstream hears nothing of it.
#[track_caller]
fn undecided(gateway: &Gateway, connection: &mut Connection, path: &str) -> Value {
    let response = connection.get(path).unwrap();
    assert_eq!((response.status, response.text()), (500, "internal server error\n"), "{path}");
    assert!(!gateway.has_reached(path), "{path}");
    let record = gateway.wait_for_record("path", path);
    assert_eq!(record["flag"], "policy_error", "{record}");
    record
}

fn the_server_decides(driver: &str) {
    let opa = opa(r#"{"result":{"allowed":true,"rule":"readers","headers":{"x-team":"red"}}}"#);
    let gateway = asking(&opa.address().to_string(), "").io(driver).start();
    let mut connection = gateway.connect();
    let response = connection.get("/allowed").unwrap();
    assert_eq!(response.status, 200);
    let upstream = gateway.upstream.requests();
    assert_eq!(upstream[0].headers.get("x-team"), Some("red"));
    let record = gateway.wait_for_record("path", "/allowed");
    assert_eq!((&record["decision"], &record["rule"]), (&"allowed".into(), &"readers".into()), "{record}");
    assert_eq!(record["cached"], false);

    says(&opa, r#"{"result":{"allowed":false,"http_status":451,"body":"no","headers":{"x-why":"law"}}}"#);
    let response = connection.get("/denied").unwrap();
    assert_eq!((response.status, response.text(), response.headers.get("x-why")), (451, "no", Some("law")));

    // OPA's answer about a rule without a value.
    says(&opa, "{}");
    assert_eq!(connection.get("/undefined").unwrap().status, 403);
    assert_eq!(gateway.wait_for_record("path", "/undefined")["flag"], "policy_undefined");
    says(&opa, r#"{"decision_id":"1","result":true}"#);
    assert_eq!(connection.get("/true").unwrap().status, 200);
    says(&opa, r#"{"result":false}"#);
    // Nothing that was said before is said again.
    for path in ["/true", "/allowed"] {
        assert_eq!(connection.get(path).unwrap().status, 403);
    }
    assert_eq!(gateway.reached(), ["/allowed", "/true"]);

    let questions = opa.requests();
    assert!(questions.iter().all(|question| question.method == "POST" && question.target == DECISION));
    assert_eq!((questions.len(), opa.connections_accepted()), (6, 1), "on one connection");
    assert_eq!(opa.errors(), Vec::<String>::new());
    wait_for(&gateway, "answered", 6);
    gateway.wait_for_metric(
        "ringward_policy_server_answer_duration_seconds_count",
        &[("policy", "main")],
        6.0,
    );
    gateway.wait_for_metric("ringward_policy_decisions_total", &[("outcome", "denied")], 3.0);
    assert_eq!(gateway.metric("ringward_policy_evaluation_duration_seconds_count", &[]), 0.0);
    assert_eq!(gateway.metric("ringward_policy_cache_active", &[]), 0.0);
}

/// The question, byte for byte as the server gets it.
#[test]
fn the_question_is_the_whole_input_as_json() {
    let played = PlayedUpstream::start();
    let gateway = asking(&played.address().to_string(), "").start();
    let mut connection = gateway.connect();
    let fields =
        [("authorization", "Bearer x"), ("cookie", "a=b"), ("client-cert", "forged"), ("x-a", "é\"\\")];
    let head = connection.head("GET", "/orders/17?page=2", &fields);
    connection.send(&head).unwrap();
    let mut server = played.accept();
    let head = server.head();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], format!("POST {DECISION} HTTP/1.1"));
    assert!(lines.contains(&&*format!("host: {}", played.address())), "{head}");
    assert!(lines.contains(&"content-type: application/json"), "{head}");
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let question: Value = serde_json::from_str(&server.exactly(length.parse().unwrap())).unwrap();
    assert_eq!(question.as_object().unwrap().keys().collect::<Vec<_>>(), ["input"]);
    let input = &question["input"];
    assert_eq!(input["request"]["path"], "/orders/17");
    assert_eq!(input["request"]["query"], json!({ "page": ["2"] }));
    assert_eq!(input["client"]["verified"], true);
    assert_eq!(input["client"]["subject"]["common_name"], "partner-a");
    let headers = &input["request"]["headers"];
    assert_eq!((&headers["authorization"], &headers["cookie"]), (&"Bearer x".into(), &"a=b".into()));
    assert_eq!(headers["x-a"], "é\"\\");
    assert!(headers["client-cert"].is_null(), "what a client forges is nobody's input: {headers}");
    server.send("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"result\":true}");
    assert_eq!(connection.response().unwrap().status, 200);
}

#[test]
fn a_body_is_in_the_question_where_the_route_allows_it() {
    let played = PlayedUpstream::start();
    let gateway = asking_with_bodies(&played.address().to_string(), "", "1KiB").start();
    let mut connection = gateway.connect();
    let head =
        connection.head("POST", "/orders", &[("content-type", "application/json"), ("content-length", "8")]);
    connection.send(&[&head, &b"{\"a\": 1}"[..]].concat()).unwrap();
    let mut server = played.accept();
    let head = server.head();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let question: Value = serde_json::from_str(&server.exactly(length.parse().unwrap())).unwrap();
    assert_eq!(question["input"]["request"]["body"]["json"], json!({ "a": 1 }), "{question}");
    server.send("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"result\":true}");
    let echo = Echo::of(&connection.response().unwrap());
    assert_eq!((echo.target.as_str(), echo.body_bytes), ("/orders", 8), "and it goes on to the upstream");
}

/// A Unix socket in front of a TCP server.
fn unix_socket(path: &Path, server: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (to_client, from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                pass(from_server, to_client, |to: &UnixStream| to.shutdown(Shutdown::Write))
            });
            thread::spawn(move || pass(client, server, |to: &TcpStream| to.shutdown(Shutdown::Write)));
        }
    });
}

fn pass<W: io::Write>(mut from: impl io::Read, mut to: W, end: impl Fn(&W) -> io::Result<()>) {
    // Either side may have gone first.
    let _ = io::copy(&mut from, &mut to);
    let _ = end(&to);
}

fn a_server_behind_a_unix_socket_decides(driver: &str) {
    let opa = opa(r#"{"result":true}"#);
    let builder = asking("unix:opa.sock", "").io(driver);
    // It is not there yet, which keeps nobody from starting.
    let socket = builder.pki().path().join("opa.sock");
    let gateway = builder.start();
    let mut connection = gateway.connect();
    let record = undecided(&gateway, &mut connection, "/early");
    assert!(record["reason"].as_str().unwrap().contains("cannot be reached: entity not found"), "{record}");
    unix_socket(&socket, opa.address());
    for _ in 0..3 {
        assert_eq!(connection.get("/").unwrap().status, 200);
    }
    assert_eq!(opa.connections_accepted(), 1, "it is kept");
    assert_eq!(opa.requests()[0].headers.get("host"), Some("localhost"));
    says(&opa, r#"{"result":false}"#);
    assert_eq!(connection.get("/").unwrap().status, 403);
    // A server that starts anew: what was kept is found out to be dead.
    opa.close_connections();
    says(&opa, r#"{"result":true}"#);
    eventually(DEADLINE, "the server has closed", || opa.connections_open() == 0);
    assert_eq!(connection.get("/").unwrap().status, 200);
}

/// Others are decided about while somebody waits, by the same policy on the same worker.
#[test]
fn a_slow_answer_holds_nobody_else_up() {
    let played = PlayedUpstream::start();
    let gateway = asking(&played.address().to_string(), "").start();
    let (mut slow, mut quick) = (gateway.connect(), gateway.connect());
    let head = slow.head("GET", "/slow", &[]);
    slow.send(&head).unwrap();
    let mut first = played.accept();
    first.head();
    let head = quick.head("GET", "/quick", &[]);
    quick.send(&head).unwrap();
    let mut second = played.accept();
    second.head();
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"result\":true}");
    assert_eq!(quick.response().unwrap().status, 200);
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"result\":false}");
    assert_eq!(slow.response().unwrap().status, 403);
    assert_eq!(gateway.reached(), ["/quick"]);
}

fn a_client_that_is_revoked_during_the_question_is_not_served(driver: &str) {
    let (opa, gate) = (Upstream::start(), Gate::new());
    opa.on("*", Script::new().read_body().wait(&gate).respond(200, &[], r#"{"result":true}"#));
    let gateway = asking(&opa.address().to_string(), "").io(driver).stateful().start();
    let leaf = gateway.root.issue(&Leaf::client("client"));
    let mut waiting = gateway.client().identity(&leaf).connect(gateway.edge).unwrap();
    let head = waiting.head("GET", "/after", &[]);
    waiting.send(&head).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    let file = gateway.client_files("client", &leaf).chain;
    gateway.ask(&["revoke", "--cert", file.to_str().unwrap(), "--reason", "test"]);
    gate.open();
    let answer = waiting.response();
    assert!(answer.is_err(), "the client is not trusted any more: {answer:?}");
    assert_eq!(gateway.connect().get("/other").unwrap().status, 200, "others are served");
    assert_eq!(gateway.reached(), ["/other"]);
}

/// The policy may have become another one meanwhile: what the old one allowed is asked of the new one.
#[test]
fn a_configuration_that_changes_during_the_question_decides() {
    let (opa, gate) = (Upstream::start(), Gate::new());
    opa.on(DECISION, Script::new().read_body().wait(&gate).respond(200, &[], r#"{"result":true}"#));
    opa.on("/v1/data/strict/decision", Script::new().read_body().respond(200, &[], r#"{"result":false}"#));
    let gateway = asking(&opa.address().to_string(), "").start();
    let mut waiting = gateway.connect();
    let head = waiting.head("GET", "/after", &[]);
    waiting.send(&head).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    gateway.reconfigure("engine = \"opa\"\n", "engine = \"opa\"\nrule = \"data.strict.decision\"\n");
    gate.open();
    assert_eq!(waiting.response().unwrap().status, 403);
    assert_eq!(gateway.reached(), Vec::<String>::new());
}
