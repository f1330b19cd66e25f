use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rcgen::KeyPair;
use ringward_identity::{SpiffeId, SpiffePattern};
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, Error, RootCertStore, ServerConfig};

use super::*;
use crate::records::{self, Step};
use crate::testing::{Ca, DAY, HOST, Leaf, ManualClock, NOW, at, bundle, date};
use crate::{
    CredentialOptions, CredentialSource, CrlMode, IssuerCertificate, ParsedCrl, RevocationDepth,
    RevocationParts, RevocationPolicy, StalePolicy, parse_crl,
};

/// Both sides of a connection, in memory.
struct Scene {
    clock: Arc<ManualClock>,
    upstream_ca: Ca,
    our_ca: Ca,
    server: Arc<ServerConfig>,
}

impl Scene {
    /// An upstream with this certificate, which asks for ours.
    fn new(edit: impl FnOnce(&mut rcgen::CertificateParams)) -> Scene {
        let (upstream_ca, our_ca) = (Ca::root("upstreams"), Ca::root("ours"));
        let leaf = upstream_ca.issue_server(&[HOST], edit);
        Scene::with(upstream_ca, our_ca, &leaf)
    }

    fn with(upstream_ca: Ca, our_ca: Ca, leaf: &Leaf) -> Scene {
        let clock = ManualClock::new();
        let mut roots = RootCertStore::empty();
        roots.add(our_ca.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        // The clock of a verifier is that of its configuration.
        let mut server = ServerConfig::builder_with_details(provider, clock.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(leaf.chain.clone(), leaf.key_der())
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Scene { clock, upstream_ca, our_ca, server: Arc::new(server) }
    }

    fn options(&self) -> UpstreamTlsOptions {
        UpstreamTlsOptions {
            server_name: Some(HOST.to_owned()),
            clock: self.clock.clone(),
            ..UpstreamTlsOptions::new(bundle("upstreams", &[&self.upstream_ca]))
        }
    }

    fn connect(&self, endpoint: &EndpointTls) -> Pair {
        Pair {
            client: ClientSession::new(endpoint).unwrap(),
            server: UnbufferedServerConnection::new(self.server.clone()).unwrap(),
            to_client: Vec::new(),
            to_server: Vec::new(),
            client_got: Vec::new(),
            server_got: Vec::new(),
        }
    }
}

fn endpoint(options: UpstreamTlsOptions) -> EndpointTls {
    Arc::new(UpstreamTls::build(options).unwrap()).endpoint(Some("192.0.2.1".parse().unwrap()))
}

/// A certificate of ours.
fn presented(leaf: &Leaf) -> Arc<Credential> {
    let (chain_pem, key_pem) = (leaf.pem(), leaf.key.serialize_pem());
    let source = CredentialSource {
        chain_file: Path::new("client.pem"),
        chain_pem: &chain_pem,
        key_file: Path::new("client.key"),
        key_pem: key_pem.as_bytes(),
    };
    let options = CredentialOptions { for_upstreams: true, ..CredentialOptions::default() };
    Arc::new(Credential::from_pem(&source, options, at(NOW)).unwrap())
}

struct Pair {
    client: ClientSession,
    server: UnbufferedServerConnection,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    client_got: Vec<u8>,
    server_got: Vec<u8>,
}

impl Pair {
    /// Moves bytes until nothing moves; the client gets at most `step` new ones at a time.
    fn run(&mut self, step: usize) -> Result<(), UpstreamTlsFailure> {
        let mut waiting = Vec::new();
        loop {
            let incoming = std::mem::take(&mut self.to_client);
            for part in incoming.chunks(step).chain(incoming.is_empty().then_some(&[][..])) {
                waiting.extend_from_slice(part);
                let progress =
                    self.client.process(&mut waiting, &mut self.client_got, &mut self.to_server)?;
                waiting.drain(..progress.consumed);
            }
            self.serve();
            if self.to_client.is_empty() {
                return Ok(());
            }
        }
    }

    /// What the server makes of what has come. Its errors reach the client as alerts.
    fn serve(&mut self) {
        let mut consumed = 0;
        loop {
            let rest = &mut self.to_server[consumed..];
            match records::step(
                &mut self.server,
                rest,
                &mut consumed,
                &mut self.server_got,
                &mut self.to_client,
            ) {
                Ok(Step::Continue) => {}
                Ok(Step::Blocked | Step::PeerClosed) => break,
                Err(_) => {
                    records::flush_alert(&mut self.server, &mut [], &mut self.to_client);
                    break;
                }
            }
        }
        self.to_server.drain(..consumed);
    }
}

#[test]
fn both_prove_who_they_are_and_bytes_go_both_ways_however_they_arrive() {
    let scene = Scene::new(|_| {});
    let ours = scene.our_ca.issue("ringward", |_| {});
    for (step, protocol) in
        [(1, UpstreamProtocol::Http1), (7, UpstreamProtocol::Http2), (usize::MAX, UpstreamProtocol::Http1)]
    {
        let endpoint =
            endpoint(UpstreamTlsOptions { credential: Some(presented(&ours)), protocol, ..scene.options() });
        let mut pair = scene.connect(&endpoint);
        pair.run(step).unwrap();
        assert!(!pair.client.is_handshaking() && !pair.client.is_resumed());
        assert_eq!(pair.server.peer_certificates().unwrap(), ours.chain);
        let agreed = pair.client.negotiated();
        let alpn = if protocol == UpstreamProtocol::Http2 { "h2" } else { "http/1.1" };
        assert_eq!((agreed.version, agreed.alpn), ("TLSv1.3", alpn));
        let question = vec![b'?'; 40_000];
        pair.client.encrypt(&question, &mut pair.to_server).unwrap();
        pair.serve();
        assert_eq!(pair.server_got, question);
        let mut answer = Vec::new();
        assert!(records::encrypt(&mut pair.server, &question, &mut answer).is_ok());
        pair.to_client = answer;
        pair.run(step).unwrap();
        assert_eq!(pair.client_got, question);
        assert!(records::close_notify(&mut pair.server, &mut pair.to_client).is_ok());
        let progress = pair.client.process(&mut pair.to_client, &mut Vec::new(), &mut Vec::new()).unwrap();
        assert!(progress.peer_closed);
    }
}

/// A session is no longer than the path that it was verified by.
#[test]
fn a_session_ends_with_the_certificate_that_was_verified() {
    let scene = Scene::new(|params| params.not_after = date(NOW + DAY / 24));
    let endpoint = endpoint(scene.options());
    for (seconds, resumed) in [(0, false), (60, true), (3599, true)] {
        scene.clock.set(NOW + seconds);
        let mut pair = scene.connect(&endpoint);
        pair.run(usize::MAX).unwrap();
        assert_eq!(pair.client.is_resumed(), resumed, "after {seconds} s");
    }
    scene.clock.set(NOW + 3601);
    let failure = scene.connect(&endpoint).run(usize::MAX).unwrap_err();
    assert_eq!(failure.reason, UpstreamTlsReason::Expired, "{failure}");
}

/// Two servers behind one address, whose certificates end at different times. What the first gives when the second has been verified
/// already ends with the first one's certificate all the same.
#[test]
fn a_ticket_that_comes_late_ends_with_its_own_certificate() {
    let mut scene = Scene::new(|params| params.not_after = date(NOW + DAY / 24));
    let endpoint = endpoint(scene.options());
    let mut short = scene.connect(&endpoint);
    let lived = scene.upstream_ca.issue_server(&[HOST], |params| params.not_after = date(NOW + DAY));
    scene.server = Scene::with(Ca::root("upstreams"), Ca::root("ours"), &lived).server;
    // The first one's own flight is there, and its tickets are not.
    short.client.process(&mut [], &mut Vec::new(), &mut short.to_server).unwrap();
    short.serve();
    let mut flight = std::mem::take(&mut short.to_client);
    let progress = short.client.process(&mut flight, &mut Vec::new(), &mut short.to_server).unwrap();
    assert!(progress.consumed == flight.len() && !progress.handshaking);
    scene.connect(&endpoint).run(usize::MAX).unwrap();
    let kept = || endpoint.tickets.as_ref().unwrap().ends();
    assert_eq!(kept().iter().min(), Some(&(NOW + DAY)));
    short.run(usize::MAX).unwrap();
    assert_eq!(kept().iter().min(), Some(&(NOW + DAY / 24)), "{:?}", kept());
    scene.clock.set(NOW + DAY / 24 + 1);
    let mut pair = scene.connect(&endpoint);
    assert!(kept().iter().all(|end| *end == NOW + DAY), "{:?}", kept());
    pair.run(usize::MAX).unwrap();
}

/// What a resumed session brings is of the certificates of the session that was resumed.
#[test]
fn tickets_of_a_resumed_session_live_no_longer() {
    let scene = Scene::new(|params| params.not_after = date(NOW + DAY / 24));
    let endpoint = endpoint(scene.options());
    for seconds in [0, 1000, 2000] {
        scene.clock.set(NOW + seconds);
        scene.connect(&endpoint).run(usize::MAX).unwrap();
        let ends = endpoint.tickets.as_ref().unwrap().ends();
        assert!(!ends.is_empty() && ends.iter().all(|end| *end == NOW + DAY / 24), "{ends:?}");
    }
}

/// Our own proof ends, too: a session must not outlive it.
#[test]
fn a_session_ends_with_our_own_certificate() {
    let scene = Scene::new(|_| {});
    let ours = scene.our_ca.issue("ringward", |params| params.not_after = date(NOW + DAY / 24));
    let endpoint = endpoint(UpstreamTlsOptions { credential: Some(presented(&ours)), ..scene.options() });
    for (seconds, resumed) in [(0, false), (3600, true), (3601, false)] {
        scene.clock.set(NOW + seconds);
        // A session looks for one to resume when it is made.
        let mut pair = scene.connect(&endpoint);
        let kept = endpoint.tickets.as_ref().unwrap().ends();
        assert_eq!(!kept.is_empty(), resumed, "after {seconds} s: {kept:?}");
        if seconds == 0 {
            pair.run(usize::MAX).unwrap();
        }
    }
}

/// A list of the CA that is to be replaced after an hour, and revokes nobody.
fn lists(ca: &Ca) -> UpstreamLists {
    let params = rcgen::CertificateRevocationListParams {
        this_update: date(NOW - DAY),
        next_update: date(NOW + DAY / 24),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let crl = params.signed_by(&ca.0).unwrap();
    let issuer = IssuerCertificate::from_der(&ca.der()).unwrap();
    let now = i64::try_from(NOW).unwrap();
    let ParsedCrl::Complete(index) = parse_crl(crl.der(), &[issuer], now, || ()).unwrap() else {
        panic!("a delta")
    };
    let parts = RevocationParts { crls: vec![Arc::new(index)], ..RevocationParts::default() };
    UpstreamLists { revocation: Revocation::new(parts), sources: vec![[1; 32]] }
}

fn looked_up(stale: StalePolicy) -> crate::TrustOptions {
    let revocation = RevocationPolicy { crl: CrlMode::Required, stale, depth: RevocationDepth::Chain };
    crate::TrustOptions { revocation, ..crate::TrustOptions::default() }
}

/// What a session would pass over is whether the list is still one to go by.
#[test]
fn a_session_ends_with_the_list_that_cleared_its_endpoint() {
    let scene = Scene::new(|_| {});
    for (stale, end) in [
        (StalePolicy::Deny, NOW + DAY / 24),
        (StalePolicy::Allow(Duration::from_secs(600)), NOW + DAY / 24 + 600),
    ] {
        scene.clock.set(NOW);
        let trust = crate::testing::bundle_with("upstreams", &[&scene.upstream_ca], looked_up(stale));
        let endpoint =
            endpoint(UpstreamTlsOptions { trust, lists: lists(&scene.upstream_ca), ..scene.options() });
        scene.connect(&endpoint).run(usize::MAX).unwrap();
        let ends = endpoint.tickets.as_ref().unwrap().ends();
        assert!(!ends.is_empty() && ends.iter().all(|kept| *kept == end - 1), "{ends:?}");
        scene.clock.set(end - 1);
        scene.connect(&endpoint).run(usize::MAX).unwrap();
        scene.clock.set(end);
        let failure = scene.connect(&endpoint).run(usize::MAX).unwrap_err();
        assert_eq!(failure.reason, UpstreamTlsReason::RevocationStale, "{failure}");
    }
    // Of another CA nothing is known.
    let trust = crate::testing::bundle_with("upstreams", &[&scene.upstream_ca], looked_up(StalePolicy::Deny));
    let strange = endpoint(UpstreamTlsOptions { trust, lists: lists(&scene.our_ca), ..scene.options() });
    scene.clock.set(NOW);
    let failure = scene.connect(&strange).run(usize::MAX).unwrap_err();
    assert_eq!(failure.reason, UpstreamTlsReason::RevocationUnknown, "{failure}");
}

#[test]
fn sessions_are_not_kept_where_they_are_off_and_not_shared_between_endpoints() {
    let scene = Scene::new(|_| {});
    let tls = Arc::new(UpstreamTls::build(scene.options()).unwrap());
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1"];
    for endpoint in addresses.map(|address| tls.endpoint(Some(address.parse().unwrap()))) {
        let mut pair = scene.connect(&endpoint);
        pair.run(usize::MAX).unwrap();
        assert!(!pair.client.is_resumed());
    }
    let off = endpoint(UpstreamTlsOptions { resumption: false, ..scene.options() });
    for _ in 0..2 {
        let mut pair = scene.connect(&off);
        pair.run(usize::MAX).unwrap();
        assert!(!pair.client.is_resumed());
    }
}

#[test]
fn who_is_not_the_upstream_is_refused() {
    use UpstreamTlsReason as Reason;
    let scene = Scene::new(|params| {
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/ns/payroll".try_into().unwrap()));
    });
    let base = || scene.options();
    let spiffe = |text| vec![SpiffePattern::parse(text).unwrap()];
    let pinned = crate::TrustOptions { pins: vec![[1; 32], [2; 32]], ..crate::TrustOptions::default() };
    let stranger = Ca::root("upstreams");
    for (options, reason) in [
        (UpstreamTlsOptions { trust: bundle("ours", &[&scene.our_ca]), ..base() }, Reason::UnknownCa),
        (UpstreamTlsOptions { trust: bundle("upstreams", &[&stranger]), ..base() }, Reason::UnknownCa),
        (
            UpstreamTlsOptions { server_name: Some("other.example.com".to_owned()), ..base() },
            Reason::NameMismatch,
        ),
        (UpstreamTlsOptions { server_name: None, ..base() }, Reason::NameMismatch),
        (UpstreamTlsOptions { spiffe_ids: spiffe("spiffe://td/ns/pay/*"), ..base() }, Reason::NameMismatch),
        (
            UpstreamTlsOptions {
                trust: crate::testing::bundle_with("upstreams", &[&scene.upstream_ca], pinned),
                ..base()
            },
            Reason::PinMismatch,
        ),
    ] {
        let mut pair = scene.connect(&endpoint(options));
        let failure = pair.run(usize::MAX).unwrap_err();
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(pair.client.encrypt(b"secret", &mut pair.to_server).is_err());
        // It is told, and has not seen our proof.
        pair.serve();
        assert!(pair.server.peer_certificates().is_none() && pair.server.is_handshaking());
    }
    let id = UpstreamTlsOptions { spiffe_ids: spiffe("spiffe://td/ns/payroll"), server_name: None, ..base() };
    scene.connect(&endpoint(id)).run(usize::MAX).unwrap();
}

#[test]
fn http2_is_spoken_only_where_it_was_agreed_on() {
    let mut scene = Scene::new(|_| {});
    let endpoint = endpoint(UpstreamTlsOptions { protocol: UpstreamProtocol::Http2, ..scene.options() });
    scene.connect(&endpoint).run(usize::MAX).unwrap();
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut server = (*scene.server).clone();
        server.alpn_protocols = offered;
        scene.server = Arc::new(server);
        let failure = scene.connect(&endpoint).run(usize::MAX).unwrap_err();
        assert_eq!(failure.reason, UpstreamTlsReason::AlpnRefused, "{failure}");
    }
}

/// webpki does not look at the validity of anchors.
#[test]
fn a_ca_that_has_expired_vouches_for_nobody() {
    let upstream_ca = Ca::root_with("upstreams", |params| params.not_after = date(NOW + DAY));
    let leaf = upstream_ca.issue_server(&[HOST], |_| {});
    let scene = Scene::with(upstream_ca, Ca::root("ours"), &leaf);
    let endpoint = endpoint(UpstreamTlsOptions { resumption: false, ..scene.options() });
    scene.connect(&endpoint).run(usize::MAX).unwrap();
    scene.clock.set(NOW + DAY + 1);
    let failure = scene.connect(&endpoint).run(usize::MAX).unwrap_err();
    assert_eq!(failure.reason, UpstreamTlsReason::UnknownCa, "{failure}");
}

/// Whoever compares digests would keep the old bundle, and with it the old end.
#[test]
fn a_ca_that_is_renewed_with_its_key_changes_the_digest() {
    let scene = Scene::new(|_| {});
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let same = || KeyPair::try_from(key.serialize_der()).unwrap();
    let ends = [DAY, 2 * DAY].map(|days| {
        let ca = Ca::root_with_key("upstreams", same(), |params| params.not_after = date(NOW + days));
        let trust = bundle("upstreams", &[&ca]);
        let options = UpstreamTlsOptions { trust: trust.clone(), ..scene.options() };
        (*trust.digest(), *UpstreamTls::build(options).unwrap().digest())
    });
    assert_eq!(ends[0].0, ends[1].0, "to clients they are the same");
    assert_ne!(ends[0].1, ends[1].1);
}

/// A pool or a session of other settings must not be taken for these.
#[test]
fn every_setting_changes_the_digest() {
    let scene = Scene::new(|_| {});
    let (ours, renewed) = (scene.our_ca.issue("ringward", |_| {}), scene.our_ca.issue("ringward", |_| {}));
    let base = || scene.options();
    let pinned = crate::TrustOptions { pins: vec![[1; 32], [2; 32]], ..crate::TrustOptions::default() };
    let spiffe = |text| vec![SpiffePattern::parse(text).unwrap()];
    let all = [
        base(),
        UpstreamTlsOptions { trust: bundle("upstreams", &[&scene.upstream_ca, &scene.our_ca]), ..base() },
        UpstreamTlsOptions {
            trust: crate::testing::bundle_with("upstreams", &[&scene.upstream_ca], pinned),
            ..base()
        },
        UpstreamTlsOptions { lists: lists(&scene.upstream_ca), ..base() },
        UpstreamTlsOptions {
            lists: UpstreamLists { sources: vec![[1; 32], [2; 32]], ..lists(&scene.upstream_ca) },
            ..base()
        },
        UpstreamTlsOptions {
            trust: crate::testing::bundle_with(
                "upstreams",
                &[&scene.upstream_ca],
                looked_up(StalePolicy::Deny),
            ),
            ..base()
        },
        UpstreamTlsOptions { server_name: None, ..base() },
        UpstreamTlsOptions { server_name: Some("other.example.com".to_owned()), ..base() },
        UpstreamTlsOptions { spiffe_ids: spiffe("spiffe://td/a"), ..base() },
        UpstreamTlsOptions { spiffe_ids: spiffe("spiffe://td/*"), ..base() },
        UpstreamTlsOptions { credential: Some(presented(&ours)), ..base() },
        UpstreamTlsOptions { credential: Some(presented(&renewed)), ..base() },
        UpstreamTlsOptions { min_version_12: true, ..base() },
        UpstreamTlsOptions { resumption: false, ..base() },
        UpstreamTlsOptions { protocol: UpstreamProtocol::Http2, ..base() },
    ];
    let count = all.len();
    let digests: HashSet<_> = all.map(|options| *UpstreamTls::build(options).unwrap().digest()).into();
    assert_eq!(digests.len(), count);
    assert!(digests.contains(UpstreamTls::build(base()).unwrap().digest()));
}

#[test]
fn patterns_match_whole_segments() {
    for (pattern, id, matches) in [
        ("spiffe://td/ns/pay", "spiffe://td/ns/pay", true),
        ("spiffe://td/ns/pay", "spiffe://td/ns/pay/x", false),
        ("spiffe://td/ns/pay/*", "spiffe://td/ns/pay/x/y", true),
        ("spiffe://td/ns/pay/*", "spiffe://td/ns/pay", false),
        ("spiffe://td/ns/pay/*", "spiffe://td/ns/payroll/x", false),
        ("spiffe://td/*", "spiffe://td/x", true),
        ("spiffe://td/*", "spiffe://td", false),
        ("spiffe://td/*", "spiffe://td2/x", false),
    ] {
        let parsed = SpiffePattern::parse(pattern).unwrap();
        assert_eq!(parsed.matches(&SpiffeId::parse(id).unwrap()), matches, "{pattern} {id}");
    }
    for bad in [
        "",
        "*",
        "spiffe://*",
        "spiffe:///*",
        "spiffe://td",
        "spiffe://td/",
        "https://td/x",
        "spiffe://td/a*",
        "spiffe://td/*/x",
    ] {
        assert!(SpiffePattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn alerts_mean_what_was_asked() {
    use UpstreamTlsReason as Reason;
    for (alert, asked, reason) in [
        (AlertDescription::CertificateRequired, Some(false), Reason::CertificateRefused),
        (AlertDescription::UnknownCA, Some(true), Reason::CertificateRefused),
        (AlertDescription::HandshakeFailure, Some(false), Reason::CertificateRefused),
        (AlertDescription::HandshakeFailure, None, Reason::NoCommonSuite),
        (AlertDescription::ProtocolVersion, None, Reason::NoCommonVersion),
        (AlertDescription::NoApplicationProtocol, None, Reason::AlpnRefused),
        (AlertDescription::UnrecognisedName, None, Reason::PeerAlert),
        (AlertDescription::InternalError, Some(true), Reason::PeerAlert),
    ] {
        let failure = UpstreamTlsFailure::of(&Error::AlertReceived(alert), asked);
        assert_eq!(failure.reason, reason, "{alert:?} {asked:?}: {failure}");
    }
}

#[test]
fn reasons_have_distinct_names_and_messages_are_cut() {
    let names: HashSet<_> = UpstreamTlsReason::ALL.map(UpstreamTlsReason::as_str).into();
    assert_eq!(names.len(), UpstreamTlsReason::ALL.len());
    let failure =
        UpstreamTlsFailure::new(UpstreamTlsReason::Internal, format!("\u{1b}[31m{}", "\u{fc}".repeat(1000)));
    assert!(failure.message.starts_with("?[31m") && failure.message.len() <= 515, "{failure}");
}
