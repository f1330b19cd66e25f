//! Which route a request would take that is described and not sent, for `ringward route`: the functions of the data path are
//! asked, on a head that is parsed as if it had arrived.

use std::ptr;

use ringward_config::{ClientAuthMode, Params, TemplateValues};
use ringward_http::{RequestHead, grpc};
use ringward_identity::PeerIdentity;

use crate::{compression, cors, error::ProxyError, respond, route, snapshot::Snapshot};

/// The route of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The index of the virtual host in its listener.
    pub host: usize,
    /// The index of the route in its host.
    pub route: usize,
    /// The cluster that it goes to, if it goes to one and chance does not decide to which.
    pub cluster: Option<String>,
    /// The content coding in which the client gets the response, if that is one that the route compresses.
    pub coding: Option<&'static str>,
    /// The normalised path.
    pub path: String,
    /// The query as received.
    pub query: Option<String>,
    /// The host that was asked for, normalised.
    pub request_host: String,
    /// The parameters of the template.
    pub params: Vec<(String, String)>,
    /// Where they are in the path.
    pub(crate) places: Params,
}

/// A request that no route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// The status that the client gets.
    pub status: u16,
    /// The flag of its access record.
    pub flag: &'static str,
    /// Why.
    pub why: String,
}

impl Snapshot {
    /// The virtual host that answers for a name, by the name of its listener: its index there.
    pub fn host_named(&self, listener: &str, name: &str) -> Option<usize> {
        self.listener(listener)?.host_index(Some(name))
    }

    /// The route that a request takes whose client was admitted by the rules of the host that it asks for. `head` is the whole head
    /// as HTTP/1.1 has it; `peer` the client, if it is verified.
    ///
    /// # Errors
    /// What the client gets instead, also if the head is none.
    pub fn route_of(
        &self,
        listener: &str,
        head: &[u8],
        peer: Option<&PeerIdentity>,
    ) -> Result<Chosen, Unanswered> {
        let unknown = |name: &str| refused(ProxyError::UnknownHost(name.to_owned()));
        let listener = self.listener(listener).ok_or_else(|| unknown(listener))?;
        let mut parsed = RequestHead::new();
        parsed.parse(head, &listener.limits.head).map_err(|error| refused(error.into()))?;
        let host = listener.host_for_request(parsed.host()).ok_or_else(|| unknown(parsed.host()))?;
        let index = listener.hosts.iter().position(|other| ptr::eq(host, other)).unwrap_or_default();
        let target = route::select(listener, index, &parsed, peer).map_err(refused)?;
        let is_admitted = peer.is_some() || target.route.client_auth != ClientAuthMode::Required;
        if let Some(cors) = target.route.cors().filter(|_| target.is_preflight && is_admitted) {
            return Err(refused(cors::answer(cors, &parsed)));
        }
        // Over HTTP/2, as calls of gRPC are.
        let is_grpc = parsed.field("content-type").is_some_and(grpc::is_content_type);
        route::check_protocol(&target, is_grpc).map_err(refused)?;
        let route = host.routes.values().position(|other| ptr::eq(target.route, other)).unwrap_or_default();
        let caller = peer.filter(|_| target.route.client_auth.identifies());
        let part = target.route.split.as_ref().map(|split| split.get(split.sure_part(&parsed, caller)?));
        let params = target.params.iter(target.pattern, parsed.path());
        Ok(Chosen {
            host: index,
            route,
            params: params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            path: parsed.path().to_owned(),
            query: parsed.query().map(str::to_owned),
            cluster: match part {
                Some(part) => part.map(|part| part.name.to_string()),
                None => Some(target.route.cluster_name.to_string()).filter(|name| !name.is_empty()),
            },
            coding: target
                .route
                .compression
                .as_deref()
                .and_then(|rules| compression::wanted(rules, &parsed))
                .map(|(algorithm, _)| algorithm.as_str()),
            places: target.params,
            request_host: parsed.host().to_owned(),
        })
    }

    /// What the configuration changes in the header fields of a request that took this route and of its response, in words.
    /// `caller` is the client as the route sees it.
    ///
    /// # Errors
    /// What the client gets instead.
    pub fn edits_of(
        &self,
        listener: &str,
        chosen: &Chosen,
        method: &str,
        caller: Option<&PeerIdentity>,
    ) -> Result<Vec<String>, Unanswered> {
        let host = self.listener(listener).and_then(|listener| listener.hosts.get(chosen.host));
        let route = host.and_then(|host| host.routes.values().nth(chosen.route));
        let Some(edits) = route.and_then(|route| route.edits.as_ref()) else { return Ok(Vec::new()) };
        let values = TemplateValues {
            host: &chosen.request_host,
            path: &chosen.path,
            query: chosen.query.as_deref(),
            params: &chosen.places,
            method,
            request_id: "sample",
            client_ip: "127.0.0.1",
            peer: caller,
        };
        edits.fields(&values).map(|fields| fields.in_words()).map_err(refused)
    }
}

fn refused(error: ProxyError) -> Unanswered {
    Unanswered { status: respond::answer(&error).status, flag: error.flag(), why: error.to_string() }
}
