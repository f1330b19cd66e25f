//! The CA certificates by which revocation lists are checked.
//!
//! They need not be trusted for that: a list counts for the certificates that the very same key has signed, and for no
//! others ([`IssuerId`]). Those of the configuration come with it; intermediates that only clients have are taken from
//! verified chains.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use ringward_tls::{IssuerCertificate, IssuerId, PeerPath};

/// The certificates at hand.
#[derive(Debug, Default)]
pub(crate) struct Issuers {
    configured: Vec<IssuerCertificate>,
    sighted: HashMap<IssuerId, IssuerCertificate>,
    /// In the order of their first sighting.
    order: VecDeque<IssuerId>,
    /// What [`Issuers::all`] hands out, until something changes.
    all: Option<Arc<[IssuerCertificate]>>,
}

impl Issuers {
    /// Replaces those of the configuration: trust anchors and `crl_issuers`.
    pub(crate) fn configure(&mut self, configured: Vec<IssuerCertificate>) {
        self.configured = configured;
        self.all = None;
    }

    /// Takes the intermediates of a verified path. True if one is new.
    pub(crate) fn sighted(&mut self, path: &PeerPath) -> bool {
        let mut any = false;
        // Each certificate's issuer is the next one of the path; the last one's is the anchor, which is configured.
        for (below, certificate) in path.certificates.iter().zip(path.certificates.iter().skip(1)) {
            if self.sighted.contains_key(&below.issuer) {
                continue;
            }
            // It has signed a certificate of a verified path, so it is a CA.
            let Ok(issuer) = IssuerCertificate::from_der(&certificate.der) else { continue };
            any |= self.add(issuer);
        }
        any
    }

    /// Adds one that a list was checked by before. True if it is new.
    pub(crate) fn add(&mut self, issuer: IssuerCertificate) -> bool {
        let id = issuer.id();
        if self.sighted.contains_key(&id) {
            return false;
        }
        if self.order.len() == SIGHTED_MAX {
            self.order.pop_front().map(|oldest| self.sighted.remove(&oldest));
        }
        self.order.push_back(id);
        self.sighted.insert(id, issuer);
        self.all = None;
        true
    }

    /// All of them.
    pub(crate) fn all(&mut self) -> Arc<[IssuerCertificate]> {
        let (configured, sighted) = (&self.configured, &self.sighted);
        self.all.get_or_insert_with(|| configured.iter().chain(sighted.values()).cloned().collect()).clone()
    }
}

/// Intermediates of clients. Whoever has more of them has lists that can be checked at the next sighting.
const SIGHTED_MAX: usize = 1024;
