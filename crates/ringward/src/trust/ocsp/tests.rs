use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use ringward_config::HostName;
use ringward_testkit::{
    Authority, Crl, DEADLINE, Issued, Leaf, OcspAnswer, OcspDatabase, OcspRefusal, Pki, RevocationReason,
};
use ringward_tls::{CrlFloors, DenyEntry, DenyList, DenyTarget, OcspAnswer as Known, OcspKey, PeerPath};

use super::*;
use crate::trust::responder::OCSP_FETCH;
use crate::trust::testing::{Server, Step, dead_address, issuer, naming_responder, ok, path, reply};

/// A keeper with a clock of its own.
struct Rig {
    keeper: OcspKeeper,
    trust: Arc<TrustKeeper>,
    ahead: Arc<AtomicI64>,
    root: Authority,
}

impl Rig {
    /// Clients of one root; `url` is the responder of their bundle, `hosts` those that they may name.
    fn start(url: Option<String>, hosts: &[&str]) -> Rig {
        let trust = TrustKeeper::for_test(None);
        let ahead = Arc::new(AtomicI64::new(0));
        let limits = ringward_fetch_limits();
        let fetcher = Fetcher::new(limits);
        let mut keeper = OcspKeeper::new(trust.clone(), Arc::default(), fetcher, Clock::ahead(ahead.clone()));
        let root = Authority::root("Root");
        let hosts: Vec<HostName> = hosts.iter().map(|host| HostName::parse(host).unwrap()).collect();
        let responders = BundleResponders {
            url: url.map(|url| Url::parse(&url).unwrap()),
            hosts: Arc::new(AllowList::new(&hosts)),
        };
        let root_issuer = issuer(&root);
        keeper.configure(OcspSettings {
            is_on: true,
            bundles: [("partners".to_owned(), responders)].into(),
            issuers: [(root_issuer.id(), root_issuer)].into(),
            lists: Vec::new(),
            tls: None,
        });
        Rig { keeper, trust, ahead, root }
    }

    fn client(&self) -> (Issued, Arc<PeerPath>) {
        let client = self.root.issue(&Leaf::client("a"));
        let path = path("partners", &client, &self.root, &[]);
        (client, path)
    }

    /// What a worker does that meets a certificate.
    fn look(&self, path: &Arc<PeerPath>) -> Option<Known> {
        let table = self.trust.ocsp();
        let known = table.get(&key(path), self.keeper.clock.now_unix());
        if known.is_none() {
            table.ask(OcspQuery::about_leaf(path.clone()).unwrap());
        }
        known
    }

    /// What a worker that waits is told in the end.
    async fn answer(&mut self, path: &Arc<PeerPath>) -> Known {
        let mut known = self.look(path);
        let start = Instant::now();
        while known.is_none() {
            assert!(start.elapsed() < DEADLINE);
            self.keeper.turn().await;
            known = self.trust.ocsp().get(&key(path), self.keeper.clock.now_unix());
        }
        known.unwrap()
    }

    /// Lets the keeper work until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < DEADLINE, "{what}");
            let _ = tokio::time::timeout(Duration::from_millis(100), self.keeper.turn()).await;
        }
    }

    fn pass_time(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }
}

fn ringward_fetch_limits() -> crate::trust::fetch::FetchLimits {
    crate::trust::fetch::FetchLimits { idle_timeout: Duration::from_millis(300), ..OCSP_FETCH }
}

fn key(path: &PeerPath) -> OcspKey {
    OcspKey::of(path.leaf())
}

/// A responder that says what is set at last; nothing at first.
async fn responder() -> (Server, Arc<Mutex<Vec<u8>>>) {
    let said: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shown = said.clone();
    (Server::start(move |_| ok(&shown.lock().unwrap())).await, said)
}

#[tokio::test]
async fn what_the_responder_says_reaches_the_workers() {
    let (server, said) = responder().await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    let table = [
        (OcspAnswer::good(&client, &rig.root), Known::Good),
        (OcspAnswer::unknown(&client, &rig.root), Known::Unknown),
        (OcspAnswer::revoked(&client, &rig.root, RevocationReason::KeyCompromise), Known::Revoked),
    ];
    for (answer, expected) in table {
        *said.lock().unwrap() = answer.signed_by_authority(&rig.root);
        let mut fresh = Rig::start(Some(server.url("/")), &[]);
        (fresh.root, fresh.keeper.settings) = (rig.root.clone(), rig.keeper.settings.clone());
        assert_eq!(fresh.answer(&path).await, expected);
        let asked = server.asked().pop().unwrap();
        assert_eq!(
            (asked.method.as_str(), asked.field("content-type")),
            ("POST", Some("application/ocsp-request"))
        );
    }
    // For people.
    rig.pass_time(5);
    let trust = rig.trust.clone();
    assert_eq!(rig.answer(&path).await, Known::Revoked);
    rig.until("a report", move || trust.reports().ocsp.is_some_and(|status| status.revoked == 1)).await;
    // Of the last one there is a new generation, so that living connections are looked at.
    assert_ne!(rig.trust.current().0, TrustVersion::default());
}

#[tokio::test]
async fn lies_are_no_answers() {
    let (server, said) = responder().await;
    let rig = Rig::start(None, &[]);
    let (client, path) = rig.client();
    let other = Authority::root("Root");
    let good = OcspAnswer::good(&client, &rig.root);
    let mut flipped = good.signed_by_authority(&rig.root);
    *flipped.last_mut().unwrap() ^= 1;
    for lie in [
        good.signed_by_authority(&other),
        good.signed_by(&other.issue(&Leaf::ocsp_signer("OCSP"))),
        good.signed_by(&rig.root.issue(&Leaf::client("OCSP"))),
        flipped,
        good.clone().serial(&[1]).signed_by_authority(&rig.root),
        OcspAnswer::good(&client, &other).signed_by_authority(&rig.root),
        good.clone().stale().signed_by_authority(&rig.root),
        good.from_the_future().signed_by_authority(&rig.root),
        OcspAnswer::refusal(OcspRefusal::TryLater),
        b"<html>".to_vec(),
        Vec::new(),
    ] {
        *said.lock().unwrap() = lie;
        let mut fresh = Rig::start(Some(server.url("/")), &[]);
        let responders = fresh.keeper.settings.bundles.clone();
        fresh.keeper.settings =
            Arc::new(OcspSettings { bundles: responders, ..OcspSettings::clone(&rig.keeper.settings) });
        assert_eq!(fresh.answer(&path).await, Known::Failed);
    }
}

#[tokio::test]
async fn a_certificate_is_asked_about_once_at_a_time() {
    let server = Server::start(|_| vec![Step::Silence]).await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (_, path) = rig.client();
    for _ in 0..10 {
        rig.look(&path);
    }
    let start = Instant::now();
    assert_eq!(rig.answer(&path).await, Known::Failed);
    assert!(start.elapsed() < DEADLINE);
    assert_eq!(server.asked().len(), 1);
    // The failure is remembered for half a minute.
    rig.pass_time(29);
    assert_eq!(rig.look(&path), Some(Known::Failed));
    rig.pass_time(1);
    rig.look(&path);
    rig.until("asked again", || server.asked().len() == 2).await;
}

#[tokio::test]
async fn a_dead_responder_holds_up_nobody_else() {
    let dead = Server::start(|_| vec![Step::Silence]).await;
    let (alive, said) = responder().await;
    let mut rig = Rig::start(Some(alive.url("/")), &["127.0.0.1"]);
    rig.keeper.fetcher = Arc::new(Fetcher::new(OCSP_FETCH));
    for _ in 0..100 {
        let (_, path) = rig.client();
        rig.look(&naming_responder(&path, &dead.url("/")));
    }
    rig.until("it is asked", || !dead.asked().is_empty()).await;
    let (client, path) = rig.client();
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
    let start = Instant::now();
    assert_eq!(rig.answer(&path).await, Known::Good);
    assert!(start.elapsed() < OCSP_FETCH.idle_timeout);
    assert!(dead.open_max.load(Ordering::Relaxed) <= OCSP_FETCH.requests_per_server_max);
}

#[tokio::test]
async fn certificates_lead_to_allowed_responders_only() {
    let (own, said) = responder().await;
    let named = Server::start({
        let said = said.clone();
        move |_| ok(&said.lock().unwrap())
    })
    .await;
    for (hosts, url, asked) in [
        (&["127.0.0.1"][..], Some(own.url("/")), (0, 1)),
        (&["127.0.0.1"], None, (0, 1)),
        (&["localhost"], Some(own.url("/")), (1, 0)),
        (&[], Some(own.url("/")), (1, 0)),
        (&[], None, (0, 0)),
    ] {
        let before = (own.asked().len(), named.asked().len());
        let mut rig = Rig::start(url, hosts);
        let (client, path) = rig.client();
        *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
        let answer = rig.answer(&naming_responder(&path, &named.url("/"))).await;
        assert_eq!((own.asked().len() - before.0, named.asked().len() - before.1), asked, "{hosts:?}");
        assert_eq!(answer, if asked == (0, 0) { Known::Failed } else { Known::Good });
    }
}

#[tokio::test]
async fn the_last_good_answer_is_used_while_the_responder_fails() {
    let (server, said) = responder().await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
    assert_eq!(rig.answer(&path).await, Known::Good);
    said.lock().unwrap().clear();
    // An hour is the longest that an answer is used without asking again.
    rig.pass_time(3601);
    assert_eq!(rig.look(&path), Some(Known::Good));
    rig.until("asked again", || server.asked().len() == 2).await;
    assert_eq!(rig.look(&path), Some(Known::Good));
    rig.pass_time(900);
    assert_eq!(rig.answer(&path).await, Known::Failed);
}

#[tokio::test]
async fn what_living_connections_hold_is_asked_for_ahead_and_revocation_is_told() {
    let (server, said) = responder().await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
    assert_eq!(rig.answer(&path).await, Known::Good);
    let held = rig.trust.ocsp().entry(&key(&path)).unwrap();
    let before = rig.trust.current().0;
    let revoked = OcspAnswer::revoked(&client, &rig.root, RevocationReason::KeyCompromise);
    *said.lock().unwrap() = revoked.this_update(std::time::SystemTime::now()).signed_by_authority(&rig.root);
    rig.pass_time(1801);
    let trust = rig.trust.clone();
    rig.until("a new generation", move || trust.current().0 != before).await;
    assert_eq!(held.answer(rig.keeper.clock.now_unix()), Some(Known::Revoked));
    // A recorded answer from before does not bring it back.
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
    let asked = server.asked().len();
    rig.pass_time(3601);
    rig.look(&path);
    rig.until("asked again", || server.asked().len() > asked).await;
    for _ in 0..50 {
        rig.keeper.turn().await;
    }
    assert_eq!(rig.look(&path), Some(Known::Revoked));
}

#[tokio::test]
async fn a_responder_that_dislikes_sha1_is_asked_by_sha256() {
    let good: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shown = good.clone();
    let sha256_oid = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let server = Server::start(move |asked| {
        let is_sha256 = asked.body.windows(sha256_oid.len()).any(|window| window == sha256_oid);
        if is_sha256 {
            ok(&shown.lock().unwrap())
        } else {
            ok(&OcspAnswer::refusal(OcspRefusal::MalformedRequest))
        }
    })
    .await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    *good.lock().unwrap() = OcspAnswer::good(&client, &rig.root).sha256().signed_by_authority(&rig.root);
    assert_eq!(rig.answer(&path).await, Known::Good);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_responder_that_was_denied_does_not_answer_any_more() {
    let (server, said) = responder().await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    let signer = rig.root.issue(&Leaf::ocsp_signer("OCSP"));
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by(&signer);
    assert_eq!(rig.answer(&path).await, Known::Good);
    let entry = DenyEntry {
        target: DenyTarget::Fingerprint(signer.fingerprint_sha256()),
        reason: "stolen".into(),
        added_unix: 0,
        by: "test".into(),
        expires_unix: None,
    };
    let mut denied = DenyList::clone(&rig.trust.current().1.deny);
    denied.add(entry).unwrap();
    rig.trust.update(|state| state.deny = Arc::new(denied));
    let (client, path) = rig.client();
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by(&signer);
    assert_eq!(rig.answer(&path).await, Known::Failed);
}

#[tokio::test]
async fn a_responder_that_was_revoked_does_not_answer_any_more() {
    let (server, said) = responder().await;
    let mut rig = Rig::start(Some(server.url("/")), &[]);
    let (client, path) = rig.client();
    let signer = rig.root.issue(&Leaf::ocsp_signer("OCSP"));
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by(&signer);
    assert_eq!(rig.answer(&path).await, Known::Good);
    let crl = rig.root.sign_crl(&Crl::new().revoke(signer.serial()));
    let list = List::read(&crl, &[issuer(&rig.root)], &CrlFloors::new(), rig.keeper.clock.now_unix());
    rig.trust.update(|state| state.fetched_crls = Arc::new(vec![list.unwrap()]));
    let (client, path) = rig.client();
    *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by(&signer);
    assert_eq!(rig.answer(&path).await, Known::Failed);
}

#[tokio::test]
async fn another_configuration_has_other_lists() {
    let mut rig = Rig::start(None, &[]);
    let before = rig.keeper.revocation();
    assert!(Arc::ptr_eq(&before, &rig.keeper.revocation()));
    rig.keeper.configure(OcspSettings::default());
    assert!(!Arc::ptr_eq(&before, &rig.keeper.revocation()));
}

#[tokio::test]
async fn a_name_of_a_certificate_leads_to_no_private_address() {
    let (named, said) = responder().await;
    let url = named.url("/").replace("127.0.0.1", "localhost");
    for (hosts, asked) in [(&["localhost"][..], 0), (&["localhost", "127.0.0.1"], 1)] {
        let mut rig = Rig::start(None, hosts);
        let (client, path) = rig.client();
        *said.lock().unwrap() = OcspAnswer::good(&client, &rig.root).signed_by_authority(&rig.root);
        let answer = rig.answer(&naming_responder(&path, &url)).await;
        assert_eq!(named.asked().len(), asked, "{hosts:?}");
        assert_eq!(answer, if asked == 0 { Known::Failed } else { Known::Good });
    }
}

#[tokio::test]
async fn errors_of_http_are_failures() {
    let dead = dead_address().await;
    let broken = Server::start(|_| reply("500 Oops", "", b"")).await;
    for url in [format!("http://{dead}/"), broken.url("/"), "https://127.0.0.1:1/".to_owned()] {
        let mut rig = Rig::start(Some(url), &[]);
        let (_, path) = rig.client();
        assert_eq!(rig.answer(&path).await, Known::Failed);
    }
}

#[tokio::test]
async fn openssl_is_understood() {
    let pki = Pki::new();
    let rig = Rig::start(None, &[]);
    let (good, good_path) = rig.client();
    let (bad, bad_path) = rig.client();
    let (_, unknown_path) = rig.client();
    let signer = rig.root.issue(&Leaf::ocsp_signer("OCSP"));
    for database in [
        OcspDatabase::new(&pki, "own", &rig.root),
        OcspDatabase::delegated(&pki, "other", &rig.root, &signer),
    ] {
        database.good(&good);
        database.revoked(&bad, "keyCompromise");
        let responder = database.serve();
        let mut asking = Rig::start(Some(responder.url()), &[]);
        let bundles = asking.keeper.settings.bundles.clone();
        asking.keeper.settings =
            Arc::new(OcspSettings { bundles, ..OcspSettings::clone(&rig.keeper.settings) });
        assert_eq!(asking.answer(&good_path).await, Known::Good);
        assert_eq!(asking.answer(&bad_path).await, Known::Revoked);
        assert_eq!(asking.answer(&unknown_path).await, Known::Unknown);
    }
}
