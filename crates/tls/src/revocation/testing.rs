//! Lists, paths and clients for the tests of this module.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringward_identity::{IdentityOptions, PeerIdentity};
use ringward_testkit::{Authority, Crl, Issued};
use rustls_pki_types::UnixTime;

use super::*;
use crate::TrustOptions;
use crate::certificate::Certificate;
use crate::trust::TrustBundle;

pub(super) const HOUR: i64 = 3600;
pub(super) const DAY: i64 = 24 * HOUR;

pub(super) fn now() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap()
}

/// A point in time that certificates and lists can name.
pub(super) fn time(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap())
}

pub(super) fn issuer(authority: &Authority) -> IssuerCertificate {
    IssuerCertificate::from_der(authority.certificate()).unwrap()
}

pub(super) fn parse(authority: &Authority, crl: &Crl) -> Result<ParsedCrl, CrlError> {
    parse_crl(&authority.sign_crl(crl), &[issuer(authority)], now(), || ())
}

/// The index of a complete list.
pub(super) fn complete(authority: &Authority, crl: &Crl) -> Arc<CrlIndex> {
    match parse(authority, crl).unwrap() {
        ParsedCrl::Complete(index) => Arc::new(index),
        ParsedCrl::Delta(_) => panic!("a delta"),
    }
}

pub(super) fn delta(authority: &Authority, crl: &Crl) -> Arc<DeltaCrl> {
    match parse(authority, crl).unwrap() {
        ParsedCrl::Delta(delta) => Arc::new(delta),
        ParsedCrl::Complete(_) => panic!("a complete list"),
    }
}

pub(super) fn serial(octets: &[u8]) -> Serial {
    Serial::new(octets).unwrap()
}

/// A client that was verified.
pub(super) struct Client {
    pub(super) path: Arc<PeerPath>,
    pub(super) peer: PeerIdentity,
}

impl Client {
    /// With what it presents, under this anchor.
    pub(super) fn new(issued: &Issued, anchor: &Authority) -> Self {
        let sources = [("ca.pem".into(), anchor.pem().into_bytes())];
        let (bundle, _) =
            TrustBundle::from_pem("partners", &sources, TrustOptions::default(), UnixTime::now()).unwrap();
        let chain: Vec<_> = issued.chain().iter().map(|der| Certificate::parse(der).unwrap()).collect();
        let path = PeerPath::new("partners".into(), &chain, &bundle.anchors()[0]).unwrap();
        let peer = PeerIdentity::from_verified_chain(issued.chain(), &IdentityOptions::default()).unwrap();
        Self { path: Arc::new(path), peer }
    }

    pub(super) fn of_tenant(mut self, tenant: &str) -> Self {
        self.peer = self.peer.with_tenant(tenant.into(), "somebody".into());
        self
    }

    pub(super) fn check(
        &self,
        revocation: &Revocation,
        policy: &RevocationPolicy,
        now_unix: i64,
    ) -> Result<(), RevocationRefusal> {
        revocation.check(&self.path, &self.peer, policy, now_unix)
    }
}

pub(super) const REQUIRED: RevocationPolicy =
    RevocationPolicy { crl: CrlMode::Required, stale: StalePolicy::Deny, depth: RevocationDepth::Chain };

pub(super) fn with_lists(crls: impl IntoIterator<Item = Arc<CrlIndex>>) -> Arc<Revocation> {
    Revocation::new(RevocationParts { crls: crls.into_iter().collect(), ..RevocationParts::default() })
}

/// One change to `bytes` of the kinds that break parsers: bits, octets, lengths, pieces.
pub(super) fn mutate(bytes: &mut Vec<u8>, noise: &mut crate::testing::Noise) {
    if bytes.is_empty() {
        bytes.push(noise.next() as u8);
        return;
    }
    let at = noise.below(bytes.len());
    match noise.below(6) {
        0 => bytes[at] ^= 1 << noise.below(8),
        1 => bytes[at] = noise.next() as u8,
        2 => bytes[at] = [0x00, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff][noise.below(7)],
        3 => drop(bytes.drain(at..(at + 1 + noise.below(8)).min(bytes.len()))),
        4 => {
            let piece = bytes[at..(at + 1 + noise.below(32)).min(bytes.len())].to_vec();
            let into = noise.below(bytes.len());
            bytes.splice(into..into, piece);
        }
        _ => bytes.truncate(at),
    }
}
