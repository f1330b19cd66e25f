//! Where each counter of an entity lies in its block of cells.
//!
//! Fixed counters come first, closed sets after them (the member's index is the offset), so that counting is one
//! addition of constants; only the sets that other crates own have a length known at start.

use crate::closed::{
    AddressClaim, CacheLookup, CandidateVerdict, CloseReason, ClosedSets, ContentCoding, Enforced,
    ForwardedIdentity, GrpcStatus, MirrorOutcome, PolicyOutcome, Resumed, RetryOutcome, RetryReason,
    RevocationSource, ServerOutcome, Shed, StatusClass, Words,
};
use crate::histogram::Histogram;
use crate::metrics::{
    HANDSHAKE_DURATION, Kind, Metric, POLICY_DURATION, POLICY_SERVER_DURATION, REQUEST_DURATION,
    TRUST_ENFORCEMENT, UPSTREAM_DURATION, WORKER_ADOPTION,
};
use crate::registry::Limits;

/// The layout of all shards of a process.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) handshake_reasons: Words,
    pub(crate) response_flags: Words,
    pub(crate) upstream_errors: Words,
    pub(crate) resumption_declines: Words,
    pub(crate) limits: Limits,
}

impl Layout {
    pub(crate) fn new(sets: ClosedSets, limits: Limits) -> Layout {
        Layout {
            handshake_reasons: Words::new(sets.handshake_reasons),
            response_flags: Words::new(sets.response_flags),
            upstream_errors: Words::new(sets.upstream_errors),
            resumption_declines: Words::new(sets.resumption_declines.iter().chain(sets.handshake_reasons)),
            limits,
        }
    }

    /// First of the cells of own responses, in a listener's block.
    pub(crate) fn response_flag(&self, flag: usize) -> usize {
        listener::FAILED + self.handshake_reasons.all().len() + flag
    }

    /// First of the cells of declined resumptions.
    pub(crate) fn declined(&self, reason: usize) -> usize {
        self.response_flag(self.response_flags.all().len()) + reason
    }

    /// The cell of observed clients that would have been admitted. Those that would not follow, by handshake reason.
    pub(crate) fn observed_admitted(&self) -> usize {
        self.declined(self.resumption_declines.all().len())
    }

    pub(crate) fn observed_refused(&self, reason: usize) -> usize {
        self.observed_admitted() + 1 + reason
    }

    /// The cell of forwarded identities with this verdict. Those that were refused follow, by handshake reason.
    pub(crate) fn forwarded(&self, verdict: ForwardedIdentity) -> usize {
        self.observed_refused(self.handshake_reasons.all().len()) + verdict as usize
    }

    pub(crate) fn forwarded_refused(&self, reason: usize) -> usize {
        self.observed_refused(self.handshake_reasons.all().len()) + ForwardedIdentity::ALL.len() + reason
    }

    pub(crate) fn listener_cells(&self) -> usize {
        self.forwarded_refused(self.handshake_reasons.all().len())
    }

    pub(crate) fn cluster_cells(&self) -> usize {
        cluster::ERRORS + self.upstream_errors.all().len()
    }

    /// Most series that the dynamic families can make, `other` included.
    pub(crate) fn series_max(&self) -> usize {
        // Each cell is one series: the remainder of a histogram's sum is none, but its count is. A listener has the
        // gauge of open connections besides.
        let entities = [
            (self.limits.listeners_max, self.listener_cells() + 1),
            (self.limits.routes_max, route::CELLS),
            (self.limits.policies_max, policy::CELLS),
            (self.limits.clusters_max, self.cluster_cells()),
            // What was opened and closed makes one gauge.
            (self.limits.tenants_max, tenant::CELLS - 1),
        ];
        entities.into_iter().map(|(most, series)| (most + 1) * series).sum()
    }
}

/// Cells of a listener. Failed handshakes, own responses, declined resumptions, observed clients and forwarded
/// identities follow
/// [`FAILED`](listener::FAILED).
pub(crate) mod listener {
    use super::*;

    pub(crate) const ACCEPTED: usize = 0;
    pub(crate) const RECEIVED_BYTES: usize = 1;
    pub(crate) const SENT_BYTES: usize = 2;
    pub(crate) const STRIPPED: usize = 3;
    pub(crate) const MISDIRECTED: usize = 4;
    pub(crate) const UNSERVED: usize = 5;
    pub(crate) const HANDSHAKES: usize = 6;
    pub(crate) const TUNNELS_OPENED: usize = 7;
    pub(crate) const TUNNELS_CLOSED: usize = 8;
    pub(crate) const TUNNEL_RECEIVED: usize = 9;
    pub(crate) const TUNNEL_SENT: usize = 10;
    pub(crate) const HANDSHAKES_QUEUED: usize = 11;
    pub(crate) const SOURCES_REFUSED: usize = 12;
    pub(crate) const REQUESTS_ACTIVE: usize = 13;
    pub(crate) const REQUESTS_WAITING: usize = 14;
    pub(crate) const REQUESTS_QUEUED: usize = 15;
    pub(crate) const SHED: usize = 16;
    pub(crate) const CLOSED: usize = SHED + Shed::ALL.len();
    pub(crate) const RESUMED: usize = CLOSED + CloseReason::ALL.len();
    pub(crate) const REVOCATION: usize = RESUMED + Resumed::ALL.len();
    pub(crate) const UNCHECKED: usize = REVOCATION + RevocationSource::ALL.len();
    pub(crate) const UNVERIFIED: usize = UNCHECKED + 1;
    pub(crate) const CLAIMS: usize = UNVERIFIED + 1;
    const HANDSHAKE_FIRST: usize = CLAIMS + AddressClaim::ALL.len();
    pub(crate) const HANDSHAKE: Histogram = Histogram::new(bounds(&HANDSHAKE_DURATION), HANDSHAKE_FIRST);
    pub(crate) const FAILED: usize = HANDSHAKE_FIRST + Histogram::cells(bounds(&HANDSHAKE_DURATION));
}

/// Cells of a route.
pub(crate) mod route {
    use super::*;

    pub(crate) const CLASS: usize = 0;
    pub(crate) const GRPC: usize = CLASS + StatusClass::ALL.len();
    const DURATION_FIRST: usize = GRPC + GrpcStatus::ALL.len();
    pub(crate) const DURATION: Histogram = Histogram::new(bounds(&REQUEST_DURATION), DURATION_FIRST);
    pub(crate) const CELLS: usize = DURATION_FIRST + Histogram::cells(bounds(&REQUEST_DURATION));
}

/// Cells of a policy.
pub(crate) mod policy {
    use super::*;

    pub(crate) const OUTCOME: usize = 0;
    pub(crate) const LOOKUPS: usize = OUTCOME + PolicyOutcome::ALL.len();
    pub(crate) const MISMATCHES: usize = LOOKUPS + CacheLookup::ALL.len();
    pub(crate) const REFUSALS: usize = MISMATCHES + 1;
    pub(crate) const CACHE_ACTIVE: usize = REFUSALS + 1;
    pub(crate) const CACHE_ENTRIES: usize = CACHE_ACTIVE + 1;
    pub(crate) const QUESTIONS: usize = CACHE_ENTRIES + 1;
    pub(crate) const CIRCUIT_OPEN: usize = QUESTIONS + ServerOutcome::ALL.len();
    pub(crate) const CANDIDATE: usize = CIRCUIT_OPEN + 1;
    const DURATION_FIRST: usize = CANDIDATE + CandidateVerdict::ALL.len();
    pub(crate) const DURATION: Histogram = Histogram::new(bounds(&POLICY_DURATION), DURATION_FIRST);
    const ANSWER_FIRST: usize = DURATION_FIRST + Histogram::cells(bounds(&POLICY_DURATION));
    pub(crate) const ANSWER: Histogram = Histogram::new(bounds(&POLICY_SERVER_DURATION), ANSWER_FIRST);
    pub(crate) const CELLS: usize = ANSWER_FIRST + Histogram::cells(bounds(&POLICY_SERVER_DURATION));
}

/// Cells of a cluster. Errors by reason follow [`ERRORS`](cluster::ERRORS).
pub(crate) mod cluster {
    use super::*;

    pub(crate) const REQUESTS: usize = 0;
    pub(crate) const OPENED: usize = 1;
    pub(crate) const REUSED: usize = 2;
    pub(crate) const FULL_HANDSHAKES: usize = 3;
    pub(crate) const RESUMED_HANDSHAKES: usize = 4;
    pub(crate) const RETRIES: usize = 5;
    pub(crate) const RETRIED: usize = RETRIES + RetryReason::ALL.len();
    pub(crate) const MIRRORED: usize = RETRIED + RetryOutcome::ALL.len();
    pub(crate) const ACTIVE: usize = MIRRORED + MirrorOutcome::ALL.len();
    pub(crate) const PENDING: usize = ACTIVE + 1;
    pub(crate) const CIRCUIT_OPEN: usize = PENDING + 1;
    const DURATION_FIRST: usize = CIRCUIT_OPEN + 1;
    pub(crate) const DURATION: Histogram = Histogram::new(bounds(&UPSTREAM_DURATION), DURATION_FIRST);
    pub(crate) const ERRORS: usize = DURATION_FIRST + Histogram::cells(bounds(&UPSTREAM_DURATION));
}

/// Cells of a tenant.
pub(crate) mod tenant {
    pub(crate) const OPENED: usize = 0;
    pub(crate) const CLOSED: usize = 1;
    pub(crate) const REFUSED: usize = 2;
    pub(crate) const REQUESTS: usize = 3;
    pub(crate) const CELLS: usize = 4;
}

/// Cells of the worker itself.
pub(crate) mod worker {
    use super::*;

    pub(crate) const HEARTBEAT_UNIX_MS: usize = 0;
    pub(crate) const GENERATION: usize = 1;
    pub(crate) const PANICS: usize = 2;
    pub(crate) const ACCESS_DROPPED: usize = 3;
    pub(crate) const LOG_DROPPED: usize = 4;
    pub(crate) const COMPRESSION_SKIPPED: usize = 5;
    const CODINGS: usize = 6;
    const ENFORCED_FIRST: usize = CODINGS + ContentCoding::ALL.len() * 3;
    const ENFORCED_CELLS: usize = Histogram::cells(bounds(&TRUST_ENFORCEMENT));
    const ADOPTION_FIRST: usize = ENFORCED_FIRST + Enforced::ALL.len() * ENFORCED_CELLS;
    pub(crate) const ADOPTION: Histogram = Histogram::new(bounds(&WORKER_ADOPTION), ADOPTION_FIRST);
    pub(crate) const CELLS: usize = ADOPTION_FIRST + Histogram::cells(bounds(&WORKER_ADOPTION));

    /// Three cells: responses, bytes as they came, bytes as they left.
    pub(crate) const fn coding(coding: ContentCoding) -> usize {
        CODINGS + coding as usize * 3
    }

    /// How long changes of trust took to reach the clients that they affect.
    pub(crate) const fn enforced(how: Enforced) -> Histogram {
        Histogram::new(bounds(&TRUST_ENFORCEMENT), ENFORCED_FIRST + how as usize * ENFORCED_CELLS)
    }
}

/// The bucket bounds of a histogram of the catalogue.
const fn bounds(metric: &Metric) -> &'static [u64] {
    match metric.kind {
        Kind::Histogram(bounds) => bounds,
        Kind::Counter | Kind::Gauge => panic!("not a histogram"),
    }
}
