//! Listeners: addresses, limits, and which host answers when none is asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::context::{Context, UNLIMITED};
use super::host::{self, Defaults};
use super::{References, handshakes, requests, section, tls};
use crate::bounds;
use crate::host::{HostPattern, HostTable};
use crate::model::{Bind, ClientAddress, ClientAddressHeader, Limits, Listener, ProxyProtocol, Resumption};
use crate::raw::{self, Field, OneOrMany, ProxyProtocolOthers};

/// Builds all listeners.
pub(super) fn listeners(
    cx: &mut Context<'_>,
    field: &Field<Vec<Field<raw::Listener>>>,
    names: &mut References,
    defaults: &Defaults<'_>,
    metrics: Option<&Bind>,
) -> Vec<Listener> {
    if field.is_absent() {
        cx.whole_file_error("there is no [[listener]]", "add one: without it nothing is served");
    }
    let mut built: Vec<Listener> = Vec::new();
    let mut sockets = Vec::new();
    if let Some(metrics) = metrics {
        sockets.push(Socket { addr: metrics.addr, owner: "[admin].metrics".to_owned(), span: 0..0 });
    }
    for raw in cx.given(field).into_iter().flat_map(|list| list.get_ref()) {
        let Some(raw) = cx.given(raw) else { continue };
        let listener = listener(cx, raw, names, defaults, &mut sockets);
        if let Some(known) = built.iter().find(|known| known.name == listener.name) {
            let span = raw.get_ref().name.span().unwrap_or(raw.span());
            let message =
                format!("the name {:?} belongs to the listener at {}", known.name, cx.place(&known.at));
            cx.error(&span, message).help("give each listener a name of its own");
        }
        built.push(listener);
    }
    check_sockets(cx, &sockets);
    built
}

fn listener(
    cx: &mut Context<'_>,
    raw: &Spanned<raw::Listener>,
    names: &mut References,
    defaults: &Defaults<'_>,
    sockets: &mut Vec<Socket>,
) -> Listener {
    let (span, raw) = (raw.span(), raw.get_ref());
    let name = cx
        .required("name", "name = \"edge\"", &raw.name, &span)
        .and_then(|name| cx.name("a listener", name.get_ref(), &name.span()));
    // Unique, so that a listener without a name is not also called a duplicate.
    let name = name.unwrap_or_else(|| format!("at {}", cx.place(&cx.at(&span))));
    let bind = binds(cx, raw, &span, &name, sockets);
    let limits = limits(cx, &raw.limits);
    let http2 = cx.value_or(&raw.http2, true);
    let defaults = Defaults { body_bytes_max: limits.body_bytes_max, http2, ..*defaults };
    let proxy_protocol = proxy_protocol(cx, &raw.proxy_protocol);
    let handshakes = handshakes::handshakes(cx, &raw.handshakes, limits.handshake_timeout);
    let requests = requests::requests(cx, &raw.requests);
    let client_address = client_address(cx, &raw.client_address);
    let tls = tls::policy(cx, &raw.tls);
    if raw.host.is_absent() {
        cx.error(&span, "the listener has no [[listener.host]]")
            .help("add one with names, certificate and client_auth: every listener speaks TLS");
    }
    let mut hosts = Vec::new();
    for host in cx.given(&raw.host).into_iter().flat_map(|list| list.get_ref()) {
        let Some(host) = cx.given(host) else { continue };
        hosts.push(host::host(cx, host, names, &defaults));
    }
    let table = host_table(cx, &hosts);
    let default_host = cx.given(&raw.default_host).and_then(|name| default_host(cx, name, &hosts, &table));
    let backlog = cx.number("backlog", &raw.backlog, &bounds::BACKLOG);
    Listener {
        name,
        bind,
        default_host,
        backlog: u32::try_from(backlog).unwrap_or(u32::MAX),
        resumption: cx.value_or(&raw.resumption, Resumption::Tickets),
        http2,
        proxy_protocol,
        handshakes,
        requests,
        client_address,
        tls,
        limits,
        hosts: hosts.into_iter().filter_map(|host| host.model).collect(),
        at: cx.at(&span),
    }
}

fn proxy_protocol(cx: &mut Context<'_>, field: &Field<raw::ProxyProtocol>) -> Option<ProxyProtocol> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    let serves_others = cx.value_or(&raw.others, ProxyProtocolOthers::Refuse) == ProxyProtocolOthers::Direct;
    let from = load_balancers(cx, &raw.from, &span)?;
    Some(ProxyProtocol { from, serves_others })
}

fn client_address(cx: &mut Context<'_>, field: &Field<raw::ClientAddress>) -> Option<ClientAddress> {
    let given = cx.given(field)?;
    let (span, raw) = (given.span(), given.get_ref());
    let header = cx.value_or(&raw.header, ClientAddressHeader::XForwardedFor);
    let hops = cx.optional_number("hops", &raw.hops, &bounds::CLIENT_ADDRESS_HOPS);
    let from = load_balancers(cx, &raw.from, &span)?;
    Some(ClientAddress { from, header, hops })
}

/// The networks of `from`, whose word is taken for who somebody is. None if the key is missing.
fn load_balancers(
    cx: &mut Context<'_>,
    field: &Field<OneOrMany>,
    section: &Range<usize>,
) -> Option<Vec<IpNet>> {
    let list = cx.required("from", "from = \"10.0.0.0/24\", the load balancers' network", field, section)?;
    let mut from = Vec::new();
    for item in cx.list("from", list, bounds::LOAD_BALANCERS) {
        let (text, span) = (item.get_ref(), item.span());
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            Some(network) if network.prefix_len() == 0 => {
                cx.error(&span, format!("`from`: {text:?} is every address, so anybody could be anybody"))
                    .help("name the addresses or networks of the load balancers");
            }
            Some(network) if network.addr() != network.network() => {
                cx.error(&span, format!("`from`: {text:?} has bits behind its prefix"))
                    .help(format!("write {:?} for the network", network.trunc().to_string()));
            }
            Some(network) => from.push(network),
            None => {
                cx.error(&span, format!("`from`: {text:?} is neither an IP address nor a network"))
                    .help("write an address such as \"10.0.0.7\", or a network such as \"10.0.0.0/24\"");
            }
        }
    }
    Some(from)
}

/// An address to be opened.
struct Socket {
    addr: SocketAddr,
    /// Who listens there, for messages.
    owner: String,
    span: Range<usize>,
}

fn binds(
    cx: &mut Context<'_>,
    raw: &raw::Listener,
    section: &Range<usize>,
    listener: &str,
    sockets: &mut Vec<Socket>,
) -> Vec<Bind> {
    let Some(list) = cx.required("bind", "bind = [\"[::]:8443\"]", &raw.bind, section) else {
        return Vec::new();
    };
    let mut binds = Vec::new();
    for item in cx.list("bind", list, bounds::BINDS) {
        let Some(addr) = cx.socket_addr("bind", item.get_ref(), &item.span()) else { continue };
        sockets.push(Socket { addr, owner: format!("the listener {listener:?}"), span: item.span() });
        binds.push(Bind { addr, at: cx.at(&item.span()) });
    }
    binds
}

/// Refuses addresses that overlap. SO_REUSEPORT would let both be opened, and the kernel would deal connections out.
fn check_sockets(cx: &mut Context<'_>, sockets: &[Socket]) {
    for (index, socket) in sockets.iter().enumerate() {
        let split =
            |port| sockets.iter().any(|other| other.addr == SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let split = split(socket.addr.port());
        if let Some(first) = sockets[..index].iter().find(|first| overlap(first.addr, socket.addr, split)) {
            let message =
                format!("the address {} is taken by {}, which has {}", socket.addr, first.owner, first.addr);
            cx.error(&socket.span, message).help(
                "an address belongs to one listener, once; \"0.0.0.0\" takes every IPv4 address, and \"[::]\" every \
                 address unless \"0.0.0.0\" is bound as well",
            );
        }
    }
}

/// Whether two addresses would take the same connections. Port 0 lets the kernel choose a free one each time. `split`
/// says that `0.0.0.0` is bound on this port, which leaves IPv6 alone to `[::]`.
fn overlap(a: SocketAddr, b: SocketAddr, split: bool) -> bool {
    let takes = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(wide) => wide.is_unspecified() && (narrow.is_ipv6() || !split),
    };
    // `[::ffff:10.0.0.1]` is `10.0.0.1`.
    let (ip_a, ip_b) = (a.ip().to_canonical(), b.ip().to_canonical());
    a.port() == b.port() && a.port() != 0 && (ip_a == ip_b || takes(ip_a, ip_b) || takes(ip_b, ip_a))
}

fn limits(cx: &mut Context<'_>, field: &Field<raw::Limits>) -> Limits {
    let (raw, _) = section(cx, field);
    let requests = &raw.requests_per_connection_max;
    let age = &raw.connection_age_max;
    Limits {
        connections_max: cx.number("connections_max", &raw.connections_max, &bounds::CONNECTIONS_MAX),
        head_bytes_max: cx.size("head_bytes_max", &raw.head_bytes_max, &bounds::HEAD_BYTES_MAX),
        fields_max: cx.number("fields_max", &raw.fields_max, &bounds::FIELDS_MAX),
        streams_max: cx.number("streams_max", &raw.streams_max, &bounds::STREAMS_MAX),
        body_bytes_max: cx
            .optional_size_or_unlimited("body_bytes_max", &raw.body_bytes_max)
            .unwrap_or(Some(bounds::BODY_BYTES_MAX_DEFAULT)),
        handshake_timeout: cx.duration(
            "handshake_timeout",
            &raw.handshake_timeout,
            &bounds::HANDSHAKE_TIMEOUT,
        ),
        header_timeout: cx.duration("header_timeout", &raw.header_timeout, &bounds::HEADER_TIMEOUT),
        body_timeout: cx.duration("body_timeout", &raw.body_timeout, &bounds::BODY_TIMEOUT),
        idle_timeout: cx.duration("idle_timeout", &raw.idle_timeout, &bounds::IDLE_TIMEOUT),
        requests_per_connection_max: cx.number_or_word(
            "requests_per_connection_max",
            requests,
            UNLIMITED,
            &bounds::REQUESTS_PER_CONNECTION_MAX,
        ),
        connection_age_max: cx.duration_or_word(
            "connection_age_max",
            age,
            UNLIMITED,
            &bounds::CONNECTION_AGE_MAX,
        ),
    }
}

/// The hosts by name, as indices; a name that two hosts have is reported at the second.
fn host_table(cx: &mut Context<'_>, hosts: &[host::Built]) -> HostTable<usize> {
    let mut table = HostTable::new();
    let mut first: BTreeMap<&HostPattern, &Range<usize>> = BTreeMap::new();
    for (index, host) in hosts.iter().enumerate() {
        for (name, span) in &host.names {
            if table.insert(name, index).is_ok() {
                first.insert(name, span);
            } else if let Some(first) = first.get(name) {
                let place = cx.place(&cx.at(first));
                cx.error(
                    span,
                    format!("the name \"{name}\" appears twice on this listener, first at {place}"),
                )
                .help("a name belongs to one host of a listener");
            }
        }
    }
    table
}

/// The host that answers clients that ask for none, if it may.
///
/// A default host must not be laxer than any other host of the listener. Otherwise a client would get in by
/// leaving out the name of the strict host, and only the comparison of `Host` with SNI would stand between it and that host.
fn default_host(
    cx: &mut Context<'_>,
    name: &Spanned<String>,
    hosts: &[host::Built],
    table: &HostTable<usize>,
) -> Option<usize> {
    let pattern = match HostPattern::parse(name.get_ref()) {
        Ok(pattern) => pattern,
        Err(error) => {
            cx.error(&name.span(), format!("`default_host`: {error}"));
            return None;
        }
    };
    let found = match &pattern {
        HostPattern::Exact(exact) => table.lookup(exact.as_str()).copied(),
        HostPattern::Wildcard(_) => {
            hosts.iter().position(|host| host.names.iter().any(|(known, _)| *known == pattern))
        }
    };
    let Some(index) = found else {
        cx.error(&name.span(), format!("no host of this listener answers to {:?}", name.get_ref()))
            .help("default_host is one of the names of a [[listener.host]] of this listener");
        return None;
    };
    let default = hosts[index].model.as_ref()?;
    for other in hosts.iter().filter_map(|host| host.model.as_ref()) {
        if let Some(difference) = default.client_auth.laxer_than(&other.client_auth) {
            let message = format!(
                "the default host {:?} is laxer than the host at {}: {difference}",
                name.get_ref(),
                cx.place(&other.at),
            );
            cx.error(&name.span(), message).help(
                "take the strictest host, or leave default_host away to refuse clients that ask for no host or an unknown one, \
                 or put hosts with other trust on a listener of their own",
            );
        }
    }
    Some(index)
}
