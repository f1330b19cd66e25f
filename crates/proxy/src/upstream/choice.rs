//! One worker's choice of an endpoint.
//!
//! What is dealt out to whom was worked out when the endpoints were published ([`super::shares`]); here is only what a worker
//! does for each request: whose turn it is, a draw, or a look into a table.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use ringward_config::EndpointAddr;
use ringward_tls::UpstreamTls;

use super::{
    Pool, PoolKey, Pools,
    endpoints::{Endpoint, EndpointSet, Endpoints},
    outliers::Outliers,
    shares::{self, Line, Shares},
};

/// The endpoints of a cluster as one worker sees them.
#[derive(Debug)]
pub(super) struct Choice {
    endpoints: Arc<Endpoints>,
    tls: Option<Arc<UpstreamTls>>,
    members: RefCell<Rc<Members>>,
    /// Whose turn it is in the round.
    turn: Cell<usize>,
    /// An endpoint that was drawn and had nothing to offer, of the set of this version: it is tried all the same.
    drawn: Cell<Option<(u64, usize)>>,
    dice: Dice,
}

/// The endpoints that were published last, as far as this worker knows, with its pools of connections.
#[derive(Debug)]
pub(super) struct Members {
    version: u64,
    set: Arc<EndpointSet>,
    pools: Vec<Rc<Pool>>,
}

impl Choice {
    /// Each worker begins at another endpoint, so that few requests spread as well.
    pub(super) fn new(
        endpoints: Arc<Endpoints>,
        tls: Option<Arc<UpstreamTls>>,
        worker: usize,
        pools: &mut Pools,
    ) -> Choice {
        let members = Members::new(&endpoints, tls.as_ref(), pools);
        let turn = match &members.set.shares {
            Shares::Round(round) => worker % round.len().max(1),
            _ => 0,
        };
        let members = RefCell::new(Rc::new(members));
        Choice { endpoints, tls, members, turn: Cell::new(turn), drawn: Cell::new(None), dice: Dice::new() }
    }

    /// The endpoints as this worker knows them.
    pub(super) fn known(&self) -> Rc<Members> {
        self.members.borrow().clone()
    }

    /// What the connections to them are kept by.
    pub(super) fn pool_keys(&self) -> Vec<PoolKey> {
        let members = self.known();
        let endpoints = members.set.endpoints().iter();
        endpoints.map(|endpoint| PoolKey::new(endpoint.addr.clone(), self.tls.as_deref())).collect()
    }

    /// Learns of the endpoints in force: whether there is any difference.
    pub(super) fn refresh(&self, pools: &RefCell<Pools>) -> bool {
        let is_stale = self.members.borrow().version != self.endpoints.version();
        if is_stale {
            let members = Members::new(&self.endpoints, self.tls.as_ref(), &mut pools.borrow_mut());
            self.members.replace(Rc::new(members));
        }
        is_stale
    }

    /// A pool of the endpoint whose turn it is, if it is known and has what `take` wants of it. Otherwise it stays its turn.
    pub(super) fn try_next<T>(&self, key: Option<u64>, take: impl FnOnce(&Pool) -> Option<T>) -> Option<T> {
        let members = self.members.borrow();
        if members.version != self.endpoints.version() {
            return None;
        }
        let picked = self.pick(&members, key)?;
        let taken = take(&members.pools[picked]);
        if taken.is_some() {
            self.pass_on(&members);
        } else if key.is_none() && !matches!(members.set.shares, Shares::Round(_)) {
            self.drawn.set(Some((members.version, picked)));
        }
        taken
    }

    /// The endpoints in the order in which one request tries them, each that takes requests once.
    pub(super) fn order<'m>(
        &self,
        members: &'m Members,
        key: Option<u64>,
    ) -> impl Iterator<Item = (&'m EndpointAddr, &'m Rc<Pool>)> + use<'m> {
        // A second draw would pass over those that have no connection yet.
        let drawn = self.drawn.take().filter(|(version, _)| key.is_none() && *version == members.version);
        let first = drawn.map(|(_, index)| index).or_else(|| self.pick(members, key));
        self.pass_on(members);
        let count = members.pools.len();
        // From one that is drawn anew, so that not all the requests of one that is gone go to its neighbour. By the property if
        // there is one, for those requests belong together then, too.
        let others = count.saturating_sub(1).max(1);
        let start =
            key.map_or_else(|| self.dice.below(others as u64), |key| shares::mix(key) % others as u64);
        let from =
            move |first: usize| (0..count - 1).map(move |step| first + 1 + (start as usize + step) % others);
        let rest = first.into_iter().flat_map(from).map(move |index| index % count);
        let takes_requests = |index: &usize| members.set.endpoints()[*index].weight > 0;
        let order = first.into_iter().chain(rest).filter(takes_requests);
        order.map(|index| (&members.set.endpoints()[index].addr, &members.pools[index]))
    }

    /// Where failures of endpoints are counted, if they are.
    pub(super) fn outliers(&self) -> Option<&Outliers> {
        self.endpoints.outliers()
    }

    /// A number by chance, from 0 to 2^16.
    pub(super) fn roll(&self) -> u64 {
        self.dice.below(1 << 16)
    }

    /// The endpoint of the next request; `None` if none takes any.
    fn pick(&self, members: &Members, key: Option<u64>) -> Option<usize> {
        match &members.set.shares {
            Shares::Round(round) => {
                // The round may be a shorter one by now.
                round.get(self.turn.get()).or(round.first()).copied().map(usize::from)
            }
            Shares::Draws(line) => self.draw(line),
            Shares::LeastOfTwo(line) => {
                let first = self.draw(line)?;
                let others = line.length() - line.width(first);
                if others == 0 {
                    return Some(first);
                }
                let second = line.at_without(first, self.dice.below(others));
                Some(members.less_loaded(line, first, second))
            }
            Shares::Maglev(table) => {
                let slots = table.len() as u64;
                if slots == 0 {
                    return None;
                }
                let slot = key.map_or_else(|| self.dice.below(slots), |key| key % slots);
                Some(usize::from(table[slot as usize]))
            }
        }
    }

    fn draw(&self, line: &Line) -> Option<usize> {
        (line.length() > 0).then(|| line.at(self.dice.below(line.length())))
    }

    /// It is the next one's turn.
    fn pass_on(&self, members: &Members) {
        if let Shares::Round(round) = &members.set.shares {
            let turn = self.turn.get() + 1;
            self.turn.set(if turn < round.len() { turn } else { 0 });
        }
    }
}

impl Members {
    fn new(endpoints: &Endpoints, tls: Option<&Arc<UpstreamTls>>, pools: &mut Pools) -> Members {
        // Asked first: a change in between is seen with the next request.
        let version = endpoints.version();
        let set = endpoints.current();
        let pool = |endpoint: &Endpoint| {
            let pool = pools.entry(PoolKey::new(endpoint.addr.clone(), tls.map(Arc::as_ref)));
            pool.or_insert_with(|| Rc::new(Pool::new(&endpoint.addr, tls))).clone()
        };
        let pools = set.endpoints().iter().map(pool).collect();
        Members { version, set, pools }
    }

    /// The pool of an endpoint that is a member still.
    pub(super) fn pool(&self, addr: &EndpointAddr) -> Option<&Pool> {
        let index = self.set.endpoints().iter().position(|endpoint| endpoint.addr == *addr)?;
        Some(&self.pools[index])
    }

    /// There is none, not even one that takes no requests.
    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Whoever has less to do for its weight; the first one in a tie, which keeps to the weights while there is little to do.
    fn less_loaded(&self, line: &Line, first: usize, second: usize) -> usize {
        let load = |endpoint: usize| self.pools[endpoint].load() as u64;
        if load(second) * line.width(first) < load(first) * line.width(second) { second } else { first }
    }
}

/// Random numbers that nobody's safety depends on: SplitMix64.
#[derive(Debug)]
struct Dice(Cell<u64>);

impl Dice {
    fn new() -> Dice {
        Dice(Cell::new(RandomState::new().hash_one(0)))
    }

    /// From 0 to `end`, without it; `end` has at most 32 bits.
    fn below(&self, end: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        ((shares::mix(self.0.get()) >> 32) * end) >> 32
    }
}

#[cfg(test)]
mod tests;
