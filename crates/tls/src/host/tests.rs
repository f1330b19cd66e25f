use super::*;
use crate::testing::{Ca, ManualClock, NOW, Pki, bundle, date};

fn options(mode: ClientAuthMode) -> HostTlsOptions {
    HostTlsOptions::new(mode)
}

#[test]
fn client_authentication_needs_someone_to_trust() {
    let credential = Pki::new().server.credential();
    for mode in [ClientAuthMode::Optional, ClientAuthMode::Required] {
        let error = HostTls::build(&options(mode), credential.clone(), None).unwrap_err();
        assert!(matches!(error, TlsBuildError::NoTrust));
    }
    let host = HostTls::build(&options(ClientAuthMode::Off), credential, None).unwrap();
    assert_eq!(host.mode(), ClientAuthMode::Off);
    assert!(host.trust().is_none());
}

#[test]
fn nothing_is_resumed_and_nothing_flows_early() {
    let pki = Pki::new();
    for mode in [ClientAuthMode::Off, ClientAuthMode::Optional, ClientAuthMode::Required] {
        let worker = pki.worker(mode);
        let config = &worker.host().config;
        assert!(!config.ticketer.enabled());
        assert!(!config.session_storage.can_cache());
        assert_eq!((config.send_tls13_tickets, config.max_tls13_tickets), (0, 0));
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.send_half_rtt_data && !config.enable_secret_extraction);
        assert_eq!(config.alpn_protocols, [b"http/1.1", b"http/1.0"]);
    }
}

#[test]
fn provider_prefers_the_hybrid_group_and_offers_tls_13_suites_only() {
    let provider = provider();
    assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(provider.cipher_suites.len(), 3);
    assert!(provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
}

#[test]
fn policy_digest_changes_with_every_validation_setting() {
    let pki = Pki::new();
    let (a, b) = (bundle("partners", &[&Ca::root("A")]), bundle("partners", &[&Ca::root("B")]));
    let digest = |options: &HostTlsOptions, trust: &Arc<TrustBundle>| {
        *pki.host_with(options, trust.clone()).policy_digest()
    };
    let base = options(ClientAuthMode::Required);
    let variants = [
        ("base", digest(&base, &a)),
        ("optional", digest(&options(ClientAuthMode::Optional), &a)),
        ("off", digest(&options(ClientAuthMode::Off), &a)),
        ("trust", digest(&base, &b)),
        ("intermediates", digest(&HostTlsOptions { intermediates_max: 3, ..base.clone() }, &a)),
        ("eku", digest(&HostTlsOptions { require_eku: false, ..base.clone() }, &a)),
    ];
    for (index, (name, one)) in variants.iter().enumerate() {
        for (other_name, other) in &variants[..index] {
            assert_ne!(one, other, "{name} and {other_name}");
        }
    }
}

#[test]
fn policy_digest_ignores_what_does_not_decide_about_admission() {
    let pki = Pki::new();
    let root = Ca::root("A");
    let trust = bundle("partners", &[&root]);
    let base = options(ClientAuthMode::Required);
    let host = pki.host_with(&base, trust.clone());
    let other_server = pki.server_ca.issue_server(&["other.example.com"], |_| {});
    let clock = ManualClock::new();
    let same = HostTls::build(
        &HostTlsOptions { clock, ..base.clone() },
        other_server.credential(),
        Some(bundle("other name", &[&root])),
    );
    assert_eq!(host.policy_digest(), same.unwrap().policy_digest());
    let off = |trust| {
        *HostTls::build(&options(ClientAuthMode::Off), pki.server.credential(), trust)
            .unwrap()
            .policy_digest()
    };
    assert_eq!(off(None), off(Some(trust)));
}

#[test]
fn memo_context_depends_on_everything_that_a_remembered_verdict_holds() {
    let pki = Pki::new();
    let root = Ca::root("A");
    let key = || rcgen::KeyPair::from_pem(&root.0.key().serialize_pem()).unwrap();
    let renewed = Ca::root_with_key("A", key(), |p| p.not_after = date(NOW + 10));
    let base = options(ClientAuthMode::Required);
    let context = |options: &HostTlsOptions, ca: &Ca| {
        let host = pki.host_with(options, bundle("partners", &[ca]));
        (*host.policy_digest(), host.auth.as_ref().unwrap().memo_context)
    };
    let (policy, memo) = context(&base, &root);
    assert_eq!((policy, memo), context(&base, &root));
    // A CA renewed with its key admits the same clients, but until another day.
    let (same_policy, other_memo) = context(&base, &renewed);
    assert_eq!(policy, same_policy);
    assert_ne!(memo, other_memo);
    // What is read into an identity decides about nobody, but the identity would be another.
    let identity = IdentityOptions { chain_header_bytes_max: 1, ..IdentityOptions::default() };
    let (same_policy, other_memo) = context(&HostTlsOptions { identity, ..base.clone() }, &root);
    assert_eq!(policy, same_policy);
    assert_ne!(memo, other_memo);
    let (other_policy, other_memo) = context(&HostTlsOptions { require_eku: false, ..base }, &root);
    assert_ne!(policy, other_policy);
    assert_ne!(memo, other_memo);
}

#[test]
fn strictness_is_about_whom_a_host_admits() {
    use ClientAuthMode::{Off, Optional, Required};
    let pki = Pki::new();
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let (only_a, only_b, both) = (bundle("a", &[&a]), bundle("b", &[&b]), bundle("ab", &[&a, &b]));
    let host = |mode, trust: &Arc<TrustBundle>, edit: &dyn Fn(&mut HostTlsOptions)| {
        let mut options = options(mode);
        edit(&mut options);
        pki.host_with(&options, trust.clone())
    };
    let plain = |mode, trust| host(mode, trust, &|_| {});
    let more = |o: &mut HostTlsOptions| o.intermediates_max = 5;
    let lax = |o: &mut HostTlsOptions| o.require_eku = false;
    let cases = [
        (plain(Required, &only_a), plain(Required, &only_a), true),
        (plain(Required, &only_a), plain(Optional, &only_a), true),
        (plain(Required, &only_a), plain(Off, &only_a), true),
        (plain(Required, &only_a), plain(Required, &both), true),
        (plain(Required, &both), plain(Required, &only_a), false),
        (plain(Required, &only_a), plain(Required, &only_b), false),
        (plain(Required, &only_b), plain(Optional, &only_a), false),
        (plain(Optional, &only_a), plain(Required, &only_a), false),
        (plain(Optional, &only_a), plain(Optional, &only_a), true),
        (plain(Optional, &only_a), plain(Off, &only_a), true),
        (plain(Off, &only_a), plain(Optional, &only_a), false),
        (plain(Off, &only_a), plain(Required, &only_a), false),
        (plain(Off, &only_a), plain(Off, &only_b), true),
        (host(Required, &only_a, &more), plain(Required, &only_a), false),
        (plain(Required, &only_a), host(Required, &only_a, &more), true),
        (host(Required, &only_a, &lax), plain(Required, &only_a), false),
        (plain(Required, &only_a), host(Required, &only_a, &lax), true),
    ];
    for (index, (one, other, expected)) in cases.iter().enumerate() {
        assert_eq!(one.is_at_least_as_strict_as(other), *expected, "case {index}");
        if one.policy_digest() == other.policy_digest() {
            assert!(one.is_at_least_as_strict_as(other) && other.is_at_least_as_strict_as(one));
        }
    }
}

#[test]
fn version_in_the_digest_is_the_pinned_one() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let pin = format!("rustls = {{ version = \"={RUSTLS_VERSION}\"");
    assert!(manifest.lines().any(|line| line.starts_with(&pin)), "the pinned rustls is not {RUSTLS_VERSION}");
}
