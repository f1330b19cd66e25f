//! Whether a proxy does what is to be measured. One that serves without a certificate is fast for a bad reason.

use serde::Serialize;

use super::bench::{Bench, Candidate, LoadReport, Serving, Trouble};
use super::pki::Client;

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Seen {
    pub(super) what: &'static str,
    pub(super) right: bool,
    /// What the proxy did.
    pub(super) seen: String,
}

/// What a client is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Served,
    /// Status 403.
    Denied,
    /// No answer of the upstream's, whatever else.
    NotServed,
}

struct Check {
    what: &'static str,
    client: Option<Client>,
    path: &'static str,
    more: &'static str,
    wanted: Wanted,
}

/// Tries a proxy with or without its policy.
pub(super) async fn probe(bench: &Bench, candidate: &Candidate, policy: bool) -> Result<Vec<Seen>, Trouble> {
    let serving = Serving::start(bench, candidate, policy).await?;
    let mut all = Vec::new();
    for check in CHECKS.iter().chain(if policy { POLICY_CHECKS } else { OPEN_CHECKS }) {
        all.push(check.carry_out(bench, &serving).await?);
    }
    serving.stop().await;
    Ok(all)
}

impl Check {
    async fn carry_out(&self, bench: &Bench, serving: &Serving) -> Result<Seen, Trouble> {
        let Check { what, client, path, more, wanted } = *self;
        let status = if wanted == Wanted::Denied { 403 } else { 200 };
        let arguments = format!(
            "--connections 1 --requests 1 --timeout 10 --path {path} --expect-status {status} --expect-bytes any {more}"
        );
        let report = bench.load(serving, client, &arguments).await?;
        let LoadReport { right, statuses, failures, .. } = &report;
        let is_right = match wanted {
            Wanted::Served | Wanted::Denied => *right > 0,
            Wanted::NotServed => *right == 0 && !statuses.keys().any(|status| (200..300).contains(status)),
        };
        let seen = match (statuses.keys().next(), failures.keys().next()) {
            (Some(status), _) => format!("status {status}"),
            (None, Some(kind)) => format!("failed: {kind}"),
            (None, None) => "nothing".to_owned(),
        };
        Ok(Seen { what, right: is_right, seen })
    }
}

const fn check(what: &'static str, client: Option<Client>, path: &'static str, wanted: Wanted) -> Check {
    Check { what, client, path, more: "", wanted }
}

const CHECKS: &[Check] = &[
    Check { more: "--tls-version 1.3", ..check("TLS 1.3", Some(Client::A), "/api/x", Wanted::Served) },
    Check { more: "--tls-version 1.2", ..check("TLS 1.2", Some(Client::A), "/api/x", Wanted::Served) },
    Check { more: "--http2", ..check("HTTP/2", Some(Client::A), "/api/x", Wanted::Served) },
    check("no certificate", None, "/api/x", Wanted::NotServed),
    Check { more: "--http2", ..check("no certificate, HTTP/2", None, "/api/x", Wanted::NotServed) },
    check("expired certificate", Some(Client::Expired), "/api/x", Wanted::NotServed),
    check("certificate of a stranger", Some(Client::Stranger), "/api/x", Wanted::NotServed),
    Check {
        more: "--tls-version 1.2",
        ..check("no certificate, TLS 1.2", None, "/api/x", Wanted::NotServed)
    },
];
const OPEN_CHECKS: &[Check] = &[check("no policy", Some(Client::B), "/other", Wanted::Served)];
const POLICY_CHECKS: &[Check] = &[
    check("policy: client-a, /big/", Some(Client::A), "/big/x", Wanted::Served),
    check("policy: client-a, /upload", Some(Client::A), "/upload", Wanted::Served),
    check("policy: client-a, /public/", Some(Client::A), "/public/x", Wanted::Denied),
    check("policy: client-a, /", Some(Client::A), "/", Wanted::Denied),
    check("policy: client-b, /public/", Some(Client::B), "/public/x", Wanted::Served),
    check("policy: client-b, /api/", Some(Client::B), "/api/x", Wanted::Denied),
    Check {
        more: "--http2",
        ..check("policy: client-b, /api/, HTTP/2", Some(Client::B), "/api/x", Wanted::Denied)
    },
];
