//! What a worker allocates for a request once everything has the size that traffic needs.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use ringward_proxy::{Control, DriverMode, ListenSocket, Phase, WorkerOptions, run_worker};
use ringward_telemetry::{Limits, LogOutput, LogTarget, LogThread, Registry, record_queue};
use ringward_testkit::{
    Authority, Client, Leaf, Pki, Upstream, allocations, count_allocations_of_this_thread,
};
use ringward_tls::CrlFloors;

use crate::{load, logs, publish, server, trust};

/// A worker on a thread of its own, as in the product, without a control plane.
struct Stage {
    control: Arc<Control>,
    address: SocketAddr,
    client: Client,
    thread: Option<JoinHandle<()>>,
    _log: LogThread,
    _upstream: Upstream,
    _pki: Pki,
}

impl Stage {
    fn new(access: &str) -> Stage {
        let (pki, root, upstream) = (Pki::new(), Authority::root("Root"), Upstream::start());
        let server = pki.write_pem("server", &root.issue(&Leaf::server("localhost")));
        let ca = pki.write_authorities("ca.pem", &[&root]);
        let text = format!(
            "[log]\naccess = {access:?}\n[trust.t]\nca = [{ca:?}]\n[cluster.c]\nendpoints = [\"{}\"]\n[[listener]]\nname = \"l\"\n\
             bind = [\"127.0.0.1:0\"]\n[[listener.host]]\nnames = [\"localhost\"]\n\
             certificate = {{ chain = {:?}, key = {:?} }}\nclient_auth = {{ mode = \"required\", trust = \"t\" }}\n\
             danger_no_policy = true\n[[listener.host.route]]\nmatch = {{ path = \"/{{rest...}}\" }}\ncluster = \"c\"\n",
            upstream.address(),
            server.chain,
            server.key
        );
        let config = pki.path().join("ringward.toml");
        fs::write(&config, text).unwrap();
        let gathered = load::gather(&config).unwrap_or_else(|problems| panic!("{problems}"));
        let loaded = gathered.build(None, &CrlFloors::new());
        let loaded = Arc::new(loaded.unwrap_or_else(|refused| panic!("{}", refused.problems)));
        let registry = Registry::new(server::words(), Limits::default());
        let trust = trust::without_state(&loaded.config);
        let (_, state) = trust.current();
        let snapshot = publish::build(&loaded, &state, &trust, 1, &registry)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let control = Control::new(snapshot, 1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (records, received) = record_queue(RECORDS);
        let log = logs::start_writer(
            LogOutput::open(&LogTarget::File(pki.path().join("access.json"))).unwrap(),
            vec![received],
            registry.clone(),
            Arc::default(),
        );
        let (started, driver) = mpsc::channel();
        let options = WorkerOptions {
            index: 0,
            workers: 1,
            cpu: None,
            driver: DriverMode::Auto,
            shard: registry.shard(0),
            records,
            listeners: vec![("l".to_owned(), vec![ListenSocket { socket: listener, shared: false }])],
            started,
        };
        let of_worker = control.clone();
        let thread = thread::spawn(move || {
            count_allocations_of_this_thread();
            run_worker(of_worker, options).unwrap();
        });
        driver.recv().unwrap();
        let client = Client::new("localhost", &root).identity(&root.issue(&Leaf::client("alice")));
        Stage {
            control,
            address,
            client,
            thread: Some(thread),
            _log: log.unwrap(),
            _upstream: upstream,
            _pki: pki,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.control.advance(Phase::Stopped);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often a worker allocates for so many requests over HTTP/1.1, after some that let its buffers grow.
fn allocations_for(requests: u64, stage: &Stage) -> u64 {
    let mut connection = stage.client.connect(stage.address).unwrap();
    let mut make = |count: u64| {
        for _ in 0..count {
            assert_eq!(connection.get("/status/200").unwrap().status, 200);
        }
    };
    make(WARM_UP);
    let before = allocations();
    make(requests);
    allocations() - before
}

/// Of rustls, whose records are vectors in both directions: two. Of ours: the state of the exchange, which connections that wait do not keep.
#[test]
fn a_request_on_a_connection_that_is_kept_allocates_three_times_at_the_most() {
    // The record of an access and its text are used again, if the log has come after.
    for (access, each) in [("off", 3), ("stdout", 5)] {
        let count = allocations_for(REQUESTS, &Stage::new(access));
        assert!(count <= each * REQUESTS, "log {access}: {count} for {REQUESTS} requests");
    }
}

/// Of the log, more than requests are under way.
const RECORDS: usize = 64;
const WARM_UP: u64 = 200;
const REQUESTS: u64 = 1000;
