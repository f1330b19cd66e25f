//! Judges client chains: our own checks, then webpki and the rules of the bundle that a path leads to, then the identity
//! with its trust domain and its tenant; remembers what passed, looks up revocation every time, explains what is refused.
//!
//! Hides webpki. One [`ClientVerifier`] serves one host on one worker, so its mutexes are never contended. It
//! leaves the verdict of the latest chain in a [`VerdictSlot`], from which the session that caused it takes
//! it in the same call: rustls has no channel of its own for an identity or for a reason.
//!
//! webpki bounds neither the number of presented certificates nor, by much, the signatures that it checks,
//! accepts a leaf without extendedKeyUsage, ignores keyUsage and the validity of anchors. All of it is checked here.

use std::sync::{Arc, Mutex, PoisonError};

use ringward_identity::{Assignment, PeerIdentity, SpiffeId};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use crate::certificate::unix_seconds;
use crate::client_auth::{ClientAuth, ClientAuthMode, TenantRules};
use crate::failure::{HandshakeFailure, HandshakeReason, PresentedChain};
use crate::memo::{Admitted, MemoKey, PathMemo};
use crate::observed::ObservedIdentity;

mod leaf;
mod refusal;
mod search;

use leaf::check_leaf;
use refusal::Refusal;
use search::PathSearch;

/// Most bytes of DER in a presented chain, all certificates together. Four intermediates with RSA-4096 keys
/// and generous extensions stay below it; parsing and hashing more is work for strangers.
pub const CHAIN_BYTES_MAX: usize = 16 * 1024;

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

/// The verdict on a presented chain.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The client is this peer, if it proves to hold the key.
    Admitted(Admitted),
    /// The host only observes: the client stays anonymous, whatever was found out.
    Observed(Box<ObservedIdentity>),
    /// The handshake fails with this.
    Refused(Box<HandshakeFailure>),
}

impl VerdictSlot {
    pub(crate) fn take(&self) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn put(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }
}

impl ClientVerifier {
    /// `None` if the host asks no client for a certificate.
    pub(crate) fn new(
        auth: Arc<ClientAuth>,
        memo: PathMemo,
        slot: Arc<VerdictSlot>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Option<Self> {
        if auth.trust().is_empty() {
            return None;
        }
        Some(Self { auth, memo, slot, algorithms })
    }

    /// Judges a chain, whoever says that it was presented.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Admitted, Refusal> {
        // Before anything is parsed or compared: an unauthenticated peer chose these sizes.
        self.check_size(leaf, intermediates)?;
        let key = MemoKey { context: &self.auth.memo_context, leaf, intermediates };
        let admitted = match self.memo.find(key, unix_seconds(now)) {
            Some(admitted) => admitted,
            None => {
                let (admitted, sighted) = self.verify_anew(leaf, intermediates, now)?;
                // What is remembered is not sighted again, and then nobody would ever fetch its lists.
                if sighted {
                    self.memo.insert(key, admitted.clone());
                }
                admitted
            }
        };
        // After the memo, so that what was revoked a moment ago is refused now.
        self.check_revocation(&admitted, now)?;
        Ok(admitted)
    }

    /// Everything about a chain that stays true while its certificates are valid, and whether its path was reported.
    fn verify_anew(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Admitted, bool), Refusal> {
        let claimed = check_leaf(leaf, self.auth.options.require_eku)?;
        self.verify_claim(leaf, intermediates, now, claimed.as_deref())
    }

    /// Verifies a chain whose leaf claims this SPIFFE trust domain.
    fn verify_claim(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        claimed: Option<&str>,
    ) -> Result<(Admitted, bool), Refusal> {
        let binding = self.auth.binding(claimed);
        let search = PathSearch { auth: &self.auth, binding, algorithms: self.algorithms, now };
        let path = Arc::new(search.run(leaf, intermediates, claimed)?);
        // Before anything else can refuse it, as the control plane may have to fetch what clears it.
        let sighted = self.memo.sight(&path);
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).collect();
        let identity = PeerIdentity::from_verified_chain(&chain, &self.auth.options.identity)
            .map_err(|error| Refusal::of_identity(&error, &path.bundle))?;
        // The bundles were chosen by a claim that was read before anything was verified.
        let trust_domain = identity.spiffe_id().map(SpiffeId::trust_domain);
        if self.auth.binding(trust_domain) != binding {
            return Err(Refusal::of_application(
                HandshakeReason::TrustDomainMismatch,
                format!("trust bundle `{}` does not speak for the trust domain of the leaf", path.bundle),
            )
            .by(&path.bundle));
        }
        let identity = self.assign_tenant(identity, &path.bundle)?;
        Ok((Admitted { identity: Arc::new(identity), path }, sighted))
    }

    fn assign_tenant(&self, identity: PeerIdentity, bundle: &Arc<str>) -> Result<PeerIdentity, Refusal> {
        let Some(TenantRules { map, admitted }) = &self.auth.options.tenants else { return Ok(identity) };
        let refuse = |reason, message| Err(Refusal::of_application(reason, message).by(bundle));
        match map.assign(bundle, &identity) {
            Assignment::Tenant { name, identity: own_name, .. }
                if admitted.is_empty() || admitted.contains(&name) =>
            {
                Ok(identity.with_tenant(name, own_name))
            }
            Assignment::None if admitted.is_empty() => Ok(identity),
            Assignment::Tenant { name, .. } => refuse(
                HandshakeReason::NoTenant,
                format!(
                    "it belongs to the tenant `{name}`, and the host admits those of {} only",
                    list(admitted)
                ),
            ),
            Assignment::None => refuse(
                HandshakeReason::NoTenant,
                format!("no tenant claims it, and the host admits those of {} only", list(admitted)),
            ),
            Assignment::NoIdentity { name, source } => refuse(
                HandshakeReason::NoTenant,
                format!(
                    "it belongs to the tenant `{name}`, and has no single `{source}` to be called by there"
                ),
            ),
            Assignment::Ambiguous(names) => refuse(
                HandshakeReason::AmbiguousTenant,
                format!("several tenants claim it: {}; make their rules exclude each other", list(&names)),
            ),
        }
    }

    fn check_revocation(&self, admitted: &Admitted, now: UnixTime) -> Result<(), Refusal> {
        let Admitted { identity, path } = admitted;
        self.auth
            .check_revocation(path, identity, unix_seconds(now))
            .map_err(|refusal| Refusal::of_revocation(&refusal, &path.bundle))
    }

    fn observes(&self) -> bool {
        self.auth.mode() == ClientAuthMode::Observe
    }

    fn is_lenient(&self) -> bool {
        self.auth.mode() == ClientAuthMode::Lenient
    }

    /// Passes on whether the client proved that it holds the key of `leaf`. In observe mode a failure is only
    /// noted: the client is anonymous either way, and one whose certificate cannot even be read (webpki knows no X.509
    /// v1, say) must not be turned away. A lenient host, which knows some clients, forgives no more than the latter:
    /// what cannot be read was not admitted, and never will be when the session is resumed.
    fn judge_proof(
        &self,
        leaf: &CertificateDer<'_>,
        proof: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match proof {
            Err(error)
                if self.observes() || (self.is_lenient() && EndEntityCert::try_from(leaf).is_err()) =>
            {
                let observed = ObservedIdentity::new(leaf, Err(HandshakeFailure::from_rustls(&error)));
                self.slot.put(Verdict::Observed(Box::new(observed)));
                Ok(HandshakeSignatureValid::assertion())
            }
            proof => proof,
        }
    }

    fn check_size(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Refusal> {
        let too_long = |message| Err(Refusal::of_application(HandshakeReason::ChainTooLong, message));
        let (count, max) = (intermediates.len(), self.auth.options.intermediates_max);
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
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        // Anything but an explicit permission to come without demands a certificate.
        !matches!(
            self.auth.mode(),
            ClientAuthMode::Optional | ClientAuthMode::Lenient | ClientAuthMode::Observe
        )
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None by default: with some hundreds of CAs they break the handshake, and they tell strangers whom we trust.
        &self.auth.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, now);
        if self.observes() || (self.is_lenient() && verified.is_err()) {
            let verdict = verified
                .map(drop)
                .map_err(|Refusal { reason, message, .. }| HandshakeFailure::new(reason, message));
            self.slot.put(Verdict::Observed(Box::new(ObservedIdentity::new(end_entity, verdict))));
            return Ok(ClientCertVerified::assertion());
        }
        match verified {
            Ok(admitted) => {
                self.slot.put(Verdict::Admitted(admitted));
                Ok(ClientCertVerified::assertion())
            }
            Err(Refusal { reason, message, error, bundle }) => {
                self.slot.put(Verdict::Refused(Box::new(HandshakeFailure {
                    presented: Some(PresentedChain::describe(end_entity, intermediates.len())),
                    trust_bundle: bundle.or_else(|| self.auth.trust_names()),
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
        self.judge_proof(cert, verify_tls12_signature(message, cert, dss, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge_proof(cert, verify_tls13_signature(message, cert, dss, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn list(names: &[Arc<str>]) -> String {
    names.join(", ")
}

#[cfg(test)]
mod tests;
