//! Our index against webpki on random lists and chains: where webpki supports a list, both admit and refuse the same
//! clients, except where we are stricter on purpose.

use rustls_pki_types::UnixTime;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::*;
use crate::testing::Noise;

struct Subject {
    issued: Issued,
    client: Client,
    /// Not for webpki: it clears a certificate without distribution points by any partition.
    has_points: bool,
}

const URLS: [&str; 3] = ["http://crl.example/0", "http://crl.example/1", "http://crl.example/2"];

#[test]
fn index_agrees_with_webpki() {
    let mut noise = Noise(0x5eed_0002);
    let root = Authority::root("Root");
    let issuing = root.intermediate_with(&AuthorityOptions::named("Issuing").crl_url(URLS[0]));
    let subjects: Vec<_> = (0..24).map(|number| subject(number, &root, &issuing, &mut noise)).collect();
    let (mut refused, mut admitted, mut stricter) = (0, 0, 0);
    for _ in 0..150 {
        let lists = random_lists(&root, &issuing, &subjects, &mut noise);
        let ours = with_lists(lists.iter().map(|(authority, crl)| complete(authority, crl)));
        let theirs: Vec<CertRevocationList<'_>> = lists
            .iter()
            .map(|(authority, crl)| {
                OwnedCertRevocationList::from_der(&authority.sign_crl(crl)).unwrap().into()
            })
            .collect();
        let partitioned = ours.crls().any(|index| !index.head().scope.distribution_points.is_empty());
        for subject in &subjects {
            let policy = random_policy(&mut noise);
            let verdict = subject.client.check(&ours, &policy, now());
            let we = verdict.is_ok();
            let they = webpki_admits(subject, &root, &theirs, &policy);
            if !subject.has_points && partitioned {
                assert!(!we || they, "we are never laxer: {policy:?}");
                stricter += usize::from(we != they);
                continue;
            }
            assert_eq!(we, they, "{policy:?} {verdict:?} {ours:?}");
            if we { admitted += 1 } else { refused += 1 }
        }
    }
    // That the cases are worth something.
    assert!(refused > 500 && admitted > 500 && stricter > 20, "{refused} {admitted} {stricter}");
}

fn subject(number: usize, root: &Authority, issuing: &Authority, noise: &mut Noise) -> Subject {
    let mut leaf = Leaf::client("a");
    // Of every length, with the highest bit and without.
    let mut octets = noise.bytes(1 + number % 20);
    octets[0] |= 1;
    leaf = leaf.serial(&octets);
    let points = noise.below(3);
    for url in URLS.iter().take(points) {
        leaf = leaf.crl_url(url);
    }
    let issued = if number.is_multiple_of(3) { root.issue(&leaf) } else { issuing.issue(&leaf) };
    let client = Client::new(&issued, root);
    Subject { issued, client, has_points: points > 0 }
}

/// For each authority: nothing, its whole list, one for a kind, or one or more partitions, of which a certificate finds one
/// at most, as webpki looks at the first only.
fn random_lists<'a>(
    root: &'a Authority,
    issuing: &'a Authority,
    subjects: &[Subject],
    noise: &mut Noise,
) -> Vec<(&'a Authority, Crl)> {
    let mut lists = Vec::new();
    for authority in [root, issuing] {
        let crl = random_list(issuing, subjects, noise);
        match noise.below(6) {
            0 => {}
            1 | 2 => lists.push((authority, crl)),
            3 => {
                let other = random_list(issuing, subjects, noise);
                lists.push((authority, scoped(crl, Some(URLS[0]), Some(1))));
                lists.push((authority, scoped(other, Some(URLS[0]), Some(2))));
            }
            4 => lists.push((authority, partition(crl, URLS[0]))),
            _ => lists.push((authority, partition(crl, URLS[1]))),
        }
    }
    if lists.is_empty() {
        lists.push((root, Crl::new()));
    }
    lists
}

fn random_list(issuing: &Authority, subjects: &[Subject], noise: &mut Noise) -> Crl {
    let mut crl = Crl::new().number(noise.next() >> 1);
    crl = match noise.below(4) {
        0 => crl.stale(),
        1 => crl.next_update(time(now() + DAY)),
        _ => crl,
    };
    let mut serials: Vec<Vec<u8>> = Vec::new();
    for _ in 0..noise.below(40) {
        let octets = 1 + noise.below(20);
        serials.push(noise.bytes(octets));
    }
    if noise.below(3) == 0 {
        serials.push(issuing.serial().to_vec());
    }
    for subject in subjects {
        if noise.below(4) == 0 {
            serials.push(subject.issued.serial().to_vec());
        }
    }
    for serial in serials {
        crl = match noise.below(3) {
            0 => crl.revoke(&serial),
            1 => crl.revoke_for(&serial, Reason::CertificateHold),
            _ => crl.revoke_for(&serial, Reason::KeyCompromise),
        };
    }
    crl
}

fn random_policy(noise: &mut Noise) -> RevocationPolicy {
    RevocationPolicy {
        crl: if noise.below(2) == 0 { CrlMode::Required } else { CrlMode::IfPresent },
        stale: match noise.below(2) {
            0 => StalePolicy::Deny,
            _ => StalePolicy::Allow(Duration::MAX),
        },
        depth: if noise.below(2) == 0 { RevocationDepth::Leaf } else { RevocationDepth::Chain },
    }
}

fn webpki_admits(
    subject: &Subject,
    root: &Authority,
    crls: &[CertRevocationList<'_>],
    policy: &RevocationPolicy,
) -> bool {
    let crls: Vec<_> = crls.iter().collect();
    let options = RevocationOptionsBuilder::new(&crls)
        .unwrap()
        .with_depth(match policy.depth {
            RevocationDepth::Leaf => RevocationCheckDepth::EndEntity,
            RevocationDepth::Chain => RevocationCheckDepth::Chain,
        })
        .with_status_policy(match policy.crl {
            CrlMode::Required => UnknownStatusPolicy::Deny,
            _ => UnknownStatusPolicy::Allow,
        })
        .with_expiration_policy(match policy.stale {
            StalePolicy::Deny => ExpirationPolicy::Enforce,
            StalePolicy::Allow(_) => ExpirationPolicy::Ignore,
        })
        .build();
    let anchors = [webpki::anchor_from_trusted_cert(root.certificate()).unwrap()];
    let certificate = EndEntityCert::try_from(subject.issued.leaf()).unwrap();
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let usage = KeyUsage::client_auth();
    let intermediates = &subject.issued.chain()[1..];
    certificate
        .verify_for_usage(algorithms, &anchors, intermediates, UnixTime::now(), usage, Some(options), None)
        .is_ok()
}
