//! On whose behalf a request comes, where a trusted proxy says so in its header.
//!
//! What is said here is an address and no identity, for which there is [`crate::forwarded`]. It is read from the end of the list,
//! and believed as far as those are trusted who have written it: what stands in front of that is the client's own word. Requests
//! from anybody else are their connection's, whatever they say.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
};

use ringward_config::{ClientAddress, ClientAddressHeader};
use ringward_http::{BadHops, HopField, Hops, RequestHead};
use ringward_identity::PeerIdentity;
use ringward_telemetry::AddressClaim;

use crate::{
    connection::{Connection, Subjects},
    edits::Client,
    error::ProxyError,
    forwarded::{self, Forwarded},
    snapshot::Listener,
    worker::View,
};

/// What a request's header has said about its client, as far as it is believed.
#[derive(Default)]
pub(crate) struct OnBehalf {
    /// The client, if it is not in all the one of the connection. Boxed, as few requests have one.
    pub(crate) client: Option<Box<NamedClient>>,
    /// Which received lists of addresses may be continued.
    pub(crate) lists: Lists,
}

/// A client that a proxy has said something of.
pub(crate) struct NamedClient {
    /// Its address, if that was said.
    pub(crate) ip: Option<IpAddr>,
    /// Its certificate, if that is the proxy's affair: then it is never that of the connection.
    pub(crate) forwarded: Option<Forwarded>,
    /// As upstreams are told of it.
    pub(crate) said: Client,
    /// As policies see it. Of this request alone: others of the connection are of other clients.
    pub(crate) subjects: RefCell<Subjects>,
}

/// What the metrics know of a request. It may be judged several times, and is one request all the same: only what has become of it
/// since is counted as well.
#[derive(Default)]
pub(crate) struct Counted {
    address: Cell<Option<AddressClaim>>,
    /// The word of the verdict on the forwarded identity.
    identity: Cell<Option<&'static str>>,
}

impl Counted {
    /// Whether this verdict on the forwarded identity is news.
    pub(crate) fn is_new(&self, verdict: &'static str) -> bool {
        self.identity.replace(Some(verdict)) != Some(verdict)
    }
}

/// Which received lists of addresses `append` continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lists {
    /// All, as the host's `forward` says.
    #[default]
    All,
    /// That of the field which trusted proxies write.
    Only(ClientAddressHeader),
    /// None: whoever sent the request is not believed.
    Nobodys,
}

impl OnBehalf {
    /// The client's address.
    pub(crate) fn ip(&self, connection: &Connection) -> IpAddr {
        let said = self.client.as_ref().and_then(|client| client.ip);
        said.unwrap_or_else(|| connection.peer_addr.ip())
    }

    /// The client's certificate, if a proxy has to say whose it is.
    pub(crate) fn forwarded(&self) -> Option<&Forwarded> {
        self.client.as_ref()?.forwarded.as_ref()
    }

    /// The client, if it is verified.
    pub(crate) fn peer<'c>(&'c self, connection: &'c Connection) -> Option<&'c PeerIdentity> {
        match self.forwarded() {
            Some(forwarded) => forwarded.admitted().map(|admitted| &*admitted.identity),
            None => connection.standing.admission().terms.peer.as_deref(),
        }
    }
}

impl Lists {
    /// Whether the list of this field is continued.
    pub(crate) fn continues(self, header: ClientAddressHeader) -> bool {
        match self {
            Lists::All => true,
            Lists::Only(believed) => believed == header,
            Lists::Nobodys => false,
        }
    }
}

/// Finds out on whose behalf a request comes, on a connection whose client is admitted by the rules of host `admitted_as`.
///
/// # Errors
/// [`ProxyError::BadClientAddress`] when a trusted proxy has written what names nobody, and those of [`forwarded::of`].
pub(crate) fn of(
    connection: &Connection,
    view: &View,
    (listener, admitted_as): (&Listener, usize),
    head: &RequestHead,
    counted: &Counted,
) -> Result<OnBehalf, ProxyError> {
    let (ip, lists) = address(connection, listener, head, counted)?;
    let forwarded = forwarded::of(connection, view, (listener, admitted_as), head, counted)?;
    let client = (ip.is_some() || forwarded.is_some()).then(|| {
        let said = Client::new(ip.unwrap_or_else(|| connection.peer_addr.ip()));
        Box::new(NamedClient { ip, forwarded, said, subjects: RefCell::default() })
    });
    Ok(OnBehalf { client, lists })
}

/// The address that a trusted proxy names, and which lists of addresses are believed.
fn address(
    connection: &Connection,
    listener: &Listener,
    head: &RequestHead,
    counted: &Counted,
) -> Result<(Option<IpAddr>, Lists), ProxyError> {
    let Some(rules) = &listener.client_address else { return Ok((None, Lists::All)) };
    let count = |outcome| {
        if counted.address.replace(Some(outcome)) != Some(outcome) {
            connection.worker.shard.address_claim(connection.facts.listener, outcome);
        }
    };
    if !rules.is_from(connection.peer_addr.ip()) {
        if head.names().any(is_claim) {
            count(AddressClaim::Untrusted);
        }
        return Ok((None, Lists::Nobodys));
    }
    let named = named_client(rules, head).inspect_err(|_| count(AddressClaim::Malformed))?;
    count(if named.is_some() { AddressClaim::Taken } else { AddressClaim::Absent });
    Ok((named, Lists::Only(rules.header)))
}

/// The client that the header of a trusted proxy's request names; `None` if there is none, so that the request is its own.
fn named_client(rules: &ClientAddress, head: &RequestHead) -> Result<Option<IpAddr>, ProxyError> {
    let field = match rules.header {
        ClientAddressHeader::XForwardedFor => HopField::XForwardedFor,
        ClientAddressHeader::Forwarded => HopField::Forwarded,
    };
    let bad = |why: BadHops| ProxyError::BadClientAddress { field: field.name(), why };
    let hops = Hops::of(head, field).map_err(bad)?;
    if hops.is_empty() {
        return Ok(None);
    }
    let mut nearest_first = hops.nearest_first();
    if let Some(count) = rules.hops {
        return match nearest_first.nth(count - 1) {
            Some(hop) => hop.map(Some).map_err(bad),
            // Somebody has got around one of the proxies.
            None => Err(ProxyError::TooFewHops { field: field.name(), expected: count, found: hops.len() }),
        };
    }
    let mut client = None;
    for hop in nearest_first {
        let hop = hop.map_err(bad)?;
        client = Some(hop);
        if !rules.is_from(hop) {
            break;
        }
    }
    Ok(client)
}

/// Whether a field of this name says whose request it is, also to upstreams that read `_` for `-`.
fn is_claim(name: &[u8]) -> bool {
    let is = |other: HopField| {
        let other = other.name().as_bytes();
        let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() == other.len() && name.iter().map(folded).eq(other.iter().copied())
    };
    is(HopField::XForwardedFor) || is(HopField::Forwarded)
}

#[cfg(test)]
mod tests {
    use ringward_http::HeadLimits;

    use super::*;

    fn rules(from: &[&str], hops: Option<usize>) -> ClientAddress {
        let from = from.iter().map(|network| network.parse().unwrap()).collect();
        ClientAddress { from, header: ClientAddressHeader::XForwardedFor, hops }
    }

    /// The client that a list names, or the error's flag.
    fn named(rules: &ClientAddress, list: &str) -> Result<Option<String>, &'static str> {
        let mut head = RequestHead::new();
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {list}\r\n\r\n");
        let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
        assert_eq!(head.parse(text.as_bytes(), &limits), Ok(Some(text.len())));
        named_client(rules, &head).map(|ip| ip.map(|ip| ip.to_string())).map_err(|error| error.flag())
    }

    fn found(ip: &str) -> Result<Option<String>, &'static str> {
        Ok(Some(ip.to_owned()))
    }

    #[test]
    fn the_client_is_the_nearest_whom_nobody_trusts() {
        let rules = rules(&["10.0.0.0/8", "2001:db8::/64"], None);
        assert_eq!(named(&rules, ""), Ok(None));
        assert_eq!(named(&rules, "192.0.2.1"), found("192.0.2.1"));
        assert_eq!(named(&rules, "198.51.100.9, 192.0.2.1"), found("192.0.2.1"), "the first is its own word");
        assert_eq!(named(&rules, "nonsense, 192.0.2.1, 10.0.0.1, [2001:db8::7]:443"), found("192.0.2.1"));
        assert_eq!(named(&rules, "10.0.0.1, 10.0.0.2"), found("10.0.0.1"), "all are trusted: the farthest");
        assert_eq!(named(&rules, "::ffff:10.0.0.1, ::ffff:192.0.2.1"), found("192.0.2.1"));
    }

    #[test]
    fn a_node_that_counts_and_is_no_address_is_refused() {
        let rules = rules(&["10.0.0.0/8"], None);
        assert_eq!(named(&rules, "192.0.2.1, unknown"), Err("bad_client_address"));
        assert_eq!(named(&rules, "192.0.2.1, unknown, 10.0.0.1"), Err("bad_client_address"));
    }

    #[test]
    fn a_count_of_hops_says_which_element_it_is() {
        let rules = rules(&["10.0.0.0/8"], Some(2));
        assert_eq!(named(&rules, ""), Ok(None));
        assert_eq!(named(&rules, "192.0.2.1"), Err("bad_client_address"), "one was got around");
        assert_eq!(named(&rules, "192.0.2.1, 203.0.113.1"), found("192.0.2.1"));
        assert_eq!(named(&rules, "198.51.100.9, 192.0.2.1, 203.0.113.1"), found("192.0.2.1"));
        assert_eq!(named(&rules, "198.51.100.9, unknown, 203.0.113.1"), Err("bad_client_address"));
    }

    #[test]
    fn lists_are_continued_only_where_they_are_believed() {
        use ClientAddressHeader::{Forwarded, XForwardedFor};
        for (lists, continued) in [
            (Lists::All, [true, true]),
            (Lists::Only(XForwardedFor), [true, false]),
            (Lists::Only(Forwarded), [false, true]),
            (Lists::Nobodys, [false, false]),
        ] {
            assert_eq!([XForwardedFor, Forwarded].map(|header| lists.continues(header)), continued);
        }
    }

    #[test]
    fn every_spelling_of_a_claim_is_known() {
        for name in ["X-Forwarded-For", "x_forwarded-for", "FORWARDED"] {
            assert!(is_claim(name.as_bytes()), "{name}");
        }
        for name in ["x-forwarded-proto", "x-forwarded-fo", "forwarded-for", ""] {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
    }
}
