//! Notices that files may have changed: inotify on the directories that matter, and a slow poll as a net.
//!
//! Watching a file does not work: after an atomic rename or a Kubernetes `..data` swap the watch hangs on the old inode
//! and reports nothing more. So the watches are on directories: of every file, and of every symbolic link on the way to
//! it. What changed is not asked: whoever is woken reads everything again and compares.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// Wakes its owner when something may have changed.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Absent if the kernel refuses (inotify instances are limited per user); then only the poll is left.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
    poll: tokio::time::Interval,
}

/// Why [`Watch::changed`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Something happened in a watched directory.
    Event,
    /// It is time to look anyway.
    Poll,
}

impl Watch {
    /// Watches nothing yet. To be called within a runtime.
    pub(crate) fn new() -> Watch {
        // One place is enough: an event that finds it taken is covered by the wake-up that is already due.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| {
                tracing::warn!(%error, poll_seconds = POLL.as_secs(), "files cannot be watched, they are only polled");
            })
            .ok();
        let mut poll = tokio::time::interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch { watcher, watched: BTreeSet::new(), events, poll }
    }

    /// Watches what concerns `paths`, and nothing else any more.
    pub(crate) fn set(&mut self, paths: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = paths.iter().flat_map(|path| directories(path)).collect();
        for directory in self.watched.difference(&wanted) {
            // It may be gone, and its watch with it.
            let _ = watcher.unwatch(directory);
        }
        // Those watched already are watched again: a directory that was replaced by another of its name has lost its watch.
        let watched = wanted.into_iter().filter(|directory| {
            watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .inspect_err(|error| {
                    tracing::warn!(directory = %directory.display(), %error, "directory cannot be watched, it is only polled");
                })
                .is_ok()
        });
        self.watched = watched.collect();
    }

    /// Waits until something may have changed and has been quiet for a moment: whoever renews a certificate writes two
    /// files. A directory in which something happens all the time is looked at once in a while nevertheless.
    pub(crate) async fn changed(&mut self) -> Wake {
        tokio::select! {
            _ = self.poll.tick() => return Wake::Poll,
            Some(()) = self.events.recv() => {}
        }
        let deadline = Instant::now() + DEBOUNCE_MAX;
        while let Ok(Some(())) = tokio::time::timeout_at(deadline.min(Instant::now() + DEBOUNCE), self.events.recv()).await {
            if Instant::now() >= deadline {
                break;
            }
        }
        Wake::Event
    }
}

/// Reading is no change. Our own reading would wake us for ever.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// The directories in which something happens when what `path` names changes: that of every symbolic link on the
/// way, that of the file itself, and `path` if it is a directory.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut rest: Vec<OsString> = reversed(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
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
                found.insert(here.clone());
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                rest.extend(reversed(&target));
            }
            _ => {
                // Missing, a file or a directory. What is missing is noticed when it appears in here.
                if rest.is_empty() || !entry.exists() {
                    found.insert(here.clone());
                }
                here = entry;
            }
        }
        if rest.is_empty() && here.is_dir() {
            found.insert(here.clone());
        }
    }
    found.retain(|directory| directory.is_dir());
    found
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

    #[test]
    fn every_directory_on_the_way_is_watched() {
        let (_dir, root) = secret_volume();
        assert_eq!(directories(&root.join("tls.pem")), BTreeSet::from([root.clone(), root.join("..first")]));
        assert_eq!(directories(&root.join("..first")), BTreeSet::from([root.clone(), root.join("..first")]));
        symlink(&root, root.join("..first/up")).unwrap();
        let far = directories(&root.join("..first/up/tls.pem"));
        assert_eq!(far, BTreeSet::from([root.clone(), root.join("..first")]));
    }

    #[test]
    fn what_is_missing_is_waited_for_and_loops_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        assert_eq!(directories(&root.join("no/such/file")), BTreeSet::from([root.clone()]));
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(directories(&root.join("a")), BTreeSet::from([root]));
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Any));
    }

    #[tokio::test]
    async fn a_swap_of_the_data_link_is_noticed_every_time() {
        let (_dir, root) = secret_volume();
        let path = root.join("tls.pem");
        let mut watch = Watch::new();
        for turn in 0..3 {
            watch.set(std::slice::from_ref(&path));
            let next = root.join(format!("..next{turn}"));
            fs::create_dir(&next).unwrap();
            fs::write(next.join("tls.pem"), format!("{turn}")).unwrap();
            symlink(next.file_name().unwrap(), root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
            assert_eq!(wake, Ok(Wake::Event), "swap {turn}");
        }
    }

    #[tokio::test]
    async fn an_atomic_rename_is_noticed_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.rego");
        fs::write(&path, "0").unwrap();
        let mut watch = Watch::new();
        watch.set(std::slice::from_ref(&path));
        for turn in 0..3 {
            fs::write(dir.path().join("new"), format!("{turn}")).unwrap();
            fs::rename(dir.path().join("new"), &path).unwrap();
            let wake = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
            assert_eq!(wake, Ok(Wake::Event), "rename {turn}");
        }
    }
}
