//! Identities that load balancers forward, and what they do not go together with.

use super::References;
use super::conditions;
use super::context::Context;
use crate::bounds;
use crate::model::{ClientAuth, ForwardedIdentity, ForwardedIdentityHeader, OcspMode, Route};
use crate::raw::{self, Field, ForwardedIdentityOthers};
use crate::routes::condition::Conditions;

/// `forwarded_identity` of a host with these routes, whose handshake wants `client_auth`; `None` for that if it is broken, which
/// was reported.
pub(super) fn forwarded_identity(
    cx: &mut Context<'_>,
    field: &Field<raw::ForwardedIdentity>,
    client_auth: Option<&ClientAuth>,
    routes: &[Route],
    references: &mut References,
) -> Option<ForwardedIdentity> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    let example = "from = { san_uri = \"spiffe://example.com/edge\" }, the load balancers";
    let from = cx.required("from", example, &raw.from, &span).map(|list| {
        let (written, allowed) = (list.get_ref().0.len(), bounds::FORWARDERS);
        if !allowed.contains(&written) {
            let (min, max) = (allowed.start(), allowed.end());
            cx.error(&list.span(), format!("`from` has {written} entries: from {min} to {max} are allowed"));
        }
        let mut from = Vec::new();
        for item in &list.get_ref().0 {
            let Some(item) = cx.given(item) else { continue };
            let mut conditions = Conditions::default();
            conditions::of_identity(cx, "from", item, references, &mut conditions);
            from.push(conditions);
        }
        from
    });
    let trust = cx.given(&raw.trust).map(|list| {
        cx.names("trust", list, bounds::TRUST_BUNDLES, |cx, name| references.trust.resolve(cx, name))
    });
    let header = cx.value_or(&raw.header, ForwardedIdentityHeader::ClientCert);
    let others = cx.value_or(&raw.others, ForwardedIdentityOthers::Strip);
    let client_auth = client_auth?;
    let Some(verification) =
        client_auth.verification().filter(|_| routes.iter().any(|route| route.client_auth.identifies()))
    else {
        cx.error(&span, "`forwarded_identity` has no effect: this host knows no client by a certificate")
            .help("write client_auth = { mode = \"required\", trust = \"NAME\" }, or leave it away");
        return None;
    };
    if routes.iter().any(|route| route.ocsp != OcspMode::Off) {
        cx.error(&span, "OCSP responders cannot be asked about the certificates of `forwarded_identity`")
            .help("leave ocsp away here, and have the trust bundles use revocation lists (crl)");
    }
    if routes.iter().any(|route| route.tunnel.is_some()) {
        cx.error(&span, "a route with `upgrade` cannot be beside `forwarded_identity`").help(
            "put it on a host without: a tunnel would outlive the trust in a client that is not its connection's",
        );
    }
    Some(ForwardedIdentity {
        from: from?,
        header,
        trust: trust.unwrap_or_else(|| verification.trust.clone()),
        refuses_others: others == ForwardedIdentityOthers::Refuse,
    })
}
