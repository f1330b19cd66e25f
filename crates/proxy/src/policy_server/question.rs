//! One question in HTTP/1.1: a request with the input, a response with the rule's value.

use std::mem;

use ringward_http::{BodyFraming, ChunkedDecoder, Decoded, HeadLimits, RequestKind, ResponseHead};
use ringward_policy::{Query, ServerError};

use super::{Asker, connection::Connection};
use crate::{
    io::{BufferPool, SMALL},
    worker::Worker,
};

/// A question that came to nothing on its connection.
struct Failed {
    error: ServerError,
    /// The question, if not a byte of an answer has arrived.
    unanswered: Option<Vec<u8>>,
}

/// Asks on a kept connection, or else on a new one; the body of the answer.
///
/// The server may have closed a kept connection in this very moment. Then it is asked once more, on a new one: a question changes
/// nothing there.
pub(super) async fn put(asker: &Asker, worker: &Worker, query: Query) -> Result<Vec<u8>, ServerError> {
    let mut question = message(&asker.server.head, query, &worker.buffers);
    if let Some(kept) = asker.kept() {
        match exchange(asker, worker, kept, question).await {
            Err(Failed { error: ServerError::Closed, unanswered: Some(again) }) => question = again,
            other => return other.map_err(|failed| failed.error),
        }
    }
    let fresh = asker.connect(worker).await.map_err(|error| ServerError::Unreachable(error.kind()))?;
    exchange(asker, worker, fresh, question).await.map_err(|failed| failed.error)
}

/// The whole question in one buffer, so that it leaves in one write. The query ends here: it may be several times as large as the
/// body of the request, too large to be there twice until the answer comes.
fn message(head: &[u8], query: Query, buffers: &BufferPool) -> Vec<u8> {
    let mut out = buffers.small();
    out.extend_from_slice(head);
    out.extend_from_slice(itoa::Buffer::new().format(query.body.len()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(&query.body);
    out
}

/// Keeps the connection if nothing speaks against it.
async fn exchange(
    asker: &Asker,
    worker: &Worker,
    mut connection: Connection,
    question: Vec<u8>,
) -> Result<Vec<u8>, Failed> {
    let buffers = &worker.buffers;
    let (sent, question) = connection.stream.write_all(question).await;
    let mut answer = Answer { connection, buffers, buffer: buffers.small(), question: Some(question) };
    let mut head = worker.heads.response();
    head.clear();
    let read = match sent {
        Ok(()) => answer.read(&mut head, asker.server.answer_bytes_max).await,
        Err(_) => answer.refusal(&mut head).await,
    };
    worker.heads.put_response(head);
    let Answer { connection, buffer, question, .. } = answer;
    match read {
        Ok(reusable) => {
            if reusable {
                asker.keep(connection);
            }
            Ok(buffer)
        }
        Err(error) => {
            buffers.put(buffer);
            Err(Failed { error, unanswered: question })
        }
    }
}

/// An answer on its way.
struct Answer<'a> {
    connection: Connection,
    buffers: &'a BufferPool,
    /// What has arrived and is not used up; in the end the body.
    buffer: Vec<u8>,
    /// Until the first byte arrives.
    question: Option<Vec<u8>>,
}

impl Answer<'_> {
    /// Reads it whole, and leaves its body in the buffer. Returns whether the connection can be used again.
    async fn read(&mut self, head: &mut ResponseHead, bytes_max: usize) -> Result<bool, ServerError> {
        self.head(head).await?;
        if head.status() != 200 {
            return Err(ServerError::Status(head.status()));
        }
        let surplus = match head.body() {
            BodyFraming::Length(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > bytes_max {
                    return Err(ServerError::TooLarge(bytes_max));
                }
                self.length(length).await?
            }
            BodyFraming::Chunked => self.chunked(bytes_max).await?,
            // A connection that breaks looks like the end of such a body.
            BodyFraming::UntilClose | BodyFraming::None => {
                return Err(ServerError::NotHttp("it does not say where it ends".to_owned()));
            }
        };
        // Bytes after the answer belong to no question.
        Ok(head.keep_alive() && !surplus)
    }

    /// Reads what a server has said that did not take the whole question, which one too large to read may be refused by. Whatever
    /// the status, it is no decision.
    async fn refusal(&mut self, head: &mut ResponseHead) -> Result<bool, ServerError> {
        self.head(head).await?;
        Err(ServerError::Status(head.status()))
    }

    /// Reads the head of the final response. Interim ones (RFC 9110 §15.2) are passed over.
    async fn head(&mut self, head: &mut ResponseHead) -> Result<(), ServerError> {
        let mut interim = 0;
        loop {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let parsed = head.parse(&self.buffer, RequestKind::Other, &HEAD_LIMITS);
            match parsed.map_err(|error| ServerError::NotHttp(error.to_string()))? {
                Some(length) => {
                    self.buffer.drain(..length);
                    if !head.is_interim() {
                        return Ok(());
                    }
                    interim += 1;
                    if interim > INTERIM_MAX {
                        return Err(ServerError::NotHttp(format!(
                            "more than {INTERIM_MAX} interim responses"
                        )));
                    }
                }
                None => self.more().await?,
            }
        }
    }

    /// Whether there is more than the body.
    async fn length(&mut self, length: usize) -> Result<bool, ServerError> {
        self.buffer.reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            self.more().await?;
        }
        let surplus = self.buffer.len() > length;
        self.buffer.truncate(length);
        Ok(surplus)
    }

    /// Whether there is more than the body.
    async fn chunked(&mut self, bytes_max: usize) -> Result<bool, ServerError> {
        let mut body = self.buffers.small();
        // Trailers say nothing here.
        let mut decoder = ChunkedDecoder::new(|_| true);
        loop {
            let mut taken = 0;
            while taken < self.buffer.len() {
                let rest = &self.buffer[taken..];
                match decoder.decode(rest).map_err(|error| ServerError::NotHttp(error.to_string()))? {
                    Decoded::Data { skip, data } => {
                        if body.len() + data > bytes_max {
                            return Err(ServerError::TooLarge(bytes_max));
                        }
                        body.extend_from_slice(&rest[skip..skip + data]);
                        taken += skip + data;
                    }
                    Decoded::NeedMore { consumed } => taken += consumed,
                    Decoded::Done { consumed } => {
                        let surplus = taken + consumed < self.buffer.len();
                        self.buffers.put(mem::replace(&mut self.buffer, body));
                        return Ok(surplus);
                    }
                }
            }
            self.buffer.clear();
            self.more().await?;
        }
    }

    /// Reads more behind what is there.
    async fn more(&mut self) -> Result<(), ServerError> {
        if self.buffer.len() == self.buffer.capacity() {
            // Only a head makes it grow here, and the parser refuses one beyond its limit.
            self.buffer.reserve(SMALL);
        }
        let (read, buffer) = self.connection.stream.read(mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        match read {
            Ok(0) | Err(_) => Err(ServerError::Closed),
            Ok(_) => {
                if let Some(question) = self.question.take() {
                    self.buffers.put(question);
                }
                Ok(())
            }
        }
    }
}

/// Interim responses passed over before the final one. With epoll a read that finds bytes does not wait: a server that sends them
/// without end would keep the whole worker, and the timer that ends the question could not run.
const INTERIM_MAX: u32 = 16;

/// OPA answers with a handful of fields.
const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, fields_max: 64 };
