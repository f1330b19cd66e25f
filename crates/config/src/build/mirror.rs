//! `mirror` of a route.

use serde_spanned::Spanned;

use super::context::Context;
use super::host::Defaults;
use super::{References, grpc};
use crate::bounds;
use crate::model::{Action, Mirror};
use crate::raw::{self, Field};

/// Where copies of the requests of a route go that does `action`; a route that answers by itself was refused to have any. `grpc` is
/// what calls it takes.
pub(super) fn mirror(
    cx: &mut Context<'_>,
    field: &Field<raw::Mirror>,
    action: &Action,
    grpc: Option<&Spanned<String>>,
    references: &mut References,
    defaults: &Defaults<'_>,
) -> Option<Mirror> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    let name = cx.required("cluster", "cluster = \"NAME\"", &raw.cluster, &span);
    let percent = cx.number("percent", &raw.percent, &bounds::MIRROR_PERCENT);
    let timeout = cx.duration("timeout", &raw.timeout, &bounds::MIRROR_TIMEOUT);
    let body_held_max = cx.size("body_held_max", &raw.body_held_max, &bounds::MIRROR_BODY_HELD_MAX);
    let requests_max = cx.number("requests_max", &raw.requests_max, &bounds::MIRROR_REQUESTS_MAX);
    let name = name?;
    let cluster = references.cluster.resolve(cx, name)?;
    if action.clusters().any(|own| own == cluster) {
        cx.error(&name.span(), format!("the requests of this route go to \"{cluster}\" already")).help(
            "a mirror is another cluster: one that gets a request and its copy would do everything twice",
        );
    }
    if let Some(text) = grpc {
        grpc::warn_over_http1(cx, text, &cluster, defaults.clusters);
    }
    let is_plain = |name: &str| defaults.clusters.get(name).map(|cluster| cluster.tls.is_none());
    if is_plain(&cluster) == Some(true) && action.clusters().all(|own| is_plain(own) == Some(false)) {
        let message = format!(
            "copies go to \"{cluster}\" without TLS, while the requests themselves go to their cluster with TLS"
        );
        cx.warning(&name.span(), message)
            .help(format!("add tls to [cluster.{cluster}]: copies have all that clients send and prove"));
    }
    Some(Mirror {
        cluster,
        percent: u8::try_from(percent).unwrap_or(100),
        timeout,
        body_held_max,
        requests_max,
    })
}
