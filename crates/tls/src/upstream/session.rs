//! Drives one TLS connection to an upstream: records in, plaintext out, and back. The counterpart of
//! [`ServerSession`](crate::ServerSession), by the same rules.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::HandshakeKind;
use rustls::client::UnbufferedClientConnection;

use super::failure::{UpstreamTlsFailure, UpstreamTlsReason};
use super::tickets::OfConnection;
use super::{EndpointTls, Identity, UpstreamProtocol, check_protocol};
use crate::protocol::{application_protocol, suite_name, version_name};
use crate::records::{self, HANDSHAKE_BYTES_MAX, Step, WriteError};
use crate::session::{Negotiated, Progress};

/// One client-side TLS connection. Stays on the thread of its [`EndpointTls`].
pub struct ClientSession {
    connection: Box<UnbufferedClientConnection>,
    phase: Phase,
    peer_closed: bool,
    protocol: UpstreamProtocol,
    /// Shared with others of the endpoint: what is noted there is only of use within a call.
    identity: Arc<Identity>,
    /// The upstream has asked for our certificate.
    asked: bool,
    /// Where its sessions come from and go to; none if nothing is resumed.
    store: Option<Arc<OfConnection>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Open,
    /// We said close_notify, and still read.
    Listening,
    /// An error was returned. rustls must not be called again.
    Failed,
}

impl ClientSession {
    /// A session that has sent nothing yet. [`process`](Self::process) without input gives the ClientHello.
    ///
    /// # Errors
    /// If rustls refuses the configuration.
    pub fn new(endpoint: &EndpointTls) -> Result<Self, UpstreamTlsFailure> {
        let EndpointTls { tls, identity, tickets, name, .. } = endpoint;
        let store = tickets.clone().map(|tickets| Arc::new(OfConnection::new(tickets)));
        let config = endpoint.config(store.clone());
        let connection = UnbufferedClientConnection::new(Arc::new(config), name.clone())
            .map_err(|error| UpstreamTlsFailure::new(UpstreamTlsReason::Internal, error.to_string()))?;
        Ok(Self {
            connection: Box::new(connection),
            phase: Phase::Handshaking,
            peer_closed: false,
            protocol: tls.options.protocol,
            identity: identity.clone(),
            asked: false,
            store,
        })
    }

    /// Processes all whole records at the front of `incoming`, in place. Appends received plaintext to `plain` and TLS bytes
    /// that are to be sent to `outgoing`. After the upstream's close_notify all input is consumed and dropped (RFC 8446 §6.1).
    ///
    /// # Errors
    /// `outgoing` then holds the alert to send, `plain` is as it was before the call, and the connection is to be closed.
    pub fn process(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Progress, UpstreamTlsFailure> {
        if self.phase == Phase::Failed {
            return Err(not_open());
        }
        if self.peer_closed {
            return Ok(Progress { consumed: incoming.len(), handshaking: false, peer_closed: true });
        }
        let (plain_before, mut consumed) = (plain.len(), 0);
        let handshaking = self.is_handshaking();
        if handshaking {
            self.identity.asked.store(false, Ordering::Relaxed);
        }
        let pumped = self.pump(incoming, &mut consumed, plain, outgoing);
        if handshaking {
            self.asked |= self.identity.asked.load(Ordering::Relaxed);
            self.store.iter().for_each(|store| store.called());
        }
        match pumped {
            Ok(()) => {
                Ok(Progress { consumed, handshaking: self.is_handshaking(), peer_closed: self.peer_closed })
            }
            Err(error) => {
                plain.truncate(plain_before);
                records::flush_alert(&mut *self.connection, &mut incoming[consumed..], outgoing);
                self.phase = Phase::Failed;
                Err(match error {
                    Pumped::Rustls(error) => {
                        UpstreamTlsFailure::of(&error, self.asked.then_some(self.identity.key.is_some()))
                    }
                    Pumped::Ours(failure) => failure,
                })
            }
        }
    }

    /// Encrypts `plain` into as few records as possible, appended to `outgoing`. An empty `plain` makes no record.
    ///
    /// # Errors
    /// Unless the handshake is complete and neither [`end_writing`](Self::end_writing) nor an error came before, or if the keys
    /// are used up.
    pub fn encrypt(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> Result<(), UpstreamTlsFailure> {
        if self.phase != Phase::Open {
            return Err(not_open());
        }
        if plain.is_empty() {
            return Ok(());
        }
        records::encrypt(&mut *self.connection, plain, outgoing).map_err(|error| {
            let error = match error {
                WriteError::NotOpen => return not_open(),
                WriteError::Exhausted => {
                    UpstreamTlsFailure::new(UpstreamTlsReason::Internal, "the traffic keys are exhausted")
                }
                WriteError::Protocol(error) => UpstreamTlsFailure::of(&error, None),
            };
            self.phase = Phase::Failed;
            error
        })
    }

    /// Says that nothing more will be sent, and goes on reading. Does nothing unless the session is open.
    pub fn end_writing(&mut self, outgoing: &mut Vec<u8>) {
        if self.phase == Phase::Open {
            // Should it not be possible, the upstream sees the end of the connection without it.
            let _ = records::close_notify(&mut *self.connection, outgoing);
            self.phase = Phase::Listening;
        }
    }

    /// True until the handshake is complete. False after a failure.
    pub fn is_handshaking(&self) -> bool {
        self.phase == Phase::Handshaking
    }

    /// An earlier session was resumed: the upstream was verified when that began.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
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

    fn pump(
        &mut self,
        incoming: &mut [u8],
        consumed: &mut usize,
        plain: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), Pumped> {
        loop {
            let rest = &mut incoming[*consumed..];
            let step = records::step(&mut *self.connection, rest, consumed, plain, outgoing);
            let step = step.map_err(Pumped::Rustls)?;
            if self.is_handshaking() && !self.connection.is_handshaking() {
                check_protocol(self.protocol, self.connection.alpn_protocol()).map_err(Pumped::Ours)?;
                self.phase = Phase::Open;
            }
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

    /// Refuses input that rustls neither consumed nor may keep waiting for.
    fn check_rest(&self, rest: &[u8]) -> Result<(), Pumped> {
        let message = if self.is_handshaking() {
            if rest.len() < HANDSHAKE_BYTES_MAX {
                return Ok(());
            }
            format!(
                "a handshake message of the upstream's takes {HANDSHAKE_BYTES_MAX} bytes of records or more"
            )
        } else if records::holds_fragment(rest) {
            "the upstream cut a message after the handshake into several records, which is not supported"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(Pumped::Ours(UpstreamTlsFailure::new(UpstreamTlsReason::Malformed, message)))
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession")
            .field("phase", &self.phase)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

/// Why the pump stopped.
enum Pumped {
    Rustls(rustls::Error),
    Ours(UpstreamTlsFailure),
}

fn not_open() -> UpstreamTlsFailure {
    UpstreamTlsFailure::new(UpstreamTlsReason::Closed, "the TLS session with the upstream is not open")
}
