//! What a client sees of a host's credentials.

use std::sync::{Arc, Mutex};

use ringward_testkit::Issued;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Credential, CredentialOptions, CredentialSource};
use crate::testing::{HOST, Pair, Pki};
use crate::{ClientAuthMode, HostTls, HostTlsOptions, PathMemo, SessionError, TlsBuildError, TlsPolicy};

pub(crate) const ALL: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// What a client was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) leaf: Vec<u8>,
    pub(crate) staple: Vec<u8>,
}

/// A credential from what the test kit issues, loaded now.
pub(crate) fn credential(issued: &Issued) -> Credential {
    let (chain, key) = (issued.chain_pem(), issued.key_pem());
    let source = CredentialSource {
        chain_file: "server.pem".as_ref(),
        chain_pem: chain.as_bytes(),
        key_file: "server.key".as_ref(),
        key_pem: key.as_bytes(),
    };
    Credential::from_pem(&source, CredentialOptions::default(), UnixTime::now()).unwrap()
}

/// A host that asks for no client certificate and speaks TLS 1.2 too.
pub(crate) struct Shop {
    pki: Pki,
    host: HostTls,
}

impl Shop {
    pub(crate) fn new(credentials: &[&Credential]) -> Result<Self, TlsBuildError> {
        let pki = Pki::new();
        pki.clock.set(UnixTime::now().as_secs());
        let options = HostTlsOptions {
            credentials: credentials.iter().map(|&credential| Arc::new(credential.clone())).collect(),
            tls: TlsPolicy { min_version_12: true, ..TlsPolicy::default() },
            ..pki.host_options(&pki.options(ClientAuthMode::Off), pki.bundle())
        };
        Ok(Self { host: HostTls::build(&options)?, pki })
    }

    /// What a client sees that verifies with these schemes.
    pub(crate) fn show(
        &self,
        schemes: &[SignatureScheme],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Shown, SessionError> {
        let eye = Arc::new(Eye { schemes: schemes.to_vec(), shown: Mutex::default() });
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(eye.clone())
            .with_no_client_auth();
        let worker = self.host.worker_view(&PathMemo::new(0)).unwrap();
        Pair::named(&worker, config, HOST).run()?;
        Ok(eye.shown.lock().unwrap().clone())
    }

    /// Moves the clock of the host.
    pub(crate) fn set_clock(&self, unix: i64) {
        self.pki.clock.set(u64::try_from(unix).unwrap());
    }
}

/// Believes everything and remembers it.
#[derive(Debug)]
struct Eye {
    schemes: Vec<SignatureScheme>,
    shown: Mutex<Shown>,
}

impl ServerCertVerifier for Eye {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap() = Shown { leaf: leaf.to_vec(), staple: ocsp.to_vec() };
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
