//! What an exchange needs of its upstream's side, whichever protocol that speaks; the counterpart of [`crate::client_side`].
//!
//! How a body is delimited on its way to the upstream is this side's business. Which side it is, is resolved when this is
//! compiled.

use ringward_http::ResponseHead;

use crate::{
    client_side::Sink,
    error::ProxyError,
    io::{BufferPool, Deadline},
    relay::{Download, Inlet, Outlet, Plan},
};

/// The upstream's side of an exchange.
pub(crate) trait UpstreamSide {
    /// It can say that it has not processed a request. What leaves of it at once is held until that is out of the question.
    const SAYS_UNPROCESSED: bool;

    /// Where the request goes.
    type Sink<'a>: RequestSink
    where
        Self: 'a;
    /// Where the response comes from.
    type Source<'a>: ResponseSource
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

    /// Bounds the waits for this upstream.
    fn deadline(&self) -> &Deadline;

    /// Takes the head of the request, which asks for what [`Plan::asked`] says. What is written to `out` is given to
    /// [`RequestSink::send`] by the caller, with as much of the body as there is.
    ///
    /// # Errors
    /// If it cannot be written, or not be asked for here.
    fn head(&mut self, plan: &Plan<'_>, out: &mut Vec<u8>) -> Result<(), ProxyError>;

    /// Both directions, and what bounds the waits in them.
    fn split<'a>(&'a mut self, plan: &'a Plan<'_>) -> (Self::Sink<'a>, Self::Source<'a>, &'a Deadline);

    /// Both directions of a tunnel that the upstream has agreed to. `early` is what [`ResponseSource::into_rest`] has given.
    fn tunnel<'a>(
        &'a mut self,
        early: Vec<u8>,
        buffers: &'a BufferPool,
    ) -> (Self::Inlet<'a>, Self::Outlet<'a>);
}

/// The request on its way. What is written to `out` is given to [`RequestSink::send`] by the caller.
pub(crate) trait RequestSink {
    /// A piece of a body of which the bytes alone are known.
    fn piece(&self, out: &mut Vec<u8>, data: &[u8]);

    /// The end of such a body, with its trailers.
    fn end<'t>(&mut self, out: &mut Vec<u8>, trailers: impl Iterator<Item = (&'t str, &'t [u8])>);

    /// Whether there is something to send although there are no bytes.
    fn is_pending(&self, last: bool) -> bool;

    /// Sends, and gives the buffer back; with `last`, nothing follows. `progressed` is called whenever the upstream has taken a
    /// part of it, but not all.
    async fn send(
        &mut self,
        bytes: Vec<u8>,
        last: bool,
        progressed: impl Fn(),
    ) -> (Result<(), ProxyError>, Vec<u8>);
}

/// The response on its way.
pub(crate) trait ResponseSource {
    /// The body, once its head is there.
    type Body<'s>: ResponseBody
    where
        Self: 's;

    /// Whether nothing of a response has arrived.
    fn is_untouched(&self) -> bool;

    /// Waits for the next head, interim or final. What opens a tunnel is a 101.
    async fn head(&mut self, head: &mut ResponseHead) -> Result<(), ProxyError>;

    /// Streams the body that follows `head` to its end. In `out` is what has to leave before it. Whether the connection may be
    /// used again.
    async fn stream<S: Sink>(
        &mut self,
        download: &mut Download<'_, S>,
        head: &ResponseHead,
        out: &mut Vec<u8>,
    ) -> Result<bool, ProxyError>;

    /// The body that follows `head`, for those who look at its bytes.
    fn body<'s>(&'s mut self, head: &ResponseHead) -> Self::Body<'s>;

    /// What has been read behind the head that opens a tunnel.
    fn into_rest(self) -> Vec<u8>;
}

/// The body of a response as bytes alone, whatever delimits it.
pub(crate) trait ResponseBody {
    /// Appends to `plain` what has arrived, up to about `max` bytes. With `waits`, something or the end; without, perhaps nothing. What
    /// was taken before is taken to have gone on.
    async fn take<S: Sink>(
        &mut self,
        download: &Download<'_, S>,
        plain: &mut Vec<u8>,
        max: usize,
        waits: bool,
    ) -> Result<Taken, ProxyError>;

    /// What came behind the end.
    fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// Whether the connection may be used again, after the end.
    fn is_reusable(&self) -> bool;
}

/// What follows a part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There is more.
    More,
    /// Nothing more has arrived.
    Pause,
    /// Nothing: that was the end.
    End,
}
