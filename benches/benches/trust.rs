//! Trust: what is asked of a client that has been verified, on a new connection and again on a living one, and what the
//! control plane prepares for that.

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringward_benches::tls::{Pair, Setup, World};
use ringward_benches::{Certificates, CpuTime, criterion, thread_time};
use ringward_identity::{IdentitySource, TenantDefinition, TenantMap, TenantMatch};
use ringward_proxy::{Control, Materials, Snapshot};
use ringward_telemetry::{ClosedSets, Limits, Registry};
use ringward_testkit::{Authority, Crl};
use ringward_tls::bench::{Tickets, put, take};
use ringward_tls::{
    CrlIndex, CrlMode, DenyEntry, DenyList, DenyTarget, IssuerCertificate, IssuerId, KeyRing, ParsedCrl,
    Resumption, Revocation, RevocationDepth, RevocationParts, RevocationPolicy, Serial, SessionCache,
    StalePolicy, parse_crl,
};
use rustls_pki_types::UnixTime;

/// The gate on a living connection after the generation has moved, and so on a resumed handshake: the client of a resumed
/// session is judged again, from its chain to the deny list, by rules that the memo has an answer for. `no_lists`: without
/// CRLs. `million`: both its certificates are looked up in a list of a million, and it in a deny list of the largest size.
/// `admit` is the same for a chain that comes from elsewhere.
fn gate(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let certificates = &world.certificates;
    let crls = [&certificates.client_issuing, &certificates.client_root];
    let million = Revocation::new(RevocationParts {
        crls: crls.map(|issuer| Arc::new(build_index(issuer, &signed_list(issuer)))).into(),
        deny: Arc::new(long_deny_list()),
        ..RevocationParts::default()
    });
    let required =
        RevocationPolicy { crl: CrlMode::Required, stale: StalePolicy::Deny, depth: RevocationDepth::Chain };
    let mut group = c.benchmark_group("trust/gate");
    for (name, policy, revocation) in
        [("no_lists", None, Revocation::empty()), ("million", Some(required), million)]
    {
        let ring = Arc::new(KeyRing::random(UnixTime::now(), ROTATE_EVERY));
        let resumption = Resumption::Tickets(ring);
        let worker = world.worker(&Setup { resumption, policy, revocation, ..Setup::default() });
        let config = world.client_config(true);
        Pair::connect(&worker, &config);
        let Pair { session, .. } = Pair::connect(&worker, &config);
        assert!(session.resumed().is_some());
        group.bench_function(BenchmarkId::new("readmit", name), |b| {
            b.iter(|| worker.readmit(black_box(&session)).expect("a client that is let in"));
        });
        let chain = certificates.client.chain();
        group.bench_function(BenchmarkId::new("admit", name), |b| {
            b.iter(|| worker.admit(black_box(chain)).expect("a client that is let in"));
        });
    }
    group.finish();
}

/// What every request pays for that: reading the generation in force and comparing it with that of the worker's own view.
fn generation_check(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let config = ringward_config::parse(CONFIG, Path::new("/ringward.toml")).expect("a configuration");
    let mut materials = Materials::default();
    materials.credentials.insert(("edge".to_owned(), 0), vec![world.credential]);
    let registry = Registry::new(ClosedSets::default(), Limits::default());
    let snapshot = Snapshot::build(&config, &materials, 1, &registry).unwrap_or_else(|errors| {
        panic!("no snapshot: {errors:?}");
    });
    let control = Control::new(snapshot, 1);
    let view = control.snapshot();
    c.bench_function("trust/generation_check", |b| {
        b.iter(|| black_box(&view).generation() == black_box(&control).generation());
    });
}

/// A CRL of a million serial numbers of 20 octets. `build`: from its bytes to the index that is published, signature and
/// order included; how large that is, is written to standard error. `hit`, `miss`: one look-up, of serial numbers all over
/// the list and of others, so that little of it is in a cache.
fn crl(c: &mut Criterion<CpuTime>) {
    let issuer = Authority::root("Revoking CA");
    let list = signed_list(&issuer);
    let mut group = c.benchmark_group("trust/crl");
    group.sample_size(10).throughput(Throughput::Elements(ENTRIES as u64));
    group.bench_function("build", |b| b.iter(|| build_index(&issuer, black_box(&list))));
    group.finish();

    let index = build_index(&issuer, &list);
    assert_eq!(index.entries(), ENTRIES);
    // Lost only if nobody reads it.
    let _ = writeln!(
        std::io::stderr(),
        "trust/crl: {ENTRIES} entries, {} bytes as a CRL, {} bytes as an index",
        list.len(),
        index.memory_bytes()
    );
    let mut group = c.benchmark_group("trust/crl");
    let spread = |lookup: usize| lookup * (ENTRIES / LOOKUPS);
    for (name, first, found) in [("hit", 0, true), ("miss", ENTRIES, false)] {
        let serials: Vec<Serial> = (0..LOOKUPS).map(|lookup| serial(first + spread(lookup))).collect();
        assert!(serials.iter().all(|serial| index.find(serial).is_some() == found));
        let mut next = serials.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| index.find(black_box(next.next().expect("endless"))));
        });
    }
    group.finish();
}

/// Whether a client is on a deny list of the largest size, with as many entries of each kind. It is not.
fn deny_list(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let worker = world.worker(&Setup::default());
    let Pair { session, .. } = Pair::connect(&worker, &world.client_config(false));
    let (path, peer) = (session.peer_path().expect("a path"), session.peer_identity().expect("a peer"));
    let list = long_deny_list();
    let now = now_unix();
    c.bench_function("trust/deny_list", |b| b.iter(|| list.find(black_box(path), black_box(peer), now)));
}

/// To which tenant a client belongs, among some that share its bundle, each with a SPIFFE trust domain. Asked once per chain
/// that the memo does not know.
fn tenants(c: &mut Criterion<CpuTime>) {
    let peer = Certificates::new().peer();
    let mut group = c.benchmark_group("trust/tenant");
    for size in [10, 1000] {
        let tenant = |index: usize| TenantDefinition {
            name: format!("tenant-{index}").into(),
            trust: vec!["clients".to_owned()],
            matches: vec![TenantMatch::SpiffeTrustDomain(format!("tenant-{index}.example"))],
            identity: IdentitySource::Name,
        };
        let owner = TenantDefinition {
            name: "owner".into(),
            matches: vec![TenantMatch::SpiffeTrustDomain("example.com".to_owned())],
            ..tenant(0)
        };
        let map = TenantMap::build((1..size).map(tenant).chain([owner]).collect());
        let map = map.expect("rules that do not overlap");
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| map.assign(black_box("clients"), black_box(&peer)));
        });
    }
    group.finish();
}

/// A ticket around a session of the size that a chain of two certificates makes it, without the handshake.
fn ticket(c: &mut Criterion<CpuTime>) {
    let now = now_unix();
    let tickets = Tickets::new(&KeyRing::random(UnixTime::now(), ROTATE_EVERY), SCOPE);
    let session = vec![b'x'; SESSION_BYTES];
    let ticket = tickets.seal(&session, now, now).expect("a key that seals");
    let mut group = c.benchmark_group("trust/ticket");
    group.bench_function("seal", |b| b.iter(|| tickets.seal(black_box(&session), now, now)));
    group.bench_function("open", |b| {
        b.iter(|| tickets.open(black_box(&ticket), now).expect("a ticket that opens"));
    });
    group.finish();
}

/// A session put into the shared cache, which is full, and taken out again when 64 more have come. `alone`: by the only
/// worker. `beside_another`: while another thread does the same all the time, for which the machine needs two cores.
fn session_cache(c: &mut Criterion<CpuTime>) {
    let cache = SessionCache::new(CACHE_ENTRIES, CACHE_ENTRIES * 2048);
    let now = now_unix();
    let mut filling = Ids(0);
    for _ in 0..2 * CACHE_ENTRIES {
        put(&cache, &filling.next(), SCOPE, vec![b'x'; SESSION_BYTES], now);
    }
    let mut group = c.benchmark_group("trust/session_cache");
    group.bench_function("alone", |b| b.iter_custom(|count| put_and_take(&cache, &mut Ids(1 << 40), count)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut ids = Ids(1 << 41);
            while !stop.load(Ordering::Relaxed) {
                put_and_take(&cache, &mut ids, 1000);
            }
        });
        group.bench_function("beside_another", |b| {
            b.iter_custom(|count| put_and_take(&cache, &mut Ids(1 << 42), count));
        });
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

/// CPU time of this thread for `count` sessions, each put and taken.
fn put_and_take(cache: &SessionCache, ids: &mut Ids, count: u64) -> Duration {
    let now = now_unix();
    let mut waiting = std::collections::VecDeque::with_capacity(BETWEEN + 1);
    let started = thread_time();
    for _ in 0..count {
        let id = ids.next();
        // A copy, as rustls makes one.
        put(cache, &id, SCOPE, vec![b'x'; SESSION_BYTES], now);
        waiting.push_back(id);
        if waiting.len() > BETWEEN {
            let id = waiting.pop_front().expect("more than one");
            black_box(take(cache, &id, SCOPE, now));
        }
    }
    thread_time() - started
}

/// Session ids that look like random ones.
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> [u8; 32] {
        self.0 += 1;
        let mut id = [0; 32];
        for (index, bytes) in id.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&mixed(self.0 * 4 + index as u64).to_be_bytes());
        }
        id
    }
}

/// A list of [`ENTRIES`] certificates, in DER.
fn signed_list(issuer: &Authority) -> Vec<u8> {
    let list = (0..ENTRIES).fold(Crl::new(), |list, index| list.revoke(serial(index).as_bytes()));
    issuer.sign_crl(&list)
}

/// What the control plane makes of a list.
fn build_index(issuer: &Authority, list: &[u8]) -> CrlIndex {
    let issuer = IssuerCertificate::from_der(issuer.certificate()).expect("an authority");
    match parse_crl(list, &[issuer], now_unix(), || ()).expect("a list that is right") {
        ParsedCrl::Complete(index) => index,
        ParsedCrl::Delta(_) => unreachable!("it is no delta"),
    }
}

/// Serial numbers of 20 octets, in no order.
fn serial(index: usize) -> Serial {
    let index = index as u64;
    let mut octets = [0x11; 20];
    octets[1..9].copy_from_slice(&mixed(2 * index).to_be_bytes());
    octets[9..17].copy_from_slice(&mixed(2 * index + 1).to_be_bytes());
    Serial::new(&octets).expect("20 octets")
}

/// As many entries of each kind as there can be.
fn long_deny_list() -> DenyList {
    let mut list = DenyList::new();
    let now = now_unix();
    for index in 0..DENY_ENTRIES {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&mixed(index as u64).to_be_bytes());
        let target = match index % 5 {
            0 => DenyTarget::Serial { issuer: IssuerId(hash), serial: serial(index) },
            1 => DenyTarget::Spki(hash),
            2 => DenyTarget::Fingerprint(hash),
            3 => DenyTarget::Identity(format!("spiffe://example.com/denied/{index}").into()),
            _ => DenyTarget::Ca(IssuerId(hash)),
        };
        let (reason, by) = ("for a bench".to_owned(), "bench".to_owned());
        list.add(DenyEntry { target, reason, added_unix: now, by, expires_unix: None }).expect("room");
    }
    list
}

/// Spreads neighbouring numbers (the finalizer of splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn now_unix() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).expect("a time of this age")
}

/// Entries of a CRL. Without optimisation, where nothing is measured, building a million would take most of a minute.
const ENTRIES: usize = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };
/// Entries of a deny list, the same.
const DENY_ENTRIES: usize = if cfg!(debug_assertions) { 1000 } else { ringward_tls::DENY_ENTRIES_MAX };
/// More than branch prediction learns by heart.
const LOOKUPS: usize = 4096;
/// The default of `server.session_cache`.
const CACHE_ENTRIES: usize = 20_000;
/// Sessions that are put before one is taken.
const BETWEEN: usize = 64;
/// A session with a leaf and an intermediate with keys on P-256.
const SESSION_BYTES: usize = 1080;
const SCOPE: [u8; 32] = [7; 32];
/// The least that there can be a snapshot of.
const CONFIG: &str = r#"
[cluster.app]
endpoints = "127.0.0.1:1"

[[listener]]
name = "edge"
bind = "127.0.0.1:0"
resumption = "off"

[[listener.host]]
names = "api.example.com"
certificate = { chain = "server.pem", key = "server.key" }
client_auth = { mode = "off" }
danger_no_policy = true

[[listener.host.route]]
match = { path = "/{rest...}" }
cluster = "app"
"#;
const ROTATE_EVERY: Duration = Duration::from_secs(4 * 3600);

criterion_group! {
    name = benches;
    config = criterion();
    targets = gate, generation_check, crl, deny_list, tenants, ticket, session_cache
}
criterion_main!(benches);
