//! A gateway in front of an upstream that fails as the rows say, and what it holds before and after.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use ringward_testkit::{Authority, DEADLINE, Leaf, eventually, eventually_some};
use rustls::ServerConfig;

use super::client::Cues;
use super::support::{Gateway, HOST, Host};
use super::tls::{self, Shows};
use super::upstream::Wire;
use super::{Row, Step};

/// What is spoken to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Transport {
    pub(super) const ALL: [Transport; 4] =
        [Transport::Http1, Transport::Http1Tls, Transport::Http2, Transport::Http2Tls];

    fn is_http2(self) -> bool {
        matches!(self, Transport::Http2 | Transport::Http2Tls)
    }

    fn is_tls(self) -> bool {
        matches!(self, Transport::Http1Tls | Transport::Http2Tls)
    }
}

/// A gateway and its upstream.
pub(super) struct Stage {
    pub(super) gateway: Gateway,
    transport: Transport,
    authority: Authority,
    listener: Option<TcpListener>,
}

/// What a gateway holds.
pub(super) struct Holdings {
    files: usize,
    resident: u64,
}

impl Stage {
    pub(super) fn new(driver: &str, transport: Transport) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        Stage { listener: Some(listener), ..Stage::in_front_of(address, driver, transport) }
    }

    pub(super) fn in_front_of(address: SocketAddr, driver: &str, transport: Transport) -> Stage {
        let authority = Authority::root("Upstream Root");
        let builder = Gateway::builder().io(driver).listener("http2 = true");
        builder.pki().write_authorities("up-ca.pem", &[&authority]);
        builder.pki().write_pem("client", &authority.issue(&Leaf::client("ringward")));
        let cluster = |name: &str, keys: &str| {
            let protocol = if transport.is_http2() { "protocol = \"http2\"\n" } else { "" };
            let tls = if transport.is_tls() {
                format!("[cluster.{name}.tls]\nca = \"up-ca.pem\"\n{}", tls::KEYS)
            } else {
                String::new()
            };
            format!(
                "[cluster.{name}]\nendpoints = [\"{address}\"]\n{protocol}idle_timeout = \"5s\"\n{keys}\n{tls}"
            )
        };
        let host = Host::new(&[HOST])
            .route("path = \"/patient/{rest...}\"", "cluster = \"patient\"")
            .route("path = \"/hasty/{rest...}\"", "cluster = \"hasty\"")
            .route("path = \"/limited/{rest...}\"", "cluster = \"patient\"\nrequest_timeout = \"2s\"")
            .route("path = \"/{rest...}\"", "");
        let gateway = builder
            .limits("body_bytes_max = \"unlimited\", head_bytes_max = \"8KiB\"")
            .section(&cluster("patient", ""))
            .section(&cluster("hasty", "connect_timeout = \"2s\"\nresponse_timeout = \"2s\""))
            .host(host)
            .start();
        Stage { gateway, transport, authority, listener: None }
    }

    /// Plays the upstream's part of a row.
    pub(super) fn play(&self, row: &Row, cues: &Cues, case: &str) {
        for steps in &row.connections {
            let tcp = eventually_some(DEADLINE, &format!("{case}: the proxy connects"), || self.accept());
            let below = matches!(steps[0], Step::BelowTls);
            let tls = (self.transport.is_tls() && !below).then(|| self.server(row.shows));
            match Wire::open(tcp, tls, self.transport.is_http2() && !below) {
                Ok(wire) => wire.play(steps, cues, case),
                Err(error) => assert!(row.shows != Shows::Good, "{case}: no handshake: {error}"),
            }
        }
        assert!(self.accept().is_none(), "{case}: the proxy connects again");
    }

    fn accept(&self) -> Option<TcpStream> {
        let (tcp, _) = self.listener.as_ref()?.accept().ok()?;
        tcp.set_nonblocking(false).unwrap();
        Some(tcp)
    }

    fn server(&self, shows: Shows) -> Arc<ServerConfig> {
        shows.server(&self.authority, self.transport.is_http2())
    }

    /// What the gateway holds while nothing happens, once it has served.
    pub(super) fn holdings(&self) -> Holdings {
        self.gateway.assert_serves();
        self.gateway.wait_for_no_connections();
        let process = &self.gateway.process;
        Holdings { files: process.open_files(), resident: process.resident_bytes() }
    }

    /// No connection, request, stream, file or memory is left of all rows, and the gateway goes on to serve.
    #[track_caller]
    pub(super) fn assert_nothing_is_left(&self, before: &Holdings) {
        self.gateway.wait_for_no_connections();
        for gauge in [
            "ringward_upstream_requests_active",
            "ringward_upstream_requests_pending",
            "ringward_tunnels_active",
        ] {
            self.gateway.wait_for_metric(gauge, &[], 0.0);
        }
        eventually(DEADLINE, "all files are closed", || self.gateway.process.open_files() <= before.files);
        assert_eq!(self.gateway.metric("ringward_worker_panics_total", &[]), 0.0);
        let resident = self.gateway.process.resident_bytes();
        assert!(resident < before.resident + GROWTH_MAX, "{} bytes became {resident}", before.resident);
        self.gateway.assert_serves();
    }
}

/// What buffers, caches and the allocator may have kept after all rows. Any one of the large bodies is more.
const GROWTH_MAX: u64 = 32 << 20;
