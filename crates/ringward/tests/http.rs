//! HTTP/1.1 through the gateway: what passes, what changes on the way, and what is answered here.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

mod support;

use ringward_testkit::{Connection, DEADLINE, Echo, Gate, Pattern, Response, Script, sha256_hex};

use self::support::{Gateway, HOST, Host, PlayedUpstream, byte_by_byte, on_both_drivers};

on_both_drivers!(
    bodiless_responses_keep_the_connection_in_step,
    request_bodies_arrive_whole_in_either_framing,
    pipelined_requests_are_answered_in_order,
    connections_are_kept_alive_on_both_sides,
    expect_100_continue_is_answered_once_the_request_is_allowed,
    a_connection_whose_every_byte_comes_alone_is_served,
);

/// Sends raw bytes and reads one response.
fn exchange(connection: &mut Connection, request: &str) -> Response {
    connection.send(request.as_bytes()).unwrap();
    connection.response().unwrap()
}

fn bodiless_responses_keep_the_connection_in_step(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let mut connection = gateway.connect();
    assert_eq!(Echo::of(&connection.get("/a?b=c").unwrap()).target, "/a?b=c");

    for path in ["/big/1000", "/big-chunked/1000", "/status/204", "/status/304", "/anything"] {
        let head = connection.head("HEAD", path, &[]);
        connection.send(&head).unwrap();
        let response = connection.response_to_head().unwrap();
        assert!(response.keeps_alive(), "{path}: {response:?}");
        // RFC 9110 §9.3.2: what a GET would have had.
        let length = response.headers.get("content-length");
        match path {
            "/big/1000" => assert_eq!(length, Some("1000")),
            "/status/204" => assert_eq!(length, None, "RFC 9110 §8.6"),
            _ => {}
        }
    }
    for (path, status) in
        [("/status/204", 204), ("/status/304", 304), ("/status/404", 404), ("/status/503", 503)]
    {
        let response = connection.get(path).unwrap();
        assert_eq!((response.status, response.body_bytes), (status, 0), "{path}");
        assert!(!response.headers.contains("transfer-encoding"), "{path}");
    }
    assert_eq!(connection.get("/big/1000").unwrap().body, Pattern::new(1000).to_vec());
    assert_eq!(gateway.upstream.connections_accepted(), 1);
}

fn request_bodies_arrive_whole_in_either_framing(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let mut connection = gateway.connect();
    for bytes in [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 200_000] {
        let body = Pattern::new(bytes);
        for chunked in [false, true] {
            let echo = Echo::of(&connection.upload("/upload", body, chunked).unwrap());
            assert_eq!(
                (echo.body_bytes, echo.body_sha256),
                (bytes, body.sha256_hex()),
                "{bytes}, chunked {chunked}"
            );
            let framing = (echo.headers.get("content-length"), echo.headers.get("transfer-encoding"));
            let length = bytes.to_string();
            assert_eq!(framing, if chunked { (None, Some("chunked")) } else { (Some(&*length), None) });
        }
    }
    let extended = "5;a=b\r\nhello\r\n006;x=\"y;z\"\r\n world\r\n0;last\r\n\r\n";
    let request = format!("PUT /x HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n{extended}");
    assert_eq!(Echo::of(&exchange(&mut connection, &request)).body_sha256, sha256_hex(b"hello world"));
    assert!(gateway.upstream.errors().is_empty());
}

fn pipelined_requests_are_answered_in_order(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let mut connection = gateway.connect();
    let mut requests = Vec::new();
    for number in 0..20 {
        let target = format!("/request/{number}");
        match number % 3 {
            0 => requests.extend(connection.head("GET", &target, &[])),
            1 => {
                requests.extend(connection.head("POST", &target, &[("content-length", "4")]));
                requests.extend(b"body");
            }
            _ => {
                requests.extend(connection.head("PUT", &target, &[("transfer-encoding", "chunked")]));
                requests.extend(b"4\r\nbody\r\n0\r\n\r\n");
            }
        }
    }
    connection.send(&requests).unwrap();
    for number in 0..20 {
        let echo = Echo::of(&connection.response().unwrap());
        assert_eq!(echo.target, format!("/request/{number}"));
        assert_eq!(echo.body_bytes, if number % 3 == 0 { 0 } else { 4 });
    }
}

#[test]
fn a_denied_request_in_a_pipeline_does_not_disturb_the_others() {
    let policy = "package ringward.authz\n\ndecision if input.request.path != \"/denied\"\n";
    let gateway = Gateway::builder().policy("main", policy).host(Host::new(&[HOST]).policy("main")).start();
    let mut connection = gateway.connect();
    let paths = ["/a", "/denied", "/b", "/denied", "/c"];
    let requests: Vec<u8> = paths.iter().flat_map(|path| connection.head("GET", path, &[])).collect();
    connection.send(&requests).unwrap();
    for path in paths {
        let response = connection.response().unwrap();
        match path {
            "/denied" => assert_eq!((response.status, response.text()), (403, "forbidden\n")),
            _ => assert_eq!(Echo::of(&response).target, path),
        }
    }
    assert_eq!(gateway.upstream.requests().len(), 3);
}

fn connections_are_kept_alive_on_both_sides(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    for _ in 0..3 {
        let mut connection = gateway.connect();
        for _ in 0..3 {
            let response = connection.get("/echo").unwrap();
            assert!(response.keeps_alive() && !response.headers.contains("connection"));
        }
    }
    assert_eq!(gateway.upstream.connections_accepted(), 1);
    gateway.wait_for_metric("ringward_upstream_connections_opened_total", &[("cluster", "echo")], 1.0);
    gateway.wait_for_metric("ringward_upstream_connections_reused_total", &[("cluster", "echo")], 8.0);
    gateway.wait_for_closed("peer", 3);
}

#[test]
fn connection_close_ends_the_clients_connection_and_not_the_upstreams() {
    let gateway = Gateway::start();
    for value in ["close", "Close", "keep-alive, CLOSE"] {
        let mut connection = gateway.connect();
        let response = connection.request("GET", "/", &[("connection", value)], b"").unwrap();
        assert_eq!(response.headers.get("connection"), Some("close"), "{value}");
        let (rest, closing) = connection.wait_closed();
        assert!(rest.is_empty() && closing == ringward_testkit::Closing::Notified, "{value}: {closing:?}");
    }
    assert_eq!(gateway.upstream.connections_accepted(), 1);
    assert!(gateway.upstream.requests().iter().all(|request| !request.headers.contains("connection")));
    // What follows the last request is no request.
    let mut connection = gateway.connect();
    let last = connection.head("GET", "/last", &[("connection", "close")]);
    let ignored = connection.head("GET", "/ignored", &[]);
    connection.send(&[last, ignored].concat()).unwrap();
    assert_eq!(Echo::of(&connection.response().unwrap()).target, "/last");
    assert!(connection.wait_closed().0.is_empty());
    assert!(gateway.upstream.requests().iter().all(|request| request.target != "/ignored"));
}

#[test]
fn an_upstream_that_closes_does_not_close_the_client() {
    let gateway = Gateway::start();
    gateway.upstream.on("/last", Script::new().respond(200, &[("connection", "close")], "bye").close());
    let mut connection = gateway.connect();
    for _ in 0..3 {
        let response = connection.get("/last").unwrap();
        assert!(response.keeps_alive() && response.text() == "bye");
    }
    assert_eq!(gateway.upstream.connections_accepted(), 3);
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let gateway = Gateway::start();
    gateway
        .upstream
        .on("/hints", Script::new().send("HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n").respond(200, &[], "ok"));

    let mut connection = gateway.connect();
    let response = exchange(&mut connection, &format!("GET /a HTTP/1.0\r\nhost: {HOST}\r\n\r\n"));
    assert_eq!(Echo::of(&response).headers.get("host"), Some(HOST));
    assert_eq!(response.headers.get("connection"), Some("close"));
    assert!(connection.wait_closed().0.is_empty());

    let mut connection = gateway.connect();
    let kept = format!("GET /hints HTTP/1.0\r\nhost: {HOST}\r\nconnection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        let response = exchange(&mut connection, &kept);
        assert_eq!((response.status, response.headers.get("connection")), (200, Some("keep-alive")));
        assert!(response.interim.is_empty(), "RFC 9110 §15.2: no 1xx to HTTP/1.0");
    }
    // RFC 9112 §6.1: never chunked to HTTP/1.0, so that only closing can end a body of unknown length.
    let chunked =
        format!("GET /big-chunked/100000 HTTP/1.0\r\nhost: {HOST}\r\nconnection: keep-alive\r\n\r\n");
    let response = exchange(&mut connection, &chunked);
    assert!(response.until_close && !response.headers.contains("transfer-encoding"));
    assert_eq!(response.body, Pattern::new(100_000).to_vec());
}

fn expect_100_continue_is_answered_once_the_request_is_allowed(driver: &str) {
    let policy = "package ringward.authz\n\ndecision if input.request.path != \"/denied\"\n";
    let host = Host::new(&[HOST]).policy("main");
    let gateway = Gateway::builder()
        .io(driver)
        .limits("body_bytes_max = \"1MiB\"")
        .policy("main", policy)
        .host(host)
        .start();

    let mut connection = gateway.connect();
    let expecting = [("expect", "100-continue"), ("content-length", "5")];
    let head = connection.head("POST", "/allowed", &expecting);
    connection.send(&head).unwrap();
    let requests = gateway.upstream.wait_for_requests(1, DEADLINE);
    assert!(!requests[0].headers.contains("expect"), "the gateway has answered it itself");
    // Blocks until something comes, and nothing but the interim response can.
    connection.tcp().peek(&mut [0]).unwrap();
    connection.send(b"hello").unwrap();
    let response = connection.response().unwrap();
    assert_eq!((&response.interim[..], Echo::of(&response).body_sha256), (&[100][..], sha256_hex(b"hello")));

    // A client that does not wait gets none (RFC 9110 §10.1.1 allows to leave it out).
    let head = connection.head("POST", "/allowed", &expecting);
    connection.send(&[&head[..], b"hello"].concat()).unwrap();
    assert_eq!(Echo::of(&connection.response().unwrap()).body_bytes, 5);

    for (path, length, status) in [("/denied", "5", 403), ("/allowed", "1048577", 413)] {
        let mut connection = gateway.connect();
        let head = connection.head("POST", path, &[("expect", "100-continue"), ("content-length", length)]);
        connection.send(&head).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, &response.interim[..]), (status, &[][..]), "{path}");
        assert_eq!(response.headers.get("connection"), Some("close"), "the body may or may not follow");
    }
    // RFC 9110 §10.1.1: HTTP/1.0 knows no interim responses, so the expectation says nothing there.
    let mut connection = gateway.connect();
    let request = format!(
        "POST /allowed HTTP/1.0\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    );
    connection.send(request.as_bytes()).unwrap();
    gateway.upstream.wait_for_requests(3, DEADLINE);
    connection.send(b"hello").unwrap();
    let response = connection.response().unwrap();
    assert_eq!((&response.interim[..], Echo::of(&response).body_bytes), (&[][..], 5));

    let mut connection = gateway.connect();
    let response =
        connection.request("POST", "/", &[("expect", "a-miracle"), ("content-length", "0")], b"").unwrap();
    assert_eq!(response.status, 417);
    assert_eq!(gateway.upstream.requests().len(), 3);
}

#[test]
fn routes_answer_404_and_405_with_allow() {
    let host = Host::new(&[HOST])
        .route("path = \"/orders/{id}\", methods = [\"GET\", \"PUT\"]", "")
        .route("path = \"/orders\", methods = [\"POST\"]", "");
    let gateway = Gateway::builder().host(host).start();
    let mut connection = gateway.connect();
    for (method, path, status, allow) in [
        ("GET", "/orders/1", 200, None),
        ("PUT", "/orders/1", 200, None),
        ("POST", "/orders", 200, None),
        ("DELETE", "/orders/1", 405, Some("GET, PUT")),
        ("HEAD", "/orders/1", 405, Some("GET, PUT")),
        ("get", "/orders/1", 405, Some("GET, PUT")),
        ("GET", "/orders", 405, Some("POST")),
        ("GET", "/orders/", 404, None),
        ("GET", "/orders/1/2", 404, None),
        ("GET", "/ORDERS/1", 404, None),
        ("GET", "/", 404, None),
    ] {
        let response = connection.request(method, path, &[], b"").unwrap();
        assert_eq!((response.status, response.headers.get("allow")), (status, allow), "{method} {path}");
        assert!(response.keeps_alive(), "{method} {path}");
    }
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "method_not_allowed")], 4.0);
    gateway.wait_for_metric("ringward_responses_generated_total", &[("flag", "no_route")], 4.0);
}

#[test]
fn an_encoded_slash_passes_only_where_a_route_allows_it() {
    let host = Host::new(&[HOST])
        .route("path = \"/files/{rest...}\"", "allow_encoded_slash = true")
        .route("path = \"/strict/{rest...}\"", "");
    let gateway = Gateway::builder().host(host).start();
    let mut connection = gateway.connect();
    assert_eq!(Echo::of(&connection.get("/files/a%2fb").unwrap()).target, "/files/a%2Fb");
    assert_eq!(connection.get("/strict/a%2Fb").unwrap().status, 400);
    assert_eq!(gateway.upstream.requests().len(), 1);
    // This is an escaped `%`, and stays one.
    assert_eq!(Echo::of(&connection.get("/strict/a%252Fb").unwrap()).target, "/strict/a%252Fb");
}

#[test]
fn one_normalised_path_goes_upstream() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    for (target, expected) in [
        ("/a/./b/../c", "/a/c"),
        ("/%61/%7Eb", "/a/~b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a%3ab", "/a%3Ab"),
        ("/a?x=%2F&y=/../z", "/a?x=%2F&y=/../z"),
        ("/a?", "/a?"),
    ] {
        let response = connection.get(target).unwrap();
        assert_eq!(Echo::of(&response).target, expected, "{target}");
    }
    let absolute = format!("GET https://{HOST}/a/../b HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    assert_eq!(Echo::of(&exchange(&mut connection, &absolute)).target, "/b");
}

#[test]
fn interim_responses_are_passed_on_except_100() {
    let gateway = Gateway::start();
    let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
    gateway.upstream.on("/hints", Script::new().send(hints).send(hints).respond(200, &[], "ok"));
    gateway.upstream.on(
        "/endless",
        Script::new().send("HTTP/1.1 102 Processing\r\n\r\n".repeat(17)).respond(200, &[], ""),
    );
    let mut connection = gateway.connect();
    let response = connection.get("/hints").unwrap();
    assert_eq!((&response.interim[..], response.text()), (&[103, 103][..], "ok"));
    assert_eq!(connection.get("/endless").unwrap().status, 502);
}

#[test]
fn an_interim_response_reaches_the_client_before_the_final_one_is_there() {
    let gateway = Gateway::start();
    let gate = Gate::new();
    let script = Script::new().send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").wait(&gate).respond(
        200,
        &[],
        "ok",
    );
    gateway.upstream.on("/hints", script);
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/hints", &[]);
    connection.send(&head).unwrap();
    connection.tcp().peek(&mut [0]).unwrap();
    gate.open();
    assert_eq!(connection.response().unwrap().interim, [103]);
}

#[test]
fn a_body_without_length_is_chunked_for_http_1_1() {
    let gateway = Gateway::start();
    let script = Script::new().send("HTTP/1.1 200 OK\r\n\r\n").send_pattern(Pattern::new(50_000)).close();
    gateway.upstream.on("/until-close", script);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        let response = connection.get("/until-close").unwrap();
        assert_eq!(response.headers.get("transfer-encoding"), Some("chunked"));
        assert_eq!(response.body, Pattern::new(50_000).to_vec());
        assert!(response.keeps_alive());
    }
}

#[test]
fn our_own_answers_are_complete_messages() {
    let gateway = Gateway::builder().host(Host::new(&[HOST]).route("path = \"/only\"", "")).start();
    let mut connection = gateway.connect();
    let response = connection.get("/other").unwrap();
    assert_eq!(
        (response.status, response.reason.as_str(), response.text()),
        (404, "Not Found", "not found\n")
    );
    assert!(response.headers.contains("date") && response.headers.contains("content-type"));
    let head = connection.head("HEAD", "/other", &[]);
    connection.send(&head).unwrap();
    let response = connection.response_to_head().unwrap();
    assert_eq!(response.headers.get("content-length"), Some("10"));
    assert_eq!(connection.get("/only").unwrap().status, 200, "nothing is left over from the answer to HEAD");
}

/// Records, heads, chunks and bodies may be cut anywhere, in both directions.
fn a_connection_whose_every_byte_comes_alone_is_served(driver: &str) {
    let gateway = Gateway::builder().io(driver).start();
    let mut connection = gateway.client().connect(byte_by_byte(gateway.edge)).unwrap();
    for chunked in [false, true] {
        let body = Pattern::new(20_000);
        let echo = Echo::of(&connection.upload("/upload", body, chunked).unwrap());
        assert_eq!(echo.body_sha256, body.sha256_hex());
    }
    assert_eq!(connection.get("/big-chunked/20000").unwrap().body, Pattern::new(20_000).to_vec());
    assert_eq!(connection.get("/trailers").unwrap().trailers.get("x-checksum"), Some("ok"));
}

#[test]
fn upstreams_may_speak_http_1_0() {
    let gateway = Gateway::start();
    gateway.upstream.on("/length", Script::new().send("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"));
    gateway.upstream.on("/close", Script::new().send("HTTP/1.0 200 OK\r\n\r\nok").close());
    gateway.upstream.on(
        "/chunked",
        Script::new().send("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    );
    let mut connection = gateway.connect();
    for path in ["/length", "/close"] {
        let response = connection.get(path).unwrap();
        assert_eq!(
            (response.minor_version, response.text(), response.keeps_alive()),
            (1, "ok", true),
            "{path}"
        );
    }
    // RFC 9112 §6.1: faulty framing.
    assert_eq!(connection.get("/chunked").unwrap().status, 502);
    assert_eq!(gateway.upstream.connections_accepted(), 3, "none of them persists");
}

#[test]
fn what_follows_a_body_is_the_next_request_and_nothing_else() {
    let gateway = Gateway::start();
    let mut connection = gateway.connect();
    let head = connection.head("POST", "/first", &[("content-length", "2")]);
    connection.send(&[&head[..], b"ok, and more\r\n\r\n"].concat()).unwrap();
    assert_eq!(Echo::of(&connection.response().unwrap()).body_sha256, sha256_hex(b"ok"));
    assert_eq!(connection.response().unwrap().status, 400);
    assert!(connection.wait_closed().0.is_empty());
    assert_eq!(gateway.upstream.requests().len(), 1);
}

#[test]
fn a_response_passes_piece_by_piece() {
    let played = PlayedUpstream::start();
    let gateway = Gateway::builder().endpoints(&[played.address()], "").start();
    let mut connection = gateway.connect();
    let head = connection.head("GET", "/events", &[]);
    connection.send(&head).unwrap();
    let mut upstream = played.accept();
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    // The rest is sent only when the first piece has reached the client.
    connection.tcp().peek(&mut [0]).unwrap();
    upstream.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(connection.response().unwrap().text(), "firstsecond");
}
