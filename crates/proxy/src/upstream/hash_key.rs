//! The property of a request by which its endpoint is chosen, as a number.

use std::net::IpAddr;

use ringward_config::{HashKey, IdentityKey};
use ringward_http::RequestHead;
use ringward_identity::PeerIdentity;

use super::shares;

/// Of a request that has the property. `client` is who has proved to be who it is, as far as the route wants to know.
pub(super) fn hash(
    key: &HashKey,
    head: &RequestHead,
    client: Option<&PeerIdentity>,
    source: IpAddr,
) -> Option<u64> {
    let octets;
    let bytes = match key {
        HashKey::Header(name) => head.field(name)?,
        HashKey::Cookie(name) => cookie(head, name.as_bytes())?,
        HashKey::Identity(IdentityKey::Fingerprint) => &client?.fingerprint_sha256()[..],
        HashKey::Identity(IdentityKey::SpiffeId) => client?.spiffe_id()?.as_str().as_bytes(),
        HashKey::Identity(IdentityKey::Tenant) => client?.tenant()?.as_bytes(),
        HashKey::SourceAddress => {
            octets = shares::octets(source);
            &octets[..]
        }
    };
    Some(shares::hash(bytes))
}

/// The value of the first cookie of this name (RFC 6265 §4.2.1; RFC 9113 §8.2.3 allows several fields).
fn cookie<'h>(head: &'h RequestHead, name: &[u8]) -> Option<&'h [u8]> {
    let fields = head.fields().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    let mut pairs = fields.flat_map(|field| field.value.split(|byte| *byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}
