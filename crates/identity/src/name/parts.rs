//! Reading RFC 4514 text back into parts, to compare a configured name with a certificate's.
//!
//! The same name has many texts: escapes in two forms, attribute types by name or number, blanks after a comma.
//! All of them lead to equal parts. Never guesses: what a value's encoding would decide is refused.

use crate::der::Tlv;
use crate::name::SHORT_NAMES;
use crate::oid::{self, ObjectId};
use crate::text;

/// A name taken apart: relative names in the order of the text (last first), each with its attributes sorted,
/// because a relative name is a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NameParts {
    rdns: Vec<Vec<Attribute>>,
}

/// Type as the writer writes it, then the value: its text for a type with a name, else `#` and hexadecimal digits.
type Attribute = (String, String);

impl NameParts {
    /// Reads text as RFC 4514 §3 has it. Blanks around `,`, `+` and `=` are skipped, as OpenSSL and RFC 2253
    /// write them; a blank that belongs to a value is escaped.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence about it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut rest = text.trim_start_matches(' ');
        let mut rdns = Vec::new();
        while !rest.is_empty() {
            let mut rdn = Vec::with_capacity(1);
            loop {
                let (attribute, separator, after) = attribute(rest)?;
                rdn.push(attribute);
                if separator.is_some() && after.trim_matches(' ').is_empty() {
                    return Err("ends with a separator");
                }
                rest = after;
                if separator != Some('+') {
                    break;
                }
            }
            rdn.sort_unstable();
            rdns.push(rdn);
        }
        Ok(Self { rdns })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rdns.is_empty()
    }

    /// Every attribute's value.
    pub(crate) fn values(&self) -> impl Iterator<Item = &str> {
        self.rdns.iter().flatten().map(|(_, value)| value.as_str())
    }

    /// The same name with each value replaced.
    pub(crate) fn map(&self, mut value: impl FnMut(&str) -> String) -> Self {
        let mut attributes = |rdn: &Vec<Attribute>| -> Vec<Attribute> {
            let mut mapped: Vec<_> = rdn.iter().map(|(kind, text)| (kind.clone(), value(text))).collect();
            mapped.sort_unstable();
            mapped
        };
        Self { rdns: self.rdns.iter().map(&mut attributes).collect() }
    }
}

/// One attribute, the separator after it, and what follows that.
fn attribute(text: &str) -> Result<(Attribute, Option<char>, &str), &'static str> {
    let (kind, rest) = text.split_once('=').ok_or("has an attribute without `=`")?;
    let kind = kind.trim_matches(' ');
    let rest = rest.trim_start_matches(' ');
    let (value, separator, after) = value(rest)?;
    let named = SHORT_NAMES.iter().find(|(der, name)| {
        name.eq_ignore_ascii_case(kind) || kind.parse::<ObjectId>().is_ok_and(|id| id.der() == *der)
    });
    let attribute = match (named, value) {
        (Some((_, name)), Value::Text(text)) => ((*name).to_owned(), text),
        (Some((_, name)), Value::Der(der)) => {
            let element = Tlv::only(&der).map_err(|_| "has a `#` value that is not DER")?;
            let text = text::decode(&element).map_err(|_| "has a `#` value that is no text")?;
            ((*name).to_owned(), text)
        }
        (None, Value::Der(der)) => {
            let id: ObjectId = kind.parse().map_err(|_| UNKNOWN_TYPE)?;
            let dotted = oid::dotted(id.der()).map_err(|_| UNKNOWN_TYPE)?;
            (dotted, format!("#{}", der.iter().map(|octet| format!("{octet:02X}")).collect::<String>()))
        }
        // RFC 4514 §2.4: only DER says which string type a value of an unnamed type has.
        (None, Value::Text(_)) if kind.parse::<ObjectId>().is_ok() => {
            return Err(
                "has an attribute type without a name; write its value as `#` and the DER in hexadecimal",
            );
        }
        (None, Value::Text(_)) => return Err(UNKNOWN_TYPE),
    };
    Ok((attribute, separator, after))
}

enum Value {
    Text(String),
    Der(Vec<u8>),
}

/// One value up to an unescaped separator.
fn value(text: &str) -> Result<(Value, Option<char>, &str), &'static str> {
    if let Some(digits) = text.strip_prefix('#') {
        let end = digits.find([',', '+']).unwrap_or(digits.len());
        let (digits, after) = digits.split_at(end);
        let der = hex(digits.trim_matches(' ')).ok_or("has a `#` value that is not hexadecimal")?;
        let separator = after.chars().next();
        return Ok((Value::Der(der), separator, after.get(1..).unwrap_or_default()));
    }
    let mut octets = Vec::with_capacity(text.len());
    // Up to here the value stands even if unescaped blanks follow, which belong to the separator.
    let mut kept = 0;
    let mut characters = text.char_indices();
    let mut end = (None, "");
    while let Some((index, character)) = characters.next() {
        match character {
            ',' | '+' => {
                end = (Some(character), &text[index + 1..]);
                break;
            }
            '\\' => {
                let escaped = characters.next().ok_or("ends within an escape")?.1;
                if ESCAPABLE.contains(escaped) {
                    octets.extend(escaped.encode_utf8(&mut [0; 4]).bytes());
                } else {
                    let pair = text.get(index + 1..index + 3).and_then(hex).ok_or("has an unknown escape")?;
                    octets.extend(pair);
                    characters.next();
                }
                kept = octets.len();
            }
            '"' | ';' | '<' | '>' | '\0' => return Err("has a character that must be escaped by `\\`"),
            _ => {
                octets.extend(character.encode_utf8(&mut [0; 4]).bytes());
                if character != ' ' {
                    kept = octets.len();
                }
            }
        }
    }
    octets.truncate(kept);
    let text = String::from_utf8(octets).map_err(|_| "has escapes that are not UTF-8")?;
    text::check(&text).map_err(|_| "holds a character that no identity may hold")?;
    Ok((Value::Text(text), end.0, end.1))
}

/// Pairs of hexadecimal digits, at least one.
fn hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let octet = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    if pairs.is_empty() { None } else { pairs.iter().map(octet).collect() }
}

/// RFC 4514 §3: what a backslash may stand before, besides hexadecimal digits.
const ESCAPABLE: &str = " \"#+,;<=>\\";
const UNKNOWN_TYPE: &str =
    "has an unknown attribute type; use names such as `CN` and `O`, or a dotted number";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::NamePlace;
    use crate::fixture::{oid, rdn, sequence, set, utf8};
    use crate::name::{DistinguishedName, Escape};

    fn parse(text: &str) -> NameParts {
        NameParts::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    #[test]
    fn equal_names_have_equal_parts() {
        let table: &[(&str, &[&str])] = &[
            (
                "CN=Issuing CA 1,O=Acme\\, Inc.,C=DE",
                &[
                    "CN=Issuing CA 1, O=Acme\\, Inc., C=DE",
                    "CN = Issuing CA 1 , O = Acme\\2C Inc. , C = DE ",
                    "cn=Issuing CA 1,o=Acme\\, Inc.,c=DE",
                    "2.5.4.3=Issuing CA 1,2.5.4.10=Acme\\, Inc.,2.5.4.6=DE",
                    "CN=Issuing\\20CA 1,O=\\41cme\\, Inc.,C=DE",
                    "CN=#0c0c49737375696e672043412031,O=Acme\\, Inc.,C=DE",
                ],
            ),
            ("OU=b+CN=a,O=c", &["CN=a+OU=b,O=c", "CN=a + OU=b, O=c"]),
            ("CN=Lu\u{10d}i\u{107}", &["CN=Lu\\C4\\8Di\\C4\\87", "CN=Lu\\c4\\8di\\c4\\87"]),
            ("CN=a\\ ", &["CN=a\\20", "CN=a\\20  ", "CN=  a\\ "]),
            ("CN=\\#1=2", &["CN=\\231\\=2", "CN=\\#1\\3d2"]),
            ("1.2.3.4=#0C0178,CN=a", &["1.2.3.4=#0c0178 , CN=a"]),
            ("", &[" "]),
        ];
        for (canonical, spellings) in table {
            for spelling in *spellings {
                assert_eq!(parse(canonical), parse(spelling), "{spelling}");
            }
        }
    }

    #[test]
    fn other_names_have_other_parts() {
        let texts = [
            "CN=a,O=b",
            "O=b,CN=a",
            "CN=a+O=b",
            "CN=a\\,O=b",
            "CN=a",
            "CN=A",
            "CN=a\\ ",
            "OU=a",
            "CN=",
            "",
            "1.2.3.4=#0C0161",
            "1.2.3.5=#0C0161",
        ];
        for (index, one) in texts.iter().enumerate() {
            for other in &texts[index + 1..] {
                assert_ne!(parse(one), parse(other), "{one} and {other}");
            }
        }
    }

    #[test]
    fn reads_what_our_writer_writes() {
        let multi =
            set(&[sequence(&[oid("2.5.4.3"), utf8("a+b")]), sequence(&[oid("2.5.4.11"), utf8("c=d")])]);
        let values =
            ["plain", " a  b ", "#1#", "a\\b", "x,O=y+CN=z;<\">", "Lučić 株式会社", "", " ", "=", "a\\20"];
        for value in values {
            let names = [rdn("2.5.4.10", utf8(value)), multi.clone(), rdn("1.2.3.4", utf8(value))];
            let der = sequence(&names);
            let name = DistinguishedName::parse(&der, NamePlace::Issuer).unwrap();
            let parts = parse(&name.write(Escape::Character));
            assert_eq!(parts, parse(&name.write(Escape::Hex)), "{value:?}");
            let organization = parts.rdns.last().unwrap();
            assert_eq!(organization, &[("O".to_owned(), value.to_owned())]);
            assert_eq!(parts.rdns.len(), 3, "{value:?}");
        }
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for text in [
            "Acme",
            "CN",
            "CN=a,",
            "CN=a,,O=b",
            "CN=a+",
            ",CN=a",
            "CN=a;O=b",
            "CN=\"a\"",
            "CN=<a>",
            "CN=a\\",
            "CN=a\\q",
            "CN=a\\4",
            "CN=a\\ff",
            "CN=a\\00",
            "CN=#",
            "CN=#0",
            "CN=#zz",
            "CN=#0c05",
            "CN=#020101",
            "nickname=a",
            "1.2.3.4=a",
            "1.2..3=#0C0161",
            "/C=DE/O=Acme",
            "CN=a\u{202e}b",
        ] {
            assert!(NameParts::parse(text).is_err(), "{text:?}");
        }
    }
}
