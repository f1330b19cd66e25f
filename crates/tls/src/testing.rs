//! A certificate authority, a clock and a client in memory, for the tests of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SignatureAlgorithm,
};
use ringward_identity::{IdentityOptions, PeerIdentity};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::digest::sha256;
use crate::{
    Anchor, ClientAuth, ClientAuthMode, ClientAuthOptions, ClientHello, Credential, CredentialOptions,
    CredentialSource, HostTls, HostTlsOptions, PathMemo, PeerPath, Progress, ServerSession, SessionError,
    TlsPolicy, TrustBundle, TrustOptions, WorkerTls,
};

/// When the tests happen. Certificates are valid from a year before to ten years after.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const DAY: u64 = 24 * 60 * 60;
pub(crate) const HOST: &str = "api.example.com";

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn date(seconds: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap()
}

/// A clock that moves when told to.
#[derive(Debug)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW)))
    }

    pub(crate) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl TimeProvider for ManualClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(self.0.load(Ordering::Relaxed)))
    }
}

/// A certificate authority.
pub(crate) struct Ca(pub(crate) CertifiedIssuer<'static, KeyPair>);

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(NOW - 365 * DAY);
    params.not_after = date(NOW + 3650 * DAY);
    params
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(crate) fn root_with(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        // Ed25519: signatures of one length, so that sizes in tests are exact.
        Self(
            CertifiedIssuer::self_signed(params, KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
                .unwrap(),
        )
    }

    /// A root with the given key, as when a CA is renewed.
    pub(crate) fn root_with_key(name: &str, key: KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| {})
    }

    pub(crate) fn intermediate_with(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        edit(&mut params);
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self(CertifiedIssuer::signed_by(params, key, &self.0).unwrap())
    }

    pub(crate) fn intermediate_with_key(&self, name: &str, key: KeyPair) -> Self {
        Self(CertifiedIssuer::signed_by(ca_params(name), key, &self.0).unwrap())
    }

    /// A client certificate; `edit` may change it into anything.
    pub(crate) fn issue(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.issue_for(&rcgen::PKCS_ECDSA_P256_SHA256, name, edit)
    }

    pub(crate) fn issue_for(
        &self,
        algorithm: &'static SignatureAlgorithm,
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        self.issue_with_key(KeyPair::generate_for(algorithm).unwrap(), name, edit)
    }

    pub(crate) fn issue_with_key(
        &self,
        key: KeyPair,
        name: &str,
        edit: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date(NOW - 365 * DAY);
        params.not_after = date(NOW + 365 * DAY);
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key }
    }

    pub(crate) fn issue_server(&self, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.issue("server", |params| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            edit(params);
        })
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }
}

/// An end-entity certificate with its chain and key.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Leaf {
    pub(crate) fn via<'a>(mut self, intermediates: impl IntoIterator<Item = &'a Ca>) -> Self {
        self.chain.extend(intermediates.into_iter().map(Ca::der));
        self
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|der| pem("CERTIFICATE", der)).collect()
    }

    pub(crate) fn identity(&self) -> Arc<PeerIdentity> {
        Arc::new(PeerIdentity::from_verified_chain(&self.chain, &IdentityOptions::default()).unwrap())
    }

    /// The path that verification would find if `issuer` were the anchor of bundle `partners`, valid for ever.
    pub(crate) fn path_under(&self, issuer: &Ca) -> PeerPath {
        let (bundle, root) = (bundle("partners", &[issuer]), issuer.der());
        let anchor = Anchor { not_before_unix: 0, not_after_unix: i64::MAX, ..bundle.anchors()[0].clone() };
        assert_eq!(anchor.fingerprint_sha256, sha256(&root));
        let certificates: Vec<_> = self.chain.iter().map(|der| Certificate::parse(der).unwrap()).collect();
        PeerPath::new("partners".into(), &certificates, &anchor).unwrap()
    }

    pub(crate) fn credential(&self) -> Arc<Credential> {
        let (chain_pem, key_pem) = (self.pem(), self.key.serialize_pem());
        let source = CredentialSource {
            chain_file: Path::new("server.pem"),
            chain_pem: &chain_pem,
            key_file: Path::new("server.key"),
            key_pem: key_pem.as_bytes(),
        };
        Arc::new(Credential::from_pem(&source, CredentialOptions::default(), at(NOW)).unwrap())
    }
}

/// PEM text of a DER value.
pub(crate) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - group.len()));
            for position in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * position) & 63) as usize];
                text.push(if position <= group.len() { digit } else { b'=' });
            }
        }
        text.push(b'\n');
    }
    text.extend(format!("-----END {label}-----\n").into_bytes());
    text
}

pub(crate) fn bundle(name: &str, cas: &[&Ca]) -> Arc<TrustBundle> {
    bundle_with(name, cas, TrustOptions::default())
}

pub(crate) fn bundle_with(name: &str, cas: &[&Ca], options: TrustOptions) -> Arc<TrustBundle> {
    let sources: Vec<_> = cas.iter().map(|ca| (PathBuf::from("ca.pem"), ca.pem())).collect();
    let (bundle, quarantined) = TrustBundle::from_pem(name, &sources, options, at(NOW)).unwrap();
    assert!(quarantined.is_empty(), "{quarantined:?}");
    Arc::new(bundle)
}

/// A server CA, a client CA, a server certificate and a clock.
pub(crate) struct Pki {
    pub(crate) server_ca: Ca,
    pub(crate) client_ca: Ca,
    pub(crate) server: Leaf,
    pub(crate) clock: Arc<ManualClock>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let server_ca = Ca::root("Server CA");
        let server = server_ca.issue_server(&[HOST], |_| {});
        Self { server_ca, client_ca: Ca::root("Client CA"), server, clock: ManualClock::new() }
    }

    pub(crate) fn client(&self, name: &str) -> Leaf {
        self.client_ca.issue(name, |_| {})
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        bundle("partners", &[&self.client_ca])
    }

    pub(crate) fn options(&self, mode: ClientAuthMode) -> ClientAuthOptions {
        ClientAuthOptions { clock: self.clock.clone(), ..ClientAuthOptions::new(mode) }
    }

    pub(crate) fn host(&self, mode: ClientAuthMode) -> HostTls {
        self.host_with(&self.options(mode), self.bundle())
    }

    pub(crate) fn host_with(&self, options: &ClientAuthOptions, trust: Arc<TrustBundle>) -> HostTls {
        HostTls::build(&self.host_options(options, trust)).unwrap()
    }

    /// A host that resumes nothing, to be changed at will.
    pub(crate) fn host_options(
        &self,
        options: &ClientAuthOptions,
        trust: Arc<TrustBundle>,
    ) -> HostTlsOptions {
        let options = ClientAuthOptions { trust: vec![trust], ..options.clone() };
        HostTlsOptions {
            listener: "public".into(),
            name: HOST.into(),
            client_auth: Arc::new(ClientAuth::build(&options).unwrap()),
            credentials: vec![self.server.credential()],
            resumption: crate::Resumption::Off,
            tls: TlsPolicy::default(),
        }
    }

    pub(crate) fn worker(&self, mode: ClientAuthMode) -> WorkerTls {
        self.host(mode).worker_view(&PathMemo::new(16)).unwrap()
    }

    /// A TLS 1.3 client that trusts the server CA.
    pub(crate) fn client_config(&self, leaf: Option<&Leaf>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.der()).unwrap();
        let builder =
            ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), self.clock.clone())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match leaf {
            Some(leaf) => builder.with_client_auth_cert(leaf.chain.clone(), leaf.key_der()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        config
    }

    pub(crate) fn connect(&self, worker: &WorkerTls, leaf: Option<&Leaf>) -> Pair {
        Pair::new(worker, self.client_config(leaf))
    }

    /// Runs a handshake that must succeed.
    pub(crate) fn establish(&self, worker: &WorkerTls, leaf: Option<&Leaf>) -> Pair {
        let mut pair = self.connect(worker, leaf);
        pair.run().unwrap();
        assert!(!pair.session.is_handshaking());
        pair
    }

    /// Runs a handshake that must fail.
    pub(crate) fn refuse(&self, worker: &WorkerTls, leaf: Option<&Leaf>) -> Refused {
        let mut pair = self.connect(worker, leaf);
        pair.refused()
    }
}

/// A session for a client whose ClientHello comes in one record.
pub(crate) fn session(worker: &WorkerTls) -> ServerSession {
    let hello = ClientHello { server_name: Some(HOST.to_owned()), alpn: vec![], in_one_record: true };
    ServerSession::new(worker, &hello).unwrap()
}

/// How a refused handshake looks from both sides.
pub(crate) struct Refused {
    pub(crate) failure: crate::HandshakeFailure,
    pub(crate) client: Option<rustls::Error>,
}

/// A client and a session, joined in memory.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) session: ServerSession,
    /// On its way to the session.
    pub(crate) incoming: Vec<u8>,
    /// Plaintext that the session received.
    pub(crate) plain: Vec<u8>,
    /// Plaintext that the client received.
    pub(crate) answer: Vec<u8>,
    pub(crate) progress: Option<Progress>,
    pub(crate) client_error: Option<rustls::Error>,
}

impl Pair {
    pub(crate) fn new(worker: &WorkerTls, config: impl Into<Arc<ClientConfig>>) -> Self {
        Self::named(worker, config, HOST)
    }

    pub(crate) fn named(worker: &WorkerTls, config: impl Into<Arc<ClientConfig>>, name: &str) -> Self {
        let name = name.to_owned().try_into().unwrap();
        Self {
            client: ClientConnection::new(config.into(), name).unwrap(),
            session: session(worker),
            incoming: Vec::new(),
            plain: Vec::new(),
            answer: Vec::new(),
            progress: None,
            client_error: None,
        }
    }

    /// Moves bytes until nothing moves.
    pub(crate) fn run(&mut self) -> Result<(), SessionError> {
        self.run_in_steps(usize::MAX)
    }

    /// The same, handing the session at most `step` new bytes at a time.
    pub(crate) fn run_in_steps(&mut self, step: usize) -> Result<(), SessionError> {
        loop {
            let mut flight = std::mem::take(&mut self.incoming);
            while self.client.wants_write() {
                self.client.write_tls(&mut flight).unwrap();
            }
            let mut outgoing = Vec::new();
            let mut outcome = Ok(());
            let before = flight.len();
            for part in flight.chunks(step.min(before.max(1))) {
                self.incoming.extend_from_slice(part);
                outcome = self.process(&mut outgoing);
                if outcome.is_err() {
                    break;
                }
            }
            self.deliver(&outgoing);
            outcome?;
            if outgoing.is_empty() && !self.client.wants_write() {
                return Ok(());
            }
        }
    }

    /// One call of the session on what has arrived.
    pub(crate) fn process(&mut self, outgoing: &mut Vec<u8>) -> Result<(), SessionError> {
        let progress = self.session.process(&mut self.incoming, &mut self.plain, outgoing)?;
        self.incoming.drain(..progress.consumed);
        self.progress = Some(progress);
        Ok(())
    }

    /// Hands TLS bytes to the client.
    pub(crate) fn deliver(&mut self, mut bytes: &[u8]) {
        use std::io::Read as _;
        while !bytes.is_empty() && self.client_error.is_none() {
            self.client.read_tls(&mut bytes).unwrap();
            if let Err(error) = self.client.process_new_packets() {
                self.client_error = Some(error);
            }
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                self.answer.extend_from_slice(&buffer[..count]);
            }
        }
    }

    pub(crate) fn client_says(&mut self, bytes: &[u8]) {
        use std::io::Write as _;
        self.client.writer().write_all(bytes).unwrap();
    }

    pub(crate) fn server_says(&mut self, bytes: &[u8]) {
        let mut outgoing = Vec::new();
        self.session.encrypt(bytes, &mut outgoing).unwrap();
        self.deliver(&outgoing);
    }

    pub(crate) fn refused(&mut self) -> Refused {
        match self.run() {
            Err(SessionError::Handshake(failure)) => {
                assert!(self.session.peer_identity().is_none());
                assert!(self.session.peer_chain().is_none());
                Refused { failure: *failure, client: self.client_error.clone() }
            }
            other => panic!("expected a refused handshake, got {other:?}"),
        }
    }
}

/// Deterministic noise for tests (splitmix64).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
