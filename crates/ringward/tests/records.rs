//! The access log: one record per exchange, and what happens when it cannot be written.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{DEADLINE, Gate, Script, eventually};

use self::support::{Gateway, HOST, Host};

#[test]
fn every_exchange_has_one_record_that_says_how_it_went() {
    let host = Host::new(&[HOST]).route("path = \"/orders/{id}\"", "id = \"orders\"");
    let gateway = Gateway::builder().host(host).start();
    let mut connection = gateway.connect();
    assert_eq!(connection.request("POST", "/orders/1?token=secret", &[], b"hello").unwrap().status, 200);
    assert_eq!(connection.get("/none").unwrap().status, 404);
    connection.send(b"bad\r\n\r\n").unwrap();
    assert_eq!(connection.response().unwrap().status, 400);
    eventually(DEADLINE, "three records", || gateway.lines("request").len() == 3);
    let [served, unmatched, refused] = &gateway.lines("request")[..] else { panic!("three records") };

    for (member, value) in [
        ("method", "POST"),
        ("host", HOST),
        ("path", "/orders/1"),
        ("route", "orders"),
        ("cluster", "echo"),
        ("protocol", "HTTP/1.1"),
        ("listener", "edge"),
        ("peer.id", "CN=partner-a"),
        ("tls.server_name", HOST),
    ] {
        assert_eq!(served[member], value, "{member}: {served}");
    }
    assert_eq!((&served["status"], &served["received_bytes"]), (&200.into(), &5.into()), "{served}");
    assert!(served["sent_bytes"].as_u64() > Some(100) && served.get("flag").is_none(), "{served}");
    assert!(!served.to_string().contains("secret"), "queries carry tokens: {served}");
    assert_eq!((&unmatched["status"], &unmatched["flag"]), (&404.into(), &"no_route".into()), "{unmatched}");
    assert_eq!(
        (&refused["status"], &refused["flag"]),
        (&400.into(), &"bad_request_line".into()),
        "{refused}"
    );
    assert_eq!(served["connection.id"], refused["connection.id"]);
    assert_ne!(served["request.id"], unmatched["request.id"]);
}

#[test]
fn what_a_client_writes_stays_within_its_member() {
    let gateway = Gateway::start();
    assert_eq!(gateway.connect().get("/%22,%22status%22:0,%0a%1b[31m").unwrap().status, 400);
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/%22,%22status%22:0,%22x").unwrap().status, 200);
    let record = gateway.wait_for_record("path", "/%22,%22status%22:0,%22x");
    assert_eq!(record["status"], 200);
    // Each line of the log has been read as one object of JSON by then.
    assert_eq!(gateway.lines("request").len(), 2);
}

/// `/dev/full` refuses every byte, as a full disk does.
const FULL: &str = "access = { file = \"/dev/full\" }\nqueue_records = 64";

#[test]
fn with_required_audit_a_request_is_not_served_without_its_record() {
    let gateway = Gateway::builder().log(FULL).log("audit = \"required\"").start();
    let mut connection = gateway.connect();
    let mut served = 0;
    let refused = loop {
        let response = connection.post("/", b"body").unwrap();
        if response.status != 200 {
            break response;
        }
        served += 1;
        assert!(served < 100_000, "all are served although no record can be written");
    };
    assert_eq!((refused.status, refused.text()), (503, "service unavailable\n"));
    assert_eq!(gateway.upstream.requests().len(), served, "what has no record has not reached the upstream");
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "audit_overflow")], 1.0);
    eventually(DEADLINE, "writing has failed", || {
        gateway.metric("ringward_log_write_errors_total", &[]) > 0.0
    });
    // Only the record of the refusal itself is lost.
    gateway.wait_for_metric("ringward_access_records_dropped_total", &[], 1.0);
}

#[test]
fn without_it_records_are_lost_and_counted_and_requests_are_served() {
    let gateway = Gateway::builder().log(FULL).start();
    let mut connection = gateway.connect();
    eventually(DEADLINE, "records are lost", || {
        (0..50).for_each(|_| assert_eq!(connection.get("/").unwrap().status, 200));
        gateway.metric("ringward_access_records_dropped_total", &[]) > 0.0
    });
}

#[test]
fn with_the_log_off_there_are_no_records_but_metrics() {
    let gateway = Gateway::builder().log("access = \"off\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/x", Script::new().wait(&gate).respond(200, &[], ""));
    gate.open();
    assert_eq!(gateway.connect().get("/x").unwrap().status, 200);
    gateway.wait_for_metric(
        "ringward_requests_finished_total",
        &[("route", "all"), ("status_class", "2xx")],
        1.0,
    );
    assert_eq!(gateway.lines("request").len(), 0);
    assert_eq!(gateway.metric("ringward_access_records_written_total", &[]), 0.0);
    // A refused handshake is still explained, beside the messages about the process.
    gateway.anonymous().refusal(gateway.edge);
    gateway
        .process
        .wait_for_line(DEADLINE, |line| line.contains("handshake failed") && line.contains("no_certificate"));
}
