use super::*;
use crate::fixture::{oid, rdn, sequence, set, tlv, utf8};

const C: &str = "2.5.4.6";
const CN: &str = "2.5.4.3";
const DC: &str = "0.9.2342.19200300.100.1.25";
const O: &str = "2.5.4.10";
const OU: &str = "2.5.4.11";
const UID: &str = "0.9.2342.19200300.100.1.1";

/// One relative name of several attributes.
fn multi(attributes: &[(&str, &str)]) -> Vec<u8> {
    let parts: Vec<_> = attributes.iter().map(|(kind, text)| sequence(&[oid(kind), utf8(text)])).collect();
    set(&parts)
}

fn texts(rdns: &[Vec<u8>]) -> (String, String) {
    let der = sequence(rdns);
    let name = DistinguishedName::parse(&der, NamePlace::Subject).unwrap();
    (name.write(Escape::Character), name.write(Escape::Hex))
}

fn refusal(rdns: &[Vec<u8>]) -> IdentityError {
    DistinguishedName::parse(&sequence(rdns), NamePlace::Subject).unwrap_err()
}

#[test]
fn writes_names_as_rfc_4514_does() {
    let with = |text: &str| vec![rdn(CN, utf8(text))];
    // The examples of RFC 4514 §4, but the one that holds a control character; then each rule of §2.4.
    let table: &[(Vec<Vec<u8>>, &str, &str)] = &[
        (
            vec![rdn(DC, utf8("net")), rdn(DC, utf8("example")), rdn(UID, utf8("jsmith"))],
            "UID=jsmith,DC=example,DC=net",
            "UID=jsmith,DC=example,DC=net",
        ),
        (
            vec![rdn(DC, utf8("net")), rdn(DC, utf8("example")), multi(&[(OU, "Sales"), (CN, "J.  Smith")])],
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        ),
        (
            vec![rdn(DC, utf8("net")), rdn(DC, utf8("example")), rdn(CN, utf8("James \"Jim\" Smith, III"))],
            "CN=James \\\"Jim\\\" Smith\\, III,DC=example,DC=net",
            "CN=James \\22Jim\\22 Smith\\2C III,DC=example,DC=net",
        ),
        (
            vec![rdn("1.3.6.1.4.1.1466.0", tlv(0x04, b"Hi"))],
            "1.3.6.1.4.1.1466.0=#04024869",
            "1.3.6.1.4.1.1466.0=#04024869",
        ),
        (with("Lučić"), "CN=Lučić", "CN=Lu\\C4\\8Di\\C4\\87"),
        (vec![], "", ""),
        (with(""), "CN=", "CN="),
        (with(" "), "CN=\\ ", "CN=\\20"),
        (with("  "), "CN=\\ \\ ", "CN=\\20\\20"),
        (with(" a b "), "CN=\\ a b\\ ", "CN=\\20a b\\20"),
        (with("ü "), "CN=ü\\ ", "CN=\\C3\\BC\\20"),
        (with("#1#"), "CN=\\#1#", "CN=\\231#"),
        (with(" #"), "CN=\\ #", "CN=\\20#"),
        (with("a+b;c<d>e\\f=g"), "CN=a\\+b\\;c\\<d\\>e\\\\f=g", "CN=a\\2Bb\\3Bc\\3Cd\\3Ee\\5Cf\\3Dg"),
    ];
    for (rdns, readable, hex) in table {
        assert_eq!(texts(rdns), ((*readable).to_owned(), (*hex).to_owned()));
    }
}

#[test]
fn a_value_cannot_imitate_further_names() {
    let (readable, hex) = texts(&[rdn(O, utf8("Mallory")), rdn(CN, utf8("admin,O=Bank+OU=x"))]);
    assert_eq!(readable, "CN=admin\\,O=Bank\\+OU=x,O=Mallory");
    assert_eq!(hex, "CN=admin\\2CO\\3DBank\\2BOU\\3Dx,O=Mallory");
    let (readable, hex) = texts(&[rdn(CN, utf8("a\\"))]);
    assert_eq!((readable.as_str(), hex.as_str()), ("CN=a\\\\", "CN=a\\5C"));
}

#[test]
fn names_the_usual_attribute_types() {
    for (kind, name) in [
        (C, "C"),
        ("2.5.4.4", "SN"),
        ("2.5.4.5", "serialNumber"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.9", "STREET"),
        ("2.5.4.12", "title"),
        ("2.5.4.13", "description"),
        ("2.5.4.15", "businessCategory"),
        ("2.5.4.17", "postalCode"),
        ("2.5.4.41", "name"),
        ("2.5.4.42", "GN"),
        ("2.5.4.43", "initials"),
        ("2.5.4.44", "generationQualifier"),
        ("2.5.4.46", "dnQualifier"),
        ("2.5.4.65", "pseudonym"),
        ("2.5.4.97", "organizationIdentifier"),
        ("1.2.840.113549.1.9.1", "emailAddress"),
        ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
        ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
        ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
    ] {
        assert_eq!(texts(&[rdn(kind, utf8("x"))]).0, format!("{name}=x"));
    }
    assert_eq!(texts(&[rdn("2.5.4.99", utf8("x"))]).0, "2.5.4.99=#0C0178", "an unnamed type in hex");
}

#[test]
fn decodes_the_string_types_of_old_authorities() {
    let rdns = [
        rdn(O, tlv(0x14, b"M\xfcller AG")),
        rdn(OU, tlv(0x13, b"Plain")),
        rdn(CN, tlv(0x1e, &[0x00, b'A', 0x01, 0x0d])),
    ];
    assert_eq!(texts(&rdns).0, "CN=Ač,OU=Plain,O=Müller AG");
}

#[test]
fn lists_values_in_certificate_order() {
    let der = sequence(&[
        rdn(CN, utf8("first")),
        multi(&[(OU, "unit"), (CN, "second")]),
        rdn("2.5.4.97", utf8("PSDDE-BAFIN-1")),
    ]);
    let name = DistinguishedName::parse(&der, NamePlace::Subject).unwrap();
    assert_eq!(name.texts(COMMON_NAME), ["first", "second"]);
    assert_eq!(name.texts(ORGANIZATIONAL_UNIT), ["unit"]);
    assert_eq!(name.texts(ORGANIZATION_IDENTIFIER), ["PSDDE-BAFIN-1"]);
    assert!(name.texts(ORGANIZATION).is_empty());
}

#[test]
fn refuses_hostile_characters_wherever_they_stand() {
    let place = NamePlace::Subject;
    let nul = IdentityError::ForbiddenCharacter { place, character: '\0' };
    assert_eq!(refusal(&[rdn(CN, utf8("admin\0.evil.example"))]), nul);
    assert_eq!(refusal(&[rdn(CN, utf8("Before\rAfter"))]).flag(), "bad_name");
    assert_eq!(refusal(&[rdn(O, utf8("fine")), rdn("2.5.4.99", utf8("a\0b"))]), nul, "an unnamed type");
    assert_eq!(refusal(&[rdn(CN, tlv(0x1e, &[0, b'a', 0, 0]))]), nul, "a BMPString");
}

#[test]
fn refuses_malformed_names() {
    let place = NamePlace::Subject;
    let malformed = IdentityError::Name { place };
    let table = [
        ("an empty relative name", vec![set(&[])]),
        ("a sequence for a set", vec![sequence(&[sequence(&[oid(CN), utf8("a")])])]),
        ("an attribute without a value", vec![set(&[sequence(&[oid(CN)])])]),
        ("an attribute of three parts", vec![set(&[sequence(&[oid(CN), utf8("a"), utf8("b")])])]),
        ("a common name that is a number", vec![rdn(CN, tlv(0x02, &[1]))]),
        ("a common name in pieces", vec![rdn(CN, tlv(0x2c, &utf8("a")))]),
        ("a padded attribute type", vec![set(&[sequence(&[tlv(0x06, &[0x55, 0x80, 0x04]), utf8("a")])])]),
    ];
    for (what, rdns) in table {
        assert_eq!(refusal(&rdns), malformed, "{what}");
    }
    assert_eq!(refusal(&[rdn(CN, tlv(0x0c, b"\xff"))]), IdentityError::Encoding { place });
}
