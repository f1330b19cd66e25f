//! Responses that come in pieces over a long time, such as server-sent events and the output of models: each piece leaves as it
//! comes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, Gate, Http2, Pattern, Script, flags, kind};

use self::support::{Builder, Gateway, on_both_drivers};

on_both_drivers!(
    events_leave_as_they_come_over_http_1,
    events_leave_as_they_come_over_http_2,
    who_does_not_read_stops_the_upstream,
);

/// A client may pause for much less than the upstream.
fn builder() -> Builder {
    Gateway::builder().listener("http2 = true").limits("body_timeout = \"200ms\"")
}

/// Says an event each time that one of the gates opens. The length of an event is that of its number.
fn events(gateway: &Gateway, path: &str, framing: &str) -> Vec<Gate> {
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    let is_chunked = framing.contains("chunked");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n");
    let script = gates.iter().enumerate().fold(Script::new().send(head), |script, (number, gate)| {
        let event = event(number);
        let piece = if is_chunked { format!("{:x}\r\n{event}\r\n", event.len()) } else { event };
        script.wait(gate).send(piece)
    });
    gateway.upstream.on(path, if is_chunked { script.send("0\r\n\r\n") } else { script.close() });
    gates
}

fn event(number: usize) -> String {
    format!("data: event {number}\n\n")
}

/// Returns once more time has passed than a client may be silent for: who stalls in a body is thrown out then.
fn outlast_body_timeout(gateway: &Gateway) {
    for _ in 0..2 {
        let mut stalling = gateway.connect();
        let head = stalling.head("POST", "/", &[("content-length", "100000")]);
        stalling.send(&head).unwrap();
        assert_eq!(stalling.response().unwrap().status, 408);
    }
}

/// Reads until what has come ends with `text`.
#[track_caller]
fn read_up_to(connection: &mut Connection, text: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(text.as_bytes()) {
        read.extend(connection.exactly(1).unwrap());
    }
    String::from_utf8(read).unwrap()
}

const FRAMINGS: [(&str, &str); 2] = [("/chunked", "transfer-encoding: chunked\r\n"), ("/close", "")];

fn events_leave_as_they_come_over_http_1(driver: &str) {
    let gateway = builder().io(driver).start();
    for (path, framing) in FRAMINGS {
        let gates = events(&gateway, path, framing);
        let mut connection = gateway.connect();
        let head = connection.head("GET", path, &[("accept", "text/event-stream")]);
        connection.send(&head).unwrap();
        let head = read_up_to(&mut connection, "\r\n\r\n");
        assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
        for (number, gate) in gates.iter().enumerate() {
            if number == 1 {
                outlast_body_timeout(&gateway);
            }
            gate.open();
            read_up_to(&mut connection, &format!("{}\r\n", event(number)));
        }
        read_up_to(&mut connection, "0\r\n\r\n");
    }
}

fn events_leave_as_they_come_over_http_2(driver: &str) {
    let gateway = builder().io(driver).start();
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    for (stream, (path, framing)) in [1, 3].into_iter().zip(FRAMINGS) {
        let gates = events(&gateway, path, framing);
        http2.request(stream, "GET", path, &[("accept", "text/event-stream")], true).unwrap();
        assert_eq!(http2.wait_for(kind::HEADERS).status(), 200);
        for (number, gate) in gates.iter().enumerate() {
            if number == 1 {
                outlast_body_timeout(&gateway);
            }
            gate.open();
            let frame = http2.wait_for(kind::DATA);
            assert_eq!(frame.payload, event(number).as_bytes(), "{path}");
            if number == 2 && frame.flags & flags::END_STREAM == 0 {
                assert_eq!(http2.wait_for(kind::DATA).payload, b"", "the end");
            }
        }
    }
}

/// The client's pace is the upstream's: of a response that nobody takes we have read no more than fits on the way.
fn who_does_not_read_stops_the_upstream(driver: &str) {
    const WAY_BYTES_MAX: u64 = 24 << 20;
    let gateway = builder().io(driver).start();
    for (path, framing) in FRAMINGS {
        // The pattern is no chunk, but one of its size.
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        let head = if path == "/chunked" { format!("{head}10000000\r\n") } else { head };
        gateway.upstream.on(path, Script::new().send(head).send_pattern(Pattern::new(256 << 20)).close());
    }
    let mut unread = Vec::new();
    for (path, _) in FRAMINGS {
        let mut connection = gateway.connect();
        let head = connection.head("GET", path, &[]);
        connection.send(&head).unwrap();
        unread.push(connection);
    }
    let mut http2 = Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    for (stream, (path, _)) in [1, 3].into_iter().zip(FRAMINGS) {
        http2.request(stream, "GET", path, &[], true).unwrap();
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "client_stalled")], 4.0);
    for record in gateway.lines("request") {
        let sent = record["sent_bytes"].as_u64().unwrap();
        let most = if record["protocol"] == "HTTP/2" { 1 << 20 } else { WAY_BYTES_MAX };
        assert!(sent < most, "{sent}: {record}");
    }
    assert!(gateway.peak_resident_bytes() < 128 << 20, "{}", gateway.peak_resident_bytes());
}
