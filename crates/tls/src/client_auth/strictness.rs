//! Whether one validation section admits nobody whom another would refuse.
//!
//! Errs on the side of "no": rules that cannot be compared are not comparable.

use std::collections::HashSet;
use std::sync::Arc;

use super::{ClientAuthMode, ClientAuthOptions, TenantRules};
use crate::trust::TrustBundle;

/// True if `theirs` admits every client that `ours` admits.
pub(super) fn is_at_least_as_strict(ours: &ClientAuthOptions, theirs: &ClientAuthOptions) -> bool {
    use ClientAuthMode::{Optional, Required};
    // Off, observing and lenient hosts refuse nobody.
    if !matches!(theirs.mode, Optional | Required) {
        return true;
    }
    if !matches!(ours.mode, Optional | Required) {
        return false;
    }
    // Every field is named, so that a new one cannot be forgotten.
    let ClientAuthOptions {
        mode,
        trust,
        intermediates_max,
        require_eku,
        identity: _,
        tenants,
        max_auth_age,
        ocsp,
        revocation: _,
        clock: _,
    } = ours;
    (*mode == Required || theirs.mode == Optional)
        && trust_is_as_strict(trust, &theirs.trust)
        && *intermediates_max <= theirs.intermediates_max
        && (*require_eku || !theirs.require_eku)
        && tenants_are_as_strict(tenants.as_ref(), theirs.tenants.as_ref())
        && *max_auth_age <= theirs.max_auth_age
        && ocsp.mode >= theirs.ocsp.mode
}

fn tenants_are_as_strict(ours: Option<&TenantRules>, theirs: Option<&TenantRules>) -> bool {
    match (ours, theirs) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(ours), Some(theirs)) => {
            ours.map.digest() == theirs.map.digest()
                && (theirs.admitted.is_empty()
                    || (!ours.admitted.is_empty()
                        && ours.admitted.iter().all(|tenant| theirs.admitted.contains(tenant))))
        }
    }
}

/// True if `theirs` admits every chain that `ours` admits.
fn trust_is_as_strict(ours: &[Arc<TrustBundle>], theirs: &[Arc<TrustBundle>]) -> bool {
    let bindings = |trust: &[Arc<TrustBundle>]| -> HashSet<Option<String>> {
        trust.iter().map(|bundle| bundle.options().spiffe_trust_domain.clone()).collect()
    };
    let (our_bindings, their_bindings) = (bindings(ours), bindings(theirs));
    // An unbound bundle of ours admits leaves of every trust domain that is not bound here. One that is bound there is
    // judged by other bundles than those that it is compared with below.
    let unbound = our_bindings.contains(&None);
    let same_bundles = !unbound
        || their_bindings.iter().flatten().all(|domain| our_bindings.contains(&Some(domain.clone())));
    same_bundles
        && ours.iter().all(|bundle| theirs.iter().any(|other| bundle.is_at_least_as_strict_as(other)))
}
