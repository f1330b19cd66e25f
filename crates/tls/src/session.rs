//! Drives one TLS connection: records in, plaintext out, and back.
//!
//! Hides rustls' unbuffered connection and its states. Owns no buffer, so an idle session costs what rustls
//! needs and no more. Never performs I/O, never resumes a session, and has a peer identity exactly when the
//! peer proved it.
//!
//! rustls keeps the parts of a handshake message that spans records in the caller's input, by position. Two
//! rules follow, and both are kept here: input is consumed only as far as rustls says, and rustls is never
//! called with other input while it has such parts ([`SessionError::FragmentedMessage`]).

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use ringward_identity::PeerIdentity;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{AlertDescription, CipherSuite, Error, HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::failure::{HandshakeFailure, HandshakeReason, PresentedChain};
use crate::host::{ClientAuthMode, WorkerHost, WorkerTls};
use crate::memo::Admitted;

/// Largest plaintext of one record (RFC 8446 §5.1).
pub const PLAINTEXT_RECORD_BYTES_MAX: usize = 16 * 1024;
/// What each record adds to its plaintext in TLS 1.3: header, content type, authentication tag.
pub const RECORD_OVERHEAD_BYTES: usize = 5 + 1 + 16;
/// Size at which unconsumed input of a handshake is refused. The largest message that rustls takes (64 KiB)
/// fits below it with the overhead of its records; one cut into many small records may not. A caller's buffer
/// of this size never fills up without an error.
pub const HANDSHAKE_BYTES_MAX: usize = 68 * 1024;

/// One server-side TLS connection. Stays on the thread of its [`WorkerTls`].
pub struct ServerSession {
    connection: Box<UnbufferedServerConnection>,
    phase: Phase,
    peer_closed: bool,
    /// The verified chain. Proven to be the peer's only when the handshake is complete.
    admitted: Option<Admitted>,
}

enum Phase {
    Handshaking(Rc<WorkerHost>),
    Open,
    /// We said close_notify. Whatever the peer still sends is dropped.
    Closing,
    /// An error was returned. rustls must not be called again.
    Failed,
}

/// What a call to [`ServerSession::process`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes to remove from the front of the input. The rest must be presented again, followed by more.
    pub consumed: usize,
    /// The handshake is not complete; there is no plaintext and no identity yet.
    pub handshaking: bool,
    /// The peer said that it sends no more. It can still be written to.
    pub peer_closed: bool,
}

/// What was agreed on. Empty strings before the handshake is complete, and `alpn` also if there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its registered name.
    pub suite: &'static str,
    /// The key exchange group by its registered name.
    pub group: &'static str,
    /// The application protocol.
    pub alpn: &'static str,
}

/// Why a session ended. After any of them except [`SessionError::NotOpen`] it is of no more use.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionError {
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(Box<HandshakeFailure>),
    /// The peer ended the connection with a fatal alert.
    #[error("the peer ended the connection with the TLS alert {}", .0.as_str().unwrap_or("(unknown)"))]
    PeerAlert(AlertDescription),
    /// The peer broke the protocol after the handshake, or bytes were altered on the way.
    #[error("the peer broke the TLS protocol: {0}")]
    Protocol(Error),
    /// A handshake message after the handshake spans records. Legal (RFC 8446 §5.1), done by no known client
    /// for the five bytes of a KeyUpdate, and it would tie our output to the peer's input.
    #[error("the peer cut a post-handshake message into several records, which is not supported")]
    FragmentedMessage,
    /// The keys have protected as many records as they may and could not be renewed.
    #[error("the traffic keys are exhausted")]
    Exhausted,
    /// Nothing can be sent: the handshake is not complete, or the session is closed.
    #[error("the TLS session is not open")]
    NotOpen,
}

impl SessionError {
    /// A short stable word for logs and metrics, from a closed set.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Handshake(failure) => failure.reason.as_str(),
            Self::PeerAlert(_) => "tls_peer_alert",
            Self::Protocol(_) => "tls_protocol",
            Self::FragmentedMessage => "tls_fragmented",
            Self::Exhausted => "tls_exhausted",
            Self::NotOpen => "tls_not_open",
        }
    }
}

impl ServerSession {
    /// A session that has seen no byte yet. The ClientHello goes into [`process`](Self::process) like
    /// everything after it.
    ///
    /// # Errors
    ///
    /// [`SessionError::Handshake`] with [`HandshakeReason::Internal`] if rustls refuses the configuration.
    pub fn new(host: &WorkerTls) -> Result<Self, SessionError> {
        let connection = UnbufferedServerConnection::new(host.host().config.clone())
            .map_err(|error| SessionError::Handshake(Box::new(HandshakeFailure::from_rustls(&error))))?;
        Ok(Self {
            connection: Box::new(connection),
            phase: Phase::Handshaking(host.host().clone()),
            peer_closed: false,
            admitted: None,
        })
    }

    /// Processes all whole records at the front of `incoming`, in place. Appends received plaintext to
    /// `plain` and TLS bytes that are to be sent to `outgoing`.
    ///
    /// After close_notify in either direction all input is consumed and dropped (RFC 8446 §6.1).
    ///
    /// # Errors
    ///
    /// `outgoing` then holds the alert to send, `plain` is as it was before the call, and the connection is
    /// to be closed.
    pub fn process(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Progress, SessionError> {
        match self.phase {
            Phase::Failed => return Err(SessionError::NotOpen),
            Phase::Handshaking(_) | Phase::Open if !self.peer_closed => {}
            _ => {
                return Ok(Progress {
                    consumed: incoming.len(),
                    handshaking: false,
                    peer_closed: self.peer_closed,
                });
            }
        }
        let plain_before = plain.len();
        let mut consumed = 0;
        match self.pump(incoming, &mut consumed, plain, outgoing) {
            Ok(()) => {
                let handshaking = matches!(self.phase, Phase::Handshaking(_));
                Ok(Progress { consumed, handshaking, peer_closed: self.peer_closed })
            }
            Err(error) => {
                plain.truncate(plain_before);
                self.flush_alert(&mut incoming[consumed..], outgoing);
                self.phase = Phase::Failed;
                Err(error)
            }
        }
    }

    /// Encrypts `plain` into as few records as possible, appended to `outgoing`. An empty `plain` makes no
    /// record.
    ///
    /// # Errors
    ///
    /// [`SessionError::NotOpen`] unless the handshake is complete and neither
    /// [`close_notify`](Self::close_notify) nor an error came before; [`SessionError::Exhausted`] if the keys
    /// are used up.
    pub fn encrypt(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> Result<(), SessionError> {
        if !matches!(self.phase, Phase::Open) {
            return Err(SessionError::NotOpen);
        }
        if plain.is_empty() {
            return Ok(());
        }
        let size = plain.len() + plain.len().div_ceil(PLAINTEXT_RECORD_BYTES_MAX) * RECORD_OVERHEAD_BYTES;
        self.write(size, outgoing, |traffic, buffer| traffic.encrypt(plain, buffer))
    }

    /// Says that nothing more will be sent (RFC 8446 §6.1). Does nothing unless the session is open.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Open) {
            // Should it not be possible, the peer sees the end of the connection without it.
            let _ = self
                .write(ALERT_RECORD_BYTES, outgoing, |traffic, buffer| traffic.queue_close_notify(buffer));
            self.phase = Phase::Closing;
        }
    }

    /// True until the handshake is complete. False after a failure.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Handshaking(_))
    }

    /// Who the peer is: verified, and proven by its key. `None` for an anonymous peer, and until the
    /// handshake is complete.
    pub fn peer_identity(&self) -> Option<&Arc<PeerIdentity>> {
        self.proven().map(|admitted| &admitted.identity)
    }

    /// Until when the peer's path holds, its trust anchor included; seconds since 1970. The connection should
    /// not outlive it.
    pub fn peer_valid_until_unix(&self) -> Option<i64> {
        self.proven().map(|admitted| admitted.valid_until)
    }

    /// The presented chain of the peer, leaf first, once the handshake is complete.
    pub fn peer_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.proven().and_then(|_| self.connection.peer_certificates())
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> Negotiated {
        let connection = &self.connection;
        Negotiated {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "",
            },
            suite: connection.negotiated_cipher_suite().map_or("", |suite| match suite.suite() {
                CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
                CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
                _ => "",
            }),
            group: connection
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or(""),
            alpn: match connection.alpn_protocol() {
                Some(b"http/1.1") => "http/1.1",
                Some(b"http/1.0") => "http/1.0",
                _ => "",
            },
        }
    }

    fn proven(&self) -> Option<&Admitted> {
        match self.phase {
            Phase::Open | Phase::Closing => self.admitted.as_ref(),
            Phase::Handshaking(_) | Phase::Failed => None,
        }
    }

    fn pump(
        &mut self,
        incoming: &mut [u8],
        consumed: &mut usize,
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        if let Phase::Handshaking(host) = &self.phase {
            // A call that panicked may have left the verdict on someone else.
            host.verdict.take();
        }
        loop {
            let status = self.connection.process_tls_records(&mut incoming[*consumed..]);
            let UnbufferedStatus { mut discard, state, .. } = status;
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        None => break Ok(Step::Continue),
                        Some(Err(error)) => break Err(error),
                        Some(Ok(record)) => {
                            discard += record.discard;
                            plain.extend_from_slice(record.payload);
                        }
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, outgoing).map(|()| Step::Continue)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // The caller sends `outgoing`; nothing depends on when.
                    data.done();
                    Ok(Step::Continue)
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Step::Blocked),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::PeerClosed),
                // Early data, which is never accepted, or a state of a later rustls.
                Ok(_) => Err(Error::General("unexpected state of the TLS connection".to_owned())),
                Err(error) => Err(error),
            };
            *consumed += discard;
            let step = step.map_err(|error| self.fail(error))?;
            self.advance_handshake()?;
            match step {
                Step::Continue => {}
                Step::Blocked => return self.check_rest(&incoming[*consumed..]),
                Step::PeerClosed => {
                    self.peer_closed = true;
                    *consumed = incoming.len();
                    return Ok(());
                }
            }
        }
    }

    /// Takes the verdict on the client's chain, and opens the session once the handshake is complete.
    fn advance_handshake(&mut self) -> Result<(), SessionError> {
        let Phase::Handshaking(host) = &self.phase else { return Ok(()) };
        match host.verdict.take() {
            None => {}
            Some(Ok(admitted)) => self.admitted = Some(admitted),
            // rustls reports the refusal as an error of its own, so this is not reached; if it were, it must
            // not pass.
            Some(Err(failure)) => return Err(SessionError::Handshake(failure)),
        }
        if self.connection.is_handshaking() {
            return Ok(());
        }
        let outcome = Outcome {
            version: self.connection.protocol_version(),
            kind: self.connection.handshake_kind(),
            presented: self.connection.peer_certificates().is_some(),
            admitted: self.admitted.is_some(),
        };
        if !outcome.is_acceptable(host.mode) {
            let message =
                format!("handshake ended in an impossible way ({outcome:?}, client_auth {:?})", host.mode);
            let failure = HandshakeFailure::new(HandshakeReason::Internal, message);
            return Err(SessionError::Handshake(Box::new(failure)));
        }
        self.phase = Phase::Open;
        Ok(())
    }

    /// Refuses input that rustls neither consumed nor may keep waiting for.
    fn check_rest(&self, rest: &[u8]) -> Result<(), SessionError> {
        if let Phase::Handshaking(_) = self.phase {
            if rest.len() >= HANDSHAKE_BYTES_MAX {
                let message =
                    format!("a handshake message takes {HANDSHAKE_BYTES_MAX} bytes of records or more");
                let failure = HandshakeFailure::new(HandshakeReason::Malformed, message);
                return Err(SessionError::Handshake(Box::new(failure)));
            }
            return Ok(());
        }
        // A whole record that is left over is part of a message that is not complete.
        match *rest {
            [_, _, _, high, low, ref body @ ..]
                if body.len() >= usize::from(u16::from_be_bytes([high, low])) =>
            {
                Err(SessionError::FragmentedMessage)
            }
            _ => Ok(()),
        }
    }

    /// The session error for an error of rustls, with the verifier's reason if it has one.
    fn fail(&mut self, error: Error) -> SessionError {
        let Phase::Handshaking(host) = &self.phase else {
            return match error {
                Error::AlertReceived(alert) => SessionError::PeerAlert(alert),
                error => SessionError::Protocol(error),
            };
        };
        let verdict = host.verdict.take();
        if let Some(Err(failure)) = verdict {
            return SessionError::Handshake(failure);
        }
        let mut failure = HandshakeFailure::from_rustls(&error);
        failure.trust_bundle = host.trust_name.clone();
        let admitted = verdict.and_then(Result::ok).or_else(|| self.admitted.take());
        failure.presented = admitted.map(|admitted| PresentedChain::of_identity(&admitted.identity));
        SessionError::Handshake(Box::new(failure))
    }

    /// Moves what rustls has queued, the alert last, to `outgoing`.
    ///
    /// Asks only while something is queued: rustls would otherwise look at the offending input a second time.
    fn flush_alert(&mut self, rest: &mut [u8], outgoing: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if encode(&mut data, outgoing).is_err() {
                        return;
                    }
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => return,
            }
        }
    }

    /// Lets `seal` write into `size` fresh bytes at the end of `outgoing`, or into as many as it then asks
    /// for.
    fn write(
        &mut self,
        size: usize,
        outgoing: &mut Vec<u8>,
        mut seal: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), SessionError> {
        loop {
            // Empty input is sound: `check_rest` made sure that rustls holds no part of a message.
            let state = self.connection.process_tls_records(&mut []).state;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = outgoing.len();
                    outgoing.resize(start + size, 0);
                    let mut written = seal(&mut traffic, &mut outgoing[start..]);
                    // More is needed when a KeyUpdate has to go first.
                    if let Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) =
                        written
                    {
                        outgoing.resize(start + required_size, 0);
                        written = seal(&mut traffic, &mut outgoing[start..]);
                    }
                    outgoing.truncate(start + *written.as_ref().unwrap_or(&0));
                    if written.is_err() {
                        self.phase = Phase::Failed;
                        return Err(SessionError::Exhausted);
                    }
                    return Ok(());
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, outgoing).map_err(SessionError::Protocol)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(_) => return Err(SessionError::NotOpen),
                Err(error) => {
                    self.phase = Phase::Failed;
                    return Err(SessionError::Protocol(error));
                }
            }
        }
    }
}

impl fmt::Debug for ServerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSession")
            .field("handshaking", &self.is_handshaking())
            .field("peer_closed", &self.peer_closed)
            .field("peer", &self.peer_identity().map(|peer| peer.name()))
            .finish_non_exhaustive()
    }
}

enum Step {
    Continue,
    Blocked,
    PeerClosed,
}

/// How a handshake ended, as rustls and the verifier tell it.
#[derive(Debug)]
struct Outcome {
    version: Option<ProtocolVersion>,
    kind: Option<HandshakeKind>,
    /// rustls has a client chain whose key was proven.
    presented: bool,
    /// Our verifier admitted a chain on this connection.
    admitted: bool,
}

impl Outcome {
    /// The gate. rustls should never end otherwise; should a later one, it ends here and not at an upstream.
    fn is_acceptable(&self, mode: ClientAuthMode) -> bool {
        let identity = match mode {
            ClientAuthMode::Off => !self.presented && !self.admitted,
            ClientAuthMode::Optional => self.presented == self.admitted,
            ClientAuthMode::Required => self.presented && self.admitted,
        };
        let full = matches!(self.kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        identity && full && self.version == Some(ProtocolVersion::TLSv1_3)
    }
}

/// Appends the record that rustls has ready, growing `outgoing` by exactly its size.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let mut result = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = result {
        outgoing.resize(start + required_size, 0);
        result = data.encode(&mut outgoing[start..]);
    }
    result.map(|_| ()).map_err(|error| Error::General(error.to_string()))
}

/// Size of a protected alert record.
const ALERT_RECORD_BYTES: usize = 2 + RECORD_OVERHEAD_BYTES;

#[cfg(test)]
mod tests;
