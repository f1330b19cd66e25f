//! An exchange over HTTP/2, on a connection that others may share.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use crate::answer::{Answer, Hash};
use crate::failure::{Failure, FailureKind};
use crate::request::Message;

/// A connection, for as many requests at a time as the target allows. Copies share it.
#[derive(Clone)]
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    /// What tells that the target's settings are there, until somebody has waited for them.
    unsettled: Rc<Mutex<Option<PingPong>>>,
}

impl Http2 {
    /// Begins to speak HTTP/2, on a connection that was agreed on for that.
    ///
    /// # Errors
    /// If the target does not speak it.
    pub(crate) async fn begin(
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> Result<Http2, Failure> {
        let mut builder = Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, mut connection) =
            builder.enable_push(false).handshake(stream).await.map_err(failure(false))?;
        let unsettled = Rc::new(Mutex::new(connection.ping_pong()));
        // What goes wrong with it is seen by its streams.
        spawn_local(async move { drop(connection.await) });
        Ok(Http2 { requests, unsettled })
    }

    /// For what is sent otherwise than by [`Http2::exchange`].
    pub(crate) fn requests(&self) -> SendRequest<Bytes> {
        self.requests.clone()
    }

    /// Waits until the target's settings are there, which come before its answer to a ping (RFC 9113 §3.4). Only what they
    /// allow at first, such as extended CONNECT, has to wait for them, once on each connection.
    pub(crate) async fn settled(&self) -> Result<(), Failure> {
        let mut unsettled = self.unsettled.lock().await;
        if let Some(mut pings) = unsettled.take() {
            pings.ping(Ping::opaque()).await.map_err(failure(false))?;
        }
        Ok(())
    }

    /// Sends a message for this authority and reads the whole answer; `begins` is called when its head is there.
    ///
    /// # Errors
    /// What keeps it from being a whole answer.
    pub(crate) async fn exchange(
        &self,
        message: &Message<'_>,
        authority: &str,
        begins: impl FnOnce(),
    ) -> Result<Answer, Failure> {
        let hashed = message.kind.expected.sha256.is_some();
        let request = message.http2_head(authority).map_err(|error| Failure::malformed(error.to_string()))?;
        let mut requests = self.requests().ready().await.map_err(failure(false))?;
        let (response, body) =
            requests.send_request(request, message.body_bytes == 0).map_err(failure(false))?;
        let receive = async {
            let response = response.await.map_err(failure(false))?;
            begins();
            let status = response.status().as_u16();
            let (body_bytes, sha256) = receive(response.into_body(), hashed).await?;
            Ok(Answer { status, body_bytes, sha256, call: None, keep_alive: true })
        };
        if message.body_bytes == 0 {
            return receive.await;
        }
        // A target may answer before it has read all, and need not read the rest.
        let (answer, _) = tokio::join!(receive, send(body, message.body_bytes));
        answer
    }
}

/// How long the body is, and its hash if it is to be hashed.
async fn receive(mut body: RecvStream, hashed: bool) -> Result<(u64, Option<[u8; 32]>), Failure> {
    let (mut received, mut hash) = (0, Hash::new(hashed));
    while let Some(data) = body.data().await {
        let data = data.map_err(failure(true))?;
        received += data.len() as u64;
        hash.add(&data);
        body.flow_control().release_capacity(data.len()).map_err(failure(true))?;
    }
    body.trailers().await.map_err(failure(true))?;
    Ok((received, hash.finish()))
}

/// Sends so many bytes, as the target takes them. What goes wrong is seen by who waits for the answer.
async fn send(mut body: SendStream<Bytes>, mut left: u64) -> Option<()> {
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BODY.len());
        body.reserve_capacity(wanted);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await?.ok()?.min(wanted);
        left -= room as u64;
        body.send_data(Bytes::from_static(&BODY[..room]), left == 0).ok()?;
    }
    Some(())
}

/// The kind of an error; `begun` says whether an answer has.
pub(crate) fn failure(begun: bool) -> impl FnOnce(h2::Error) -> Failure {
    move |error| match error.get_io() {
        Some(io) => Failure::of_stream(io, begun),
        None if error.is_library() => Failure::malformed(error.to_string()),
        None if begun => Failure::new(FailureKind::Truncated, error.to_string()),
        // That a stream is reset says nothing about its connection, and all about its request (RFC 9113 §8.7 has the exception).
        None if error.is_reset() && error.reason() != Some(Reason::REFUSED_STREAM) => {
            Failure::new(FailureKind::Reset, error.to_string())
        }
        None => Failure::new(FailureKind::Closed, error.to_string()),
    }
}

/// So large that no answer waits for its window.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
static BODY: [u8; 64 << 10] = [b'x'; 64 << 10];
