//! What is measured, and the load that each case is.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::{Serialize, Serializer};

/// One of the things that are measured. `+policy`: the proxy authorizes each request by the client's identity and the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(super) load: Load,
    pub(super) policy: bool,
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// GETs of a small answer over HTTP/1.1, as fast as the proxy can.
    Keepalive,
    /// The same over HTTP/2, with streams.
    Http2,
    /// A connection with a full handshake for each GET.
    HandshakeFull,
    /// The same with sessions that are resumed.
    HandshakeResumed,
    /// Large bodies.
    Download,
    Upload,
    /// Connections that wait.
    Idle,
    /// GETs at a fixed rate that every proxy gets.
    Latency,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Amount {
    /// How long each measured run is, and the one before it that warms up.
    pub(super) seconds: f64,
    pub(super) warm_up_seconds: f64,
    pub(super) idle_connections: u32,
    /// How long idle connections are left alone before memory is read.
    pub(super) settle_seconds: f64,
    pub(super) body_bytes: u64,
}

/// What one run is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    WarmUp,
    Measure,
}

impl Case {
    pub(super) const ALL: [Case; 14] = [
        Case { load: Load::Keepalive, policy: false },
        Case { load: Load::Keepalive, policy: true },
        Case { load: Load::Http2, policy: false },
        Case { load: Load::Http2, policy: true },
        Case { load: Load::HandshakeFull, policy: false },
        Case { load: Load::HandshakeFull, policy: true },
        Case { load: Load::HandshakeResumed, policy: false },
        Case { load: Load::HandshakeResumed, policy: true },
        // A policy decides once for a body of any size.
        Case { load: Load::Download, policy: false },
        Case { load: Load::Upload, policy: false },
        Case { load: Load::Idle, policy: false },
        Case { load: Load::Idle, policy: true },
        Case { load: Load::Latency, policy: false },
        Case { load: Load::Latency, policy: true },
    ];

    pub(super) fn name(self) -> &'static str {
        match (self.load, self.policy) {
            (Load::Keepalive, false) => "keepalive",
            (Load::Keepalive, true) => "policy",
            (Load::Http2, false) => "h2",
            (Load::Http2, true) => "h2+policy",
            (Load::HandshakeFull, false) => "handshake-full",
            (Load::HandshakeFull, true) => "handshake-full+policy",
            (Load::HandshakeResumed, false) => "handshake-resumed",
            (Load::HandshakeResumed, true) => "handshake-resumed+policy",
            (Load::Download, _) => "download",
            (Load::Upload, _) => "upload",
            (Load::Idle, false) => "idle",
            (Load::Idle, true) => "idle+policy",
            (Load::Latency, false) => "latency",
            (Load::Latency, true) => "latency+policy",
        }
    }

    /// What its figure is, for which less is better.
    pub(super) fn unit(self) -> &'static str {
        match self.load {
            Load::Keepalive | Load::Http2 => "CPU µs/request",
            Load::HandshakeFull | Load::HandshakeResumed => "CPU µs/connection",
            Load::Download | Load::Upload => "CPU s/GB",
            Load::Idle => "KiB/connection",
            Load::Latency => "p99 µs",
        }
    }

    /// What its rate counts.
    pub(super) fn rate_unit(self) -> &'static str {
        match self.load {
            Load::Keepalive | Load::Http2 | Load::Latency => "requests/s",
            Load::HandshakeFull | Load::HandshakeResumed => "connections/s",
            Load::Download | Load::Upload => "GB/s",
            Load::Idle => "",
        }
    }

    /// Whether the proxy has to be busy for its figure to say something.
    pub(super) fn saturates(self) -> bool {
        !matches!(self.load, Load::Idle | Load::Latency)
    }

    /// The arguments of `ringward-load run` that make this load; `rate` is that of latency.
    pub(super) fn arguments(self, amount: &Amount, purpose: Purpose, rate: u64) -> String {
        let seconds = match purpose {
            Purpose::WarmUp => amount.warm_up_seconds,
            Purpose::Measure => amount.seconds,
        };
        let small = "--path /api/v1/items --expect-bytes 128";
        let bytes = amount.body_bytes;
        let load = match self.load {
            Load::Keepalive => format!("--mode keepalive --connections 64 {small}"),
            Load::Http2 => format!("--mode keepalive --http2 --connections 16 --streams 32 {small}"),
            Load::HandshakeFull => format!("--mode handshake --connections 16 {small}"),
            Load::HandshakeResumed => format!("--mode handshake --resume --connections 16 {small}"),
            Load::Download => {
                format!("--mode download --connections 4 --path /bytes/{bytes} --expect-bytes {bytes}")
            }
            Load::Upload => {
                format!(
                    "--mode upload --connections 4 --path /discard --body-bytes {bytes} --expect-bytes 128"
                )
            }
            Load::Idle => {
                let (connections, hold) = match purpose {
                    // What a proxy allocates once is not to be counted for each connection.
                    Purpose::WarmUp => (1, 0.01),
                    Purpose::Measure => (amount.idle_connections, amount.settle_seconds + HOLD_AFTER_SECONDS),
                };
                return format!("--mode idle --connections {connections} --hold {hold} {small}");
            }
            Load::Latency => format!("--mode keepalive --connections 64 --rate {rate} {small}"),
        };
        format!("{load} --duration {seconds}")
    }
}

impl ValueEnum for Case {
    fn value_variants<'a>() -> &'a [Case] {
        &Case::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// So long idle connections stay after memory is to be read, which takes some milliseconds.
const HOLD_AFTER_SECONDS: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::parse;

    #[test]
    fn every_case_is_a_load_that_can_be_made() {
        let amount = Amount {
            seconds: 2.0,
            warm_up_seconds: 0.5,
            idle_connections: 10,
            settle_seconds: 0.5,
            body_bytes: 1000,
        };
        for case in Case::ALL {
            for purpose in [Purpose::WarmUp, Purpose::Measure] {
                let load = case.arguments(&amount, purpose, 100);
                parse(&format!("--target 127.0.0.1:1 --server-name a.example --ca ca.pem {load}"))
                    .unwrap_or_else(|error| panic!("{}: {error}", case.name()));
            }
        }
    }
}
