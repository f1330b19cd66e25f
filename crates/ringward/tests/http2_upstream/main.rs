//! HTTP/2 to upstreams: every pair of protocols behaves alike, and connections are shared, kept and given up as they should be.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod caller;
mod connections;
mod ends;
mod nghttpd;
mod pairs;

use std::net::SocketAddr;

use self::support::{Builder, Gateway};

// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// A gateway that offers HTTP/2 and speaks it to `upstream`.
fn builder(upstream: SocketAddr, keys: &str) -> Builder {
    Gateway::builder()
        .listener("http2 = true")
        .limits("body_bytes_max = \"unlimited\"")
        .endpoints(&[upstream], &format!("protocol = \"http2\"\n{keys}"))
}
