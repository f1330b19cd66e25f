//! How many connections each network has open.
//!
//! Counted exactly, so that nobody is refused for another's: there is an entry for each network that has a connection, and of
//! these there are no more than `connections_max` of the listener.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
};

use super::sources::Network;

/// Connections of one listener on one worker that count for their network.
#[derive(Default)]
pub(crate) struct Connections {
    /// The hash has a random key, so nobody chooses who lies beside whom.
    open: RefCell<HashMap<Network, usize>>,
}

/// A connection in the count of its network, until it is dropped.
pub(crate) struct SourcePlace {
    connections: Rc<Connections>,
    network: Network,
}

/// A network has as many connections as it may: as many as this, on the whole node.
#[derive(Debug)]
pub(crate) struct TooMany(pub(crate) usize);

impl Connections {
    /// Counts one more connection of `network`, unless it has `max`. Boxed, since all connections have room for it, and few such limits.
    pub(super) fn take(self: &Rc<Self>, network: Network, max: usize) -> Option<Box<SourcePlace>> {
        let mut open = self.open.borrow_mut();
        let count = open.entry(network).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Box::new(SourcePlace { connections: self.clone(), network }))
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut open = self.connections.open.borrow_mut();
        if let Entry::Occupied(mut entry) = open.entry(self.network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        // What a flood has left behind.
        if open.capacity() > CAPACITY_KEPT && open.len() < open.capacity() / 8 {
            let twice = 2 * open.len();
            open.shrink_to(twice);
        }
    }
}

/// So many entries are kept room for.
const CAPACITY_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(Ipv4Addr::from_bits(number << 8)), (24, 56))
    }

    #[test]
    fn a_network_has_so_many_connections_and_gets_one_back_for_each_that_ends() {
        let all = Rc::new(Connections::default());
        let mut held: Vec<_> = (0..9).map_while(|_| all.take(network(1), 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(all.take(network(2), 3).is_some(), "another network has its own");
        held.pop();
        held.extend(all.take(network(1), 3));
        assert!(held.len() == 3 && all.take(network(1), 3).is_none());
        // A limit that is lowered lets those be that are there.
        assert!(all.take(network(1), 1).is_none());
        held.clear();
        assert!(all.open.borrow().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_flood_leaves_no_memory_behind() {
        let all = Rc::new(Connections::default());
        let mut held: Vec<_> = (0..100_000).map_while(|number| all.take(network(number), 1)).collect();
        assert_eq!(held.len(), 100_000);
        held.truncate(10);
        assert!(all.open.borrow().capacity() <= 2 * CAPACITY_KEPT, "{}", all.open.borrow().capacity());
        assert!(held.iter().enumerate().all(|(number, _)| all.take(network(number as u32), 1).is_none()));
        drop(held);
        assert!(all.open.borrow().is_empty());
    }
}
