//! TLS to the endpoints of a cluster.

use std::path::Path;
use std::time::Duration;

use ringward_identity::SpiffePattern;

use super::{CrlMode, FileKind, NamedPath, Passphrase, RevocationDepth, WatchedPath};
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
    /// Files and directories with revocation lists.
    pub crl: Vec<NamedPath>,
    /// Files with certificates that sign revocation lists.
    pub crl_issuers: Vec<NamedPath>,
    /// What the lists mean.
    pub revocation: UpstreamRevocation,
    /// Our certificate, if we have one for them.
    pub certificate: Option<ClientCertificate>,
    /// The oldest version of TLS.
    pub min_version: TlsVersion,
    /// Whether sessions are resumed.
    pub resumption: bool,
    /// Where it is defined.
    pub at: Location,
}

/// What revocation lists for endpoints mean, and what their absence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRevocation {
    /// Whether certificates are looked up in lists.
    pub crl: CrlMode,
    /// How long a list is used after its `nextUpdate`; none refuses every certificate of its issuer from then on.
    pub stale: Option<Duration>,
    /// Bytes of one file.
    pub crl_bytes_max: usize,
    /// Which certificates are looked up.
    pub depth: RevocationDepth,
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
        let lists = self.crl.iter().map(|path| WatchedPath::new(path, FileKind::Crl));
        let issuers = self.crl_issuers.iter().map(|path| WatchedPath::new(path, FileKind::CrlIssuers));
        let ours = self.certificate.iter().flat_map(ClientCertificate::files);
        authorities.chain(lists).chain(issuers).chain(ours)
    }
}

impl ClientCertificate {
    /// The files of chain and key, which tell certificates of one configuration apart.
    pub fn paths(&self) -> (&Path, &Path) {
        (&self.chain.path, &self.key.path)
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = WatchedPath<'_>> {
        let passphrase = self.passphrase.as_ref().and_then(Passphrase::file);
        let own = [(&self.chain, FileKind::CertificateChain), (&self.key, FileKind::PrivateKey)];
        let all = own.into_iter().chain(passphrase.map(|file| (file, FileKind::Passphrase)));
        all.map(|(path, kind)| WatchedPath::new(path, kind))
    }
}
