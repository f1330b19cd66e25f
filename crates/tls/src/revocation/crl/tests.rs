use std::cell::Cell;

use ringward_testkit::{
    Authority, AuthorityOptions, Crl, KeyType, Leaf, Pki, RevocationReason as Reason, der, openssl,
};

use super::*;
use crate::revocation::issuer::{IssuerError, IssuerId};
use crate::revocation::signed::key_of;
use crate::revocation::testing::{DAY, HOUR, complete, delta, issuer, mutate, now, parse, serial, time};
use crate::testing::Noise;

fn refused(crl: &Crl) -> CrlError {
    parse(&Authority::root("Root"), crl).expect_err("a list that is refused")
}

fn general_uri(uri: &str) -> Vec<u8> {
    der::tlv(0x86, uri.as_bytes())
}

/// An issuingDistributionPoint of these fields, critical as it should be.
fn scope(crl: Crl, fields: &[Vec<u8>]) -> Crl {
    crl.extension("2.5.29.28", true, &der::sequence(fields))
}

fn full_name(names: &[Vec<u8>]) -> Vec<u8> {
    der::context(0, &der::context(0, &names.concat()))
}

fn flag(number: u8) -> Vec<u8> {
    der::tlv(0x80 | number, &[0xff])
}

#[test]
fn lists_of_every_kind_of_key_are_read() {
    for key in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519, KeyType::Rsa2048] {
        let root = Authority::root_with_key("Root", key);
        let index = complete(
            &root,
            &Crl::new().number(7).revoke(&[0x0a]).revoke_for(&[0xff; 20], Reason::KeyCompromise),
        );
        assert_eq!(index.find(&serial(&[0x0a])), Some(RevocationReason::Unspecified));
        assert_eq!(index.find(&serial(&[0xff; 20])), Some(RevocationReason::KeyCompromise));
        assert_eq!(index.find(&serial(&[0x0b])), None);
        let head = index.head();
        assert_eq!((head.issuer, &*head.issuer_name), (issuer(&root).id(), "CN=Root"));
        assert_eq!(head.number, Some(7.into()));
        assert_eq!(index.entries(), 2);
        assert!(head.this_update_unix < now() && now() < head.next_update_unix);
        assert_eq!(
            head.to_string(),
            format!("the list of `CN=Root` number 7 from {}", format_unix(head.this_update_unix))
        );
    }
}

#[test]
fn list_that_openssl_made_is_read() {
    let pki = Pki::new();
    let root = Authority::root("Root");
    let (ca, key) = (pki.write("ca.pem", root.pem()), pki.write("ca.key", root.key_pem()));
    pki.write("crlnumber", "2A\n");
    let database = pki.write(
        "index.txt",
        "V\t401231235959Z\t\t05\tunknown\t/CN=good\n\
         R\t401231235959Z\t260102030405Z,keyCompromise\t0A\tunknown\t/CN=a\n\
         R\t401231235959Z\t260102030405Z,certificateHold\tF00000000000000000000000000000000000000B\tunknown\t/CN=b\n\
         R\t401231235959Z\t260102030405Z\tC1\tunknown\t/CN=c\n",
    );
    let config = pki.write(
        "ca.conf",
        format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={}\ncrlnumber={}\ndefault_md=sha256\ncrl_extensions=e\n\
             [e]\nauthorityKeyIdentifier=keyid:always\n",
            database.display(),
            pki.path().join("crlnumber").display()
        ),
    );
    let arguments = ["ca", "-gencrl", "-crlhours", "5", "-config", config.to_str().unwrap(), "-cert"];
    let arguments = arguments.into_iter().chain([ca.to_str().unwrap(), "-keyfile", key.to_str().unwrap()]);
    let pem = openssl(arguments, b"");
    let ParsedCrl::Complete(index) = parse_crl(&pem, &[issuer(&root)], now(), || ()).unwrap() else {
        panic!("a delta")
    };
    assert_eq!(index.head().number, Some(0x2a.into()));
    assert_eq!(index.head().next_update_unix - index.head().this_update_unix, 5 * HOUR);
    let find = |text: &str| index.find(&text.parse().unwrap());
    assert_eq!(find("05"), None);
    assert_eq!(find("0a"), Some(RevocationReason::KeyCompromise));
    assert_eq!(find("f00000000000000000000000000000000000000b"), Some(RevocationReason::CertificateHold));
    assert_eq!(find("c1"), Some(RevocationReason::Unspecified));
}

#[test]
fn whatever_is_listed_is_revoked() {
    let root = Authority::root("Root");
    let unknown_code = der::extension("2.5.29.21", false, &der::enumerated(7));
    let long_code = der::extension("2.5.29.21", false, &der::tlv(0x0a, &[1, 2]));
    let invalidity = der::extension("2.5.29.24", false, &der::tlv(0x18, b"20200101000000Z"));
    let harmless = der::extension("1.3.6.1.4.1.99999.1", false, b"?");
    let crl = Crl::new()
        .entry(&[1], &[unknown_code])
        .entry(&[2], &[long_code])
        .entry(&[3], &[invalidity, harmless])
        // Without a meaning in a complete list.
        .revoke_for(&[4], Reason::RemoveFromCrl)
        // From tomorrow on.
        .this_update(time(now() + DAY))
        .revoke(&[5])
        .this_update(time(now() - HOUR))
        // Twice, once as if it were not.
        .revoke_for(&[6], Reason::RemoveFromCrl)
        .revoke_for(&[6], Reason::KeyCompromise)
        .revoke_for(&[8], Reason::KeyCompromise)
        .revoke_for(&[8], Reason::RemoveFromCrl)
        .revoke(&[])
        .revoke_for(&[7], Reason::CertificateHold);
    let index = complete(&root, &crl);
    for octet in 1..=7 {
        assert!(index.find(&serial(&[octet])).is_some(), "{octet}");
    }
    assert_eq!(index.find(&serial(&[6])), Some(RevocationReason::KeyCompromise));
    assert_eq!(index.find(&serial(&[8])), Some(RevocationReason::KeyCompromise));
    assert_eq!(index.find(&serial(&[7])), Some(RevocationReason::CertificateHold));
    assert!(index.find(&serial(&[0])).is_some());
    assert!(index.find(&serial(&[9])).is_none());
}

#[test]
fn serial_of_twenty_octets_is_the_longest() {
    let root = Authority::root("Root");
    let index = complete(
        &root,
        &Crl::new().revoke(&[0xff; 20]).revoke(&[0xfe; 21]).revoke(&[0x01; 200]).revoke(&[0x0a]),
    );
    assert_eq!(index.entries(), 2, "the others can be no admitted certificate's");
    assert!(index.find(&serial(&[0xff; 20])).is_some());
    assert!(index.find(&serial(&[0x0a])).is_some(), "what comes behind them counts");
    assert_eq!(Serial::new(&[1; 21]), Err(crate::revocation::SerialError::TooLong { octets: 21 }));
    assert!(Serial::new(&[&[0; 30], &[1; 20][..]].concat()).is_ok());
}

#[test]
fn what_is_not_understood_is_refused() {
    let critical = |kind: &str| Crl::new().extension(kind, true, b"?");
    let entry =
        |kind: &str, critical| Crl::new().entry(&[1], &[der::extension(kind, critical, &der::sequence(&[]))]);
    for (crl, expected) in [
        (Crl::new().version_1(), CrlError::Version),
        (Crl::new().without_next_update(), CrlError::NoNextUpdate { issuer: "CN=Root".to_owned() }),
        (critical("1.2.3.4"), CrlError::UnknownCritical { oid: "1.2.3.4".to_owned() }),
        (critical("2.999.1"), CrlError::UnknownCritical { oid: "2.999.1".to_owned() }),
        (entry("1.2.3.4", true), CrlError::UnknownCritical { oid: "1.2.3.4".to_owned() }),
        (entry("2.5.29.29", true), CrlError::Indirect),
        (entry("2.5.29.29", false), CrlError::Indirect),
        (scope(Crl::new(), &[flag(4)]), CrlError::Indirect),
        (scope(Crl::new(), &[der::tlv(0x83, &[6, 0x40])]), CrlError::SomeReasons),
        (scope(Crl::new(), &[flag(5)]), CrlError::AttributeCertificates),
        (scope(Crl::new(), &[full_name(&[der::tlv(0x82, b"host")])]), CrlError::DistributionPoint),
        (scope(Crl::new(), &[der::context(0, &der::context(1, &[]))]), CrlError::DistributionPoint),
        (scope(Crl::new(), &[flag(1), flag(2)]), CrlError::Malformed { what: "issuingDistributionPoint" }),
        (
            Crl::new().extension("2.5.29.20", false, &der::integer(&[9])),
            CrlError::Malformed { what: "crlExtensions (repeated or too many)" },
        ),
        (
            Crl::new().without_number().extension("2.5.29.20", false, &der::integer(&[1; 21])),
            CrlError::Number,
        ),
        (
            Crl::new().without_number().extension("2.5.29.20", false, &der::tlv(0x02, &[0x80])),
            CrlError::Number,
        ),
        (Crl::new().without_number().delta_of(7), CrlError::DeltaNumber),
        (Crl::new().number(7).delta_of(7), CrlError::DeltaNumber),
        (
            Crl::new().entry(&[1], &[der::extension("2.5.29.21", false, &der::tlv(0x0a, &[]))]),
            CrlError::Entry { position: 1, what: "cannot be read" },
        ),
    ] {
        assert_eq!(refused(&crl), expected, "{crl:?}");
    }
    // What is unknown and not critical is no reason.
    assert!(parse(&Authority::root("Root"), &Crl::new().extension("1.2.3.4", false, b"?")).is_ok());
    let many = (0..31).fold(Crl::new(), |crl, last| crl.extension(&format!("1.2.3.{last}"), false, b"?"));
    assert!(parse(&Authority::root("Root"), &many).is_ok(), "32 extensions");
    assert!(parse(&Authority::root("Root"), &many.extension("1.2.3.31", false, b"?")).is_err(), "33");
    let twenty = Crl::new().without_number().extension("2.5.29.20", false, &der::integer(&[0xff; 20]));
    let number = complete(&Authority::root("Root"), &twenty).head().number.unwrap();
    assert_eq!(number.to_string(), format!("0x{}", "ff".repeat(20)));
}

#[test]
fn what_nobody_expects_is_refused_wherever_it_is() {
    let algorithm = der::sequence(&[der::oid("1.2.840.10045.4.3.2")]);
    let today = der::tlv(0x17, b"260101000000Z");
    let fields = [
        der::integer(&[1]),
        algorithm.clone(),
        der::sequence(&[]),
        today.clone(),
        der::tlv(0x17, b"260102000000Z"),
    ];
    let read = |fields: &[Vec<u8>]| {
        let list = [der::sequence(fields), algorithm.clone(), der::bits(b"?")].concat();
        Fields::read(&Signed::read(&mut Reader::new(&list)).unwrap()).map(drop)
    };
    assert_eq!(read(&fields), Ok(()));
    let longer = [&fields[..], &[der::null()]].concat();
    assert_eq!(read(&longer), Err(CrlError::Malformed { what: "the list" }));

    let check = |fields: &[Vec<u8>]| Entries::new(&der::sequence(fields), || ()).check();
    assert_eq!(check(&[der::integer(&[1]), today.clone()]), Ok(()));
    let unreadable = Err(CrlError::Entry { position: 1, what: "cannot be read" });
    assert_eq!(check(&[der::tlv(0x02, &[]), today.clone()]), unreadable);
    assert_eq!(check(&[der::integer(&[1]), today, der::sequence(&[]), der::null()]), unreadable);

    let behind = scope(Crl::new(), &[flag(1), der::null()]);
    assert_eq!(refused(&behind), CrlError::Malformed { what: "issuingDistributionPoint" });
    let numbers = [der::integer(&[1]), der::null()].concat();
    assert_eq!(
        refused(&Crl::new().without_number().extension("2.5.29.20", false, &numbers)),
        CrlError::Number
    );
    let key = [algorithm, der::bits(b"key")];
    assert!(key_of(&der::sequence(&key)).is_ok());
    assert_eq!(key_of(&der::sequence(&[&key[..], &[der::null()]].concat())), Err(Malformed));
}

#[test]
fn addresses_of_one_list_are_few() {
    let names: Vec<_> = (0..40).map(|number| general_uri(&format!("http://a/{number}"))).collect();
    let index = complete(&Authority::root("Root"), &scope(Crl::new(), &[full_name(&names)]));
    assert_eq!(index.head().scope.distribution_points.len(), 32);
}

#[test]
fn issuers_are_read_whole_or_not_at_all() {
    let root = Authority::root("Root");
    let mut longer = root.certificate().to_vec();
    longer.push(0);
    let read = |der: Vec<u8>| IssuerCertificate::from_der(&der.into()).map(drop);
    assert!(matches!(read(longer), Err(IssuerError::Malformed(_))));
    // subjectKeyIdentifier, not as an OCTET STRING.
    let odd = AuthorityOptions::named("Odd").extension("2.5.29.14", false, der::null());
    let odd = root.intermediate_with(&odd);
    assert!(matches!(read(odd.certificate().to_vec()), Err(IssuerError::Malformed(_))));
    // A key that serves two CAs is two issuers.
    assert_ne!(IssuerId::new(b"a", b"key"), IssuerId::new(b"b", b"key"));
}

#[test]
fn clocks_may_differ_by_the_skew_and_no_more() {
    let root = Authority::root("Root");
    let (made, next) = (now() - HOUR, now() + HOUR);
    let der = root.sign_crl(&Crl::new().this_update(time(made)).next_update(time(next)));
    let at = |now_unix| parse_crl(&der, &[issuer(&root)], now_unix, || ());
    assert!(at(made - CLOCK_SKEW_SECONDS).is_ok());
    assert!(matches!(at(made - CLOCK_SKEW_SECONDS - 1), Err(CrlError::NotYetValid { .. })));
    // Whether a stale list is worth something is the policy's to say, and what it revokes stays revoked.
    assert!(at(next).is_ok() && at(next + 365 * DAY).is_ok());
    let backwards = Crl::new().this_update(time(made)).next_update(time(made));
    assert!(matches!(refused(&backwards), CrlError::Dates { .. }));
    assert!(parse(&root, &Crl::new().this_update(time(made)).next_update(time(made + 1))).is_ok());
}

#[test]
fn only_the_issuers_own_key_counts() {
    let (root, namesake, other) =
        (Authority::root("Root"), Authority::root("Root"), Authority::root("Other"));
    let der = root.sign_crl(&Crl::new().revoke(&[1]));
    let read = |issuers: &[&Authority]| {
        let issuers: Vec<_> = issuers.iter().map(|authority| issuer(authority)).collect();
        parse_crl(&der, &issuers, now(), || ()).map(|_| ())
    };
    assert_eq!(read(&[&root]), Ok(()));
    assert_eq!(read(&[&other, &namesake, &root]), Ok(()), "of several with the name, the one that fits");
    let no_issuer = CrlError::NoIssuer { issuer: "CN=Root".to_owned() };
    assert_eq!(read(&[]), Err(no_issuer.clone()));
    assert_eq!(read(&[&other]), Err(no_issuer));
    let error = SignatureError::Wrong;
    assert_eq!(read(&[&namesake]), Err(CrlError::Signature { issuer: "CN=Root".to_owned(), error }));
    // Another kind of key cannot have made it.
    let error = SignatureError::Algorithm;
    let rsa = Authority::root_with_key("Root", KeyType::Ed25519);
    assert_eq!(read(&[&rsa]), Err(CrlError::Signature { issuer: "CN=Root".to_owned(), error }));
    // A certificate that the CA has issued is no CA, whatever its name.
    let leaf = root.issue(&Leaf::client("a"));
    let by_leaf = leaf.sign_crl_for(&root, &Crl::new());
    assert!(matches!(parse_crl(&by_leaf, &[issuer(&root)], now(), || ()), Err(CrlError::Signature { .. })));
    assert!(matches!(IssuerCertificate::from_der(leaf.leaf()), Err(IssuerError::NotCa { .. })));
}

#[test]
fn keys_of_one_name_are_told_apart_by_identifier_and_are_few() {
    let ski = |authority: &Authority| issuer(authority).key_id.unwrap();
    let root = Authority::root("Root");
    let aki = der::sequence(&[der::context_primitive(0, &ski(&root))]);
    let der = root.sign_crl(&Crl::new().extension("2.5.29.35", false, &aki));
    let namesakes: Vec<_> = (0..4).map(|_| Authority::root("Root")).collect();
    let mut issuers: Vec<_> = namesakes.iter().map(issuer).collect();
    assert!(
        matches!(parse_crl(&der, &issuers, now(), || ()), Err(CrlError::NoIssuer { .. })),
        "none has the identifier"
    );
    issuers.push(issuer(&root));
    assert!(parse_crl(&der, &issuers, now(), || ()).is_ok(), "found without trying the others");
    // Without the identifier each costs a hash of the whole list.
    let der = root.sign_crl(&Crl::new());
    assert!(matches!(parse_crl(&der, &issuers, now(), || ()), Err(CrlError::TooManyIssuers { .. })));
    issuers.remove(0);
    assert!(parse_crl(&der, &issuers, now(), || ()).is_ok(), "the fourth");
    // A key with many certificates is one key.
    let renewed = AuthorityOptions::named("Root").same_key_as(&namesakes[0]);
    let mut issuers: Vec<_> = (0..10).map(|_| issuer(&Authority::root_with(&renewed))).collect();
    issuers.push(issuer(&root));
    assert!(parse_crl(&der, &issuers, now(), || ()).is_ok());
}

#[test]
fn renewed_issuer_is_the_same_and_needs_the_right_to_sign() {
    let root = Authority::root("Root");
    let renewed = Authority::root_with(&AuthorityOptions::named("Root").same_key_as(&root));
    let silent =
        Authority::root_with(&AuthorityOptions::named("Root").same_key_as(&root).without_crl_signing());
    assert_eq!(issuer(&root).id(), issuer(&renewed).id());
    let der = root.sign_crl(&Crl::new());
    let read = |issuers: &[&Authority]| {
        let issuers: Vec<_> = issuers.iter().map(|authority| issuer(authority)).collect();
        parse_crl(&der, &issuers, now(), || ()).map(|_| ())
    };
    assert_eq!(read(&[&renewed]), Ok(()));
    assert_eq!(read(&[&silent]), Err(CrlError::MayNotSign { issuer: "CN=Root".to_owned() }));
    assert_eq!(read(&[&silent, &renewed]), Ok(()), "one of its certificates says it may");
}

#[test]
fn scopes_are_read() {
    let root = Authority::root("Root");
    let read = |fields: &[Vec<u8>]| complete(&root, &scope(Crl::new(), fields)).head().scope.clone();
    assert_eq!(complete(&root, &Crl::new()).head().scope, CrlScope::default());
    assert_eq!(read(&[flag(1)]).kinds, CertificateKinds::EndEntities);
    assert_eq!(read(&[flag(2)]).kinds, CertificateKinds::Authorities);
    let names = [general_uri("http://a/1"), der::tlv(0x82, b"host"), general_uri("ldap://b")];
    let partition = read(&[full_name(&names), flag(1)]);
    assert_eq!(partition.distribution_points, ["http://a/1".into(), "ldap://b".into()].into());
    assert_ne!(partition.digest, read(&[full_name(&names)]).digest);
    // An explicit FALSE should not be there, and means what it says.
    assert_eq!(read(&[der::tlv(0x81, &[0])]).kinds, CertificateKinds::All);
}

#[test]
fn places_of_deltas_are_read() {
    let point = |extra: &[u8]| der::sequence(&[full_name(&[general_uri("http://a/delta")]), extra.to_vec()]);
    let urls = |points: &[Vec<u8>]| {
        let crl = Crl::new().extension("2.5.29.46", false, &der::sequence(points));
        complete(&Authority::root("Root"), &crl).head().delta_urls.clone()
    };
    assert_eq!(urls(&[point(&[])]), ["http://a/delta".into()].into());
    // For some reasons only, or by somebody else.
    assert!(urls(&[point(&der::tlv(0x81, &[6, 0x40]))]).is_empty());
    assert!(urls(&[point(&der::context(2, &[]))]).is_empty());
    assert!(urls(&[b"?".to_vec()]).is_empty(), "a hint that cannot be read is none");
}

#[test]
fn delta_says_what_it_is_a_delta_of() {
    let root = Authority::root("Root");
    let delta = delta(&root, &Crl::new().number(9).delta_of(7).revoke(&[1]));
    assert_eq!((delta.base(), delta.head().number, delta.entries()), (7.into(), Some(9.into()), 1));
}

#[test]
fn files_hold_der_or_pem() {
    let root = Authority::root("Root");
    let der = root.sign_crl(&Crl::new());
    let pem = root.sign_crl_pem(&Crl::new());
    let count = |bytes: &[u8]| read_crls(bytes).map(|lists| lists.len());
    let others = format!("{}\nfrom the CA\n{pem}{}", root.pem(), pem.replace('\n', "\r\n"));
    assert_eq!(count(&der), Ok(1));
    assert!(matches!(&read_crls(&der).unwrap()[..], [Cow::Borrowed(_)]), "DER is not copied");
    assert_eq!(count(pem.as_bytes()), Ok(1));
    assert_eq!(count(others.as_bytes()), Ok(2));
    assert_eq!(count(b""), Err(CrlError::Empty));
    assert_eq!(count(b"404 not found"), Err(CrlError::Empty));
    assert_eq!(count(root.pem().as_bytes()), Err(CrlError::Empty));
    assert!(matches!(count(pem.replace("-----END", "-----EMD").as_bytes()), Err(CrlError::Pem(_))));
    assert_eq!(count(pem.repeat(CRLS_PER_FILE_MAX).as_bytes()), Ok(CRLS_PER_FILE_MAX));
    assert!(matches!(count(pem.repeat(CRLS_PER_FILE_MAX + 1).as_bytes()), Err(CrlError::NotOne { .. })));
    let two = parse_crl(others.as_bytes(), &[issuer(&root)], now(), || ()).map(|_| ());
    assert_eq!(two, Err(CrlError::NotOne { count: 2 }));
    // Zeros that nobody touches take no memory.
    let mut long = vec![0; CRL_BYTES_MAX];
    long[..2].copy_from_slice(&[SEQUENCE, 0x84]);
    assert_eq!(count(&long), Ok(1));
    long.push(0);
    assert_eq!(count(&long), Err(CrlError::TooLong { bytes: CRL_BYTES_MAX + 1 }));
}

#[test]
fn every_octet_counts() {
    let root = Authority::root("Root");
    let issuers = [issuer(&root)];
    let der = root.sign_crl(&Crl::new().revoke(&[0x11]).revoke_for(&[0x12], Reason::CertificateHold));
    assert!(parse_crl(&der, &issuers, now(), || ()).is_ok());
    for position in 0..der.len() {
        for flip in [0x01, 0x80] {
            let mut altered = der.clone();
            altered[position] ^= flip;
            assert!(parse_crl(&altered, &issuers, now(), || ()).is_err(), "octet {position}");
        }
    }
    assert!(parse_crl(&[&der[..], b"\0"].concat(), &issuers, now(), || ()).is_err(), "something behind it");
    assert!(parse_crl(&der[..der.len() - 1], &issuers, now(), || ()).is_err());
    let content = Reader::new(&der).expect(SEQUENCE).unwrap();
    let within = der::tlv(SEQUENCE, &[content, &der::null()].concat());
    assert!(parse_crl(&within, &issuers, now(), || ()).is_err(), "something behind the signature");
}

#[test]
fn algorithm_is_the_one_that_is_signed() {
    // Within the list it says ECDSA with SHA-384 and outside with SHA-256, as the key signs.
    let root = Authority::root("Root");
    let mut der = root.sign_crl(&Crl::new());
    let sha256 = der::oid("1.2.840.10045.4.3.2");
    let sha384 = der::oid("1.2.840.10045.4.3.3");
    let inner = der.windows(sha256.len()).position(|window| window == sha256).unwrap();
    der[inner..inner + sha384.len()].copy_from_slice(&sha384);
    let error = parse_crl(&der, &[issuer(&root)], now(), || ()).map(|_| ());
    assert_eq!(error, Err(CrlError::Malformed { what: "signature algorithm" }));
}

#[test]
fn mutated_lists_are_read_without_harm() {
    let mut noise = Noise(0x5eed_0001);
    let root = Authority::root("Root");
    let issuers = [issuer(&root)];
    let url = full_name(&[general_uri("http://crl.example/1")]);
    let seed = scope(Crl::new().number(300), &[url, flag(1)])
        .extension("2.5.29.46", false, &der::sequence(&[]))
        .delta_of(299)
        .revoke(&[1; 20])
        .revoke_for(&[2; 8], Reason::CertificateHold);
    let seeds = [root.sign_crl(&seed), root.sign_crl(&Crl::new()), root.sign_crl_pem(&seed).into_bytes()];
    for round in 0..3000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=noise.below(4) {
            mutate(&mut bytes, &mut noise);
        }
        let _ = parse_crl(&bytes, &issuers, now(), || ());
        // The parts behind the signature, as if the issuer had signed them.
        read_unsigned(&bytes);
    }
}

#[test]
fn long_lists_are_read_with_pauses() {
    thread_local! {
        static PAUSES: Cell<usize> = const { Cell::new(0) };
    }
    let root = Authority::root("Root");
    let pauses = |entries: u32| {
        let crl = (0..entries).fold(Crl::new(), |crl, serial| crl.revoke(&serial.to_be_bytes()));
        PAUSES.set(0);
        parse_crl(&root.sign_crl(&crl), &[issuer(&root)], now(), || PAUSES.set(PAUSES.get() + 1)).unwrap();
        PAUSES.get()
    };
    assert_eq!(pauses(100), 0);
    // Checked, counted, sized, placed: each of the four walks pauses.
    assert_eq!(pauses(2 * ENTRIES_PER_PIECE as u32 + 1), 4 * 2);
}

/// Everything that is read of a list, without the signature that would keep a stranger's out.
fn read_unsigned(der: &[u8]) {
    let Ok(mut outer) = Reader::inside(der, SEQUENCE) else { return };
    let Ok(signed) = Signed::read(&mut outer) else { return };
    let Ok(fields) = Fields::read(&signed) else { return };
    let _ = Extensions::read(fields.extensions);
    let entries = Entries::new(fields.entries, || ());
    if entries.check().is_ok() {
        let set = SerialSet::build(entries.clone());
        assert!(set.memory_bytes() <= 200 + 2 * der.len(), "memory follows from the size of the list");
        for (serial, _) in entries {
            assert!(set.find(&serial).is_some());
        }
    }
}
