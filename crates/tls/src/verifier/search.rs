//! Finds a path from a leaf to an anchor of the bundles that may judge it, and the bundle that admits it.
//!
//! webpki is given the few anchors that the chain could lead to, whatever the number of bundles and of anchors in
//! them: it compares each name with every anchor, and its budget of signature checks counts for all bundles together.
//! Each path that verifies is then held against the rules of the bundles that hold its anchor. A path that breaks them
//! is passed over, so that another one may do.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::refusal::Refusal;
use crate::certificate::{Certificate, unix_seconds};
use crate::client_auth::ClientAuth;
use crate::failure::HandshakeReason;
use crate::path::PeerPath;
use crate::trust::{Anchor, TrustBundle, Violation};

/// A search under the rules of one host.
pub(super) struct PathSearch<'a> {
    pub(super) auth: &'a ClientAuth,
    /// The trust domain whose bundles judge, see [`ClientAuth::binding`].
    pub(super) binding: Option<&'a str>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) now: UnixTime,
}

/// The anchors that a chain could lead to.
struct Candidates<'a> {
    /// What webpki searches: each (subject, SPKI, name constraints) once.
    roots: Vec<TrustAnchor<'a>>,
    /// Parallel to `roots`.
    keys: Vec<[u8; 32]>,
    /// Which anchors of which bundles stand behind a root, in the order of the bundles.
    owners: Vec<Owner<'a>>,
}

struct Owner<'a> {
    root: usize,
    /// Position of the bundle in the host's list.
    rank: usize,
    bundle: &'a Arc<TrustBundle>,
    anchor: &'a Anchor,
}

/// What came of the paths that verified.
#[derive(Default)]
struct Outcome {
    /// The path of the bundle with the lowest rank so far.
    best: Option<(usize, PeerPath)>,
    /// Why the first path that was passed over was.
    violation: Option<(Arc<str>, Violation)>,
}

impl PathSearch<'_> {
    /// The path to use; `claimed` is the trust domain of the leaf, for the message.
    pub(super) fn run(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        claimed: Option<&str>,
    ) -> Result<PeerPath, Refusal> {
        if self.auth.bundles_bound_to(self.binding).next().is_none() {
            return Err(self.unbound(claimed));
        }
        let consulted = || {
            let names: Vec<_> = self.auth.bundles_bound_to(self.binding).map(|(_, b)| &**b.name()).collect();
            Arc::<str>::from(names.join(", "))
        };
        let explain = |error: webpki::Error| {
            Refusal::of_path(&error, leaf, intermediates, unix_seconds(self.now), &consulted())
        };
        let parsed = EndEntityCert::try_from(leaf).map_err(explain)?;
        let issuers = issuers(&parsed, intermediates);
        let candidates = self.candidates(&issuers);
        let outcome = RefCell::<Outcome>::default();
        let judge = |path: &VerifiedPath<'_>| self.judge(path, &candidates, &mut outcome.borrow_mut());
        let error = parsed
            .verify_for_usage(
                self.algorithms.all,
                &candidates.roots,
                intermediates,
                self.now,
                KeyUsage::client_auth(),
                None,
                Some(&judge),
            )
            .err();
        match (outcome.into_inner(), error) {
            (Outcome { best: Some((_, path)), .. }, _) => Ok(path.presented_with(intermediates)),
            (Outcome { violation: Some((bundle, violation)), .. }, _) => {
                Err(Refusal::of_violation(violation, &bundle))
            }
            (_, Some(webpki::Error::UnknownIssuer)) if self.is_foreign(&issuers) => {
                Err(self.foreign(claimed))
            }
            (_, Some(error)) => Err(explain(error)),
            // `judge` is called for every path, and lets none pass that it does not record.
            (_, None) => {
                let message = "a path verified that no bundle admitted".to_owned();
                Err(Refusal::of_application(HandshakeReason::Internal, message))
            }
        }
    }

    #[cfg(test)]
    pub(super) fn candidates_of(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> usize {
        let leaf = EndEntityCert::try_from(leaf).expect("a certificate of a test");
        self.candidates(&issuers(&leaf, intermediates)).roots.len()
    }

    fn candidates(&self, issuers: &[Vec<u8>]) -> Candidates<'_> {
        let mut found = Candidates { roots: Vec::new(), keys: Vec::new(), owners: Vec::new() };
        for (rank, bundle) in self.auth.bundles_bound_to(self.binding) {
            for position in issuers.iter().flat_map(|issuer| bundle.anchors_named(issuer)) {
                let key = bundle.key(position);
                let root = found.keys.iter().position(|known| known == key).unwrap_or_else(|| {
                    found.roots.push(bundle.root(position));
                    found.keys.push(*key);
                    found.roots.len() - 1
                });
                found.owners.push(Owner { root, rank, bundle, anchor: &bundle.anchors()[position] });
            }
        }
        found
    }

    /// Holds a verified path against the rules of the bundles that hold its anchor. An error makes webpki look for
    /// another path.
    fn judge(
        &self,
        path: &VerifiedPath<'_>,
        candidates: &Candidates<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), webpki::Error> {
        let root = candidates.roots.iter().position(|root| std::ptr::eq(root, path.anchor()));
        let root = root.ok_or(webpki::Error::UnknownIssuer)?;
        let end_entity = path.end_entity().der();
        let intermediates: Vec<_> = path.intermediate_certificates().map(|issuer| issuer.der()).collect();
        let certificates = std::iter::once(&end_entity).chain(&intermediates);
        let certificates: Result<Vec<_>, _> = certificates.map(|der| Certificate::parse(der)).collect();
        for owner in candidates.owners.iter().filter(|owner| owner.root == root) {
            let verdict = match &certificates {
                Ok(certificates) => self.examine(certificates, owner),
                Err(message) => Err(Violation::new(HandshakeReason::BadCertificate, message.clone())),
            };
            match verdict {
                Ok(path) => {
                    if outcome.best.as_ref().is_none_or(|(rank, _)| owner.rank < *rank) {
                        outcome.best = Some((owner.rank, path));
                    }
                    break;
                }
                Err(violation) => {
                    outcome.violation.get_or_insert((owner.bundle.name().clone(), violation));
                }
            }
        }
        // The search ends with the first bundle that could admit the chain; for a later one, it goes on.
        let first = candidates.owners.iter().map(|owner| owner.rank).min();
        match &outcome.best {
            Some((rank, _)) if first == Some(*rank) => Ok(()),
            _ => Err(webpki::Error::UnknownIssuer),
        }
    }

    fn examine(&self, path: &[Certificate<'_>], owner: &Owner<'_>) -> Result<PeerPath, Violation> {
        let malformed = |message| Violation::new(HandshakeReason::BadCertificate, message);
        let Owner { bundle, anchor, .. } = owner;
        // webpki does not know when an anchor is valid.
        let now = unix_seconds(self.now);
        for (reason, outside) in [
            (HandshakeReason::Expired, now > anchor.not_after_unix),
            (HandshakeReason::NotYetValid, now < anchor.not_before_unix),
        ] {
            if outside {
                let message = format!(
                    "`{}`, the CA that issued it, is outside its validity; renew it in the trust bundle",
                    anchor.subject
                );
                return Err(Violation::new(reason, message));
            }
        }
        // RFC 5280 §6.1.4 (n); webpki looks at basicConstraints only.
        for issuer in path.iter().skip(1) {
            if issuer.allows_certificate_signing().map_err(malformed)? == Some(false) {
                let message = format!("keyUsage of the issuer `{}` lacks keyCertSign", issuer.subject());
                return Err(Violation::new(HandshakeReason::ConstraintViolation, message));
            }
        }
        bundle.options().check(path, anchor)?;
        PeerPath::new(bundle.name().clone(), path, anchor).map_err(malformed)
    }

    /// True if an anchor of another binding has the name of an issuer: the leaf is a stranger's, or it has
    /// the wrong trust domain.
    fn is_foreign(&self, issuers: &[Vec<u8>]) -> bool {
        self.auth.trust().iter().any(|bundle| {
            bundle.options().spiffe_trust_domain.as_deref() != self.binding
                && issuers.iter().any(|issuer| bundle.anchors_named(issuer).next().is_some())
        })
    }

    fn unbound(&self, claimed: Option<&str>) -> Refusal {
        let bound: Vec<_> = self
            .auth
            .trust()
            .iter()
            .filter_map(|bundle| bundle.options().spiffe_trust_domain.as_deref())
            .collect();
        let message = format!(
            "{}, and the trust bundles of the host speak for {} only (`spiffe_trust_domain`)",
            describe(claimed),
            bound.join(", ")
        );
        Refusal::of_application(HandshakeReason::TrustDomainMismatch, message)
    }

    fn foreign(&self, claimed: Option<&str>) -> Refusal {
        let message = format!(
            "{}, and names an issuer that may not speak for it (`spiffe_trust_domain`)",
            describe(claimed)
        );
        Refusal::of_application(HandshakeReason::TrustDomainMismatch, message)
    }
}

fn describe(claimed: Option<&str>) -> String {
    match claimed {
        Some(trust_domain) => format!("the leaf claims the SPIFFE trust domain `{trust_domain}`"),
        None => "the leaf has no SPIFFE ID".to_owned(),
    }
}

/// The names of all issuers in a presented chain, each once, as in [`TrustAnchor::subject`].
fn issuers(leaf: &EndEntityCert<'_>, intermediates: &[CertificateDer<'_>]) -> Vec<Vec<u8>> {
    let mut names = vec![leaf.issuer().to_vec()];
    for intermediate in intermediates {
        // One that webpki cannot parse is not part of any path.
        let Ok(parsed) = EndEntityCert::try_from(intermediate) else { continue };
        if !names.iter().any(|known| known == parsed.issuer()) {
            names.push(parsed.issuer().to_vec());
        }
    }
    names
}
