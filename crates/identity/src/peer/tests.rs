use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName as RcgenName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use super::*;
use crate::error::SanKind;
use crate::fixture::{Certificate, oid, rdn, sequence, tlv, utf8};

fn read(chain: &[Vec<u8>]) -> Result<PeerIdentity, IdentityError> {
    PeerIdentity::from_verified_chain(chain, &IdentityOptions::default())
}

fn identity(certificate: &Certificate) -> PeerIdentity {
    read(&[certificate.der()]).unwrap()
}

fn refusal(certificate: &Certificate) -> IdentityError {
    read(&[certificate.der()]).unwrap_err()
}

const SPIFFE: &str = "spiffe://example.org/partner/a";
const KEY_USAGE: &str = "2.5.29.15";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";

/// A leaf and its issuer as a real generator writes them.
fn generated() -> [Vec<u8>; 2] {
    let root_key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.distinguished_name = RcgenName::new();
    root.distinguished_name.push(DnType::CommonName, "Example Root");
    root.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    root.not_after = rcgen::date_time_ymd(2029, 1, 1);
    let root_der = root.self_signed(&root_key).unwrap().der().to_vec();
    let issuer = Issuer::new(root, root_key);

    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = RcgenName::new();
    leaf.distinguished_name.push(DnType::CountryName, "DE");
    leaf.distinguished_name.push(DnType::OrganizationName, "Partner A");
    leaf.distinguished_name.push(DnType::OrganizationalUnitName, "Payments");
    leaf.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 97]), "PSDDE-BAFIN-123456");
    leaf.distinguished_name.push(DnType::CommonName, "client-1");
    leaf.subject_alt_names = vec![
        SanType::DnsName("Client-1.Partner-A.example".try_into().unwrap()),
        SanType::URI(SPIFFE.try_into().unwrap()),
        SanType::Rfc822Name("ops@partner-a.example".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "upn@partner-a.example".into())),
    ];
    leaf.serial_number = Some(SerialNumber::from_slice(&[0x00, 0xab, 0x01]));
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99999, 7]),
    ];
    let policies = sequence(&[
        sequence(&[oid("2.23.140.1.2.2")]),
        sequence(&[oid("1.3.6.1.4.1.99999.1"), sequence(&[sequence(&[oid("1.3.6.1.5.5.7.2.1")])])]),
    ]);
    leaf.custom_extensions = vec![
        CustomExtension::from_oid_content(&[2, 5, 29, 32], policies),
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], utf8("tier-1")),
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 3], tlv(0x02, &[7])),
    ];
    leaf.not_before = rcgen::date_time_ymd(2025, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let leaf_der = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec();
    [leaf_der, root_der]
}

#[test]
fn reads_every_claim() {
    let chain = generated();
    let peer = read(&chain).unwrap();
    assert_eq!(
        peer.subject(),
        "CN=client-1,organizationIdentifier=PSDDE-BAFIN-123456,OU=Payments,O=Partner A,C=DE"
    );
    assert_eq!(peer.issuer(), "O=Example\\, Inc.,CN=Example Root");
    assert_eq!(peer.common_names(), ["client-1"]);
    assert_eq!(peer.organizations(), ["Partner A"]);
    assert_eq!(peer.organizational_units(), ["Payments"]);
    assert_eq!(peer.organization_identifiers(), ["PSDDE-BAFIN-123456"]);
    assert_eq!(peer.san_uris(), [SPIFFE]);
    assert_eq!(peer.san_dns(), ["client-1.partner-a.example"]);
    assert_eq!(peer.san_emails(), ["ops@partner-a.example"]);
    assert_eq!(peer.san_ips(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    let id = peer.spiffe_id().unwrap();
    assert_eq!((id.as_str(), id.trust_domain(), id.path()), (SPIFFE, "example.org", "/partner/a"));
    assert_eq!(peer.serial(), "ab01");
    assert_eq!(peer.fingerprint_hex(), hex(peer.fingerprint_sha256()));
    assert_eq!(peer.fingerprint_sha256(), &sha256(&chain[0]));
    assert_eq!(peer.not_before_unix(), 1_735_689_600);
    assert_eq!(peer.not_after_unix(), 1_893_456_000);
    assert_eq!(peer.chain_not_after_unix(), 1_861_920_000, "the issuer ends first");
    assert_eq!(peer.extended_key_usages(), ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.99999.7"]);
    assert_eq!(peer.policy_oids(), ["2.23.140.1.2.2", "1.3.6.1.4.1.99999.1"]);
    assert!(peer.extensions().is_empty(), "none was selected");
    assert_eq!(peer.chain_depth(), 2);
    assert_eq!(peer.name(), SPIFFE);
    assert!(format!("{peer:?}").contains(SPIFFE));
}

#[test]
fn exposes_selected_extensions() {
    let ids = ["1.3.6.1.4.1.99999.3", "1.3.6.1.4.1.99999.2", "1.3.6.1.4.1.99999.4", "2.5.29.15"];
    let options = IdentityOptions {
        extensions: ids.iter().map(|id| id.parse().unwrap()).collect(),
        ..IdentityOptions::default()
    };
    let peer = PeerIdentity::from_verified_chain(&generated(), &options).unwrap();
    let found: Vec<_> =
        peer.extensions().iter().map(|e| (e.oid(), e.critical(), e.der(), e.utf8())).collect();
    assert_eq!(
        found,
        [
            (ids[0], false, &[0x02, 0x01, 0x07][..], None),
            (ids[1], false, &utf8("tier-1")[..], Some("tier-1")),
            (ids[3], true, &[0x03, 0x02, 0x07, 0x80][..], None),
        ]
    );

    let hostile = Certificate::new("a").extension(ids[0], false, &utf8("tier\0")).der();
    let error = PeerIdentity::from_verified_chain(&[hostile], &options).unwrap_err();
    assert_eq!(error, IdentityError::ForbiddenCharacter { place: NamePlace::Extension, character: '\0' });
    let invalid = Certificate::new("a").extension(ids[0], false, &tlv(0x0c, b"\xff")).der();
    let error = PeerIdentity::from_verified_chain(&[invalid], &options).unwrap_err();
    assert_eq!(error, IdentityError::Extension { oid: ids[0].to_owned() });
}

#[test]
fn renders_header_values_once() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let chain = generated();
    let peer = read(&chain).unwrap();
    assert_eq!(peer.client_cert(), format!(":{}:", STANDARD.encode(&chain[0])));
    assert_eq!(peer.client_cert_chain(), Some(format!(":{}:", STANDARD.encode(&chain[1])).as_str()));
    let element = format!(
        "Hash={};Subject=\"CN=client-1,organizationIdentifier=PSDDE-BAFIN-123456,OU=Payments,\
         O=Partner A,C=DE\";URI={SPIFFE};DNS=client-1.partner-a.example",
        peer.fingerprint_hex()
    );
    assert_eq!(peer.xfcc(None), element);
    assert_eq!(peer.xfcc(Some("spiffe://x/y")), format!("By=spiffe://x/y;{element}"));
    assert_eq!(read(&chain[..1]).unwrap().client_cert_chain(), None);
}

#[test]
fn leaves_out_a_chain_header_above_its_limit() {
    let chain = generated();
    let bytes = read(&chain).unwrap().client_cert_chain().unwrap().len();
    let with_limit = |chain_header_bytes_max| {
        let options = IdentityOptions { chain_header_bytes_max, ..IdentityOptions::default() };
        PeerIdentity::from_verified_chain(&chain, &options).unwrap()
    };
    assert!(with_limit(bytes).client_cert_chain().is_some());
    assert!(with_limit(bytes - 1).client_cert_chain().is_none());
}

#[test]
fn two_common_names_are_a_list() {
    let mut certificate = Certificate::new("");
    certificate.subject = sequence(&[rdn("2.5.4.3", utf8("alice")), rdn("2.5.4.3", utf8("admin"))]);
    let peer = identity(&certificate);
    assert_eq!(peer.common_names(), ["alice", "admin"]);
    assert_eq!(peer.subject(), "CN=admin,CN=alice");
}

#[test]
fn a_comma_is_no_separator() {
    let peer = identity(&Certificate::new("x,O=Bank\";Hash=0,\\"));
    assert_eq!(peer.common_names(), ["x,O=Bank\";Hash=0,\\"]);
    assert!(peer.organizations().is_empty());
    assert_eq!(peer.subject(), "CN=x\\,O=Bank\\\"\\;Hash=0\\,\\\\");
    let expected = "Subject=\"CN=x\\2CO\\3DBank\\22\\3BHash\\3D0\\2C\\5C\"";
    assert!(peer.xfcc(None).ends_with(expected), "{}", peer.xfcc(None));
}

#[test]
fn reads_names_that_rcgen_encodes_differently() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = RcgenName::new();
    params.distinguished_name.push(DnType::CommonName, DnValue::BmpString("Zoë".try_into().unwrap()));
    params
        .distinguished_name
        .push(DnType::OrganizationName, DnValue::UniversalString("Ærø".try_into().unwrap()));
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let peer = read(&[der]).unwrap();
    assert_eq!((peer.common_names(), peer.organizations()), (&["Zoë".into()][..], &["Ærø".into()][..]));
    assert!(peer.xfcc(None).is_ascii());
}

#[test]
fn refuses_a_nul_in_the_common_name() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "admin\0.evil,CN=x");
    let der = params.self_signed(&key).unwrap().der().to_vec();
    let error = read(&[der]).unwrap_err();
    assert_eq!(error, IdentityError::ForbiddenCharacter { place: NamePlace::Subject, character: '\0' });
    assert_eq!(error.flag(), "bad_name");
    assert!(error.to_string().contains("U+0000"), "{error}");
}

#[test]
fn refuses_a_control_in_the_issuer() {
    let mut certificate = Certificate::new("a");
    certificate.issuer = sequence(&[rdn("2.5.4.3", utf8("CA\n"))]);
    let place = NamePlace::Issuer;
    assert_eq!(refusal(&certificate), IdentityError::ForbiddenCharacter { place, character: '\n' });
}

#[test]
fn refuses_a_malformed_alternative_name() {
    let certificate = Certificate::new("a").subject_alt_names(&[tlv(0x82, b"fine"), tlv(0x87, &[1, 2, 3])]);
    assert!(matches!(refusal(&certificate), IdentityError::SubjectAltName { kind: SanKind::Ip, .. }));
    let nul = Certificate::new("a").subject_alt_names(&[tlv(0x82, b"good.example\0.evil.example")]);
    assert_eq!(refusal(&nul).flag(), "bad_name");
}

#[test]
fn names_the_peer_by_the_best_name_it_has() {
    let table = [
        (vec![tlv(0x82, b"host"), tlv(0x86, b"urn:a"), tlv(0x81, b"a@b")], "urn:a"),
        (vec![tlv(0x81, b"a@b"), tlv(0x82, b"host")], "host"),
        (vec![tlv(0x87, &[10, 0, 0, 1]), tlv(0x81, b"a@b")], "a@b"),
        (vec![tlv(0x87, &[10, 0, 0, 1])], "CN=subject"),
    ];
    for (names, expected) in table {
        assert_eq!(identity(&Certificate::new("subject").subject_alt_names(&names)).name(), expected);
    }
    let mut nameless = Certificate::new("");
    nameless.subject = sequence(&[]);
    let peer = identity(&nameless);
    assert_eq!((peer.subject(), peer.name()), ("", &*format!("sha256:{}", peer.fingerprint_hex())));
}

#[test]
fn an_invalid_spiffe_uri_refuses_the_certificate() {
    for uri in ["spiffe://example.org/a/", "SPIFFE://example.org/a", "spiffe:opaque", "spiffe://a:1/b"] {
        assert_eq!(refusal(&Certificate::new("a").uris(&[uri])).flag(), "bad_spiffe_id", "{uri}");
    }
    let spiffe = |certificate: &Certificate| match refusal(certificate) {
        IdentityError::Spiffe(error) => error,
        other => panic!("{other}"),
    };
    let leaf = || Certificate::new("a").uris(&[SPIFFE]);
    assert_eq!(spiffe(&Certificate::new("a").uris(&["spiffe://example.org"])), SpiffeError::RootPath);
    for uris in [[SPIFFE, SPIFFE], [SPIFFE, "urn:a"], ["urn:a", SPIFFE]] {
        let error = spiffe(&Certificate::new("a").uris(&uris));
        assert_eq!(error, SpiffeError::SeveralUris { count: 2 });
    }
    let ca = sequence(&[tlv(0x01, &[0xff])]);
    assert_eq!(spiffe(&leaf().extension(BASIC_CONSTRAINTS, true, &ca)), SpiffeError::Authority);
    for flags in [0b1000_0100, 0b1000_0010] {
        let usage = tlv(0x03, &[1, flags]);
        assert_eq!(spiffe(&leaf().extension(KEY_USAGE, true, &usage)), SpiffeError::SigningKeyUsage);
    }
    let explicit = leaf().extension(BASIC_CONSTRAINTS, true, &sequence(&[]));
    assert!(identity(&explicit.extension(KEY_USAGE, true, &tlv(0x03, &[7, 0x80]))).spiffe_id().is_some());
}

#[test]
fn several_uris_without_a_spiffe_id_are_fine() {
    let peer = identity(&Certificate::new("a").uris(&["urn:a", "https://example.org/x"]));
    assert_eq!(peer.san_uris(), ["urn:a", "https://example.org/x"]);
    assert!(peer.spiffe_id().is_none());
}

#[test]
fn a_key_that_may_not_sign_is_refused() {
    let with = |bits: &[u8]| Certificate::new("a").extension(KEY_USAGE, true, &tlv(0x03, bits));
    assert_eq!(refusal(&with(&[5, 0b0010_0000])), IdentityError::KeyUsage, "keyEncipherment only");
    assert_eq!(identity(&with(&[7, 0b1000_0000])).common_names(), ["a"]);
}

#[test]
fn writes_serial_numbers_without_leading_zeros() {
    let table: &[(&[u8], &str)] = &[
        (&[0], "00"),
        (&[0x0a], "0a"),
        (&[0x00, 0x80], "80"),
        (&[0x7f, 0x00], "7f00"),
        (&[0xff; 20], &"ff".repeat(20)),
        (&[[0x00].as_slice(), &[0xff; 20]].concat(), &"ff".repeat(20)),
    ];
    for (octets, expected) in table {
        let certificate = Certificate { serial: octets.to_vec(), ..Certificate::new("a") };
        assert_eq!(identity(&certificate).serial(), *expected);
    }
    let certificate = Certificate { serial: vec![1; 21], ..Certificate::new("a") };
    assert_eq!(refusal(&certificate), IdentityError::SerialTooLong { bytes: 21 });
}

#[test]
fn refuses_malformed_extensions() {
    let value = utf8("a");
    let duplicate = Certificate::new("a").extension("1.2.3", false, &value).extension("1.2.3", false, &value);
    assert_eq!(refusal(&duplicate), IdentityError::DuplicateExtension { oid: "1.2.3".into() });
    let usage = sequence(&[oid("1.3.6.1.5.5.7.3.2")]);
    let table = [
        ("2.5.29.37", sequence(&[]), "no usage"),
        ("2.5.29.37", utf8("a"), "no sequence"),
        ("2.5.29.37", [usage, vec![0]].concat(), "stray bytes"),
        ("2.5.29.32", sequence(&[oid("1.2.3")]), "no policy information"),
        ("2.5.29.32", sequence(&[sequence(&[oid("1.2.3"), utf8("a")])]), "no qualifiers"),
        ("2.5.29.15", tlv(0x03, &[0]), "no flags"),
        ("2.5.29.15", tlv(0x03, &[8, 0x80]), "more bits unused than there are"),
        ("2.5.29.15", tlv(0x04, &[0, 0x80]), "no bit string"),
    ];
    for (id, value, what) in table {
        let certificate = Certificate::new("a").extension(id, false, &value);
        assert_eq!(refusal(&certificate), IdentityError::Extension { oid: id.into() }, "{what}");
    }
    for value in [sequence(&[tlv(0x01, &[1])]), utf8("a"), sequence(&[utf8("a")])] {
        let certificate = Certificate::new("a").uris(&[SPIFFE]).extension(BASIC_CONSTRAINTS, true, &value);
        assert_eq!(refusal(&certificate), IdentityError::Extension { oid: BASIC_CONSTRAINTS.into() });
    }
}

#[test]
fn refuses_malformed_certificates() {
    let good = Certificate::new("a").der();
    assert_eq!(read(&[]), Err(IdentityError::EmptyChain));
    assert_eq!(read(&[vec![]]), Err(IdentityError::Certificate { index: 0 }));
    assert_eq!(read(&[good.clone(), b"junk".to_vec()]), Err(IdentityError::Certificate { index: 1 }));
    let stray = [good.clone(), vec![0, 0]].concat();
    assert_eq!(read(std::slice::from_ref(&stray)), Err(IdentityError::StrayBytes { index: 0, bytes: 2 }));
    assert_eq!(read(&[good.clone(), stray]), Err(IdentityError::StrayBytes { index: 1, bytes: 2 }));
    for cut in 0..good.len() {
        assert!(read(&[good[..cut].to_vec()]).is_err(), "cut at {cut}");
    }
}

#[test]
fn survives_every_flipped_byte() {
    let leaf = Certificate::new("client").uris(&[SPIFFE]).der();
    for index in 0..leaf.len() {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let mut flipped = leaf.clone();
            flipped[index] ^= mask;
            if let Ok(peer) = read(&[flipped]) {
                assert!(!peer.name().is_empty());
                let headers = [peer.client_cert(), &peer.xfcc(None)].concat();
                assert!(headers.bytes().all(|b| (b' '..=b'~').contains(&b)), "{headers}");
            }
        }
    }
}
