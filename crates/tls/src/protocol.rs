//! Which versions of TLS, cipher suites and key exchange groups a host speaks.
//!
//! Hides the names that rustls gives them. Everything offered has forward secrecy and authenticated encryption;
//! nothing else can be configured.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{ProtocolVersion, SupportedCipherSuite};

use crate::host::TlsBuildError;

/// What is spoken, by registered names. The default is TLS 1.3 alone with all that there is for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Serve clients that do not offer TLS 1.3 with TLS 1.2. They must support the extended master secret (RFC
    /// 7627), and never resume.
    pub min_version_12: bool,
    /// Cipher suites in the order of preference. Empty: all that there are for the versions.
    pub suites: Vec<Box<str>>,
    /// Key exchange groups. Their order matters to TLS 1.2 only: in TLS 1.3 that of the client decides. Empty: the
    /// hybrid of X25519 and ML-KEM-768, X25519, P-256 and P-384.
    pub groups: Vec<Box<str>>,
    /// Offer HTTP/2 as well, and prefer it.
    pub http2: bool,
}

impl TlsPolicy {
    /// What rustls is to use.
    ///
    /// # Errors
    ///
    /// [`TlsBuildError`] for an unknown name, or if a version is spoken without a suite or a group for it.
    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsBuildError> {
        let mut cipher_suites = find(&suites(), &self.suites).map_err(TlsBuildError::UnknownSuite)?;
        if self.suites.is_empty() {
            cipher_suites = suites().map(|(_, suite)| suite).into();
        }
        cipher_suites.retain(|suite| self.min_version_12 || suite.tls13().is_some());
        let mut kx_groups = find(&GROUPS, &self.groups).map_err(TlsBuildError::UnknownGroup)?;
        if self.groups.is_empty() {
            kx_groups = GROUPS_DEFAULT.into();
        }
        let lacking = |version| Err(TlsBuildError::NothingFor { version });
        if !cipher_suites.iter().any(|suite| suite.tls13().is_some()) {
            return lacking("TLS 1.3");
        }
        let classical = |group: &&dyn SupportedKxGroup| group.usable_for_version(ProtocolVersion::TLSv1_2);
        let tls12 =
            cipher_suites.iter().any(|suite| suite.tls13().is_none()) && kx_groups.iter().any(classical);
        if self.min_version_12 && !tls12 {
            return lacking("TLS 1.2");
        }
        Ok(Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() }))
    }
}

/// The registered name of a suite that may be negotiated here; empty for any other.
pub(crate) fn suite_name(suite: SupportedCipherSuite) -> &'static str {
    suites().iter().find(|(_, known)| known.suite() == suite.suite()).map_or("", |(name, _)| name)
}

/// The usual name of a version that may be negotiated here; empty for any other, and for none.
pub(crate) fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    }
}

/// The registered name of an application protocol that is spoken here; empty for any other, and for none.
pub(crate) fn application_protocol(name: Option<&[u8]>) -> &'static str {
    match name {
        Some(b"h2") => "h2",
        Some(b"http/1.1") => "http/1.1",
        Some(b"http/1.0") => "http/1.0",
        _ => "",
    }
}

fn find<T: Copy>(known: &[(&str, T)], names: &[Box<str>]) -> Result<Vec<T>, Box<str>> {
    let one = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, item)| *item);
    names.iter().map(|name| one(name).ok_or_else(|| name.clone())).collect()
}

/// In order of preference.
///
/// AES-128 first: its handshake hash is SHA-256, which current processors accelerate, and it is the cheapest suite
/// per byte.
fn suites() -> [(&'static str, SupportedCipherSuite); 9] {
    use cipher_suite::*;
    [
        ("TLS_AES_128_GCM_SHA256", TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ]
}

const GROUPS: [(&str, &dyn SupportedKxGroup); 5] = [
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
    ("SecP256r1MLKEM768", kx_group::SECP256R1MLKEM768),
    ("x25519", kx_group::X25519),
    ("secp256r1", kx_group::SECP256R1),
    ("secp384r1", kx_group::SECP384R1),
];

/// The post-quantum hybrid is there for the clients that put it first.
const GROUPS_DEFAULT: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(min_version_12: bool, suites: &[&str], groups: &[&str]) -> TlsPolicy {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        TlsPolicy { min_version_12, suites: names(suites), groups: names(groups), http2: false }
    }

    fn names(policy: &TlsPolicy) -> (Vec<&'static str>, Vec<rustls::NamedGroup>) {
        let provider = policy.provider().unwrap();
        let suites = provider.cipher_suites.iter().map(|suite| suite_name(*suite)).collect();
        (suites, provider.kx_groups.iter().map(|group| group.name()).collect())
    }

    #[test]
    fn default_is_tls_13_with_the_hybrid_group_first() {
        let (suites, groups) = names(&TlsPolicy::default());
        assert_eq!(suites[0], "TLS_AES_128_GCM_SHA256");
        assert_eq!(suites.len(), 3);
        assert!(!suites.contains(&""));
        assert_eq!(groups[0], rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(groups.len(), 4);
        assert_eq!(names(&policy(true, &[], &[])).0.len(), 9);
    }

    #[test]
    fn order_and_choice_are_those_of_the_configuration() {
        let wanted = ["TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384"];
        let (suites, groups) = names(&policy(false, &wanted, &["secp384r1", "x25519"]));
        assert_eq!(suites, wanted);
        assert_eq!(groups, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519]);
        for (name, group) in GROUPS {
            assert_eq!(names(&policy(false, &[], &[name])).1, [group.name()]);
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let message = |policy: TlsPolicy| policy.provider().unwrap_err().to_string();
        let rsa = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        assert!(message(policy(false, &["TLS_RSA_WITH_NULL_MD5"], &[])).contains("`TLS_RSA_WITH_NULL_MD5`"));
        assert!(message(policy(false, &[], &["ffdhe2048"])).contains("`ffdhe2048`"));
        assert!(message(policy(true, &[rsa], &[])).contains("TLS 1.3"));
        assert!(message(policy(false, &[rsa], &[])).contains("TLS 1.3"));
        assert!(message(policy(true, &["TLS_AES_128_GCM_SHA256"], &[])).contains("TLS 1.2"));
        assert!(message(policy(true, &[], &["X25519MLKEM768"])).contains("TLS 1.2"));
    }
}
