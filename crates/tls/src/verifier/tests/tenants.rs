//! Tenants are applied to what verified, and never by way of the memo.

use ringward_identity::{IdentitySource, TenantDefinition, TenantMap, TenantMatch};

use super::*;
use crate::client_auth::TenantRules;

fn tenant(name: &str, trust: &[&str], matches: Vec<TenantMatch>) -> TenantDefinition {
    let trust = trust.iter().map(|name| (*name).to_owned()).collect();
    TenantDefinition { name: name.into(), trust, matches, identity: IdentitySource::CommonName }
}

fn unit(name: &str) -> Vec<TenantMatch> {
    vec![TenantMatch::OrganizationalUnit(name.to_owned())]
}

/// Two tenants below one CA.
fn map() -> Arc<TenantMap> {
    let tenants =
        vec![tenant("acme", &["partners"], unit("Acme")), tenant("bolt", &["partners"], unit("Bolt"))];
    Arc::new(TenantMap::build(tenants).unwrap())
}

fn host(root: &Ca, admitted: &[&str], memo: &PathMemo) -> Bench {
    let admitted = admitted.iter().map(|name| Arc::from(*name)).collect();
    let options = ClientAuthOptions {
        trust: vec![bundle("partners", &[root])],
        tenants: Some(TenantRules { map: map(), admitted }),
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    };
    Bench::under(&options, memo)
}

fn member(root: &Ca, unit: &str) -> Leaf {
    root.issue("alice", |p| p.distinguished_name.push(DnType::OrganizationalUnitName, unit))
}

#[test]
fn a_peer_belongs_to_the_tenant_that_claims_it() {
    let root = Ca::root("Root");
    let open = host(&root, &[], &PathMemo::new(16));
    let acme = open.admits(&member(&root, "Acme")).identity;
    assert_eq!((acme.tenant(), acme.identity()), (Some("acme"), "alice"));
    assert_eq!(open.admits(&member(&root, "Bolt")).identity.tenant(), Some("bolt"));
    assert_eq!(open.admits(&member(&root, "Other")).identity.tenant(), None);
    // Without tenants nobody has one.
    assert_eq!(Bench::new(&[&root]).admits(&member(&root, "Acme")).identity.tenant(), None);
}

#[test]
fn a_host_admits_its_tenants_only() {
    let root = Ca::root("Root");
    let host = host(&root, &["acme"], &PathMemo::new(16));
    host.admits(&member(&root, "Acme"));
    host.refuses(&member(&root, "Bolt"), Reason::NoTenant, "`bolt`");
    host.refuses(&member(&root, "Other"), Reason::NoTenant, "no tenant claims it");
    host.refuses(&root.issue("alice", |_| {}), Reason::NoTenant, "acme only");
}

#[test]
fn a_tenant_reads_one_name_or_none() {
    let root = Ca::root("Root");
    let nameless = || {
        root.issue("alice", |p| {
            p.distinguished_name = rcgen::DistinguishedName::new();
            p.distinguished_name.push(DnType::OrganizationalUnitName, "Acme");
        })
    };
    for admitted in [&[][..], &["acme"]] {
        host(&root, admitted, &PathMemo::new(16)).refuses(&nameless(), Reason::NoTenant, "common_name");
    }
}

#[test]
fn who_belongs_to_several_tenants_is_admitted_by_none() {
    let root = Ca::root("Root");
    let below = |name: &str| {
        let suffix = TenantMatch::SanDns(format!("*.{name}.example"));
        tenant(name, &["partners"], vec![suffix])
    };
    let map = Arc::new(TenantMap::build(vec![below("acme"), below("bolt")]).unwrap());
    let named = |names: [&str; 2]| {
        let names = names.map(|name| SanType::DnsName(name.to_owned().try_into().unwrap()));
        root.issue("alice", |p| p.subject_alt_names = names.to_vec())
    };
    for admitted in [&[][..], &["acme"], &["acme", "bolt"]] {
        let rules = TenantRules {
            map: map.clone(),
            admitted: admitted.iter().map(|name| Arc::from(*name)).collect(),
        };
        let options = ClientAuthOptions {
            trust: vec![bundle("partners", &[&root])],
            tenants: Some(rules),
            ..ClientAuthOptions::new(ClientAuthMode::Required)
        };
        let host = Bench::under(&options, &PathMemo::new(16));
        host.admits(&named(["a.acme.example", "b.acme.example"]));
        for names in [["a.acme.example", "a.bolt.example"], ["a.bolt.example", "a.acme.example"]] {
            host.refuses(&named(names), Reason::AmbiguousTenant, "acme, bolt");
        }
    }
}

#[test]
fn no_memo_admits_one_tenants_chain_to_another() {
    let root = Ca::root("Root");
    let memo = PathMemo::new(16);
    let (acme, bolt, any) =
        (host(&root, &["acme"], &memo), host(&root, &["bolt"], &memo), host(&root, &[], &memo));
    let chain = member(&root, "Acme");
    acme.admits(&chain);
    assert_eq!(memo.len(), 1);
    bolt.refuses(&chain, Reason::NoTenant, "`acme`");
    any.admits(&chain);
    assert_eq!(memo.len(), 2, "each context remembers for itself");
    bolt.refuses(&chain, Reason::NoTenant, "`acme`");
    // The same bundle under a host without tenants, and under another name, neither borrows the membership.
    let plain = ClientAuthOptions {
        trust: vec![bundle("partners", &[&root])],
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    };
    assert_eq!(Bench::under(&plain, &memo).admits(&chain).identity.tenant(), None);
    let renamed = ClientAuthOptions {
        trust: vec![bundle("others", &[&root])],
        tenants: Some(TenantRules { map: map(), admitted: vec!["acme".into()] }),
        ..plain
    };
    Bench::under(&renamed, &memo).refuses(&chain, Reason::NoTenant, "no tenant claims it");
}

#[test]
fn a_tenant_owns_what_its_own_bundle_admitted() {
    // Two CAs that issue alike, one for each tenant; the chain decides, not what it says.
    let (a, b) = (Ca::root("A"), Ca::root("B"));
    let tenants = vec![tenant("acme", &["a"], vec![]), tenant("bolt", &["b"], vec![])];
    let options = ClientAuthOptions {
        trust: vec![bundle("a", &[&a]), bundle("b", &[&b])],
        tenants: Some(TenantRules { map: Arc::new(TenantMap::build(tenants).unwrap()), admitted: vec![] }),
        ..ClientAuthOptions::new(ClientAuthMode::Required)
    };
    let bench = Bench::under(&options, &PathMemo::new(16));
    assert_eq!(bench.admits(&a.issue("alice", |_| {})).identity.tenant(), Some("acme"));
    assert_eq!(bench.admits(&b.issue("alice", |_| {})).identity.tenant(), Some("bolt"));
}
