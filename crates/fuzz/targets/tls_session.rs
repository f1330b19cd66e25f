//! A whole TLS connection between a real client and our session, with the network between them at the input's mercy:
//! it cuts, delays, flips and inserts. Whatever it does, the session delivers a prefix of what the client sent, knows
//! the peer exactly when it proved itself, and fails only if bytes were altered.
//!
//! The input is a list of [`Step`]s of three octets each. With an octet left over, the client resumes a session.
#![no_main]

use std::io::{Read, Write};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringward_fuzz::{SERVER_NAME, TlsSetup};
use ringward_tls::{
    ClientHello, HANDSHAKE_BYTES_MAX, PLAINTEXT_RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES, ServerSession,
    SessionError,
};
use rustls::{ClientConfig, ClientConnection};

fuzz_target!(|input: &[u8]| {
    SETUP.with(|setup| {
        let returns = input.len() % 3 == 1;
        let config = if returns { setup.returning_client_config() } else { setup.client_config() };
        let mut link = Link::new(setup, config);
        for step in input.chunks_exact(3).take(STEPS_MAX) {
            let amount = usize::from(u16::from_be_bytes([step[1], step[2]]));
            if !link.step(step[0], amount) {
                break;
            }
        }
    });
});

struct Link {
    client: ClientConnection,
    session: ServerSession,
    /// Written by the client, not yet arrived.
    in_flight: Vec<u8>,
    /// Arrived, not yet consumed by the session.
    incoming: Vec<u8>,
    /// The network changed something.
    altered: bool,
    client_sent: usize,
    session_received: usize,
    session_sent: usize,
    client_received: usize,
    session_closing: bool,
    key_updates: usize,
}

impl Link {
    fn new(setup: &TlsSetup, config: Arc<ClientConfig>) -> Self {
        let name = SERVER_NAME.try_into().expect("a host name");
        let hello =
            ClientHello { server_name: Some(SERVER_NAME.into()), alpn: Vec::new(), in_one_record: true };
        Self {
            client: ClientConnection::new(config, name).expect("a good configuration"),
            session: ServerSession::new(&setup.host, &hello).expect("a good host"),
            in_flight: Vec::new(),
            incoming: Vec::new(),
            altered: false,
            client_sent: 0,
            session_received: 0,
            session_sent: 0,
            client_received: 0,
            session_closing: false,
            key_updates: 0,
        }
    }

    /// One thing happens. False when the connection is over.
    fn step(&mut self, kind: u8, amount: usize) -> bool {
        let mut outgoing = Vec::new();
        match kind % 8 {
            0 => self.deliver(amount + 1),
            1 => self.deliver(usize::MAX),
            2 => {
                self.deliver(usize::MAX);
                if !self.incoming.is_empty() {
                    let at = amount / 8 % self.incoming.len();
                    self.incoming[at] ^= 1 << (amount % 8);
                    self.altered = true;
                }
            }
            3 => {
                self.incoming.extend_from_slice(&amount.to_le_bytes()[..2]);
                self.altered = true;
            }
            4 => {
                let text = pattern(self.client_sent, amount % TEXT_BYTES_MAX);
                // Short before the handshake is complete, when only so much is kept.
                self.client_sent += self.client.writer().write(&text).unwrap_or(0);
            }
            5 => {
                let text = pattern(self.session_sent, amount % TEXT_BYTES_MAX);
                match self.session.encrypt(&text, &mut outgoing) {
                    Ok(()) => self.session_sent += text.len(),
                    Err(SessionError::NotOpen) => {
                        assert!(self.session.is_handshaking() || self.session_closing);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            6 if !self.client.is_handshaking() && self.key_updates < KEY_UPDATES_MAX => {
                self.key_updates += 1;
                self.client.refresh_traffic_keys().expect("the handshake is complete");
            }
            // Before that, it would take the handshake back.
            7 if amount % 2 == 0 && !self.client.is_handshaking() => self.client.send_close_notify(),
            7 => {
                self.session_closing |= !self.session.is_handshaking();
                self.session.close_notify(&mut outgoing);
            }
            _ => {}
        }
        self.client_writes();
        self.session_processes(&mut outgoing) && self.client_reads(&outgoing)
    }

    fn deliver(&mut self, bytes: usize) {
        let bytes = bytes.min(self.in_flight.len());
        self.incoming.extend(self.in_flight.drain(..bytes));
    }

    fn client_writes(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.in_flight).expect("writing to memory does not fail");
        }
    }

    fn session_processes(&mut self, outgoing: &mut Vec<u8>) -> bool {
        let mut plain = Vec::new();
        let outcome = self.session.process(&mut self.incoming, &mut plain, outgoing);
        assert!(plain == pattern(self.session_received, plain.len()), "a prefix of what was sent");
        self.session_received += plain.len();
        assert!(self.session_received <= self.client_sent);
        match outcome {
            Ok(progress) => {
                assert!(progress.consumed <= self.incoming.len());
                self.incoming.drain(..progress.consumed);
                assert!(!progress.handshaking || self.session_received == 0, "no early plaintext");
                assert_eq!(progress.handshaking, self.session.is_handshaking());
                assert_eq!(self.session.peer_identity().is_some(), !progress.handshaking, "a proven peer");
                let kept_max = if progress.handshaking { HANDSHAKE_BYTES_MAX } else { RECORD_BYTES_MAX };
                assert!(self.incoming.len() < kept_max, "bounded: {} bytes kept", self.incoming.len());
                true
            }
            Err(error) => {
                assert!(self.altered, "an honest client was refused: {error}");
                assert!(plain.is_empty(), "no plaintext beside an error");
                let again = self.session.process(&mut self.incoming, &mut plain, &mut Vec::new());
                assert!(matches!(again, Err(SessionError::NotOpen)), "a failure is final");
                assert!(self.session.peer_identity().is_none());
                false
            }
        }
    }

    fn client_reads(&mut self, mut outgoing: &[u8]) -> bool {
        while !outgoing.is_empty() {
            if !matches!(self.client.read_tls(&mut outgoing), Ok(1..)) {
                break;
            }
            if let Err(error) = self.client.process_new_packets() {
                // A changed ClientHello makes other keys, which the client is the first to see.
                assert!(self.altered, "our session sent something wrong: {error}");
                return false;
            }
            let mut text = Vec::new();
            // Ends in an error that says that there is no more for now.
            let _ = self.client.reader().read_to_end(&mut text);
            assert!(text == pattern(self.client_received, text.len()), "what we sent");
            self.client_received += text.len();
        }
        assert!(self.client_received == self.session_sent, "all that we sent, at once");
        true
    }
}

/// Bytes `from..from + len` of a text in which no part looks like another for long.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8).collect()
}

/// A handshake takes a millisecond, so an input should not be much longer than that.
const STEPS_MAX: usize = 64;
/// More than a record, so that several are made.
const TEXT_BYTES_MAX: usize = 40_000;
/// rustls takes 32 in a row for an attack.
const KEY_UPDATES_MAX: usize = 16;
/// RFC 8446 §5.2: at most 256 bytes beyond the plaintext, and the header.
const RECORD_BYTES_MAX: usize = 5 + PLAINTEXT_RECORD_BYTES_MAX + 256;
const _: () = assert!(RECORD_OVERHEAD_BYTES < 256);

thread_local! {
    static SETUP: TlsSetup = TlsSetup::new();
}
