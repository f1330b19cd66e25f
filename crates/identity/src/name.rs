//! Distinguished names: reading them from DER and writing them as RFC 4514 text.
//!
//! The text is for people, logs and headers. Policies compare the lists of attribute values instead, because two
//! equal names may be written differently; a name in a configuration is compared as [`parts`](NameParts).

mod parts;

use std::fmt::Write;

use crate::der::{self, Reader, Tlv};
use crate::error::{IdentityError, NamePlace};
use crate::oid;
use crate::text::{self, TextError};

pub(crate) use parts::NameParts;

/// A name as in the certificate: relative names in order, each with one or more attributes.
#[derive(Debug)]
pub(crate) struct DistinguishedName<'a> {
    rdns: Vec<Vec<Attribute<'a>>>,
}

#[derive(Debug)]
struct Attribute<'a> {
    kind: &'a [u8],
    value: Value<'a>,
}

#[derive(Debug)]
enum Value<'a> {
    Text(String),
    /// The whole element, for values that are no text or whose type has no name here.
    Der(&'a [u8]),
}

/// How [`DistinguishedName::write`] writes characters that need an escape (RFC 4514 §2.4 allows both).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// A backslash and the character; other characters as UTF-8.
    Character,
    /// A backslash and two hexadecimal digits, also for `=` and for everything outside ASCII. The result holds
    /// no quote and no backslash but those before hexadecimal digits.
    Hex,
}

impl<'a> DistinguishedName<'a> {
    /// Reads the DER of a `Name` (RFC 5280 §4.1.2.4).
    pub(crate) fn parse(der: &'a [u8], place: NamePlace) -> Result<Self, IdentityError> {
        let malformed = |_: der::Malformed| IdentityError::Name { place };
        let mut sets = Reader::inside(der, der::SEQUENCE).map_err(malformed)?;
        let mut rdns = Vec::new();
        while !sets.is_empty() {
            let mut set = Reader::new(sets.expect(der::SET).map_err(malformed)?);
            let mut rdn = Vec::with_capacity(1);
            // SET SIZE (1..MAX): an empty one is malformed, so the first attribute is read unconditionally.
            loop {
                rdn.push(Attribute::parse(set.expect(der::SEQUENCE).map_err(malformed)?, place)?);
                if set.is_empty() {
                    break;
                }
            }
            rdns.push(rdn);
        }
        Ok(Self { rdns })
    }

    /// The values of one attribute type (content octets of its OID), in certificate order.
    pub(crate) fn texts(&self, kind: &[u8]) -> Vec<String> {
        let attributes = self.rdns.iter().flatten().filter(|attribute| attribute.kind == kind);
        attributes
            .filter_map(|attribute| match &attribute.value {
                Value::Text(text) => Some(text.clone()),
                Value::Der(_) => None,
            })
            .collect()
    }

    /// RFC 4514 §2.1: the last relative name first.
    pub(crate) fn write(&self, escape: Escape) -> String {
        let mut out = String::with_capacity(64);
        for rdn in self.rdns.iter().rev() {
            if !out.is_empty() {
                out.push(',');
            }
            for (index, attribute) in rdn.iter().enumerate() {
                if index > 0 {
                    out.push('+');
                }
                attribute.write(&mut out, escape);
            }
        }
        out
    }
}

impl<'a> Attribute<'a> {
    fn parse(sequence: &'a [u8], place: NamePlace) -> Result<Self, IdentityError> {
        let malformed = |_: der::Malformed| IdentityError::Name { place };
        let mut fields = Reader::new(sequence);
        let kind = fields.expect(der::OBJECT_IDENTIFIER).map_err(malformed)?;
        let element = fields.next().map_err(malformed)?;
        fields.finish().map_err(malformed)?;
        oid::dotted(kind).map_err(malformed)?;
        Ok(Self { kind, value: Value::parse(element, short_name(kind).is_some(), place)? })
    }

    fn write(&self, out: &mut String, escape: Escape) {
        match short_name(self.kind) {
            Some(name) => out.push_str(name),
            None => out.push_str(&oid::dotted(self.kind).expect("checked when it was parsed")),
        }
        out.push('=');
        match &self.value {
            Value::Text(text) => write_escaped(out, text, escape),
            Value::Der(der) => {
                out.push('#');
                der.iter().for_each(|octet| write_hex(out, *octet));
            }
        }
    }
}

impl<'a> Value<'a> {
    /// A named attribute type must hold text. For an unnamed one RFC 4514 §2.4 wants the octets; its text, if it
    /// is any, is checked all the same.
    fn parse(element: Tlv<'a>, named: bool, place: NamePlace) -> Result<Self, IdentityError> {
        match text::decode(&element) {
            Ok(text) if named => Ok(Self::Text(text)),
            Ok(_) => Ok(Self::Der(element.raw)),
            Err(TextError::NotText) if !named => Ok(Self::Der(element.raw)),
            Err(TextError::NotText) => Err(IdentityError::Name { place }),
            Err(TextError::Encoding) => Err(IdentityError::Encoding { place }),
            Err(TextError::Forbidden(character)) => {
                Err(IdentityError::ForbiddenCharacter { place, character })
            }
        }
    }
}

fn write_escaped(out: &mut String, text: &str, escape: Escape) {
    let last = text.len().saturating_sub(1);
    for (index, character) in text.char_indices() {
        // RFC 4514 §2.4: a blank only at either end, a number sign only in front, these anywhere.
        let special = match character {
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            '=' => escape == Escape::Hex,
            _ => !character.is_ascii() && escape == Escape::Hex,
        };
        match (special, escape) {
            (false, _) => out.push(character),
            (true, Escape::Character) => out.extend(['\\', character]),
            (true, Escape::Hex) => {
                for octet in character.encode_utf8(&mut [0; 4]).bytes() {
                    out.push('\\');
                    write_hex(out, octet);
                }
            }
        }
    }
}

fn write_hex(out: &mut String, octet: u8) {
    write!(out, "{octet:02X}").expect("writing into a string cannot fail");
}

/// The name that the writer gives an attribute type, if it has one.
fn short_name(kind: &[u8]) -> Option<&'static str> {
    SHORT_NAMES.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name)
}

/// The nine names of RFC 4514 §3, then those that OpenSSL writes for attributes that client certificates carry,
/// so that a subject reads the same here as in nginx or Envoy.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (ORGANIZATION, "O"),
    (ORGANIZATIONAL_UNIT, "OU"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01], "UID"),
    (&[0x55, 0x04, 0x04], "SN"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x0c], "title"),
    (&[0x55, 0x04, 0x0d], "description"),
    (&[0x55, 0x04, 0x0f], "businessCategory"),
    (&[0x55, 0x04, 0x11], "postalCode"),
    (&[0x55, 0x04, 0x29], "name"),
    (&[0x55, 0x04, 0x2a], "GN"),
    (&[0x55, 0x04, 0x2b], "initials"),
    (&[0x55, 0x04, 0x2c], "generationQualifier"),
    (&[0x55, 0x04, 0x2e], "dnQualifier"),
    (&[0x55, 0x04, 0x41], "pseudonym"),
    (ORGANIZATION_IDENTIFIER, "organizationIdentifier"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01], "emailAddress"),
    (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x01], "jurisdictionL"),
    (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x02], "jurisdictionST"),
    (&[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3c, 0x02, 0x01, 0x03], "jurisdictionC"),
];

pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
pub(crate) const ORGANIZATIONAL_UNIT: &[u8] = &[0x55, 0x04, 0x0b];
/// 2.5.4.97 of X.520: how ETSI EN 319 412-1 writes a company register or VAT number, as in PSD2 certificates.
pub(crate) const ORGANIZATION_IDENTIFIER: &[u8] = &[0x55, 0x04, 0x61];

#[cfg(test)]
mod tests;
