//! Clients that make the gateway work or hold memory at no cost of their own: each way has a bound, and reaching it ends the
//! connection. `crates/proxy/src/h2/mod.rs` lists ways and bounds; what others notice meanwhile, `loadtest/attack` measures.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{
    ClientError, Connection, DEADLINE, Echo, Gate, Http2, Script, Signal, eventually, fields_block, flags,
    frame, kind,
};

use self::support::{Builder, Gateway, HOST, Host, congested};

// RFC 9113 §7.
const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
// RFC 9113 §6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;

const END: u8 = flags::END_HEADERS | flags::END_STREAM;
const PADDED: u8 = 0x8;
const MIB: u64 = 1 << 20;

fn builder() -> Builder {
    Gateway::builder().listener("http2 = true")
}

fn connect(gateway: &Gateway, settings: &[(u16, u32)]) -> Http2 {
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), settings);
    for _ in 0..2 {
        http2.wait_for(kind::SETTINGS);
    }
    http2
}

fn request(path: &str) -> Vec<u8> {
    fields_block(&[(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", HOST)])
}

/// Makes `step` again and again until the gateway has had enough, which must be before `most` times: how often it was.
#[track_caller]
fn until_refused(most: u32, mut step: impl FnMut(u32) -> Result<(), ClientError>) -> u32 {
    (0..most).find(|index| step(*index).is_err()).unwrap_or_else(|| panic!("{most} times are no flood"))
}

/// The gateway has ended a connection for a flood, and said so.
#[track_caller]
fn assert_flood(gateway: &Gateway, http2: &mut Http2, count: usize) {
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    gateway.wait_for_closed("frame_flood", count);
}

/// How much more memory the program has needed at most since `before`.
fn growth(gateway: &Gateway, before: u64) -> u64 {
    gateway.peak_resident_bytes().saturating_sub(before)
}

/// The kernel makes whoever opens a descriptor beyond its table wait for ten milliseconds, and all others of that worker, too.
#[test]
fn there_is_room_for_many_connections_at_once() {
    let gateway = builder().start();
    let reserved = gateway.descriptors_reserved();
    assert!(reserved >= 1024, "room for {reserved} descriptors");
}

/// CVE-2023-44487, by a client that takes its time: each request has been sent to an upstream when it is called off.
#[test]
fn requests_that_are_called_off_once_they_run() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("*", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway, &[]);
    // Many at a time, so that even a slow machine calls off more than its budget grows.
    let rounds = until_refused(40, |round| {
        let streams = || (0..50).map(|index| 2 * (50 * round + index) + 1);
        for stream in streams() {
            http2.request(stream, "GET", "/reset", &[], true)?;
        }
        eventually(DEADLINE, "they run, or are refused", || {
            gateway.upstream.requests().len() >= 50 * (round as usize + 1)
                || gateway.metric("ringward_connections_active", &[]) == 0.0
        });
        streams().try_for_each(|stream| http2.send(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()))
    });
    assert!(rounds >= 3, "an honest client may call off a page: {rounds}");
    gateway.wait_for_closed("frame_flood", 1);
    gate.open();
    gateway.wait_for_no_connections();
}

/// CVE-2023-44487, all at once: nobody connects to an upstream for requests that come with their reset.
#[test]
fn requests_that_are_called_off_before_they_run() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway, &[]);
    let get = fields_block(&[(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", HOST)]);
    let pair = |stream: u32| {
        [frame(kind::HEADERS, END, stream, &get), frame(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes())]
            .concat()
    };
    // No more than one turn takes.
    http2.send_raw(&[1, 3, 5, 7].map(pair).concat()).unwrap();
    eventually(DEADLINE, "all have ended", || gateway.lines("request").len() == 4);
    assert!(gateway.lines("request").iter().all(|line| line["flag"] == "client_gone"));
    http2.request(9, "GET", "/", &[], true).unwrap();
    gateway.upstream.wait_for_requests(1, DEADLINE);
    assert_eq!(gateway.upstream.connections_accepted(), 1);
}

/// A port towards an upstream that is closed by us is not used again for a minute. Requests that are called off would use all up.
#[test]
fn requests_that_are_called_off_keep_no_port() {
    let gateway = builder().start();
    let gate = Gate::new();
    gateway.upstream.on("*", Script::new().wait(&gate).close());
    let mut http2 = connect(&gateway, &[]);
    for stream in (1..20).step_by(2) {
        http2.request(stream, "GET", "/reset", &[], true).unwrap();
    }
    gate.wait_for_arrivals(10, DEADLINE);
    for stream in (1..20).step_by(2) {
        http2.send(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).unwrap();
    }
    eventually(DEADLINE, "all have ended", || gateway.lines("request").len() == 10);
    gate.open();
    // proc_net_tcp(5): the peer's port, in hexadecimal digits, is the third column.
    let port = format!(":{:04X}", gateway.upstream.address().port());
    eventually(DEADLINE, "no socket has a connection to the upstream any more, not even for later", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        !sockets.lines().any(|line| line.split_whitespace().nth(2).is_some_and(|peer| peer.ends_with(&port)))
    });
}

/// CVE-2025-8671: frames by which a client has us reset its requests, in place of resetting them itself.
#[test]
fn requests_that_we_are_made_to_reset() {
    let gateway = builder().limits("body_timeout = \"1m\"").start();
    let gate = Gate::new();
    gateway.upstream.on("*", Script::new().wait(&gate).respond(200, &[], "late"));
    let head = |flags: u8, stream: u32, block: &[u8]| frame(kind::HEADERS, flags, stream, block);
    let post = request("/provoked");
    let with_length = [&post[..], &fields_block(&[("content-length", "3")])].concat();
    // How each stream begins, and what is sent on it then.
    type Provoke = fn(u32) -> Vec<u8>;
    let ways: [(&str, u8, &[u8], Provoke); 9] = [
        ("a window that is too large", END, &post, |stream| {
            frame(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes())
        }),
        ("a window that grows by nothing", END, &post, |stream| {
            frame(kind::WINDOW_UPDATE, 0, stream, &[0; 4])
        }),
        ("data behind the end", END, &post, |stream| frame(kind::DATA, 1, stream, b"x")),
        ("a head behind the end", END, &post, |stream| frame(kind::HEADERS, END, stream, b"\x00\x01x\x01y")),
        ("a stream that depends on itself", END, &post, |stream| {
            frame(kind::PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat())
        }),
        ("a priority of another length", END, &post, |stream| frame(kind::PRIORITY, 0, stream, &[0; 6])),
        ("more than was declared", flags::END_HEADERS, &with_length, |stream| {
            frame(kind::DATA, 0, stream, b"four")
        }),
        ("less than was declared", flags::END_HEADERS, &with_length, |stream| {
            frame(kind::DATA, 1, stream, b"x")
        }),
        ("trailers that do not end it", flags::END_HEADERS, &post, |stream| {
            frame(kind::HEADERS, flags::END_HEADERS, stream, b"\x00\x01x\x01y")
        }),
    ];
    for (what, begins, block, provoke) in ways {
        let (before, mut http2) = (gateway.upstream.requests().len(), connect(&gateway, &[]));
        for index in 0..400 {
            let stream = 2 * index + 1;
            let bytes = [head(begins, stream, block), provoke(stream)].concat();
            if http2.send_raw(&bytes).is_err() {
                break;
            }
        }
        let said = http2.wait_for_end();
        assert!(matches!(said, Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR)), "{what}: {said:?}");
        let reached = gateway.upstream.requests().len() - before;
        assert!(reached <= 129, "{what}: {reached} requests were made for nothing");
    }
    gate.open();
    gateway.wait_for_no_connections();
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0);
}

/// Streams above the limit are refused by the crate, heads that are too large answered by it, and malformed ones reset.
#[test]
fn heads_that_come_to_nothing() {
    let gateway = builder().limits("streams_max = 2, head_bytes_max = \"4KiB\"").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().wait(&gate).respond(200, &[], "late"));
    let large = [&request("/a")[..], &fields_block(&[("x-a", &"y".repeat(9000))])].concat();
    for (count, (what, block)) in [("refused", request("/a")), ("too large", large)].iter().enumerate() {
        let mut http2 = connect(&gateway, &[]);
        if *what == "refused" {
            for stream in [1, 3] {
                http2.request(stream, "GET", "/stuck", &[], true).unwrap();
            }
            gate.wait_for_arrivals(2, DEADLINE);
        }
        for index in 2..2000 {
            if http2.send(kind::HEADERS, END, 2 * index + 1, block).is_err() {
                break;
            }
        }
        assert_flood(&gateway, &mut http2, count + 1);
    }
    assert!(gateway.upstream.requests().len() <= 2);
    gateway.wait_for_no_connections();
    // They have no records; here is how many.
    assert!(gateway.metric("ringward_streams_unserved_total", &[]) > 100.0);
    gate.open();
}

/// A window that is opened byte by byte would have us send a frame for each.
#[test]
fn windows_of_one_byte() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway, &[(INITIAL_WINDOW_SIZE, 0)]);
    for stream in 0..50 {
        http2.request(2 * stream + 1, "GET", "/big/1000000", &[], true).unwrap();
    }
    for _ in 0..50 {
        http2.wait_for(kind::HEADERS);
    }
    let window: Vec<u8> =
        (0..50).flat_map(|stream| frame(kind::WINDOW_UPDATE, 0, 2 * stream + 1, &[0, 0, 0, 1])).collect();
    let rounds = until_refused(200, |_| {
        http2.send_raw(&window)?;
        let mut got = 0;
        while got < 50 {
            match http2.frame()?.kind {
                kind::DATA => got += 1,
                kind::GOAWAY => return Err(ClientError::Cut),
                _ => {}
            }
        }
        Ok(())
    });
    assert!(rounds >= 40, "{rounds}");
    gateway.wait_for_closed("frame_flood", 1);
}

/// The same while nothing is read: each byte would wait in a buffer of its own.
#[test]
fn windows_of_one_byte_of_responses_that_nobody_reads() {
    let gateway = builder().start();
    gateway.assert_serves();
    let before = gateway.peak_resident_bytes();
    let mut http2 = connect(&gateway, &[(INITIAL_WINDOW_SIZE, 0)]);
    for stream in 0..50 {
        http2.request(2 * stream + 1, "GET", "/big/1000000", &[], true).unwrap();
    }
    for _ in 0..50 {
        http2.wait_for(kind::HEADERS);
    }
    let window: Vec<u8> =
        (0..50).flat_map(|stream| frame(kind::WINDOW_UPDATE, 0, 2 * stream + 1, &[0, 0, 0, 1])).collect();
    for _ in 0..2000 {
        if http2.send_raw(&window).is_err() {
            break;
        }
    }
    let growth = growth(&gateway, before);
    assert!(growth < 24 * MIB, "{growth} bytes");
    gateway.wait_for_closed("frame_flood", 1);
}

/// Responses that a client asks for and does not take: by its windows, or by not reading at all.
#[test]
fn responses_that_nobody_reads() {
    for window in [0, 0x7fff_ffff] {
        let gateway = builder().limits("body_timeout = \"2s\"").start();
        gateway.assert_serves();
        let before = gateway.peak_resident_bytes();
        let mut http2 = connect(&gateway, &[(INITIAL_WINDOW_SIZE, window)]);
        http2.send(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()).unwrap();
        for stream in 0..100 {
            http2.request(2 * stream + 1, "GET", "/big/100000000", &[], true).unwrap();
        }
        // Each stream is given up, or the connection with all of them.
        eventually(DEADLINE, "all are given up", || gateway.lines("request").len() > 100);
        let growth = growth(&gateway, before);
        println!(
            "100 responses with a window of {window} that nobody reads: {} KiB each",
            growth / 100 / 1024
        );
        assert!(growth < 100 * STREAM_BYTES_MAX, "{growth} bytes");
        if window == 0 {
            let (code, record) =
                (http2.wait_for(kind::RST_STREAM).code(), gateway.wait_for_record("flag", "client_stalled"));
            assert_eq!((code, &record["status"]), (CANCEL, &200.into()), "{record}");
            http2.request(1001, "GET", "/a", &[], true).unwrap();
            while http2.wait_for(kind::HEADERS).stream != 1001 {}
        } else {
            gateway.wait_for_closed("body_timeout", 1);
        }
        gateway.assert_serves();
    }
}

/// Bodies that nobody takes yet, in frames as small as may be: each waits in memory by itself.
#[test]
fn bodies_in_frames_of_one_byte() {
    let (_socket, _waiting, address) = congested();
    let gateway = builder().endpoints(&[address], "connect_timeout = \"1m\"").start();
    let before = gateway.peak_resident_bytes();
    let mut http2 = connect(&gateway, &[]);
    for stream in 0..50 {
        http2.request(2 * stream + 1, "POST", "/stuck", &[], false).unwrap();
    }
    let bytes: Vec<u8> = (0..50).flat_map(|stream| frame(kind::DATA, 0, 2 * stream + 1, b"x")).collect();
    for _ in 0..20_000 {
        if http2.send_raw(&bytes).is_err() {
            break;
        }
    }
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    let growth = growth(&gateway, before);
    assert!(growth < 16 * MIB, "{growth} bytes");
    gateway.wait_for_closed("frame_flood", 1);
}

/// Frames of which nothing is left when their padding is taken off.
#[test]
fn frames_of_padding() {
    let gateway = builder().start();
    for (count, padding) in [0_u8, 255].into_iter().enumerate() {
        let mut http2 = connect(&gateway, &[]);
        http2.request(1, "POST", "/never", &[], false).unwrap();
        let payload = [&[padding][..], &vec![0; usize::from(padding)]].concat();
        let _ = http2.send_many(3000, &frame(kind::DATA, PADDED, 1, &payload));
        assert_flood(&gateway, &mut http2, count + 1);
    }
}

/// A field that is sent once and then referred to by a byte, again and again.
#[test]
fn field_blocks_that_blow_up() {
    let gateway = builder().start();
    gateway.assert_serves();
    let before = gateway.peak_resident_bytes();
    let mut http2 = connect(&gateway, &[]);
    // RFC 7541 §6.2.1: a literal that is put into the table: 3900 bytes of value, in three bytes of length.
    let value = "v".repeat(3900);
    let entry = [b"\x40\x01x\x7f\xbd\x1d".as_slice(), value.as_bytes()].concat();
    http2.send(kind::HEADERS, END, 1, &[&request("/a")[..], &entry].concat()).unwrap();
    assert_eq!(http2.response(1).0, 200);
    let bomb = [request("/b"), vec![0xbe; 16_000]].concat();
    for index in 1..500 {
        if http2.send(kind::HEADERS, END, 2 * index + 1, &bomb).is_err() {
            break;
        }
    }
    assert_eq!(http2.wait_for_end(), Some(ENHANCE_YOUR_CALM));
    let growth = growth(&gateway, before);
    assert!(growth < 8 * MIB, "{growth} bytes");
    gateway.wait_for_closed("frame_flood", 1);
    assert!(!gateway.has_reached("/b"));
}

/// As many fields as there is room for, of one name: they are one field for policies and upstreams, and one too many is refused.
#[test]
fn cookies_in_thousands_of_crumbs() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway, &[]);
    for (stream, count, status) in [(1, 500, 200), (3, 3000, 431)] {
        let crumbs: Vec<(&str, &str)> = (0..count).map(|_| ("cookie", "a=b")).collect();
        let block = [request("/crumbs"), fields_block(&crumbs)].concat();
        // RFC 9113 §4.2: in frames of up to 16 KiB.
        let mut pieces = block.chunks(16_000);
        http2.send(kind::HEADERS, flags::END_STREAM, stream, pieces.next().unwrap()).unwrap();
        for piece in pieces {
            http2.send(kind::CONTINUATION, 0, stream, piece).unwrap();
        }
        http2.send(kind::CONTINUATION, flags::END_HEADERS, stream, b"").unwrap();
        loop {
            let frame = http2.frame().unwrap();
            if frame.stream == stream && frame.kind == kind::HEADERS {
                assert_eq!(frame.status(), status, "{count}");
                break;
            }
        }
    }
    let requests = gateway.upstream.requests();
    let joined = vec!["a=b"; 500].join("; ");
    assert!(requests.len() == 1 && requests[0].headers.all("cookie") == [joined], "one field of all crumbs");
}

/// The crate leaves out trailers beyond the limit of heads, as RFC 9110 §6.5.1 allows.
#[test]
fn trailers_beyond_the_limit_are_left_out() {
    let gateway = builder().limits("head_bytes_max = \"4KiB\"").start();
    let mut http2 = connect(&gateway, &[]);
    http2.request(1, "POST", "/a", &[], false).unwrap();
    let trailers = fields_block(&[("x-t", &"y".repeat(12_000))]);
    http2.send(kind::HEADERS, END, 1, &trailers).unwrap();
    let (status, body, _) = http2.response(1);
    let echo: Echo = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, echo.trailers.get("x-t")), (200, None));
}

/// Those that the crate lets through are held to the limits of heads, as over HTTP/1.1.
#[test]
fn trailers_that_are_larger_than_a_head_may_be() {
    let gateway = builder().limits("head_bytes_max = \"4KiB\", fields_max = 20").start();
    let mut http2 = connect(&gateway, &[]);
    let long = vec![("x-t".to_owned(), "y".repeat(4096))];
    let many = (0..21).map(|index| (format!("x-{index}"), String::new())).collect();
    for (stream, trailers) in [(1, long), (3, many)] {
        http2.request(stream, "POST", "/a", &[], false).unwrap();
        let trailers: Vec<_> =
            trailers.iter().map(|(name, value): &(String, String)| (&name[..], &value[..])).collect();
        http2.send(kind::HEADERS, END, stream, &fields_block(&trailers)).unwrap();
        assert_eq!(http2.response(stream).0, 400);
    }
}

/// What an upstream says before it answers is bounded, too: it would wait in memory for the client.
#[test]
fn interim_responses_without_end() {
    let gateway = builder().start();
    gateway
        .upstream
        .on("/hints", Script::new().send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)).close());
    let mut http2 = connect(&gateway, &[]);
    http2.request(1, "GET", "/hints", &[], true).unwrap();
    let mut statuses = Vec::new();
    while statuses.last().is_none_or(|status| *status < 200) {
        statuses.push(http2.wait_for(kind::HEADERS).status());
    }
    assert_eq!((statuses.len(), statuses.last()), (17, Some(&502)));
}

#[test]
fn the_last_stream_there_is() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway, &[]);
    http2.request(0x7fff_ffff, "GET", "/last", &[], true).unwrap();
    assert_eq!(http2.response(0x7fff_ffff).0, 200);
    http2.request(1, "GET", "/after", &[], true).unwrap();
    assert_eq!(http2.wait_for_end(), Some(PROTOCOL_ERROR));
    gateway.wait_for_closed("protocol_error", 1);
    assert!(!gateway.has_reached("/after"));
}

/// What comes after we have said that no more is served costs its sender the connection, not us.
#[test]
fn heads_after_the_end_was_announced() {
    let gateway = builder().limits("requests_per_connection_max = 2").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut http2 = connect(&gateway, &[]);
    http2.request(1, "GET", "/stuck", &[], true).unwrap();
    http2.request(3, "GET", "/a", &[], true).unwrap();
    // RFC 9113 §6.8: first that there will be an end, and when that is confirmed, which stream is the last.
    for _ in 0..2 {
        http2.wait_for(kind::GOAWAY);
    }
    for index in 2..2000 {
        if http2.request(2 * index + 1, "GET", "/after", &[], true).is_err() {
            break;
        }
    }
    assert_flood(&gateway, &mut http2, 1);
    gate.open();
}

/// The same with data, which the crate overlooks then: that of streams that it does not know.
#[test]
fn data_after_the_end_was_announced() {
    let gateway = builder().limits("requests_per_connection_max = 2").start();
    let gate = Gate::new();
    gateway.upstream.on("/stuck", Script::new().wait(&gate).respond(200, &[], "late"));
    for (count, flags) in [0, flags::END_STREAM].into_iter().enumerate() {
        let mut http2 = connect(&gateway, &[]);
        http2.request(1, "GET", "/stuck", &[], true).unwrap();
        http2.request(3, "GET", "/a", &[], true).unwrap();
        for _ in 0..2 {
            http2.wait_for(kind::GOAWAY);
        }
        let _ = http2.send_many(2000, &frame(kind::DATA, flags, 5, b""));
        assert_flood(&gateway, &mut http2, count + 1);
    }
    gate.open();
}

/// Who asks for much at once is served in turns: others do not wait until all of it is done.
#[test]
fn many_requests_at_once_let_others_go_first() {
    let host = Host::new(&[HOST]).route("path = \"/none\"", "id = \"none\"");
    let gateway = builder().workers(1).host(host).start();
    let [mut first, mut greedy, mut last] = [(); 3].map(|()| connect(&gateway, &[]));
    // All of it has arrived when the worker goes on, in whichever order it looks at it.
    gateway.process.signal(Signal::STOP);
    eventually(DEADLINE, "all threads stop", || gateway.process.is_stopped());
    first.request(1, "GET", "/modest", &[], true).unwrap();
    // No more than one read takes.
    let heads = (0..40).map(|index| frame(kind::HEADERS, END, 2 * index + 1, &request("/greedy")));
    greedy.send_raw(&heads.collect::<Vec<_>>().concat()).unwrap();
    last.request(1, "GET", "/modest", &[], true).unwrap();
    gateway.process.signal(Signal::CONT);
    // Without a route, the order is that of the worker, and not of an upstream.
    eventually(DEADLINE, "a record of each request", || gateway.lines("request").len() == 42);
    let records = gateway.lines("request");
    let served = records.iter().rposition(|record| record["path"] == "/modest").unwrap();
    assert!(served < 20, "{served} requests were served before");
}

/// A connection that has not even begun to speak is idle.
#[test]
fn prefaces_that_do_not_come() {
    let gateway = builder().limits("idle_timeout = \"1s\"").start();
    let connections: Vec<Connection> =
        [&b""[..], b"PRI * HTTP/2.0\r\n\r\nS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"]
            .into_iter()
            .map(|begun| {
                let mut connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
                connection.send(begun).unwrap();
                connection
            })
            .collect();
    gateway.wait_for_closed("idle_timeout", connections.len());
}

/// What RFC 9113 §8.3.1 does not allow in `:path`, a fragment, nobody sees: neither the policy nor the upstream.
#[test]
fn fragments_are_cut_for_everybody() {
    let policy = "package ringward.authz\n\ndecision if input.request.path == \"/open\"\n";
    let gateway = builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut http2 = connect(&gateway, &[]);
    for (stream, path, status) in
        [(1, "/open#/closed", 200), (3, "/closed#/open", 403), (5, "/closed#/../open", 403)]
    {
        http2.request(stream, "GET", path, &[], true).unwrap();
        assert_eq!(http2.response(stream).0, status, "{path}");
    }
    assert_eq!(gateway.reached(), ["/open"]);
}

/// What one stream of a client that wants the worst may cost us (`crates/proxy/src/h2/mod.rs` says of what).
const STREAM_BYTES_MAX: u64 = 256 * 1024;
