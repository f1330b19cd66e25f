//! A verified path, as the checks that come after verification need it: revocation look-ups, OCSP questions and
//! deny lists.
//!
//! Hides how issuers, serial numbers and the places of revocation data are read. Made once for each remembered
//! chain and shared; exists only for a path that verified up to an anchor, so that nothing is fetched from an
//! address that a stranger made up.

use std::fmt;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, hex};
use crate::digest::sha256;
use crate::revocation::{IssuerId, Serial};
use crate::trust::Anchor;

/// A path from a leaf to a trust anchor that verified.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerPath {
    /// Name of the trust bundle that admitted it.
    pub bundle: Arc<str>,
    /// Leaf first, each signed by the next and the last by the anchor, which is not among them.
    pub certificates: Vec<PathCertificate>,
    /// What the client presented beside them: another path may need it when other CAs are trusted. Verified by nobody; at most
    /// [`BESIDE_BYTES_MAX`] bytes.
    pub beside: Vec<CertificateDer<'static>>,
    /// Where the path ends.
    pub anchor: AnchorRef,
    /// Latest notBefore of the path, anchor included; seconds since 1970.
    pub valid_from: i64,
    /// Earliest notAfter of the path, anchor included; seconds since 1970, that second included.
    pub valid_until: i64,
}

/// One certificate of a verified path.
#[derive(Clone, PartialEq, Eq)]
pub struct PathCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Who signed it: the next of the path, or the anchor.
    pub issuer: IssuerId,
    /// Its serial number.
    pub serial: Serial,
    /// SHA-256 of the DER of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of its DER.
    pub fingerprint_sha256: [u8; 32],
    /// Where whole lists of its issuer are published: the `http` and `https` URLs of its distribution points that cover
    /// all reasons and are signed by the issuer itself; at most [`REVOCATION_URLS_MAX`].
    pub crl_urls: Box<[Box<str>]>,
    /// The first `http` or `https` URL of an OCSP responder.
    pub ocsp_url: Option<Box<str>>,
}

/// The anchor that a path ends in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnchorRef {
    /// SHA-256 of the DER of the CA certificate.
    pub fingerprint_sha256: [u8; 32],
    /// SHA-256 of the DER of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// The anchor as an issuer.
    pub issuer: IssuerId,
}

/// Most CRL addresses that are taken from one certificate: a CA names one, or two for redundancy.
pub const REVOCATION_URLS_MAX: usize = 4;
/// Most bytes of certificates that are kept although they are not part of a path: two of CAs, with long RSA keys. They are the
/// client's choice, and kept as long as what is remembered of it.
pub const BESIDE_BYTES_MAX: usize = 4 * 1024;
/// Longest address that is taken from a certificate.
pub const REVOCATION_URL_BYTES_MAX: usize = 1024;

impl PeerPath {
    /// Describes a path that verified: `certificates` leaf first, without `anchor`.
    ///
    /// # Errors
    ///
    /// What cannot be described, so that no later check would miss it.
    pub(crate) fn new(
        bundle: Arc<str>,
        certificates: &[Certificate<'_>],
        anchor: &Anchor,
    ) -> Result<Self, String> {
        let mut window = (anchor.not_before_unix, anchor.not_after_unix);
        let mut described = Vec::with_capacity(certificates.len());
        for (position, certificate) in certificates.iter().enumerate() {
            window =
                (window.0.max(certificate.not_before_unix()), window.1.min(certificate.not_after_unix()));
            let issuer = match certificates.get(position + 1) {
                Some(issuer) => IssuerId::new(issuer.subject_der(), issuer.spki_der()),
                None => anchor.issuer,
            };
            described.push(PathCertificate::new(certificate, issuer)?);
        }
        Ok(Self {
            bundle,
            certificates: described,
            beside: Vec::new(),
            anchor: anchor.reference(),
            valid_from: window.0,
            valid_until: window.1,
        })
    }

    /// The same, of a client that presented these intermediates.
    pub(crate) fn presented_with(mut self, intermediates: &[CertificateDer<'_>]) -> Self {
        let mut room = BESIDE_BYTES_MAX;
        for presented in intermediates {
            let is_part = self.certificates.iter().any(|certificate| certificate.der == *presented);
            if let Some(rest) = room.checked_sub(presented.len()).filter(|_| !is_part) {
                room = rest;
                self.beside.push(presented.clone().into_owned());
            }
        }
        self
    }

    /// The chain that the client presented, leaf first, in no order beyond that: for other rules to judge.
    pub fn presented(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.certificates.iter().map(|certificate| &certificate.der).chain(&self.beside)
    }

    /// Whether every certificate of the path is within its validity, the anchor included; `now` in seconds since 1970.
    pub fn is_valid_at(&self, now: i64) -> bool {
        self.valid_from <= now && now <= self.valid_until
    }

    /// The certificate that identifies the peer.
    pub fn leaf(&self) -> &PathCertificate {
        self.certificates.first().expect("a path starts with a leaf")
    }
}

impl fmt::Debug for PeerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerPath")
            .field("bundle", &self.bundle)
            .field("certificates", &self.certificates)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

impl PathCertificate {
    fn new(certificate: &Certificate<'_>, issuer: IssuerId) -> Result<Self, String> {
        let serial = Serial::new(certificate.serial_octets())
            .map_err(|error| format!("the serial number of `{}`: {error}", certificate.subject()))?;
        let crl_urls = certificate.crl_urls().filter(|url| is_fetchable(url)).take(REVOCATION_URLS_MAX);
        Ok(Self {
            der: CertificateDer::from(certificate.der().to_vec()),
            issuer,
            serial,
            spki_sha256: sha256(certificate.spki_der()),
            fingerprint_sha256: sha256(certificate.der()),
            crl_urls: crl_urls.map(Into::into).collect(),
            ocsp_url: certificate.ocsp_urls().find(|url| is_fetchable(url)).map(Into::into),
        })
    }
}

impl fmt::Debug for PathCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathCertificate")
            .field("serial", &self.serial)
            .field("fingerprint_sha256", &hex(&self.fingerprint_sha256))
            .finish_non_exhaustive()
    }
}

/// Paths that workers saw for the first time, on their way to the control plane, which fetches what it takes to look
/// them up.
///
/// Bounded and without a lock: workers push, the control plane pops. Full, the newest is dropped: its client is not remembered
/// either, and is seen again when it comes again.
#[derive(Clone, Debug)]
pub struct Sightings(Arc<ArrayQueue<Arc<PeerPath>>>);

/// How many sightings wait at most. The control plane looks several times a second.
pub const SIGHTINGS_MAX: usize = 1024;

impl Sightings {
    /// An empty queue. Clones share it.
    pub fn new() -> Self {
        Self(Arc::new(ArrayQueue::new(SIGHTINGS_MAX)))
    }

    /// Reports a path that verified. False if the queue is full and it was dropped.
    pub fn push(&self, path: Arc<PeerPath>) -> bool {
        self.0.push(path).is_ok()
    }

    /// The oldest sighting.
    pub fn pop(&self) -> Option<Arc<PeerPath>> {
        self.0.pop()
    }
}

impl Default for Sightings {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether we could fetch from there at all. Whether we may is for the allow-list of the configuration.
pub(crate) fn is_fetchable(url: &str) -> bool {
    let has_scheme = |scheme: &str| {
        url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && url.len() > scheme.len()
    };
    url.len() <= REVOCATION_URL_BYTES_MAX
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && (has_scheme("http://") || has_scheme("https://"))
}

#[cfg(test)]
mod tests;
