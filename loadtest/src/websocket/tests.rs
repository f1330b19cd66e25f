use tokio::io::{DuplexStream, duplex};
use tokio::task::spawn_local;

use super::*;
use crate::failure::FailureKind::{self, Closed, Malformed, Truncated};
use crate::http2::Http2;
use crate::upstream;

fn plan(messages: u32, message_bytes: usize) -> WebSocketPlan<'static> {
    let (authority, path) = ("api.example.com", "/chat?x=y");
    WebSocketPlan { authority, path, messages, message_bytes, between: Duration::ZERO }
}

/// What came of it, after so many round trips.
async fn over_http1_of(
    stream: DuplexStream,
    plan: &WebSocketPlan<'_>,
) -> (Result<WebSocketAnswer, Failure>, u32) {
    let mut round_trips = 0;
    let answer = over_http1(stream, plan, || {}, |_| round_trips += 1).await;
    (answer, round_trips)
}

#[tokio::test(flavor = "local")]
async fn messages_come_back_as_they_were_sent() {
    for (messages, bytes) in [(0, 5), (1, 0), (3, 2), (1000, 100), (3, 300_000)] {
        let plan = plan(messages, bytes);
        let total = u64::from(messages) * bytes as u64;
        let wanted = |http_status| WebSocketAnswer {
            http_status,
            messages_received: messages.into(),
            bytes_received: total,
            bytes_sent: total,
        };
        // Small, so that both sides have to wait for each other.
        let (client, server) = duplex(1 << 10);
        spawn_local(upstream::serve(server));
        let (answer, round_trips) = over_http1_of(client, &plan).await;
        assert_eq!((answer.unwrap(), round_trips), (wanted(101), messages), "{plan:?}");

        let (client, server) = duplex(1 << 10);
        spawn_local(upstream::serve(server));
        let http2 = Http2::begin(client).await.unwrap();
        http2.settled().await.unwrap();
        // One after the other, and at the same time.
        for _ in 0..2 {
            let (mut one, mut two) = (0, 0);
            let both = tokio::join!(
                over_http2(http2.requests(), &plan, || {}, |_| one += 1),
                over_http2(http2.requests(), &plan, || {}, |_| two += 1),
            );
            assert_eq!((both.0.unwrap(), both.1.unwrap()), (wanted(200), wanted(200)), "{plan:?}");
            assert_eq!((one, two), (messages, messages));
        }
    }
}

#[tokio::test(flavor = "local")]
async fn http_2_has_to_offer_it_and_may_refuse_it() {
    for (offers, wanted) in [
        (false, Err("offers no WebSockets over HTTP/2")),
        (
            true,
            Ok(WebSocketAnswer { http_status: 403, messages_received: 0, bytes_received: 0, bytes_sent: 0 }),
        ),
    ] {
        let (client, server) = duplex(1 << 10);
        spawn_local(async move {
            let mut builder = h2::server::Builder::new();
            if offers {
                builder.enable_connect_protocol();
            }
            let mut connection = builder.handshake::<_, Bytes>(server).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(http::Response::builder().status(403).body(()).unwrap(), true).unwrap();
            }
        });
        let http2 = Http2::begin(client).await.unwrap();
        http2.settled().await.unwrap();
        match (over_http2(http2.requests(), &plan(1, 1), || {}, |_| {}).await, wanted) {
            (Ok(answer), Ok(wanted)) => assert_eq!(answer, wanted),
            (Err(failure), Err(words)) => assert!(failure.detail.contains(words), "{failure:?}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
}

/// A server that answers the handshake rightly and then sends `bytes` as often as a message comes.
async fn answering(
    mut stream: DuplexStream,
    change: fn(String) -> String,
    bytes: &'static [u8],
    closes: bool,
) {
    let mut input = Vec::new();
    while !input.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0);
    }
    let text = String::from_utf8(input).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = accept_key(key.as_bytes());
    let accept = std::str::from_utf8(&accept).unwrap();
    let head = change(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(bytes).await.is_err() || closes {
        return;
    }
    // Until the client has gone.
    while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {}
}

#[tokio::test(flavor = "local")]
async fn each_wrong_answer_is_a_failure_of_its_kind() {
    use FailureKind::WebSocket;
    let right: fn(String) -> String = |head| head;
    for (change, bytes, closes, kind, words) in [
        // Frames of a server, unmasked: 0x82 binary, 0x81 text, 0x88 close, 0x89 ping.
        (
            right,
            &b"\x82\x02\0x"[..],
            false,
            WebSocket,
            "message 1 of 2 came back with 2 bytes where 5 were sent",
        ),
        (right, b"\x82\x05\0\0\0\x01x", false, WebSocket, "message 1 of 2 came back with other bytes"),
        (right, b"\x81\x05\0\0\0\0x", false, WebSocket, "message 1 of 2 came back as text"),
        (right, b"\x89\0\x88\x02\x03\xe9", false, WebSocket, "closed with code 1001 before message 1 of 2"),
        (right, b"\x88\0", false, WebSocket, "closed without a code before message 1"),
        (right, b"\x82\x85\0\0\0\0\0\0\0\0x", false, WebSocket, "masked"),
        (right, b"\xf2\x05\0\0\0\0x", false, WebSocket, "reserved"),
        (
            right,
            b"\x82\x05\0\0\0\0x\x82\x05\0\0\0\x01x\x82\0",
            false,
            WebSocket,
            "a message came that was not sent",
        ),
        (
            right,
            b"\x82\x05\0\0\0\0x\x82\x05\0\0\0\x01x\x88\x02\x03\xf3",
            false,
            WebSocket,
            "the closing was answered with code 1011",
        ),
        (right, b"\x82\x05\0\0", true, Truncated, ""),
        (right, b"\x82\x05\0\0\0\0x\x82\x05\0\0\0\x01x", true, Truncated, ""),
        (|_| String::new(), b"", true, Closed, "before an answer"),
        (|_| "HTTP/1.1 101".to_owned(), b"", true, Truncated, "within a head"),
        (|_| "SSH-2.0\r\n\r\n".to_owned(), b"", false, Malformed, "head: "),
        (|head| head.replace("Upgrade: WebSocket\r\n", ""), b"", false, Malformed, "`upgrade: websocket`"),
        (
            |head| head.replace("keep-alive, Upgrade", "keep-alive"),
            b"",
            false,
            Malformed,
            "`connection: upgrade`",
        ),
        (|head| head.replace("Accept: ", "Accept: x"), b"", false, Malformed, "`sec-websocket-accept: "),
        (
            |_| format!("HTTP/1.1 101 x\r\nx: {}", "y".repeat(70_000)),
            b"",
            false,
            Malformed,
            "more than 65536",
        ),
    ] {
        let (client, server) = duplex(64 << 10);
        spawn_local(answering(server, change, bytes, closes));
        let failure = over_http1_of(client, &plan(2, 5)).await.0.unwrap_err();
        assert_eq!(failure.kind, kind, "{words}: {failure:?}");
        assert!(failure.detail.to_lowercase().contains(words), "{words}: {failure:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_is_no_websocket_and_what_is_right_are_answers() {
    let right: fn(String) -> String = |head| head;
    const ECHO: &[u8] = b"\x82\x05\0\0\0\0x\x89\x01p\x82\x05\0\0\0\x01x\x88\x02\x03\xe8";
    for (change, bytes, status, messages) in [
        (right, ECHO, 101, 2),
        (|head| format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}"), ECHO, 101, 2),
        (|_| "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(), b"", 403, 0),
    ] {
        let (client, server) = duplex(64 << 10);
        spawn_local(answering(server, change, bytes, false));
        let (answer, round_trips) = over_http1_of(client, &plan(2, 5)).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.http_status, answer.messages_received, round_trips),
            (status, messages.into(), messages)
        );
    }
}

/// So that who waits for the target to close need not wait for long.
#[tokio::test(flavor = "local")]
async fn a_stream_on_which_there_is_no_websocket_is_ended() {
    let (mut client, server) = duplex(64 << 10);
    let refuses: fn(String) -> String = |_| "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned();
    let served = spawn_local(answering(server, refuses, b"", false));
    assert_eq!(over_http1(&mut client, &plan(1, 1), || {}, |_| {}).await.unwrap().http_status, 403);
    served.await.unwrap();
}

#[tokio::test(flavor = "local")]
async fn messages_are_bounded() {
    let (client, server) = duplex(64 << 10);
    spawn_local(upstream::serve(server));
    let failure = over_http1_of(client, &plan(1, MESSAGE_BYTES_MAX + 1)).await.0.unwrap_err();
    assert!(failure.detail.starts_with("a message of 67108865 bytes"), "{failure:?}");
}

#[test]
fn the_key_is_that_of_the_rfc() {
    assert_eq!(&accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn messages_differ() {
    assert_eq!(&message(0x0102_0304, 6)[..], b"\x01\x02\x03\x04xx");
    assert_eq!(&message(0x0102_0304, 4)[..], b"\x01\x02\x03\x04");
    assert_eq!(&message(0x0102_0304, 1)[..], b"\x01");
    assert_eq!(&message(7, 0)[..], b"");
}
