use std::net::Ipv6Addr;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::closed::{ClosedSets, PolicyOutcome};
use crate::events::RevocationEvent;
use crate::record::tests::connection;
use crate::record::{ObservedFacts, PeerFacts, TenantFacts};
use crate::registry::{Limits, Registry};

const TIME_UNIX_NS: u64 = 1_790_000_000_123_999_999;

fn formatted(registry: &Registry, record: &Record) -> String {
    let mut out = Vec::new();
    Formatter::default().line(&mut out, &registry.names(), record);
    String::from_utf8(out).expect("lines are UTF-8 whatever went in")
}

fn registry() -> Registry {
    Registry::new(ClosedSets::default(), Limits::default())
}

fn escaped(text: &[u8]) -> String {
    let mut out = Vec::new();
    escape(&mut out, text);
    String::from_utf8(out).unwrap()
}

#[test]
fn access_line_golden() {
    let registry = registry();
    let listener = registry.listener("edge");
    let mut facts = ConnectionFacts::new(0xab_cdef, 1, listener, (Ipv6Addr::LOCALHOST, 4_433).into());
    facts.server_name = Some("api.example.com".into());
    facts.peer = Some(PeerFacts {
        name: "spiffe://example.com/orders".into(),
        fingerprint: "00ff".into(),
        issuer: "CN=Partner CA,O=\"Partner, Inc\"".into(),
        serial: "0a".into(),
        not_after_unix: 1_800_000_000,
        tenant: Some(TenantFacts { name: "partner".into(), identity: "orders \"1\"".into() }),
    });
    facts.resumed = Some(Resumed::Ticket);
    facts.auth_time_unix = Some(1_789_990_000);
    let mut record = AccessRecord::new(Arc::new(facts), TIME_UNIX_NS);
    record.set(TextField::RequestId, "r-1");
    record.set(TextField::Method, "GET");
    record.set(TextField::Host, "api.example.com");
    record.set(TextField::Path, "/orders/7");
    record.set(TextField::Rule, "partner_a");
    record.set(TextField::Reason, "role reader");
    record.set(TextField::Metadata, r#"{"team":"a"}"#);
    record.route = Some(registry.route(listener, "orders"));
    record.policy = Some(registry.policy("main"));
    record.decision = Some(PolicyOutcome::Allowed);
    record.cached = Some(false);
    record.cluster = Some(registry.cluster("orders"));
    record.mirror = Some(registry.cluster("orders"));
    record.upstream = Some(SocketAddr::from(([10, 0, 0, 11], 8_080)).into());
    (record.attempts, record.status, record.generation) = (1, 200, 4);
    record.grpc_status = Some(GrpcStatus::NotFound);
    (record.policy_ns, record.upstream_connect_ns, record.upstream_first_byte_ns) = (15_999, 0, 2_000_000);
    (record.duration_ns, record.received_bytes, record.sent_bytes) = (2_500_000, 0, 128);
    let golden = concat!(
        r#"{"time":"2026-09-21T14:13:20.123Z","level":"info","msg":"request","connection.id":"0000000000abcdef","#,
        r#""worker":1,"listener":"edge","downstream.addr":"[::1]:4433","tls.server_name":"api.example.com","#,
        r#""tls.resumed":"ticket","tls.auth_time":"2026-09-21T11:26:40.000Z","#,
        r#""peer.id":"spiffe://example.com/orders","peer.fingerprint":"00ff","#,
        r#""peer.issuer":"CN=Partner CA,O=\"Partner, Inc\"","peer.serial":"0a","#,
        r#""peer.not_after":"2027-01-15T08:00:00.000Z","peer.tenant":"partner","#,
        r#""peer.identity":"orders \"1\"","request.id":"r-1","method":"GET","#,
        r#""host":"api.example.com","path":"/orders/7","protocol":"HTTP/1.1","route":"orders","status":200,"#,
        r#""grpc_status":"not_found","#,
        r#""policy":"main","decision":"allowed","cached":false,"rule":"partner_a","reason":"role reader","#,
        r#""metadata":{"team":"a"},"cluster":"orders","mirror":"orders","#,
        r#""upstream.addr":"10.0.0.11:8080","attempts":1,"received_bytes":0,"sent_bytes":128,"duration_us":2500,"#,
        r#""policy_us":15,"upstream_first_byte_us":2000,"generation":4}"#,
        "\n"
    );
    let record = Record::Access(Box::new(record));
    assert_eq!(formatted(&registry, &record), golden);
    assert_eq!(formatted(&registry, &record), golden, "the reused part is the same");
}

#[test]
fn a_client_that_is_only_observed_shows_under_names_of_its_own() {
    let observed = |refused: Option<&'static str>, detail: Option<Excerpt>| {
        let mut facts = ConnectionFacts::new(1, 0, registry().listener("edge"), ([192, 0, 2, 1], 1).into());
        facts.resumption_declined = Some("unknown_session");
        facts.observed = Some(Box::new(ObservedFacts {
            name: "CN=admin".into(),
            fingerprint: "00ff".into(),
            refused,
            detail,
        }));
        let record = AccessRecord::new(Arc::new(facts), 0);
        formatted(&registry(), &Record::Access(Box::new(record)))
    };
    let line = observed(Some("unknown_issuer"), Some("issued by CN=Mallory".into()));
    let golden = concat!(
        r#","tls.resumption_declined":"unknown_session","observed.id":"CN=admin","observed.fingerprint":"00ff","#,
        r#""observed.verdict":"unknown_issuer","observed.detail":"issued by CN=Mallory","protocol":"#,
    );
    assert!(line.contains(golden), "{line}");
    assert!(!line.contains("\"peer."), "{line}");
    assert!(observed(None, None).contains(r#""observed.verdict":"admitted","protocol":"#));
}

#[test]
fn an_exchange_refused_early_has_only_what_is_known() {
    let mut record = AccessRecord::new(connection(1), 0);
    (record.status, record.flag) = (400, Some("bad_framing"));
    let line = formatted(&registry(), &Record::Access(Box::new(record)));
    let golden = concat!(
        r#"{"time":"1970-01-01T00:00:00.000Z","level":"info","msg":"request","connection.id":"0000000000000001","#,
        r#""worker":3,"listener":"other","downstream.addr":"192.0.2.7:40001","protocol":"HTTP/1.1","status":400,"#,
        r#""flag":"bad_framing","received_bytes":0,"sent_bytes":0,"duration_us":0,"generation":0}"#,
        "\n"
    );
    assert_eq!(line, golden);
}

#[test]
fn handshake_line_golden() {
    let registry = registry();
    let record = HandshakeRecord {
        time_unix_ns: TIME_UNIX_NS,
        connection_id: 2,
        worker: 0,
        listener: registry.listener("edge"),
        downstream: ([192, 0, 2, 1], 1).into(),
        proxy: Some(([192, 0, 2, 2], 2).into()),
        server_name: Some("api.example.com".into()),
        reason: "expired",
        detail: Some("notAfter was 2026-01-01".into()),
        presented_subject: Some("CN=\u{1b}[2Jevil".into()),
        presented_fingerprint: None,
        tenant: Some("acme".into()),
        resumed: None,
        resumption_declined: Some("revoked"),
        observed: Some("expired"),
        duration_ns: 1_500,
        generation: 9,
    };
    let golden = concat!(
        r#"{"time":"2026-09-21T14:13:20.123Z","level":"info","msg":"handshake failed","#,
        r#""connection.id":"0000000000000002","worker":0,"listener":"edge","downstream.addr":"192.0.2.1:1","proxy.addr":"192.0.2.2:2","#,
        r#""tls.server_name":"api.example.com","reason":"expired","detail":"notAfter was 2026-01-01","#,
        r#""presented.subject":"CN=\u001b[2Jevil","peer.tenant":"acme","tls.resumption_declined":"revoked","#,
        r#""observed.verdict":"expired","duration_us":1,"generation":9}"#,
        "\n"
    );
    assert_eq!(formatted(&registry, &Record::Handshake(Box::new(record))), golden);
}

#[test]
fn event_line_golden() {
    let record = EventRecord {
        time_unix_ns: TIME_UNIX_NS,
        level: Level::Error,
        message: "reload failed",
        fields: vec![("file", "/etc/ringward/a\"b.toml".into())],
    };
    let golden = concat!(
        r#"{"time":"2026-09-21T14:13:20.123Z","level":"error","msg":"reload failed","#,
        r#""file":"/etc/ringward/a\"b.toml"}"#,
        "\n"
    );
    assert_eq!(formatted(&registry(), &Record::Event(Box::new(record))), golden);
}

#[test]
fn revocation_lines_golden() {
    let event = |expires_unix| RevocationEvent {
        kind: "identity",
        value: "spiffe://example.com/orders".into(),
        reason: "key on a lost laptop".into(),
        by: "uid 0".into(),
        expires_unix,
    };
    let table = [
        (
            EventRecord::revoked(TIME_UNIX_NS, event(Some(1_800_000_000)), 17),
            concat!(
                r#""level":"info","msg":"revoked","kind":"identity","value":"spiffe://example.com/orders","#,
                r#""reason":"key on a lost laptop","by":"uid 0","expires":"2027-01-15T08:00:00.000Z","#,
                r#""connections":"17"}"#
            ),
        ),
        (
            EventRecord::revocation_removed(TIME_UNIX_NS, event(None)),
            concat!(
                r#""level":"info","msg":"revocation removed","kind":"identity","#,
                r#""value":"spiffe://example.com/orders","reason":"key on a lost laptop","by":"uid 0"}"#
            ),
        ),
        (
            EventRecord::revocation_suspended(TIME_UNIX_NS, "acme", 1_800_000_000),
            concat!(
                r#""level":"warn","msg":"revocation suspended","tenant":"acme","#,
                r#""until":"2027-01-15T08:00:00.000Z"}"#
            ),
        ),
        (
            EventRecord::revocation_resumed(TIME_UNIX_NS, "acme"),
            r#""level":"info","msg":"revocation no longer suspended","tenant":"acme"}"#,
        ),
        (
            EventRecord::connection_ended(TIME_UNIX_NS, &connection(10), "revoked", "on the deny list"),
            concat!(
                r#""level":"info","msg":"client no longer admitted, connection ended","#,
                r#""connection.id":"000000000000000a","downstream.addr":"192.0.2.7:40001","#,
                r#""reason":"revoked","detail":"on the deny list"}"#
            ),
        ),
    ];
    for (record, golden) in table {
        let line = formatted(&registry(), &Record::Event(Box::new(record)));
        assert_eq!(line, format!("{{\"time\":\"2026-09-21T14:13:20.123Z\",{golden}\n"));
    }
}

#[test]
fn every_member_is_documented() {
    let documentation = include_str!("../../../../deploy/manual/logs.md");
    let writer = include_str!("../json.rs");
    let events = include_str!("../events.rs");
    let written = regex::Regex::new(
        r#"line\.(?:text|some|excerpt|field|number|taken|id|address|displayed|time)\(\s*(?:record, )?"([a-z_.]+)""#,
    );
    let written = written.unwrap();
    let members: Vec<&str> =
        written.captures_iter(writer).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(members.len() > 40 && members.contains(&"request.id") && members.contains(&"peer.tenant"));
    let event_members = regex::Regex::new(r#"\("([a-z]+)", "#).unwrap();
    let of_events = event_members.captures_iter(events).map(|found| found.get(1).unwrap().as_str());
    for member in members.into_iter().chain(of_events).chain(["time", "level", "msg"]) {
        assert!(documentation.contains(&format!("`{member}`")), "logs.md does not say what `{member}` is");
    }
}

#[test]
fn escapes_golden() {
    for (text, escaped_text) in [
        (&b"/plain?~"[..], "/plain?~"),
        (b"", ""),
        (b"a\"b\\c", r#"a\"b\\c"#),
        (b"\n\r\t\0\x08\x1b\x7f", r"\n\r\t\u0000\u0008\u001b\u007f"),
        ("é漢🦀".as_bytes(), "é漢🦀"),
        ("\u{85}\u{9b}".as_bytes(), r"\u0085\u009b"),
        ("\u{2028}\u{202e}\u{2066}\u{feff}".as_bytes(), r"\u2028\u202e\u2066\ufeff"),
        (b"\xff", "\u{fffd}"),
        (b"a\xc3(\xe2\x82", "a\u{fffd}(\u{fffd}"),
        (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\",\"status\":200,\"x\":\"", r#"\",\"status\":200,\"x\":\""#),
    ] {
        assert_eq!(escaped(text), escaped_text, "{text:?}");
    }
}

#[test]
fn every_byte_stays_inside_its_string() {
    let registry = registry();
    for first in 0..=255_u8 {
        for second in [b'"', b'\\', b'a', 0x80, 0xff, b'\n'] {
            let mut record = AccessRecord::new(connection(1), 0);
            record.set(TextField::Path, [b'/', first, second]);
            let line = formatted(&registry, &Record::Access(Box::new(record)));
            assert_eq!(line.matches('\n').count(), 1, "one line each");
            assert!(!line.trim_end().contains(char::is_control), "{first:02x} {second:02x}");
            let parsed: Value = serde_json::from_str(&line).unwrap();
            let expected = String::from_utf8_lossy(&[b'/', first, second]).into_owned();
            assert_eq!(parsed["path"], Value::String(expected), "{first:02x} {second:02x}");
        }
    }
}

#[test]
fn a_path_that_was_cut_says_so() {
    let mut record = AccessRecord::new(connection(1), 0);
    let long = "é".repeat(TextField::Path.bytes_max());
    record.set(TextField::Path, format!("/{long}"));
    let line = formatted(&registry(), &Record::Access(Box::new(record)));
    let parsed: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["path_cut"], Value::Bool(true));
    assert!(parsed["path"].as_str().unwrap().ends_with("é\u{fffd}"), "cut inside a character");
}

#[test]
fn metadata_that_was_cut_is_left_out() {
    let mut record = AccessRecord::new(connection(1), 0);
    let object = format!(r#"{{"a":"{}"}}"#, "x".repeat(TextField::Metadata.bytes_max()));
    record.set(TextField::Metadata, object);
    let line = formatted(&registry(), &Record::Access(Box::new(record)));
    assert!(serde_json::from_str::<Value>(&line).unwrap().get("metadata").is_none(), "{line}");
}

#[test]
fn a_member_is_never_given_twice() {
    let mut record = AccessRecord::new(connection(1), 0);
    for field in [TextField::RequestId, TextField::Method, TextField::Host, TextField::Path, TextField::Rule]
    {
        record.set(field, "x");
    }
    record.set(TextField::Reason, "x".repeat(10_000));
    let line = formatted(&registry(), &Record::Access(Box::new(record)));
    let key = regex::Regex::new(r#"[{,]"([a-z_.]+)":"#).unwrap();
    let mut keys: Vec<&str> = key.captures_iter(&line).map(|found| found.get(1).unwrap().as_str()).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "{line}");
}

#[test]
fn times_are_rfc_3339_with_milliseconds() {
    let mut second = Second::default();
    for (unix_ns, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (999_999_999, "1970-01-01T00:00:00.999Z"),
        (1_000_000_000, "1970-01-01T00:00:01.000Z"),
        (951_782_399_050_000_000, "2000-02-28T23:59:59.050Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (4_102_444_800_000_000_000, "2100-01-01T00:00:00.000Z"),
        (u64::MAX, "2554-07-21T23:34:33.709Z"),
    ] {
        let mut out = Vec::new();
        second.write(&mut out, unix_ns);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
