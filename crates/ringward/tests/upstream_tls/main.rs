//! TLS to upstreams that we did not write: who proves what to whom, what is said when that fails, and what a change changes.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod agreed;
mod changes;
mod checks;
mod identities;
mod liars;
mod relay;
mod resumption;
mod revocation;
mod servers;

use std::net::SocketAddr;

use ringward_testkit::{Authority, Issued, Leaf};

use self::support::{Builder, Gateway};

/// What the certificates of upstreams are for.
const NAME: &str = "orders.internal";
const ERRORS: &str = "ringward_upstream_errors_total";
const HANDSHAKES: &str = "ringward_upstream_tls_handshakes_total";
const OPENED: &str = "ringward_upstream_connections_opened_total";

/// Two sides that know one another, with their files beside those of the gateway: `up-ca.pem`, `server.*`, `client.*`.
struct Scene {
    builder: Builder,
    /// Vouches for upstreams, and for us to them.
    authority: Authority,
}

impl Scene {
    fn new() -> Scene {
        let scene = Scene { builder: Gateway::builder(), authority: Authority::root("Upstream Root") };
        scene.builder.pki().write_authorities("up-ca.pem", &[&scene.authority]);
        scene.serve_with(&scene.authority.issue(&Leaf::server(NAME)));
        scene.present("client", "ringward-client");
        scene
    }

    /// Writes the certificate of the upstream.
    fn serve_with(&self, issued: &Issued) {
        let files = self.builder.pki().write_pem("server", issued);
        let both = [std::fs::read(files.chain).unwrap(), std::fs::read(files.key).unwrap()].concat();
        self.builder.pki().write("server-both.pem", both);
    }

    /// Writes a certificate of ours.
    fn present(&self, file: &str, name: &str) {
        self.builder.pki().write_pem(file, &self.authority.issue(&Leaf::client(name)));
    }

    /// The gateway in front of `upstream`, with these keys in the cluster and in its `tls`.
    fn start(self, upstream: SocketAddr, cluster: &str, tls: &str) -> Gateway {
        self.describe(upstream, cluster, tls).start()
    }

    fn describe(self, upstream: SocketAddr, cluster: &str, tls: &str) -> Builder {
        let keys = format!("{cluster}\n[cluster.others.tls]\nca = \"up-ca.pem\"\n{tls}");
        self.builder.limits("body_bytes_max = \"unlimited\"").endpoints(&[upstream], &keys)
    }
}

/// We call it by its name and show our certificate.
const MUTUAL: &str =
    "server_name = \"orders.internal\"\ncertificate = { chain = \"client.pem\", key = \"client.key\" }\n";
/// We call it by its name.
const NAMED: &str = "server_name = \"orders.internal\"\n";
