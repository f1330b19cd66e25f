//! Accepts connections and gives each a task.
//!
//! Knows nothing of TLS or HTTP. A failing accept (no descriptors left) backs off, so that it cannot spin.

use std::{
    cell::Cell,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ringward_telemetry::{CloseReason, Shard};

use crate::{
    connection,
    control::Pressure,
    io::{self, Acceptor, Stream},
    overload::{Gate, Requests, SourcePlace},
    snapshot::{self, Snapshot},
    worker::{Contained, Panicked, Worker},
};

/// A listener of this worker, to close it with.
pub(crate) struct Handle {
    listener: Rc<Listener>,
}

/// A listening socket for a worker.
#[derive(Debug)]
pub struct ListenSocket {
    /// The socket.
    pub socket: TcpListener,
    /// Others listen on it, too: other workers, or whoever has handed it to this process. It goes on listening when the worker
    /// ends, and who waits in its queue then is left to the others.
    pub shared: bool,
}

impl ListenSocket {
    /// The same socket once more.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn try_clone(&self) -> std::io::Result<ListenSocket> {
        Ok(ListenSocket { socket: self.socket.try_clone()?, shared: self.shared })
    }
}

/// What the connections of one configured listener share on this worker.
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    sockets: Vec<Acceptor>,
    /// Sockets from which connections are taken.
    accepting: Cell<usize>,
    open: Cell<usize>,
    closed: Cell<bool>,
    pub(crate) gate: Gate,
    pub(crate) requests: Rc<Requests>,
}

/// Starts to accept on the sockets of each listener; on none if one of them cannot be taken over.
///
/// # Errors
/// What the kernel said.
pub(crate) fn open(
    worker: &Rc<Worker>,
    listeners: Vec<(String, Vec<ListenSocket>)>,
) -> std::io::Result<Vec<Handle>> {
    let listeners = listeners.into_iter().map(|(name, sockets)| {
        let sockets = sockets.into_iter().map(|taken| Acceptor::new(taken.socket, taken.shared));
        Ok((name, sockets.collect::<std::io::Result<Vec<_>>>()?))
    });
    let listeners: Vec<_> = listeners.collect::<std::io::Result<_>>()?;
    Ok(listeners.into_iter().map(|(name, sockets)| Handle::open(worker, &name, sockets)).collect())
}

impl Handle {
    fn open(worker: &Rc<Worker>, name: &str, sockets: Vec<Acceptor>) -> Handle {
        let listener = Rc::new(Listener {
            name: name.into(),
            accepting: Cell::new(sockets.len()),
            sockets,
            open: Cell::new(0),
            closed: Cell::new(false),
            gate: Gate::new(worker.workers),
            requests: Requests::new(worker.workers),
        });
        for socket in 0..listener.sockets.len() {
            let (worker, listener) = (worker.clone(), listener.clone());
            io::spawn(async move {
                accept_loop(worker, &listener, socket).await;
                listener.accepting.set(listener.accepting.get() - 1);
            });
        }
        Handle { listener }
    }

    /// Whether no connection is open, and none will be any more: the last accept has ended, too.
    pub(crate) fn is_empty(&self) -> bool {
        self.listener.open.get() == 0 && self.listener.accepting.get() == 0
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.listener.open.get()
    }

    /// Lets handshakes and requests begin whose turn has come.
    pub(crate) fn beat(&self, snapshot: &Snapshot, shard: &Shard) {
        let Listener { gate, requests, name, .. } = &*self.listener;
        let config = snapshot.listener(name);
        if !gate.is_idle() {
            gate.beat(config.and_then(|config| config.handshakes.as_ref()));
        }
        requests.beat(config, shard);
    }

    /// Accepts no more. What waits in the queue is served first: these clients have seen their connection succeed. But for a
    /// socket that is shared or was handed over, whose queue outlives us.
    pub(crate) fn close(&self, worker: &Rc<Worker>) {
        if self.listener.closed.replace(true) {
            return;
        }
        for socket in &self.listener.sockets {
            if socket.shared || worker.control.is_handed_over(socket.address) {
                socket.leave();
                continue;
            }
            while let Some((stream, peer)) = socket.accept_waiting() {
                admit(worker, &self.listener, stream, peer);
            }
            socket.close();
        }
    }
}

async fn accept_loop(worker: Rc<Worker>, listener: &Rc<Listener>, socket: usize) {
    let mut pause = PAUSE_MIN;
    loop {
        match listener.sockets[socket].accept().await {
            Ok((stream, peer)) => {
                pause = PAUSE_MIN;
                admit(&worker, listener, stream, peer);
            }
            // Or another worker that listens on the same socket was faster to close it.
            Err(_) if listener.closed.get() || worker.is_draining() => {
                // Of all that wait on a socket that is shared the kernel wakes one for each connection. If it was this one, and its
                // accept was called off before it could accept, nobody else knows of that connection.
                if let Some((stream, peer)) = listener.sockets[socket].accept_waiting() {
                    admit(&worker, listener, stream, peer);
                }
                return;
            }
            // The client was faster than we.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(error) => {
                if pause == PAUSE_MIN {
                    tracing::warn!(listener = &*listener.name, %error, "cannot accept, waiting (raise LimitNOFILE if it is out of descriptors)");
                }
                io::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn admit(worker: &Rc<Worker>, listener: &Rc<Listener>, stream: Stream, peer: SocketAddr) {
    let view = worker.view();
    let Some(config) = view.snapshot.listener(&listener.name) else { return };
    worker.shard.connection_accepted(config.id);
    if listener.open.get() >= worker.share(config.limits.connections_max) {
        worker.shard.connection_closed(config.id, CloseReason::ConnectionLimit);
        return;
    }
    if worker.control.pressure() >= Pressure::Soft {
        worker.shard.connection_closed(config.id, CloseReason::Memory);
        return;
    }
    let source = match source(config, &listener.gate, peer.ip()) {
        Ok(source) => source,
        Err(reason) => {
            worker.shard.connection_closed(config.id, reason);
            return;
        }
    };
    listener.open.set(listener.open.get() + 1);
    let (id, worker, listener) = (config.id, worker.clone(), listener.clone());
    let serving = Contained::new(connection::serve(worker.clone(), listener.clone(), (stream, peer, source)));
    io::spawn(async move {
        let reason = serving.await.unwrap_or_else(|Panicked| {
            worker.shard.panic_caught();
            CloseReason::Panic
        });
        worker.shard.connection_closed(id, reason);
        listener.open.set(listener.open.get() - 1);
    });
}

/// The place of a connection among those of its client's network, if their number is limited; or why it is refused. Of a load
/// balancer's connection that is asked when it has said whose it is.
fn source(
    config: &snapshot::Listener,
    gate: &Gate,
    peer: IpAddr,
) -> Result<Option<Box<SourcePlace>>, CloseReason> {
    let Some(limits) = &config.handshakes else { return Ok(None) };
    if config.proxy_protocol.as_ref().is_some_and(|rules| rules.is_from(peer)) {
        return Ok(None);
    }
    if gate.refuses(limits, peer) {
        return Err(CloseReason::SourceRefused);
    }
    gate.connect(Some(limits), peer).map_err(|_| CloseReason::SourceConnections)
}

/// First and longest pause after a failed accept.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
