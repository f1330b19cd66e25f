//! What neither the standard library nor monoio offers on a socket that monoio owns.
//!
//! The only `unsafe` of the workspace. Safe code will not do because monoio's sockets expose their descriptor only as a number
//! (`AsRawFd`) and all safe wrappers want a borrow of the socket's owner, which an operation in flight holds; and because the
//! halves of a split socket do not give it back.
#![allow(unsafe_code)]

use std::{
    io,
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

/// What waits in the receive queue of a socket, without taking it and without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing, and the peer has not closed.
    Nothing,
    /// Bytes, which nobody asked for if the connection is idle.
    Bytes,
    /// End of stream or an error.
    Closed,
}

/// Looks at the receive queue.
pub(super) fn pending(fd: RawFd) -> Pending {
    let mut byte = 0_u8;
    // SAFETY: the pointer is valid for one byte, the length says so, and the call does not keep it.
    let n = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    match n {
        0 => Pending::Closed,
        1.. => Pending::Bytes,
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Pending::Nothing,
        _ => Pending::Closed,
    }
}

/// Whether the peer has closed its side or reset the connection. `read_shut`: our own shutdown of the receiving side looks like
/// the peer's of its sending side, so then only the end of both counts.
pub(super) fn hung_up(fd: RawFd, read_shut: bool) -> bool {
    let ended = libc::POLLHUP | libc::POLLERR;
    let events = if read_shut { ended } else { ended | libc::POLLRDHUP };
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one initialised `pollfd`, a count of one, no waiting; the call does not keep the pointer.
    let n = unsafe { libc::poll(&raw mut poll, 1, 0) };
    n > 0 && poll.revents & events != 0
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
