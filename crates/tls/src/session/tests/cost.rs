//! What a handshake and a record cost, printed. `cargo test --release -p ringward-tls -- --ignored
//! --nocapture cost`.

use std::time::{Duration, Instant};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};

use super::resumption::Site;
use super::*;

fn p256() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples[samples.len() / 2]
}

/// A leaf below an intermediate below a root, P-256 throughout, and the root.
fn chain(name: &str, purpose: ExtendedKeyUsagePurpose) -> (Ca, Leaf) {
    let root = Ca::root_with_key(&format!("{name} root"), p256(), |_| {});
    let issuing = root.intermediate_with_key(&format!("{name} issuing"), p256());
    let leaf = issuing.issue(name, |p| {
        p.subject_alt_names = vec![rcgen::SanType::DnsName(HOST.try_into().unwrap())];
        p.extended_key_usages = vec![purpose];
    });
    (root, leaf.via([&issuing]))
}

/// Time that the session takes for one handshake, and what it was.
fn handshake(worker: &WorkerTls, config: &Arc<ClientConfig>) -> (Duration, Option<ResumedBy>) {
    let mut client = ClientConnection::new(config.clone(), ServerName::try_from(HOST).unwrap()).unwrap();
    let mut spent = Duration::ZERO;
    let start = Instant::now();
    let mut session = new_session(worker);
    spent += start.elapsed();
    let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
    while session.is_handshaking() {
        while client.wants_write() {
            client.write_tls(&mut incoming).unwrap();
        }
        let start = Instant::now();
        let progress = session.process(&mut incoming, &mut plain, &mut outgoing).unwrap();
        spent += start.elapsed();
        incoming.drain(..progress.consumed);
        let mut flight = &outgoing[..];
        while !flight.is_empty() {
            client.read_tls(&mut flight).unwrap();
            client.process_new_packets().unwrap();
        }
        outgoing.clear();
    }
    (spent, session.resumed())
}

#[test]
#[ignore = "measures and prints; meaningful in release mode only"]
fn cost_of_handshakes_and_records() {
    let (server_ca, server) = chain("server", ExtendedKeyUsagePurpose::ServerAuth);
    let (client_ca, alice) = chain("alice", ExtendedKeyUsagePurpose::ClientAuth);
    let pki = Pki { server_ca, client_ca, server, ..Pki::new() };
    let config = Arc::new(pki.client_config(Some(&alice)));
    let host = |mode| pki.host(mode);
    for (name, mode, entries) in [
        ("full handshake, mTLS, chain of 2, nothing remembered", ClientAuthMode::Required, 0),
        ("full handshake, mTLS, chain of 2, remembered", ClientAuthMode::Required, 16),
        ("full handshake, no client authentication", ClientAuthMode::Off, 0),
    ] {
        let worker = host(mode).worker_view(&PathMemo::new(entries)).unwrap();
        handshake(&worker, &config);
        let spent = median((0..500).map(|_| handshake(&worker, &config).0).collect());
        println!("{name}: {:.1} µs", spent.as_secs_f64() * 1e6);
    }

    for site in Site::each() {
        let options = pki.host_options(&pki.options(ClientAuthMode::Required), pki.bundle());
        let options = crate::HostTlsOptions { resumption: site.resumption.clone(), ..options };
        let worker = HostTls::build(&options).unwrap().worker_view(&PathMemo::new(16)).unwrap();
        let mut config = pki.client_config(Some(&alice));
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        assert_eq!(handshake(&worker, &config).1, None);
        let spent = median(
            (0..500)
                .map(|_| {
                    let (spent, resumed) = handshake(&worker, &config);
                    assert_eq!(resumed, Some(site.by));
                    spent
                })
                .collect(),
        );
        println!(
            "resumed handshake by {}, mTLS, chain of 2: {:.1} µs",
            site.by.as_str(),
            spent.as_secs_f64() * 1e6
        );
    }
    let auth = pki.options(ClientAuthMode::Required);
    let host_of_one = HostTls::build(&pki.host_options(&auth, pki.bundle())).unwrap();
    let worker = host_of_one.worker_view(&PathMemo::new(16)).unwrap();
    let mut pair = pki.connect(&worker, Some(&alice));
    pair.run().unwrap();
    let readmit = || {
        let start = Instant::now();
        worker.readmit(&pair.session).unwrap();
        start.elapsed()
    };
    readmit();
    println!(
        "readmit, chain of 2, remembered: {} ns",
        median((0..20_000).map(|_| readmit()).collect()).as_nanos()
    );

    let mut pair = Pair::new(
        &host(ClientAuthMode::Off).worker_view(&PathMemo::new(0)).unwrap(),
        pki.client_config(None),
    );
    pair.run().unwrap();
    let (mut received, mut sealed) = (Vec::new(), Vec::new());
    let mut outgoing = Vec::new();
    for _ in 0..20_000 {
        pair.client_says(&[b'x'; 200]);
        pair.client.write_tls(&mut pair.incoming).unwrap();
        let start = Instant::now();
        pair.session.process(&mut pair.incoming, &mut pair.plain, &mut outgoing).unwrap();
        received.push(start.elapsed());
        pair.incoming.clear();
        pair.plain.clear();
        let start = Instant::now();
        pair.session.encrypt(&[b'y'; 300], &mut outgoing).unwrap();
        sealed.push(start.elapsed());
        outgoing.clear();
    }
    println!("process, one record of 200 bytes: {} ns", median(received).as_nanos());
    println!("encrypt, 300 bytes: {} ns", median(sealed).as_nanos());
    let large = vec![0; 16 * 1024];
    let sealed = median(
        (0..5000)
            .map(|_| {
                outgoing.clear();
                let start = Instant::now();
                pair.session.encrypt(&large, &mut outgoing).unwrap();
                start.elapsed()
            })
            .collect(),
    );
    println!("encrypt, 16 KiB: {} ns", sealed.as_nanos());
}
