//! What one worker chooses, given what was published.

use std::net::SocketAddr;

use ringward_config::{Balance, HashKey};

use super::*;

fn addr(index: usize) -> EndpointAddr {
    SocketAddr::from(([10, 0, 0, index as u8], 80)).into()
}

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    weights
        .iter()
        .enumerate()
        .map(|(index, weight)| Endpoint { addr: addr(index), weight: *weight })
        .collect()
}

/// A worker's choice among endpoints of these weights.
struct Scene {
    published: Arc<Endpoints>,
    pools: RefCell<Pools>,
    choice: Choice,
}

impl Scene {
    fn new(weights: &[u32], balance: Balance) -> Scene {
        let published = Arc::new(Endpoints::new(endpoints(weights), balance));
        let mut pools = Pools::new();
        let choice = Choice::new(published.clone(), None, 0, &mut pools);
        // So that a failure can be had again.
        choice.dice.0.set(1);
        Scene { published, pools: RefCell::new(pools), choice }
    }

    /// The endpoint of the next request.
    fn next(&self, key: Option<u64>) -> Option<usize> {
        self.choice.refresh(&self.pools);
        let members = self.choice.known();
        let next = self.choice.pick(&members, key);
        self.choice.pass_on(&members);
        next
    }

    fn order(&self, key: Option<u64>) -> Vec<usize> {
        self.choice.refresh(&self.pools);
        let members = self.choice.known();
        let order = self.choice.order(&members, key);
        order.map(|(tried, _)| (0..).find(|index| addr(*index) == *tried).unwrap()).collect()
    }

    fn counts(&self, requests: usize, endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        (0..requests).filter_map(|_| self.next(None)).for_each(|index| counts[index] += 1);
        counts
    }
}

fn maglev() -> Balance {
    Balance::Maglev(HashKey::SourceAddress)
}

fn all() -> [Balance; 4] {
    [Balance::RoundRobin, Balance::LeastRequest, Balance::Random, maglev()]
}

#[test]
fn requests_are_dealt_out_by_weight() {
    let weights = [5, 3, 0, 2];
    for balance in all() {
        let scene = Scene::new(&weights, balance.clone());
        let requests = 400_000;
        for (count, weight) in scene.counts(requests, 4).iter().zip(weights) {
            let (share, expected) = (*count as f64 / requests as f64, f64::from(weight) / 10.0);
            assert!(
                (share - expected).abs() <= 0.01 * expected,
                "{balance:?}: {share} instead of {expected}"
            );
        }
    }
}

#[test]
fn each_that_takes_requests_is_tried_once() {
    for balance in all() {
        for key in [None, Some(7)] {
            let scene = Scene::new(&[1, 0, 3, 2, 0], balance.clone());
            let mut order = scene.order(key);
            order.sort_unstable();
            assert_eq!(order, [0, 2, 3], "{balance:?}");
            assert_eq!(Scene::new(&[4], balance.clone()).order(key), [0]);
            assert_eq!(Scene::new(&[0, 0], balance.clone()).order(key), [0; 0]);
            assert_eq!(Scene::new(&[], balance.clone()).order(key), [0; 0]);
        }
    }
}

#[test]
fn who_comes_after_one_that_is_gone_is_not_always_the_same() {
    for balance in all() {
        let scene = Scene::new(&[1; 4], balance.clone());
        let mut seconds = [0; 4];
        for key in 0..4000 {
            let order = scene.order(matches!(balance, Balance::Maglev(_)).then(|| shares::mix(key)));
            if order[0] == 1 {
                seconds[order[1]] += 1;
            }
        }
        let even = |count: &i32| (200..500).contains(count);
        assert!([0, 2, 3].iter().all(|index| even(&seconds[*index])), "{balance:?}: {seconds:?}");
    }
}

#[test]
fn of_two_the_one_with_less_to_do_is_taken() {
    let scene = Scene::new(&[1, 1], Balance::LeastRequest);
    let members = scene.choice.known();
    let busy = members.pools[0].hold();
    assert_eq!(scene.counts(100, 2), [0, 100]);
    let _busy_too = (members.pools[1].hold(), members.pools[1].hold());
    assert_eq!(scene.counts(100, 2), [100, 0]);
    drop(busy);
    assert_eq!(scene.counts(100, 2), [100, 0]);
}

#[test]
fn twice_the_weight_may_have_twice_as_much_to_do() {
    let scene = Scene::new(&[2, 1], Balance::LeastRequest);
    let members = scene.choice.known();
    let _busy = [members.pools[0].hold(), members.pools[0].hold(), members.pools[0].hold()];
    let one = members.pools[1].hold();
    assert_eq!(scene.counts(100, 2), [0, 100], "three halves are more than one");
    let _two = members.pools[1].hold();
    assert_eq!(scene.counts(100, 2), [100, 0], "and less than two");
    drop(one);
}

/// Ten times slower than the others is one endpoint of four: how long the longest queue is in a simulation of arrivals at
/// regular moments.
fn longest_queue(balance: Balance) -> usize {
    let scene = Scene::new(&[1; 4], balance);
    let members = scene.choice.known();
    let mut running = Vec::new();
    let mut longest = 0;
    for now in 0..20_000_u64 {
        running.retain(|(end, _, _)| *end > now);
        let endpoint = scene.next(None).unwrap();
        let takes = if endpoint == 0 { 100 } else { 10 };
        running.push((now + takes, endpoint, members.pools[endpoint].hold()));
        longest = longest.max(members.pools[0].load());
    }
    longest
}

#[test]
fn under_unequal_latency_the_less_loaded_of_two_beats_a_draw() {
    let (least, random) = (longest_queue(Balance::LeastRequest), longest_queue(Balance::Random));
    assert!(least * 3 < random, "least_request {least}, random {random}");
}

#[test]
fn a_property_leads_to_one_endpoint_on_every_worker() {
    let (one, other) = (Scene::new(&[1, 2, 3], maglev()), Scene::new(&[1, 2, 3], maglev()));
    other.choice.dice.0.set(99);
    for key in (0..1000).map(|key| Some(shares::mix(key))) {
        assert_eq!(one.order(key), other.order(key));
    }
}

#[test]
fn what_is_published_is_what_is_chosen_from() {
    for balance in all() {
        let scene = Scene::new(&[1, 1], balance);
        scene.published.publish(endpoints(&[0, 1]));
        assert!(scene.choice.try_next(Some(1), |_| Some(())).is_none(), "what it knows is out of date");
        assert_eq!(scene.counts(10, 2), [0, 10]);
        assert!(scene.choice.try_next(Some(1), |_| Some(())).is_some());
        scene.published.publish(endpoints(&[0, 0, 1]));
        assert_eq!(scene.counts(10, 3), [0, 0, 10]);
        scene.published.publish(Vec::new());
        assert_eq!(scene.next(None), None);
        assert!(scene.choice.try_next(None, |_| Some(())).is_none());
    }
}

#[test]
fn an_endpoint_that_stays_keeps_its_pool() {
    let scene = Scene::new(&[1, 1], Balance::RoundRobin);
    let before = scene.choice.known().pools[1].clone();
    scene.published.publish(vec![Endpoint { addr: addr(1), weight: 5 }]);
    assert!(scene.choice.refresh(&scene.pools) && !scene.choice.refresh(&scene.pools));
    assert!(Rc::ptr_eq(&scene.choice.known().pools[0], &before));
}

#[test]
fn the_turn_passes_only_to_those_who_are_asked() {
    let scene = Scene::new(&[1, 1], Balance::RoundRobin);
    assert!(scene.choice.try_next(None, |_| None::<()>).is_none());
    assert_eq!([scene.next(None), scene.next(None), scene.next(None)], [Some(0), Some(1), Some(0)]);
}

#[test]
fn who_was_drawn_and_has_no_connection_is_tried_first() {
    for balance in [Balance::Random, Balance::LeastRequest, maglev()] {
        let scene = Scene::new(&[1; 8], balance);
        let cold = addr(5);
        let cold = scene.choice.known().pool(&cold).unwrap() as *const Pool;
        let mut first = 0;
        for _ in 0..8_000 {
            let kept = scene.choice.try_next(None, |pool| (!std::ptr::eq(pool, cold)).then_some(()));
            // It is as good as a request that finds no kept connection and opens one.
            if kept.is_none() {
                assert_eq!(scene.order(None)[0], 5);
                first += 1;
            }
        }
        assert!((800..1200).contains(&first), "{first} of 8000 for one of eight");
    }
}

#[test]
fn what_was_drawn_is_not_used_for_a_request_that_has_a_place_of_its_own() {
    let scene = Scene::new(&[1; 8], maglev());
    let own = scene.next(Some(3)).unwrap();
    for _ in 0..20 {
        assert!(scene.choice.try_next(None, |_| None::<()>).is_none());
        assert_eq!(scene.order(Some(3))[0], own);
    }
}
