//! The counters of one worker.
//!
//! [`Shard`] is the worker's end: it can neither be cloned nor shared between threads, which makes its worker the only
//! writer of its [`Cells`]. The scrape reads them at any time. Counting never locks and never touches a cache line
//! that another worker writes; it allocates once per entity.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::cells::{Block, Blocks};
use crate::closed::{
    AddressClaim, CacheLookup, CandidateVerdict, CloseReason, ContentCoding, Enforced, ForwardedIdentity,
    GrpcStatus, MirrorOutcome, PolicyOutcome, Resumed, RetryOutcome, RetryReason, RevocationSource,
    ServerOutcome, Shed, StatusClass,
};
use crate::layout::{Layout, cluster, listener, policy, route, tenant, worker};
use crate::registry::{ClusterId, ListenerId, PolicyId, RouteId, TenantId};

/// What one worker counts. Made by [`Registry::shard`](crate::Registry::shard), moved to the worker's thread and kept there.
///
/// Durations are in nanoseconds. Words of closed sets that were not registered count as `other`.
///
/// It cannot be shared between threads:
/// ```compile_fail,E0277
/// # let registry = ringward_telemetry::Registry::new(Default::default(), Default::default());
/// let shard = registry.shard(0);
/// std::thread::scope(|scope| {
///     scope.spawn(|| shard.panic_caught());
/// });
/// ```
#[derive(Debug)]
pub struct Shard {
    cells: Arc<Cells>,
    /// Not `Sync`: two threads that count through one shard would lose counts.
    single_writer: PhantomData<Cell<()>>,
}

impl Shard {
    pub(crate) fn new(cells: Arc<Cells>) -> Shard {
        Shard { cells, single_writer: PhantomData }
    }

    /// The worker that this shard belongs to.
    pub fn worker(&self) -> u16 {
        self.cells.worker
    }

    /// A connection was accepted.
    #[inline]
    pub fn connection_accepted(&self, id: ListenerId) {
        self.listener(id).add(listener::ACCEPTED, 1);
    }

    /// An accepted connection ended. To be called once for each accepted one, or the open ones are counted wrong.
    #[inline]
    pub fn connection_closed(&self, id: ListenerId, reason: CloseReason) {
        self.listener(id).add(listener::CLOSED + reason as usize, 1);
    }

    /// A handshake was completed.
    #[inline]
    pub fn handshake_completed(&self, id: ListenerId, duration_ns: u64) {
        let block = self.listener(id);
        block.add(listener::HANDSHAKES, 1);
        listener::HANDSHAKE.record(block, duration_ns);
    }

    /// A handshake failed for one of [`ClosedSets::handshake_reasons`](crate::ClosedSets::handshake_reasons).
    pub fn handshake_failed(&self, id: ListenerId, reason: &str) {
        let reason = self.cells.layout.handshake_reasons.index(reason);
        self.listener(id).add(listener::FAILED + reason, 1);
    }

    /// A handshake had to wait for its turn.
    pub fn handshake_queued(&self, id: ListenerId) {
        self.listener(id).add(listener::HANDSHAKES_QUEUED, 1);
    }

    /// A network of clients is refused from now on, since its handshakes have failed too often.
    pub fn source_refused(&self, id: ListenerId) {
        self.listener(id).add(listener::SOURCES_REFUSED, 1);
    }

    /// How many requests this worker has in work, and how many wait for that.
    pub fn requests_load(&self, id: ListenerId, active: u64, waiting: u64) {
        let block = self.listener(id);
        block.set(listener::REQUESTS_ACTIVE, active);
        block.set(listener::REQUESTS_WAITING, waiting);
    }

    /// A request had to wait until it was let into work.
    pub fn request_queued(&self, id: ListenerId) {
        self.listener(id).add(listener::REQUESTS_QUEUED, 1);
    }

    /// A request was not let into work.
    pub fn request_shed(&self, id: ListenerId, reason: Shed) {
        self.listener(id).add(listener::SHED + reason as usize, 1);
    }

    /// A handshake that was completed had resumed a session; to be counted besides its completion.
    #[inline]
    pub fn handshake_resumed(&self, id: ListenerId, how: Resumed) {
        self.listener(id).add(listener::RESUMED + how as usize, 1);
    }

    /// A client offered a session and got a full handshake instead, for one of
    /// [`ClosedSets::resumption_declines`](crate::ClosedSets::resumption_declines) or of the handshake reasons.
    pub fn resumption_declined(&self, id: ListenerId, reason: &str) {
        let layout = &self.cells.layout;
        self.listener(id).add(layout.declined(layout.resumption_declines.index(reason)), 1);
    }

    /// A client showed a certificate where it is only observed. `refused` is the handshake reason for which it would
    /// not have been admitted elsewhere, `None` if it would.
    pub fn client_observed(&self, id: ListenerId, refused: Option<&str>) {
        let layout = &self.cells.layout;
        let cell = match refused {
            None => layout.observed_admitted(),
            Some(reason) => layout.observed_refused(layout.handshake_reasons.index(reason)),
        };
        self.listener(id).add(cell, 1);
    }

    /// A client was refused by revocation, in its handshake or later; to be counted besides the handshake or
    /// connection that it ended.
    pub fn revocation_refused(&self, id: ListenerId, source: RevocationSource) {
        self.listener(id).add(listener::REVOCATION + source as usize, 1);
    }

    /// A request passed although its client's OCSP responder has not said that its certificate is good.
    pub fn ocsp_unchecked(&self, id: ListenerId) {
        self.listener(id).add(listener::UNCHECKED, 1);
    }

    /// A change of trust ended a client that it affects, this long after it was made.
    pub fn trust_enforced(&self, how: Enforced, elapsed_ns: u64) {
        worker::enforced(how).record(&self.cells.own, elapsed_ns);
    }

    /// A connection is a tenant's.
    #[inline]
    pub fn tenant_connection_opened(&self, id: TenantId) {
        self.tenant(id).add(tenant::OPENED, 1);
    }

    /// A tenant's connection ended. To be called once for each opened one, on the same worker.
    #[inline]
    pub fn tenant_connection_closed(&self, id: TenantId) {
        self.tenant(id).add(tenant::CLOSED, 1);
    }

    /// A connection was refused because its tenant has as many as it may.
    pub fn tenant_connection_refused(&self, id: TenantId) {
        self.tenant(id).add(tenant::REFUSED, 1);
    }

    /// A request of a tenant's client ended; to be counted besides the request.
    #[inline]
    pub fn tenant_request_finished(&self, id: TenantId) {
        self.tenant(id).add(tenant::REQUESTS, 1);
    }

    /// Bytes moved on downstream sockets since the last call.
    #[inline]
    pub fn downstream_bytes(&self, id: ListenerId, received: u64, sent: u64) {
        let block = self.listener(id);
        block.add(listener::RECEIVED_BYTES, received);
        block.add(listener::SENT_BYTES, sent);
    }

    /// An exchange has become a tunnel.
    pub fn tunnel_opened(&self, id: ListenerId) {
        self.listener(id).add(listener::TUNNELS_OPENED, 1);
    }

    /// A tunnel has ended. To be called once for each opened one, on the same worker.
    pub fn tunnel_closed(&self, id: ListenerId) {
        self.listener(id).add(listener::TUNNELS_CLOSED, 1);
    }

    /// Bytes moved in tunnels since the last call.
    #[inline]
    pub fn tunnel_bytes(&self, id: ListenerId, received: u64, sent: u64) {
        let block = self.listener(id);
        block.add(listener::TUNNEL_RECEIVED, received);
        block.add(listener::TUNNEL_SENT, sent);
    }

    /// Inbound fields that look like identity headers were removed from a request.
    #[inline]
    pub fn identity_headers_stripped(&self, id: ListenerId, fields: u64) {
        self.listener(id).add(listener::STRIPPED, fields);
    }

    /// A request came where proxies may name the client.
    pub fn address_claim(&self, id: ListenerId, outcome: AddressClaim) {
        self.listener(id).add(listener::CLAIMS + outcome as usize, 1);
    }

    /// A request came where identities are forwarded.
    pub fn forwarded_identity(&self, id: ListenerId, verdict: ForwardedIdentity) {
        self.listener(id).add(self.cells.layout.forwarded(verdict), 1);
    }

    /// A forwarded certificate was refused, for one of the handshake reasons.
    pub fn forwarded_identity_refused(&self, id: ListenerId, reason: &str) {
        let layout = &self.cells.layout;
        self.listener(id).add(layout.forwarded_refused(layout.handshake_reasons.index(reason)), 1);
    }

    /// A connection of HTTP/2 has ended, on which so many streams came to no request.
    pub fn streams_unserved(&self, id: ListenerId, streams: u64) {
        self.listener(id).add(listener::UNSERVED, streams);
    }

    /// A request was answered with 421 (Misdirected Request).
    pub fn request_misdirected(&self, id: ListenerId) {
        self.listener(id).add(listener::MISDIRECTED, 1);
    }

    /// A request was refused because it came to a route for verified clients without one, which nothing should let happen.
    pub fn request_unverified(&self, id: ListenerId) {
        self.listener(id).add(listener::UNVERIFIED, 1);
    }

    /// Ringward answered by itself, for one of [`ClosedSets::response_flags`](crate::ClosedSets::response_flags).
    pub fn response_generated(&self, id: ListenerId, flag: &str) {
        let flag = self.cells.layout.response_flags.index(flag);
        self.listener(id).add(self.cells.layout.response_flag(flag), 1);
    }

    /// A request ended with `status`, or 0 if none was sent.
    #[inline]
    pub fn request_finished(&self, id: RouteId, status: u16, duration_ns: u64) {
        let block = self.cells.routes.entity(id.0);
        block.add(route::CLASS + StatusClass::of(status) as usize, 1);
        route::DURATION.record(block, duration_ns);
    }

    /// A gRPC call ended; to be counted besides its request.
    #[inline]
    pub fn grpc_finished(&self, id: RouteId, status: GrpcStatus) {
        self.cells.routes.entity(id.0).add(route::GRPC + status as usize, 1);
    }

    /// A policy decided. `evaluation_ns` is how long its evaluation took, `None` if it was not evaluated for this request.
    #[inline]
    pub fn policy_decided(&self, id: PolicyId, outcome: PolicyOutcome, evaluation_ns: Option<u64>) {
        let block = self.cells.policies.entity(id.0);
        block.add(policy::OUTCOME + outcome as usize, 1);
        if let Some(duration_ns) = evaluation_ns {
            policy::DURATION.record(block, duration_ns);
        }
    }

    /// The decision cache of a policy was used for a request, or was not although there is one.
    #[inline]
    pub fn policy_cache_lookup(&self, id: PolicyId, lookup: CacheLookup) {
        self.cells.policies.entity(id.0).add(policy::LOOKUPS + lookup as usize, 1);
    }

    /// The decision cache of a policy held another decision than the policy gave.
    pub fn policy_cache_mismatch(&self, id: PolicyId) {
        self.cells.policies.entity(id.0).add(policy::MISMATCHES, 1);
    }

    /// The candidate of a policy was asked about a request that the policy has decided.
    pub fn policy_candidate_compared(&self, id: PolicyId, verdict: CandidateVerdict) {
        self.cells.policies.entity(id.0).add(policy::CANDIDATE + verdict as usize, 1);
    }

    /// A request was refused because its client has caused too many evaluations of the policy.
    pub fn policy_budget_refused(&self, id: PolicyId) {
        self.cells.policies.entity(id.0).add(policy::REFUSALS, 1);
    }

    /// How this worker's decision cache of a policy stands now.
    #[inline]
    pub fn policy_cache_state(&self, id: PolicyId, active: bool, entries: u64) {
        let block = self.cells.policies.entity(id.0);
        block.set(policy::CACHE_ACTIVE, u64::from(active));
        block.set(policy::CACHE_ENTRIES, entries);
    }

    /// A question to a policy's server came to an end. `answer_ns` is how long its answer took, `None` if there was none.
    #[inline]
    pub fn policy_server_asked(&self, id: PolicyId, outcome: ServerOutcome, answer_ns: Option<u64>) {
        let block = self.cells.policies.entity(id.0);
        block.add(policy::QUESTIONS + outcome as usize, 1);
        if let Some(duration_ns) = answer_ns {
            policy::ANSWER.record(block, duration_ns);
        }
    }

    /// Whether this worker does not ask the policy's server for now.
    pub fn policy_server_circuit(&self, id: PolicyId, open: bool) {
        self.cells.policies.entity(id.0).set(policy::CIRCUIT_OPEN, u64::from(open));
    }

    /// A request goes upstream, on a pooled connection or a new one.
    #[inline]
    pub fn upstream_request(&self, id: ClusterId, reused: bool) {
        let block = self.cluster(id);
        block.add(cluster::REQUESTS, 1);
        if reused {
            block.add(cluster::REUSED, 1);
        }
    }

    /// A connection to an upstream was opened.
    pub fn upstream_connection_opened(&self, id: ClusterId) {
        self.cluster(id).add(cluster::OPENED, 1);
    }

    /// A TLS handshake with an upstream succeeded.
    pub fn upstream_handshake(&self, id: ClusterId, is_resumed: bool) {
        let cell = if is_resumed { cluster::RESUMED_HANDSHAKES } else { cluster::FULL_HANDSHAKES };
        self.cluster(id).add(cell, 1);
    }

    /// The head of an upstream's final response arrived.
    #[inline]
    pub fn upstream_response(&self, id: ClusterId, duration_ns: u64) {
        cluster::DURATION.record(self.cluster(id), duration_ns);
    }

    /// A request is sent once more.
    pub fn upstream_retry(&self, id: ClusterId, reason: RetryReason) {
        self.cluster(id).add(cluster::RETRIES + reason as usize, 1);
    }

    /// How many requests to the cluster this worker has under way, how many wait, and whether its share is used up.
    pub fn upstream_load(&self, id: ClusterId, active: u64, pending: u64, open: bool) {
        let block = self.cluster(id);
        block.set(cluster::ACTIVE, active);
        block.set(cluster::PENDING, pending);
        block.set(cluster::CIRCUIT_OPEN, u64::from(open));
    }

    /// A request has ended that was sent more than once, or would have been.
    pub fn upstream_retried(&self, id: ClusterId, outcome: RetryOutcome) {
        self.cluster(id).add(cluster::RETRIED + outcome as usize, 1);
    }

    /// A copy of a request has ended, or was not begun.
    pub fn upstream_mirrored(&self, id: ClusterId, outcome: MirrorOutcome) {
        self.cluster(id).add(cluster::MIRRORED + outcome as usize, 1);
    }

    /// An exchange with an upstream failed for one of [`ClosedSets::upstream_errors`](crate::ClosedSets::upstream_errors).
    pub fn upstream_error(&self, id: ClusterId, reason: &str) {
        let reason = self.cells.layout.upstream_errors.index(reason);
        self.cluster(id).add(cluster::ERRORS + reason, 1);
    }

    /// A response begins to be compressed.
    pub fn compressed(&self, coding: ContentCoding) {
        self.cells.own.add(worker::coding(coding), 1);
    }

    /// So many bytes of a response have become so many.
    pub fn compressed_bytes(&self, coding: ContentCoding, received: u64, sent: u64) {
        self.cells.own.add(worker::coding(coding) + 1, received);
        self.cells.own.add(worker::coding(coding) + 2, sent);
    }

    /// A response passes as it is, since there was no memory to compress it.
    pub fn compression_skipped(&self) {
        self.cells.own.add(worker::COMPRESSION_SKIPPED, 1);
    }

    /// A panic was caught.
    pub fn panic_caught(&self) {
        self.cells.own.add(worker::PANICS, 1);
    }

    /// An access record was lost.
    pub fn access_record_dropped(&self) {
        self.cells.own.add(worker::ACCESS_DROPPED, 1);
    }

    /// A record of a failed handshake or of an event was lost.
    pub fn log_record_dropped(&self) {
        self.cells.own.add(worker::LOG_DROPPED, 1);
    }

    /// The worker stood still for this long to take up a new snapshot.
    pub fn snapshot_adopted(&self, elapsed_ns: u64) {
        worker::ADOPTION.record(&self.cells.own, elapsed_ns);
    }

    /// The event loop turns, serving the snapshot of this generation.
    pub fn heartbeat(&self, now_unix_ms: u64, generation: u64) {
        self.cells.own.set(worker::HEARTBEAT_UNIX_MS, now_unix_ms);
        self.cells.own.set(worker::GENERATION, generation);
    }

    #[inline]
    fn listener(&self, id: ListenerId) -> &Block {
        self.cells.listeners.entity(id.0)
    }

    #[inline]
    fn cluster(&self, id: ClusterId) -> &Block {
        self.cells.clusters.entity(id.0)
    }

    #[inline]
    fn tenant(&self, id: TenantId) -> &Block {
        self.cells.tenants.entity(id.0)
    }
}

/// The cells of one shard, as the scrape sees them.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) worker: u16,
    pub(crate) own: Block,
    pub(crate) listeners: Blocks,
    pub(crate) routes: Blocks,
    pub(crate) policies: Blocks,
    pub(crate) clusters: Blocks,
    pub(crate) tenants: Blocks,
    layout: Arc<Layout>,
}

impl Cells {
    pub(crate) fn new(worker: u16, layout: Arc<Layout>) -> Cells {
        let limits = layout.limits;
        // One more than the ceiling: entity 0 is `other`.
        Cells {
            worker,
            own: Block::new(worker::CELLS),
            listeners: Blocks::new(limits.listeners_max + 1, layout.listener_cells()),
            routes: Blocks::new(limits.routes_max + 1, route::CELLS),
            policies: Blocks::new(limits.policies_max + 1, policy::CELLS),
            clusters: Blocks::new(limits.clusters_max + 1, layout.cluster_cells()),
            tenants: Blocks::new(limits.tenants_max + 1, tenant::CELLS),
            layout,
        }
    }
}
