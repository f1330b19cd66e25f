//! Notices that files may have changed: inotify on the directories that matter, and a slow poll as a net.
//!
//! Watching a file does not work: after an atomic rename or a Kubernetes `..data` swap the watch hangs on the old inode
//! and reports nothing more. So the watches are on directories: of every file, and of every symbolic link on the way to
//! it. What changed is not asked: whoever is woken reads everything again and compares.
//!
//! The files may be on a mount that has stopped answering, where every look waits. So who reads them finds out beside everything else
//! which directories matter ([`Interests::of`]), and these are watched on a thread of their own ([`Placing`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior};

/// Wakes its owner when something may have changed.
#[derive(Debug)]
pub(crate) struct Watch {
    placing: Arc<Placing>,
    events: mpsc::Receiver<()>,
    /// When quiet after an event, and when at the latest, the owner is woken.
    due: Option<(Instant, Instant)>,
    poll: tokio::time::Interval,
}

/// What matters in each watched directory. Others may write there too, such as our own access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interests(BTreeMap<PathBuf, Interest>);

/// What matters in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Interest {
    /// Whatever happens, since its files are taken as they come.
    All,
    /// These entries.
    Names(BTreeSet<OsString>),
}

/// Why [`Watch::changed`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Something happened in a watched directory.
    Event,
    /// It is time to look anyway.
    Poll,
}

/// Puts watches where they are wanted. The kernel looks at a directory for it, and so may have to wait.
#[derive(Debug)]
struct Placing {
    /// Absent if the kernel refuses (inotify instances are limited per user); then only the poll is left.
    watcher: Mutex<Option<RecommendedWatcher>>,
    wanted: Mutex<Wanted>,
    /// What is watched. Shared with the thread that the events come from.
    interests: Arc<Mutex<Interests>>,
    sender: mpsc::Sender<()>,
}

/// What [`Placing`] has not done yet.
#[derive(Debug, Default)]
struct Wanted {
    next: Option<Interests>,
    /// Directories that answered a moment ago. The others are left alone.
    seen: BTreeSet<PathBuf>,
    /// A thread is at it.
    is_under_way: bool,
}

impl Watch {
    /// Watches nothing yet. To be called within a runtime.
    pub(crate) fn new() -> Watch {
        let interests = Arc::new(Mutex::new(Interests::default()));
        // One place is enough: an event that finds it taken is covered by the wake-up that is already due.
        let (sender, events) = mpsc::channel(1);
        let (relevant, woken) = (interests.clone(), sender.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may be a queue that overflowed, so that events are missing.
            if event.map_or(true, |event| concerns(&event, &lock(&relevant))) {
                let _ = woken.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, poll_seconds = POLL.as_secs(), "files cannot be watched, they are only polled");
            })
            .ok();
        let mut poll = tokio::time::interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (watcher, wanted) = (Mutex::new(watcher), Mutex::default());
        let placing = Arc::new(Placing { watcher, wanted, interests, sender });
        Watch { placing, events, due: None, poll }
    }

    /// Watches `interests` before long, and nothing else any more. `seen` are those of them that were found just now, which are
    /// watched again: a directory that was replaced by another of its name has lost its watch. Once something is watched that was
    /// not, the owner is woken, since what changed before was not noticed. Does not wait.
    pub(crate) fn set(&self, interests: Interests, seen: &Interests) {
        let mut wanted = lock(&self.placing.wanted);
        wanted.next = Some(interests);
        wanted.seen.extend(seen.0.keys().cloned());
        if !wanted.is_under_way {
            wanted.is_under_way = true;
            let placing = self.placing.clone();
            spawn_blocking(move || placing.run());
        }
    }

    /// Waits until something may have changed and has been quiet for a moment: whoever renews a certificate writes two
    /// files. Where something happens all the time, the wait ends nevertheless. Loses nothing if it is dropped before its end.
    pub(crate) async fn changed(&mut self) -> Wake {
        loop {
            match self.due {
                None => {
                    tokio::select! {
                        _ = self.poll.tick() => return Wake::Poll,
                        Some(()) = self.events.recv() => {
                            let now = Instant::now();
                            self.due = Some((now + DEBOUNCE, now + DEBOUNCE_MAX));
                        }
                    }
                }
                Some((quiet, latest)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(quiet.min(latest)) => {
                            self.due = None;
                            return Wake::Event;
                        }
                        Some(()) = self.events.recv() => self.due = Some((Instant::now() + DEBOUNCE, latest)),
                    }
                }
            }
        }
    }
}

impl Interests {
    /// Where something happens when what one of `paths` names changes. Looks at all that is on the way, and so may wait for ever.
    pub(crate) fn of(paths: &[PathBuf]) -> Interests {
        let mut interests = Interests::default();
        paths.iter().for_each(|path| interests.add(path));
        interests
    }

    /// These, too.
    pub(crate) fn merge(&mut self, others: &Interests) {
        for (directory, interest) in &others.0 {
            match interest {
                Interest::All => _ = self.0.insert(directory.clone(), Interest::All),
                Interest::Names(names) => {
                    names.iter().for_each(|name| self.add_name(directory, name.clone()))
                }
            }
        }
    }

    /// Adds every symbolic link on the way to `path`, the file itself, and all that `path` holds if it is a directory.
    fn add(&mut self, path: &Path) {
        let mut rest: Vec<OsString> =
            reversed(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let entry = here.join(&name);
            match fs::read_link(&entry) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    self.add_existing(&here, name);
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    rest.extend(reversed(&target));
                }
                _ => {
                    // Missing, a file or a directory. What is missing is noticed when it appears in here.
                    if rest.is_empty() || !entry.exists() {
                        self.add_existing(&here, name);
                    }
                    here = entry;
                }
            }
        }
        if here.is_dir() {
            self.0.insert(here, Interest::All);
        }
    }

    /// What lies below something missing or below a file cannot be watched.
    fn add_existing(&mut self, directory: &Path, name: OsString) {
        if directory.is_dir() {
            self.add_name(directory, name);
        }
    }

    fn add_name(&mut self, directory: &Path, name: OsString) {
        let nothing = || Interest::Names(BTreeSet::new());
        if let Interest::Names(names) = self.0.entry(directory.to_owned()).or_insert_with(nothing) {
            names.insert(name);
        }
    }
}

impl Placing {
    /// Goes on until nothing more is wanted.
    fn run(&self) {
        let mut watcher = lock(&self.watcher);
        loop {
            let (interests, seen) = {
                let mut wanted = lock(&self.wanted);
                let Some(next) = wanted.next.take() else {
                    wanted.is_under_way = false;
                    return;
                };
                (next, std::mem::take(&mut wanted.seen))
            };
            if let Some(watcher) = &mut *watcher {
                self.place(watcher, &interests, &seen);
            }
            let is_new = *lock(&self.interests) != interests;
            *lock(&self.interests) = interests;
            if is_new {
                let _ = self.sender.try_send(());
            }
        }
    }

    fn place(&self, watcher: &mut RecommendedWatcher, interests: &Interests, seen: &BTreeSet<PathBuf>) {
        // Not to be held meanwhile: the thread that the events come from does what is asked here.
        let before: Vec<PathBuf> = lock(&self.interests).0.keys().cloned().collect();
        for directory in before.iter().filter(|directory| !interests.0.contains_key(*directory)) {
            // It may be gone, and its watch with it.
            let _ = watcher.unwatch(directory);
        }
        for directory in interests.0.keys().filter(|directory| seen.contains(*directory)) {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "directory cannot be watched, it is only polled");
            }
        }
    }
}

/// Whether an event is a change of something that matters.
fn concerns(event: &notify::Event, interests: &Interests) -> bool {
    let matters = |path: &PathBuf| {
        // Of the directory itself, as when it is removed.
        if interests.0.contains_key(path) {
            return true;
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return true };
        match interests.0.get(directory) {
            Some(Interest::All) => true,
            Some(Interest::Names(names)) => names.contains(name),
            None => false,
        }
    };
    is_change(event.kind) && (event.paths.is_empty() || event.paths.iter().any(matters))
}

/// Reading is no change. Our own reading would wake us for ever.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// A poisoned lock is entered anyway: no state in between is invalid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renewal tools write certificate and key within milliseconds of each other.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// The longest that a change waits for quiet.
const DEBOUNCE_MAX: Duration = Duration::from_secs(2);
/// Network file systems report nothing, and queues of events can overflow.
const POLL: Duration = Duration::from_secs(60);
/// As many as Linux follows (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A Kubernetes secret volume: `tls.pem` → `..data/tls.pem`, `..data` → a directory with a date.
    fn secret_volume() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("..first")).unwrap();
        fs::write(root.join("..first/tls.pem"), "1").unwrap();
        symlink("..first", root.join("..data")).unwrap();
        symlink("..data/tls.pem", root.join("tls.pem")).unwrap();
        (dir, root)
    }

    fn interests(path: &Path) -> Vec<(PathBuf, String)> {
        let found = Interests::of(&[path.to_owned()]);
        let text = |interest: Interest| match interest {
            Interest::All => "*".to_owned(),
            Interest::Names(names) => {
                names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(" ")
            }
        };
        found.0.into_iter().map(|(directory, interest)| (directory, text(interest))).collect()
    }

    /// Something that watches this path.
    async fn watching(path: &Path) -> Watch {
        let mut watch = Watch::new();
        watch_what_leads_to(path, &mut watch).await;
        watch
    }

    /// Waits until it is watched.
    async fn watch_what_leads_to(path: &Path, watch: &mut Watch) {
        let interests = Interests::of(&[path.to_owned()]);
        watch.set(interests.clone(), &interests);
        let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
        assert_eq!(wake, Ok(Wake::Event), "what changed before was not noticed");
    }

    #[test]
    fn everything_on_the_way_is_watched() {
        let (_dir, root) = secret_volume();
        let first = root.join("..first");
        let all =
            |text: &str| vec![(root.clone(), "..data tls.pem".to_owned()), (first.clone(), text.to_owned())];
        assert_eq!(interests(&root.join("tls.pem")), all("tls.pem"));
        let directory = vec![(root.clone(), "..first".to_owned()), (first.clone(), "*".to_owned())];
        assert_eq!(interests(&first), directory);
        symlink(&root, first.join("up")).unwrap();
        assert_eq!(interests(&first.join("up/tls.pem")), all("tls.pem up"));
    }

    #[test]
    fn what_is_missing_is_waited_for_and_loops_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        assert_eq!(interests(&root.join("no/such/file")), [(root.clone(), "no".to_owned())]);
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(interests(&root.join("a")), [(root, "a b".to_owned())]);
    }

    #[test]
    fn neighbours_do_not_matter() {
        let (_dir, root) = secret_volume();
        let mut known = Interests::of(&[root.join("tls.pem")]);
        let event = |path: PathBuf| notify::Event::new(EventKind::Any).add_path(path);
        assert!(concerns(&event(root.join("tls.pem")), &known));
        assert!(concerns(&event(root.join("..data")), &known));
        assert!(concerns(&event(root.clone()), &known));
        assert!(!concerns(&event(root.join("access.json")), &known));
        known.merge(&Interests::of(std::slice::from_ref(&root)));
        assert!(concerns(&event(root.join("new.pem")), &known));
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.rego");
        fs::write(&path, "0").unwrap();
        let mut watch = watching(&path).await;
        fs::write(&path, "1").unwrap();
        // Given up again and again within the wait for quiet, as by a loop that has other things to do.
        let give_up = DEBOUNCE / 10;
        let mut attempts = 0;
        while tokio::time::timeout(give_up, watch.changed()).await.is_err() {
            attempts += 1;
            assert!(attempts < 1000, "the change was lost");
        }
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Any));
    }

    /// As when the kernel looks at a directory on a mount that does not answer.
    #[tokio::test]
    async fn placing_watches_delays_nobody_and_takes_one_thread() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new();
        let placing = watch.placing.clone();
        let hanging = lock(&placing.watcher);
        for name in ["a", "b", "c"] {
            let interests = Interests::of(&[dir.path().join(name)]);
            watch.set(interests.clone(), &interests);
        }
        assert!(lock(&placing.wanted).is_under_way && lock(&placing.interests).0.is_empty());
        drop(hanging);
        let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
        assert_eq!(wake, Ok(Wake::Event));
        assert_eq!(*lock(&placing.interests), Interests::of(&[dir.path().join("c")]), "the last ones");
    }

    #[tokio::test]
    async fn a_swap_of_the_data_link_is_noticed_every_time() {
        let (_dir, root) = secret_volume();
        let path = root.join("tls.pem");
        let mut watch = watching(&path).await;
        for turn in 0..3 {
            let next = root.join(format!("..next{turn}"));
            fs::create_dir(&next).unwrap();
            fs::write(next.join("tls.pem"), format!("{turn}")).unwrap();
            symlink(next.file_name().unwrap(), root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
            assert_eq!(wake, Ok(Wake::Event), "swap {turn}");
            // The link leads elsewhere, and so something else is watched.
            watch_what_leads_to(&path, &mut watch).await;
        }
    }

    #[tokio::test]
    async fn an_atomic_rename_is_noticed_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.rego");
        fs::write(&path, "0").unwrap();
        let mut watch = watching(&path).await;
        for turn in 0..3 {
            fs::write(dir.path().join("new"), format!("{turn}")).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
            let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
            assert_eq!(wake, Ok(Wake::Event), "rename {turn}");
        }
    }
}
