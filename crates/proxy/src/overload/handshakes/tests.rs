use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use ringward_telemetry::{ClosedSets, Limits, Registry};

use super::*;

const HERE: &str = "192.0.2.1";
const BESIDE: &str = "192.0.2.200";
const ELSEWHERE: &str = "198.51.100.1";

struct World {
    gate: Gate,
    limits: Handshakes,
    shard: Shard,
    listener: ListenerId,
}

impl World {
    /// With limits for each network, on one of `workers`.
    fn new(full_per_second: u32, failures_per_minute: u32, workers: usize) -> World {
        let registry = Registry::new(ClosedSets::default(), Limits::default());
        World {
            gate: Gate::new(workers),
            limits: Handshakes {
                concurrent_max: 1000,
                full_per_second: None,
                queue_max: 0,
                queue_timeout: Duration::from_secs(1),
                per_source: Some(HandshakesPerSource {
                    full_per_second: NonZeroU32::new(full_per_second),
                    failures_per_minute: NonZeroU32::new(failures_per_minute),
                    connections_max: None,
                    refuse_for: Duration::from_secs(3600),
                    prefix_v4: 24,
                    prefix_v6: 56,
                }),
            },
            shard: registry.shard(0),
            listener: registry.listener("edge"),
        }
    }

    /// A handshake that needs not wait.
    fn enter(&self, address: &str, resumes: bool) -> Result<Turn, HandshakeReason> {
        let told = (&self.shard, self.listener);
        let turn = pin!(self.gate.turn_of(&self.limits, (address.parse().unwrap(), None), || resumes, told));
        match turn.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => turn.map_err(|failure| failure.reason),
            Poll::Pending => panic!("nobody waits here"),
        }
    }

    fn succeed(&self, address: &str, resumed: bool) {
        let turn = self.enter(address, resumed).ok().unwrap();
        self.gate.succeeded(&self.limits, address.parse().unwrap(), &turn, (resumed, true));
    }

    /// What is said of a failure.
    fn fail(&self, address: &str, reason: HandshakeReason) -> String {
        let mut failure = HandshakeFailure::new(reason, "it failed");
        self.gate.failed(&self.limits, address.parse().unwrap(), &mut failure, (&self.shard, self.listener));
        failure.message
    }

    fn refuses(&self, address: &str) -> bool {
        self.gate.refuses(&self.limits, address.parse().unwrap())
    }

    /// How many of a hundred get a turn.
    fn admitted(&self, address: &str, resumes: bool) -> usize {
        (0..100).filter(|_| self.enter(address, resumes).is_ok()).count()
    }
}

#[test]
fn the_addresses_of_a_network_share_its_rate() {
    let world = World::new(8, 1, 1);
    assert_eq!(world.admitted(HERE, false), 6, "three quarters, for who is not known");
    assert_eq!(world.enter(BESIDE, false).err(), Some(HandshakeReason::SourceRate));
    assert_eq!(world.admitted(ELSEWHERE, false), 6);
    assert_eq!(world.admitted(HERE, true), 100, "who resumes costs little");
}

#[test]
fn the_known_have_what_strangers_leave() {
    let world = World::new(8, 1, 1);
    world.succeed(HERE, true);
    assert_eq!(world.admitted(BESIDE, false), 6);
    assert_eq!(world.admitted(HERE, false), 2);
}

#[test]
fn a_resumption_that_became_a_full_handshake_is_charged() {
    let world = World::new(2, 1, 1);
    for _ in 0..2 {
        let turn = world.enter(HERE, true).ok().unwrap();
        world.gate.succeeded(&world.limits, HERE.parse().unwrap(), &turn, (false, false));
    }
    assert_eq!(world.enter(HERE, false).err(), Some(HandshakeReason::SourceRate));
}

/// Else a session that is offered again and again and never resumed would be a way around the rates.
#[test]
fn a_resumption_that_failed_as_a_full_handshake_is_charged_and_is_none_in_the_end() {
    let world = World::new(4, 1000, 1);
    let turns: Vec<_> = (0..100)
        .map_while(|_| {
            let turn = world.enter(HERE, true).ok()?;
            world.gate.failed_in_full(&world.limits, HERE.parse().unwrap(), &turn);
            Some(turn)
        })
        .collect();
    assert!((4..=6).contains(&turns.len()), "{}", turns.len());
    assert_eq!(world.enter(HERE, true).err(), Some(HandshakeReason::SourceRate));
    assert!(world.enter(ELSEWHERE, true).is_ok());
}

#[test]
fn a_network_that_fails_too_often_is_refused_but_for_those_who_are_known() {
    let world = World::new(1000, 3, 1);
    world.succeed(BESIDE, false);
    for _ in 0..3 {
        assert_eq!(world.fail(HERE, HandshakeReason::UnknownIssuer), "it failed");
        assert!(!world.refuses(HERE));
    }
    assert!(world.fail(HERE, HandshakeReason::PeerClosed).contains("is refused for 3600s"));
    assert_eq!(world.fail(HERE, HandshakeReason::PeerClosed), "it failed", "it is said once");
    assert!(world.refuses(HERE) && world.refuses("192.0.2.77"));
    assert!(!world.refuses(BESIDE), "its client has proved a certificate");
    assert!(!world.refuses(ELSEWHERE));
}

#[test]
fn what_is_our_own_fault_counts_against_nobody() {
    let world = World::new(1000, 1, 1);
    for reason in
        [HandshakeReason::Internal, HandshakeReason::RevocationUnknown, HandshakeReason::RevocationStale]
    {
        (0..10).for_each(|_| assert_eq!(world.fail(HERE, reason), "it failed"));
    }
    assert!(!world.refuses(HERE));
}

/// Who is let in without a certificate is nobody that we would know again.
#[test]
fn anonymous_clients_are_not_known() {
    let world = World::new(1000, 1, 1);
    let turn = world.enter(HERE, false).ok().unwrap();
    world.gate.succeeded(&world.limits, HERE.parse().unwrap(), &turn, (false, false));
    (0..2).for_each(|_| drop(world.fail(HERE, HandshakeReason::UnknownIssuer)));
    assert!(world.refuses(HERE));
}

#[test]
fn a_worker_holds_to_its_share() {
    let world = World::new(16, 8, 4);
    assert_eq!(world.admitted(HERE, false), 3);
    (0..2).for_each(|_| drop(world.fail(ELSEWHERE, HandshakeReason::UnknownIssuer)));
    assert!(!world.refuses(ELSEWHERE));
    world.fail(ELSEWHERE, HandshakeReason::UnknownIssuer);
    assert!(world.refuses(ELSEWHERE));
}

#[test]
fn without_a_place_and_a_queue_there_is_no_turn() {
    let mut world = World::new(1000, 1, 1);
    world.limits.concurrent_max = 4;
    let held: Vec<_> = (0..4).map_while(|_| world.enter(HERE, false).ok()).collect();
    assert_eq!(held.len(), 3);
    assert_eq!(world.enter(HERE, false).err(), Some(HandshakeReason::Overload));
    assert!(world.enter(HERE, true).is_ok());
}
