//! Both ends of a TLS connection in memory: our side as a worker has it, and rustls' own client, whose time is not counted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringward_tls::{
    ClientAuth, ClientAuthMode, ClientAuthOptions, Credential, CredentialOptions, CredentialSource,
    HelloReader, HostTls, HostTlsOptions, PathMemo, RECORD_OVERHEAD_BYTES, Resumption, Revocation,
    RevocationPolicy, ServerSession, TlsPolicy, TrustBundle, TrustOptions, WorkerTls,
};
use rustls::client::Resumption as ClientResumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};

use crate::{Certificates, HOST, thread_time};

/// What both ends need.
pub struct World {
    /// Who is who.
    pub certificates: Certificates,
    /// What we present.
    pub credential: Arc<Credential>,
}

/// How our side is set up. By default clients must have a certificate, the memo knows them, and nothing is resumed.
pub struct Setup {
    /// Whether clients are asked for a certificate.
    pub mode: ClientAuthMode,
    /// Chains that the memo has room for.
    pub memo_entries: usize,
    /// How clients resume.
    pub resumption: Resumption,
    /// Whether lists of revoked certificates are needed, if not as by default.
    pub policy: Option<RevocationPolicy>,
    /// What is revoked.
    pub revocation: Arc<Revocation>,
}

/// Two ends whose handshake is complete, and how long our part of it took.
pub struct Pair {
    /// The client's end.
    pub client: ClientConnection,
    /// Ours.
    pub session: ServerSession,
    /// From the session's making to the end of the handshake.
    pub took: Duration,
}

impl World {
    /// Fresh certificates for everyone.
    #[allow(clippy::new_without_default)]
    pub fn new() -> World {
        let certificates = Certificates::new();
        let (chain_pem, key_pem) = (certificates.server.chain_pem(), certificates.server.key_pem());
        let source = CredentialSource {
            chain_file: Path::new("server.pem"),
            chain_pem: chain_pem.as_bytes(),
            key_file: Path::new("server.key"),
            key_pem: key_pem.as_bytes(),
        };
        let credential = Credential::from_pem(&source, CredentialOptions::default(), UnixTime::now());
        World { credential: Arc::new(credential.expect("a credential")), certificates }
    }

    /// Our side as one worker has it.
    pub fn worker(&self, setup: &Setup) -> WorkerTls {
        let anchors = [(PathBuf::from("clients.pem"), self.certificates.client_root.pem().into_bytes())];
        let mut options = TrustOptions::default();
        options.revocation = setup.policy.unwrap_or(options.revocation);
        let (trust, _) =
            TrustBundle::from_pem("clients", &anchors, options, UnixTime::now()).expect("a bundle");
        let options = ClientAuthOptions {
            trust: vec![Arc::new(trust)],
            revocation: setup.revocation.clone(),
            ..ClientAuthOptions::new(setup.mode)
        };
        let options = HostTlsOptions {
            listener: "edge".into(),
            name: HOST.into(),
            client_auth: Arc::new(ClientAuth::build(&options).expect("a section")),
            credentials: vec![self.credential.clone()],
            resumption: setup.resumption.clone(),
            tls: TlsPolicy::default(),
        };
        let host = HostTls::build(&options).expect("a host");
        host.worker_view(&PathMemo::new(setup.memo_entries)).expect("a host that was built")
    }

    /// How a client connects. It has one key exchange group, so that the figures are comparable with those of the
    /// side-by-side kit. `resuming`: it keeps its sessions and resumes them.
    pub fn client_config(&self, resuming: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificates.server_root.certificate().clone()).expect("a root");
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let client = &self.certificates.client;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(client.chain().to_vec(), client.key())
            .expect("a client certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption =
            if resuming { ClientResumption::in_memory_sessions(8) } else { ClientResumption::disabled() };
        Arc::new(config)
    }
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            mode: ClientAuthMode::Required,
            memo_entries: 16,
            resumption: Resumption::Off,
            policy: None,
            revocation: Revocation::empty(),
        }
    }
}

impl Pair {
    /// A whole handshake. Reading the ClientHello for the server's name is not in its time.
    pub fn connect(worker: &WorkerTls, config: &Arc<ClientConfig>) -> Pair {
        let mut client = client(config);
        let (mut incoming, mut plain, mut outgoing) = (Vec::new(), Vec::new(), Vec::new());
        write_all(&mut client, &mut incoming);
        let hello =
            HelloReader::new().feed(&incoming).expect("a hello that is right").expect("a whole hello");
        let started = thread_time();
        let mut session = ServerSession::new(worker, &hello).expect("a session");
        let mut took = thread_time() - started;
        while session.is_handshaking() {
            let started = thread_time();
            let progress = session.process(&mut incoming, &mut plain, &mut outgoing).expect("a good client");
            took += thread_time() - started;
            incoming.drain(..progress.consumed);
            let mut flight = &outgoing[..];
            while !flight.is_empty() {
                client.read_tls(&mut flight).expect("reading from memory");
                client.process_new_packets().expect("a good server");
            }
            outgoing.clear();
            write_all(&mut client, &mut incoming);
        }
        Pair { client, session, took }
    }

    /// Lets the client send records, and returns how long it took us to receive them one by one.
    pub fn receive(&mut self, records: u64, bytes: usize) -> Duration {
        let plain = vec![b'x'; bytes];
        let sent: Vec<Vec<u8>> = (0..records)
            .map(|_| {
                let mut record = Vec::with_capacity(bytes + RECORD_OVERHEAD_BYTES);
                self.client.writer().write_all(&plain).expect("room for a record");
                write_all(&mut self.client, &mut record);
                record
            })
            .collect();
        let (mut received, mut outgoing) = (Vec::with_capacity(bytes), Vec::new());
        let started = thread_time();
        for mut record in sent {
            received.clear();
            let progress = self.session.process(&mut record, &mut received, &mut outgoing);
            assert_eq!(progress.expect("a record that is right").consumed, record.len());
            assert_eq!(received.len(), bytes);
        }
        thread_time() - started
    }
}

/// The client's end before its first byte.
pub fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(HOST).expect("a name");
    ClientConnection::new(config.clone(), name).expect("a client")
}

/// Moves all that the client has to send behind `out`.
pub fn write_all(client: &mut ClientConnection, out: &mut Vec<u8>) {
    while client.wants_write() {
        client.write_tls(out).expect("writing to memory");
    }
}
