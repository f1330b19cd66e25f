//! Trust changes all the time while clients come back with their sessions.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use arc_swap::ArcSwap;

use super::resumption::{Returning, Site};
use super::*;

/// What the control plane publishes: a host that trusts the CAs of both clients, or Bob's alone.
struct Snapshot {
    generation: usize,
    host: Arc<HostTls>,
}

impl Snapshot {
    fn trusts_alice(generation: usize) -> bool {
        generation.is_multiple_of(2)
    }
}

struct World {
    site: Site,
    hosts: [Arc<HostTls>; 2],
    current: ArcSwap<Snapshot>,
}

/// What became of the connections.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicUsize,
    resumed: AtomicUsize,
    refused: AtomicUsize,
    stopped_by_the_gate: AtomicUsize,
}

impl World {
    fn new(site: Site, bobs_ca: &Ca) -> Self {
        let auth = site.pki.options(ClientAuthMode::Required);
        let both = bundle("partners", &[&site.pki.client_ca, bobs_ca]);
        let hosts = [both, bundle("partners", &[bobs_ca])]
            .map(|trust| Arc::new(HostTls::build(&site.options(&auth, trust)).unwrap()));
        let current = ArcSwap::from_pointee(Snapshot { generation: 0, host: hosts[0].clone() });
        Self { site, hosts, current }
    }

    fn swap(&self) {
        self.current.rcu(|old| {
            let generation = old.generation + 1;
            Snapshot { generation, host: self.hosts[generation % 2].clone() }
        });
    }

    /// One connection, as a worker handles it. `None` if the client was not let in, else the generation that it was
    /// let in by.
    fn connect(&self, client: &Returning, memo: &PathMemo, swap_at: usize, counts: &Counts) -> Option<usize> {
        let snapshot = self.current.load_full();
        let view = |snapshot: &Snapshot| snapshot.host.worker_view(memo).unwrap();
        let mut pair = client.begin(&view(&snapshot));
        let mut outgoing = Vec::new();
        for step in 0.. {
            if step == swap_at {
                self.swap();
            }
            while pair.client.wants_write() {
                pair.client.write_tls(&mut pair.incoming).unwrap();
            }
            if !pair.session.is_handshaking() {
                break;
            }
            if pair.process(&mut outgoing).is_err() {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            pair.deliver(&std::mem::take(&mut outgoing));
        }
        if pair.session.resumed().is_some() {
            counts.resumed.fetch_add(1, Ordering::Relaxed);
        }
        let completed_in = self.current.load().generation;
        let judged_by = self.gate(&pair.session, snapshot, &view, counts)?;
        assert!(
            judged_by >= completed_in,
            "let in by a generation that was gone before the handshake was complete"
        );
        counts.passed.fetch_add(1, Ordering::Relaxed);
        Some(judged_by)
    }

    /// Judges until the judgement and the current generation agree.
    fn gate(
        &self,
        session: &ServerSession,
        mut snapshot: Arc<Snapshot>,
        view: &dyn Fn(&Snapshot) -> WorkerTls,
        counts: &Counts,
    ) -> Option<usize> {
        loop {
            let current = self.current.load_full();
            if current.generation == snapshot.generation {
                return Some(snapshot.generation);
            }
            snapshot = current;
            if view(&snapshot).readmit(session).is_err() {
                counts.stopped_by_the_gate.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
    }
}

#[test]
fn in_a_storm_of_swaps_nobody_is_let_in_by_trust_that_is_gone_and_nobody_else_is_turned_away() {
    const WORKERS: usize = 3;
    const ROUNDS: usize = 120;
    for site in Site::each() {
        let by = site.by;
        let bobs_ca = Ca::root("Bob's CA");
        let world = World::new(site, &bobs_ca);
        let (alice, bob) = (world.site.pki.client("alice"), bobs_ca.issue("bob", |_| {}));
        let (of_alice, of_bob) = (Counts::default(), Counts::default());
        let done = AtomicBool::new(false);
        thread::scope(|threads| {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    world.swap();
                    // Long enough for some to come and go within one generation.
                    for _ in 0..2000 {
                        thread::yield_now();
                    }
                }
            });
            let workers: Vec<_> = (0..WORKERS)
                .map(|number| {
                    let (world, alice, bob, of_alice, of_bob) = (&world, &alice, &bob, &of_alice, &of_bob);
                    threads.spawn(move || {
                        let (memo, mut noise) = (PathMemo::new(16), Noise(number as u64));
                        let alice = Returning::new(&world.site.pki, Some(alice));
                        let bob = Returning::new(&world.site.pki, Some(bob));
                        for _ in 0..ROUNDS {
                            // Before the ClientHello, between it and Finished, or not at all.
                            let swap_at = noise.below(6);
                            let admitted = world.connect(&alice, &memo, swap_at, of_alice);
                            assert!(
                                admitted.is_none_or(Snapshot::trusts_alice),
                                "let in by trust that is gone"
                            );
                            let swap_at = noise.below(6);
                            let admitted = world.connect(&bob, &memo, swap_at, of_bob);
                            assert!(admitted.is_some(), "turned away although nothing changed for him");
                        }
                    })
                })
                .collect();
            let outcomes: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            for outcome in outcomes {
                outcome.unwrap();
            }
        });
        // The storm bites: without the gate, these would have been let in, resumed or not.
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        assert!(count(&of_alice.stopped_by_the_gate) > 10, "{by:?}: {of_alice:?}");
        assert!(count(&of_alice.passed) > 10 && count(&of_alice.refused) > 10, "{by:?}: {of_alice:?}");
        assert!(count(&of_bob.resumed) > 10, "{by:?}: {of_bob:?}");
        assert_eq!(count(&of_bob.passed), WORKERS * ROUNDS);
    }
}
