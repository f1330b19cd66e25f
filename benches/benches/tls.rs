//! TLS: our side of handshakes, full and resumed, and of the records that carry one small exchange. The client is rustls' own,
//! in memory, and its time is not counted.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringward_benches::tls::{Pair, Setup, World, client, write_all};
use ringward_benches::{CpuTime, criterion, thread_time};
use ringward_tls::{
    ClientAuthMode, HelloReader, KeyRing, PLAINTEXT_RECORD_BYTES_MAX, ResumedBy, Resumption, SessionCache,
};
use rustls_pki_types::UnixTime;

/// A full handshake with X25519, a client certificate below an intermediate, and P-256 signatures. `verified`: the chain is
/// new to us, as on a client's first connection to a worker. `remembered`: the memo knows it, and only the client's proof
/// that it has the key is checked. `no_client_certificate`: what mutual authentication adds, by leaving it out.
fn handshake(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let config = world.client_config(false);
    let mut group = c.benchmark_group("tls/handshake");
    for (name, mode, memo_entries) in [
        ("verified", ClientAuthMode::Required, 0),
        ("remembered", ClientAuthMode::Required, 16),
        ("no_client_certificate", ClientAuthMode::Off, 0),
    ] {
        let worker = world.worker(&Setup { mode, memo_entries, ..Setup::default() });
        // Fills the memo.
        Pair::connect(&worker, &config);
        group.bench_function(name, |b| {
            b.iter_custom(|count| (0..count).map(|_| Pair::connect(&worker, &config).took).sum());
        });
    }
    group.finish();
}

/// A handshake of a client that comes back, the memo knows its chain. `full_*`: it has no session, and is given one; what
/// giving it costs is the difference to `tls/handshake/remembered`. `resumed_*`: it resumes, is judged by the rules of the
/// moment, and is given its next session.
fn resumption(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let ring = KeyRing::random(UnixTime::now(), Duration::from_secs(4 * 3600));
    let cache = SessionCache::new(20_000, 64 << 20);
    let mut group = c.benchmark_group("tls/resumption");
    for (name, resumption, by) in [
        ("ticket", Resumption::Tickets(Arc::new(ring)), ResumedBy::Ticket),
        ("cache", Resumption::Cache(Arc::new(cache)), ResumedBy::Cache),
    ] {
        let worker = world.worker(&Setup { resumption, ..Setup::default() });
        for (kind, resuming) in [("full", false), ("resumed", true)] {
            let config = world.client_config(resuming);
            Pair::connect(&worker, &config);
            let expected = resuming.then_some(by);
            group.bench_function(BenchmarkId::new(kind, name), |b| {
                b.iter_custom(|count| {
                    let connect = |_| {
                        let pair = Pair::connect(&worker, &config);
                        assert_eq!(pair.session.resumed(), expected);
                        pair.took
                    };
                    (0..count).map(connect).sum()
                });
            });
        }
    }
    group.finish();
}

/// Reading a ClientHello for its server name, before the session that reads it again. `resuming`: with a ticket in it.
fn client_hello(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let ring = Arc::new(KeyRing::random(UnixTime::now(), Duration::from_secs(4 * 3600)));
    let worker = world.worker(&Setup { resumption: Resumption::Tickets(ring), ..Setup::default() });
    let mut group = c.benchmark_group("tls/client_hello");
    for (name, resuming) in [("new", false), ("resuming", true)] {
        let config = world.client_config(resuming);
        Pair::connect(&worker, &config);
        let mut hello = Vec::new();
        write_all(&mut client(&config), &mut hello);
        group.bench_function(name, |b| {
            b.iter(|| {
                HelloReader::new().feed(&hello).expect("a hello that is right").expect("a whole hello")
            });
        });
    }
    group.finish();
}

/// One received record, of the size of a small request and of the largest size, each in a call of its own.
fn process(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let (worker, config) = (world.worker(&Setup::default()), world.client_config(false));
    let mut group = c.benchmark_group("tls/process");
    for bytes in [200, PLAINTEXT_RECORD_BYTES_MAX] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter_custom(|count| {
                let mut pair = Pair::connect(&worker, &config);
                let mut took = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let batch = left.min(BATCH_RECORDS);
                    took += pair.receive(batch, bytes);
                    left -= batch;
                }
                took
            });
        });
    }
    group.finish();
}

/// One record to be sent, of the size of a small response and of the largest size.
fn encrypt(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let (worker, config) = (world.worker(&Setup::default()), world.client_config(false));
    let mut group = c.benchmark_group("tls/encrypt");
    for bytes in [300, PLAINTEXT_RECORD_BYTES_MAX] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            // A new session for each measurement: the keys of one are renewed after 16 million records.
            b.iter_custom(|count| {
                let Pair { mut session, .. } = Pair::connect(&worker, &config);
                let (plain, mut outgoing) = (vec![b'x'; bytes], Vec::with_capacity(bytes + 64));
                let started = thread_time();
                for _ in 0..count {
                    outgoing.clear();
                    session.encrypt(&plain, &mut outgoing).expect("an open session");
                }
                thread_time() - started
            });
        });
    }
    group.finish();
}

/// Few enough that the records stay in the cache, many enough that the clock's own time does not show.
const BATCH_RECORDS: u64 = 64;

criterion_group! {
    name = benches;
    config = criterion();
    targets = handshake, resumption, client_hello, process, encrypt
}
criterion_main!(benches);
