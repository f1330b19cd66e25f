//! OCSP staples: what our own certificates' issuers say about them, for clients to see in the handshake (RFC 6066 §8).
//!
//! Hides when one may be shown. A [`Staple`] exists only if its signature, its subject and its times were checked and
//! it says *good*: one that says *revoked* or *unknown* can be reported, and cannot be attached to anything. It is
//! kept as the DER that it came as, and checked again whenever it is read, as a file is nobody's word.
//!
//! Never fetches and never writes.

use std::fmt;
use std::sync::Arc;

use crate::certificate::{format_unix, hex};
use crate::credential::Credential;
use crate::revocation::{
    IssuerCertificate, IssuerError, OcspError, RevocationReason, Serial, SerialError,
    ocsp::{self, CertIdHash, OcspCheck, OcspStatus},
};

/// A good answer about one certificate of ours.
#[derive(Clone)]
pub struct Staple {
    der: Box<[u8]>,
    leaf_sha256: [u8; 32],
    this_update_unix: i64,
    next_update_unix: i64,
}

/// Why there is no staple, or none that can be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StapleError {
    /// Nothing to check an answer with.
    #[error(
        "the chain of `{subject}` holds the leaf only; append the certificate of its issuer, which OCSP needs"
    )]
    NoIssuer {
        /// Of the leaf.
        subject: String,
    },
    /// The issuer in the chain cannot be one.
    #[error("the issuer of `{subject}`: {error}")]
    Issuer {
        /// Of the leaf.
        subject: String,
        /// What is wrong.
        error: IssuerError,
    },
    /// The certificate cannot be asked about.
    #[error("the serial number of `{subject}`: {error}")]
    Serial {
        /// Of the leaf.
        subject: String,
        /// What is wrong.
        error: SerialError,
    },
    /// The answer is not to be believed.
    #[error("the OCSP response about `{subject}` is not used: {error}")]
    Response {
        /// Of the leaf.
        subject: String,
        /// What is wrong.
        error: OcspError,
    },
    /// Nobody knows how long it may be shown.
    #[error(
        "the OCSP response about `{subject}` has no nextUpdate, so nothing says how long clients take it; configure \
         the responder to set one (`openssl ocsp -nmin`)"
    )]
    NoNextUpdate {
        /// Of the leaf.
        subject: String,
    },
    /// The certificate is no good any more.
    #[error(
        "`{subject}` was revoked by its issuer on {} ({reason:?}): clients that look will refuse it; replace it",
        format_unix(*.at_unix)
    )]
    Revoked {
        /// Of the leaf.
        subject: String,
        /// Since when, seconds since 1970.
        at_unix: i64,
        /// Why.
        reason: RevocationReason,
    },
    /// The responder has never heard of it.
    #[error(
        "the OCSP responder does not know `{subject}`; is `ocsp_url` that of its issuer, or is the certificate very new?"
    )]
    Unknown {
        /// Of the leaf.
        subject: String,
    },
    /// It is about another certificate.
    #[error("a staple for another certificate was given to `{subject}`")]
    OtherCertificate {
        /// Of the leaf.
        subject: String,
    },
    /// A certificate that demands a staple has none that can be shown.
    #[error(
        "`{subject}` demands an OCSP staple (TLS feature status_request), and there is no good one, so clients would \
         refuse it; set `staple = \"fetch\"` or a staple file, and see that the responder answers"
    )]
    Required {
        /// Of the leaf.
        subject: String,
    },
}

impl Staple {
    /// Checks a response to [`Credential::staple_request`], or one that was kept in a file: the signature of the
    /// credential's issuer, or of a responder that it has put in charge, that it is about this leaf, and its times.
    ///
    /// Costs one or two signature checks: never on a worker.
    ///
    /// # Errors
    ///
    /// [`StapleError`]. One that says that the certificate is revoked is an error too; it calls for an alarm.
    pub fn verify(der: &[u8], credential: &Credential, now_unix: i64) -> Result<Self, StapleError> {
        let (issuer, serial) = subject_of(credential)?;
        // No nonce: a staple is for all clients, and responders sign it in advance.
        let check = OcspCheck { issuer: &issuer, serial, nonce: None, now_unix, revocation: None };
        let subject = || credential.subject().to_owned();
        let response = ocsp::verify_response(der, &check)
            .map_err(|error| StapleError::Response { subject: subject(), error })?;
        match response.status {
            OcspStatus::Good => {}
            OcspStatus::Revoked { at_unix, reason } => {
                return Err(StapleError::Revoked { subject: subject(), at_unix, reason });
            }
            OcspStatus::Unknown => return Err(StapleError::Unknown { subject: subject() }),
        }
        let Some(next_update_unix) = response.next_update_unix else {
            return Err(StapleError::NoNextUpdate { subject: subject() });
        };
        Ok(Self {
            der: der.into(),
            leaf_sha256: *credential.fingerprint_sha256(),
            this_update_unix: response.this_update_unix,
            next_update_unix,
        })
    }

    /// The response as it was received: what is shown to clients, and what is kept in a file.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the leaf that it is about.
    pub fn leaf_sha256(&self) -> &[u8; 32] {
        &self.leaf_sha256
    }

    /// When the responder knew it, seconds since 1970.
    pub fn this_update_unix(&self) -> i64 {
        self.this_update_unix
    }

    /// When clients stop believing it, seconds since 1970.
    pub fn next_update_unix(&self) -> i64 {
        self.next_update_unix
    }

    /// From this second on it is not shown any more, seconds since 1970: five minutes before nextUpdate, as the clocks of
    /// clients differ, but not more than a tenth of its life before.
    pub fn usable_until_unix(&self) -> i64 {
        let life = self.next_update_unix.saturating_sub(self.this_update_unix);
        self.next_update_unix.saturating_sub(STAPLE_SKEW_SECONDS.min(life / 10))
    }
}

impl fmt::Debug for Staple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staple")
            .field("leaf_sha256", &hex(&self.leaf_sha256))
            .field("next_update_unix", &self.next_update_unix)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// The OCSP request whose answer can become a [`Staple`] of this credential, in DER: without a nonce, as a staple is
    /// for all clients.
    ///
    /// # Errors
    ///
    /// [`StapleError`] if the chain does not hold the leaf's issuer, or the leaf cannot be asked about.
    pub fn staple_request(&self, hash: CertIdHash) -> Result<Vec<u8>, StapleError> {
        let (issuer, serial) = subject_of(self)?;
        Ok(ocsp::request(&issuer, &serial, hash, None))
    }

    /// Under which name its staple is kept: the hash of the leaf in hexadecimal, and `.ocsp`.
    pub fn staple_file_name(&self) -> String {
        format!("{}.ocsp", hex(self.fingerprint_sha256()))
    }

    /// The same credential with this staple instead of any other. It is shown until it is too old, and not beyond.
    ///
    /// # Errors
    ///
    /// [`StapleError::OtherCertificate`] if it is about another leaf.
    pub fn with_staple(&self, staple: Arc<Staple>) -> Result<Self, StapleError> {
        if staple.leaf_sha256 != *self.fingerprint_sha256() {
            return Err(StapleError::OtherCertificate { subject: self.subject().to_owned() });
        }
        let mut stapled = self.clone();
        stapled.staple = Some(staple);
        Ok(stapled)
    }

    /// Whether it may go into service now: a certificate that demands a staple needs one that can be shown. To be asked
    /// before a credential takes another's place; once in service it is better than none.
    ///
    /// # Errors
    ///
    /// [`StapleError::Required`].
    pub fn check_staple(&self, now_unix: i64) -> Result<(), StapleError> {
        let shown = self.staple().is_some_and(|staple| now_unix < staple.usable_until_unix());
        if self.requires_staple() && !shown {
            return Err(StapleError::Required { subject: self.subject().to_owned() });
        }
        Ok(())
    }
}

/// Who answers for the leaf, and its number.
fn subject_of(credential: &Credential) -> Result<(IssuerCertificate, Serial), StapleError> {
    let subject = || credential.subject().to_owned();
    let issuer = credential.issuer().ok_or_else(|| StapleError::NoIssuer { subject: subject() })?;
    let issuer = IssuerCertificate::from_der(issuer)
        .map_err(|error| StapleError::Issuer { subject: subject(), error })?;
    let serial = Serial::new(credential.serial_octets())
        .map_err(|error| StapleError::Serial { subject: subject(), error })?;
    Ok((issuer, serial))
}

/// How much earlier than nextUpdate a staple is dropped.
pub const STAPLE_SKEW_SECONDS: i64 = 300;

#[cfg(test)]
mod tests;
