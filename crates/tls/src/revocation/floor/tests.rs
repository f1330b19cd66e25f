use ringward_testkit::{Authority, Crl, der};

use super::*;
use crate::revocation::testing::{HOUR, complete, delta, now, time};

fn numbered(root: &Authority, number: u64) -> CrlHead {
    complete(root, &Crl::new().number(number)).head().clone()
}

fn dated(root: &Authority, crl: Crl, age: i64) -> CrlHead {
    complete(root, &crl.this_update(time(now() - age))).head().clone()
}

#[test]
fn lower_number_is_refused() {
    let root = Authority::root("Root");
    let mut floors = CrlFloors::new();
    assert_eq!(floors.check(&numbered(&root, 7), false), Ok(()), "the first is taken as it comes");
    assert!(floors.raise(&numbered(&root, 7), false));
    let error = floors.check(&numbered(&root, 6), false).unwrap_err();
    assert!(matches!(error, CrlError::Rollback { .. }));
    assert!(error.to_string().contains("number 6") && error.to_string().contains("number 7"), "{error}");
    assert!(!floors.raise(&numbered(&root, 6), false), "and does not lower the floor");
    assert!(floors.check(&numbered(&root, 6), false).is_err());
    assert!(floors.raise(&numbered(&root, 8), false));
    assert!(floors.check(&numbered(&root, 7), false).is_err());
    // Numbers are no texts: 10 follows 9, and 2^64 follows all that fit a word.
    assert!(floors.raise(&numbered(&root, 10), false));
    let long = Crl::new().without_number().extension(
        "2.5.29.20",
        false,
        &der::integer(&[1, 0, 0, 0, 0, 0, 0, 0, 0]),
    );
    assert!(floors.raise(complete(&root, &long).head(), false));
    assert!(floors.check(&numbered(&root, u64::MAX), false).is_err());
}

#[test]
fn same_list_may_come_again_and_an_older_of_its_number_may_not() {
    let root = Authority::root("Root");
    let mut floors = CrlFloors::new();
    let head = dated(&root, Crl::new().number(7), HOUR);
    assert!(floors.raise(&head, false));
    assert_eq!(floors.check(&head, false), Ok(()));
    assert!(!floors.raise(&head, false), "nothing to be written");
    assert!(floors.check(&dated(&root, Crl::new().number(7), HOUR + 1), false).is_err());
    assert!(floors.raise(&dated(&root, Crl::new().number(7), HOUR - 1), false));
    assert!(floors.check(&head, false).is_err());
}

#[test]
fn lists_without_numbers_are_ordered_by_date() {
    let root = Authority::root("Root");
    let mut floors = CrlFloors::new();
    let plain = || Crl::new().without_number();
    assert!(floors.raise(&dated(&root, plain(), 1000), false));
    assert!(floors.check(&dated(&root, plain(), 1001), false).is_err());
    assert_eq!(floors.check(&dated(&root, plain(), 1000), false), Ok(()));
    assert!(floors.raise(&dated(&root, Crl::new().number(1), 900), false), "a CA that begins to number");
    assert!(
        floors.check(&dated(&root, plain(), 100), false).is_err(),
        "and one that pretends to have stopped"
    );
}

#[test]
fn issuers_scopes_and_deltas_have_floors_of_their_own() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let users = || Crl::new().extension("2.5.29.28", true, &der::sequence(&[der::tlv(0x81, &[0xff])]));
    let mut floors = CrlFloors::new();
    let newest = delta(&root, &Crl::new().number(9).delta_of(7));
    assert!(floors.raise(&numbered(&root, 7), false));
    assert!(floors.raise(newest.head(), true));
    assert_eq!(floors.check(&numbered(&root, 7), false), Ok(()), "still the newest complete list");
    assert!(floors.check(delta(&root, &Crl::new().number(8).delta_of(7)).head(), true).is_err());
    assert_eq!(floors.check(&numbered(&other, 1), false), Ok(()));
    assert_eq!(floors.check(complete(&root, &users().number(1)).head(), false), Ok(()));
}

#[test]
fn floors_survive_a_restart() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let mut floors = CrlFloors::new();
    floors.raise(&numbered(&root, 7), false);
    floors.raise(delta(&root, &Crl::new().number(9).delta_of(7)).head(), true);
    floors.raise(complete(&other, &Crl::new().without_number()).head(), false);
    let text = floors.serialize();
    let read = CrlFloors::parse(&text).unwrap();
    assert_eq!(read, floors);
    assert!(read.check(&numbered(&root, 6), false).is_err());
    assert_eq!(CrlFloors::parse(&CrlFloors::new().serialize()), Ok(CrlFloors::new()));
}

#[test]
fn damaged_file_is_an_error() {
    let root = Authority::root("Root");
    let mut floors = CrlFloors::new();
    floors.raise(&numbered(&root, 7), false);
    let text = floors.serialize();
    let (head, line) = text.split_once('\n').unwrap();
    for (damaged, error) in [
        (String::new(), FloorError::Head),
        (head.to_owned(), FloorError::Head),
        (text.replace("floors 1", "floors 2"), FloorError::Head),
        // Cut anywhere, also within the last number.
        (text[..text.len() - 1].to_owned(), FloorError::Line { line: 2 }),
        (text[..text.len() - 5].to_owned(), FloorError::Line { line: 2 }),
        (format!("{text}\n"), FloorError::Line { line: 3 }),
        (format!("{text}{line}"), FloorError::Line { line: 3 }),
        (format!("{head}\n{}", line.to_uppercase()), FloorError::Line { line: 2 }),
        (format!("{head}\n{}", line.replacen(' ', "  ", 1)), FloorError::Line { line: 2 }),
        (format!("{head}\n{} 1\n", line.trim_end()), FloorError::Line { line: 2 }),
        (format!("{head}\n{}", &line[1..]), FloorError::Line { line: 2 }),
    ] {
        assert_eq!(CrlFloors::parse(&damaged), Err(error), "{damaged:?}");
    }
}

#[test]
fn floors_are_bounded() {
    let lines = |count: usize| -> String {
        let lines = (0..count).map(|number| format!("{number:064x} - 0\n"));
        std::iter::once(format!("{FILE_HEAD}\n")).chain(lines).collect()
    };
    let mut full = CrlFloors::parse(&lines(FLOORS_MAX)).unwrap();
    assert_eq!(CrlFloors::parse(&lines(FLOORS_MAX + 1)), Err(FloorError::TooMany));
    let root = Authority::root("Root");
    assert!(!full.raise(&numbered(&root, 7), false));
    assert_eq!(CrlFloors::parse(&full.serialize()), Ok(full));
}
