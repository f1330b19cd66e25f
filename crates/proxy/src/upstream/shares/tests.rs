use std::net::SocketAddr;

use super::*;

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(index, weight): (usize, &u32)| Endpoint {
        addr: SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 8080)).into(),
        weight: *weight,
    };
    weights.iter().enumerate().map(endpoint).collect()
}

fn counts(of: &[u16], endpoints: usize) -> Vec<usize> {
    (0..endpoints).map(|index| of.iter().filter(|found| usize::from(**found) == index).count()).collect()
}

#[test]
fn a_round_is_as_even_as_it_can_be() {
    let table: [(&[u32], &[u16]); 7] = [
        (&[1, 1, 1], &[0, 1, 2]),
        (&[7, 7], &[0, 1]),
        (&[3, 1], &[0, 0, 1, 0]),
        (&[2, 1, 1], &[0, 1, 2, 0]),
        (&[4, 0, 2], &[0, 2, 0]),
        (&[0, 0], &[]),
        (&[], &[]),
    ];
    for (weights, expected) in table {
        assert_eq!(*round(&endpoints(weights)), *expected, "{weights:?}");
    }
}

#[test]
fn a_round_has_each_as_often_as_its_weight_says_and_no_two_turns_are_far_apart() {
    let weights = [256, 255, 100, 99, 3, 1, 0];
    let round = round(&endpoints(&weights));
    let sum: u32 = weights.iter().sum();
    assert_eq!(counts(&round, weights.len()), weights.map(|weight| weight as usize));
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
        let turns: Vec<_> = round.iter().enumerate().filter(|(_, who)| usize::from(**who) == index).collect();
        let widest = turns.windows(2).map(|two| two[1].0 - two[0].0).max().unwrap_or(0);
        let interval = sum as usize / *weight as usize;
        assert!(widest <= interval + weights.len(), "{index}: {widest} apart, {interval} expected");
    }
}

#[test]
fn the_longest_round_keeps_to_the_weights_within_one_percent() {
    let weights: Vec<u32> = (0..1024).map(|index| 129 + index % 128).collect();
    let endpoints = endpoints(&weights);
    let round = round(&endpoints);
    assert!(round.len() <= ROUND_MAX as usize + weights.len(), "{}", round.len());
    // Rounded up to whole turns: each is off by less than one turn.
    let (sum, turns) = (weights.iter().sum::<u32>() as f64, round.len() as f64);
    for (count, weight) in counts(&round, weights.len()).iter().zip(&weights) {
        let expected = f64::from(*weight) / sum * turns;
        assert!((*count as f64 - expected).abs() <= 1.5, "{count} instead of {expected}");
    }
}

#[test]
fn points_belong_to_endpoints_by_weight() {
    let line = Line::new(&endpoints(&[2, 0, 3, 1]));
    let at: Vec<usize> = (0..line.length()).map(|point| line.at(point)).collect();
    assert_eq!(at, [0, 0, 2, 2, 2, 3]);
    let without: Vec<usize> = (0..3).map(|point| line.at_without(2, point)).collect();
    assert_eq!(without, [0, 0, 3]);
    assert_eq!(Line::new(&[]).length(), 0);
}

#[test]
fn slots_are_dealt_out_by_weight() {
    for weights in [vec![1; 3], vec![1; 100], vec![3, 2, 1], vec![100, 1], vec![5, 0, 5]] {
        let table = maglev(&endpoints(&weights));
        let sum = weights.iter().sum::<u32>() as f64;
        for (count, weight) in counts(&table, weights.len()).iter().zip(&weights) {
            let expected = f64::from(*weight) / sum;
            let share = *count as f64 / table.len() as f64;
            assert!(
                (share - expected).abs() <= 0.01 * expected,
                "{weights:?}: {share} instead of {expected}"
            );
        }
    }
    assert!(maglev(&endpoints(&[0, 0])).is_empty() && maglev(&[]).is_empty());
}

#[test]
fn an_endpoint_that_goes_takes_few_others_along() {
    for count in [3_usize, 10, 50] {
        let before = endpoints(&vec![1; count]);
        let mut after = before.clone();
        after[1].weight = 0;
        let (before, after) = (maglev(&before), maglev(&after));
        let moved = before.iter().zip(&*after).filter(|(before, after)| before != after).count();
        let share = moved as f64 / before.len() as f64;
        assert!(share < 2.0 / count as f64, "{count} endpoints: {share} of all slots moved");
        assert!(share >= 1.0 / count as f64 * 0.98, "the slots of the one that goes");
    }
}

#[test]
fn the_order_of_the_list_makes_no_difference() {
    let endpoints = endpoints(&[1, 2, 3, 4]);
    let mut turned = endpoints.clone();
    turned.reverse();
    let (table, other) = (maglev(&endpoints), maglev(&turned));
    assert!(table.iter().zip(&*other).all(|(a, b)| endpoints[usize::from(*a)] == turned[usize::from(*b)]));
}

#[test]
fn hashes_are_the_same_everywhere() {
    // Nodes of different versions agree for as long as these stay.
    assert_eq!([hash(b""), hash(b"alice")], [17_665_956_581_633_026_203, 14_254_268_223_963_220_572]);
}
