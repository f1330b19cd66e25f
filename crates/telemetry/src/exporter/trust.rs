//! The series of what the control plane measures of trust.

use super::Page;
use crate::closed::{FetchOutcome, OcspOutcome};
use crate::metrics as catalogue;
use crate::trust::{CrlState, TrustState};

/// Adds them to the page. What is not known is absent.
pub(super) fn series(page: &mut Page, trust: &TrustState) {
    for client in &trust.clients {
        let labels = [client.bundle.as_str(), client.client.as_str()];
        page.gauge(&catalogue::CLIENT_CERTIFICATE_NOT_AFTER, &labels, client.not_after_unix as f64);
    }
    page.gauge(&catalogue::CLIENTS_KNOWN, &[], trust.clients_known as f64);
    page.gauge(&catalogue::DENY_LIST_ENTRIES, &[], trust.deny_list_entries as f64);
    for (bundle, crls) in &trust.crls {
        crl_series(page, bundle, crls);
    }
    for (responder, queries) in &trust.ocsp_queries {
        for outcome in OcspOutcome::ALL {
            page.counter(
                &catalogue::OCSP_QUERIES,
                &[responder, outcome.as_str()],
                queries[*outcome as usize],
            );
        }
    }
    page.gauge(&catalogue::OCSP_CACHE_ENTRIES, &[], trust.ocsp_cache_entries as f64);
    for (host, staple) in &trust.staples {
        if let Some((this_update_unix, next_update_unix)) = staple.updates_unix {
            page.gauge(&catalogue::STAPLE_THIS_UPDATE, &[host], this_update_unix as f64);
            page.gauge(&catalogue::STAPLE_NEXT_UPDATE, &[host], next_update_unix as f64);
        }
        page.counter(&catalogue::STAPLE_FAILURES, &[host], staple.failures);
    }
    for (tenant, until_unix) in &trust.suspended {
        page.gauge(&catalogue::REVOCATION_SUSPENDED, &[tenant], *until_unix as f64);
    }
    if let Some(since_unix) = trust.ticket_key_since_unix {
        page.gauge(&catalogue::TICKET_KEY_SINCE, &[], since_unix as f64);
        page.counter(&catalogue::TICKET_KEY_ROTATIONS, &[], trust.ticket_key_rotations);
    }
    if let Some(cache) = trust.session_cache {
        page.gauge(&catalogue::SESSION_CACHE_ENTRIES, &[], cache.entries as f64);
        page.gauge(&catalogue::SESSION_CACHE_BYTES, &[], cache.bytes as f64);
        page.counter(&catalogue::SESSION_CACHE_EVICTIONS, &[], cache.evictions);
    }
}

fn crl_series(page: &mut Page, bundle: &str, crls: &CrlState) {
    for outcome in FetchOutcome::ALL {
        let fetches = crls.fetches[*outcome as usize];
        page.counter(&catalogue::CRL_FETCHES, &[bundle, outcome.as_str()], fetches);
    }
    let Some(figures) = crls.figures else { return };
    page.gauge(&catalogue::CRL_ENTRIES, &[bundle], figures.entries as f64);
    for (metric, value) in [
        (&catalogue::CRL_THIS_UPDATE, figures.this_update_unix.map(|unix| unix as f64)),
        (&catalogue::CRL_NEXT_UPDATE, figures.next_update_unix.map(|unix| unix as f64)),
        (&catalogue::CRL_FETCH_HEALTHY, figures.fetch_healthy.map(|healthy| f64::from(u8::from(healthy)))),
    ] {
        if let Some(value) = value {
            page.gauge(metric, &[bundle], value);
        }
    }
}
