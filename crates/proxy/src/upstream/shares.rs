//! How requests are dealt out among endpoints, worked out ahead so that a choice takes a few steps whatever the number of
//! endpoints: for turns a round, for draws the sum of weights, for properties of requests Maglev's table.

use std::{cmp::Reverse, collections::BinaryHeap, net::IpAddr};

use ringward_config::{Balance, EndpointAddr};

use super::endpoints::Endpoint;

/// Who gets which requests. Endpoints are numbered as they stand in their set, of which there are fewer than 65,536.
#[derive(Debug)]
pub(super) enum Shares {
    /// The endpoints of one round, each as often as its weight says, and as evenly as that can be.
    Round(Box<[u16]>),
    /// A line of points, of which each endpoint has as many as its weight says.
    Draws(Line),
    /// The same; of two that are drawn the one with less to do is taken.
    LeastOfTwo(Line),
    /// The endpoint of each slot, for hashes, and for requests that have none.
    Maglev(Box<[u16]>),
}

impl Shares {
    pub(super) fn new(endpoints: &[Endpoint], balance: &Balance) -> Shares {
        match balance {
            Balance::RoundRobin => Shares::Round(round(endpoints)),
            Balance::Random => Shares::Draws(Line::new(endpoints)),
            Balance::LeastRequest => Shares::LeastOfTwo(Line::new(endpoints)),
            Balance::Maglev(_) => Shares::Maglev(maglev(endpoints)),
        }
    }
}

/// Points on a line, cut into the parts of endpoints.
#[derive(Debug)]
pub(super) struct Line(Box<[u64]>);

impl Line {
    fn new(endpoints: &[Endpoint]) -> Line {
        let ends = endpoints.iter().scan(0, |sum, endpoint| {
            *sum += u64::from(endpoint.weight);
            Some(*sum)
        });
        Line(ends.collect())
    }

    /// How many points there are.
    pub(super) fn length(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// Whose the point is; it has to be one of this line.
    pub(super) fn at(&self, point: u64) -> usize {
        self.0.partition_point(|end| *end <= point)
    }

    /// How many points are in the part of an endpoint.
    pub(super) fn width(&self, endpoint: usize) -> u64 {
        self.0[endpoint] - self.begin(endpoint)
    }

    /// Whose the point is on the line without the part of `endpoint`, which is shorter by its width.
    pub(super) fn at_without(&self, endpoint: usize, point: u64) -> usize {
        self.at(if point < self.begin(endpoint) { point } else { point + self.width(endpoint) })
    }

    fn begin(&self, endpoint: usize) -> u64 {
        endpoint.checked_sub(1).map_or(0, |before| self.0[before])
    }
}

/// One round. Each endpoint's turns are as far apart as its weight says, and who comes first in a tie is the first of the list.
fn round(endpoints: &[Endpoint]) -> Box<[u16]> {
    let divisor =
        endpoints.iter().fold(0, |divisor, endpoint| common_divisor(divisor, endpoint.weight)).max(1);
    let of = |endpoint: &Endpoint| endpoint.weight / divisor;
    let sum: u64 = endpoints.iter().map(|endpoint| u64::from(of(endpoint))).sum();
    // Rounded where there are so many that it makes little of a difference, so that a round stays short.
    let scale = u32::try_from(sum.div_ceil(ROUND_MAX).max(1)).unwrap_or(u32::MAX);
    let weights = endpoints.iter().map(|endpoint| of(endpoint).div_ceil(scale));
    let weights: Vec<u32> = weights.collect();
    let length = weights.iter().map(|weight| *weight as usize).sum();
    // When each has its next turn: in the middle of its first interval, then one interval later each time. In units that make
    // every interval a whole number.
    let interval = |weight: u32| INTERVAL / u64::from(weight);
    let first = |(index, weight): (usize, &u32)| {
        (*weight > 0).then(|| Reverse((interval(*weight) / 2, index, *weight)))
    };
    let mut next: BinaryHeap<_> = weights.iter().enumerate().filter_map(first).collect();
    let mut round = Vec::with_capacity(length);
    while round.len() < length
        && let Some(Reverse((when, index, weight))) = next.pop()
    {
        round.push(index as u16);
        next.push(Reverse((when + interval(weight), index, weight)));
    }
    round.into()
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Maglev's table (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4), with
/// weights as Envoy has them: in each pass over the endpoints one takes a slot as often as its weight says in proportion to the
/// largest. The order in which an endpoint wants slots depends on its address alone, so all workers and nodes agree.
fn maglev(endpoints: &[Endpoint]) -> Box<[u16]> {
    let largest = u64::from(endpoints.iter().map(|endpoint| endpoint.weight).max().unwrap_or(0));
    if largest == 0 {
        return Box::default();
    }
    let slots = MAGLEV_SLOTS;
    let mut wants: Vec<_> = endpoints
        .iter()
        .enumerate()
        .filter(|(_, endpoint)| endpoint.weight > 0)
        .map(|(index, endpoint)| {
            let offset = hash_addr(0, &endpoint.addr) % slots;
            let skip = hash_addr(1, &endpoint.addr) % (slots - 1) + 1;
            Wants { index: index as u16, weight: u64::from(endpoint.weight), credit: 0, slot: offset, skip }
        })
        .collect();
    // Sorted by address, so that the order of a list makes no difference.
    wants.sort_by(|a, b| {
        let addr = |wants: &Wants| &endpoints[usize::from(wants.index)].addr;
        addr(a).cmp(addr(b))
    });
    let mut table = vec![FREE; slots as usize];
    let mut free = table.len();
    while free > 0 {
        for wants in &mut wants {
            wants.credit += wants.weight;
            if wants.credit < largest || free == 0 {
                continue;
            }
            wants.credit -= largest;
            while table[wants.slot as usize] != FREE {
                wants.advance();
            }
            table[wants.slot as usize] = wants.index;
            wants.advance();
            free -= 1;
        }
    }
    table.into()
}

/// The slots that an endpoint wants, one after the other.
struct Wants {
    index: u16,
    weight: u64,
    credit: u64,
    slot: u64,
    skip: u64,
}

impl Wants {
    fn advance(&mut self) {
        // The number of slots is a prime, so it comes past all of them.
        self.slot = (self.slot + self.skip) % MAGLEV_SLOTS;
    }
}

fn hash_addr(seed: u8, addr: &EndpointAddr) -> u64 {
    let addr = match addr {
        EndpointAddr::Ip(addr) => addr,
        EndpointAddr::Unix(path) => return hash(&[path.as_bytes(), &[seed]].concat()),
    };
    let mut bytes = [0; 19];
    bytes[..16].copy_from_slice(&octets(addr.ip()));
    bytes[16..18].copy_from_slice(&addr.port().to_be_bytes());
    bytes[18] = seed;
    hash(&bytes)
}

/// An address in the form that all have.
pub(super) fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// FNV-1a, mixed at the end: the same on every node, which the hasher of tables is not. Nobody gains by a collision: whoever
/// chooses the property of a request chooses its endpoint anyway.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// 256 endpoints of any weight from 1 to 256 have a round without rounding.
const ROUND_MAX: u64 = 65_536;
/// Between two turns of an endpoint of weight 1, in units so fine that what is lost by division makes no difference in a round.
const INTERVAL: u64 = 1 << 40;
/// A prime (the paper's larger one): 64 times the most endpoints that a cluster has, which keeps shares within 2 % of what
/// weights say, and for 100 endpoints or fewer within 0.2 %.
const MAGLEV_SLOTS: u64 = 65_537;
const FREE: u16 = u16::MAX;

#[cfg(test)]
mod tests;
