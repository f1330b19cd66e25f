//! A strict reader of DER (ITU-T X.690 §10), just enough for names and extensions.
//!
//! x509-parser is tolerant by design; identities are read from its raw slices with this reader instead, so that
//! a value that two implementations could read differently is refused. Never recurses, never allocates.

/// The input is not DER: truncated, indefinite or non-minimal length, unexpected tag, or stray bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One tag, length and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tlv<'a> {
    /// The identifier octet; high tag numbers are refused, so one octet is all of it.
    pub(crate) tag: u8,
    /// The value alone.
    pub(crate) content: &'a [u8],
    /// Identifier, length and value, as received.
    pub(crate) raw: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Reads `input` as exactly one element.
    pub(crate) fn only(input: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(input);
        let tlv = reader.next()?;
        reader.finish()?;
        Ok(tlv)
    }
}

/// Walks over the elements of one constructed value.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Opens `input`, which must be exactly one element with this tag.
    pub(crate) fn inside(input: &'a [u8], tag: u8) -> Result<Self, Malformed> {
        let tlv = Tlv::only(input)?;
        if tlv.tag == tag { Ok(Self::new(tlv.content)) } else { Err(Malformed) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever its tag.
    pub(crate) fn next(&mut self) -> Result<Tlv<'a>, Malformed> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(Malformed)?;
        // X.690 §8.1.2.4: tag numbers from 31 up take several octets. Nothing that identifies a peer has one.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, after_length) = read_length(after_tag)?;
        if after_length.len() < length {
            return Err(Malformed);
        }
        let (content, rest) = after_length.split_at(length);
        let raw = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Ok(Tlv { tag, content, raw })
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let tlv = self.next()?;
        if tlv.tag == tag { Ok(tlv.content) } else { Err(Malformed) }
    }

    /// Consumes the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&tag) { self.expect(tag).map(Some) } else { Ok(None) }
    }

    /// All elements must have been read.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// X.690 §10.1: definite form, in the fewest octets that hold the value.
fn read_length(input: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (&first, rest) = input.split_first().ok_or(Malformed)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let octets = usize::from(first & 0x7f);
    // Zero octets is the indefinite form; more than three is longer than any TLS message can carry.
    if octets == 0 || octets > 3 || rest.len() < octets {
        return Err(Malformed);
    }
    let (digits, rest) = rest.split_at(octets);
    let length = digits.iter().fold(0, |length, &digit| (length << 8) | usize::from(digit));
    if digits[0] == 0 || length < 0x80 {
        return Err(Malformed);
    }
    Ok((length, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_elements_in_order() {
        let mut reader = Reader::inside(&[0x30, 0x05, 0x01, 0x01, 0xff, 0x02, 0x00], SEQUENCE).unwrap();
        assert_eq!(reader.optional(INTEGER), Ok(None));
        assert_eq!(reader.expect(BOOLEAN), Ok(&[0xff][..]));
        let last = reader.next().unwrap();
        assert_eq!((last.tag, last.content, last.raw), (INTEGER, &[][..], &[0x02, 0x00][..]));
        assert!(reader.is_empty());
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn reads_long_lengths() {
        let mut input = vec![0x04, 0x81, 0x80];
        input.extend([7; 0x80]);
        assert_eq!(Tlv::only(&input).unwrap().content.len(), 0x80);
        let mut input = vec![0x04, 0x82, 0x01, 0x00];
        input.extend([7; 0x100]);
        assert_eq!(Tlv::only(&input).unwrap().content.len(), 0x100);
    }

    #[test]
    fn refuses_what_der_forbids() {
        let mut leading_zero = vec![0x04, 0x82, 0x00, 0x80];
        leading_zero.extend([7; 0x80]);
        let table: &[(&str, &[u8])] = &[
            ("nothing", &[]),
            ("a tag alone", &[0x04]),
            ("truncated value", &[0x04, 0x02, 0x00]),
            ("truncated length", &[0x04, 0x82, 0x01]),
            ("indefinite length", &[0x30, 0x80, 0x00, 0x00]),
            ("long form of a short length", &[0x04, 0x81, 0x01, 0x00]),
            ("leading zero in the length", &leading_zero),
            ("length of more than three octets", &[0x04, 0x84, 0x00, 0x00, 0x00, 0x01, 0x00]),
            ("high tag number", &[0x1f, 0x01, 0x00]),
            ("stray bytes", &[0x04, 0x00, 0x00]),
        ];
        for (what, input) in table {
            assert_eq!(Tlv::only(input), Err(Malformed), "{what}");
        }
        assert_eq!(Reader::inside(&[0x31, 0x00], SEQUENCE).err(), Some(Malformed), "another tag");
    }
}
