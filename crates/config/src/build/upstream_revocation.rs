//! Revocation lists for the certificates of upstreams: where they are, and what they mean.

use super::context::Context;
use super::section;
use super::trust::paths;
use crate::bounds;
use crate::model::{CrlMode, NamedPath, RevocationDepth, UpstreamRevocation};
use crate::raw;

/// The lists, who else may have signed them, and what they mean.
pub(super) fn upstream_revocation(
    cx: &mut Context<'_>,
    raw: &raw::UpstreamTls,
) -> (Vec<NamedPath>, Vec<NamedPath>, UpstreamRevocation) {
    let crl = paths(cx, "crl", &raw.crl);
    let crl_issuers = paths(cx, "crl_issuers", &raw.crl_issuers);
    let (rules, _) = section(cx, &raw.revocation);
    let lists = raw.crl.span();
    if let Some(span) = &lists {
        cx.needs_state_dir(span, "`crl`", "the highest number of each list is kept in it");
    }
    let default = if lists.is_some() { CrlMode::Required } else { CrlMode::Off };
    let mode = cx.value_or(&rules.crl, default);
    match (lists.is_some(), mode, rules.crl.span()) {
        (true, CrlMode::Off, Some(span)) => cx
            .error(&span, "crl is \"off\", but `crl` of `tls` names revocation lists")
            .help("leave one of them away: lists that are not looked at protect nobody"),
        (false, CrlMode::Required | CrlMode::IfPresent, Some(span)) => cx
            .error(&span, format!("crl is \"{}\", but no revocation list is named", mode.as_str()))
            .help("add crl = [\"FILE-OR-DIRECTORY\"] to the `tls` of the cluster"),
        _ => {}
    }
    if lists.is_none() {
        refuse_without_lists(cx, raw, &rules);
    }
    let revocation = UpstreamRevocation {
        crl: mode,
        stale: cx.duration_or_word("stale", &rules.stale, "deny", &bounds::CRL_STALE),
        crl_bytes_max: cx.size("crl_bytes_max", &rules.crl_bytes_max, &bounds::CRL_BYTES_MAX),
        depth: cx.value_or(&rules.depth, RevocationDepth::Chain),
    };
    (crl, crl_issuers, revocation)
}

/// Whoever writes how lists are used expects that there are some.
fn refuse_without_lists(cx: &mut Context<'_>, raw: &raw::UpstreamTls, rules: &raw::UpstreamRevocation) {
    let given = [
        ("crl_issuers", raw.crl_issuers.span()),
        ("stale", rules.stale.span()),
        ("crl_bytes_max", rules.crl_bytes_max.span()),
        ("depth", rules.depth.span()),
    ];
    for (key, span) in given {
        if let Some(span) = span {
            cx.error(&span, format!("`{key}` has no effect: the cluster has no revocation lists"))
                .help("leave it away, or add crl = [\"FILE-OR-DIRECTORY\"] to the `tls` of the cluster");
        }
    }
}
