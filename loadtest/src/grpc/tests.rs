use http::Response;
use tokio::task::spawn_local;

use super::*;
use crate::failure::FailureKind::{Grpc, Reset, Truncated};
use crate::http2::Http2;
use crate::upstream;

fn call_of(kind: CallKind, path: &str, messages: u32, message_bytes: u32) -> Call<'_> {
    let deadline = Some(Duration::from_secs(20));
    Call { kind, authority: "api.example.com", path, messages, message_bytes, deadline }
}

/// A connection to our own upstream.
async fn upstream() -> SendRequest<Bytes> {
    // Small, so that both sides have to wait for each other.
    let (client, server) = tokio::io::duplex(1 << 10);
    spawn_local(upstream::serve(server));
    Http2::begin(client).await.unwrap().requests()
}

#[tokio::test(flavor = "local")]
async fn calls_of_each_kind_are_made_and_read_to_their_end() {
    let requests = upstream().await;
    for (kind, method, messages, bytes, answered, sent) in [
        (CallKind::Unary, "Unary", 1, 0, 1, 1),
        (CallKind::Unary, "Unary", 1, 100, 1, 1),
        (CallKind::Unary, "Unary", 1, 300_000, 1, 1),
        (CallKind::ServerStream, "ServerStream", 0, 4, 0, 1),
        (CallKind::ServerStream, "ServerStream", 1000, 100, 1000, 1),
        (CallKind::ServerStream, "ServerStream", 3, 70_000, 3, 1),
        (CallKind::ClientStream, "ClientStream", 1000, 100, 1, 1000),
        (CallKind::ClientStream, "ClientStream", 0, 0, 1, 0),
        (CallKind::Bidi, "Bidi", 0, 9, 0, 0),
        (CallKind::Bidi, "Bidi", 1000, 100, 1000, 1000),
        (CallKind::Bidi, "Bidi", 5, 300_000, 5, 5),
    ] {
        let path = format!("/pkg.Service/{method}");
        let wanted = call_of(kind, &path, messages, bytes);
        let mut begun = false;
        let answer = call(requests.clone(), &wanted, || begun = true).await.unwrap();
        assert!(begun);
        assert_eq!(kind.messages_expected(messages), answered, "{method}");
        let expected = CallAnswer {
            http_status: 200,
            grpc_status: Some(0),
            messages_received: answered,
            bytes_received: answered * u64::from(bytes),
            bytes_sent: sent * u64::from(bytes),
        };
        assert_eq!(answer, expected, "{method} {messages} of {bytes}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_status_that_is_no_success_is_an_answer() {
    let requests = upstream().await;
    // The first four bytes of a message say the status, and here they are how many messages are wanted.
    for (method, bytes, status) in [("Fail", 0, 7), ("Unary", 3, 0), ("Other", 0, 12), ("ServerStream", 3, 0)]
    {
        let path = format!("/pkg.Service/{method}");
        let wanted = call_of(CallKind::ServerStream, &path, 7, bytes);
        let answer = call(requests.clone(), &wanted, || {}).await.unwrap();
        assert_eq!((answer.http_status, answer.grpc_status), (200, Some(status)), "{method}");
    }
}

#[tokio::test(flavor = "local")]
async fn messages_are_bounded() {
    let wanted = call_of(CallKind::Unary, "/pkg.Service/Unary", 1, MESSAGE_BYTES_MAX + 1);
    let failure = call(upstream().await, &wanted, || {}).await.unwrap_err();
    assert!(failure.detail.starts_with("a message of 67108865 bytes"), "{failure:?}");
}

/// What a server sends that may be wrong.
#[derive(Clone, Copy)]
struct Scripted {
    status: u16,
    head: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    /// None: the body is the end.
    trailers: Option<&'static [(&'static str, &'static str)]>,
    resets: bool,
}

/// Answers each request as written, with a body in pieces of this size, and never reads.
async fn scripted(script: Scripted, piece_bytes: usize) -> SendRequest<Bytes> {
    let fields = |pairs: &[(&'static str, &'static str)]| {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    };
    let (client, server) = tokio::io::duplex(64 << 10);
    spawn_local(async move {
        let mut connection = h2::server::handshake(server).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["grpc-timeout"], "20000m");
            let mut response = Response::builder().status(script.status).body(()).unwrap();
            *response.headers_mut() = fields(script.head);
            spawn_local(async move {
                let is_end = script.body.is_empty() && script.trailers.is_none();
                let mut send = respond.send_response(response, is_end && !script.resets).unwrap();
                let mut left = script.body.len();
                for piece in script.body.chunks(piece_bytes) {
                    left -= piece.len();
                    let is_end = left == 0 && script.trailers.is_none() && !script.resets;
                    send_all(&mut send, Bytes::from_static(piece), is_end).await.unwrap();
                }
                if script.resets {
                    send.send_reset(h2::Reason::INTERNAL_ERROR);
                } else if let Some(trailers) = script.trailers {
                    send.send_trailers(fields(trailers)).unwrap();
                }
                // Kept, so that nothing is reset because of it.
                let _body = request;
                std::future::pending::<()>().await;
            });
        }
    });
    Http2::begin(client).await.unwrap().requests()
}

#[tokio::test(flavor = "local")]
async fn what_breaks_the_rules_is_a_failure_at_any_split() {
    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
    const OK: Option<&[(&str, &str)]> = Some(&[("grpc-status", "0")]);
    let right = Scripted { status: 200, head: GRPC, body: b"\0\0\0\0\x02ab", trailers: OK, resets: false };
    let answer = |http_status, grpc_status, messages_received, bytes_received| {
        Ok((http_status, grpc_status, messages_received, bytes_received))
    };
    for (script, wanted) in [
        (right, answer(200, Some(0), 1, 2)),
        (Scripted { body: b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c", ..right }, answer(200, Some(0), 3, 3)),
        (Scripted { trailers: Some(&[("grpc-status", "14")]), ..right }, answer(200, Some(14), 1, 2)),
        (Scripted { head: &[], ..right }, Err((Grpc, "content-type \"\" where"))),
        (
            Scripted { head: &[("content-type", "application/grpc-web")], ..right },
            Err((Grpc, "application/grpc-web")),
        ),
        (Scripted { head: &[("content-type", "application/grpc;x=y")], ..right }, answer(200, Some(0), 1, 2)),
        (Scripted { trailers: None, ..right }, Err((Grpc, "without trailers"))),
        (Scripted { trailers: Some(&[("x", "y")]), ..right }, Err((Grpc, "without one grpc-status"))),
        (Scripted { trailers: Some(&[("grpc-status", "OK")]), ..right }, Err((Grpc, "is no number"))),
        (Scripted { trailers: Some(&[("grpc-status", "")]), ..right }, Err((Grpc, "is no number"))),
        (Scripted { trailers: Some(&[("grpc-status", "-1")]), ..right }, Err((Grpc, "is no number"))),
        (
            Scripted { trailers: Some(&[("grpc-status", "0"), ("grpc-status", "0")]), ..right },
            Err((Grpc, "without one grpc-status")),
        ),
        (Scripted { body: b"\0\0\0\0\x02a", ..right }, Err((Grpc, "ends within message 1"))),
        (Scripted { body: b"\0\0\0\0\x01a\0\0\0", ..right }, Err((Grpc, "ends within message 2"))),
        (Scripted { body: b"\x01\0\0\0\x02ab", ..right }, Err((Grpc, "a compressed message"))),
        (Scripted { body: b"<html>", ..right }, Err((Grpc, "byte 0x3c"))),
        (
            Scripted {
                head: &[("content-type", "application/grpc"), ("grpc-status", "5")],
                body: b"",
                trailers: None,
                ..right
            },
            answer(200, Some(5), 0, 0),
        ),
        // What a gateway says itself.
        (Scripted { status: 403, head: &[], body: b"no", trailers: None, ..right }, answer(403, None, 0, 0)),
        (Scripted { trailers: None, resets: true, ..right }, Err((Truncated, "internal error"))),
    ] {
        for piece_bytes in 1..=script.body.len().max(1) {
            if script.resets && piece_bytes == 1 {
                continue;
            }
            let requests = scripted(script, piece_bytes).await;
            let outcome = call(requests, &call_of(CallKind::Unary, "/pkg.Service/Unary", 1, 5), || {}).await;
            match (&outcome, &wanted) {
                (Ok(answer), Ok(wanted)) => {
                    let CallAnswer { http_status, grpc_status, messages_received, bytes_received, .. } =
                        *answer;
                    let got = (http_status, grpc_status, messages_received, bytes_received);
                    assert_eq!(got, *wanted, "in pieces of {piece_bytes}");
                }
                // A reset takes with it what has not left yet.
                (Err(failure), Err((Truncated, words))) => {
                    assert!(matches!(failure.kind, Truncated | Reset), "{failure:?}");
                    assert!(failure.detail.contains(words), "{failure:?}");
                }
                (Err(failure), Err((kind, words))) => {
                    assert_eq!(failure.kind, *kind, "in pieces of {piece_bytes}: {failure:?}");
                    assert!(failure.detail.contains(words), "{failure:?} where {words} was expected");
                }
                _ => panic!("{outcome:?} where {wanted:?} was expected"),
            }
        }
    }
}

/// It need not read what is still being sent.
#[tokio::test(flavor = "local")]
async fn a_server_may_answer_before_it_has_read_all() {
    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "8")];
    let script = Scripted { status: 200, head: GRPC, body: b"", trailers: None, resets: false };
    let requests = scripted(script, 1).await;
    // More than any window lets through.
    let wanted = call_of(CallKind::ClientStream, "/pkg.Service/ClientStream", 1000, 100_000);
    let answer = call(requests, &wanted, || {}).await.unwrap();
    assert_eq!((answer.grpc_status, answer.messages_received), (Some(8), 0));
    assert!(answer.bytes_sent < 100_000_000, "{answer:?}");
}

#[test]
fn deadlines_have_eight_digits_at_the_most() {
    for (deadline, wanted) in [
        (Duration::ZERO, "1m"),
        (Duration::from_millis(1500), "1500m"),
        (Duration::from_secs(99_999), "99999000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::MAX, "99999999S"),
    ] {
        assert_eq!(timeout(deadline), wanted);
    }
}
