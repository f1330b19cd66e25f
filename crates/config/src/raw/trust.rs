//! `[trust.NAME]`, `[tenant.NAME]` and `[keys]`: who is believed, and whose they are.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DateTime, DurationText, Field, OneOrMany, SizeText};

/// `[trust.NAME]`: a trust bundle, the CAs that may sign the certificates of clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[trust.NAME]", default, deny_unknown_fields)]
pub struct Trust {
    /// Files and directories with PEM certificates of the CAs; in a directory those named `*.pem`, `*.crt` or `*.cer`.
    /// They are watched, and a change takes effect without a restart. Bundles of public web CAs, such as the system's,
    /// are refused: whoever can buy a web certificate would be a client.
    ///
    /// Required; 1 to 64. Example: `ca = ["trust/partners/"]`.
    pub ca: Field<OneOrMany>,
    /// The SPIFFE trust domain of this bundle. Its CAs then admit SPIFFE IDs of this domain and nothing else, and on
    /// hosts that trust it no other bundle admits them.
    ///
    /// Default: none; no other bundle's. Example: `spiffe_trust_domain = "prod.example.com"`.
    pub spiffe_trust_domain: Field<String>,
    /// Whether the handshake names these CAs to clients, so that those with several certificates can choose. Everybody
    /// who connects learns the names; together they may have 4 KiB per host.
    ///
    /// Default `false`. Example: `hints = true`.
    pub hints: Field<bool>,
    /// SHA-256 of public keys (SubjectPublicKeyInfo, RFC 7469 §2.4), as `sha256/` and base64: of every client's chain some
    /// certificate, the CA included, must have one of them. One is a spare whose key is kept elsewhere, so that the
    /// loss of a key does not lock everybody out.
    ///
    /// Default: none; 2 to 64. Example: `pins = ["sha256/AAAA...=", "sha256/BBBB...="]`.
    pub pins: Field<OneOrMany>,
    /// `profile = { ... }`: what certificates must be like beyond being signed.
    ///
    /// Default: all its defaults.
    pub profile: Field<Profile>,
    /// Files and directories with certificate revocation lists, DER or PEM; in a directory those named `*.crl`, `*.pem` or
    /// `*.der`. They are watched, and a change takes effect without a restart, also on connections that are open. Needs
    /// `state_dir`, where the highest number of each list is kept, so that an older list is never taken again.
    ///
    /// Default: none; up to 64. Example: `crl = ["crl/"]`.
    pub crl: Field<OneOrMany>,
    /// URLs of revocation lists, which are fetched every `refresh` and kept in `state_dir`.
    ///
    /// Default: none; up to 64. Example: `crl_urls = ["http://pki.example.com/partners.crl"]`.
    pub crl_urls: Field<OneOrMany>,
    /// Hosts from which lists may be fetched that a client's certificate names (CRL distribution points). The certificate
    /// must have been verified first; hosts that are not named here are never asked. A name leads to public addresses, and to
    /// private ones (this machine, the own network) only if they are listed beside it. Needs `state_dir`.
    ///
    /// Default: none; up to 64. Example: `crl_distribution_points = ["pki.example.com"]`.
    pub crl_distribution_points: Field<OneOrMany>,
    /// Files with PEM certificates of intermediates that sign revocation lists, for lists that come before the first
    /// client of that intermediate. Watched.
    ///
    /// Default: none, and lists are signed by the CAs themselves and by intermediates that clients have shown; up to 64.
    /// Example: `crl_issuers = ["trust/partners-issuing.pem"]`.
    pub crl_issuers: Field<OneOrMany>,
    /// The OCSP responder to ask about certificates that name none of `ocsp_hosts`. It is asked only for hosts and
    /// routes whose `ocsp` is on.
    ///
    /// Default: none. Example: `ocsp_url = "http://ocsp.example.com/"`.
    pub ocsp_url: Field<String>,
    /// Hosts of OCSP responders that may be asked when a client's verified certificate names them (authority information
    /// access); others are never asked. A name leads to public addresses, and to private ones only if they are listed beside
    /// it.
    ///
    /// Default: none; up to 64. Example: `ocsp_hosts = ["ocsp.example.com"]`.
    pub ocsp_hosts: Field<OneOrMany>,
    /// `revocation = { ... }`: what the lists mean, and what their absence means.
    ///
    /// Default: all its defaults.
    pub revocation: Field<Revocation>,
}

/// `profile = { ... }` of a trust bundle: what the certificates of clients must be like. The CA itself is not judged.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "profile", default, deny_unknown_fields)]
pub struct Profile {
    /// The kinds of public keys that leaf and intermediates may have: `"ecdsa-p256"`, `"ecdsa-p384"`, `"ecdsa-p521"`,
    /// `"ed25519"`, `"rsa"`.
    ///
    /// Default: all of them. Example: `keys = ["ecdsa-p256", "ecdsa-p384"]`.
    pub keys: Field<Vec<Field<KeyKind>>>,
    /// How many bits the modulus of an RSA key has at least.
    ///
    /// Default 2048; 2048 to 8192. Example: `rsa_bits_min = 3072`.
    pub rsa_bits_min: Field<Count>,
    /// Object identifiers of certificate policies, of which the leaf must carry one.
    ///
    /// Default: none, and none is asked for; up to 16. Example: `policies = ["1.3.6.1.4.1.99999.1.2"]`.
    pub policies: Field<OneOrMany>,
    /// How many intermediates may stand between the CA and the leaf, whatever the CA says itself.
    ///
    /// Default: as the CAs say; 0 to 4. Example: `path_length_max = 1`.
    pub path_length_max: Field<Count>,
    /// How long a leaf may be valid in all, from its first moment to its last. Short-lived certificates need no
    /// revocation; a long-lived one among them is a mistake.
    ///
    /// Default: any; `"1m"` to `"3650d"`. Example: `leaf_lifetime_max = "24h"`.
    pub leaf_lifetime_max: Field<DurationText>,
}

/// Values of `keys` in `profile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename = "profile.keys", rename_all = "kebab-case")]
pub enum KeyKind {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::EcdsaP256, Self::EcdsaP384, Self::EcdsaP521, Self::Ed25519, Self::Rsa];

    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

/// `revocation = { ... }` of a trust bundle.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "revocation", default, deny_unknown_fields)]
pub struct Revocation {
    /// Whether certificates are looked up in revocation lists: `"required"` refuses those whose issuer has no list here,
    /// `"if_present"` lets them pass, `"off"` looks nothing up.
    ///
    /// Default: `"required"` if `crl`, `crl_urls` or `crl_distribution_points` is given, else `"off"`. Example:
    /// `crl = "if_present"`.
    pub crl: Field<CrlMode>,
    /// What becomes of a list after its `nextUpdate`: `"deny"` refuses every certificate of its issuer until there is a
    /// newer list; a duration uses the old list for that long before it does.
    ///
    /// Default `"deny"`; `"1m"` to `"7d"`. Example: `stale = "12h"`.
    pub stale: Field<DurationText>,
    /// How often lists are fetched from URLs; earlier where a list's `nextUpdate` asks for it.
    ///
    /// Default `"1h"`; `"1m"` to `"1d"`. Example: `refresh = "15m"`.
    pub refresh: Field<DurationText>,
    /// How large a revocation list may be, read or fetched.
    ///
    /// Default `"64MiB"`; `"1KiB"` to `"256MiB"`. Example: `crl_bytes_max = "1MiB"`.
    pub crl_bytes_max: Field<SizeText>,
    /// Which certificates of a client's chain are looked up in lists: `"chain"` for all below the CA, `"leaf"` for the
    /// client's own. OCSP, where a route asks for it, is about the client's own in any case.
    ///
    /// Default `"chain"`. Example: `depth = "leaf"`.
    pub depth: Field<RevocationDepth>,
}

/// Values of `crl` in `revocation`, ordered from lax to strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename = "revocation.crl", rename_all = "snake_case")]
pub enum CrlMode {
    /// Nothing is looked up.
    Off,
    /// A certificate whose issuer has no list passes.
    IfPresent,
    /// A certificate whose issuer has no list is refused.
    Required,
}

impl CrlMode {
    /// The word that stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::IfPresent => "if_present",
            Self::Required => "required",
        }
    }
}

/// Values of `depth` in `revocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename = "revocation.depth", rename_all = "snake_case")]
pub enum RevocationDepth {
    /// Leaf and intermediates.
    Chain,
    /// The leaf.
    Leaf,
}

/// `[tenant.NAME]`: a named owner of clients. Its rules turn a verified certificate into this tenant and an identity,
/// which policies, logs and metrics see, and by which hosts can admit clients. No certificate may be two tenants':
/// rules that overlap are refused.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[tenant.NAME]", default, deny_unknown_fields)]
pub struct Tenant {
    /// The names of the trust bundles that sign for this tenant. Certificates of other bundles are never its own.
    ///
    /// Required; 1 to 16. Example: `trust = ["partners"]`.
    pub trust: Field<OneOrMany>,
    /// What makes a certificate this tenant's: a list of conditions, one key each, of which one must hold.
    ///
    /// Required, 1 to 64, unless the bundles of `trust` are no other tenant's: then every certificate of theirs is this
    /// tenant's. Example: `match = [{ spiffe_trust_domain = "acme.example" }, { san_dns = "*.acme.example" }]`.
    pub r#match: Field<Vec<Field<TenantMatch>>>,
    /// What names the client within its tenant: `"name"` (the SPIFFE ID, else the first URI, else the first DNS name, else
    /// the subject), `"spiffe_id"`, `"san_uri"`, `"san_dns"`, `"san_email"`, `"common_name"` or `"fingerprint"`. A
    /// certificate without exactly one such name is refused.
    ///
    /// Default `"name"`. Example: `identity = "common_name"`.
    pub identity: Field<IdentitySource>,
    /// `limits = { ... }`: what the clients of this tenant may use together.
    ///
    /// Default: no limits.
    pub limits: Field<TenantLimits>,
    /// Until this moment, at most 24 hours ahead, certificates of this tenant are not looked up in revocation lists or
    /// with OCSP; the deny list still holds. For the day on which the CA publishes nothing. It is logged and counted, and
    /// ends by itself.
    ///
    /// Default: none. Example: `danger_suspend_revocation_until = 2027-03-01T18:00:00Z`.
    pub danger_suspend_revocation_until: Field<DateTime>,
}

/// One condition of `match` in `[tenant.NAME]`: exactly one of these keys. Values are compared exactly as the certificate
/// has them, unless the key says otherwise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "match of a tenant", default, deny_unknown_fields)]
pub struct TenantMatch {
    /// The SPIFFE ID is of this trust domain.
    ///
    /// Default: no such condition. Example: `{ spiffe_trust_domain = "acme.example" }`.
    pub spiffe_trust_domain: Field<String>,
    /// A URI among the alternative names: this one, or with `/*` at the end every one below it.
    ///
    /// Default: no such condition. Example: `{ san_uri = "https://acme.example/clients/*" }`.
    pub san_uri: Field<String>,
    /// A DNS name among the alternative names: this one, or with `*.` in front exactly one label before it. Case does not
    /// matter.
    ///
    /// Default: no such condition. Example: `{ san_dns = "*.acme.example" }`.
    pub san_dns: Field<String>,
    /// A mail address among the alternative names: this one, or with `@` in front every one of that domain. Case does not
    /// matter in the domain.
    ///
    /// Default: no such condition. Example: `{ san_email = "@acme.example" }`.
    pub san_email: Field<String>,
    /// An organizational unit of the subject.
    ///
    /// Default: no such condition. Example: `{ ou = "Acme" }`.
    pub ou: Field<String>,
    /// An organization of the subject.
    ///
    /// Default: no such condition. Example: `{ organization = "Acme Ltd" }`.
    pub organization: Field<String>,
    /// An organization identifier of the subject (ETSI EN 319 412-1).
    ///
    /// Default: no such condition. Example: `{ organization_identifier = "PSDGB-FCA-123456" }`.
    pub organization_identifier: Field<String>,
    /// The whole name of the issuer (RFC 4514).
    ///
    /// Default: no such condition. Example: `{ issuer = "CN=Acme Issuing CA,O=Acme Ltd" }`.
    pub issuer: Field<String>,
}

/// `limits = { ... }` of a tenant.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "limits of a tenant", default, deny_unknown_fields)]
pub struct TenantLimits {
    /// How many connections its clients may have open at the same time, over all workers and listeners.
    ///
    /// Default: no limit but the listener's; 1 to 10000000. Example: `connections_max = 500`.
    pub connections_max: Field<Count>,
}

/// Values of `identity` in `[tenant.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename = "tenant.identity", rename_all = "snake_case")]
pub enum IdentitySource {
    /// The first of SPIFFE ID, URI, DNS name and subject.
    Name,
    /// The SPIFFE ID.
    SpiffeId,
    /// The URI among the alternative names.
    SanUri,
    /// The DNS name among the alternative names.
    SanDns,
    /// The mail address among the alternative names.
    SanEmail,
    /// The common name of the subject.
    CommonName,
    /// SHA-256 of the certificate, in hexadecimal.
    Fingerprint,
}

impl From<IdentitySource> for ringward_identity::IdentitySource {
    fn from(source: IdentitySource) -> Self {
        match source {
            IdentitySource::Name => Self::Name,
            IdentitySource::SpiffeId => Self::SpiffeId,
            IdentitySource::SanUri => Self::SanUri,
            IdentitySource::SanDns => Self::SanDns,
            IdentitySource::SanEmail => Self::SanEmail,
            IdentitySource::CommonName => Self::CommonName,
            IdentitySource::Fingerprint => Self::Fingerprint,
        }
    }
}

/// `[keys]`: the keys that seal session tickets.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[keys]", default, deny_unknown_fields)]
pub struct Keys {
    /// The key ring, which several nodes may share so that a client can resume on any of them: a file that `ringward keys
    /// new` makes. It is a secret like a private key; nobody but its owner, and root, may be able to read it. Watched.
    ///
    /// Default: none, and each process makes keys of its own. Example: `file = "tickets.ring"`.
    pub file: Field<String>,
    /// How long each key seals tickets. It opens them for as long again, so a ticket is of use for up to twice this time.
    ///
    /// Default `"4h"`; `"1h"` to `"24h"`. Example: `rotate_every = "1h"`.
    pub rotate_every: Field<DurationText>,
    /// `true` has this node write new keys into the file in time. Of the nodes that share a ring, one does it.
    ///
    /// Default `false`; needs `file`. Example: `rotate = true`.
    pub rotate: Field<bool>,
}
