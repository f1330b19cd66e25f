//! What an upstream is told of a request's client by the PROXY protocol, version 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), ahead of everything else on the connection.
//!
//! The client is who it is to the route: where that wants no identity, nothing is said of a certificate. What is said belongs to
//! one client, so a connection that begins with it is never lent to another ([`crate::upstream`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};
use ringward_identity::PeerIdentity;

use crate::{client_side::SessionFacts, connection::Connection, on_behalf::NamedClient};

/// The header of a connection for one request. `named` is the client that a proxy has named instead of that of the connection.
pub(crate) fn header(
    connection: &Connection,
    session: SessionFacts,
    caller: Option<&PeerIdentity>,
    named: Option<&NamedClient>,
) -> Vec<u8> {
    // A list of addresses has no ports that mean anything.
    let client = named.and_then(|named| named.ip).map_or(connection.peer_addr, |ip| (ip, 0).into());
    let server_name = connection.standing.admission().terms.server_name.clone();
    let mut tlvs = Vec::with_capacity(3);
    if !session.negotiated.alpn.is_empty() {
        tlvs.push(Tlv::Alpn(session.negotiated.alpn.as_bytes().into()));
    }
    if let Some(name) = server_name.as_deref() {
        tlvs.push(Tlv::Authority(name.into()));
    }
    // What a load balancer forwards was shown to that, not here.
    let is_forwarded = named.is_some_and(|named| named.forwarded.is_some());
    tlvs.push(Tlv::Ssl(proof(session, caller, is_forwarded)));
    encode(client, session.local_addr, tlvs)
}

/// What the client's TLS has proved. Without a verified certificate `verify` is not 0, whatever the client has shown.
fn proof(session: SessionFacts, caller: Option<&PeerIdentity>, is_forwarded: bool) -> SslInfo<'static> {
    let is_verified = caller.is_some();
    let shown_here = is_verified && !session.resumed && !is_forwarded;
    let mut proof = SslInfo::new(true, shown_here, is_verified, u32::from(!is_verified));
    proof.append_tlv(Tlv::SslVersion(session.negotiated.version.into()));
    if let Some(name) = caller.and_then(|caller| common_name(caller.common_names())) {
        proof.append_tlv(Tlv::SslCn(name.into()));
    }
    proof
}

/// The one common name, if it can be told as it is. Of several, nobody could say which one another server takes for the client's.
fn common_name(names: &[String]) -> Option<&str> {
    match names {
        [name] if name.len() <= COMMON_NAME_BYTES_MAX && !name.contains(char::is_control) => Some(name),
        _ => None,
    }
}

fn encode(client: SocketAddr, server: Option<SocketAddr>, tlvs: Vec<Tlv<'_>>) -> Vec<u8> {
    let (client, server) = of_one_family(client, server);
    let header = ProxyHeader::with_tlvs(Some(ProxiedAddress::stream(client, server)), tlvs);
    let mut out = Vec::with_capacity(128);
    header.encode_v2(&mut out).expect("addresses of one family and a few short names fit");
    out
}

/// Both addresses as IPv4 if they are, else both as IPv6: the header has room for one family.
fn of_one_family(client: SocketAddr, server: Option<SocketAddr>) -> (SocketAddr, SocketAddr) {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let client = canonical(client);
    let server = server.map_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), canonical);
    if client.is_ipv4() == server.is_ipv4() {
        return (client, server);
    }
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), addr.port())),
        IpAddr::V6(_) => addr,
    };
    (mapped(client), mapped(server))
}

/// Four times what RFC 5280 lets a common name have (`ub-common-name`).
const COMMON_NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proxy_header::ParseConfig;

    use super::*;

    #[test]
    fn addresses_are_told_in_one_family() {
        for (client, server, expected) in [
            ("192.0.2.7:1", Some("198.51.100.1:443"), ("192.0.2.7:1", "198.51.100.1:443")),
            ("[::ffff:192.0.2.7]:1", Some("[::ffff:198.51.100.1]:443"), ("192.0.2.7:1", "198.51.100.1:443")),
            ("[2001:db8::7]:1", Some("[2001:db8::1]:443"), ("[2001:db8::7]:1", "[2001:db8::1]:443")),
            ("192.0.2.7:0", Some("[2001:db8::1]:443"), ("[::ffff:192.0.2.7]:0", "[2001:db8::1]:443")),
            ("[2001:db8::7]:1", None, ("[2001:db8::7]:1", "[::ffff:0.0.0.0]:0")),
        ] {
            let server = server.map(|server| server.parse().unwrap());
            let bytes = encode(client.parse().unwrap(), server, vec![Tlv::Authority("a.test".into())]);
            let (header, length) = ProxyHeader::parse(&bytes, ParseConfig::default()).unwrap();
            let address = header.proxied_address().unwrap();
            assert_eq!(
                (address.source.to_string().as_str(), address.destination.to_string().as_str()),
                expected
            );
            assert_eq!((length, header.authority()), (bytes.len(), Some("a.test")));
        }
    }

    #[test]
    fn a_common_name_is_told_if_it_is_the_only_one_and_plain() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(common_name(&names(&["partner-a"])), Some("partner-a"));
        for other in [&[][..], &["a", "b"], &["a\nb"], &["a\0"], &[&*"x".repeat(257)]] {
            assert_eq!(common_name(&names(other)), None, "{other:?}");
        }
    }
}
