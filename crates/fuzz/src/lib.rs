//! What the fuzz targets share: inputs made of several parts, and a TLS host to talk to.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringward_testkit::{Authority, Issued, Leaf};
use ringward_tls::{
    ClientAuthMode, Credential, CredentialOptions, CredentialSource, HostTls, HostTlsOptions, PathMemo,
    TrustBundle, WorkerTls,
};
use rustls_pki_types::UnixTime;

/// Name of the host that [`TlsSetup`] makes.
pub const SERVER_NAME: &str = "api.example.com";

/// The parts of an input: each is preceded by its length in two octets, big-endian; the last may be cut short.
pub fn unpack(mut input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let [high, low, rest @ ..] = input {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (part, behind) = rest.split_at(len);
        parts.push(part);
        input = behind;
    }
    parts
}

/// An input that [`unpack`] takes apart into `parts`.
///
/// # Panics
/// If a part is 64 KiB or more.
pub fn pack<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut input = Vec::new();
    for part in parts {
        let len = u16::try_from(part.len()).expect("a part below 64 KiB");
        input.extend_from_slice(&len.to_be_bytes());
        input.extend_from_slice(part);
    }
    input
}

/// A TLS host that requires client certificates, and a client that it admits.
pub struct TlsSetup {
    /// The authority of both.
    pub root: Authority,
    /// The host as one worker sees it.
    pub host: WorkerTls,
    /// The client's certificate.
    pub client: Issued,
}

impl TlsSetup {
    /// Makes new keys for everyone.
    ///
    /// # Panics
    /// If one of the parts is refused: they are good.
    pub fn new() -> Self {
        let root = Authority::root("Fuzz Root");
        let server = root.issue(&Leaf::server(SERVER_NAME));
        let (chain, key) = (server.chain_pem(), server.key_pem());
        let source = CredentialSource {
            chain_file: Path::new("api.pem"),
            chain_pem: chain.as_bytes(),
            key_file: Path::new("api.key"),
            key_pem: key.as_bytes(),
        };
        let now = UnixTime::now();
        let credential =
            Credential::from_pem(&source, CredentialOptions::default(), now).expect("a good credential");
        let anchors = [(PathBuf::from("root.pem"), root.pem().into_bytes())];
        let (trust, _) = TrustBundle::from_pem("clients", &anchors, now).expect("a good bundle");
        let options = HostTlsOptions::new(ClientAuthMode::Required);
        let host = HostTls::build(&options, Arc::new(credential), Some(Arc::new(trust)))
            .and_then(|host| host.worker_view(&PathMemo::new(16)))
            .expect("a good host");
        let client = root.issue(&Leaf::client("partner-a"));
        Self { root, host, client }
    }

    /// How the client connects.
    ///
    /// # Panics
    /// If rustls refuses the client's certificate: it is good.
    pub fn client_config(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.certificate().clone()).expect("an authority certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 goes with any provider")
            .with_root_certificates(roots)
            .with_client_auth_cert(self.client.chain().to_vec(), self.client.key())
            .expect("a good client certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Default for TlsSetup {
    fn default() -> Self {
        Self::new()
    }
}
