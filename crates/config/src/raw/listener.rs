//! `[[listener]]` and what stands below it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_spanned::Spanned;

use super::{Count, CountOrWord, DurationText, Field, OneOrMany, SizeText};

/// `[[listener]]`: addresses that accept TLS 1.3 connections, and the virtual hosts behind them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "[[listener]]", default, deny_unknown_fields)]
pub struct Listener {
    /// The listener's name in logs and metrics.
    ///
    /// Required, and no other listener's. Example: `name = "edge"`.
    pub name: Field<String>,
    /// The addresses to listen on: IP address and port each. `0.0.0.0` takes every IPv4 address, and `[::]` every
    /// address, unless `0.0.0.0` is bound with the same port: then it takes IPv6 only.
    ///
    /// Required; 1 to 64, overlapping with no other. Example: `bind = ["[::]:8443"]`.
    pub bind: Field<OneOrMany>,
    /// The virtual host that answers a client that asks for no host (no SNI) or for an unknown one, by a name that it
    /// answers to. It must not be laxer than any other host of this listener: its `client_auth` has at least the mode of
    /// every other, and the trust of every other that verifies certificates, with an `intermediates_max` that is no
    /// larger and a `require_eku` that is no laxer. Without a default host such handshakes are refused.
    ///
    /// Default: none. Example: `default_host = "api.example.com"`.
    pub default_host: Field<String>,
    /// How many connections may wait to be accepted, per socket. The kernel lowers it to `net.core.somaxconn`.
    ///
    /// Default 4096; 1 to 65535. Example: `backlog = 1024`.
    pub backlog: Field<Count>,
    /// `limits = { ... }`: what downstream connections of this listener may use.
    ///
    /// Default: all its defaults.
    pub limits: Field<Limits>,
    /// `[[listener.host]]`: the virtual hosts.
    ///
    /// Required; at least one.
    pub host: Field<Vec<Field<Host>>>,
}

/// `limits = { ... }` of a listener.
#[derive(Clone, Debug, Default, Deserialize)]
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

/// `[[listener.host]]`: a virtual host, chosen by the name that the client asks for in the TLS handshake.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "[[listener.host]]", default, deny_unknown_fields)]
pub struct Host {
    /// The names that clients ask for: host names, in which `*.` in front stands for exactly one label, or IP addresses.
    /// A name that is not ASCII is written in its `xn--` form. An address is matched by the `Host` field only, since
    /// clients send no SNI for it (RFC 6066 §3); their handshake is answered by `default_host`.
    ///
    /// Required; 1 to 1000, each once per listener. Example: `names = ["api.example.com", "*.api.example.com"]`.
    pub names: Field<OneOrMany>,
    /// `certificate = { chain = ..., key = ... }`: the certificate that we show.
    ///
    /// Required.
    pub certificate: Field<Certificate>,
    /// `client_auth = { mode = ..., trust = ... }`: whether clients must show a certificate, and whose.
    ///
    /// Required: to admit clients without certificate is a decision to be written down, as `{ mode = "off" }`.
    pub client_auth: Field<ClientAuth>,
    /// The name of the policy that decides about every request of this host, unless a route names its own.
    ///
    /// Required, unless `danger_no_policy = true`. Example: `policy = "main"`.
    pub policy: Field<String>,
    /// `true` serves requests that no policy has looked at, on every route that names none.
    ///
    /// Default `false`. Example: `danger_no_policy = true`.
    pub danger_no_policy: Field<bool>,
    /// `forward = { ... }`: what upstreams are told about the client.
    ///
    /// Default: all its defaults.
    pub forward: Field<Forward>,
    /// `true` serves with a certificate of ours that has expired, which clients should refuse.
    ///
    /// Default `false`. Example: `danger_allow_expired_certificate = true`.
    pub danger_allow_expired_certificate: Field<bool>,
    /// `[[listener.host.route]]`: where requests go. Of all routes whose path matches, the most specific one is taken:
    /// segment by segment from the left, a literal before `{name}` before `{rest...}`; among routes with one template,
    /// those that name the method before those that take all. The method is looked at last: if the most specific template
    /// does not take it, the answer is 405, and no less specific route is tried.
    ///
    /// Default: none, and every request is answered with 404.
    pub route: Field<Vec<Field<Route>>>,
}

/// `certificate = { ... }` of a host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "certificate", default, deny_unknown_fields)]
pub struct Certificate {
    /// The PEM file with the certificate, followed by its intermediates. Watched.
    ///
    /// Required. Example: `chain = "tls/api.pem"`.
    pub chain: Field<String>,
    /// The PEM file with the private key; nobody but its owner, and root, may be able to read it. Watched.
    ///
    /// Required. Example: `key = "tls/api.key"`.
    pub key: Field<String>,
}

/// `client_auth = { ... }` of a host. A request whose `Host` names another virtual host than the handshake did is
/// answered with 421 unless both have equal client authentication.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "client_auth", default, deny_unknown_fields)]
pub struct ClientAuth {
    /// `"required"` refuses handshakes without a client certificate, `"optional"` asks for one and lets policies decide
    /// about clients without, `"off"` asks for none. One that is shown must always be valid.
    ///
    /// Required. Example: `mode = "required"`.
    pub mode: Field<ClientAuthMode>,
    /// The name of the trust bundle that client certificates must chain to.
    ///
    /// Required with `"required"` and `"optional"`, refused with `"off"`. Example: `trust = "partners"`.
    pub trust: Field<String>,
    /// How many intermediates a client may send. Each costs a signature check before anything is known about the client.
    ///
    /// Default 4; 0 to 4. Example: `intermediates_max = 1`.
    pub intermediates_max: Field<Count>,
    /// Whether the certificate must carry the extended key usage `clientAuth`. `false` accepts those without any
    /// extended key usage, as older private CAs issue them, and still refuses those that name others only.
    ///
    /// Default `true`. Example: `require_eku = false`.
    pub require_eku: Field<bool>,
    /// Object identifiers of certificate extensions whose values policies get to see beside the usual claims.
    ///
    /// Default: none; up to 16. Example: `extensions = ["1.3.6.1.4.1.57264.1.8"]`.
    pub extensions: Field<OneOrMany>,
}

/// Values of `mode` in `client_auth`, ordered from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename = "client_auth.mode", rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    Off,
    /// A certificate is asked for, and must be valid if there is one.
    Optional,
    /// No handshake without a valid certificate.
    Required,
}

impl ClientAuthMode {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// `forward = { ... }` of a host. Whatever a client sends under these names is removed first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "forward", default, deny_unknown_fields)]
pub struct Forward {
    /// Whether upstreams get the client's certificate as `Client-Cert` (RFC 9440).
    ///
    /// Default `true`. Example: `client_cert = false`.
    pub client_cert: Field<bool>,
    /// Whether upstreams get the rest of the client's chain as `Client-Cert-Chain` (RFC 9440).
    ///
    /// Default `false`. Example: `client_cert_chain = true`.
    pub client_cert_chain: Field<bool>,
    /// Whether upstreams get Envoy's `x-forwarded-client-cert`: `"off"` or `"set"`.
    ///
    /// Default `"off"`. Example: `xfcc = "set"`.
    pub xfcc: Field<XfccMode>,
    /// `X-Forwarded-For`, `-Proto` and `-Host`: `"off"` removes them, `"set"` replaces what the client sent, `"append"`
    /// believes what the client sent and adds to it.
    ///
    /// Default `"set"`. Example: `x_forwarded = "append"`.
    pub x_forwarded: Field<ForwardMode>,
    /// `Forwarded` (RFC 7239): `"off"`, `"set"` or `"append"`, as for `x_forwarded`.
    ///
    /// Default `"off"`. Example: `forwarded = "set"`.
    pub forwarded: Field<ForwardMode>,
    /// Our name in the `Via` field of what we forward (RFC 9110 §7.6.3): a pseudonym of letters, digits, `-`, `.` and
    /// `_`, or `""` for no `Via`.
    ///
    /// Default `"ringward"`; up to 64 characters. Example: `via = ""`.
    pub via: Field<String>,
}

/// Values of `xfcc` in `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename = "forward.xfcc", rename_all = "snake_case")]
pub enum XfccMode {
    /// Not sent.
    Off,
    /// Sent, with what we know.
    Set,
}

/// Values of `x_forwarded` and `forwarded` in `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename = "forward mode", rename_all = "snake_case")]
pub enum ForwardMode {
    /// Not sent; the client's is removed.
    Off,
    /// Sent, with what we know; the client's is removed.
    Set,
    /// Sent, behind what the client sent.
    Append,
}

/// `[[listener.host.route]]`: where the requests of a path go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "[[listener.host.route]]", default, deny_unknown_fields)]
pub struct Route {
    /// The route's name in logs, metrics and policies.
    ///
    /// Default: made from methods and template, `get-orders-id` for `GET /orders/{id}`; no other route's of the host.
    /// Example: `id = "orders"`.
    pub id: Field<String>,
    /// `match = { path = ..., methods = ... }`: the requests that take this route.
    ///
    /// Required.
    pub r#match: Field<Match>,
    /// The name of the cluster that they go to.
    ///
    /// Required. Example: `cluster = "orders"`.
    pub cluster: Field<String>,
    /// The name of the policy that decides about them instead of the host's.
    ///
    /// Default: the host's. Example: `policy = "reports"`.
    pub policy: Field<String>,
    /// Words for policies and logs: names of lower-case letters, digits and `_`, with text.
    ///
    /// Default: none; up to 32, values up to 256 characters. Example: `labels = { team = "billing" }`.
    pub labels: Field<BTreeMap<Spanned<String>, Field<String>>>,
    /// Whether `%2F` may stand in the path. It is passed on as it is; many servers take it for a `/`, and thereby see
    /// another path than the policy did.
    ///
    /// Default `false`. Example: `allow_encoded_slash = true`.
    pub allow_encoded_slash: Field<bool>,
    /// How large the body of a request may be, instead of the listener's limit, or `"unlimited"`.
    ///
    /// Default: the listener's; from `"0B"`. Example: `body_bytes_max = "1GB"`.
    pub body_bytes_max: Field<SizeText>,
    /// How long the upstream may take, instead of the cluster's limit.
    ///
    /// Default: the cluster's; `"1ms"` to `"1h"`. Example: `response_timeout = "5m"`.
    pub response_timeout: Field<DurationText>,
}

/// `match = { ... }` of a route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename = "match", default, deny_unknown_fields)]
pub struct Match {
    /// The template of the path. `{name}` stands for one whole segment that is not empty, `{name...}` in the last place for
    /// everything that follows, also nothing. Matched against the normalised path, with case; a path with and
    /// one without a trailing `/` are two.
    ///
    /// Required; up to 2048 bytes, 64 segments, 8 names. Example: `path = "/orders/{id}"`, `path = "/files/{rest...}"`.
    pub path: Field<String>,
    /// The methods, in capitals. `GET` does not include `HEAD`.
    ///
    /// Default: all methods; up to 32. Example: `methods = ["GET", "HEAD"]`.
    pub methods: Field<OneOrMany>,
}
