//! Where the endpoints of a cluster are found, if the configuration does not name them, and the files that name them then.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use serde_spanned::Spanned;

use super::context::{Context, ProcessKeys, UNLIMITED};
use super::endpoints::{self, Kind};
use super::upstream_tls;
use crate::bounds;
use crate::decode::{self, Manner};
use crate::diagnostic::{Diagnostics, Source};
use crate::model::{Discovery, DnsQuery, Endpoint, EndpointsDns, EndpointsFile, Family};
use crate::raw::{self, OneOrMany, WordOrTable};

/// Whether a cluster's endpoints are to be found elsewhere, readable or not.
pub(super) fn is_asked_for(raw: &raw::Cluster) -> bool {
    !raw.endpoints_file.is_absent() || !raw.endpoints_dns.is_absent()
}

/// Where the endpoints of a cluster are found; `None` if it names them.
pub(super) fn discovery(
    cx: &mut Context<'_>,
    raw: &raw::Cluster,
    dns_servers: &[SocketAddr],
) -> Option<Discovery> {
    let all = [
        ("endpoints", raw.endpoints.span()),
        ("endpoints_file", raw.endpoints_file.span()),
        ("endpoints_dns", raw.endpoints_dns.span()),
    ];
    let mut written = all.iter().filter_map(|(key, span)| Some((key, span.as_ref()?)));
    if let (Some((first, _)), Some((second, span))) = (written.next(), written.next()) {
        cx.error(span, format!("`{second}` does not go together with `{first}`")).help("write one of them");
    }
    let file = file(cx, raw).map(Discovery::File);
    file.or_else(|| dns(cx, raw, dns_servers).map(Discovery::Dns))
}

fn file(cx: &mut Context<'_>, raw: &raw::Cluster) -> Option<EndpointsFile> {
    let file = cx.given(&raw.endpoints_file)?;
    let (path, span, allow_empty) = match file.get_ref() {
        WordOrTable::Word(path) => (path, file.span(), false),
        WordOrTable::Table(table) => {
            let example = "path = \"orders.endpoints.toml\"";
            let path = cx.required("path", example, &table.path, &file.span())?;
            (path.get_ref(), path.span(), cx.value_or(&table.allow_empty, false))
        }
    };
    Some(EndpointsFile {
        path: cx.path("endpoints_file", path, &span)?,
        allow_empty,
        is_checked: !raw.health_check.is_absent(),
        needs_ip: upstream_tls::needs_ip(raw),
    })
}

fn dns(cx: &mut Context<'_>, raw: &raw::Cluster, servers: &[SocketAddr]) -> Option<EndpointsDns> {
    let dns = cx.given(&raw.endpoints_dns)?;
    let span = dns.span();
    let default = raw::EndpointsDns::default();
    let (query, table) = match dns.get_ref() {
        WordOrTable::Word(text) => (named(cx, text, &span), &default),
        WordOrTable::Table(table) => (query(cx, table, &span), table),
    };
    let ttl_min = cx.duration("ttl_min", &table.ttl_min, &bounds::DNS_TTL_MIN);
    let ttl_max = cx.duration("ttl_max", &table.ttl_max, &bounds::DNS_TTL_MAX);
    if ttl_max < ttl_min {
        cx.error(&span, "`ttl_max` is less than `ttl_min`").help("write both, the larger one as ttl_max");
    }
    Some(EndpointsDns {
        query: query?,
        family: cx.value_or(&table.family, Family::Any),
        ttl_min,
        ttl_max,
        stale_max: cx.duration_or_word("stale_max", &table.stale_max, UNLIMITED, &bounds::DNS_STALE_MAX),
        servers: servers.to_vec(),
    })
}

/// `name:port`.
fn named(cx: &mut Context<'_>, text: &str, span: &Range<usize>) -> Option<DnsQuery> {
    let port = |port: &str| port.parse().ok().filter(|port| *port > 0);
    let Some((name, port)) = text.rsplit_once(':').and_then(|(name, text)| Some((name, port(text)?))) else {
        cx.error(span, format!("`endpoints_dns`: {text:?} is not a name with a port"))
            .help("write \"orders.internal:8080\", or { srv = \"_http._tcp.orders.internal\" }");
        return None;
    };
    Some(DnsQuery::Addresses { name: dns_name(cx, "endpoints_dns", name, span)?, port })
}

fn query(cx: &mut Context<'_>, table: &raw::EndpointsDns, span: &Range<usize>) -> Option<DnsQuery> {
    let (name, srv) = (cx.given(&table.name), cx.given(&table.srv));
    let port = cx.optional_number("port", &table.port, &bounds::PORT);
    match (name, srv) {
        (Some(name), None) => {
            let name = dns_name(cx, "name", name.get_ref(), &name.span());
            cx.required("port", "port = 8080", &table.port, span)?;
            Some(DnsQuery::Addresses { name: name?, port: u16::try_from(port?).ok()? })
        }
        (None, Some(srv)) => {
            if let Some(span) = table.port.span() {
                cx.error(&span, "`port` has no meaning with `srv`").help("SRV records have ports: remove it");
            }
            Some(DnsQuery::Service(dns_name(cx, "srv", srv.get_ref(), &srv.span())?))
        }
        (Some(_), Some(_)) | (None, None) => {
            cx.error(span, "`endpoints_dns` needs exactly one of `name` and `srv`")
                .help("write { name = \"orders.internal\", port = 8080 } or { srv = \"_http._tcp.orders.internal\" }");
            None
        }
    }
}

/// A name that can be looked up. Unlike that of a host it may have underscores.
fn dns_name(cx: &mut Context<'_>, key: &str, text: &str, span: &Range<usize>) -> Option<String> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        letters && !label.is_empty() && label.len() <= LABEL_CHARS_MAX && !label.starts_with('-')
    };
    if bare.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        cx.error(span, format!("`{key}`: {text:?} is an address")).help("write it as one of `endpoints`");
        return None;
    }
    if bare.len() <= bounds::DNS_NAME_CHARS_MAX && bare.split('.').all(is_label) {
        return Some(bare.to_ascii_lowercase());
    }
    cx.error(span, format!("`{key}`: {text:?} is not a name of DNS"))
        .help("write letters, digits, '-' and '_', in parts of up to 63 that are joined by dots");
    None
}

/// The servers that are asked.
pub(super) fn servers(cx: &mut Context<'_>, list: &Spanned<OneOrMany>) -> Vec<SocketAddr> {
    let items = cx.list("dns_servers", list, bounds::DNS_SERVERS);
    let mut servers = Vec::new();
    for item in items {
        let server = match item.get_ref().parse::<IpAddr>() {
            Ok(ip) => Some(SocketAddr::new(ip, DNS_PORT)),
            Err(_) => cx.socket_addr("dns_servers", item.get_ref(), &item.span()),
        };
        let Some(server) = server else { continue };
        if server.port() == 0 || server.ip().is_unspecified() || servers.contains(&server) {
            cx.error(&item.span(), format!("`dns_servers`: {server} is not the address of another server"));
        }
        servers.push(server);
    }
    servers
}

impl EndpointsFile {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(&self, text: &str) -> Result<Vec<Endpoint>, Diagnostics> {
        let source = Source::new(&self.path.path, text);
        let mut found = Diagnostics::new();
        let (list, problems) = decode::decode::<raw::EndpointList>(text, Manner::default());
        source.note(problems, &mut found);
        let Some(list) = list else { return Err(found) };
        // Nothing in here depends on the moment or on other keys.
        let process = ProcessKeys { state_dir: false, fetch_ca: false };
        let mut cx = Context::new(&source, found, 0, process);
        let endpoints = self.endpoints(&mut cx, &list);
        let found = cx.finish();
        if found.has_errors() { Err(found) } else { Ok(endpoints) }
    }

    fn endpoints(&self, cx: &mut Context<'_>, list: &raw::EndpointList) -> Vec<Endpoint> {
        let example = "endpoints = [\"10.0.0.11:8080\"]";
        let Some(list) = cx.required("endpoints", example, &list.endpoints, &(0..0)) else {
            return Vec::new();
        };
        match (list.get_ref().0.is_empty(), self.allow_empty) {
            (true, true) => Vec::new(),
            (true, false) => {
                cx.error(&list.span(), "there are no endpoints")
                    .help("if that is meant, write allow_empty = true into `endpoints_file` of the cluster");
                Vec::new()
            }
            (false, _) => {
                endpoints::endpoints(cx, list, Kind { is_checked: self.is_checked, needs_ip: self.needs_ip })
            }
        }
    }
}

impl PartialEq for EndpointsFile {
    /// Whether the same is found there, wherever the configuration names it.
    fn eq(&self, other: &EndpointsFile) -> bool {
        let EndpointsFile { path, allow_empty, is_checked, needs_ip } = self;
        (&path.path, *allow_empty, *is_checked, *needs_ip)
            == (&other.path.path, other.allow_empty, other.is_checked, other.needs_ip)
    }
}

/// RFC 1035 §2.3.4.
const LABEL_CHARS_MAX: usize = 63;
const DNS_PORT: u16 = 53;
