//! A strict reader of DER (ITU-T X.690 §10), just enough for revocation lists and OCSP.
//!
//! Hides tags, lengths and times. A list of a million entries is walked through in place: nothing here
//! allocates, recurses or copies, and every length is checked against what is there. Lengths that are
//! indefinite or longer than needed are refused, so a value can be written in one way only.

use time::{Date, Month, PrimitiveDateTime, Time};

/// The input is not the DER that belongs here: truncated, an indefinite or padded length, an unexpected tag,
/// stray bytes, an impossible time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One tag, length and value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// The value alone.
    pub(super) content: &'a [u8],
    /// Tag, length and value, as received.
    pub(super) raw: &'a [u8],
}

/// Walks over the elements of one constructed value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Opens `input`, which must be exactly one element with this tag.
    pub(super) fn inside(input: &'a [u8], tag: u8) -> Result<Self, Malformed> {
        let mut reader = Self::new(input);
        let content = reader.expect(tag)?;
        reader.finish()?;
        Ok(Self::new(content))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn next_is(&self, tag: u8) -> bool {
        self.rest.first() == Some(&tag)
    }

    /// The next element, whatever its tag.
    pub(super) fn any(&mut self) -> Result<Element<'a>, Malformed> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(Malformed)?;
        // X.690 §8.1.2.4: tag numbers from 31 up take several octets. Nothing here has one.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, after_length) = read_length(after_tag)?;
        let (content, rest) = after_length.split_at_checked(length).ok_or(Malformed)?;
        let raw = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// The value of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        Ok(self.element(tag)?.content)
    }

    /// The next element, which must have this tag.
    pub(super) fn element(&mut self, tag: u8) -> Result<Element<'a>, Malformed> {
        let element = self.any()?;
        if element.tag == tag { Ok(element) } else { Err(Malformed) }
    }

    /// The value of the next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.next_is(tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// The element within an EXPLICIT tag, if that is next.
    pub(super) fn optional_explicit(&mut self, outer: u8, inner: u8) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(content) = self.optional(outer)? else { return Ok(None) };
        let mut reader = Reader::new(content);
        let content = reader.expect(inner)?;
        reader.finish()?;
        Ok(Some(content))
    }

    /// UTCTime or GeneralizedTime, as seconds since 1970.
    pub(super) fn time(&mut self) -> Result<i64, Malformed> {
        let element = self.any()?;
        read_time(element.tag, element.content)
    }

    /// Nothing may be left.
    pub(super) fn finish(&self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// An extension of a certificate, list, entry or answer (RFC 5280 §4.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Extension<'a> {
    /// The value of the OBJECT IDENTIFIER.
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    /// What the OCTET STRING holds.
    pub(super) value: &'a [u8],
}

impl<'a> Extension<'a> {
    /// Reads the next one of a SEQUENCE OF Extension.
    pub(super) fn read(list: &mut Reader<'a>) -> Result<Self, Malformed> {
        let mut fields = Reader::new(list.expect(SEQUENCE)?);
        let oid = fields.expect(OID)?;
        let critical = match fields.optional(BOOLEAN)? {
            None => false,
            Some(value) => read_bool(value)?,
        };
        let value = fields.expect(OCTET_STRING)?;
        fields.finish()?;
        Ok(Self { oid, critical, value })
    }
}

/// The octets of a BIT STRING whose length is a multiple of eight.
pub(super) fn bits(content: &[u8]) -> Result<&[u8], Malformed> {
    match content.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(Malformed),
    }
}

/// The magnitude of an INTEGER that is not negative, without leading zero octets; empty for zero.
pub(super) fn natural(content: &[u8]) -> Result<&[u8], Malformed> {
    match content {
        [] | [0x80..=0xff, ..] | [0, 0..=0x7f, ..] => Err(Malformed),
        [0, magnitude @ ..] | magnitude => Ok(magnitude),
    }
}

/// X.690 §11.1 allows only 0xff for TRUE. FALSE should be absent where it is the default; it is harmless.
pub(super) fn read_bool(content: &[u8]) -> Result<bool, Malformed> {
    match content {
        [0xff] => Ok(true),
        [0] => Ok(false),
        _ => Err(Malformed),
    }
}

/// A GeneralizedTime's value, as seconds since 1970.
pub(super) fn generalized_time(content: &[u8]) -> Result<i64, Malformed> {
    read_time(GENERALIZED_TIME, content)
}

/// An object identifier as dotted decimals, for messages.
pub(super) fn dotted(oid: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut arc = 0_u64;
    for (position, &octet) in oid.iter().take(OID_OCTETS_SHOWN).enumerate() {
        arc = (arc << 7) | u64::from(octet & 0x7f);
        if octet & 0x80 != 0 {
            continue;
        }
        // The first two arcs share a number (X.690 §8.19.4).
        let written = if text.is_empty() {
            let first = (arc / 40).min(2);
            write!(text, "{first}.{}", arc - first * 40)
        } else {
            write!(text, ".{arc}")
        };
        written.expect("writing to a String does not fail");
        arc = 0;
        debug_assert!(position < OID_OCTETS_SHOWN);
    }
    text
}

/// RFC 5280 §4.1.2.5: no fractions, no zone but Z, seconds present.
fn read_time(tag: u8, content: &[u8]) -> Result<i64, Malformed> {
    let (year, rest) = match (tag, content) {
        (UTC_TIME, [a, b, rest @ ..]) => {
            let short = two_digits(*a, *b)?;
            (if short < 50 { 2000 + short } else { 1900 + short }, rest)
        }
        (GENERALIZED_TIME, [a, b, c, d, rest @ ..]) => {
            (two_digits(*a, *b)? * 100 + two_digits(*c, *d)?, rest)
        }
        _ => return Err(Malformed),
    };
    let [m1, m2, d1, d2, h1, h2, i1, i2, s1, s2, b'Z'] = rest else { return Err(Malformed) };
    let pair = |a: &u8, b: &u8| two_digits(*a, *b).map(|value| value as u8);
    let month = Month::try_from(pair(m1, m2)?).map_err(|_| Malformed)?;
    let date = Date::from_calendar_date(year, month, pair(d1, d2)?).map_err(|_| Malformed)?;
    let time = Time::from_hms(pair(h1, h2)?, pair(i1, i2)?, pair(s1, s2)?).map_err(|_| Malformed)?;
    Ok(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

fn two_digits(tens: u8, ones: u8) -> Result<i32, Malformed> {
    if tens.is_ascii_digit() && ones.is_ascii_digit() {
        Ok(i32::from(tens - b'0') * 10 + i32::from(ones - b'0'))
    } else {
        Err(Malformed)
    }
}

fn read_length(input: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    match input {
        [short @ 0..=0x7f, rest @ ..] => Ok((usize::from(*short), rest)),
        [0x81, a @ 0x80..=0xff, rest @ ..] => Ok((usize::from(*a), rest)),
        [0x82, a @ 1..=0xff, b, rest @ ..] => Ok((usize::from(u16::from_be_bytes([*a, *b])), rest)),
        [0x83, a @ 1..=0xff, b, c, rest @ ..] => Ok((u32::from_be_bytes([0, *a, *b, *c]) as usize, rest)),
        [0x84, a @ 1..=0xff, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]) as usize, rest)),
        _ => Err(Malformed),
    }
}

/// Longest object identifier that is shown whole.
const OID_OCTETS_SHOWN: usize = 32;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// A context-specific tag of a primitive value.
pub(super) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// A context-specific tag of a constructed value.
pub(super) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// Appends one element.
pub(super) fn write(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    let first = length.iter().position(|&octet| octet != 0).unwrap_or(length.len() - 1);
    match &length[first..] {
        [short @ 0..=0x7f] => out.push(*short),
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
}

/// One element whose value is that of several.
pub(super) fn wrap(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, tag, &parts.concat());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_several_octets_are_refused() {
        assert!(Reader::new(&[0x1e, 0]).any().is_ok());
        for tag in [0x1f, 0x3f, 0xbf] {
            assert_eq!(Reader::new(&[tag, 0]).any().map(drop), Err(Malformed), "{tag:02x}");
        }
    }

    #[test]
    fn times_are_written_in_digits() {
        assert_eq!(generalized_time(b"19700101000010Z"), Ok(10));
        for time in [&b"1970010100001:Z"[..], b"19700101000010z", b"19700101000010", b"197001010000 1Z"] {
            assert_eq!(generalized_time(time), Err(Malformed), "{}", time.escape_ascii());
        }
    }
}
