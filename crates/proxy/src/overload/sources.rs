//! What is known of the networks and addresses that clients come from, in tables of a fixed size.
//!
//! Nobody can make them grow, and nobody can choose who lies beside whom: places follow from a hash with a random key. When a set is
//! full, the entry goes that is of use for the shortest time.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

/// A table of entries by network.
pub(crate) struct Table<T> {
    hasher: RandomState,
    sets: Box<[[Entry<T>; WAYS]]>,
}

#[derive(Clone, Copy, Default)]
struct Entry<T> {
    /// 0 if the entry is free.
    key: u64,
    value: T,
}

/// What is kept of a network.
pub(crate) trait Remembered: Copy + Default {
    /// The moment from which on it is as good as forgotten.
    fn until(&self) -> u64;
}

/// Leading bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(u128);

impl Network {
    /// The network of an address, by the lengths of prefixes of IPv4 and IPv6.
    pub(crate) fn of(address: IpAddr, (v4, v6): (u8, u8)) -> Network {
        let (bits, length) = match address.to_canonical() {
            // As IPv6 writes them, so that both kinds are told apart.
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + u32::from(v4.min(32))),
            IpAddr::V6(address) => (address.to_bits(), u32::from(v6.min(128))),
        };
        Network(bits & !u128::MAX.checked_shr(length).unwrap_or(0))
    }
}

impl<T: Remembered> Table<T> {
    /// With room for `sets` times four.
    pub(crate) fn new(sets: usize) -> Table<T> {
        Table {
            hasher: RandomState::new(),
            sets: vec![[Entry::default(); WAYS]; sets.max(1)].into_boxed_slice(),
        }
    }

    /// What is known of `network`.
    pub(crate) fn get(&self, network: Network) -> Option<T> {
        let (set, key) = self.place(network);
        self.sets[set].iter().find(|entry| entry.key == key).map(|entry| entry.value)
    }

    /// What is known of `network`, to be changed. If nothing is, another entry may be lost.
    pub(crate) fn entry(&mut self, network: Network) -> &mut T {
        let (set, key) = self.place(network);
        let set = &mut self.sets[set];
        let found = set.iter().position(|entry| entry.key == key);
        let index = found.unwrap_or_else(|| {
            let least = |index: &usize| (set[*index].key != 0, set[*index].value.until());
            let index = (0..WAYS).min_by_key(least).unwrap_or(0);
            set[index] = Entry { key, value: T::default() };
            index
        });
        &mut set[index].value
    }

    fn place(&self, network: Network) -> (usize, u64) {
        let hash = self.hasher.hash_one(network);
        let set = usize::try_from(hash >> 32).unwrap_or(usize::MAX) % self.sets.len();
        (set, hash | 1)
    }
}

/// Entries of a set.
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Default, Debug, PartialEq)]
    struct Until(u64);

    impl Remembered for Until {
        fn until(&self) -> u64 {
            self.0
        }
    }

    fn network(address: &str, prefixes: (u8, u8)) -> Network {
        Network::of(address.parse().unwrap(), prefixes)
    }

    #[test]
    fn a_network_is_what_has_its_leading_bits() {
        let same = |a, b, prefixes| network(a, prefixes) == network(b, prefixes);
        assert!(same("192.0.2.1", "192.0.2.254", (24, 56)));
        assert!(!same("192.0.2.1", "192.0.3.1", (24, 56)));
        assert!(same("192.0.2.1", "::ffff:192.0.2.9", (24, 56)), "as a socket of both families shows it");
        assert!(!same("192.0.2.1", "192.0.2.2", (32, 56)));
        assert!(same("2001:db8:0:1ff::1", "2001:db8:0:100::2", (24, 56)));
        assert!(!same("2001:db8:0:200::1", "2001:db8:0:100::2", (24, 56)));
        assert!(!same("2001:db8::1", "2001:db8::2", (24, 128)));
        assert!(!same("::", "0.0.0.0", (8, 16)), "IPv4 and IPv6 do not meet");
    }

    #[test]
    fn what_is_of_use_for_longest_stays_when_there_is_no_room() {
        let mut table = Table::<Until>::new(4);
        let kept = network("192.0.2.1", (32, 128));
        table.entry(kept).0 = u64::MAX;
        for number in 0..100_000_u32 {
            let network = Network::of(IpAddr::V4(number.into()), (32, 128));
            table.entry(network).0 = u64::from(number) + 1;
        }
        assert_eq!(table.get(kept), Some(Until(u64::MAX)));
        let filled = table.sets.iter().flatten().filter(|entry| entry.key != 0).count();
        assert_eq!(filled, 16, "and nothing grows");
        assert_eq!(table.get(Network::of(IpAddr::V4(1.into()), (32, 128))), None);
    }
}
