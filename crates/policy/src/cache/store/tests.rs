use super::*;

fn decision(rule: &str) -> Rc<Decision> {
    Rc::new(Decision { allowed: true, rule: Some(rule.into()), ..Decision::default() })
}

/// Offers it as often as it takes to be kept.
fn keep(store: &mut Store, key: &[u8], decision: &Rc<Decision>) {
    let hash = store.hash(key);
    store.offer(hash, key, decision, 0);
    store.offer(hash, key, decision, 0);
}

fn find(store: &mut Store, key: &[u8], now_unix: i64) -> Option<Rc<Decision>> {
    store.find(store.hash(key), key, now_unix)
}

#[test]
fn what_is_offered_once_is_not_kept() {
    let mut store = Store::new(16, 1 << 20);
    let hash = store.hash(b"a");
    store.offer(hash, b"a", &decision("a"), 0);
    assert_eq!((store.len(), find(&mut store, b"a", 0)), (0, None));
    store.offer(hash, b"a", &decision("a"), 0);
    assert_eq!(find(&mut store, b"a", 0), Some(decision("a")));
    assert_eq!(find(&mut store, b"b", 0), None);
}

/// A hash is not a key: whoever could make two requests collide would have the other's decision.
#[test]
fn a_collision_finds_nothing() {
    let mut store = Store::new(16, 1 << 20);
    store.offer(7, b"mine", &decision("mine"), 0);
    store.offer(7, b"mine", &decision("mine"), 0);
    assert_eq!(store.find(7, b"mine", 0), Some(decision("mine")));
    assert_eq!(store.find(7, b"yours", 0), None);
    assert_eq!(store.find(7, b"min", 0), None);
    assert_eq!(store.find(7, b"mine\0", 0), None);
    store.offer(7, b"yours", &decision("yours"), 0);
    assert_eq!((store.find(7, b"mine", 0), store.len()), (None, 1), "one of them is kept");
    assert_eq!(store.find(7, b"yours", 0), Some(decision("yours")));
}

#[test]
fn hashes_cannot_be_foreseen() {
    assert_ne!(Store::new(1, 1 << 20).hash(b"key"), Store::new(1, 1 << 20).hash(b"key"));
}

#[test]
fn entries_are_bounded_and_what_is_used_stays() {
    let mut store = Store::new(8, 1 << 20);
    for key in 0..8_u8 {
        keep(&mut store, &[key], &decision("x"));
    }
    assert_eq!(store.len(), 8, "as many as there may be");
    for key in 8..100_u8 {
        assert!(find(&mut store, &[3], 0).is_some(), "used before {key}");
        keep(&mut store, &[key], &decision("x"));
        assert_eq!(store.len(), 8);
        assert!(find(&mut store, &[key], 0).is_some());
    }
}

#[test]
fn even_if_all_are_used_room_is_made() {
    let mut store = Store::new(100, 1 << 20);
    for key in 0..100_u8 {
        keep(&mut store, &[key], &decision("x"));
        find(&mut store, &[key], 0);
    }
    keep(&mut store, &[200], &decision("x"));
    assert!(find(&mut store, &[200], 0).is_some());
    assert_eq!(store.len(), 100);
}

#[test]
fn bytes_are_bounded() {
    let of_one = ENTRY_BYTES + TEXT_BYTES + 100 + 1;
    let text = "r".repeat(100);
    let mut store = Store::new(1000, LARGEST_SHARE * of_one);
    for key in 0..100_u8 {
        keep(&mut store, &[key], &decision(&text));
        assert!(store.bytes <= store.bytes_max);
    }
    assert_eq!(store.len(), LARGEST_SHARE, "exactly as many as fit");
    keep(&mut store, &[200], &decision(&"r".repeat(101)));
    assert_eq!(find(&mut store, &[200], 0), None, "one more byte than an entry may have");
}

#[test]
fn an_entry_ends_with_its_time_to_live() {
    let with_ttl = |ttl| Rc::new(Decision { cache_ttl: Some(ttl), ..Decision::default() });
    let mut store = Store::new(16, 1 << 20);
    let hash = store.hash(b"a");
    store.offer(hash, b"a", &with_ttl(5), 999);
    store.offer(hash, b"a", &with_ttl(5), 1000);
    assert!(find(&mut store, b"a", 1000).is_some() && find(&mut store, b"a", 1004).is_some());
    assert_eq!(find(&mut store, b"a", 1005), None);
    assert_eq!(find(&mut store, b"a", 999), None, "the clock was set back");
    store.offer(hash, b"a", &with_ttl(5), 1005);
    assert!(find(&mut store, b"a", 1009).is_some(), "a new decision takes the place");
    assert_eq!(store.len(), 1);
    keep(&mut store, b"zero", &with_ttl(0));
    assert_eq!((store.len(), find(&mut store, b"zero", 0)), (1, None));
}

#[test]
fn the_table_stays_right_whatever_is_removed() {
    let mut store = Store::new(64, 1 << 20);
    for round in 0..2000_u32 {
        let key = (round.wrapping_mul(2_654_435_761) >> 20).to_le_bytes();
        keep(&mut store, &key, &decision(&round.to_string()));
        assert_eq!(find(&mut store, &key, 0), Some(decision(&round.to_string())));
        assert_eq!(store.slots.len(), store.slots_by_hash.len());
        assert_eq!(store.bytes, store.slots.iter().map(|slot| slot.bytes).sum::<usize>());
    }
    for (index, slot) in store.slots.iter().enumerate() {
        assert_eq!(store.slots_by_hash[&slot.hash] as usize, index);
    }
}
