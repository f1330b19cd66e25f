//! Clients that come back with a session: what they get when nothing has changed, and when something has.

use std::sync::Mutex;
use std::time::Duration;

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};

use super::*;
use crate::testing::at;
use crate::{
    ClientAuthOptions, DenyEntry, DenyList, DenyTarget, HostTlsOptions, KeyRing,
    Resumption as HostResumption, Revocation, RevocationParts, SessionCache, TlsPolicy, TrustBundle,
};

mod start_over;
mod tls12;

const HOUR: u64 = 60 * 60;

/// What a client keeps of its sessions. Unlike that of rustls it does not remember which group a server likes, and
/// its owner may come back with another certificate.
#[derive(Debug, Default)]
pub(super) struct Wallet {
    tickets: Mutex<Vec<Tls13ClientSessionValue>>,
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    certificate: Mutex<Option<Arc<CertifiedKey>>>,
}

impl ClientSessionStore for Wallet {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tickets.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets.lock().unwrap().pop()
    }
}

impl ResolvesClientCert for Wallet {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certificate.lock().unwrap().clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client that comes back.
pub(super) struct Returning {
    pub(super) config: Arc<ClientConfig>,
    wallet: Arc<Wallet>,
}

impl Returning {
    pub(super) fn new(pki: &Pki, leaf: Option<&Leaf>) -> Self {
        Self::with(pki.client_config(None), leaf)
    }

    fn with(mut config: ClientConfig, leaf: Option<&Leaf>) -> Self {
        let wallet = Arc::<Wallet>::default();
        config.client_auth_cert_resolver = wallet.clone();
        config.resumption = Resumption::store(wallet.clone());
        // Its clock stands still: it offers what it has, however old.
        config.time_provider = crate::testing::ManualClock::new();
        let client = Self { config: Arc::new(config), wallet };
        client.present(leaf);
        client
    }

    /// From now on it has this certificate.
    fn present(&self, leaf: Option<&Leaf>) {
        let certified = |leaf: &Leaf| {
            let key = provider::sign::any_supported_type(&leaf.key_der()).unwrap();
            Arc::new(CertifiedKey::new(leaf.chain.clone(), key))
        };
        *self.wallet.certificate.lock().unwrap() = leaf.map(certified);
    }

    fn tickets(&self) -> usize {
        self.wallet.tickets.lock().unwrap().len()
    }

    pub(super) fn begin(&self, worker: &WorkerTls) -> Pair {
        Pair::new(worker, self.config.clone())
    }

    /// Connects, and has a word if that succeeds.
    fn connect(&self, worker: &WorkerTls) -> Came {
        let mut pair = self.begin(worker);
        match pair.run() {
            Ok(()) => {
                pair.client_says(b"ping");
                pair.run().unwrap();
                pair.server_says(b"pong");
                assert_eq!((&pair.plain[..], &pair.answer[..]), (&b"ping"[..], &b"pong"[..]));
                let session = pair.session;
                let resumed = pair.client.handshake_kind() == Some(HandshakeKind::Resumed);
                assert_eq!(resumed, session.resumed().is_some(), "both sides agree");
                match session.resumed() {
                    Some(by) => {
                        assert_eq!(session.declined(), None);
                        Came::Resumed(by, session)
                    }
                    None => Came::Full(session.declined(), session),
                }
            }
            Err(SessionError::Handshake(failure)) => {
                assert!(pair.session.peer_identity().is_none() && pair.session.resumed().is_none());
                Came::Refused(failure.reason, pair.session.declined())
            }
            Err(other) => panic!("unexpected: {other}"),
        }
    }
}

/// How a client came in, or did not.
#[derive(Debug)]
enum Came {
    Resumed(ResumedBy, ServerSession),
    Full(Option<DeclineReason>, ServerSession),
    Refused(Reason, Option<DeclineReason>),
}

impl Came {
    #[track_caller]
    fn resumed(self, by: ResumedBy) -> ServerSession {
        match self {
            Self::Resumed(how, session) if how == by => session,
            other => panic!("expected a session resumed by {by:?}, got {other:?}"),
        }
    }

    #[track_caller]
    fn full(self, declined: Option<DeclineReason>) -> ServerSession {
        match self {
            Self::Full(reason, session) if reason == declined => session,
            other => panic!("expected a full handshake ({declined:?}), got {other:?}"),
        }
    }

    #[track_caller]
    fn refused(self, expected: Reason, because: Option<DeclineReason>) {
        match self {
            Self::Refused(reason, declined) if (reason, declined) == (expected, because) => {}
            other => panic!("expected {expected} ({because:?}), got {other:?}"),
        }
    }
}

/// Hosts with one way to resume.
pub(super) struct Site {
    pub(super) pki: Pki,
    pub(super) resumption: HostResumption,
    pub(super) by: ResumedBy,
    pub(super) memo: PathMemo,
}

impl Site {
    pub(super) fn each() -> [Self; 2] {
        let ring = KeyRing::random(at(NOW), Duration::from_secs(48 * HOUR));
        let site = |by, resumption| Self { pki: Pki::new(), resumption, by, memo: PathMemo::new(64) };
        [
            site(ResumedBy::Ticket, HostResumption::Tickets(Arc::new(ring))),
            site(ResumedBy::Cache, HostResumption::Cache(Arc::new(SessionCache::new(1024, 1 << 20)))),
        ]
    }

    pub(super) fn options(&self, auth: &ClientAuthOptions, trust: Arc<TrustBundle>) -> HostTlsOptions {
        let resumption = self.resumption.clone();
        HostTlsOptions { resumption, ..self.pki.host_options(auth, trust) }
    }

    fn worker_with(&self, edit: impl FnOnce(&mut HostTlsOptions)) -> WorkerTls {
        let mut options = self.options(&self.pki.options(ClientAuthMode::Required), self.pki.bundle());
        edit(&mut options);
        HostTls::build(&options).unwrap().worker_view(&self.memo).unwrap()
    }

    /// The host by these rules, trusting `trust`.
    fn worker_by(&self, auth: &ClientAuthOptions, trust: Arc<TrustBundle>) -> WorkerTls {
        HostTls::build(&self.options(auth, trust)).unwrap().worker_view(&self.memo).unwrap()
    }

    fn worker_in(&self, mode: ClientAuthMode) -> WorkerTls {
        self.worker_by(&self.pki.options(mode), self.pki.bundle())
    }

    fn worker(&self) -> WorkerTls {
        self.worker_in(ClientAuthMode::Required)
    }
}

const UNKNOWN: Option<DeclineReason> = Some(DeclineReason::Unknown);

fn refused_for(reason: Reason) -> Option<DeclineReason> {
    Some(DeclineReason::Refused(reason))
}

#[test]
fn a_client_that_comes_back_resumes_and_is_who_it_was() {
    for site in Site::each() {
        let (worker, alice) = (site.worker(), site.pki.client("alice"));
        let client = Returning::new(&site.pki, Some(&alice));
        let first = client.connect(&worker).full(None);
        assert_eq!(client.tickets(), 1, "one is enough");
        for round in 1..5 {
            site.pki.clock.set(NOW + round);
            let session = client.connect(&worker).resumed(site.by);
            assert_eq!(session.peer_identity(), first.peer_identity());
            assert_eq!(session.peer_chain().unwrap(), alice.chain);
            assert_eq!(session.peer_valid_until_unix(), first.peer_valid_until_unix());
            assert_eq!(session.auth_time_unix(), Some(NOW as i64), "not renewed");
            assert_eq!(client.tickets(), 1, "each resumption gives the next");
        }
        assert_eq!(site.memo.len(), 1, "and costs no signature check");
    }
}

#[test]
fn sessions_are_shared_by_workers_and_generations() {
    for site in Site::each() {
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&site.worker()).full(None);
        // Another worker of another snapshot with the same rules, which remembers nothing.
        let options = site.options(&site.pki.options(ClientAuthMode::Required), site.pki.bundle());
        let other = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(0)).unwrap();
        let session = client.connect(&other).resumed(site.by);
        assert_eq!(session.peer_identity().unwrap().common_names(), ["alice"]);
    }
}

#[test]
fn anonymous_clients_resume_too() {
    for site in Site::each() {
        for mode in [ClientAuthMode::Off, ClientAuthMode::Optional] {
            let (worker, client) = (site.worker_in(mode), Returning::new(&site.pki, None));
            client.connect(&worker).full(None);
            let session = client.connect(&worker).resumed(site.by);
            assert!(session.peer_identity().is_none() && session.peer_chain().is_none());
        }
    }
}

#[test]
fn a_host_that_does_not_resume_gives_nothing_to_resume() {
    let [site, _] = Site::each();
    let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
    let off = site.worker_with(|options| options.resumption = HostResumption::Off);
    client.connect(&off).full(None);
    assert_eq!(client.tickets(), 0);
    // And does not look at what others gave.
    client.connect(&site.worker()).full(None);
    assert_eq!(client.tickets(), 1);
    client.connect(&off).full(None);
}

#[test]
fn a_host_that_observes_does_not_resume() {
    for site in Site::each() {
        let worker = site.worker_in(ClientAuthMode::Observe);
        // The chain is good, the proof is not: it must not come back as if it were.
        let mut config = site.pki.client_config(None);
        config.resumption = Resumption::in_memory_sessions(8);
        let stolen = StolenChain::new(&site.pki.client("alice"), &site.pki.client("mallory"));
        config.client_auth_cert_resolver = Arc::new(stolen);
        let config = Arc::new(config);
        for _ in 0..2 {
            let mut pair = Pair::new(&worker, config.clone());
            pair.run().unwrap();
            assert_eq!(pair.client.tls13_tickets_received(), 0);
            assert_eq!(pair.session.observed().unwrap().verdict, Err(Reason::BadSignature));
        }
    }
}

#[test]
fn a_session_ends_with_the_trust_in_its_ca() {
    for site in Site::each() {
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&site.worker()).full(None);
        let withdrawn = bundle("partners", &[&Ca::root("New CA")]);
        let worker = site.worker_by(&site.pki.options(ClientAuthMode::Required), withdrawn);
        client.connect(&worker).refused(Reason::UnknownIssuer, UNKNOWN);
    }
}

#[test]
fn a_session_ends_with_its_certificate_and_a_new_one_gets_in() {
    for site in Site::each() {
        let alice = site.pki.client_ca.issue("alice", |p| p.not_after = date(NOW + 60));
        let client = Returning::new(&site.pki, Some(&alice));
        let worker = site.worker();
        client.connect(&worker).full(None);
        site.pki.clock.set(NOW + 60);
        client.connect(&worker).resumed(site.by);
        site.pki.clock.set(NOW + 61);
        client.connect(&worker).refused(Reason::Expired, refused_for(Reason::Expired));

        // One that renewed its certificate in time only has a full handshake.
        site.pki.clock.set(NOW);
        client.connect(&worker).full(None);
        client.present(Some(&site.pki.client("renewed")));
        site.pki.clock.set(NOW + 61);
        let session = client.connect(&worker).full(refused_for(Reason::Expired));
        assert_eq!(session.peer_identity().unwrap().common_names(), ["renewed"]);
        assert_eq!(session.auth_time_unix(), Some(NOW as i64 + 61));
        // And is given a session of its own again.
        let session = client.connect(&worker).resumed(site.by);
        assert_eq!(session.peer_identity().unwrap().common_names(), ["renewed"]);
    }
}

#[test]
fn a_session_ends_when_its_certificate_is_denied_although_its_scope_stays() {
    for site in Site::each() {
        let alice = site.pki.client("alice");
        let client = Returning::new(&site.pki, Some(&alice));
        let worker = site.worker();
        let living = client.connect(&worker).full(None);
        let mut deny = DenyList::new();
        let entry = DenyEntry {
            target: DenyTarget::Fingerprint(crate::digest::sha256(&alice.chain[0])),
            reason: "lost".to_owned(),
            added_unix: NOW as i64,
            by: "test".to_owned(),
            expires_unix: None,
        };
        deny.add(entry).unwrap();
        let parts = RevocationParts { crls: vec![], deny: Arc::new(deny), suspended: vec![] };
        let revocation = Revocation::new(parts);
        let auth = ClientAuthOptions { revocation, ..site.pki.options(ClientAuthMode::Required) };
        let denying = site.worker_by(&auth, site.pki.bundle());
        client.connect(&denying).refused(Reason::DenyListed, refused_for(Reason::DenyListed));
        assert_eq!(denying.readmit(&living).unwrap_err().reason, Reason::DenyListed);
        // Another certificate gets in, with the same ticket.
        client.connect(&worker).full(None);
        client.present(Some(&site.pki.client("renewed")));
        let session = client.connect(&denying).full(refused_for(Reason::DenyListed));
        assert_eq!(session.peer_identity().unwrap().common_names(), ["renewed"]);
    }
}

#[test]
fn an_anonymous_session_does_not_pass_where_a_certificate_is_required() {
    for site in Site::each() {
        for mode in [ClientAuthMode::Off, ClientAuthMode::Optional] {
            let client = Returning::new(&site.pki, None);
            client.connect(&site.worker_in(mode)).full(None);
            client.connect(&site.worker()).refused(Reason::NoCertificate, UNKNOWN);
        }
    }
}

#[test]
fn a_session_ends_when_the_policy_is_tightened() {
    type Edit = fn(&mut ClientAuthOptions);
    let edits: [(Edit, Reason); 2] = [
        (|options| options.require_eku = true, Reason::BadEku),
        (|options| options.intermediates_max = 0, Reason::ChainTooLong),
    ];
    for site in Site::each() {
        let issuing = site.pki.client_ca.intermediate("Issuing");
        let alice = issuing.issue("alice", |p| p.extended_key_usages.clear()).via([&issuing]);
        let lax = ClientAuthOptions { require_eku: false, ..site.pki.options(ClientAuthMode::Required) };
        for (edit, reason) in edits {
            let client = Returning::new(&site.pki, Some(&alice));
            client.connect(&site.worker_by(&lax, site.pki.bundle())).full(None);
            client.connect(&site.worker_by(&lax, site.pki.bundle())).resumed(site.by);
            let mut tight = lax.clone();
            edit(&mut tight);
            client.connect(&site.worker_by(&tight, site.pki.bundle())).refused(reason, UNKNOWN);
        }
    }
}

#[test]
fn a_session_is_of_use_only_where_it_was_made() {
    for site in Site::each() {
        let ring = KeyRing::random(at(NOW), Duration::from_secs(HOUR));
        let other_keys = match site.by {
            ResumedBy::Ticket => HostResumption::Tickets(Arc::new(ring)),
            ResumedBy::Cache => HostResumption::Cache(Arc::new(SessionCache::new(4, 1 << 20))),
        };
        // The client knows all of them by one name.
        let elsewhere = [
            site.worker_with(|options| options.name = "*.example.com".into()),
            site.worker_with(|options| options.listener = "internal".into()),
            site.worker_with(|options| options.resumption = other_keys),
        ];
        for other in elsewhere {
            let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
            client.connect(&site.worker()).full(None);
            client.connect(&other).full(UNKNOWN);
            // What it got there is of use there, and what it got here here.
            client.connect(&other).resumed(site.by);
        }
    }
}

#[test]
fn a_ticket_is_no_entry_of_the_cache_and_the_other_way_round() {
    let [tickets, cache] = Site::each();
    let by_cache = tickets.worker_with(|options| options.resumption = cache.resumption.clone());
    let by_tickets = tickets.worker();
    let client = Returning::new(&tickets.pki, Some(&tickets.pki.client("alice")));
    client.connect(&by_tickets).full(None);
    client.connect(&by_cache).full(UNKNOWN);
    client.connect(&by_tickets).full(UNKNOWN);
    client.connect(&by_tickets).resumed(ResumedBy::Ticket);
}

#[test]
fn sessions_of_another_name_of_the_host_are_for_that_name() {
    // rustls compares the names; the host is the same. The client is made to mix them up.
    for site in Site::each() {
        let client = Returning::new(&site.pki, None);
        let worker = site.worker_in(ClientAuthMode::Off);
        client.connect(&worker).full(None);
        let mut pair = Pair::named(&worker, client.config.clone(), "www.example.com");
        let mut hello = Vec::new();
        pair.client.write_tls(&mut hello).unwrap();
        let mut outgoing = Vec::new();
        pair.incoming = hello;
        pair.process(&mut outgoing).unwrap();
        assert_eq!(pair.session.declined(), Some(DeclineReason::Incompatible));
        assert_eq!(pair.session.connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn the_proof_of_the_key_grows_old_however_often_a_session_is_resumed() {
    for site in Site::each() {
        let auth = ClientAuthOptions {
            max_auth_age: Duration::from_secs(8 * HOUR),
            ..site.pki.options(ClientAuthMode::Required)
        };
        let worker = site.worker_by(&auth, site.pki.bundle());
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        for start in [NOW, NOW + 9 * HOUR] {
            let declined = match site.by {
                _ if start == NOW => None,
                ResumedBy::Ticket => refused_for(Reason::TooOld),
                // It has expired there.
                ResumedBy::Cache => UNKNOWN,
            };
            site.pki.clock.set(start);
            let session = client.connect(&worker).full(declined);
            assert_eq!(session.peer_valid_until_unix(), Some((start + 8 * HOUR) as i64));
            for hours in [3, 6] {
                site.pki.clock.set(start + hours * HOUR);
                let session = client.connect(&worker).resumed(site.by);
                assert_eq!(session.auth_time_unix(), Some(start as i64));
                assert_eq!(session.peer_valid_until_unix(), Some((start + 8 * HOUR) as i64));
            }
        }
    }
}

#[test]
fn the_age_of_a_proof_is_judged_to_the_second() {
    let [site, _] = Site::each();
    for (age, resumes) in [(8 * HOUR, true), (8 * HOUR + 1, false)] {
        site.pki.clock.set(NOW);
        let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&site.pki.client("alice"))));
        let living = client.connect(&worker).full(None);
        site.pki.clock.set(NOW + age);
        assert_eq!(
            worker.readmit(&living).map_err(|failure| failure.reason),
            if resumes { Ok(()) } else { Err(Reason::TooOld) }
        );
        match client.connect(&worker) {
            Came::Resumed(..) => assert!(resumes),
            other => drop(other.full(refused_for(Reason::TooOld))),
        }
    }
}

#[test]
fn a_cached_session_is_used_once() {
    let [_, site] = Site::each();
    let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&site.pki.client("alice"))));
    client.connect(&worker).full(None);
    let mut pair = client.begin(&worker);
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    // The same ClientHello three times, as it is seen on the network.
    let kinds = [(); 3].map(|()| {
        let (mut session, mut outgoing) = (new_session(&worker), Vec::new());
        session.process(&mut hello.clone(), &mut Vec::new(), &mut outgoing).unwrap();
        (session.connection.handshake_kind().unwrap(), session.declined())
    });
    let again = (HandshakeKind::Full, UNKNOWN);
    assert_eq!(kinds, [(HandshakeKind::Resumed, None), again, again]);
}

#[test]
fn altered_and_cut_tickets_mean_a_full_handshake() {
    for site in Site::each() {
        let worker = site.worker();
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&worker).full(None);
        let mut hello = Vec::new();
        client.begin(&worker).client.write_tls(&mut hello).unwrap();
        let psk = find_psk(&hello);
        for position in [psk.identity.start, psk.identity.start + 8, psk.identity.end - 1] {
            let mut altered = hello.clone();
            altered[position] ^= 1;
            let (mut session, mut outgoing) = (new_session(&worker), Vec::new());
            let progress = session.process(&mut altered, &mut Vec::new(), &mut outgoing).unwrap();
            assert!(progress.handshaking && !outgoing.is_empty());
            assert_eq!(session.declined(), UNKNOWN);
            assert_eq!(session.connection.handshake_kind(), Some(HandshakeKind::Full));
        }
        // With an altered binder it is a lie, and the end (RFC 8446 §4.2.11.2).
        let mut altered = hello.clone();
        *altered.last_mut().unwrap() ^= 1;
        let (mut session, mut outgoing) = (new_session(&worker), Vec::new());
        let error = session.process(&mut altered, &mut Vec::new(), &mut outgoing).unwrap_err();
        assert!(matches!(error, SessionError::Handshake(failure) if failure.reason == Reason::Malformed));
        assert_eq!(outgoing.len(), 7, "an alert and nothing else");
        assert!(session.auth_time_unix().is_none());
    }
}

/// Where the only PSK of a ClientHello lies: it is the last extension (RFC 8446 §4.2.11).
struct Psk {
    /// The extension's type.
    start: usize,
    identity: std::ops::Range<usize>,
}

fn find_psk(hello: &[u8]) -> Psk {
    let number = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    // Type, length, length of the identities, of the identity; age; length of the binders, of the binder.
    let start = (0..hello.len() - 8)
        .find(|at| {
            hello[*at..*at + 2] == [0, 41]
                && at + 4 + number(at + 2) == hello.len()
                && number(at + 4) == number(at + 6) + 2 + 4
        })
        .expect("a pre_shared_key at the end");
    Psk { start, identity: start + 8..start + 8 + number(start + 6) }
}

#[test]
fn a_chain_too_large_for_a_session_is_served_without_one() {
    for site in Site::each() {
        let padding = |p: &mut rcgen::CertificateParams| {
            let oid = [1, 3, 6, 1, 4, 1, 99999, 1];
            let content = [&[4, 0x82, 0x21, 0x34][..], &[0; 8500]].concat();
            p.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&oid, content)];
        };
        let alice = site.pki.client_ca.issue("alice", padding);
        let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&alice)));
        for _ in 0..2 {
            let session = client.connect(&worker).full(None);
            assert_eq!(session.peer_identity().unwrap().common_names(), ["alice"]);
            assert_eq!(client.tickets(), 0);
        }
    }
}

#[test]
fn no_identity_comes_out_of_a_session_before_the_handshake_is_complete() {
    for site in Site::each() {
        let (worker, client) = (site.worker(), Returning::new(&site.pki, Some(&site.pki.client("alice"))));
        client.connect(&worker).full(None);
        let mut pair = client.begin(&worker);
        pair.client.write_tls(&mut pair.incoming).unwrap();
        let mut outgoing = Vec::new();
        pair.process(&mut outgoing).unwrap();
        let session = &pair.session;
        assert!(session.admitted.is_some(), "judged");
        assert!(session.peer_identity().is_none() && session.peer_chain().is_none());
        assert!(session.resumed().is_none() && session.auth_time_unix().is_none());
        assert!(session.peer_valid_until_unix().is_none());
        // Nor after a Finished that is none.
        pair.deliver(&outgoing);
        pair.client.write_tls(&mut pair.incoming).unwrap();
        *pair.incoming.last_mut().unwrap() ^= 1;
        assert!(pair.process(&mut outgoing).is_err());
        assert!(pair.session.peer_identity().is_none() && pair.session.resumed().is_none());
    }
}

#[test]
fn early_data_is_never_possible() {
    for site in Site::each() {
        let worker = site.worker();
        let mut config = site.pki.client_config(None);
        config.enable_early_data = true;
        let client = Returning::with(config, Some(&site.pki.client("alice")));
        client.connect(&worker).full(None);
        let mut pair = client.begin(&worker);
        assert!(pair.client.early_data().is_none(), "the session does not allow it");
        pair.run().unwrap();
        assert!(!pair.client.is_early_data_accepted());
        assert_eq!(pair.session.resumed(), Some(site.by));
    }
}

#[test]
fn hostile_hellos_with_sessions_never_panic_and_never_open() {
    for site in Site::each() {
        let worker = site.worker_with(tls12::with_tls12);
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        client.connect(&worker).full(None);
        let mut hello = Vec::new();
        client.begin(&worker).client.write_tls(&mut hello).unwrap();
        let mut noise = Noise(5);
        for _ in 0..400 {
            let mut bytes = hello.clone();
            for _ in 0..=noise.below(3) {
                let position = noise.below(bytes.len());
                match noise.below(3) {
                    0 => bytes[position] ^= 1 << noise.below(8),
                    1 => bytes[position] = noise.next() as u8,
                    _ => drop(bytes.splice(position..position, hello[..noise.below(20)].to_vec())),
                }
            }
            let (mut session, mut plain, mut outgoing) = (new_session(&worker), Vec::new(), Vec::new());
            let _ = session.process(&mut bytes, &mut plain, &mut outgoing);
            assert!(plain.is_empty() && session.peer_identity().is_none() && session.resumed().is_none());
            assert!(session.is_handshaking() || session.auth_time_unix().is_none());
        }
    }
}

/// What decides about who goes first under load.
#[test]
fn a_session_of_ours_is_known_before_the_handshake() {
    for site in Site::each() {
        let (worker, elsewhere) = (site.worker(), site.worker_with(|options| options.name = "other".into()));
        let client = Returning::new(&site.pki, Some(&site.pki.client("alice")));
        let hello = || {
            let name = HOST.try_into().unwrap();
            let mut bytes = Vec::new();
            ClientConnection::new(client.config.clone(), name).unwrap().write_tls(&mut bytes).unwrap();
            let hello = crate::HelloReader::new().feed(&bytes).unwrap().unwrap();
            (hello, bytes)
        };
        let (first, bytes) = hello();
        assert!(!worker.knows_session(&first, &bytes), "it has none");
        client.connect(&worker).full(None);
        let (next, bytes) = hello();
        assert!(worker.knows_session(&next, &bytes));
        assert!(worker.knows_session(&next, &bytes), "asking does not use it up");
        assert!(!elsewhere.knows_session(&next, &bytes), "one of another host");
        let in_parts = ClientHello { in_one_record: false, ..next.clone() };
        assert!(!worker.knows_session(&in_parts, &bytes));
        site.pki.clock.set(NOW + 1000 * HOUR);
        assert!(!worker.knows_session(&next, &bytes), "too old");
    }
}
