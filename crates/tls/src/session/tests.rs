use aws_lc_rs::aead;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::{self as provider, kx_group};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ConnectionTrafficSecrets, DigitallySignedStruct, PeerMisbehaved,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{ServerName, UnixTime};

use super::*;
use crate::HandshakeReason as Reason;
use crate::records::{ALERT_RECORD_BYTES, RECORD_OVERHEAD_BYTES};
use crate::testing::{Ca, HOST, Leaf, NOW, Noise, Pair, Pki, bundle, date, session as new_session};
use crate::{ClientAuthMode, ClientAuthOptions, HostTls, PathMemo};

mod cost;
mod hostile;
mod resumption;
mod storm;

#[test]
fn handshake_yields_identity_and_data_flows_both_ways() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Required), Some(&alice));
    assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
    assert_eq!(pair.session.peer_chain().unwrap(), alice.chain);
    let agreed = pair.session.negotiated();
    let expected = Negotiated {
        version: "TLSv1.3",
        suite: "TLS_AES_128_GCM_SHA256",
        group: "X25519MLKEM768",
        alpn: "http/1.1",
    };
    assert_eq!(agreed, expected);
    pair.client_says(b"hello");
    pair.run().unwrap();
    pair.server_says(b"world");
    assert_eq!((&pair.plain[..], &pair.answer[..]), (&b"hello"[..], &b"world"[..]));
    assert!(pair.incoming.is_empty());
}

#[test]
fn nothing_is_known_before_the_handshake_is_complete() {
    let pki = Pki::new();
    let mut session = new_session(&pki.worker(ClientAuthMode::Required));
    assert!(session.is_handshaking());
    assert!(session.peer_identity().is_none() && session.peer_chain().is_none());
    assert_eq!(session.negotiated(), Negotiated::default());
    let mut outgoing = Vec::new();
    assert!(matches!(session.encrypt(b"x", &mut outgoing), Err(SessionError::NotOpen)));
    session.close_notify(&mut outgoing);
    assert!(outgoing.is_empty() && session.is_handshaking());
}

#[test]
fn a_chain_without_its_proof_is_no_identity() {
    let pki = Pki::new();
    let mut config = pki.client_config(Some(&pki.client("alice")));
    // So that Certificate, CertificateVerify and Finished arrive in records of their own.
    config.max_fragment_size = Some(64);
    let mut pair = Pair::new(&pki.worker(ClientAuthMode::Required), config);
    let mut outgoing = Vec::new();
    let mut admitted_but_not_proven = 0;
    while pair.session.is_handshaking() {
        let mut flight = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut flight).unwrap();
        }
        for byte in flight {
            pair.incoming.push(byte);
            pair.process(&mut outgoing).unwrap();
            if pair.session.is_handshaking() {
                assert!(pair.session.peer_identity().is_none() && pair.session.peer_chain().is_none());
                admitted_but_not_proven += u32::from(pair.session.admitted.is_some());
            }
        }
        pair.deliver(&std::mem::take(&mut outgoing));
    }
    assert!(admitted_but_not_proven > 0);
    assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
    // Nor has a session any that has failed.
    pair.incoming = vec![23, 3, 3, 0, 30];
    pair.incoming.extend([0; 30]);
    assert!(pair.process(&mut outgoing).is_err());
    assert!(pair.session.peer_identity().is_none());
}

#[test]
fn what_is_observed_shows_when_the_handshake_is_complete() {
    let pki = Pki::new();
    let mut config = pki.client_config(Some(&pki.client("alice")));
    config.max_fragment_size = Some(64);
    let mut pair = Pair::new(&pki.worker(ClientAuthMode::Observe), config);
    let mut outgoing = Vec::new();
    let mut seen_but_not_complete = 0;
    while pair.session.is_handshaking() {
        let mut flight = Vec::new();
        while pair.client.wants_write() {
            pair.client.write_tls(&mut flight).unwrap();
        }
        for byte in flight {
            pair.incoming.push(byte);
            pair.process(&mut outgoing).unwrap();
            if pair.session.is_handshaking() {
                assert!(pair.session.observed().is_none());
                seen_but_not_complete += u32::from(pair.session.observed.is_some());
            }
        }
        pair.deliver(&std::mem::take(&mut outgoing));
    }
    assert!(seen_but_not_complete > 0);
    assert_eq!(pair.session.observed().unwrap().name, "CN=alice");
}

#[test]
fn identity_ends_with_the_first_certificate_of_the_path_that_does() {
    let pki = Pki::new();
    let leaf = pki.client_ca.issue("alice", |params| params.not_after = date(NOW + 600));
    let pair = pki.establish(&pki.worker(ClientAuthMode::Required), Some(&leaf));
    assert_eq!(pair.session.peer_valid_until_unix(), Some(NOW as i64 + 600));
}

#[test]
fn clients_with_keys_of_every_kind_are_admitted() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let leaf = pki.client_ca.issue_for(algorithm, "alice", |_| {});
        assert!(pki.establish(&worker, Some(&leaf)).session.peer_identity().is_some(), "{algorithm:?}");
    }
}

#[test]
fn suites_and_groups_of_the_client_are_honoured() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Off);
    let with = |edit: &dyn Fn(&mut rustls::crypto::CryptoProvider)| {
        let mut offered = provider::default_provider();
        edit(&mut offered);
        let mut pair = Pair::new(&worker, client_with(&pki, offered));
        pair.run().unwrap();
        pair.session.negotiated()
    };
    let chacha = provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    assert_eq!(with(&|p| p.cipher_suites = vec![chacha]).suite, "TLS_CHACHA20_POLY1305_SHA256");
    let aes256 = provider::cipher_suite::TLS13_AES_256_GCM_SHA384;
    assert_eq!(with(&|p| p.cipher_suites = vec![aes256, chacha]).suite, "TLS_AES_256_GCM_SHA384");
    assert_eq!(with(&|p| p.kx_groups = vec![kx_group::X25519]).group, "X25519");
    assert_eq!(with(&|p| p.kx_groups = vec![kx_group::SECP256R1]).group, "secp256r1");
}

#[test]
fn a_hello_retry_request_changes_nothing_about_admission() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    // The key share is for the first group, which the server does not have.
    let groups = vec![kx_group::MLKEM768, kx_group::X25519];
    let mut config = pki.client_config(Some(&pki.client("alice")));
    config = with_provider(&pki, config, groups);
    let mut pair = Pair::new(&worker, config);
    pair.run().unwrap();
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
}

#[test]
fn refusals_have_reasons_for_the_operator_and_alerts_for_the_client() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    let issue = |edit: &dyn Fn(&mut rcgen::CertificateParams)| pki.client_ca.issue("alice", edit);
    let issuing = pki.client_ca.intermediate("Issuing");
    let cases: Vec<(Option<Leaf>, Reason, AlertDescription)> = vec![
        (None, Reason::NoCertificate, AlertDescription::CertificateRequired),
        (Some(Ca::root("Other").issue("alice", |_| {})), Reason::UnknownIssuer, AlertDescription::UnknownCA),
        (
            Some(issue(&|p| p.not_after = date(NOW - 1))),
            Reason::Expired,
            AlertDescription::CertificateExpired,
        ),
        (
            Some(issue(&|p| p.not_before = date(NOW + 1))),
            Reason::NotYetValid,
            AlertDescription::CertificateExpired,
        ),
        (
            Some(issue(&|p| p.extended_key_usages.clear())),
            Reason::BadEku,
            AlertDescription::UnsupportedCertificate,
        ),
        (
            Some(issue(&|p| p.distinguished_name.push(rcgen::DnType::CommonName, "a\0b"))),
            Reason::BadName,
            AlertDescription::AccessDenied,
        ),
        (
            Some(issue(&|_| {}).via([&issuing, &issuing, &issuing, &issuing, &issuing])),
            Reason::ChainTooLong,
            AlertDescription::AccessDenied,
        ),
    ];
    for (leaf, reason, alert) in cases {
        let refused = pki.refuse(&worker, leaf.as_ref());
        assert_eq!(refused.failure.reason, reason, "{}", refused.failure);
        assert_eq!(refused.client, Some(Error::AlertReceived(alert)), "{reason}");
        assert_eq!(refused.failure.trust_bundle.as_deref(), Some("partners"));
        assert_eq!(refused.failure.presented.is_some(), leaf.is_some());
        assert!(refused.failure.alert.is_empty(), "it is among the outgoing bytes already");
    }
}

#[test]
fn http_2_is_spoken_where_it_is_offered_by_both() {
    let pki = Pki::new();
    let mut options = pki.host_options(&pki.options(ClientAuthMode::Off), pki.bundle());
    options.tls.http2 = true;
    let worker = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(0)).unwrap();
    let config = |offered: &[&str]| {
        let mut config = pki.client_config(None);
        config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    };
    for (offered, chosen) in [
        (&["http/1.1", "h2"][..], "h2"),
        (&["h2"], "h2"),
        (&["http/1.1"], "http/1.1"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
        (&[], ""),
    ] {
        let mut pair = Pair::new(&worker, config(offered));
        pair.run().unwrap();
        assert_eq!(pair.session.negotiated().alpn, chosen, "{offered:?}");
    }
    let refused = Pair::new(&worker, config(&["h3", "spdy/3"])).refused();
    assert_eq!(refused.failure.reason, Reason::NoAlpn);
}

#[test]
fn an_incompatible_client_gets_its_reason() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Off);
    let reason = |config: ClientConfig| Pair::new(&worker, config).refused().failure.reason;

    let mut h2_only = pki.client_config(None);
    h2_only.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(reason(h2_only), Reason::NoAlpn);
    let mut offered = provider::default_provider();
    offered.kx_groups = vec![kx_group::MLKEM768];
    assert_eq!(reason(client_with(&pki, offered)), Reason::NoCommonGroup);

    let old = ClientConfig::builder_with_details(Arc::new(provider::default_provider()), pki.clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    assert_eq!(reason(old), Reason::NoCommonVersion);
}

#[test]
fn a_client_that_distrusts_us_is_reported_as_such() {
    let pki = Pki::new();
    let elsewhere = Pki { server_ca: Ca::root("Another CA"), ..Pki::new() };
    let mut pair = Pair::new(&pki.worker(ClientAuthMode::Off), elsewhere.client_config(None));
    let refused = pair.refused();
    assert_eq!(refused.failure.reason, Reason::PeerAlert);
    assert!(
        refused.failure.message.contains("does not accept this host's certificate"),
        "{}",
        refused.failure
    );
}

#[test]
fn optional_mode_takes_none_but_not_a_bad_one() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Optional);
    let anonymous = pki.establish(&worker, None);
    assert!(anonymous.session.peer_identity().is_none());
    assert!(anonymous.session.peer_chain().is_none() && anonymous.session.peer_valid_until_unix().is_none());
    let known = pki.establish(&worker, Some(&pki.client("alice")));
    assert_eq!(known.session.peer_identity().unwrap().common_names(), ["alice"]);
    let refused = pki.refuse(&worker, Some(&Ca::root("Other").issue("mallory", |_| {})));
    assert_eq!(refused.failure.reason, Reason::UnknownIssuer);
}

#[test]
fn without_client_authentication_nobody_has_an_identity() {
    let pki = Pki::new();
    let pair = pki.establish(&pki.worker(ClientAuthMode::Off), Some(&pki.client("alice")));
    assert!(pair.session.peer_identity().is_none() && pair.session.peer_chain().is_none());
}

#[test]
fn sessions_of_one_worker_do_not_mix_their_peers() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Optional);
    let (alice, bob) = (pki.client("alice"), pki.client("bob"));
    let leaves = [Some(&alice), None, Some(&bob), Some(&alice), None];
    let mut pairs: Vec<_> = leaves.iter().map(|leaf| pki.connect(&worker, *leaf)).collect();
    // One record each in turn, so that all handshakes are under way together.
    let mut outgoing: Vec<Vec<u8>> = vec![Vec::new(); pairs.len()];
    for _ in 0..4 {
        for (pair, outgoing) in pairs.iter_mut().zip(&mut outgoing) {
            while pair.client.wants_write() {
                pair.client.write_tls(&mut pair.incoming).unwrap();
            }
            pair.process(outgoing).unwrap();
        }
        for (pair, outgoing) in pairs.iter_mut().zip(&mut outgoing) {
            pair.deliver(&std::mem::take(outgoing));
        }
    }
    let names: Vec<_> = pairs
        .iter()
        .map(|pair| pair.session.peer_identity().map(|peer| peer.common_names()[0].clone()))
        .collect();
    assert_eq!(
        names,
        [Some("alice".to_owned()), None, Some("bob".to_owned()), Some("alice".to_owned()), None]
    );
}

#[test]
fn a_verdict_left_behind_counts_for_nobody_else() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Optional);
    let leave = |name: &str| {
        let leaf = pki.client(name);
        let (identity, path) = (leaf.identity(), Arc::new(leaf.path_under(&pki.client_ca)));
        worker.host().verdict.put(Verdict::Admitted(Admitted { identity, path }));
    };
    leave("alice");
    assert!(pki.establish(&worker, None).session.peer_identity().is_none());
    leave("alice");
    let bob = pki.establish(&worker, Some(&pki.client("bob")));
    assert_eq!(bob.session.peer_identity().unwrap().common_names(), ["bob"]);
}

#[test]
fn a_remembered_chain_still_needs_its_key() {
    let pki = Pki::new();
    let memo = PathMemo::new(16);
    let worker = pki.host(ClientAuthMode::Required).worker_view(&memo).unwrap();
    let alice = pki.client("alice");
    let first = pki.establish(&worker, Some(&alice));
    assert_eq!(memo.len(), 1);
    let second = pki.establish(&worker, Some(&alice));
    assert!(Arc::ptr_eq(first.session.peer_identity().unwrap(), second.session.peer_identity().unwrap()));

    // Chains are public: anyone may present this one.
    let mut config = pki.client_config(None);
    config.client_auth_cert_resolver = Arc::new(StolenChain::new(&alice, &pki.client("mallory")));
    let refused = Pair::new(&worker, config).refused();
    assert_eq!(refused.failure.reason, Reason::BadSignature);
    assert!(refused.failure.message.contains("does not hold the key"), "{}", refused.failure);
    assert_eq!(refused.failure.presented.unwrap().subject, "CN=alice");
    assert_eq!(refused.client, Some(Error::AlertReceived(AlertDescription::DecryptError)));
}

#[test]
fn a_remembered_chain_opens_no_other_host() {
    let pki = Pki::new();
    let memo = PathMemo::new(16);
    let alice = pki.client("alice");
    let no_eku = pki.client_ca.issue("bob", |p| p.extended_key_usages.clear());
    let other = bundle("others", &[&Ca::root("Other CA")]);
    let strict = pki.host(ClientAuthMode::Required).worker_view(&memo).unwrap();
    let foreign = pki.host_with(&pki.options(ClientAuthMode::Required), other).worker_view(&memo).unwrap();
    let lax_options = ClientAuthOptions { require_eku: false, ..pki.options(ClientAuthMode::Required) };
    let lax = pki.host_with(&lax_options, pki.bundle()).worker_view(&memo).unwrap();

    pki.establish(&strict, Some(&alice));
    assert_eq!(pki.refuse(&foreign, Some(&alice)).failure.reason, Reason::UnknownIssuer);
    pki.establish(&lax, Some(&no_eku));
    assert_eq!(pki.refuse(&strict, Some(&no_eku)).failure.reason, Reason::BadEku);
    // The same host of the next snapshot finds what this one remembered.
    assert_eq!(memo.len(), 2);
    let next_snapshot = pki.host(ClientAuthMode::Required).worker_view(&memo).unwrap();
    pki.establish(&next_snapshot, Some(&alice));
    assert_eq!(memo.len(), 2);
}

#[test]
fn expiry_is_judged_by_the_clock_that_was_given() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    let alice = pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
    pki.establish(&worker, Some(&alice));
    pki.clock.set(NOW + 60);
    pki.establish(&worker, Some(&alice));
    pki.clock.set(NOW + 61);
    assert_eq!(pki.refuse(&worker, Some(&alice)).failure.reason, Reason::Expired);
}

#[test]
fn readmission_judges_a_living_session_by_the_rules_of_now() {
    use ClientAuthMode::{Off, Optional, Required};
    let pki = Pki::new();
    let memo = PathMemo::new(16);
    let alice = pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
    let known = pki.establish(&pki.worker(Required), Some(&alice)).session;
    let anonymous = pki.establish(&pki.worker(Optional), None).session;
    let both = bundle("partners", &[&pki.client_ca, &Ca::root("New CA")]);
    let withdrawn = bundle("partners", &[&Ca::root("New CA")]);
    let host = |mode, trust: &Arc<crate::TrustBundle>| {
        pki.host_with(&pki.options(mode), trust.clone()).worker_view(&memo).unwrap()
    };
    let reason =
        |host: &WorkerTls, session: &ServerSession| host.readmit(session).err().map(|failure| failure.reason);
    assert_eq!(reason(&host(Required, &both), &known), None);
    assert_eq!(reason(&host(Optional, &both), &known), None);
    assert_eq!(reason(&host(Required, &withdrawn), &known), Some(Reason::UnknownIssuer));
    assert_eq!(reason(&host(Optional, &withdrawn), &known), Some(Reason::UnknownIssuer));
    assert_eq!(reason(&host(Off, &both), &known), Some(Reason::UnknownIssuer));
    assert_eq!(reason(&host(Required, &both), &anonymous), Some(Reason::NoCertificate));
    assert_eq!(reason(&host(Optional, &both), &anonymous), None);
    assert_eq!(reason(&host(Off, &both), &anonymous), None);
    pki.clock.set(NOW + 61);
    assert_eq!(reason(&host(Required, &both), &known), Some(Reason::Expired));
    // The verdict on one session is not left for the next handshake.
    let worker = host(Optional, &withdrawn);
    assert!(worker.readmit(&known).is_err());
    assert!(worker.host().verdict.take().is_none());
}

#[test]
fn no_ticket_is_sent_and_none_is_taken() {
    let pki = Pki::new();
    let alice = pki.client("alice");
    let mut config = pki.client_config(Some(&alice));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let worker = pki.worker(ClientAuthMode::Required);
    let name = || ServerName::try_from(HOST).unwrap();
    for _ in 0..2 {
        let mut pair = Pair::new(&worker, pki.client_config(None));
        pair.client = ClientConnection::new(config.clone(), name()).unwrap();
        pair.run().unwrap();
        pair.server_says(b"x");
        assert_eq!(pair.client.tls13_tickets_received(), 0);
        assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
        assert!(!pair.client.is_early_data_accepted());
    }

    // A ticket from elsewhere, for the same name: offered to us with early data, and not taken.
    let mut stock =
        ServerConfig::builder_with_details(Arc::new(provider::default_provider()), pki.clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(pki.server.chain.clone(), pki.server.key_der())
            .unwrap();
    stock.max_early_data_size = 1000;
    stock.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stock = Arc::new(stock);
    let issue_ticket = || {
        let mut client = ClientConnection::new(config.clone(), name()).unwrap();
        let mut server = rustls::ServerConnection::new(stock.clone()).unwrap();
        while client.wants_write() || server.wants_write() {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            client.write_tls(&mut up).unwrap();
            server.read_tls(&mut &up[..]).unwrap();
            server.process_new_packets().unwrap();
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
            client.read_tls(&mut &down[..]).unwrap();
            client.process_new_packets().unwrap();
        }
        assert!(client.tls13_tickets_received() > 0);
    };
    issue_ticket();
    let mut pair = Pair::new(&worker, pki.client_config(None));
    pair.client = ClientConnection::new(config.clone(), name()).unwrap();
    use std::io::Write as _;
    pair.client.early_data().expect("a ticket with early data").write_all(b"GET / HTTP/1.1\r\n").unwrap();
    pair.run().unwrap();
    assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Full));
    assert!(!pair.client.is_early_data_accepted());
    assert!(pair.plain.is_empty(), "early data is dropped unread");
    assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
}

#[test]
fn records_may_arrive_in_any_pieces() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    for step in [1, 2, 3, 5, 7, 64, 1000] {
        let mut pair = pki.connect(&worker, Some(&pki.client("alice")));
        pair.run_in_steps(step).unwrap();
        assert!(pair.session.peer_identity().is_some(), "in steps of {step}");
        pair.client_says(b"hello");
        pair.run_in_steps(step).unwrap();
        assert_eq!(pair.plain, b"hello", "in steps of {step}");
    }
    let mut pair = pki.establish(&worker, Some(&pki.client("alice")));
    let mut expected = Vec::new();
    for cut in 0..=31 {
        pair.client_says(b"0123456789");
        expected.extend_from_slice(b"0123456789");
        let mut record = Vec::new();
        pair.client.write_tls(&mut record).unwrap();
        assert_eq!(record.len(), 10 + RECORD_OVERHEAD_BYTES);
        let mut outgoing = Vec::new();
        for part in [&record[..cut], &record[cut..]] {
            pair.incoming.extend_from_slice(part);
            pair.process(&mut outgoing).unwrap();
        }
        assert_eq!((pair.plain.len(), outgoing.len()), (expected.len(), 0), "cut at {cut}");
    }
    assert_eq!(pair.plain, expected);
}

#[test]
fn several_records_are_taken_in_one_call() {
    let pki = Pki::new();
    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Off), None);
    for number in 0..20_u8 {
        pair.client_says(&[number; 100]);
        pair.client.write_tls(&mut pair.incoming).unwrap();
    }
    let partial = pair.incoming.len() - 1;
    let last = pair.incoming.split_off(partial);
    let mut outgoing = Vec::new();
    pair.process(&mut outgoing).unwrap();
    assert_eq!(pair.plain.len(), 1900);
    pair.incoming.extend(last);
    pair.process(&mut outgoing).unwrap();
    assert_eq!(pair.plain.len(), 2000);
}

#[test]
fn records_are_as_few_and_the_output_as_small_as_possible() {
    let pki = Pki::new();
    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Off), None);
    for (length, records) in [(0, 0), (1, 1), (16_384, 1), (16_385, 2), (100_000, 7)] {
        let plain = vec![7; length];
        let mut outgoing = b"already there".to_vec();
        pair.session.encrypt(&plain, &mut outgoing).unwrap();
        let wire = outgoing.split_off(13);
        assert_eq!(outgoing, b"already there");
        assert_eq!(wire.len(), length + records * RECORD_OVERHEAD_BYTES);
        pair.answer.clear();
        // The client takes a few records at a time.
        for part in wire.chunks(4096) {
            pair.deliver(part);
        }
        assert_eq!(pair.answer, plain);
    }
}

#[test]
fn either_side_may_close_first() {
    let pki = Pki::new();
    let worker = pki.worker(ClientAuthMode::Required);
    let alice = pki.client("alice");

    let mut pair = pki.establish(&worker, Some(&alice));
    pair.client_says(b"last words");
    pair.client.send_close_notify();
    pair.client.write_tls(&mut pair.incoming).unwrap();
    pair.incoming.extend_from_slice(b"what comes after does not count");
    let mut outgoing = Vec::new();
    pair.process(&mut outgoing).unwrap();
    let progress = pair.progress.unwrap();
    assert!(progress.peer_closed && !progress.handshaking);
    assert!(pair.incoming.is_empty());
    assert_eq!(pair.plain, b"last words");
    // It can still be answered, and then closed.
    pair.server_says(b"answer");
    assert_eq!(pair.answer, b"answer");
    pair.incoming.extend_from_slice(b"more noise");
    pair.process(&mut outgoing).unwrap();
    assert!(pair.progress.unwrap().peer_closed && pair.incoming.is_empty());
    pair.session.close_notify(&mut outgoing);
    assert_eq!(outgoing.len(), ALERT_RECORD_BYTES);

    let mut pair = pki.establish(&worker, Some(&alice));
    let mut outgoing = Vec::new();
    pair.session.close_notify(&mut outgoing);
    pair.session.close_notify(&mut outgoing);
    assert_eq!(outgoing.len(), ALERT_RECORD_BYTES, "once is enough");
    pair.deliver(&outgoing);
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    assert!(matches!(pair.session.encrypt(b"x", &mut outgoing), Err(SessionError::NotOpen)));
    pair.client_says(b"too late");
    pair.client.write_tls(&mut pair.incoming).unwrap();
    pair.process(&mut outgoing).unwrap();
    assert!(pair.plain.is_empty() && pair.incoming.is_empty());
    assert!(pair.session.peer_identity().is_some(), "the log still knows who it was");
}

#[test]
fn each_direction_ends_by_itself() {
    let pki = Pki::new();
    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Required), Some(&pki.client("alice")));
    let mut outgoing = Vec::new();
    pair.session.end_writing(&mut outgoing);
    pair.session.end_writing(&mut outgoing);
    assert_eq!(outgoing.len(), ALERT_RECORD_BYTES, "once is enough");
    pair.deliver(&outgoing);
    assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    assert!(matches!(pair.session.encrypt(b"x", &mut outgoing), Err(SessionError::NotOpen)));
    pair.client_says(b"not too late");
    pair.run().unwrap();
    assert_eq!(pair.plain, b"not too late");
    assert!(pair.session.peer_identity().is_some());
    pair.client.send_close_notify();
    pair.client.write_tls(&mut pair.incoming).unwrap();
    pair.process(&mut Vec::new()).unwrap();
    assert!(pair.progress.unwrap().peer_closed);
}

#[test]
fn key_updates_are_answered() {
    let pki = Pki::new();
    let mut pair = pki.establish(&pki.worker(ClientAuthMode::Off), None);
    for round in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client_says(b"ping");
        pair.run().unwrap();
        // The answering KeyUpdate goes out before the next data (RFC 8446 §4.6.3).
        let mut outgoing = Vec::new();
        pair.session.encrypt(b"pong", &mut outgoing).unwrap();
        assert_eq!(outgoing.len(), 4 + RECORD_OVERHEAD_BYTES + 5 + RECORD_OVERHEAD_BYTES);
        pair.deliver(&outgoing);
        assert_eq!(pair.plain.len(), 4 * (round + 1));
        assert_eq!(pair.answer.len(), 4 * (round + 1));
    }
}

#[test]
fn the_gate_lets_through_only_what_should_come_out_of_a_handshake() {
    use ClientAuthMode::{Lenient, Observe, Off, Optional, Required};
    let good = |presented, admitted| Outcome {
        version: Some(ProtocolVersion::TLSv1_3),
        kind: Some(HandshakeKind::Full),
        presented,
        admitted,
        judged: false,
    };
    for (mode, presented, admitted, passes) in [
        (Off, false, false, true),
        (Off, true, false, false),
        (Off, false, true, false),
        (Off, true, true, false),
        (Observe, false, false, true),
        (Observe, true, false, true),
        (Observe, true, true, false),
        (Observe, false, true, false),
        (Lenient, false, false, true),
        (Lenient, true, false, true),
        (Lenient, true, true, true),
        (Lenient, false, true, false),
        (Optional, false, false, true),
        (Optional, true, true, true),
        (Optional, true, false, false),
        (Optional, false, true, false),
        (Required, true, true, true),
        (Required, false, false, false),
        (Required, true, false, false),
        (Required, false, true, false),
    ] {
        assert_eq!(
            good(presented, admitted).is_acceptable(mode, false),
            passes,
            "{mode:?} {presented} {admitted}"
        );
    }
    assert!(!Outcome { kind: None, ..good(true, true) }.is_acceptable(Required, true));
    let retried = Outcome { kind: Some(HandshakeKind::FullWithHelloRetryRequest), ..good(true, true) };
    assert!(retried.is_acceptable(Required, false));
    // A session that was resumed must have been judged, and none other can have been.
    let resumed = |judged| Outcome { kind: Some(HandshakeKind::Resumed), judged, ..good(true, true) };
    assert!(resumed(true).is_acceptable(Required, false));
    assert!(!resumed(false).is_acceptable(Required, false));
    assert!(!Outcome { judged: true, ..good(true, true) }.is_acceptable(Required, true));
    // TLS 1.2 only where it is allowed, and never resumed.
    let old = || Outcome { version: Some(ProtocolVersion::TLSv1_2), ..good(true, true) };
    assert!(!old().is_acceptable(Required, false));
    assert!(old().is_acceptable(Required, true));
    for judged in [false, true] {
        let old = Outcome { kind: Some(HandshakeKind::Resumed), judged, ..old() };
        assert!(!old.is_acceptable(Required, true));
    }
}

#[test]
fn a_handshake_that_ends_as_none_should_is_refused() {
    let pki = Pki::new();
    let mut pair = pki.connect(&pki.worker(ClientAuthMode::Required), Some(&pki.client("alice")));
    // As if a session had been judged, although there was none.
    pair.session.resumed = Some(ResumedBy::Ticket);
    assert_eq!(pair.refused().failure.reason, Reason::Internal);
}

#[test]
fn sessions_and_worker_views_stay_on_their_thread() {
    // Compiles only while neither type is `Send`: with `Send`, the call below would be ambiguous.
    trait AmbiguousIfSend<A> {
        fn check() {}
    }
    impl<T: ?Sized> AmbiguousIfSend<()> for T {}
    struct IsSend;
    impl<T: ?Sized + Send> AmbiguousIfSend<IsSend> for T {}
    <ServerSession as AmbiguousIfSend<_>>::check();
    <WorkerTls as AmbiguousIfSend<_>>::check();
    fn shared_by_workers<T: Send + Sync>() {}
    shared_by_workers::<HostTls>();
    shared_by_workers::<SessionError>();
}

/// Presents one client's chain and signs with another's key.
#[derive(Debug)]
struct StolenChain(Arc<CertifiedKey>);

impl StolenChain {
    fn new(victim: &Leaf, thief: &Leaf) -> Self {
        let key = provider::sign::any_supported_type(&thief.key_der()).unwrap();
        Self(Arc::new(CertifiedKey::new(victim.chain.clone(), key)))
    }
}

impl ResolvesClientCert for StolenChain {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client_with(pki: &Pki, offered: rustls::crypto::CryptoProvider) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.server_ca.der()).unwrap();
    ClientConfig::builder_with_details(Arc::new(offered), pki.clock.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client like `config` that offers `groups`.
fn with_provider(
    pki: &Pki,
    config: ClientConfig,
    groups: Vec<&'static dyn rustls::crypto::SupportedKxGroup>,
) -> ClientConfig {
    let mut offered = provider::default_provider();
    offered.kx_groups = groups;
    let mut changed = client_with(pki, offered);
    changed.client_auth_cert_resolver = config.client_auth_cert_resolver;
    changed
}
