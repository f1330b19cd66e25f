//! What the fuzz targets share: inputs made of several parts, a TLS host to talk to, and authorities that sign whatever the input
//! is.
#![forbid(unsafe_code)]

mod signed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringward_testkit::{Authority, Issued, Leaf};
use ringward_tls::{
    ClientAuth, ClientAuthMode, ClientAuthOptions, ClientHello, Credential, CredentialOptions,
    CredentialSource, HostTls, HostTlsOptions, KeyRing, PathMemo, Resumption, ServerSession, TlsPolicy,
    TrustBundle, TrustOptions, WorkerTls,
};
use rustls_pki_types::UnixTime;

pub use crate::signed::{Signer, content, signed_part};

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
        let (trust, _) =
            TrustBundle::from_pem("clients", &anchors, TrustOptions::default(), now).expect("a good bundle");
        let trust = vec![Arc::new(trust)];
        let options = ClientAuthOptions { trust, ..ClientAuthOptions::new(ClientAuthMode::Required) };
        let auth = ClientAuth::build(&options).expect("a good section");
        let ring = KeyRing::random(now, Duration::from_secs(3600));
        let options = HostTlsOptions {
            listener: "public".into(),
            name: SERVER_NAME.into(),
            client_auth: Arc::new(auth),
            credentials: vec![Arc::new(credential)],
            resumption: Resumption::Tickets(Arc::new(ring)),
            tls: TlsPolicy { min_version_12: true, ..TlsPolicy::default() },
        };
        let host = HostTls::build(&options)
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

    /// How the client connects that has been here before: it offers a session, once.
    ///
    /// # Panics
    /// If the first visit fails: nothing disturbs it.
    pub fn returning_client_config(&self) -> Arc<rustls::ClientConfig> {
        let config = self.client_config();
        let name = SERVER_NAME.try_into().expect("a host name");
        let mut client = rustls::ClientConnection::new(config.clone(), name).expect("a good configuration");
        let hello =
            ClientHello { server_name: Some(SERVER_NAME.into()), alpn: Vec::new(), in_one_record: true };
        let mut session = ServerSession::new(&self.host, &hello).expect("a good host");
        let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
        while client.tls13_tickets_received() == 0 {
            while client.wants_write() {
                client.write_tls(&mut incoming).expect("writing to memory does not fail");
            }
            let progress = session.process(&mut incoming, &mut plain, &mut outgoing).expect("a good client");
            incoming.drain(..progress.consumed);
            let mut flight = &outgoing[..];
            while !flight.is_empty() {
                client.read_tls(&mut flight).expect("reading from memory does not fail");
                client.process_new_packets().expect("a good host");
            }
            outgoing.clear();
        }
        config
    }
}

impl Default for TlsSetup {
    fn default() -> Self {
        Self::new()
    }
}

/// Now, in seconds since 1970: what certificates and lists that are made here are made for.
///
/// # Panics
/// If the clock is far off.
pub fn now_unix() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).expect("a time of this age")
}
