//! Revocation lists: any bytes yield a list or an error. Nothing is believed that its issuer has not signed, and what it has
//! signed, however strange, is read the same way whichever form it comes in.
//!
//! The input is a list without its signature (a TBSCertList), which is signed here, or, behind a first octet of `*`, a whole list.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringward_fuzz::Signer;
use ringward_testkit::{Authority, Crl, RevocationReason, der};
use ringward_tls::{CrlError, CrlFloors, CrlHead, IssuerCertificate, ParsedCrl, Serial, parse_crl};

fuzz_target!(|input: &[u8]| {
    let world = &*WORLD;
    if let [b'*', whole @ ..] = input {
        if let Ok(list) = parse(world, whole) {
            let signed = world.lists.iter().any(|tbs| whole.windows(tbs.len()).any(|part| part == tbs));
            // PEM is decoded before it is looked at.
            assert!(signed || whole.starts_with(b"-"), "believed without a signature: {list:?}");
        }
        return;
    }
    let [algorithm, signature] = world.signer.sign(input);
    let whole = der::sequence(&[input.to_vec(), algorithm, signature]);
    match parse(world, &whole) {
        Ok(list) => check(&list),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "one line: {error}"),
    }
});

// Random bytes are no list, so the search starts from real ones.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if size > 2 {
        return fuzzer_mutate(data, size, max_size);
    }
    let starts = &WORLD.starts;
    let start = &starts[seed as usize % starts.len()];
    if start.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..start.len()].copy_from_slice(start);
    start.len()
});

fn parse(world: &World, bytes: &[u8]) -> Result<ParsedCrl, CrlError> {
    parse_crl(bytes, std::slice::from_ref(&world.issuer), ringward_fuzz::now_unix(), || ())
}

fn check(list: &ParsedCrl) {
    let (head, entries, memory, delta) = match list {
        ParsedCrl::Complete(index) => (index.head(), index.entries(), index.memory_bytes(), false),
        ParsedCrl::Delta(delta) => (delta.head(), delta.entries(), delta.memory_bytes(), true),
    };
    assert!(head.this_update_unix < head.next_update_unix);
    assert!(memory <= 1024 + 64 * entries, "{memory} bytes for {entries} entries");
    if let ParsedCrl::Complete(index) = list {
        // Any answer will do, but there must be one.
        for octets in [&[0x42][..], &[1; 20], &[0x7f; 20]] {
            let _ = index.find(&Serial::new(octets).expect("1 to 20 octets"));
        }
    }
    check_floor(head, delta);
}

fn check_floor(head: &CrlHead, delta: bool) {
    let mut floors = CrlFloors::new();
    floors.raise(head, delta);
    floors.check(head, delta).expect("the list that was seen last");
    let written = floors.serialize();
    assert_eq!(CrlFloors::parse(&written), Ok(floors));
}

struct World {
    issuer: IssuerCertificate,
    signer: Signer,
    /// What the issuer has signed itself.
    lists: Vec<Vec<u8>>,
    starts: Vec<Vec<u8>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::root("Fuzz CA");
    let distribution_point =
        der::sequence(&[der::context(0, &der::context(0, &der::context_primitive(6, b"http://a/")))]);
    let wholes = [
        Crl::new(),
        Crl::new().number(7).revoke(&[0x42]).revoke_for(&[1; 20], RevocationReason::KeyCompromise),
        Crl::new().number(8).delta_of(7).revoke_for(&[0x42], RevocationReason::RemoveFromCrl),
        Crl::new().revoke(&[0x7f; 20]).extension("2.5.29.28", true, &distribution_point),
    ]
    .map(|crl| authority.sign_crl(&crl));
    let lists: Vec<_> = wholes.iter().map(|whole| ringward_fuzz::signed_part(whole).to_vec()).collect();
    let whole_starts = wholes.iter().map(|whole| [b"*", &whole[..]].concat());
    World {
        issuer: IssuerCertificate::from_der(authority.certificate()).expect("an authority"),
        signer: Signer::of(&authority),
        starts: lists.iter().cloned().chain(whole_starts).collect(),
        lists,
    }
});
