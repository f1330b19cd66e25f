//! Peers that break the rules, after the handshake with the keys of a real connection and before it without
//! any.

use super::*;

/// Writes records of any content with the client's traffic keys.
struct Forger {
    key: aead::LessSafeKey,
    iv: Vec<u8>,
    sequence: u64,
}

impl Forger {
    /// Establishes a connection and takes the client's keys.
    fn establish(pki: &Pki) -> (ServerSession, Self) {
        let mut config = pki.client_config(None);
        config.enable_secret_extraction = true;
        let mut pair = Pair::new(&pki.worker(ClientAuthMode::Off), config);
        pair.run().unwrap();
        let (sequence, secrets) = pair.client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("unexpected suite") };
        let key = aead::UnboundKey::new(&aead::AES_128_GCM, key.as_ref()).unwrap();
        (pair.session, Self { key: aead::LessSafeKey::new(key), iv: iv.as_ref().to_vec(), sequence })
    }

    /// RFC 8446 §5.2 and §5.3.
    fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut body = content.to_vec();
        body.push(content_type);
        let length = u16::try_from(body.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce: [u8; 12] = self.iv.clone().try_into().unwrap();
        for (byte, counter) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counter;
        }
        self.sequence += 1;
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, aead::Aad::from(header), &mut body).unwrap();
        [&header[..], &body].concat()
    }
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// KeyUpdate, update_not_requested (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

struct Outcome {
    result: Result<Progress, SessionError>,
    plain: Vec<u8>,
    outgoing: Vec<u8>,
}

fn process(session: &mut ServerSession, mut incoming: Vec<u8>) -> Outcome {
    let (mut plain, mut outgoing) = (b"before".to_vec(), Vec::new());
    let result = session.process(&mut incoming, &mut plain, &mut outgoing);
    Outcome { result, plain, outgoing }
}

/// The session must be over: no more bytes, no more answers, no identity.
fn assert_dead(session: &mut ServerSession) {
    let after = process(session, vec![23, 3, 3, 0, 1, 0]);
    assert!(matches!(after.result, Err(SessionError::NotOpen)));
    assert!(after.outgoing.is_empty());
    let mut outgoing = Vec::new();
    assert!(matches!(session.encrypt(b"x", &mut outgoing), Err(SessionError::NotOpen)));
    session.close_notify(&mut outgoing);
    assert!(outgoing.is_empty());
    assert!(session.peer_identity().is_none() && !session.is_handshaking());
}

#[test]
fn forged_records_are_accepted_if_they_are_right() {
    let pki = Pki::new();
    let (mut session, mut forger) = Forger::establish(&pki);
    let records = [forger.record(APPLICATION_DATA, b"hello"), forger.record(HANDSHAKE, &KEY_UPDATE)].concat();
    let outcome = process(&mut session, records.clone());
    assert_eq!(outcome.result.unwrap().consumed, records.len());
    assert_eq!(outcome.plain, b"beforehello");
}

#[test]
fn an_altered_record_ends_the_session_with_an_alert() {
    let pki = Pki::new();
    let (mut session, mut forger) = Forger::establish(&pki);
    let good = forger.record(APPLICATION_DATA, b"first");
    let mut bad = forger.record(APPLICATION_DATA, b"second");
    *bad.last_mut().unwrap() ^= 1;
    let outcome = process(&mut session, [good, bad].concat());
    assert!(matches!(outcome.result, Err(SessionError::Protocol(Error::DecryptError))));
    assert_eq!(outcome.plain, b"before", "nothing of a call that failed is handed on");
    assert_eq!(outcome.outgoing.len(), ALERT_RECORD_BYTES);
    assert_dead(&mut session);
}

#[test]
fn a_replayed_record_is_refused() {
    let pki = Pki::new();
    let (mut session, mut forger) = Forger::establish(&pki);
    let record = forger.record(APPLICATION_DATA, b"once");
    assert!(process(&mut session, record.clone()).result.is_ok());
    assert!(matches!(process(&mut session, record).result, Err(SessionError::Protocol(Error::DecryptError))));
}

#[test]
fn a_fragmented_post_handshake_message_is_refused_before_it_can_do_harm() {
    let pki = Pki::new();
    for cut in 1..KEY_UPDATE.len() {
        let (mut session, mut forger) = Forger::establish(&pki);
        let outcome = process(&mut session, forger.record(HANDSHAKE, &KEY_UPDATE[..cut]));
        assert!(matches!(outcome.result, Err(SessionError::FragmentedMessage)), "cut at {cut}");
        assert_dead(&mut session);
    }
    // A request in front of it does not help.
    let (mut session, mut forger) = Forger::establish(&pki);
    let records =
        [forger.record(APPLICATION_DATA, b"GET /"), forger.record(HANDSHAKE, &KEY_UPDATE[..1])].concat();
    let outcome = process(&mut session, records);
    assert!(matches!(outcome.result, Err(SessionError::FragmentedMessage)));
    assert_eq!(outcome.plain, b"before");
}

#[test]
fn a_partial_record_is_no_fragment_and_leaves_us_able_to_answer() {
    let pki = Pki::new();
    let (mut session, mut forger) = Forger::establish(&pki);
    let mut record = forger.record(APPLICATION_DATA, b"hello");
    let (mut plain, mut outgoing) = (Vec::new(), Vec::new());
    for have in 0..record.len() {
        let progress = session.process(&mut record[..have], &mut plain, &mut outgoing).unwrap();
        assert_eq!(progress.consumed, 0);
        session.encrypt(b"answer", &mut outgoing).unwrap();
    }
    assert_eq!(session.process(&mut record, &mut plain, &mut outgoing).unwrap().consumed, record.len());
    assert_eq!(plain, b"hello");
}

#[test]
fn handshake_messages_that_have_no_place_are_refused() {
    let pki = Pki::new();
    for message in [
        // A second ClientHello (renegotiation), a client certificate out of turn, a Finished, an unknown
        // type.
        vec![1, 0, 0, 0],
        vec![11, 0, 0, 4, 0, 0, 0, 0],
        vec![20, 0, 0, 32].into_iter().chain([0; 32]).collect(),
        vec![99, 0, 0, 0],
        // KeyUpdate with a value that does not exist, and one followed by half of another.
        vec![24, 0, 0, 1, 7],
        vec![24, 0, 0, 1, 0, 24, 0],
    ] {
        let (mut session, mut forger) = Forger::establish(&pki);
        let outcome = process(&mut session, forger.record(HANDSHAKE, &message));
        assert!(
            matches!(outcome.result, Err(SessionError::Protocol(_))),
            "{message:?}: {:?}",
            outcome.result
        );
        assert_eq!(outcome.outgoing.len(), ALERT_RECORD_BYTES, "{message:?}");
        assert_dead(&mut session);
    }
}

#[test]
fn floods_of_what_costs_the_sender_nothing_end() {
    let pki = Pki::new();
    // Requested key updates cost us new keys each. The forger does not follow the new keys, so it asks within
    // one record.
    let (mut session, mut forger) = Forger::establish(&pki);
    let empty: Vec<u8> = (0..40).flat_map(|_| forger.record(APPLICATION_DATA, b"")).collect();
    let outcome = process(&mut session, empty);
    let expected = Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments);
    assert!(matches!(outcome.result, Err(SessionError::Protocol(error)) if error == expected));

    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Off), None);
    let mut updates = 0;
    let error = loop {
        pair.client.refresh_traffic_keys().unwrap();
        updates += 1;
        if let Err(error) = pair.run() {
            break error;
        }
        assert!(updates < 100, "key updates without data must end");
    };
    assert!(matches!(
        error,
        SessionError::Protocol(Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests))
    ));
}

#[test]
fn oversized_and_unknown_records_are_refused() {
    let pki = Pki::new();
    for incoming in [vec![23, 3, 3, 0x41, 0x01], vec![99, 3, 3, 0, 1, 0], vec![23, 9, 9, 0, 1, 0]] {
        let (mut session, _) = Forger::establish(&pki);
        let outcome = process(&mut session, [incoming, vec![0; 17_000]].concat());
        assert!(matches!(outcome.result, Err(SessionError::Protocol(_))), "{:?}", outcome.result);
        assert_dead(&mut session);
    }
}

#[test]
fn a_fatal_alert_ends_the_session() {
    let pki = Pki::new();
    let (mut session, mut forger) = Forger::establish(&pki);
    let outcome = process(&mut session, forger.record(21, &[2, 80]));
    let Err(SessionError::PeerAlert(AlertDescription::InternalError)) = outcome.result else {
        panic!("{:?}", outcome.result)
    };
    assert_dead(&mut session);
}

#[test]
fn the_unfinished_handshake_is_bounded_at_the_limit() {
    let pki = Pki::new();
    // A ClientHello of 60 000 bytes in records of one byte: rustls keeps all records until the message is
    // whole.
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(60_000, 0);
    let wire: Vec<u8> = message.iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    let (mut plain, mut outgoing) = (Vec::new(), Vec::new());
    for (length, accepted) in [(HANDSHAKE_BYTES_MAX - 1, true), (HANDSHAKE_BYTES_MAX, false)] {
        let mut session = new_session(&pki.worker(ClientAuthMode::Off));
        let mut incoming = wire[..length].to_vec();
        match session.process(&mut incoming, &mut plain, &mut outgoing) {
            Ok(progress) => assert!(accepted && progress.consumed == 0 && progress.handshaking),
            Err(SessionError::Handshake(failure)) => {
                assert!(!accepted);
                assert_eq!(failure.reason, Reason::Malformed);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn plain_text_before_the_handshake_is_refused_with_a_plain_alert() {
    let pki = Pki::new();
    let mut session = new_session(&pki.worker(ClientAuthMode::Required));
    let outcome = process(&mut session, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec());
    let Err(SessionError::Handshake(failure)) = outcome.result else { panic!("{:?}", outcome.result) };
    assert_eq!(failure.reason, Reason::Malformed);
    assert!(matches!(outcome.outgoing[..], [21, 3, 3, 0, 2, 2, _]), "{:?}", outcome.outgoing);
    assert_dead(&mut session);
}

#[test]
fn application_data_before_the_handshake_is_never_seen() {
    let pki = Pki::new();
    let mut session = new_session(&pki.worker(ClientAuthMode::Off));
    let outcome = process(&mut session, vec![23, 3, 3, 0, 5, b'h', b'e', b'l', b'l', b'o']);
    assert!(matches!(outcome.result, Err(SessionError::Handshake(_))));
    assert_eq!(outcome.plain, b"before");
}

/// Accepts whatever the server shows, so that a client with a damaged stream goes on as far as it can.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn damaged_handshakes_never_panic_and_never_pass_unnoticed() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    let alice = pki.client("alice");
    let mut noise = Noise(42);
    let mut failures = 0;
    for _ in 0..400 {
        let mut config = pki.client_config(Some(&alice));
        config.dangerous().set_certificate_verifier(Arc::new(Credulous));
        let mut pair = Pair::new(&worker, config);
        // Damage the first or the second flight somewhere.
        let flight = noise.below(2);
        let mut outcome = Ok(());
        for round in 0..3 {
            while pair.client.wants_write() {
                pair.client.write_tls(&mut pair.incoming).unwrap();
            }
            if round == flight && !pair.incoming.is_empty() {
                let position = noise.below(pair.incoming.len());
                match noise.below(3) {
                    0 => pair.incoming[position] ^= 1 << noise.below(8),
                    1 => pair.incoming.truncate(position),
                    _ => {
                        let extra = noise.bytes(3);
                        pair.incoming.splice(position..position, extra);
                    }
                }
            }
            let mut outgoing = Vec::new();
            outcome = pair.process(&mut outgoing);
            pair.deliver(&outgoing);
            if outcome.is_err() {
                assert_dead(&mut pair.session);
                break;
            }
        }
        failures += usize::from(outcome.is_err());
        if let Some(peer) = pair.session.peer_identity() {
            assert_eq!(peer.common_names(), ["alice"]);
        }
    }
    assert!(failures > 200, "damage was noticed {failures} times only");
}

#[test]
fn noise_never_panics() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    let mut noise = Noise(3);
    for _ in 0..2000 {
        let mut session = new_session(&worker);
        let length = noise.below(400);
        let mut bytes = noise.bytes(length);
        if let [content_type, version, minor, high, ..] = &mut bytes[..] {
            // Often enough a plausible record header.
            (*content_type, *version, *minor, *high) = (20 + *content_type % 5, 3, *minor % 5, *high % 2);
        }
        let (mut plain, mut outgoing) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for _ in 0..4 {
            let end = bytes.len().min(offset + noise.below(200));
            match session.process(&mut bytes[offset..end], &mut plain, &mut outgoing) {
                Ok(progress) => offset += progress.consumed,
                Err(_) => {
                    assert_dead(&mut session);
                    break;
                }
            }
        }
        assert!(plain.is_empty() && session.peer_identity().is_none());
    }
    // After the handshake too.
    for _ in 0..300 {
        let (mut session, mut forger) = Forger::establish(&pki);
        let length = noise.below(100);
        let content = noise.bytes(length);
        let content_type = 20 + noise.below(5) as u8;
        let outcome = process(&mut session, forger.record(content_type, &content));
        let mut outgoing = Vec::new();
        match outcome.result {
            Ok(_) => session.encrypt(b"still open", &mut outgoing).unwrap(),
            Err(_) => assert_dead(&mut session),
        }
    }
}
