//! The first bytes of a connection: the reader of the ClientHello and the session that replays it must agree, however
//! the bytes arrive, and bytes alone never make a peer.
//!
//! The input is what arrives, in parts: each is preceded by its length in two octets.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringward_fuzz::{SERVER_NAME, TlsSetup, pack, unpack};
use ringward_tls::{ClientHello, HANDSHAKE_BYTES_MAX, HelloReader, ServerSession, SessionError};
use rustls::ClientConnection;

fuzz_target!(|input: &[u8]| {
    let parts = unpack(input);
    let read = read_hello(&parts);
    let whole = parts.concat();
    assert_eq!(read_hello(&[&whole]), read, "split and whole");
    SETUP.with(|setup| check_session(setup, &parts, &read));
});

// Random bytes are no ClientHello, so the search starts from a real one, in two parts. Every other one offers a session.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if size > 2 {
        return fuzzer_mutate(data, size, max_size);
    }
    let hello = SETUP.with(|setup| real_hello(setup, seed % 2 == 0));
    let (front, back) = hello.split_at(seed as usize % hello.len());
    let start = pack([front, back].into_iter());
    if start.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..start.len()].copy_from_slice(&start);
    start.len()
});

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Hello(ClientHello),
    Incomplete,
    Refused,
}

fn read_hello(parts: &[&[u8]]) -> Read {
    let mut reader = HelloReader::new();
    for part in parts {
        match reader.feed(part) {
            Ok(None) => {}
            Ok(Some(hello)) => return Read::Hello(hello),
            Err(failure) => {
                assert!(!failure.message.is_empty());
                return Read::Refused;
            }
        }
    }
    Read::Incomplete
}

fn check_session(setup: &TlsSetup, parts: &[&[u8]], read: &Read) {
    // A session must cope with what no reader would have passed on.
    let other = ClientHello { server_name: None, alpn: Vec::new(), in_one_record: true };
    let hello = if let Read::Hello(hello) = read { hello } else { &other };
    let mut session = ServerSession::new(&setup.host, hello).expect("a good host");
    let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        incoming.extend_from_slice(part);
        let outcome = session.process(&mut incoming, &mut plain, &mut outgoing);
        assert!(plain.is_empty(), "no plaintext before the handshake");
        assert!(
            session.peer_identity().is_none() && session.peer_chain().is_none(),
            "nobody proved anything"
        );
        match outcome {
            Ok(progress) => {
                assert!(progress.consumed <= incoming.len());
                assert!(progress.handshaking, "a handshake cannot be guessed");
                incoming.drain(..progress.consumed);
                assert!(incoming.len() < HANDSHAKE_BYTES_MAX, "bounded");
                if !outgoing.is_empty() {
                    assert!(
                        matches!(read, Read::Hello(_)),
                        "answered what the reader did not take: {read:?}"
                    );
                }
            }
            Err(_) => {
                let again = session.process(&mut incoming, &mut plain, &mut outgoing);
                assert!(matches!(again, Err(SessionError::NotOpen)), "a failure is final");
                assert!(matches!(session.encrypt(b"x", &mut outgoing), Err(SessionError::NotOpen)));
                return;
            }
        }
    }
}

fn real_hello(setup: &TlsSetup, returning: bool) -> Vec<u8> {
    let name = SERVER_NAME.try_into().expect("a host name");
    let config = if returning { setup.returning_client_config() } else { setup.client_config() };
    let mut client = ClientConnection::new(config, name).expect("a good configuration");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("writing to memory does not fail");
    hello
}

thread_local! {
    static SETUP: TlsSetup = TlsSetup::new();
}
