//! What a process and its successor say to each other, one JSON text per packet.
//!
//! The two may be of different versions: what one of them does not know is an error, the successor is refused, and the process goes
//! on. So a word may be added only together with a new [`PROTOCOL`].

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Packet};

/// By the process that serves.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Offer {
    /// First of all.
    Begin {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Its number.
        process: u32,
        /// Its version.
        version: String,
    },
    /// Listening sockets, a descriptor for each.
    Listeners(Vec<OfferedListener>),
    /// The socket of the admin listener: one descriptor.
    Admin {
        /// What it is bound to.
        address: SocketAddr,
    },
    /// The admin socket and its lock: two descriptors.
    Operators {
        /// Where it is.
        path: PathBuf,
    },
    /// The lock of the state directory: one descriptor.
    State {
        /// The directory.
        path: PathBuf,
    },
    /// The keys of session tickets: a ring file, which is the next packet.
    TicketKeys,
    /// That was all.
    End,
    /// Serve alone from now on.
    Commit,
    /// Go away, and leave everything to the process that serves.
    Withdraw,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfferedListener {
    /// Name of its listener.
    pub(super) listener: String,
    /// The service manager has opened it and keeps it.
    pub(super) managed: bool,
}

/// By the successor.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Response {
    /// All its workers accept connections.
    Ready {
        /// Its version.
        version: String,
        /// The addresses whose sockets it has taken.
        addresses: Vec<SocketAddr>,
        /// It has taken the admin socket.
        operators: bool,
    },
    /// It serves alone from now on, whatever becomes of the other process: the answer to [`Offer::Commit`].
    Serving,
    /// It will not serve.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Sends one of them.
///
/// # Errors
/// As [`Channel::send`].
pub(super) fn say(
    channel: &Channel,
    word: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    channel.send(&serde_json::to_vec(word)?, descriptors)
}

/// Reads one of them.
///
/// # Errors
/// If it is none that this version knows.
pub(super) fn understand<T: DeserializeOwned>(packet: &Packet) -> Result<T, String> {
    serde_json::from_slice(&packet.bytes)
        .map_err(|error| format!("the other process says something that is not understood: {error}"))
}

/// What both sides have to speak.
pub(super) const PROTOCOL: u32 = 1;
