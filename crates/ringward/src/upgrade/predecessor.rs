//! The side of the successor: takes what the process that serves hands over, and is told whether to stay.
//!
//! Everything is taken before the configuration is read, and used where that asks for it; what it does not ask for is closed, and the
//! process that serves then serves what waits in the queue of such a socket itself.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringward_tls::KeyRing;
use rustls::pki_types::UnixTime;
use socket2::SockRef;

use super::channel::{Channel, Packet, ReceiveError};
use super::words::{self, Offer, OfferedListener, PROTOCOL, Response};
use crate::{sockets, version};

/// The process that serves, and waits for us.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
    /// Its number and version.
    process: u32,
    version: String,
}

/// What it has handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Bequest {
    sockets: Vec<Bequeathed>,
    admin: Option<(SocketAddr, TcpListener)>,
    operators: Option<BequeathedAdminSocket>,
    state: Option<(PathBuf, File)>,
    ring: Option<KeyRing>,
    taken: Vec<SocketAddr>,
    operators_taken: bool,
}

/// A listening socket.
#[derive(Debug)]
struct Bequeathed {
    /// Its name; empty if its process has died.
    listener: String,
    managed: bool,
    address: SocketAddr,
    socket: TcpListener,
}

/// The admin socket.
#[derive(Debug)]
pub(crate) struct BequeathedAdminSocket {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// It.
    pub(crate) socket: UnixListener,
    /// By which no other process can take its place.
    pub(crate) lock: File,
}

/// What the successor is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Serve: the other process ends, or has.
    Stay,
    /// End what was begun, and leave the queues to the other process.
    Withdraw,
}

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over from the process that serves: {0}")]
pub(crate) struct TakeoverError(String);

impl Predecessor {
    /// Whoever has started us with a socket for standard input, and everything that it hands over.
    ///
    /// # Errors
    /// If nobody has, or something else was handed over than what can be used.
    pub(crate) fn meet() -> Result<(Predecessor, Bequest), TakeoverError> {
        let failed = |error: io::Error| TakeoverError(format!("standard input: {error}"));
        let stdin = rustix::stdio::stdin().try_clone_to_owned().map_err(failed)?;
        // Nobody after us finds it there.
        let nothing = File::open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdin(&nothing).map_err(|error| failed(error.into()))?;
        let channel = Channel::given(stdin).map_err(|_| {
            TakeoverError(
                "standard input is no socket to a process that serves; use `ringward upgrade`".to_owned(),
            )
        })?;
        take(channel)
    }

    /// Says that all workers serve, and waits to be told whether to stay.
    pub(crate) fn report_ready(&self, bequest: &Bequest) -> Verdict {
        let ready = Response::Ready {
            version: version::VERSION.to_owned(),
            addresses: bequest.taken.clone(),
            operators: bequest.operators_taken,
        };
        let told = words::say(&self.channel, &ready, &[]);
        let verdict = told
            .map_err(ReceiveError::Io)
            .and_then(|()| self.channel.receive(Instant::now() + VERDICT_PATIENCE));
        match verdict.map(|packet| words::understand::<Offer>(&packet)) {
            Ok(Ok(Offer::Commit)) => {
                self.promise_to_serve();
                tracing::info!(
                    process = self.process,
                    version = self.version,
                    "serving instead of the former process"
                );
                Verdict::Stay
            }
            // Also if it is gone without a word: it was told to stop, or whoever looks after it will start it again.
            said => {
                tracing::error!(?said, process = self.process, "not told to serve, ending");
                Verdict::Withdraw
            }
        }
    }

    /// From here on there is no way back. The other process tells the service manager who serves, which would not listen to us before, and
    /// closes the socket.
    fn promise_to_serve(&self) {
        let promised = words::say(&self.channel, &Response::Serving, &[]);
        // If it died at this moment, nobody but us serves.
        if promised.is_ok() {
            let _ = self.channel.receive(Instant::now() + VERDICT_PATIENCE);
        }
    }

    /// Says why we do not serve.
    pub(crate) fn report_refusal(&self, reason: &str) {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        // If it is not heard, our end is.
        let _ = words::say(&self.channel, &Response::Refused { reason: reason[..end].to_owned() }, &[]);
    }
}

fn take(channel: Channel) -> Result<(Predecessor, Bequest), TakeoverError> {
    let deadline = Instant::now() + TAKE_PATIENCE;
    let next = || -> Result<Packet, TakeoverError> {
        channel.receive(deadline).map_err(|error| TakeoverError(error.to_string()))
    };
    let understood = |packet: &Packet| words::understand(packet).map_err(TakeoverError);
    let (process, version) = match understood(&next()?)? {
        Offer::Begin { protocol: PROTOCOL, process, version } => (process, version),
        said => return Err(TakeoverError(format!("it speaks another protocol than {PROTOCOL}: {said:?}"))),
    };
    let mut bequest = Bequest::default();
    loop {
        let mut packet = next()?;
        let mut descriptors = std::mem::take(&mut packet.descriptors).into_iter();
        let mut descriptor =
            || descriptors.next().ok_or_else(|| TakeoverError("a descriptor is missing".to_owned()));
        match understood(&packet)? {
            Offer::Listeners(offered) => {
                for OfferedListener { listener, managed } in offered {
                    let (address, socket) = listening(descriptor()?)?;
                    bequest.sockets.push(Bequeathed { listener, managed, address, socket });
                }
            }
            Offer::Admin { address } => bequest.admin = Some((address, listening(descriptor()?)?.1)),
            Offer::Operators { path } => {
                let (socket, lock) = (UnixListener::from(descriptor()?), File::from(descriptor()?));
                bequest.operators = Some(BequeathedAdminSocket { path, socket, lock });
            }
            Offer::State { path } => bequest.state = Some((path, File::from(descriptor()?))),
            Offer::TicketKeys => {
                let ring = KeyRing::parse(&next()?.bytes, UnixTime::now());
                bequest.ring = Some(ring.map_err(|error| TakeoverError(format!("ticket keys: {error}")))?);
            }
            Offer::End => break,
            said @ (Offer::Begin { .. } | Offer::Commit | Offer::Withdraw) => {
                return Err(TakeoverError(format!("{said:?} comes too early")));
            }
        }
        if descriptors.next().is_some() {
            return Err(TakeoverError("a descriptor too many".to_owned()));
        }
    }
    tracing::debug!(
        process,
        version,
        sockets = bequest.sockets.len(),
        "handed over by the process that serves"
    );
    Ok((Predecessor { channel, process, version }, bequest))
}

fn listening(descriptor: OwnedFd) -> Result<(SocketAddr, TcpListener), TakeoverError> {
    let socket = TcpListener::from(descriptor);
    let listens = SockRef::from(&socket).is_listener().unwrap_or(false);
    let address = socket.local_addr().ok().filter(|_| listens);
    let address =
        address.ok_or_else(|| TakeoverError("a descriptor is no listening TCP socket".to_owned()))?;
    Ok((address, socket))
}

impl Bequest {
    /// Of a process that has died, whose listening sockets the service manager has kept.
    pub(crate) fn of_the_dead(sockets: Vec<TcpListener>) -> Bequest {
        let sockets = sockets.into_iter().filter_map(|socket| {
            let address = socket.local_addr().ok()?;
            Some(Bequeathed { listener: String::new(), managed: false, address, socket })
        });
        Bequest { sockets: sockets.collect(), ..Bequest::default() }
    }

    /// Whether nothing was handed over.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Closes the sockets of the dead that are bound to none of these addresses, or for other clients than is wanted now: they would be
    /// in the way of what is to be opened.
    pub(crate) fn keep_bound_to(&mut self, wanted: &[SocketAddr]) {
        let is_wanted = |Bequeathed { address, socket, .. }: &Bequeathed| {
            wanted.contains(address) && sockets::check_families(socket, *address, wanted).is_ok()
        };
        self.sockets.retain(|bequeathed| !bequeathed.listener.is_empty() || is_wanted(bequeathed));
    }

    /// The sockets of a listener that the service manager has opened, by address.
    pub(crate) fn take_managed(&mut self, listener: &str) -> Vec<(SocketAddr, Vec<TcpListener>)> {
        let is_wanted = |bequeathed: &mut Bequeathed| bequeathed.managed && bequeathed.listener == listener;
        let mut taken: Vec<(SocketAddr, Vec<TcpListener>)> = Vec::new();
        for Bequeathed { address, socket, .. } in self.sockets.extract_if(.., is_wanted) {
            match taken.iter_mut().find(|(known, _)| *known == address) {
                Some((_, sockets)) => sockets.push(socket),
                None => taken.push((address, vec![socket])),
            }
        }
        self.taken.extend(taken.iter().map(|(address, _)| *address));
        taken
    }

    /// The sockets of `bind`, which a listener of this name has in the configuration. With port 0 those of the port that was
    /// free then.
    pub(crate) fn take_bound(
        &mut self,
        listener: &str,
        bind: SocketAddr,
    ) -> Option<(SocketAddr, Vec<TcpListener>)> {
        let is_meant = |bequeathed: &Bequeathed| match bind.port() {
            0 => bequeathed.listener == listener && bequeathed.address.ip() == bind.ip(),
            _ => bequeathed.address == bind,
        };
        let found = self.sockets.iter().find(|bequeathed| !bequeathed.managed && is_meant(bequeathed))?;
        let address = found.address;
        let is_wanted = |bequeathed: &mut Bequeathed| !bequeathed.managed && bequeathed.address == address;
        let taken = self.sockets.extract_if(.., is_wanted).map(|bequeathed| bequeathed.socket).collect();
        self.taken.push(address);
        Some((address, taken))
    }

    /// The socket of the admin listener, if it is bound to that address, or any port will do.
    pub(crate) fn take_admin(&mut self, bind: SocketAddr) -> Option<(SocketAddr, TcpListener)> {
        self.admin.take_if(|(address, _)| *address == bind || (bind.port() == 0 && address.ip() == bind.ip()))
    }

    /// The admin socket, if it is at that path.
    pub(crate) fn take_operators(&mut self, path: &Path) -> Option<BequeathedAdminSocket> {
        let taken = self.operators.take_if(|operators| operators.path == path);
        self.operators_taken |= taken.is_some();
        taken
    }

    /// The lock of a state directory.
    pub(crate) fn take_state(&mut self, path: &Path) -> Option<File> {
        self.state.take_if(|(own, _)| own == path).map(|(_, lock)| lock)
    }

    /// The keys of session tickets.
    pub(crate) fn take_ring(&mut self) -> Option<KeyRing> {
        self.ring.take()
    }

    /// Closes what nobody has taken.
    pub(crate) fn drop_the_rest(&mut self) {
        for Bequeathed { listener, address, .. } in self.sockets.drain(..) {
            tracing::info!(listener, %address, "no listener wants this address any more");
        }
        (self.admin, self.operators, self.state, self.ring) = (None, None, None, None);
    }
}

/// To take what is there already.
const TAKE_PATIENCE: Duration = Duration::from_secs(10);
/// The process that serves answers at once, unless it is stuck.
const VERDICT_PATIENCE: Duration = Duration::from_secs(30);
const REASON_BYTES_MAX: usize = 8 << 10;
