use ringward_testkit::{Authority, Crl, Leaf, RevocationReason as Reason, der};

use super::*;
use crate::revocation::testing::{
    Client, DAY, HOUR, REQUIRED, complete, delta, now, serial, time, with_lists,
};

/// A complete list with the number 7, and a delta with the number 9.
fn combine(root: &Authority, of_complete: Crl, of_delta: Crl) -> Result<CrlIndex, CrlError> {
    complete(root, &of_complete.number(7)).with_delta(delta(root, &of_delta.number(9)))
}

#[test]
fn delta_adds_and_lifts() {
    let root = Authority::root("Root");
    let index = combine(
        &root,
        Crl::new()
            .revoke(&[1])
            .revoke_for(&[2], Reason::CertificateHold)
            .revoke_for(&[3], Reason::CertificateHold)
            .revoke_for(&[4], Reason::KeyCompromise),
        Crl::new()
            .delta_of(7)
            .revoke_for(&[2], Reason::RemoveFromCrl)
            .revoke_for(&[3], Reason::KeyCompromise)
            .revoke_for(&[4], Reason::RemoveFromCrl)
            .revoke(&[5])
            .revoke_for(&[6], Reason::RemoveFromCrl)
            .revoke_for(&[7], Reason::RemoveFromCrl)
            .revoke_for(&[7], Reason::CertificateHold),
    )
    .unwrap();
    let find = |octet| index.find(&serial(&[octet]));
    assert_eq!(find(1), Some(RevocationReason::Unspecified), "not mentioned");
    assert_eq!(find(2), None, "no longer on hold");
    assert_eq!(find(3), Some(RevocationReason::KeyCompromise), "from hold to revoked");
    assert_eq!(find(4), Some(RevocationReason::KeyCompromise), "only a hold can be lifted");
    assert_eq!(find(5), Some(RevocationReason::Unspecified), "new");
    assert_eq!(find(6), None, "never was");
    assert_eq!(find(7), Some(RevocationReason::CertificateHold), "said both ways");
    assert_eq!(find(8), None);
    assert_eq!(index.entries(), 4 + 7);
}

#[test]
fn newer_delta_takes_the_place_of_the_older() {
    let root = Authority::root("Root");
    let base = complete(&root, &Crl::new().number(7));
    let first = base.with_delta(delta(&root, &Crl::new().number(8).delta_of(7).revoke(&[1]))).unwrap();
    let second = first.with_delta(delta(&root, &Crl::new().number(9).delta_of(7).revoke(&[2]))).unwrap();
    assert!(first.find(&serial(&[1])).is_some() && second.find(&serial(&[1])).is_none());
    assert!(second.find(&serial(&[2])).is_some());
    assert_eq!(second.delta().unwrap().head().number, Some(9.into()));
}

#[test]
fn delta_of_another_list_is_refused() {
    let root = Authority::root("Root");
    let users = |crl: Crl| crl.extension("2.5.29.28", true, &der::sequence(&[der::tlv(0x81, &[0xff])]));
    let mismatch = |result: Result<CrlIndex, CrlError>| matches!(result, Err(CrlError::DeltaMismatch { .. }));
    assert!(combine(&root, Crl::new(), Crl::new().delta_of(7)).is_ok());
    assert!(combine(&root, Crl::new(), Crl::new().delta_of(3)).is_ok(), "it lists more than is needed");
    let gap = CrlError::DeltaGap { base: 8.into(), number: 7.into() };
    assert_eq!(combine(&root, Crl::new(), Crl::new().delta_of(8)).map(|_| ()), Err(gap));
    assert!(mismatch(combine(&root, users(Crl::new()), Crl::new().delta_of(7))));
    assert!(mismatch(combine(&root, Crl::new(), users(Crl::new().delta_of(7)))));
    assert!(combine(&root, users(Crl::new()), users(Crl::new().delta_of(7))).is_ok());
    // The number of the complete list, and what may lie over it.
    let over =
        |number: Crl| complete(&root, &number).with_delta(delta(&root, &Crl::new().number(9).delta_of(7)));
    assert!(over(Crl::new().number(8)).is_ok());
    assert!(mismatch(over(Crl::new().number(9))), "says all that the delta says");
    assert!(mismatch(over(Crl::new().without_number())));
    // Of a namesake.
    let other = delta(&Authority::root("Root"), &Crl::new().number(9).delta_of(7));
    assert!(mismatch(complete(&root, &Crl::new().number(7)).with_delta(other)));
}

#[test]
fn combined_list_is_as_fresh_as_its_delta() {
    let root = Authority::root("Root");
    let client = Client::new(&root.issue(&Leaf::client("a")), &root);
    let until = now() + HOUR;
    let long = Crl::new().next_update(time(now() + 30 * DAY));
    let index = combine(&root, long, Crl::new().delta_of(7).next_update(time(until))).unwrap();
    assert_eq!(index.next_update_unix(), until);
    let revocation = with_lists([Arc::new(index)]);
    assert!(client.check(&revocation, &REQUIRED, until - 1).is_ok());
    assert!(
        client.check(&revocation, &REQUIRED, until).is_err(),
        "the complete list alone would do for a month"
    );
}

#[test]
fn delta_needs_no_memory_of_the_complete_list() {
    let root = Authority::root("Root");
    let crl = (0..1000_u32).fold(Crl::new().number(7), |crl, number| crl.revoke(&number.to_be_bytes()));
    let base = complete(&root, &crl);
    let combined = base.with_delta(delta(&root, &Crl::new().number(9).delta_of(7))).unwrap();
    assert!(combined.memory_bytes() < base.memory_bytes() + 200);
}
