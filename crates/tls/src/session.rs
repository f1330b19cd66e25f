//! Drives one TLS connection: records in, plaintext out, and back.
//!
//! Hides rustls' unbuffered connection and its states. Owns no buffer, so an idle session costs what rustls
//! needs and no more. Never performs I/O, and has a peer identity exactly when the peer proved it.
//!
//! A resumed session is judged when the ClientHello has been processed and before a byte of the answer is handed
//! out. If it would not be let in now, the connection is thrown away and the ClientHello processed again by one
//! that does not resume: the client has a full handshake, in which it may present a better certificate. The same
//! way a client that does not offer TLS 1.3 comes to a connection of TLS 1.2.
//!
//! rustls keeps the parts of a handshake message that spans records in the caller's input, by position. Two
//! rules follow, and both are kept here: input is consumed only as far as rustls says, and rustls is never
//! called with other input while it has such parts ([`SessionError::FragmentedMessage`]).

use std::fmt;
use std::sync::Arc;

use ringward_identity::PeerIdentity;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error, HandshakeKind, ProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::client_auth::ClientAuthMode;
use crate::failure::{HandshakeFailure, HandshakeReason, PresentedChain};
use crate::hello::ClientHello;
use crate::host::WorkerTls;
use crate::memo::Admitted;
use crate::observed::ObservedIdentity;
use crate::path::PeerPath;
use crate::protocol::{application_protocol, suite_name, version_name};
use crate::records::{self, HANDSHAKE_BYTES_MAX, Step, WriteError};
use crate::resumption::{DeclineReason, ResumedBy};
use crate::verifier::Verdict;

mod course;

use course::{Course, Handshake, Settlement};

/// One server-side TLS connection. Stays on the thread of its [`WorkerTls`].
pub struct ServerSession {
    connection: Box<UnbufferedServerConnection>,
    phase: Phase,
    peer_closed: bool,
    /// The verified chain. Proven to be the peer's only when the handshake is complete.
    admitted: Option<Admitted>,
    /// What a host that only observes made of the presented chain.
    observed: Option<Box<ObservedIdentity>>,
    /// When the peer's last full handshake began, on this connection or before; seconds since 1970.
    auth_time: i64,
    /// Until when the connection may last; seconds since 1970.
    valid_until: i64,
    resumed: Option<ResumedBy>,
    declined: Option<DeclineReason>,
}

enum Phase {
    Handshaking(Handshake),
    Open,
    /// We said close_notify, and still read.
    Listening,
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
    /// A session that has seen no byte yet. The ClientHello that `hello` was read from goes into
    /// [`process`](Self::process) like everything after it.
    ///
    /// # Errors
    ///
    /// [`SessionError::Handshake`] with [`HandshakeReason::Internal`] if rustls refuses the configuration or the
    /// clock cannot be read.
    pub fn new(host: &WorkerTls, hello: &ClientHello) -> Result<Self, SessionError> {
        let host = host.host().clone();
        // A ClientHello that cannot be processed twice gets what needs no second time.
        let (config, course) = match (&host.tls12, hello.in_one_record) {
            (_, true) => (&host.config, Course::Undecided),
            (Some(tls12), false) => (tls12, Course::Settled),
            (None, false) => (&host.full, Course::Settled),
        };
        Ok(Self {
            connection: Box::new(course::connect(config).map_err(SessionError::Handshake)?),
            peer_closed: false,
            admitted: None,
            observed: None,
            auth_time: host.now().map_err(SessionError::Handshake)?,
            valid_until: i64::MAX,
            resumed: None,
            declined: None,
            phase: Phase::Handshaking(Handshake { host, course }),
        })
    }

    /// Processes all whole records at the front of `incoming`, in place. Appends received plaintext to
    /// `plain` and TLS bytes that are to be sent to `outgoing`.
    ///
    /// After the peer's close_notify, or [`close_notify`](Self::close_notify), all input is consumed and dropped (RFC 8446 §6.1).
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
            Phase::Handshaking(_) | Phase::Open | Phase::Listening if !self.peer_closed => {}
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
                records::flush_alert(&mut *self.connection, &mut incoming[consumed..], outgoing);
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
        let encrypted = records::encrypt(&mut *self.connection, plain, outgoing);
        encrypted.map_err(|error| self.write_failed(error))
    }

    /// Says that nothing more will be sent (RFC 8446 §6.1), and that nothing more is of interest. Does nothing unless the
    /// session is open.
    pub fn close_notify(&mut self, outgoing: &mut Vec<u8>) {
        self.end_writing(outgoing);
        if matches!(self.phase, Phase::Listening) {
            self.phase = Phase::Closing;
        }
    }

    /// Says that nothing more will be sent, and goes on reading: in TLS 1.3 each direction ends by itself. Does nothing unless
    /// the session is open.
    pub fn end_writing(&mut self, outgoing: &mut Vec<u8>) {
        if matches!(self.phase, Phase::Open) {
            // Should it not be possible, the peer sees the end of the connection without it.
            let _ = records::close_notify(&mut *self.connection, outgoing);
            self.phase = Phase::Listening;
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

    /// What the peer claims to be, on a host that only observes. Never an identity.
    pub fn observed(&self) -> Option<&ObservedIdentity> {
        self.observed.as_deref().filter(|_| self.is_established())
    }

    /// Until when the peer's path holds, its trust anchor included, and its proof of its key is not too old; seconds
    /// since 1970. The connection should not outlive it.
    pub fn peer_valid_until_unix(&self) -> Option<i64> {
        self.proven().map(|_| self.valid_until)
    }

    /// The verified path of the peer, for what is looked up after verification. Exists exactly if
    /// [`peer_identity`](Self::peer_identity) does.
    pub fn peer_path(&self) -> Option<&Arc<PeerPath>> {
        self.proven().map(|admitted| &admitted.path)
    }

    /// When the peer last proved its key, or for an anonymous one when its last full handshake began; seconds since
    /// 1970. `None` until the handshake is complete. A resumption does not renew it.
    pub fn auth_time_unix(&self) -> Option<i64> {
        self.is_established().then_some(self.auth_time)
    }

    /// Where the session came from that the peer resumed. `None` until the handshake is complete, and after a
    /// full one.
    pub fn resumed(&self) -> Option<ResumedBy> {
        self.resumed.filter(|_| self.is_established())
    }

    /// Why the peer, which wanted to resume a session, did not.
    pub fn declined(&self) -> Option<DeclineReason> {
        self.declined
    }

    /// The presented chain of the peer, leaf first, once the handshake is complete.
    pub fn peer_chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.proven().and_then(|_| self.connection.peer_certificates())
    }

    /// What was agreed on.
    pub fn negotiated(&self) -> Negotiated {
        let connection = &self.connection;
        Negotiated {
            version: version_name(connection.protocol_version()),
            suite: connection.negotiated_cipher_suite().map_or("", suite_name),
            group: connection
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str())
                .unwrap_or(""),
            alpn: application_protocol(connection.alpn_protocol()),
        }
    }

    fn proven(&self) -> Option<&Admitted> {
        self.admitted.as_ref().filter(|_| self.is_established())
    }

    /// The handshake is complete, and nothing has failed since.
    fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Listening | Phase::Closing)
    }

    fn pump(
        &mut self,
        incoming: &mut [u8],
        consumed: &mut usize,
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        if let Phase::Handshaking(handshake) = &self.phase {
            // A call that panicked may have left the verdict on someone else.
            handshake.host.verdict.take();
        }
        loop {
            let (input, output) = (*consumed, outgoing.len());
            if let Phase::Handshaking(handshake) = &self.phase {
                handshake.host.offers.begin(self.auth_time);
            }
            let rest = &mut incoming[*consumed..];
            let step = records::step(&mut *self.connection, rest, consumed, plain, outgoing);
            match self.settle_course(step.as_ref().err(), &incoming[input..]) {
                Ok(Settlement::Proceed) => {}
                Ok(Settlement::StartOver) => {
                    *consumed = input;
                    outgoing.truncate(output);
                    continue;
                }
                Err(mut failure) => {
                    outgoing.truncate(output);
                    outgoing.append(&mut failure.alert);
                    return Err(SessionError::Handshake(failure));
                }
            }
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
        let Phase::Handshaking(Handshake { host, .. }) = &self.phase else { return Ok(()) };
        match host.verdict.take() {
            None => {}
            Some(Verdict::Admitted(admitted)) => self.admitted = Some(admitted),
            Some(Verdict::Observed(observed)) => self.observed = Some(observed),
            // rustls reports the refusal as an error of its own, so this is not reached; if it were, it must
            // not pass.
            Some(Verdict::Refused(failure)) => return Err(SessionError::Handshake(failure)),
        }
        if self.connection.is_handshaking() {
            return Ok(());
        }
        let outcome = Outcome {
            version: self.connection.protocol_version(),
            kind: self.connection.handshake_kind(),
            presented: self.connection.peer_certificates().is_some(),
            admitted: self.admitted.is_some(),
            judged: self.resumed.is_some(),
        };
        if !outcome.is_acceptable(host.auth.mode(), host.tls12.is_some()) {
            let mode = host.auth.mode();
            let message = format!("handshake ended in an impossible way ({outcome:?}, client_auth {mode:?})");
            let failure = HandshakeFailure::new(HandshakeReason::Internal, message);
            return Err(SessionError::Handshake(Box::new(failure)));
        }
        if let Some(admitted) = &self.admitted {
            self.valid_until = admitted.path.valid_until.min(host.auth_valid_until(self.auth_time));
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
        match records::holds_fragment(rest) {
            true => Err(SessionError::FragmentedMessage),
            false => Ok(()),
        }
    }

    /// What a failed attempt to send means.
    fn write_failed(&mut self, error: WriteError) -> SessionError {
        let error = match error {
            WriteError::NotOpen => return SessionError::NotOpen,
            WriteError::Exhausted => SessionError::Exhausted,
            WriteError::Protocol(error) => SessionError::Protocol(error),
        };
        self.phase = Phase::Failed;
        error
    }

    /// The session error for an error of rustls, with the verifier's reason if it has one.
    fn fail(&mut self, error: Error) -> SessionError {
        let Phase::Handshaking(Handshake { host, .. }) = &self.phase else {
            return match error {
                Error::AlertReceived(alert) => SessionError::PeerAlert(alert),
                error => SessionError::Protocol(error),
            };
        };
        let admitted = match host.verdict.take() {
            Some(Verdict::Refused(failure)) => return SessionError::Handshake(failure),
            Some(Verdict::Admitted(admitted)) => Some(admitted),
            Some(Verdict::Observed(_)) | None => self.admitted.take(),
        };
        let mut failure = HandshakeFailure::from_rustls(&error);
        failure.trust_bundle = host.trust_name.clone();
        failure.presented = admitted.map(|admitted| PresentedChain::of_identity(&admitted.identity));
        SessionError::Handshake(Box::new(failure))
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

/// How a handshake ended, as rustls and the verifier tell it.
#[derive(Debug)]
struct Outcome {
    version: Option<ProtocolVersion>,
    kind: Option<HandshakeKind>,
    /// rustls has a client chain whose key was proven.
    presented: bool,
    /// Our verifier admitted a chain on this connection.
    admitted: bool,
    /// A session was resumed and would be let in now.
    judged: bool,
}

impl Outcome {
    /// The gate. rustls should never end otherwise; should a later one, it ends here and not at an upstream.
    fn is_acceptable(&self, mode: ClientAuthMode, tls12: bool) -> bool {
        let identity = match mode {
            ClientAuthMode::Off => !self.presented && !self.admitted,
            ClientAuthMode::Observe => !self.admitted,
            ClientAuthMode::Lenient => self.presented || !self.admitted,
            ClientAuthMode::Optional => self.presented == self.admitted,
            ClientAuthMode::Required => self.presented && self.admitted,
        };
        let course = match (self.version, self.kind) {
            (Some(ProtocolVersion::TLSv1_3), Some(HandshakeKind::Resumed)) => self.judged,
            (
                Some(ProtocolVersion::TLSv1_3),
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest),
            ) => !self.judged,
            (Some(ProtocolVersion::TLSv1_2), Some(HandshakeKind::Full)) => tls12 && !self.judged,
            _ => false,
        };
        identity && course
    }
}

#[cfg(test)]
mod tests;
