//! ClientHellos that are processed twice, that come in pieces, or that offer several sessions.

use super::*;

#[test]
fn a_retried_hello_resumes_as_well() {
    for site in Site::each() {
        let (worker, client) = (site.worker(), retrying(&site.pki, Some(&site.pki.client("alice"))));
        let mut pair = client.begin(&worker);
        pair.run().unwrap();
        assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
        assert_eq!(pair.session.declined(), None);
        for step in [usize::MAX, 1, 7, 100] {
            let mut pair = client.begin(&worker);
            pair.run_in_steps(step).unwrap();
            assert_eq!(pair.session.negotiated().group, "X25519", "there was a retry");
            assert_eq!(pair.session.resumed(), Some(site.by));
            assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
        }
    }
}

#[test]
fn a_retried_hello_is_declined_as_gracefully() {
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let renewed = site.pki.client("renewed");
        let worker = site.worker();
        for step in [usize::MAX, 1, 7, 100] {
            site.pki.clock.set(NOW);
            let client = retrying(&site.pki, Some(&alice));
            client.connect(&worker).full(None);
            client.connect(&worker).resumed(site.by);
            client.present(Some(&renewed));
            site.pki.clock.set(NOW + 61);
            let mut pair = client.begin(&worker);
            pair.run_in_steps(step).unwrap();
            assert_eq!(pair.session.declined(), refused_for(Reason::Expired), "in steps of {step}");
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
            assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["renewed"]);
            assert_eq!(pair.session.auth_time_unix(), Some(NOW as i64 + 61));
            // A lost certificate is refused like any other.
            client.present(Some(&alice));
            site.pki.clock.set(NOW);
            client.connect(&worker).resumed(site.by);
        }
    }
}

#[test]
fn a_retried_hello_in_pieces_that_cannot_resume_is_told_so() {
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let (worker, client) = (site.worker(), retrying(&site.pki, Some(&alice)));
        client.connect(&worker).full(None);
        site.pki.clock.set(NOW + 61);
        let mut pair = client.begin(&worker);
        let mut outgoing = Vec::new();
        pair.client.write_tls(&mut pair.incoming).unwrap();
        pair.process(&mut outgoing).unwrap();
        pair.deliver(&std::mem::take(&mut outgoing));
        let mut second = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut second).unwrap();
        }
        // A ChangeCipherSpec goes ahead of it.
        let (announcement, hello) = second.split_at(6);
        pair.incoming.extend_from_slice(announcement);
        pair.incoming.extend(in_pieces(hello, 300));
        let error = pair.process(&mut outgoing).unwrap_err();
        let SessionError::Handshake(failure) = error else { panic!("{error}") };
        assert_eq!(failure.reason, Reason::Expired);
        assert!(failure.message.contains("several records") && failure.alert.is_empty(), "{failure}");
        pair.deliver(&outgoing);
        assert_eq!(pair.client_error, Some(Error::AlertReceived(AlertDescription::AccessDenied)));
        assert!(pair.session.resumed().is_none() && pair.session.peer_identity().is_none());
    }
}

#[test]
fn a_hello_in_pieces_has_a_full_handshake_and_gets_a_session() {
    for site in Site::each() {
        let worker = site.worker();
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&worker).full(None);
        for size in [1, 100, 1000] {
            let mut pair = client.begin(&worker);
            let mut hello = Vec::new();
            pair.client.write_tls(&mut hello).unwrap();
            let pieces = in_pieces(&hello, size);
            let read = crate::HelloReader::new().feed(&pieces).unwrap().unwrap();
            assert!(!read.in_one_record);
            pair.session = ServerSession::new(&worker, &read).unwrap();
            pair.incoming = pieces;
            pair.run().unwrap();
            assert_eq!((pair.session.resumed(), pair.session.declined()), (None, None));
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
            client.connect(&worker).resumed(site.by);
        }
    }
}

#[test]
fn a_caller_who_takes_pieces_for_one_record_harms_nobody() {
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&alice)));
        client.connect(&worker).full(None);
        site.pki.clock.set(NOW + 61);
        let mut pair = client.begin(&worker);
        let mut hello = Vec::new();
        pair.client.write_tls(&mut hello).unwrap();
        pair.incoming = in_pieces(&hello, 1000);
        let mut outgoing = Vec::new();
        let error = pair.process(&mut outgoing).unwrap_err();
        assert!(matches!(error, SessionError::Handshake(failure) if failure.reason == Reason::Expired));
        assert_eq!(outgoing.len(), 7, "an alert and nothing else");
    }
}

#[test]
fn a_hello_that_arrives_slowly_can_be_declined() {
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let (worker, renewed) = (site.worker(), site.pki.client("renewed"));
        for step in [1, 3, 500] {
            site.pki.clock.set(NOW);
            let client = Returning::new(&site.pki, Some(&alice));
            client.connect(&worker).full(None);
            client.present(Some(&renewed));
            site.pki.clock.set(NOW + 61);
            let mut pair = client.begin(&worker);
            pair.run_in_steps(step).unwrap();
            assert_eq!(pair.session.declined(), refused_for(Reason::Expired));
            assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["renewed"]);
        }
    }
}

#[test]
fn what_was_declined_leaves_no_trace_in_the_answer() {
    // The answer to a declined resumption is that of a host that was never asked for one.
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&alice)));
        client.connect(&worker).full(None);
        site.pki.clock.set(NOW + 61);
        let mut pair = client.begin(&worker);
        pair.client.write_tls(&mut pair.incoming).unwrap();
        let hello = pair.incoming.clone();
        let mut declined = b"earlier".to_vec();
        pair.process(&mut declined).unwrap();
        assert_eq!(pair.progress.unwrap().consumed, hello.len());

        let off = site.worker_with(|options| options.resumption = HostResumption::Off);
        let (mut session, mut full) = (new_session(&off), Vec::new());
        session.process(&mut hello.clone(), &mut Vec::new(), &mut full).unwrap();
        assert_eq!(record_lengths(&declined[7..]), record_lengths(&full));
        assert!(declined.starts_with(b"earlier"));
        assert!(pair.session.admitted.is_none());
    }
}

fn record_lengths(mut records: &[u8]) -> Vec<(u8, usize)> {
    let mut lengths = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = records {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // A signature of ECDSA varies by a few bytes.
        lengths.push((*kind, length.next_multiple_of(64)));
        records = &rest[length..];
    }
    lengths
}

/// A client whose first key share is for a group that no host here has.
fn retrying(pki: &Pki, leaf: Option<&Leaf>) -> Returning {
    let groups = vec![kx_group::MLKEM768, kx_group::X25519];
    Returning::with(with_provider(pki, pki.client_config(None), groups), leaf)
}

/// One record, cut into several with `size` bytes of content each.
pub(super) fn in_pieces(record: &[u8], size: usize) -> Vec<u8> {
    assert_eq!(usize::from(u16::from_be_bytes([record[3], record[4]])), record.len() - 5);
    let piece = |content: &[u8]| [&record[..3], &(content.len() as u16).to_be_bytes(), content].concat();
    record[5..].chunks(size).flat_map(piece).collect()
}

#[test]
fn of_two_offers_the_one_that_was_taken_counts() {
    let [site, _] = Site::each();
    let HostResumption::Tickets(ring) = &site.resumption else { panic!("tickets") };
    let worker = site.worker();
    let hello_and_secret = |at: u64| {
        site.pki.clock.set(at);
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&worker).full(None);
        let mut hello = Vec::new();
        client.begin(&worker).client.write_tls(&mut hello).unwrap();
        let identity = hello[find_psk(&hello).identity].to_vec();
        let session = worker.host().config.ticketer.decrypt(&identity).unwrap();
        worker.host().offers.end();
        (hello, identity, secret_of(&session))
    };
    assert!(ring.status(at(NOW)).len() > 1);
    let (hello, old, old_secret) = hello_and_secret(NOW);
    let (_, new, new_secret) = hello_and_secret(NOW + 100);
    let garbage = vec![7; old.len()];
    let offers = [
        ([(&garbage, &old_secret), (&old, &old_secret)], NOW, 1),
        ([(&garbage, &new_secret), (&new, &new_secret)], NOW + 100, 1),
        ([(&new, &new_secret), (&old, &old_secret)], NOW + 100, 0),
        ([(&old, &old_secret), (&new, &new_secret)], NOW, 0),
        ([(&old, &old_secret), (&garbage, &old_secret)], NOW, 0),
    ];
    for (offer, auth_time, taken) in offers {
        let mut hello = offering(&hello, &offer);
        let (mut session, mut outgoing) = (new_session(&worker), Vec::new());
        session.process(&mut hello, &mut Vec::new(), &mut outgoing).unwrap();
        assert_eq!(session.connection.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!((session.auth_time, session.declined()), (auth_time as i64, None));
        // The ServerHello tells which (RFC 8446 §4.2.11).
        assert!(outgoing.windows(6).any(|bytes| bytes == [0, 41, 0, 2, 0, taken]));
    }
    // Too old is too old, though a younger one is on offer: the client may say which it prefers.
    site.pki.clock.set(NOW + 8 * HOUR + 1);
    let mut hello = offering(&hello, &[(&old, &old_secret), (&new, &new_secret)]);
    let (mut session, mut outgoing) = (new_session(&worker), Vec::new());
    session.process(&mut hello, &mut Vec::new(), &mut outgoing).unwrap();
    assert_eq!(session.declined(), refused_for(Reason::TooOld));
    assert_eq!(session.connection.handshake_kind(), Some(HandshakeKind::Full));
}

/// The secret within a session as rustls encodes it: server name, version, suite, secret.
fn secret_of(session: &[u8]) -> Vec<u8> {
    assert_eq!(session[0], 1, "there is a server name");
    let secret = &session[2 + usize::from(session[1]) + 4..];
    secret[1..=usize::from(secret[0])].to_vec()
}

/// The same ClientHello with other sessions on offer, and binders that prove them (RFC 8446 §4.2.11.2).
fn offering(hello: &[u8], offers: &[(&Vec<u8>, &Vec<u8>)]) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let age = [0; 4];
    let identities: Vec<u8> =
        offers.iter().flat_map(|(identity, _)| [&sized(identity)[..], &age].concat()).collect();
    let binders_length = 2 + offers.len() * 33;
    let identities = sized(&identities);
    let mut message = hello[5..find_psk(hello).start].to_vec();
    message.extend([0, 41]);
    message.extend(((identities.len() + binders_length) as u16).to_be_bytes());
    message.extend(identities);
    // Lengths: of the message, and of its extensions, which follow version, random, session id, suites and
    // compression methods.
    let total = message.len() + binders_length;
    message[1..4].copy_from_slice(&(total as u32 - 4).to_be_bytes()[1..]);
    let mut extensions = 4 + 2 + 32;
    extensions += 1 + usize::from(message[extensions]);
    extensions += 2 + usize::from(u16::from_be_bytes([message[extensions], message[extensions + 1]]));
    extensions += 1 + usize::from(message[extensions]);
    let length = (total - extensions - 2) as u16;
    message[extensions..extensions + 2].copy_from_slice(&length.to_be_bytes());

    let transcript = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &message);
    let binders: Vec<u8> = offers
        .iter()
        .flat_map(|(_, secret)| [&[32][..], &binder(secret, transcript.as_ref())].concat())
        .collect();
    message.extend(sized(&binders));
    assert_eq!(message.len(), total);
    [&[22, 3, 1][..], &sized(&message)].concat()
}

/// RFC 8446 §7.1 for SHA-256.
fn binder(secret: &[u8], transcript: &[u8]) -> Vec<u8> {
    use aws_lc_rs::{digest, hmac};
    let mac = |key: &[u8], content: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), content).as_ref().to_vec()
    };
    let expand = |key: &[u8], label: &str, context: &[u8]| {
        let label = format!("tls13 {label}");
        let mut info = vec![0, 32, label.len() as u8];
        info.extend(label.as_bytes());
        info.push(context.len() as u8);
        info.extend(context);
        info.push(1);
        mac(key, &info)
    };
    let early = mac(&[0; 32], secret);
    let nothing = digest::digest(&digest::SHA256, b"");
    let binder_key = expand(&early, "res binder", nothing.as_ref());
    mac(&expand(&binder_key, "finished", b""), transcript)
}
