//! The guides of `deploy/manual/migrate-*.md`: the configuration that a team has under nginx or HAProxy, and the one that the guide makes of it
//! for Ringward, get the same requests in front of the same upstreams, and have to do the same. Envoy is not at hand: there only Ringward's side is driven.
//!
//! Where Ringward does something else on purpose, the table of requests says so, and the guide has to say it as well. The files are those
//! of the manual; addresses, ports and directories in them are replaced, and nothing else.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

mod support;

#[path = "migrate/envoy.rs"]
mod envoy;
#[path = "migrate/haproxy.rs"]
mod haproxy;
#[path = "migrate/nginx.rs"]
mod nginx;
#[path = "migrate/scene.rs"]
mod scene;
#[path = "migrate/table.rs"]
mod table;
