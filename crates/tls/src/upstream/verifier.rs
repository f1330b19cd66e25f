//! Whether a server is the upstream: its chain leads to one of our CAs, and its certificate names it.

use std::cell::Cell;
use std::sync::Arc;

use ringward_identity::{SpiffeId, SpiffePattern};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, InvalidNameContext, KeyUsage, VerifiedPath};

use super::failure::{UpstreamTlsFailure, UpstreamTlsReason};
use super::tickets::Tickets;
use crate::certificate::{Certificate, unix_seconds};
use crate::failure::HandshakeReason;
use crate::path::PeerPath;
use crate::revocation::{CrlMode, Revocation};
use crate::trust::{Anchor, TrustBundle, Violation};

/// Judges the chains of one endpoint.
#[derive(Debug)]
pub(super) struct Verifier {
    rules: Arc<Rules>,
    /// Where it is noted until when a path holds.
    tickets: Option<Arc<Tickets>>,
}

/// Who is an upstream of a cluster.
#[derive(Debug)]
pub(super) struct Rules {
    trust: Arc<TrustBundle>,
    revocation: Arc<Revocation>,
    spiffe_ids: Vec<SpiffePattern>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(rules: Arc<Rules>, tickets: Option<Arc<Tickets>>) -> Self {
        Self { rules, tickets }
    }
}

impl Rules {
    pub(super) fn new(
        trust: Arc<TrustBundle>,
        revocation: Arc<Revocation>,
        spiffe_ids: Vec<SpiffePattern>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { trust, revocation, spiffe_ids, algorithms }
    }

    /// Verifies the path; until when it holds.
    fn verify_path(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<i64, Error> {
        // webpki does not look at the validity of anchors.
        let now_unix = unix_seconds(now);
        let anchors = self.trust.anchors();
        let is_valid = |&position: &usize| {
            (anchors[position].not_before_unix..=anchors[position].not_after_unix).contains(&now_unix)
        };
        let positions: Vec<usize> = (0..anchors.len()).filter(is_valid).collect();
        let roots: Vec<TrustAnchor<'_>> =
            positions.iter().map(|position| self.trust.root(*position)).collect();
        let violation = Cell::new(None);
        let valid_until = Cell::new(i64::MIN);
        let judge = |path: &VerifiedPath<'_>| {
            let root = roots.iter().position(|root| std::ptr::eq(root, path.anchor()));
            let anchor = &anchors[positions[root.ok_or(webpki::Error::UnknownIssuer)?]];
            let end_entity = path.end_entity().der();
            let issuers: Vec<_> = path.intermediate_certificates().map(|issuer| issuer.der()).collect();
            let certificates: Result<Vec<_>, _> =
                std::iter::once(&end_entity).chain(&issuers).map(|der| Certificate::parse(der)).collect();
            let certificates = certificates.map_err(|_| webpki::Error::BadDer)?;
            let kept = self.trust.options().check(&certificates, anchor);
            match kept.and_then(|()| self.check_lists(&certificates, anchor, now_unix)) {
                Ok(cleared_until) => {
                    let ends = certificates.iter().map(Certificate::not_after_unix).min();
                    let ends = ends.unwrap_or(i64::MIN).min(anchor.not_after_unix);
                    valid_until.set(ends.min(cleared_until));
                    Ok(())
                }
                Err(broken) => {
                    violation.set(Some(broken));
                    Err(webpki::Error::UnknownIssuer)
                }
            }
        };
        let verified = leaf.verify_for_usage(
            self.algorithms.all,
            &roots,
            intermediates,
            now,
            KeyUsage::server_auth(),
            None,
            Some(&judge),
        );
        match (verified.map(drop), violation.take()) {
            (Ok(()), _) => Ok(valid_until.get()),
            (Err(_), Some(violation)) => Err(broken_rule(violation).into_rustls()),
            (Err(error), None) => Err(certificate_error(error)),
        }
    }

    /// Whether no list revokes a certificate of the path; the last second for which that is known.
    fn check_lists(
        &self,
        path: &[Certificate<'_>],
        anchor: &Anchor,
        now_unix: i64,
    ) -> Result<i64, Violation> {
        let policy = &self.trust.options().revocation;
        if policy.crl == CrlMode::Off {
            return Ok(i64::MAX);
        }
        let path = PeerPath::new(self.trust.name().clone(), path, anchor)
            .map_err(|why| Violation::new(HandshakeReason::Malformed, why))?;
        match self.revocation.check_lists(&path, policy, now_unix) {
            Ok(()) => Ok(self.revocation.clears_until(policy, now_unix).saturating_sub(1)),
            Err(refusal) => Err(Violation::new(
                refusal.reason(),
                format!("the upstream's certificate is not accepted: {refusal}"),
            )),
        }
    }

    fn verify_name(
        &self,
        leaf: &EndEntityCert<'_>,
        der: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<(), Error> {
        if self.spiffe_ids.is_empty() {
            return leaf.verify_is_valid_for_subject_name(server_name).map_err(certificate_error);
        }
        let ids = Certificate::parse(der).map(|leaf| leaf.uris()).unwrap_or_default();
        // X509-SVID §2: exactly one URI, which is the ID.
        if let [id] = &ids[..]
            && let Ok(id) = SpiffeId::parse(id)
            && self.spiffe_ids.iter().any(|pattern| pattern.matches(&id))
        {
            return Ok(());
        }
        let wanted: Vec<&str> = self.spiffe_ids.iter().map(SpiffePattern::as_str).collect();
        let message = format!(
            "the upstream's certificate has the URIs {ids:?}, and not one SPIFFE ID of {wanted:?}: are `spiffe_ids` right?"
        );
        Err(UpstreamTlsFailure::new(UpstreamTlsReason::NameMismatch, message).into_rustls())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = EndEntityCert::try_from(end_entity).map_err(certificate_error)?;
        let valid_until = self.rules.verify_path(&leaf, intermediates, now)?;
        self.rules.verify_name(&leaf, end_entity, server_name)?;
        if let Some(tickets) = &self.tickets {
            tickets.verified(valid_until);
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.rules.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.rules.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.rules.algorithms.supported_schemes()
    }
}

fn broken_rule(violation: Violation) -> UpstreamTlsFailure {
    let reason = match violation.reason {
        HandshakeReason::PinMismatch => UpstreamTlsReason::PinMismatch,
        HandshakeReason::Revoked => UpstreamTlsReason::Revoked,
        HandshakeReason::RevocationUnknown => UpstreamTlsReason::RevocationUnknown,
        HandshakeReason::RevocationStale => UpstreamTlsReason::RevocationStale,
        _ => UpstreamTlsReason::BadCertificate,
    };
    UpstreamTlsFailure::new(reason, violation.message)
}

/// As rustls says it, so that the upstream gets the alert that it would get from others.
fn certificate_error(error: webpki::Error) -> Error {
    match error {
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::CertNotValidForName(InvalidNameContext { expected, presented }) => {
            CertificateError::NotValidForNameContext { expected, presented }
        }
        webpki::Error::InvalidSignatureForPublicKey => {
            let message = "the upstream's certificate is not signed by the CA that it names: is that another one of the same name?";
            return UpstreamTlsFailure::new(UpstreamTlsReason::UnknownCa, message).into_rustls();
        }
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => {
            let message = format!("the upstream's certificate is not accepted: {other}");
            return UpstreamTlsFailure::new(UpstreamTlsReason::BadCertificate, message).into_rustls();
        }
    }
    .into()
}
