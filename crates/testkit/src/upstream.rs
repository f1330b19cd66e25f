//! A plain HTTP/1.1 server to stand behind the proxy: says what it received, or does what a script tells it.
//!
//! Unless a [`Script`] is set for a path, it answers
//!
//! | path | with |
//! |---|---|
//! | `/status/N` | status N and no body |
//! | `/big/N` | N bytes of a [`Pattern`](crate::Pattern), with `content-length` |
//! | `/big-chunked/N` | the same in chunks |
//! | `/trailers` | two chunks and the trailer field `x-checksum: ok` |
//! | any other | an [`Echo`] of the request as JSON, after reading all of it |
//!
//! It reads strictly. A request that is not exactly right closes the connection and is kept in
//! [`Upstream::errors`], so that a test can demand that a proxy never sent one.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::Headers;
use crate::wait::eventually;

mod connection;
mod echo;
mod http2;
mod script;

pub use echo::Echo;
pub use http2::{Http2Script, Http2Upstream, Http2UpstreamOptions};
pub use script::{Gate, Script};

/// A running server on a loopback port. Stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// The head of a request, recorded as soon as it was read.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Number of the connection it came on, from 0 in the order of acceptance.
    pub connection: usize,
    /// Method.
    pub method: String,
    /// Request target as received.
    pub target: String,
    /// Fields in order.
    pub headers: Headers,
    /// The head as received, with the empty line.
    pub raw_head: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    record: Mutex<Record>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
struct Record {
    requests: Vec<ReceivedRequest>,
    errors: Vec<String>,
    accepted: usize,
    open: HashMap<usize, TcpStream>,
}

impl Upstream {
    /// Starts on a free port.
    pub fn start() -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts on this address, for example where an earlier one was stopped.
    #[track_caller]
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("listen for requests");
        let address = listener.local_addr().expect("the address that was bound");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what to do for requests with this path (the target without its query), whatever the method; `*` stands for every
    /// path that has no script of its own.
    pub fn on(&self, path: &str, script: Script) {
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

    /// What was wrong with requests: malformed heads or bodies, streams that ended within one.
    pub fn errors(&self) -> Vec<String> {
        self.shared.record().errors.clone()
    }

    /// Connections accepted so far.
    pub fn connections_accepted(&self) -> usize {
        self.shared.record().accepted
    }

    /// Connections open now.
    pub fn connections_open(&self) -> usize {
        self.shared.record().open.len()
    }

    /// Closes all connections, as a server does that restarts or finds them idle for too long.
    pub fn close_connections(&self) {
        for stream in self.shared.record().open.values() {
            // Fails only if the peer was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes all connections and the port. Dropping does the same.
    pub fn stop(self) {}
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.close_connections();
        // Wakes the acceptor; if nobody can connect any more, it has ended already.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let ended = acceptor.join();
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

    fn script(&self, path: &str) -> Option<Script> {
        let scripts = self.scripts.lock().expect("no holder panics");
        scripts.get(path).or_else(|| scripts.get("*")).cloned()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_stopping() {
            break;
        }
        let number = {
            let mut record = shared.record();
            let number = record.accepted;
            record.accepted += 1;
            record.open.insert(number, stream.try_clone().expect("a second handle of a socket"));
            number
        };
        let shared = shared.clone();
        connections.push(thread::spawn(move || {
            connection::serve(stream, number, &shared);
            shared.record().open.remove(&number);
        }));
    }
    // One may have been accepted after the others were closed.
    shared.record().open.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    for connection in connections {
        connection.join().expect("a connection of the upstream panicked");
    }
}

#[cfg(test)]
mod tests;
