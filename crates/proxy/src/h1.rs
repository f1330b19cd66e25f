//! HTTP/1.1 as the client's side of an exchange: the connection itself, whose bytes are bodies in their framing.

use std::{future::Future, io, pin::Pin, rc::Rc};

use ringward_http::{
    BodyFraming, RequestHead, ResponseHead, Version,
    write::{self, CONTINUE, ResponseFraming, WriteError},
};
use ringward_telemetry::CloseReason;

use crate::{
    client_side::{ClientSide, SessionFacts, Sink},
    compression::Recoded,
    connection::{Connection, End, Next},
    downstream::{Downstream, ReadError, Reader, Writer},
    error::ProxyError,
    exchange::ANSWER_TIMEOUT,
    io::{BufferPool, Deadline, LARGE, SMALL, Shut},
    relay::{Inlet, Outlet, Plan, Progress},
    respond,
    upstream::millis,
};

impl ClientSide for Downstream {
    type Source<'a> = Reader<'a>;
    type Sink<'a> = Writer<'a>;
    type Inlet<'a> = TunnelReader<'a>;
    type Outlet<'a> = TunnelWriter<'a>;
    /// An exchange notices it itself: no other shares its socket.
    type Gone = ();

    fn deadline(&self) -> &Rc<Deadline> {
        &self.deadline
    }

    fn socket(&self) -> &Rc<Deadline> {
        &self.deadline
    }

    fn framing(&self, head: &RequestHead) -> BodyFraming {
        head.body()
    }

    fn arrived(&self) -> &[u8] {
        self.buffered()
    }

    fn consume(&mut self, n: usize) {
        Downstream::consume(self, n);
    }

    fn has_ended(&self) -> bool {
        // The framing tells.
        false
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        Downstream::fill(self, LARGE).await
    }

    async fn ask_for_body(&mut self) -> io::Result<()> {
        self.send(CONTINUE).await
    }

    fn split(&mut self) -> (Reader<'_>, Writer<'_>) {
        Downstream::split(self)
    }

    fn tunnel<'a>(&'a mut self, buffers: &'a BufferPool) -> (TunnelReader<'a>, TunnelWriter<'a>) {
        // What the head was read into may not be needed for long.
        self.release();
        let deadline = self.deadline.clone();
        let (reader, writer) = Downstream::split(self);
        (TunnelReader { reader, deadline, step: SMALL }, TunnelWriter { writer, buffers })
    }

    fn tunnel_over(&mut self, error: Option<&ProxyError>) -> Next {
        Next::End(error.map_or(End::Close(CloseReason::Tunnel), |error| End::Cut(respond::cut_reason(error))))
    }

    fn session(&mut self) -> SessionFacts {
        let (negotiated, resumed) =
            self.with_session(|session| (session.negotiated(), session.resumed().is_some()));
        SessionFacts { negotiated, resumed, local_addr: self.local_addr() }
    }

    fn gone(&self) {}

    async fn unless_gone<T>((): (), work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        Some(work.await)
    }

    async fn answer(
        &mut self,
        connection: &Connection,
        head: &RequestHead,
        progress: &Progress,
        error: &ProxyError,
        request_unread: bool,
    ) -> Next {
        let answer = respond::answer(error);
        if progress.status.get() != 0 {
            // A part of the upstream's response is on its way. Its end must not look like the end of the body.
            return Next::End(End::Cut(respond::cut_reason(error)));
        }
        if answer.status == 0 {
            return respond::silent_end(error);
        }
        let request_unread = request_unread && !discard(self, head, progress);
        let outlived = connection.standing.outlived();
        let close = answer.close || request_unread || !head.keep_alive() || outlived.is_some();
        let mut out = connection.worker.buffers.small();
        let body_bytes =
            respond::write(&mut out, error, answer, &connection.worker.clock.date(), close, head.is_head());
        progress.status.set(answer.status);
        progress.sent.set(body_bytes);
        self.deadline.set(millis(ANSWER_TIMEOUT), Shut::Both);
        let sent = self.send(&out).await;
        self.deadline.clear();
        connection.worker.buffers.put(out);
        let reason = respond::close_reason(error).or(outlived).unwrap_or(CloseReason::Peer);
        match sent {
            Err(_) => Next::End(End::Cut(CloseReason::Io)),
            Ok(()) if request_unread || answer.close => Next::End(End::Linger(reason)),
            Ok(()) if close => Next::End(End::Close(reason)),
            Ok(()) => Next::Request,
        }
    }
}

impl Sink for Writer<'_> {
    async fn ask_for_body(&mut self) -> io::Result<()> {
        Writer::send(self, CONTINUE, || {}).await
    }

    fn interim(&mut self, plan: &Plan<'_>, out: &mut Vec<u8>, head: &ResponseHead) {
        // RFC 9110 §15.2: never to a client that knows none.
        if plan.head.version() > Version::Http10 {
            plan.edits.interim_head(out, plan.head, head);
        }
    }

    fn head(
        &mut self,
        plan: &Plan<'_>,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        keep_alive: bool,
        recoded: Option<&Recoded>,
    ) -> Result<ResponseFraming, WriteError> {
        plan.edits.response_head(out, plan.head, head, keep_alive, recoded)
    }

    fn switch(
        &mut self,
        plan: &Plan<'_>,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        protocol: &str,
    ) -> Result<u16, WriteError> {
        plan.edits.response_head(out, plan.head, head, true, None)?;
        write::upgrade(out, protocol, &[])?;
        Ok(head.status())
    }

    fn end<'t>(
        &mut self,
        out: &mut Vec<u8>,
        trailers: impl Iterator<Item = (&'t str, &'t [u8])>,
        rechunk: bool,
    ) {
        if rechunk {
            write::last_chunk(out, trailers);
        }
    }

    fn is_pending(&self, _last: bool) -> bool {
        false
    }

    async fn send(&mut self, plain: &[u8], _last: bool, progressed: impl Fn()) -> io::Result<()> {
        Writer::send(self, plain, progressed).await
    }
}

/// The client's bytes in a tunnel.
pub(crate) struct TunnelReader<'a> {
    reader: Reader<'a>,
    deadline: Rc<Deadline>,
    /// How much is read at a time: more after a piece that was large.
    step: usize,
}

impl Inlet for TunnelReader<'_> {
    async fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.reader.buffered().is_empty()
            && let Err(error) = self.reader.fill_by_or_rest(self.step, &self.deadline).await
        {
            return match error {
                ReadError::Closed if self.reader.has_ended() => Ok(None),
                ReadError::Closed => Err(io::ErrorKind::UnexpectedEof.into()),
                ReadError::Io(error) => Err(error),
                ReadError::Tls(error) => Err(io::Error::other(error)),
            };
        }
        let piece = self.reader.take_buffer(usize::MAX);
        self.step = if piece.len() >= SMALL / 2 { LARGE } else { SMALL };
        Ok(Some(piece))
    }

    fn passed(&mut self, _bytes: usize) {}
}

/// Bytes of a tunnel for the client.
pub(crate) struct TunnelWriter<'a> {
    writer: Writer<'a>,
    buffers: &'a BufferPool,
}

impl Outlet for TunnelWriter<'_> {
    async fn send(&mut self, piece: Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        let sent = self.writer.send(&piece, progressed).await;
        self.buffers.put(piece);
        sent
    }

    async fn end(&mut self) -> io::Result<()> {
        self.writer.end().await
    }
}

/// Drops a body as far as it has arrived; whether all of it has: a refused client keeps its connection then, and with it a
/// handshake.
fn discard(downstream: &mut Downstream, head: &RequestHead, progress: &Progress) -> bool {
    let buffered = downstream.buffered().len();
    let length = match head.body() {
        BodyFraming::Length(length) => usize::try_from(length).ok(),
        _ => None,
    };
    // Of a body that is used up in part the end is elsewhere: taking its whole length would take of the next request.
    let whole = length.filter(|length| progress.received.get() == 0 && *length <= buffered);
    // Without its end the connection ends too. What was read ahead does not stay until the client has taken its answer.
    downstream.consume(whole.unwrap_or(buffered));
    whole.is_some()
}
