//! WebSockets (RFC 6455) over HTTP/1.1, and over a stream of HTTP/2 (RFC 8441), to a target that echoes.
//!
//! An exchange is a whole WebSocket: it is begun, messages are sent one after the other, each when the one before it has come
//! back as it was sent, and it is closed in order.

use std::io;
use std::time::{Duration, Instant};

use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{Method, Request};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::failure::{Failure, FailureKind};
use crate::http2::failure;
use crate::http2_stream::Http2Stream;
use crate::request;

/// What is done in each WebSocket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WebSocketPlan<'p> {
    pub(crate) authority: &'p str,
    pub(crate) path: &'p str,
    pub(crate) messages: u32,
    /// Up to [`MESSAGE_BYTES_MAX`].
    pub(crate) message_bytes: usize,
    /// After each message that came back, until the next is sent.
    pub(crate) between: Duration,
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WebSocketAnswer {
    /// 101, or 200 over HTTP/2. With any other there was no WebSocket, and over HTTP/1.1 the connection is of no more use.
    pub(crate) http_status: u16,
    pub(crate) messages_received: u64,
    /// Of messages.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
}

/// `sec-websocket-accept`: twenty bytes in base64.
pub(crate) type AcceptKey = [u8; 28];

/// Has a WebSocket in place of HTTP/1.1 on a stream, and leaves it to be closed by the target. `begins` is called when the first bytes of
/// an answer are there, `round_trip` with how long each message took to come back.
///
/// # Errors
/// What went wrong, also if a message did not come back as it was sent.
pub(crate) async fn over_http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    plan: &WebSocketPlan<'_>,
    begins: impl FnOnce(),
    round_trip: impl FnMut(Duration),
) -> Result<WebSocketAnswer, Failure> {
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).expect("the system has random numbers");
    let key = STANDARD.encode(nonce);
    let WebSocketPlan { authority, path, .. } = plan;
    let agent = request::USER_AGENT;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {agent}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    );
    let write = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    write.await.map_err(|error| Failure::of_stream(&error, false))?;
    let (status, rest) = read_head(&mut stream, key.as_bytes(), begins).await?;
    if status != 101 {
        // What follows is not read. The target is to close as well.
        let _ = stream.shutdown().await;
        return Ok(WebSocketAnswer::refused(status));
    }
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(limits())).await;
    Ok(WebSocketAnswer { http_status: status, ..messages(socket, plan, round_trip).await?.0 })
}

/// The same on a new stream of HTTP/2, whose target has to have said that it understands this ([`crate::http2::Http2::settled`]).
///
/// # Errors
/// What went wrong, also if a message did not come back as it was sent.
pub(crate) async fn over_http2(
    requests: SendRequest<Bytes>,
    plan: &WebSocketPlan<'_>,
    begins: impl FnOnce(),
    round_trip: impl FnMut(Duration),
) -> Result<WebSocketAnswer, Failure> {
    let mut requests = requests.ready().await.map_err(failure(false))?;
    if !requests.is_extended_connect_protocol_enabled() {
        // RFC 8441 §3: it must not be asked then.
        let detail = "the target offers no WebSockets over HTTP/2 (SETTINGS_ENABLE_CONNECT_PROTOCOL)";
        return Err(Failure::malformed(detail));
    }
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("https://{}{}", plan.authority, plan.path))
        .header("user-agent", request::USER_AGENT)
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"))
        .body(())
        .map_err(|error| Failure::malformed(error.to_string()))?;
    let (response, send) = requests.send_request(request, false).map_err(failure(false))?;
    let response = response.await.map_err(failure(false))?;
    begins();
    let status = response.status();
    if !status.is_success() {
        return Ok(WebSocketAnswer::refused(status.as_u16()));
    }
    let stream = Http2Stream::new(send, response.into_body());
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits())).await;
    let (answer, mut socket) = messages(socket, plan, round_trip).await?;
    // Both directions are ended in order, so that nobody has to reset the stream; that some server does is no matter any more.
    let stream = socket.get_mut();
    let _ = stream.shutdown().await;
    match stream.read(&mut [0; 16]).await {
        Ok(1..) => Err(wrong("bytes after the WebSocket was closed")),
        Ok(0) | Err(_) => Ok(WebSocketAnswer { http_status: status.as_u16(), ..answer }),
    }
}

/// What proves that a server has understood a request with this key (RFC 6455 §4.2.2).
pub(crate) fn accept_key(key: &[u8]) -> AcceptKey {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    STANDARD.encode_slice(context.finish(), &mut accept).expect("twenty bytes are 28 in base64");
    accept
}

/// How large messages may be, and the room for them: little, since there may be many connections.
pub(crate) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        // Each message goes out at once.
        .write_buffer_size(0)
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .max_message_size(Some(MESSAGE_BYTES_MAX))
}

impl WebSocketAnswer {
    fn refused(http_status: u16) -> WebSocketAnswer {
        WebSocketAnswer { http_status, messages_received: 0, bytes_received: 0, bytes_sent: 0 }
    }
}

/// Reads the answer to the request: its status, and what came behind it if it is the right 101.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    key: &[u8],
    begins: impl FnOnce(),
) -> Result<(u16, Vec<u8>), Failure> {
    let mut begins = Some(begins);
    let mut input = Vec::with_capacity(HEAD_BYTES_FIRST);
    loop {
        match stream.read_buf(&mut input).await {
            Ok(0) if input.is_empty() => {
                return Err(Failure::new(FailureKind::Closed, "closed before an answer"));
            }
            Ok(0) => return Err(Failure::new(FailureKind::Truncated, "closed within a head")),
            Ok(_) => {}
            Err(error) => return Err(Failure::of_stream(&error, !input.is_empty())),
        }
        if let Some(begins) = begins.take() {
            begins();
        }
        while let Some((bytes, status)) = parse_head(&input, key)? {
            input.drain(..bytes);
            // RFC 9110 §15.2: an interim response says nothing about the final one.
            if status == 101 || status >= 200 {
                return Ok((status, input));
            }
        }
        if input.len() > HEAD_BYTES_MAX {
            return Err(Failure::malformed(format!("a head of more than {HEAD_BYTES_MAX} bytes")));
        }
    }
}

/// Length and status of the head at the front of `input`, if it is complete. A 101 that is wrong is malformed.
fn parse_head(input: &[u8], key: &[u8]) -> Result<Option<(usize, u16)>, Failure> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let bytes = match response.parse(input) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(bytes)) => bytes,
        Err(error) => return Err(Failure::malformed(format!("head: {error}"))),
    };
    let status = response.code.ok_or_else(|| Failure::malformed("head without status"))?;
    if status == 101 {
        // RFC 6455 §4.1: what a client has to check.
        let accept = accept_key(key);
        for (name, wanted) in
            [("upgrade", &b"websocket"[..]), ("connection", b"upgrade"), ("sec-websocket-accept", &accept)]
        {
            let is_key = name == "sec-websocket-accept";
            let fits =
                |value: &[u8]| if is_key { value == wanted } else { value.eq_ignore_ascii_case(wanted) };
            if !words(response.headers, name).any(fits) {
                let wanted = String::from_utf8_lossy(wanted);
                return Err(Failure::malformed(format!("101 without `{name}: {wanted}`")));
            }
        }
    }
    Ok(Some((bytes, status)))
}

/// The members of a field that is a list.
fn words<'a>(fields: &'a [Header<'a>], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let values = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    values.flat_map(|field| field.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Sends the messages, waits for each to come back, and closes.
async fn messages<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    plan: &WebSocketPlan<'_>,
    mut round_trip: impl FnMut(Duration),
) -> Result<(WebSocketAnswer, WebSocketStream<S>), Failure> {
    if plan.message_bytes > MESSAGE_BYTES_MAX {
        let bytes = plan.message_bytes;
        return Err(wrong(format!(
            "a message of {bytes} bytes; none has more than {MESSAGE_BYTES_MAX} here"
        )));
    }
    let mut answer = WebSocketAnswer::refused(0);
    for number in 0..plan.messages {
        if number > 0 && !plan.between.is_zero() {
            sleep(plan.between).await;
        }
        let message = message(number, plan.message_bytes);
        let started = Instant::now();
        socket.send(Message::Binary(message.clone())).await.map_err(|error| of_socket(&error))?;
        answer.bytes_sent += message.len() as u64;
        let place = || format!("message {} of {}", number + 1, plan.messages);
        match next(&mut socket).await? {
            Message::Binary(echo) if echo == message => {}
            Message::Binary(echo) if echo.len() != message.len() => {
                let (got, wanted) = (echo.len(), message.len());
                return Err(wrong(format!(
                    "{} came back with {got} bytes where {wanted} were sent",
                    place()
                )));
            }
            Message::Binary(_) => return Err(wrong(format!("{} came back with other bytes", place()))),
            Message::Close(frame) => {
                return Err(wrong(format!("closed {} before {} came back", why(frame.as_ref()), place())));
            }
            _ => return Err(wrong(format!("{} came back as text", place()))),
        }
        round_trip(started.elapsed());
        answer.messages_received += 1;
        answer.bytes_received += message.len() as u64;
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    socket.close(Some(normal)).await.map_err(|error| of_socket(&error))?;
    match next(&mut socket).await? {
        // RFC 6455 §5.5.1: the code is that of the frame that it answers; it may be left out.
        Message::Close(frame) if frame.as_ref().is_none_or(|frame| frame.code == CloseCode::Normal) => {
            Ok((answer, socket))
        }
        Message::Close(frame) => Err(wrong(format!("the closing was answered {}", why(frame.as_ref())))),
        _ => Err(wrong("a message came that was not sent")),
    }
}

/// The next message, or the frame that closes.
async fn next<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
) -> Result<Message, Failure> {
    loop {
        match socket.next().await {
            // Pings are answered by the reading itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(message)) => return Ok(message),
            Some(Err(error)) => return Err(of_socket(&error)),
            None => {
                return Err(Failure::new(FailureKind::Truncated, "the WebSocket ended without being closed"));
            }
        }
    }
}

/// Begins with its number, so that one cannot be taken for another.
fn message(number: u32, length: usize) -> Bytes {
    let mut message = BytesMut::with_capacity(length);
    message.put_slice(&number.to_be_bytes()[..length.min(4)]);
    message.put_bytes(b'x', length.saturating_sub(4));
    message.freeze()
}

fn of_socket(error: &Error) -> Failure {
    match error {
        Error::Io(error) => Failure::of_stream(error, true),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string());
            Failure::of_stream(&error, true)
        }
        _ => wrong(error.to_string()),
    }
}

fn why(frame: Option<&CloseFrame>) -> String {
    match frame {
        None => "without a code".to_owned(),
        Some(frame) if frame.reason.is_empty() => format!("with code {}", frame.code),
        Some(frame) => format!("with code {} ({})", frame.code, frame.reason),
    }
}

fn wrong(detail: impl Into<String>) -> Failure {
    Failure::new(FailureKind::WebSocket, detail)
}

/// A message is held in memory.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// As much as an answer mostly takes.
const HEAD_BYTES_FIRST: usize = 1 << 10;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// As many as gateways let pass by default.
const FIELDS_MAX: usize = 100;

#[cfg(test)]
mod tests;
