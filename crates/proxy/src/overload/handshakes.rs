//! Which TLS handshakes begin, and when.
//!
//! Asked when a ClientHello has been read and nothing costly has been done. What must stay true: who is here to know (a session of
//! ours, an address whose client has proved a certificate lately) only decides about who goes first, and about nothing else.

use std::{cell::RefCell, net::IpAddr, num::NonZeroU32, rc::Rc, time::Duration};

use ringward_config::{Handshakes, HandshakesPerSource};
use ringward_telemetry::{ListenerId, Shard};
use ringward_tls::{HandshakeFailure, HandshakeReason};

use super::{
    connections::{Connections, SourcePlace, TooMany},
    places::{NoPlace, Place, Places, Rank, Rules},
    rate::{Claim, Rate, nanos},
    sources::{Network, Remembered, Table},
};
use crate::io::Deadline;

/// The handshakes of one listener on one worker.
pub(crate) struct Gate {
    workers: usize,
    places: Rc<Places>,
    /// Made when they are needed: most listeners have no limits.
    sources: RefCell<Option<Table<Source>>>,
    known: RefCell<Option<Table<Seen>>>,
    connections: Rc<Connections>,
}

/// A handshake that may run, until it is dropped.
pub(crate) struct Turn {
    _place: Place,
    /// It was let in since it resumes a session.
    resumes: bool,
}

/// What a network has taken.
#[derive(Clone, Copy, Default)]
struct Source {
    full: u64,
    failures: u64,
    refused_until: u64,
}

impl Remembered for Source {
    fn until(&self) -> u64 {
        self.full.max(self.failures).max(self.refused_until)
    }
}

/// Until when an address counts as known.
#[derive(Clone, Copy, Default)]
struct Seen(u64);

impl Remembered for Seen {
    fn until(&self) -> u64 {
        self.0
    }
}

impl Gate {
    /// Of one of `workers`.
    pub(crate) fn new(workers: usize) -> Gate {
        Gate {
            workers,
            places: Places::new(),
            sources: RefCell::default(),
            known: RefCell::default(),
            connections: Rc::default(),
        }
    }

    /// Whether connections from this address are not even listened to.
    pub(crate) fn refuses(&self, limits: &Handshakes, address: IpAddr) -> bool {
        let Some(per_source) = &limits.per_source else { return false };
        let network = network(per_source, address);
        let sources = self.sources.borrow();
        let Some(source) = sources.as_ref().and_then(|sources| sources.get(network)) else { return false };
        let now = self.places.now();
        now < source.refused_until && !self.knows(address, now)
    }

    /// A place among the connections of this address's network, where their number is limited.
    ///
    /// # Errors
    /// When the network has as many as it may.
    pub(crate) fn connect(
        &self,
        limits: Option<&Handshakes>,
        address: IpAddr,
    ) -> Result<Option<Box<SourcePlace>>, TooMany> {
        let Some(per_source) = limits.and_then(|limits| limits.per_source.as_ref()) else { return Ok(None) };
        let Some(max) = per_source.connections_max else { return Ok(None) };
        let place = self.connections.take(network(per_source, address), max.div_ceil(self.workers));
        place.map(Some).ok_or(TooMany(max))
    }

    /// Waits for the turn of a client whose ClientHello is there. `resumes` says whether it offers a session of ours; when `client`, its
    /// socket, hangs up, the wait is over.
    ///
    /// # Errors
    /// When it has no turn. It is to be told nothing.
    pub(crate) async fn turn_of(
        &self,
        limits: &Handshakes,
        (address, client): (IpAddr, Option<&Rc<Deadline>>),
        resumes: impl FnOnce() -> bool,
        (shard, listener): (&Shard, ListenerId),
    ) -> Result<Turn, Box<HandshakeFailure>> {
        self.places.set(self.rules(limits));
        let now = self.places.now();
        // Who has owed more than there is is let in as everybody else, whatever it shows: a session that is never resumed would be a way
        // around all rates.
        let resumes = resumes() && !self.owes(limits, address, now);
        let rank = match resumes {
            true => Rank::Cheap,
            false if self.knows(address, now) => Rank::Known,
            false => Rank::Stranger,
        };
        self.take_of_source(limits, address, rank, now)?;
        let place = match self.places.enter(rank, now) {
            Some(place) => Ok(place),
            None => match self.places.wait(rank, now, client) {
                Ok(wait) => {
                    shard.handshake_queued(listener);
                    wait.await
                }
                Err(full) => Err(full),
            },
        };
        match place {
            Ok(place) => Ok(Turn { _place: place, resumes }),
            Err(reason) => Err(overload(limits, reason)),
        }
    }

    /// A handshake has succeeded. `resumed` says whether it was a resumed one, `proved` whether the client has an identity.
    pub(crate) fn succeeded(
        &self,
        limits: &Handshakes,
        address: IpAddr,
        turn: &Turn,
        (resumed, proved): (bool, bool),
    ) {
        let now = self.places.now();
        if turn.resumes && !resumed {
            self.charge(limits, address, now);
        }
        if proved {
            let mut known = self.known.borrow_mut();
            let known = known.get_or_insert_with(|| Table::new(KNOWN_SETS));
            known.entry(known_as(address)).0 = now.saturating_add(KNOWN_FOR);
        }
    }

    /// A handshake with this turn has failed on which a session was `declined`, so that it was a full one.
    pub(crate) fn failed_in_full(&self, limits: &Handshakes, address: IpAddr, turn: &Turn) {
        if turn.resumes {
            self.charge(limits, address, self.places.now());
        }
    }

    /// A handshake that had a turn has failed. When that is one too many, the client's network is refused for a while, and the
    /// failure says so.
    pub(crate) fn failed(
        &self,
        limits: &Handshakes,
        address: IpAddr,
        failure: &mut HandshakeFailure,
        (shard, listener): (&Shard, ListenerId),
    ) {
        let Some(per_source) = &limits.per_source else { return };
        let Some(limit) = per_source.failures_per_minute.filter(|_| is_clients_fault(failure.reason)) else {
            return;
        };
        let now = self.places.now();
        let rate = Rate::share(limit, MINUTE, self.workers);
        let mut sources = self.sources.borrow_mut();
        let source =
            sources.get_or_insert_with(|| Table::new(SOURCE_SETS)).entry(network(per_source, address));
        if rate.take(&mut source.failures, now, Claim::Whole) || now < source.refused_until {
            return;
        }
        source.refused_until = now.saturating_add(nanos(per_source.refuse_for));
        shard.source_refused(listener);
        failure.message += &format!(
            "; more than `failures_per_minute` have failed in its network, which is refused for {:?}",
            per_source.refuse_for
        );
    }

    /// Whether nobody waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.places.is_idle()
    }

    /// Lets those in whose turn it is; to be called at each beat while somebody waits.
    pub(crate) fn beat(&self, limits: Option<&Handshakes>) {
        self.places.set(limits.map_or(Rules::NONE, |limits| self.rules(limits)));
        self.places.beat(self.places.now());
    }

    fn take_of_source(
        &self,
        limits: &Handshakes,
        address: IpAddr,
        rank: Rank,
        now: u64,
    ) -> Result<(), Box<HandshakeFailure>> {
        let Some((limit, network)) = source_limit(limits, address) else { return Ok(()) };
        let Some(claim) = rank.claim() else { return Ok(()) };
        let mut sources = self.sources.borrow_mut();
        let source = sources.get_or_insert_with(|| Table::new(SOURCE_SETS)).entry(network);
        if Rate::share(limit, SECOND, self.workers).take(&mut source.full, now, claim) {
            return Ok(());
        }
        Err(Box::new(HandshakeFailure::new(
            HandshakeReason::SourceRate,
            format!(
                "its network begins more than {limit} full handshakes per second (`full_per_second` in `per_source`)"
            ),
        )))
    }

    /// A client that was let in since it resumes has had a full handshake all the same.
    fn charge(&self, limits: &Handshakes, address: IpAddr, now: u64) {
        self.places.charge(now);
        if let Some((limit, network)) = source_limit(limits, address) {
            let mut sources = self.sources.borrow_mut();
            let source = sources.get_or_insert_with(|| Table::new(SOURCE_SETS)).entry(network);
            Rate::share(limit, SECOND, self.workers).charge(&mut source.full, now);
        }
    }

    /// Whether the network of this address has been charged for more full handshakes than it may have.
    fn owes(&self, limits: &Handshakes, address: IpAddr, now: u64) -> bool {
        let Some((limit, network)) = source_limit(limits, address) else { return false };
        let sources = self.sources.borrow();
        let source = sources.as_ref().and_then(|sources| sources.get(network));
        source.is_some_and(|source| Rate::share(limit, SECOND, self.workers).is_overdrawn(source.full, now))
    }

    fn knows(&self, address: IpAddr, now: u64) -> bool {
        let known = self.known.borrow();
        known.as_ref().and_then(|known| known.get(known_as(address))).is_some_and(|seen| now < seen.0)
    }

    /// This worker's share.
    fn rules(&self, limits: &Handshakes) -> Rules {
        Rules {
            places: limits.concurrent_max.div_ceil(self.workers),
            rate: limits.full_per_second.map(|limit| Rate::share(limit, SECOND, self.workers)),
            queue_max: limits.queue_max.div_ceil(self.workers),
            patience: limits.queue_timeout,
        }
    }
}

fn source_limit(limits: &Handshakes, address: IpAddr) -> Option<(NonZeroU32, Network)> {
    let per_source = limits.per_source.as_ref()?;
    Some((per_source.full_per_second?, network(per_source, address)))
}

fn network(per_source: &HandshakesPerSource, address: IpAddr) -> Network {
    Network::of(address, (per_source.prefix_v4, per_source.prefix_v6))
}

/// A client keeps an IPv4 address, and of an IPv6 address the first half (RFC 8981).
fn known_as(address: IpAddr) -> Network {
    Network::of(address, (32, 64))
}

/// Whether a failure counts against the client's network: not what we are short of ourselves.
fn is_clients_fault(reason: HandshakeReason) -> bool {
    use HandshakeReason::{Internal, RevocationStale, RevocationUnknown};
    !matches!(reason, Internal | RevocationUnknown | RevocationStale)
}

/// Why there is no turn.
fn overload(limits: &Handshakes, reason: NoPlace) -> Box<HandshakeFailure> {
    let message = match reason {
        NoPlace::QueueFull => {
            format!("too many handshakes at once, and {} wait already (`handshakes`)", limits.queue_max)
        }
        NoPlace::Gone => {
            let message = "the client closed the connection while it waited for its handshake";
            return Box::new(HandshakeFailure::new(HandshakeReason::PeerClosed, message));
        }
        NoPlace::Overdue => {
            format!(
                "the handshake had no turn within {:?} (`queue_timeout` in `handshakes`)",
                limits.queue_timeout
            )
        }
    };
    Box::new(HandshakeFailure::new(HandshakeReason::Overload, message))
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Nanoseconds for which an address is known after a handshake: longer than clients pause that come regularly, shorter than most
/// leases of addresses.
const KNOWN_FOR: u64 = 3_600_000_000_000;
/// Four times as many networks, 128 KiB.
const SOURCE_SETS: usize = 1024;
/// Four times as many addresses, 256 KiB. Only who is let in gets an entry, so that a flood of strangers costs none.
const KNOWN_SETS: usize = 4096;

#[cfg(test)]
mod tests;
