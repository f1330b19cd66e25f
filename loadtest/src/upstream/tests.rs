use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::answer::Wanted;
use crate::grpc::messages::batch;

async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(accept(listener));
    address
}

/// All that is answered to these bytes until the upstream closes, however they are cut.
async fn answers(address: SocketAddr, input: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(input.as_bytes()).await.unwrap();
    let mut at_once = String::new();
    stream.read_to_string(&mut at_once).await.unwrap();
    for piece_bytes in [1, 7] {
        let (client, server) = tokio::io::duplex(1 << 20);
        spawn_local(serve(server));
        let (mut read, mut write) = tokio::io::split(client);
        let mut text = String::new();
        let sending = async {
            for piece in input.as_bytes().chunks(piece_bytes) {
                // Who is not understood is not heard to the end.
                if write.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let (_, received) = tokio::join!(sending, read.read_to_string(&mut text));
        received.unwrap();
        assert_eq!(text, at_once, "in pieces of {piece_bytes}: {input:?}");
    }
    at_once
}

#[tokio::test(flavor = "local")]
async fn http_1_answers_as_the_path_says() {
    let address = upstream().await;
    let head = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let ok = |body: &str| head(body.len()) + body;
    let chunked = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let abc =
        "{\"bytes\":3,\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}\n";
    for (request, fields, wanted) in [
        ("GET /", "", ok(&"x".repeat(128))),
        ("GET /bytes/3", "", ok("xxx")),
        ("HEAD /bytes/3", "", head(3)),
        ("GET /bytes/3", "content-length: 2\r\n\r\nab", ok("xxx")),
        ("GET /chunked/3", "", format!("{chunked}3\r\nxxx\r\n0\r\n\r\n")),
        ("GET /chunked/0", "", format!("{chunked}0\r\n\r\n")),
        ("GET /delay/1/bytes/2", "", ok("xx")),
        (
            "GET /status/404",
            "",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        ),
        ("GET /status/204", "", "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()),
        (
            "GET /sse/2/1",
            "",
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
        ("POST /any", "content-length: 3\r\n\r\nabc", ok(abc)),
        ("POST /any", "transfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n", ok(abc)),
        ("POST /echo", "content-length: 3\r\n\r\nabc", ok("abc")),
        (
            "POST /any",
            "expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
            format!("HTTP/1.1 100 Continue\r\n\r\n{}", ok(abc)),
        ),
    ] {
        let end = if fields.is_empty() { "\r\n" } else { "" };
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}{end}");
        assert_eq!(answers(address, &request).await, wanted, "{request:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn connections_stay_open_and_requests_may_come_together() {
    let address = upstream().await;
    let three = "GET /bytes/1 HTTP/1.1\r\n\r\nPOST /echo HTTP/1.1\r\ncontent-length: 1\r\n\r\nbGET /bytes/2 HTTP/1.0\r\n\r\n";
    let text = answers(address, three).await;
    let bodies: Vec<_> = text.split("\r\n\r\n").map(|part| part.split("HTTP").next().unwrap()).collect();
    assert_eq!(bodies, ["", "x", "b", "xx"], "{text}");
    assert_eq!(text.matches("connection: close").count(), 1, "{text}");
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nz",
        &format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(64 << 10)),
    ] {
        let text = answers(address, nonsense).await;
        assert_eq!(text, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
}

#[tokio::test(flavor = "local")]
async fn large_bodies_are_whole() {
    let address = upstream().await;
    let length = 1_000_001;
    for path in ["bytes", "chunked"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET /{path}/{length} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let answer =
            crate::answer::read(&mut stream, &mut vec![0; 64 << 10], Wanted::default(), || {}).await.unwrap();
        assert_eq!((answer.status, answer.body_bytes, answer.keep_alive), (200, length, true), "{path}");
    }
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!("POST /echo HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    let body = vec![b'e'; length as usize];
    let sending = async {
        write.write_all(head.as_bytes()).await.unwrap();
        write.write_all(&body).await.unwrap();
    };
    let mut buffer = vec![0; 64 << 10];
    let (_, answer) =
        tokio::join!(sending, crate::answer::read(&mut read, &mut buffer, Wanted::default(), || {}));
    assert_eq!(answer.unwrap().body_bytes, length);
}

async fn http2(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    spawn_local(async move { drop(connection.await) });
    requests.ready().await.unwrap()
}

/// Status, body and trailers.
async fn exchange(
    requests: &mut SendRequest<Bytes>,
    request: http::request::Builder,
    body: Option<Bytes>,
) -> (HeaderMap, u16, Vec<u8>, Option<HeaderMap>) {
    let (response, mut send) = requests.send_request(request.body(()).unwrap(), body.is_none()).unwrap();
    let sending = async {
        if let Some(body) = body {
            crate::http2_stream::send_all(&mut send, body, true).await.unwrap();
        }
    };
    let receiving = async {
        let (head, mut body) = response.await.unwrap().into_parts();
        let mut received = Vec::new();
        http2::drain(&mut body, |data| received.extend_from_slice(data)).await.unwrap();
        (head.headers, head.status.as_u16(), received, body.trailers().await.unwrap())
    };
    tokio::join!(sending, receiving).1
}

#[tokio::test(flavor = "local")]
async fn http_2_answers_as_the_path_says() {
    let mut requests = http2(upstream().await).await;
    let large = vec![b'x'; 1_000_001];
    let abc =
        b"{\"bytes\":3,\"sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}\n";
    for (method, path, body, status, wanted) in [
        ("GET", "/", "", 200, &large[..128]),
        ("GET", "/bytes/0", "", 200, b""),
        ("HEAD", "/bytes/5", "", 200, b""),
        ("GET", "/bytes/1000001", "", 200, &large),
        ("GET", "/chunked/1000001", "", 200, &large),
        ("GET", "/chunked/0", "", 200, b""),
        ("GET", "/status/404", "", 404, b""),
        ("GET", "/sse/2/0", "", 200, b"data: 0\n\ndata: 1\n\n"),
        ("GET", "/delay/1/bytes/2", "", 200, b"xx"),
        ("POST", "/any", "abc", 200, abc),
        ("POST", "/echo", "abc", 200, b"abc"),
        ("GET", "/echo", "", 200, b""),
    ] {
        let request = Request::builder().method(method).uri(format!("http://up{path}"));
        let body = (!body.is_empty()).then(|| Bytes::from(body.to_owned()));
        let (_, got, received, _) = exchange(&mut requests, request, body).await;
        assert_eq!((got, received.len()), (status, wanted.len()), "{method} {path}");
        assert!(received == wanted, "{method} {path}");
    }
    let echo = Request::post("http://up/echo");
    let (_, _, received, _) = exchange(&mut requests, echo, Some(large.clone().into())).await;
    assert!(received == large, "a large body comes back as it is sent");
}

#[tokio::test(flavor = "local")]
async fn grpc_methods_answer_and_end_with_a_status() {
    let mut requests = http2(upstream().await).await;
    let two = [&batch(b"a", 1)[..], &batch(b"bcd", 1)].concat();
    let large = batch(&vec![b'x'; 300_000], 1);
    for (method, body, wanted, status) in [
        ("Unary", &batch(b"hello", 1)[..], batch(b"xxxxx", 1), "0"),
        ("Unary", &large, large.clone(), "0"),
        ("Unary", b"", Bytes::new(), "3"),
        ("Unary", &two, Bytes::new(), "3"),
        ("Unary", b"\0\0\0\0\x05hell", Bytes::new(), "13"),
        ("Unary", b"\x01\0\0\0\x01x", Bytes::new(), "12"),
        ("Unary", b"nonsense", Bytes::new(), "13"),
        ("ClientStream", &two, batch(b"xxx", 1), "0"),
        ("ClientStream", b"", batch(b"", 1), "0"),
        ("ServerStream", &batch(b"\0\0\0\x03!", 1), batch(b"xxxxx", 3), "0"),
        ("ServerStream", &batch(b"\0\0\xff\xff", 1), batch(b"xxxx", 65535), "0"),
        ("ServerStream", &batch(b"\0\0\0", 1), Bytes::new(), "3"),
        ("ServerStream", &batch(b"\0\x0f\x42\x41", 1), Bytes::new(), "3"),
        ("Bidi", &two, Bytes::from(two.clone()), "0"),
        ("Bidi", b"\0\0\0\0\x05hell", Bytes::from_static(b"\0\0\0\0\x05hell"), "13"),
        ("Fail", &batch(b"\0\0\0\x07", 1), Bytes::new(), "7"),
        ("Other", b"", Bytes::new(), "12"),
    ] {
        let request = Request::post(format!("http://up/pkg.Service/{method}"))
            .header("content-type", "application/grpc+proto");
        let body = Bytes::copy_from_slice(body);
        let (head, got, received, trailers) = exchange(&mut requests, request, Some(body)).await;
        assert_eq!((got, received.len()), (200, wanted.len()), "{method}");
        assert!(received == wanted, "{method}");
        // Where nothing is answered, the head is the trailers too.
        let ends = trailers.as_ref().unwrap_or(&head);
        assert_eq!(ends["grpc-status"], status, "{method}");
        assert_eq!(trailers.is_none(), wanted.is_empty(), "{method}");
    }
}

#[tokio::test(flavor = "local")]
async fn only_websockets_are_connected_to() {
    let mut requests = http2(upstream().await).await;
    let mut request = Request::builder().method("CONNECT").uri("http://up/chat").body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    // The settings of the upstream have to be there.
    let (_, status, ..) = exchange(&mut requests, Request::get("http://up/"), None).await;
    assert_eq!(status, 200);
    let (response, _) = requests.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 501);
}
