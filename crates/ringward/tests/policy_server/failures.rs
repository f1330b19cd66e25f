//! Servers that are away, slow or overrun: nothing passes, and they are left alone until they answer again.

use std::io::Write;
use std::thread;
use std::time::Duration;

use ringward_testkit::{Connection, DEADLINE, Gate, Script, Upstream, eventually};
use serde_json::Value;

use super::support::{PlayedUpstream, deserted, on_both_drivers};
use super::{asking, asking_with_bodies, opa, says, undecided, wait_for};

on_both_drivers!(
    a_question_ends_at_its_deadline,
    a_connection_that_dies_is_replaced_before_an_answer_has_begun,
    a_large_question_is_asked_again_whole,
    a_large_question_that_is_refused_unread_is_no_silence,
    a_server_that_refuses_a_large_question_and_stays_is_there,
    interim_responses_without_end_hold_nobody_else_up,
);

const CIRCUITS: &str = "ringward_policy_server_circuits_open";
const OPENED: &str = "policy server does not answer, requests are refused without asking it for now";
const CLOSED: &str = "policy server answers again";
const ALLOWED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"result\":true}";

fn a_question_ends_at_its_deadline(driver: &str) {
    let (opa, gate) = (Upstream::start(), Gate::new());
    let keys = ", timeout = \"150ms\", failures_to_open = 1000000";
    let gateway = asking(&opa.address().to_string(), keys).io(driver).start();
    let mut connection = gateway.connect();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    for (name, script) in [
        ("silent", Script::new().read_body().wait(&gate).respond(200, &[], r#"{"result":true}"#)),
        ("unread", Script::new().wait(&gate)),
        ("half", Script::new().read_body().send(head).wait(&gate)),
        // Each byte comes soon after the last one.
        (
            "dripping",
            Script::new().read_body().trickle(head.to_owned() + &" ".repeat(9000), Duration::from_millis(1)),
        ),
        (
            "dripping-head",
            Script::new()
                .read_body()
                .trickle("HTTP/1.1 100 Continue\r\n\r\n".repeat(500), Duration::from_millis(1)),
        ),
    ] {
        opa.on("*", script);
        let record = undecided(&gateway, &mut connection, &format!("/{name}"));
        assert!(record["reason"].as_str().unwrap().contains("did not answer within 150ms"), "{record}");
    }
    wait_for(&gateway, "timeout", 5);
    gate.open();
    // An answer that comes too late is nobody's: it belongs to a connection that was given up.
    eventually(DEADLINE, "all connections are closed", || opa.connections_open() == 0);
    says(&opa, r#"{"result":false}"#);
    // On a busy machine an answer may be late again.
    eventually(DEADLINE, "it is asked again", || connection.get("/denied").unwrap().status == 403);
    assert_eq!(gateway.reached(), Vec::<String>::new());
}

#[test]
fn a_server_that_is_away_denies_everything_and_keeps_nobody_from_starting() {
    let (_socket, nobody) = deserted();
    let gateway = asking(&nobody.to_string(), ", failures_to_open = 1000000").start();
    let mut connection = gateway.connect();
    let record = undecided(&gateway, &mut connection, "/");
    assert_eq!((&record["decision"], &record["policy"]), (&"server".into(), &"main".into()), "{record}");
    assert!(record["reason"].as_str().unwrap().contains("cannot be reached: connection refused"), "{record}");
    wait_for(&gateway, "unreachable", 1);
    gateway.wait_for_metric(
        "ringward_policy_decisions_total",
        &[("policy", "main"), ("outcome", "server")],
        1.0,
    );
    // Nor from loading another configuration, whose server is asked from then on.
    let opa = opa(r#"{"result":true}"#);
    gateway.reconfigure(&nobody.to_string(), &opa.address().to_string());
    assert_eq!(connection.get("/there").unwrap().status, 200);
    gateway.reconfigure("engine = \"opa\"\n", "engine = \"opa\"\nrule = \"data.other.allow\"\n");
    assert_eq!(connection.get("/ruled").unwrap().status, 200);
    assert_eq!(opa.requests()[1].target, "/v1/data/other/allow");

    let certificate = gateway.client_files("partner", &gateway.partner).chain;
    let check = gateway.ask(&["check", "--cert", certificate.to_str().unwrap()]);
    let server = format!("policy main: data.other.allow of the server at {}\n", opa.address());
    assert!(check.contains(&server), "{check}");
    assert!(check.contains("GET /rest: asks a server"), "{check}");
    assert_eq!(opa.requests().len(), 2, "a check asks nobody");
    let summary = gateway.ask_json(&["check", "--json"]);
    assert_eq!(summary["summary"]["policies"][0]["server"], opa.address().to_string());
    let refused = gateway.run(&["policy", "check"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && text.contains("policy `main` is not here: a server decides"),
        "{text}"
    );
}

#[test]
fn a_circuit_opens_after_failures_in_a_row_and_closes_by_a_probe() {
    let opa = opa(r#"{"result":true}"#);
    let gateway = asking(&opa.address().to_string(), ", failures_to_open = 3, open_for = \"1h\"").start();
    let mut connection = gateway.connect();
    let fails = || Script::new().read_body().close();
    let mut number = 0;
    let mut ask = |expected: u16| {
        number += 1;
        assert_eq!(connection.get(&format!("/{number}")).unwrap().status, expected, "{number}");
    };
    // Neither failures with answers between them, nor evaluations that fail for what somebody asks.
    for _ in 0..3 {
        opa.on("*", fails());
        ask(500);
        ask(500);
        opa.on("*", Script::new().read_body().respond(500, &[], r#"{"code":"internal_error"}"#));
        ask(500);
        ask(500);
        ask(500);
        ask(500);
    }
    says(&opa, r#"{"result":true}"#);
    ask(200);
    opa.on("*", fails());
    (0..3).for_each(|_| ask(500));
    gateway.wait_for_metric(CIRCUITS, &[("policy", "main")], 1.0);
    let asked = opa.requests().len();
    says(&opa, r#"{"result":true}"#);
    (0..5).for_each(|_| ask(500));
    assert_eq!(opa.requests().len(), asked, "nobody asks");
    wait_for(&gateway, "circuit_open", 5);
    let opened = gateway.messages(OPENED);
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!((&opened[0]["level"], &opened[0]["policy"]), (&"WARN".into(), &"main".into()), "{opened:?}");

    // Another circuit for another configuration of the server: it is asked, and is found out about anew.
    gateway.reconfigure("open_for = \"1h\"", "open_for = \"10ms\"");
    gateway.wait_for_metric(CIRCUITS, &[("policy", "main")], 0.0);
    opa.on("*", fails());
    (0..3).for_each(|_| ask(500));
    gateway.wait_for_metric(CIRCUITS, &[("policy", "main")], 1.0);
    // Probes that fail change nothing, and are not told of.
    let asked = opa.requests().len();
    eventually(DEADLINE, "three probes have failed", || {
        ask(500);
        opa.requests().len() >= asked + 3
    });
    assert_eq!(gateway.metric(CIRCUITS, &[("policy", "main")]), 1.0);
    assert_eq!((gateway.messages(OPENED).len(), gateway.messages(CLOSED).len()), (2, 0));
    says(&opa, r#"{"result":true}"#);
    let mut connection = gateway.connect();
    eventually(DEADLINE, "it is asked again", || connection.get("/healed").unwrap().status == 200);
    gateway.wait_for_metric(CIRCUITS, &[("policy", "main")], 0.0);
    eventually(DEADLINE, "it is told", || gateway.messages(CLOSED).len() == 1);
    for _ in 0..5 {
        assert_eq!(connection.get("/healed").unwrap().status, 200);
    }
    assert_eq!((gateway.messages(OPENED).len(), gateway.messages(CLOSED).len()), (2, 1));
}

fn a_connection_that_dies_is_replaced_before_an_answer_has_begun(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = asking(&played.address().to_string(), "").io(driver).start();
    let mut connection = gateway.connect();
    send(&mut connection, "/first");
    let mut first = played.accept();
    first.head();
    first.send(ALLOWED);
    assert_eq!(connection.response().unwrap().status, 200);

    // It dies under the question, before a byte of an answer.
    send(&mut connection, "/again");
    first.head();
    drop(first);
    let mut second = played.accept();
    second.head();
    second.send(ALLOWED);
    assert_eq!(connection.response().unwrap().status, 200);

    // An answer that has begun is not asked for again.
    send(&mut connection, "/begun");
    second.head();
    second.send("HTTP/1.1 2");
    drop(second);
    assert_eq!(connection.response().unwrap().status, 500);
    assert!(played.accept_waiting().is_none());

    // Nor is anything asked a third time.
    send(&mut connection, "/fresh");
    let mut third = played.accept();
    third.head();
    drop(third);
    assert_eq!(connection.response().unwrap().status, 500);
    assert!(played.accept_waiting().is_none());

    // What comes unasked on a connection that is kept is no answer to the next question.
    send(&mut connection, "/kept");
    let mut fourth = played.accept();
    fourth.head();
    fourth.send(ALLOWED);
    assert_eq!(connection.response().unwrap().status, 200);
    fourth.send(ALLOWED);
    send(&mut connection, "/unasked");
    let mut fifth = played.accept();
    fifth.head();
    fifth.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    assert_eq!(connection.response().unwrap().status, 403);
    assert!(!gateway.has_reached("/unasked"));
}

fn a_large_question_is_asked_again_whole(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = asking_with_bodies(&played.address().to_string(), "", "1MiB").io(driver).start();
    let mut connection = gateway.connect();
    send(&mut connection, "/first");
    let mut first = played.accept();
    first.head();
    first.send(ALLOWED);
    assert_eq!(connection.response().unwrap().status, 200);

    send_large(&mut connection, "/large");
    first.head();
    drop(first);
    let mut second = played.accept();
    let head = second.head();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let question: Value = serde_json::from_str(&second.exactly(length.parse().unwrap())).unwrap();
    assert_eq!(question["input"]["request"]["body"]["text"], large().as_str());
    second.send(ALLOWED);
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(gateway.reached(), ["/first", "/large"]);
}

fn a_large_question_that_is_refused_unread_is_no_silence(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = asking_with_bodies(&played.address().to_string(), "", "1MiB").io(driver).start();
    let (mut large, mut small) = (gateway.connect(), gateway.connect());
    // As many as open a circuit, were they failures. Not even what allows is a decision about a question that was not read.
    for number in 0..10 {
        let path = format!("/large-{number}");
        send_large(&mut large, &path);
        let mut server = played.accept();
        server.head();
        let (answer, status) = match number % 2 {
            0 => ("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n", 413),
            _ => (ALLOWED, 200),
        };
        server.send(answer);
        drop(server);
        assert_eq!(large.response().unwrap().status, 500, "{path}");
        let record = gateway.wait_for_record("path", path.as_str());
        let reason = record["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("it answered with status {status}")), "{record}");
    }
    wait_for(&gateway, "invalid", 10);
    send(&mut small, "/small");
    let mut server = played.accept();
    server.head();
    server.send(ALLOWED);
    assert_eq!(small.response().unwrap().status, 200);
    assert_eq!(gateway.reached(), ["/small"]);
}

/// It says no more until it closes, which is not to be the others' business.
fn a_server_that_refuses_a_large_question_and_stays_is_there(driver: &str) {
    let played = PlayedUpstream::start();
    let keys = ", timeout = \"100ms\", failures_to_open = 2";
    let gateway = asking_with_bodies(&played.address().to_string(), keys, "1MiB").io(driver).start();
    let (mut large, mut small) = (gateway.connect(), gateway.connect());
    let mut staying = Vec::new();
    for number in 0..3 {
        send_large(&mut large, &format!("/large-{number}"));
        let mut server = played.accept();
        server.head();
        server.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
        staying.push(server);
        assert_eq!(large.response().unwrap().status, 500);
    }
    wait_for(&gateway, "timeout", 3);
    // On a busy machine the answer may be late, which is no failure either if it comes at the second attempt.
    send(&mut small, "/small");
    let mut server = played.accept();
    server.head();
    server.send(ALLOWED);
    assert!(small.response().is_ok());
    assert!(
        gateway.wait_for_record("path", "/small")["reason"]
            .as_str()
            .is_none_or(|reason| !reason.contains("did not answer lately"))
    );
}

/// With epoll a read that finds bytes does not wait, so that nothing else runs on the worker, timers included.
fn interim_responses_without_end_hold_nobody_else_up(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = asking(&played.address().to_string(), "").io(driver).start();
    let (mut other, mut flooded) = (gateway.connect(), gateway.connect());
    send(&mut other, "/other");
    let mut others = played.accept();
    others.head();
    send(&mut flooded, "/flooded");
    let mut flooding = played.accept();
    flooding.head();
    let flood = thread::spawn(move || {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        while flooding.stream.write_all(interim.as_bytes()).is_ok() {}
    });
    others.send(ALLOWED);
    assert_eq!(other.response().unwrap().status, 200);
    assert_eq!(flooded.response().unwrap().status, 500);
    flood.join().unwrap();
    let record = gateway.wait_for_record("path", "/flooded");
    assert!(record["reason"].as_str().unwrap().contains("more than 16 interim responses"), "{record}");
    assert_eq!(gateway.reached(), ["/other"]);
}

fn send(connection: &mut Connection, path: &str) {
    let head = connection.head("GET", path, &[]);
    connection.send(&head).unwrap();
}

/// Sends a request whose question is too large for what sockets hold: the proxy is still writing it when the server closes.
fn send_large(connection: &mut Connection, path: &str) {
    let body = large();
    let head = connection.head("POST", path, &[("content-length", &body.len().to_string())]);
    connection.send(&[head, body.into_bytes()].concat()).unwrap();
}

/// Each of its bytes is six in JSON.
fn large() -> String {
    "\u{1}".repeat(1 << 20)
}

#[test]
fn questions_above_the_limit_are_not_asked() {
    let (opa, gate) = (Upstream::start(), Gate::new());
    opa.on("*", Script::new().read_body().wait(&gate).respond(200, &[], r#"{"result":true}"#));
    let keys = ", connections_max = 2, failures_to_open = 1";
    let gateway = asking(&opa.address().to_string(), keys).start();
    let mut waiting = [gateway.connect(), gateway.connect()];
    for connection in &mut waiting {
        let head = connection.head("GET", "/waiting", &[]);
        connection.send(&head).unwrap();
    }
    gate.wait_for_arrivals(2, DEADLINE);
    let mut third = gateway.connect();
    let record = undecided(&gateway, &mut third, "/third");
    assert!(record["reason"].as_str().unwrap().contains("2 questions wait"), "{record}");
    wait_for(&gateway, "busy", 1);
    gate.open();
    for connection in &mut waiting {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    // It says nothing about the server, and places are given back.
    assert_eq!(gateway.metric(CIRCUITS, &[]), 0.0);
    for _ in 0..4 {
        assert_eq!(third.get("/later").unwrap().status, 200);
    }
    assert_eq!(opa.connections_accepted(), 2);
}
