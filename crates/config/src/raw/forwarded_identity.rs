//! `forwarded_identity` of a host.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Field, IdentityMatch, OneOrMany, OneOrMore};

/// `forwarded_identity = { ... }` of a host: load balancers that end TLS in front of this host and say in each request's header
/// which certificate its client has shown them.
///
/// Such a load balancer has to show a certificate of its own, which is verified by `client_auth` like any other. The certificate
/// that it forwards is verified by the same rules (chain, validity, revocation, extended key usage, tenants): then the
/// request's client is its holder, for routes, policies, logs and upstreams. That it holds the key, the load balancer alone
/// has seen; `ringward prove` calls this `forwarded`. A load balancer's request is never its own: without the header its client
/// is anonymous.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "forwarded_identity", default, deny_unknown_fields)]
pub struct ForwardedIdentity {
    /// The load balancers, by what their own certificates say: conditions as `identity` of `match` has them, or a list of which one
    /// has to be met. What they meet must be nobody else's: who meets it can be anybody.
    ///
    /// Required; up to 16. Example: `from = { san_uri = "spiffe://example.com/edge" }`.
    pub from: Field<OneOrMore<IdentityMatch>>,
    /// What they send: `"client-cert"` for `Client-Cert` and `Client-Cert-Chain` (RFC 9440), or `"x-forwarded-client-cert"` for one
    /// element with `Cert` or `Chain`, as Envoy writes it with `SANITIZE_SET`. Names and hashes without the certificate cannot be
    /// verified, and are refused.
    ///
    /// Default `"client-cert"`. Example: `header = "x-forwarded-client-cert"`.
    pub header: Field<ForwardedIdentityHeader>,
    /// The names of the trust bundles, to one of which forwarded certificates must chain, if these are others than those of the
    /// load balancers.
    ///
    /// Default: those of `client_auth`; up to 16. Example: `trust = "partners"`.
    pub trust: Field<OneOrMany>,
    /// What becomes of such a header from anybody else: `"strip"` removes and counts it, `"refuse"` answers with 400.
    ///
    /// Default `"strip"`. Example: `others = "refuse"`.
    pub others: Field<ForwardedIdentityOthers>,
}

/// Values of `header` in `forwarded_identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "forwarded_identity.header", rename_all = "kebab-case")]
pub enum ForwardedIdentityHeader {
    /// RFC 9440.
    ClientCert,
    /// Envoy's.
    XForwardedClientCert,
}

/// Values of `others` in `forwarded_identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename = "forwarded_identity.others", rename_all = "snake_case")]
pub enum ForwardedIdentityOthers {
    /// The header is removed, and the request served as the connection's.
    Strip,
    /// The request is refused.
    Refuse,
}
