//! What is trusted beyond the configuration, and changes without it: the deny list, ticket keys, fetched revocation lists
//! and staples.
//!
//! [`TrustKeeper`] is where they meet. Whoever has something new ([`deny`] and [`keys`] on an operator's word; `crl`, `ocsp`
//! and `staple` from the network) hands it over with [`TrustKeeper::update`]; the publisher puts it in force with the
//! configuration that runs, without reading a file again. Nothing in here lets a client in or keeps one out: the workers do,
//! on the snapshot that results.

mod candidate;
mod clients;
pub(crate) mod clock;
pub(crate) mod crl;
pub(crate) mod deny;
mod describe;
pub(crate) mod fetch;
pub(crate) mod keys;
pub(crate) mod network;
pub(crate) mod ocsp;
pub(crate) mod operations;
pub(crate) mod preview;
mod responder;
pub(crate) mod schedule;
pub(crate) mod staple;
pub(crate) mod state;
pub(crate) mod status;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ringward_config::{Config, Diagnostic, Diagnostics, Listener, Resumption, Severity};
use ringward_tls::{DenyList, KeyRing, OcspTable, SessionCache, Staple};
use rustls::pki_types::UnixTime;
use tokio::sync::{Notify, watch};

use self::crl::floors::Floors;
use self::crl::list::List;
use self::state::{StateDir, StateError};
use self::status::{CrlStatus, OcspStatus, StapleStatus};
use crate::load::Loaded;
use crate::upgrade::Bequest;

/// Keeps what is trusted now, and wakes the publisher when it changes.
#[derive(Debug)]
pub(crate) struct TrustKeeper {
    /// Where refusals and copies are kept. Absent if the configuration names no `state_dir`, and then nothing that needs one
    /// is configured either.
    state_dir: Option<Arc<StateDir>>,
    /// The highest numbers of revocation lists.
    floors: Floors,
    /// Answers of OCSP responders, which workers read without a new snapshot.
    ocsp: Arc<OcspTable>,
    /// Sessions of clients, which workers share without a new snapshot. Made when the first listener wants it, since it takes
    /// all of its memory at once.
    session_cache: OnceLock<Arc<SessionCache>>,
    kept: Mutex<Kept>,
    /// Held while a ring is rotated: a file is read and replaced. Whether a successor has what there is, or is about to.
    rotating: Mutex<bool>,
    changed: Notify,
    /// The configuration in force and what was loaded for it.
    in_force: watch::Sender<Option<Arc<Loaded>>>,
}

#[derive(Debug)]
struct Kept {
    version: TrustVersion,
    state: TrustState,
    reports: Reports,
}

/// What was found in the state directory. Nobody else can take it while this is there.
pub(crate) struct Remembered {
    state_dir: Option<Arc<StateDir>>,
    floors: Floors,
    deny: DenyList,
    /// Of a predecessor.
    ring: Option<KeyRing>,
}

/// Counts the changes of a [`TrustState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrustVersion(u64);

/// What every snapshot takes from here. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TrustState {
    /// Who is refused by an operator's word.
    pub(crate) deny: Arc<DenyList>,
    /// What seals session tickets if the configuration names no ring file.
    pub(crate) own_ring: Arc<KeyRing>,
    /// The ring file that we have rotated last.
    pub(crate) rotated_ring: Option<RotatedRing>,
    /// Revocation lists that were fetched, or read from the copies in the state directory, in any order. Those of files that
    /// the configuration names are in [`Loaded`]. What counts of them all is said by [`crl::list::in_force`].
    pub(crate) fetched_crls: Arc<Vec<List>>,
    /// Staples of our own certificates, by SHA-256 of the leaf's DER.
    pub(crate) staples: Arc<HashMap<[u8; 32], Arc<Staple>>>,
}

/// A ring file as we have written it.
#[derive(Clone, Debug)]
pub(crate) struct RotatedRing {
    /// The file.
    pub(crate) file: PathBuf,
    /// Its content.
    pub(crate) ring: Arc<KeyRing>,
    /// When it was written, at the latest.
    pub(crate) at: Instant,
}

impl TrustState {
    /// The keys that seal session tickets under a configuration.
    pub(crate) fn key_ring(&self, loaded: &Loaded) -> Arc<KeyRing> {
        let file = loaded.config.keys.file.as_ref().map(|named| &named.path);
        match (&self.rotated_ring, &loaded.key_ring) {
            // Until the file is read again, which a load that had begun before may or may not have done.
            (Some(rotated), _) if Some(&rotated.file) == file && rotated.at >= loaded.begun => {
                rotated.ring.clone()
            }
            (_, Some(ring)) => ring.clone(),
            (_, None) => self.own_ring.clone(),
        }
    }
}

/// What those who fetch say about their work, for `trust status`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    /// Revocation lists of all sources, also those that could not be had.
    pub(crate) crls: Vec<CrlStatus>,
    /// The table of OCSP answers.
    pub(crate) ocsp: Option<OcspStatus>,
    /// Staples of our own certificates.
    pub(crate) staples: Vec<StapleStatus>,
}

/// Takes the state directory of a configuration, and what the process remembers in it. `bequest` is what a predecessor has handed
/// over.
///
/// # Errors
/// If there is a state directory and it cannot be used, or what is in it is damaged.
pub(crate) fn remembered(config: &Config, bequest: &mut Bequest) -> Result<Remembered, Diagnostics> {
    let mut state_dir = None;
    let mut deny = DenyList::new();
    let failed = |error: StateError| match &config.server.state_dir {
        Some(named) => Diagnostics::from(config.diagnostic(Severity::Error, &named.at, error.to_string())),
        None => Diagnostics::from(Diagnostic::whole_file(config.file(), error.to_string(), None)),
    };
    if let Some(named) = &config.server.state_dir {
        let lock = bequest.take_state(&named.path);
        let opened = StateDir::open_with(&named.path, lock).map_err(failed)?;
        deny = deny::load(&opened).map_err(failed)?;
        state_dir = Some(Arc::new(opened));
    }
    let floors = Floors::load(state_dir.clone()).map_err(failed)?;
    Ok(Remembered { state_dir, floors, deny, ring: bequest.take_ring() })
}

impl Remembered {
    /// The highest numbers of revocation lists that were ever used.
    pub(crate) fn floors(&self) -> &Floors {
        &self.floors
    }

    /// Who keeps it from now on, with new keys for tickets unless a predecessor has handed over its own.
    pub(crate) fn keeper(self, config: &Config) -> Arc<TrustKeeper> {
        let ring = match self.ring {
            Some(ring) => ring.rotating_every(config.keys.rotate_every),
            None => random_ring(config.keys.rotate_every),
        };
        TrustKeeper::new(self.state_dir, self.floors, ring, self.deny)
    }
}

/// As if nothing was remembered. For checks, which must not touch what a running process has.
pub(crate) fn without_state(config: &Config) -> Arc<TrustKeeper> {
    let floors = Floors::load(None).expect("nothing is read without a state directory");
    TrustKeeper::new(None, floors, random_ring(config.keys.rotate_every), DenyList::new())
}

fn random_ring(rotate_every: Duration) -> KeyRing {
    KeyRing::random(UnixTime::now(), rotate_every)
}

impl TrustKeeper {
    fn new(
        state_dir: Option<Arc<StateDir>>,
        floors: Floors,
        ring: KeyRing,
        deny: DenyList,
    ) -> Arc<TrustKeeper> {
        let state = TrustState {
            deny: Arc::new(deny),
            own_ring: Arc::new(ring),
            rotated_ring: None,
            fetched_crls: Arc::default(),
            staples: Arc::default(),
        };
        let kept = Kept { version: TrustVersion::default(), state, reports: Reports::default() };
        Arc::new(TrustKeeper {
            state_dir,
            floors,
            ocsp: Arc::default(),
            session_cache: OnceLock::new(),
            kept: Mutex::new(kept),
            rotating: Mutex::new(false),
            changed: Notify::new(),
            in_force: watch::Sender::new(None),
        })
    }

    /// With nothing but a state directory.
    #[cfg(test)]
    fn for_test(state_dir: Option<Arc<StateDir>>) -> Arc<TrustKeeper> {
        let floors = Floors::load(state_dir.clone()).unwrap();
        TrustKeeper::new(state_dir, floors, random_ring(Duration::from_secs(3600)), DenyList::new())
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> Option<&Arc<StateDir>> {
        self.state_dir.as_ref()
    }

    /// The highest numbers of revocation lists.
    pub(crate) fn floors(&self) -> &Floors {
        &self.floors
    }

    /// The table of OCSP answers.
    pub(crate) fn ocsp(&self) -> &Arc<OcspTable> {
        &self.ocsp
    }

    /// The session cache, if a listener of `config` uses one. Its size is that of the first configuration that did.
    pub(crate) fn session_cache(&self, config: &Config) -> Option<Arc<SessionCache>> {
        let uses_it = |listener: &Listener| listener.resumption == Resumption::Cache;
        config.listeners.iter().any(uses_it).then(|| {
            let ringward_config::SessionCache { entries, bytes_max } = config.server.session_cache;
            self.session_cache.get_or_init(|| Arc::new(SessionCache::new(entries, bytes_max))).clone()
        })
    }

    /// What is trusted now.
    pub(crate) fn current(&self) -> (TrustVersion, TrustState) {
        let kept = self.kept();
        (kept.version, kept.state.clone())
    }

    /// Changes what is trusted and wakes the publisher. To wait until it is in force, see
    /// [`crate::publish::Publisher::publish`]. `change` must be quick: others wait for it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut TrustState)) -> TrustVersion {
        let mut kept = self.kept();
        change(&mut kept.state);
        kept.version.0 += 1;
        // One permit is kept if nobody waits just now, so no change is missed.
        self.changed.notify_one();
        kept.version
    }

    /// The turn of whoever rotates a ring; whether it is handed over. Blocks, while others write theirs.
    fn rotating(&self) -> MutexGuard<'_, bool> {
        self.rotating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses changes of what a successor takes over: what is in the state directory, and the ticket keys. Waits for those under
    /// way.
    pub(crate) fn freeze(&self) {
        *self.rotating() = true;
        if let Some(state_dir) = &self.state_dir {
            state_dir.freeze();
        }
    }

    /// Takes them again: there is no successor.
    pub(crate) fn thaw(&self) {
        *self.rotating() = false;
        if let Some(state_dir) = &self.state_dir {
            state_dir.thaw();
        }
    }

    /// Waits for a change that was not waited for yet. For the publisher alone.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What those who fetch said last.
    pub(crate) fn reports(&self) -> Reports {
        self.kept().reports.clone()
    }

    /// Renews what is said for `trust status`. Changes nothing that is in force.
    pub(crate) fn report(&self, change: impl FnOnce(&mut Reports)) {
        change(&mut self.kept().reports);
    }

    /// Follows the configuration in force: what to fetch, for whom, and how often. `None` before the first one.
    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<Loaded>>> {
        self.in_force.subscribe()
    }

    /// The configuration in force and what was loaded for it; `None` before the first one.
    pub(crate) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.in_force.borrow().clone()
    }

    /// Tells those who follow that this is in force now. For the publisher alone.
    pub(crate) fn adopted(&self, loaded: Arc<Loaded>) {
        self.in_force.send_replace(Some(loaded));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Changes are single assignments, so what a panic left is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
