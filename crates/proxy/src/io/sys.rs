//! What neither the standard library nor monoio offers on a socket that monoio owns.
//!
//! The only `unsafe` of the workspace. Safe code will not do because monoio's sockets expose their descriptor only as a number
//! (`AsRawFd`) and all safe wrappers want a borrow of the socket's owner, which an operation in flight holds; and because the
//! halves of a split socket do not give it back.
#![allow(unsafe_code)]

use std::{
    mem::ManuallyDrop,
    net::{self, SocketAddr},
    os::fd::{FromRawFd, RawFd},
};

use monoio::{
    io::{OwnedReadHalf, OwnedWriteHalf},
    net::TcpStream,
};

/// Which directions of a socket to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// A read in flight ends with 0 bytes; writing goes on.
    Read,
    /// A write in flight fails with `EPIPE`, too.
    Both,
}

/// Shuts a connected socket down; errors are ignored, since the peer may have been faster.
pub(super) fn shutdown(fd: RawFd, how: Shut) {
    let how = match how {
        Shut::Read => libc::SHUT_RD,
        Shut::Both => libc::SHUT_RDWR,
    };
    // SAFETY: `shutdown` takes no pointers. A stale number could only ever shut down the wrong socket, and the callers hold a
    // registration that ends before the descriptor is closed (see `Deadline`).
    unsafe { libc::shutdown(fd, how) };
}

/// Makes the close of a socket a reset of its connection, of which no trace remains.
pub(super) fn reset_when_closed(fd: RawFd) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a value that outlives the call, which does not keep the pointer. As for
    // `shutdown`, the callers hold a registration that ends before the descriptor is closed.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const at_once).cast(), length) };
}

/// Hands the kernel what the end of the stream is about to follow, so that both can leave in one segment. Does not wait: returns
/// how many bytes were taken, 0 also if the peer is gone.
pub(super) fn send_before_end(fd: RawFd, bytes: &[u8]) -> usize {
    let flags = libc::MSG_MORE | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length are those of a slice that outlives the call. The caller's `Stream` owns the descriptor.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).unwrap_or(0)
}

/// Whether nothing waits in the receive queue and the peer has not closed its side or reset the connection.
pub(super) fn is_quiet(fd: RawFd) -> bool {
    // End of stream counts as input, errors and hang-ups are told unasked.
    events(fd, libc::POLLIN) == 0
}

/// Whether the peer has closed its side or reset the connection. `read_shut`: our own shutdown of the receiving side looks like
/// the peer's of its sending side, so then only the end of both counts.
pub(super) fn hung_up(fd: RawFd, read_shut: bool) -> bool {
    let ended = libc::POLLHUP | libc::POLLERR;
    let wanted = if read_shut { ended } else { ended | libc::POLLRDHUP };
    events(fd, wanted) & wanted != 0
}

/// Whether the connection was reset, or has failed otherwise; both directions may have ended in order meanwhile.
pub(super) fn is_broken(fd: RawFd) -> bool {
    events(fd, 0) & libc::POLLERR != 0
}

/// Which of the `wanted` conditions, or of those that are always told, hold now.
fn events(fd: RawFd, wanted: i16) -> i16 {
    let mut poll = libc::pollfd { fd, events: wanted, revents: 0 };
    // SAFETY: one initialised `pollfd`, a count of one, no waiting; the call does not keep the pointer.
    match unsafe { libc::poll(&raw mut poll, 1, 0) } {
        0 => 0,
        1 => poll.revents,
        // Nothing is known of the socket, which is not the same as all being well.
        _ => libc::POLLERR,
    }
}

/// Takes a connection from the queue of a non-blocking listening socket, if there is one.
pub(super) fn accept_waiting(fd: RawFd) -> Option<(net::TcpStream, SocketAddr)> {
    // SAFETY: the caller's `Acceptor` owns the descriptor and outlives this borrow of it; `ManuallyDrop` keeps the borrow from
    // closing it.
    let listener = ManuallyDrop::new(unsafe { net::TcpListener::from_raw_fd(fd) });
    let (tcp, peer) = listener.accept().ok()?;
    tcp.set_nonblocking(true).ok()?;
    Some((tcp, peer))
}

/// The socket that both halves belong to.
pub(super) fn whole<'a>(
    read: &'a mut OwnedReadHalf<TcpStream>,
    write: &'a mut OwnedWriteHalf<TcpStream>,
) -> &'a TcpStream {
    assert!(std::rc::Rc::ptr_eq(&read.0, &write.0), "both halves are of one socket");
    // SAFETY: the socket is reachable through these two halves only (`into_split` makes exactly two, and `ReadHalf` and
    // `WriteHalf` keep them private), and both are borrowed exclusively for as long as the result lives, so no `&mut` to it
    // can exist meanwhile: an operation in flight would hold one of the halves.
    unsafe { &*read.0.get() }
}
