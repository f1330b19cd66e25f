//! The side of the process that serves: starts the program once more, hands everything over, and waits until that one serves, too.
//!
//! Whatever goes wrong before, the successor is ended and nothing has changed. It never gets a descriptor that it could harm by
//! closing it: they are copies, and listening sockets go on listening as long as one of the two has them.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use ringward_proxy::ListenSocket;

use super::channel::{Channel, DESCRIPTORS_MAX, ReceiveError};
use super::words::{self, Offer, OfferedListener, PROTOCOL, Response};
use crate::trust::TrustKeeper;
use crate::version;

/// What a process hands over.
#[derive(Debug)]
pub(crate) struct Estate {
    /// The configuration that the successor reads.
    pub(crate) config: PathBuf,
    /// Listening sockets, by the name of their listener.
    pub(crate) listeners: Vec<(String, ListenSocket)>,
    /// That of the admin listener.
    pub(crate) admin: Option<TcpListener>,
    /// The admin socket.
    pub(crate) operators: Option<OperatorsEstate>,
    /// The state directory and the ticket keys.
    pub(crate) trust: Arc<TrustKeeper>,
}

/// The admin socket.
#[derive(Debug)]
pub(crate) struct OperatorsEstate {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// It.
    pub(crate) socket: UnixListener,
    /// Its lock.
    pub(crate) lock: File,
}

impl OperatorsEstate {
    /// Another copy.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub(crate) fn try_clone(&self) -> io::Result<OperatorsEstate> {
        let (socket, lock) = (self.socket.try_clone()?, self.lock.try_clone()?);
        Ok(OperatorsEstate { path: self.path.clone(), socket, lock })
    }
}

/// A successor that serves, and waits to be told whether to stay.
#[derive(Debug)]
pub(crate) struct Heir {
    channel: Channel,
    child: Child,
    trust: Arc<TrustKeeper>,
    /// Its version.
    pub(crate) version: String,
    /// The addresses whose sockets it has.
    pub(crate) addresses: Vec<SocketAddr>,
    /// It has the admin socket.
    pub(crate) has_operators: bool,
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// It could not even be started.
    #[error("`{}` cannot be started: {source}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something cannot be handed over.
    #[error("cannot hand over {what}: {source}")]
    HandOver {
        /// What it is.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// By its own word, such as a configuration that it does not take.
    #[error("the new process will not serve: {0}")]
    Refused(String),
    /// A crash, or a program that does not know what is wanted of it.
    #[error("the new process ended ({0}) before it was ready; its messages are in the log of this one")]
    Ended(ExitStatus),
    /// It hangs, or needs longer.
    #[error("the new process was not ready within {} s, and was ended", .0.as_secs())]
    NotReady(Duration),
    /// It was ready, and then died, or hung.
    #[error(
        "the new process was ready, and did not answer when it was told to serve: {0}; its messages are in the log of this one"
    )]
    Silent(String),
    /// A fault of ours.
    #[error("handing over panicked, which is a fault of ringward")]
    Panicked,
    /// Another version of it, most likely.
    #[error("the new process says what cannot be meant: {0}")]
    NotUnderstood(String),
}

/// A successor that is not ready yet.
struct Attempt {
    channel: Channel,
    child: Child,
}

/// Starts a successor and waits until it is ready, for `patience` at most. Blocks; to be called on a thread whose priority and CPUs
/// are those of the process, which the successor inherits.
///
/// # Errors
/// Why there is none. Nothing has changed then.
pub(crate) fn raise(estate: &Estate, patience: Duration) -> Result<Heir, UpgradeError> {
    // What the successor reads there stays as it is, from here until it serves alone or is gone.
    estate.trust.freeze();
    let raised = start(&program(), &estate.config).and_then(|attempt| attempt.negotiate(estate, patience));
    if raised.is_err() {
        estate.trust.thaw();
    }
    raised
}

fn start(program: &Path, config: &Path) -> Result<Attempt, UpgradeError> {
    let failed = |source| UpgradeError::Start { program: program.to_owned(), source };
    let (channel, theirs) = Channel::pair().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg("run").arg("--successor").arg("--config").arg(config).stdin(Stdio::from(theirs));
    // It means a process by its number, and is to mean whichever one serves.
    command.env_remove("WATCHDOG_PID");
    let child = command.spawn().map_err(failed)?;
    // The command would keep their end open, and we would not notice their death.
    drop(command);
    Ok(Attempt { channel, child })
}

impl Attempt {
    fn negotiate(self, estate: &Estate, patience: Duration) -> Result<Heir, UpgradeError> {
        let deadline = Instant::now() + patience;
        let offered = offer(&self.channel, estate).map_err(Some);
        let heard = offered.and_then(|()| {
            self.channel.receive(deadline).map_err(|error| match error {
                ReceiveError::Closed => None,
                ReceiveError::TimedOut => Some(UpgradeError::NotReady(patience)),
                error => Some(UpgradeError::NotUnderstood(error.to_string())),
            })
        });
        let response = heard.and_then(|packet| {
            words::understand(&packet).map_err(|error| Some(UpgradeError::NotUnderstood(error)))
        });
        let error = match response {
            Ok(Response::Ready { version, addresses, operators }) => {
                let Attempt { channel, child } = self;
                let trust = estate.trust.clone();
                return Ok(Heir { channel, child, trust, version, addresses, has_operators: operators });
            }
            Ok(Response::Refused { reason }) => Some(UpgradeError::Refused(reason)),
            Ok(said @ Response::Serving) => {
                Some(UpgradeError::NotUnderstood(format!("{said:?} comes too early")))
            }
            Err(error) => error,
        };
        // If it is gone, how it has ended says more than that we cannot reach it.
        match (self.end(), error) {
            (
                _,
                Some(
                    error @ (UpgradeError::Refused(_)
                    | UpgradeError::NotReady(_)
                    | UpgradeError::NotUnderstood(_)),
                ),
            ) => Err(error),
            (Ok(status), _) => Err(UpgradeError::Ended(status)),
            (Err(source), _) => Err(UpgradeError::HandOver { what: "anything", source }),
        }
    }

    /// Ends it, by asking first.
    fn end(mut self) -> io::Result<ExitStatus> {
        // It may not listen.
        let _ = words::say(&self.channel, &Offer::Withdraw, &[]);
        drop(self.channel);
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(END_PAUSE);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Heir {
    /// Its number.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to serve alone, and waits until it has said that it will, whatever happens then. It says nothing to the service manager
    /// before this is dropped. Blocks, but not for long.
    ///
    /// # Errors
    /// If it does not say so. It is gone then, and it is as if it had never been.
    pub(crate) fn commit(mut self) -> Result<Heir, UpgradeError> {
        if let Err(error) = words::say(&self.channel, &Offer::Commit, &[]) {
            // It has waited for too long, or died. What it has accepted it may still serve.
            self.withdraw();
            return Err(UpgradeError::Silent(error.to_string()));
        }
        let answer =
            self.channel.receive(Instant::now() + ANSWER_PATIENCE).map_err(|error| error.to_string());
        let reason = match answer.and_then(|packet| words::understand(&packet)) {
            Ok(Response::Serving) => return Ok(self),
            Ok(said) => format!("it says {said:?}"),
            Err(error) => error,
        };
        // It may have heard us, and must not serve when we do. It does not matter whether it was gone already.
        let _ = self.child.kill().and_then(|()| self.child.wait());
        Err(UpgradeError::Silent(reason))
    }

    /// Tells it to go. Blocks until it has.
    pub(crate) fn withdraw(self) {
        let Heir { channel, child, trust, .. } = self;
        if let Err(error) = (Attempt { channel, child }).end() {
            tracing::error!(%error, "the new process cannot be ended");
        }
        trust.thaw();
    }
}

/// Hands everything over.
fn offer(channel: &Channel, estate: &Estate) -> Result<(), UpgradeError> {
    let say = |what: &'static str, offer: &Offer, descriptors: &[BorrowedFd<'_>]| {
        words::say(channel, offer, descriptors).map_err(|source| UpgradeError::HandOver { what, source })
    };
    let begin = Offer::Begin {
        protocol: PROTOCOL,
        process: std::process::id(),
        version: version::VERSION.to_owned(),
    };
    say("the number of this process", &begin, &[])?;
    for some in estate.listeners.chunks(LISTENERS_PER_PACKET) {
        let offered = some
            .iter()
            .map(|(listener, taken)| OfferedListener { listener: listener.clone(), managed: taken.shared });
        let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|(_, taken)| taken.socket.as_fd()).collect();
        say("the listening sockets", &Offer::Listeners(offered.collect()), &descriptors)?;
    }
    if let Some(admin) = &estate.admin {
        let address = admin.local_addr();
        let address =
            address.map_err(|source| UpgradeError::HandOver { what: "the admin listener", source })?;
        say("the admin listener", &Offer::Admin { address }, &[admin.as_fd()])?;
    }
    if let Some(OperatorsEstate { path, socket, lock }) = &estate.operators {
        say("the admin socket", &Offer::Operators { path: path.clone() }, &[socket.as_fd(), lock.as_fd()])?;
    }
    if let Some(state) = estate.trust.state_dir() {
        say("the state directory", &Offer::State { path: state.path().to_owned() }, &[state.lock()])?;
    }
    say("the ticket keys", &Offer::TicketKeys, &[])?;
    let (_, trusted) = estate.trust.current();
    let keys = trusted.own_ring.serialize();
    channel
        .send(keys.as_bytes(), &[])
        .map_err(|source| UpgradeError::HandOver { what: "the ticket keys", source })?;
    say("everything", &Offer::End, &[])
}

/// What to start: the program as this process was started, so that what is installed at that path now is taken, and not the file
/// that this process still runs.
pub(crate) fn program() -> PathBuf {
    PROGRAM.clone()
}

/// To be called at the start, while the path of the program still leads to it.
pub(crate) fn remember_program() {
    LazyLock::force(&PROGRAM);
}

static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    // As it was named, if that leads there from everywhere: a link may point to another version by now.
    let named = std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| std::env::current_exe().ok()).unwrap_or_else(|| PathBuf::from("ringward"))
});

/// Each takes some hundred bytes of a packet at most, by the length of names.
const LISTENERS_PER_PACKET: usize = 100;
const _: () = assert!(LISTENERS_PER_PACKET <= DESCRIPTORS_MAX);
/// For one that is ready, and has nothing to do but to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// For a successor that is not wanted any more.
const END_PATIENCE: Duration = Duration::from_secs(10);
const END_PAUSE: Duration = Duration::from_millis(20);
