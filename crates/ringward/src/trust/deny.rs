//! The deny list: whom an operator has refused, on disk before anybody relies on it, and in force before anybody is told.
//!
//! An entry is written to the state directory first, then published, and whoever asked hears of it when every worker has it.
//! A process that is killed in between finds the old list or the new one at its next start, and the new one from the moment
//! on in which the operator could have heard of it. A list that cannot be read keeps the process from starting: it never
//! means that nobody is refused.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use ringward_proxy::LivePeer;
use ringward_tls::{DenyEntry, DenyList, DenyTarget, IssuerId};
use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::preview::{Hits, tally};
use super::state::{StateDir, StateError};
use super::{TrustKeeper, TrustVersion};
use crate::admin_socket::{Caller, Target};
use crate::hex;
use crate::table::{Table, moment, printable};

/// The serving side, as far as a revocation concerns it. The process has one, tests have another.
pub(crate) trait Enforcement: Send + Sync + 'static {
    /// Puts at least this version in force; the generation that has it.
    fn publish(&self, version: TrustVersion) -> impl Future<Output = Result<u64, String>> + Send;
    /// Whether all workers use that generation.
    fn is_acknowledged(&self, generation: u64) -> bool;
    /// Who is connected, if the workers say so in time.
    fn census(&self) -> impl Future<Output = Option<Vec<LivePeer>>> + Send;
}

/// Changes the deny list.
#[derive(Debug)]
pub(crate) struct DenyKeeper<E> {
    trust: Arc<TrustKeeper>,
    enforcement: Arc<E>,
    /// One change at a time, from the reading of the list until it is in force.
    turn: Mutex<()>,
}

/// The answer to `revoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revoked {
    /// The entry, as it is in force.
    pub(crate) entry: DenyEntryStatus,
    /// Whether it was there before.
    pub(crate) known: bool,
    /// The generation since which every worker has it.
    pub(crate) generation: u64,
    /// From the request until every worker had it.
    pub(crate) took_milliseconds: u64,
    /// The connections that were open and are ended; absent if the workers did not say in time who was connected.
    pub(crate) hits: Option<Hits>,
}

/// The answer to `revoke --remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The entry that is gone; absent if there was none.
    pub(crate) entry: Option<DenyEntryStatus>,
    /// The generation since which it is.
    pub(crate) generation: u64,
}

/// The answer to `revoke list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DenyEntries {
    /// In the order in which they were added.
    pub(crate) entries: Vec<DenyEntryStatus>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DenyEntryStatus {
    /// Whom it is about.
    pub(crate) subject: String,
    /// Why.
    pub(crate) reason: String,
    /// When it was added, seconds since 1970.
    pub(crate) added_unix: i64,
    /// By whom.
    pub(crate) by: String,
    /// Until when it holds, seconds since 1970; for ever if absent.
    pub(crate) expires_unix: Option<i64>,
}

/// Reads the list that was in force when the process ended last.
///
/// # Errors
/// If there is one and it is not exactly what was written.
pub(crate) fn load(state_dir: &StateDir) -> Result<DenyList, StateError> {
    match state_dir.read_sealed(FILE, FILE_BYTES_MAX)? {
        None => Ok(DenyList::new()),
        Some(content) => DenyList::parse(&content).map_err(|error| StateError::Damaged {
            path: state_dir.path_of(FILE),
            reason: error.to_string(),
        }),
    }
}

/// Puts in force what another process writes, to which the list belongs now, for ever: those who are connected to this one are
/// refused, too. A list that cannot be read leaves the one in force.
pub(crate) async fn follow(trust: Arc<TrustKeeper>) -> Infallible {
    let Some(state_dir) = trust.state_dir().cloned() else { return pending().await };
    let mut known = None;
    let mut tick = tokio::time::interval(FOLLOW_PAUSE);
    loop {
        tick.tick().await;
        let reading = state_dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Another inode whenever it is replaced.
            let seen =
                std::fs::metadata(reading.path_of(FILE)).ok().map(|file| (file.ino(), file.mtime_nsec()));
            (seen != known).then(|| (seen, load(&reading)))
        });
        match read.await {
            Ok(Some((seen, Ok(list)))) => {
                known = seen;
                trust.update(|state| state.deny = Arc::new(list));
            }
            Ok(Some((seen, Err(error)))) => {
                known = seen;
                tracing::error!(%error, "the deny list of the new process cannot be read");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the deny list of the new process cannot be read"),
        }
    }
}

impl<E: Enforcement> DenyKeeper<E> {
    /// Keeps the list of `trust`.
    pub(crate) fn new(trust: Arc<TrustKeeper>, enforcement: Arc<E>) -> DenyKeeper<E> {
        DenyKeeper { trust, enforcement, turn: Mutex::new(()) }
    }

    /// Refuses somebody from now on. An entry that is there already is kept, for the longer of the two times.
    ///
    /// # Errors
    /// If the entry is not on disk, or not known to be in force everywhere.
    pub(crate) async fn revoke(
        &self,
        caller: Caller,
        target: &Target,
        reason: &str,
        expires_seconds: Option<u64>,
    ) -> Result<Revoked, String> {
        let begun = Instant::now();
        let _turn = self.turn.lock().await;
        let now = now_unix();
        let entry = DenyEntry {
            target: deny_target(target)?,
            reason: reason.to_owned(),
            added_unix: now,
            by: format!("uid {}", caller.uid),
            expires_unix: expires_seconds.map(|seconds| now.saturating_add_unsigned(seconds)),
        };
        let (_, state) = self.trust.current();
        let (list, entry, known) = with_entry(&state.deny, entry, now)?;
        // Who is connected is asked while the disk works: afterwards those who are hit would be gone. A revocation does not
        // wait for an answer that a busy worker owes.
        let census = tokio::time::timeout(CENSUS_WAIT, self.enforcement.census());
        let (written, peers) = tokio::join!(self.write(&list), census);
        let peers = peers.ok().flatten();
        written?;
        let generation = self.enforce(list).await?;
        let took_milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let hits = peers.map(|peers| hits(&peers, &entry));
        Ok(Revoked { entry: DenyEntryStatus::of(&entry), known, generation, took_milliseconds, hits })
    }

    /// Takes an entry off the list.
    ///
    /// # Errors
    /// If that is not on disk, or not known to be in force everywhere.
    pub(crate) async fn remove(&self, target: &Target) -> Result<Removed, String> {
        let _turn = self.turn.lock().await;
        let (_, state) = self.trust.current();
        let mut list = (*state.deny).clone();
        let removed = list.remove(&deny_target(target)?);
        remove_long_expired(&mut list, now_unix());
        self.write(&list).await?;
        let generation = self.enforce(list).await?;
        Ok(Removed { entry: removed.as_ref().map(DenyEntryStatus::of), generation })
    }

    /// The entries in force.
    pub(crate) fn list(&self) -> DenyEntries {
        let (_, state) = self.trust.current();
        let now = now_unix();
        let in_force = state.deny.entries().into_iter().filter(|entry| entry.holds_at(now));
        DenyEntries { entries: in_force.map(DenyEntryStatus::of).collect() }
    }

    /// Puts the list on disk.
    async fn write(&self, list: &DenyList) -> Result<(), String> {
        let state_dir = self
            .trust
            .state_dir()
            .cloned()
            .ok_or("there is no `state_dir` in [server] to keep the deny list in")?;
        let content = list.serialize();
        // What is larger could not be read again.
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "nothing has changed: the deny list would have more than {FILE_BYTES_MAX} bytes"
            ));
        }
        let written =
            tokio::task::spawn_blocking(move || state_dir.write_sealed(FILE, content.as_bytes())).await;
        let written = written
            .map_err(|error| error.to_string())
            .and_then(|result| result.map_err(|error| error.to_string()));
        // If only the directory could not be synced, the next start may find the new list.
        written.map_err(|error| format!("the change is not in force, and may not be on disk: {error}"))
    }

    /// Puts a list in force that is on disk, and waits until no worker goes by another one.
    async fn enforce(&self, list: DenyList) -> Result<u64, String> {
        let list = Arc::new(list);
        let version = self.trust.update(|state| state.deny = list);
        let generation = self.enforcement.publish(version).await.map_err(|error| {
            format!(
                "the deny list is on disk and will be in force after a restart, but it is not yet: {error}"
            )
        })?;
        let deadline = Instant::now() + ACKNOWLEDGE_TIMEOUT;
        while !self.enforcement.is_acknowledged(generation) {
            if Instant::now() >= deadline {
                return Err(format!(
                    "the deny list is on disk and in force for new connections, but a worker has not said within {} s that it \
                     has generation {generation}: ask again, and see `/healthz`",
                    ACKNOWLEDGE_TIMEOUT.as_secs()
                ));
            }
            tokio::time::sleep(ACKNOWLEDGE_PAUSE).await;
        }
        Ok(generation)
    }
}

/// A list with the entry, and how the entry is in it, and whether it was before.
fn with_entry(
    list: &DenyList,
    mut entry: DenyEntry,
    now: i64,
) -> Result<(DenyList, DenyEntry, bool), String> {
    let mut list = list.clone();
    remove_long_expired(&mut list, now);
    let known = list.get(&entry.target).filter(|known| known.holds_at(now)).cloned();
    if let Some(known) = &known {
        (entry.added_unix, entry.by) = (known.added_unix, known.by.clone());
        // Asking again, or a script that does so each night, must not shorten what somebody else decided.
        entry.expires_unix = match (known.expires_unix, entry.expires_unix) {
            (Some(known), Some(asked)) => Some(known.max(asked)),
            _ => None,
        };
    }
    list.add(entry.clone()).map_err(|error| error.to_string())?;
    let entry = list.get(&entry.target).cloned().unwrap_or(entry);
    Ok((list, entry, known.is_some()))
}

/// Tidies up, but not what expired lately: a clock that was ahead for a moment must not have taken refusals away for good.
fn remove_long_expired(list: &mut DenyList, now: i64) {
    list.remove_expired(now.saturating_sub(KEPT_EXPIRED_SECONDS));
}

/// A list with an entry about `target`, to see whom it would hit.
///
/// # Errors
/// If the target cannot be read.
pub(crate) fn with_target(list: &DenyList, target: &Target) -> Result<DenyList, String> {
    let entry = DenyEntry {
        target: deny_target(target)?,
        reason: "preview".to_owned(),
        added_unix: now_unix(),
        by: "preview".to_owned(),
        expires_unix: None,
    };
    with_entry(list, entry, now_unix()).map(|(list, ..)| list)
}

/// The connections of clients that an entry is about.
fn hits(peers: &[LivePeer], entry: &DenyEntry) -> Hits {
    let mut list = DenyList::new();
    if list.add(entry.clone()).is_err() {
        return Hits::default();
    }
    let now = now_unix();
    tally(peers, |live| {
        let (peer, path) = (live.peer.as_ref()?, live.path.as_ref()?);
        list.find(path, peer, now).map(|entry| format!("on the deny list: {}", entry.target))
    })
}

/// SHA-256 of a list, to compare nodes by: of whom it is about, not of who entered it when.
pub(crate) fn digest(list: &DenyList) -> String {
    let mut hash = Sha256::new();
    let mut targets: Vec<&DenyTarget> = list.entries().into_iter().map(|entry| &entry.target).collect();
    targets.sort();
    for target in targets {
        let text = target.to_string();
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hex::encode(&hash.finalize())
}

fn deny_target(target: &Target) -> Result<DenyTarget, String> {
    let issuer = |text: &str| {
        hex::decode_array(text).map(IssuerId).ok_or_else(|| format!("`{text}` is not an issuer"))
    };
    let digest = |text: &str| {
        hex::decode_array(text).ok_or_else(|| format!("`{text}` is not SHA-256 in hexadecimal digits"))
    };
    Ok(match target {
        Target::Serial { issuer: by, serial } => DenyTarget::Serial {
            issuer: issuer(by)?,
            serial: serial.parse().map_err(|error| format!("`{serial}`: {error}"))?,
        },
        Target::Spki(text) => DenyTarget::Spki(digest(text)?),
        Target::Fingerprint(text) => DenyTarget::Fingerprint(digest(text)?),
        Target::Identity(name) => DenyTarget::Identity(name.as_str().into()),
        Target::Ca(text) => DenyTarget::Ca(issuer(text)?),
    })
}

impl DenyEntryStatus {
    fn of(entry: &DenyEntry) -> DenyEntryStatus {
        DenyEntryStatus {
            subject: entry.target.to_string(),
            reason: entry.reason.clone(),
            added_unix: entry.added_unix,
            by: entry.by.clone(),
            expires_unix: entry.expires_unix,
        }
    }
}

impl fmt::Display for DenyEntryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.expires_unix.map_or_else(String::new, |until| format!(" until {}", moment(until)));
        write!(f, "{}{until} ({})", printable(&self.subject), printable(&self.reason))
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Revoked { entry, known, generation, took_milliseconds, hits } = self;
        let what = if *known { "refused as before" } else { "refused from now on" };
        writeln!(f, "{what}: {entry}")?;
        writeln!(
            f,
            "on disk, and in force on every worker since generation {generation}, after {took_milliseconds} ms"
        )?;
        match hits {
            Some(hits) => write!(f, "ended: {hits}"),
            None => writeln!(
                f,
                "how many connections that ends is not known: the workers did not say in time who is connected"
            ),
        }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => writeln!(f, "no longer refused since generation {}: {entry}", self.generation),
            None => writeln!(f, "there was no such entry"),
        }
    }
}

impl fmt::Display for DenyEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return writeln!(f, "the deny list is empty");
        }
        let mut table = Table::new(&["refused", "since", "until", "by", "reason"]);
        for DenyEntryStatus { subject, reason, added_unix, by, expires_unix } in &self.entries {
            let until = expires_unix.map_or_else(|| "for ever".to_owned(), moment);
            table.row([subject.clone(), moment(*added_unix), until, by.clone(), reason.clone()]);
        }
        write!(f, "{table}")
    }
}

fn now_unix() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

/// Fast enough for connections that are about to end anyway.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);
/// Name in the state directory.
const FILE: &str = "deny-list";
/// The most entries with texts of usual length, several times over.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Time to notice that a clock is wrong.
const KEPT_EXPIRED_SECONDS: i64 = 7 * 24 * 3600;
/// Workers answer at their next beat, 20 times per second; a policy may hold one up for a second.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Some beats.
const CENSUS_WAIT: Duration = Duration::from_millis(500);
const ACKNOWLEDGE_PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests;
