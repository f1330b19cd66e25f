//! The data path of Ringward: `listener` → `handshake` → `connection` → `exchange` (`route` → `authorize` → `upstream` →
//! `relay` → `respond`).
//!
//! Each stage is plain functions in a file of its name. A [`run_worker`] call per core runs them all on one thread and shares
//! nothing with the others but [`Control`], through which the control plane publishes [`Snapshot`]s.
//!
//! Knows no files, signals or command line.
#![deny(unsafe_code)]

mod admission;
mod announced;
mod authorize;
mod caller;
mod candidate;
mod client_side;
mod clock;
mod compression;
mod connection;
mod control;
mod cors;
mod downstream;
mod edits;
mod error;
mod exchange;
mod explain;
mod forwarded;
mod grpc;
mod h1;
mod h2;
mod handshake;
mod header_edits;
mod io;
mod listener;
mod live;
mod mirror;
mod on_behalf;
mod overload;
mod policy_body;
mod policy_server;
mod proxied;
mod reach;
mod record;
mod relay;
mod request_id;
mod respond;
mod retired;
mod retry;
mod route;
mod route_answer;
mod shelf;
mod snapshot;
mod standing;
mod tenants;
mod time_limit;
mod upgrade;
mod upstream;
mod upstream_side;
mod worker;

pub use control::{Control, Phase, Pressure};
pub use error::{FLAGS, UPSTREAM_FLAGS};
pub use explain::{Chosen, Unanswered};
pub use io::{Driver, DriverMode, RuntimeError, try_ring};
pub use listener::ListenSocket;
pub use live::LivePeer;
pub use reach::{Asked, HostReach, ListenerReach, Proof};
pub use snapshot::{Materials, RouteIdentity, Snapshot, SnapshotError};
pub use upstream::{Conduct, Endpoint, EndpointSet, Endpoints, SocketTrouble, reported};
pub use worker::{WorkerOptions, run_worker};
