//! Reads certificate revocation lists (RFC 5280 §5) and checks their signatures, once.
//!
//! Hides the encoding. A list is walked through in place, never collected, so that one of a million entries
//! costs its index and nothing more. It is refused as a whole if anything about it is not understood: an
//! unknown critical extension of the list or of an entry, an indirect list, one for some reasons only, one
//! without nextUpdate. An entry is never skipped for its reason or its date: whatever is on the list is revoked,
//! even by a reason code that does not exist and from a date that is still to come.
//!
//! **Clocks.** thisUpdate may lie [`CLOCK_SKEW_SECONDS`] ahead of our clock, as the CA's may be ahead of it;
//! nextUpdate has no tolerance, as that would be a grace for every list (see
//! [`StalePolicy`](super::StalePolicy)). A list that is stale already is *not* refused here: what it revokes
//! stays revoked, and whether certificates that it does not list pass is the policy's decision.

use std::borrow::Cow;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use super::delta::DeltaCrl;
use super::der::{
    ENUMERATED, Extension, GENERALIZED_TIME, INTEGER, Malformed, Reader, SEQUENCE, UTC_TIME, context,
    context_constructed, dotted,
};
use super::index::CrlIndex;
use super::issuer::IssuerCertificate;
use super::serial::Serial;
use super::serial_set::SerialSet;
use super::signed::{SignatureError, Signed};
use crate::certificate::format_unix;

mod error;
mod head;
mod scope;

pub use error::CrlError;
pub(super) use head::compare_age;
pub use head::{CrlHead, CrlNumber};
use scope::distribution_point_urls;
pub use scope::{CertificateKinds, CrlScope};

/// A list that was read and whose signature is good.
#[derive(Debug)]
pub enum ParsedCrl {
    /// All that is revoked within its scope.
    Complete(CrlIndex),
    /// What has changed since an earlier complete list; see [`CrlIndex::with_delta`].
    Delta(DeltaCrl),
}

/// Why a certificate was revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RevocationReason {
    /// No reason, or one that the standard does not know.
    #[default]
    Unspecified = 0,
    /// The holder's key is in other hands.
    KeyCompromise = 1,
    /// The CA's key is in other hands.
    CaCompromise = 2,
    /// The holder's name or affiliation changed.
    AffiliationChanged = 3,
    /// Another certificate took its place.
    Superseded = 4,
    /// It is not needed any more.
    CessationOfOperation = 5,
    /// Suspended; a later list may lift it.
    CertificateHold = 6,
    /// In a delta list: a suspension was lifted. In a complete list it has no meaning, and the certificate is
    /// revoked.
    RemoveFromCrl = 8,
    /// A privilege in it was withdrawn.
    PrivilegeWithdrawn = 9,
    /// An attribute authority's key is in other hands.
    AaCompromise = 10,
}

/// Most bytes of a list, DER or PEM. Some seven million entries; a configured limit is usually lower.
pub const CRL_BYTES_MAX: usize = 256 << 20;
/// How far ahead of our clock a list or an answer may have been made.
pub const CLOCK_SKEW_SECONDS: i64 = 300;

/// Reads one list, DER or PEM, and checks it with the certificate among `issuers` that signed it.
///
/// Hashes the whole list and takes some 0.2 s for a million entries: never on a worker. `pause` is called about
/// every tenth of a millisecond, so that whoever shares a core with workers can leave it to them. `now_unix` is
/// seconds since 1970.
///
/// # Errors
///
/// [`CrlError`], with the issuer's name if it came that far.
pub fn parse_crl(
    bytes: &[u8],
    issuers: &[IssuerCertificate],
    now_unix: i64,
    pause: fn(),
) -> Result<ParsedCrl, CrlError> {
    let mut lists = read_crls(bytes)?;
    match (lists.pop(), lists.len()) {
        (Some(der), 0) => parse_der(&der, issuers, now_unix, pause),
        (_, others) => Err(CrlError::NotOne { count: others + 1 }),
    }
}

/// The lists of a file: the one of a DER file, or each section `X509 CRL` of a PEM file.
///
/// # Errors
///
/// [`CrlError::TooLong`], [`CrlError::Pem`], and [`CrlError::Empty`] if there is none.
pub fn read_crls(bytes: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, CrlError> {
    if bytes.len() > CRL_BYTES_MAX {
        return Err(CrlError::TooLong { bytes: bytes.len() });
    }
    // PEM is text, and DER begins with the tag of a SEQUENCE, which is the digit zero, and a length, which is
    // none for anything that fits a list.
    if let [SEQUENCE, 0x80..=0xff, ..] = bytes {
        return Ok(vec![Cow::Borrowed(bytes)]);
    }
    let sections =
        CertificateRevocationListDer::pem_slice_iter(bytes).take(CRLS_PER_FILE_MAX + 1).map(|section| {
            match section {
                Ok(der) => Ok(Cow::Owned(der.as_ref().to_vec())),
                Err(error) => Err(CrlError::Pem(error.to_string())),
            }
        });
    let lists = sections.collect::<Result<Vec<_>, _>>()?;
    match lists.len() {
        0 => Err(CrlError::Empty),
        count if count > CRLS_PER_FILE_MAX => Err(CrlError::NotOne { count }),
        _ => Ok(lists),
    }
}

fn parse_der(
    der: &[u8],
    issuers: &[IssuerCertificate],
    now_unix: i64,
    pause: fn(),
) -> Result<ParsedCrl, CrlError> {
    let malformed = |what| move |Malformed| CrlError::Malformed { what };
    let mut outer = Reader::inside(der, SEQUENCE).map_err(malformed("the list"))?;
    let signed = Signed::read(&mut outer).map_err(malformed("the list"))?;
    outer.finish().map_err(malformed("the list"))?;
    let fields = Fields::read(&signed)?;
    let extensions = Extensions::read(fields.extensions)?;
    let issuer = verify(&signed, &fields, &extensions, issuers)?;
    // Nothing below is reached with a list that its issuer has not signed.
    let entries = Entries::new(fields.entries, pause);
    entries.check()?;
    if fields.next_update <= fields.this_update {
        return Err(CrlError::Dates { this_update: fields.this_update, next_update: fields.next_update });
    }
    if fields.this_update > now_unix.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(CrlError::NotYetValid { this_update: fields.this_update, now_unix });
    }
    let head = CrlHead {
        issuer: issuer.id(),
        issuer_name: issuer.subject().into(),
        number: extensions.number,
        this_update_unix: fields.this_update,
        next_update_unix: fields.next_update,
        scope: extensions.scope,
        delta_urls: extensions.delta_urls,
    };
    let set = SerialSet::build(entries);
    Ok(match (extensions.base, head.number) {
        (None, _) => ParsedCrl::Complete(CrlIndex::new(head, set)),
        (Some(base), Some(number)) if number > base => ParsedCrl::Delta(DeltaCrl::new(head, base, set)),
        (Some(_), _) => return Err(CrlError::DeltaNumber),
    })
}

/// The certificate whose key has signed the list, among those with the issuer's name.
fn verify<'a>(
    signed: &Signed<'_>,
    fields: &Fields<'_>,
    extensions: &Extensions<'_>,
    issuers: &'a [IssuerCertificate],
) -> Result<&'a IssuerCertificate, CrlError> {
    let issuer = || CrlError::printable(fields.issuer);
    let named: Vec<_> = issuers.iter().filter(|candidate| *candidate.subject_der == *fields.issuer).collect();
    if named.is_empty() {
        return Err(CrlError::NoIssuer { issuer: issuer() });
    }
    // RFC 5280 §5.2.1: the key identifier tells keys of one name apart. A hint, as the signature decides.
    let by_key_id = |candidate: &&&IssuerCertificate| match (&candidate.key_id, extensions.key_id) {
        (Some(theirs), Some(wanted)) => **theirs == *wanted,
        _ => true,
    };
    let mut tried: Vec<&IssuerCertificate> = Vec::new();
    let mut failure = SignatureError::Wrong;
    for candidate in named.iter().filter(by_key_id) {
        // A key that has several certificates is tried once, and each try hashes the whole list.
        if tried.iter().any(|other| other.id == candidate.id) {
            continue;
        }
        if tried.len() == SIGNATURE_TRIES_MAX {
            return Err(CrlError::TooManyIssuers { issuer: issuer() });
        }
        tried.push(candidate);
        match signed.verify(&candidate.spki_der) {
            Ok(()) => {
                let mut certificates = named.iter().filter(|other| other.id == candidate.id);
                return match certificates.find(|certificate| certificate.may_sign_crls) {
                    Some(certificate) => Ok(certificate),
                    None => Err(CrlError::MayNotSign { issuer: issuer() }),
                };
            }
            Err(error) => failure = error,
        }
    }
    match tried.is_empty() {
        true => Err(CrlError::NoIssuer { issuer: issuer() }),
        false => Err(CrlError::Signature { issuer: issuer(), error: failure }),
    }
}

/// The fields of a TBSCertList (RFC 5280 §5.1.2).
struct Fields<'a> {
    /// DER Name.
    issuer: &'a [u8],
    this_update: i64,
    next_update: i64,
    /// The value of revokedCertificates.
    entries: &'a [u8],
    /// The value of the SEQUENCE of crlExtensions.
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    fn read(signed: &Signed<'a>) -> Result<Self, CrlError> {
        let malformed = |what| move |Malformed| CrlError::Malformed { what };
        let mut fields = Reader::new(signed.content);
        match fields.optional(INTEGER).map_err(malformed("version"))? {
            Some([1]) => {}
            // Version 1 is written as an absent field, and has no extensions to say what it is.
            None | Some(_) => return Err(CrlError::Version),
        }
        // RFC 5280 §5.1.1.2: the algorithm is within what is signed, so that it cannot be exchanged.
        if fields.expect(SEQUENCE).map_err(malformed("signature"))? != signed.algorithm {
            return Err(CrlError::Malformed { what: "signature algorithm" });
        }
        let issuer = fields.element(SEQUENCE).map_err(malformed("issuer"))?.raw;
        let this_update = fields.time().map_err(malformed("thisUpdate"))?;
        if !fields.next_is(UTC_TIME) && !fields.next_is(GENERALIZED_TIME) {
            return Err(CrlError::NoNextUpdate { issuer: CrlError::printable(issuer) });
        }
        let next_update = fields.time().map_err(malformed("nextUpdate"))?;
        let entries =
            fields.optional(SEQUENCE).map_err(malformed("revokedCertificates"))?.unwrap_or_default();
        let extensions = fields
            .optional_explicit(context_constructed(0), SEQUENCE)
            .map_err(malformed("crlExtensions"))?
            .unwrap_or_default();
        fields.finish().map_err(malformed("the list"))?;
        Ok(Self { issuer, this_update, next_update, entries, extensions })
    }
}

/// What the extensions of a list say (RFC 5280 §5.2).
#[derive(Default)]
struct Extensions<'a> {
    number: Option<CrlNumber>,
    /// deltaCRLIndicator: the list is a delta of the one with this number.
    base: Option<CrlNumber>,
    scope: CrlScope,
    /// authorityKeyIdentifier's keyIdentifier.
    key_id: Option<&'a [u8]>,
    delta_urls: Box<[Box<str>]>,
}

impl<'a> Extensions<'a> {
    fn read(list: &'a [u8]) -> Result<Self, CrlError> {
        let malformed = |what| move |Malformed| CrlError::Malformed { what };
        let mut found = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut list = Reader::new(list);
        while !list.is_empty() {
            let extension = Extension::read(&mut list).map_err(malformed("crlExtensions"))?;
            // RFC 5280 §4.2: not twice. It would be a matter of taste which of the two counts.
            if seen.contains(&extension.oid) || seen.len() == EXTENSIONS_MAX {
                return Err(CrlError::Malformed { what: "crlExtensions (repeated or too many)" });
            }
            seen.push(extension.oid);
            match extension.oid {
                CRL_NUMBER => found.number = Some(CrlNumber::read(extension.value)?),
                DELTA_CRL_INDICATOR => found.base = Some(CrlNumber::read(extension.value)?),
                ISSUING_DISTRIBUTION_POINT => found.scope = CrlScope::read(extension.value)?,
                AUTHORITY_KEY_IDENTIFIER => {
                    let key_id = read_key_id(extension.value).map_err(malformed("authorityKeyIdentifier"))?;
                    found.key_id = key_id;
                }
                FRESHEST_CRL => found.delta_urls = distribution_point_urls(extension.value),
                _ if extension.critical => {
                    return Err(CrlError::UnknownCritical { oid: dotted(extension.oid) });
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn read_key_id(value: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    Reader::inside(value, SEQUENCE)?.optional(context(0))
}

/// The entries of a list, in order, read in place.
#[derive(Clone)]
struct Entries<'a> {
    rest: Reader<'a>,
    read: usize,
    /// Called after every [`ENTRIES_PER_PIECE`].
    pause: fn(),
}

impl<'a> Entries<'a> {
    fn new(revoked_certificates: &'a [u8], pause: fn()) -> Self {
        Self { rest: Reader::new(revoked_certificates), read: 0, pause }
    }

    /// The value of the next entry's SEQUENCE, `None` behind the last.
    fn next_element(&mut self) -> Option<Result<&'a [u8], Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        self.read += 1;
        if self.read.is_multiple_of(ENTRIES_PER_PIECE) {
            (self.pause)();
        }
        Some(self.rest.expect(SEQUENCE))
    }

    /// Reads all entries with their extensions; afterwards, iterating yields those same entries.
    fn check(&self) -> Result<(), CrlError> {
        let mut entries = self.clone();
        while let Some(entry) = entries.next_element() {
            let position = entries.read;
            let malformed = |Malformed| CrlError::Entry { position, what: "cannot be read" };
            let mut fields = Reader::new(entry.map_err(malformed)?);
            if fields.expect(INTEGER).map_err(malformed)?.is_empty() {
                return Err(malformed(Malformed));
            }
            fields.time().map_err(malformed)?;
            // Some CAs write an empty SEQUENCE for no extensions.
            let mut extensions =
                Reader::new(fields.optional(SEQUENCE).map_err(malformed)?.unwrap_or_default());
            fields.finish().map_err(malformed)?;
            while !extensions.is_empty() {
                let extension = Extension::read(&mut extensions).map_err(malformed)?;
                match extension.oid {
                    REASON_CODE => {
                        read_reason(extension.value).map_err(malformed)?;
                    }
                    // Then this entry and those behind it are about another CA's certificates (§5.3.3).
                    CERTIFICATE_ISSUER => return Err(CrlError::Indirect),
                    INVALIDITY_DATE => {}
                    _ if extension.critical => {
                        return Err(CrlError::UnknownCritical { oid: dotted(extension.oid) });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = (Serial, RevocationReason);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(entry) = self.next_element() {
            let mut fields = Reader::new(entry.ok()?);
            let octets = fields.expect(INTEGER).ok()?;
            // No certificate with a longer number is ever admitted, so there is nothing to look up.
            let Ok(serial) = Serial::new(octets) else { continue };
            fields.any().ok()?;
            let extensions = fields.optional(SEQUENCE).ok()?.unwrap_or_default();
            return Some((serial, reason_of(Reader::new(extensions))));
        }
        None
    }
}

/// The first reason among checked extensions.
fn reason_of(mut extensions: Reader<'_>) -> RevocationReason {
    while let Ok(extension) = Extension::read(&mut extensions) {
        if extension.oid == REASON_CODE {
            return read_reason(extension.value).unwrap_or_default();
        }
    }
    RevocationReason::Unspecified
}

/// A code that does not exist revokes as well as any other.
fn read_reason(value: &[u8]) -> Result<RevocationReason, Malformed> {
    let mut reader = Reader::new(value);
    let code = reader.expect(ENUMERATED)?;
    reader.finish()?;
    match code {
        [] => Err(Malformed),
        [code] => Ok(RevocationReason::from_code(*code).unwrap_or_default()),
        _ => Ok(RevocationReason::Unspecified),
    }
}

impl RevocationReason {
    /// The reason with this code, `None` if there is none.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            8 => Self::RemoveFromCrl,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            _ => return None,
        })
    }

    /// The name in the standard.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

/// Sections of one PEM file. A CA with more partitions has a directory for them.
pub const CRLS_PER_FILE_MAX: usize = 256;
/// Different keys with the issuer's name that are tried; each try hashes the whole list.
const SIGNATURE_TRIES_MAX: usize = 4;
/// Some 0.1 ms of checking, or of putting them into their buckets.
const ENTRIES_PER_PIECE: usize = 512;
/// A list has some five.
const EXTENSIONS_MAX: usize = 32;

// RFC 5280 §4.2.1 and §5.2: 2.5.29.x
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
const INVALIDITY_DATE: &[u8] = &[0x55, 0x1d, 24];
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
const FRESHEST_CRL: &[u8] = &[0x55, 0x1d, 46];

#[cfg(test)]
mod tests;
