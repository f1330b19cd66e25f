//! Counts and records what happened: one record per exchange, one per failed handshake.
//!
//! Runs on the worker, so it only fills compact records; texts are made by the log writer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringward_http::RequestHead;
use ringward_telemetry::{
    CloseReason, ConnectionFacts, EventRecord, Excerpt, HandshakeRecord, ObservedFacts, PeerFacts, Permit,
    Resumed, RevocationSource, TenantFacts, TextField, TunnelEvent,
};
use ringward_tls::{HandshakeFailure, HandshakeReason, ResumedBy};

use crate::{
    authorize,
    connection::Connection,
    edits,
    error::ProxyError,
    exchange::Facts,
    forwarded::Forwarded,
    handshake::{Attempt, Established},
    proxied::Origin,
    relay::Progress,
    request_id::RequestId,
    snapshot::Listener,
    worker::{View, Worker},
};

/// What all records of a connection share.
pub(crate) fn connection(
    worker: &Worker,
    listener: &Listener,
    id: u64,
    established: &Established,
) -> ConnectionFacts {
    let terms = &established.terms;
    let Origin { client, proxy } = established.origin;
    let mut facts = ConnectionFacts::new(id, worker.shard.worker(), listener.id, client);
    facts.proxy = proxy;
    facts.server_name = terms.server_name.as_deref().map(Excerpt::from);
    facts.resumed = established.resumed.map(resumed);
    facts.resumption_declined = established.declined.map(|reason| reason.as_str());
    facts.auth_time_unix = terms.peer.is_some().then_some(terms.auth_time_unix);
    facts.observed = established.observed.as_deref().map(|observed| {
        Box::new(ObservedFacts {
            name: observed.name.as_str().into(),
            fingerprint: observed.fingerprint_hex.as_str().into(),
            refused: observed.verdict.err().map(HandshakeReason::as_str),
            detail: (!observed.message.is_empty()).then(|| observed.message.as_str().into()),
        })
    });
    facts.peer = terms.peer.as_deref().map(|peer| PeerFacts {
        name: peer.name().into(),
        fingerprint: peer.fingerprint_hex().into(),
        issuer: peer.issuer().into(),
        serial: peer.serial().into(),
        not_after_unix: peer.not_after_unix(),
        tenant: peer
            .tenant()
            .map(|tenant| TenantFacts { name: tenant.into(), identity: peer.identity().into() }),
    });
    facts
}

/// Records a failed handshake.
pub(crate) fn handshake(
    worker: &Worker,
    view: &View,
    listener: &Listener,
    connection_id: u64,
    attempt: &Attempt,
    failure: &HandshakeFailure,
    duration: Duration,
) {
    let presented = failure.presented.as_ref();
    let record = HandshakeRecord {
        time_unix_ns: nanos_since_epoch(),
        connection_id,
        worker: worker.shard.worker(),
        listener: listener.id,
        downstream: attempt.origin.client,
        proxy: attempt.origin.proxy,
        server_name: attempt.server_name.as_deref().map(Excerpt::from),
        reason: failure.reason.as_str(),
        detail: Some(failure.message.as_str().into()),
        presented_subject: presented.map(|chain| chain.subject.as_str().into()),
        presented_fingerprint: presented.map(|chain| hex(&chain.fingerprint_sha256).into()),
        tenant: None,
        resumed: None,
        resumption_declined: attempt.declined.map(|reason| reason.as_str()),
        observed: None,
        duration_ns: nanos(duration),
        generation: view.generation(),
    };
    if worker.records.push_handshake(Box::new(record)).is_err() {
        worker.shard.log_record_dropped();
    }
}

/// Writes that a connection was ended because its client would not be let in any more.
pub(crate) fn ended_by_trust(worker: &Worker, facts: &ConnectionFacts, reason: CloseReason, why: &str) {
    let record = EventRecord::connection_ended(nanos_since_epoch(), facts, reason.as_str(), why);
    if worker.records.push_event(Box::new(record)).is_err() {
        worker.shard.log_record_dropped();
    }
}

/// What has revoked the client's certificate, if that is why a handshake was refused.
pub(crate) fn revocation_source(reason: HandshakeReason) -> Option<RevocationSource> {
    Some(match reason {
        HandshakeReason::Revoked => RevocationSource::Crl,
        HandshakeReason::DenyListed => RevocationSource::DenyList,
        HandshakeReason::RevocationUnknown => RevocationSource::Missing,
        HandshakeReason::RevocationStale => RevocationSource::Stale,
        _ => return None,
    })
}

/// What the counters call a way to resume.
pub(crate) fn resumed(by: ResumedBy) -> Resumed {
    match by {
        ResumedBy::Ticket => Resumed::Ticket,
        ResumedBy::Cache => Resumed::Cache,
    }
}

/// What records of an exchange are made of.
pub(crate) struct Exchange<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) head: &'a RequestHead,
    pub(crate) facts: &'a Facts,
    pub(crate) progress: &'a Progress,
    pub(crate) started: Instant,
}

/// Counts and records an exchange. With a permit the record cannot be lost.
pub(crate) fn access(exchange: &Exchange<'_>, error: Option<&ProxyError>, permit: Option<Permit<'_>>) {
    count_request(exchange);
    count_end(exchange, error);
    write(exchange, error, None, permit);
}

/// Counts an exchange that becomes a tunnel, as a request that ends here. With a permit that is recorded, too: one that is held
/// for as long as the tunnel lasts would be missing to others.
pub(crate) fn tunnel_opened(exchange: &Exchange<'_>, permit: Option<Permit<'_>>) {
    count_request(exchange);
    if permit.is_some() {
        write(exchange, None, Some(TunnelEvent::Opened), permit);
    }
}

/// Counts and records the end of a tunnel.
pub(crate) fn tunnel_closed(exchange: &Exchange<'_>, error: Option<&ProxyError>) {
    count_end(exchange, error);
    write(exchange, error, Some(TunnelEvent::Closed), None);
}

fn write(
    exchange: &Exchange<'_>,
    error: Option<&ProxyError>,
    tunnel: Option<TunnelEvent>,
    permit: Option<Permit<'_>>,
) {
    let Exchange { connection, head, facts, progress, started } = *exchange;
    let worker = &connection.worker;
    let audited = permit.is_some() || tunnel.is_some() && worker.view().snapshot.audit_required;
    if !worker.view().snapshot.access_log && !audited {
        return;
    }
    let duration = started.elapsed();
    let started_unix_ns = nanos_since_epoch().saturating_sub(nanos(duration));
    let mut record = worker.records.blank(&connection.facts, started_unix_ns);
    record.client = facts.on_behalf.client.as_ref().and_then(|client| client.ip);
    record.protocol = authorize::protocol(head);
    record.route = facts.route;
    record.policy = facts.policy;
    record.decision = facts.outcome;
    record.cached = facts.cached;
    record.cluster = facts.cluster;
    record.mirror = facts.mirror.get();
    record.upstream = facts.upstream.as_ref().map(crate::upstream::reported);
    record.attempts = facts.attempts;
    record.status = progress.status.get();
    record.grpc_status = progress.grpc.get();
    record.tunnel = tunnel;
    record.flag = error.map(ProxyError::flag);
    record.generation = facts.generation;
    record.policy_ns = nanos(facts.policy_time);
    record.upstream_connect_ns = nanos(facts.connect_time);
    record.upstream_first_byte_ns = first_byte(facts, progress).map_or(0, nanos);
    record.duration_ns = nanos(duration);
    record.received_bytes = progress.received.get();
    record.sent_bytes = progress.sent.get();
    if let Some(admitted) = facts.on_behalf.forwarded().and_then(Forwarded::admitted) {
        let peer = &admitted.identity;
        record.set(TextField::ForwardedId, peer.name());
        record.set(TextField::ForwardedFingerprint, peer.fingerprint_hex());
        if let Some(tenant) = peer.tenant() {
            record.set(TextField::ForwardedTenant, tenant);
            record.set(TextField::ForwardedIdentity, peer.identity());
        }
    }
    record.set(TextField::RequestId, RequestId::new(connection.facts.id, facts.number).as_str());
    record.set(TextField::Method, head.method());
    record.set(TextField::Host, head.host());
    record.set(TextField::Path, head.path());
    let decision = match error {
        Some(ProxyError::Denied(decision)) => Some(&**decision),
        _ => facts.decision.as_deref(),
    };
    if let Some(rule) = decision.and_then(|decision| decision.rule.as_deref()) {
        record.set(TextField::Rule, rule);
    }
    if let Some(metadata) = decision.and_then(|decision| decision.metadata.as_deref()) {
        record.set(TextField::Metadata, metadata);
    }
    match (decision.and_then(|decision| decision.reason.as_deref()), error) {
        (Some(reason), _) => record.set(TextField::Reason, reason),
        (None, Some(ProxyError::Denied(_)) | None) => {}
        (None, Some(error)) => record.set(TextField::Reason, error.to_string()),
    }
    match permit {
        Some(permit) => permit.send(record),
        None if worker.records.push(record).is_err() => worker.shard.access_record_dropped(),
        None => {}
    }
}

/// Counts an exchange once the client has got its response, or a tunnel.
fn count_request(exchange: &Exchange<'_>) {
    let Exchange { connection, head, facts, progress, started } = *exchange;
    let shard = &connection.worker.shard;
    let listener = connection.facts.listener;
    let view = connection.worker.view();
    let unmatched =
        || Some(view.snapshot.listener(&connection.standing.admission().terms.listener)?.unmatched);
    if let Some(route) = facts.route.or_else(unmatched) {
        shard.request_finished(route, progress.status.get(), nanos(started.elapsed()));
        if let Some(status) = progress.grpc.get() {
            shard.grpc_finished(route, status);
        }
    }
    if let (Some(cluster), Some(first_byte)) = (facts.cluster, first_byte(facts, progress)) {
        shard.upstream_response(cluster, nanos(first_byte));
    }
    let forwarded = facts.on_behalf.forwarded();
    // What was believed was not removed as a look-alike.
    let believed = forwarded.map_or(0, |forwarded| forwarded.fields);
    let stripped = edits::lookalikes(head).saturating_sub(believed) + progress.stripped_trailers.get();
    if stripped > 0 {
        shard.identity_headers_stripped(listener, stripped);
    }
    match forwarded {
        None => connection.tenant.iter().for_each(|tenant| shard.tenant_request_finished(tenant.id())),
        // The request is its client's tenant's, as the connection is the load balancer's.
        Some(forwarded) => {
            let tenant = forwarded.admitted().and_then(|admitted| admitted.identity.tenant());
            let index = tenant.and_then(|name| view.snapshot.tenant_index(name));
            index.iter().for_each(|index| shard.tenant_request_finished(view.snapshot.tenants[*index].id));
        }
    }
}

/// Counts what an exchange has moved, and why it ended.
fn count_end(exchange: &Exchange<'_>, error: Option<&ProxyError>) {
    let Exchange { connection, progress, .. } = *exchange;
    let shard = &connection.worker.shard;
    let listener = connection.facts.listener;
    shard.downstream_bytes(listener, progress.received.get(), progress.sent.get());
    if let Some(error) = error {
        shard.response_generated(listener, error.flag());
        if matches!(error, ProxyError::Misdirected { .. } | ProxyError::UnknownHost(_)) {
            shard.request_misdirected(listener);
        }
    }
}

/// From sending the request upstream to the head of the response.
fn first_byte(facts: &Facts, progress: &Progress) -> Option<Duration> {
    Some(progress.answered.get()?.saturating_duration_since(facts.sent_at?))
}

/// Whole nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nanos_since_epoch() -> u64 {
    nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
