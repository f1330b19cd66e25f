//! Upstreams that fail before there is a connection of TLS.

use std::sync::Arc;

use ringward_testkit::{Authority, Issued, Leaf};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::Step::{BelowTls, Body, Close, IsLeft, Reset, Send};
use super::{Asks, Row, Sees, Step};

/// Keys of the `tls` of the clusters.
pub(super) const KEYS: &str =
    "server_name = \"orders.internal\"\ncertificate = { chain = \"client.pem\", key = \"client.key\" }\n";
const NAME: &str = "orders.internal";

/// What an upstream shows of itself, and wants of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Good,
    /// A certificate of somebody else's authority.
    Stranger,
    OtherName,
    Expired,
    NotYetValid,
    /// A certificate for clients.
    ForClients,
    /// A good one; it speaks a protocol that nobody has offered.
    OtherProtocol,
    /// A good one; our own is of an authority that it does not know.
    Refusal,
}

impl Shows {
    /// A server that does so. `authority` is the one that we trust.
    pub(super) fn server(self, authority: &Authority, http2: bool) -> Arc<ServerConfig> {
        let good = Leaf::server(NAME);
        let issued: Issued = match self {
            Shows::Stranger => Authority::root("Somebody Else").issue(&good),
            Shows::OtherName => authority.issue(&Leaf::server("other.internal")),
            Shows::Expired => authority.issue(&good.expired()),
            Shows::NotYetValid => authority.issue(&good.not_yet_valid()),
            Shows::ForClients => authority.issue(&Leaf::client(NAME).dns(NAME)),
            Shows::Good | Shows::OtherProtocol | Shows::Refusal => authority.issue(&good),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if self == Shows::Refusal {
            let mut roots = RootCertStore::empty();
            roots.add(Authority::root("Another Root").certificate().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(issued.chain().to_vec(), issued.key()).unwrap();
        if http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        if self == Shows::OtherProtocol {
            config.alpn_protocols = vec![b"h3".to_vec()];
        }
        config.into()
    }
}

pub(super) fn rows() -> Vec<Row> {
    let bad = |name, shows, flag| {
        let row = Row::new(name, Asks::Get, vec![IsLeft], Sees::Status(502), flag);
        Row { shows, ..row }
    };
    let played = |name, steps: Vec<Step>, flag| {
        let status = if flag == "upstream_tls_timeout" { 504 } else { 502 };
        Row::new(name, Asks::HastyGet, [vec![BelowTls], steps].concat(), Sees::Status(status), flag)
    };
    let send = |bytes: &[u8]| Send(bytes.to_vec());
    vec![
        bad("certificate of an unknown CA", Shows::Stranger, "upstream_tls_unknown_ca"),
        bad("certificate of another name", Shows::OtherName, "upstream_tls_name_mismatch"),
        bad("expired certificate", Shows::Expired, "upstream_tls_expired"),
        bad("certificate that is not yet valid", Shows::NotYetValid, "upstream_tls_not_yet_valid"),
        bad("certificate for clients", Shows::ForClients, "upstream_tls_bad_certificate"),
        bad("ALPN that is not ours", Shows::OtherProtocol, "upstream_tls_alpn_refused"),
        bad("our certificate refused", Shows::Refusal, "upstream_tls_certificate_refused"),
        played("handshake: nothing", vec![IsLeft], "upstream_tls_timeout"),
        played(
            "handshake: half a record",
            vec![send(b"\x16\x03\x03\x40\x00\x02"), IsLeft],
            "upstream_tls_timeout",
        ),
        played("handshake: closes", vec![Body(1), Close], "upstream_tls_closed"),
        played("handshake: resets", vec![Body(1), Reset], "upstream_tls_closed"),
        played(
            "handshake: an alert",
            vec![send(b"\x15\x03\x03\x00\x02\x02\x70"), IsLeft],
            "upstream_tls_peer_alert",
        ),
        played(
            "handshake: plain HTTP",
            vec![send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), IsLeft],
            "upstream_tls_malformed",
        ),
        played(
            "handshake: a greeting of SMTP",
            vec![send(b"220 mail.example.com ESMTP\r\n"), IsLeft],
            "upstream_tls_malformed",
        ),
        played(
            "handshake: records that are none",
            vec![Step::Flood(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00".to_vec())],
            "upstream_tls_malformed",
        ),
    ]
}
