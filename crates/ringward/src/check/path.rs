//! What vouches for a client, and what is known of its revocation: the parts of `check --cert` that are not the verdict.

use std::fmt;

use ringward_tls::{CertificateFacts, PathCertificate, PeerPath};
use serde::Serialize;

use crate::hex;
use crate::load::Loaded;

/// A path that was verified.
#[derive(Debug, Serialize)]
pub(super) struct VerifiedPath {
    /// The trust bundle that it ends in.
    bundle: String,
    /// Leaf first, without the CA of the bundle.
    certificates: Vec<Link>,
    /// Subject of that CA.
    anchor: String,
    anchor_fingerprint_sha256: String,
}

#[derive(Debug, Serialize)]
struct Link {
    subject: String,
    serial: String,
    fingerprint_sha256: String,
    /// What each list of its issuer says of it; empty if there is none.
    revocation: Vec<String>,
}

impl VerifiedPath {
    /// The trust bundle that it ends in.
    pub(super) fn bundle(&self) -> &str {
        &self.bundle
    }

    /// Of a path, by the lists that lie in files: those that are fetched, and the deny list, are a running process's own.
    pub(super) fn of(path: &PeerPath, loaded: &Loaded) -> VerifiedPath {
        let bundle = loaded.materials.trust.get(&*path.bundle);
        let anchors = bundle.map(|bundle| bundle.anchors()).unwrap_or_default();
        let anchor =
            anchors.iter().find(|anchor| anchor.fingerprint_sha256 == path.anchor.fingerprint_sha256);
        VerifiedPath {
            bundle: path.bundle.to_string(),
            certificates: path.certificates.iter().map(|certificate| link(certificate, loaded)).collect(),
            anchor: anchor.map_or_else(String::new, |anchor| anchor.subject.clone()),
            anchor_fingerprint_sha256: hex::encode(&path.anchor.fingerprint_sha256),
        }
    }
}

fn link(certificate: &PathCertificate, loaded: &Loaded) -> Link {
    let lists = crate::trust::crl::list::in_force(&loaded.lists);
    let of_issuer = lists.iter().filter(|list| list.head().issuer == certificate.issuer);
    let revocation = of_issuer.map(|list| match list.find(&certificate.serial) {
        Some(reason) => format!("revoked ({}) by {}", reason.as_str(), list.head()),
        None => format!("not on {}", list.head()),
    });
    Link {
        subject: CertificateFacts::read(&certificate.der).map(|facts| facts.subject).unwrap_or_default(),
        serial: certificate.serial.to_string(),
        fingerprint_sha256: hex::encode(&certificate.fingerprint_sha256),
        revocation: revocation.collect(),
    }
}

impl fmt::Display for VerifiedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n    vouched for by bundle {}", self.bundle)?;
        for Link { subject, serial, revocation, .. } in &self.certificates {
            write!(f, "\n      {subject}, serial {serial}")?;
            if revocation.is_empty() {
                write!(f, ": no revocation list of its issuer is in the files")?;
            }
            for verdict in revocation {
                write!(f, "\n        {verdict}")?;
            }
        }
        write!(f, "\n      {} (CA of the bundle)", self.anchor)
    }
}
