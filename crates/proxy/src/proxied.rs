//! Whose connection it is, where a load balancer says so by the PROXY protocol, version 1 or 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! What is said is an address and no identity: that is proved in the handshake that follows. It is believed of the
//! configured sources alone, and of these it is asked for, so that nobody can leave it away to be taken for the load balancer.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use ringward_config::ProxyProtocol;
use ringward_tls::{HandshakeFailure, HandshakeReason};

use crate::io::Stream;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The client.
    pub(crate) client: SocketAddr,
    /// The load balancer that has said so.
    pub(crate) proxy: Option<SocketAddr>,
}

impl Origin {
    /// Nobody has said anything.
    pub(crate) fn direct(peer: SocketAddr) -> Origin {
        Origin { client: peer, proxy: None }
    }
}

/// Why there is no origin.
pub(crate) enum OriginError {
    /// The connection is refused.
    Refused(Box<HandshakeFailure>),
    /// It has ended.
    Ended,
}

/// Reads the header that `peer` has to begin its connection with, if it has to. `raw` gets what was read and belongs to what
/// follows the header.
pub(crate) async fn origin(
    rules: &ProxyProtocol,
    stream: &mut Stream,
    peer: SocketAddr,
    raw: &mut Vec<u8>,
) -> Result<Origin, OriginError> {
    if !rules.is_from(peer.ip()) {
        return if rules.serves_others { Ok(Origin::direct(peer)) } else { Err(unlisted()) };
    }
    loop {
        let (read, buffer) = stream.read.read(std::mem::take(raw), usize::MAX).await;
        *raw = buffer;
        if !matches!(read, Ok(1..)) {
            return Err(OriginError::Ended);
        }
        if let Some((client, length)) = parse(raw)? {
            raw.drain(..length);
            return Ok(match client {
                Some(client) => Origin { client, proxy: Some(peer) },
                None => Origin::direct(peer),
            });
        }
    }
}

/// The client of a header, if it names one, and the header's length; `None` if there has to be more of it.
fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, OriginError> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, length)) => match header.proxied_address() {
            Some(address) if address.protocol == Protocol::Datagram => {
                Err(bad("the header of the PROXY protocol tells of a datagram"))
            }
            address => Ok(Some((address.map(|address| address.source), length))),
        },
        Err(proxy_header::Error::BufferTooShort) if bytes.len() < HEADER_BYTES_MAX => Ok(None),
        Err(proxy_header::Error::BufferTooShort) => Err(bad(&format!(
            "the header of the PROXY protocol does not end within {HEADER_BYTES_MAX} bytes"
        ))),
        Err(_) => Err(bad(
            "the load balancer begins without a header of the PROXY protocol; have it send one, or take its address out of `proxy_protocol`",
        )),
    }
}

fn unlisted() -> OriginError {
    let message = "the address is none of those that `proxy_protocol` expects connections from";
    OriginError::Refused(Box::new(HandshakeFailure::new(HandshakeReason::ProxySource, message)))
}

fn bad(message: &str) -> OriginError {
    OriginError::Refused(Box::new(HandshakeFailure::new(HandshakeReason::ProxyHeader, message)))
}

/// Addresses take 52 bytes at most, without a Unix socket's; the rest is for what load balancers add to them, which is not
/// looked at. Less than what a buffer has room for.
const HEADER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2(rest: &[u8]) -> Vec<u8> {
        [V2_SIGNATURE, rest].concat()
    }

    /// The client and the length, `None` for more, or the failure's words.
    fn read(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, String> {
        parse(bytes).map_err(|error| match error {
            OriginError::Refused(failure) => failure.message,
            OriginError::Ended => unreachable!("nothing ends here"),
        })
    }

    #[test]
    fn headers_of_both_versions_name_a_client_or_nobody() {
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n\x16\x03\x01";
        assert_eq!(read(v1), Ok(Some((Some(([192, 0, 2, 7], 40_001).into()), v1.len() - 3))));
        let v1 = b"PROXY TCP6 2001:db8::7 2001:db8::1 40001 443\r\n";
        assert_eq!(read(v1), Ok(Some((Some("[2001:db8::7]:40001".parse().unwrap()), v1.len()))));
        for nobody in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN whatever follows 1 2\r\n"] {
            assert_eq!(read(nobody), Ok(Some((None, nobody.len()))));
        }
        let header = v2(b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb");
        assert_eq!(read(&header), Ok(Some((Some(([192, 0, 2, 7], 40_001).into()), 28))));
        // With something that is added, which is passed over.
        let header =
            v2(b"\x21\x11\x00\x10\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb\x04\x00\x01\xff\x16");
        assert_eq!(read(&header), Ok(Some((Some(([192, 0, 2, 7], 40_001).into()), 32))));
        for local in
            [v2(b"\x20\x00\x00\x00"), v2(b"\x20\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb")]
        {
            assert_eq!(read(&local), Ok(Some((None, local.len()))));
        }
    }

    #[test]
    fn every_part_of_a_header_is_waited_for() {
        for header in [
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 443\r\n".to_vec(),
            v2(b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb"),
        ] {
            for length in 1..header.len() {
                assert_eq!(read(&header[..length]), Ok(None), "{length} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(),
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 70000 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 198.51.100.1 4000 443\r\n".to_vec(),
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 107]].concat(),
            v2(b"\x31\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb"),
            v2(b"\x21\x11\x00\x04\xc0\x00\x02\x07\x16\x03\x01\x02\x00\x01\x00\x01"),
        ] {
            assert!(read(&bytes).unwrap_err().contains("without a header"), "{bytes:?}");
        }
        let datagram = v2(b"\x21\x12\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x41\x01\xbb");
        assert!(read(&datagram).unwrap_err().contains("datagram"));
        let endless = [v2(b"\x21\x11\xff\xff"), vec![0; HEADER_BYTES_MAX]].concat();
        assert!(read(&endless).unwrap_err().contains("within 4096 bytes"));
    }
}
