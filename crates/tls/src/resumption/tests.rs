use super::*;
use crate::testing::{NOW, at};

#[test]
fn scope_depends_on_all_that_a_session_is_bound_to() {
    let ring = || Arc::new(KeyRing::random(at(NOW), Duration::from_secs(3600)));
    let tickets = Resumption::Tickets(ring());
    let cache = Resumption::Cache(Arc::new(SessionCache::new(4, 100)));
    let scopes = [
        Scope::new("public", "api", &[1; 32], &tickets),
        Scope::new("private", "api", &[1; 32], &tickets),
        Scope::new("public", "www", &[1; 32], &tickets),
        Scope::new("publica", "pi", &[1; 32], &tickets),
        Scope::new("public", "api", &[2; 32], &tickets),
        Scope::new("public", "api", &[1; 32], &cache),
        Scope::new("public", "api", &[1; 32], &Resumption::Off),
    ];
    for (index, one) in scopes.iter().enumerate() {
        assert!(!scopes[..index].contains(one), "{index}");
    }
    let mut with_version = FieldHasher::new("ringward resumption scope 1");
    with_version.field(b"public").field(b"api").field(&[1; 32]);
    with_version.field(RUSTLS_VERSION.as_bytes()).field(b"tickets");
    assert_eq!(scopes[0], Scope(with_version.finish()));
    // The keys are no part of it: they rotate, and with each other's keys nodes share sessions.
    let rotated = Resumption::Tickets(ring());
    assert_eq!(scopes[0], Scope::new("public", "api", &[1; 32], &rotated));
}

#[test]
fn a_slot_answers_once_and_for_one_call() {
    let slot = OfferSlot::default();
    assert_eq!((slot.issuing(), slot.end()), (None, Offer::Nothing));
    slot.begin(7);
    assert_eq!(slot.issuing(), Some(7));
    slot.opened(None);
    slot.opened(Some(5));
    assert_eq!(slot.end(), Offer::Session { auth_time: 5 });
    assert_eq!((slot.issuing(), slot.end()), (None, Offer::Nothing));
    // What a call that panicked has left is gone with the next.
    slot.opened(Some(5));
    slot.begin(7);
    assert_eq!(slot.end(), Offer::Nothing);
    slot.begin(-1);
    assert_eq!(slot.issuing(), None, "no time before 1970");
}

#[test]
fn names_for_metrics_are_distinct() {
    let mut names: Vec<_> =
        HandshakeReason::ALL.iter().map(|reason| DeclineReason::Refused(*reason)).collect();
    names.extend([DeclineReason::Unknown, DeclineReason::Incompatible, DeclineReason::NoAuthTime]);
    let mut names: Vec<_> = names.into_iter().map(DeclineReason::as_str).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_ne!(ResumedBy::Ticket.as_str(), ResumedBy::Cache.as_str());
}
