use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;
use crate::resumption::{Offer, OfferSlot, Resumption};
use crate::testing::{ManualClock, NOW, Noise, at};

const NOW_UNIX: i64 = NOW as i64;
const HOUR: i64 = 60 * 60;

fn ring() -> Arc<KeyRing> {
    Arc::new(KeyRing::random(at(NOW), Duration::from_secs(4 * HOUR as u64)))
}

fn scope(host: &str) -> Scope {
    Scope::new("public", host, &[7; 32], &Resumption::Tickets(ring()))
}

fn keys_of(ring: &KeyRing) -> TicketKeys {
    TicketKeys::derive(ring, &scope("api.example.com"))
}

struct Setting {
    ticketer: Ticketer,
    slot: Arc<OfferSlot>,
    clock: Arc<ManualClock>,
}

/// A ticketer whose sessions may be resumed for eight hours.
fn setting(accepts: bool) -> Setting {
    let (slot, clock) = (Arc::<OfferSlot>::default(), ManualClock::new());
    let terms = Terms { accepts, auth_age_max: 8 * HOUR, slot: slot.clone(), clock: clock.clone() };
    Setting { ticketer: Ticketer::new(Arc::new(keys_of(&ring())), terms), slot, clock }
}

#[test]
fn what_was_sealed_opens_with_its_auth_time() {
    let keys = keys_of(&ring());
    for session in [&b""[..], b"session", &[5; 1100]] {
        let ticket = keys.seal(session, NOW_UNIX - 77, NOW_UNIX).unwrap();
        assert_eq!(ticket.len(), 8 + 12 + 8 + session.len() + 16);
        let opened = keys.open(&ticket, NOW_UNIX).unwrap();
        assert_eq!((opened.auth_time, &opened.session[..]), (NOW_UNIX - 77, session));
        assert!(session.is_empty() || !ticket.windows(session.len()).any(|window| window == session));
    }
    let (one, other) = (keys.seal(b"session", 1, NOW_UNIX), keys.seal(b"session", 1, NOW_UNIX));
    assert_ne!(one, other, "tickets of one session cannot be linked");
}

#[test]
fn a_ticket_opens_in_its_scope_and_with_its_ring_alone() {
    let (ring, other_ring) = (ring(), ring());
    let ticket = keys_of(&ring).seal(b"session", NOW_UNIX, NOW_UNIX).unwrap();
    assert!(TicketKeys::derive(&ring, &scope("api.example.com")).open(&ticket, NOW_UNIX).is_some());
    assert!(TicketKeys::derive(&ring, &scope("other.example.com")).open(&ticket, NOW_UNIX).is_none());
    assert!(keys_of(&other_ring).open(&ticket, NOW_UNIX).is_none());
    // Nor does it help to claim another key's name.
    let mut renamed = ticket.clone();
    renamed[..8].copy_from_slice(&other_ring.keys()[1].id);
    assert!(keys_of(&other_ring).open(&renamed, NOW_UNIX).is_none());
}

#[test]
fn scope_is_part_of_the_key_and_of_what_is_authenticated() {
    let ring = ring();
    let mut elsewhere = TicketKeys::derive(&ring, &scope("other.example.com"));
    let ticket = keys_of(&ring).seal(b"session", NOW_UNIX, NOW_UNIX).unwrap();
    // Each of the two suffices: with the right scope the key is wrong ...
    elsewhere.scope = scope("api.example.com");
    assert!(elsewhere.open(&ticket, NOW_UNIX).is_none());
    // ... and with the right key the scope is.
    let mut here = keys_of(&ring);
    here.scope = scope("other.example.com");
    assert!(here.open(&ticket, NOW_UNIX).is_none());
}

#[test]
fn altered_and_cut_tickets_do_not_open() {
    let keys = keys_of(&ring());
    let ticket = keys.seal(b"a session with its chain", NOW_UNIX, NOW_UNIX).unwrap();
    for position in 0..ticket.len() {
        for bit in 0..8 {
            let mut altered = ticket.clone();
            altered[position] ^= 1 << bit;
            assert!(keys.open(&altered, NOW_UNIX).is_none(), "bit {bit} of byte {position}");
        }
        assert!(keys.open(&ticket[..position], NOW_UNIX).is_none(), "cut at {position}");
        assert!(keys.open(&ticket[position..], NOW_UNIX).is_none() || position == 0);
    }
    assert!(keys.open(&[&ticket[..], &[0]].concat(), NOW_UNIX).is_none());
}

#[test]
fn noise_never_opens() {
    let (ring, mut noise) = (ring(), Noise(11));
    let keys = keys_of(&ring);
    for _ in 0..20_000 {
        let length = noise.below(200);
        let mut ticket = noise.bytes(length);
        if noise.below(2) == 0 && ticket.len() >= 8 {
            ticket[..8].copy_from_slice(&ring.keys()[noise.below(2)].id);
        }
        assert!(keys.open(&ticket, NOW_UNIX).is_none());
    }
}

#[test]
fn a_ticket_without_an_auth_time_is_none() {
    // Sealed with the right key for the right scope, but shorter than an `auth_time`, or with one before 1970.
    let keys = keys_of(&ring());
    for content in [&b""[..], &[0; 7], &(-1_i64).to_be_bytes()] {
        let key = &keys.keys[1];
        let nonce = Nonce::assume_unique_for_key([9; 12]);
        let mut sealed = content.to_vec();
        let tag = key.key.seal_in_place_separate_tag(nonce, keys.aad(), &mut sealed).unwrap();
        let ticket = [&key.id[..], &[9; 12], &sealed, tag.as_ref()].concat();
        assert!(keys.open(&ticket, NOW_UNIX).is_none(), "{content:?}");
    }
}

#[test]
fn sizes_are_bounded_on_both_sides() {
    let keys = keys_of(&ring());
    let largest = keys.seal(&[1; TICKET_SESSION_BYTES_MAX], NOW_UNIX, NOW_UNIX).unwrap();
    assert!(keys.open(&largest, NOW_UNIX).is_some());
    assert!(keys.seal(&[1; TICKET_SESSION_BYTES_MAX + 1], NOW_UNIX, NOW_UNIX).is_none());
    // Even if it were authentic.
    let key = &keys.keys[1];
    let mut sealed = vec![0; AUTH_TIME_LEN + TICKET_SESSION_BYTES_MAX + 1];
    let nonce = Nonce::assume_unique_for_key([9; 12]);
    let tag = key.key.seal_in_place_separate_tag(nonce, keys.aad(), &mut sealed).unwrap();
    let ticket = [&key.id[..], &[9; 12], &sealed, tag.as_ref()].concat();
    assert!(keys.open(&ticket, NOW_UNIX).is_none());
}

#[test]
fn the_current_key_seals_and_every_key_in_use_opens() {
    let ring = ring();
    let sealed_by = |keys: &TicketKeys, now| keys.seal(b"s", now, now).map(|ticket| ticket[..8].to_vec());
    let [next, current] = ring.keys() else { panic!("two keys") };
    let keys = keys_of(&ring);
    assert_eq!(sealed_by(&keys, NOW_UNIX).as_deref(), Some(&current.id[..]));
    assert_eq!(sealed_by(&keys, NOW_UNIX + 4 * HOUR).as_deref(), Some(&next.id[..]));
    assert_eq!(sealed_by(&keys, NOW_UNIX - 1), None, "before any key");
    assert_eq!(sealed_by(&keys, NOW_UNIX + 12 * HOUR), None, "after all keys");
    let by_current = keys.seal(b"s", NOW_UNIX, NOW_UNIX).unwrap();
    assert!(keys.open(&by_current, NOW_UNIX + 8 * HOUR - 1).is_some());
    assert!(keys.open(&by_current, NOW_UNIX + 8 * HOUR).is_none(), "expired");
    // A node whose clock is ahead seals with it already.
    let by_next = keys.seal(b"s", NOW_UNIX, NOW_UNIX + 4 * HOUR).unwrap();
    assert!(keys.open(&by_next, NOW_UNIX).is_some());
    // After a rotation, on this node and on one that knows the new ring only.
    let rotated = keys_of(&ring.rotated(at(NOW + 60)));
    assert!(rotated.open(&by_current, NOW_UNIX + 60).is_some());
    assert!(rotated.open(&by_next, NOW_UNIX + 60).is_some());
}

#[test]
fn two_nodes_with_one_ring_file_open_each_others_tickets() {
    let ring = ring();
    let other = KeyRing::parse(ring.serialize().as_bytes(), at(NOW)).unwrap();
    let ticket = keys_of(&ring).seal(b"session", NOW_UNIX, NOW_UNIX).unwrap();
    assert_eq!(keys_of(&other).open(&ticket, NOW_UNIX).unwrap().session, b"session");
}

#[test]
fn without_an_auth_time_nothing_is_sealed() {
    let Setting { ticketer, slot, clock } = setting(true);
    assert_eq!(ticketer.encrypt(b"session"), None, "outside of a handshake");
    slot.begin(NOW_UNIX);
    let ticket = ticketer.encrypt(b"session").unwrap();
    assert_eq!(slot.end(), Offer::Nothing);
    assert_eq!(ticketer.encrypt(b"session"), None, "after it");
    slot.begin(NOW_UNIX);
    clock.set(NOW + 8 * HOUR as u64 - 1);
    assert!(ticketer.encrypt(b"session").is_some());
    assert_eq!(ticketer.lifetime(), 1);
    clock.set(NOW + 8 * HOUR as u64);
    assert_eq!(ticketer.encrypt(b"session"), None, "it could not be resumed any more");
    assert_eq!(ticketer.lifetime(), 0);
    clock.set(NOW);
    assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    assert_eq!(slot.end(), Offer::Session { auth_time: NOW_UNIX });
}

#[test]
fn of_several_offers_the_last_one_counts() {
    let Setting { ticketer, slot, .. } = setting(true);
    let sealed = |auth_time| {
        slot.begin(auth_time);
        ticketer.encrypt(b"session").unwrap()
    };
    let (old, new) = (sealed(NOW_UNIX - 100), sealed(NOW_UNIX));
    let offer = |tickets: &[&[u8]]| {
        slot.begin(NOW_UNIX);
        for ticket in tickets {
            ticketer.decrypt(ticket);
        }
        slot.end()
    };
    assert_eq!(offer(&[]), Offer::Nothing);
    assert_eq!(offer(&[b"nonsense"]), Offer::Unknown);
    assert_eq!(offer(&[b"nonsense", &new]), Offer::Session { auth_time: NOW_UNIX });
    assert_eq!(offer(&[&old, &new]), Offer::Session { auth_time: NOW_UNIX });
    assert_eq!(offer(&[&new, &old]), Offer::Session { auth_time: NOW_UNIX - 100 });
    // rustls goes on only if it did not take the first, so there is none.
    assert_eq!(offer(&[&new, b"nonsense"]), Offer::Unknown);
    assert_eq!(slot.end(), Offer::Nothing, "asked once");
}

#[test]
fn a_ticketer_that_does_not_accept_seals_only() {
    let Setting { ticketer, slot, .. } = setting(false);
    slot.begin(NOW_UNIX);
    let ticket = ticketer.encrypt(b"session").unwrap();
    assert_eq!(ticketer.decrypt(&ticket), None);
    assert_eq!(slot.end(), Offer::Nothing, "and does not look");
    assert!(ticketer.keys.open(&ticket, NOW_UNIX).is_some());
}

#[test]
fn lifetime_ends_with_the_key_or_the_proof() {
    let Setting { ticketer, slot, clock } = setting(true);
    slot.begin(NOW_UNIX);
    assert_eq!(ticketer.lifetime(), 8 * HOUR as u32);
    slot.begin(NOW_UNIX - HOUR);
    assert_eq!(ticketer.lifetime(), 7 * HOUR as u32, "the proof is an hour old");
    clock.set(NOW + 11 * HOUR as u64);
    slot.begin(NOW_UNIX + 11 * HOUR);
    assert_eq!(ticketer.lifetime(), HOUR as u32, "the key has an hour left");
}

#[test]
#[ignore = "measures and prints; meaningful in release mode only"]
fn cost_of_tickets() {
    let (ring, session) = (ring(), [7; 1080]);
    let keys = keys_of(&ring);
    let ticket = keys.seal(&session, NOW_UNIX, NOW_UNIX).unwrap();
    let nanos = |what: &str, mut work: Box<dyn FnMut() + '_>| {
        const ROUNDS: u32 = 50_000;
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| work());
        println!("{what}: {} ns", (start.elapsed() / ROUNDS).as_nanos());
    };
    nanos(
        "seal a session of 1080 bytes",
        Box::new(|| drop(black_box(keys.seal(&session, NOW_UNIX, NOW_UNIX)))),
    );
    nanos("open it", Box::new(|| drop(black_box(keys.open(&ticket, NOW_UNIX)))));
    nanos("refuse one of another ring", Box::new(|| drop(black_box(keys.open(&[3; 1124], NOW_UNIX)))));
    nanos("derive the keys of a scope", Box::new(|| drop(black_box(keys_of(&ring)))));
}
