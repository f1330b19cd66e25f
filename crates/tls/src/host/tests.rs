use std::time::Duration;

use rustls::server::{ProducesTickets, StoresServerSessions};

use super::*;
use crate::testing::{Ca, Leaf, NOW, Pair, Pki, at, bundle};
use crate::{
    ClientAuthOptions, DeclineReason, HandshakeReason as Reason, KeyRing, SessionCache, SessionError,
    TrustBundle,
};

const MODES: [ClientAuthMode; 4] =
    [ClientAuthMode::Off, ClientAuthMode::Observe, ClientAuthMode::Optional, ClientAuthMode::Required];

fn tickets() -> Resumption {
    Resumption::Tickets(Arc::new(KeyRing::random(at(NOW), Duration::from_secs(48 * 3600))))
}

fn cache() -> Resumption {
    Resumption::Cache(Arc::new(SessionCache::new(64, 1 << 20)))
}

#[test]
fn nothing_flows_early_and_sessions_are_issued_only_where_they_may_be() {
    let pki = Pki::new();
    for mode in MODES {
        for resumption in [Resumption::Off, tickets(), cache()] {
            let (by_ticket, by_cache) = match (mode, &resumption) {
                (ClientAuthMode::Observe, _) | (_, Resumption::Off) => (false, false),
                (_, Resumption::Tickets(_)) => (true, false),
                (_, Resumption::Cache(_)) => (false, true),
            };
            let mut options = pki.host_options(&pki.options(mode), pki.bundle());
            options.resumption = resumption;
            options.tls.min_version_12 = true;
            let worker = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(0)).unwrap();
            let host = worker.host();
            assert_eq!(host.resumed_by.is_some(), by_ticket || by_cache);
            for config in [&host.config, &host.full, host.tls12.as_ref().unwrap()] {
                assert_eq!(config.max_early_data_size, 0);
                assert!(!config.send_half_rtt_data && !config.enable_secret_extraction);
                assert_eq!(config.alpn_protocols, [b"http/1.1", b"http/1.0"]);
            }
            for config in [&host.config, &host.full] {
                assert_eq!(config.ticketer.enabled(), by_ticket);
                assert_eq!(config.session_storage.can_cache(), by_cache);
                let tickets = if by_ticket || by_cache { (1, 2) } else { (0, 0) };
                assert_eq!((config.send_tls13_tickets, config.max_tls13_tickets), tickets);
            }
            let tls12 = host.tls12.as_ref().unwrap();
            assert!(!tls12.ticketer.enabled() && !tls12.session_storage.can_cache() && tls12.require_ems);
            assert_eq!((tls12.send_tls13_tickets, tls12.max_tls13_tickets), (0, 0));
        }
    }
}

#[test]
fn a_host_needs_a_certificate_and_a_policy_that_works() {
    let pki = Pki::new();
    let build = |edit: &dyn Fn(&mut HostTlsOptions)| {
        let mut options = pki.host_options(&pki.options(ClientAuthMode::Off), pki.bundle());
        edit(&mut options);
        HostTls::build(&options)
    };
    assert!(build(&|_| {}).is_ok());
    assert!(matches!(build(&|options| options.credentials.clear()), Err(TlsBuildError::Credentials(_))));
    let unknown = build(&|options| options.tls.suites = vec!["TLS_NULL".into()]);
    assert!(matches!(unknown, Err(TlsBuildError::UnknownSuite(_))));
    assert!(build(&|options| options.tls.min_version_12 = true).is_ok());
    let version = |worker: HostTls| worker.worker_view(&PathMemo::new(0)).unwrap().host().tls12.is_some();
    assert!(!version(build(&|_| {}).unwrap()), "TLS 1.2 only on demand");
}

/// A client that has been let in once by the first host comes to the second one. Both have one scope, as if a
/// mistake of ours had bound sessions to too little.
struct Mistake {
    pki: Pki,
    resumption: Resumption,
}

impl Mistake {
    fn each() -> [Self; 2] {
        [tickets(), cache()].map(|resumption| Self { pki: Pki::new(), resumption })
    }

    fn worker(&self, auth: &ClientAuthOptions, trust: &Arc<TrustBundle>) -> WorkerTls {
        let mut options = self.pki.host_options(auth, trust.clone());
        options.resumption = self.resumption.clone();
        let mut host = HostTls::build(&options).unwrap();
        let scope = Scope::new("any", "any", &[0; 32], &self.resumption);
        host.resumer =
            Resumer::new(&self.resumption, scope, host.auth.max_auth_age(), host.auth.clock().clone());
        host.worker_view(&PathMemo::new(16)).unwrap()
    }

    /// The outcome at the second host.
    fn between(
        &self,
        leaf: Option<&Leaf>,
        first: (&ClientAuthOptions, &Arc<TrustBundle>),
        second: (&ClientAuthOptions, &Arc<TrustBundle>),
    ) -> (Result<bool, Reason>, Option<DeclineReason>) {
        let mut config = self.pki.client_config(leaf);
        config.resumption = rustls::client::Resumption::in_memory_sessions(4);
        let config = Arc::new(config);
        let before = Pair::new(&self.worker(first.0, first.1), config.clone()).run();
        assert!(before.is_ok(), "{before:?}");
        let mut pair = Pair::new(&self.worker(second.0, second.1), config);
        let came = match pair.run() {
            Ok(()) => Ok(pair.session.resumed().is_some()),
            Err(SessionError::Handshake(failure)) => Err(failure.reason),
            Err(other) => panic!("{other}"),
        };
        assert!(came.is_ok() || pair.session.peer_identity().is_none());
        (came, pair.session.declined())
    }
}

#[test]
fn without_scopes_sessions_are_still_judged() {
    use ClientAuthMode::{Off, Optional, Required};
    for mistake in Mistake::each() {
        let pki = &mistake.pki;
        let (trusted, other) = (pki.bundle(), bundle("others", &[&Ca::root("Other CA")]));
        let (off, optional, required) = (pki.options(Off), pki.options(Optional), pki.options(Required));
        let lax = ClientAuthOptions { require_eku: false, ..required.clone() };
        let alice = pki.client("alice");
        let no_eku = pki.client_ca.issue("bob", |p| p.extended_key_usages.clear());
        let refused = |reason| (Err(reason), Some(DeclineReason::Refused(reason)));
        let between = |leaf, first, second| mistake.between(leaf, first, second);

        // The same place, to see that resumption is possible at all.
        let same = between(Some(&alice), (&required, &trusted), (&required, &trusted));
        assert_eq!(same, (Ok(true), None));
        let removed = between(Some(&alice), (&required, &trusted), (&required, &other));
        assert_eq!(removed, refused(Reason::UnknownIssuer));
        let removed = between(Some(&alice), (&required, &trusted), (&optional, &other));
        assert_eq!(removed, refused(Reason::UnknownIssuer));
        for anonymous in [&off, &optional] {
            let demanded = between(None, (anonymous, &trusted), (&required, &trusted));
            assert_eq!(demanded, refused(Reason::NoCertificate));
        }
        let tightened = between(Some(&no_eku), (&lax, &trusted), (&required, &trusted));
        assert_eq!(tightened, refused(Reason::BadEku));
        // Nobody may be more than a new client would be.
        let dropped = between(Some(&alice), (&required, &trusted), (&off, &trusted));
        assert_eq!(dropped, (Ok(false), Some(DeclineReason::Refused(Reason::UnknownIssuer))));
    }
}

#[test]
fn a_session_whose_auth_time_is_not_told_is_not_resumed() {
    /// Opens what the real one opens, and tells no time, or another one.
    #[derive(Debug)]
    struct Forgetful {
        ticketer: Arc<dyn ProducesTickets>,
        storage: Arc<dyn StoresServerSessions>,
        offers: Arc<OfferSlot>,
        told: Option<i64>,
    }

    impl Forgetful {
        fn forget(&self) {
            self.offers.end();
            if self.told.is_some() {
                self.offers.opened(self.told);
            }
        }
    }

    impl ProducesTickets for Forgetful {
        fn enabled(&self) -> bool {
            self.ticketer.enabled()
        }

        fn lifetime(&self) -> u32 {
            self.ticketer.lifetime()
        }

        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            self.ticketer.encrypt(plain)
        }

        fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
            let opened = self.ticketer.decrypt(cipher);
            self.forget();
            opened
        }
    }

    impl StoresServerSessions for Forgetful {
        fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
            self.storage.put(key, value)
        }

        fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            self.storage.get(key)
        }

        fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
            let taken = self.storage.take(key);
            self.forget();
            taken
        }

        fn can_cache(&self) -> bool {
            self.storage.can_cache()
        }
    }

    let now = NOW as i64;
    let cases = [
        (None, Some(DeclineReason::NoAuthTime)),
        (Some(now), None),
        (Some(now + 300), None),
        (Some(now + 301), Some(DeclineReason::NoAuthTime)),
        (Some(i64::MAX), Some(DeclineReason::NoAuthTime)),
        (Some(0), Some(DeclineReason::Refused(Reason::TooOld))),
    ];
    let pki = Pki::new();
    for resumption in [tickets(), cache()] {
        for (told, declined) in cases {
            let mut options = pki.host_options(&pki.options(ClientAuthMode::Required), pki.bundle());
            options.resumption = resumption.clone();
            let worker = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(16)).unwrap();
            let mut host = Rc::into_inner(worker.0).unwrap();
            let mut config = ServerConfig::clone(&host.config);
            let forgetful = Arc::new(Forgetful {
                ticketer: config.ticketer.clone(),
                storage: config.session_storage.clone(),
                offers: host.offers.clone(),
                told,
            });
            (config.ticketer, config.session_storage) = (forgetful.clone(), forgetful);
            host.config = Arc::new(config);
            let worker = WorkerTls(Rc::new(host));

            let mut config = pki.client_config(Some(&pki.client("alice")));
            config.resumption = rustls::client::Resumption::in_memory_sessions(4);
            let config = Arc::new(config);
            Pair::new(&worker, config.clone()).run().unwrap();
            let mut pair = Pair::new(&worker, config);
            pair.run().unwrap();
            assert_eq!(pair.session.declined(), declined, "{told:?}");
            assert_eq!(pair.session.resumed().is_some(), declined.is_none());
            assert_eq!(pair.session.peer_identity().unwrap().common_names(), ["alice"]);
        }
    }
}

#[test]
fn a_session_of_stock_rustls_is_not_resumed() {
    // It knows neither scope nor auth_time: even the wrong ticketer must not let anybody in unjudged.
    let pki = Pki::new();
    let options = pki.host_options(&pki.options(ClientAuthMode::Required), pki.bundle());
    let worker = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(16)).unwrap();
    let mut host = Rc::into_inner(worker.0).unwrap();
    let mut config = ServerConfig::clone(&host.config);
    config.session_storage = rustls::server::ServerSessionMemoryCache::new(4);
    config.send_tls13_tickets = 1;
    host.config = Arc::new(config);
    let worker = WorkerTls(Rc::new(host));
    let mut config = pki.client_config(Some(&pki.client("alice")));
    config.resumption = rustls::client::Resumption::in_memory_sessions(4);
    let config = Arc::new(config);
    for declined in [None, Some(DeclineReason::NoAuthTime)] {
        let mut pair = Pair::new(&worker, config.clone());
        pair.run().unwrap();
        assert_eq!((pair.session.declined(), pair.session.resumed()), (declined, None));
    }
}
