//! Checks against servers that behave, and others.

use std::net::{Ipv4Addr, SocketAddr};

use h2::server::SendResponse;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use ringward_config::Probe;
use ringward_telemetry::CheckOutcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Longer than anything takes that should succeed.
const LONG: Duration = Duration::from_secs(20);
/// For what never ends.
const SHORT: Duration = Duration::from_millis(100);

fn http(http2: bool, target: &str) -> Probe {
    Probe::Http { http2, target: target.to_owned(), host: None, expect: vec![200..=299, 401..=401] }
}

fn grpc(service: &str) -> Probe {
    Probe::Grpc { service: service.to_owned(), host: Some("orders.internal".to_owned()) }
}

/// A server that gives each connection to `serve`.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    addr
}

/// A server that waits for a request and sends `answer`, then the same of `again` for ever.
async fn raw(answer: impl Into<Vec<u8>>, again: impl Into<Vec<u8>>) -> SocketAddr {
    let (answer, again) = (answer.into(), again.into());
    server(move |mut stream| {
        let (answer, again) = (answer.clone(), again.clone());
        async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            while !again.is_empty() && stream.write_all(&again).await.is_ok() {}
        }
    })
    .await
}

/// A server of HTTP/2 that gives each request to `answer`, with its body.
async fn http2(
    answer: impl Fn(&Request<()>, &[u8], SendResponse<Bytes>) + Clone + Send + Sync + 'static,
) -> SocketAddr {
    server(move |stream| {
        let answer = answer.clone();
        async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let (head, mut body) = request.into_parts();
                    let mut content = Vec::new();
                    while let Some(Ok(data)) = body.data().await {
                        content.extend_from_slice(&data);
                    }
                    answer(&Request::from_parts(head, ()), &content, respond);
                });
            }
        }
    })
    .await
}

fn respond(
    respond: &mut SendResponse<Bytes>,
    fields: &[(&'static str, &str)],
    body: &[u8],
    status: Option<&str>,
) {
    let mut response = Response::builder().status(200);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let mut sink = respond.send_response(response.body(()).unwrap(), false).unwrap();
    sink.send_data(Bytes::copy_from_slice(body), status.is_none()).unwrap();
    if let Some(status) = status {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        sink.send_trailers(trailers).unwrap();
    }
}

/// A health service as there are many: it knows the whole server and two services.
fn health_service(request: &Request<()>, body: &[u8], mut responder: SendResponse<Bytes>) {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!(request.uri().authority().unwrap(), "orders.internal");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let kind = [("content-type", "application/grpc+proto")];
    let mut status = |status: u8| respond(&mut responder, &kind, &[0, 0, 0, 0, 2, 8, status], Some("0"));
    match &body[5..] {
        b"" | b"\x0a\x03a.B" => status(1),
        b"\x0a\x03a.C" => status(2),
        b"\x0a\x03a.D" => status(3),
        _ => {
            let response =
                Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
            responder.send_response(response.body(()).unwrap(), true).unwrap();
        }
    }
}

async fn failure(probe: &Probe, addr: SocketAddr) -> (CheckOutcome, String) {
    let failure = probe::check(probe, &addr.into(), Way::default(), LONG).await.expect_err("the check fails");
    (failure.outcome(), failure.to_string())
}

#[tokio::test]
async fn statuses() {
    for (status, passes) in
        [(200, true), (204, true), (299, true), (301, false), (401, true), (404, false), (503, false)]
    {
        let addr = raw(format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\n\r\n"), "").await;
        let by_2 = http2(move |request, _, mut responder| {
            assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/healthz"));
            responder.send_response(Response::builder().status(status).body(()).unwrap(), true).unwrap();
        });
        for (http2, addr) in [(false, addr), (true, by_2.await)] {
            let result = probe::check(&http(http2, "/healthz"), &addr.into(), Way::default(), LONG).await;
            match result {
                Ok(()) => assert!(passes, "{status}"),
                Err(failure) => {
                    let (outcome, text) = (failure.outcome(), failure.to_string());
                    assert_eq!(
                        (outcome, text, passes),
                        (CheckOutcome::Status, format!("status {status}"), false)
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn connections() {
    let addr = server(|_stream| async {}).await;
    assert!(probe::check(&Probe::Tcp, &addr.into(), Way::default(), LONG).await.is_ok());
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    for probe in [Probe::Tcp, http(false, "/"), http(true, "/"), grpc("")] {
        assert_eq!(failure(&probe, closed).await.0, CheckOutcome::Connect, "{probe:?}");
    }
}

/// An endpoint that expects the PROXY protocol is told that nobody's connection is behind a check.
#[tokio::test]
async fn a_check_says_that_it_is_nobodys_connection() {
    let addr = server(|mut stream| async move {
        let mut begin = [0; 20];
        let read = stream.read_exact(&mut begin).await;
        if read.is_ok() && begin == *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET " {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let addr = addr.await;
    let told = Way { sends_proxy_protocol: true, ..Way::default() };
    assert!(probe::check(&http(false, "/"), &addr.into(), told, LONG).await.is_ok());
    assert!(probe::check(&http(false, "/"), &addr.into(), Way::default(), LONG).await.is_err());
}

/// What a server says when it goes away may be as long as a frame, and is told to the log.
#[tokio::test]
async fn the_words_of_a_server_are_cut() {
    let debug = [b"\r\n\x1b[31mgone ".as_slice(), &[b'x'; 15_000]].concat();
    let length = (8 + debug.len() as u32).to_be_bytes();
    let head: [&[u8]; 4] = [&[0, 0, 0, 4, 0, 0, 0, 0, 0], &length[1..], &[7, 0, 0, 0, 0, 0], &[0; 7]];
    // SETTINGS, and GOAWAY with PROTOCOL_ERROR.
    let addr = raw([&head.concat()[..], &[1], &debug].concat(), "").await;
    let (outcome, text) = failure(&http(true, "/"), addr).await;
    assert_eq!(outcome, CheckOutcome::Protocol);
    assert!(text.contains("gone xxx") && text.len() < 256, "{}: {text}", text.len());
    assert!(!text.chars().any(char::is_control), "{text}");
}

#[tokio::test]
async fn services_of_grpc() {
    let addr = http2(health_service).await;
    for service in ["", "a.B"] {
        let result = probe::check(&grpc(service), &addr.into(), Way::default(), LONG).await;
        assert!(result.is_ok(), "{result:?}");
    }
    let table = [
        ("a.C", CheckOutcome::NotServing, "NOT_SERVING"),
        ("a.D", CheckOutcome::NotServing, "SERVICE_UNKNOWN"),
        ("a.E", CheckOutcome::Status, "grpc-status not_found"),
    ];
    for (service, outcome, text) in table {
        assert_eq!(failure(&grpc(service), addr).await, (outcome, text.to_owned()), "{service}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_grpc_fails() {
    type Answer = fn(&mut SendResponse<Bytes>);
    const KIND: (&str, &str) = ("content-type", "application/grpc");
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    let table: [(Answer, CheckOutcome, &str); 10] = [
        (|r| respond(r, &[KIND], SERVING, Some("12")), CheckOutcome::Status, "grpc-status unimplemented"),
        (|r| respond(r, &[KIND], SERVING, Some("77")), CheckOutcome::Status, "grpc-status unknown"),
        (|r| respond(r, &[KIND], SERVING, None), CheckOutcome::Protocol, "not an answer: no grpc-status"),
        (
            |r| respond(r, &[KIND], SERVING, Some("ok")),
            CheckOutcome::Protocol,
            "not an answer: its grpc-status is not a number",
        ),
        (
            |r| respond(r, &[("content-type", "text/html")], SERVING, Some("0")),
            CheckOutcome::Protocol,
            "not an answer: its content-type is not application/grpc",
        ),
        (
            |r| respond(r, &[("content-type", "application/grpcx")], SERVING, Some("0")),
            CheckOutcome::Protocol,
            "not an answer: its content-type is not application/grpc",
        ),
        (
            |r| respond(r, &[KIND, ("grpc-status", "0")], SERVING, None),
            CheckOutcome::Protocol,
            "not an answer: no message",
        ),
        (
            |r| respond(r, &[KIND], &[SERVING, SERVING].concat(), Some("0")),
            CheckOutcome::Protocol,
            "not an answer: the answer is not a HealthCheckResponse",
        ),
        (
            |r| respond(r, &[KIND], &[0; 4000], Some("0")),
            CheckOutcome::Protocol,
            "not an answer: more than 1024 bytes",
        ),
        (
            |r| drop(r.send_response(Response::builder().status(404).body(()).unwrap(), true)),
            CheckOutcome::Status,
            "status 404",
        ),
    ];
    for (answer, outcome, text) in table {
        let addr = http2(move |_, _, mut responder| answer(&mut responder)).await;
        assert_eq!(failure(&grpc(""), addr).await, (outcome, text.to_owned()));
    }
}

#[tokio::test]
async fn what_is_not_the_protocol_fails() {
    let all = [http(false, "/"), http(true, "/"), grpc("")];
    for (answer, probes) in [
        (&b""[..], &all[..]),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n\r\n\r\n\r\n", &all),
        (&[0xff; 100], &all),
        (b"HTTP/1.1 200 OK\r\n\r\n", &all[1..]),
        (b"HTTP/1.1 200 OK\r\ncontent-le", &all[..1]),
    ] {
        let addr = raw(answer, "").await;
        for probe in probes {
            let (outcome, text) = failure(probe, addr).await;
            assert_eq!(outcome, CheckOutcome::Protocol, "{probe:?} {answer:?} {text}");
        }
    }
}

/// Each of these ends for the size of what came, not for the time that it took.
#[tokio::test]
async fn endless_answers_fail_by_their_size() {
    let settings = &[0, 0, 0, 4, 0, 0, 0, 0, 0][..];
    let headers = [settings, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x88]].concat();
    let continuation = [&[0, 64, 0, 9, 0, 0, 0, 0, 1][..], &[0x88; 16384]].concat();
    let ping = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..];
    let unknown = [&[0, 64, 0, 99, 0, 0, 0, 0, 0][..], &[0; 16384]].concat();
    let empty_data = &[0, 0, 0, 0, 0, 0, 0, 0, 1][..];
    let answered = [settings, &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]].concat();
    let table = [
        (http(false, "/"), &b"HTTP/1.1 200 OK\r\n"[..], &b"x-more: of the same\r\n"[..]),
        (http(false, "/"), b"HTTP/1.1 200 OK\r\nx: ", &[b'y'; 1000]),
        (http(false, "/"), b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (http(true, "/"), settings, &settings[..9]),
        (http(true, "/"), settings, ping),
        (grpc(""), settings, &unknown),
        (grpc(""), &headers, &continuation),
        (grpc(""), &answered, empty_data),
    ];
    for (probe, answer, again) in table {
        let addr = raw(answer, again).await;
        assert_eq!(failure(&probe, addr).await.0, CheckOutcome::Protocol, "{probe:?} {again:?}");
    }
}

#[tokio::test]
async fn what_never_answers_fails_by_the_time() {
    let hung = server(|stream| async move {
        let _stream = stream;
        pending().await
    });
    let hung = hung.await;
    for probe in [http(false, "/"), http(true, "/"), grpc("")] {
        let failure =
            probe::check(&probe, &hung.into(), Way::default(), SHORT).await.expect_err("nothing comes");
        assert_eq!(
            (failure.outcome(), &*failure.to_string()),
            (CheckOutcome::Timeout, "no answer within 100ms")
        );
    }
}

/// The status is all that counts, and what comes after it costs nothing.
#[tokio::test]
async fn an_endless_body_is_not_read() {
    let addr = raw("HTTP/1.1 200 OK\r\n\r\n", [b'x'; 4096]).await;
    assert!(probe::check(&http(false, "/"), &addr.into(), Way::default(), LONG).await.is_ok());
}

#[tokio::test]
async fn a_check_that_panics_has_failed() {
    let probing = Probing(tokio::spawn(async { panic!("as a bug would") }));
    assert_eq!(probing.result().await.expect_err("it has failed").outcome(), CheckOutcome::Protocol);
}

#[test]
fn pauses_are_spread_by_a_tenth() {
    let interval = Duration::from_secs(5);
    for (roll, millis) in [(0.0, 4500), (0.5, 5000), (1.0, 5500)] {
        assert_eq!(pause(interval, roll).as_millis(), millis);
    }
    assert_eq!(first_pause(interval, 0.0), Duration::ZERO);
    assert_eq!(first_pause(interval, 1.0), Duration::from_millis(500));
    assert_eq!(first_pause(Duration::from_secs(3600), 1.0), FIRST_PAUSE_MAX);
}

#[tokio::test]
async fn a_socket_that_is_not_there_says_so_and_a_full_queue_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let addr = EndpointAddr::Unix(path.to_str().unwrap().into());
    let failure = probe::check(&Probe::Tcp, &addr, Way::default(), LONG).await.unwrap_err();
    assert_eq!(failure.outcome(), CheckOutcome::Connect);
    assert!(failure.to_string().contains("is the upstream running"), "{failure}");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    assert!(probe::check(&Probe::Tcp, &addr, Way::default(), LONG).await.is_ok());
    let failure = probe::check(&Probe::Tcp, &addr, Way::default(), SHORT).await.unwrap_err();
    assert_eq!(failure.outcome(), CheckOutcome::Timeout, "its queue has room for one: {failure}");
}
