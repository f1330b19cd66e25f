//! Object identifiers: DER content octets to dotted decimal and back.

use std::fmt;
use std::str::FromStr;

use crate::der::Malformed;

/// An object identifier, for example one named in a configuration file.
///
/// Parsed from dotted decimal (`"1.3.6.1.4.1.311.21.7"`); source: ITU-T X.660 and X.690 §8.19.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    dotted: String,
    der: Vec<u8>,
}

impl ObjectId {
    /// Dotted decimal.
    pub fn as_str(&self) -> &str {
        &self.dotted
    }

    /// The content octets, without tag and length.
    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Why a text is not an object identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object identifier; write it as dotted decimal, for example `1.3.6.1.4.1.311.21.7`")]
pub struct ObjectIdError(String);

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let der = encode(text).ok_or_else(|| ObjectIdError(text.to_owned()))?;
        Ok(Self { dotted: text.to_owned(), der })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dotted)
    }
}

/// Content octets to dotted decimal. Arcs above 128 bits are refused: the largest in use, the UUIDs below
/// `2.25` (X.667), fit.
pub(crate) fn dotted(content: &[u8]) -> Result<String, Malformed> {
    if content.last().is_none_or(|last| last & 0x80 != 0) {
        return Err(Malformed);
    }
    let mut text = String::with_capacity(content.len() * 3);
    let mut arc = 0u128;
    let mut at_start = true;
    for &octet in content {
        // X.690 §8.19.2: fewest octets, so no arc starts with padding. Otherwise two encodings print alike.
        if at_start && octet == 0x80 {
            return Err(Malformed);
        }
        if arc >> (128 - 7) != 0 {
            return Err(Malformed);
        }
        arc = (arc << 7) | u128::from(octet & 0x7f);
        at_start = octet & 0x80 == 0;
        if at_start {
            push_arc(&mut text, arc);
            arc = 0;
        }
    }
    Ok(text)
}

/// X.690 §8.19.4: the first two arcs share one number, `40 × first + second`.
fn push_arc(text: &mut String, arc: u128) {
    use fmt::Write;
    let written = if text.is_empty() {
        let first = (arc / 40).min(2);
        write!(text, "{first}.{}", arc - first * 40)
    } else {
        write!(text, ".{arc}")
    };
    written.expect("writing into a string cannot fail");
}

fn encode(text: &str) -> Option<Vec<u8>> {
    let mut arcs = text.split('.').map(parse_arc);
    let (first, second) = (arcs.next()??, arcs.next()??);
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut der = Vec::with_capacity(text.len());
    push_base128(&mut der, (first * 40).checked_add(second)?);
    for arc in arcs {
        push_base128(&mut der, arc?);
    }
    Some(der)
}

fn parse_arc(text: &str) -> Option<u128> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

fn push_base128(der: &mut Vec<u8>, arc: u128) {
    let bits = 128 - arc.leading_zeros();
    let groups = bits.div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let more = if group == 0 { 0 } else { 0x80 };
        der.push(((arc >> (7 * group)) & 0x7f) as u8 | more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_both_ways() {
        let table: &[(&str, &[u8])] = &[
            ("2.5.4.3", &[0x55, 0x04, 0x03]),
            ("1.2.840.113549.1.9.1", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01]),
            ("0.9.2342.19200300.100.1.25", &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19]),
            ("2.999.1", &[0x88, 0x37, 0x01]),
            ("0.0", &[0x00]),
            ("1.39", &[0x4f]),
        ];
        for (text, der) in table {
            assert_eq!(text.parse::<ObjectId>().unwrap().der(), *der, "{text}");
            assert_eq!(dotted(der).as_deref(), Ok(*text));
        }
        let uuid = "2.25.340282366920938463463374607431768211455";
        assert_eq!(dotted(uuid.parse::<ObjectId>().unwrap().der()).as_deref(), Ok(uuid), "largest arc");
    }

    #[test]
    fn refuses_other_texts() {
        for text in ["", "1", "1.", ".1.2", "1..2", "3.1", "1.40", "1.02", "1.a", "+1.2", "1.2 ", "1.2.-3"] {
            assert!(text.parse::<ObjectId>().is_err(), "{text:?}");
        }
        let too_large = "2.25.340282366920938463463374607431768211456";
        assert!(too_large.parse::<ObjectId>().is_err());
    }

    #[test]
    fn refuses_other_encodings() {
        let mut too_large = vec![0x69, 0x84];
        too_large.extend([0x80; 17]);
        too_large.push(0x00);
        let table: &[(&str, &[u8])] = &[
            ("empty", &[]),
            ("unfinished arc", &[0x55, 0x84]),
            ("padded arc", &[0x55, 0x80, 0x04]),
            ("padded first arc", &[0x80, 0x55]),
            ("arc above 128 bits", &too_large),
        ];
        for (what, der) in table {
            assert_eq!(dotted(der), Err(Malformed), "{what}");
        }
    }
}
