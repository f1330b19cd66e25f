//! Test double of everything around the proxy: certificate authority, OCSP responder, clients, scripted upstream, processes.
//!
//! For tests only. Everything panics with a message that names what was expected, so that a test reads as a
//! story: make a [`Pki`], start an [`Upstream`], start the [`Process`] under test, talk to it with a [`Client`].
//! No fixed ports, no fixed waits: what takes time is waited for with a deadline by [`eventually`].
//!
//! It speaks to the product only from outside and knows none of its crates.

// One file has some.
#![deny(unsafe_code)]
// A failed expectation here is a failed test, and a panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod allocations;
mod client;
mod http;
mod http2;
mod openssl;
mod pattern;
mod pki;
mod process;
mod scrape;
mod upstream;
mod wait;

pub use allocations::{CountingAllocator, allocations, count_allocations_of_this_thread};
pub use client::{Client, ClientError, Closing, Connection, Greeting, Sessions};
pub use http::{Headers, MessageError, Response};
pub use http2::{Frame, Http2, PlayedHttp2, fields_block, flags, frame, kind};
pub use openssl::{SClient, SClientRun, openssl};
pub use pattern::{Pattern, sha256_hex};
pub use pki::{
    Authority, AuthorityOptions, Crl, Issued, KeyForm, KeyType, Leaf, OcspAnswer, OcspDatabase, OcspRefusal,
    PemFiles, Pki, Responder, RevocationReason, Usage, der,
};
pub use process::{Process, Signal};
pub use scrape::{Samples, scrape};
pub use upstream::{
    Echo, Gate, Http2Script, Http2Upstream, Http2UpstreamOptions, ReceivedRequest, Script, Upstream,
};
pub use wait::{eventually, eventually_some, free_port};

/// How long anything that should happen soon may take before a test fails: generous, because it only costs time
/// when something is broken, and test machines are slow and shared.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
