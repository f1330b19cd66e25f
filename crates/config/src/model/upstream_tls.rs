//! TLS to the endpoints of a cluster.

use ringward_identity::SpiffePattern;

use super::{FileKind, NamedPath, Passphrase, WatchedPath};
use crate::diagnostic::Location;
use crate::raw::TlsVersion;

/// How the endpoints of a cluster prove who they are, and how we do.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// Files and directories with the CAs that vouch for endpoints; at least one.
    pub ca: Vec<NamedPath>,
    /// The host name or IP address that certificates must be for; none for the address of the endpoint.
    pub server_name: Option<String>,
    /// The SPIFFE IDs of the endpoints; none if names are verified.
    pub spiffe_ids: Vec<SpiffePattern>,
    /// SHA-256 of subject public key infos, one of which every path must contain; none for no such rule, else at least two.
    pub pins: Vec<[u8; 32]>,
    /// Our certificate, if we have one for them.
    pub certificate: Option<ClientCertificate>,
    /// The oldest version of TLS.
    pub min_version: TlsVersion,
    /// Whether sessions are resumed.
    pub resumption: bool,
    /// Where it is defined.
    pub at: Location,
}

/// A certificate that we present to upstreams.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The file with the chain.
    pub chain: NamedPath,
    /// The file with the private key.
    pub key: NamedPath,
    /// What opens the key, if it is encrypted.
    pub passphrase: Option<Passphrase>,
    /// Where it is defined.
    pub at: Location,
}

impl UpstreamTls {
    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = WatchedPath<'_>> {
        let authorities = self.ca.iter().map(|path| WatchedPath::new(path, FileKind::TrustAnchors));
        authorities.chain(self.certificate.iter().flat_map(ClientCertificate::files))
    }
}

impl ClientCertificate {
    fn files(&self) -> impl Iterator<Item = WatchedPath<'_>> {
        let passphrase = self.passphrase.as_ref().and_then(Passphrase::file);
        let own = [(&self.chain, FileKind::CertificateChain), (&self.key, FileKind::PrivateKey)];
        let all = own.into_iter().chain(passphrase.map(|file| (file, FileKind::Passphrase)));
        all.map(|(path, kind)| WatchedPath::new(path, kind))
    }
}
