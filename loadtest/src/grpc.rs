//! gRPC calls over HTTP/2, without any knowledge of what their messages mean.
//!
//! A call is made and read to its end; that its framing is right and that it ends with a status is checked here. Whether status
//! and messages are those that were wanted is for the caller to say.

pub(crate) mod messages;

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use http::{HeaderMap, Method, Request};

use self::messages::{Messages, Part, batch};
use crate::failure::{Failure, FailureKind};
use crate::http2::failure;
use crate::http2_stream::send_all;
use crate::request;

/// How many messages go in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallKind {
    /// One, and one back.
    Unary,
    /// One, which begins with how many are to come back.
    ServerStream,
    /// Many, and one back.
    ClientStream,
    /// Many, and as many back.
    Bidi,
}

/// A call that is to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'c> {
    pub(crate) kind: CallKind,
    pub(crate) authority: &'c str,
    /// Of the method: `/package.Service/Method`.
    pub(crate) path: &'c str,
    /// How many in the direction that has many.
    pub(crate) messages: u32,
    /// Of each message that is sent, up to [`MESSAGE_BYTES_MAX`]. One that says how many are to come back has four at the least.
    pub(crate) message_bytes: u32,
    /// Told to the server (`grpc-timeout`). To wait no longer is up to the caller.
    pub(crate) deadline: Option<Duration>,
}

/// A call that was made, and its whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallAnswer {
    pub(crate) http_status: u16,
    /// None only where something else than a server of gRPC answered: where the HTTP status is not 200.
    pub(crate) grpc_status: Option<u32>,
    pub(crate) messages_received: u64,
    /// Of messages, without their prefixes.
    pub(crate) bytes_received: u64,
    /// The same for those that were sent before the answer was whole.
    pub(crate) bytes_sent: u64,
}

impl CallKind {
    /// How many messages the answer of a server has that does what was asked for, with so many in the direction that has many.
    pub(crate) fn messages_expected(self, messages: u32) -> u64 {
        match self {
            CallKind::Unary | CallKind::ClientStream => 1,
            CallKind::ServerStream | CallKind::Bidi => messages.into(),
        }
    }
}

impl Call<'_> {
    fn request(&self) -> Result<Request<()>, http::Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(["https://", self.authority, self.path].concat())
            .header(TE, "trailers")
            .header(CONTENT_TYPE, "application/grpc")
            .header(USER_AGENT, request::USER_AGENT);
        if let Some(deadline) = self.deadline {
            request = request.header("grpc-timeout", timeout(deadline));
        }
        request.body(())
    }

    /// What is sent, again and again, with its prefix; and how often.
    fn message(&self) -> (Bytes, u32) {
        let mut message = vec![b'x'; self.message_bytes as usize];
        if self.kind == CallKind::ServerStream {
            let count = self.messages.to_be_bytes();
            message.resize(message.len().max(count.len()), b'x');
            message[..count.len()].copy_from_slice(&count);
        }
        let count = match self.kind {
            CallKind::Unary | CallKind::ServerStream => 1,
            CallKind::ClientStream | CallKind::Bidi => self.messages,
        };
        (batch(&message, 1), count)
    }
}

/// Makes a call, and reads the answer while it sends. `begins` is called when the head of the answer is there.
///
/// # Errors
/// What keeps it from being a whole answer.
pub(crate) async fn call(
    requests: SendRequest<Bytes>,
    call: &Call<'_>,
    begins: impl FnOnce(),
) -> Result<CallAnswer, Failure> {
    if call.message_bytes > MESSAGE_BYTES_MAX {
        let bytes = call.message_bytes;
        return Err(broken(format!(
            "a message of {bytes} bytes; none has more than {MESSAGE_BYTES_MAX} here"
        )));
    }
    let request = call.request().map_err(|error| Failure::malformed(error.to_string()))?;
    let mut requests = requests.ready().await.map_err(failure(false))?;
    let (response, stream) = requests.send_request(request, false).map_err(failure(false))?;
    let sent = Cell::new(0);
    let sending = send(stream, call.message(), &sent);
    let receiving = receive(response, begins);
    tokio::pin!(sending, receiving);
    let answer = tokio::select! {
        // A server that has answered need not read the rest.
        biased;
        answer = &mut receiving => answer,
        () = &mut sending => receiving.await,
    };
    Ok(CallAnswer { bytes_sent: sent.get(), ..answer? })
}

/// Sends the messages, as the server takes them. What goes wrong is seen by who waits for the answer.
async fn send(mut stream: SendStream<Bytes>, (message, count): (Bytes, u32), sent: &Cell<u64>) {
    for left in (0..count).rev() {
        if send_all(&mut stream, message.clone(), left == 0).await.is_err() {
            return;
        }
        sent.set(sent.get() + (message.len() - messages::PREFIX_BYTES) as u64);
    }
    if count == 0 {
        // If it cannot be ended it has ended.
        let _ = send_all(&mut stream, Bytes::new(), true).await;
    }
}

async fn receive(response: ResponseFuture, begins: impl FnOnce()) -> Result<CallAnswer, Failure> {
    let (head, mut body) = response.await.map_err(failure(false))?.into_parts();
    begins();
    let http_status = head.status.as_u16();
    let (mut messages_received, mut bytes_received) = (0, 0);
    let mut reader = Messages::default();
    let is_grpc = http_status == 200;
    if is_grpc {
        speaks_grpc(&head.headers)?;
    }
    let mut has_body = false;
    while let Some(data) = body.data().await {
        let data = data.map_err(failure(true))?;
        has_body |= !data.is_empty();
        if is_grpc {
            let count = |part: Part<'_>| match part {
                Part::Begin(_) => {}
                Part::Data(data) => bytes_received += data.len() as u64,
                Part::End => messages_received += 1,
            };
            reader.feed(&data, count).map_err(|error| broken(error.to_string()))?;
        }
        body.flow_control().release_capacity(data.len()).map_err(failure(true))?;
    }
    let trailers = body.trailers().await.map_err(failure(true))?;
    let grpc_status = match (is_grpc, &trailers) {
        (false, _) => None,
        (true, _) if !reader.is_between() => {
            return Err(broken(format!("the answer ends within message {}", messages_received + 1)));
        }
        (true, Some(trailers)) => Some(status(trailers)?),
        // A head that is the trailers too.
        (true, None) if !has_body => Some(status(&head.headers)?),
        (true, None) => return Err(broken("an answer without trailers, where grpc-status has to be")),
    };
    Ok(CallAnswer { http_status, grpc_status, messages_received, bytes_received, bytes_sent: 0 })
}

fn speaks_grpc(head: &HeaderMap) -> Result<(), Failure> {
    let content_type = head.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let subtype = content_type.strip_prefix(b"application/grpc");
    // `application/grpc-web` is something else.
    if subtype.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))) {
        return Ok(());
    }
    let seen = String::from_utf8_lossy(content_type);
    Err(broken(format!("content-type {seen:?} where application/grpc was expected")))
}

fn status(fields: &HeaderMap) -> Result<u32, Failure> {
    let mut values = fields.get_all("grpc-status").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(broken("the answer ends without one grpc-status"));
    };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| broken(format!("grpc-status {value:?} is no number")))
}

/// gRPC over HTTP/2, "Timeout": up to eight digits and a unit.
fn timeout(deadline: Duration) -> String {
    let milliseconds = deadline.as_millis().max(1);
    if milliseconds < 100_000_000 {
        format!("{milliseconds}m")
    } else {
        format!("{}S", deadline.as_secs().min(99_999_999))
    }
}

fn broken(detail: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Grpc, detail)
}

/// A message is held in memory. Servers allow four by default.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 64 << 20;

#[cfg(test)]
mod tests;
