//! Between the `h2` crate, which reads and writes when it likes, and a connection, whose operations own their buffers: that of a
//! client, or one to an upstream.
//!
//! Plaintext that has arrived is handed over here and counted ([`FrameMeter`]), and what is to be sent is gathered here, so that
//! the frames of all streams that are ready leave in one write. An idle connection has no buffer on either side.
//!
//! All of it runs in one task, the connection's: [`receive`], the protocol and [`transmit`] are polled in turn for as long as
//! one of them moves something ([`Wire::has_moved`]), so nobody here keeps a waker.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io::{self, IoSlice},
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use ringward_http::{Flood, FrameMeter};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    downstream::{ReadError, Reader, Writer},
    io::{BULK, BufferPool, Deadline, SMALL},
};

/// The bytes of one connection on their way, as plaintext.
pub(crate) struct Wire {
    input: RefCell<Input>,
    output: RefCell<Vec<u8>>,
    /// A write is in flight.
    sending: Cell<bool>,
    /// A read is in flight.
    reading: Cell<bool>,
    moved: Cell<bool>,
    /// Something has arrived.
    heard: Cell<bool>,
    /// How many bytes and frames may still be handed over before others have their turn.
    turn: Cell<(usize, usize)>,
    flood: Cell<Option<Flood>>,
    pub(crate) meter: RefCell<FrameMeter>,
    pub(crate) deadline: Rc<Deadline>,
    buffers: Rc<BufferPool>,
}

#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl Wire {
    pub(crate) fn new(meter: FrameMeter, deadline: Rc<Deadline>, buffers: Rc<BufferPool>) -> Wire {
        Wire {
            input: RefCell::default(),
            output: RefCell::default(),
            sending: Cell::new(false),
            reading: Cell::new(false),
            moved: Cell::new(false),
            heard: Cell::new(false),
            turn: Cell::new((usize::MAX, usize::MAX)),
            flood: Cell::new(None),
            meter: RefCell::new(meter),
            deadline,
            buffers,
        }
    }

    /// Whether anything was moved since this was last asked, so that the other side has to be asked again.
    pub(crate) fn has_moved(&self) -> bool {
        self.moved.take()
    }

    /// Whether anything has arrived since this was last asked.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.take()
    }

    /// Lets only so much be handed over from now on as costs little time, whatever it is.
    pub(crate) fn begin_turn(&self) {
        self.turn.set((TURN_BYTES, TURN_FRAMES));
    }

    /// Whether what has arrived waits for the next turn.
    pub(crate) fn is_turn_over(&self) -> bool {
        let (bytes, frames) = self.turn.get();
        bytes == 0 || frames == 0
    }

    /// What the peer has sent too much of, if it has. Nothing is read of it any more.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Nothing follows what has arrived.
    pub(crate) fn end_input(&self) {
        self.input.borrow_mut().ended = true;
        self.moved.set(true);
    }

    /// Whether all that was written has left.
    pub(crate) fn is_sent(&self) -> bool {
        !self.sending.get() && self.output.borrow().is_empty()
    }

    /// Hands over the next bytes, with the buffer that they are in.
    fn put_input(&self, bytes: Vec<u8>) {
        *self.input.borrow_mut() = Input { bytes, taken: 0, ended: false };
        self.moved.set(true);
        self.heard.set(true);
    }

    fn needs_input(&self) -> bool {
        let input = self.input.borrow();
        input.bytes.is_empty() && !input.ended && self.flood.get().is_none()
    }

    fn take_input(&self, buf: &mut ReadBuf<'_>) -> Poll<()> {
        let input = &mut *self.input.borrow_mut();
        if self.flood.get().is_some() || input.bytes.is_empty() {
            return if input.ended && self.flood.get().is_none() { Poll::Ready(()) } else { Poll::Pending };
        }
        let arrived = &input.bytes[input.taken..];
        let (bytes_max, frames_max) = self.turn.get();
        let arrived = &arrived[..arrived.len().min(buf.remaining()).min(bytes_max)];
        if arrived.is_empty() || frames_max == 0 {
            return Poll::Pending;
        }
        let fed = self.meter.borrow_mut().feed(arrived, frames_max, self.deadline.now());
        let (bytes, frames) = match fed {
            Ok(fed) => fed,
            Err(flood) => {
                self.flood.set(Some(flood));
                self.moved.set(true);
                return Poll::Pending;
            }
        };
        self.turn.set((bytes_max - bytes, frames_max - frames));
        let arrived = &arrived[..bytes];
        buf.put_slice(arrived);
        input.taken += arrived.len();
        if input.taken == input.bytes.len() {
            input.taken = 0;
            self.buffers.put(mem::take(&mut input.bytes));
            self.moved.set(true);
        }
        Poll::Ready(())
    }

    fn put_output(&self, parts: &[IoSlice<'_>]) -> Poll<usize> {
        let mut output = self.output.borrow_mut();
        if output.len() >= OUTPUT_MAX {
            return Poll::Pending;
        }
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let needed = output.len() + bytes;
        if needed > output.capacity() {
            let mut larger = if needed > SMALL { self.buffers.large() } else { self.buffers.small() };
            larger.extend_from_slice(&output);
            self.buffers.put(mem::replace(&mut *output, larger));
        }
        parts.iter().for_each(|part| output.extend_from_slice(part));
        self.moved.set(true);
        Poll::Ready(bytes)
    }
}

/// Where the plaintext of a connection comes from.
pub(crate) trait ByteSource {
    /// Waits for the next bytes, in a buffer of their own. The peer may have nothing to say for long.
    async fn next(&mut self, deadline: &Deadline) -> Result<Vec<u8>, ReadError>;
}

/// Where the plaintext of a connection goes.
pub(crate) trait ByteSink {
    /// Sends all of the buffer, which it may use meanwhile; `progressed` as in [`crate::io::WriteHalf::write_all`].
    async fn send(&mut self, bytes: &mut Vec<u8>, progressed: impl Fn()) -> io::Result<()>;
}

impl ByteSource for Reader<'_> {
    async fn next(&mut self, deadline: &Deadline) -> Result<Vec<u8>, ReadError> {
        if self.buffered().is_empty() {
            self.fill_or_rest(deadline).await?;
        }
        Ok(self.take_buffer(usize::MAX))
    }
}

impl ByteSink for Writer<'_> {
    async fn send(&mut self, bytes: &mut Vec<u8>, progressed: impl Fn()) -> io::Result<()> {
        Writer::send(self, bytes, progressed).await
    }
}

/// Takes plaintext off the connection whenever the protocol has used up what there was. Ends with the reason why there is no more.
pub(crate) async fn receive(wire: &Wire, source: &mut impl ByteSource) -> ReadError {
    loop {
        poll_fn(|_| if wire.needs_input() { Poll::Ready(()) } else { Poll::Pending }).await;
        wire.reading.set(true);
        let next = source.next(&wire.deadline).await;
        wire.reading.set(false);
        match next {
            Ok(bytes) => wire.put_input(bytes),
            Err(error) => return error,
        }
    }
}

/// Ends a read of `received`, which is [`receive`], that may be in flight, so that another one can follow (see the rules in
/// [`crate::io`]). What it has taken off the socket is thrown away.
pub(super) async fn end_reading(wire: &Wire, mut received: Pin<&mut impl Future<Output = ReadError>>) {
    poll_fn(|cx| {
        if !wire.reading.get() || received.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Again if need be: when a read of the one kind is called off, one of the other may follow.
        wire.deadline.call_off();
        if wire.reading.get() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

/// Sends what was written. A peer that takes nothing for `stall_millis` is given up. Ends when nothing more can be sent.
pub(crate) async fn transmit(wire: &Wire, sink: &mut impl ByteSink, stall_millis: u64) -> io::Error {
    loop {
        poll_fn(|_| if wire.output.borrow().is_empty() { Poll::Pending } else { Poll::Ready(()) }).await;
        let mut output = mem::take(&mut *wire.output.borrow_mut());
        wire.sending.set(true);
        wire.moved.set(true);
        let renew = || wire.deadline.set_write(stall_millis);
        renew();
        let sent = sink.send(&mut output, renew).await;
        wire.deadline.clear_write();
        wire.buffers.put(output);
        wire.sending.set(false);
        wire.moved.set(true);
        if let Err(error) = sent {
            return error;
        }
    }
}

/// What the `h2` crate takes for its socket.
pub(crate) struct Socket(pub(crate) Rc<Wire>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.take_input(buf).map(Ok)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.put_output(&[IoSlice::new(bytes)]).map(Ok)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.put_output(parts).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written leaves on its own.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection is closed by its owner, once all is sent.
        Poll::Ready(Ok(()))
    }
}

/// So much at a time, of frames that cost the most, keeps a worker busy for a tenth of a millisecond: heads of thousands of fields.
const TURN_BYTES: usize = 8 * 1024;
/// And so many of the smallest ones, each of which may be for another stream and make that send a few bytes: as much.
const TURN_FRAMES: usize = 16;
/// Above this the protocol waits: besides it, as much may be in flight. One write adds at most a frame.
const OUTPUT_MAX: usize = BULK / 2;

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener, pin::pin, task::Waker, time::Duration};

    use super::*;
    use crate::io::{Deadlines, DriverMode, Stream, run_on_this_thread, within};

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn wire() -> Rc<Wire> {
        let deadline = Rc::new(Rc::new(Deadlines::default()).timer());
        Rc::new(Wire::new(FrameMeter::new(1024, 100, 0), deadline, Rc::default()))
    }

    fn read(wire: &Rc<Wire>, room: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut buf = ReadBuf::new(&mut bytes);
        let mut socket = Socket(wire.clone());
        match Pin::new(&mut socket).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
            Poll::Ready(read) => {
                read.unwrap();
                Some(buf.filled().to_vec())
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn input_is_handed_over_in_any_pieces_and_then_asked_for() {
        let wire = wire();
        assert!(wire.needs_input() && read(&wire, 10).is_none());
        wire.put_input(PREFACE.to_vec());
        assert!(wire.has_moved() && wire.has_heard() && !wire.needs_input());
        assert_eq!(read(&wire, 10).unwrap(), &PREFACE[..10]);
        assert!(!wire.has_moved() && !wire.needs_input());
        assert_eq!(read(&wire, 100).unwrap(), &PREFACE[10..]);
        assert!(wire.has_moved() && wire.needs_input(), "now there is room for more");
        wire.end_input();
        assert!(!wire.needs_input());
        assert_eq!(read(&wire, 10).unwrap(), b"", "the end");
    }

    #[test]
    fn a_turn_has_so_many_bytes() {
        let wire = wire();
        wire.put_input([PREFACE, &[0; 9], &[b'x'; 2 * TURN_BYTES]].concat());
        for _ in 0..2 {
            wire.begin_turn();
            assert!(!wire.is_turn_over());
            assert_eq!(read(&wire, TURN_BYTES - 1).unwrap().len(), TURN_BYTES - 1);
            assert_eq!(read(&wire, TURN_BYTES).unwrap().len(), 1);
            assert!(wire.is_turn_over() && read(&wire, 10).is_none() && !wire.needs_input());
        }
        wire.begin_turn();
        assert_eq!(read(&wire, TURN_BYTES).unwrap().len(), PREFACE.len() + 9);
        assert!(!wire.is_turn_over() && wire.needs_input());
    }

    #[test]
    fn a_turn_has_so_many_frames() {
        let wire = wire();
        // DATA of one byte each.
        let frames = [0, 0, 1, 0, 0, 0, 0, 0, 1, b'x'].repeat(TURN_FRAMES + 1);
        wire.put_input([PREFACE, &frames].concat());
        wire.begin_turn();
        assert_eq!(read(&wire, TURN_BYTES).unwrap().len(), PREFACE.len() + 10 * TURN_FRAMES);
        assert!(wire.is_turn_over() && read(&wire, 10).is_none() && !wire.needs_input());
        wire.begin_turn();
        assert_eq!(read(&wire, TURN_BYTES).unwrap().len(), 10);
        assert!(!wire.is_turn_over() && wire.needs_input());
    }

    #[test]
    fn nothing_of_a_flood_goes_on() {
        let wire = wire();
        wire.put_input(PREFACE.to_vec());
        read(&wire, 100).unwrap();
        wire.put_input([0, 0, 0, 4, 1, 0, 0, 0, 0].repeat(1000));
        assert!(read(&wire, 16 * 1024).is_none());
        assert_eq!(wire.flood(), Some(Flood::Settings));
        assert!(!wire.needs_input(), "nothing more is read");
        wire.end_input();
        assert!(read(&wire, 10).is_none());
    }

    #[test]
    fn output_is_gathered_up_to_a_bound() {
        let wire = wire();
        let mut socket = Socket(wire.clone());
        let mut cx = Context::from_waker(Waker::noop());
        let parts = [IoSlice::new(b"head"), IoSlice::new(&[b'x'; 9000])];
        let written = Pin::new(&mut socket).poll_write_vectored(&mut cx, &parts);
        assert!(matches!(written, Poll::Ready(Ok(9004))));
        assert!(wire.has_moved() && !wire.is_sent());
        assert!(matches!(Pin::new(&mut socket).poll_write(&mut cx, b"tail"), Poll::Ready(Ok(4))));
        assert!(wire.output.borrow().starts_with(b"headx") && wire.output.borrow().ends_with(b"xtail"));
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut socket).poll_write(&mut cx, &[0; 16 * 1024]) {
            taken += written.unwrap();
            assert!(taken <= OUTPUT_MAX + 16 * 1024);
        }
        wire.output.borrow_mut().clear();
        assert!(matches!(Pin::new(&mut socket).poll_write(&mut cx, b"more"), Poll::Ready(Ok(4))));
    }

    #[test]
    fn what_follows_an_ended_read_is_not_lost() {
        for mode in [DriverMode::Auto, DriverMode::Epoll] {
            run_on_this_thread(mode, |_| read_after_a_read()).unwrap();
        }
    }

    async fn read_after_a_read() {
        let patience = Duration::from_secs(10);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = Stream::connect(listener.local_addr().unwrap(), patience).await.unwrap();
        let mut theirs = listener.accept().unwrap().0;
        let deadline = Rc::new(Rc::new(Deadlines::default()).register(ours.fd()));
        let wire = Wire::new(FrameMeter::new(1024, 100, 0), deadline.clone(), Rc::default());
        {
            let mut received = pin!(async {
                wire.reading.set(true);
                let buffer = Vec::with_capacity(100);
                let (result, _) = ours.read.read_briefly(buffer, usize::MAX, &deadline, u64::MAX).await;
                wire.reading.set(false);
                ReadError::Io(result.unwrap_err())
            });
            poll_fn(|cx| Poll::Ready(received.as_mut().poll(cx).is_pending())).await;
            within(patience, end_reading(&wire, received.as_mut())).await.unwrap();
            assert!(!wire.reading.get());
        }
        theirs.write_all(b"next").unwrap();
        let (_, read) = within(patience, ours.read.read(Vec::with_capacity(100), usize::MAX)).await.unwrap();
        assert_eq!(read, b"next");
    }
}
