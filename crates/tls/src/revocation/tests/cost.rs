//! What a million revoked certificates cost, printed. `cargo test --release -p ringward-tls -- --ignored --nocapture
//! million`.

use std::hint::black_box;

use super::*;
use crate::testing::Noise;

const ENTRIES: usize = 1_000_000;

/// Random numbers of 20 octets, as most CAs give them: the longest that there are.
fn octets(noise: &mut Noise) -> [u8; 20] {
    let mut octets: [u8; 20] = noise.bytes(20).try_into().unwrap();
    octets[0] = octets[0] & 0x7f | 0x40;
    octets
}

/// `VmHWM` and `VmRSS` of this process in bytes: the most that it has ever occupied, and what it does now.
fn resident() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    (field("VmHWM"), field("VmRSS"))
}

/// What this thread has computed so far, whatever else the machine does.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "measures and prints; meaningful in release mode only"]
fn million_revoked_certificates() {
    let root = Authority::root("Root");
    let mut noise = Noise(7);
    let mut crl = Crl::new();
    for _ in 0..ENTRIES {
        crl = crl.revoke_for(&octets(&mut noise), Reason::KeyCompromise);
    }
    let der = root.sign_crl(&crl);
    drop(crl);
    let issuers = [issuer(&root)];

    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (_, before) = resident();
    let start = cpu_time();
    let ParsedCrl::Complete(index) = parse_crl(&der, &issuers, now(), || ()).unwrap() else {
        panic!("a delta")
    };
    let took = cpu_time() - start;
    let (peak, after) = resident();
    println!("list: {} bytes of DER, read, verified and indexed in {took:?}", der.len());
    println!("index: {} bytes", index.memory_bytes());
    println!("resident: {} bytes more at the peak, {} bytes more afterwards", peak - before, after - before);
    assert_eq!(index.entries(), ENTRIES);
    assert!(index.memory_bytes() < 25_000_000 && peak - before < 25_000_000);

    time_look_ups(&index, ENTRIES);
    let short = (0..1000)
        .fold((Crl::new(), Noise(7)), |(crl, mut noise), _| (crl.revoke(&octets(&mut noise)), noise));
    time_look_ups(&complete(&root, &short.0), 1000);

    let issued = root.issue(&Leaf::client("a"));
    let client = Client::new(&issued, &root);
    let revocation = with_lists([Arc::new(index)]);
    let start = cpu_time();
    for _ in 0..ENTRIES {
        assert!(black_box(client.check(black_box(&revocation), &REQUIRED, now_once())).is_ok());
    }
    println!(
        "check of a path of one certificate: {:.0} ns",
        (cpu_time() - start).as_nanos() as f64 / ENTRIES as f64
    );
    let start = cpu_time();
    drop(revocation);
    println!("dropped in {:?}", (cpu_time() - start));
}

/// At random, so that hardly anything is in a cache when the list is long.
fn time_look_ups(index: &CrlIndex, entries: usize) {
    let mut noise = Noise(7);
    let listed: Vec<_> = (0..entries).map(|_| serial(&octets(&mut noise))).collect();
    let others: Vec<_> = (0..entries).map(|_| serial(&octets(&mut noise))).collect();
    for (name, serials, found) in [("listed", &listed, true), ("not listed", &others, false)] {
        let start = cpu_time();
        for serial in serials.iter().cycle().take(ENTRIES) {
            assert_eq!(black_box(index.find(black_box(serial))).is_some(), found);
        }
        let each = (cpu_time() - start).as_nanos() as f64 / ENTRIES as f64;
        println!("{entries} entries, look-up of one that is {name}: {each:.0} ns");
    }
}

/// A time within the list's, without asking the clock.
fn now_once() -> i64 {
    static NOW: std::sync::LazyLock<i64> = std::sync::LazyLock::new(now);
    *NOW
}
