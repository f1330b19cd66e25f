//! Which upgrade is under way, and who waits for its outcome. One at a time.

use std::future::pending;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::report::UpgradeReport;
use super::successor::{self, Estate, Heir, UpgradeError};

/// The upgrades of a process.
pub(crate) struct Upgrades {
    asking: mpsc::Sender<Demand>,
    asked: mpsc::Receiver<Demand>,
    under_way: Option<UnderWay>,
}

/// Somebody wants one.
#[derive(Debug)]
pub(crate) struct Demand {
    /// How long the new process may take until it serves.
    pub(crate) patience: Duration,
    /// Where the outcome goes.
    pub(crate) answer: oneshot::Sender<UpgradeReport>,
}

struct UnderWay {
    outcome: oneshot::Receiver<Result<Heir, UpgradeError>>,
    answer: oneshot::Sender<UpgradeReport>,
    begun: Instant,
}

/// What [`Upgrades::event`] waits for.
pub(crate) enum Event {
    /// Somebody wants an upgrade.
    Asked(Demand),
    /// The one under way has come to something.
    Settled {
        /// What.
        outcome: Result<Heir, UpgradeError>,
        /// Who wants to know.
        answer: oneshot::Sender<UpgradeReport>,
        /// When it was asked for.
        begun: Instant,
    },
}

impl Upgrades {
    /// Of a process that has just started.
    pub(crate) fn new() -> Upgrades {
        let (asking, asked) = mpsc::channel(ASKED_MAX);
        Upgrades { asking, asked, under_way: None }
    }

    /// For whoever asks for upgrades.
    pub(crate) fn asking(&self) -> mpsc::Sender<Demand> {
        self.asking.clone()
    }

    /// Whether none is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Starts one, beside everything else.
    pub(crate) fn start(&mut self, estate: Estate, Demand { patience, answer }: Demand) {
        let (told, outcome) = oneshot::channel();
        // A thread of its own, started by the control thread: the successor is to inherit its priority and its CPUs.
        let raise = move || {
            if let Err(Ok(heir)) = told.send(successor::raise(&estate, patience)) {
                // Nobody waits for it any more.
                heir.withdraw();
            }
        };
        let started = thread::Builder::new().name("upgrade".to_owned()).spawn(raise);
        match started {
            Ok(_) => self.under_way = Some(UnderWay { outcome, answer, begun: Instant::now() }),
            Err(error) => {
                drop(answer.send(UpgradeReport::Refused { reason: format!("no thread for it: {error}") }))
            }
        }
    }

    /// Waits until somebody asks, or the one under way has come to something.
    pub(crate) async fn event(&mut self) -> Event {
        tokio::select! {
            demand = self.asked.recv() => Event::Asked(demand.expect("`asking` is a sender")),
            event = settled(&mut self.under_way) => event,
        }
    }
}

/// Waits for the one under way; for ever if there is none.
async fn settled(under_way: &mut Option<UnderWay>) -> Event {
    let Some(waiting) = under_way else { return pending().await };
    let outcome = (&mut waiting.outcome).await;
    let UnderWay { answer, begun, .. } = under_way.take().expect("it was waited for");
    let outcome = outcome.unwrap_or_else(|_| Err(UpgradeError::Panicked));
    Event::Settled { outcome, answer, begun }
}

/// As many as the admin socket has clients; further ones wait.
const ASKED_MAX: usize = 16;
