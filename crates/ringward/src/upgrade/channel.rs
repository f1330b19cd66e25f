//! The socket between a process and its successor: packets, some with open descriptors (unix(7), SCM_RIGHTS).
//!
//! Hides how descriptors travel. A packet comes whole or not at all, every wait has an end, and what arrives is not inherited by the
//! children of whoever has received it. What packets hold is wiped when it is dropped, since ticket keys are among it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

/// One end.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
}

/// What came at once.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// Nothing in that time.
    #[error("nothing was heard in time")]
    TimedOut,
    /// The other end is closed.
    #[error("the other process has closed the socket")]
    Closed,
    /// More than the other end may send.
    #[error("a packet has more than {PACKET_BYTES_MAX} bytes or {DESCRIPTORS_MAX} descriptors")]
    TooLarge,
    /// What the kernel said.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Channel {
    /// Two ends that are connected to each other; the second one is to be given away.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel { socket: ours }, theirs))
    }

    /// The end that was given to us.
    ///
    /// # Errors
    /// If it is anything else.
    pub(super) fn given(socket: OwnedFd) -> io::Result<Channel> {
        let is_one = sockopt::socket_domain(&socket)? == AddressFamily::UNIX
            && sockopt::socket_type(&socket)? == SocketType::SEQPACKET;
        if is_one { Ok(Channel { socket }) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Sends a packet. Waits for room, but not for long.
    ///
    /// # Errors
    /// If the other end is closed, or does not read.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.len() > PACKET_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sockopt::set_socket_timeout(&self.socket, Timeout::Send, Some(SEND_PATIENCE))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let slices = [io::IoSlice::new(bytes)];
        // A packet goes whole or not at all.
        rustix::net::sendmsg(&self.socket, &slices, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next packet, which has at least one byte.
    ///
    /// # Errors
    /// If none comes until `deadline`, or something else than one.
    pub(super) fn receive(&self, deadline: Instant) -> Result<Packet, ReceiveError> {
        let mut bytes = Zeroizing::new(vec![0; PACKET_BYTES_MAX]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // None at all would mean for ever.
            if left < PATIENCE_MIN {
                return Err(ReceiveError::TimedOut);
            }
            sockopt::set_socket_timeout(&self.socket, Timeout::Recv, Some(left)).map_err(io::Error::from)?;
            let mut slices = [io::IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(ReceiveError::TimedOut),
                Err(Errno::CONNRESET) => return Err(ReceiveError::Closed),
                Err(error) => return Err(ReceiveError::Io(error.into())),
            }
        };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ReceiveError::TooLarge);
        }
        if received.bytes == 0 {
            return Err(ReceiveError::Closed);
        }
        bytes.truncate(received.bytes);
        Ok(Packet { bytes, descriptors })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A ring of ticket keys has at most 16 KiB, and a description of each descriptor some hundred bytes.
pub(super) const PACKET_BYTES_MAX: usize = 64 << 10;
/// The kernel takes at most 253 at once.
pub(super) const DESCRIPTORS_MAX: usize = 200;
const SEND_PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn both() -> (Channel, Channel) {
        let (one, other) = Channel::pair().unwrap();
        (one, Channel::given(other).unwrap())
    }

    #[test]
    fn descriptors_arrive_with_their_packet_and_are_not_inherited() {
        let (one, other) = both();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        one.send(b"first", &[]).unwrap();
        one.send(b"second", &[file.as_fd(), file.as_fd()]).unwrap();
        let first = other.receive(soon()).unwrap();
        assert_eq!((&**first.bytes, first.descriptors.len()), (&b"first"[..], 0));
        let mut second = other.receive(soon()).unwrap();
        assert_eq!((&**second.bytes, second.descriptors.len()), (&b"second"[..], 2));
        let flags = rustix::io::fcntl_getfd(&second.descriptors[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut received = File::from(second.descriptors.remove(0));
        received.rewind().unwrap();
        let mut content = String::new();
        received.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn waiting_has_an_end() {
        let (one, other) = both();
        let at_once = Instant::now() + 2 * PATIENCE_MIN;
        assert!(matches!(other.receive(at_once), Err(ReceiveError::TimedOut)));
        assert!(matches!(other.receive(Instant::now()), Err(ReceiveError::TimedOut)));
        drop(one);
        assert!(matches!(other.receive(soon()), Err(ReceiveError::Closed)));
        assert!(other.send(b"nobody", &[]).is_err());
    }

    #[test]
    fn what_is_too_large_is_refused_at_both_ends() {
        let (one, other) = both();
        one.send(&vec![1; PACKET_BYTES_MAX], &[]).unwrap();
        assert_eq!(other.receive(soon()).unwrap().bytes.len(), PACKET_BYTES_MAX, "at the limit");
        assert!(one.send(&vec![1; PACKET_BYTES_MAX + 1], &[]).is_err());
        let file = tempfile::tempfile().unwrap();
        assert!(one.send(b"many", &vec![file.as_fd(); DESCRIPTORS_MAX + 1]).is_err());
        // Sent past the check.
        rustix::net::send(&one.socket, &vec![1; PACKET_BYTES_MAX + 1], SendFlags::empty()).unwrap();
        assert!(matches!(other.receive(soon()), Err(ReceiveError::TooLarge)));
    }

    #[test]
    fn only_such_a_socket_is_taken() {
        let file = tempfile::tempfile().unwrap();
        assert!(Channel::given(file.into()).is_err());
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::given(stream.into()).is_err());
    }
}
