//! Candidates: policies that are asked about the requests of another one, and decide nothing.
//!
//! What a candidate says is counted, and told now and then. Nothing of it gets into an answer, a record, or what goes upstream: all that
//! [`note`] is given of the request is a copy of the verdict that counts.

use std::cell::Cell;

use ringward_policy::{Decision, DecisionError, Verdict};
use ringward_telemetry::CandidateVerdict;

use crate::{
    connection::Connection, exchange::Facts, request_id::RequestId, route::Target, snapshot::Policy,
};

/// When this worker has told of a disagreement last, in seconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    told_unix: Cell<i64>,
}

/// What a policy has said, of which a candidate cannot change anything.
pub(crate) struct Said<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) allowed: bool,
    pub(crate) rule: Option<&'a str>,
}

/// Compares what `candidate` says with what was decided. `seen` is false if it looks at something that it was not shown.
pub(crate) fn note(
    connection: &Connection,
    (target, facts): (&Target<'_>, &Facts),
    said: &Said<'_>,
    candidate: &Policy,
    verdict: &Verdict,
    seen: bool,
) {
    let worker = &connection.worker;
    let decision = match verdict {
        Verdict::Decided(decision) if seen => Some(&**decision),
        _ => None,
    };
    let compared = compare(said.allowed, decision);
    worker.shard.policy_candidate_compared(said.policy.id, compared);
    let now = worker.clock.now_unix();
    if compared == CandidateVerdict::Agrees || worker.candidates.told_unix.replace(now) == now {
        return;
    }
    let id = RequestId::new(connection.facts.id, facts.number);
    tracing::info!(
        policy = %said.policy.name,
        candidate = %candidate.name,
        verdict = compared.as_str(),
        request.id = id.as_str(),
        route = &*target.route.name,
        rule = said.rule,
        candidate_rule = decision.and_then(|decision| decision.rule.as_deref()),
        problem = problem(verdict, seen),
        "a candidate does not say what the policy has decided"
    );
}

fn compare(allowed: bool, candidate: Option<&Decision>) -> CandidateVerdict {
    match (allowed, candidate.map(|decision| decision.allowed)) {
        (_, None) => CandidateVerdict::Failed,
        (true, Some(false)) => CandidateVerdict::NewlyDenied,
        (false, Some(true)) => CandidateVerdict::NewlyAllowed,
        _ => CandidateVerdict::Agrees,
    }
}

/// Why it says nothing.
fn problem(verdict: &Verdict, seen: bool) -> Option<String> {
    match verdict {
        Verdict::Failed(error) => Some(DecisionError::to_string(error)),
        Verdict::OverBudget => {
            Some("its client has caused too many evaluations (misses_per_second)".to_owned())
        }
        Verdict::Pending(_) => Some("it would have to ask a server".to_owned()),
        Verdict::Decided(_) if !seen => Some("it reads bodies, and the policy beside it does not".to_owned()),
        Verdict::Decided(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreements_are_told_apart() {
        let says = |allowed| Some(Decision { allowed, ..Decision::default() });
        for (allowed, candidate, expected) in [
            (true, says(true), CandidateVerdict::Agrees),
            (false, says(false), CandidateVerdict::Agrees),
            (true, says(false), CandidateVerdict::NewlyDenied),
            (false, says(true), CandidateVerdict::NewlyAllowed),
            (true, None, CandidateVerdict::Failed),
            (false, None, CandidateVerdict::Failed),
        ] {
            assert_eq!(compare(allowed, candidate.as_ref()), expected, "{allowed} {candidate:?}");
        }
    }
}
