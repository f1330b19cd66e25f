//! The other extensions that an identity carries: usages, policies, and those selected by configuration.

use x509_parser::certificate::X509Certificate;

use crate::der::{self, Malformed, Reader, Tlv};
use crate::error::{IdentityError, NamePlace};
use crate::oid::{self, ObjectId};
use crate::text::{self, TextError};

/// An extension that configuration asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionValue {
    oid: String,
    critical: bool,
    der: Vec<u8>,
    utf8: Option<String>,
}

impl ExtensionValue {
    /// Dotted decimal.
    pub fn oid(&self) -> &str {
        &self.oid
    }

    /// Whether the authority marked it critical.
    pub fn critical(&self) -> bool {
        self.critical
    }

    /// The DER inside `extnValue`.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The text, if the DER is exactly one ASN.1 string.
    pub fn utf8(&self) -> Option<&str> {
        self.utf8.as_deref()
    }
}

/// All extensions of one certificate, each present once.
pub(crate) struct Extensions<'c, 'a> {
    certificate: &'c X509Certificate<'a>,
}

impl<'c, 'a> Extensions<'c, 'a> {
    /// Refuses duplicates (RFC 5280 §4.2): otherwise which of two is meant would depend on who reads.
    pub(crate) fn new(certificate: &'c X509Certificate<'a>) -> Result<Self, IdentityError> {
        let mut oids: Vec<&[u8]> = certificate.extensions().iter().map(|e| e.oid.as_bytes()).collect();
        oids.sort_unstable();
        match oids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(IdentityError::DuplicateExtension {
                oid: oid::dotted(pair[0]).unwrap_or_else(|_| "unreadable".to_owned()),
            }),
            None => Ok(Self { certificate }),
        }
    }

    /// The value of an extension below `id-ce` (2.5.29).
    pub(crate) fn id_ce(&self, arc: u8) -> Option<&'a [u8]> {
        let wanted = [0x55, 0x1d, arc];
        let mut extensions = self.certificate.extensions().iter();
        extensions.find(|extension| extension.oid.as_bytes() == wanted).map(|extension| extension.value)
    }

    /// Dotted OIDs of extKeyUsage (RFC 5280 §4.2.1.12); empty if absent.
    pub(crate) fn extended_key_usages(&self) -> Result<Vec<String>, IdentityError> {
        self.read(EXTENDED_KEY_USAGE, Vec::new(), |value| {
            non_empty(value, |usages| oid::dotted(usages.expect(der::OBJECT_IDENTIFIER)?))
        })
    }

    /// Dotted OIDs of certificatePolicies (RFC 5280 §4.2.1.4); empty if absent.
    pub(crate) fn policy_oids(&self) -> Result<Vec<String>, IdentityError> {
        self.read(CERTIFICATE_POLICIES, Vec::new(), |value| {
            non_empty(value, |policies| {
                let mut policy = Reader::new(policies.expect(der::SEQUENCE)?);
                let identifier = oid::dotted(policy.expect(der::OBJECT_IDENTIFIER)?)?;
                policy.optional(der::SEQUENCE)?;
                policy.finish()?;
                Ok(identifier)
            })
        })
    }

    /// `cA` of basicConstraints (RFC 5280 §4.2.1.9).
    pub(crate) fn is_authority(&self) -> Result<bool, IdentityError> {
        self.read(BASIC_CONSTRAINTS, false, |value| {
            let mut fields = Reader::inside(value, der::SEQUENCE)?;
            let authority = match fields.optional(der::BOOLEAN)? {
                None => false,
                Some([0xff]) => true,
                Some([0x00]) => false,
                Some(_) => return Err(Malformed),
            };
            fields.optional(der::INTEGER)?;
            fields.finish()?;
            Ok(authority)
        })
    }

    /// keyUsage (RFC 5280 §4.2.1.3), if present.
    pub(crate) fn key_usage(&self) -> Result<Option<KeyUsage>, IdentityError> {
        self.read(KEY_USAGE, None, |value| {
            let bits = Tlv::only(value)?;
            match (bits.tag, bits.content) {
                (der::BIT_STRING, [unused, flags @ ..]) if *unused < 8 && !flags.is_empty() => {
                    Ok(Some(KeyUsage(flags[0])))
                }
                _ => Err(Malformed),
            }
        })
    }

    /// The selected extensions that are present, in the order of the selection.
    pub(crate) fn selected(&self, selection: &[ObjectId]) -> Result<Vec<ExtensionValue>, IdentityError> {
        let mut values = Vec::new();
        for id in selection {
            let mut extensions = self.certificate.extensions().iter();
            if let Some(extension) = extensions.find(|e| e.oid.as_bytes() == id.der()) {
                values.push(ExtensionValue {
                    oid: id.as_str().to_owned(),
                    critical: extension.critical,
                    der: extension.value.to_owned(),
                    utf8: text_of(extension.value, id)?,
                });
            }
        }
        Ok(values)
    }

    fn read<T>(
        &self,
        arc: u8,
        absent: T,
        parse: impl FnOnce(&'a [u8]) -> Result<T, Malformed>,
    ) -> Result<T, IdentityError> {
        match self.id_ce(arc) {
            None => Ok(absent),
            Some(value) => {
                parse(value).map_err(|_| IdentityError::Extension { oid: format!("2.5.29.{arc}") })
            }
        }
    }
}

/// The first eight flags of a keyUsage extension, the first in the highest bit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyUsage(u8);

impl KeyUsage {
    pub(crate) fn digital_signature(self) -> bool {
        self.0 & 0b1000_0000 != 0
    }

    /// keyCertSign or cRLSign.
    pub(crate) fn signs_certificates_or_crls(self) -> bool {
        self.0 & 0b0000_0110 != 0
    }
}

/// A `SEQUENCE SIZE (1..MAX) OF`.
fn non_empty<'a>(
    value: &'a [u8],
    mut element: impl FnMut(&mut Reader<'a>) -> Result<String, Malformed>,
) -> Result<Vec<String>, Malformed> {
    let mut elements = Reader::inside(value, der::SEQUENCE)?;
    let mut found = vec![element(&mut elements)?];
    while !elements.is_empty() {
        found.push(element(&mut elements)?);
    }
    Ok(found)
}

fn text_of(value: &[u8], id: &ObjectId) -> Result<Option<String>, IdentityError> {
    let Ok(element) = Tlv::only(value) else {
        return Ok(None);
    };
    match text::decode(&element) {
        Ok(text) => Ok(Some(text)),
        Err(TextError::NotText) => Ok(None),
        Err(TextError::Encoding) => Err(IdentityError::Extension { oid: id.as_str().to_owned() }),
        Err(TextError::Forbidden(character)) => {
            Err(IdentityError::ForbiddenCharacter { place: NamePlace::Extension, character })
        }
    }
}

// Last arcs below id-ce.
const KEY_USAGE: u8 = 15;
pub(crate) const SUBJECT_ALT_NAME: u8 = 17;
const BASIC_CONSTRAINTS: u8 = 19;
const CERTIFICATE_POLICIES: u8 = 32;
const EXTENDED_KEY_USAGE: u8 = 37;
