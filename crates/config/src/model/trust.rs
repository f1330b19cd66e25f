//! Trust bundles, tenants and ticket keys.

use std::time::Duration;

use ringward_identity::{IdentitySource, ObjectId, TenantMatch};

use super::NamedPath;
use crate::diagnostic::Location;
use crate::host::HostName;
pub use crate::raw::{CrlMode, KeyKind, RevocationDepth};
use crate::url::HttpUrl;

/// A trust bundle: the CAs that may sign the certificates of clients.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Its name.
    pub name: String,
    /// Files and directories with the CA certificates; at least one.
    pub ca: Vec<NamedPath>,
    /// The SPIFFE trust domain that it is bound to; no other bundle's.
    pub spiffe_trust_domain: Option<String>,
    /// Whether handshakes name its CAs to clients.
    pub hints: bool,
    /// SHA-256 of subject public key infos, one of which every path must contain; none for no such rule, else at least two.
    pub pins: Vec<[u8; 32]>,
    /// What certificates must be like.
    pub profile: Profile,
    /// Files and directories with revocation lists.
    pub crl: Vec<NamedPath>,
    /// Where revocation lists are fetched from.
    pub crl_urls: Vec<NamedUrl>,
    /// Hosts from which lists may be fetched that certificates name.
    pub crl_distribution_points: Vec<HostName>,
    /// Files with certificates that sign revocation lists.
    pub crl_issuers: Vec<NamedPath>,
    /// The OCSP responder for certificates that name no allowed one.
    pub ocsp_url: Option<NamedUrl>,
    /// Hosts of OCSP responders that may be asked when certificates name them.
    pub ocsp_hosts: Vec<HostName>,
    /// What revocation lists mean.
    pub revocation: RevocationPolicy,
    /// Where it is defined.
    pub at: Location,
}

impl Trust {
    /// Whether anything says where OCSP answers about its certificates come from.
    pub fn has_ocsp(&self) -> bool {
        self.ocsp_url.is_some() || !self.ocsp_hosts.is_empty()
    }
}

/// What certificates must be like beyond being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The kinds of keys that leaf and intermediates may have; at least one.
    pub keys: Vec<KeyKind>,
    /// How many bits an RSA modulus has at least.
    pub rsa_bits_min: u32,
    /// Certificate policies, of which the leaf must carry one; none for no such rule.
    pub policies: Vec<ObjectId>,
    /// How many intermediates may stand between CA and leaf; none for as the CAs say.
    pub path_length_max: Option<usize>,
    /// How long a leaf may be valid in all.
    pub leaf_lifetime_max: Option<Duration>,
}

/// What revocation lists mean, and what their absence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Whether certificates are looked up in lists.
    pub crl: CrlMode,
    /// How long a list is used after its `nextUpdate`; none refuses every certificate of its issuer from then on.
    pub stale: Option<Duration>,
    /// How often lists are fetched.
    pub refresh: Duration,
    /// Bytes of one list.
    pub crl_bytes_max: usize,
    /// Which certificates are looked up.
    pub depth: RevocationDepth,
}

/// A URL from the configuration.
#[derive(Clone, Debug)]
pub struct NamedUrl {
    /// The URL.
    pub url: HttpUrl,
    /// Where it is named.
    pub at: Location,
}

/// A named owner of clients.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// The names of the trust bundles that sign for it, which exist; at least one.
    pub trust: Vec<String>,
    /// The conditions of which one must hold; if there are none, every certificate of its bundles is its own.
    pub matches: Vec<TenantCondition>,
    /// What names the client within it.
    pub identity: IdentitySource,
    /// Connections of its clients together, over all workers and listeners.
    pub connections_max: Option<usize>,
    /// Until when its certificates are not looked up in revocation lists or with OCSP, in Unix seconds; in the future when
    /// the file was read.
    pub danger_suspend_revocation_until_unix: Option<i64>,
    /// Where it is defined.
    pub at: Location,
}

/// One condition of a tenant.
#[derive(Clone, Debug)]
pub struct TenantCondition {
    /// What must hold of a certificate.
    pub rule: TenantMatch,
    /// Where it is written.
    pub at: Location,
}

/// The keys that seal session tickets.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The ring that nodes share; none for keys of this process alone.
    pub file: Option<NamedPath>,
    /// How long each key seals.
    pub rotate_every: Duration,
    /// Whether this process writes new keys into `file`.
    pub rotate: bool,
}
