use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::trust;
use crate::upgrade::Bequest;

const CALLER: Caller = Caller { uid: 7, pid: None };

/// Notes what was on disk and in memory when each step was taken.
struct Steps {
    dir: PathBuf,
    trust: Arc<TrustKeeper>,
    seen: StdMutex<Vec<(&'static str, usize, usize)>>,
    generation: AtomicU64,
    /// Whether workers answer.
    answers: AtomicBool,
    /// Whether a snapshot can be built.
    publishes: AtomicBool,
    /// Whether workers say who is connected.
    counts: AtomicBool,
}

impl Steps {
    fn note(&self, step: &'static str) {
        let on_disk = entries_on_disk(&self.dir);
        let (_, state) = self.trust.current();
        self.seen.lock().unwrap().push((step, on_disk, state.deny.len()));
    }

    fn take(&self) -> Vec<(&'static str, usize, usize)> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Enforcement for Steps {
    async fn publish(&self, _: TrustVersion) -> Result<u64, String> {
        self.note("publish");
        if !self.publishes.load(Ordering::SeqCst) {
            return Err("no".to_owned());
        }
        Ok(self.generation.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn is_acknowledged(&self, generation: u64) -> bool {
        assert_eq!(generation, self.generation.load(Ordering::SeqCst), "the one that was published");
        self.answers.load(Ordering::SeqCst)
    }

    async fn census(&self) -> Option<Vec<LivePeer>> {
        if !self.counts.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        None
    }
}

fn entries_on_disk(dir: &Path) -> usize {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    text.lines().filter(|line| line.contains("\"deny\"")).count()
}

struct World {
    dir: tempfile::TempDir,
    steps: Arc<Steps>,
    keeper: DenyKeeper<Steps>,
}

fn config(dir: &Path) -> ringward_config::Config {
    let text = "[server]\nstate_dir = \"state\"\n[cluster.c]\nendpoints = [\"127.0.0.1:1\"]\n[[listener]]\nname = \"l\"\n\
        bind = [\"127.0.0.1:0\"]\n[[listener.host]]\nnames = [\"a.example.com\"]\n\
        certificate = { chain = \"a.pem\", key = \"a.key\" }\nclient_auth = { mode = \"off\" }\n\
        danger_no_policy = true\n[[listener.host.route]]\nmatch = { path = \"/\" }\ncluster = \"c\"\n";
    ringward_config::parse(text, &dir.join("ringward.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let trust = trust::remembered(&config, &mut Bequest::default()).unwrap().keeper(&config);
    let steps = Arc::new(Steps {
        dir: dir.path().join("state"),
        trust: trust.clone(),
        seen: StdMutex::default(),
        generation: AtomicU64::new(1),
        answers: AtomicBool::new(true),
        publishes: AtomicBool::new(true),
        counts: AtomicBool::new(true),
    });
    World { keeper: DenyKeeper::new(trust, steps.clone()), steps, dir }
}

fn name(name: &str) -> Target {
    Target::Identity(name.to_owned())
}

#[tokio::test]
async fn an_entry_is_on_disk_before_it_is_published_and_published_before_it_is_told() {
    let world = world();
    let revoked = world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    assert_eq!(world.steps.take(), [("publish", 1, 1)]);
    assert_eq!((revoked.known, revoked.generation, revoked.entry.by.as_str()), (false, 2, "uid 7"));
    let removed = world.keeper.remove(&name("a")).await.unwrap();
    assert_eq!(world.steps.take(), [("publish", 0, 0)]);
    assert_eq!(removed.entry.unwrap().subject, revoked.entry.subject);
    assert_eq!(world.keeper.remove(&name("a")).await.unwrap().entry, None);
}

#[tokio::test]
async fn what_was_told_is_there_after_the_process_was_killed() {
    let World { dir, keeper, steps } = world();
    keeper.revoke(CALLER, &name("a"), "lost", Some(3600)).await.unwrap();
    keeper.revoke(CALLER, &Target::Spki("ab".repeat(32)), "stolen", None).await.unwrap();
    let before = keeper.list();
    // Nothing is written when a process ends, so its end does not matter; only the lock has to go.
    drop((keeper, steps));
    let config = config(dir.path());
    let trust = trust::remembered(&config, &mut Bequest::default()).unwrap().keeper(&config);
    let (_, state) = trust.current();
    let after: Vec<DenyEntryStatus> = state.deny.entries().into_iter().map(DenyEntryStatus::of).collect();
    assert_eq!(after, before.entries);
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn a_damaged_list_is_no_empty_list() {
    let World { dir, keeper, steps } = world();
    keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    drop((keeper, steps));
    let file = dir.path().join("state").join(FILE);
    let intact = fs::read(&file).unwrap();
    let last_line = intact[..intact.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for damaged in [&intact[..last_line], &intact[..intact.len() - 1], b""] {
        fs::write(&file, damaged).unwrap();
        let problems = trust::remembered(&config(dir.path()), &mut Bequest::default())
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(problems.contains("is damaged") && problems.contains("deny-list"), "{problems}");
    }
    fs::write(&file, &intact).unwrap();
    assert!(trust::remembered(&config(dir.path()), &mut Bequest::default()).is_ok());
}

#[test]
fn a_list_that_is_not_understood_is_no_empty_list() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    // Sealed as it should be, so it is not the disk that has changed it.
    state.write_sealed(FILE, b"{\"ringward_deny_list\":9}\n").unwrap();
    assert!(matches!(load(&state), Err(StateError::Damaged { .. })));
}

#[tokio::test]
async fn two_at_once_lose_nothing() {
    let world = world();
    let (a, b) = (name("a"), name("b"));
    let (one, other) = tokio::join!(
        world.keeper.revoke(CALLER, &a, "lost", None),
        world.keeper.revoke(CALLER, &b, "lost", None)
    );
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(world.keeper.list().entries.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn workers_that_do_not_say_who_is_connected_hold_nothing_up() {
    let world = world();
    world.steps.counts.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    let revoked = world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    assert!(revoked.hits.is_none());
    // By the paused clock, which moves when nothing else is left to wait for.
    assert!(begun.elapsed() < 2 * CENSUS_WAIT);
}

#[tokio::test]
async fn repeating_it_does_no_harm_and_shortens_nothing() {
    let world = world();
    let first = world.keeper.revoke(CALLER, &name("a"), "lost", Some(1000)).await.unwrap();
    let shorter =
        world.keeper.revoke(Caller { uid: 8, pid: None }, &name("a"), "lost again", Some(10)).await.unwrap();
    assert!(shorter.known);
    assert_eq!(shorter.entry.expires_unix, first.entry.expires_unix);
    assert_eq!((shorter.entry.by.as_str(), shorter.entry.reason.as_str()), ("uid 7", "lost again"));
    assert_eq!(shorter.entry.added_unix, first.entry.added_unix);
    let for_ever = world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    assert_eq!(for_ever.entry.expires_unix, None);
    let later = world.keeper.revoke(CALLER, &name("a"), "lost", Some(10)).await.unwrap();
    assert_eq!(later.entry.expires_unix, None, "for ever stays for ever");
    assert_eq!(world.keeper.list().entries.len(), 1);
}

#[tokio::test]
async fn expired_entries_are_no_more_and_stay_on_disk_for_a_week() {
    let world = world();
    let now = now_unix();
    let mut list = DenyList::new();
    let entry = |identity: &str, expires_unix| DenyEntry {
        target: DenyTarget::Identity(identity.into()),
        reason: "r".to_owned(),
        added_unix: now - 2 * KEPT_EXPIRED_SECONDS,
        by: "b".to_owned(),
        expires_unix,
    };
    list.add(entry("over", Some(now - 1))).unwrap();
    list.add(entry("holds", Some(now + 1000))).unwrap();
    // As if the clock was ahead for a while, and is right again.
    list.add(entry("lately", Some(now - 3600))).unwrap();
    list.add(entry("long ago", Some(now - KEPT_EXPIRED_SECONDS - 1))).unwrap();
    world.steps.trust.update(|state| state.deny = Arc::new(list));
    let again = world.keeper.revoke(CALLER, &name("over"), "lost", Some(1000)).await.unwrap();
    assert!(!again.known, "an entry that is over is a new one");
    assert!(again.entry.expires_unix > Some(now));
    assert_eq!(world.keeper.list().entries.len(), 2);
    let kept = &world.steps.trust.current().1.deny;
    assert!(kept.get(&DenyTarget::Identity("lately".into())).is_some());
    assert!(kept.get(&DenyTarget::Identity("long ago".into())).is_none());
}

#[tokio::test]
async fn what_cannot_be_written_is_not_in_force() {
    let world = world();
    world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    // No file can be made under this name, as on a disk that is full.
    fs::create_dir(world.steps.dir.join(format!("{FILE}.new"))).unwrap();
    world.steps.take();
    let error = world.keeper.revoke(CALLER, &name("b"), "lost", None).await.unwrap_err();
    assert!(error.starts_with("the change is not in force"), "{error}");
    let error = world.keeper.remove(&name("a")).await.unwrap_err();
    assert!(error.starts_with("the change is not in force"), "{error}");
    assert_eq!(world.steps.take(), []);
    assert_eq!(world.keeper.list().entries.len(), 1);
}

#[tokio::test]
async fn an_entry_that_is_not_in_force_is_not_called_so() {
    let world = world();
    world.steps.publishes.store(false, Ordering::SeqCst);
    let error = world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap_err();
    assert!(error.contains("on disk") && error.contains("not yet"), "{error}");
    assert_eq!(entries_on_disk(&world.steps.dir), 1);
    // Trying again succeeds, although the entry is known.
    world.steps.publishes.store(true, Ordering::SeqCst);
    assert!(world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap().known);
}

#[tokio::test(start_paused = true)]
async fn silent_workers_are_waited_for_and_then_reported() {
    let world = world();
    world.steps.answers.store(false, Ordering::SeqCst);
    let steps = world.steps.clone();
    let late = tokio::spawn(async move {
        tokio::time::sleep(ACKNOWLEDGE_TIMEOUT / 2).await;
        steps.answers.store(true, Ordering::SeqCst);
    });
    world.keeper.revoke(CALLER, &name("a"), "lost", None).await.unwrap();
    late.await.unwrap();
    world.steps.answers.store(false, Ordering::SeqCst);
    let error = world.keeper.revoke(CALLER, &name("b"), "lost", None).await.unwrap_err();
    assert!(error.contains("a worker has not said"), "{error}");
}

#[tokio::test]
async fn nonsense_is_refused_before_anything_happens() {
    let world = world();
    for target in [
        Target::Spki("ab".repeat(31)),
        Target::Fingerprint("xy".repeat(32)),
        Target::Serial { issuer: "ab".repeat(32), serial: "00".repeat(21) + "01" + &"00".repeat(20) },
        Target::Serial { issuer: "ab".to_owned(), serial: "01".to_owned() },
        Target::Ca(String::new()),
        Target::Identity(String::new()),
    ] {
        assert!(world.keeper.revoke(CALLER, &target, "lost", None).await.is_err(), "{target:?}");
    }
    assert!(world.keeper.revoke(CALLER, &name("a"), "", None).await.is_err(), "a reason is needed");
    assert!(world.keeper.revoke(CALLER, &name("a"), "lost\n", None).await.is_err());
    assert!(world.keeper.revoke(CALLER, &name("a"), "lost", Some(0)).await.is_err());
    assert_eq!(world.steps.take(), []);
    assert!(!world.steps.dir.join(FILE).exists());
}

#[test]
fn the_digest_is_of_whom_it_is_about() {
    let entry = |identity: &str, reason: &str| DenyEntry {
        target: DenyTarget::Identity(identity.into()),
        reason: reason.to_owned(),
        added_unix: 1,
        by: "b".to_owned(),
        expires_unix: None,
    };
    let of = |entries: &[DenyEntry]| {
        let mut list = DenyList::new();
        entries.iter().for_each(|entry| drop(list.add(entry.clone()).unwrap()));
        digest(&list)
    };
    let (a, b) = (entry("a", "r"), entry("b", "r"));
    assert_eq!(of(&[a.clone(), b.clone()]), of(&[b.clone(), entry("a", "another reason")]));
    assert_ne!(of(&[a.clone(), b]), of(&[a]));
}
