//! Worker threads: started, watched, and started again if one dies.
//!
//! A worker that ends although nobody told it to is a bug, and its connections are lost. But its listening sockets are
//! kept open here, so that clients that wait in their queues are served by its successor. Too many deaths end the
//! process: a supervisor above sees that, and a loop in here would hide it.

use std::any::Any;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use ringward_proxy::{Control, Driver, DriverMode, ListenSocket, RuntimeError, WorkerOptions};
use ringward_telemetry::{RecordReceiver, RecordSender, Registry, record_queue};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The workers of a process.
#[derive(Debug)]
pub(crate) struct Workers {
    setup: Setup,
    /// By number.
    slots: Vec<Slot>,
    /// Queues for workers that are started again; the log writer has their other ends from the start.
    spares: Vec<RecordSender>,
    ended: UnboundedReceiver<Ended>,
    /// Threads that have not ended.
    running: usize,
}

/// What all workers have in common.
#[derive(Debug)]
struct Setup {
    control: Arc<Control>,
    registry: Registry,
    driver: DriverMode,
    cpus: Option<Vec<usize>>,
    workers: usize,
    ended: UnboundedSender<Ended>,
}

#[derive(Debug)]
struct Slot {
    /// By listener name. Empty once the process drains.
    sockets: Vec<(String, Vec<ListenSocket>)>,
    thread: Option<JoinHandle<()>>,
}

/// A worker thread has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Number of the worker.
    pub(crate) worker: usize,
    /// How.
    pub(crate) outcome: Result<(), WorkerError>,
}

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// Its runtime could not be set up.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// It panicked outside of any connection.
    #[error("panic: {0}")]
    Panic(String),
    /// No thread, or no further descriptor.
    #[error("cannot start a worker thread: {0}")]
    Start(#[from] io::Error),
    /// The restarts of this process are used up.
    #[error("workers died too often")]
    TooOften,
}

/// Makes a queue for each worker and for each restart; the receivers are for the log writer.
pub(crate) fn queues(workers: usize, capacity: usize) -> (Vec<RecordSender>, Vec<RecordReceiver>) {
    (0..workers + RESTARTS_MAX).map(|_| record_queue(capacity)).unzip()
}

impl Workers {
    /// Starts one worker for each element of `sockets` and waits until all run.
    ///
    /// # Errors
    /// If any of them does not start; the others are to be stopped through `control`.
    pub(crate) fn start(
        control: Arc<Control>,
        registry: Registry,
        driver: DriverMode,
        sockets: Vec<Vec<(String, Vec<ListenSocket>)>>,
        mut queues: Vec<RecordSender>,
    ) -> Result<(Workers, Driver), WorkerError> {
        let (sender, ended) = unbounded_channel();
        let workers = sockets.len();
        let setup = Setup { control, registry, driver, cpus: cpus_to_pin(workers), workers, ended: sender };
        let slots = sockets.into_iter().map(|sockets| Slot { sockets, thread: None }).collect();
        let spares = queues.split_off(workers.min(queues.len()));
        let mut all = Workers { setup, slots, spares, ended, running: 0 };
        let mut drivers = Vec::new();
        for (worker, queue) in queues.into_iter().enumerate() {
            drivers.push(all.launch(worker, queue)?);
        }
        let mut taken = None;
        for started in drivers {
            match started.recv() {
                Ok(driver) => taken = Some(driver),
                Err(_) => return Err(all.first_failure()),
            }
        }
        let driver = taken.unwrap_or(Driver::Epoll);
        Ok((all, driver))
    }

    /// How many threads run.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// How often each worker whose thread runs has come around, by its number.
    pub(crate) fn beats(&self) -> Vec<(usize, u64)> {
        let running = self.slots.iter().enumerate().filter(|(_, slot)| slot.thread.is_some());
        running.map(|(worker, _)| (worker, self.setup.control.beats(worker))).collect()
    }

    /// Copies of all listening sockets, by the name of their listener, to be handed over.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(crate) fn listening(&self) -> io::Result<Vec<(String, ListenSocket)>> {
        let named = self.slots.iter().flat_map(|slot| &slot.sockets);
        let sockets = named.flat_map(|(name, sockets)| sockets.iter().map(move |socket| (name, socket)));
        sockets.map(|(name, socket)| Ok((name.clone(), socket.try_clone()?))).collect()
    }

    /// Waits for a worker to end. Never returns if none runs.
    pub(crate) async fn ended(&mut self) -> Ended {
        let ended = self.ended.recv().await.expect("`setup` holds a sender");
        self.running -= 1;
        if let Some(thread) = self.slots[ended.worker].thread.take() {
            // It is past its last statement.
            let _ = thread.join();
        }
        ended
    }

    /// Starts a worker again that has ended, on the same sockets.
    ///
    /// # Errors
    /// If the restarts are used up, or it does not start.
    pub(crate) fn restart(&mut self, worker: usize) -> Result<(), WorkerError> {
        let queue = self.spares.pop().ok_or(WorkerError::TooOften)?;
        // Whether it runs is seen by its heartbeat; waiting for it would hold up the control thread.
        self.launch(worker, queue).map(drop)
    }

    /// Gives up our ends of the listening sockets, so that they are closed when the workers close theirs.
    pub(crate) fn release_sockets(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.sockets.clear());
    }

    fn launch(
        &mut self,
        worker: usize,
        records: RecordSender,
    ) -> Result<mpsc::Receiver<Driver>, WorkerError> {
        let (started, driver) = mpsc::channel();
        let Setup { control, registry, cpus, workers, ended, .. } = &self.setup;
        let slot = &mut self.slots[worker];
        let listeners: io::Result<_> = slot
            .sockets
            .iter()
            .map(|(name, sockets)| {
                let sockets: io::Result<Vec<ListenSocket>> =
                    sockets.iter().map(ListenSocket::try_clone).collect();
                Ok((name.clone(), sockets?))
            })
            .collect();
        let options = WorkerOptions {
            index: worker,
            workers: *workers,
            cpu: cpus.as_ref().map(|cpus| cpus[worker]),
            driver: self.setup.driver,
            shard: registry.shard(u16::try_from(worker).unwrap_or(u16::MAX)),
            records,
            listeners: listeners?,
            started,
        };
        let (control, ended) = (control.clone(), ended.clone());
        let thread = thread::Builder::new().name(format!("worker-{worker}")).stack_size(STACK_BYTES).spawn(
            move || {
                // Nothing of the worker is used after a panic.
                let run =
                    panic::catch_unwind(AssertUnwindSafe(|| ringward_proxy::run_worker(control, options)));
                let outcome = match run {
                    Ok(result) => result.map_err(WorkerError::from),
                    Err(panic) => Err(WorkerError::Panic(panic_text(&*panic))),
                };
                // Nobody listens any more when the process ends.
                let _ = ended.send(Ended { worker, outcome });
            },
        )?;
        slot.thread = Some(thread);
        self.running += 1;
        Ok(driver)
    }

    fn first_failure(&mut self) -> WorkerError {
        match self.ended.blocking_recv().map(|ended| ended.outcome) {
            Some(Err(error)) => error,
            Some(Ok(())) | None => WorkerError::Panic("a worker ended before it had begun".to_owned()),
        }
    }
}

/// How many workers to run: as many as `configured`, else one for each CPU that this process may use.
pub(crate) fn count(configured: Option<std::num::NonZeroUsize>) -> usize {
    configured.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from)
}

/// The CPUs, if there is exactly one for each worker. With fewer workers the scheduler chooses better than we do: several
/// processes would all begin with the first CPU.
fn cpus_to_pin(workers: usize) -> Option<Vec<usize>> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let cpus: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    (cpus.len() == workers).then_some(cpus)
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "of unknown cause".to_owned())
}

/// Restarts in the life of a process. Each has its queue made in advance.
const RESTARTS_MAX: usize = 4;
/// Address space, used only as far as it is needed: Rego evaluates by recursion.
const STACK_BYTES: usize = 8 << 20;
