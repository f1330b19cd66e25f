//! Puts together what `trust status` says.

use std::collections::HashMap;

use ringward_proxy::LivePeer;
use ringward_tls::TrustBundle;
use rustls::pki_types::UnixTime;

use super::status::{BundleStatus, CaStatus, CrlStatus, KeysStatus, LAYOUT, TenantStatus, TrustStatus};
use super::{Reports, TrustState, deny, keys as ring};
use crate::load::Loaded;
use crate::{hex, version};

/// Where it is taken from.
pub(super) struct Facts<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) state: &'a TrustState,
    pub(super) reports: &'a Reports,
    pub(super) generation: u64,
    pub(super) now: UnixTime,
    /// Open connections, if the workers said so in time.
    pub(super) peers: Option<&'a [LivePeer]>,
}

/// Everything that decides whom a process trusts.
pub(super) fn status(facts: &Facts<'_>) -> TrustStatus {
    let Facts { loaded, state, reports, generation, now, peers } = *facts;
    let now_unix = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let bundles = loaded.config.trust.values().filter_map(|trust| {
        let bundle = loaded.materials.trust.get(&trust.name)?;
        let connections = peers.map(|peers| {
            let of_bundle =
                |peer: &&LivePeer| peer.path.as_ref().is_some_and(|path| *path.bundle == *trust.name);
            peers.iter().filter(of_bundle).count()
        });
        let quarantined = loaded.quarantined.get(&trust.name).cloned().unwrap_or_default();
        Some(bundle_status(bundle, quarantined, connections))
    });
    let mut by_tenant: HashMap<&str, usize> = HashMap::new();
    for tenant in peers.into_iter().flatten().filter_map(|peer| peer.peer.as_ref()?.tenant()) {
        *by_tenant.entry(tenant).or_default() += 1;
    }
    let tenants = loaded.config.tenants.values().map(|tenant| TenantStatus {
        name: tenant.name.clone(),
        revocation_suspended_until_unix: tenant
            .danger_suspend_revocation_until_unix
            .filter(|until| now_unix < *until),
        connections: peers.map(|_| by_tenant.get(tenant.name.as_str()).copied().unwrap_or(0)),
    });
    TrustStatus {
        layout: LAYOUT,
        ringward: version::VERSION.to_owned(),
        now_unix,
        generation,
        bundles: bundles.collect(),
        crls: loaded.list_status.iter().chain(&reports.crls).cloned().collect::<Vec<CrlStatus>>(),
        ocsp: reports.ocsp.clone(),
        deny_entries: state.deny.len(),
        deny_digest: deny::digest(&state.deny),
        staples: reports.staples.clone(),
        keys: keys(loaded, state, now),
        tenants: tenants.collect(),
        connections: peers.map(<[LivePeer]>::len),
    }
}

/// The keys in force.
pub(super) fn keys(loaded: &Loaded, state: &TrustState, now: UnixTime) -> KeysStatus {
    let file = loaded.config.keys.file.as_ref().map(|named| named.path.as_path());
    ring::status(&state.key_ring(loaded), file, now)
}

fn bundle_status(bundle: &TrustBundle, quarantined: Vec<String>, connections: Option<usize>) -> BundleStatus {
    let cas = bundle.anchors().iter().map(|anchor| CaStatus {
        subject: anchor.subject.clone(),
        fingerprint_sha256: hex::encode(&anchor.fingerprint_sha256),
        not_before_unix: anchor.not_before_unix,
        not_after_unix: anchor.not_after_unix,
        file: anchor.file.display().to_string(),
    });
    BundleStatus {
        name: bundle.name().to_string(),
        digest: hex::encode(bundle.digest()),
        spiffe_trust_domain: bundle.options().spiffe_trust_domain.clone(),
        cas: cas.collect(),
        quarantined,
        connections,
    }
}
