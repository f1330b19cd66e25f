//! What Ringward changes in heads on their way: identity, provenance, and what the policy asked for.
//!
//! The order is part of the security: fields that look like identity headers are dropped from what the client sent on every
//! route, then what the policy sets is written, and what only Ringward may say comes last and replaces all else.

use std::{cell::OnceCell, net::IpAddr};

use ringward_config::{ClientAddressHeader, Forward, ForwardMode, XfccMode};
use ringward_http::{
    RequestHead, ResponseHead,
    grpc::{self, TimeoutText},
    write,
};
use ringward_identity::{PeerIdentity, headers};
use ringward_policy::Decision;
use smallvec::SmallVec;

use crate::{
    compression::Recoded,
    header_edits::Fields,
    on_behalf::{Lists, OnBehalf},
    snapshot::Host,
};

/// The changes of one exchange.
pub(crate) struct Edits<'a> {
    forward: &'a Forward,
    client: &'a Client,
    /// Who sends it, the client or a proxy that names it.
    sender: &'a Client,
    lists: Lists,
    /// The client, as far as the route wants to know.
    peer: Option<&'a PeerIdentity>,
    decision: Option<&'a Decision>,
    date: &'a [u8; 29],
    /// The request's head is written as it is: all this was done to it before.
    is_written: bool,
    /// What is left of the time of a gRPC call, if that is limited.
    pub(crate) grpc_timeout: Option<TimeoutText>,
    /// What the configuration changes.
    pub(crate) fields: Option<&'a Fields<'a>>,
}

/// Whose requests they are.
pub(crate) struct Client {
    /// The address without port.
    ip: Box<str>,
    /// What `x-forwarded-client-cert` says; made when it is first sent.
    xfcc: OnceCell<Box<str>>,
}

impl Client {
    pub(crate) fn new(ip: IpAddr) -> Client {
        Client { ip: ip.to_canonical().to_string().into(), xfcc: OnceCell::new() }
    }

    /// The address without port.
    pub(crate) fn ip(&self) -> &str {
        &self.ip
    }
}

/// What was promised to the client.
pub(crate) use write::ResponseFraming;

type Set<'a> = SmallVec<[(&'a str, &'a [u8]); 6]>;

impl<'a> Edits<'a> {
    /// The changes of a request that `sender` sends, `on_behalf` of itself or another. `date` as the `Date` field has it.
    pub(crate) fn new(
        host: &'a Host,
        (sender, on_behalf): (&'a Client, &'a OnBehalf),
        peer: Option<&'a PeerIdentity>,
        decision: Option<&'a Decision>,
        date: &'a [u8; 29],
    ) -> Edits<'a> {
        let client = on_behalf.client.as_deref().map_or(sender, |client| &client.said);
        let lists = on_behalf.lists;
        let forward = &host.forward;
        Edits {
            forward,
            client,
            sender,
            lists,
            peer,
            decision,
            date,
            is_written: false,
            grpc_timeout: None,
            fields: None,
        }
    }

    /// No changes of a request's head, because it is a copy of one that was written for an upstream. Of the rest `forward` and `client`
    /// are to say nothing.
    pub(crate) fn written(forward: &'a Forward, client: &'a Client) -> Edits<'a> {
        Edits {
            forward,
            client,
            sender: client,
            lists: Lists::default(),
            peer: None,
            decision: None,
            date: b"Thu, 01 Jan 1970 00:00:00 GMT",
            is_written: true,
            grpc_timeout: None,
            fields: None,
        }
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
        if self.is_written {
            return write(&as_it_is(head));
        }
        let (mut set, mut add): (Set<'_>, Set<'_>) = (SmallVec::new(), SmallVec::new());
        if let Some(fields) = self.fields {
            // The policy, which knows the request, has the last word.
            set.extend(fields.set_in_request().filter(|(name, _)| !self.is_decided(name.as_bytes())));
            add.extend(fields.appended_to_request().filter(|(name, _)| !self.is_decided(name.as_bytes())));
        }
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
            path: self.fields.and_then(Fields::path),
            authority: self.fields.and_then(|fields| fields.host),
            query: write::QueryEdits { set: &parameters, remove: &removed },
            set: &set,
            add: &add,
            via: self.forward.via.as_deref(),
            forwarded: write::Forwarded {
                x_forwarded: self.mode(self.forward.x_forwarded, ClientAddressHeader::XForwardedFor),
                forwarded: self.mode(self.forward.forwarded, ClientAddressHeader::Forwarded),
                client_ip: &self.client.ip,
                peer_ip: &self.sender.ip,
                proto: "https",
                host: head.authority(),
            },
            framing: head.body(),
            expect_continue: false,
        })
    }

    /// Writes the head of an interim response for the client.
    pub(crate) fn interim_head(&self, out: &mut Vec<u8>, head: &RequestHead, response: &ResponseHead) {
        // Nothing of ours is in it, so nothing can be refused.
        let _ = self.response_head(out, head, response, true, None);
    }

    /// Writes the head of a response for the client, interim or final, and says how its body has to follow. `recoded` is what compression
    /// changes in it.
    ///
    /// # Errors
    /// When a field that the policy added cannot be written; nothing is written then.
    pub(crate) fn response_head(
        &self,
        out: &mut Vec<u8>,
        head: &RequestHead,
        response: &ResponseHead,
        keep_alive: bool,
        recoded: Option<&Recoded>,
    ) -> Result<ResponseFraming, write::WriteError> {
        self.with_response_edits(head, keep_alive, recoded, |edits| {
            write::response_head(out, response, edits)
        })
    }

    /// Gives `field` what an HTTP/2 client gets of a response, interim or final, as names and values.
    ///
    /// # Errors
    /// When a field that the policy added cannot be written.
    pub(crate) fn response_fields(
        &self,
        head: &RequestHead,
        response: &ResponseHead,
        recoded: Option<&Recoded>,
        field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), write::WriteError> {
        self.with_response_edits(head, true, recoded, |edits| write::response_fields(response, edits, field))
    }

    fn with_response_edits<T>(
        &self,
        head: &RequestHead,
        keep_alive: bool,
        recoded: Option<&Recoded>,
        write: impl FnOnce(&write::ResponseEdits<'_>) -> T,
    ) -> T {
        let (mut set, mut add): (Set<'_>, Set<'_>) = (SmallVec::new(), SmallVec::new());
        if let Some(fields) = self.fields {
            set.extend(fields.set_in_response());
            add.extend(fields.appended_to_response());
        }
        if let Some(decision) = self.decision {
            add.extend(
                decision.response_headers_to_add.iter().map(|(name, value)| (&**name, value.as_bytes())),
            );
        }
        let changed = recoded.map(Recoded::fields);
        add.extend(changed.iter().flatten().copied());
        write(&write::ResponseEdits {
            version: head.version(),
            keep_alive,
            is_recoded: recoded.is_some_and(Recoded::is_encoded),
            via: None,
            date: Some(self.date),
            drop_field: &|name| {
                self.fields.is_some_and(|fields| fields.drops_of_response(name))
                    || recoded.is_some_and(|recoded| recoded.drops(name))
            },
            set: &set,
            add: &add,
        })
    }

    /// Whether the policy adds such a field to responses. The configuration was checked when it was read.
    pub(crate) fn adds_to_response(&self, lower_name: &str) -> bool {
        let added = self.decision.map_or(&[][..], |decision| &decision.response_headers_to_add);
        added.iter().any(|(name, _)| name.eq_ignore_ascii_case(lower_name))
    }

    /// Whether the policy has said what becomes of a field of the request.
    fn is_decided(&self, name: &[u8]) -> bool {
        self.decision.is_some_and(|decision| {
            let set = decision.request_headers_to_set.iter().map(|(name, _)| name);
            let mut names = set.chain(&decision.request_headers_to_remove);
            names.any(|other| is_one_variable(name, other.as_bytes()))
        })
    }

    /// What becomes of a field of provenance.
    fn mode(&self, configured: ForwardMode, header: ClientAddressHeader) -> write::ForwardMode {
        match configured {
            ForwardMode::Off => write::ForwardMode::Off,
            ForwardMode::Append if self.lists.continues(header) => write::ForwardMode::Append,
            ForwardMode::Set | ForwardMode::Append => write::ForwardMode::Set,
        }
    }

    fn drops(&self, name: &[u8]) -> bool {
        headers::is_stripped_inbound(name)
            || self.forward.x_forwarded == ForwardMode::Off && starts_as(name, b"x-forwarded-")
            || self.forward.forwarded == ForwardMode::Off && name.eq_ignore_ascii_case(b"forwarded")
            || self.fields.is_some_and(|fields| fields.request.replaces(name))
            || self.is_decided(name)
    }

    /// Whether a trailer field of the request goes no further: an upstream that puts trailers to the other fields would take it for
    /// what is written in the head, or not written there.
    pub(crate) fn drops_trailer(&self, name: &[u8]) -> bool {
        self.drops(name) || starts_as(name, b"x-forwarded-") || is_one_variable(name, b"forwarded")
    }

    /// Whether a trailer field of the response goes no further: what clients must not see in the head is not for them here either.
    pub(crate) fn drops_trailer_of_response(&self, name: &[u8]) -> bool {
        self.fields.is_some_and(|fields| fields.drops_of_response(name))
    }
}

/// Nothing changes.
fn as_it_is(head: &RequestHead) -> write::RequestEdits<'_> {
    write::RequestEdits {
        drop_field: &|_| false,
        path: None,
        authority: None,
        query: write::QueryEdits { set: &[], remove: &[] },
        set: &[],
        add: &[],
        via: None,
        forwarded: write::Forwarded::default(),
        framing: head.body(),
        expect_continue: false,
    }
}

/// Whether two names of fields are one to upstreams which make variables of them (RFC 3875 §4.1.18), and so read `_` for `-`.
pub(crate) fn is_one_variable(one: &[u8], another: &[u8]) -> bool {
    one.len() == another.len() && starts_as(one, another)
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
