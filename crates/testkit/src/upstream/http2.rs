//! The same server for HTTP/2 with prior knowledge, on the `h2` crate.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::ReceivedRequest;
use crate::wait::eventually;

mod script;
mod stream;

pub use script::Http2Script;

/// A running server on a loopback port. Stops when dropped.
///
/// Unless an [`Http2Script`] is set for a path it answers as [`super::Upstream`] does. `:authority` is recorded as the
/// field `host`.
#[derive(Debug)]
pub struct Http2Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

/// How a server is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Http2UpstreamOptions {
    /// Streams that run at once on a connection; any number without.
    pub max_concurrent_streams: Option<u32>,
}

#[derive(Debug)]
struct Shared {
    scripts: Mutex<HashMap<String, Http2Script>>,
    record: Mutex<Record>,
    order: watch::Sender<Order>,
    stopping: AtomicBool,
}

/// What all connections are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Order {
    go_away: u32,
    close: u32,
    stop: bool,
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<ReceivedRequest>,
    resets: Vec<u32>,
    accepted: usize,
    open: usize,
}

impl Http2Upstream {
    /// Starts on a free port.
    pub fn start() -> Self {
        Self::start_with(Http2UpstreamOptions::default())
    }

    /// Starts on a free port, set up like this.
    pub fn start_with(options: Http2UpstreamOptions) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen for requests");
        let address = listener.local_addr().expect("the address that was bound");
        listener.set_nonblocking(true).expect("change the mode");
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            record: Mutex::default(),
            order: watch::Sender::default(),
            stopping: AtomicBool::new(false),
        });
        let server = thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                runtime.block_on(accept(listener, &shared, options));
                // What waits at gates is not waited for.
                runtime.shutdown_background();
            }
        });
        Self { address, shared, server: Some(server) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As [`super::Upstream::on`].
    pub fn on(&self, path: &str, script: Http2Script) {
        self.shared.scripts.lock().expect("no holder panics").insert(path.to_owned(), script);
    }

    /// All heads received so far, in order.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.record().requests.clone()
    }

    /// Waits until at least `count` heads were received, and returns all.
    #[track_caller]
    pub fn wait_for_requests(&self, count: usize, deadline: Duration) -> Vec<ReceivedRequest> {
        let what = format!("{count} requests arrive upstream");
        eventually(deadline, &what, || self.shared.record().requests.len() >= count);
        self.requests()
    }

    /// The codes with which the client has reset streams, as far as somebody was reading or writing them.
    pub fn resets(&self) -> Vec<u32> {
        self.shared.record().resets.clone()
    }

    /// Connections accepted so far.
    pub fn connections_accepted(&self) -> usize {
        self.shared.record().accepted
    }

    /// Connections open now.
    pub fn connections_open(&self) -> usize {
        self.shared.record().open
    }

    /// Says GOAWAY on all connections; what runs is finished.
    pub fn go_away(&self) {
        self.shared.order.send_modify(|order| order.go_away += 1);
    }

    /// Closes all connections, whatever runs on them.
    pub fn close_connections(&self) {
        self.shared.order.send_modify(|order| order.close += 1);
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.order.send_modify(|order| order.stop = true);
        if let Some(server) = self.server.take() {
            let ended = server.join();
            assert!(ended.is_ok() || thread::panicking(), "the upstream panicked");
        }
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder panics")
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn script(&self, path: &str) -> Option<Http2Script> {
        let scripts = self.scripts.lock().expect("no holder panics");
        scripts.get(path).or_else(|| scripts.get("*")).cloned()
    }
}

async fn accept(listener: std::net::TcpListener, shared: &Arc<Shared>, options: Http2UpstreamOptions) {
    let listener = TcpListener::from_std(listener).expect("a listener of the runtime");
    let mut order = shared.order.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = order.wait_for(|order| order.stop) => return,
        };
        let Ok((stream, _)) = accepted else { return };
        let _ = stream.set_nodelay(true);
        let number = {
            let mut record = shared.record();
            record.accepted += 1;
            record.open += 1;
            record.accepted - 1
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            serve(stream, number, &shared, options).await;
            shared.record().open -= 1;
        });
    }
}

async fn serve(stream: TcpStream, number: usize, shared: &Arc<Shared>, options: Http2UpstreamOptions) {
    let mut order = shared.order.subscribe();
    let mut seen = *order.borrow_and_update();
    let mut builder = Builder::new();
    if let Some(max) = options.max_concurrent_streams {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection): Result<Connection<TcpStream, Bytes>, _> = builder.handshake(stream).await else {
        return;
    };
    // Dropped with the connection, so that its streams end with it.
    let mut streams = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(_) = streams.join_next(), if !streams.is_empty() => continue,
            _ = order.changed() => {
                let now = *order.borrow_and_update();
                if now.close != seen.close || now.stop {
                    return;
                }
                seen = now;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        streams.spawn(stream::serve(shared.clone(), number, request, respond));
    }
}
