//! Builds a worker's runtime on its own thread.

use std::{future::Future, io, time::Duration};

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Which driver to use (`server.io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverMode {
    /// io_uring where the kernel lets us, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// Which driver a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// The runtime could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// io_uring was asked for and cannot be had.
    #[error(
        "io_uring is not available here ({0}): set server.io to \"auto\" or \"epoll\", or allow the io_uring system calls (sysctl kernel.io_uring_disabled, seccomp profile, locked memory limit)"
    )]
    IoUring(io::Error),
    /// epoll cannot be had either.
    #[error("cannot set up epoll: {0}")]
    Epoll(io::Error),
}

/// Runs `main` to its end on a runtime of this thread.
///
/// # Errors
/// When no runtime of the asked kind can be built.
pub(crate) fn run_on_this_thread<F>(
    mode: DriverMode,
    main: impl FnOnce(Driver) -> F,
) -> Result<(), RuntimeError>
where
    F: Future<Output = ()> + 'static,
{
    if mode != DriverMode::Epoll {
        match ring_runtime() {
            Ok(mut runtime) => {
                runtime.block_on(main(Driver::IoUring));
                return Ok(());
            }
            Err(e) if mode == DriverMode::IoUring => return Err(RuntimeError::IoUring(e)),
            Err(e) => tracing::debug!(error = %e, "io_uring is not available, using epoll"),
        }
    }
    let mut runtime =
        RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().map_err(RuntimeError::Epoll)?;
    runtime.block_on(main(Driver::Epoll));
    Ok(())
}

/// Whether a worker would get a ring on this machine, as this user: sets one up and gives it back.
///
/// # Errors
/// Why not.
pub fn try_ring() -> io::Result<()> {
    ring_runtime().map(drop)
}

type RingRuntime = monoio::Runtime<monoio::time::TimeDriver<IoUringDriver>>;

fn ring_runtime() -> io::Result<RingRuntime> {
    if !monoio::utils::detect_uring() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel lacks operations that are needed",
        ));
    }
    // Without either flag every completion interrupts this core, which costs two thirds more CPU per request. `COOP_TASKRUN`
    // (Linux 5.19) rather than `DEFER_TASKRUN`: the same speed within the noise, and completions are still taken when a task
    // keeps the loop from parking. `SINGLE_ISSUER` needs Linux 6.0.
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    build(ring).or_else(|_| build(io_uring::IoUring::builder()))
}

fn build(ring: io_uring::Builder) -> io::Result<RingRuntime> {
    RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring)
        .with_entries(RING_ENTRIES)
        .enable_timer()
        .build()
}

/// Pins this thread to a CPU; an error is for the log only, since the worker runs anywhere.
pub(crate) fn pin_to_cpu(cpu: usize) -> Result<(), String> {
    monoio::utils::bind_to_cpu_set([cpu]).map_err(|e| format!("{e:?}"))
}

/// Starts a task on this worker.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// Waits; 1 ms grain.
pub(crate) async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// The result of `operation` unless it takes longer than `limit`.
///
/// Only for operations whose socket is given up when time runs out: a dropped operation may have completed (see the rules in
/// [`super`]).
pub(crate) async fn within<T>(limit: Duration, operation: impl Future<Output = T>) -> Option<T> {
    monoio::time::timeout(limit, operation).await.ok()
}

/// Submission queue entries; the completion queue has twice as many. More operations than this are simply submitted in
/// several batches. 4096 take about 400 KiB per worker.
const RING_ENTRIES: u32 = 4096;
