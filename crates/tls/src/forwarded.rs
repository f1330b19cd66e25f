//! Judges chains that a load balancer forwards, as they would be judged if they were presented to us.
//!
//! That the holder of the leaf has proved to hold its key, the load balancer alone has seen: whoever asks here has made sure that it
//! is one whose word is taken for that.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;

use crate::client_auth::ClientAuth;
use crate::failure::{HandshakeFailure, HandshakeReason};
use crate::memo::{Admitted, PathMemo};
use crate::verifier::ClientVerifier;

/// What judges the forwarded chains of one host on one worker.
#[derive(Debug)]
pub struct ForwardedVerifier {
    auth: Arc<ClientAuth>,
    /// `None` if nobody is trusted.
    verifier: Option<ClientVerifier>,
}

impl ForwardedVerifier {
    /// One that admits whom `auth` would admit with a certificate. `memo` is the worker's own.
    pub fn new(auth: Arc<ClientAuth>, memo: &PathMemo) -> Self {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = ClientVerifier::new(auth.clone(), memo.clone(), Arc::default(), algorithms);
        Self { auth, verifier }
    }

    /// Who the holder of `chain` is, each certificate in DER and the leaf first, and by which path.
    ///
    /// # Errors
    ///
    /// Why it would be refused. There is nobody whom a host without a verdict admits.
    pub fn judge(&self, chain: &[impl AsRef<[u8]>]) -> Result<Admitted, Box<HandshakeFailure>> {
        let failure = |reason, message: &str| Box::new(HandshakeFailure::new(reason, message));
        let chain: Vec<CertificateDer<'_>> =
            chain.iter().map(|der| CertificateDer::from(der.as_ref())).collect();
        let [leaf, intermediates @ ..] = chain.as_slice() else {
            return Err(failure(HandshakeReason::NoCertificate, "there is no certificate"));
        };
        let Some(verifier) = &self.verifier else {
            return Err(failure(HandshakeReason::UnknownIssuer, "no trust bundle is consulted"));
        };
        let now = self.auth.clock().current_time();
        let now = now.ok_or_else(|| failure(HandshakeReason::Internal, "the clock cannot be read"))?;
        verifier
            .verify(leaf, intermediates, now)
            .map_err(|refusal| Box::new(HandshakeFailure::new(refusal.reason, refusal.message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_auth::{ClientAuthMode, ClientAuthOptions};
    use crate::testing::{Ca, Pki};

    fn verifier(pki: &Pki) -> ForwardedVerifier {
        let trust = vec![pki.bundle()];
        let options = ClientAuthOptions { trust, ..pki.options(ClientAuthMode::Required) };
        let auth = ClientAuth::build(&options).unwrap();
        ForwardedVerifier::new(Arc::new(auth), &PathMemo::new(16))
    }

    fn reason(outcome: Result<Admitted, Box<HandshakeFailure>>) -> HandshakeReason {
        outcome.expect_err("it is refused").reason
    }

    #[test]
    fn a_forwarded_chain_is_judged_like_one_that_is_presented() {
        let pki = Pki::new();
        let verifier = verifier(&pki);
        let leaf = pki.client("a");
        for _ in 0..2 {
            let admitted = verifier.judge(&leaf.chain).unwrap();
            assert_eq!(admitted.identity, leaf.identity());
        }
        let strange = Ca::root("Strange").issue("a", |_| {});
        assert_eq!(reason(verifier.judge(&strange.chain)), HandshakeReason::UnknownIssuer);
        let server = pki.client_ca.issue_server(&["a.example"], |_| {});
        assert_eq!(reason(verifier.judge(&server.chain)), HandshakeReason::BadEku);
        assert_eq!(reason(verifier.judge(&[b"nonsense"])), HandshakeReason::BadCertificate);
    }

    #[test]
    fn nobody_is_admitted_without_a_certificate_or_without_trust() {
        let pki = Pki::new();
        assert_eq!(reason(verifier(&pki).judge(&[] as &[&[u8]])), HandshakeReason::NoCertificate);
        let off = Arc::new(ClientAuth::build(&ClientAuthOptions::new(ClientAuthMode::Off)).unwrap());
        let blind = ForwardedVerifier::new(off, &PathMemo::new(16));
        assert_eq!(reason(blind.judge(&pki.client("a").chain)), HandshakeReason::UnknownIssuer);
    }
}
