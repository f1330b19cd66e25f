//! Everything that knows the runtime.
//!
//! Hides monoio: how a worker's ring is set up, owned buffers, and how a wait is bounded in time. Nothing outside this module
//! names monoio, so that the runtime could be changed here alone. It never looks at a byte that it carries.
//!
//! # Rules that hold here (each was paid for by someone)
//!
//! - A read or accept is never dropped to go on with the same socket: a completion that was not polled yet would be lost. A
//!   wait is bounded by shutting the *socket* down, or by calling the operation off ([`Deadline`]); either completes the
//!   operation in flight, which is awaited as usual.
//! - A runtime is built on the thread that runs it (`IORING_SETUP_SINGLE_ISSUER`).
//! - No task wakes itself: monoio 0.2.4 runs such a task before all others. One that has more to do passes the [`Turnstile`].

mod buffer;
mod deadline;
mod runtime;
mod server_stream;
mod stream;
mod sys;
mod turnstile;

pub(crate) use buffer::{BULK, BufferPool, LARGE, SMALL};
pub(crate) use deadline::{Deadline, Deadlines, SWEEP_MILLIS, is_called_off};
pub use runtime::{Driver, DriverMode, RuntimeError, try_ring};
pub(crate) use runtime::{pin_to_cpu, run_on_this_thread, sleep, spawn, within};
pub(crate) use server_stream::ServerStream;
pub(crate) use stream::{Acceptor, BUSY_MILLIS, ReadHalf, Stream, WriteHalf};
pub(crate) use sys::Shut;
pub(crate) use turnstile::Turnstile;
