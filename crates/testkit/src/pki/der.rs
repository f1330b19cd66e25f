//! DER written by hand, for certificates that no certificate generator would make.

use time::OffsetDateTime;
use time::macros::format_description;

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

/// An INTEGER from a magnitude, big-endian: leading zeros go, and one comes where the sign would be wrong.
pub fn integer(magnitude: &[u8]) -> Vec<u8> {
    let significant = without_leading_zeros(magnitude);
    let positive = match significant {
        [0x00..0x80, ..] => significant.to_vec(),
        _ => [&[0], significant].concat(),
    };
    tlv(0x02, &positive)
}

/// A BOOLEAN.
pub fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

/// A NULL.
pub fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

/// An ENUMERATED below 128.
pub fn enumerated(value: u8) -> Vec<u8> {
    tlv(0x0a, &[value])
}

/// An OCTET STRING.
pub fn octets(content: &[u8]) -> Vec<u8> {
    tlv(0x04, content)
}

/// A BIT STRING of whole octets.
pub fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content].concat())
}

/// An element with this context-specific tag around others (EXPLICIT, or IMPLICIT of something constructed).
pub fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// An element with this context-specific tag and primitive content (IMPLICIT).
pub fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

/// A GeneralizedTime in whole seconds.
pub fn generalized_time(time: OffsetDateTime) -> Vec<u8> {
    let format = format_description!("[year][month][day][hour][minute][second]Z");
    tlv(0x18, time.format(format).expect("a year of four digits").as_bytes())
}

/// A UTCTime in whole seconds until 2049, a GeneralizedTime after it (RFC 5280 §4.1.2.5).
pub fn time(time: OffsetDateTime) -> Vec<u8> {
    if time.year() >= 2050 {
        return generalized_time(time);
    }
    tlv(0x17, utc_time(time).as_bytes())
}

/// An `Extension` by its dotted type; `value` is what `extnValue` holds.
pub fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let criticality = if critical { boolean(true) } else { Vec::new() };
    sequence(&[oid(kind), criticality, octets(value)])
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

/// YYMMDDHHMMSSZ, as in a UTCTime.
pub(super) fn utc_time(time: OffsetDateTime) -> String {
    let format = format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    time.format(format).expect("a time has all of these")
}

/// The serial number of a certificate, without leading zeros.
pub(super) fn serial(certificate: &[u8]) -> &[u8] {
    without_leading_zeros(split(certificate_field(certificate, SERIAL)).0)
}

/// The `Name` of the subject of a certificate.
pub(super) fn subject(certificate: &[u8]) -> &[u8] {
    certificate_field(certificate, SUBJECT)
}

/// The SubjectPublicKeyInfo of a certificate.
pub(super) fn public_key_info(certificate: &[u8]) -> &[u8] {
    certificate_field(certificate, PUBLIC_KEY_INFO)
}

/// The content of the BIT STRING `subjectPublicKey`, without its count of unused bits.
pub(super) fn public_key(certificate: &[u8]) -> &[u8] {
    let parts = elements(split(public_key_info(certificate)).0);
    &split(parts[1]).0[1..]
}

fn certificate_field(certificate: &[u8], field: usize) -> &[u8] {
    elements(split(elements(split(certificate).0)[0]).0)[field]
}

fn without_leading_zeros(magnitude: &[u8]) -> &[u8] {
    let first = magnitude.iter().position(|&octet| octet != 0);
    &magnitude[first.unwrap_or(magnitude.len().saturating_sub(1))..]
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
    let signature = sign(&to_be_signed);
    sequence(&[to_be_signed, algorithm.to_vec(), bits(&signature)])
}

/// Elements one after the other, each with its tag and length.
pub(crate) fn elements(mut content: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (_, rest) = split(content);
        found.push(&content[..content.len() - rest.len()]);
        content = rest;
    }
    found
}

/// The content of the first element, and what follows it. For DER that rcgen wrote.
pub(crate) fn split(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, after) = match der[1] {
        short @ 0..0x80 => (usize::from(short), &der[2..]),
        long => {
            let (octets, after) = der[2..].split_at(usize::from(long & 0x7f));
            (octets.iter().fold(0, |length, &octet| (length << 8) | usize::from(octet)), after)
        }
    };
    after.split_at(length)
}

/// RFC 5280 §4.1: version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo, ...
const SERIAL: usize = 1;
const SUBJECT: usize = 5;
const PUBLIC_KEY_INFO: usize = 6;

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
        assert_eq!(integer(&[0, 0, 0x7f]), [0x02, 0x01, 0x7f]);
        assert_eq!(integer(&[0x80]), [0x02, 0x02, 0x00, 0x80]);
        assert_eq!(integer(&[0]), [0x02, 0x01, 0x00]);
        assert_eq!(bits(&[5]), [0x03, 0x02, 0x00, 0x05]);
        assert_eq!(context(1, &null()), [0xa1, 0x02, 0x05, 0x00]);
        assert_eq!(context_primitive(6, b"u"), [0x86, 0x01, b'u']);
        let end_of_utc = time::macros::datetime!(2049-12-31 23:59:59 UTC);
        assert_eq!(time(end_of_utc), tlv(0x17, b"491231235959Z"));
        assert_eq!(time(end_of_utc + time::Duration::SECOND), tlv(0x18, b"20500101000000Z"));
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
