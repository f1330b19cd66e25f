//! Why a Unix socket cannot be connected to, as far as an operator can mend it.

use std::io::{self, ErrorKind};

use ringward_config::EndpointAddr;

/// What is wrong with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketTrouble {
    /// There is none at the path (ENOENT, ENOTDIR).
    Missing,
    /// We may not connect to it (EACCES, EPERM).
    Forbidden,
    /// Nobody listens on it, or it is no stream socket (ECONNREFUSED, EPROTOTYPE).
    Dead,
}

impl SocketTrouble {
    /// Why there is no connection to `addr`; `None` if that is no Unix socket, or the path is not to blame.
    pub fn of(addr: &EndpointAddr, error: &io::Error) -> Option<SocketTrouble> {
        let EndpointAddr::Unix(_) = addr else { return None };
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Some(SocketTrouble::Missing),
            ErrorKind::PermissionDenied => Some(SocketTrouble::Forbidden),
            ErrorKind::ConnectionRefused => Some(SocketTrouble::Dead),
            _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => Some(SocketTrouble::Dead),
            _ => None,
        }
    }

    /// The stable short name for logs and metrics.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            SocketTrouble::Missing => "upstream_socket_missing",
            SocketTrouble::Forbidden => "upstream_socket_forbidden",
            SocketTrouble::Dead => "upstream_socket_dead",
        }
    }

    /// What is likely to mend it.
    pub fn advice(self) -> &'static str {
        match self {
            SocketTrouble::Missing => {
                "is the upstream running, and does this process see the same directory?"
            }
            SocketTrouble::Forbidden => {
                "the user of this process needs leave to write to the socket, and to enter the directories on the way: add it to the \
                 group of the socket"
            }
            SocketTrouble::Dead => {
                "nobody listens there with stream sockets: the upstream may have ended and left the file behind"
            }
        }
    }
}

/// ` (...)` with what is likely to mend it, after an error; nothing where nothing is known.
pub(crate) fn in_brackets(addr: &EndpointAddr, error: &io::Error) -> String {
    SocketTrouble::of(addr, error).map_or_else(String::new, |trouble| format!(" ({})", trouble.advice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_socket_has_a_name() {
        let unix = EndpointAddr::Unix("/run/app.sock".into());
        for (code, expected) in [
            (libc::ENOENT, Some(SocketTrouble::Missing)),
            (libc::ENOTDIR, Some(SocketTrouble::Missing)),
            (libc::EACCES, Some(SocketTrouble::Forbidden)),
            (libc::EPERM, Some(SocketTrouble::Forbidden)),
            (libc::ECONNREFUSED, Some(SocketTrouble::Dead)),
            (libc::EPROTOTYPE, Some(SocketTrouble::Dead)),
            (libc::EMFILE, None),
        ] {
            assert_eq!(SocketTrouble::of(&unix, &io::Error::from_raw_os_error(code)), expected, "{code}");
        }
        let ip = EndpointAddr::Ip(([127, 0, 0, 1], 80).into());
        assert_eq!(SocketTrouble::of(&ip, &io::Error::from_raw_os_error(libc::ECONNREFUSED)), None);
    }
}
