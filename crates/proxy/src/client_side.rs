//! What an exchange needs of its client's side, whichever protocol that speaks.
//!
//! A connection of HTTP/1.1 is one ([`crate::downstream::Downstream`]), and so is each stream of HTTP/2
//! ([`crate::h2`]). What all exchanges of a connection share is in [`Connection`]. Which of the two it is, is resolved when
//! this is compiled.

use std::{future::Future, io, net::SocketAddr, pin::Pin, rc::Rc};

use ringward_http::{
    BodyFraming, RequestHead, ResponseHead,
    write::{ResponseFraming, WriteError},
};
use ringward_tls::Negotiated;

use crate::{
    compression::Recoded,
    connection::{Connection, Next},
    downstream::ReadError,
    error::ProxyError,
    io::{BufferPool, Deadline},
    relay::{Inlet, Outlet, Plan, Progress, Upload},
    upstream_side::RequestSink,
};

/// The client's side of an exchange.
pub(crate) trait ClientSide {
    /// Where the request's body comes from.
    type Source<'a>: Source
    where
        Self: 'a;
    /// Where the response goes.
    type Sink<'a>: Sink
    where
        Self: 'a;
    /// Where the bytes of a tunnel come from.
    type Inlet<'a>: Inlet
    where
        Self: 'a;
    /// Where the bytes of a tunnel go.
    type Outlet<'a>: Outlet
    where
        Self: 'a;
    /// Tells when the client wants no answer any more, while the side itself is in use.
    type Gone;

    /// Bounds the waits for this client.
    fn deadline(&self) -> &Rc<Deadline>;

    /// The entry of the socket below, which others may share.
    fn socket(&self) -> &Rc<Deadline>;

    /// How the body that is in [`ClientSide::arrived`] is delimited.
    fn framing(&self, head: &RequestHead) -> BodyFraming;

    /// What of the body has arrived and is not used up.
    fn arrived(&self) -> &[u8];

    /// Uses up the first `n` bytes of [`ClientSide::arrived`].
    fn consume(&mut self, n: usize);

    /// The client has said that nothing follows [`ClientSide::arrived`].
    fn has_ended(&self) -> bool;

    /// Waits until more of the body has arrived, or its end.
    async fn fill(&mut self) -> Result<(), ReadError>;

    /// Tells the client that its body is wanted (100).
    async fn ask_for_body(&mut self) -> io::Result<()>;

    /// Both directions.
    fn split(&mut self) -> (Self::Source<'_>, Self::Sink<'_>);

    /// Both directions of a tunnel, once the client knows that it is open.
    fn tunnel<'a>(&'a mut self, buffers: &'a BufferPool) -> (Self::Inlet<'a>, Self::Outlet<'a>);

    /// A tunnel is over; what follows. An error was not the client's wish, and must not look like the end of what was to come.
    fn tunnel_over(&mut self, error: Option<&ProxyError>) -> Next;

    /// What the TLS session is.
    fn session(&mut self) -> SessionFacts;

    /// For [`ClientSide::unless_gone`].
    fn gone(&self) -> Self::Gone;

    /// The result of `work`, or `None` once the client has called the exchange off. Where nobody can tell, the work goes on.
    /// The caller keeps the work: a future that is passed on by value takes its room twice.
    async fn unless_gone<T>(gone: Self::Gone, work: Pin<&mut impl Future<Output = T>>) -> Option<T>;

    /// Tells the client of an error, if it can still be told.
    async fn answer(
        &mut self,
        connection: &Connection,
        head: &RequestHead,
        progress: &Progress,
        error: &ProxyError,
        request_unread: bool,
    ) -> Next;
}

/// What of the TLS session policies see, and upstreams are told of.
#[derive(Clone, Copy)]
pub(crate) struct SessionFacts {
    pub(crate) negotiated: Negotiated,
    pub(crate) resumed: bool,
    /// The address that the client connected to; `None` if it cannot be told any more.
    pub(crate) local_addr: Option<SocketAddr>,
}

/// The request's body on its way.
pub(crate) trait Source {
    /// Nothing of the body has arrived, as far as is known without waiting.
    fn is_untouched(&self) -> bool;

    /// Streams the body to its end.
    async fn stream<S: RequestSink>(&mut self, upload: &mut Upload<'_, S>) -> Result<(), ProxyError>;
}

/// The response on its way. What is written to `out` is given to [`Sink::send`] by the caller.
pub(crate) trait Sink {
    /// Tells the client that its body is wanted (100).
    async fn ask_for_body(&mut self) -> io::Result<()>;

    /// An interim response.
    fn interim(&mut self, plan: &Plan<'_>, out: &mut Vec<u8>, head: &ResponseHead);

    /// The head of the final response; how its body has to follow in `out`. `recoded` is what compression changes in it.
    fn head(
        &mut self,
        plan: &Plan<'_>,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        keep_alive: bool,
        recoded: Option<&Recoded>,
    ) -> Result<ResponseFraming, WriteError>;

    /// That the upstream, with this head, switches to `protocol`; the status that says so.
    fn switch(
        &mut self,
        plan: &Plan<'_>,
        out: &mut Vec<u8>,
        head: &ResponseHead,
        protocol: &str,
    ) -> Result<u16, WriteError>;

    /// The end of a body of which the length was not known, with its trailers. `rechunk`: it is sent in chunks, as
    /// [`Sink::head`] has said.
    fn end<'t>(
        &mut self,
        out: &mut Vec<u8>,
        trailers: impl Iterator<Item = (&'t str, &'t [u8])>,
        rechunk: bool,
    );

    /// Whether there is something to send although there are no bytes.
    fn is_pending(&self, last: bool) -> bool;

    /// Sends; with `last`, nothing follows. `progressed` is called whenever the client has taken a part of it, but not all.
    async fn send(&mut self, plain: &[u8], last: bool, progressed: impl Fn()) -> io::Result<()>;
}
