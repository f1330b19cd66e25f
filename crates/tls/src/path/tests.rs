use rcgen::{CrlDistributionPoint, CustomExtension};

use super::*;
use crate::testing::{Ca, Leaf, NOW, date};

fn with_points(urls: &[&[&str]]) -> (Ca, Leaf) {
    let root = Ca::root("Root");
    let leaf = root.issue("alice", |p| {
        p.crl_distribution_points = urls
            .iter()
            .map(|uris| CrlDistributionPoint { uris: uris.iter().map(|uri| (*uri).to_owned()).collect() })
            .collect();
    });
    (root, leaf)
}

fn crl_urls(urls: &[&[&str]]) -> Vec<String> {
    let (root, leaf) = with_points(urls);
    leaf.path_under(&root).leaf().crl_urls.iter().map(ToString::to_string).collect()
}

/// A context-specific or universal DER value.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    assert!(content.len() < 128);
    [&[tag, content.len() as u8], content.as_slice()].concat()
}

#[test]
fn issuers_are_those_who_signed() {
    let root = Ca::root("Root");
    let one = root.intermediate("One");
    let two = one.intermediate("Two");
    let path = two.issue("alice", |_| {}).via([&two, &one]).path_under(&root);
    let id = |ca: &Ca| {
        let der = ca.der();
        let certificate = Certificate::parse(&der).unwrap();
        IssuerId::new(certificate.subject_der(), certificate.spki_der())
    };
    let issuers: Vec<_> = path.certificates.iter().map(|certificate| certificate.issuer).collect();
    assert_eq!(issuers, [id(&two), id(&one), id(&root)]);
    assert_eq!(path.anchor.issuer, id(&root));
    assert_eq!(path.anchor.fingerprint_sha256, sha256(&root.der()));
    // Same name, other key: another issuer.
    assert_ne!(id(&Ca::root("Root")), id(&root));
}

#[test]
fn what_was_presented_beside_a_path_is_kept_as_far_as_there_is_room() {
    let root = Ca::root("Root");
    let (issuing, other) = (root.intermediate("Issuing"), root.intermediate("Other"));
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    let large = CertificateDer::from(vec![0; BESIDE_BYTES_MAX]);
    let presented = [issuing.der(), other.der(), large.clone(), root.der()];
    let path = leaf.path_under(&root).presented_with(&presented);
    assert_eq!(path.beside, [other.der(), root.der()]);
    let all: Vec<_> = path.presented().cloned().collect();
    assert_eq!(all, [leaf.chain[0].clone(), issuing.der(), other.der(), root.der()]);
    assert_eq!(leaf.path_under(&root).presented_with(std::slice::from_ref(&large)).beside, [large]);
}

#[test]
fn serial_numbers_and_digests_are_those_of_the_certificates() {
    let root = Ca::root("Root");
    let leaf = root.issue("alice", |p| p.serial_number = Some(vec![0, 0x80, 1].into()));
    let path = leaf.path_under(&root);
    assert_eq!(path.leaf().serial.as_bytes(), [0x80, 1]);
    assert_eq!(path.leaf().serial.to_string(), leaf.identity().serial());
    assert_eq!(&path.leaf().fingerprint_sha256, leaf.identity().fingerprint_sha256());
    assert_eq!(path.leaf().der, leaf.chain[0]);
    let certificate = Certificate::parse(&leaf.chain[0]).unwrap();
    assert_eq!(path.leaf().spki_sha256, sha256(certificate.spki_der()));
}

#[test]
fn a_serial_number_of_more_than_twenty_octets_makes_no_path() {
    let root = Ca::root("Root");
    let parse = |octets: usize| {
        let mut serial = vec![0x7f; octets];
        serial[0] = 1;
        let leaf = root.issue("alice", |p| p.serial_number = Some(serial.into()));
        let certificate = Certificate::parse(&leaf.chain[0]).unwrap();
        PathCertificate::new(&certificate, IssuerId([0; 32])).map(|certificate| certificate.serial)
    };
    assert_eq!(parse(20).unwrap().as_bytes().len(), 20);
    assert!(parse(21).unwrap_err().contains("`CN=alice`"));
}

#[test]
fn the_window_is_that_of_all_certificates_and_the_anchor() {
    let root = Ca::root("Root");
    let issuing = root.intermediate_with("Issuing", |p| {
        p.not_before = date(NOW - 3);
        p.not_after = date(NOW + 5);
    });
    let leaf = issuing.issue("alice", |_| {}).via([&issuing]);
    let path = leaf.path_under(&root);
    let (from, until) = ((NOW - 3) as i64, (NOW + 5) as i64);
    assert_eq!((path.valid_from, path.valid_until), (from, until));
    for (now, valid) in [(from - 1, false), (from, true), (until, true), (until + 1, false)] {
        assert_eq!(path.is_valid_at(now), valid, "at {now}");
    }
}

#[test]
fn only_http_addresses_of_whole_lists_are_taken() {
    let cases: [(&[&[&str]], &[&str]); 6] = [
        (&[], &[]),
        (&[&["http://a.test/a.crl"]], &["http://a.test/a.crl"]),
        (&[&["ldap://a.test/cn=a", "http://a.test/a.crl"]], &["http://a.test/a.crl"]),
        (
            &[&["HTTPS://a.test/a.crl"], &["http://b.test/b.crl"]],
            &["HTTPS://a.test/a.crl", "http://b.test/b.crl"],
        ),
        (&[&["ldap://a.test/a", "file:///etc/passwd", "ftp://a.test/a", "http:/a", "http://"]], &[]),
        (
            &[&["http://a.test/a b", "http://a.test/\r\nHost: b", "http://a.test/\u{7f}", " http://a.test/"]],
            &[],
        ),
    ];
    for (points, expected) in cases {
        assert_eq!(crl_urls(points), expected, "{points:?}");
    }
}

#[test]
fn addresses_are_limited_in_number_and_length() {
    let many: Vec<String> =
        (0..=REVOCATION_URLS_MAX).map(|number| format!("http://{number}.test/")).collect();
    let points: Vec<[&str; 1]> = many.iter().map(|url| [url.as_str()]).collect();
    let points: Vec<&[&str]> = points.iter().map(<[&str; 1]>::as_slice).collect();
    assert_eq!(crl_urls(&points), many[..REVOCATION_URLS_MAX]);
    let url = |length: usize| format!("http://a.test/{}", "x".repeat(length - 14));
    assert_eq!(crl_urls(&[&[&url(REVOCATION_URL_BYTES_MAX)]]).len(), 1);
    assert!(crl_urls(&[&[&url(REVOCATION_URL_BYTES_MAX + 1)]]).is_empty());
}

#[test]
fn parts_of_lists_and_lists_of_others_are_left_alone() {
    let root = Ca::root("Root");
    let uri = der(0x86, &[b"http://a.test/a.crl"]);
    let name = der(0xa0, &[&der(0xa0, &[&uri])]);
    let reasons = der(0x81, &[&[6, 0x40]]);
    let issuer = der(0xa2, &[&uri]);
    for (point, taken) in [(vec![&name[..]], 1), (vec![&name, &reasons], 0), (vec![&name, &issuer], 0)] {
        let extension = der(0x30, &[&der(0x30, &point)]);
        let leaf = root.issue("alice", |p| {
            p.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 31], extension));
        });
        assert_eq!(leaf.path_under(&root).leaf().crl_urls.len(), taken);
    }
}

#[test]
fn the_first_http_responder_is_taken() {
    let root = Ca::root("Root");
    let access = |method: u8, url: &str| {
        let method = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, method]]);
        der(0x30, &[&method, &der(0x86, &[url.as_bytes()])])
    };
    let ocsp_url = |entries: &[Vec<u8>]| {
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let extension = der(0x30, &entries);
        let leaf = root.issue("alice", |p| {
            p.custom_extensions
                .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], extension));
        });
        leaf.path_under(&root).leaf().ocsp_url.as_deref().map(str::to_owned)
    };
    // Method 2 names the issuer's certificate.
    let entries =
        [access(2, "http://ca/"), access(1, "ldap://a/"), access(1, "http://b/"), access(1, "http://c/")];
    assert_eq!(ocsp_url(&entries).as_deref(), Some("http://b/"));
    assert_eq!(ocsp_url(&entries[..2]), None);
}

#[test]
fn sightings_wait_in_order_up_to_their_limit() {
    let root = Ca::root("Root");
    let path = Arc::new(root.issue("alice", |_| {}).path_under(&root));
    let (sightings, worker) = {
        let sightings = Sightings::new();
        (sightings.clone(), sightings)
    };
    let first = Arc::new(PeerPath::clone(&path));
    assert!(worker.push(first.clone()));
    for _ in 1..SIGHTINGS_MAX {
        assert!(worker.push(path.clone()));
    }
    assert!(!worker.push(path.clone()), "the newest is dropped");
    assert!(Arc::ptr_eq(&sightings.pop().unwrap(), &first));
    assert!(worker.push(path));
    assert_eq!(std::iter::from_fn(|| sightings.pop()).count(), SIGHTINGS_MAX);
}

#[test]
fn a_certificate_is_all_of_its_bytes() {
    let mut der = Ca::root("Root").issue("alice", |_| {}).chain[0].to_vec();
    assert!(Certificate::parse(&der).is_ok());
    der.push(0);
    assert!(Certificate::parse(&der).is_err());
}
