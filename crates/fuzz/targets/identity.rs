//! Peer identities: any bytes yield an identity or an error, and no identity holds what could break a header or a log.
//!
//! The input is a chain: each certificate is preceded by its length in two octets, the leaf comes first.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use ringward_fuzz::{pack, unpack};
use ringward_http::write::is_settable;
use ringward_identity::{IdentityOptions, PeerIdentity};
use ringward_testkit::{Authority, Leaf};

fuzz_target!(|input: &[u8]| {
    let chain = unpack(input);
    let Ok(peer) = PeerIdentity::from_verified_chain(&chain, &OPTIONS) else { return };
    assert!(!chain.is_empty() && peer.chain_depth() == chain.len());
    assert!(!peer.name().is_empty(), "a name to log");
    assert!(peer.chain_not_after_unix() <= peer.not_after_unix(), "the earliest of the chain");
    assert_eq!(peer.fingerprint_hex().len(), 64);
    for text in texts(&peer) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert!(peer.san_dns().iter().all(|name| *name == name.to_ascii_lowercase()));
    if let Some(id) = peer.spiffe_id() {
        assert_eq!(peer.san_uris(), [id.as_str()], "the only URI");
        assert_eq!(id.as_str(), format!("spiffe://{}{}", id.trust_domain(), id.path()));
    }
    assert!(is_settable("client-cert", peer.client_cert().as_bytes()));
    assert!(peer.client_cert_chain().is_none_or(|value| is_settable("client-cert-chain", value.as_bytes())));
    let xfcc = peer.xfcc(Some("spiffe://example.org/edge"));
    assert!(is_settable("x-forwarded-client-cert", xfcc.as_bytes()), "{xfcc:?}");
});

// Random bytes are no certificate, so the search starts from real ones.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if size > 2 {
        return fuzzer_mutate(data, size, max_size);
    }
    let chain = &CHAINS[seed as usize % CHAINS.len()];
    if chain.len() > max_size {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..chain.len()].copy_from_slice(chain);
    chain.len()
});

fn texts(peer: &PeerIdentity) -> impl Iterator<Item = &str> {
    let lists = [
        peer.common_names(),
        peer.organizations(),
        peer.organizational_units(),
        peer.organization_identifiers(),
        peer.san_uris(),
        peer.san_dns(),
        peer.san_emails(),
        peer.extended_key_usages(),
        peer.policy_oids(),
    ];
    let single = [peer.name(), peer.subject(), peer.issuer(), peer.serial()];
    single.into_iter().chain(lists.into_iter().flatten().map(String::as_str))
}

static OPTIONS: LazyLock<IdentityOptions> = LazyLock::new(|| IdentityOptions {
    extensions: vec!["1.3.6.1.4.1.99999.1".parse().expect("an OID")],
    ..IdentityOptions::default()
});

static CHAINS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Authority::root("Root");
    let issuing = root.intermediate("Issuing CA");
    let leaves = [
        Leaf::client("partner-a").organization("Partner A").organizational_unit("Billing"),
        Leaf::client("gone").no_subject().spiffe("spiffe://example.org/orders/api"),
        Leaf::client("many")
            .dns("a.example.com")
            .uri("https://example.com/x")
            .email("a@example.com")
            .ip("2001:db8::1".parse().expect("an address"))
            .extension("1.3.6.1.4.1.99999.1", false, ringward_testkit::der::utf8("tier-1"))
            .attribute("2.5.4.97", "PSDES-BDE-3DFD21"),
    ];
    leaves.iter().map(|leaf| pack(issuing.issue(leaf).chain().iter().map(AsRef::as_ref))).collect()
});
