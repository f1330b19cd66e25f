//! Session tickets as clients send them: nothing opens but what was sealed here, for this scope, while the key is in use, and it
//! opens to what was sealed.
//!
//! The input is two octets that choose a ticket, and then what is done to it, three octets each: a position and the bits that are
//! flipped there. Or it is the ticket, if it begins with `*`.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringward_tls::KeyRing;
use ringward_tls::bench::Tickets;
use rustls_pki_types::UnixTime;

fuzz_target!(|input: &[u8]| {
    let world = &*WORLD;
    let ticket = match input {
        [b'*', ticket @ ..] => ticket.to_vec(),
        [choice, cut, changes @ ..] => {
            changed(&world.sealed[usize::from(*choice) % world.sealed.len()].ticket, *cut, changes)
        }
        _ => return,
    };
    let sealed = world.sealed.iter().find(|sealed| sealed.ticket == ticket);
    let opened = world.tickets.open(&ticket, NOW_UNIX);
    assert_eq!(opened, sealed.map(|sealed| (NOW_UNIX - 60, sealed.session.clone())));
    assert_eq!(world.elsewhere.open(&ticket, NOW_UNIX), None, "another scope");
    assert_eq!(world.tickets.open(&ticket, NOW_UNIX + 9 * 3600), None, "its key is gone");
});

/// The ticket with bits flipped, and perhaps cut short.
fn changed(ticket: &[u8], cut: u8, changes: &[u8]) -> Vec<u8> {
    let mut ticket = ticket.to_vec();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % ticket.len();
        ticket[at] ^= change[2];
    }
    ticket.truncate(ticket.len().saturating_sub(usize::from(cut)));
    ticket
}

struct World {
    tickets: Tickets,
    elsewhere: Tickets,
    sealed: Vec<Sealed>,
}

struct Sealed {
    session: Vec<u8>,
    ticket: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_UNIX.unsigned_abs()));
    let ring = KeyRing::random(now, Duration::from_secs(4 * 3600));
    let tickets = Tickets::new(&ring, [1; 32]);
    let seal = |session: Vec<u8>| {
        let ticket = tickets.seal(&session, NOW_UNIX - 60, NOW_UNIX).expect("a key that seals");
        Sealed { session, ticket }
    };
    let sealed = [vec![], vec![b'x'], vec![b'y'; 100], vec![b'z'; 1100]].map(seal).into();
    World { elsewhere: Tickets::new(&ring, [2; 32]), tickets, sealed }
});

const NOW_UNIX: i64 = 1_800_000_000;
