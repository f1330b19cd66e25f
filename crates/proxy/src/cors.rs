//! Cross-origin resource sharing (Fetch Standard §3.3): preflights that we answer, and the fields of responses.
//!
//! It protects the users of browsers, and is no access control: whoever is no browser sends what it likes, and policies decide about
//! it. What cannot be read in exactly one way is no preflight, and gets no field.

use std::sync::Arc;

use ringward_config::Cors;
use ringward_http::RequestHead;

use crate::{error::ProxyError, route_answer::Answered};

/// The method that a preflight asks for.
pub(crate) fn asked_method(head: &RequestHead) -> Option<&str> {
    if head.method() != "OPTIONS" {
        return None;
    }
    only(head, "origin")?;
    std::str::from_utf8(only(head, "access-control-request-method")?).ok()
}

/// The origin of the page that asks, if it may.
pub(crate) fn origin<'h>(cors: &Cors, head: &'h RequestHead) -> Option<&'h str> {
    let origin = only(head, "origin").filter(|origin| cors.allows(origin))?;
    std::str::from_utf8(origin).ok()
}

/// The answer to a preflight for a route that takes the method which is asked for. Who may not gets one that allows nothing.
pub(crate) fn answer(cors: &Cors, head: &RequestHead) -> ProxyError {
    let mut fields: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
    let mut field = |name: &str, value: &str| fields.push((name.into(), value.as_bytes().into()));
    // Else a cache would give one origin's answer to another.
    field("vary", "origin, access-control-request-method, access-control-request-headers");
    let mut lists = head.fields().filter(|field| field.name.eq_ignore_ascii_case(REQUEST_HEADERS));
    if let (Some(origin), Some(method), true) =
        (origin(cors, head), asked_method(head), lists.all(|list| cors.allows_headers(list.value)))
    {
        allowance(cors, origin).for_each(|(name, value)| field(name, value));
        field("access-control-allow-methods", method);
        if !cors.headers.is_empty() {
            field("access-control-allow-headers", &cors.headers.join(", "));
        }
        field("access-control-max-age", &cors.max_age.as_secs().to_string());
    }
    ProxyError::Preflight(Box::new(Answered {
        status: 204,
        location: None,
        content_type: None,
        body: Arc::from(""),
        fields,
        decision: None,
    }))
}

/// What every answer to a page of an origin that may ask says.
pub(crate) fn allowance<'a>(cors: &'a Cors, origin: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let credentials = cors.credentials.then_some(("access-control-allow-credentials", "true"));
    let allowed = if cors.any_origin { "*" } else { origin };
    std::iter::once(("access-control-allow-origin", allowed)).chain(credentials)
}

/// Whether a field of a response is for us alone to say.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The value of a field that stands once.
fn only<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let mut fields = head.fields().filter(|field| field.name.eq_ignore_ascii_case(name));
    let value = fields.next()?.value;
    fields.next().is_none().then_some(value)
}

const REQUEST_HEADERS: &str = "access-control-request-headers";
const PREFIX: &[u8] = b"access-control-";
