//! `ringward route`: what would happen to a request, without sending it.
//!
//! The head goes through the parser, the tables and the conditions of the data path, the certificate through the verification of a
//! handshake, and the policies are asked as they were loaded. That the client holds its key is taken for granted.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use ringward_config::{ClientAuthMode, Config, Host, Listener, Route};
use ringward_identity::PeerIdentity;
use ringward_policy::{BodyView, HeaderSource, RequestView, RouteView, Subject};
use ringward_proxy::{Chosen, Snapshot};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::{read_chain, show};
use crate::check::{self, Verdict};
use crate::failure::Failure;
use crate::load::Loaded;

/// Show what would happen to a request: listener, host, route, client, policies, cluster. Nothing is sent.
#[derive(Debug, Args)]
pub(crate) struct RouteQuestion {
    /// The host that the client asks for, in its handshake and in the request.
    host: String,
    /// The path, with a query if there is one.
    path: String,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The listener; by default all of them.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A header field. May be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The certificate of the client; PEM, with its intermediates. By default it shows none.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What would happen, by listener.
#[derive(Debug, Serialize)]
struct Answers {
    listeners: Vec<Answer>,
}

/// What would happen at one listener. What is not known, as the request does not get that far, is absent.
#[derive(Debug, Default, Serialize)]
struct Answer {
    listener: String,
    host: Option<String>,
    route: Option<String>,
    /// Where the route is defined.
    file: Option<String>,
    line: Option<u32>,
    /// The same in words.
    #[serde(skip)]
    place: Option<String>,
    /// What the route takes: methods, path, conditions.
    takes: Option<String>,
    /// Normalised.
    path: Option<String>,
    params: Vec<(String, String)>,
    client_auth: Option<&'static str>,
    /// The client as the route sees it; absent for nobody.
    identity: Option<String>,
    policies: Vec<String>,
    decision: Option<Verdict>,
    /// What the configuration and then the decision change in request and response, and the fields by which the upstream learns of the client.
    edits: Vec<String>,
    /// What compresses the response, if it can be: the coding that the client wants, of those of the route.
    coding: Option<&'static str>,
    /// What becomes of the request.
    action: Option<String>,
    /// Where it goes, if it goes somewhere and chance does not decide where.
    cluster: Option<String>,
    /// How many of its requests are copied, and where the copies go.
    mirror: Option<String>,
    /// What the client gets if the request goes nowhere.
    refusal: Option<Refusal>,
}

#[derive(Debug, Serialize)]
struct Refusal {
    /// Absent if there is no connection.
    status: Option<u16>,
    flag: Option<String>,
    why: String,
}

/// Answers the question.
///
/// # Errors
/// If the configuration is refused, or the request cannot be written down.
pub(crate) fn run(question: &RouteQuestion) -> Result<(), Failure> {
    let request = Request::of(question)?;
    let chain = match &question.cert {
        Some(file) => {
            read_chain(file).map_err(|reason| Failure::Usage(format!("`{}` {reason}", file.display())))?
        }
        None => Vec::new(),
    };
    let (loaded, snapshot) = check::load(&question.config).map_err(Failure::Configuration)?;
    let wanted = |listener: &&Listener| question.listener.as_ref().is_none_or(|name| *name == listener.name);
    let listeners: Vec<Answer> = loaded
        .config
        .listeners
        .iter()
        .filter(wanted)
        .map(|listener| answer(&request, listener, &chain, &loaded, &snapshot))
        .collect();
    if let (Some(name), true) = (&question.listener, listeners.is_empty()) {
        return Err(Failure::Usage(format!("there is no listener `{name}`")));
    }
    show(&Answers { listeners }, question.json)
}

/// The request as it would be sent.
struct Request<'q> {
    host: &'q str,
    method: &'q str,
    /// Names and values.
    fields: Vec<(String, &'q str)>,
    head: Vec<u8>,
}

impl<'q> Request<'q> {
    fn of(question: &'q RouteQuestion) -> Result<Self, Failure> {
        let RouteQuestion { host, path, method, headers, .. } = question;
        // Whatever else is no request, the parser says.
        let one_line = |text: &str| !text.contains(char::is_control);
        if ![host, path, method].into_iter().chain(headers).all(|text| one_line(text)) {
            return Err(Failure::Usage("a request has no line breaks within its parts".to_owned()));
        }
        let mut fields = Vec::new();
        for header in headers {
            let (name, value) = header.split_once(':').ok_or_else(|| {
                Failure::Usage(format!("`{header}` is no header field: write it as \"name: value\""))
            })?;
            fields.push((name.to_ascii_lowercase(), value.trim()));
        }
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in &fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        Ok(Self { host, method, fields, head: head.into_bytes() })
    }
}

impl HeaderSource for Request<'_> {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.fields.iter().for_each(|(name, value)| each(name, value));
    }
}

fn answer(
    request: &Request<'_>,
    listener: &Listener,
    chain: &[CertificateDer<'static>],
    loaded: &Loaded,
    snapshot: &Snapshot,
) -> Answer {
    let mut answer = Answer { listener: listener.name.clone(), ..Answer::default() };
    let refusal = |status: Option<u16>, flag: Option<&str>, why: String| {
        Some(Refusal { status, flag: flag.map(str::to_owned), why })
    };
    let Some(index) = snapshot.host_named(&listener.name, name_of(request.host)) else {
        answer.refusal =
            refusal(None, None, "no virtual host has this name: the handshake is refused".into());
        return answer;
    };
    let host = &listener.hosts[index];
    answer.host = Some(host.names[0].to_string());
    let peer = match admit(listener, index, chain, snapshot) {
        Ok(peer) => peer,
        Err(why) => {
            answer.refusal = refusal(None, None, format!("the handshake is refused: {why}"));
            return answer;
        }
    };
    let chosen = match snapshot.route_of(&listener.name, &request.head, peer.as_deref()) {
        Ok(chosen) => chosen,
        Err(unanswered) => {
            answer.refusal = refusal(Some(unanswered.status), Some(unanswered.flag), unanswered.why);
            return answer;
        }
    };
    let route = &host.routes[chosen.route];
    answer.describe(route, &chosen, &loaded.config);
    // As `ringward_proxy` does it in `caller.rs`.
    let caller = match route.client_auth {
        ClientAuthMode::Off | ClientAuthMode::Observe => None,
        ClientAuthMode::Optional => peer.as_deref(),
        ClientAuthMode::Required if peer.is_none() => {
            let why = "the route requires a client certificate, and the client has shown none";
            answer.refusal = refusal(Some(403), Some("certificate_required"), why.to_owned());
            return answer;
        }
        ClientAuthMode::Required => peer.as_deref(),
    };
    answer.identity = caller.map(|peer| peer.identity().to_owned());
    decide(&mut answer, request, listener, &chosen, caller, loaded);
    if let Some((status, flag)) = answer.decision.as_ref().and_then(|verdict| verdict.refusal) {
        answer.refusal = refusal(Some(status), Some(flag), "the policy does not allow it".to_owned());
        return answer;
    }
    match snapshot.edits_of(&listener.name, &chosen, request.method, caller) {
        Ok(mut edits) => {
            edits.retain(|edit| !is_overruled(edit, &answer.edits));
            edits.append(&mut answer.edits);
            answer.edits = edits;
        }
        Err(unanswered) => {
            answer.refusal = refusal(Some(unanswered.status), Some(unanswered.flag), unanswered.why);
            return answer;
        }
    }
    if route.action.clusters().next().is_some() {
        answer.edits.extend(identity_fields(host, caller));
    }
    answer.coding = chosen.coding;
    answer.cluster.clone_from(&chosen.cluster);
    answer.action = Some(route.action.to_string());
    answer.mirror = route.mirror.as_ref().map(ToString::to_string);
    answer
}

/// Whether a policy that wants `decided` has the last word about the field of the request that `edit` is about.
fn is_overruled(edit: &str, decided: &[String]) -> bool {
    let field = |edit: &str| {
        let name =
            edit.strip_prefix("no request header ").or_else(|| edit.strip_prefix("request header "))?;
        Some(name.split(':').next().unwrap_or_default().to_ascii_lowercase())
    };
    field(edit).is_some_and(|name| decided.iter().any(|other| field(other).as_ref() == Some(&name)))
}

/// The name of a host, without a port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The client that shows this chain to a host; `None` if it is nobody there.
fn admit(
    listener: &Listener,
    host: usize,
    chain: &[CertificateDer<'static>],
    snapshot: &Snapshot,
) -> Result<Option<Arc<PeerIdentity>>, String> {
    if chain.is_empty() {
        return match listener.hosts[host].client_auth.handshake {
            ClientAuthMode::Required => Err("the host requires a client certificate".to_owned()),
            _ => Ok(None),
        };
    }
    let Some(tls) = snapshot.host_tls(&listener.name, host) else { return Ok(None) };
    check::verify(tls, chain).client
}

impl Answer {
    fn describe(&mut self, route: &Route, chosen: &Chosen, config: &Config) {
        self.route = Some(route.id.clone());
        self.file = Some(route.at.file.display().to_string());
        self.line = Some(route.at.line);
        self.place = Some(config.place(&route.at));
        self.takes = Some(route.takes());
        self.path = Some(chosen.path.clone());
        self.params.clone_from(&chosen.params);
        self.client_auth = Some(route.client_auth.as_str());
        self.policies = route.policy.names().to_vec();
    }
}

/// Asks the policies of the route.
fn decide(
    answer: &mut Answer,
    request: &Request<'_>,
    listener: &Listener,
    chosen: &Chosen,
    caller: Option<&PeerIdentity>,
    loaded: &Loaded,
) {
    let host = &listener.hosts[chosen.host];
    let route = &host.routes[chosen.route];
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let connection = check::sample_connection(listener, name_of(request.host), now_unix);
    let subject = Subject::new(caller, &connection);
    let params: Vec<(&str, &str)> = chosen.params.iter().map(|(name, value)| (&**name, &**value)).collect();
    let labels: Vec<(String, String)> = route.labels.clone().into_iter().collect();
    let raw_path = match &chosen.query {
        Some(query) => format!("{}?{query}", chosen.path),
        None => chosen.path.clone(),
    };
    let view = RequestView {
        method: request.method,
        path: &chosen.path,
        raw_path: &raw_path,
        query: chosen.query.as_deref(),
        host: name_of(request.host),
        scheme: "https",
        protocol: "HTTP/1.1",
        id: "sample",
        headers: request,
        body: Some(BodyView { bytes: &[], truncated: false }),
        route: RouteView {
            id: &route.id,
            template: route.path.as_str(),
            params: &params,
            upstream: chosen.cluster.as_deref().or(route.action.clusters().next()).unwrap_or_default(),
            labels: &labels,
        },
        now_unix,
    };
    if let Some(mut verdict) = check::verdict(route.policy.names(), &subject, &view, loaded) {
        answer.edits = std::mem::take(&mut verdict.edits);
        answer.decision = Some(verdict);
    }
}

/// The fields by which the upstream learns who the client is.
fn identity_fields(host: &Host, caller: Option<&PeerIdentity>) -> Vec<String> {
    let forward = &host.forward;
    let fields = [
        ("client-cert", forward.client_cert),
        ("client-cert-chain", forward.client_cert_chain),
        ("x-forwarded-client-cert", forward.xfcc == ringward_config::XfccMode::Set),
    ];
    let sent = fields.into_iter().filter(|(_, sent)| *sent && caller.is_some());
    sent.map(|(name, _)| format!("request header {name}: the client's certificate")).collect()
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, answer) in self.listeners.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{answer}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listener  {}", self.listener)?;
        if let Some(host) = &self.host {
            writeln!(f, "host      {host}")?;
        }
        if let (Some(route), Some(place), Some(takes)) = (&self.route, &self.place, &self.takes) {
            writeln!(f, "route     {route} at {place}: {takes}")?;
        }
        for (name, value) in &self.params {
            writeln!(f, "          {name} = {value}")?;
        }
        if let Some(mode) = self.client_auth {
            let who = self.identity.as_deref().unwrap_or("nobody");
            writeln!(f, "client    {who} (client_auth is \"{mode}\")")?;
        }
        match &self.decision {
            Some(verdict) => writeln!(f, "policy    {verdict}")?,
            None if self.refusal.is_none() => writeln!(f, "policy    none decides")?,
            None => {}
        }
        for edit in &self.edits {
            writeln!(f, "edit      {edit}")?;
        }
        if let Some(coding) = self.coding {
            writeln!(f, "coding    {coding}, if the response is one to be compressed")?;
        }
        match (&self.refusal, &self.action) {
            (Some(Refusal { status: Some(status), why, .. }), _) => writeln!(f, "answer    {status}: {why}"),
            (Some(Refusal { status: None, why, .. }), _) => writeln!(f, "answer    none: {why}"),
            (None, Some(action)) => match &self.cluster {
                Some(cluster) if action.starts_with("split ") => {
                    writeln!(f, "action    {action}: to cluster {cluster}")
                }
                _ => writeln!(f, "action    {action}"),
            },
            (None, None) => Ok(()),
        }?;
        match (&self.mirror, &self.refusal) {
            (Some(mirror), None) => writeln!(f, "mirror    {mirror}"),
            _ => Ok(()),
        }
    }
}
