//! What the admin socket does: each request, and the part of the control plane that answers it.

use std::sync::Arc;
use std::time::Duration;

use ringward_proxy::{Control, LivePeer};
use rustls::pki_types::UnixTime;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::deny::{self, DenyKeeper, Enforcement};
use super::preview::{FilePreview, Hits};
use super::status::{Difference, KeysStatus, TrustStatus};
use super::{TrustKeeper, TrustState, TrustVersion, candidate, describe, keys, preview};
use crate::admin_socket::{Answer, Caller, Operations, Request, Target};
use crate::load::{self, Loaded};
use crate::publish::{self, Publisher};
use crate::reload::{self, ReloadReport};
use crate::upgrade::{Demand, UpgradeReport};

/// Does what operators ask for.
#[derive(Debug)]
pub(crate) struct Operator {
    serving: Arc<Serving>,
    trust: Arc<TrustKeeper>,
    deny: DenyKeeper<Serving>,
    reloads: mpsc::Sender<reload::Answer>,
    upgrades: mpsc::Sender<Demand>,
}

/// The workers and how they come to a new snapshot.
#[derive(Debug)]
pub(crate) struct Serving {
    control: Arc<Control>,
    publisher: Arc<Publisher>,
    /// Workers answer one census at a time; a later one would take the answers of an earlier one.
    census: Mutex<()>,
}

impl Enforcement for Serving {
    async fn publish(&self, version: TrustVersion) -> Result<u64, String> {
        let published = self.publisher.publish(version).await;
        published.map(|published| published.generation).map_err(|problems| reload::brief(&problems))
    }

    fn is_acknowledged(&self, generation: u64) -> bool {
        self.control.is_acknowledged(generation)
    }

    async fn census(&self) -> Option<Vec<LivePeer>> {
        let _turn = self.census.lock().await;
        preview::census(&self.control).await
    }
}

impl Operations for Operator {
    async fn perform(&self, caller: Caller, request: Request, attachment: Vec<u8>) -> Answer {
        match request {
            Request::Revoke { target, reason, expires_seconds } => {
                json(self.deny.revoke(caller, &target, &reason, expires_seconds).await?)
            }
            Request::RevokeRemove { target } => json(self.deny.remove(&target).await?),
            Request::RevokePreview { target } => json(self.preview_revocation(&target).await?),
            Request::RevokeList => json(self.deny.list()),
            Request::TrustStatus => json(self.status().await?),
            Request::TrustDiff => json(self.differences().await?),
            Request::TrustPreview { file, bundle } => {
                json(self.preview_file(&file, bundle.as_deref(), attachment).await?)
            }
            Request::KeysRotate => {
                self.rotate_keys().await?;
                json(self.keys()?)
            }
            Request::KeysShow => json(self.keys()?),
            Request::Reload { timeout_seconds } => json(self.reload(caller, timeout_seconds).await?),
            Request::Upgrade { timeout_seconds } => json(self.upgrade(caller, timeout_seconds).await?),
        }
    }
}

impl Operator {
    /// Of a process that serves.
    pub(crate) fn new(
        control: Arc<Control>,
        publisher: Arc<Publisher>,
        trust: Arc<TrustKeeper>,
        reloads: mpsc::Sender<reload::Answer>,
        upgrades: mpsc::Sender<Demand>,
    ) -> Operator {
        let serving = Arc::new(Serving { control, publisher, census: Mutex::new(()) });
        let deny = DenyKeeper::new(trust.clone(), serving.clone());
        Operator { serving, trust, deny, reloads, upgrades }
    }
}

impl Operator {
    async fn status(&self) -> Result<TrustStatus, String> {
        let peers = self.serving.census().await;
        let loaded = self.loaded()?;
        let (_, state) = self.trust.current();
        Ok(describe::status(&describe::Facts {
            loaded: &loaded,
            state: &state,
            reports: &self.trust.reports(),
            generation: self.serving.control.generation(),
            now: UnixTime::now(),
            peers: peers.as_deref(),
        }))
    }

    /// Of what is in force and what a reload would put in force.
    async fn differences(&self) -> Result<Vec<Difference>, String> {
        let running = self.loaded()?;
        let (reading, floors) = (running.clone(), self.trust.floors().current());
        let read = tokio::task::spawn_blocking(move || {
            let gathered =
                load::gather(reading.config.file()).map_err(|problems| reload::brief(&problems))?;
            gathered.build(Some(&reading), &floors).map_err(|refused| reload::brief(&refused.problems))
        });
        let on_disk = read.await.map_err(|error| error.to_string())?;
        let on_disk = on_disk.map_err(|problems| format!("the files would be refused: {problems}"))?;
        let (_, state) = self.trust.current();
        let (reports, generation, now) =
            (self.trust.reports(), self.serving.control.generation(), UnixTime::now());
        let facts = |loaded, state| describe::Facts {
            loaded,
            state,
            reports: &reports,
            generation,
            now,
            peers: None,
        };
        Ok(describe::status(&facts(&running, &state))
            .differences(&describe::status(&facts(&on_disk, &state))))
    }

    async fn preview_revocation(&self, target: &Target) -> Result<Hits, String> {
        let (_, mut state) = self.trust.current();
        state.deny = Arc::new(deny::with_target(&state.deny, target)?);
        self.compare(self.loaded()?, state).await
    }

    async fn preview_file(
        &self,
        file: &str,
        bundle: Option<&str>,
        content: Vec<u8>,
    ) -> Result<FilePreview, String> {
        let loaded = self.loaded()?;
        let (_, state) = self.trust.current();
        let (name, bundle) = (file.to_owned(), bundle.map(str::to_owned));
        // Reading a list of a million entries takes a while.
        let changed = tokio::task::spawn_blocking(move || {
            candidate::with_file(&loaded, &state, &name, bundle.as_deref(), &content)
        });
        let changed = changed.await.map_err(|error| error.to_string())??;
        let hits = self.compare(changed.loaded, changed.state).await?;
        Ok(FilePreview { file: file.to_owned(), change: changed.what, hits })
    }

    /// Whom the snapshot in force admits and one of `loaded` and `state` would not.
    async fn compare(&self, loaded: Arc<Loaded>, state: TrustState) -> Result<Hits, String> {
        let peers = self.serving.census().await.ok_or("the workers did not say in time who is connected")?;
        let (now, trust) = (self.serving.control.snapshot(), self.trust.clone());
        let registry = self.serving.publisher.registry().clone();
        let compared = tokio::task::spawn_blocking(move || {
            let then = publish::build(&loaded, &state, &trust, now.generation(), &registry);
            let then =
                then.map_err(|problems| format!("it would be refused: {}", reload::brief(&problems)))?;
            Ok(preview::compare(&now, &then, &loaded.config, &peers))
        });
        compared.await.map_err(|error| error.to_string())?
    }

    async fn rotate_keys(&self) -> Result<(), String> {
        let (trust, loaded) = (self.trust.clone(), self.loaded()?);
        let rotated =
            tokio::task::spawn_blocking(move || keys::rotate(&trust, &loaded.config.keys, UnixTime::now()))
                .await;
        let version = rotated.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.serving.publish(version).await.map(drop)
    }

    /// Asks for a reload and waits for its outcome.
    async fn reload(&self, caller: Caller, timeout_seconds: u64) -> Result<ReloadReport, String> {
        tracing::info!(uid = caller.uid, pid = caller.pid, "an operator asks for a reload");
        let (answer, told) = oneshot::channel();
        let patience = Duration::from_secs(timeout_seconds.min(RELOAD_SECONDS_MAX));
        let outcome = timeout(patience, async {
            self.reloads.send(answer).await.ok()?;
            told.await.ok()
        });
        match outcome.await {
            Ok(Some(report)) => Ok(report),
            Ok(None) => Ok(ReloadReport::TooLate),
            Err(_) => Err(format!(
                "the reload goes on after {} s; the log will say what came of it",
                patience.as_secs()
            )),
        }
    }

    /// Asks for a new process that takes over, and waits for the outcome, which has a time limit of its own.
    async fn upgrade(&self, caller: Caller, timeout_seconds: u64) -> Result<UpgradeReport, String> {
        tracing::info!(uid = caller.uid, pid = caller.pid, "an operator asks for an upgrade");
        let (answer, told) = oneshot::channel();
        let patience = Duration::from_secs(timeout_seconds.min(UPGRADE_SECONDS_MAX));
        let asked = self.upgrades.send(Demand { patience, answer }).await;
        Ok(match asked {
            Ok(()) => told.await.unwrap_or(UpgradeReport::TooLate),
            Err(_) => UpgradeReport::TooLate,
        })
    }

    fn keys(&self) -> Result<KeysStatus, String> {
        let loaded = self.loaded()?;
        let (_, state) = self.trust.current();
        Ok(describe::keys(&loaded, &state, UnixTime::now()))
    }

    fn loaded(&self) -> Result<Arc<Loaded>, String> {
        self.trust.loaded().ok_or_else(|| "nothing is in force yet".to_owned())
    }
}

fn json(answer: impl Serialize) -> Answer {
    serde_json::to_value(answer).map_err(|error| format!("the answer cannot be written as JSON: {error}"))
}

/// Longer than any reload takes.
const RELOAD_SECONDS_MAX: u64 = 3600;
/// A configuration whose files take longer to read is none.
const UPGRADE_SECONDS_MAX: u64 = 3600;
