//! Under which terms a client was let in, and whether the snapshot in force would let it in today.
//!
//! The one judgement that the gate (before a request) and the sweep (over idle connections) share. It asks the virtual host
//! that would do this client's handshake now, through the same verifier as a handshake, and keeps the answer for a
//! generation: after that it costs one comparison.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ringward_identity::PeerIdentity;
use ringward_telemetry::CloseReason;
use ringward_tls::{ClientAuth, HandshakeReason, OcspMode, OcspVerdict, PeerPath, Revocation, WorkerTls};
use smallvec::SmallVec;

use crate::{snapshot::Snapshot, upstream::millis, worker::View};

/// What a finished handshake has found out, and the terms of it.
pub(crate) struct Terms {
    pub(crate) listener: Arc<str>,
    /// Server name of the ClientHello.
    pub(crate) server_name: Option<Box<str>>,
    /// Who the client has proved to be; `None` without a certificate.
    pub(crate) peer: Option<Arc<PeerIdentity>>,
    /// The verified path that vouches for it.
    pub(crate) path: Option<Arc<PeerPath>>,
    /// When the client proved it in a full handshake; seconds since the epoch.
    pub(crate) auth_time_unix: i64,
}

/// The terms under which a client was let in, and how they stand.
pub(crate) struct Admission {
    pub(crate) terms: Terms,
    /// When the client's path ends to hold, in the clock of [`crate::io::Deadlines`].
    path_ends_at: Cell<Option<u64>>,
    /// When its authentication is too old, in the same clock.
    age_ends_at: Cell<Option<u64>>,
    /// Milliseconds by which its looks differ from those of others, so that they do not all come at once.
    spread: u64,
    examined: RefCell<Examined>,
}

/// How an admission stands in the snapshot that was examined last.
struct Examined {
    generation: u64,
    /// The rules, and the revocations, by which the client was checked last.
    context: [u8; 32],
    revocation: Arc<Revocation>,
    /// The path that vouches for it by these rules: at first the one of the handshake.
    path: Option<Arc<PeerPath>>,
    outcome: Result<(usize, usize), Withdrawal>,
    /// When to look again although nothing was published: a list goes stale, a suspension ends.
    look_again_at: u64,
    /// When the snapshot came into force that withdrew the admission, and why it did.
    withdrawn: Option<(Instant, Box<str>)>,
}

/// Why a client would not be let in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// Its listener or virtual host is gone.
    Removed,
    /// Its certificate, or one above it, was revoked or put on the deny list, or that cannot be ruled out.
    Revoked,
    /// It does not pass the rules that are in force now, or would pass as somebody else.
    Changed,
    /// A certificate of its path has expired.
    Expired,
    /// The last full handshake is longer ago than the host accepts.
    TooOld,
}

impl Withdrawal {
    /// What a connection that ends for it is counted as.
    pub(crate) fn close_reason(self) -> CloseReason {
        match self {
            Withdrawal::Removed => CloseReason::Removed,
            Withdrawal::Revoked => CloseReason::Revoked,
            Withdrawal::Changed => CloseReason::TrustChanged,
            Withdrawal::Expired => CloseReason::CertificateExpired,
            Withdrawal::TooOld => CloseReason::AuthAge,
        }
    }

    fn of(reason: HandshakeReason) -> Withdrawal {
        match reason {
            HandshakeReason::Revoked
            | HandshakeReason::DenyListed
            | HandshakeReason::RevocationUnknown
            | HandshakeReason::RevocationStale => Withdrawal::Revoked,
            HandshakeReason::Expired => Withdrawal::Expired,
            HandshakeReason::TooOld => Withdrawal::TooOld,
            _ => Withdrawal::Changed,
        }
    }
}

impl Admission {
    /// The admission of a client that `place` (a listener and host of `view`, by index) has let in: just now if `settled`, else
    /// it is judged once more before its first request. `now` in the clock of [`crate::io::Deadlines`].
    pub(crate) fn new(
        terms: Terms,
        view: &View,
        place: (usize, usize),
        settled: bool,
        connection_id: u64,
        now: u64,
    ) -> Admission {
        let spread = connection_id % LOOK_AGAIN_SPREAD * LOOK_AGAIN_MILLIS / LOOK_AGAIN_SPREAD;
        let rules = view.snapshot.listeners[place.0].hosts[place.1].tls.client_auth();
        let examined = Examined {
            generation: view.generation(),
            context: *rules.context(),
            revocation: view.snapshot.revocation.clone(),
            path: terms.path.clone(),
            outcome: Ok(place),
            look_again_at: if settled { now + LOOK_AGAIN_MILLIS + spread } else { 0 },
            withdrawn: None,
        };
        let admission = Admission {
            path_ends_at: Cell::new(terms.path.as_ref().map(|path| end_of(path.valid_until, now))),
            age_ends_at: Cell::new(None),
            spread,
            examined: RefCell::new(examined),
            terms,
        };
        admission.bound_age(rules, now);
        admission
    }

    /// The listener and host, by index, that let this client in today. One comparison unless the snapshot is new.
    ///
    /// # Errors
    /// Why none does.
    pub(crate) fn examine(&self, view: &View, now: u64) -> Result<(usize, usize), Withdrawal> {
        let mut examined = self.examined.borrow_mut();
        if examined.generation != view.generation() {
            self.judge(&mut examined, view, now, false);
        } else if now >= examined.look_again_at && self.terms.path.is_some() && examined.outcome.is_ok() {
            self.judge(&mut examined, view, now, true);
        }
        if examined.outcome.is_ok()
            && let Some((withdrawal, ended_at)) = self.ended(now)
        {
            let ago = Duration::from_millis(now.saturating_sub(ended_at));
            examined.withdraw(withdrawal, Instant::now().checked_sub(ago), "its time is over");
        }
        examined.outcome
    }

    /// Whether [`Admission::examine`] has the answer for this generation already.
    pub(crate) fn is_examined_in(&self, view: &View) -> bool {
        self.examined.borrow().generation == view.generation()
    }

    /// The path that vouches for the client, as examined last.
    pub(crate) fn path(&self) -> Option<Arc<PeerPath>> {
        self.examined.borrow().path.clone()
    }

    /// Why and since when the admission does not hold, as examined last.
    pub(crate) fn withdrawn(&self) -> Option<(Withdrawal, Instant)> {
        let examined = self.examined.borrow();
        Some((examined.outcome.err()?, examined.withdrawn.as_ref()?.0))
    }

    /// What the operator is told of a withdrawal.
    pub(crate) fn explanation(&self) -> Box<str> {
        self.examined.borrow().withdrawn.as_ref().map(|(_, why)| why.clone()).unwrap_or_default()
    }

    /// When it ends by itself, in the clock of [`crate::io::Deadlines`].
    pub(crate) fn ends_at(&self) -> Option<u64> {
        [self.path_ends_at.get(), self.age_ends_at.get()].into_iter().flatten().min()
    }

    fn ended(&self, now: u64) -> Option<(Withdrawal, u64)> {
        let ended = |at: Option<u64>| at.filter(|at| *at <= now);
        let expired = ended(self.path_ends_at.get()).map(|at| (Withdrawal::Expired, at));
        expired.or_else(|| ended(self.age_ends_at.get()).map(|at| (Withdrawal::TooOld, at)))
    }

    fn judge(&self, examined: &mut Examined, view: &View, now: u64, anew: bool) {
        let snapshot = &view.snapshot;
        examined.generation = view.generation();
        examined.look_again_at = now + LOOK_AGAIN_MILLIS + self.spread;
        let Some((listener, host)) = self.place_in(snapshot) else {
            let why = "its listener or virtual host is no longer configured";
            return examined.withdraw(Withdrawal::Removed, Some(snapshot.published_at), why);
        };
        let rules = snapshot.listeners[listener].hosts[host].tls.client_auth();
        self.bound_age(rules, now);
        let outcome = if examined.context != *rules.context() || examined.withdrawn.is_some() {
            self.readmit(view.host_tls(listener, host), now).and_then(|path| {
                examined.path = path;
                self.check_standing(examined.path.as_deref(), rules, snapshot)
            })
        } else if anew || !Arc::ptr_eq(&examined.revocation, &snapshot.revocation) {
            self.check_standing(examined.path.as_deref(), rules, snapshot)
        } else {
            Ok(())
        };
        if let Err((withdrawal, why)) = outcome {
            // What time alone has changed was in force since about now.
            return examined.withdraw(withdrawal, (!anew).then_some(snapshot.published_at), &why);
        }
        examined.context = *rules.context();
        examined.revocation = snapshot.revocation.clone();
        examined.outcome = Ok((listener, host));
        examined.withdrawn = None;
    }

    fn bound_age(&self, rules: &ClientAuth, now: u64) {
        if self.terms.peer.is_some() {
            let end = self.terms.auth_time_unix.saturating_add_unsigned(rules.max_auth_age().as_secs());
            self.age_ends_at.set(Some(end_of(end, now)));
        }
    }

    /// The virtual host that would do this client's handshake today: the indexes of its listener and of itself.
    fn place_in(&self, snapshot: &Snapshot) -> Option<(usize, usize)> {
        let listener = snapshot.listener(&self.terms.listener)?;
        Some((listener.index, listener.host_index(self.terms.server_name.as_deref())?))
    }

    /// Asks the host what a new handshake of this client would come to. The proof that the client holds its key was given,
    /// and is not asked for again. May cost signature checks, so it is for rules that have changed.
    fn readmit(&self, host: &WorkerTls, now: u64) -> Result<Option<Arc<PeerPath>>, (Withdrawal, Box<str>)> {
        let Terms { peer, path, .. } = &self.terms;
        let chain: SmallVec<[_; 4]> = path.iter().flat_map(|path| path.presented()).cloned().collect();
        let admitted = host
            .admit(&chain)
            .map_err(|failure| (Withdrawal::of(failure.reason), failure.to_string().into()))?;
        match (peer, admitted) {
            (None, None) => Ok(None),
            (Some(ours), Some(theirs)) if is_same(ours, &theirs.identity) => {
                // Another certificate of the same anchor may end at another time.
                self.path_ends_at.set(Some(end_of(theirs.path.valid_until, now)));
                Ok(Some(theirs.path))
            }
            _ => Err((Withdrawal::Changed, "the client would be taken for somebody else now".into())),
        }
    }

    /// Looks up what time or a new list may have changed. Costs no signature check, however many clients there are.
    fn check_standing(
        &self,
        path: Option<&PeerPath>,
        rules: &ClientAuth,
        snapshot: &Snapshot,
    ) -> Result<(), (Withdrawal, Box<str>)> {
        let (Some(peer), Some(path)) = (&self.terms.peer, path) else { return Ok(()) };
        let now_unix = now_unix();
        rules
            .check_standing(path, peer, now_unix)
            .map_err(|failure| (Withdrawal::of(failure.reason), failure.message.into()))?;
        // That nothing is known by OCSP is for each route to judge; that it is revoked is known to all who ask at all.
        let mode = rules.ocsp().mode.min(OcspMode::SoftFail);
        match snapshot.ocsp.judge(path, peer, mode, &snapshot.revocation, now_unix) {
            OcspVerdict::Refuse(refusal) => Err((Withdrawal::Revoked, refusal.detail.into())),
            OcspVerdict::Pass | OcspVerdict::PassUnchecked | OcspVerdict::Wait => Ok(()),
        }
    }
}

impl Examined {
    fn withdraw(&mut self, withdrawal: Withdrawal, since: Option<Instant>, why: &str) {
        self.outcome = Err(withdrawal);
        // The time of the first change counts: a later one does not make the enforcement of it younger.
        if self.withdrawn.is_none() {
            self.withdrawn = Some((since.unwrap_or_else(Instant::now), why.into()));
        }
    }
}

/// Whether two identities of one certificate mean the same client. What else they hold is read from the same bytes, except how
/// much of its chain the client has presented.
fn is_same(one: &PeerIdentity, other: &PeerIdentity) -> bool {
    one.fingerprint_sha256() == other.fingerprint_sha256()
        && one.tenant() == other.tenant()
        && one.identity() == other.identity()
        && one.extensions() == other.extensions()
}

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The end of the second `unix`, which is the last one that counts (RFC 5280 §4.1.2.5), in the clock of
/// [`crate::io::Deadlines`]; `now` if it has passed.
fn end_of(unix: i64, now: u64) -> u64 {
    let seconds = Duration::from_secs(unix.max(0).unsigned_abs().saturating_add(1));
    let Some(then) = UNIX_EPOCH.checked_add(seconds) else { return u64::MAX };
    // A clock that lags behind must not make an end that has passed look like one to come.
    then.duration_since(SystemTime::now()).map_or(now, |left| now.saturating_add(millis(left)))
}

/// How long an answer about a living connection holds although nothing is published, and over how many slices of that the
/// looks are spread.
const LOOK_AGAIN_MILLIS: u64 = 2_000;
const LOOK_AGAIN_SPREAD: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_the_one_that_is_enforced() {
        let mut examined = Examined {
            generation: 1,
            context: [0; 32],
            revocation: Revocation::empty(),
            path: None,
            outcome: Ok((0, 0)),
            look_again_at: 0,
            withdrawn: None,
        };
        let first = Instant::now();
        examined.withdraw(Withdrawal::Revoked, Some(first), "on the deny list");
        examined.withdraw(Withdrawal::Changed, Some(first + Duration::from_secs(5)), "the CA is gone");
        assert_eq!(examined.outcome, Err(Withdrawal::Changed));
        assert_eq!(examined.withdrawn, Some((first, "on the deny list".into())));
    }

    /// RFC 5280 §4.1.2.5: the last second counts. What has passed ends now, whatever the clock of deadlines says.
    #[test]
    fn an_end_is_the_end_of_its_second() {
        const NOW: u64 = 500;
        for passed in [i64::MIN, 0, now_unix() - 1] {
            assert_eq!(end_of(passed, NOW), NOW);
        }
        let soon = end_of(now_unix() + 100, NOW);
        assert!((NOW + 99_000..=NOW + 101_000).contains(&soon), "{soon}");
        assert_eq!(end_of(i64::MAX, NOW), u64::MAX);
    }
}
