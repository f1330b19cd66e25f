//! How connections are shared, kept, opened and left.

use ringward_testkit::{
    DEADLINE, Gate, Http2Script, Http2Upstream, Http2UpstreamOptions, Pattern, PlayedHttp2, Signal,
    eventually, flags, kind,
};

use super::caller::{BOTH, Caller, Streams};
use super::support::{Gateway, HOST, Host, PlayedUpstream, deserted, on_both_drivers};
use super::{CANCEL, REFUSED_STREAM};

on_both_drivers!(
    many_requests_share_few_connections_and_the_others_wait,
    slow_clients_and_slow_answers_hold_nobody_up,
    an_upstream_that_goes_away_finishes_what_it_has_begun,
    what_was_not_processed_is_sent_again_once,
);

const RETRIES: &str = "ringward_upstream_retries_total";

fn streams(gateway: &Gateway) -> Streams {
    Streams::new(gateway, &[])
}

fn many_requests_share_few_connections_and_the_others_wait(driver: &str) {
    let upstream = Http2Upstream::start_with(Http2UpstreamOptions { max_concurrent_streams: Some(10) });
    let gateway = super::builder(upstream.address(), "connections_max = 2").io(driver).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let begun: Vec<u32> = (0..50).map(|_| clients.begin("GET", "/slow", &[], true)).collect();
    gate.wait_for_arrivals(20, DEADLINE);
    assert_eq!((upstream.requests().len(), upstream.connections_accepted()), (20, 2));
    gate.open();
    for stream in begun {
        assert_eq!(clients.finish(stream).body, b"late");
    }
    assert_eq!((upstream.requests().len(), upstream.connections_accepted()), (50, 2));
}

#[test]
fn who_finds_no_place_in_time_is_told() {
    let upstream = Http2Upstream::start();
    let keys = "connections_max = 1\nstreams_per_connection_max = 1\nconnect_timeout = \"300ms\"";
    let gateway = super::builder(upstream.address(), keys).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let first = clients.begin("GET", "/slow", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    let second = clients.begin("GET", "/second", &[], true);
    assert_eq!(clients.finish(second).status, 504);
    let record = gateway.wait_for_record("path", "/second");
    assert_eq!(record["flag"], "upstream_connect_timeout");
    assert!(record["reason"].as_str().unwrap().contains("streams_per_connection_max"), "{record}");
    // A client that gives up waiting takes nobody's place.
    let third = clients.begin("GET", "/third", &[], true);
    clients.http2.send(kind::RST_STREAM, 0, third, &CANCEL.to_be_bytes()).unwrap();
    let fourth = clients.begin("GET", "/fourth", &[], true);
    gate.open();
    assert_eq!((clients.finish(first).status, clients.finish(fourth).status), (200, 200));
    assert!(upstream.requests().iter().all(|request| request.target != "/second"));
    assert_eq!(upstream.connections_accepted(), 1);
}

fn slow_clients_and_slow_answers_hold_nobody_up(driver: &str) {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "connections_max = 1").io(driver).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    upstream.on("/deaf", Http2Script::new().wait(&gate).read_body().respond(200, &[], "heard"));
    // Whose windows are never given back.
    let mut stuck: Vec<Streams> = (0..20).map(|_| streams(&gateway)).collect();
    for (client, path) in stuck.iter_mut().zip(["/big/1000000", "/big-chunked/1000000"].into_iter().cycle()) {
        let stream = client.begin("GET", path, &[], true);
        client.frozen.push(stream);
        client.wait(stream, |answer| answer.body.len() == 65_535);
    }
    let mut plain = gateway.connect();
    let head = plain.head("GET", "/big/50000000", &[]);
    plain.send(&head).unwrap();
    let mut slow = streams(&gateway);
    let waiting = slow.begin("GET", "/slow", &[], true);
    // Whose body nobody reads, and which leaves something of the window that the upstream has for all bodies.
    let deaf = slow.begin("POST", "/deaf", &[], false);
    slow.send(deaf, &[b'x'; 30_000], false);
    for client in BOTH {
        let mut caller = Caller::new(&gateway, client);
        assert_eq!(caller.get("/big/200000").body, Pattern::new(200_000).to_vec());
        assert_eq!(caller.upload("/up", Pattern::new(200_000), true).echo().body_bytes, 200_000);
    }
    let peak = gateway.peak_resident_bytes();
    assert!(peak < 100 << 20, "{peak} bytes: what is not taken is held");
    gate.open();
    assert_eq!(slow.finish(waiting).body, b"late");
    slow.send(deaf, b"", true);
    assert_eq!(slow.finish(deaf).body, b"heard");
    assert_eq!(upstream.connections_accepted(), 1);
}

fn an_upstream_that_goes_away_finishes_what_it_has_begun(driver: &str) {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "").io(driver).start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let slow = clients.begin("GET", "/slow", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    upstream.go_away();
    eventually(DEADLINE, "new requests go elsewhere", || {
        let new = clients.begin("GET", "/new", &[], true);
        assert_eq!(clients.finish(new).status, 200);
        upstream.connections_accepted() == 2
    });
    assert_eq!(upstream.connections_open(), 2, "the old connection is still in use");
    gate.open();
    assert_eq!(clients.finish(slow).body, b"late");
    eventually(DEADLINE, "the old connection ends", || upstream.connections_open() == 1);
}

/// RFC 9113 §8.7: REFUSED_STREAM, and streams above the last one that GOAWAY names.
fn what_was_not_processed_is_sent_again_once(driver: &str) {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").io(driver).start();
    let refuse = |upstream: &mut PlayedHttp2, by_going_away: bool| {
        let stream = upstream.wait_for(kind::HEADERS).stream;
        if by_going_away {
            upstream.send(kind::GOAWAY, 0, 0, &[0; 8]);
        } else {
            upstream.send(kind::RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes());
        }
    };
    for by_going_away in [false, true] {
        let mut clients = streams(&gateway);
        for (method, ends, status) in [("GET", true, 200), ("POST", true, 200), ("POST", false, 502)] {
            let before = gateway.metric(RETRIES, &[]);
            let stream =
                clients.begin(method, "/", if ends { &[] } else { &[("content-length", "5")] }, ends);
            if !ends {
                clients.send(stream, b"hello", true);
            }
            let mut first = PlayedHttp2::new(played.accept().stream, &[]);
            refuse(&mut first, by_going_away);
            if status == 200 {
                let mut second = PlayedHttp2::new(played.accept().stream, &[]);
                let again = second.wait_for(kind::HEADERS).stream;
                second.head(again, &[(":status", "200")], true);
                assert_eq!(clients.finish(stream).status, 200, "{method}");
                second.send(kind::GOAWAY, 0, 0, &[again.to_be_bytes(), [0; 4]].concat());
                second.wait_for_end();
            } else {
                assert_eq!(clients.finish(stream).status, 502, "a body is gone");
            }
            let retries = gateway.metric(RETRIES, &[]) - before;
            assert_eq!(retries, f64::from(u8::from(status == 200)), "{method}");
            if !by_going_away {
                first.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
            }
            first.wait_for_end();
        }
        // A small body that leaves with its head is held for that long. What follows it is the next request.
        let mut plain = gateway.connect();
        for status in [200, 502, 200] {
            let head = plain.head("POST", "/", &[("content-length", "5")]);
            plain.send(&[&head[..], b"hello"].concat()).unwrap();
            let mut upstreams = Vec::new();
            for is_refused in [true, status == 502] {
                let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
                if is_refused {
                    refuse(&mut upstream, by_going_away);
                } else {
                    let again = upstream.wait_for(kind::HEADERS).stream;
                    assert_eq!(upstream.wait_for(kind::DATA).payload, b"hello");
                    upstream.head(again, &[(":status", "200")], true);
                }
                upstreams.push(upstream);
            }
            assert_eq!(plain.response().unwrap().status, status);
            for mut upstream in upstreams {
                upstream.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
                upstream.wait_for_end();
            }
        }
        // Refused twice it is refused.
        let stream = clients.begin("GET", "/twice", &[], true);
        let mut upstreams = Vec::new();
        for _ in 0..2 {
            upstreams.push(PlayedHttp2::new(played.accept().stream, &[]));
            refuse(upstreams.last_mut().unwrap(), by_going_away);
        }
        assert_eq!(clients.finish(stream).status, 502);
        assert_eq!(gateway.wait_for_record("path", "/twice")["flag"], "upstream_unprocessed");
        for mut upstream in upstreams {
            if !by_going_away {
                upstream.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
            }
            upstream.wait_for_end();
        }
    }
}

#[test]
fn a_connection_that_has_died_is_replaced() {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "").start();
    for (round, client) in BOTH.into_iter().enumerate() {
        let mut caller = Caller::new(&gateway, client);
        for path in ["/", "/again"] {
            assert_eq!(caller.get(path).status, 200);
            upstream.close_connections();
            eventually(DEADLINE, "the upstream has closed", || upstream.connections_open() == 0);
        }
        assert_eq!(caller.request("POST", "/", &[], b"seen to be closed").status, 200, "{round}");
    }
    // It dies under the request, which it may have acted on: RFC 9110 §9.2.2.
    let gate = Gate::new();
    upstream.on("/dies", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let warm = clients.begin("GET", "/warm", &[], true);
    assert_eq!(clients.finish(warm).status, 200);
    let stream = clients.begin("GET", "/dies", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    upstream.close_connections();
    gate.wait_for_arrivals(2, DEADLINE);
    let stream_of_post = clients.begin("POST", "/dies", &[], true);
    gate.wait_for_arrivals(3, DEADLINE);
    upstream.close_connections();
    assert_eq!(clients.finish(stream_of_post).status, 502);
    assert_eq!(clients.finish(stream).status, 502, "it is sent again once");
    assert_eq!(gateway.wait_for_record("status", 502)["flag"], "upstream_closed");
}

#[test]
fn unused_connections_end_in_time_and_without_an_error() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "idle_timeout = \"100ms\"").start();
    let mut clients = streams(&gateway);
    for _ in 0..2 {
        let stream = clients.begin("GET", "/", &[], true);
        let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
        let head = upstream.wait_for(kind::HEADERS);
        upstream.head(head.stream, &[(":status", "204")], true);
        assert_eq!(clients.finish(stream).status, 204);
        assert_eq!(upstream.wait_for_end(), Some(super::NO_ERROR));
    }
    let none = super::builder(played.address(), "pool_idle_max = 0").start();
    let mut clients = streams(&none);
    let stream = clients.begin("GET", "/", &[], true);
    let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
    let head = upstream.wait_for(kind::HEADERS);
    upstream.head(head.stream, &[(":status", "204")], true);
    assert_eq!(clients.finish(stream).status, 204);
    assert_eq!(upstream.wait_for_end(), Some(super::NO_ERROR));
}

#[test]
fn a_request_that_takes_too_long_ends_alone_and_its_connection_has_to_prove_itself() {
    let upstream = Http2Upstream::start();
    let gateway = super::builder(upstream.address(), "response_timeout = \"300ms\"").start();
    upstream.on("/stuck", Http2Script::new().wait(&Gate::new()));
    for client in BOTH {
        let mut caller = Caller::new(&gateway, client);
        for path in ["/stuck", "/", "/stuck", "/"] {
            let status = if path == "/" { 200 } else { 504 };
            assert_eq!(caller.get(path).status, status, "{client:?} {path}");
        }
    }
    eventually(DEADLINE, "the upstream is told", || upstream.resets() == [CANCEL; 4]);
    // A request that came before the ping was answered may have needed another connection.
    assert!(upstream.connections_accepted() <= 2, "{}", upstream.connections_accepted());
    assert_eq!(upstream.connections_open(), upstream.connections_accepted(), "they live on");

    // One that does not answer is given up, and nobody else is sent there.
    let played = PlayedUpstream::start();
    let keys = "response_timeout = \"300ms\"\nconnect_timeout = \"1s\"";
    let gateway = super::builder(played.address(), keys).start();
    let mut clients = streams(&gateway);
    let (first, other) = (clients.begin("GET", "/", &[], true), clients.begin("GET", "/", &[], true));
    let frozen = PlayedHttp2::new(played.accept().stream, &[]);
    assert_eq!((clients.finish(first).status, clients.finish(other).status), (504, 504));
    let second = clients.begin("GET", "/", &[], true);
    let mut fresh = PlayedHttp2::new(played.accept().stream, &[]);
    let head = fresh.wait_for(kind::HEADERS);
    fresh.head(head.stream, &[(":status", "204")], true);
    assert_eq!(clients.finish(second).status, 204);
    let mut frozen = frozen;
    // A read takes what has come, and does not answer: the ping is the last thing before the end.
    let mut received = Vec::new();
    while let Ok(frame) = frozen.frame_unanswered() {
        received.push(frame);
    }
    assert_eq!(received.iter().filter(|frame| frame.kind == kind::PING).count(), 1);
    let resets = received.iter().filter(|frame| frame.kind == kind::RST_STREAM);
    assert_eq!(resets.map(|frame| frame.code()).collect::<Vec<_>>(), [CANCEL; 2]);
}

/// What has waited for a place is decided about anew if the rules have changed meanwhile.
#[test]
fn nothing_is_sent_on_a_decision_that_has_become_old() {
    let upstream = Http2Upstream::start();
    let keys = "protocol = \"http2\"\nconnections_max = 1\nstreams_per_connection_max = 1\nconnect_timeout = \"20s\"";
    let allows = |path: &str| {
        format!(
            "package ringward.authz\n\ndefault decision := false\n\ndecision if startswith(input.request.path, {path:?})\n"
        )
    };
    let gateway = Gateway::builder()
        .listener("http2 = true")
        .policy("main", &allows("/"))
        .section(&format!("[cluster.calls]\nendpoints = \"{}\"\n{keys}", upstream.address()))
        .host(Host::new(&[HOST]).policy("main").route("path = \"/{rest...}\"", "cluster = \"calls\""))
        .start();
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let slow = clients.begin("GET", "/slow", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    let waiting = clients.begin("GET", "/waiting", &[], true);
    // A third is refused by what it asks for; so the second has been decided about before.
    let third = clients.begin("CONNECT", "/", &[], true);
    assert_ne!(clients.finish(third).status, 200);
    gateway.pki.write("policies/main/policy.rego", allows("/other"));
    gateway.wait_for_metric("ringward_reloads_finished_total", &[("outcome", "applied")], 1.0);
    gate.open();
    assert_eq!(clients.finish(slow).body, b"late");
    assert_eq!(clients.finish(waiting).status, 403);
    assert!(upstream.requests().iter().all(|request| request.target != "/waiting"));
}

#[test]
fn endpoints_are_tried_in_turn_and_gone_ones_are_drained() {
    let (_socket, nobody) = deserted();
    let upstream = Http2Upstream::start();
    let gateway = Gateway::builder()
        .listener("http2 = true")
        .endpoints(&[nobody, upstream.address()], "protocol = \"http2\"")
        .start();
    let mut clients = streams(&gateway);
    for _ in 0..4 {
        let stream = clients.begin("GET", "/", &[], true);
        assert_eq!(clients.finish(stream).status, 200);
    }
    let gate = Gate::new();
    upstream.on("/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let slow = clients.begin("GET", "/slow", &[], true);
    gate.wait_for_arrivals(1, DEADLINE);
    let other = Http2Upstream::start();
    let config = std::fs::read_to_string(gateway.pki.path().join("ringward.toml")).unwrap();
    gateway.pki.write(
        "ringward.toml",
        config.replace(&upstream.address().to_string(), &other.address().to_string()),
    );
    gateway.process.signal(Signal::HUP);
    gateway.wait_for_metric("ringward_reloads_finished_total", &[("outcome", "applied")], 1.0);
    let stream = clients.begin("GET", "/", &[], true);
    assert_eq!((clients.finish(stream).status, other.requests().len()), (200, 1));
    assert_eq!(upstream.connections_open(), 1, "what runs is finished");
    gate.open();
    assert_eq!(clients.finish(slow).body, b"late");
    eventually(DEADLINE, "its connection ends", || upstream.connections_open() == 0);
}

/// Frames of streams that clients have called off are no fault of the upstream's, however many they are: others go on.
#[test]
fn streams_called_off_in_numbers_leave_the_others_alone() {
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "").start();
    let mut stays = streams(&gateway);
    let staying = stays.begin("GET", "/stays", &[], true);
    let mut upstream = PlayedHttp2::new(played.accept().stream, &[]);
    let first = upstream.wait_for(kind::HEADERS).stream;
    let mut gone = Vec::new();
    for _ in 0..30 {
        let mut leaving = streams(&gateway);
        for _ in 0..80 {
            let stream = leaving.begin("GET", "/", &[], true);
            gone.push(upstream.wait_for(kind::HEADERS).stream);
            leaving.http2.send(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).unwrap();
            upstream.wait_for(kind::RST_STREAM);
        }
    }
    // They were on their way.
    gone.into_iter().skip(1000).for_each(|stream| upstream.head(stream, &[(":status", "204")], true));
    upstream.head(first, &[(":status", "200")], false);
    upstream.send(kind::DATA, flags::END_STREAM, first, b"still here");
    assert_eq!(stays.finish(staying).body, b"still here");
}

/// Upstreams are told how large a head may be; when that grows, connections that were told less take no more requests.
#[test]
fn heads_may_be_as_large_as_the_largest_listener_allows() {
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    let played = PlayedUpstream::start();
    let gateway = super::builder(played.address(), "connections_max = 1")
        .limits("head_bytes_max = \"4KiB\", fields_max = 100")
        .start();
    let mut clients = streams(&gateway);
    let mut upstream = None;
    for (change, announced) in [
        (None, Some(4096 + 3200)),
        (Some(("4KiB", "8KiB")), Some(8192 + 3200)),
        // What was told more stays.
        (Some(("8KiB", "2KiB")), None),
    ] {
        if let Some((from, to)) = change {
            let key = |size| format!("head_bytes_max = \"{size}\"");
            gateway.reconfigure(&key(from), &key(to));
        }
        let stream = clients.begin("GET", "/a", &[], true);
        if let Some(announced) = announced {
            let mut opened = PlayedHttp2::new(played.accept().stream, &[]);
            let settings = opened.wait_for(kind::SETTINGS).payload;
            let of_heads = [&MAX_HEADER_LIST_SIZE.to_be_bytes()[..], &u32::to_be_bytes(announced)].concat();
            assert!(settings.chunks(6).any(|setting| setting == of_heads), "{settings:?}");
            upstream = Some(opened);
        }
        let upstream = upstream.as_mut().unwrap();
        let asked = upstream.wait_for(kind::HEADERS).stream;
        upstream.head(asked, &[(":status", "200")], true);
        assert_eq!(clients.finish(stream).status, 200);
    }
}

/// The window of a connection has room for as many streams as it was opened for.
#[test]
fn a_connection_takes_no_more_streams_than_it_was_opened_for() {
    let upstream = Http2Upstream::start();
    let cluster = |name: &str, streams: usize| {
        let address = upstream.address();
        format!(
            "[cluster.{name}]\nendpoints = \"{address}\"\nprotocol = \"http2\"\nstreams_per_connection_max = {streams}\n"
        )
    };
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/few/{rest...}\"", "cluster = \"few\"")
        .route("path = \"/many/{rest...}\"", "cluster = \"many\"");
    let gateway = Gateway::builder()
        .listener("http2 = true")
        .policy("main", "package ringward.authz\n\ndecision := true\n")
        .section(&cluster("few", 1))
        .section(&cluster("many", 10))
        .host(host)
        .start();
    let gate = Gate::new();
    upstream.on("/many/slow", Http2Script::new().wait(&gate).respond(200, &[], "late"));
    let mut clients = streams(&gateway);
    let few = clients.begin("GET", "/few/", &[], true);
    assert_eq!(clients.finish(few).status, 200);
    let many = [(); 2].map(|()| clients.begin("GET", "/many/slow", &[], true));
    gate.wait_for_arrivals(2, DEADLINE);
    assert_eq!(upstream.connections_accepted(), 2);
    gate.open();
    many.into_iter().for_each(|stream| assert_eq!(clients.finish(stream).status, 200));
}
