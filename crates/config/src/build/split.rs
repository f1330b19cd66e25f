//! `split` of a route.

use serde_spanned::Spanned;

use super::References;
use super::context::Context;
use super::endpoints::hash_key;
use crate::bounds;
use crate::model::{Action, ClientAuthMode, HashKey, Split};
use crate::raw;

/// Refuses to divide clients by what a route that wants `client_auth` of them never knows.
pub(super) fn check_key(
    cx: &mut Context<'_>,
    raw: &raw::Route,
    action: &Action,
    client_auth: ClientAuthMode,
) {
    let Action::Split(Split { by: Some(HashKey::Identity(_)), .. }) = action else { return };
    let span = raw.split.value().and_then(|split| split.by.span());
    if let (false, Some(span)) = (client_auth.identifies(), span) {
        let mode = client_auth.as_str();
        cx.error(
            &span,
            format!("`by` asks who the client is, and client_auth is \"{mode}\" here, which knows nobody"),
        )
        .help("write client_auth = \"required\" or \"optional\" in the route, or another property");
    }
}

/// How a route divides its requests.
pub(super) fn split(
    cx: &mut Context<'_>,
    raw: &Spanned<raw::Split>,
    references: &mut References,
) -> Option<Split> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let by = cx.given(&raw.by).and_then(|by| hash_key(cx, by.get_ref()));
    let weights =
        cx.required("weights", "weights = { orders = 95, orders-next = 5 }", &raw.weights, &span)?;
    let mut parts = Vec::new();
    for (name, weight) in weights.get_ref() {
        let weight = cx.number(name.get_ref(), weight, &bounds::SPLIT_WEIGHT);
        let cluster = references.cluster.resolve(cx, name);
        parts.extend(cluster.map(|cluster| (cluster, u32::try_from(weight).unwrap_or(u32::MAX))));
    }
    let count = weights.get_ref().len();
    if !bounds::SPLIT_CLUSTERS.contains(&count) {
        let (min, max) = (bounds::SPLIT_CLUSTERS.start(), bounds::SPLIT_CLUSTERS.end());
        cx.error(&weights.span(), format!("`weights` has {count} clusters: from {min} to {max} are allowed"))
            .help("for one cluster write cluster = \"NAME\"");
    } else if parts.len() == count && parts.iter().all(|(_, weight)| *weight == 0) {
        cx.error(&weights.span(), "`weights` are all 0, so that no cluster would get a request");
    }
    Some(Split { parts, by })
}
