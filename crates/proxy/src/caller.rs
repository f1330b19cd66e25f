//! Who asks, as far as a route wants to know: client authentication per route.
//!
//! The handshake asks for a certificate as the least demanding route of its virtual host does; here each route enforces its
//! own. A route that does not want an identity gets none, in no header, no policy and no template.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ringward_config::ClientAuthMode;
use ringward_identity::PeerIdentity;
use ringward_telemetry::RevocationSource;
use ringward_tls::{OcspKey, OcspMode, OcspQuery, OcspVerdict, RevocationRefusal};

use crate::{
    connection::Connection, error::ProxyError, io, on_behalf::OnBehalf, snapshot::Route, worker::View,
};

/// The client `on_behalf` of whom a request comes, as `route` sees it; `None` for an anonymous one.
///
/// # Errors
/// [`ProxyError::CertificateRequired`] and [`ProxyError::CertificateRefused`] when the route does not take this client.
pub(crate) fn identify(
    connection: &Connection,
    on_behalf: &OnBehalf,
    route: &Route,
) -> Result<Option<Arc<PeerIdentity>>, ProxyError> {
    if let Some(forwarded) = on_behalf.forwarded() {
        let client = forwarded.identify(route.client_auth)?;
        return Ok(client.map(|admitted| admitted.identity.clone()));
    }
    let peer = || connection.standing.admission().terms.peer.clone();
    // Where one route of the host observes, the handshake lets bad certificates pass. The others refuse them here.
    let refused = || {
        let observed = connection.observed.as_ref()?;
        let reason = observed.verdict.err()?;
        Some(ProxyError::CertificateRefused(format!("{reason}: {}", observed.message).into()))
    };
    match route.client_auth {
        ClientAuthMode::Off | ClientAuthMode::Observe => Ok(None),
        ClientAuthMode::Optional => refused().map_or_else(|| Ok(peer()), Err),
        ClientAuthMode::Required => match peer() {
            Some(peer) => Ok(Some(peer)),
            None => Err(refused().unwrap_or(ProxyError::CertificateRequired)),
        },
    }
}

/// The last look before a request is answered or sent on: nobody gets to a route that requires a certificate unless both the
/// client of the request and that of its connection are verified. [`identify`] sees to that already, and this asks the evidence
/// itself, so that no change of what leads here opens such a route. It is counted, since it must never happen. Preflights, which reach
/// no upstream, are answered without it.
///
/// # Errors
/// [`ProxyError::UnverifiedClient`].
pub(crate) fn verified<'c>(
    connection: &Connection,
    route: &Route,
    caller: Option<&'c PeerIdentity>,
) -> Result<Option<&'c PeerIdentity>, ProxyError> {
    let peer = connection.standing.admission().terms.peer.as_deref();
    if is_unverified(route.client_auth, caller, peer) {
        connection.worker.shard.request_unverified(connection.facts.listener);
        return Err(ProxyError::UnverifiedClient);
    }
    Ok(caller)
}

fn is_unverified<T>(mode: ClientAuthMode, caller: Option<&T>, peer: Option<&T>) -> bool {
    mode == ClientAuthMode::Required && (caller.is_none() || peer.is_none())
}

/// What a route knows by OCSP of a client that it takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// All that it wants to know.
    Enough,
    /// Nothing, in spite of having asked, and it takes the client all the same.
    Nothing,
}

/// Finds out whether the client's certificate is revoked, if the route has its issuer's OCSP responder asked. Waits for an
/// answer that is not known yet, no longer than `ocsp_timeout`; the request stays unread meanwhile.
///
/// # Errors
/// [`ProxyError::RevocationRefused`] for a revoked certificate, and with `hard_fail` also when the responder does not know it
/// or there is no answer.
pub(crate) async fn check_ocsp(
    connection: &Connection,
    view: &View,
    route: &Route,
) -> Result<Heard, ProxyError> {
    let terms = &connection.standing.admission().terms;
    let (Some(_), Some(path), false) = (&terms.peer, &terms.path, route.ocsp == OcspMode::Off) else {
        return Ok(Heard::Enough);
    };
    let table = &view.snapshot.ocsp;
    let mut verdict = judge(connection, view, route);
    if verdict == OcspVerdict::Wait {
        let asked = OcspQuery::about_leaf(path.clone()).is_some_and(|query| table.ask(query));
        let begun = Instant::now();
        while asked && verdict == OcspVerdict::Wait && begun.elapsed() < route.ocsp_timeout {
            // Boxed, as a timer takes much room, and few ever wait.
            Box::pin(io::sleep(LOOK_AGAIN)).await;
            verdict = judge(connection, view, route);
        }
        if verdict == OcspVerdict::Wait {
            verdict = route.ocsp.without_answer(path);
        }
    }
    let is_held = connection.ocsp.get().is_some();
    let held = if is_held { None } else { table.entry(&OcspKey::of(path.leaf())) };
    let outcome = match verdict {
        OcspVerdict::Pass => Ok(Heard::Enough),
        OcspVerdict::PassUnchecked => {
            connection.worker.shard.ocsp_unchecked(connection.facts.listener);
            Ok(Heard::Nothing)
        }
        OcspVerdict::Wait => Err(ProxyError::RevocationRefused("its OCSP responder cannot be asked".into())),
        OcspVerdict::Refuse(refusal) => Err(refused(connection, refusal)),
    };
    // Who holds the entry has the answer renewed before it ends.
    if let Some(entry) = held {
        // Another stream of the connection may have been faster, with the same entry.
        let _ = connection.ocsp.set(entry);
    }
    outcome
}

/// Looks once more, without waiting, at what is known by OCSP of a client that [`check_ocsp`] has let pass. False if what was
/// known then is over, so that it has to be asked for again.
///
/// # Errors
/// As [`check_ocsp`].
pub(crate) fn recheck_ocsp(
    connection: &Connection,
    view: &View,
    route: &Route,
    heard: Heard,
) -> Result<bool, ProxyError> {
    match judge(connection, view, route) {
        OcspVerdict::Pass | OcspVerdict::PassUnchecked => Ok(true),
        // Nobody waits for the same silence twice.
        OcspVerdict::Wait => Ok(heard == Heard::Nothing),
        OcspVerdict::Refuse(refusal) => Err(refused(connection, refusal)),
    }
}

/// What is known now of the client, for this route.
fn judge(connection: &Connection, view: &View, route: &Route) -> OcspVerdict {
    let terms = &connection.standing.admission().terms;
    let (Some(peer), Some(path), false) = (&terms.peer, &terms.path, route.ocsp == OcspMode::Off) else {
        return OcspVerdict::Pass;
    };
    let (table, revocation) = (&view.snapshot.ocsp, &view.snapshot.revocation);
    table.judge(path, peer, route.ocsp, revocation, connection.worker.clock.now_unix())
}

fn refused(connection: &Connection, refusal: RevocationRefusal) -> ProxyError {
    connection.worker.shard.revocation_refused(connection.facts.listener, RevocationSource::Ocsp);
    ProxyError::RevocationRefused(refusal.detail.into())
}

/// How often a waiting request looks for its answer. Only the first one about a certificate waits.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_for_verified_clients_takes_nobody_else() {
        use ClientAuthMode::{Observe, Off, Optional, Required};
        for mode in [Off, Observe, Optional, Required] {
            for (caller, peer) in [(None, None), (Some(&()), None), (None, Some(&())), (Some(&()), Some(&()))]
            {
                let refused = mode == Required && (caller, peer) != (Some(&()), Some(&()));
                assert_eq!(is_unverified(mode, caller, peer), refused, "{mode:?} {caller:?} {peer:?}");
            }
        }
    }
}
