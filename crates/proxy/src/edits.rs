//! What Ringward changes in heads on their way: identity, provenance, and what the policy asked for.
//!
//! The order is part of the security: fields that look like identity headers are dropped from what the client sent on every
//! route, then what the policy sets is written, and what only Ringward may say comes last and replaces all else.

use std::{cell::OnceCell, net::SocketAddr};

use ringward_config::{Forward, ForwardMode, XfccMode};
use ringward_http::{
    RequestHead, ResponseHead,
    grpc::{self, TimeoutText},
    write,
};
use ringward_identity::{PeerIdentity, headers};
use ringward_policy::Decision;
use smallvec::SmallVec;

use crate::snapshot::Host;

/// The changes of one exchange.
pub(crate) struct Edits<'a> {
    forward: &'a Forward,
    client: &'a Client,
    /// The client, as far as the route wants to know.
    peer: Option<&'a PeerIdentity>,
    decision: Option<&'a Decision>,
    date: &'a [u8; 29],
    /// What is left of the time of a gRPC call, if that is limited.
    pub(crate) grpc_timeout: Option<TimeoutText>,
}

/// Who sends the requests of a connection.
pub(crate) struct Client {
    /// The address without port.
    ip: Box<str>,
    /// What `x-forwarded-client-cert` says; made when it is first sent.
    xfcc: OnceCell<Box<str>>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Client {
        Client { ip: addr.ip().to_canonical().to_string().into(), xfcc: OnceCell::new() }
    }
}

/// What was promised to the client.
pub(crate) use write::ResponseFraming;

type Set<'a> = SmallVec<[(&'a str, &'a [u8]); 6]>;

impl<'a> Edits<'a> {
    /// `date` as the `Date` field has it.
    pub(crate) fn new(
        host: &'a Host,
        client: &'a Client,
        peer: Option<&'a PeerIdentity>,
        decision: Option<&'a Decision>,
        date: &'a [u8; 29],
    ) -> Edits<'a> {
        Edits { forward: &host.forward, client, peer, decision, date, grpc_timeout: None }
    }

    /// Writes the request's head for an upstream that speaks HTTP/1.1.
    ///
    /// # Errors
    /// When a field that the policy set cannot be written; nothing is written then.
    pub(crate) fn request_head(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
    ) -> Result<(), write::WriteError> {
        self.with_request_edits(head, |edits| write::request_head(out, head, edits))
    }

    /// Prepares the request's head for an upstream that speaks HTTP/2, in `image`.
    ///
    /// # Errors
    /// As [`Edits::request_head`].
    pub(crate) fn request_fields<'i>(
        &self,
        image: &'i mut Vec<u8>,
        head: &RequestHead,
    ) -> Result<write::Http2Fields<'i>, write::WriteError> {
        self.with_request_edits(head, |edits| write::request_fields(image, head, edits))
    }

    fn with_request_edits<T>(
        &self,
        head: &RequestHead,
        write: impl FnOnce(&write::RequestEdits<'_>) -> T,
    ) -> T {
        let mut set: Set<'_> = SmallVec::new();
        if let Some(decision) = self.decision {
            set.extend(
                decision.request_headers_to_set.iter().map(|(name, value)| (&**name, value.as_bytes())),
            );
        }
        if let Some(peer) = self.peer {
            if self.forward.client_cert {
                set.push((headers::CLIENT_CERT, peer.client_cert().as_bytes()));
            }
            if self.forward.client_cert_chain
                && let Some(chain) = peer.client_cert_chain()
            {
                set.push((headers::CLIENT_CERT_CHAIN, chain.as_bytes()));
            }
            if self.forward.xfcc == XfccMode::Set {
                let xfcc = self.client.xfcc.get_or_init(|| peer.xfcc(None).into());
                set.push((headers::X_FORWARDED_CLIENT_CERT, xfcc.as_bytes()));
            }
        }
        if let Some(timeout) = &self.grpc_timeout
            // What the policy wants goes first here.
            && !set.iter().any(|(name, _)| name.eq_ignore_ascii_case(grpc::TIMEOUT))
        {
            set.push((grpc::TIMEOUT, timeout.as_bytes()));
        }
        let parameters = self.decision.map_or(&[][..], |decision| &decision.query_parameters_to_set);
        let parameters: SmallVec<[_; 4]> =
            parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        let removed = self.decision.map_or(&[][..], |decision| &decision.query_parameters_to_remove);
        let removed: SmallVec<[&str; 4]> = removed.iter().map(|name| &**name).collect();
        write(&write::RequestEdits {
            drop_field: &|name| self.drops(name),
            query: write::QueryEdits { set: &parameters, remove: &removed },
            set: &set,
            via: self.forward.via.as_deref(),
            forwarded: write::Forwarded {
                x_forwarded: mode(self.forward.x_forwarded),
                forwarded: mode(self.forward.forwarded),
                client_ip: &self.client.ip,
                proto: "https",
                host: head.authority(),
            },
            framing: head.body(),
            expect_continue: false,
        })
    }

    /// Writes the head of an interim response for the client.
    pub(crate) fn interim_head(&self, out: &mut Vec<u8>, head: &RequestHead, response: &ResponseHead) {
        // Nothing is set, so nothing can be refused.
        let _ = self.response(out, head, response, true, &[]);
    }

    /// Writes the head of the final response for the client, and says how its body has to follow.
    ///
    /// # Errors
    /// When a field that the policy added cannot be written; nothing is written then.
    pub(crate) fn response_head(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
        response: &ResponseHead,
        keep_alive: bool,
    ) -> Result<ResponseFraming, write::WriteError> {
        let mut add: Set<'_> = SmallVec::new();
        if let Some(decision) = self.decision {
            add.extend(
                decision.response_headers_to_add.iter().map(|(name, value)| (&**name, value.as_bytes())),
            );
        }
        self.response(out, head, response, keep_alive, &add)
    }

    fn response(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
        response: &ResponseHead,
        keep_alive: bool,
        add: &[(&str, &[u8])],
    ) -> Result<ResponseFraming, write::WriteError> {
        write::response_head(out, response, &self.response_edits(head, keep_alive, add))
    }

    fn response_edits<'e>(
        &'e self,
        head: &RequestHead,
        keep_alive: bool,
        add: &'e [(&'e str, &'e [u8])],
    ) -> write::ResponseEdits<'e> {
        write::ResponseEdits {
            version: head.version(),
            keep_alive,
            via: None,
            date: Some(self.date),
            drop_field: &|_| false,
            set: &[],
            add,
        }
    }

    /// Gives `field` what an HTTP/2 client gets of a response, interim or final, as names and values.
    ///
    /// # Errors
    /// When a field that the policy added cannot be written.
    pub(crate) fn response_fields(
        &self,
        head: &RequestHead,
        response: &ResponseHead,
        field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), write::WriteError> {
        let mut add: Set<'_> = SmallVec::new();
        if let Some(decision) = self.decision {
            add.extend(
                decision.response_headers_to_add.iter().map(|(name, value)| (&**name, value.as_bytes())),
            );
        }
        write::response_fields(response, &self.response_edits(head, true, &add), field)
    }

    fn drops(&self, name: &[u8]) -> bool {
        headers::is_stripped_inbound(name)
            || self.forward.x_forwarded == ForwardMode::Off && starts_as(name, b"x-forwarded-")
            || self.forward.forwarded == ForwardMode::Off && name.eq_ignore_ascii_case(b"forwarded")
            || self.decision.is_some_and(|decision| {
                decision
                    .request_headers_to_remove
                    .iter()
                    .any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()))
            })
    }
}

/// Identity look-alikes that a request carries, for the metric.
pub(crate) fn lookalikes(head: &RequestHead) -> u64 {
    head.names().filter(|name| headers::is_stripped_inbound(name)).count() as u64
}

/// Whether a name begins with `prefix`, read as CGI-like upstreams do: any case, `_` for `-`.
fn starts_as(name: &[u8], prefix: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= prefix.len()
        && name.iter().map(folded).zip(prefix.iter().map(folded)).all(|(ours, theirs)| ours == theirs)
}

fn mode(mode: ForwardMode) -> write::ForwardMode {
    match mode {
        ForwardMode::Off => write::ForwardMode::Off,
        ForwardMode::Set => write::ForwardMode::Set,
        ForwardMode::Append => write::ForwardMode::Append,
    }
}
