//! `upstream_certificate` of a route: as whom its requests go upstream.

use super::context::Context;
use super::host::Defaults;
use super::upstream_tls::certificate;
use crate::model::{Action, ClientCertificate, Mirror};
use crate::raw;

/// The certificate, if the route that does `action` has one; a route that answers by itself was refused to have any.
pub(super) fn of_route(
    cx: &mut Context<'_>,
    raw: &raw::Route,
    action: &Action,
    mirror: Option<&Mirror>,
    defaults: &Defaults<'_>,
) -> Option<ClientCertificate> {
    let given = cx.given(&raw.upstream_certificate)?;
    let certificate = certificate(cx, given);
    let clusters = action.clusters().chain(mirror.map(|mirror| mirror.cluster.as_str()));
    for name in clusters {
        // Of a cluster that is broken, which was reported, nothing is known.
        if defaults.clusters.get(name).is_some_and(|cluster| cluster.tls.is_none()) {
            let message = format!(
                "`upstream_certificate` has no effect on the way to \"{name}\": the cluster has no `tls`, and nobody is shown a certificate"
            );
            cx.error(&given.span(), message)
                .help(format!("add tls = {{ ca = \"FILE\" }} to [cluster.{name}], or leave the key away"));
        }
    }
    certificate.filter(|_| action.clusters().next().is_some())
}
