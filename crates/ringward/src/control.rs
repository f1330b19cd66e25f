//! The control plane: one thread that listens to signals, files, the workers and the admin listener, and never blocks.

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringward_proxy::{Control, Phase};
use ringward_telemetry::ControlMetrics;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin_socket::Retirement;
use crate::failure::Failure;
use crate::memory::MemoryWatch;
use crate::reload::{Answer, Attempt, Due, Event, Finished, ReloadReport, Reloader, Reloads, serving};
use crate::service_manager::ServiceManager;
use crate::trust::{TrustKeeper, deny};
use crate::upgrade::{self, Demand, Estate, Heir, OperatorsEstate, UpgradeError, UpgradeReport, Upgrades};
use crate::version;
use crate::watch::Watch;
use crate::workers::{Ended, Workers};

/// Everything that the control thread looks after.
pub(crate) struct ControlPlane {
    pub(crate) control: Arc<Control>,
    pub(crate) workers: Workers,
    pub(crate) reloader: Reloader,
    pub(crate) reloads: Reloads,
    pub(crate) upgrades: Upgrades,
    pub(crate) heirlooms: Heirlooms,
    pub(crate) manager: ServiceManager,
    pub(crate) memory: MemoryWatch,
    pub(crate) metrics: Arc<ControlMetrics>,
    pub(crate) services: Services,
    pub(crate) watch: Watch,
    pub(crate) signals: Signals,
    /// Told to stop by this process itself.
    pub(crate) stop: Arc<Notify>,
}

/// What a successor gets beside the listening sockets of the workers.
pub(crate) struct Heirlooms {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// A copy of the socket of the admin listener.
    pub(crate) admin: Option<TcpListener>,
    /// Copies of the admin socket and its lock, and how to leave it to somebody else.
    pub(crate) operators: Option<(OperatorsEstate, Arc<Retirement>)>,
    /// What is trusted beyond the configuration.
    pub(crate) trust: Arc<TrustKeeper>,
}

/// What goes on beside the control loop until the process ends: the admin listeners, the keepers of what is trusted.
#[derive(Debug, Default)]
pub(crate) struct Services {
    tasks: JoinSet<String>,
    /// Those of the process that serves, and of no other.
    of_the_serving: Vec<AbortHandle>,
}

/// The signals that we act on instead of dying of them.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

/// What a signal asks for.
enum Asked {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

impl ControlPlane {
    /// Runs until all workers have ended.
    ///
    /// # Errors
    /// If a worker died and cannot be started again.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut memory = tokio::time::interval(MEMORY_SAMPLES);
        memory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // When to lose patience with what still runs: first with connections, then with workers.
        let mut deadline: Option<Instant> = None;
        // When to tell the service manager's watchdog that all is well.
        let mut look = self.manager.look_again_after().map(|pause| Instant::now() + pause);
        self.manager.ready(&serving(self.control.generation()));
        self.keep_sockets();
        while self.workers.running() > 0 {
            let running = self.control.phase() == Phase::Running;
            let may_reload = running && self.reloads.is_idle();
            let retry = self.reloads.retry();
            tokio::select! {
                ended = self.workers.ended() => self.worker_ended(ended)?,
                asked = self.signals.next() => match asked {
                    Asked::Stop => deadline = Some(self.stop_further()),
                    Asked::Reload if !running => {}
                    Asked::Reload => self.insist_on_reload(None),
                },
                event = self.reloads.event() => match event {
                    Event::Asked(answer) if running => self.insist_on_reload(Some(answer)),
                    // Whoever has asked may have gone.
                    Event::Asked(answer) => drop(answer.send(ReloadReport::TooLate)),
                    Event::Finished { attempt, insist } => self.finish_reload(attempt, insist),
                },
                () = self.stop.notified(), if running => deadline = Some(self.stop_further()),
                () = at(deadline) => match self.control.phase() {
                    Phase::Stopped => return Err(Failure::Runtime("workers do not end".to_owned())),
                    Phase::Running | Phase::Draining => {
                        tracing::warn!("connections are cut: they did not end within the drain timeout");
                        deadline = Some(self.stop_now());
                    }
                },
                event = self.upgrades.event() => match event {
                    upgrade::Event::Asked(demand) => self.start_upgrade(demand),
                    upgrade::Event::Settled { outcome, answer, begun } => {
                        let (report, drained_by) = self.settle_upgrade(outcome, begun).await;
                        deadline = drained_by.or(deadline);
                        // Whoever has asked may have gone.
                        let _ = answer.send(report);
                        // Without connections this process may end right away, and the answer is to be written first.
                        tokio::task::yield_now().await;
                    }
                },
                _ = self.watch.changed(), if may_reload => self.start_reload(),
                () = at(retry), if may_reload => self.start_reload(),
                _ = housekeeping.tick() => {
                    self.metrics.snapshots_retired(self.control.retire());
                    self.report_drain(deadline);
                    self.manager.catch_up();
                }
                () = at(look) => {
                    self.manager.look_after(&self.workers.beats());
                    look = self.manager.look_again_after().map(|pause| Instant::now() + pause);
                }
                _ = memory.tick() => {
                    self.memory.sample(self.reloader.config().server.memory_max, &self.control);
                }
                failed = self.services.failed() => return Err(Failure::Runtime(failed)),
            }
        }
        Ok(())
    }

    /// The first time lets connections end, the second time cuts them.
    fn stop_further(&mut self) -> Instant {
        if self.control.phase() != Phase::Running {
            tracing::info!("stopping now");
            return self.stop_now();
        }
        let timeout = self.reloader.config().server.drain_timeout;
        tracing::info!(timeout_seconds = timeout.as_secs_f64(), "draining");
        self.control.advance(Phase::Draining);
        self.workers.release_sockets();
        self.reloads.give_up();
        let deadline = Instant::now() + timeout;
        self.manager.stopping(&self.drain_status(deadline));
        deadline
    }

    /// Has the service manager keep the listening sockets, but for those that it has opened itself.
    fn keep_sockets(&mut self) {
        match self.workers.listening() {
            Ok(sockets) => {
                let own = sockets.into_iter().filter(|(_, taken)| !taken.shared);
                self.manager.keep(own.map(|(_, taken)| taken.socket.into()).collect());
            }
            Err(error) => tracing::warn!(%error, "no descriptors left for copies of the listening sockets"),
        }
    }

    fn start_upgrade(&mut self, demand: Demand) {
        if self.control.phase() != Phase::Running {
            return drop(demand.answer.send(UpgradeReport::TooLate));
        }
        let estate = match self.upgrades.is_idle() {
            true => self.estate().map_err(|error| format!("nothing can be handed over: {error}")),
            false => Err("another upgrade is under way".to_owned()),
        };
        match estate {
            Ok(estate) => {
                tracing::info!("upgrade: starting a new process");
                self.upgrades.start(estate, demand);
            }
            Err(reason) => drop(demand.answer.send(UpgradeReport::Refused { reason })),
        }
    }

    fn estate(&self) -> io::Result<Estate> {
        let Heirlooms { config, admin, operators, trust } = &self.heirlooms;
        let operators = operators.as_ref().map(|(copies, _)| copies.try_clone()).transpose()?;
        Ok(Estate {
            config: config.clone(),
            listeners: self.workers.listening()?,
            admin: admin.as_ref().map(TcpListener::try_clone).transpose()?,
            operators,
            trust: trust.clone(),
        })
    }

    /// What an upgrade came to, and until when this process then has time to drain.
    async fn settle_upgrade(
        &mut self,
        outcome: Result<Heir, UpgradeError>,
        begun: Instant,
    ) -> (UpgradeReport, Option<Instant>) {
        let handed_over = match outcome {
            Err(error) => Err(error.to_string()),
            Ok(heir) => self.hand_over(heir).await,
        };
        match handed_over {
            Ok((process, version, deadline)) => {
                let report = UpgradeReport::HandedOver {
                    process,
                    version,
                    from_version: version::VERSION.to_owned(),
                    took_milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    draining_connections: self.control.connections(),
                };
                (report, Some(deadline))
            }
            Err(reason) => {
                // Whatever became of it, we go on.
                self.heirlooms.trust.thaw();
                tracing::error!(reason, "upgrade: refused, this process serves on");
                let report = match self.control.phase() {
                    Phase::Running => UpgradeReport::Refused { reason },
                    Phase::Draining | Phase::Stopped => UpgradeReport::TooLate,
                };
                (report, None)
            }
        }
    }

    /// Leaves everything to `heir` and begins to drain.
    async fn hand_over(&mut self, heir: Heir) -> Result<(u32, String, Instant), String> {
        if self.control.phase() != Phase::Running {
            let withdrawn = tokio::task::spawn_blocking(|| heir.withdraw()).await;
            return Err(withdrawn.map_or_else(|error| error.to_string(), |()| "this process ends".to_owned()));
        }
        let committed = tokio::task::spawn_blocking(|| heir.commit()).await;
        let heir = committed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let (process, version) = (heir.process(), heir.version.clone());
        // Not sooner, as there is no way back: who is no main process any more is not listened to. And before the new process says
        // anything, for the same reason.
        self.manager.leave_to(process);
        tracing::info!(process, version, "upgrade: the new process serves, draining");
        self.services.leave_to_successor();
        if let (Some((_, retirement)), true) = (&self.heirlooms.operators, heir.has_operators) {
            retirement.retire();
        }
        self.control.hand_over(heir.addresses);
        self.services.start("follower of the deny list", deny::follow(self.heirlooms.trust.clone()));
        Ok((process, version, self.stop_further()))
    }

    fn stop_now(&mut self) -> Instant {
        self.control.advance(Phase::Stopped);
        self.reloads.give_up();
        self.manager.stopping("stopping, connections are cut");
        self.workers.release_sockets();
        Instant::now() + WORKERS_END_TIMEOUT
    }

    fn worker_ended(&mut self, Ended { worker, outcome }: Ended) -> Result<(), Failure> {
        let reason = match outcome {
            Ok(()) if self.control.phase() != Phase::Running => return Ok(()),
            Ok(()) => "ended by itself".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(worker, reason, "worker died, its connections are lost");
        if self.control.phase() != Phase::Running {
            return Ok(());
        }
        self.workers.restart(worker).map_err(|error| {
            self.control.advance(Phase::Stopped);
            Failure::Runtime(format!("worker {worker} cannot be started again: {error}"))
        })?;
        tracing::warn!(worker, "worker started again");
        Ok(())
    }

    /// Tells the service manager that the end makes progress.
    fn report_drain(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && self.control.phase() == Phase::Draining
        {
            self.manager.draining(&self.drain_status(deadline));
        }
    }

    fn drain_status(&self, deadline: Instant) -> String {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        format!("draining: {} connections, to be cut in {left} s", self.control.connections())
    }

    fn insist_on_reload(&mut self, answer: Option<Answer>) {
        self.manager.reloading();
        if self.reloads.insist(answer) == Due::Now {
            self.start_reload();
        }
    }

    fn start_reload(&mut self) {
        self.reloads.started(tokio::spawn(self.reloader.attempt()));
    }

    fn finish_reload(&mut self, attempt: Option<Attempt>, insist: bool) {
        let finished = attempt.map(|attempt| {
            if let Some(watched) = &attempt.watched {
                self.watch.set(watched.clone(), watched);
            }
            self.reloader.finish(attempt, insist)
        });
        let running = self.control.phase() == Phase::Running;
        let report = match finished {
            Some(Finished::Again(pause)) if running => {
                return self.reloads.try_again(Instant::now() + pause);
            }
            Some(Finished::Again(_)) => ReloadReport::TooLate,
            Some(Finished::Done(report)) => report,
            None => ReloadReport::Refused {
                generation: self.control.generation(),
                problems: vec!["the reload panicked, which is a fault of ringward".to_owned()],
            },
        };
        match self.reloads.conclude(&report) {
            // Those who asked meanwhile still wait, the service manager perhaps among them.
            Due::Now if running => self.start_reload(),
            _ if !running => {}
            _ if insist => self.manager.ready(&report.status()),
            _ => self.manager.status(&report.status()),
        }
    }
}

impl Services {
    /// Begins another one, which is not to end before the process. To be called within a runtime.
    pub(crate) fn start<E: Display + Send + 'static>(
        &mut self,
        name: &'static str,
        service: impl Future<Output = E> + Send + 'static,
    ) -> AbortHandle {
        self.tasks.spawn(async move { format!("the {name} failed: {}", service.await) })
    }

    /// As [`Services::start`]. It ends when another process serves instead of this one, since there must not be two of them.
    pub(crate) fn start_of_the_serving<E: Display + Send + 'static>(
        &mut self,
        name: &'static str,
        service: impl Future<Output = E> + Send + 'static,
    ) {
        let task = self.start(name, service);
        self.of_the_serving.push(task);
    }

    fn leave_to_successor(&mut self) {
        self.of_the_serving.drain(..).for_each(|task| task.abort());
    }

    /// Waits for one to end, which none should; why it did.
    async fn failed(&mut self) -> String {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(failed)) => return failed,
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return format!("a service of the control plane failed: {error}"),
                None => pending().await,
            }
        }
    }
}

impl Signals {
    /// Listens from now on. To be called within a runtime.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn new() -> Result<Signals, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Runtime(format!("cannot listen to signals: {error}")))
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is told to stop. For the time before there is anything to reload.
    pub(crate) async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.reload.recv() => Asked::Reload,
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// How soon a replaced snapshot is freed after the last worker has left it.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How often memory is measured, which costs some 30 µs. A flood of handshakes takes some megabytes in that time.
const MEMORY_SAMPLES: Duration = Duration::from_millis(100);
/// A worker looks at its orders 20 times per second.
const WORKERS_END_TIMEOUT: Duration = Duration::from_secs(5);
