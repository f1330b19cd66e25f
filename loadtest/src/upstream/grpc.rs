//! Answers gRPC calls, by the last part of their path. What their messages mean is of no interest, except for the first four
//! bytes where a number is wanted.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};

use super::BODY;
use super::http2::drain;
use crate::grpc::messages::{MessageError, Messages, PREFIX_BYTES, Part, batch, prefix};
use crate::http2_stream::send_all;

/// Answers one call.
pub(super) async fn answer(
    path: &str,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let method = path.rsplit('/').next().unwrap_or("");
    if method == "Bidi" {
        return echo(body, respond).await;
    }
    let mut request = Request::default();
    let mut reader = Messages::default();
    let mut error = None;
    drain(&mut body, |data| {
        if error.is_none() {
            error = reader.feed(data, |part| request.take(part)).err();
        }
    })
    .await?;
    let outcome = match error {
        Some(error) => Err(broken(error)),
        None if !reader.is_between() => Err(Status { code: INTERNAL, text: "the last message is not whole" }),
        None => request.answer(method),
    };
    match outcome {
        Ok(count) => {
            let mut send = respond.send_response(head(None), false)?;
            send_messages(&mut send, request.bytes, count).await?;
            send.send_trailers(trailers(&Status { code: OK, text: "" }))
        }
        // A head that is the trailers too.
        Err(status) => respond.send_response(head(Some(&status)), true).map(drop),
    }
}

/// What came, of which only the last message is kept in mind.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    messages: u64,
    bytes: u32,
    first: [u8; 4],
    first_filled: usize,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status {
    code: u32,
    text: &'static str,
}

impl Request {
    fn take(&mut self, part: Part<'_>) {
        match part {
            Part::Begin(bytes) => *self = Request { messages: self.messages, bytes, ..Request::default() },
            Part::Data(data) => {
                let count = data.len().min(self.first.len() - self.first_filled);
                self.first[self.first_filled..self.first_filled + count].copy_from_slice(&data[..count]);
                self.first_filled += count;
            }
            Part::End => self.messages += 1,
        }
    }

    /// How many messages are the answer.
    fn answer(&self, method: &str) -> Result<u32, Status> {
        let invalid = |text| Err(Status { code: INVALID_ARGUMENT, text });
        match method {
            "ClientStream" => Ok(1),
            "Unary" | "ServerStream" | "Fail" if self.messages != 1 => invalid("not one message"),
            "Unary" => Ok(1),
            "ServerStream" | "Fail" if self.first_filled < self.first.len() => {
                invalid("the message has no four bytes")
            }
            "ServerStream" => match u32::from_be_bytes(self.first) {
                count if count <= MESSAGES_MAX => Ok(count),
                _ => invalid("more than a million messages"),
            },
            "Fail" => Err(Status { code: u32::from_be_bytes(self.first), text: "as asked for" }),
            _ => Err(Status {
                code: UNIMPLEMENTED,
                text: "methods are Unary, ServerStream, ClientStream, Bidi and Fail",
            }),
        }
    }
}

/// Sends back each message, as it comes.
async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut send = respond.send_response(head(None), false)?;
    let mut reader = Messages::default();
    while let Some(data) = body.data().await {
        let data = data?;
        let count = data.len();
        // The bytes are those of the messages; only that they are some is to be seen.
        if let Err(error) = reader.feed(&data, |_| {}) {
            return send.send_trailers(trailers(&broken(error)));
        }
        send_all(&mut send, data, false).await?;
        body.flow_control().release_capacity(count)?;
    }
    let status = match reader.is_between() {
        true => Status { code: OK, text: "" },
        false => Status { code: INTERNAL, text: "the last message is not whole" },
    };
    send.send_trailers(trailers(&status))
}

/// Sends so many messages of so many bytes each.
async fn send_messages(send: &mut SendStream<Bytes>, bytes: u32, count: u32) -> Result<(), h2::Error> {
    let (mut left, size) = (count as usize, bytes as usize);
    if size + PREFIX_BYTES <= BATCH_BYTES {
        let whole = (BATCH_BYTES / (size + PREFIX_BYTES)).min(left);
        let messages = batch(&BODY[..size], whole);
        while left > 0 {
            let some = whole.min(left);
            send_all(send, messages.slice(..some * (size + PREFIX_BYTES)), false).await?;
            left -= some;
        }
        return Ok(());
    }
    for _ in 0..left {
        send_all(send, Bytes::copy_from_slice(&prefix(bytes)), false).await?;
        let mut rest = size;
        while rest > 0 {
            let piece = rest.min(BODY.len());
            send_all(send, Bytes::from_static(&BODY[..piece]), false).await?;
            rest -= piece;
        }
    }
    Ok(())
}

fn head(status: Option<&Status>) -> Response<()> {
    let mut head = Response::new(());
    if let Some(status) = status {
        *head.headers_mut() = trailers(status);
    }
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    head
}

fn trailers(status: &Status) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(2);
    fields.insert("grpc-status", HeaderValue::from(status.code));
    if !status.text.is_empty() {
        fields.insert("grpc-message", HeaderValue::from_static(status.text));
    }
    fields
}

fn broken(error: MessageError) -> Status {
    match error {
        MessageError::Compressed => Status { code: UNIMPLEMENTED, text: "a compressed message" },
        MessageError::Flag(_) => Status { code: INTERNAL, text: "these are no messages" },
    }
}

// Codes of gRPC.
const OK: u32 = 0;
const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
/// For one call.
const MESSAGES_MAX: u32 = 1_000_000;
/// Small messages are sent together.
const BATCH_BYTES: usize = 64 << 10;
