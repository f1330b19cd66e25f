//! Subject alternative names by kind (RFC 5280 §4.2.1.6).
//!
//! One malformed name refuses the whole certificate. Kinds that nothing is decided on (directoryName, otherName,
//! registeredID, ...) are skipped, their content unread.

use std::net::IpAddr;

use crate::der::{self, Reader, Tlv};
use crate::error::{IdentityError, NamePlace, SanKind};
use crate::text::{self, TextError};

/// The names of one certificate, each list in certificate order.
#[derive(Debug, Default)]
pub(crate) struct SubjectAltNames {
    pub(crate) uris: Vec<String>,
    /// Lower-case, since DNS names compare so (RFC 4343) and policies compare bytes.
    pub(crate) dns: Vec<String>,
    pub(crate) emails: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
}

impl SubjectAltNames {
    /// Reads the extension's value.
    pub(crate) fn parse(extension: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |_: der::Malformed| malformed(SanKind::Other, "is not valid DER");
        let mut entries = Reader::inside(extension, der::SEQUENCE).map_err(malformed)?;
        if entries.is_empty() {
            return Err(self::malformed(SanKind::Other, "is missing although the extension is there"));
        }
        let mut names = Self::default();
        while !entries.is_empty() {
            names.push(entries.next().map_err(malformed)?)?;
        }
        Ok(names)
    }

    fn push(&mut self, entry: Tlv<'_>) -> Result<(), IdentityError> {
        match entry.tag {
            RFC822_NAME => self.emails.push(email(ascii(entry.content, SanKind::Email)?)?.to_owned()),
            DNS_NAME => self.dns.push(dns(ascii(entry.content, SanKind::Dns)?)?.to_ascii_lowercase()),
            UNIFORM_RESOURCE_IDENTIFIER => {
                self.uris.push(uri(ascii(entry.content, SanKind::Uri)?)?.to_owned());
            }
            IP_ADDRESS => self.ips.push(ip(entry.content)?),
            OTHER_NAME | X400_ADDRESS | DIRECTORY_NAME | EDI_PARTY_NAME | REGISTERED_ID => {}
            _ => return Err(malformed(SanKind::Other, "is of no kind that RFC 5280 knows")),
        }
        Ok(())
    }
}

fn ascii(content: &[u8], kind: SanKind) -> Result<&str, IdentityError> {
    let text = text::ascii(content).map_err(|_| malformed(kind, "holds other characters than ASCII"))?;
    match text::check(text) {
        Err(TextError::Forbidden(character)) => {
            Err(IdentityError::ForbiddenCharacter { place: NamePlace::SubjectAltName, character })
        }
        _ => Ok(text),
    }
}

/// A mailbox `local@domain` of RFC 5321 without quoting: exactly one `@`, no blank, no quote.
pub(crate) fn email(text: &str) -> Result<&str, IdentityError> {
    let (local, domain) = text.split_once('@').unwrap_or_default();
    let plain = !text.bytes().any(|b| matches!(b, b' ' | b'"' | b'\\' | b',' | b';' | b'<' | b'>'));
    if local.is_empty() || domain.is_empty() || domain.contains('@') || !plain {
        return Err(malformed(SanKind::Email, "is no plain mailbox `local@domain`"));
    }
    Ok(text)
}

/// A host name of 1 to 253 characters in labels of 1 to 63 letters, digits, `-` or `_`; a whole first label may
/// be `*`. RFC 5280 refers to RFC 1034's preferred syntax, which has no underscore and no trailing dot; the
/// underscore is common inside private networks and harmless.
pub(crate) fn dns(text: &str) -> Result<&str, IdentityError> {
    let labels = text.strip_prefix("*.").unwrap_or(text);
    let valid = text.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if valid { Ok(text) } else { Err(malformed(SanKind::Dns, "is no host name")) }
}

/// An absolute URI in the characters of RFC 3986, each `%` followed by two hexadecimal digits.
pub(crate) fn uri(text: &str) -> Result<&str, IdentityError> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(malformed(SanKind::Uri, "has no scheme"));
    };
    let scheme_valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let characters_valid = rest.bytes().all(|b| b.is_ascii_alphanumeric() || URI_PUNCTUATION.contains(&b));
    let escapes_valid = rest.split('%').skip(1).all(|part| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if scheme_valid && characters_valid && escapes_valid && !rest.is_empty() {
        Ok(text)
    } else {
        Err(malformed(SanKind::Uri, "is no valid absolute URI"))
    }
}

fn ip(content: &[u8]) -> Result<IpAddr, IdentityError> {
    if let Ok(octets) = <[u8; 4]>::try_from(content) {
        Ok(IpAddr::from(octets))
    } else if let Ok(octets) = <[u8; 16]>::try_from(content) {
        Ok(IpAddr::from(octets))
    } else {
        Err(malformed(SanKind::Ip, "has neither 4 nor 16 octets"))
    }
}

fn malformed(kind: SanKind, problem: &'static str) -> IdentityError {
    IdentityError::SubjectAltName { kind, problem }
}

/// RFC 3986 §2: reserved and unreserved punctuation, and the percent sign.
const URI_PUNCTUATION: &[u8] = b"-._~:/?#[]@!$&'()*+,;=%";

// The choices of GeneralName as identifier octets: context-specific, implicit, constructed where the type is.
const OTHER_NAME: u8 = 0xa0;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const X400_ADDRESS: u8 = 0xa3;
const DIRECTORY_NAME: u8 = 0xa4;
const EDI_PARTY_NAME: u8 = 0xa5;
const UNIFORM_RESOURCE_IDENTIFIER: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;
const REGISTERED_ID: u8 = 0x88;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{sequence, tlv};

    fn names(entries: &[Vec<u8>]) -> Result<SubjectAltNames, IdentityError> {
        SubjectAltNames::parse(&sequence(entries))
    }

    #[test]
    fn sorts_names_by_kind() {
        let names = names(&[
            tlv(0x82, b"API.Example.com"),
            tlv(0x86, b"urn:uuid:9eebccd2-12bf-40a6-b262-65fe0487d453"),
            tlv(0x81, b"Ops@example.com"),
            tlv(0x87, &[10, 0, 0, 1]),
            tlv(0x87, &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            tlv(0x82, b"*.example.com"),
            tlv(0xa4, &sequence(&[])),
            tlv(0x88, &[0x2a, 0x03]),
        ])
        .unwrap();
        assert_eq!(names.dns, ["api.example.com", "*.example.com"], "lower-case");
        assert_eq!(names.uris, ["urn:uuid:9eebccd2-12bf-40a6-b262-65fe0487d453"]);
        assert_eq!(names.emails, ["Ops@example.com"], "a local part keeps its case");
        assert_eq!(names.ips, ["10.0.0.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn refuses_malformed_host_names() {
        let (longest, too_long) = (["a"; 127].join("."), ["a"; 128].join("."));
        assert_eq!((longest.len(), too_long.len()), (253, 255));
        let label = |bytes: usize| format!("{}.example", "a".repeat(bytes));
        for (text, valid) in [
            ("localhost", true),
            ("my_service.internal", true),
            (&longest, true),
            (&too_long, false),
            (&label(63), true),
            (&label(64), false),
            ("", false),
            (".", false),
            ("*", false),
            ("*.", false),
            ("a*.example", false),
            ("*.*.example", false),
            ("example.", false),
            (".example", false),
            ("a..b", false),
            ("a b", false),
            ("a,b", false),
            ("spiffe://example.org/a", false),
        ] {
            assert_eq!(names(&[tlv(0x82, text.as_bytes())]).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_uris() {
        for (text, valid) in [
            ("https://example.org/a?b=c#d", true),
            ("urn:a", true),
            ("x+y-z.1:a%2Fb", true),
            ("", false),
            ("relative/path", false),
            (":a", false),
            ("1a:b", false),
            ("a:", false),
            ("a b:c", false),
            ("urn:a b", false),
            ("urn:a\"b", false),
            ("urn:a\\b", false),
            ("urn:a<b>", false),
            ("urn:%", false),
            ("urn:%4", false),
            ("urn:%4g", false),
        ] {
            assert_eq!(names(&[tlv(0x86, text.as_bytes())]).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_mailboxes() {
        for (text, valid) in [
            ("a@b", true),
            ("first.last+tag@example.com", true),
            ("", false),
            ("a", false),
            ("@b", false),
            ("a@", false),
            ("a@b@c", false),
            ("\"a b\"@c", false),
            ("a@b,c@d", false),
        ] {
            assert_eq!(names(&[tlv(0x81, text.as_bytes())]).is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn refuses_other_malformed_entries() {
        let table = [
            ("no entry", sequence(&[])),
            ("an address of 5 octets", sequence(&[tlv(0x87, &[1, 2, 3, 4, 5])])),
            ("an address with a mask", sequence(&[tlv(0x87, &[0; 8])])),
            ("a choice that does not exist", sequence(&[tlv(0x89, b"")])),
            ("a universal string", sequence(&[tlv(0x0c, b"example")])),
            ("a name in pieces", sequence(&[tlv(0xa2, &tlv(0x16, b"example"))])),
            ("UTF-8", sequence(&[tlv(0x82, "exämple".as_bytes())])),
            ("a truncated entry", sequence(&[vec![0x82, 0x05, b'a']])),
            ("stray bytes", [sequence(&[tlv(0x82, b"a")]), vec![0]].concat()),
        ];
        for (what, extension) in table {
            let error = SubjectAltNames::parse(&extension).unwrap_err();
            assert_eq!(error.flag(), "bad_san", "{what}");
        }
    }

    #[test]
    fn refuses_hostile_characters() {
        for (tag, text) in [
            (0x82, "example.com\0.evil"),
            (0x86, "https://example.com/\r\nX: y"),
            (0x81, "a@b\0"),
            (0x82, "\x7f"),
        ] {
            let error = names(&[tlv(tag, text.as_bytes())]).unwrap_err();
            assert!(matches!(error, IdentityError::ForbiddenCharacter { .. }), "{text:?}: {error}");
        }
    }
}
