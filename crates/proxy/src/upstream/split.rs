//! Which of several clusters a request goes to, where its route divides them.
//!
//! Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): each cluster draws a number for the request, seeded by what the
//! request has in common with others and by the cluster's name, and the least wins. When a weight changes, only that cluster's
//! numbers do, so that requests move to it or away from it and between no others. All workers and nodes draw the same numbers.

use std::net::IpAddr;

use ringward_config as config;
use ringward_http::RequestHead;
use ringward_identity::PeerIdentity;

use super::{hash_key, shares};

/// The clusters among which a route divides its requests.
pub(crate) struct Split {
    parts: Vec<Part>,
    by: Option<config::HashKey>,
}

/// A cluster that gets some of them.
pub(crate) struct Part {
    /// Its index in the snapshot.
    pub(crate) cluster: usize,
    pub(crate) name: Box<str>,
    weight: f64,
    seed: u64,
}

impl Split {
    /// `index_of` is where the cluster of a name is.
    pub(crate) fn new(split: &config::Split, index_of: impl Fn(&str) -> usize) -> Split {
        let part = |(name, weight): &(String, u32)| Part {
            cluster: index_of(name),
            name: name.as_str().into(),
            weight: f64::from(*weight),
            seed: shares::hash(name.as_bytes()),
        };
        Split { parts: split.parts.iter().map(part).collect(), by: split.by.clone() }
    }

    /// The part with this number.
    pub(crate) fn get(&self, part: u8) -> Option<&Part> {
        self.parts.get(usize::from(part))
    }

    /// The number of the part that gets a request. `client` is who has proved to be who it is, as far as the route wants to know; `random` decides
    /// where the request has nothing in common with others.
    pub(crate) fn part(
        &self,
        head: &RequestHead,
        client: Option<&PeerIdentity>,
        source: IpAddr,
        random: u64,
    ) -> u8 {
        let key = self.by.as_ref().and_then(|by| hash_key::hash(by, head, client, source));
        self.pick(key.unwrap_or(random))
    }

    /// The number of the part that gets a request if that is the same for all that are like it.
    pub(crate) fn sure_part(&self, head: &RequestHead, client: Option<&PeerIdentity>) -> Option<u8> {
        match self.by.as_ref()? {
            config::HashKey::SourceAddress => None,
            by => hash_key::hash(by, head, client, IpAddr::from([0; 4])).map(|key| self.pick(key)),
        }
    }

    fn pick(&self, key: u64) -> u8 {
        // A checked configuration has 16 parts at most.
        let numbered = (0..).zip(&self.parts);
        let least = numbered.min_by(|(_, a), (_, b)| a.draw(key).total_cmp(&b.draw(key)));
        least.map_or(0, |(number, _)| number)
    }
}

impl Part {
    /// Distributed exponentially with the weight as its rate: the least of several such numbers is each one's in proportion to its
    /// weight. Infinite for weight 0.
    fn draw(&self, key: u64) -> f64 {
        if self.weight == 0.0 {
            return f64::INFINITY;
        }
        // 53 bits, as a double has; never 0, which has no logarithm.
        let drawn = (shares::mix(key ^ self.seed) >> 11) + 1;
        -(drawn as f64 / (1_u64 << 53) as f64).ln() / self.weight
    }
}

/// What stands for a request that has nothing in common with others: the same each time that it is asked for.
pub(crate) fn random(connection: u64, request: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    shares::mix(shares::mix(connection.wrapping_add(GOLDEN)).wrapping_add(request.wrapping_mul(GOLDEN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[(&str, u32)]) -> Split {
        let parts = parts.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        Split::new(&config::Split { parts, by: None }, |_| 0)
    }

    fn names(split: &Split) -> Vec<&str> {
        (0..20_000).map(|request| &*split.get(split.pick(random(7, request))).unwrap().name).collect()
    }

    #[test]
    fn requests_are_divided_by_weight() {
        for (parts, expected) in [
            (&[("a", 1), ("b", 1)][..], &[0.5, 0.5][..]),
            (&[("a", 95), ("b", 5)], &[0.95, 0.05]),
            (&[("a", 0), ("b", 1), ("c", 3)], &[0.0, 0.25, 0.75]),
            (&[("a", 10_000), ("b", 0)], &[1.0, 0.0]),
        ] {
            let split = split(parts);
            let names = names(&split);
            for ((name, weight), expected) in parts.iter().zip(expected) {
                let part = names.iter().filter(|other| *other == name).count() as f64 / names.len() as f64;
                assert!((part - expected).abs() < 0.015, "{name}: {part}");
                assert!(*weight > 0 || part == 0.0, "{name}: {part}");
            }
        }
    }

    /// Else users would see a new version come and go while it is rolled out.
    #[test]
    fn a_weight_that_grows_takes_nothing_away_and_moves_nothing_between_others() {
        let (before, after) =
            (split(&[("a", 60), ("b", 35), ("c", 5)]), split(&[("a", 60), ("b", 35), ("c", 20)]));
        let mut moved = 0;
        for (before, after) in names(&before).into_iter().zip(names(&after)) {
            assert!(before == after || after == "c", "{before} {after}");
            moved += usize::from(before != after);
        }
        // 5 of 100 become 20 of 115.
        assert!((2_200..2_800).contains(&moved), "{moved}");
    }
}
