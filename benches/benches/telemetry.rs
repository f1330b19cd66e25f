//! Counting and recording: what each request pays on its worker, and what its line costs the log writer elsewhere.

use std::hint::black_box;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ringward_benches::{Certificates, CpuTime, HOST, criterion, thread_time};
use ringward_telemetry::{
    AccessRecord, ClosedSets, ClusterId, ConnectionFacts, HandshakeLineRate, Limits, ListenerId, LogOutput,
    LogStats, LogWriter, PeerFacts, PolicyId, PolicyOutcome, Polled, RecordReceiver, RecordSender, Registry,
    RouteId, TextField, record_queue,
};

/// A registry with the entities of one request.
struct Metrics {
    registry: Registry,
    listener: ListenerId,
    route: RouteId,
    policy: PolicyId,
    cluster: ClusterId,
}

impl Metrics {
    fn new() -> Metrics {
        let registry = Registry::new(ClosedSets::default(), Limits::default());
        let listener = registry.listener("edge");
        let (route, policy) = (registry.route(listener, "orders"), registry.policy("main"));
        let cluster = registry.cluster("orders");
        Metrics { registry, listener, route, policy, cluster }
    }
}

/// Everything that one allowed request counts, three histograms included.
fn counters(c: &mut Criterion<CpuTime>) {
    let Metrics { registry, listener, route, policy, cluster } = Metrics::new();
    let shard = registry.shard(0);
    let mut duration_ns = 1;
    c.bench_function("telemetry/counters_of_a_request", |b| {
        b.iter(|| {
            // Different buckets, as in life.
            duration_ns = duration_ns * 25_214_903_917 % 100_000_007;
            shard.policy_decided(policy, PolicyOutcome::Allowed, Some(black_box(duration_ns / 100)));
            shard.upstream_request(cluster, true);
            shard.upstream_response(cluster, duration_ns);
            shard.request_finished(route, black_box(200), duration_ns);
            shard.downstream_bytes(listener, 0, 128);
        });
    });
}

/// The access record of one request, filled and queued. The queue is emptied outside of the measured time, and its records
/// come back to be used again.
fn record(c: &mut Criterion<CpuTime>) {
    let metrics = Metrics::new();
    let connection = connection(&metrics);
    c.bench_function("telemetry/access_record_queued", |b| {
        b.iter_custom(|count| {
            let (sender, receiver) = record_queue(QUEUE_RECORDS);
            let mut writer = writer(&metrics, receiver);
            in_batches(count, |batch| {
                let started = thread_time();
                (0..batch).for_each(|_| push(&metrics, &connection, &sender));
                let took = thread_time() - started;
                drain(&mut writer);
                took
            })
        });
    });
}

/// Making the JSON line of one access record, which happens on the log writer's thread.
fn format_line(c: &mut Criterion<CpuTime>) {
    let metrics = Metrics::new();
    let connection = connection(&metrics);
    c.bench_function("telemetry/access_record_formatted", |b| {
        b.iter_custom(|count| {
            let (sender, receiver) = record_queue(QUEUE_RECORDS);
            let mut writer = writer(&metrics, receiver);
            in_batches(count, |batch| {
                (0..batch).for_each(|_| push(&metrics, &connection, &sender));
                let started = thread_time();
                drain(&mut writer);
                thread_time() - started
            })
        });
    });
}

fn in_batches(mut count: u64, mut run: impl FnMut(u64) -> Duration) -> Duration {
    let mut took = Duration::ZERO;
    while count > 0 {
        let batch = count.min(BATCH_RECORDS);
        took += run(batch);
        count -= batch;
    }
    took
}

fn push(metrics: &Metrics, connection: &Arc<ConnectionFacts>, sender: &RecordSender) {
    let mut record: Box<AccessRecord> = sender.blank(connection, 1_800_000_000_000_000_000);
    record.route = Some(metrics.route);
    record.policy = Some(metrics.policy);
    record.decision = Some(PolicyOutcome::Allowed);
    record.cluster = Some(metrics.cluster);
    record.upstream = Some(SocketAddr::from(([10, 0, 0, 11], 8080)).into());
    record.attempts = 1;
    record.status = 200;
    record.generation = 1;
    record.policy_ns = 9_000;
    record.upstream_first_byte_ns = 400_000;
    record.duration_ns = 500_000;
    record.sent_bytes = 128;
    record.set(TextField::RequestId, "000000000000002a-1");
    record.set(TextField::Method, "GET");
    record.set(TextField::Host, HOST);
    record.set(TextField::Path, "/orders/17/files/report.pdf");
    record.set(TextField::Rule, "orders");
    sender.push(record).expect("a queue with room");
}

fn connection(metrics: &Metrics) -> Arc<ConnectionFacts> {
    let peer = Certificates::new().peer();
    let mut facts =
        ConnectionFacts::new(0x2a, 0, metrics.listener, SocketAddr::from(([192, 0, 2, 7], 40_000)));
    facts.server_name = Some(HOST.into());
    facts.peer = Some(PeerFacts {
        name: peer.name().into(),
        fingerprint: peer.fingerprint_hex().into(),
        issuer: peer.issuer().into(),
        serial: peer.serial().into(),
        not_after_unix: peer.not_after_unix(),
        tenant: None,
    });
    Arc::new(facts)
}

fn writer(metrics: &Metrics, receiver: RecordReceiver) -> LogWriter {
    let output = LogOutput::from_writer(Box::new(io::sink()));
    let stats = Arc::new(LogStats::default());
    LogWriter::new(output, vec![receiver], metrics.registry.clone(), stats, HandshakeLineRate::default())
}

fn drain(writer: &mut LogWriter) {
    while writer.poll(Duration::ZERO, 0) != Polled::Idle {}
}

/// The default of `log.queue_records`.
const QUEUE_RECORDS: usize = 8192;
/// Few enough that all of them come back as spares.
const BATCH_RECORDS: u64 = 512;

criterion_group! {
    name = benches;
    config = criterion();
    targets = counters, record, format_line
}
criterion_main!(benches);
