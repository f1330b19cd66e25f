//! Answers of a server: which are decisions, and how many are none.

use std::time::Duration;

use ringward_testkit::{DEADLINE, Script, Upstream, eventually};

use super::{QUESTIONS, asking, undecided};

const INTERIM: &str = "HTTP/1.1 102 Processing\r\n\r\n";
/// So many of them may come before an answer.
const INTERIM_MAX: usize = 16;

/// Responses of a server that are no answers, and how the question is counted then.
fn no_answers() -> Vec<(&'static str, Script, &'static str)> {
    let good = r#"{"result":true}"#;
    let status = |status: u16| Script::new().read_body().respond(status, &[], good);
    let body = |body: &str| Script::new().read_body().respond(200, &[], body);
    let bytes = |bytes: &str| Script::new().read_body().send(bytes).close();
    let chunks = |chunks: &[&str]| Script::new().read_body().respond_chunked(200, &[], chunks, &[]);
    let large = format!("{{\"result\":true,\"x\":\"{}\"}}", "x".repeat(2000));
    let blanks = " ".repeat(50);
    let many = [&["{\"result\":true"], &[&*blanks; 30][..], &["}"]].concat();
    vec![
        ("an-evaluation-that-failed", status(500), "invalid"),
        ("bad-request", status(400), "invalid"),
        ("not-authorised", status(401), "invalid"),
        ("not-found", status(404), "invalid"),
        ("elsewhere", status(302), "invalid"),
        ("created", status(201), "invalid"),
        ("nothing", Script::new().read_body().send("HTTP/1.1 204 No Content\r\n\r\n").close(), "invalid"),
        ("partial", status(206), "invalid"),
        ("empty", body(""), "invalid"),
        ("no-object", body("true"), "invalid"),
        ("no-json", body("<html>"), "invalid"),
        ("cut-json", body(r#"{"result":true"#), "invalid"),
        ("two-answers", body(r#"{"result":true}{"result":true}"#), "invalid"),
        ("two-results", body(r#"{"result":false,"result":true}"#), "invalid"),
        ("rounded", body(r#"{"result":true,"x":0.1234567890123456789}"#), "invalid"),
        ("deep", body(&format!("{{\"result\":true,\"x\":{}{}}}", "[".repeat(99), "]".repeat(99))), "invalid"),
        ("too-large", body(&large), "invalid"),
        ("too-many-chunks", chunks(&many), "invalid"),
        ("no-http", bytes("hello"), "closed"),
        ("no-http-line", bytes("hello\r\n\r\n"), "invalid"),
        ("only-json", bytes(good), "closed"),
        ("no-length", bytes(&format!("HTTP/1.1 200 OK\r\n\r\n{good}")), "invalid"),
        (
            "two-lengths",
            bytes(&format!("HTTP/1.1 200 OK\r\ncontent-length: 15\r\ncontent-length: 15\r\n\r\n{good}")),
            "invalid",
        ),
        (
            "length-and-chunks",
            bytes(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 15\r\ntransfer-encoding: chunked\r\n\r\n{good}"
            )),
            "invalid",
        ),
        (
            "bad-chunk",
            bytes(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n{good}\r\n0\r\n\r\n")),
            "invalid",
        ),
        (
            "large-head",
            bytes(&format!(
                "HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 15\r\n\r\n{good}",
                "x".repeat(20_000)
            )),
            "invalid",
        ),
        ("closed", bytes(""), "closed"),
        ("reset", Script::new().read_body().reset(), "closed"),
        ("cut-head", bytes("HTTP/1.1 200 OK\r\ncontent-le"), "closed"),
        ("cut-body", bytes(&format!("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{good}")), "closed"),
        (
            "cut-chunks",
            bytes(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nf\r\n{good}\r\n")),
            "closed",
        ),
        (
            "too-many-interim",
            Script::new().read_body().send(INTERIM.repeat(INTERIM_MAX + 1)).respond(200, &[], good),
            "invalid",
        ),
        ("only-interim", bytes("HTTP/1.1 100 Continue\r\n\r\n"), "closed"),
        // Answers of OPA that are no decisions.
        ("null", body(r#"{"result":null}"#), "answered"),
        ("text", body(r#"{"result":"true"}"#), "answered"),
        ("number", body(r#"{"result":1}"#), "answered"),
        ("list", body(r#"{"result":[true]}"#), "answered"),
        ("package", body(r#"{"result":{"decision":true}}"#), "answered"),
        ("unknown", body(r#"{"result":{"allowed":true,"more":1}}"#), "answered"),
        ("words", body(r#"{"result":{"allowed":"true"}}"#), "answered"),
        ("identity", body(r#"{"result":{"allowed":true,"headers":{"client-cert":"x"}}}"#), "answered"),
        (
            "split",
            body("{\"result\":{\"allowed\":true,\"headers\":{\"x-a\":\"1\\r\\nx-b: 2\"}}}"),
            "answered",
        ),
    ]
}

#[test]
fn what_is_not_plainly_a_decision_is_none() {
    let opa = Upstream::start();
    let keys = ", answer_bytes_max = \"1KiB\", failures_to_open = 1000000";
    let gateway = asking(&opa.address().to_string(), keys).start();
    let mut connection = gateway.connect();
    for (name, script, outcome) in no_answers() {
        let before = gateway.metric(QUESTIONS, &[("outcome", outcome)]);
        opa.on("*", script);
        undecided(&gateway, &mut connection, &format!("/{name}"));
        eventually(DEADLINE, &format!("{name} is counted as {outcome}"), || {
            gateway.metric(QUESTIONS, &[("outcome", outcome)]) == before + 1.0
        });
    }
    assert_eq!(gateway.reached(), Vec::<String>::new());
}

#[test]
fn a_decision_may_come_in_several_forms() {
    let opa = Upstream::start();
    let gateway = asking(&opa.address().to_string(), "").start();
    let mut connection = gateway.connect();
    let long = format!("{{\"result\":true,\"metrics\":\"{}\"}}", "m".repeat(100_000));
    let good = r#"{"result":true}"#;
    for (name, script) in [
        ("long", Script::new().read_body().respond(200, &[], &long)),
        (
            "chunks",
            Script::new().read_body().respond_chunked(
                200,
                &[],
                &["{\"result\"", ":tr", "ue}"],
                &[("x-t", "1")],
            ),
        ),
        (
            "interim",
            Script::new()
                .read_body()
                .send("HTTP/1.1 100 Continue\r\n\r\n")
                .send(INTERIM.repeat(INTERIM_MAX - 1))
                .respond(200, &[], good),
        ),
        (
            "bytewise",
            Script::new()
                .read_body()
                .trickle(format!("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{good}"), Duration::ZERO),
        ),
        (
            "old",
            Script::new()
                .read_body()
                .send(format!("HTTP/1.0 200 OK\r\ncontent-length: 15\r\n\r\n{good}"))
                .close(),
        ),
    ] {
        opa.on("*", script);
        assert_eq!(connection.get(&format!("/{name}")).unwrap().status, 200, "{name}");
    }
    // Bytes behind an answer are no answer to the next question.
    let surplus = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{{\"result\":false}}HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{good}"
    );
    for body in [
        surplus.clone(),
        surplus.replace(
            "content-length: 16\r\n\r\n{\"result\":false}",
            "transfer-encoding: chunked\r\n\r\n10\r\n{\"result\":false}\r\n0\r\n\r\n",
        ),
    ] {
        opa.on("*", Script::new().read_body().send(&body));
        for _ in 0..3 {
            let before = opa.connections_accepted();
            assert_eq!(connection.get("/surplus").unwrap().status, 403, "{body}");
            assert_eq!(connection.get("/surplus").unwrap().status, 403, "{body}");
            assert!(opa.connections_accepted() > before, "the connection is not used again");
        }
    }
}
