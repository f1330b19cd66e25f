use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

use ringward_config::Diagnostics;
use ringward_testkit::{Authority, DEADLINE, Issued, Leaf, OcspAnswer, OcspDatabase, Pki, RevocationReason};

use super::plan::Source;
use super::*;
use crate::trust::fetch::reach::Reach;
use crate::trust::fetch::url::Url;
use crate::trust::testing::{Server, config, credential, dead_address, location, ok};

struct Rig {
    directory: tempfile::TempDir,
    keeper: StapleKeeper,
    shop: Shop,
    trust: Arc<TrustKeeper>,
    ahead: Arc<AtomicI64>,
}

/// A certificate with its responder.
struct Site {
    issuing: Authority,
    issued: Issued,
    credential: Arc<Credential>,
    server: Server,
    said: Arc<Mutex<Vec<u8>>>,
    /// What it says at first.
    good: Vec<u8>,
}

impl Rig {
    fn start() -> Rig {
        Rig::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(directory: tempfile::TempDir) -> Rig {
        let state = Arc::new(StateDir::open(directory.path()).unwrap());
        let trust = TrustKeeper::for_test(Some(state));
        let ahead = Arc::new(AtomicI64::new(0));
        let limits = FetchLimits { idle_timeout: Duration::from_millis(300), ..STAPLE_FETCH };
        let shop = Shop::new(trust.clone(), Fetcher::new(limits), Clock::ahead(ahead.clone()));
        let keeper = StapleKeeper::new(shop.clone(), Arc::default());
        Rig { directory, keeper, shop, trust, ahead }
    }

    fn restart(self) -> Rig {
        let Rig { directory, keeper, shop, trust, .. } = self;
        drop((keeper, shop, trust));
        Rig::start_in(directory)
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Rig) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < DEADLINE, "{what}: {:?}", self.trust.reports().staples);
            let _ = tokio::time::timeout(Duration::from_millis(200), self.keeper.turn()).await;
        }
    }

    /// The staple that would be put in force.
    fn staple(&self, credential: &Credential) -> Option<Vec<u8>> {
        let staples = self.trust.current().1.staples;
        staples.get(credential.fingerprint_sha256()).map(|staple| staple.der().to_vec())
    }

    async fn prepare(&self, wanted: &[Wanted], serving: &[[u8; 32]], wait: u64) -> Result<(), Diagnostics> {
        prepare(&self.shop, &config(), wanted, serving, Duration::from_millis(wait)).await
    }

    fn copies(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "ocsp")).collect()
    }

    fn pass_time(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Site {
    async fn start(leaf: Leaf) -> Site {
        let issuing = Authority::root("Root").intermediate("Issuing");
        let issued = issuing.issue(&leaf);
        let good = OcspAnswer::good(&issued, &issuing).signed_by_authority(&issuing);
        let said = Arc::new(Mutex::new(good.clone()));
        let shown = said.clone();
        let server = Server::start(move |_| ok(&shown.lock().unwrap())).await;
        Site { credential: credential(&issued), issuing, issued, server, said, good }
    }

    fn say(&self, response: Vec<u8>) {
        *self.said.lock().unwrap() = response;
    }

    fn revoked(&self) -> Vec<u8> {
        let answer = OcspAnswer::revoked(&self.issued, &self.issuing, RevocationReason::KeyCompromise);
        answer.signed_by_authority(&self.issuing)
    }

    fn wanted(&self) -> Wanted {
        self.wanted_from(&self.server.url("/ocsp"))
    }

    fn wanted_from(&self, url: &str) -> Wanted {
        let responder = Responder { url: Url::parse(url).unwrap(), reach: Reach::Configured };
        self.wanted_of(Source::Fetch(Some(responder)))
    }

    fn wanted_of(&self, source: Source) -> Wanted {
        Wanted { host: "a.test".to_owned(), credential: self.credential.clone(), source, at: location() }
    }
}

#[tokio::test]
async fn a_staple_is_fetched_kept_and_renewed() {
    let site = Site::start(Leaf::server("a.test")).await;
    let mut rig = Rig::start();
    rig.keeper.configure(vec![site.wanted()]);
    rig.until("the first one", |rig| rig.staple(&site.credential) == Some(site.good.clone())).await;
    // Short enough for a GET, and so for a cache.
    assert_eq!(site.server.asked()[0].method, "GET");
    let copy = rig.copies().remove(0);
    assert_eq!(fs::read(&copy).unwrap(), site.good.clone());
    assert_eq!(copy.file_name().unwrap().to_str(), Some(site.credential.staple_file_name().as_str()));
    assert_eq!(rig.trust.reports().staples[0].status, "good");
    let newer = OcspAnswer::good(&site.issued, &site.issuing).this_update(SystemTime::now());
    let newer = newer.signed_by_authority(&site.issuing);
    site.say(newer.clone());
    rig.pass_time(12 * 3600);
    rig.until("the next one", |rig| rig.staple(&site.credential) == Some(newer.clone())).await;
}

#[tokio::test]
async fn what_the_ca_has_not_said_is_not_shown() {
    let site = Site::start(Leaf::server("a.test")).await;
    let other = Authority::root("Root").intermediate("Issuing");
    let good = OcspAnswer::good(&site.issued, &site.issuing);
    for lie in [
        good.signed_by_authority(&other),
        good.signed_by(&site.issuing.issue(&Leaf::client("OCSP"))),
        good.clone().serial(&[1]).signed_by_authority(&site.issuing),
        good.clone().stale().signed_by_authority(&site.issuing),
        good.without_next_update().signed_by_authority(&site.issuing),
        OcspAnswer::unknown(&site.issued, &site.issuing).signed_by_authority(&site.issuing),
        b"<html>".to_vec(),
    ] {
        let mut rig = Rig::start();
        site.say(lie);
        rig.keeper.configure(vec![site.wanted()]);
        rig.until("it is refused", |rig| rig.trust.reports().staples[0].problem.is_some()).await;
        assert_eq!(rig.staple(&site.credential), None);
        assert!(rig.copies().is_empty());
    }
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_staple() {
    let site = Site::start(Leaf::server("a.test")).await;
    let mut rig = Rig::start();
    rig.keeper.configure(vec![site.wanted()]);
    rig.until("the first one", |rig| rig.staple(&site.credential).is_some()).await;
    site.say(site.revoked());
    rig.pass_time(12 * 3600);
    rig.until("it is gone", |rig| rig.staple(&site.credential).is_none()).await;
    assert_eq!(rig.trust.reports().staples[0].status, "revoked");
    // Nor does it come back with a reload or with the next process.
    rig.until("the copy is removed", |rig| rig.copies().is_empty()).await;
}

#[tokio::test]
async fn the_last_one_is_shown_until_its_end_while_nobody_answers() {
    let site = Site::start(Leaf::server("a.test")).await;
    let mut rig = Rig::start();
    rig.keeper.configure(vec![site.wanted()]);
    rig.until("the first one", |rig| rig.staple(&site.credential).is_some()).await;
    site.say(Vec::new());
    rig.pass_time(12 * 3600);
    rig.until("it fails", |rig| rig.trust.reports().staples[0].problem.is_some()).await;
    assert!(rig.staple(&site.credential).is_some());
    rig.pass_time(12 * 3600);
    rig.until("it has ended", |rig| rig.staple(&site.credential).is_none()).await;
}

#[tokio::test]
async fn a_copy_serves_the_next_process() {
    let site = Site::start(Leaf::server("a.test").must_staple()).await;
    let mut rig = Rig::start();
    rig.keeper.configure(vec![site.wanted()]);
    rig.until("the first one", |rig| rig.staple(&site.credential).is_some()).await;
    let dead = site.wanted_from(&format!("http://{}/", dead_address().await));
    let rig = rig.restart();
    assert_eq!(rig.prepare(std::slice::from_ref(&dead), &[], 0).await, Ok(()));
    assert_eq!(rig.staple(&site.credential), Some(site.good.clone()));
    // Unless it was changed meanwhile, or is too old.
    let copy = rig.copies().remove(0);
    let rig = rig.restart();
    rig.pass_time(24 * 3600);
    assert!(rig.prepare(std::slice::from_ref(&dead), &[], 0).await.is_err());
    let rig = rig.restart();
    let mut damaged = site.good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(copy, damaged).unwrap();
    assert!(rig.prepare(&[dead], &[], 0).await.is_err());
    assert_eq!(rig.staple(&site.credential), None);
}

#[tokio::test]
async fn a_certificate_that_demands_a_staple_does_not_serve_without() {
    let site = Site::start(Leaf::server("a.test").must_staple()).await;
    let rig = Rig::start();
    let wanted = |source| vec![site.wanted_of(source)];
    let dead = vec![site.wanted_from(&format!("http://{}/", dead_address().await))];
    for wanted in [dead, wanted(Source::File(None)), wanted(Source::Fetch(None))] {
        let refused = rig.prepare(&wanted, &[], 700).await.unwrap_err();
        assert!(refused.to_string().contains("demands an OCSP staple"), "{refused}");
        // Once in service it is better than none.
        assert_eq!(rig.prepare(&wanted, &[*site.credential.fingerprint_sha256()], 0).await, Ok(()));
    }
    site.say(site.revoked());
    let refused = rig.prepare(&[site.wanted()], &[], 700).await.unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    assert_eq!(rig.staple(&site.credential), None);
    site.say(site.good.clone());
    assert_eq!(rig.prepare(&[site.wanted()], &[], 20_000).await, Ok(()));
    assert_eq!(rig.staple(&site.credential), Some(site.good.clone()));
    let file =
        Arc::new(Staple::verify(&site.good.clone(), &site.credential, rig.shop.clock.now_unix()).unwrap());
    assert_eq!(Rig::start().prepare(&wanted(Source::File(Some(file.clone()))), &[], 0).await, Ok(()));
    // One that is not shown any more does not count.
    let later = Rig::start();
    later.pass_time(file.usable_until_unix() - later.shop.clock.now_unix());
    assert!(later.prepare(&wanted(Source::File(Some(file))), &[], 0).await.is_err());
    let refused = later.prepare(&[site.wanted()], &[], 700).await.unwrap_err();
    assert!(refused.to_string().contains("about to end"), "{refused}");
}

#[tokio::test]
async fn who_does_not_demand_one_does_not_wait() {
    let site = Site::start(Leaf::server("a.test")).await;
    let dead = site.wanted_from(&format!("http://{}/", dead_address().await));
    assert_eq!(Rig::start().prepare(&[dead], &[], 20_000).await, Ok(()));
    assert!(site.server.asked().is_empty());
}

#[tokio::test]
async fn copies_of_other_certificates_are_removed() {
    let (old, new) = (Site::start(Leaf::server("a.test")).await, Site::start(Leaf::server("a.test")).await);
    let mut rig = Rig::start();
    let other = rig.directory.path().join("notes.ocsp");
    fs::write(&other, "not ours").unwrap();
    rig.keeper.configure(vec![old.wanted()]);
    rig.until("the old one", |rig| rig.staple(&old.credential).is_some()).await;
    rig.keeper.configure(vec![new.wanted()]);
    rig.until("the new one", |rig| rig.staple(&new.credential).is_some()).await;
    assert_eq!(rig.staple(&old.credential), None);
    let kept = |credential: &Credential| rig.directory.path().join(credential.staple_file_name()).exists();
    let start = Instant::now();
    while kept(&old.credential) {
        assert!(start.elapsed() < DEADLINE);
        task::yield_now().await;
    }
    assert!(kept(&new.credential) && other.exists());
}

#[tokio::test]
async fn what_was_prepared_is_not_lost_before_it_serves() {
    let (old, new) =
        (Site::start(Leaf::server("a.test")).await, Site::start(Leaf::server("a.test").must_staple()).await);
    let mut rig = Rig::start();
    rig.keeper.configure(vec![old.wanted()]);
    assert_eq!(rig.prepare(&[new.wanted()], &[], 20_000).await, Ok(()));
    rig.until("the old one", |rig| rig.staple(&old.credential).is_some()).await;
    assert!(rig.staple(&new.credential).is_some());
    rig.keeper.configure(vec![new.wanted()]);
    assert!(rig.staple(&new.credential).is_some() && rig.staple(&old.credential).is_none());
}

#[tokio::test]
async fn openssl_is_understood() {
    let site = Site::start(Leaf::server("a.test")).await;
    let pki = Pki::new();
    let database = OcspDatabase::new(&pki, "issuing", &site.issuing);
    database.good(&site.issued);
    let responder = database.serve();
    let mut rig = Rig::start();
    rig.keeper.configure(vec![site.wanted_from(&responder.url())]);
    rig.until("a staple", |rig| rig.staple(&site.credential).is_some()).await;
    database.revoked(&site.issued, "keyCompromise");
    rig.pass_time(1800);
    rig.until("it is gone", |rig| rig.staple(&site.credential).is_none()).await;
}
