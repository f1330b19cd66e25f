//! Header and trailer fields on their way: what passes untouched, what ends here, and what the gateway says of itself and the
//! client. Identity has tests of its own.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, Echo, Headers, Script};

use self::support::{Gateway, HOST, Host};

/// What the upstream received for a GET with these fields.
fn echo(connection: &mut Connection, fields: &[(&str, &str)]) -> Headers {
    Echo::of(&connection.request("GET", "/echo", fields, b"").unwrap()).headers
}

#[test]
fn hop_by_hop_fields_end_here() {
    let gateway = Gateway::start();
    gateway.upstream.on(
        "/response",
        Script::new().send(
            "HTTP/1.1 200 OK\r\nconnection: x-private, keep-alive\r\nx-private: 1\r\nkeep-alive: timeout=5\r\n\
             proxy-connection: x\r\nupgrade: h2c\r\nx-public: 2\r\ncontent-length: 0\r\n\r\n",
        ),
    );
    let mut connection = gateway.connect();
    let headers = echo(
        &mut connection,
        &[
            ("x-a", "1"),
            ("Connection", "X-A"),
            ("connection", "keep-alive, x-b"),
            ("x-b", "2"),
            ("x-c", "3"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "websocket"),
        ],
    );
    for gone in ["x-a", "x-b", "connection", "keep-alive", "te", "proxy-connection", "upgrade"] {
        assert!(!headers.contains(gone), "{gone}: {headers:?}");
    }
    assert_eq!(headers.get("x-c"), Some("3"));

    let response = connection.get("/response").unwrap();
    for gone in ["x-private", "connection", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!response.headers.contains(gone), "{gone}: {:?}", response.headers);
    }
    assert_eq!(response.headers.get("x-public"), Some("2"));
}

#[test]
fn fields_pass_as_they_were_sent() {
    let gateway = Gateway::start();
    gateway.upstream.on("/response", Script::new().send(b"HTTP/1.1 200 Sure Thing\r\nX-Latin: \xe9\xff\r\nSet-Cookie: a\r\nset-cookie: b\r\nx-empty:\r\ncontent-length: 0\r\n\r\n"));
    let mut connection = gateway.connect();
    let mut request = connection.head(
        "GET",
        "/echo",
        &[("X-Case", "a  b"), ("x_under", "1"), ("x-empty", ""), ("cookie", "a"), ("Cookie", "b")],
    );
    request.truncate(request.len() - 2);
    request.extend(b"x-latin: \xe9\xff\r\n\r\n");
    connection.send(&request).unwrap();
    let headers = Echo::of(&connection.response().unwrap()).headers;
    let expected = [
        ("X-Case", "a  b"),
        ("x_under", "1"),
        ("x-empty", ""),
        ("cookie", "a"),
        ("Cookie", "b"),
        ("x-latin", "\u{e9}\u{ff}"),
    ];
    let sent: Vec<_> = headers.iter().filter(|field| expected.contains(field)).collect();
    assert_eq!(sent, expected, "in this order, with these names");

    let response = connection.get("/response").unwrap();
    assert_eq!(
        (response.reason.as_str(), response.headers.get("x-latin")),
        ("Sure Thing", Some("\u{e9}\u{ff}"))
    );
    assert_eq!(
        (response.headers.all("set-cookie"), response.headers.get("x-empty")),
        (vec!["a", "b"], Some(""))
    );
}

#[test]
fn via_continues_the_clients_or_is_left_out() {
    for (forward, sent, expected) in [
        ("", None, Some("1.1 ringward")),
        ("", Some("1.0 fred"), Some("1.0 fred, 1.1 ringward")),
        ("via = \"edge-7\"", None, Some("1.1 edge-7")),
        ("via = \"\"", None, None),
    ] {
        let gateway = Gateway::builder().host(Host::new(&[HOST]).forward(forward)).start();
        let fields: Vec<_> = sent.map(|value| ("via", value)).into_iter().collect();
        assert_eq!(echo(&mut gateway.connect(), &fields).get("via"), expected, "{forward:?} with {sent:?}");
    }
}

#[test]
fn forwarded_fields_follow_their_mode() {
    let claims = [
        ("X-Forwarded-For", "10.9.9.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("X_Forwarded_For", "10.8.8.8"),
        ("forwarded", "for=10.9.9.9"),
    ];
    let ours = format!("for=127.0.0.1;host={HOST};proto=https");
    let continued = format!("for=10.9.9.9, {ours}");
    // Modes; what is expected of -For, -Proto, -Host and Forwarded; whether -Port passes.
    let table = [
        ("x_forwarded = \"off\", forwarded = \"off\"", None, None, None, None, false),
        ("", Some("127.0.0.1"), Some("https"), Some(HOST), None, false),
        ("forwarded = \"set\"", Some("127.0.0.1"), Some("https"), Some(HOST), Some(&*ours), false),
        (
            "x_forwarded = \"append\", forwarded = \"append\"",
            Some("10.9.9.9, 127.0.0.1"),
            Some("http"),
            Some("evil.example"),
            Some(&*continued),
            true,
        ),
    ];
    for (modes, client, proto, host, forwarded, port) in table {
        let gateway = Gateway::builder().host(Host::new(&[HOST]).forward(modes)).start();
        let headers = echo(&mut gateway.connect(), &claims);
        assert_eq!(headers.get("x-forwarded-for"), client, "{modes}");
        assert_eq!(headers.get("x-forwarded-proto"), proto, "{modes}");
        assert_eq!(headers.get("x-forwarded-host"), host, "{modes}");
        assert_eq!(headers.get("forwarded"), forwarded, "{modes}");
        assert_eq!(headers.contains("x-forwarded-port"), port, "{modes}");
        assert!(!headers.contains("x_forwarded_for"), "{modes}");
    }
}

#[test]
fn date_is_added_if_the_upstream_sent_none() {
    let gateway = Gateway::start();
    let theirs = "Sun, 06 Nov 1994 08:49:37 GMT";
    gateway.upstream.on("/dated", Script::new().respond(200, &[("Date", theirs)], ""));
    let mut connection = gateway.connect();
    assert_eq!(connection.get("/dated").unwrap().headers.get("date"), Some(theirs));
    let response = connection.get("/undated").unwrap();
    let date = response.headers.get("date").unwrap();
    assert!(date.ends_with(" GMT") && date.len() == theirs.len() && date != theirs, "{date}");
}

#[test]
fn trailers_pass_both_ways_without_those_that_may_not() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let trailers =
        "x-checksum: abc\r\ncontent-length: 99\r\ntransfer-encoding: x\r\nhost: evil\r\nauthorization: x\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n"
    );
    connection.send(request.as_bytes()).unwrap();
    let echo = Echo::of(&connection.response().unwrap());
    assert_eq!(echo.trailers.iter().collect::<Vec<_>>(), [("x-checksum", "abc")]);

    let response = connection.get("/trailers").unwrap();
    assert_eq!((response.text(), response.trailers.get("x-checksum")), ("first second", Some("ok")));
    assert!(response.keeps_alive());
}
