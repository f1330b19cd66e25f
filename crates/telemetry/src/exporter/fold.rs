//! Sums the shards into series.
//!
//! Every registered name has all its series from the start, at zero, so that the first failure of a kind already shows
//! as an increase. Only `other` appears when it is needed, and a route's gRPC statuses with its first call.

use std::sync::Arc;

use super::Page;
use crate::cells::{Block, Blocks};
use crate::closed::{
    ADMITTED, AddressClaim, CacheLookup, CandidateVerdict, CloseReason, ContentCoding, Enforced,
    ForwardedIdentity, GrpcStatus, MirrorOutcome, PolicyOutcome, Resumed, RetryOutcome, RetryReason,
    RevocationSource, ServerOutcome, Shed, StatusClass,
};
use crate::histogram::{Folded, Histogram};
use crate::layout::{cluster, listener, policy, route, tenant, worker};
use crate::metrics as catalogue;
use crate::registry::{ListenerId, Names, Registry};
use crate::shard::Cells;

/// Adds the series of all shards to the page.
pub(super) fn shards(registry: &Registry, page: &mut Page) {
    let shards = registry.shards();
    let names = registry.names();
    for (id, name) in names.listeners.with_series() {
        if let Some(sum) = Sum::of(&shards, |cells| &cells.listeners, id) {
            listener_series(registry, page, name, &sum);
        }
    }
    for (id, (ListenerId(listener), name)) in names.routes.with_series() {
        if let Some(sum) = Sum::of(&shards, |cells| &cells.routes, id) {
            route_series(page, names.listeners.name(*listener), name, &sum);
        }
    }
    for (id, name) in names.policies.with_series() {
        if let Some(sum) = Sum::of(&shards, |cells| &cells.policies, id) {
            policy_series(page, name, &sum);
        }
    }
    for (id, name) in names.clusters.with_series() {
        if let Some(sum) = Sum::of(&shards, |cells| &cells.clusters, id) {
            cluster_series(registry, page, name, &sum);
        }
    }
    for (id, name) in names.tenants.with_series() {
        if let Some(sum) = Sum::of(&shards, |cells| &cells.tenants, id) {
            tenant_series(page, name, &sum);
        }
    }
    overflow_series(page, &names);
    enforcement_series(page, &shards);
    compression_series(page, &shards);
    worker_series(page, &shards);
}

fn listener_series(registry: &Registry, page: &mut Page, name: &str, sum: &Sum<'_>) {
    let closed: Vec<u64> =
        CloseReason::ALL.iter().map(|reason| sum.cell(listener::CLOSED + *reason as usize)).collect();
    // Read after what was closed, so that a connection accepted meanwhile cannot make the difference negative.
    let accepted = sum.cell(listener::ACCEPTED);
    page.counter(&catalogue::CONNECTIONS_ACCEPTED, &[name], accepted);
    let active = accepted.saturating_sub(closed.iter().sum());
    page.gauge(&catalogue::CONNECTIONS_ACTIVE, &[name], active as f64);
    for (reason, count) in CloseReason::ALL.iter().zip(closed) {
        page.counter(&catalogue::CONNECTIONS_CLOSED, &[name, reason.as_str()], count);
    }

    let completed = sum.cell(listener::HANDSHAKES);
    page.counter(&catalogue::HANDSHAKES_FINISHED, &[name, "completed", "none"], completed);
    let layout = registry.layout();
    for (index, reason) in layout.handshake_reasons.all().iter().enumerate() {
        let failed = sum.cell(listener::FAILED + index);
        page.counter(&catalogue::HANDSHAKES_FINISHED, &[name, "failed", reason], failed);
    }
    page.counter(&catalogue::HANDSHAKES_QUEUED, &[name], sum.cell(listener::HANDSHAKES_QUEUED));
    page.counter(&catalogue::SOURCES_REFUSED, &[name], sum.cell(listener::SOURCES_REFUSED));
    page.histogram(&catalogue::HANDSHAKE_DURATION, &[name], &sum.histogram(&listener::HANDSHAKE));
    identity_series(registry, page, name, sum);

    for (index, flag) in layout.response_flags.all().iter().enumerate() {
        let responses = sum.cell(layout.response_flag(index));
        page.counter(&catalogue::RESPONSES_GENERATED, &[name, flag], responses);
    }
    let load = [
        (&catalogue::REQUESTS_ACTIVE, listener::REQUESTS_ACTIVE),
        (&catalogue::REQUESTS_WAITING, listener::REQUESTS_WAITING),
    ];
    for (metric, cell) in load {
        page.gauge(metric, &[name], sum.cell(cell) as f64);
    }
    page.counter(&catalogue::REQUESTS_QUEUED, &[name], sum.cell(listener::REQUESTS_QUEUED));
    for reason in Shed::ALL {
        let shed = sum.cell(listener::SHED + *reason as usize);
        page.counter(&catalogue::REQUESTS_SHED, &[name, reason.as_str()], shed);
    }
    page.counter(&catalogue::REQUESTS_MISDIRECTED, &[name], sum.cell(listener::MISDIRECTED));
    page.counter(&catalogue::REQUESTS_UNVERIFIED, &[name], sum.cell(listener::UNVERIFIED));
    page.counter(&catalogue::STREAMS_UNSERVED, &[name], sum.cell(listener::UNSERVED));
    page.counter(&catalogue::IDENTITY_HEADERS_STRIPPED, &[name], sum.cell(listener::STRIPPED));
    for outcome in AddressClaim::ALL {
        let claims = sum.cell(listener::CLAIMS + *outcome as usize);
        page.counter(&catalogue::ADDRESS_CLAIMS, &[name, outcome.as_str()], claims);
    }
    forwarded_series(registry, page, name, sum);
    page.counter(&catalogue::DOWNSTREAM_RECEIVED, &[name], sum.cell(listener::RECEIVED_BYTES));
    page.counter(&catalogue::DOWNSTREAM_SENT, &[name], sum.cell(listener::SENT_BYTES));
    tunnel_series(page, name, sum);
}

fn forwarded_series(registry: &Registry, page: &mut Page, name: &str, sum: &Sum<'_>) {
    let layout = registry.layout();
    let fixed = ForwardedIdentity::ALL.iter().map(|verdict| (verdict.as_str(), layout.forwarded(*verdict)));
    let reasons = layout.handshake_reasons.all().iter().enumerate();
    let refused = reasons.map(|(index, reason)| (*reason, layout.forwarded_refused(index)));
    let mut requests: Vec<(&str, u64)> = Vec::new();
    for (verdict, cell) in fixed.chain(refused) {
        let count = sum.cell(cell);
        // What a load balancer writes and the certificate in it may be malformed alike, which is one series.
        match requests.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, all)) => *all += count,
            None => requests.push((verdict, count)),
        }
    }
    if requests.iter().any(|(_, count)| *count > 0) {
        for (verdict, count) in requests {
            page.counter(&catalogue::FORWARDED_IDENTITIES, &[name, verdict], count);
        }
    }
}

fn tunnel_series(page: &mut Page, name: &str, sum: &Sum<'_>) {
    // In this order, as with connections.
    let closed = sum.cell(listener::TUNNELS_CLOSED);
    let opened = sum.cell(listener::TUNNELS_OPENED);
    page.counter(&catalogue::TUNNELS_OPENED, &[name], opened);
    page.gauge(&catalogue::TUNNELS_ACTIVE, &[name], opened.saturating_sub(closed) as f64);
    page.counter(&catalogue::TUNNEL_RECEIVED, &[name], sum.cell(listener::TUNNEL_RECEIVED));
    page.counter(&catalogue::TUNNEL_SENT, &[name], sum.cell(listener::TUNNEL_SENT));
}

/// What became of the sessions and certificates that clients showed.
fn identity_series(registry: &Registry, page: &mut Page, name: &str, sum: &Sum<'_>) {
    let layout = registry.layout();
    for how in Resumed::ALL {
        let resumed = sum.cell(listener::RESUMED + *how as usize);
        page.counter(&catalogue::HANDSHAKES_RESUMED, &[name, how.as_str()], resumed);
    }
    for (index, reason) in layout.resumption_declines.all().iter().enumerate() {
        page.counter(&catalogue::RESUMPTIONS_DECLINED, &[name, reason], sum.cell(layout.declined(index)));
    }
    page.counter(&catalogue::OBSERVED_CLIENTS, &[name, ADMITTED], sum.cell(layout.observed_admitted()));
    for (index, reason) in layout.handshake_reasons.all().iter().enumerate() {
        page.counter(&catalogue::OBSERVED_CLIENTS, &[name, reason], sum.cell(layout.observed_refused(index)));
    }
    for source in RevocationSource::ALL {
        let refused = sum.cell(listener::REVOCATION + *source as usize);
        page.counter(&catalogue::REVOCATION_REFUSALS, &[name, source.as_str()], refused);
    }
    page.counter(&catalogue::OCSP_UNCHECKED, &[name], sum.cell(listener::UNCHECKED));
}

fn route_series(page: &mut Page, listener: &str, name: &str, sum: &Sum<'_>) {
    for class in StatusClass::ALL {
        let requests = sum.cell(route::CLASS + *class as usize);
        page.counter(&catalogue::REQUESTS_FINISHED, &[listener, name, class.as_str()], requests);
    }
    let calls: Vec<u64> =
        GrpcStatus::ALL.iter().map(|status| sum.cell(route::GRPC + *status as usize)).collect();
    if calls.iter().any(|count| *count > 0) {
        for (status, count) in GrpcStatus::ALL.iter().zip(calls) {
            page.counter(&catalogue::GRPC_FINISHED, &[listener, name, status.as_str()], count);
        }
    }
    page.histogram(&catalogue::REQUEST_DURATION, &[listener, name], &sum.histogram(&route::DURATION));
}

fn policy_series(page: &mut Page, name: &str, sum: &Sum<'_>) {
    for outcome in PolicyOutcome::ALL {
        let decisions = sum.cell(policy::OUTCOME + *outcome as usize);
        page.counter(&catalogue::POLICY_DECISIONS, &[name, outcome.as_str()], decisions);
    }
    for lookup in CacheLookup::ALL {
        let lookups = sum.cell(policy::LOOKUPS + *lookup as usize);
        page.counter(&catalogue::POLICY_CACHE_LOOKUPS, &[name, lookup.as_str()], lookups);
    }
    page.counter(&catalogue::POLICY_CACHE_MISMATCHES, &[name], sum.cell(policy::MISMATCHES));
    page.counter(&catalogue::POLICY_BUDGET_REFUSALS, &[name], sum.cell(policy::REFUSALS));
    page.gauge(&catalogue::POLICY_CACHE_ACTIVE, &[name], sum.cell(policy::CACHE_ACTIVE) as f64);
    page.gauge(&catalogue::POLICY_CACHE_ENTRIES, &[name], sum.cell(policy::CACHE_ENTRIES) as f64);
    page.histogram(&catalogue::POLICY_DURATION, &[name], &sum.histogram(&policy::DURATION));
    for outcome in ServerOutcome::ALL {
        let questions = sum.cell(policy::QUESTIONS + *outcome as usize);
        page.counter(&catalogue::POLICY_SERVER_QUESTIONS, &[name, outcome.as_str()], questions);
    }
    let compared =
        CandidateVerdict::ALL.iter().map(|verdict| sum.cell(policy::CANDIDATE + *verdict as usize));
    let compared: Vec<u64> = compared.collect();
    // Most policies have no candidate.
    if compared.iter().any(|count| *count > 0) {
        for (verdict, count) in CandidateVerdict::ALL.iter().zip(compared) {
            page.counter(&catalogue::POLICY_CANDIDATE_DECISIONS, &[name, verdict.as_str()], count);
        }
    }
    page.gauge(&catalogue::POLICY_SERVER_CIRCUITS_OPEN, &[name], sum.cell(policy::CIRCUIT_OPEN) as f64);
    page.histogram(&catalogue::POLICY_SERVER_DURATION, &[name], &sum.histogram(&policy::ANSWER));
}

fn cluster_series(registry: &Registry, page: &mut Page, name: &str, sum: &Sum<'_>) {
    page.counter(&catalogue::UPSTREAM_REQUESTS, &[name], sum.cell(cluster::REQUESTS));
    page.gauge(&catalogue::UPSTREAM_ACTIVE, &[name], sum.cell(cluster::ACTIVE) as f64);
    page.gauge(&catalogue::UPSTREAM_PENDING, &[name], sum.cell(cluster::PENDING) as f64);
    page.gauge(&catalogue::UPSTREAM_CIRCUITS_OPEN, &[name], sum.cell(cluster::CIRCUIT_OPEN) as f64);
    for reason in RetryReason::ALL {
        let retries = sum.cell(cluster::RETRIES + *reason as usize);
        page.counter(&catalogue::UPSTREAM_RETRIES, &[name, reason.as_str()], retries);
    }
    for outcome in RetryOutcome::ALL {
        let retried = sum.cell(cluster::RETRIED + *outcome as usize);
        page.counter(&catalogue::UPSTREAM_RETRIED, &[name, outcome.as_str()], retried);
    }
    for outcome in MirrorOutcome::ALL {
        let mirrored = sum.cell(cluster::MIRRORED + *outcome as usize);
        page.counter(&catalogue::UPSTREAM_MIRRORED, &[name, outcome.as_str()], mirrored);
    }
    page.counter(&catalogue::UPSTREAM_OPENED, &[name], sum.cell(cluster::OPENED));
    for (how, cell) in [("full", cluster::FULL_HANDSHAKES), ("resumed", cluster::RESUMED_HANDSHAKES)] {
        page.counter(&catalogue::UPSTREAM_HANDSHAKES, &[name, how], sum.cell(cell));
    }
    page.counter(&catalogue::UPSTREAM_REUSED, &[name], sum.cell(cluster::REUSED));
    for (index, reason) in registry.layout().upstream_errors.all().iter().enumerate() {
        page.counter(&catalogue::UPSTREAM_ERRORS, &[name, reason], sum.cell(cluster::ERRORS + index));
    }
    page.histogram(&catalogue::UPSTREAM_DURATION, &[name], &sum.histogram(&cluster::DURATION));
}

fn tenant_series(page: &mut Page, name: &str, sum: &Sum<'_>) {
    // In this order, as with the connections of a listener.
    let closed = sum.cell(tenant::CLOSED);
    let active = sum.cell(tenant::OPENED).saturating_sub(closed);
    page.gauge(&catalogue::TENANT_CONNECTIONS, &[name], active as f64);
    page.counter(&catalogue::TENANT_REFUSED, &[name], sum.cell(tenant::REFUSED));
    page.counter(&catalogue::TENANT_REQUESTS, &[name], sum.cell(tenant::REQUESTS));
}

fn enforcement_series(page: &mut Page, shards: &[Arc<Cells>]) {
    let sum = Sum(shards.iter().map(|cells| &cells.own).collect());
    for how in Enforced::ALL {
        let folded = sum.histogram(&worker::enforced(*how));
        page.histogram(&catalogue::TRUST_ENFORCEMENT, &[how.as_str()], &folded);
    }
}

fn compression_series(page: &mut Page, shards: &[Arc<Cells>]) {
    let sum = Sum(shards.iter().map(|cells| &cells.own).collect());
    for coding in ContentCoding::ALL {
        let [responses, received, sent] = [0, 1, 2].map(|cell| sum.cell(worker::coding(*coding) + cell));
        if responses > 0 {
            let label = &[coding.as_str()];
            page.counter(&catalogue::COMPRESSED, label, responses);
            page.counter(&catalogue::COMPRESSION_RECEIVED, label, received);
            page.counter(&catalogue::COMPRESSION_SENT, label, sent);
        }
    }
    page.counter(&catalogue::COMPRESSION_SKIPPED, &[], sum.cell(worker::COMPRESSION_SKIPPED));
}

fn overflow_series(page: &mut Page, names: &Names) {
    for (family, overflowed) in [
        ("listener", names.listeners.overflowed()),
        ("route", names.routes.overflowed()),
        ("policy", names.policies.overflowed()),
        ("cluster", names.clusters.overflowed()),
        ("tenant", names.tenants.overflowed()),
    ] {
        page.counter(&catalogue::METRICS_OVERFLOWED, &[family], overflowed);
    }
}

/// A worker that was started again has several shards: counters are summed, gauges are those of the latest.
fn worker_series(page: &mut Page, shards: &[Arc<Cells>]) {
    let mut workers: Vec<u16> = shards.iter().map(|cells| cells.worker).collect();
    workers.sort_unstable();
    workers.dedup();
    for number in workers {
        let shards: Vec<&Cells> =
            shards.iter().map(Arc::as_ref).filter(|cells| cells.worker == number).collect();
        let own: Vec<&Block> = shards.iter().map(|cells| &cells.own).collect();
        let sum = |cell| own.iter().map(|block| block.value(cell)).sum();
        let latest = |cell| own.last().map_or(0, |block| block.value(cell));
        let label: &[&str] = &[&number.to_string()];
        worker_load_series(page, label, &shards);
        page.counter(&catalogue::WORKER_PANICS, label, sum(worker::PANICS));
        page.counter(&catalogue::ACCESS_RECORDS_DROPPED, label, sum(worker::ACCESS_DROPPED));
        page.counter(&catalogue::LOG_RECORDS_DROPPED, label, sum(worker::LOG_DROPPED));
        page.histogram(&catalogue::WORKER_ADOPTION, label, &Sum(own.clone()).histogram(&worker::ADOPTION));
        let heartbeat_unix_ms = latest(worker::HEARTBEAT_UNIX_MS);
        if heartbeat_unix_ms > 0 {
            page.gauge(&catalogue::WORKER_HEARTBEAT, label, heartbeat_unix_ms as f64 / 1_000.0);
            page.gauge(&catalogue::WORKER_GENERATION, label, latest(worker::GENERATION) as f64);
        }
    }
}

/// How much of the work is this worker's: what its listeners and routes have counted, so that nobody counts it twice.
fn worker_load_series(page: &mut Page, label: &[&str], shards: &[&Cells]) {
    let sum = |family: fn(&Cells) -> &Blocks, first: usize, cells: usize| -> u64 {
        let blocks = shards.iter().flat_map(|shard| family(shard).all_existing());
        blocks.map(|block| (first..first + cells).map(|cell| block.value(cell)).sum::<u64>()).sum()
    };
    // In this order, as with the connections of a listener.
    let closed = sum(|cells| &cells.listeners, listener::CLOSED, CloseReason::ALL.len());
    let accepted = sum(|cells| &cells.listeners, listener::ACCEPTED, 1);
    let requests = sum(|cells| &cells.routes, route::CLASS, StatusClass::ALL.len());
    page.counter(&catalogue::WORKER_ACCEPTED, label, accepted);
    page.gauge(&catalogue::WORKER_CONNECTIONS, label, accepted.saturating_sub(closed) as f64);
    page.counter(&catalogue::WORKER_REQUESTS, label, requests);
}

/// The blocks of one entity in all shards that have counted it.
struct Sum<'a>(Vec<&'a Block>);

impl<'a> Sum<'a> {
    /// `None` for `other` as long as nothing was counted there.
    fn of(
        shards: &'a [Arc<Cells>],
        family: impl Fn(&'a Cells) -> &'a Blocks,
        entity: u32,
    ) -> Option<Sum<'a>> {
        let blocks: Vec<&Block> = shards.iter().filter_map(|cells| family(cells).existing(entity)).collect();
        if entity == 0 && blocks.is_empty() { None } else { Some(Sum(blocks)) }
    }

    fn cell(&self, cell: usize) -> u64 {
        self.0.iter().map(|block| block.value(cell)).sum()
    }

    fn histogram(&self, histogram: &Histogram) -> Folded {
        let mut folded = histogram.empty();
        for block in &self.0 {
            histogram.fold(block, &mut folded);
        }
        folded
    }
}
