//! Either side vanishing, in every phase.

use std::net::Shutdown;

use ringward_testkit::{
    DEADLINE, Gate, Http2Script, Http2Upstream, Pattern, PlayedHttp2, eventually, flags, kind,
};

use super::caller::{BOTH, Caller, Speaks, Streams};
use super::support::{Gateway, PlayedUpstream, on_both_drivers};
use super::{CANCEL, REFUSED_STREAM};

on_both_drivers!(
    a_client_that_vanishes_takes_its_stream_along_and_nothing_else,
    an_upstream_that_vanishes_is_told_from_one_that_ends,
);

/// Where a client goes away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    BeforeTheBody,
    WithinTheBody,
    BeforeTheHead,
    WithinTheResponse,
}

const PHASES: [Phase; 4] =
    [Phase::BeforeTheBody, Phase::WithinTheBody, Phase::BeforeTheHead, Phase::WithinTheResponse];

fn a_client_that_vanishes_takes_its_stream_along_and_nothing_else(driver: &str) {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "").io(driver).start();
    upstream.on("/stuck", Http2Script::new().read_body().wait(&Gate::new()));
    upstream.on("/half", Http2Script::new().head(200, &[], false).data("half", false).wait(&Gate::new()));
    upstream.on("/big", Http2Script::new().head(200, &[], false).send_pattern(Pattern::new(10_000_000)));
    // A stream that stays, to show that the others' end does not concern it.
    let gate = Gate::new();
    upstream.on("/stays", Http2Script::new().wait(&gate).respond(200, &[], "still here"));
    let mut stays = Streams::new(&gateway, &[]);
    let staying = stays.begin("GET", "/stays", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    let mut gone = 0;
    for speaks in BOTH {
        for phase in PHASES {
            for path in if phase == Phase::WithinTheResponse { &["/half", "/big"][..] } else { &["/stuck"] } {
                let requests = upstream.requests().len();
                let client = begin(&gateway, speaks, phase, path);
                upstream.wait_for_requests(requests + 1, DEADLINE);
                assert_eq!(upstream.resets().len(), gone, "{speaks:?} {phase:?} {path}");
                leave(client);
                gone += 1;
                eventually(
                    DEADLINE,
                    &format!("the stream is called off: {speaks:?} {phase:?} {path}"),
                    || upstream.resets().len() == gone,
                );
            }
        }
    }
    assert_eq!(upstream.resets(), vec![CANCEL; gone]);
    gate.open();
    assert_eq!(stays.finish(staying).body, b"still here");
    assert_eq!(upstream.connections_accepted(), 1);
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// A client that has come so far.
fn begin(gateway: &Gateway, speaks: Speaks, phase: Phase, path: &str) -> Caller {
    let mut caller = Caller::new(gateway, speaks);
    let has_body = matches!(phase, Phase::BeforeTheBody | Phase::WithinTheBody);
    match &mut caller {
        Caller::Http1(connection) => {
            let fields = if has_body { &[("content-length", "100000")][..] } else { &[] };
            let head = connection.head(if has_body { "POST" } else { "GET" }, path, fields);
            connection.send(&head).unwrap();
            if phase == Phase::WithinTheBody {
                connection.send(&[b'x'; 50_000]).unwrap();
            }
            if phase == Phase::WithinTheResponse {
                connection.tcp().peek(&mut [0]).unwrap();
            }
        }
        Caller::Http2(streams) => {
            let fields = if has_body { &[("content-length", "100000")][..] } else { &[] };
            let stream = streams.begin(if has_body { "POST" } else { "GET" }, path, fields, !has_body);
            if phase == Phase::WithinTheBody {
                streams.send(stream, &[b'x'; 50_000], false);
            }
            if phase == Phase::WithinTheResponse {
                streams.frozen.push(stream);
                streams.wait(stream, |answer| !answer.body.is_empty());
            }
        }
    }
    caller
}

fn leave(client: Caller) {
    match client {
        Caller::Http1(connection) => connection.reset(),
        // The stream alone: its connection stays for as long as the test holds it.
        Caller::Http2(mut streams) => {
            streams.http2.send(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).unwrap();
            streams.http2.send(kind::PING, 0, 0, &[0; 8]).unwrap();
            while streams.http2.wait_for(kind::PING).flags & flags::ACK == 0 {}
        }
    }
}

fn an_upstream_that_vanishes_is_told_from_one_that_ends(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").io(driver).start();
    let length = [(":status", "200"), ("content-length", "10")];
    let until_end = [(":status", "200")];
    // What it sends, how it leaves, and why a POST ends: with 502, or once the head has been sent in a way that is plainly no
    // end.
    type Heads<'a> = &'a [&'a [(&'a str, &'a str)]];
    let rows: [(&str, Heads<'_>, &str, bool, &str); 8] = [
        ("before the head", &[], "", false, "upstream_closed"),
        ("before the head, by reset", &[], "", true, "upstream_reset"),
        ("within the head", &[], "\0\0\x10\x01\x04", false, "upstream_closed"),
        ("after an interim head", &[&[(":status", "103")]], "", false, "upstream_closed"),
        ("before the body", &[&length], "", false, "upstream_truncated"),
        ("within the body", &[&length], "\0\0\x05\0\0\0\0\0\x01hello", false, "upstream_truncated"),
        (
            "within a body without a length",
            &[&until_end],
            "\0\0\x05\0\0\0\0\0\x01hello",
            false,
            "upstream_closed",
        ),
        ("within it, by reset", &[&until_end], "\0\0\x05\0\0\0\0\0\x01hello", true, "upstream_reset"),
    ];
    for speaks in BOTH {
        for (index, (name, heads, bytes, by_reset, flag)) in rows.iter().enumerate() {
            let path = format!("/{speaks:?}/{index}");
            let served = std::thread::scope(|scope| {
                let served = scope.spawn(|| Caller::new(&gateway, speaks).request("POST", &path, &[], b""));
                let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
                let stream = upstream.wait_for(kind::HEADERS).stream;
                heads.iter().for_each(|fields| upstream.head(stream, fields, false));
                std::io::Write::write_all(upstream.stream(), bytes.as_bytes()).unwrap();
                if *by_reset {
                    // The client has everything before the connection is gone.
                    upstream.send(kind::PING, 0, 0, &[0; 8]);
                    while upstream.wait_for(kind::PING).flags & flags::ACK == 0 {}
                    socket2::SockRef::from(&*upstream.stream())
                        .set_linger(Some(std::time::Duration::ZERO))
                        .unwrap();
                } else {
                    upstream.stream().shutdown(Shutdown::Write).unwrap();
                    upstream.wait_for_end();
                }
                drop(upstream);
                served.join().unwrap()
            });
            let may_be_cut = heads.iter().any(|fields| fields[0].1 == "200");
            let is_cut = may_be_cut && served.reset.is_some() && !served.ended;
            assert!(is_cut || served.status == 502, "{speaks:?}, {name}: {served:?}");
            let record = gateway.wait_for_record("path", path);
            assert_eq!(record["flag"], *flag, "{speaks:?}, {name}: {record}");
        }
    }
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// Resets by the upstream, before a head and behind it.
#[test]
fn a_stream_that_the_upstream_resets_ends_alone() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").start();
    let mut warm = Streams::new(&gateway, &[]);
    let first = warm.begin("GET", "/", &[], true);
    let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
    let head = upstream.wait_for(kind::HEADERS);
    upstream.head(head.stream, &[(":status", "204")], true);
    assert_eq!(warm.finish(first).status, 204);
    for speaks in BOTH {
        for behind in [false, true] {
            let path = format!("/{speaks:?}/{behind}");
            let served = std::thread::scope(|scope| {
                let served = scope.spawn(|| Caller::new(&gateway, speaks).get(&path));
                let stream = upstream.wait_for(kind::HEADERS).stream;
                if behind {
                    upstream.head(stream, &[(":status", "200")], false);
                    upstream.send(kind::DATA, 0, stream, b"half");
                }
                upstream.send(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
                served.join().unwrap()
            });
            // Nothing may have been sent yet of a response that is reset at once.
            let is_cut = behind && served.reset.is_some() && !served.ended;
            assert!(is_cut || served.status == 502, "{speaks:?} {served:?}");
            let record = gateway.wait_for_record("path", path);
            assert_eq!(record["flag"], "upstream_reset", "{record}");
        }
    }
}

/// An upstream may say that it has not processed what it has begun to answer. The client would get a second head.
#[test]
fn what_was_answered_in_part_is_not_sent_again() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "connect_timeout = \"1s\"").start();
    for speaks in BOTH {
        for by_goaway in [false, true] {
            let path = format!("/{speaks:?}/{by_goaway}");
            let served = std::thread::scope(|scope| {
                let served = scope.spawn(|| Caller::new(&gateway, speaks).get(&path));
                let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
                let stream = upstream.wait_for(kind::HEADERS).stream;
                upstream.head(stream, &[(":status", "200"), ("content-length", "100")], false);
                upstream.send(kind::DATA, 0, stream, b"begun");
                // What has arrived is on its way to the client before the next frame arrives.
                upstream.send(kind::PING, 0, 0, &[0; 8]);
                while upstream.wait_for(kind::PING).flags & flags::ACK == 0 {}
                if by_goaway {
                    upstream.send(kind::GOAWAY, 0, 0, &[0; 8]);
                } else {
                    upstream.send(kind::RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes());
                }
                let served = served.join().unwrap();
                let _ = upstream.stream().shutdown(Shutdown::Both);
                served
            });
            assert!(served.reset.is_some() && !served.ended, "{speaks:?} {by_goaway} {served:?}");
            let record = gateway.wait_for_record("path", path);
            assert_eq!((&record["flag"], &record["attempts"]), (&"upstream_unprocessed".into(), &1.into()));
        }
    }
}
