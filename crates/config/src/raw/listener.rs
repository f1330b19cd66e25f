//! `[[listener]]`, its limits and its TLS.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, CountOrWord, DurationText, Field, Handshakes, Host, OneOrMany, Requests, SizeText};

/// `[[listener]]`: addresses that accept TLS connections, and the virtual hosts behind them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[[listener]]", default, deny_unknown_fields)]
pub struct Listener {
    /// The listener's name in logs and metrics.
    ///
    /// Required, and no other listener's. Example: `name = "edge"`.
    pub name: Field<String>,
    /// The addresses to listen on: IP address and port each. `0.0.0.0` takes every IPv4 address, and `[::]` every
    /// address, unless `0.0.0.0` is bound with the same port: then it takes IPv6 only. Sockets that a service manager hands over
    /// take their place (`ringward help run`).
    ///
    /// Required; 1 to 64, overlapping with no other. Example: `bind = ["[::]:8443"]`.
    pub bind: Field<OneOrMany>,
    /// The virtual host that answers a client that asks for no host (no SNI) or for an unknown one, by a name that it
    /// answers to. It must not be laxer than any other host of this listener: its handshake asks for certificates at
    /// least as strictly as every other's, and compared with every other that knows its clients it trusts no further
    /// bundle, admits no further tenant, and no other key of its `client_auth` is laxer. Without a default host such
    /// handshakes are refused.
    ///
    /// Default: none. Example: `default_host = "api.example.com"`.
    pub default_host: Field<String>,
    /// How many connections may wait to be accepted, per socket that this process opens. The kernel lowers it to
    /// `net.core.somaxconn`.
    ///
    /// Default 4096; 1 to 65535. Example: `backlog = 1024`.
    pub backlog: Field<Count>,
    /// How clients resume TLS 1.3 sessions: `"tickets"` keeps them sealed with the clients, `"cache"` keeps them in the
    /// memory of this process (`session_cache` in `[server]`) and lets each be used once, `"off"` has every connection
    /// begin with a full handshake. A session is resumed only where it was begun, under the same rules for clients,
    /// and a client that would not be admitted today is not admitted by an old session either. TLS 1.2 never resumes.
    ///
    /// Default `"tickets"`. Example: `resumption = "cache"`.
    pub resumption: Field<Resumption>,
    /// Whether clients may speak HTTP/2: it is offered beside HTTP/1.1 in the TLS handshake (ALPN `h2`), and preferred.
    /// What upstreams speak is another matter (`protocol` in `[cluster.NAME]`). Each request of an HTTP/2 connection is decided about, limited,
    /// logged and counted by itself, like one of HTTP/1.1; requests for virtual hosts with other rules for clients than
    /// the handshake's get 421, and those for hosts with the same rules are served.
    ///
    /// Default `true`. Example: `http2 = false`.
    pub http2: Field<bool>,
    /// `proxy_protocol = { ... }`: load balancers in front of this listener that say by the PROXY protocol whose connections
    /// they pass on.
    ///
    /// Default: none. A connection is then the one's at its other end, and one that begins with a header of the PROXY
    /// protocol is refused. Example: `proxy_protocol = { from = "10.0.0.0/24" }`.
    pub proxy_protocol: Field<ProxyProtocol>,
    /// `handshakes = { ... }`: how much TLS handshakes may take, in all and for each network of clients.
    ///
    /// Default: no limit but `connections_max` and `handshake_timeout` in `limits`. Example:
    /// `handshakes = { full_per_second = 3000, per_source = { failures_per_minute = 60 } }`.
    pub handshakes: Field<Handshakes>,
    /// `requests = { ... }`: how many requests may be in work at the same time, and how many wait for that.
    ///
    /// Default: no limit but those of clusters. Example: `requests = { concurrent_max = 2000, queue_max = 200 }`.
    pub requests: Field<Requests>,
    /// `client_address = { ... }`: proxies in front of this listener that say in each request's header whose request it is.
    ///
    /// Default: none. A request is then the connection's, whatever its header says. Example:
    /// `client_address = { from = "10.0.0.0/24" }`.
    pub client_address: Field<ClientAddress>,
    /// `tls = { ... }`: versions, cipher suites and key exchange.
    ///
    /// Default: all its defaults.
    pub tls: Field<Tls>,
    /// `limits = { ... }`: what downstream connections of this listener may use.
    ///
    /// Default: all its defaults.
    pub limits: Field<Limits>,
    /// `[[listener.host]]`: the virtual hosts.
    ///
    /// Required; at least one.
    pub host: Field<Vec<Field<Host>>>,
}

/// `proxy_protocol = { ... }` of a listener: who may say that a connection is another's.
///
/// What is said is the client's address, for policies, logs, limits and upstreams (`X-Forwarded-For`), and nothing of who
/// the client is: that is proved in the TLS handshake, which the load balancer passes on as it is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "proxy_protocol", default, deny_unknown_fields)]
pub struct ProxyProtocol {
    /// The addresses of the load balancers, or networks that nobody else is in. Each of their connections has to begin with
    /// a header of the PROXY protocol, version 1 or 2, and is refused without. A header that names no client (`LOCAL`,
    /// `UNKNOWN`: a check of the load balancer's own) leaves the connection the load balancer's.
    ///
    /// Required; 1 to 256. Example: `from = ["10.0.0.0/24", "2001:db8::7"]`.
    pub from: Field<OneOrMany>,
    /// What becomes of connections from elsewhere: `"refuse"` closes them, `"direct"` serves them as they are, without a
    /// header.
    ///
    /// Default `"refuse"`. Example: `others = "direct"`.
    pub others: Field<ProxyProtocolOthers>,
}

/// Values of `others` in `proxy_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "proxy_protocol.others", rename_all = "snake_case")]
pub enum ProxyProtocolOthers {
    /// They are closed.
    Refuse,
    /// They are served.
    Direct,
}

/// `client_address = { ... }` of a listener: who may say in a request's header that it is another's.
///
/// What is said is the client's address, for policies, logs, limits, `balance` by source and upstreams, and nothing of who the
/// client is. It is taken from the end of the list, as far as those are trusted who have written it; what stands in front of
/// that is the client's own word, and counts for nothing.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "client_address", default, deny_unknown_fields)]
pub struct ClientAddress {
    /// The addresses of the proxies, or networks that nobody else is in. Requests on connections from elsewhere are the
    /// connection's own, and what they say of others is removed and counted, also where `forward` has `"append"`.
    ///
    /// Required; 1 to 256. Example: `from = ["10.0.0.0/24", "2001:db8::7"]`.
    pub from: Field<OneOrMany>,
    /// The field that the proxies write: `"x-forwarded-for"` or `"forwarded"` (RFC 7239). The other one is nobody's word, and
    /// `"append"` in `forward` does not continue it. A request without the field is the proxy's own.
    ///
    /// Default `"x-forwarded-for"`. Example: `header = "forwarded"`.
    pub header: Field<ClientAddressHeader>,
    /// How many proxies add to the field, the nearest included, where the addresses of those in between are not known: the client
    /// is then this element, counted from the end, and a request with fewer is refused with 400. Whoever can get around one of the
    /// proxies can then pretend to be anybody.
    ///
    /// Default: as many as are in `from`; the client is the nearest address that is not. 1 to 16. Example: `hops = 2`.
    pub hops: Field<Count>,
}

/// Values of `header` in `client_address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "client_address.header", rename_all = "kebab-case")]
pub enum ClientAddressHeader {
    /// The list that most proxies write.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// `limits = { ... }` of a listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "limits", default, deny_unknown_fields)]
pub struct Limits {
    /// How many connections may be open at the same time, over all workers. More are closed as soon as they are
    /// accepted.
    ///
    /// Default 20000; 1 to 10000000. Example: `connections_max = 100000`.
    pub connections_max: Field<Count>,
    /// How large the head of a request may be (request line and fields); more is answered with 431.
    ///
    /// Default `"32KiB"`; `"1KiB"` to `"1MiB"`. Example: `head_bytes_max = "16KiB"`.
    pub head_bytes_max: Field<SizeText>,
    /// How many fields the head of a request may have; more are answered with 431.
    ///
    /// Default 100; 1 to 1000. Example: `fields_max = 50`.
    pub fields_max: Field<Count>,
    /// How many requests an HTTP/2 connection may have open at the same time. More are refused, and may be tried again.
    /// It bounds what a connection can make us hold: about 160 KiB for each, when a client asks for large responses and does
    /// not read them.
    ///
    /// Default 100; 1 to 1000. Example: `streams_max = 250`.
    pub streams_max: Field<Count>,
    /// How large the body of a request may be, or `"unlimited"`; more is answered with 413. Bodies are streamed, not
    /// held, so this bounds what upstreams get and not our memory. A route may set its own.
    ///
    /// Default `"10MiB"`; from `"0B"`. Example: `body_bytes_max = "unlimited"`.
    pub body_bytes_max: Field<SizeText>,
    /// How long the TLS handshake may take.
    ///
    /// Default `"10s"`; `"100ms"` to `"5m"`. Example: `handshake_timeout = "5s"`.
    pub handshake_timeout: Field<DurationText>,
    /// How long the head of a request may take from its first byte to its last; answered with 408.
    ///
    /// Default `"10s"`; `"100ms"` to `"5m"`. Example: `header_timeout = "5s"`.
    pub header_timeout: Field<DurationText>,
    /// How long a client may pause within the body of a request, or while it takes our response.
    ///
    /// Default `"30s"`; `"100ms"` to `"1h"`. Example: `body_timeout = "1m"`.
    pub body_timeout: Field<DurationText>,
    /// How long a connection may wait for its next request.
    ///
    /// Default `"60s"`; `"100ms"` to `"24h"`. Example: `idle_timeout = "5m"`.
    pub idle_timeout: Field<DurationText>,
    /// How many requests a connection may make before it is closed, or `"unlimited"`.
    ///
    /// Default `"unlimited"`; from 1. Example: `requests_per_connection_max = 10000`.
    pub requests_per_connection_max: Field<CountOrWord>,
    /// How old a connection may become before it is closed after its current exchange, or `"unlimited"`. A certificate
    /// that expires and a change of trust close connections in any case.
    ///
    /// Default `"unlimited"`; `"1s"` to `"720h"`. Example: `connection_age_max = "1h"`.
    pub connection_age_max: Field<DurationText>,
}

/// Values of `resumption` in `[[listener]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "listener.resumption", rename_all = "snake_case")]
pub enum Resumption {
    /// By tickets, sealed with keys that `[keys]` may share between nodes.
    Tickets,
    /// By the session cache that all workers share.
    Cache,
    /// Not at all.
    Off,
}

impl Resumption {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tickets => "tickets",
            Self::Cache => "cache",
            Self::Off => "off",
        }
    }
}

/// `tls = { ... }` of a listener.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "tls", default, deny_unknown_fields)]
pub struct Tls {
    /// The oldest version of TLS: `"1.3"` or `"1.2"`. With `"1.2"` clients that offer TLS 1.3 still get it; the others
    /// have a full handshake each time, and need the extended master secret (RFC 7627).
    ///
    /// Default `"1.3"`. Example: `min_version = "1.2"`.
    pub min_version: Field<TlsVersion>,
    /// The cipher suites, most wanted first, by their names in the IANA registry. At least one of TLS 1.3, and at least
    /// one of TLS 1.2 if `min_version` admits it.
    ///
    /// Default: all that there are for the versions, AES-128 first; no suite twice. Example:
    /// `cipher_suites = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"]`.
    pub cipher_suites: Field<Vec<Field<CipherSuite>>>,
    /// The groups for key exchange by their names in the IANA registry: `"X25519MLKEM768"`, `"SecP256r1MLKEM768"`,
    /// `"x25519"`, `"secp256r1"`, `"secp384r1"`. The first two resist quantum computers as well. Of several that a client
    /// has, it takes the one that it likes best itself, and in TLS 1.2 the first of this list.
    ///
    /// Default `["X25519MLKEM768", "x25519", "secp256r1", "secp384r1"]`; no group twice. Example:
    /// `groups = ["X25519MLKEM768", "x25519"]`.
    pub groups: Field<Vec<Field<Group>>>,
}

/// Values of `min_version` in `tls`, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename = "tls.min_version")]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

/// Values of `cipher_suites` in `tls`: those with forward secrecy and authenticated encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename = "tls.cipher_suites")]
pub enum CipherSuite {
    /// TLS 1.3, AES-256.
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256GcmSha384,
    /// TLS 1.3, AES-128.
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128GcmSha256,
    /// TLS 1.3, ChaCha20.
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    Chacha20Poly1305Sha256,
    /// TLS 1.2, ECDSA or Ed25519 certificates, AES-256.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdheEcdsaAes256GcmSha384,
    /// TLS 1.2, ECDSA or Ed25519 certificates, AES-128.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdheEcdsaAes128GcmSha256,
    /// TLS 1.2, ECDSA or Ed25519 certificates, ChaCha20.
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheEcdsaChacha20Poly1305Sha256,
    /// TLS 1.2, RSA certificates, AES-256.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    EcdheRsaAes256GcmSha384,
    /// TLS 1.2, RSA certificates, AES-128.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    EcdheRsaAes128GcmSha256,
    /// TLS 1.2, RSA certificates, ChaCha20.
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdheRsaChacha20Poly1305Sha256,
}

impl CipherSuite {
    /// All of them, in the order of preference that is the default: AES-128 costs least, and nobody breaks it.
    pub const ALL: [Self; 9] = [
        Self::Aes128GcmSha256,
        Self::Aes256GcmSha384,
        Self::Chacha20Poly1305Sha256,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheEcdsaChacha20Poly1305Sha256,
        Self::EcdheRsaAes128GcmSha256,
        Self::EcdheRsaAes256GcmSha384,
        Self::EcdheRsaChacha20Poly1305Sha256,
    ];

    /// Its name in the IANA registry, as it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Chacha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
            Self::EcdheEcdsaAes256GcmSha384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Self::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheEcdsaChacha20Poly1305Sha256 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            Self::EcdheRsaAes256GcmSha384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Self::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheRsaChacha20Poly1305Sha256 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The version of TLS that it belongs to.
    pub fn version(self) -> TlsVersion {
        match self {
            Self::Aes256GcmSha384 | Self::Aes128GcmSha256 | Self::Chacha20Poly1305Sha256 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        }
    }
}

/// Values of `groups` in `tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename = "tls.groups")]
pub enum Group {
    /// ML-KEM-768 and X25519 together.
    X25519MLKEM768,
    /// ML-KEM-768 and P-256 together.
    SecP256r1MLKEM768,
    /// X25519.
    #[serde(rename = "x25519")]
    X25519,
    /// P-256.
    #[serde(rename = "secp256r1")]
    Secp256r1,
    /// P-384.
    #[serde(rename = "secp384r1")]
    Secp384r1,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::X25519MLKEM768, Self::SecP256r1MLKEM768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// The default, in order of preference.
    pub const DEFAULT: [Self; 4] = [Self::X25519MLKEM768, Self::X25519, Self::Secp256r1, Self::Secp384r1];

    /// Its name in the IANA registry, as it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X25519MLKEM768 => "X25519MLKEM768",
            Self::SecP256r1MLKEM768 => "SecP256r1MLKEM768",
            Self::X25519 => "x25519",
            Self::Secp256r1 => "secp256r1",
            Self::Secp384r1 => "secp384r1",
        }
    }

    /// Whether TLS 1.2 has it; the groups that resist quantum computers are of TLS 1.3 only.
    pub fn in_tls12(self) -> bool {
        !matches!(self, Self::X25519MLKEM768 | Self::SecP256r1MLKEM768)
    }
}
