//! DER written by hand, for certificates that no certificate generator would make.

use super::leaf::arcs;

/// One element.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    let octets = content.len().to_be_bytes();
    let significant = &octets[octets.iter().position(|&octet| octet != 0).unwrap_or(octets.len() - 1)..];
    match significant {
        [short @ 0..0x80] => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).expect("a length fits eight octets"));
            der.extend(long);
        }
    }
    der.extend(content);
    der
}

/// A SEQUENCE of elements.
pub fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &elements.concat())
}

/// A SET of elements, in this order.
pub fn set(elements: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &elements.concat())
}

/// A UTF8String, whatever it holds.
pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// A BMPString of characters of the basic plane.
pub fn bmp(text: &str) -> Vec<u8> {
    tlv(0x1e, &text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>())
}

/// An OBJECT IDENTIFIER from dotted decimal.
pub fn oid(dotted: &str) -> Vec<u8> {
    let arcs = arcs(dotted);
    let [first, second, rest @ ..] = arcs.as_slice() else { panic!("{dotted} has less than two arcs") };
    let mut content = Vec::new();
    for arc in [first * 40 + second].iter().chain(rest) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let more = if group == 0 { 0 } else { 0x80 };
            content.push(u8::try_from((arc >> (7 * group)) & 0x7f).expect("seven bits") | more);
        }
    }
    tlv(0x06, &content)
}

/// A relative distinguished name of one attribute, its type in dotted decimal, its value any element.
pub fn rdn(kind: &str, value: &[u8]) -> Vec<u8> {
    set(&[sequence(&[oid(kind), value.to_vec()])])
}

/// The same certificate with another subject, signed anew.
pub(super) fn replace_subject(
    certificate: &[u8],
    subject: &[u8],
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let (parts, _) = split(certificate);
    let [to_be_signed, algorithm, _signature] = elements(parts)[..] else {
        panic!("a certificate has 3 parts")
    };
    let mut fields: Vec<Vec<u8>> = elements(split(to_be_signed).0).into_iter().map(<[u8]>::to_vec).collect();
    fields[SUBJECT] = subject.to_vec();
    let to_be_signed = sequence(&fields);
    let mut signature = vec![0];
    signature.extend(sign(&to_be_signed));
    sequence(&[to_be_signed, algorithm.to_vec(), tlv(0x03, &signature)])
}

/// Elements one after the other, each with its tag and length.
fn elements(mut content: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (_, rest) = split(content);
        found.push(&content[..content.len() - rest.len()]);
        content = rest;
    }
    found
}

/// The content of the first element, and what follows it. For DER that rcgen wrote.
fn split(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, after) = match der[1] {
        short @ 0..0x80 => (usize::from(short), &der[2..]),
        long => {
            let (octets, after) = der[2..].split_at(usize::from(long & 0x7f));
            (octets.iter().fold(0, |length, &octet| (length << 8) | usize::from(octet)), after)
        }
    };
    after.split_at(length)
}

/// RFC 5280 §4.1: version, serialNumber, signature, issuer, validity, subject, ...
const SUBJECT: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_der() {
        assert_eq!(tlv(0x04, &[]), [0x04, 0x00]);
        assert_eq!(tlv(0x04, &[0; 0x7f])[..2], [0x04, 0x7f]);
        assert_eq!(tlv(0x04, &[0; 0x80])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(tlv(0x04, &[0; 0x100])[..4], [0x04, 0x82, 0x01, 0x00]);
        assert_eq!(oid("2.5.4.3"), [0x06, 0x03, 0x55, 0x04, 0x03]);
        assert_eq!(oid("1.2.840"), [0x06, 0x03, 0x2a, 0x86, 0x48]);
        assert_eq!(bmp("aé"), [0x1e, 0x04, 0x00, 0x61, 0x00, 0xe9]);
        assert_eq!(set(&[utf8("a"), sequence(&[])]), [0x31, 0x05, 0x0c, 0x01, b'a', 0x30, 0x00]);
    }

    #[test]
    fn splits_what_it_wrote() {
        let long = tlv(0x04, &[7; 300]);
        let both = [long.clone(), utf8("a")].concat();
        assert_eq!(split(&both), (&[7; 300][..], &utf8("a")[..]));
        assert_eq!(elements(&both), [&long[..], &utf8("a")[..]]);
    }
}
