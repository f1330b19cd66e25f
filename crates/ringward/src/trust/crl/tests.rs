use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

use ringward_config::HostName;
use ringward_testkit::{Authority, Crl, DEADLINE, Leaf};
use ringward_tls::{CrlFloors, CrlNumber, PeerPath, Serial};

use super::*;
use crate::trust::fetch::reach::AllowList;
use crate::trust::state::StateDir;
use crate::trust::testing::{Server, Step, dead_address, issuer, ok, path, reply};

/// A keeper with a state directory and a clock of its own.
struct Rig {
    directory: tempfile::TempDir,
    keeper: CrlKeeper,
    trust: Arc<TrustKeeper>,
    sightings: Sightings,
    ahead: Arc<AtomicI64>,
}

/// A server of one list, which can be replaced.
struct Publisher {
    server: Server,
    list: Arc<Mutex<Vec<u8>>>,
}

impl Rig {
    fn start() -> Rig {
        Rig::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(directory: tempfile::TempDir) -> Rig {
        let state = Arc::new(StateDir::open(directory.path()).unwrap());
        let trust = TrustKeeper::for_test(Some(state));
        let (sightings, ahead) = (Sightings::new(), Arc::new(AtomicI64::new(0)));
        let limits = FetchLimits { idle_timeout: Duration::from_millis(500), ..CRL_FETCH };
        let fetcher = Fetcher::new(limits);
        let clock = Clock::ahead(ahead.clone());
        let keeper = CrlKeeper::new(trust.clone(), Arc::default(), sightings.clone(), fetcher, clock);
        Rig { directory, keeper, trust, sightings, ahead }
    }

    /// Ends this one, as a kill would, and starts its successor.
    fn restart(self) -> Rig {
        let Rig { directory, keeper, trust, .. } = self;
        drop((keeper, trust));
        Rig::start_in(directory)
    }

    fn restore(&mut self) {
        let (state, floors) = (self.trust.state_dir().unwrap(), self.trust.floors());
        let copies = copies::read_all(state, floors, self.now()).unwrap();
        self.keeper.restore(copies);
    }

    fn now(&self) -> i64 {
        self.keeper.clock.now_unix()
    }

    fn configure(&mut self, authorities: &[&Authority], urls: &[String], points: &[&str]) {
        let points: Vec<HostName> = points.iter().map(|host| HostName::parse(host).unwrap()).collect();
        let rules = Rules {
            bundle: "partners".to_owned(),
            urls: urls.iter().map(|url| Url::parse(url).unwrap()).collect(),
            points: Arc::new(AllowList::new(&points)),
            every: Duration::from_secs(3600),
            bytes_max: 100_000,
            leaf_only: false,
        };
        let issuers = authorities.iter().map(|authority| issuer(authority)).collect();
        self.keeper.configure(CrlSettings { rules: vec![rules], issuers, ..CrlSettings::default() });
    }

    /// Lets the keeper work until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Rig) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < DEADLINE, "{what}: {:?}", self.trust.reports().crls);
            let _ = tokio::time::timeout(Duration::from_millis(200), self.keeper.turn()).await;
        }
    }

    /// Numbers of the lists that are handed over.
    fn numbers(&self) -> Vec<u64> {
        let lists = self.trust.current().1.fetched_crls;
        let is = |list: &List, number: u64| list.head().number == Some(CrlNumber::from(number));
        lists.iter().map(|list| (0..100).find(|number| is(list, *number)).unwrap()).collect()
    }

    fn problem(&self) -> Option<String> {
        self.trust.reports().crls.iter().find_map(|status| status.problem.clone())
    }

    /// Fetches again, after what was fetched last.
    fn pass_time(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    fn copies(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("crl-copy-")).collect()
    }
}

impl Publisher {
    async fn start(list: Vec<u8>) -> Publisher {
        let list = Arc::new(Mutex::new(list));
        let shown = list.clone();
        let server = Server::start(move |_| ok(&shown.lock().unwrap())).await;
        Publisher { server, list }
    }

    fn publish(&self, list: Vec<u8>) {
        *self.list.lock().unwrap() = list;
    }

    fn url(&self) -> String {
        self.server.url("/ca.crl")
    }
}

#[tokio::test]
async fn a_list_is_fetched_verified_and_handed_over() {
    let root = Authority::root("Root");
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7).revoke(&[0x42]))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    assert_eq!(rig.numbers(), [7]);
    let in_force = list::in_force(rig.trust.current().1.fetched_crls.iter());
    assert!(in_force[0].find(&Serial::new(&[0x42]).unwrap()).is_some());
    assert!(in_force[0].find(&Serial::new(&[0x43]).unwrap()).is_none());
    let status = rig.trust.reports().crls.remove(0);
    assert_eq!((status.issuer.as_str(), status.entries, &status.problem), ("CN=Root", 1, &None));
    // A newer one takes its place when its time has come.
    publisher.publish(root.sign_crl(&Crl::new().number(8)));
    rig.pass_time(3601);
    rig.until("the next list", |rig| rig.numbers() == [8]).await;
}

#[tokio::test]
async fn what_the_ca_has_not_signed_is_not_used() {
    let (root, other) = (Authority::root("Root"), Authority::root("Root"));
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    let mut damaged = root.sign_crl(&Crl::new().number(9));
    *damaged.last_mut().unwrap() ^= 1;
    for bad in [other.sign_crl(&Crl::new().number(8)), damaged, b"<html>".to_vec(), Vec::new()] {
        publisher.publish(bad);
        let before = publisher.server.asked().len();
        rig.pass_time(3601);
        let is_asked = || publisher.server.asked().len() > before;
        let is_planned = |rig: &Rig| rig.trust.reports().crls[0].next_fetch_unix > Some(rig.now());
        rig.until("it is refused", |rig| is_asked() && is_planned(rig)).await;
        assert!(rig.problem().is_some());
        assert_eq!(rig.numbers(), [7]);
        assert_eq!(rig.copies().len(), 1);
    }
}

#[tokio::test]
async fn an_older_list_is_refused_also_after_a_restart() {
    let root = Authority::root("Root");
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7).revoke(&[0x42]))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    let old_copy = (rig.copies().remove(0), fs::read(&rig.copies()[0]).unwrap());
    publisher.publish(root.sign_crl(&Crl::new().number(8).revoke(&[0x42])));
    rig.pass_time(3601);
    rig.until("the next list", |rig| rig.numbers() == [8]).await;
    publisher.publish(root.sign_crl(&Crl::new().number(7)));
    rig.pass_time(3601);
    rig.until("the old list is refused", |rig| {
        rig.problem().is_some_and(|problem| problem.contains("older"))
    })
    .await;
    assert_eq!(rig.numbers(), [8]);
    // Somebody puts the old copy back while we are down. Nobody has told us to end, and nothing was written at the end.
    let mut rig = rig.restart();
    fs::write(&old_copy.0, &old_copy.1).unwrap();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.restore();
    assert!(rig.numbers().is_empty());
    assert!(rig.copies().is_empty());
    rig.keeper.first_round().await;
    assert!(rig.numbers().is_empty());
    assert!(rig.problem().is_some_and(|problem| problem.contains("older")));
}

/// The copy is written first. A process that is killed before the floor is leaves a list that is newer than the floor.
#[tokio::test]
async fn a_floor_that_could_not_be_written_is_written_as_soon_as_it_can() {
    let root = Authority::root("Root");
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7))).await;
    let mut rig = Rig::start();
    // No file can be made under this name, as on a disk that is full.
    let obstacle = rig.directory.path().join("crl-floors.new");
    fs::create_dir(&obstacle).unwrap();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    assert_eq!(rig.numbers(), [7], "it is used even so");
    let on_disk = |rig: &Rig| rig.trust.state_dir().unwrap().read_sealed("crl-floors", 1 << 20).unwrap();
    assert!(on_disk(&rig).is_none());
    let lists = rig.trust.current().1.fetched_crls;
    assert!(rig.trust.floors().raise(lists.iter()).is_err(), "tried again, though nothing rose");
    fs::remove_dir(obstacle).unwrap();
    rig.trust.floors().raise(lists.iter()).unwrap();
    assert!(on_disk(&rig).is_some());
}

#[tokio::test]
async fn a_copy_without_its_floor_is_not_undone_by_an_older_list() {
    let root = Authority::root("Root");
    let (old, new) =
        (root.sign_crl(&Crl::new().number(7)), root.sign_crl(&Crl::new().number(8).revoke(&[0x42])));
    let publisher = Publisher::start(old).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    let state = rig.trust.state_dir().unwrap().clone();
    copies::write(&state, &Url::parse(&publisher.url()).unwrap(), None, &issuer(&root), &new).unwrap();
    drop(state);
    let mut rig = rig.restart();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.restore();
    assert_eq!(rig.numbers(), [8]);
    rig.until("another server of the CA, say, still has the old list", |rig| rig.problem().is_some()).await;
    assert_eq!(rig.numbers(), [8]);
}

#[tokio::test]
async fn copies_serve_while_no_server_does() {
    let root = Authority::root("Root");
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7))).await;
    let url = publisher.url();
    let mut rig = Rig::start();
    rig.configure(&[&root], std::slice::from_ref(&url), &[]);
    rig.keeper.first_round().await;
    drop(publisher);
    let mut rig = rig.restart();
    rig.configure(&[&root], std::slice::from_ref(&url), &[]);
    rig.restore();
    assert_eq!(rig.numbers(), [7]);
    // Nobody has to wait for a server any more.
    assert!(rig.keeper.sources.all_tried());
    rig.until("it is tried", |rig| rig.problem().is_some()).await;
    assert_eq!(rig.numbers(), [7]);
    // Without the URL nobody wants it.
    let mut rig = rig.restart();
    rig.configure(&[&root], &[], &[]);
    rig.restore();
    rig.until("the copy is removed", |rig| rig.copies().is_empty()).await;
    assert!(rig.numbers().is_empty());
}

#[tokio::test]
async fn copies_that_were_changed_are_not_believed() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7).revoke(&[0x42]))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    let (name, good) = (rig.copies().remove(0), fs::read(&rig.copies()[0]).unwrap());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let state = rig.trust.state_dir().unwrap().clone();
    let forged = {
        let list = other.sign_crl(&Crl::new().number(99));
        copies::write(&state, &Url::parse(&publisher.url()).unwrap(), None, &issuer(&root), &list).unwrap();
        fs::read(&name).unwrap()
    };
    for bad in
        [flipped, good[..good.len() / 2].to_vec(), forged, b"ringward crl copy 1\n".to_vec(), Vec::new()]
    {
        fs::write(&name, bad).unwrap();
        rig.restore();
        assert!(rig.copies().is_empty());
        assert_eq!(rig.numbers(), [7]);
    }
}

#[tokio::test]
async fn a_list_stays_when_its_server_dies_and_even_when_it_is_stale() {
    let root = Authority::root("Root");
    let soon = SystemTime::now() + Duration::from_secs(7200);
    let publisher =
        Publisher::start(root.sign_crl(&Crl::new().number(7).revoke(&[0x42]).next_update(soon))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    drop(publisher);
    rig.pass_time(100_000);
    rig.until("it is dead", |rig| rig.problem().is_some()).await;
    rig.until("it is stale", |rig| !rig.keeper.stale.is_empty()).await;
    let in_force = list::in_force(rig.trust.current().1.fetched_crls.iter());
    assert!(in_force[0].find(&Serial::new(&[0x42]).unwrap()).is_some());
    assert!(in_force[0].next_update_unix() < rig.now());
}

#[tokio::test]
async fn the_ca_of_a_list_may_become_known_by_a_client() {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Issuing");
    let publisher = Publisher::start(issuing.sign_crl(&Crl::new().number(7))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    assert!(rig.numbers().is_empty());
    assert!(rig.problem().is_some_and(|problem| problem.contains("CN=Issuing")), "{:?}", rig.problem());
    rig.sightings.push(path("partners", &issuing.issue(&Leaf::client("a")), &root, &[]));
    rig.until("the list is verified", |rig| rig.numbers() == [7]).await;
    // Its certificate is kept with the copy.
    drop(publisher);
    let mut rig = rig.restart();
    let dead = format!("http://{}/", dead_address().await);
    rig.configure(&[&root], &[dead], &[]);
    rig.restore();
    assert!(rig.numbers().is_empty(), "another URL is configured now");
}

#[tokio::test]
async fn distribution_points_of_clients_are_fetched_and_kept() {
    let root = Authority::root("Root");
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7))).await;
    let refused = Publisher::start(root.sign_crl(&Crl::new().number(8))).await;
    let elsewhere = refused.url().replace("127.0.0.1", "localhost");
    let client = root.issue(&Leaf::client("a"));
    let seen: Arc<PeerPath> = path("partners", &client, &root, &[&publisher.url(), &elsewhere]);
    let mut rig = Rig::start();
    rig.configure(&[&root], &[], &["127.0.0.1"]);
    rig.sightings.push(seen);
    rig.until("it is fetched", |rig| rig.numbers() == [7]).await;
    assert!(refused.server.asked().is_empty());
    drop(publisher);
    let mut rig = rig.restart();
    rig.configure(&[&root], &[], &["127.0.0.1"]);
    rig.restore();
    assert_eq!(rig.numbers(), [7]);
    // Not allowed any more.
    rig.configure(&[&root], &[], &[]);
    assert!(rig.numbers().is_empty());
    rig.until("the copy is removed", |rig| rig.copies().is_empty()).await;
}

#[tokio::test]
async fn what_has_not_changed_is_neither_sent_nor_read_again() {
    let root = Authority::root("Root");
    let list = root.sign_crl(&Crl::new().number(7));
    let server = Server::start(move |asked| match asked.field("if-none-match") {
        Some("\"7\"") => reply("304 Not Modified", "", b""),
        _ => reply("200 OK", "ETag: \"7\"\r\n", &list),
    })
    .await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[server.url("/")], &[]);
    rig.keeper.first_round().await;
    let (version, _) = rig.trust.current();
    rig.pass_time(3601);
    let confirmed = rig.now();
    rig.until("it is confirmed", |rig| rig.trust.reports().crls[0].checked_unix >= Some(confirmed)).await;
    assert_eq!(server.asked()[1].field("if-none-match"), Some("\"7\""));
    // No new snapshot for that, nor for a configuration that wants the same.
    rig.configure(&[&root], &[server.url("/")], &[]);
    assert_eq!(rig.trust.current().0, version);
    assert_eq!(rig.numbers(), [7]);
}

#[tokio::test]
async fn a_delta_is_laid_over_its_list() {
    let root = Authority::root("Root");
    type Lists = Vec<(String, Vec<u8>)>;
    let table: Arc<Mutex<Lists>> = Arc::default();
    let shown = table.clone();
    let server = Server::start(move |asked| {
        let table = shown.lock().unwrap();
        let found = table.iter().find(|(target, _)| *target == asked.target);
        found.map_or_else(|| reply("404 Not Found", "", b""), |(_, list)| ok(list))
    })
    .await;
    let delta_url = server.url("/delta");
    let name = ringward_testkit::der::tlv(0x86, delta_url.as_bytes());
    let wrap = |tag, content: &[u8]| ringward_testkit::der::tlv(tag, content);
    let points = wrap(0x30, &wrap(0x30, &wrap(0xa0, &wrap(0xa0, &name))));
    let complete = Crl::new().number(7).revoke(&[0x41]).extension("2.5.29.46", false, &points);
    let delta = Crl::new().number(9).delta_of(7).revoke(&[0x42]);
    *table.lock().unwrap() =
        vec![("/".to_owned(), root.sign_crl(&complete)), ("/delta".to_owned(), root.sign_crl(&delta))];
    let mut rig = Rig::start();
    rig.configure(&[&root], &[server.url("/")], &[]);
    rig.until("both are there", |rig| rig.numbers().len() == 2).await;
    let in_force = list::in_force(rig.trust.current().1.fetched_crls.iter());
    assert_eq!(in_force.len(), 1);
    for serial in [0x41, 0x42] {
        assert!(in_force[0].find(&Serial::new(&[serial]).unwrap()).is_some());
    }
    // Both come back from their copies.
    drop(server);
    let mut rig = rig.restart();
    rig.configure(&[&root], &[delta_url.replace("/delta", "/")], &[]);
    rig.restore();
    assert_eq!(rig.numbers(), [7, 9]);
}

#[tokio::test]
async fn servers_do_not_wait_for_each_other() {
    let root = Authority::root("Root");
    let dead = Server::start(|_| vec![Step::Silence]).await;
    let publisher = Publisher::start(root.sign_crl(&Crl::new().number(7))).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[dead.url("/a"), dead.url("/b"), dead.url("/c"), publisher.url()], &[]);
    let start = Instant::now();
    rig.until("the other's list", |rig| rig.numbers() == [7]).await;
    rig.keeper.first_round().await;
    assert!(start.elapsed() < DEADLINE);
    assert!(rig.problem().is_some());
}

#[tokio::test]
async fn a_list_that_is_too_long_is_not_read() {
    let root = Authority::root("Root");
    let long = (0..5000_u32).fold(Crl::new(), |crl, serial| crl.revoke(&serial.to_be_bytes()));
    let publisher = Publisher::start(root.sign_crl(&long)).await;
    let mut rig = Rig::start();
    rig.configure(&[&root], &[publisher.url()], &[]);
    rig.keeper.first_round().await;
    assert!(rig.problem().is_some_and(|problem| problem.contains("100000 bytes")), "{:?}", rig.problem());
}

#[test]
fn floors_that_cannot_be_read_are_no_absent_ones() {
    let directory = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDir::open(directory.path()).unwrap());
    // Sealed as it should be, so it is not the disk that has changed it.
    state.write_sealed("crl-floors", b"ringward crl floors 9\n").unwrap();
    let refused = floors::Floors::load(Some(state)).unwrap_err();
    assert!(refused.to_string().contains("is damaged"), "{refused}");
}

#[test]
fn of_several_deltas_the_newest_counts() {
    let root = Authority::root("Root");
    let read = |crl: Crl| {
        List::read(&root.sign_crl(&crl), &[issuer(&root)], &CrlFloors::new(), i64::MAX / 2).unwrap()
    };
    let complete = read(Crl::new().number(1));
    let older = read(Crl::new().number(2).delta_of(1));
    let newer = read(Crl::new().number(3).delta_of(1).revoke(&[7]));
    for lists in [[&complete, &older, &newer], [&complete, &newer, &older]] {
        let in_force = list::in_force(lists);
        assert!(in_force[0].find(&Serial::new(&[7]).unwrap()).is_some());
    }
}

#[test]
fn issuers_of_clients_are_bounded() {
    let mut issuers = Issuers::default();
    for number in 0..=1024 {
        assert!(issuers.add(issuer(&Authority::root(&format!("Root {number}")))));
    }
    assert_eq!(issuers.all().len(), 1024);
}
