//! Judges client chains: our own checks, then webpki, then the identity; remembers what passed, explains what
//! did not.
//!
//! Hides webpki. One [`ClientVerifier`] serves one host on one worker, so its mutexes are never contended. It
//! leaves the verdict of the latest chain in a [`VerdictSlot`], from which the session that caused it takes
//! it in the same call: rustls has no channel of its own for an identity or for a reason.
//!
//! webpki bounds neither the number of presented certificates nor, by much, the signatures that it checks,
//! accepts a leaf without extendedKeyUsage, ignores keyUsage and the validity of anchors. All five are
//! checked here.

use std::sync::{Arc, Mutex, PoisonError};

use ringward_identity::{IdentityOptions, PeerIdentity};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::certificate::{Certificate, Purpose, unix_seconds};
use crate::failure::{HandshakeFailure, HandshakeReason, PresentedChain};
use crate::host::ClientAuthMode;
use crate::memo::{Admitted, MemoKey, PathMemo};
use crate::trust::TrustBundle;

mod refusal;

use refusal::Refusal;

/// Most bytes of DER in a presented chain, all certificates together. Four intermediates with RSA-4096 keys
/// and generous extensions stay below it; parsing and hashing more is work for strangers.
pub const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// The validation section of a host: everything that decides which chain is admitted, and as whom.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    pub(crate) mode: ClientAuthMode,
    pub(crate) trust: Arc<TrustBundle>,
    pub(crate) intermediates_max: usize,
    pub(crate) require_eku: bool,
    pub(crate) identity: IdentityOptions,
    /// Digest of all of the above, and of the anchors' validity: the context part of memo keys.
    pub(crate) memo_context: [u8; 32],
}

/// Verifies client chains for one host on one worker.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    auth: Arc<ClientAuth>,
    memo: PathMemo,
    slot: Arc<VerdictSlot>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Where the verifier leaves the verdict on the chain that it has just seen.
#[derive(Debug, Default)]
pub(crate) struct VerdictSlot(Mutex<Option<Verdict>>);

/// The verdict on a presented chain. A refusal becomes the failure of the handshake.
pub(crate) type Verdict = Result<Admitted, Box<HandshakeFailure>>;

impl VerdictSlot {
    pub(crate) fn take(&self) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn put(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }
}

impl ClientVerifier {
    pub(crate) fn new(
        auth: Arc<ClientAuth>,
        memo: PathMemo,
        slot: Arc<VerdictSlot>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { auth, memo, slot, algorithms }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Admitted, Refusal> {
        // Before anything is parsed or hashed: an unauthenticated peer chose these sizes.
        self.check_size(leaf, intermediates)?;
        let key = MemoKey::new(&self.auth.memo_context, leaf, intermediates);
        if let Some(admitted) = self.memo.find(&key, unix_seconds(now)) {
            return Ok(admitted);
        }
        self.check_leaf(leaf)?;
        let (valid_from, valid_until) = self.verify_path(leaf, intermediates, now)?;
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).collect();
        let identity = PeerIdentity::from_verified_chain(&chain, &self.auth.identity).map_err(|error| {
            let reason = match error.flag() {
                "bad_name" | "bad_san" | "bad_spiffe_id" => HandshakeReason::BadName,
                "bad_key_usage" => HandshakeReason::BadKeyUsage,
                _ => HandshakeReason::BadCertificate,
            };
            Refusal::of_application(reason, error.to_string())
        })?;
        let admitted = Admitted { identity: Arc::new(identity), valid_from, valid_until };
        self.memo.insert(key, admitted.clone());
        Ok(admitted)
    }

    fn check_size(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Refusal> {
        let too_long = |message| Err(Refusal::of_application(HandshakeReason::ChainTooLong, message));
        let (count, max) = (intermediates.len(), self.auth.intermediates_max);
        if count > max {
            return too_long(format!(
                "{count} intermediates presented, at most {max} accepted (`intermediates_max`)"
            ));
        }
        let bytes = leaf.len() + intermediates.iter().map(|certificate| certificate.len()).sum::<usize>();
        if bytes > CHAIN_BYTES_MAX {
            return too_long(format!(
                "{bytes} bytes of certificates presented, at most {CHAIN_BYTES_MAX} accepted"
            ));
        }
        Ok(())
    }

    fn check_leaf(&self, leaf: &CertificateDer<'_>) -> Result<(), Refusal> {
        let malformed = |message: String| Refusal {
            reason: HandshakeReason::BadCertificate,
            message: format!("the leaf cannot be parsed: {message}"),
            error: CertificateError::BadEncoding,
        };
        let leaf = Certificate::parse(leaf).map_err(malformed)?;
        let refuse = |reason, message: &str| {
            Err(Refusal { reason, message: message.to_owned(), error: CertificateError::InvalidPurpose })
        };
        if leaf.is_ca().map_err(malformed)? {
            return refuse(
                HandshakeReason::CaAsLeaf,
                "the leaf is a CA certificate; issue a client certificate with it",
            );
        }
        match leaf.client_auth().map_err(malformed)? {
            Purpose::Listed => {}
            Purpose::Unrestricted if !self.auth.require_eku => {}
            Purpose::Unrestricted => {
                return refuse(
                    HandshakeReason::BadEku,
                    "the leaf has no extendedKeyUsage; reissue it with clientAuth or set `require_eku = false`",
                );
            }
            Purpose::NotListed => {
                return refuse(
                    HandshakeReason::BadEku,
                    "extendedKeyUsage of the leaf does not list clientAuth; reissue it with clientAuth",
                );
            }
        }
        // RFC 8446 §4.4.2.2: the key must be allowed to sign, which is all that it does in TLS 1.3.
        if leaf.allows_digital_signature().map_err(malformed)? == Some(false) {
            return refuse(
                HandshakeReason::BadKeyUsage,
                "keyUsage of the leaf lacks digitalSignature; reissue it with digitalSignature",
            );
        }
        Ok(())
    }

    /// Builds and checks a path to a trust anchor. Returns from when until when all of it is valid, in
    /// seconds since 1970.
    fn verify_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(i64, i64), Refusal> {
        let explain =
            |error| Refusal::of_path(&error, leaf, intermediates, unix_seconds(now), &self.auth.trust);
        let parsed = EndEntityCert::try_from(leaf).map_err(explain)?;
        // webpki does not know when an anchor is valid. Rejecting the path here lets it try another anchor.
        let anchor_is_valid = |path: &VerifiedPath<'_>| self.check_anchor(path, now);
        let path = parsed
            .verify_for_usage(
                self.algorithms.all,
                self.auth.trust.roots(),
                intermediates,
                now,
                KeyUsage::client_auth(),
                None,
                Some(&anchor_is_valid),
            )
            .map_err(explain)?;
        self.validity(&path).ok_or_else(|| {
            let message = "the validity of the verified path cannot be read".to_owned();
            Refusal { reason: HandshakeReason::BadCertificate, message, error: CertificateError::BadEncoding }
        })
    }

    fn check_anchor(&self, path: &VerifiedPath<'_>, time: UnixTime) -> Result<(), webpki::Error> {
        let anchor = self.auth.trust.anchor_of(path.anchor()).ok_or(webpki::Error::UnknownIssuer)?;
        let at = |seconds: i64| {
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()))
        };
        let now = unix_seconds(time);
        if now > anchor.not_after_unix {
            return Err(webpki::Error::CertExpired { time, not_after: at(anchor.not_after_unix) });
        }
        if now < anchor.not_before_unix {
            return Err(webpki::Error::CertNotValidYet { time, not_before: at(anchor.not_before_unix) });
        }
        Ok(())
    }

    fn validity(&self, path: &VerifiedPath<'_>) -> Option<(i64, i64)> {
        let anchor = self.auth.trust.anchor_of(path.anchor())?;
        let mut window = (anchor.not_before_unix, anchor.not_after_unix);
        let of_path =
            std::iter::once(path.end_entity().der()).chain(path.intermediate_certificates().map(|c| c.der()));
        for der in of_path {
            let certificate = Certificate::parse(&der).ok()?;
            window =
                (window.0.max(certificate.not_before_unix()), window.1.min(certificate.not_after_unix()));
        }
        Some(window)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        // Anything but an explicit `Optional` demands a certificate.
        self.auth.mode != ClientAuthMode::Optional
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: with some hundreds of CAs they break the handshake, and they tell strangers whom we
        // trust.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.verify(end_entity, intermediates, now) {
            Ok(admitted) => {
                self.slot.put(Ok(admitted));
                Ok(ClientCertVerified::assertion())
            }
            Err(Refusal { reason, message, error }) => {
                self.slot.put(Err(Box::new(HandshakeFailure {
                    presented: Some(PresentedChain::describe(end_entity, intermediates.len())),
                    trust_bundle: Some(self.auth.trust.name().clone()),
                    ..HandshakeFailure::new(reason, message)
                })));
                Err(error.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
