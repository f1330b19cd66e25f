//! Asks the policies of a route whether a request may go on.
//!
//! Whatever is not an explicit allow ends the request here: denied and undefined as 403, no decision as 500. Each has its own
//! flag and metric. Of several policies every one has to allow.

use std::{
    borrow::Cow,
    rc::Rc,
    time::{Duration, Instant},
};

use ringward_http::{Field, RequestHead};
use ringward_identity::PeerIdentity;
use ringward_policy::{
    Answer, BodyView, CachingWorker, ConnectionView, Decision, DecisionError, HeaderSource, Lookup, Query,
    RequestView, RouteView, Subject, SubjectMark, Verdict, combine,
};
use ringward_telemetry::{CacheLookup, PolicyOutcome, Shard};

use crate::{
    candidate,
    client_side::{ClientSide, SessionFacts},
    connection::Connection,
    error::ProxyError,
    exchange::Facts,
    on_behalf::NamedClient,
    request_id::RequestId,
    route::Target,
    snapshot::Policy,
    upgrade,
    worker::{View, Worker},
};

/// What policies are asked about.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) head: &'a RequestHead,
    /// What of the body was read for them.
    pub(crate) body: Option<BodyView<'a>>,
}

/// Asks every policy of the route, and notes what they say in `facts`: the policy that decided, which is the first that does not
/// allow, or the last, and what they want together, once all allow. No policy is asked after one that does not allow.
///
/// # Errors
/// [`ProxyError::Denied`], [`ProxyError::Policy`] and [`ProxyError::PolicyBudget`]; success is an allow.
pub(crate) async fn decide(
    view: &View,
    (connection, client): (&Connection, &mut impl ClientSide),
    caller: Option<&PeerIdentity>,
    request: Request<'_>,
    target: &Target<'_>,
    facts: &mut Facts,
) -> Result<(), ProxyError> {
    // What an earlier snapshot's policies have said of this request counts no more.
    (facts.policy, facts.outcome, facts.decision, facts.cached) = (None, None, None, None);
    facts.policy_time = Duration::ZERO;
    // None with `danger_no_policy`: who passed the handshake is served.
    for &index in &target.route.policies {
        let decision = ask(view, index, (connection, client), caller, request, target, facts).await?;
        facts.decision = Some(decision);
    }
    Ok(())
}

/// Asks one policy. Success is an allow, together with what those before it allowed.
async fn ask(
    view: &View,
    index: usize,
    (connection, client): (&Connection, &mut impl ClientSide),
    caller: Option<&PeerIdentity>,
    request: Request<'_>,
    target: &Target<'_>,
    facts: &mut Facts,
) -> Result<Rc<Decision>, ProxyError> {
    let policy = &view.snapshot.policies[index];
    // Taken, so that nothing is left of what others allowed if this one does not.
    let earlier = facts.decision.take();
    (facts.policy, facts.outcome) = (Some(policy.id), None);
    let started = Instant::now();
    // Not borrowed while a server is asked: meanwhile others of this worker decide.
    let Answer { verdict, lookup, mismatch } = {
        let mut evaluator = view.policies[index].borrow_mut();
        let answer = evaluate(
            CachingWorker::decide,
            &mut evaluator,
            (connection, &mut *client),
            caller,
            request,
            target,
            (facts, started),
        );
        note_cache(policy, &connection.worker.shard, &evaluator, &answer);
        answer
    };
    let cached = lookup == Some(Lookup::Hit) && !mismatch;
    facts.cached = Some(cached && facts.cached.unwrap_or(true));
    let is_evaluated = !cached && !matches!(verdict, Verdict::Pending(_));
    let shard = &connection.worker.shard;
    let result = match verdict {
        Verdict::Decided(decision) => Ok(decision),
        Verdict::Failed(error) => Err(error),
        Verdict::Pending(query) => ask_server(view, index, &connection.worker, query).await,
        Verdict::OverBudget => {
            shard.policy_budget_refused(policy.id);
            return Err(ProxyError::PolicyBudget);
        }
    };
    // Before a candidate is asked, which takes a time of its own.
    let took = started.elapsed();
    if let Some(candidate) = policy.candidate {
        let said = candidate::Said {
            policy,
            allowed: result.as_ref().is_ok_and(|decision| decision.allowed),
            rule: result.as_ref().ok().and_then(|decision| decision.rule.as_deref()),
        };
        compare_with(view, candidate, (connection, client), caller, request, target, (facts, &said));
    }
    let result = result.and_then(|decision| match earlier {
        None => Ok(decision),
        Some(earlier) => combine(earlier, decision),
    });
    if !cached {
        facts.policy_time += took;
    }
    let outcome = outcome(&result);
    facts.outcome = Some(outcome);
    // A look into a table is no evaluation, and would make the times of those look shorter than they are; a server's answer
    // has times of its own.
    shard.policy_decided(policy.id, outcome, is_evaluated.then(|| crate::record::nanos(took)));
    match result {
        Ok(decision) if decision.allowed => Ok(decision),
        Ok(decision) => Err(ProxyError::Denied(decision)),
        Err(error) => {
            if matches!(error, DecisionError::Panic) {
                shard.panic_caught();
            }
            Err(match error {
                // The client's fault.
                DecisionError::Body(_) => ProxyError::UnreadableBody(error),
                error => ProxyError::Policy(error),
            })
        }
    }
}

/// Asks the candidate of a policy, which changes nothing.
fn compare_with(
    view: &View,
    candidate: usize,
    (connection, client): (&Connection, &mut impl ClientSide),
    caller: Option<&PeerIdentity>,
    request: Request<'_>,
    target: &Target<'_>,
    (facts, said): (&Facts, &candidate::Said<'_>),
) {
    let policy = &view.snapshot.policies[candidate];
    let answer = {
        let evaluator = &mut view.policies[candidate].borrow_mut();
        let now = (facts, Instant::now());
        evaluate(CachingWorker::decide_beside, evaluator, (connection, client), caller, request, target, now)
    };
    // Bodies are read for policies that decide. One that is read for its candidate alone could be refused for its length.
    let seen = !policy.compiled.reads_body() || target.route.policy_body_max.is_some();
    candidate::note(connection, (target, facts), said, policy, &answer.verdict, seen);
}

/// Has the policy's server decide.
async fn ask_server(
    view: &View,
    index: usize,
    worker: &Worker,
    query: Query,
) -> Result<Rc<Decision>, DecisionError> {
    let Some(asker) = &view.askers[index] else {
        return Err(DecisionError::Evaluation("the policy has no server to ask".to_owned()));
    };
    let read = |answer: &[u8]| view.policies[index].borrow_mut().read_answer(answer);
    // Boxed, so that the many connections whose policies ask nobody need not have room for it.
    Box::pin(asker.decide(worker, query, read)).await.map(Rc::new)
}

/// Counts how the decision cache was used.
fn note_cache(policy: &Policy, shard: &Shard, evaluator: &CachingWorker, answer: &Answer) {
    let Some(lookup) = answer.lookup else { return };
    let lookup = match lookup {
        Lookup::Hit => CacheLookup::Hit,
        Lookup::Miss => CacheLookup::Miss,
        Lookup::Bypass => CacheLookup::Bypass,
    };
    shard.policy_cache_lookup(policy.id, lookup);
    if lookup == CacheLookup::Miss || answer.mismatch {
        shard.policy_cache_state(policy.id, evaluator.is_active(), evaluator.entries() as u64);
    }
    if answer.mismatch {
        shard.policy_cache_mismatch(policy.id);
        // Nothing of the request: what policies read is for nobody's log.
        tracing::error!(
            policy = %policy.name,
            worker = shard.worker(),
            "a cached decision was not the policy's, its cache is off on this worker: report this"
        );
    }
}

/// How an evaluator is asked.
type Ask = fn(
    &mut CachingWorker,
    &mut SubjectMark,
    &mut dyn FnMut() -> Subject,
    &RequestView<'_>,
    Instant,
) -> Answer;

fn evaluate(
    ask: Ask,
    evaluator: &mut CachingWorker,
    (connection, client): (&Connection, &mut impl ClientSide),
    caller: Option<&PeerIdentity>,
    Request { head, body }: Request<'_>,
    target: &Target<'_>,
    (facts, now): (&Facts, Instant),
) -> Answer {
    let id = RequestId::new(connection.facts.id, facts.number);
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
        headers: &Headers { head, upgrade: upgrade::allowed(head, target.route) },
        body,
        route: RouteView {
            id: &target.route.name,
            template: &target.route.template,
            params: &params[..count],
            upstream: target.cluster_name(),
            labels: &target.route.labels,
        },
        now_unix: connection.worker.clock.now_unix(),
    };
    let named = facts.on_behalf.client.as_deref();
    let subjects = named.map_or(&connection.subjects, |named| &named.subjects);
    let subjects = &mut *subjects.borrow_mut();
    let seen = if caller.is_some() { &mut subjects.known } else { &mut subjects.anonymous };
    let mut subject = || {
        let make = || subject_of(connection, client.session(), caller, named);
        seen.subject.get_or_insert_with(make).clone()
    };
    ask(evaluator, &mut seen.mark, &mut subject, &request, now)
}

fn subject_of(
    connection: &Connection,
    session: SessionFacts,
    peer: Option<&PeerIdentity>,
    named: Option<&NamedClient>,
) -> Subject {
    let terms = &connection.standing.admission().terms;
    let forwarded = named.is_some_and(|named| named.forwarded.is_some());
    let view = ConnectionView {
        // A list of addresses has no ports that mean anything.
        remote: named.and_then(|named| named.ip).map_or(connection.peer_addr, |ip| (ip, 0).into()),
        local_port: session.local_addr.map_or(0, |addr| addr.port()),
        sni: terms.server_name.as_deref().unwrap_or(""),
        alpn: session.negotiated.alpn,
        tls_version: session.negotiated.version,
        cipher: session.negotiated.suite,
        resumed: session.resumed,
        // When a client has proved its key to a load balancer, nobody says: then it was too long ago.
        auth_time_unix: if forwarded { 0 } else { terms.auth_time_unix },
    };
    Subject::new(peer, &view)
}

/// The name of the request's protocol, as policies and logs call it.
pub(crate) fn protocol(head: &RequestHead) -> &'static str {
    match head.version() {
        ringward_http::Version::Http10 => "HTTP/1.0",
        ringward_http::Version::Http11 => "HTTP/1.1",
        ringward_http::Version::Http2 => "HTTP/2",
    }
}

fn outcome(result: &Result<Rc<Decision>, DecisionError>) -> PolicyOutcome {
    match result {
        Ok(decision) if decision.allowed => PolicyOutcome::Allowed,
        Ok(decision) if decision.undefined => PolicyOutcome::Undefined,
        Ok(_) => PolicyOutcome::Denied,
        Err(DecisionError::WrongType(_)) => PolicyOutcome::WrongType,
        Err(DecisionError::TimeBudget) => PolicyOutcome::Limit,
        Err(DecisionError::InvalidResult(_)) => PolicyOutcome::InvalidResult,
        Err(DecisionError::Panic) => PolicyOutcome::Panic,
        Err(DecisionError::Server(_)) => PolicyOutcome::Server,
        Err(_) => PolicyOutcome::Error,
    }
}

/// The fields of a request, as policies want them.
struct Headers<'a> {
    head: &'a RequestHead,
    /// What it asks to be switched to, as the route spells it, whatever the client's case: two spellings are not two things.
    upgrade: Option<&'a str>,
}

impl<'a> Headers<'a> {
    /// What policies see of a field; `None` if they do not see it.
    fn value(&self, field: &Field<'a>) -> Option<Cow<'a, str>> {
        if field.name.eq_ignore_ascii_case("upgrade") {
            // An `Upgrade` that is dropped (not nominated, repeated, not the route's) would have what a policy allows to
            // tunnels allowed to ordinary requests.
            return self.upgrade.map(Cow::Borrowed);
        }
        // A policy cannot be asked about bytes that are no text; they show as U+FFFD.
        Some(String::from_utf8_lossy(field.value))
    }
}

impl HeaderSource for Headers<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        let name = &mut String::new();
        for field in self.head.fields() {
            let Some(value) = self.value(&field) else { continue };
            name.clear();
            name.push_str(field.name);
            name.make_ascii_lowercase();
            each(name, &value);
        }
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) {
        // Names are in lower case here, so one that is not is nobody's.
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return;
        }
        let named = self.head.fields().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| self.value(&field)).for_each(|value| each(&value));
    }
}

/// Parameters of a path template (`ringward_config::PathPattern` has no more).
const PARAMS_MAX: usize = 8;
