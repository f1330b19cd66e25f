//! Whether a request asks for another protocol (RFC 9110 §7.8, RFC 8441), and whether the upstream has agreed to it.
//!
//! A tunnel is opened only between two that both said so: the client names exactly one protocol, the route allows it, and the
//! upstream answers 101 with the same one, or 2xx to the extended CONNECT of it. All else stays HTTP. What a client offers and
//! the route does not allow is dropped, as every hop-by-hop field is.

use ringward_http::{BodyFraming, Http2Connect, RequestHead, ResponseHead, Version, write};
use ringward_tls::{websocket_accept, websocket_key};

use crate::{error::ProxyError, snapshot::Route};

/// A protocol that the client asks for and the route allows.
pub(crate) struct Asked<'a> {
    /// As the configuration spells it.
    protocol: &'a str,
    /// Boxed, so that the many requests that ask for nothing need not have room for it.
    websocket: Option<Box<WebSocket>>,
}

/// What a WebSocket handshake needs besides.
struct WebSocket {
    /// The key that we made up: a client of HTTP/2 sends none (RFC 8441 §5).
    own_key: Option<[u8; 24]>,
    /// What the upstream has to answer.
    accept: [u8; 28],
}

impl<'a> Asked<'a> {
    /// What `head` asks for on `route`; `None` if it is an ordinary request there.
    ///
    /// # Errors
    /// [`ProxyError::BadUpgrade`] if it cannot be asked for like this, [`ProxyError::UpgradeNotAllowed`] if it cannot go on
    /// without.
    pub(crate) fn of(head: &RequestHead, route: &'a Route) -> Result<Option<Asked<'a>>, ProxyError> {
        let Some(offered) = head.upgrade() else { return Ok(None) };
        match find(route, offered) {
            Some(protocol) => Asked::check(head, protocol).map(Some),
            // What is left of it would be a GET that the client did not send.
            None if head.version() == Version::Http2 => Err(ProxyError::UpgradeNotAllowed),
            // A policy that compares the field with one protocol must not miss that it is asked for.
            None if offered.split(',').any(|name| find(route, name.trim_matches(' ')).is_some()) => {
                Err(ProxyError::BadUpgrade("it offers several protocols, of which the route allows one"))
            }
            None => Ok(None),
        }
    }

    fn check(head: &RequestHead, protocol: &'a str) -> Result<Asked<'a>, ProxyError> {
        let bad = |why| Err(ProxyError::BadUpgrade(why));
        if !matches!(head.body(), BodyFraming::None | BodyFraming::Length(0)) {
            // Where the body ends and the other protocol begins is read in more than one way.
            return bad("it has a body");
        }
        if head.is_head() {
            return bad("its method is HEAD, whose response says nothing of what would follow");
        }
        if !protocol.eq_ignore_ascii_case("websocket") {
            return Ok(Asked { protocol, websocket: None });
        }
        // RFC 6455 §4.1. What is wrong here could be a handshake to one server and an ordinary request to another.
        if head.method() != "GET" {
            return bad("the method of a WebSocket handshake is GET");
        }
        let is_number = |value: &[u8]| matches!(value.len(), 1..=3) && value.iter().all(u8::is_ascii_digit);
        if !only(head.fields(), "sec-websocket-version").is_some_and(is_number) {
            return bad("a WebSocket handshake has one sec-websocket-version");
        }
        let own_key = (head.version() == Version::Http2).then(websocket_key);
        let key = match &own_key {
            Some(key) => &key[..],
            None => match only(head.fields(), "sec-websocket-key") {
                Some(key) if is_key(key) => key,
                _ => return bad("a WebSocket handshake has one sec-websocket-key of 16 bytes in base64"),
            },
        };
        let accept = websocket_accept(key);
        Ok(Asked { protocol, websocket: Some(Box::new(WebSocket { own_key, accept })) })
    }

    /// The protocol.
    pub(crate) fn protocol(&self) -> &'a str {
        self.protocol
    }

    /// As an upstream that speaks HTTP/2 is asked.
    pub(crate) fn connect(&self) -> Http2Connect<'_> {
        match &self.websocket {
            // RFC 8441 §5 spells it like this. The proof is for the client, if that speaks HTTP/1.1.
            Some(websocket) => Http2Connect { protocol: "websocket", accept: Some(&websocket.accept) },
            None => Http2Connect { protocol: self.protocol, accept: None },
        }
    }

    /// Makes the head of the request that was just written to `out`, for an upstream that speaks HTTP/1.1, ask for it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), write::WriteError> {
        let own_key = self.websocket.as_ref().and_then(|websocket| websocket.own_key.as_ref());
        match own_key {
            Some(key) => write::upgrade(out, self.protocol, &[("sec-websocket-key", key)]),
            None => write::upgrade(out, self.protocol, &[]),
        }
    }

    /// Whether the upstream's 101 is the answer to what was asked.
    ///
    /// # Errors
    /// [`ProxyError::UpstreamUpgrade`] if it is not.
    pub(crate) fn confirm(&self, response: &ResponseHead) -> Result<(), ProxyError> {
        if !response.upgrade().is_some_and(|named| named.eq_ignore_ascii_case(self.protocol)) {
            return Err(ProxyError::UpstreamUpgrade("its 101 does not name the protocol that was asked for"));
        }
        let Some(websocket) = &self.websocket else { return Ok(()) };
        // A wrong proof means that something between answers without understanding what it is asked.
        match only(response.fields(), "sec-websocket-accept") {
            Some(accept) if accept == websocket.accept => Ok(()),
            _ => Err(ProxyError::UpstreamUpgrade("its sec-websocket-accept is not that of the handshake")),
        }
    }
}

/// The protocol that `head` asks for, if `route` allows it; as the configuration spells it.
pub(crate) fn allowed<'a>(head: &RequestHead, route: &'a Route) -> Option<&'a str> {
    // Asked first: most routes carry no tunnels.
    route.tunnel.as_ref()?;
    find(route, head.upgrade()?)
}

/// RFC 9110 §16.7: names of protocols have no case.
fn find<'a>(route: &'a Route, name: &str) -> Option<&'a str> {
    let protocols = &route.tunnel.as_ref()?.protocols;
    protocols.iter().find(|protocol| protocol.eq_ignore_ascii_case(name)).map(String::as_str)
}

/// The value of a field that occurs once.
fn only<'a>(fields: impl Iterator<Item = ringward_http::Field<'a>>, name: &str) -> Option<&'a [u8]> {
    let mut values = fields.filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    values.next().filter(|_| values.next().is_none())
}

/// 16 bytes in base64: 22 symbols and the padding (RFC 6455 §4.1).
fn is_key(text: &[u8]) -> bool {
    let is_symbol = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len() == 24 && text.ends_with(b"==") && text[..22].iter().all(is_symbol)
}
