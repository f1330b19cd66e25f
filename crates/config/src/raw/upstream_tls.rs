//! `[cluster.NAME.tls]`: how an upstream proves who it is, and how we do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{CrlMode, DurationText, Field, OneOrMany, RevocationDepth, SizeText, TlsVersion};

/// `tls = { ... }` of `[cluster.NAME]`, or `[cluster.NAME.tls]`: TLS to its endpoints. The endpoint is always verified: its
/// certificate must be signed by one of the CAs of `ca`, and be for `server_name`, for the endpoint's address, or for one of
/// `spiffe_ids`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.tls", default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// Files and directories with PEM certificates of the CAs that sign the certificates of the endpoints; in a directory those
    /// named `*.pem`, `*.crt` or `*.cer`. `"system"` stands for the CAs of the public web that the operating system keeps. They
    /// are watched: a change takes effect with the next request, for which new connections are made.
    ///
    /// Required; 1 to 64. Example: `ca = ["trust/backends.pem"]`.
    pub ca: Field<OneOrMany>,
    /// The host name or IP address that the certificates of the endpoints must be for. A name is also what endpoints are asked
    /// for (SNI).
    ///
    /// Default: the name of `endpoints_dns`, else the address of each endpoint. With `srv` there is none, and it has to be written.
    /// Example: `server_name = "orders.internal"`.
    pub server_name: Field<String>,
    /// SPIFFE IDs of the endpoints: `"spiffe://DOMAIN/PATH"` for one, `"spiffe://DOMAIN/PATH/*"` for all below a path,
    /// `"spiffe://DOMAIN/*"` for all of a trust domain. With them the certificate needs no name, and `server_name` is only what
    /// endpoints are asked for.
    ///
    /// Default: none, and the name decides; up to 64. Example: `spiffe_ids = ["spiffe://prod.example.com/ns/pay/*"]`.
    pub spiffe_ids: Field<OneOrMany>,
    /// SHA-256 of public keys, as in a trust bundle: of every endpoint's chain some certificate, the CA included, must have one
    /// of them.
    ///
    /// Default: none; 2 to 64. Example: `pins = ["sha256/AAAA...=", "sha256/BBBB...="]`.
    pub pins: Field<OneOrMany>,
    /// Files and directories with certificate revocation lists, DER or PEM; in a directory those named `*.crl`, `*.pem` or
    /// `*.der`. Each has to be signed by a CA of `ca` or of `crl_issuers`. They are watched: another list takes effect with the
    /// next request, for which new connections are made. Needs `state_dir`, where the highest number of each list is kept, so
    /// that an older list is never taken again.
    ///
    /// Default: none; up to 64. Example: `crl = ["crl/backends.crl"]`.
    pub crl: Field<OneOrMany>,
    /// Files with PEM certificates of intermediates that sign revocation lists. Watched.
    ///
    /// Default: none, and lists are signed by the CAs of `ca` themselves; up to 64. Example:
    /// `crl_issuers = ["trust/backends-issuing.pem"]`.
    pub crl_issuers: Field<OneOrMany>,
    /// `revocation = { ... }`: what the lists of `crl` mean, and what their absence means.
    ///
    /// Default: all its defaults.
    pub revocation: Field<UpstreamRevocation>,
    /// `certificate = { chain = "FILE", key = "FILE" }`: our own certificate, for endpoints that ask for one.
    ///
    /// Default: none. Example: `certificate = { chain = "tls/client.pem", key = "tls/client.key" }`.
    pub certificate: Field<ClientCertificate>,
    /// The oldest version of TLS that an endpoint may choose: `"1.3"` or `"1.2"`. With 1.2 it must support the extended master
    /// secret (RFC 7627).
    ///
    /// Default `"1.3"`. Example: `min_version = "1.2"`.
    pub min_version: Field<TlsVersion>,
    /// Whether sessions are resumed (TLS 1.3 only), which saves most of a handshake's work. A session is of use for its endpoint,
    /// for this certificate of ours and for this trust only, and not for longer than the endpoint's certificate is valid.
    ///
    /// Default `true`. Example: `resumption = false`.
    pub resumption: Field<bool>,
}

/// `revocation = { ... }` of `[cluster.NAME.tls]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.tls.revocation", default, deny_unknown_fields)]
pub struct UpstreamRevocation {
    /// What becomes of an endpoint with a certificate about which no list of `crl` is: `"required"` refuses it, `"if_present"`
    /// lets it pass. `"off"` is refused where `crl` is written.
    ///
    /// Default `"required"`. Example: `crl = "if_present"`.
    pub crl: Field<CrlMode>,
    /// What becomes of a list after its `nextUpdate`: `"deny"` refuses every certificate of its issuer until there is a
    /// newer list; a duration uses the old list for that long before it does.
    ///
    /// Default `"deny"`; `"1m"` to `"7d"`. Example: `stale = "12h"`.
    pub stale: Field<DurationText>,
    /// How large a file with revocation lists may be.
    ///
    /// Default `"64MiB"`; `"1KiB"` to `"256MiB"`. Example: `crl_bytes_max = "1MiB"`.
    pub crl_bytes_max: Field<SizeText>,
    /// Which certificates of an endpoint's chain are looked up in lists: `"chain"` for all below the CA, `"leaf"` for the
    /// endpoint's own.
    ///
    /// Default `"chain"`. Example: `depth = "leaf"`.
    pub depth: Field<RevocationDepth>,
}

/// `certificate = { ... }` of `[cluster.NAME.tls]`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "cluster.tls.certificate", default, deny_unknown_fields)]
pub struct ClientCertificate {
    /// The PEM file with the certificate, followed by its intermediates. Watched.
    ///
    /// Required. Example: `chain = "tls/client.pem"`.
    pub chain: Field<String>,
    /// The PEM file with the private key; nobody but its owner, and root, may be able to read it. Watched.
    ///
    /// Required. Example: `key = "tls/client.key"`.
    pub key: Field<String>,
    /// Where the passphrase of an encrypted key is, as for the certificate of a host.
    ///
    /// Default: none; the key is not encrypted. Example: `passphrase = "credential:client-key"`.
    pub passphrase: Field<String>,
}
