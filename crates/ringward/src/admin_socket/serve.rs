//! The serving end: who may ask, how much at once, and for how long.
//!
//! A client can make us hold one request and one attachment, and only for as long as the timeouts say. What it says reaches
//! [`Operations`] only if the kernel vouches for its user.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::bind::AdminSocket;
use super::line::{self, LineError};
use super::request::{Envelope, Reply, Request};
use super::{ANSWER_BYTES_MAX, ATTACHMENT_BYTES_MAX, REQUEST_BYTES_MAX};

/// What is done when somebody asks. The process has one; tests have others.
pub(crate) trait Operations: Send + Sync + 'static {
    /// Does it, within a time that it limits itself. `attachment` is the file that came with the request.
    fn perform(
        &self,
        caller: Caller,
        request: Request,
        attachment: Vec<u8>,
    ) -> impl Future<Output = Answer> + Send;
}

/// The result of an operation: JSON for whoever asked, or what went wrong.
pub(crate) type Answer = Result<Value, String>;

/// Who asks, by the word of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) uid: u32,
    /// The process, if it is in our namespace.
    pub(crate) pid: Option<i32>,
}

/// Limits, so that tests need not wait.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a request and what is attached, from when it may begin.
    request: Duration,
    /// For the client to take an answer.
    answer: Duration,
}

impl AdminSocket {
    /// Serves until it is dropped, and takes no more clients once it is retired. To be called within a runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub(crate) async fn serve(self, operations: Arc<impl Operations>) -> io::Result<Infallible> {
        let listener = UnixListener::from_std(self.listener()?)?;
        let patience = Patience { request: REQUEST_TIMEOUT, answer: ANSWER_TIMEOUT };
        let retirement = self.retirement();
        let accepting = accept(listener, operations, patience, rustix::process::geteuid().as_raw());
        tokio::select! {
            ended = accepting => ended,
            // Those who have connected are still answered.
            () = retirement.wait() => pending().await,
        }
    }
}

async fn accept(
    listener: UnixListener,
    operations: Arc<impl Operations>,
    patience: Patience,
    our_uid: u32,
) -> io::Result<Infallible> {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    let attachments = Arc::new(Semaphore::new(ATTACHMENTS_MAX));
    loop {
        // Further clients wait in the kernel's queue. The semaphore is never closed.
        let permit = clients.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (operations, attachments) = (operations.clone(), attachments.clone());
                tokio::spawn(async move {
                    if let Some(caller) = admit(&stream, our_uid) {
                        converse(stream, caller, &*operations, &attachments, patience).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely. Trying again at once would only burn CPU.
                tracing::warn!(%error, "the admin socket cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who is at the other end, if they may ask at all. The mode of the socket says the same, but modes are changed by mistake.
fn admit(stream: &UnixStream, our_uid: u32) -> Option<Caller> {
    let peer = stream
        .peer_cred()
        .inspect_err(|error| tracing::warn!(%error, "a client of the admin socket cannot be identified"))
        .ok()?;
    let caller = Caller { uid: peer.uid(), pid: peer.pid() };
    if !may_ask(caller.uid, our_uid) {
        tracing::warn!(
            uid = caller.uid,
            pid = caller.pid,
            "a client of the admin socket was refused: not our user, nor root"
        );
        return None;
    }
    Some(caller)
}

fn may_ask(uid: u32, our_uid: u32) -> bool {
    uid == our_uid || uid == ROOT
}

/// Answers one request after the other until the client is done or breaks a rule.
async fn converse(
    stream: UnixStream,
    caller: Caller,
    operations: &impl Operations,
    attachments: &Semaphore,
    patience: Patience,
) {
    let mut stream = BufStream::new(stream);
    loop {
        let (reply, goes_on) = match take_request(&mut stream, attachments, patience).await {
            Ok((request, attachment)) => {
                let answer = perform(operations, caller, request, attachment).await;
                (answer.map_or_else(Reply::Error, Reply::Ok), true)
            }
            Err(Broken::Gone) => return,
            // What follows cannot be told from what was wrong.
            Err(Broken::Rule(reason)) => (Reply::Error(reason), false),
        };
        let sent = timeout(patience.answer, send(&mut stream, &reply)).await;
        if !goes_on || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn perform(
    operations: &impl Operations,
    caller: Caller,
    request: Request,
    attachment: Vec<u8>,
) -> Answer {
    let (name, changes) = (request.name(), request.changes());
    let asked = changes.then(|| serde_json::to_string(&request).unwrap_or_default());
    let answer = operations.perform(caller, request, attachment).await;
    let Caller { uid, pid } = caller;
    match (&answer, asked) {
        (Ok(_), Some(asked)) => tracing::info!(uid, pid, request = asked, "changed by an operator"),
        (Err(error), Some(asked)) => {
            tracing::warn!(uid, pid, request = asked, error, "an operator's change failed");
        }
        (Ok(_), None) => tracing::debug!(uid, pid, request = name, "asked by an operator"),
        (Err(error), None) => {
            tracing::debug!(uid, pid, request = name, error, "an operator's question failed")
        }
    }
    answer
}

/// Why no request could be taken.
enum Broken {
    /// Nobody is there any more.
    Gone,
    /// The client does not keep to the protocol.
    Rule(String),
}

async fn take_request(
    stream: &mut BufStream<UnixStream>,
    attachments: &Semaphore,
    patience: Patience,
) -> Result<(Request, Vec<u8>), Broken> {
    let taken = timeout(patience.request, async {
        let line = match line::read(stream, REQUEST_BYTES_MAX).await {
            Ok(line) => line,
            Err(LineError::Closed | LineError::Cut | LineError::Io(_)) => return Err(Broken::Gone),
            Err(error @ LineError::TooLong(_)) => return Err(Broken::Rule(error.to_string())),
        };
        let Envelope { request, attachment_bytes } = serde_json::from_slice(&line).map_err(|error| {
            Broken::Rule(format!(
                "the request is not understood: {error}; is the running ringward of this version?"
            ))
        })?;
        if attachment_bytes > ATTACHMENT_BYTES_MAX {
            return Err(Broken::Rule(format!("the file has more than {ATTACHMENT_BYTES_MAX} bytes")));
        }
        // The bytes are counted from the start, so that several clients cannot each make us hold the largest file.
        let _turn = match attachment_bytes {
            0 => None,
            _ => attachments.acquire().await.ok(),
        };
        let mut attachment = Vec::new();
        let read = stream.take(attachment_bytes as u64).read_to_end(&mut attachment).await;
        if read.is_err() || attachment.len() < attachment_bytes {
            return Err(Broken::Gone);
        }
        Ok((request, attachment))
    });
    taken.await.unwrap_or_else(|_| Err(Broken::Rule("no request came in time".to_owned())))
}

async fn send(stream: &mut BufStream<UnixStream>, reply: &Reply) -> io::Result<()> {
    let line = match encode(reply) {
        Ok(line) if line.len() <= ANSWER_BYTES_MAX => line,
        Ok(_) => encode(&Reply::Error(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")))?,
        Err(error) => encode(&Reply::Error(format!("the answer cannot be written: {error}")))?,
    };
    stream.write_all(&line).await?;
    stream.flush().await
}

fn encode(reply: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    Ok(line)
}

const ROOT: u32 = 0;
/// Operators and a few scripts.
const CLIENTS_MAX: usize = 16;
/// Large files that are examined at the same time.
const ATTACHMENTS_MAX: usize = 1;
/// Also how long a client may be silent between two requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
