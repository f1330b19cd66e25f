//! A gateway in front of an upstream that fails as the rows say, and what it holds before and after.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use ringward_testkit::{Authority, DEADLINE, Leaf, eventually, eventually_some, scrape};
use rustls::ServerConfig;

use super::client::Cues;
use super::support::{Gateway, HOST, Host};
use super::tls::{self, Shows};
use super::upstream::Wire;
use super::{ERRORS, Row, Step};

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

/// A gateway and its upstreams.
pub(super) struct Stage {
    pub(super) gateway: Gateway,
    transport: Transport,
    authority: Authority,
    listeners: Vec<TcpListener>,
}

/// An upstream of a stage, with clusters and routes of its own: one row at a time is played on it, and others beside it.
#[derive(Clone, Copy)]
pub(super) struct Lane<'s> {
    pub(super) stage: &'s Stage,
    pub(super) number: usize,
}

/// What a gateway holds.
pub(super) struct Holdings {
    files: usize,
    resident: u64,
}

impl Stage {
    pub(super) fn new(driver: &str, transport: Transport) -> Stage {
        let listeners: [_; LANES] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        Stage { listeners: listeners.into(), ..Stage::in_front_of(addresses, driver, transport) }
    }

    pub(super) fn in_front_of(addresses: [SocketAddr; LANES], driver: &str, transport: Transport) -> Stage {
        let authority = Authority::root("Upstream Root");
        let mut builder = Gateway::builder()
            .io(driver)
            .listener("http2 = true")
            .limits("body_bytes_max = \"unlimited\", head_bytes_max = \"8KiB\"");
        builder.pki().write_authorities("up-ca.pem", &[&authority]);
        builder.pki().write_pem("client", &authority.issue(&Leaf::client("ringward")));
        let cluster = |name: &str, address: SocketAddr, keys: &str| {
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
        let mut host = Host::new(&[HOST]);
        for (lane, address) in addresses.into_iter().enumerate() {
            let [patient, hasty] = clusters(lane);
            builder = builder.section(&cluster(&patient, address, ""));
            let short = "connect_timeout = \"2s\"\nresponse_timeout = \"2s\"";
            builder = builder.section(&cluster(&hasty, address, short));
            for (route, cluster, keys) in [
                ("patient", &patient, ""),
                ("hasty", &hasty, ""),
                ("limited", &patient, "request_timeout = \"2s\""),
            ] {
                let path = format!("path = \"/{route}/{lane}/{{rest...}}\"");
                host = host.route(&path, &format!("cluster = \"{cluster}\"\n{keys}"));
            }
        }
        let gateway = builder.host(host.route("path = \"/{rest...}\"", "")).start();
        Stage { gateway, transport, authority, listeners: Vec::new() }
    }

    pub(super) fn lanes(&self) -> [Lane<'_>; LANES] {
        std::array::from_fn(|number| Lane { stage: self, number })
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

impl Lane<'_> {
    /// How many failures of its clusters were counted, by reason.
    pub(super) fn failures(self) -> BTreeMap<String, f64> {
        let (samples, mut failures) = (scrape(self.stage.gateway.admin), BTreeMap::new());
        for cluster in clusters(self.number) {
            let of_cluster = format!("{ERRORS}{{cluster=\"{cluster}\",reason=\"");
            for (series, count) in samples.iter() {
                if let Some(reason) = series.strip_prefix(&of_cluster) {
                    *failures.entry(reason.trim_end_matches("\"}").to_owned()).or_default() += count;
                }
            }
        }
        failures
    }

    /// Plays the upstream's part of a row.
    pub(super) fn play(self, row: &Row, cues: &Cues, case: &str) {
        let stage = self.stage;
        for steps in &row.connections {
            let tcp = eventually_some(DEADLINE, &format!("{case}: the proxy connects"), || self.accept());
            let below = matches!(steps[0], Step::BelowTls);
            let tls = (stage.transport.is_tls() && !below).then(|| stage.server(row.shows));
            match Wire::open(tcp, tls, stage.transport.is_http2() && !below) {
                Ok(wire) => wire.play(steps, cues, case),
                Err(error) => assert!(row.shows != Shows::Good, "{case}: no handshake: {error}"),
            }
        }
        assert!(self.accept().is_none(), "{case}: the proxy connects again");
    }

    fn accept(self) -> Option<TcpStream> {
        let (tcp, _) = self.stage.listeners.get(self.number)?.accept().ok()?;
        tcp.set_nonblocking(false).unwrap();
        Some(tcp)
    }
}

/// The clusters of a lane: one that waits for long, and one that does not.
fn clusters(lane: usize) -> [String; 2] {
    ["patient", "hasty"].map(|name| format!("{name}{lane}"))
}

/// How many rows may wait at the same time.
pub(super) const LANES: usize = 10;
/// What buffers, caches and the allocator may have kept after all rows. Any one of the large bodies is more.
const GROWTH_MAX: u64 = 32 << 20;
