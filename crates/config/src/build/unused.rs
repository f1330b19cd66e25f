//! Parts of a good file that have no effect: what they are for is not asked for anywhere.

use std::collections::BTreeMap;

use super::context::Context;
use crate::model::{Host, Listener, OcspMode, Resumption, Tenant, Trust};
use crate::raw::{self, Field};

/// Warns of them. Names that nothing refers to are known elsewhere.
pub(super) fn warn(
    cx: &mut Context<'_>,
    file: &raw::File,
    trust: &BTreeMap<String, Trust>,
    tenants: &BTreeMap<String, Tenant>,
    listeners: &[Listener],
) {
    let hosts = || listeners.iter().flat_map(|listener| &listener.hosts);
    for tenant in tenants.values().filter(|tenant| !hosts().any(|host| verifies(host, &tenant.trust))) {
        let message = format!("the tenant {:?} is not used: no host trusts a bundle of its own", tenant.name);
        cx.warning_at(tenant.at.clone(), message);
    }
    for bundle in trust.values().filter(|bundle| bundle.has_ocsp()) {
        let used = hosts().filter(|host| verifies(host, std::slice::from_ref(&bundle.name)));
        let used: Vec<&Host> = used.collect();
        if !used.is_empty() && !used.into_iter().any(asks_ocsp) {
            let message = format!("no OCSP responder is asked about clients of the bundle {:?}", bundle.name);
            cx.warning_at(bundle.at.clone(), message)
                .help("add ocsp = \"soft_fail\" or \"hard_fail\" to client_auth of a host that trusts it");
        }
    }
    let resumes = |how| listeners.iter().any(|listener| listener.resumption == how);
    let ring = file.keys.value().and_then(|keys| keys.file.span());
    if let Some(span) = ring.filter(|_| !resumes(Resumption::Tickets)) {
        cx.warning(&span, "the key ring is not used: no listener has resumption = \"tickets\"");
    }
    let cache = file.server.value().map(|server| &server.session_cache).and_then(Field::span);
    if let Some(span) = cache.filter(|_| !resumes(Resumption::Cache)) {
        cx.warning(&span, "the session cache is not used: no listener has resumption = \"cache\"");
    }
}

fn verifies(host: &Host, bundles: &[String]) -> bool {
    host.client_auth
        .verification()
        .is_some_and(|verification| bundles.iter().any(|bundle| verification.trust.contains(bundle)))
}

fn asks_ocsp(host: &Host) -> bool {
    let inherited = host.client_auth.verification().map(|verification| verification.ocsp);
    let routes = host.routes.iter().map(|route| route.ocsp);
    routes.chain(inherited).any(|ocsp| ocsp != OcspMode::Off)
}
