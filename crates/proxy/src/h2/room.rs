//! How much may be sent on a stream now.

use std::task::{Context, Poll, ready};

use h2::SendStream;

use super::piece::Piece;

/// Waits until some of what was reserved may be sent, and says how much; `None` on a stream that has ended.
pub(crate) fn poll_room(
    stream: &mut SendStream<Piece>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<usize, h2::Error>>> {
    loop {
        match stream.capacity() {
            0 => {}
            n => return Poll::Ready(Some(Ok(n))),
        }
        // What it says may be of an earlier moment.
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            ended => return Poll::Ready(ended),
        }
    }
}
