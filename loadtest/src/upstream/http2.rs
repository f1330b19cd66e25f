//! HTTP/2 by prior knowledge: each request as soon as it comes, in a task of its own.

use aws_lc_rs::digest;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::http1::Event;
use super::resource::{Resource, Wanted};
use super::{BODY, body_report, grpc, websocket};
use crate::http2_stream::{Http2Stream, send_all};

/// Serves exchanges until the connection ends.
pub(super) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .enable_connect_protocol();
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        // How it goes wrong is seen by the client.
        spawn_local(async move { drop(answer(head, body, respond).await) });
    }
}

async fn answer(
    head: Parts,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    if head.method == Method::CONNECT {
        return connect(&head, body, respond).await;
    }
    let path = head.uri.path();
    let Wanted { delay, resource } = Wanted::new(head.method.as_str(), path);
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let content_type = head.headers.get("content-type").map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        return grpc::answer(path, body, respond).await;
    }
    match resource {
        Resource::Echo => return echo(&head, body, respond).await,
        Resource::Report => {
            let (mut length, mut context) = (0, digest::Context::new(&digest::SHA256));
            drain(&mut body, |data| {
                length += data.len() as u64;
                context.update(data);
            })
            .await?;
            let report = body_report(length, &context.finish());
            let mut body = begin(&mut respond, StatusCode::OK, Some(report.len() as u64), false)?;
            return send_all(&mut body, report.into(), true).await;
        }
        _ => drain(&mut body, |_| {}).await?,
    }
    let is_bodiless = head.method == Method::HEAD;
    match resource {
        Resource::Bytes(length) => {
            let is_end = is_bodiless || length == 0;
            let mut body = begin(&mut respond, StatusCode::OK, Some(length), is_end)?;
            if is_end { Ok(()) } else { send_body(&mut body, length).await }
        }
        Resource::Chunked(length) => {
            let mut body = begin(&mut respond, StatusCode::OK, None, is_bodiless)?;
            if is_bodiless { Ok(()) } else { send_body(&mut body, length).await }
        }
        Resource::Status(status) => {
            let status = StatusCode::from_u16(status).map_err(|_| Reason::INTERNAL_ERROR)?;
            begin(&mut respond, status, None, true).map(drop)
        }
        Resource::Events { count, between } => {
            let head = Response::builder().header("content-type", "text/event-stream");
            let head = head.body(()).map_err(|_| Reason::INTERNAL_ERROR)?;
            let mut body = respond.send_response(head, is_bodiless)?;
            for number in 0..if is_bodiless { 0 } else { count } {
                if number > 0 && !between.is_zero() {
                    sleep(between).await;
                }
                send_all(&mut body, Event(number).to_string().into(), false).await?;
            }
            if is_bodiless { Ok(()) } else { body.send_data(Bytes::new(), true) }
        }
        Resource::Echo | Resource::Report => Ok(()),
    }
}

/// RFC 8441 §4: a WebSocket, and nothing else.
async fn connect(head: &Parts, body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let is_websocket =
        head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
    if !is_websocket {
        return begin(&mut respond, StatusCode::NOT_IMPLEMENTED, None, true).map(drop);
    }
    let send = respond.send_response(Response::new(()), false)?;
    websocket::echo(Http2Stream::new(send, body)).await;
    Ok(())
}

async fn echo(head: &Parts, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let length = head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let is_end = body.is_end_stream();
    let mut send = begin(&mut respond, StatusCode::OK, length, is_end)?;
    while let Some(data) = body.data().await {
        let data = data?;
        let count = data.len();
        send_all(&mut send, data, false).await?;
        body.flow_control().release_capacity(count)?;
    }
    if is_end { Ok(()) } else { send.send_data(Bytes::new(), true) }
}

fn begin(
    respond: &mut SendResponse<Bytes>,
    status: StatusCode,
    length: Option<u64>,
    is_end: bool,
) -> Result<SendStream<Bytes>, h2::Error> {
    let mut head = Response::builder().status(status);
    if status == StatusCode::OK {
        head = head.header("content-type", "application/octet-stream");
    }
    if let Some(length) = length {
        head = head.header("content-length", length);
    }
    respond.send_response(head.body(()).map_err(|_| Reason::INTERNAL_ERROR)?, is_end)
}

/// Sends so many bytes and the end.
async fn send_body(body: &mut SendStream<Bytes>, mut left: u64) -> Result<(), h2::Error> {
    loop {
        let piece = left.min(BODY.len() as u64) as usize;
        left -= piece as u64;
        send_all(body, Bytes::from_static(&BODY[..piece]), left == 0).await?;
        if left == 0 {
            return Ok(());
        }
    }
}

/// Reads a body to its end, and gives `each` piece of it away.
pub(super) async fn drain(body: &mut RecvStream, mut each: impl FnMut(&[u8])) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        each(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(())
}

/// So large that the gateway waits for no window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
const STREAMS_MAX: u32 = 10_000;
