//! What RFC 9113 and RFC 7541 say of frames, field blocks and streams, section by section: a connection per case, on which
//! a client that obeys no rule writes bytes.
//!
//! An error of a stream may be one of the connection (RFC 9113 §5.4.1): this is which it is here. The `h2` crate says
//! PROTOCOL_ERROR for some of those that have a code of their own.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Frame, Http2, Script, fields_block, flags, frame, kind};

use self::support::{Gateway, HOST};

// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;

const END: u8 = flags::END_HEADERS | flags::END_STREAM;
const OPEN: u8 = flags::END_HEADERS;
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;
const PUSH_PROMISE: u8 = 5;

/// What has to come of a case.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The connection ends with this code, or with the one for all cases.
    End(u32),
    /// Stream 1 is reset with this code, and others are served.
    Reset(u32),
    /// Stream 1 is refused, by a reset or with this status, and others are served.
    Refused(u16),
    /// Nothing: others are served.
    Nothing,
    /// Stream 1 is answered with 200.
    Answer,
}
use Then::{Answer, End, Nothing, Refused, Reset};

fn gateway() -> Gateway {
    let gateway = Gateway::builder().listener("http2 = true").start();
    gateway.upstream.on("/unread", Script::new().respond(200, &[], "early"));
    gateway
}

fn connect(gateway: &Gateway) -> Http2 {
    let connection = gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap();
    let mut http2 = Http2::new(connection, &[]);
    // Theirs, and the confirmation of ours: nothing of ours gets between the bytes of a case then.
    for _ in 0..2 {
        http2.wait_for(kind::SETTINGS);
    }
    http2
}

/// The fields of a request, these ones in the place of those of the same name, and behind them.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":method", "POST"), (":scheme", "https"), (":path", "/a"), (":authority", HOST)];
    let replaced = |name: &str| fields.iter().any(|(other, _)| *other == name);
    let mut all: Vec<(&str, &str)> = usual.into_iter().filter(|(name, _)| !replaced(name)).collect();
    all.extend(fields.iter().filter(|(name, _)| name.starts_with(':')));
    all.extend(fields.iter().filter(|(name, _)| !name.starts_with(':')));
    fields_block(&all)
}

/// HEADERS of stream 1.
fn head(flags: u8, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flags, 1, block)
}

fn open() -> Vec<u8> {
    head(OPEN, &request(&[]))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

#[track_caller]
fn check(gateway: &Gateway, section: &str, cases: &[(&str, Vec<u8>, Then)]) {
    for (what, bytes, then) in cases {
        let mut http2 = connect(gateway);
        // It may have had enough before all is sent.
        let _ = http2.send_raw(bytes);
        expect(&mut http2, *then, &format!("{section}: {what}"));
    }
    gateway.assert_serves();
    assert_eq!(gateway.metric("ringward_worker_panics_total", &[]), 0.0, "{section}");
}

#[track_caller]
fn expect(http2: &mut Http2, then: Then, what: &str) {
    match then {
        End(code) => {
            let said = http2.wait_for_end();
            assert!(said == Some(code) || said == Some(PROTOCOL_ERROR), "{what}: {said:?}");
            return;
        }
        Reset(code) => {
            let reset = next_of_stream(http2, what, |frame| frame.kind == kind::RST_STREAM);
            assert_eq!(reset.code(), code, "{what}");
        }
        Refused(status) => {
            let refused = next_of_stream(http2, what, |_| true);
            match refused.kind {
                kind::RST_STREAM => assert_eq!(refused.code(), PROTOCOL_ERROR, "{what}"),
                _ => assert_eq!(refused.status(), status, "{what}"),
            }
        }
        Nothing => {}
        Answer => {
            let answer = next_of_stream(http2, what, |frame| frame.kind == kind::HEADERS);
            assert_eq!(answer.status(), 200, "{what}");
        }
    }
    http2.request(1001, "GET", "/others", &[], true).unwrap();
    assert_eq!(http2.response(1001).0, 200, "{what}");
}

/// The next frame of stream 1 that is wanted.
#[track_caller]
fn next_of_stream(http2: &mut Http2, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
    loop {
        let frame = http2.frame().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_ne!(frame.kind, kind::GOAWAY, "{what}: the connection ends: {:?}", frame.code());
        if frame.stream == 1 && frame.kind != kind::WINDOW_UPDATE && wanted(&frame) {
            return frame;
        }
    }
}

#[test]
fn frames_and_their_sizes() {
    let gateway = gateway();
    check(
        &gateway,
        "RFC 9113 §4.1",
        &[
            ("an unknown type", frame(0xfa, 0, 0, b"12345678"), Nothing),
            ("an unknown type of an idle stream", frame(0xfa, 0, 7, b"x"), Nothing),
            ("flags without meaning", frame(kind::PING, 0xfe, 0, &[7; 8]), Nothing),
            ("a reserved bit", frame(kind::PING, 0, 1 << 31, &[7; 8]), Nothing),
        ],
    );
    let long = |kind, stream| frame(kind, END, stream, &vec![0; (1 << 14) + 1]);
    check(
        &gateway,
        "RFC 9113 §4.2",
        &[
            ("as large as allowed", [open(), frame(kind::DATA, 1, 1, &[b'x'; 1 << 14])].concat(), Answer),
            ("DATA", [open(), long(kind::DATA, 1)].concat(), End(FRAME_SIZE_ERROR)),
            ("HEADERS", long(kind::HEADERS, 1), End(FRAME_SIZE_ERROR)),
            ("an unknown type", long(0xfa, 0), End(FRAME_SIZE_ERROR)),
        ],
    );
    let begun = head(flags::END_STREAM, &request(&[])[..10]);
    check(
        &gateway,
        "RFC 9113 §4.3",
        &[
            ("no field block", head(END, b"\x40"), End(COMPRESSION_ERROR)),
            (
                "PRIORITY in between",
                [begun.clone(), frame(kind::PRIORITY, 0, 1, &[0; 5])].concat(),
                End(PROTOCOL_ERROR),
            ),
            (
                "another stream in between",
                [begun.clone(), frame(kind::HEADERS, END, 3, &request(&[]))].concat(),
                End(PROTOCOL_ERROR),
            ),
            ("DATA in between", [begun.clone(), frame(kind::DATA, 1, 1, b"x")].concat(), End(PROTOCOL_ERROR)),
            // RFC 9113 §5.5.
            ("an unknown type in between", [begun, frame(0xfa, 0, 0, b"x")].concat(), End(PROTOCOL_ERROR)),
        ],
    );
}

#[test]
fn streams_and_their_states() {
    let gateway = gateway();
    let window = 1_u32.to_be_bytes();
    check(
        &gateway,
        "RFC 9113 §5.1, idle",
        &[
            ("DATA", frame(kind::DATA, 1, 1, b"x"), End(PROTOCOL_ERROR)),
            ("RST_STREAM", frame(kind::RST_STREAM, 0, 1, &CANCEL.to_be_bytes()), End(PROTOCOL_ERROR)),
            ("WINDOW_UPDATE", frame(kind::WINDOW_UPDATE, 0, 1, &window), End(PROTOCOL_ERROR)),
            ("CONTINUATION", frame(kind::CONTINUATION, OPEN, 1, &request(&[])), End(PROTOCOL_ERROR)),
            ("PRIORITY", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), Nothing),
        ],
    );
    let ended = head(END, &request(&[]));
    check(
        &gateway,
        "RFC 9113 §5.1, half-closed",
        &[
            ("DATA", [ended.clone(), frame(kind::DATA, 1, 1, b"x")].concat(), End(PROTOCOL_ERROR)),
            ("HEADERS", [ended.clone(), ended.clone()].concat(), End(STREAM_CLOSED)),
            (
                "CONTINUATION",
                [ended.clone(), frame(kind::CONTINUATION, OPEN, 1, &request(&[]))].concat(),
                End(PROTOCOL_ERROR),
            ),
            (
                "WINDOW_UPDATE and PRIORITY",
                [
                    ended.clone(),
                    frame(kind::WINDOW_UPDATE, 0, 1, &window),
                    frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]),
                ]
                .concat(),
                Answer,
            ),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §5.1.1",
        &[
            ("an even number", frame(kind::HEADERS, END, 2, &request(&[])), End(PROTOCOL_ERROR)),
            ("none", frame(kind::HEADERS, END, 0, &request(&[])), End(PROTOCOL_ERROR)),
            (
                "a smaller one",
                [frame(kind::HEADERS, END, 5, &request(&[])), frame(kind::HEADERS, END, 3, &request(&[]))]
                    .concat(),
                End(PROTOCOL_ERROR),
            ),
        ],
    );
    let own = [&[0, 0, 0, 1, 15][..], &request(&[])].concat();
    check(
        &gateway,
        "RFC 9113 §5.3.1",
        &[
            ("HEADERS that depend on themselves", head(END | PRIORITIZED, &own), Reset(PROTOCOL_ERROR)),
            (
                "PRIORITY that does",
                [open(), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 15])].concat(),
                Reset(PROTOCOL_ERROR),
            ),
        ],
    );
}

/// RFC 9113 §5.1: what comes on a stream that both sides have ended, or that the client has called off.
#[test]
fn streams_that_have_ended() {
    let gateway = gateway();
    let cancel = CANCEL.to_be_bytes();
    for called_off in [false, true] {
        for (what, bytes) in [
            ("DATA", frame(kind::DATA, 1, 1, b"x")),
            ("HEADERS", head(END, &request(&[]))),
            ("CONTINUATION", frame(kind::CONTINUATION, END, 1, b"")),
        ] {
            let mut http2 = connect(&gateway);
            http2.request(1, "GET", "/a", &[], !called_off).unwrap();
            if called_off {
                http2.send(kind::RST_STREAM, 0, 1, &cancel).unwrap();
            } else {
                assert_eq!(http2.response(1).0, 200);
            }
            http2.send_raw(&bytes).unwrap();
            // A reset of the stream or the end of the connection.
            let answered = loop {
                let frame = http2.frame().unwrap();
                if matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY) {
                    break frame.code();
                }
            };
            assert!(
                matches!(answered, STREAM_CLOSED | PROTOCOL_ERROR),
                "{what}, called off {called_off}: {answered}"
            );
        }
        // What may still have been under way.
        let mut http2 = connect(&gateway);
        http2.request(1, "GET", "/a", &[], true).unwrap();
        http2.response(1);
        http2.send(kind::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).unwrap();
        http2.send(kind::RST_STREAM, 0, 1, &cancel).unwrap();
        http2.send(kind::PRIORITY, 0, 1, &[0; 5]).unwrap();
        expect(&mut http2, Nothing, "a closed stream");
    }
}

#[test]
fn each_type_of_frame() {
    let gateway = gateway();
    let padded = |length: u8, rest: &[u8]| [&[length][..], rest].concat();
    check(
        &gateway,
        "RFC 9113 §6.1, DATA",
        &[
            ("of no stream", frame(kind::DATA, 1, 0, b"x"), End(PROTOCOL_ERROR)),
            (
                "padding",
                [open(), frame(kind::DATA, 1 | PADDED, 1, &padded(3, b"hello\0\0\0"))].concat(),
                Answer,
            ),
            (
                "padding alone",
                [open(), frame(kind::DATA, 1 | PADDED, 1, &padded(3, b"\0\0\0"))].concat(),
                Answer,
            ),
            (
                "more padding than payload",
                [open(), frame(kind::DATA, 1 | PADDED, 1, &padded(9, b"hello"))].concat(),
                End(PROTOCOL_ERROR),
            ),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.2, HEADERS",
        &[
            (
                "padding and priority",
                head(
                    END | PADDED | PRIORITIZED,
                    &padded(2, &[&[0, 0, 0, 0, 1][..], &request(&[]), &[0; 2]].concat()),
                ),
                Answer,
            ),
            (
                "more padding than payload",
                head(END | PADDED, &padded(200, &request(&[]))),
                End(PROTOCOL_ERROR),
            ),
            ("no room for the priority", head(END | PRIORITIZED, b"\0\0"), End(PROTOCOL_ERROR)),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.3, PRIORITY",
        &[
            ("of no stream", frame(kind::PRIORITY, 0, 0, &[0; 5]), End(PROTOCOL_ERROR)),
            ("too short", frame(kind::PRIORITY, 0, 1, &[0; 4]), End(FRAME_SIZE_ERROR)),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.4, RST_STREAM",
        &[
            ("of no stream", frame(kind::RST_STREAM, 0, 0, &[0; 4]), End(PROTOCOL_ERROR)),
            ("too short", [open(), frame(kind::RST_STREAM, 0, 1, &[0; 3])].concat(), End(FRAME_SIZE_ERROR)),
            ("an unknown code", [open(), frame(kind::RST_STREAM, 0, 1, &[0xff; 4])].concat(), Nothing),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.5, SETTINGS",
        &[
            (
                "a confirmation with payload",
                frame(kind::SETTINGS, flags::ACK, 0, &[0; 6]),
                End(FRAME_SIZE_ERROR),
            ),
            ("of a stream", frame(kind::SETTINGS, 0, 1, b""), End(PROTOCOL_ERROR)),
            ("half a setting", frame(kind::SETTINGS, 0, 0, &[0; 3]), End(FRAME_SIZE_ERROR)),
            ("push neither on nor off", setting(2, 2), End(PROTOCOL_ERROR)),
            ("too large a window", setting(4, 1 << 31), End(FLOW_CONTROL_ERROR)),
            ("too small frames", setting(5, (1 << 14) - 1), End(PROTOCOL_ERROR)),
            ("too large frames", setting(5, 1 << 24), End(PROTOCOL_ERROR)),
            ("an unknown one", setting(0xfafa, 1), Nothing),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.6, PUSH_PROMISE",
        &[(
            "from a client",
            [open(), frame(PUSH_PROMISE, OPEN, 1, &[&[0, 0, 0, 2][..], &request(&[])].concat())].concat(),
            End(PROTOCOL_ERROR),
        )],
    );
    check(
        &gateway,
        "RFC 9113 §6.7, PING",
        &[
            ("an answer to nothing", frame(kind::PING, flags::ACK, 0, b"nothing!"), Nothing),
            ("of a stream", frame(kind::PING, 0, 1, &[0; 8]), End(PROTOCOL_ERROR)),
            ("too short", frame(kind::PING, 0, 0, &[0; 6]), End(FRAME_SIZE_ERROR)),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.8, GOAWAY",
        &[
            ("of a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), End(PROTOCOL_ERROR)),
            ("too short", frame(kind::GOAWAY, 0, 0, &[0; 4]), End(FRAME_SIZE_ERROR)),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §6.9, WINDOW_UPDATE",
        &[
            ("by nothing", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), End(PROTOCOL_ERROR)),
            (
                "by nothing, of a stream",
                [open(), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
                End(PROTOCOL_ERROR),
            ),
            ("too short", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), End(FRAME_SIZE_ERROR)),
        ],
    );
    let begun = head(0, &request(&[])[..10]);
    let more = |flags: u8, block: &[u8]| frame(kind::CONTINUATION, flags, 1, block);
    let rest = request(&[]).split_off(10);
    check(
        &gateway,
        "RFC 9113 §6.10, CONTINUATION",
        &[
            (
                "several",
                [
                    head(flags::END_STREAM, &request(&[])[..10]),
                    more(0, &rest[..5]),
                    more(0, b""),
                    more(OPEN, &rest[5..]),
                ]
                .concat(),
                Answer,
            ),
            (
                "of no stream",
                [begun.clone(), frame(kind::CONTINUATION, OPEN, 0, &rest)].concat(),
                End(PROTOCOL_ERROR),
            ),
            (
                "of another stream",
                [begun, frame(kind::CONTINUATION, OPEN, 3, &rest)].concat(),
                End(PROTOCOL_ERROR),
            ),
            ("behind the end", [open(), more(OPEN, b"")].concat(), End(PROTOCOL_ERROR)),
            (
                "behind DATA",
                [open(), frame(kind::DATA, 0, 1, b"x"), more(OPEN, b"")].concat(),
                End(PROTOCOL_ERROR),
            ),
        ],
    );
}

#[test]
fn pings_and_settings_are_answered() {
    let gateway = gateway();
    let mut http2 = connect(&gateway);
    http2.send(kind::PING, 0, 0, b"whatever").unwrap();
    let answer = http2.wait_for(kind::PING);
    assert_eq!((answer.flags, &answer.payload[..]), (flags::ACK, &b"whatever"[..]));
    http2.send_raw(&setting(0xfafa, 1)).unwrap();
    let answer = http2.wait_for(kind::SETTINGS);
    assert_eq!((answer.flags, answer.payload.len()), (flags::ACK, 0));
    // RFC 9113 §6.8: a client that says goodbye has its answers all the same, whatever its reason.
    http2.request(1, "GET", "/a", &[], true).unwrap();
    http2.send(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]).unwrap();
    let answered = loop {
        let frame = http2.frame();
        match frame {
            Ok(frame) if frame.kind == kind::HEADERS => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    assert!(answered || gateway.has_reached("/a"));
}

/// RFC 9113 §6.9: windows of the client's are kept to, byte by byte, also when they become negative.
#[test]
fn flow_control() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let gateway = gateway();
    let overflow = frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    let of_stream = frame(kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
    check(
        &gateway,
        "RFC 9113 §6.9.1",
        &[
            ("too much of the connection's", overflow, End(FLOW_CONTROL_ERROR)),
            ("too much of a stream's", [open(), of_stream.clone()].concat(), Reset(FLOW_CONTROL_ERROR)),
            // RFC 9113 §6.9.2.
            (
                "too much by a setting",
                [
                    open(),
                    frame(kind::WINDOW_UPDATE, 0, 1, &0x7fff_0000_u32.to_be_bytes()),
                    setting(4, 0x7fff_ffff),
                ]
                .concat(),
                End(FLOW_CONTROL_ERROR),
            ),
        ],
    );
    let mut http2 = connect(&gateway);
    let window = |http2: &mut Http2, size| {
        http2.send_raw(&setting(INITIAL_WINDOW_SIZE, size)).unwrap();
        http2.wait_for(kind::SETTINGS);
    };
    let data = |http2: &mut Http2| http2.wait_for(kind::DATA).payload.len();
    // Several values: the last one counts.
    let two = [
        &INITIAL_WINDOW_SIZE.to_be_bytes()[..],
        &[0, 0, 0, 100],
        &INITIAL_WINDOW_SIZE.to_be_bytes(),
        &[0, 0, 0, 1],
    ];
    http2.send(kind::SETTINGS, 0, 0, &two.concat()).unwrap();
    http2.wait_for(kind::SETTINGS);
    http2.request(1, "GET", "/big/60", &[], true).unwrap();
    assert_eq!(data(&mut http2), 1);
    window(&mut http2, 3);
    assert_eq!(data(&mut http2), 2);
    // By five too little now: what is given back is missing first.
    window(&mut http2, 0);
    http2.send(kind::WINDOW_UPDATE, 0, 1, &2_u32.to_be_bytes()).unwrap();
    http2.send(kind::WINDOW_UPDATE, 0, 1, &5_u32.to_be_bytes()).unwrap();
    assert_eq!(data(&mut http2), 4);
    http2.send(kind::WINDOW_UPDATE, 0, 1, &1000_u32.to_be_bytes()).unwrap();
    let mut left = 60 - 7;
    while left > 0 {
        left -= data(&mut http2);
    }
}

#[test]
fn messages() {
    let gateway = gateway();
    let asks = |fields: &[(&str, &str)]| head(END, &request(fields));
    let without = |name: &str| {
        let all = [(":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", HOST)];
        head(END, &fields_block(&all.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>()))
    };
    let twice = |name: &'static str, value: &'static str| {
        let all =
            [(":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", HOST), (name, value)];
        head(END, &fields_block(&all))
    };
    let late =
        [(":method", "GET"), (":scheme", "https"), ("x-a", "b"), (":path", "/a"), (":authority", HOST)];
    check(
        &gateway,
        "RFC 9113 §8.1",
        &[
            ("trailers that do not end it", [open(), open()].concat(), Reset(PROTOCOL_ERROR)),
            ("trailers", [open(), head(END, &fields_block(&[("x-t", "1")]))].concat(), Answer),
            // They should make the request malformed; the crate drops them, so that they mean nothing to anybody.
            (
                "pseudo-fields in trailers",
                [open(), head(END, &fields_block(&[(":path", "/b")]))].concat(),
                Answer,
            ),
            (
                "upper case in trailers",
                [open(), head(END, &fields_block(&[("X-T", "1")]))].concat(),
                End(PROTOCOL_ERROR),
            ),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §8.2",
        &[
            ("upper case", asks(&[("X-A", "b")]), End(PROTOCOL_ERROR)),
            ("a line break", asks(&[("x-a", "b\r\nx-c: d")]), End(PROTOCOL_ERROR)),
            ("NUL", asks(&[("x-a", "\0")]), End(PROTOCOL_ERROR)),
            ("a blank in front", asks(&[("x-a", " b")]), Refused(400)),
            ("a blank in a name", asks(&[("x a", "b")]), End(PROTOCOL_ERROR)),
            ("a colon in a name", asks(&[("x:a", "b")]), End(PROTOCOL_ERROR)),
            ("no name", asks(&[("", "b")]), End(PROTOCOL_ERROR)),
            ("connection", asks(&[("connection", "keep-alive")]), Refused(400)),
            ("keep-alive", asks(&[("keep-alive", "timeout=5")]), Refused(400)),
            ("proxy-connection", asks(&[("proxy-connection", "keep-alive")]), Refused(400)),
            ("transfer-encoding", asks(&[("transfer-encoding", "chunked")]), Refused(400)),
            ("upgrade", asks(&[("upgrade", "h2c")]), Refused(400)),
            ("te", asks(&[("te", "trailers, deflate")]), Refused(400)),
            ("te: trailers", asks(&[("te", "trailers")]), Answer),
        ],
    );
    check(
        &gateway,
        "RFC 9113 §8.3",
        &[
            ("an unknown one", asks(&[(":test", "ok")]), End(PROTOCOL_ERROR)),
            ("one of responses", asks(&[(":status", "200")]), Refused(400)),
            ("one of extended CONNECT", asks(&[(":protocol", "websocket")]), Refused(400)),
            ("one behind a field", head(END, &fields_block(&late)), Refused(400)),
            ("an empty path", asks(&[(":path", "")]), Refused(400)),
            ("a path that is none", asks(&[(":path", "a")]), Refused(400)),
            ("a whole URI as the path", asks(&[(":path", "https://other.example/")]), Refused(400)),
            ("a host that differs", asks(&[("host", "other.example")]), Refused(400)),
            ("an authority with user", asks(&[(":authority", "user@api.example.com")]), Refused(400)),
            ("an empty authority", asks(&[(":authority", "")]), Refused(400)),
            ("neither authority nor host", without(":authority"), Refused(400)),
            ("no method", without(":method"), Refused(400)),
            ("no scheme", without(":scheme"), Refused(400)),
            ("no path", without(":path"), Refused(400)),
            ("two methods", twice(":method", "GET"), Refused(400)),
            ("two schemes", twice(":scheme", "https"), Refused(400)),
            ("two paths", twice(":path", "/b"), Refused(400)),
            ("two authorities", twice(":authority", HOST), Refused(400)),
            (
                "a host in place of an authority",
                head(
                    END,
                    &fields_block(&[
                        (":method", "GET"),
                        (":scheme", "https"),
                        (":path", "/a"),
                        ("host", HOST),
                    ]),
                ),
                Answer,
            ),
            ("a host beside it", asks(&[("host", HOST)]), Answer),
        ],
    );
    let with_length = |length: &str| head(OPEN, &request(&[("content-length", length)]));
    let body = |flags: u8, bytes: &[u8]| frame(kind::DATA, flags, 1, bytes);
    check(
        &gateway,
        "RFC 9113 §8.1.1",
        &[
            ("a shorter body", [with_length("5"), body(1, b"four")].concat(), Reset(PROTOCOL_ERROR)),
            (
                "a longer body",
                [with_length("5"), body(0, b"four"), body(1, b"four")].concat(),
                Reset(PROTOCOL_ERROR),
            ),
            ("no body", asks(&[("content-length", "5")]), Refused(400)),
            (
                "two lengths",
                head(OPEN, &request(&[("content-length", "5"), ("content-length", "6")])),
                Refused(400),
            ),
            ("a length of letters", with_length("five"), Refused(400)),
            ("a length with sign", with_length("+5"), Refused(400)),
            ("as long as it says", [with_length("5"), body(0, b"fi"), body(1, b"ve!")].concat(), Answer),
        ],
    );
    let reached = gateway.upstream.requests();
    assert!(
        reached.iter().all(|request| matches!(&*request.target, "/a" | "/others" | "/still-there")),
        "{reached:?}"
    );
    assert!(reached.iter().all(|request| request.headers.get("host") == Some(HOST)), "{reached:?}");
}

/// RFC 7541: what is no field block.
#[test]
fn field_blocks() {
    let gateway = gateway();
    let with = |bytes: &[u8]| head(END, &[&request(&[])[..], bytes].concat());
    let before = |bytes: &[u8]| head(END, &[bytes, &request(&[])].concat());
    check(
        &gateway,
        "RFC 7541",
        &[
            ("§2.3.3: an index that is not there", with(b"\xc6"), End(COMPRESSION_ERROR)),
            ("§2.3.3: a name that is not there", with(b"\x7f\x07\x01x"), End(COMPRESSION_ERROR)),
            ("§4.2: a size behind fields", with(b"\x20"), End(COMPRESSION_ERROR)),
            ("§4.2: two sizes in front", before(b"\x20\x3f\xe1\x1f"), Answer),
            (
                "§5.1: a length without end",
                with(b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
                End(COMPRESSION_ERROR),
            ),
            ("§5.1: a text longer than the block", with(b"\x00\x05x-a"), End(COMPRESSION_ERROR)),
            (
                "§5.2: padding of more than 7 bits",
                with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
                End(COMPRESSION_ERROR),
            ),
            (
                "§5.2: padding of zeros",
                with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
                End(COMPRESSION_ERROR),
            ),
            (
                "§5.2: the end of the string in it",
                with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x88\x49\x50\x9f\xff\xff\xff\xfa\x7f"),
                End(COMPRESSION_ERROR),
            ),
            ("§6.1: index 0", with(b"\x80"), End(COMPRESSION_ERROR)),
            ("§6.3: a larger table than allowed", before(b"\x3f\xe2\x1f"), End(COMPRESSION_ERROR)),
        ],
    );
    // The table lives as long as the connection: a field that is put into it, and then asked for.
    let mut http2 = connect(&gateway);
    for (stream, field) in [(1, &b"\x40\x03x-a\x01b"[..]), (3, b"\xbe"), (5, b"\xbe")] {
        let block = [&request(&[])[..], field].concat();
        http2.send(kind::HEADERS, END, stream, &block).unwrap();
        assert_eq!(http2.response(stream).0, 200);
    }
    let requests = gateway.upstream.requests();
    assert!(requests[requests.len() - 3..].iter().all(|request| request.headers.get("x-a") == Some("b")));
    http2.send(kind::GOAWAY, 0, 0, &[0; 8]).unwrap();
    assert_eq!(http2.wait_for_end().unwrap_or(NO_ERROR), NO_ERROR);
}
