//! Asks the policy whether a request may go on.
//!
//! Whatever is not an explicit allow ends the request here: denied and undefined as 403, no decision as 500. Each has its own
//! flag and metric.

use std::{net::SocketAddr, time::Instant};

use ringward_http::RequestHead;
use ringward_identity::PeerIdentity;
use ringward_policy::{
    ConnectionView, Decision, DecisionError, HeaderSource, RequestView, RouteView, Subject,
};
use ringward_telemetry::PolicyOutcome;

use crate::{
    connection::{Connection, Subjects},
    downstream::Downstream,
    error::ProxyError,
    exchange::Facts,
    request_id::RequestId,
    route::Target,
    standing::Standing,
    worker::View,
};

/// Decides, and notes the decision in `facts`.
///
/// # Errors
/// [`ProxyError::Denied`] and [`ProxyError::Policy`]; success is an allow.
pub(crate) fn decide(
    view: &View,
    connection: &mut Connection,
    caller: Option<&PeerIdentity>,
    head: &RequestHead,
    target: &Target<'_>,
    facts: &mut Facts,
) -> Result<(), ProxyError> {
    // `danger_no_policy`: who passed the handshake is served.
    let Some(index) = target.route.policy else { return Ok(()) };
    let policy = &view.snapshot.policies[index];
    let started = Instant::now();
    let result = evaluate(&mut **view.policies[index].borrow_mut(), connection, caller, head, target);
    facts.policy_time = started.elapsed();
    facts.policy = Some(policy.id);
    let outcome = outcome(&result);
    facts.outcome = Some(outcome);
    connection.worker.shard.policy_decided(policy.id, outcome, crate::record::nanos(facts.policy_time));
    match result {
        Ok(decision) if decision.allowed => {
            facts.decision = Some(decision);
            Ok(())
        }
        Ok(decision) => Err(ProxyError::Denied(Box::new(decision))),
        Err(error) => {
            if matches!(error, DecisionError::Panic) {
                connection.worker.shard.panic_caught();
            }
            Err(ProxyError::Policy(error))
        }
    }
}

fn evaluate(
    policy: &mut dyn ringward_policy::PolicyWorker,
    connection: &mut Connection,
    caller: Option<&PeerIdentity>,
    head: &RequestHead,
    target: &Target<'_>,
) -> Result<Decision, DecisionError> {
    let id = RequestId::new(connection.facts.id, connection.standing.requests());
    let mut params = [("", ""); PARAMS_MAX];
    let mut count = 0;
    for (slot, param) in params.iter_mut().zip(target.params.iter(target.pattern, head.path())) {
        *slot = param;
        count += 1;
    }
    let request = RequestView {
        method: head.method(),
        path: head.path(),
        raw_path: head.raw_target(),
        query: head.query(),
        host: head.host(),
        scheme: "https",
        protocol: protocol(head),
        id: id.as_str(),
        headers: &Headers(head),
        route: RouteView {
            id: &target.route.name,
            template: &target.route.template,
            params: &params[..count],
            upstream: &target.route.cluster_name,
            labels: &target.route.labels,
        },
        now_unix: connection.worker.clock.now_unix(),
    };
    let Subjects { known, anonymous } = &mut connection.subjects;
    let subject = if caller.is_some() { known } else { anonymous };
    let subject = subject.get_or_insert_with(|| {
        subject_of(&mut connection.downstream, caller, connection.peer_addr, &connection.standing)
    });
    policy.decide(subject, &request)
}

fn subject_of(
    downstream: &mut Downstream,
    peer: Option<&PeerIdentity>,
    remote: SocketAddr,
    standing: &Standing,
) -> Subject {
    let (negotiated, resumed) =
        downstream.with_session(|session| (session.negotiated(), session.resumed().is_some()));
    let view = ConnectionView {
        remote,
        local_port: downstream.local_port(),
        sni: standing.admission().terms.server_name.as_deref().unwrap_or(""),
        alpn: negotiated.alpn,
        tls_version: negotiated.version,
        cipher: negotiated.suite,
        resumed,
        auth_time_unix: standing.admission().terms.auth_time_unix,
    };
    Subject::new(peer, &view)
}

/// The name of the request's protocol, as policies and logs call it.
pub(crate) fn protocol(head: &RequestHead) -> &'static str {
    match head.version() {
        ringward_http::Version::Http10 => "HTTP/1.0",
        ringward_http::Version::Http11 => "HTTP/1.1",
    }
}

fn outcome(result: &Result<Decision, DecisionError>) -> PolicyOutcome {
    match result {
        Ok(decision) if decision.allowed => PolicyOutcome::Allowed,
        Ok(decision) if decision.undefined => PolicyOutcome::Undefined,
        Ok(_) => PolicyOutcome::Denied,
        Err(DecisionError::WrongType(_)) => PolicyOutcome::WrongType,
        Err(DecisionError::TimeBudget) => PolicyOutcome::Limit,
        Err(DecisionError::InvalidResult(_)) => PolicyOutcome::InvalidResult,
        Err(DecisionError::Panic) => PolicyOutcome::Panic,
        Err(_) => PolicyOutcome::Error,
    }
}

/// The fields of a request, as policies want them.
struct Headers<'a>(&'a RequestHead);

impl HeaderSource for Headers<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        let name = &mut String::new();
        for field in self.0.fields() {
            name.clear();
            name.push_str(field.name);
            name.make_ascii_lowercase();
            // A policy cannot be asked about bytes that are no text; they show as U+FFFD.
            each(name, &String::from_utf8_lossy(field.value));
        }
    }
}

/// Parameters of a path template (`ringward_config::PathPattern` has no more).
const PARAMS_MAX: usize = 8;
