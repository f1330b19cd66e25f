//! What the configuration changes in heads, header fields and the path and host of requests: its values in one exchange.
//!
//! Values are made once for an exchange, and before anything is sent: a request with a value that no field can have, or with a
//! path that none could be sent to us with, goes nowhere.

use ringward_config::{Cors, HeaderEdits, Rewrite, Template, TemplateValues};
use ringward_http::{RequestHead, path};
use ringward_identity::PeerIdentity;
use smallvec::SmallVec;

use crate::{
    connection::Connection, cors, edits::is_one_variable, error::ProxyError, exchange::Facts,
    request_id::RequestId, route::Target, snapshot::Route,
};

/// A request, as far as templates know it.
pub(crate) struct Asking<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) target: &'a Target<'a>,
    pub(crate) connection: &'a Connection,
    pub(crate) facts: &'a Facts,
}

impl Asking<'_> {
    /// Gives `work` what places of templates stand for in this request; `peer` is the client, as far as the route wants to know.
    pub(crate) fn with_values<T>(
        &self,
        peer: Option<&PeerIdentity>,
        work: impl FnOnce(&TemplateValues<'_>) -> T,
    ) -> T {
        let Asking { head, target, connection, facts } = *self;
        let client = facts.on_behalf.client.as_deref().map_or(&connection.client, |client| &client.said);
        let id = RequestId::new(connection.facts.id, facts.number);
        work(&TemplateValues {
            host: head.host(),
            path: head.path(),
            query: head.query(),
            params: &target.params,
            method: head.method(),
            request_id: id.as_str(),
            client_ip: client.ip(),
            peer,
        })
    }
}

/// The changes of an exchange, if its route changes something.
///
/// # Errors
/// [`ProxyError::HeaderValue`], [`ProxyError::HeaderValueTooLong`] and [`ProxyError::BadRewrite`].
pub(crate) fn fields<'r>(
    route: &'r Route,
    asking: &Asking<'_>,
    peer: Option<&PeerIdentity>,
) -> Result<Option<Box<Fields<'r>>>, ProxyError> {
    let Some(edits) = &route.edits else { return Ok(None) };
    let mut fields = asking.with_values(peer, |values| edits.fields(values))?;
    if let Some(origin) = edits.cors.as_ref().and_then(|cors| cors::origin(cors, asking.head)) {
        let start = fields.text.len();
        fields.text.push_str(origin);
        fields.origin = Some((start, fields.text.len()));
    }
    Ok(Some(Box::new(fields)))
}

/// What a route changes in both heads.
pub(crate) struct RouteEdits {
    pub(crate) request: HeaderEdits,
    pub(crate) response: HeaderEdits,
    pub(crate) rewrite: Rewrite,
    pub(crate) cors: Option<Cors>,
    /// Whether `%2F` may stand in the path.
    pub(crate) allow_encoded_slash: bool,
}

/// The changes of one exchange.
pub(crate) struct Fields<'r> {
    text: String,
    pub(crate) request: Side<'r>,
    pub(crate) response: Side<'r>,
    /// Where the path for the upstream is in `text`, if it is another one.
    path: Option<(usize, usize)>,
    /// The host for the upstream, if it is another one.
    pub(crate) host: Option<&'r str>,
    cors: Option<&'r Cors>,
    /// Where the origin is in `text`, if a page of another one asks which may.
    origin: Option<(usize, usize)>,
}

/// The changes of one head, with values in [`Fields::text`].
pub(crate) struct Side<'r> {
    edits: &'r HeaderEdits,
    set: Values,
    append: Values,
}

/// For each field, where its value is, if it has something to say.
type Values = SmallVec<[Option<(usize, usize)>; 4]>;

impl RouteEdits {
    /// What a route changes, if it changes something.
    pub(crate) fn of(route: &ringward_config::Route) -> Option<RouteEdits> {
        let (request, response) = (&route.request_headers, &route.response_headers);
        let some =
            !request.is_empty() || !response.is_empty() || !route.rewrite.is_empty() || route.cors.is_some();
        some.then(|| RouteEdits {
            request: request.clone(),
            response: response.clone(),
            rewrite: route.rewrite.clone(),
            cors: route.cors.clone(),
            allow_encoded_slash: route.allow_encoded_slash,
        })
    }

    pub(crate) fn fields(&self, values: &TemplateValues<'_>) -> Result<Fields<'_>, ProxyError> {
        let mut text = String::new();
        let request = Side::of(&self.request, &mut text, values)?;
        let response = Side::of(&self.response, &mut text, values)?;
        let path = self.path(&mut text, values)?;
        let host = self.rewrite.host.as_deref();
        Ok(Fields { text, request, response, path, host, cors: self.cors.as_ref(), origin: None })
    }

    /// The path for the upstream, if it is another one. It is held to what every path is held to that a client asks for: nothing
    /// that is put in may make another path of it, in any server's eyes, than its template says.
    fn path(
        &self,
        text: &mut String,
        values: &TemplateValues<'_>,
    ) -> Result<Option<(usize, usize)>, ProxyError> {
        let Some(template) = &self.rewrite.path else { return Ok(None) };
        let start = text.len();
        if !template.append(text, values) {
            return Err(ProxyError::BadRewrite);
        }
        let path = &text[start..];
        let is_slash_allowed = self.allow_encoded_slash || !path.contains("%2F");
        if !path::is_normal(path.as_bytes())
            || !is_slash_allowed
            || path.len() > values.path.len() + LONGER_BYTES_MAX
        {
            return Err(ProxyError::BadRewrite);
        }
        Ok(Some((start, text.len())))
    }
}

impl<'r> Side<'r> {
    fn of(
        edits: &'r HeaderEdits,
        text: &mut String,
        values: &TemplateValues<'_>,
    ) -> Result<Side<'r>, ProxyError> {
        let mut all = |fields: &[(Box<str>, Template)]| {
            let mut written = Values::new();
            for (name, template) in fields {
                let start = text.len();
                if !template.append(text, values) {
                    text.truncate(start);
                    written.push(None);
                    continue;
                }
                // No field keeps blanks at its ends.
                let value = text[start..].trim_matches(' ');
                if value.len() > VALUE_BYTES_MAX {
                    return Err(ProxyError::HeaderValueTooLong(name.clone()));
                }
                if !is_plain(value) {
                    return Err(ProxyError::HeaderValue(name.clone()));
                }
                let start = text.len() - text[start..].trim_start_matches(' ').len();
                written.push(Some((start, start + value.len())));
            }
            Ok(written)
        };
        Ok(Side { edits, set: all(&edits.set)?, append: all(&edits.append)? })
    }

    /// Whether received fields of this name do not go on, also where the field in their place has nothing to say. Upstreams that
    /// make variables of names take `_` for `-`.
    pub(crate) fn replaces(&self, name: &[u8]) -> bool {
        let set = self.edits.set.iter().map(|(name, _)| name);
        set.chain(&self.edits.remove).any(|own| is_one_variable(own.as_bytes(), name))
    }
}

impl Fields<'_> {
    /// Names and values of what replaces all fields of its name in the request.
    pub(crate) fn set_in_request(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.of(&self.request.edits.set, &self.request.set)
    }

    /// Names and values of what comes beside other fields of its name in the request.
    pub(crate) fn appended_to_request(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.of(&self.request.edits.append, &self.request.append)
    }

    /// Whether a field of a response does not go on.
    pub(crate) fn drops_of_response(&self, name: &[u8]) -> bool {
        self.response.replaces(name) || self.cors.is_some() && cors::is_ours(name)
    }

    /// Names and values of what replaces all fields of its name in the response.
    pub(crate) fn set_in_response(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let allowed = self.cors.zip(self.origin);
        let allowance = allowed.into_iter().flat_map(|(cors, (start, end))| {
            let exposed = ("access-control-expose-headers", &*cors.expose_headers);
            let exposed = (!cors.expose_headers.is_empty()).then_some(exposed);
            cors::allowance(cors, &self.text[start..end]).chain(exposed)
        });
        let allowance = allowance.map(|(name, value)| (name, value.as_bytes()));
        self.of(&self.response.edits.set, &self.response.set).chain(allowance)
    }

    /// Names and values of what comes beside other fields of its name in the response.
    pub(crate) fn appended_to_response(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Also without an origin: else a cache would give this answer to those that have one.
        let vary = self.cors.filter(|cors| !cors.any_origin).map(|_| ("vary", &b"origin"[..]));
        self.of(&self.response.edits.append, &self.response.append).chain(vary)
    }

    /// The path for the upstream, if it is another one.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.map(|(start, end)| &self.text[start..end])
    }

    /// For people.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        words.extend(self.path().map(|path| format!("request path: {path}")));
        words.extend(self.host.map(|host| format!("request host: {host}")));
        let sides = [
            (
                "request",
                &self.request.edits.remove,
                self.set_in_request().collect::<Vec<_>>(),
                self.appended_to_request().collect::<Vec<_>>(),
            ),
            (
                "response",
                &self.response.edits.remove,
                self.set_in_response().collect(),
                self.appended_to_response().collect(),
            ),
        ];
        for (side, removed, set, appended) in sides {
            for (name, value) in set.into_iter().chain(appended) {
                words.push(format!("{side} header {name}: {}", String::from_utf8_lossy(value)));
            }
            words.extend(removed.iter().map(|name| format!("no {side} header {name}")));
        }
        words
    }

    fn of<'a>(
        &'a self,
        fields: &'a [(Box<str>, Template)],
        values: &'a [Option<(usize, usize)>],
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let written = fields.iter().zip(values).filter_map(|((name, _), place)| Some((&**name, (*place)?)));
        written.map(|(name, (start, end))| (name, &self.text.as_bytes()[start..end]))
    }
}

/// RFC 9110 §5.5, without what servers read differently: bytes beyond ASCII, and tabs.
fn is_plain(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// As much as common servers take in one field (nginx `large_client_header_buffers`); a long path could stand in a value
/// several times.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// How much longer than the path that was sent another one may be: so that no short request makes a long one.
const LONGER_BYTES_MAX: usize = 8 * 1024;
