//! How large each endpoint's share of the requests is, given where it stands and how well it is.
//!
//! Pure. Endpoints of one priority and nearness are a **group**. Groups are asked in order: the lowest priority first, and of the
//! same priority the endpoints of our own zone before the others. A group takes all requests for as long as nearly three
//! quarters of its endpoints are fit (`OVERPROVISIONING`), and below that in proportion; the next group takes the rest.

use std::collections::BTreeMap;

use super::standing::Health;

/// What one endpoint brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) rank: Rank,
    pub(super) health: Health,
    /// It gets nothing for now, since it failed requests.
    pub(super) is_ejected: bool,
    /// How far it has started, from 1 to [`PACE_FULL`].
    pub(super) pace: u32,
}

impl Candidate {
    /// Whether it may take requests.
    fn is_fit(&self) -> bool {
        self.health.is_fit() && !self.is_ejected
    }
}

/// Where an endpoint stands among those of its cluster, by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) weight: u32,
    pub(super) priority: u8,
    /// It is not in our zone. There is no such difference where we are in none.
    pub(super) is_far: bool,
}

/// Which endpoints of a cluster take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those that are fit.
    Fit,
    /// Of some group all, since too few of it are fit.
    All,
    /// None: none is fit, and that is to be borne.
    None,
}

/// The endpoints of a group, by their places among all.
#[derive(Debug, Default)]
struct Group {
    members: Vec<usize>,
    /// Those of whom something is known, and those of them that may take requests. One that is awaited says nothing about the
    /// others, so that adding many endpoints to a few makes no panic.
    known: u64,
    fit: u64,
}

/// The share of each candidate, 0 for those that take no requests.
pub(super) fn shares(candidates: &[Candidate], panic_threshold: u32) -> (Vec<u32>, Choice) {
    // An ejection leaves somebody who is fit; if checks fail for that one since, who passes them is better than nobody.
    let is_pointless = candidates.iter().any(|candidate| candidate.is_ejected)
        && !candidates.iter().any(Candidate::is_fit)
        && candidates.iter().any(|candidate| candidate.health.is_fit());
    if is_pointless {
        let pardoned: Vec<_> =
            candidates.iter().map(|candidate| Candidate { is_ejected: false, ..*candidate }).collect();
        return shares(&pardoned, panic_threshold);
    }
    let mut weights = vec![0; candidates.len()];
    let groups = groups(candidates);
    let fit: u64 = groups.iter().map(|group| group.fit).sum();
    if fit == 0 && groups.iter().any(|group| group.known > 0) && panic_threshold == 0 {
        return (weights, Choice::None);
    }
    let loads = loads(&groups);
    // Where others can stand in, that few are fit is no reason to ask those that are not.
    let is_covered = groups.len() > 1 && groups.iter().map(Group::capacity).sum::<u64>() >= FULL;
    let mut choice = Choice::Fit;
    for (group, load) in groups.iter().zip(&loads).filter(|(_, load)| **load > 0) {
        let is_panic = group.fit * 100 < u64::from(panic_threshold) * group.known;
        let uses_all = group.fit == 0 || is_panic && !is_covered;
        if uses_all {
            choice = Choice::All;
        }
        let takes = |index: &usize| uses_all || candidates[*index].is_fit();
        let members: Vec<usize> = group.members.iter().copied().filter(takes).collect();
        deal_out(&members, candidates, (*load < FULL).then_some(*load), &mut weights);
    }
    (weights, choice)
}

fn groups(candidates: &[Candidate]) -> Vec<Group> {
    let mut groups: BTreeMap<(u8, bool), Group> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Candidate { rank, health, .. } = candidate;
        let group = groups.entry((rank.priority, rank.is_far)).or_default();
        group.members.push(index);
        group.known += u64::from(*health != Health::Awaited);
        group.fit += u64::from(candidate.is_fit());
    }
    groups.into_values().collect()
}

impl Group {
    /// Which part of all requests it can take.
    fn capacity(&self) -> u64 {
        (self.fit * OVERPROVISIONING).checked_div(self.known).map_or(0, |capacity| capacity.min(FULL))
    }
}

/// Which part of the requests each group gets.
fn loads(groups: &[Group]) -> Vec<u64> {
    let mut rest = FULL;
    let loads = groups.iter().map(|group| {
        let load = group.capacity().min(rest);
        rest -= load;
        load
    });
    let mut loads: Vec<u64> = loads.collect();
    let taken = FULL - rest;
    if taken == 0 {
        // Nobody is fit: those who should be.
        if let Some(first) = loads.first_mut() {
            *first = FULL;
        }
    } else if taken < FULL {
        loads.iter_mut().for_each(|load| *load = *load * FULL / taken);
    }
    loads
}

/// Gives `members` their weights: those of the configuration if they get all requests, else so that together they get `load`.
fn deal_out(members: &[usize], candidates: &[Candidate], load: Option<u64>, weights: &mut [u32]) {
    let all_started = members.iter().all(|index| candidates[*index].pace >= PACE_FULL);
    let own = |index: usize| {
        let Candidate { rank, pace, .. } = candidates[index];
        u64::from(rank.weight) * if all_started { 1 } else { u64::from(pace) }
    };
    let sum: u64 = members.iter().map(|index| own(*index)).sum();
    for index in members {
        let weight = match load {
            None => own(*index),
            Some(load) => (own(*index) * load).div_ceil(sum.max(1)).max(1),
        };
        weights[*index] = u32::try_from(weight).unwrap_or(u32::MAX);
    }
}

/// All requests of a cluster, in the units that parts of them are counted in: fine enough for any weight among 1024 endpoints.
const FULL: u64 = 1 << 20;
/// What a group can take with all its endpoints, as with Envoy: 1.4 times all requests.
const OVERPROVISIONING: u64 = FULL * 14 / 10;
/// Of an endpoint that has started.
pub(super) const PACE_FULL: u32 = 10;

#[cfg(test)]
mod tests {
    use super::Health::{Assumed, Awaited, Healthy, Unhealthy};
    use super::*;

    /// Candidates of these priorities, all near and of weight 1.
    fn candidates(of: &[(u8, Health)]) -> Vec<Candidate> {
        let rank = |priority| Rank { weight: 1, priority, is_far: false };
        of.iter()
            .map(|(priority, health)| Candidate {
                rank: rank(*priority),
                health: *health,
                is_ejected: false,
                pace: 10,
            })
            .collect()
    }

    /// The parts of all requests, in percent.
    fn percents(candidates: &[Candidate], panic_threshold: u32) -> (Vec<u32>, Choice) {
        let (weights, choice) = shares(candidates, panic_threshold);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let percent = |weight: &u32| (f64::from(*weight) * 100.0 / sum.max(1) as f64).round() as u32;
        (weights.iter().map(percent).collect(), choice)
    }

    #[test]
    fn weights_stay_as_they_are_while_one_group_takes_all() {
        let mut three = candidates(&[(0, Healthy), (0, Healthy), (0, Unhealthy)]);
        (three[0].rank.weight, three[1].rank.weight) = (7, 3);
        assert_eq!(shares(&three, 50), (vec![7, 3, 0], Choice::Fit));
    }

    /// The check of the one that was left fails: the other one, which passes its own, is let back before its time.
    #[test]
    fn an_ejection_leaves_nobody_without_an_endpoint() {
        for (threshold, chosen) in [(0, Choice::Fit), (50, Choice::Fit), (100, Choice::All)] {
            let mut two = candidates(&[(0, Healthy), (0, Unhealthy)]);
            two[0].is_ejected = true;
            let (weights, choice) = shares(&two, threshold);
            assert_eq!((weights[0], choice), (1, chosen), "{threshold}");
        }
        let mut none = candidates(&[(0, Unhealthy), (0, Unhealthy)]);
        none[0].is_ejected = true;
        assert_eq!(shares(&none, 0).1, Choice::None);
    }

    #[test]
    fn too_few_fit_endpoints_are_a_panic() {
        let table: [(&[Health], u32, Choice); 14] = [
            (&[Healthy, Healthy], 50, Choice::Fit),
            (&[Healthy, Unhealthy], 50, Choice::Fit),
            (&[Healthy, Unhealthy], 51, Choice::All),
            (&[Healthy, Unhealthy, Unhealthy], 50, Choice::All),
            (&[Unhealthy], 1, Choice::All),
            (&[Unhealthy, Unhealthy], 0, Choice::None),
            (&[Healthy, Unhealthy, Unhealthy, Unhealthy], 0, Choice::Fit),
            (&[Assumed, Unhealthy], 50, Choice::Fit),
            (&[Assumed, Unhealthy, Unhealthy], 50, Choice::All),
            (&[Healthy, Awaited, Awaited, Awaited], 50, Choice::Fit),
            (&[Unhealthy, Awaited], 0, Choice::None),
            (&[Unhealthy, Awaited], 50, Choice::All),
            // Those that it was to wait for are gone.
            (&[Awaited], 0, Choice::All),
            (&[Healthy, Unhealthy], 100, Choice::All),
        ];
        for (endpoints, threshold, choice) in table {
            let of: Vec<_> = endpoints.iter().map(|health| (0, *health)).collect();
            let (weights, chosen) = shares(&candidates(&of), threshold);
            assert_eq!(chosen, choice, "{endpoints:?} {threshold}");
            let expected = endpoints.iter().map(|health| match choice {
                Choice::Fit => u32::from(health.is_fit()),
                Choice::All => 1,
                Choice::None => 0,
            });
            assert_eq!(weights, expected.collect::<Vec<_>>(), "{endpoints:?} {threshold}");
        }
    }

    /// Priorities and healths, the threshold, percents and what is chosen.
    type Row<'a> = (&'a [(u8, Health)], u32, &'a [u32], Choice);

    #[test]
    fn another_priority_stands_in_for_what_is_missing() {
        let (up, down) = (Healthy, Unhealthy);
        let table: [Row<'_>; 10] = [
            (&[(0, up), (0, up), (1, up), (1, up)], 50, &[50, 50, 0, 0], Choice::Fit),
            // Three of four are more than enough.
            (&[(0, up), (0, up), (0, up), (0, down), (1, up)], 50, &[33, 33, 33, 0, 0], Choice::Fit),
            // Half of them take 70 %.
            (&[(0, up), (0, down), (1, up)], 50, &[70, 0, 30], Choice::Fit),
            // A quarter is too few for a panic threshold, but another stands in.
            (&[(0, up), (0, down), (0, down), (0, down), (1, up)], 50, &[35, 0, 0, 0, 65], Choice::Fit),
            (&[(0, down), (0, down), (1, up), (1, up)], 50, &[0, 0, 50, 50], Choice::Fit),
            (&[(3, down), (7, down), (9, up)], 50, &[0, 0, 100], Choice::Fit),
            // A quarter takes 35 %, and so does the other: half each, and both are too few.
            (
                &[(0, up), (0, down), (0, down), (0, down), (1, up), (1, down), (1, down), (1, down)],
                50,
                &[13, 13, 13, 13, 13, 13, 13, 13],
                Choice::All,
            ),
            (
                &[(0, up), (0, down), (0, down), (0, down), (1, up), (1, down), (1, down), (1, down)],
                0,
                &[50, 0, 0, 0, 50, 0, 0, 0],
                Choice::Fit,
            ),
            // Nobody: those who should be.
            (&[(0, down), (0, down), (1, down)], 50, &[50, 50, 0], Choice::All),
            (&[(0, down), (1, down)], 0, &[0, 0], Choice::None),
        ];
        for (of, threshold, expected, choice) in table {
            assert_eq!(
                percents(&candidates(of), threshold),
                (expected.to_vec(), choice),
                "{of:?} {threshold}"
            );
        }
    }

    #[test]
    fn our_zone_comes_first_within_a_priority() {
        let mut four = candidates(&[(0, Healthy), (0, Healthy), (0, Healthy), (1, Healthy)]);
        (four[2].rank.is_far, four[3].rank.is_far) = (true, false);
        assert_eq!(percents(&four, 50).0, [50, 50, 0, 0]);
        four[0].health = Unhealthy;
        assert_eq!(percents(&four, 50).0, [0, 70, 30, 0]);
        four[1].health = Unhealthy;
        assert_eq!(percents(&four, 50).0, [0, 0, 100, 0], "another zone before another priority");
        four[2].health = Unhealthy;
        assert_eq!(percents(&four, 50).0, [0, 0, 0, 100]);
    }

    #[test]
    fn weights_hold_within_a_part() {
        let mut four =
            candidates(&[(0, Healthy), (0, Healthy), (0, Unhealthy), (0, Unhealthy), (1, Healthy)]);
        four[0].rank.weight = 3;
        // 70 % in the proportion of 3 to 1.
        assert_eq!(percents(&four, 50).0, [53, 18, 0, 0, 30]);
    }

    #[test]
    fn who_starts_gets_a_tenth_more_at_a_time() {
        let mut two = candidates(&[(0, Healthy), (0, Healthy)]);
        for (pace, expected) in [(1, [1, 10]), (5, [5, 10]), (10, [1, 1])] {
            two[0].pace = pace;
            assert_eq!(shares(&two, 50).0, expected);
        }
    }
}
