//! What an operator sees of Ringward: the metric catalogue, per-worker counters, and the access, handshake and event
//! records.
//!
//! Workers count into a [`Shard`] and push records into a [`RecordSender`]; both are theirs alone, so that a request
//! touches no cache line that another worker writes. The control plane gives out ids ([`Registry`]), renders a
//! scrape ([`Exporter`]) and runs the [`LogWriter`]. This crate knows no configuration, socket, TLS or policy: others
//! hand it names, numbers and words.

#![forbid(unsafe_code)]

mod cells;
mod closed;
mod control;
mod discovery;
mod events;
mod exporter;
mod histogram;
mod json;
mod layout;
pub mod metrics;
mod output;
mod process;
mod queue;
mod rate;
mod record;
mod registry;
mod shard;
mod trust;
mod upstreams;
mod writer;

pub use closed::{
    ADMITTED, AddressClaim, CacheLookup, CandidateVerdict, CheckOutcome, CloseReason, ClosedSets,
    ContentCoding, DiscoveryOutcome, EndpointHealth, Enforced, FetchOutcome, ForwardedIdentity, GrpcStatus,
    Level, MirrorOutcome, OTHER, OcspOutcome, OutlierReason, PolicyOutcome, ReloadOutcome, Resumed,
    RetryOutcome, RetryReason, RevocationSource, ServerOutcome, Shed, StatusClass, TunnelEvent,
};
pub use control::ControlMetrics;
pub use events::RevocationEvent;
pub use exporter::{BuildInfo, CONTENT_TYPE, Exporter};
pub use output::{LogOpenError, LogOutput, LogTarget};
pub use process::resident_bytes;
pub use queue::{Permit, QueueFull, RecordReceiver, RecordSender, record_queue};
pub use record::{
    AccessRecord, ConnectionFacts, EventRecord, Excerpt, HandshakeRecord, ObservedFacts, PeerFacts,
    TenantFacts, TextField,
};
pub use registry::{ClusterId, Limits, ListenerId, PolicyId, Registry, RouteId, TenantId, UNMATCHED};
pub use shard::Shard;
pub use trust::{ClientExpiry, CrlFigures, SessionCacheFigures};
pub use upstreams::{EndpointFigures, UpstreamAddr, UpstreamFigures};
pub use writer::{HandshakeLineRate, LogStats, LogThread, LogWriter, Polled};
