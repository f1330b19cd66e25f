//! TLS: our side of handshakes, and of the records that carry one small exchange. The client is rustls' own, in memory, and
//! its time is not counted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringward_benches::{Certificates, CpuTime, HOST, criterion, thread_time};
use ringward_tls::{
    ClientAuthMode, Credential, CredentialOptions, CredentialSource, HelloReader, HostTls, HostTlsOptions,
    PLAINTEXT_RECORD_BYTES_MAX, PathMemo, RECORD_OVERHEAD_BYTES, ServerSession, TrustBundle, WorkerTls,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};

/// A full handshake with X25519, a client certificate below an intermediate, and P-256 signatures. `verified`: the chain is
/// new to us, as on a client's first connection to a worker. `remembered`: the memo knows it, and only the client's proof
/// that it has the key is checked. `no_client_certificate`: what mutual authentication adds, by leaving it out.
fn handshake(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let mut group = c.benchmark_group("tls/handshake");
    for (name, mode, memo_entries) in [
        ("verified", ClientAuthMode::Required, 0),
        ("remembered", ClientAuthMode::Required, 16),
        ("no_client_certificate", ClientAuthMode::Off, 0),
    ] {
        let worker = world.worker(mode, memo_entries);
        // Fills the memo.
        world.connect(&worker);
        group.bench_function(name, |b| {
            b.iter_custom(|count| (0..count).map(|_| world.connect(&worker).took).sum());
        });
    }
    group.finish();
}

/// Reading a ClientHello for its server name, before the session that reads it again.
fn client_hello(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let mut hello = Vec::new();
    write_all(&mut world.client(), &mut hello);
    c.bench_function("tls/client_hello", |b| {
        b.iter(|| HelloReader::new().feed(&hello).expect("a hello that is right").expect("a whole hello"));
    });
}

/// One received record, of the size of a small request and of the largest size, each in a call of its own.
fn process(c: &mut Criterion<CpuTime>) {
    let world = World::new();
    let worker = world.worker(ClientAuthMode::Required, 16);
    let mut group = c.benchmark_group("tls/process");
    for bytes in [200, PLAINTEXT_RECORD_BYTES_MAX] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter_custom(|count| {
                let mut pair = world.connect(&worker);
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
    let worker = world.worker(ClientAuthMode::Required, 16);
    let mut group = c.benchmark_group("tls/encrypt");
    for bytes in [300, PLAINTEXT_RECORD_BYTES_MAX] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            // A new session for each measurement: the keys of one are renewed after 16 million records.
            b.iter_custom(|count| {
                let Pair { mut session, .. } = world.connect(&worker);
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

/// What both ends need.
struct World {
    credential: Arc<Credential>,
    trust: Arc<TrustBundle>,
    client: Arc<ClientConfig>,
}

/// Two ends whose handshake is complete, and how long our part of it took.
struct Pair {
    client: ClientConnection,
    session: ServerSession,
    took: Duration,
}

impl Pair {
    /// Lets the client send records, and returns how long it took us to receive them one by one.
    fn receive(&mut self, records: u64, bytes: usize) -> Duration {
        let plain = vec![b'x'; bytes];
        let sent: Vec<Vec<u8>> = (0..records)
            .map(|_| {
                let mut record = Vec::with_capacity(bytes + RECORD_OVERHEAD_BYTES);
                self.client.writer().write_all(&plain).expect("room for a record");
                write_all(&mut self.client, &mut record);
                record
            })
            .collect();
        let (mut received, mut outgoing) = (Vec::with_capacity(bytes), Vec::new());
        let started = thread_time();
        for mut record in sent {
            received.clear();
            let progress = self.session.process(&mut record, &mut received, &mut outgoing);
            assert_eq!(progress.expect("a record that is right").consumed, record.len());
            assert_eq!(received.len(), bytes);
        }
        thread_time() - started
    }
}

impl World {
    fn new() -> World {
        let certificates = Certificates::new();
        let (chain_pem, key_pem) = (certificates.server.chain_pem(), certificates.server.key_pem());
        let source = CredentialSource {
            chain_file: Path::new("server.pem"),
            chain_pem: chain_pem.as_bytes(),
            key_file: Path::new("server.key"),
            key_pem: key_pem.as_bytes(),
        };
        let now = UnixTime::now();
        let credential =
            Credential::from_pem(&source, CredentialOptions::default(), now).expect("a credential");
        let anchors = [(PathBuf::from("clients.pem"), certificates.client_root.pem().into_bytes())];
        let (trust, _) = TrustBundle::from_pem("clients", &anchors, now).expect("a bundle");
        World {
            credential: Arc::new(credential),
            trust: Arc::new(trust),
            client: client_config(&certificates),
        }
    }

    fn worker(&self, mode: ClientAuthMode, memo_entries: usize) -> WorkerTls {
        let options = HostTlsOptions::new(mode);
        let host =
            HostTls::build(&options, self.credential.clone(), Some(self.trust.clone())).expect("a host");
        host.worker_view(&PathMemo::new(memo_entries)).expect("a host that was built")
    }

    fn client(&self) -> ClientConnection {
        let name = ServerName::try_from(HOST).expect("a name");
        ClientConnection::new(self.client.clone(), name).expect("a client")
    }

    fn connect(&self, worker: &WorkerTls) -> Pair {
        let mut client = self.client();
        let started = thread_time();
        let mut session = ServerSession::new(worker).expect("a session");
        let mut took = thread_time() - started;
        let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
        while session.is_handshaking() {
            write_all(&mut client, &mut incoming);
            let started = thread_time();
            let progress = session.process(&mut incoming, &mut plain, &mut outgoing).expect("a good client");
            took += thread_time() - started;
            incoming.drain(..progress.consumed);
            let mut flight = &outgoing[..];
            while !flight.is_empty() {
                client.read_tls(&mut flight).expect("reading from memory");
                client.process_new_packets().expect("a good server");
            }
            outgoing.clear();
        }
        Pair { client, session, took }
    }
}

/// One key exchange group that both sides have, so that the figures are comparable with those of the side-by-side kit.
fn client_config(certificates: &Certificates) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates.server_root.certificate().clone()).expect("a root");
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let client = &certificates.client;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(client.chain().to_vec(), client.key())
        .expect("a client certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Moves all that the client has to send behind `out`.
fn write_all(client: &mut ClientConnection, out: &mut Vec<u8>) {
    while client.wants_write() {
        client.write_tls(out).expect("writing to memory");
    }
}

/// Few enough that the records stay in the cache, many enough that the clock's own time does not show.
const BATCH_RECORDS: u64 = 64;

criterion_group! {
    name = benches;
    config = criterion();
    targets = handshake, client_hello, process, encrypt
}
criterion_main!(benches);
