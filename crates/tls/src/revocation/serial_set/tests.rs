use std::collections::HashMap;

use super::*;
use crate::testing::Noise;

const REASON: RevocationReason = RevocationReason::KeyCompromise;

fn serial(octets: &[u8]) -> Serial {
    Serial::new(octets).unwrap()
}

#[test]
fn set_holds_what_it_was_given_and_nothing_else() {
    let mut noise = Noise(0x5eed_0003);
    for size in [0, 1, 2, 3, 4, 5, 17, 1000, 20_000] {
        let mut expected = HashMap::new();
        for _ in 0..size {
            let octets = noise.below(21);
            let reason = RevocationReason::from_code(noise.below(7) as u8).unwrap();
            expected.insert(serial(&noise.bytes(octets)), reason);
        }
        let set = SerialSet::build(expected.iter().map(|(serial, reason)| (*serial, *reason)));
        assert_eq!(set.len(), expected.len());
        for (serial, reason) in &expected {
            assert_eq!(set.find(serial), Some(*reason));
        }
        for _ in 0..1000 {
            let octets = noise.below(21);
            let other = serial(&noise.bytes(octets));
            assert_eq!(set.find(&other), expected.get(&other).copied());
        }
    }
}

#[test]
fn numbers_in_a_row_and_prefixes_are_told_apart() {
    let numbers = 0..10_000_u32;
    let set = SerialSet::build(numbers.clone().map(|number| (serial(&number.to_be_bytes()), REASON)));
    assert!(numbers.clone().all(|number| set.find(&serial(&number.to_be_bytes())).is_some()));
    assert!((10_000..20_000_u32).all(|number| set.find(&serial(&number.to_be_bytes())).is_none()));
    assert!(set.find(&serial(&[0x27])).is_some() && set.find(&serial(&[0x27, 0x10])).is_none());
    let one = SerialSet::build(std::iter::once((serial(&[7; 20]), REASON)));
    for length in 0..20 {
        assert_eq!(one.find(&serial(&[7; 20][..length])), None);
    }
    assert_eq!(one.find(&serial(&[7; 20])), Some(REASON));
}

#[test]
fn filter_lets_few_pass_who_are_not_listed() {
    let mut noise = Noise(0x5eed_0007);
    let set = SerialSet::build((0..10_000).map(|number: u64| (serial(&number.to_be_bytes()), REASON)));
    let passing = (0..10_000)
        .map(|_| set.hasher.hash_one(&noise.bytes(20)[..]))
        .filter(|hash| set.filter[place(*hash, set.filter.len())] & filter_bits(*hash) == filter_bits(*hash))
        .count();
    assert!(passing < 1000, "{passing} of 10000");
}

#[test]
fn memory_is_that_of_the_octets_and_three_more() {
    let mut noise = Noise(0x5eed_0004);
    let serials: Vec<_> = (0..10_000).map(|_| serial(&[&[0x40], &noise.bytes(19)[..]].concat())).collect();
    let set = SerialSet::build(serials.iter().map(|serial| (*serial, REASON)));
    assert!(set.memory_bytes() <= 23 * serials.len() + 200, "{set:?}");
}
