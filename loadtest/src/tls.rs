//! The TLS side of the clients, from files.
//!
//! Sessions are not resumed, so that each connection costs the target a full handshake, unless a client is asked to with
//! [`resuming`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

/// Why no TLS configuration can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileError {
    #[error("`{}` cannot be used: {reason}", .file.display())]
    Pem { file: PathBuf, reason: pem::Error },
    #[error("`{}` holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("`{}` holds a certificate that cannot be a trust anchor: {reason}", .file.display())]
    Anchor { file: PathBuf, reason: rustls::Error },
    #[error("the client certificate cannot be used: {0}")]
    Identity(rustls::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    #[error("{argument} {name}: not one of {}", .known.join(", "))]
    Unknown { argument: &'static str, name: String, known: Vec<String> },
}

/// The version of TLS that clients offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// What clients offer, each in the order of preference; what is empty is as rustls has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    pub(crate) version: Option<Version>,
    pub(crate) suites: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// HTTP/2 and nothing else, in place of HTTP/1.1.
    pub(crate) http2: bool,
}

impl Offer {
    /// What differs from the usual, by the names of the arguments.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let version = self.version.map(|version| match version {
            Version::Tls12 => "1.2".to_owned(),
            Version::Tls13 => "1.3".to_owned(),
        });
        let list = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
        let all =
            [("tls-version", version), ("tls-suite", list(&self.suites)), ("tls-group", list(&self.groups))];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match self.version {
            None => rustls::DEFAULT_VERSIONS.to_vec(),
            Some(Version::Tls12) => vec![&version::TLS12],
            Some(Version::Tls13) => vec![&version::TLS13],
        }
    }

    fn provider(&self) -> Result<CryptoProvider, TlsFileError> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.suites.is_empty() {
            let suites = aws_lc_rs::ALL_CIPHER_SUITES.iter().map(|suite| (suite_name(*suite), *suite));
            provider.cipher_suites = chosen("--tls-suite", &self.suites, suites.collect())?;
        }
        if !self.groups.is_empty() {
            let groups = aws_lc_rs::ALL_KX_GROUPS.iter().map(|group| (format!("{:?}", group.name()), *group));
            provider.kx_groups = chosen("--tls-group", &self.groups, groups.collect())?;
        }
        Ok(provider)
    }
}

/// As the registry of IANA has it.
fn suite_name(suite: rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

fn chosen<T: Copy>(
    argument: &'static str,
    names: &[String],
    known: Vec<(String, T)>,
) -> Result<Vec<T>, TlsFileError> {
    let one = |name: &String| {
        let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value).ok_or_else(|| TlsFileError::Unknown {
            argument,
            name: name.clone(),
            known: known.iter().map(|(name, _)| name.clone()).collect(),
        })
    };
    names.iter().map(one).collect()
}

/// A certificate chain and its key.
pub(crate) type Credential = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What all clients of a run have in common: whom they trust, and what they offer. It is there once for thousands of them.
pub(crate) struct Common {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocol: Vec<u8>,
}

impl Common {
    /// Clients that trust the certificates in `ca` and `offer` this.
    ///
    /// # Errors
    /// Which file is the problem, and why.
    pub(crate) fn new(ca: &Path, offer: &Offer) -> Result<Common, TlsFileError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|reason| TlsFileError::Anchor { file: ca.to_owned(), reason })?;
        }
        let provider = Arc::new(offer.provider()?);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| TlsFileError::Setup(rustls::Error::General(error.to_string())))?;
        let protocol = if offer.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() };
        Ok(Common { provider, verifier, versions: offer.versions(), protocol })
    }

    /// A client that shows this credential if there is one.
    ///
    /// # Errors
    /// If the key is not that of the certificate.
    pub(crate) fn client(&self, credential: Option<Credential>) -> Result<Arc<ClientConfig>, TlsFileError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(TlsFileError::Setup)?
            .with_webpki_verifier(self.verifier.clone());
        let mut config = match credential {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain, key).map_err(TlsFileError::Identity)?
            }
        };
        config.alpn_protocols = vec![self.protocol.clone()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Reads a credential from a file with the chain and one with the key.
///
/// # Errors
/// Which file is the problem, and why.
pub(crate) fn credential(chain: &Path, key: &Path) -> Result<Credential, TlsFileError> {
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|reason| TlsFileError::Pem { file: key.to_owned(), reason })?;
    Ok((certificates(chain)?, private_key))
}

/// The same for one client that keeps its sessions and resumes them. Its sessions are its own: a client uses each of them
/// once (RFC 8446 §C.4), so connections at the same time would take them away from each other.
pub(crate) fn resuming(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
    Arc::new(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let failed = |reason| TlsFileError::Pem { file: file.to_owned(), reason };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if certificates.is_empty() { Err(TlsFileError::Empty(file.to_owned())) } else { Ok(certificates) }
}

/// A client has one target, and uses one session after the other.
const SESSIONS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use ringward_testkit::{Authority, Leaf, Pki};

    use super::*;

    #[test]
    fn each_file_is_named_when_it_is_the_problem() {
        let pki = Pki::new();
        let root = Authority::root("Root");
        let ca = pki.write_authorities("ca.pem", &[&root]);
        let alice = pki.write_pem("alice", &root.issue(&Leaf::client("alice")));
        let bob = pki.write_pem("bob", &root.issue(&Leaf::client("bob")));
        let junk = pki.write("junk.pem", "no certificate");
        let missing = pki.path().join("missing.pem");

        let client_config = |ca: &Path, identity: Option<(&Path, &Path)>| {
            let common = Common::new(ca, &Offer::default())?;
            common.client(identity.map(|(chain, key)| credential(chain, key)).transpose()?)
        };
        assert!(client_config(&ca, Some((&alice.chain, &alice.key))).is_ok());
        assert!(client_config(&ca, None).is_ok());
        for (ca, identity, wanted) in [
            (&junk, None, "junk.pem` holds no certificate"),
            (&missing, None, "missing.pem` cannot be used"),
            (&ca, Some((&*junk, &*alice.key)), "junk.pem` holds no certificate"),
            (&ca, Some((&*alice.chain, &*junk)), "junk.pem` cannot be used"),
            (&ca, Some((&*alice.chain, &*bob.key)), "the client certificate cannot be used"),
        ] {
            let message = client_config(ca, identity).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
