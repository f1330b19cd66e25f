//! The admin socket: how the commands `revoke`, `trust`, `keys`, `reload` and `upgrade` reach the process that serves.
//!
//! A Unix socket that only the user of the process and root get through to: by its mode, by the directory that it is in, and
//! by what the kernel says of each peer. One request per line of JSON, one answer per line. Hides the socket and its limits;
//! what a request does is decided by whoever serves it. Nothing that comes over a network gets here.

mod bind;
mod client;
mod line;
mod request;
mod serve;

pub(crate) use self::bind::{AdminSocket, Retirement};
pub(crate) use self::client::{Client, ClientError};
pub(crate) use self::request::{Request, Target};
pub(crate) use self::serve::{Answer, Caller, Operations};

/// A request line: the longest is one with a file name and a few filters.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// What may follow a request: a file to be examined, such as a revocation list with a million entries.
pub(crate) const ATTACHMENT_BYTES_MAX: usize = 96 << 20;
/// An answer line: a list of some ten thousand deny entries or clients.
const ANSWER_BYTES_MAX: usize = 64 << 20;
