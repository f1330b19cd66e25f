//! `[[listener.host]]`: names, certificates, client authentication, what upstreams are told.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Cors, Count, DurationText, Field, ForwardedIdentity, HeaderEdits, OneOrMany, OneOrMore, Retry, Route,
    WordOrTable,
};

/// `[[listener.host]]`: a virtual host, chosen by the name that the client asks for in the TLS handshake.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[[listener.host]]", default, deny_unknown_fields)]
pub struct Host {
    /// Of a `[[host]]`, which stands apart from its listener: the listener's name. In a `[[listener.host]]` it is refused.
    ///
    /// Required in a `[[host]]`. Example: `listener = "edge"`.
    pub listener: Field<String>,
    /// The names that clients ask for: host names, in which `*.` in front stands for exactly one label, or IP addresses.
    /// A name that is not ASCII is written in its `xn--` form. An address is matched by the `Host` field only, since
    /// clients send no SNI for it (RFC 6066 §3); their handshake is answered by `default_host`.
    ///
    /// Required; 1 to 1000, each once per listener. Example: `names = ["api.example.com", "*.api.example.com"]`.
    pub names: Field<OneOrMany>,
    /// `certificate = { chain = ..., key = ... }`: the certificate that we show; or a list of certificates with keys of
    /// different kinds, of which each client gets one that it can verify, ECDSA before Ed25519 before RSA.
    ///
    /// Required; up to 4.
    pub certificate: Field<OneOrMore<Certificate>>,
    /// `client_auth = { mode = ..., trust = ... }`: whether clients must show a certificate, and whose.
    ///
    /// Required: to admit clients without certificate is a decision to be written down, as `{ mode = "off" }`.
    pub client_auth: Field<ClientAuth>,
    /// `forwarded_identity = { ... }`: load balancers in front of this host that say whose certificate a request's client has.
    ///
    /// Default: none. What a request says of certificates is removed. Example:
    /// `forwarded_identity = { from = { san_uri = "spiffe://example.com/edge" } }`.
    pub forwarded_identity: Field<ForwardedIdentity>,
    /// What clients must have proved before any route of this host serves them. It changes nothing, and refuses a
    /// configuration in which a route is served for less, whoever writes it later: `"mtls"`, a certificate that was
    /// verified, and whose key the client holds, so that every route has to have `client_auth` `"required"`, and nobody
    /// forwards identities (`forwarded_identity`); or `"forwarded"`, the same, or that a load balancer of
    /// `forwarded_identity` vouches for it. `ringward prove` shows for each route the least that gets there.
    ///
    /// Default: none. Example: `require = "mtls"`.
    pub require: Field<Require>,
    /// The policy that decides about every request of this host, or several of which every one has to allow it, unless a route
    /// names its own. They are asked in the order written, and the first that does not allow ends it: its answer is the
    /// client's, and later ones are not asked. What those that allow want changed in a request is done in the same order.
    ///
    /// Required, unless `danger_no_policy = true`; 1 to 8, each once. Example: `policy = "main"`, `policy = ["limits", "main"]`.
    pub policy: Field<OneOrMany>,
    /// `true` serves requests that no policy has looked at, on every route that names none. Only `global_policy` of `[server]`
    /// is asked there, if there is one.
    ///
    /// Default `false`. Example: `danger_no_policy = true`.
    pub danger_no_policy: Field<bool>,
    /// `forward = { ... }`: what upstreams are told about the client.
    ///
    /// Default: all its defaults.
    pub forward: Field<Forward>,
    /// `cors = { ... }`: pages of these origins may use its routes from a browser. Ringward answers preflights (OPTIONS with
    /// `Origin` and `Access-Control-Request-Method`) for the route that takes the method which is asked for: they do not reach the
    /// upstream, and no policy is asked. `client_auth` of the route counts for them as for every request. In responses all
    /// `Access-Control-` fields of the upstream are replaced. Answers to requests that are refused have none.
    ///
    /// Default: none. Example: `cors = { origins = ["https://app.example.com"], credentials = true }`.
    pub cors: Field<Cors>,
    /// `request_headers = { ... }`: header fields of requests that are changed on the way to upstreams, on every route.
    ///
    /// Default: none. Example: `request_headers = { remove = ["x-debug"] }`.
    pub request_headers: Field<HeaderEdits>,
    /// `response_headers = { ... }`: header fields that are changed in responses, on every route.
    ///
    /// Default: none. Example: `response_headers = { set = { "strict-transport-security" = "max-age=63072000" } }`.
    pub response_headers: Field<HeaderEdits>,
    /// `retry = { ... }`: when a request that failed is sent again, on every route that does not say so itself.
    ///
    /// Default `"off"`. Example: `retry = { status = ["502-504"] }`.
    pub retry: Field<WordOrTable<Retry>>,
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
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
    /// Where the passphrase of an encrypted key (PKCS#8) is: a file, which nobody but its owner, and root, may be able
    /// to read, and which is watched; or `"credential:NAME"` for a systemd credential. One line break at its end is
    /// not part of it.
    ///
    /// Default: none; the key is not encrypted. Example: `passphrase = "credential:api-key"`.
    pub passphrase: Field<String>,
    /// The OCSP response that goes with the certificate: `"off"` for none, `"fetch"` to ask the responder and renew it in
    /// time (needs `state_dir`), or `{ file = "FILE" }`, which is watched. It is verified in any case, and one that has
    /// expired is not sent.
    ///
    /// Default `"off"`. Example: `staple = "fetch"`.
    pub staple: Field<Staple>,
    /// The OCSP responder to ask instead of the one that the certificate names.
    ///
    /// Default: the certificate's own; only with `staple = "fetch"`. Example: `ocsp_url = "http://ocsp.example.com/"`.
    pub ocsp_url: Field<String>,
}

/// Values of `staple` in `certificate`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "certificate.staple", rename_all = "snake_case")]
pub enum Staple {
    /// None.
    Off,
    /// From the responder.
    Fetch,
    /// From this file, DER.
    File(Field<String>),
}

/// `client_auth = { ... }` of a host. A request whose `Host` names another virtual host than the handshake did is
/// answered with 421 unless both have equal client authentication.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "client_auth", default, deny_unknown_fields)]
pub struct ClientAuth {
    /// What routes want of clients that say nothing themselves. `"required"` serves nobody without a valid certificate.
    /// `"optional"` serves clients without certificate too, and leaves them to the policy; a certificate that is shown must
    /// be valid. `"observe"` asks for a certificate and logs what it would have meant, but refuses nobody and knows
    /// nobody: neither policy nor upstream learns of it. `"off"` asks for none.
    ///
    /// The handshake asks as the weakest route of the host does: it refuses clients without certificate if every route
    /// is `"required"`, lets certificates pass that are not valid if a route is `"observe"`, and asks for none if all
    /// are `"off"`. What the handshake has let pass, the stricter routes refuse. A host whose own mode is `"observe"` has
    /// no stricter routes.
    ///
    /// Required. Example: `mode = "required"`.
    pub mode: Field<ClientAuthMode>,
    /// The names of the trust bundles, to one of which client certificates must chain; they are tried in this order. With `*`
    /// at the end of a name all bundles are meant that begin so, in the order of their names; there must be one.
    ///
    /// Required if the host or a route of it asks for certificates, and refused otherwise; up to 256. Example:
    /// `trust = "partners"`, `trust = ["partners", "staff"]`, `trust = "partner-*"`.
    pub trust: Field<OneOrMany>,
    /// The names of the tenants whose clients are admitted, with `*` at the end all that begin so. Certificates of other tenants,
    /// and of none, are refused.
    ///
    /// Default: every certificate, whatever its tenant; up to 256. Example: `tenants = ["acme"]`, `tenants = "partner-*"`.
    pub tenants: Field<OneOrMany>,
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
    /// How long after a client has last proved that it holds its key (a full handshake) it is still served, on
    /// connections that stay open and on resumed ones.
    ///
    /// Default `"8h"`; `"1m"` to `"30d"`. Example: `max_auth_age = "1h"`.
    pub max_auth_age: Field<DurationText>,
    /// Whether OCSP responders are asked about client certificates: `"off"`; `"soft_fail"` serves clients about whom no
    /// answer can be had, and counts them; `"hard_fail"` refuses them. A certificate that is revoked is refused by both.
    /// Whom to ask, the trust bundle says (`ocsp_url`, `ocsp_hosts`). A route may set its own.
    ///
    /// Default `"off"`. Example: `ocsp = "soft_fail"`.
    pub ocsp: Field<OcspMode>,
    /// How long the first request of a client may wait for the first answer about its certificate. Later ones use
    /// the last answer while a new one is fetched.
    ///
    /// Default `"2s"`; `"100ms"` to `"10s"`. Example: `ocsp_timeout = "1s"`.
    pub ocsp_timeout: Field<DurationText>,
}

/// Values of `mode` in `client_auth` and of `client_auth` of a route, ordered from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename = "client_auth.mode", rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// No certificate is asked for.
    Off,
    /// A certificate is asked for and judged, but nobody is refused for it, and nobody is known by it.
    Observe,
    /// A certificate is asked for, and must be valid if there is one.
    Optional,
    /// Nobody is served without a valid certificate.
    Required,
}

impl ClientAuthMode {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }

    /// Whether a client can be known by its certificate under it.
    pub fn identifies(self) -> bool {
        self >= Self::Optional
    }
}

/// Values of `require` of a host and of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "require", rename_all = "snake_case")]
pub enum Require {
    /// A certificate that was verified, and that the client holds the key, to us or to a load balancer that we trust.
    Forwarded,
    /// A certificate that was verified, and to us that the client holds the key.
    Mtls,
}

impl Require {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Mtls => "mtls",
        }
    }
}

/// Values of `ocsp` in `client_auth` and of a route, ordered from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename = "client_auth.ocsp", rename_all = "snake_case")]
pub enum OcspMode {
    /// Nobody is asked.
    Off,
    /// Without an answer the client is served.
    SoftFail,
    /// Without an answer the client is refused.
    HardFail,
}

impl OcspMode {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::SoftFail => "soft_fail",
            Self::HardFail => "hard_fail",
        }
    }
}

/// `forward = { ... }` of a host. Whatever a client sends under these names is removed first.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "forward.xfcc", rename_all = "snake_case")]
pub enum XfccMode {
    /// Not sent.
    Off,
    /// Sent, with what we know.
    Set,
}

/// Values of `x_forwarded` and `forwarded` in `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "forward mode", rename_all = "snake_case")]
pub enum ForwardMode {
    /// Not sent; the client's is removed.
    Off,
    /// Sent, with what we know; the client's is removed.
    Set,
    /// Sent, behind what the client sent.
    Append,
}
