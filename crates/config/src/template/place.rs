//! What a place of a template can stand for.

use ringward_identity::{PeerIdentity, SpiffeId};

use crate::path::{Params, PathPattern};

/// What a place stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Path,
    /// The path without so many bytes at its beginning.
    PathFrom(usize),
    Query,
    /// The parameter of the route's template with this index.
    Param(usize),
    Method,
    RequestId,
    ClientIp,
    Client(ClientValue),
}

/// What a client's certificate says, in the words of `input.client` of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientValue {
    Identity,
    Name,
    Tenant,
    SpiffeId,
    TrustDomain,
    Subject,
    CommonName,
    Issuer,
    Serial,
    Fingerprint,
}

/// What the places stand for in one request.
#[derive(Clone, Copy, Debug)]
pub struct TemplateValues<'r> {
    /// The host that was asked for, normalised, without a port.
    pub host: &'r str,
    /// The normalised path.
    pub path: &'r str,
    /// The query as received, without `?`.
    pub query: Option<&'r str>,
    /// Where in the path the parameters of the route's template are.
    pub params: &'r Params,
    /// The method.
    pub method: &'r str,
    /// What the request is called in records.
    pub request_id: &'r str,
    /// The client's address without a port.
    pub client_ip: &'r str,
    /// The client, as far as the route wants to know.
    pub peer: Option<&'r PeerIdentity>,
}

impl Place {
    /// By its name in a URL.
    ///
    /// # Errors
    /// Why there is no such place, as the end of a sentence.
    pub(super) fn of_url(name: &str, pattern: &PathPattern) -> Result<Self, String> {
        let param = pattern.names().position(|known| known == name);
        match (Self::of_request(name), param) {
            (Some(place), None) => Ok(place),
            (None, Some(index)) => Ok(Self::Param(index)),
            (Some(_), Some(_)) => Err(format!(
                "has {{{name}}}, which is of every request and also a parameter of the route's path: rename the parameter"
            )),
            (None, None) => Err(format!("has {{{name}}}, which the route's path does not")),
        }
    }

    /// By its name in the value of a field.
    ///
    /// # Errors
    /// As [`Place::of_url`].
    pub(super) fn of_value(name: &str, pattern: Option<&PathPattern>) -> Result<Self, String> {
        // Names of parameters have no dots.
        let known = match name {
            "request.method" => Some(Self::Method),
            "request.id" => Some(Self::RequestId),
            "client.ip" => Some(Self::ClientIp),
            name => name.strip_prefix("client.").and_then(ClientValue::of).map(Self::Client),
        };
        match (known, pattern) {
            (Some(place), _) => Ok(place),
            (None, Some(pattern)) => Self::of_url(name, pattern),
            (None, None) => Self::of_request(name)
                .ok_or_else(|| format!("has {{{name}}}, which not every route of the host knows")),
        }
    }

    fn of_request(name: &str) -> Option<Self> {
        match name {
            "host" => Some(Self::Host),
            "path" => Some(Self::Path),
            "query" => Some(Self::Query),
            _ => None,
        }
    }

    /// Appends what it stands for. False for nothing.
    pub(super) fn append(self, out: &mut String, values: &TemplateValues<'_>) -> bool {
        let text = match self {
            Self::Host => values.host,
            Self::Path => values.path,
            Self::PathFrom(bytes) => values.path.get(bytes..).unwrap_or_default(),
            Self::Query => {
                if let Some(query) = values.query {
                    out.push('?');
                    out.push_str(query);
                }
                return true;
            }
            Self::Param(index) => {
                let span = values.params.span(index).unwrap_or_default();
                values.path.get(span).unwrap_or_default()
            }
            Self::Method => values.method,
            Self::RequestId => values.request_id,
            Self::ClientIp => values.client_ip,
            Self::Client(value) => match values.peer.and_then(|peer| value.of_peer(peer)) {
                Some(text) => text,
                None => return false,
            },
        };
        out.push_str(text);
        true
    }
}

impl ClientValue {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "identity" => Self::Identity,
            "name" => Self::Name,
            "tenant" => Self::Tenant,
            "spiffe_id" => Self::SpiffeId,
            "trust_domain" => Self::TrustDomain,
            "subject" => Self::Subject,
            "common_name" => Self::CommonName,
            "issuer" => Self::Issuer,
            "serial" => Self::Serial,
            "fingerprint_sha256" => Self::Fingerprint,
            _ => return None,
        })
    }

    fn of_peer(self, peer: &PeerIdentity) -> Option<&str> {
        let text = match self {
            Self::Identity => peer.identity(),
            Self::Name => peer.name(),
            Self::Tenant => peer.tenant()?,
            Self::SpiffeId => peer.spiffe_id()?.as_str(),
            Self::TrustDomain => peer.spiffe_id().map(SpiffeId::trust_domain)?,
            Self::Subject => peer.subject(),
            // Two are legal, and none of them is more the client's than the other.
            Self::CommonName => match peer.common_names() {
                [name] => name,
                _ => return None,
            },
            Self::Issuer => peer.issuer(),
            Self::Serial => peer.serial(),
            Self::Fingerprint => peer.fingerprint_hex(),
        };
        (!text.is_empty()).then_some(text)
    }
}
