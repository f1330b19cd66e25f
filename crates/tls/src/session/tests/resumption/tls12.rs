//! Clients of TLS 1.2, and the choice between the versions.

use rustls::ContentType;

use super::start_over::in_pieces;
use super::*;

/// A client that speaks TLS 1.2 and, if it is told so, 1.3.
fn tls12_client(
    pki: &Pki,
    leaf: Option<&Leaf>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Returning {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pki.server_ca.der()).unwrap();
    let provider = Arc::new(provider::default_provider());
    let config = ClientConfig::builder_with_details(provider, pki.clock.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Returning::with(config, leaf)
}

pub(super) fn with_tls12(options: &mut HostTlsOptions) {
    options.tls = TlsPolicy { min_version_12: true, ..TlsPolicy::default() };
}

#[test]
fn a_client_of_tls_12_is_served_where_that_is_allowed_and_never_resumes() {
    for site in Site::each() {
        let (strict, lax, alice) = (site.worker(), site.worker_with(with_tls12), site.pki.client("alice"));
        let client = tls12_client(&site.pki, Some(&alice), &[&rustls::version::TLS12]);
        client.connect(&strict).refused(Reason::NoCommonVersion, None);
        for _ in 0..3 {
            let session = client.connect(&lax).full(None);
            assert_eq!(session.peer_identity().unwrap().common_names(), ["alice"]);
            assert_eq!(session.negotiated().version, "TLSv1.2");
            assert!(session.negotiated().suite.starts_with("TLS_ECDHE_ECDSA_WITH_"));
            assert!(client.wallet.tls12.lock().unwrap().is_none(), "neither a ticket nor a session id");
            assert!(strict.readmit(&session).is_ok());
        }
        let anonymous = tls12_client(&site.pki, None, &[&rustls::version::TLS12]);
        anonymous.connect(&lax).refused(Reason::NoCertificate, None);
    }
}

#[test]
fn a_client_of_tls_12_has_to_hold_the_key_of_its_certificate() {
    let [site, _] = Site::each();
    let worker = site.worker_with(with_tls12);
    let (alice, mallory) = (site.pki.client("alice"), site.pki.client("mallory"));
    let thief = tls12_client(&site.pki, None, &[&rustls::version::TLS12]);
    *thief.wallet.certificate.lock().unwrap() = Some(StolenChain::new(&alice, &mallory).0);
    thief.connect(&worker).refused(Reason::BadSignature, None);
}

#[test]
fn who_offers_tls_13_gets_it_and_resumes_on_a_host_with_tls_12() {
    for site in Site::each() {
        let worker = site.worker_with(with_tls12);
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        let client = tls12_client(&site.pki, Some(&site.pki.client("alice")), &versions);
        assert_eq!(client.connect(&worker).full(None).negotiated().version, "TLSv1.3");
        assert_eq!(client.connect(&worker).resumed(site.by).negotiated().version, "TLSv1.3");
        // In pieces as well, though then it does not resume.
        let mut pair = client.begin(&worker);
        let mut hello = Vec::new();
        pair.client.write_tls(&mut hello).unwrap();
        pair.incoming = in_pieces(&hello, 100);
        let read = crate::HelloReader::new().feed(&pair.incoming).unwrap().unwrap();
        pair.session = ServerSession::new(&worker, &read).unwrap();
        pair.run().unwrap();
        assert_eq!((pair.session.negotiated().version, pair.session.resumed()), ("TLSv1.3", None));
    }
}

#[test]
fn a_hello_of_tls_12_may_come_in_any_pieces() {
    let [site, _] = Site::each();
    let worker = site.worker_with(with_tls12);
    let client = tls12_client(&site.pki, Some(&site.pki.client("alice")), &[&rustls::version::TLS12]);
    for step in [1, 5, 64] {
        let mut pair = client.begin(&worker);
        pair.run_in_steps(step).unwrap();
        assert!(pair.session.peer_identity().is_some());
    }
    let mut pair = client.begin(&worker);
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    pair.incoming = in_pieces(&hello, 10);
    let read = crate::HelloReader::new().feed(&pair.incoming).unwrap().unwrap();
    pair.session = ServerSession::new(&worker, &read).unwrap();
    pair.run().unwrap();
    assert_eq!(pair.session.negotiated().version, "TLSv1.2");
}

#[test]
fn a_client_that_was_talked_down_to_tls_12_can_tell() {
    let [site, _] = Site::each();
    let worker = site.worker_with(with_tls12);
    let client = tls12_client(&site.pki, None, &[&rustls::version::TLS12]);
    let mut pair = client.begin(&worker);
    pair.client.write_tls(&mut pair.incoming).unwrap();
    let mut outgoing = Vec::new();
    pair.process(&mut outgoing).unwrap();
    // RFC 8446 §4.1.3: the end of the server's random.
    assert_eq!(outgoing[0], u8::from(ContentType::Handshake));
    assert_eq!(&outgoing[5 + 4 + 2 + 24..][..8], b"DOWNGRD\x01");
}

#[test]
fn tls_12_without_the_extended_master_secret_is_refused() {
    let [site, _] = Site::each();
    let worker = site.worker_with(with_tls12);
    let client = tls12_client(&site.pki, None, &[&rustls::version::TLS12]);
    let mut pair = client.begin(&worker);
    pair.client.write_tls(&mut pair.incoming).unwrap();
    let extension = pair.incoming.windows(4).position(|bytes| bytes == [0, 23, 0, 0]).unwrap();
    pair.incoming[extension..extension + 2].copy_from_slice(&[0xfa, 0xfa]);
    let mut outgoing = Vec::new();
    let SessionError::Handshake(failure) = pair.process(&mut outgoing).unwrap_err() else { panic!() };
    assert_eq!(failure.reason, Reason::NoCommonVersion);
    assert!(failure.message.contains("extended master secret"), "{failure}");
}

#[test]
fn policy_of_suites_and_groups_is_kept_in_both_versions() {
    let [site, _] = Site::each();
    let policy = |options: &mut HostTlsOptions| {
        options.tls = TlsPolicy {
            min_version_12: true,
            suites: ["TLS_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
                .map(Into::into)
                .into(),
            groups: ["secp384r1"].map(Into::into).into(),
            http2: false,
        };
    };
    let worker = site.worker_with(policy);
    let alice = site.pki.client("alice");
    let agreed = |version: &'static rustls::SupportedProtocolVersion| {
        let client = tls12_client(&site.pki, Some(&alice), &[version]);
        let came = client.connect(&worker).full(None).negotiated();
        (came.version, came.suite, came.group)
    };
    assert_eq!(agreed(&rustls::version::TLS13), ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256", "secp384r1"));
    let expected = ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "secp384r1");
    assert_eq!(agreed(&rustls::version::TLS12), expected);
}
