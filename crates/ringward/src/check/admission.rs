//! `check --cert FILE`: what would become of a client that shows this certificate.
//!
//! The certificate is judged by the code that judges it in a handshake, and requests by the policies as they were
//! loaded. That the client holds the key is taken for granted.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringward_config::{Host, Listener, Methods, PathPattern, Route, Segment};
use ringward_identity::{Assignment, PeerIdentity};
use ringward_policy::{
    BodyView, ConnectionView, Decision, DecisionError, HeaderSource, Reply, RequestView, RouteView, Subject,
    combine,
};
use ringward_proxy::Snapshot;
use ringward_tls::{HostTls, PathMemo, PeerPath, Sightings};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::path::VerifiedPath;
use crate::commands::read_chain;
use crate::failure::Failure;
use crate::load::Loaded;

/// What would become of one client.
#[derive(Debug, Serialize)]
pub(crate) struct Admission {
    file: String,
    hosts: Vec<HostAdmission>,
}

#[derive(Debug, Serialize)]
struct HostAdmission {
    listener: String,
    host: String,
    /// Whether there would be a connection.
    admitted: bool,
    /// Why not.
    refusal: Option<String>,
    /// Nobody, if the host asks for no certificate.
    identity: Option<Claims>,
    /// What vouches for it, also if it is refused for something else.
    path: Option<VerifiedPath>,
    requests: Vec<Sample>,
}

/// What policies get to see, the parts that tell people who it is.
#[derive(Debug, Serialize)]
struct Claims {
    /// Within its tenant, or in general if it has none.
    identity: String,
    tenant: Option<String>,
    /// The condition by which it is this tenant's; absent if every client of the bundle is.
    tenant_rule: Option<String>,
    name: String,
    subject: String,
    issuer: String,
    serial: String,
    fingerprint_sha256: String,
    spiffe_id: Option<String>,
    san_uris: Vec<String>,
    san_dns: Vec<String>,
    san_emails: Vec<String>,
    not_after_unix: i64,
}

/// A request that was made up, and what would be decided about it.
#[derive(Debug, Serialize)]
struct Sample {
    route: String,
    method: String,
    path: String,
    /// `allowed`, `denied`, `undefined`, `error`, `asks_server` if a server would decide, which is not asked now, or `no_policy`.
    decision: &'static str,
    /// The policy that decided: of several the first that does not allow, or else the last.
    policy: Option<String>,
    rule: Option<String>,
    detail: Option<String>,
}

impl Admission {
    /// Of the client whose certificate is in `file`: PEM, the leaf first.
    ///
    /// # Errors
    /// If there is no certificate in it.
    pub(crate) fn of(file: &Path, loaded: &Loaded, snapshot: &Snapshot) -> Result<Admission, Failure> {
        let chain =
            read_chain(file).map_err(|reason| Failure::Usage(format!("`{}` {reason}", file.display())))?;
        let mut hosts = Vec::new();
        for listener in &loaded.config.listeners {
            for index in 0..listener.hosts.len() {
                hosts.push(admission(listener, index, &chain, loaded, snapshot));
            }
        }
        Ok(Admission { file: file.display().to_string(), hosts })
    }

    /// Whether a host knows it as a client of this bundle and tenant.
    pub(crate) fn is_client_of(&self, bundle: &str, tenant: &str) -> bool {
        self.hosts.iter().any(|host| {
            let tenant_of = host.identity.as_ref().and_then(|claims| claims.tenant.as_deref());
            host.admitted
                && tenant_of == Some(tenant)
                && host.path.as_ref().is_some_and(|path| path.bundle() == bundle)
        })
    }

    /// Why hosts refuse it, each with its name.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().filter_map(|host| Some((host.host.as_str(), host.refusal.as_deref()?)))
    }
}

fn admission(
    listener: &Listener,
    index: usize,
    chain: &[CertificateDer<'static>],
    loaded: &Loaded,
    snapshot: &Snapshot,
) -> HostAdmission {
    let host = &listener.hosts[index];
    let mut result = HostAdmission {
        listener: listener.name.clone(),
        host: host.names[0].to_string(),
        admitted: false,
        refusal: None,
        identity: None,
        path: None,
        requests: Vec::new(),
    };
    let Some(tls) = snapshot.host_tls(&listener.name, index) else { return result };
    let Verified { client, path } = verify(tls, chain);
    result.path = path.as_deref().map(|path| VerifiedPath::of(path, loaded));
    match client {
        Err(refusal) => result.refusal = Some(refusal),
        Ok(identity) => {
            result.admitted = true;
            result.requests = host
                .routes
                .iter()
                .filter(|route| route.conditions.are_met_by_client(identity.as_deref()))
                .map(|route| sample(listener, host, route, identity.as_deref(), loaded))
                .collect();
            result.identity = identity.as_deref().map(|peer| Claims::of(peer, path.as_deref(), loaded));
        }
    }
    result
}

/// What the handshake of a host makes of a chain.
pub(crate) struct Verified {
    /// The client, nobody if the host asks for no certificate, or why it is refused.
    pub(crate) client: Result<Option<Arc<PeerIdentity>>, String>,
    /// The path by which it was verified, also if it is refused for something else.
    path: Option<Arc<PeerPath>>,
}

/// Has a host judge a chain.
pub(crate) fn verify(tls: &HostTls, chain: &[CertificateDer<'static>]) -> Verified {
    // Verified paths are reported to those who fetch, and here to us.
    let sightings = Sightings::new();
    let verdict = match tls.worker_view(&PathMemo::new(1).reporting_to(sightings.clone())) {
        Ok(view) => view.admit(chain).map_err(|failure| failure.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let client = verdict.map(|admitted| admitted.map(|admitted| admitted.identity));
    Verified { client, path: sightings.pop() }
}

impl Claims {
    fn of(peer: &PeerIdentity, path: Option<&PeerPath>, loaded: &Loaded) -> Claims {
        let map = &loaded.config.tenant_map;
        let tenant_rule = match path.map(|path| map.assign(&path.bundle, peer)) {
            Some(Assignment::Tenant { name, rule: Some(rule), .. }) => {
                map.definition(&name).and_then(|tenant| tenant.matches.get(rule)).map(ToString::to_string)
            }
            _ => None,
        };
        Claims {
            identity: peer.identity().to_owned(),
            tenant: peer.tenant().map(str::to_owned),
            tenant_rule,
            name: peer.name().to_owned(),
            subject: peer.subject().to_owned(),
            issuer: peer.issuer().to_owned(),
            serial: peer.serial().to_owned(),
            fingerprint_sha256: peer.fingerprint_hex().to_owned(),
            spiffe_id: peer.spiffe_id().map(|id| id.as_str().to_owned()),
            san_uris: peer.san_uris().to_vec(),
            san_dns: peer.san_dns().to_vec(),
            san_emails: peer.san_emails().to_vec(),
            not_after_unix: peer.not_after_unix(),
        }
    }
}

/// Asks the policies of a route about a request that takes it.
fn sample(
    listener: &Listener,
    host: &Host,
    route: &Route,
    peer: Option<&PeerIdentity>,
    loaded: &Loaded,
) -> Sample {
    let method = match &route.methods {
        Methods::Only(methods) if !methods.is_empty() => methods[0].to_string(),
        Methods::Only(_) | Methods::All => "GET".to_owned(),
    };
    let mut sample = Sample {
        route: route.id.clone(),
        method,
        path: path_for(&route.path),
        decision: "no_policy",
        policy: None,
        rule: None,
        detail: None,
    };
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let name = host.names[0].to_string();
    let connection = sample_connection(listener, &name, now_unix);
    let subject = Subject::new(peer, &connection);
    let params = route.path.matches(&sample.path).unwrap_or_default();
    let params: Vec<(&str, &str)> = params.iter(&route.path, &sample.path).collect();
    let labels: Vec<(String, String)> = route.labels.clone().into_iter().collect();
    let request = RequestView {
        method: &sample.method,
        path: &sample.path,
        raw_path: &sample.path,
        query: None,
        host: connection.sni,
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "sample",
        headers: &NoHeaders,
        body: Some(BodyView { bytes: &[], truncated: false }),
        route: RouteView {
            id: &route.id,
            template: route.path.as_str(),
            params: &params,
            upstream: route.action.clusters().next().unwrap_or_default(),
            labels: &labels,
        },
        now_unix,
    };
    if let Some(verdict) = verdict(route.policy.names(), &subject, &request, loaded) {
        let Verdict { decision, policy, rule, detail, .. } = verdict;
        sample = Sample { decision, policy: Some(policy), rule, detail, ..sample };
    }
    sample
}

/// A connection that was made up.
pub(crate) fn sample_connection<'n>(listener: &Listener, name: &'n str, now_unix: i64) -> ConnectionView<'n> {
    ConnectionView {
        remote: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        local_port: listener.bind[0].addr.port(),
        sni: name,
        alpn: "http/1.1",
        tls_version: "TLSv1.3",
        cipher: "TLS13_AES_128_GCM_SHA256",
        resumed: false,
        auth_time_unix: now_unix,
    }
}

/// What policies say to a request that was made up.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// As in [`Sample`].
    pub(crate) decision: &'static str,
    /// The policy that decided: of several the first that does not allow, or else the last.
    pub(crate) policy: String,
    pub(crate) rule: Option<String>,
    pub(crate) detail: Option<String>,
    /// What the client gets if the request is refused.
    #[serde(skip)]
    pub(crate) refusal: Option<(u16, &'static str)>,
    /// What is changed in heads if it is not.
    #[serde(skip)]
    pub(crate) edits: Vec<String>,
}

/// Asks policies as the proxy does; `None` without any.
pub(crate) fn verdict(
    names: &[String],
    subject: &Subject,
    request: &RequestView<'_>,
    loaded: &Loaded,
) -> Option<Verdict> {
    let (policy, decision) = decide(names, subject, request, loaded)?;
    let mut verdict = Verdict {
        decision: "asks_server",
        policy: policy.to_owned(),
        rule: None,
        detail: None,
        refusal: None,
        edits: Vec::new(),
    };
    match decision {
        Ok(Asked::Server) => {}
        Ok(Asked::Decided(decision)) => {
            let status = decision.status.unwrap_or(403);
            (verdict.decision, verdict.refusal) = match (decision.allowed, decision.undefined) {
                (true, _) => ("allowed", None),
                (false, true) => ("undefined", Some((status, "policy_undefined"))),
                (false, false) => ("denied", Some((status, "policy_denied"))),
            };
            verdict.rule = decision.rule.as_ref().map(ToString::to_string);
            verdict.detail = decision.reason.as_ref().map(ToString::to_string);
            verdict.edits = edits(&decision);
        }
        Err(error) => {
            (verdict.decision, verdict.detail) = ("error", Some(error.to_string()));
            verdict.refusal = Some((500, "policy_error"));
        }
    }
    Some(verdict)
}

/// What a decision changes, one line each.
fn edits(decision: &Decision) -> Vec<String> {
    let set = decision.request_headers_to_set.iter();
    let set = set.map(|(name, value)| format!("request header {name}: {value}"));
    let removed = decision.request_headers_to_remove.iter().map(|name| format!("no request header {name}"));
    let added = decision.response_headers_to_add.iter();
    let added = added.map(|(name, value)| format!("response header {name}: {value}"));
    set.chain(removed).chain(added).collect()
}

/// What asking policies comes to.
enum Asked {
    Decided(Rc<Decision>),
    /// A server would be asked next.
    Server,
}

/// Asks policies as the proxy does: one after the other, up to the first that does not allow, but no server. With the name of
/// the last that was asked; `None` without any.
fn decide<'n>(
    names: &'n [String],
    subject: &Subject,
    request: &RequestView<'_>,
    loaded: &Loaded,
) -> Option<(&'n str, Result<Asked, DecisionError>)> {
    let mut earlier = None;
    for (index, name) in names.iter().enumerate() {
        let decision = match loaded.policies.get(name)?.compiled.worker().ask(subject, request) {
            Ok(Reply::Pending(_)) => return Some((name, Ok(Asked::Server))),
            Ok(Reply::Decided(decision)) => Ok(Rc::new(decision)),
            Err(error) => Err(error),
        };
        let decision = match earlier.take() {
            Some(earlier) => decision.and_then(|decision| combine(earlier, decision)),
            None => decision,
        };
        match decision {
            Ok(decision) if decision.allowed && index + 1 < names.len() => earlier = Some(decision),
            last => return Some((name, last.map(Asked::Decided))),
        }
    }
    None
}

/// A path that the template matches: its parameters stand for themselves.
pub(super) fn path_for(pattern: &PathPattern) -> String {
    if let Some(regex) = pattern.regex() {
        return regex.example().unwrap_or_default();
    }
    let text = |segment: &Segment| match segment {
        Segment::Literal(text) => text.to_string(),
        Segment::Param(name) | Segment::Rest(name) => name.to_string(),
    };
    let segments: Vec<String> = pattern.segments().iter().map(text).collect();
    format!("/{}", segments.join("/"))
}

/// Of a request without header fields.
struct NoHeaders;

impl HeaderSource for NoHeaders {
    fn for_each(&self, _: &mut dyn FnMut(&str, &str)) {}
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = if self.decision == "asks_server" { "asks a server" } else { self.decision };
        write!(f, "{}: {decision}", self.policy)?;
        for (what, text) in [("rule", &self.rule), ("reason", &self.detail)] {
            if let Some(text) = text {
                write!(f, ", {what} {text}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "admitted as {} ({})", self.identity, self.subject)?;
        match (&self.tenant, &self.tenant_rule) {
            (Some(tenant), Some(rule)) => write!(f, "\n    tenant {tenant}, by {rule}"),
            (Some(tenant), None) => write!(f, "\n    tenant {tenant}, as every client of its bundles"),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\nclient {}", self.file)?;
        for HostAdmission { listener, host, refusal, identity, path, requests, .. } in &self.hosts {
            write!(f, "\n  at {host} of listener {listener}: ")?;
            match (refusal, identity) {
                (Some(refusal), _) => write!(f, "refused, {refusal}")?,
                (None, Some(claims)) => write!(f, "{claims}")?,
                (None, None) => write!(f, "admitted as nobody, since no certificate is asked for")?,
            }
            if let Some(path) = path {
                write!(f, "{path}")?;
            }
            for Sample { method, path, decision, rule, detail, policy, .. } in requests {
                let decision = if *decision == "asks_server" { "asks a server" } else { decision };
                write!(f, "\n    {method} {path}: {decision}")?;
                for (what, text) in [("rule", rule), ("reason", detail), ("policy", policy)] {
                    if let Some(text) = text {
                        write!(f, ", {what} {text}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
