//! The notify socket (sd_notify(3)): datagrams of `NAME=value` lines.
//!
//! In safe code; libsystemd would do no more. Never waits.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};
use rustix::time::{ClockId, clock_gettime};

/// Where the service manager listens.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    address: SocketAddrUnix,
    /// What it did not take yet, in order.
    waiting: VecDeque<Message>,
    /// It was said that it cannot be told anything.
    complained: bool,
}

/// What it is told at once.
#[derive(Debug)]
struct Message {
    text: String,
    /// Copies for it to keep, at most [`DESCRIPTORS_MAX`].
    descriptors: Vec<OwnedFd>,
}

/// Why there is no way to tell the service manager anything.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotifyError {
    /// Such as one of vsock(7), between a machine and its host.
    #[error(
        "NOTIFY_SOCKET is {0:?}: only a path that begins with `/`, or an abstract address that begins with `@`, is supported"
    )]
    Unsupported(String),
    /// What the kernel said.
    #[error("NOTIFY_SOCKET is {address:?}, which cannot be used: {source}")]
    Io {
        /// The value.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl NotifySocket {
    /// Of the value of `NOTIFY_SOCKET`. Nothing is sent yet.
    ///
    /// # Errors
    /// If it is no address that this process can send to.
    pub(super) fn new(variable: &OsStr) -> Result<NotifySocket, NotifyError> {
        let shown = || variable.to_string_lossy().into_owned();
        let failed = |source| NotifyError::Io { address: shown(), source };
        let address = match variable.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(variable),
            [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name),
            _ => return Err(NotifyError::Unsupported(shown())),
        };
        let address = address.map_err(|error| failed(error.into()))?;
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(NotifySocket { socket, address, waiting: VecDeque::new(), complained: false })
    }

    /// Sends a message, behind those that wait.
    pub(super) fn send(&mut self, message: String) {
        self.send_with(message, Vec::new());
    }

    /// As [`NotifySocket::send`], with at most [`DESCRIPTORS_MAX`] descriptors.
    pub(super) fn send_with(&mut self, text: String, descriptors: Vec<OwnedFd>) {
        if self.waiting.len() == WAITING_MAX {
            // The manager has not read for long; what it missed is the past.
            self.waiting.pop_front();
        }
        self.waiting.push_back(Message { text, descriptors });
        self.flush();
    }

    /// Sends what waits, as far as it is taken.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match message.send(&self.socket, &self.address) {
                Ok(()) => {}
                // Its queue is full.
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::warn!(%error, "the service manager cannot be told anything (NOTIFY_SOCKET)");
                    }
                }
            }
            self.waiting.pop_front();
        }
    }
}

impl Message {
    fn send(&self, socket: &UnixDatagram, address: &SocketAddrUnix) -> rustix::io::Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Errno::INVAL);
        }
        let text = [io::IoSlice::new(self.text.as_bytes())];
        rustix::net::sendmsg_addr(socket, address, &text, &mut control, SendFlags::NOSIGNAL).map(drop)
    }
}

/// Microseconds of the clock that the service manager compares with.
pub(super) fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

/// A text as the value of one line, short enough for the manager.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(STATUS_BYTES_MAX));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > STATUS_BYTES_MAX - CUT.len() {
            line.push_str(CUT);
            break;
        }
        line.push(c);
    }
    line
}

/// The kernel takes at most 253 at once.
pub(super) const DESCRIPTORS_MAX: usize = 200;
/// A watchdog's messages of minutes. Each has less than two kilobytes.
const WAITING_MAX: usize = 64;
/// systemd passes over datagrams of more than 4096 bytes. Nobody reads that much of a status.
const STATUS_BYTES_MAX: usize = 1024;
const CUT: &str = "...";

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    fn receive(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_addresses_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("ringward-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let managers = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ];
        for (variable, manager) in managers {
            let mut socket = NotifySocket::new(&variable).unwrap();
            socket.send("READY=1\n".to_owned());
            assert_eq!(receive(&manager), "READY=1\n", "{variable:?}");
        }
        for unsupported in ["", "@", "notify", "vsock:2:1234"] {
            let error = NotifySocket::new(OsStr::new(unsupported)).unwrap_err();
            assert!(matches!(error, NotifyError::Unsupported(_)), "{error}");
        }
        let error = NotifySocket::new(OsStr::new(&format!("/{}", "s".repeat(200)))).unwrap_err();
        assert!(matches!(error, NotifyError::Io { .. }), "{error}");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up_and_gets_the_rest_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut socket = NotifySocket::new(path.as_os_str()).unwrap();
        let mut sent = 0;
        while socket.waiting.is_empty() {
            socket.send(format!("STATUS={sent}\n"));
            sent += 1;
            assert!(sent < 1_000_000, "the kernel takes everything");
        }
        for received in 0..sent {
            assert_eq!(receive(&manager), format!("STATUS={received}\n"));
            socket.flush();
        }
        assert!(socket.waiting.is_empty());
        for _ in 0..2 * WAITING_MAX + sent {
            socket.send("STATUS=\n".to_owned());
        }
        assert_eq!(socket.waiting.len(), WAITING_MAX, "at the limit");
        // Nobody is there any more, which harms nobody.
        drop(manager);
        socket.flush();
        assert!(socket.waiting.is_empty() && socket.complained);
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(one_line("a\nREADY=1\tb"), "a READY=1 b");
        let fits = "x".repeat(STATUS_BYTES_MAX - CUT.len());
        assert_eq!(one_line(&fits), fits);
        let long = one_line(&"é".repeat(STATUS_BYTES_MAX));
        assert!(long.len() <= STATUS_BYTES_MAX && long.ends_with("é..."), "{}", long.len());
    }
}
