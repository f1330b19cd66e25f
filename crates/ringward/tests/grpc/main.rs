//! gRPC through the gateway: what clients are told, their deadlines, and routes by service and method.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod upstream;

use ringward_testkit::{Gate, Http2, Pattern, Script, flags, kind};

use self::support::{Builder, Gateway, HOST, Host, PlayedUpstream, on_both_drivers};

on_both_drivers!(
    what_we_answer_ends_calls_with_a_status,
    a_call_ends_at_its_deadline,
    a_stream_is_cancelled_at_its_deadline,
);

const GRPC: (&str, &str) = ("content-type", "application/grpc");
// RFC 9113 §7.
const CANCEL: u32 = 8;

fn builder() -> Builder {
    Gateway::builder().listener("http2 = true")
}

fn connect(gateway: &Gateway) -> Http2 {
    Http2::new(gateway.client().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[])
}

/// How a call ended.
#[derive(Debug, Default)]
struct Ended {
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    /// The response is one head without body.
    is_trailers_only: bool,
}

impl Ended {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Status of HTTP, status of gRPC, message of gRPC.
    fn outcome(&self) -> (&str, Option<&str>, Option<&str>) {
        (self.field(":status").unwrap(), self.field("grpc-status"), self.field("grpc-message"))
    }
}

/// Makes a call without a body.
fn call(http2: &mut Http2, stream: u32, path: &str, fields: &[(&str, &str)]) -> Ended {
    let fields = [&[GRPC], fields].concat();
    http2.request(stream, "POST", path, &fields, true).unwrap();
    end(http2, stream)
}

/// Reads a response to its end.
#[track_caller]
fn end(http2: &mut Http2, stream: u32) -> Ended {
    let mut ended = Ended::default();
    loop {
        let frame = http2.frame().unwrap();
        if frame.stream != stream || !matches!(frame.kind, kind::HEADERS | kind::DATA | kind::RST_STREAM) {
            continue;
        }
        match frame.kind {
            kind::HEADERS => {
                ended.is_trailers_only = ended.fields.is_empty() && frame.flags & flags::END_STREAM != 0;
                ended.fields.extend(frame.fields());
            }
            kind::DATA => ended.body.extend_from_slice(&frame.payload),
            _ => panic!("the stream is reset with {}, after {ended:?}", frame.code()),
        }
        if frame.flags & flags::END_STREAM != 0 {
            return ended;
        }
    }
}

fn what_we_answer_ends_calls_with_a_status(driver: &str) {
    let policy = "package ringward.authz\n\ndecision if not startswith(input.request.path, \"/closed\")\n\n\
                  decision := {\"allowed\": false, \"body\": \"not you: 100 %\\n\", \"headers\": {\"x-why\": \"quota\", \
                  \"grpc-status\": \"0\"}} if input.request.path == \"/closed.S/Quota\"\n\n\
                  decision := {\"allowed\": false, \"http_status\": 404} if input.request.path == \"/closed.S/Hidden\"\n";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("path = \"/{service}/{method}\"", "body_bytes_max = \"1KiB\"\nresponse_timeout = \"300ms\"");
    let gateway = builder().io(driver).policy("main", policy).host(host).start();
    gateway.upstream.on("/open.S/Closes", Script::new().close());
    gateway.upstream.on("/open.S/Babbles", Script::new().send("HTTP/2 huh\r\n\r\n").close());
    let gate = Gate::new();
    gateway.upstream.on("/open.S/Sleeps", Script::new().wait(&gate));
    let mut http2 = connect(&gateway);
    for (index, (path, (code, word), message, flag, status)) in [
        ("/closed.S/Quota", ("7", "permission_denied"), "not you: 100 %25", "policy_denied", 403),
        ("/closed.S/Hidden", ("12", "unimplemented"), "not found", "policy_denied", 404),
        ("/closed.S/Other", ("7", "permission_denied"), "forbidden", "policy_undefined", 403),
        ("/nowhere", ("12", "unimplemented"), "not found", "no_route", 404),
        ("/open.S/Closes", ("14", "unavailable"), "bad gateway", "upstream_closed", 502),
        ("/open.S/Babbles", ("13", "internal"), "bad gateway", "upstream_head_malformed", 502),
        ("/open.S/Sleeps", ("4", "deadline_exceeded"), "gateway timeout", "upstream_timeout", 504),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 4 * index as u32 + 1;
        let ended = call(&mut http2, stream, path, &[]);
        assert_eq!(ended.outcome(), ("200", Some(code), Some(message)), "{path}: {ended:?}");
        assert!(ended.is_trailers_only, "{path}: {ended:?}");
        assert_eq!(ended.field("content-type"), Some("application/grpc"), "{path}");
        let record = gateway.wait_for_record("path", path);
        assert_eq!((&record["status"], &record["flag"]), (&200.into(), &flag.into()), "{record}");
        assert_eq!(record["grpc_status"], word, "{record}");
        // The same for a client of HTTP.
        http2.request(stream + 2, "POST", path, &[], true).unwrap();
        assert_eq!(http2.response(stream + 2).0, status, "{path}");
    }
    let ended = call(&mut http2, 101, "/closed.S/Quota", &[]);
    assert_eq!(ended.field("x-why"), Some("quota"), "fields of the policy go along");
    assert_eq!(
        ended.fields.iter().filter(|(name, _)| name == "grpc-status").count(),
        1,
        "but not its status"
    );

    http2.request(103, "POST", "/open.S/Large", &[GRPC, ("content-length", "2000")], false).unwrap();
    assert_eq!(end(&mut http2, 103).outcome(), ("200", Some("8"), Some("content too large")));
    gateway.wait_for_metric(
        "ringward_grpc_requests_finished_total",
        &[("grpc_status", "permission_denied")],
        3.0,
    );
    gateway.wait_for_metric("ringward_grpc_requests_finished_total", &[], 9.0);
    gate.open();
}

#[test]
fn a_call_without_a_certificate_is_unauthenticated() {
    let host = Host::new(&[HOST])
        .route("path = \"/open.S/{m}\"", "client_auth = \"optional\"")
        .route("path = \"/closed.S/{m}\"", "");
    let gateway = builder().host(host).start();
    let mut http2 = Http2::new(gateway.anonymous().alpn(&["h2"]).connect(gateway.edge).unwrap(), &[]);
    assert_eq!(call(&mut http2, 1, "/open.S/A", &[]).outcome().0, "200");
    assert_eq!(call(&mut http2, 3, "/closed.S/A", &[]).outcome(), ("200", Some("16"), Some("forbidden")));
}

/// Who understands 421 asks again on another connection, which is about HTTP and not about the call.
#[test]
fn a_misdirected_call_is_421() {
    let gateway = builder().start();
    let mut http2 = connect(&gateway);
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/a.S/M"),
        (":authority", "none.example"),
        GRPC,
    ];
    let block: Vec<u8> = head
        .iter()
        .flat_map(|(name, value)| {
            [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
        })
        .collect();
    http2.send(kind::HEADERS, flags::END_HEADERS | flags::END_STREAM, 1, &block).unwrap();
    assert_eq!(end(&mut http2, 1).outcome(), ("421", None, None));
    let record = gateway.wait_for_record("status", 421);
    assert_eq!(record["grpc_status"], "none", "{record}");
}

#[test]
fn the_upstreams_status_is_passed_on_and_recorded() {
    let gateway = builder().start();
    let trailers = [("grpc-status", "5"), ("grpc-message", "no such order")];
    gateway.upstream.on("/a.S/Trailers", Script::new().respond_chunked(200, &[GRPC], &["12345"], &trailers));
    gateway.upstream.on("/a.S/Head", Script::new().respond(200, &[GRPC, ("grpc-status", "14")], ""));
    gateway.upstream.on("/a.S/None", Script::new().respond(200, &[GRPC], "12345"));
    let broken = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n";
    gateway.upstream.on("/a.S/Broken", Script::new().send(broken).close());
    let mut http2 = connect(&gateway);
    let ended = call(&mut http2, 1, "/a.S/Trailers", &[]);
    assert_eq!(
        (ended.outcome(), &ended.body[..]),
        (("200", Some("5"), Some("no such order")), &b"12345"[..])
    );
    assert_eq!(call(&mut http2, 3, "/a.S/Head", &[]).outcome(), ("200", Some("14"), None));
    assert_eq!(call(&mut http2, 5, "/a.S/None", &[]).outcome(), ("200", None, None));
    http2.request(7, "POST", "/a.S/Broken", &[GRPC], true).unwrap();
    assert_eq!(http2.wait_for(kind::RST_STREAM).stream, 7);
    for (path, status) in [
        ("/a.S/Trailers", "not_found"),
        ("/a.S/Head", "unavailable"),
        ("/a.S/None", "none"),
        ("/a.S/Broken", "none"),
    ] {
        let record = gateway.wait_for_record("path", path);
        assert_eq!(record["grpc_status"], status, "{record}");
        gateway.wait_for_metric(
            "ringward_grpc_requests_finished_total",
            &[("grpc_status", status)],
            if status == "none" { 2.0 } else { 1.0 },
        );
    }
    // What only looks like a call is none.
    http2.request(9, "POST", "/a.S/Trailers", &[("content-type", "application/grpc-web")], true).unwrap();
    end(&mut http2, 9);
    gateway.wait_for_metric("ringward_requests_finished_total", &[], 5.0);
    assert_eq!(gateway.metric("ringward_grpc_requests_finished_total", &[]), 4.0);
}

/// What the upstream was told of the time that is left, in microseconds.
#[track_caller]
fn told_micros(gateway: &Gateway, target: &str) -> u64 {
    let requests = gateway.upstream.requests();
    let request = requests.iter().find(|request| request.target == target).expect("it came to the upstream");
    let timeouts = request.headers.all("grpc-timeout");
    assert_eq!(timeouts.len(), 1, "{timeouts:?}");
    timeouts[0].strip_suffix('u').expect("microseconds").parse().unwrap()
}

fn a_call_ends_at_its_deadline(driver: &str) {
    let host = Host::new(&[HOST])
        .route("path = \"/a.S/{m}\"", "")
        .route("path = \"/short.S/{m}\"", "request_timeout = \"200ms\"");
    let gateway = builder().io(driver).host(host).start();
    let gate = Gate::new();
    for path in ["/a.S/Slow", "/short.S/Slow"] {
        gateway.upstream.on(path, Script::new().wait(&gate));
    }
    let mut http2 = connect(&gateway);
    let exceeded = ("200", Some("4"), Some("gateway timeout"));
    assert_eq!(call(&mut http2, 1, "/a.S/Slow", &[("grpc-timeout", "150m")]).outcome(), exceeded);
    assert_eq!(gateway.wait_for_record("path", "/a.S/Slow")["flag"], "grpc_timeout");
    assert!((1..150_000).contains(&told_micros(&gateway, "/a.S/Slow")));
    // The route's limit is the shorter one.
    assert_eq!(call(&mut http2, 3, "/short.S/Slow", &[("grpc-timeout", "1H")]).outcome(), exceeded);
    assert_eq!(gateway.wait_for_record("path", "/short.S/Slow")["flag"], "request_timeout");
    assert!((1..200_000).contains(&told_micros(&gateway, "/short.S/Slow")));
    // A deadline that was over before, and what is none.
    let before = gateway.upstream.requests().len();
    assert_eq!(call(&mut http2, 5, "/a.S/Late", &[("grpc-timeout", "0n")]).outcome(), exceeded);
    let invalid = ("200", Some("3"), Some("bad request"));
    assert_eq!(call(&mut http2, 7, "/a.S/Odd", &[("grpc-timeout", "1 S")]).outcome(), invalid);
    let twice = [("grpc-timeout", "1S"), ("grpc-timeout", "2S")];
    assert_eq!(call(&mut http2, 9, "/a.S/Odd", &twice).outcome(), invalid);
    assert_eq!(gateway.wait_for_record("path", "/a.S/Odd")["flag"], "bad_grpc_timeout");
    assert_eq!(gateway.upstream.requests().len(), before);
    // Only calls have such deadlines.
    http2.request(11, "POST", "/a.S/Page", &[("grpc-timeout", "huh")], true).unwrap();
    assert_eq!(http2.response(11).0, 200);
    assert_eq!(call(&mut http2, 13, "/a.S/Fast", &[("grpc-timeout", "10S")]).field(":status"), Some("200"));
    gate.open();
}

fn a_stream_is_cancelled_at_its_deadline(driver: &str) {
    let gateway = builder().io(driver).start();
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    gateway.upstream.on("/a.S/Stream", Script::new().send(head).wait(&gate));
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/a.S/Stream", &[GRPC, ("grpc-timeout", "200m")], true).unwrap();
    assert_eq!(http2.wait_for(kind::DATA).payload, b"first");
    let reset = http2.wait_for(kind::RST_STREAM);
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    // A client that sends on, and one that takes nothing.
    http2.request(3, "POST", "/a.S/Upload", &[GRPC, ("grpc-timeout", "200m")], false).unwrap();
    http2.send(kind::DATA, 0, 3, b"some").unwrap();
    assert_eq!(end(&mut http2, 3).outcome(), ("200", Some("4"), Some("gateway timeout")));
    http2.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()).unwrap();
    http2.request(5, "POST", "/big/1000000", &[GRPC, ("grpc-timeout", "200m")], true).unwrap();
    let reset = loop {
        let reset = http2.wait_for(kind::RST_STREAM);
        if reset.stream == 5 {
            break reset;
        }
    };
    assert_eq!(reset.code(), CANCEL);
    let record = gateway.wait_for_record("path", "/big/1000000");
    assert_eq!(record["flag"], "grpc_timeout", "{record}");
    gate.open();
}

#[test]
fn what_nobody_waits_for_is_called_off_upstream() {
    let upstream = PlayedUpstream::start();
    let gateway = builder().endpoints(&[upstream.address()], "").start();
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/a.S/Slow", &[GRPC, ("grpc-timeout", "200m")], true).unwrap();
    let mut connection = upstream.accept();
    connection.head();
    assert_eq!(connection.wait_closed(), b"");
    assert_eq!(end(&mut http2, 1).outcome().1, Some("4"));
    http2.request(3, "POST", "/a.S/Stream", &[GRPC, ("grpc-timeout", "200m")], true).unwrap();
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n\r\nfirst");
    assert_eq!(connection.wait_closed(), b"");
    assert_eq!(http2.wait_for(kind::RST_STREAM).code(), CANCEL);
}

/// A stream in both directions may be silent on the client's side for as long as on the upstream's.
#[test]
fn a_silent_client_of_a_stream_is_waited_for() {
    let gateway = builder().limits("body_timeout = \"200ms\"").start();
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/a.S/Stream", &[GRPC], false).unwrap();
    http2.send(kind::DATA, 0, 1, b"first").unwrap();
    // Who stalls in another body is thrown out after `body_timeout`, which is the clock of this test.
    for stream in [3, 5] {
        http2.request(stream, "POST", "/x", &[("content-length", "100")], false).unwrap();
        assert_eq!(http2.response(stream).0, 408);
    }
    http2.send(kind::DATA, flags::END_STREAM, 1, b"later").unwrap();
    assert_eq!(end(&mut http2, 1).field(":status"), Some("200"));
}

#[test]
fn routes_take_the_methods_of_their_service_and_nothing_but_calls() {
    let policy = "package ringward.authz\n\ndecision if input.request.method == \"POST\"\n";
    let other = "package ringward.authz\n\ndecision if {\n\tinput.route.params.method == \"List\"\n\t\
                 input.request.path == \"/orders.v1.Orders/List\"\n}\n";
    let host = Host::new(&[HOST])
        .policy("main")
        .route("grpc = \"orders.v1.Orders/Get\"", "")
        .route("grpc = \"orders.v1.Orders/*\"", "policy = \"other\"")
        .route("path = \"/health\"", "");
    let gateway = builder().policy("main", policy).policy("other", other).host(host).start();
    let mut http2 = connect(&gateway);
    for (index, (path, status, route)) in [
        ("/orders.v1.Orders/Get", None, "orders.v1.Orders-Get"),
        ("/orders.v1.Orders/List", None, "orders.v1.Orders-method"),
        ("/orders.v1.Orders/Put", Some("7"), "orders.v1.Orders-method"),
        ("/orders.v1.Orders", Some("12"), "unmatched"),
        ("/orders.v1.Others/Get", Some("12"), "unmatched"),
        ("/orders.v1.Orders/Get/", Some("12"), "unmatched"),
    ]
    .into_iter()
    .enumerate()
    {
        let ended = call(&mut http2, 2 * index as u32 + 1, path, &[]);
        assert_eq!(ended.field("grpc-status"), status, "{path}");
        gateway.wait_for_metric(
            "ringward_requests_finished_total",
            &[("route", route)],
            match path {
                "/orders.v1.Orders/Put" | "/orders.v1.Others/Get" => 2.0,
                "/orders.v1.Orders/Get/" => 3.0,
                _ => 1.0,
            },
        );
    }
    // No other route takes what is no call.
    for (stream, method, fields, status) in [
        (21, "POST", &[][..], 415),
        (23, "POST", &[("content-type", "application/grpc-web")], 415),
        (25, "POST", &[("content-type", "application/json"), GRPC], 415),
        (27, "GET", &[GRPC], 405),
    ] {
        http2.request(stream, method, "/orders.v1.Orders/Get", fields, true).unwrap();
        assert_eq!(http2.response(stream).0, status, "{method} {fields:?}");
    }
    let mut http1 = gateway.connect();
    let response = http1.request("POST", "/orders.v1.Orders/Get", &[GRPC], b"").unwrap();
    assert_eq!((response.status, response.text()), (415, "unsupported media type\n"));
    assert_eq!(http1.post("/health", b"").unwrap().status, 200);
    assert_eq!(gateway.upstream.requests().len(), 3);
}

/// Nothing that a call is told is held back, and none of its bytes is changed.
#[test]
fn messages_pass_as_they_come() {
    let gateway = builder().start();
    let gates = [Gate::new(), Gate::new()];
    gateway.upstream.on(
        "/a.S/Stream",
        Script::new()
            .send("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n")
            .wait(&gates[0])
            .send("5\r\nfirst\r\n")
            .wait(&gates[1])
            .send("0\r\ngrpc-status: 0\r\n\r\n"),
    );
    let mut http2 = connect(&gateway);
    http2.request(1, "POST", "/a.S/Stream", &[GRPC], true).unwrap();
    assert_eq!(http2.wait_for(kind::HEADERS).status(), 200);
    gates[0].open();
    assert_eq!(http2.wait_for(kind::DATA).payload, b"first");
    gates[1].open();
    assert_eq!(http2.wait_for(kind::HEADERS).fields(), [("grpc-status".to_owned(), "0".to_owned())]);
    let ended = call(&mut http2, 3, "/big/60000", &[]);
    assert_eq!(ended.body, Pattern::new(60_000).to_vec());
}
