//! Reads a ClientHello far enough to choose a virtual host.
//!
//! Hides rustls' `Acceptor`. It copies what it needs and changes nothing: the caller keeps every byte it
//! received and replays them into a [`ServerSession`](crate::ServerSession), as the acceptor only leads to a
//! type that costs twice the memory per connection.

use rustls::server::Acceptor;

use crate::failure::{HandshakeFailure, HandshakeReason, fatal_alert};

mod sessions;

pub use sessions::offered_sessions;

/// Most bytes that a ClientHello and its records may take. rustls enforces it by the size of its buffer.
/// Post-quantum key shares and many extensions come to some 2 KiB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024 - 1;

/// What of a ClientHello decides about the virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name of the `server_name` extension in lower case, a trailing dot kept. `None` if there is
    /// none, or if it is an IP address, which RFC 6066 §3 does not allow there.
    pub server_name: Option<String>,
    /// The offered application protocols in the client's order; empty without the extension.
    pub alpn: Vec<Vec<u8>>,
    /// It came in a record of its own, so that its bytes can be processed a second time. rustls joins the parts
    /// of one that came in several, in place.
    pub in_one_record: bool,
}

/// Collects the bytes of a ClientHello. Use one per connection, and drop it when it has answered.
pub struct HelloReader {
    acceptor: Box<Acceptor>,
    /// The first bytes: they tell TLS from HTTP, and a ClientHello in one record from one in several.
    start: Vec<u8>,
}

impl HelloReader {
    /// Waits for a ClientHello of at most [`CLIENT_HELLO_BYTES_MAX`] bytes.
    pub fn new() -> Self {
        Self { acceptor: Box::new(Acceptor::default()), start: Vec::new() }
    }

    /// Takes the bytes that arrived since the last call. `None` means that more are needed.
    ///
    /// # Errors
    ///
    /// A failure with the alert to send, if there is one. The connection is then to be closed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, Box<HandshakeFailure>> {
        if self.start.len() < START_BYTES {
            let missing = START_BYTES - self.start.len();
            self.start.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        }
        match Protocol::guess(&self.start) {
            Protocol::Tls => self.feed_tls(bytes),
            Protocol::Undecided => Ok(None),
            Protocol::Http => {
                let message = "the client speaks plain HTTP; have it use https";
                Err(Box::new(HandshakeFailure::new(HandshakeReason::PlainHttp, message)))
            }
            Protocol::Neither => Err(malformed("the first bytes are neither TLS nor HTTP")),
        }
    }

    fn feed_tls(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, Box<HandshakeFailure>> {
        while !bytes.is_empty() {
            // Advances `bytes`. The acceptor refuses more than it is willing to keep.
            if !matches!(self.acceptor.read_tls(&mut bytes), Ok(1..)) {
                let message = format!("the ClientHello does not end within {CLIENT_HELLO_BYTES_MAX} bytes");
                return Err(malformed(&message));
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let hello = accepted.client_hello();
                    return Ok(Some(ClientHello {
                        server_name: hello.server_name().map(str::to_owned),
                        alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                        in_one_record: is_in_one_record(&self.start),
                    }));
                }
                Err((error, mut pending)) => {
                    let mut failure = HandshakeFailure::from_rustls(&error);
                    // Writing to a Vec does not fail.
                    let _ = pending.write_all(&mut failure.alert);
                    return Err(Box::new(failure));
                }
            }
        }
        Ok(None)
    }
}

impl Default for HelloReader {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for HelloReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HelloReader").finish_non_exhaustive()
    }
}

/// What the first bytes of a connection look like.
#[derive(Debug, PartialEq, Eq)]
enum Protocol {
    Tls,
    Http,
    /// Could still become an HTTP method.
    Undecided,
    Neither,
}

impl Protocol {
    /// No TLS record begins with a letter (RFC 8446 §5.1: the content types are 20 to 24), and every request
    /// line does.
    fn guess(start: &[u8]) -> Self {
        if !start.first().is_some_and(u8::is_ascii_uppercase) {
            return Self::Tls;
        }
        if METHODS.iter().any(|method| start.starts_with(method)) {
            Self::Http
        } else if METHODS.iter().any(|method| method.starts_with(start)) {
            Self::Undecided
        } else {
            Self::Neither
        }
    }
}

/// True if `bytes` begin with a record that holds exactly one ClientHello (RFC 8446 §4 and §5.1).
pub(crate) fn is_in_one_record(bytes: &[u8]) -> bool {
    let [CONTENT_TYPE_HANDSHAKE, _, _, high, low, TYPE_CLIENT_HELLO, length @ ..] = bytes else {
        return false;
    };
    let Some([a, b, c]) = length.first_chunk() else { return false };
    u32::from(u16::from_be_bytes([*high, *low])) == MESSAGE_HEADER_BYTES + u32::from_be_bytes([0, *a, *b, *c])
}

fn malformed(message: &str) -> Box<HandshakeFailure> {
    Box::new(HandshakeFailure {
        alert: fatal_alert(ALERT_UNEXPECTED_MESSAGE),
        ..HandshakeFailure::new(HandshakeReason::Malformed, message)
    })
}

/// The registered methods that clients use, and the preface of HTTP/2 (RFC 9113 §3.4).
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
];
/// Length of the headers of a record and of a handshake message. More than that of any of [`METHODS`].
const START_BYTES: usize = 9;
/// RFC 8446 §4: type and length.
const MESSAGE_HEADER_BYTES: u32 = 4;
/// RFC 8446 §5.1.
const CONTENT_TYPE_HANDSHAKE: u8 = 22;
/// RFC 8446 §4.
const TYPE_CLIENT_HELLO: u8 = 1;
/// RFC 8446 §6: `unexpected_message`.
const ALERT_UNEXPECTED_MESSAGE: u8 = 10;

#[cfg(test)]
mod tests;
