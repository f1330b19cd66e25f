//! What happened, as workers hand it to the log: compact, unformatted, bounded in size.
//!
//! An access record owns one buffer for all its texts, and the log writer sends used records back to their worker, so
//! that in the steady state a record costs no allocation. Texts that a peer chose are cut to the limits in here
//! before they are kept. Bodies, queries, keys and tokens have no place in a record.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use crate::closed::{GrpcStatus, Level, PolicyOutcome, Resumed, TunnelEvent};
use crate::registry::{ClusterId, ListenerId, PolicyId, RouteId};
use crate::upstreams::UpstreamAddr;

/// One entry of the queue to the log.
#[derive(Debug)]
pub(crate) enum Record {
    Access(Box<AccessRecord>),
    Handshake(Box<HandshakeRecord>),
    Event(Box<EventRecord>),
}

/// What all exchanges of a connection have in common. Made once per connection.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// Unique within the process, better within the fleet; written as 16 hexadecimal digits.
    pub id: u64,
    /// The worker that serves the connection.
    pub worker: u16,
    /// Where it was accepted.
    pub listener: ListenerId,
    /// The client's address.
    pub downstream: SocketAddr,
    /// The load balancer that has told the client's address.
    pub proxy: Option<SocketAddr>,
    /// Server name of the ClientHello.
    pub server_name: Option<Excerpt>,
    /// Where the session was kept, if one was resumed.
    pub resumed: Option<Resumed>,
    /// Why a session that the client offered was not resumed.
    pub resumption_declined: Option<&'static str>,
    /// When the client last proved its key, seconds since the Unix epoch.
    pub auth_time_unix: Option<i64>,
    /// The verified peer, if the client showed a certificate.
    pub peer: Option<PeerFacts>,
    /// What the client claims to be, where certificates are only observed. Apart, since few connections have it.
    pub observed: Option<Box<ObservedFacts>>,
    /// These facts as JSON members, written once by the log writer and reused for every exchange.
    pub(crate) rendered: OnceLock<Box<[u8]>>,
}

impl ConnectionFacts {
    /// Facts of a connection without peer and server name; the caller adds those.
    pub fn new(id: u64, worker: u16, listener: ListenerId, downstream: SocketAddr) -> ConnectionFacts {
        ConnectionFacts {
            id,
            worker,
            listener,
            downstream,
            proxy: None,
            server_name: None,
            resumed: None,
            resumption_declined: None,
            auth_time_unix: None,
            peer: None,
            observed: None,
            rendered: OnceLock::new(),
        }
    }
}

/// A verified peer, for the log.
#[derive(Clone, Debug)]
pub struct PeerFacts {
    /// Display identity.
    pub name: Excerpt,
    /// SHA-256 of the leaf, in hexadecimal.
    pub fingerprint: Excerpt,
    /// Issuer of the leaf.
    pub issuer: Excerpt,
    /// Serial number of the leaf, in hexadecimal.
    pub serial: Excerpt,
    /// notAfter of the leaf, seconds since the Unix epoch.
    pub not_after_unix: i64,
    /// Whose it is, if it was assigned to a tenant.
    pub tenant: Option<TenantFacts>,
}

/// A tenant and its name for a peer.
#[derive(Clone, Debug)]
pub struct TenantFacts {
    /// The tenant.
    pub name: Excerpt,
    /// What the tenant calls the peer.
    pub identity: Excerpt,
}

/// What a certificate claims that decides nothing. Verified or not, it is written under names of its own, so that no
/// reader of the log takes it for an identity.
#[derive(Clone, Debug)]
pub struct ObservedFacts {
    /// Display name, as claimed.
    pub name: Excerpt,
    /// SHA-256 of the leaf, in hexadecimal.
    pub fingerprint: Excerpt,
    /// Why the client would have been refused, from the handshake reasons; `None` if it would have been admitted.
    pub refused: Option<&'static str>,
    /// What the reason leaves open, for the operator only.
    pub detail: Option<Excerpt>,
}

/// One exchange. Durations are in nanoseconds; 0 means that the step was not taken.
#[derive(Debug)]
pub struct AccessRecord {
    /// When the first byte of the request arrived, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Whose request it is, where a proxy has said so of this one.
    pub client: Option<IpAddr>,
    /// Protocol of the request, as `HTTP/1.1`.
    pub protocol: &'static str,
    /// The route taken, or that for unmatched requests.
    pub route: Option<RouteId>,
    /// The policy asked.
    pub policy: Option<PolicyId>,
    /// What it said.
    pub decision: Option<PolicyOutcome>,
    /// Whether it said so for an earlier request.
    pub cached: Option<bool>,
    /// The cluster chosen.
    pub cluster: Option<ClusterId>,
    /// The cluster that got a copy of the request, or was to get one.
    pub mirror: Option<ClusterId>,
    /// The endpoint asked last.
    pub upstream: Option<UpstreamAddr>,
    /// How often the request was sent upstream.
    pub attempts: u8,
    /// Status sent to the client; 0 if none was.
    pub status: u16,
    /// How the call ended, if it is one of gRPC.
    pub grpc_status: Option<GrpcStatus>,
    /// Why Ringward answered itself or cut the exchange short.
    pub flag: Option<&'static str>,
    /// What became of the tunnel, if the exchange opened one.
    pub tunnel: Option<TunnelEvent>,
    /// Generation of the snapshot that decided.
    pub generation: u64,
    /// Policy evaluation.
    pub policy_ns: u64,
    /// Connecting upstream.
    pub upstream_connect_ns: u64,
    /// From sending the request upstream to the head of its final response.
    pub upstream_first_byte_ns: u64,
    /// From the first byte of the request to the last of the response.
    pub duration_ns: u64,
    /// Body bytes received from the client.
    pub received_bytes: u64,
    /// Body bytes sent to the client.
    pub sent_bytes: u64,
    pub(crate) connection: Option<Arc<ConnectionFacts>>,
    text: Vec<u8>,
    spans: [Span; TextField::ALL_LEN],
}

impl AccessRecord {
    /// An empty record of an exchange on `connection`. [`RecordSender::blank`](crate::RecordSender::blank) reuses
    /// records instead.
    pub fn new(connection: Arc<ConnectionFacts>, started_unix_ns: u64) -> AccessRecord {
        let text = Vec::with_capacity(USUAL_TEXT_BYTES);
        AccessRecord { started_unix_ns, connection: Some(connection), ..AccessRecord::empty(text) }
    }

    /// Sets one of the texts, cut to [`TextField::bytes_max`]. A text may be set once; later calls change nothing.
    pub fn set(&mut self, field: TextField, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        let span = &mut self.spans[field as usize];
        if span.set {
            return;
        }
        let kept = value.len().min(field.bytes_max());
        *span = Span { start: self.text.len() as u16, len: kept as u16, set: true, cut: kept < value.len() };
        self.text.extend_from_slice(&value[..kept]);
    }

    /// One of the texts, if it was set; true if it was cut.
    pub(crate) fn text(&self, field: TextField) -> Option<(&[u8], bool)> {
        let span = self.spans[field as usize];
        let start = usize::from(span.start);
        span.set.then(|| (&self.text[start..start + usize::from(span.len)], span.cut))
    }

    /// Makes the record empty and keeps its buffer, unless an unusual request made that large.
    pub(crate) fn clear(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if text.capacity() > KEPT_TEXT_BYTES_MAX {
            text = Vec::new();
        }
        *self = AccessRecord::empty(text);
    }

    pub(crate) fn begin(&mut self, connection: Arc<ConnectionFacts>, started_unix_ns: u64) {
        self.connection = Some(connection);
        self.started_unix_ns = started_unix_ns;
    }

    fn empty(text: Vec<u8>) -> AccessRecord {
        AccessRecord {
            started_unix_ns: 0,
            client: None,
            protocol: "HTTP/1.1",
            route: None,
            policy: None,
            decision: None,
            cached: None,
            cluster: None,
            mirror: None,
            upstream: None,
            attempts: 0,
            status: 0,
            grpc_status: None,
            flag: None,
            tunnel: None,
            generation: 0,
            policy_ns: 0,
            upstream_connect_ns: 0,
            upstream_first_byte_ns: 0,
            duration_ns: 0,
            received_bytes: 0,
            sent_bytes: 0,
            connection: None,
            text,
            spans: [Span::default(); TextField::ALL_LEN],
        }
    }
}

/// The texts of an [`AccessRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextField {
    /// Request id.
    RequestId,
    /// Method.
    Method,
    /// Host, without port.
    Host,
    /// Normalised path, without query: queries carry tokens.
    Path,
    /// The rule that decided.
    Rule,
    /// The reason that the policy gave.
    Reason,
    /// What the policy noted beside its decision: an object as JSON on one line.
    Metadata,
    /// Display identity of the client whose certificate a load balancer has forwarded.
    ForwardedId,
    /// SHA-256 of its leaf, in hexadecimal.
    ForwardedFingerprint,
    /// Whose it is, if it was assigned to a tenant.
    ForwardedTenant,
    /// What the tenant calls it.
    ForwardedIdentity,
}

impl TextField {
    const ALL_LEN: usize = 11;

    /// Longest text kept, in bytes.
    pub const fn bytes_max(self) -> usize {
        match self {
            TextField::RequestId => 128,
            TextField::Method => 32,
            TextField::Host => 255,
            TextField::Path => 2_048,
            TextField::Rule => 256,
            TextField::Reason => 512,
            TextField::Metadata => 4_096,
            TextField::ForwardedId | TextField::ForwardedIdentity => 512,
            TextField::ForwardedFingerprint | TextField::ForwardedTenant => 64,
        }
    }
}

/// One failed handshake.
#[derive(Debug)]
pub struct HandshakeRecord {
    /// When it failed, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// Id of the connection, as in [`ConnectionFacts`].
    pub connection_id: u64,
    /// The worker.
    pub worker: u16,
    /// Where it was accepted.
    pub listener: ListenerId,
    /// The client's address.
    pub downstream: SocketAddr,
    /// The load balancer that has told the client's address.
    pub proxy: Option<SocketAddr>,
    /// Server name of the ClientHello.
    pub server_name: Option<Excerpt>,
    /// Why, from the closed set.
    pub reason: &'static str,
    /// What the reason leaves open, for the operator only.
    pub detail: Option<Excerpt>,
    /// Subject of the presented leaf. Not verified: whoever sent it may have made it up.
    pub presented_subject: Option<Excerpt>,
    /// SHA-256 of the presented leaf, in hexadecimal.
    pub presented_fingerprint: Option<Excerpt>,
    /// The tenant that the presented chain was assigned to, if it came that far.
    pub tenant: Option<Excerpt>,
    /// Where the session was kept, if one was resumed and the client refused nevertheless.
    pub resumed: Option<Resumed>,
    /// Why a session that the client offered was not resumed.
    pub resumption_declined: Option<&'static str>,
    /// Where certificates are only observed: [`ADMITTED`](crate::ADMITTED), or why the client would be refused.
    pub observed: Option<&'static str>,
    /// From accept to the failure.
    pub duration_ns: u64,
    /// Generation of the snapshot that decided.
    pub generation: u64,
}

/// A line that is neither an exchange nor a handshake: lifecycle, security.
#[derive(Debug)]
pub struct EventRecord {
    /// When, in nanoseconds since the Unix epoch.
    pub time_unix_ns: u64,
    /// Severity.
    pub level: Level,
    /// Constant message; what varies goes into the fields.
    pub message: &'static str,
    /// Further members of the line, with names that the line does not have already.
    pub fields: Vec<(&'static str, Excerpt)>,
}

/// A text of at most [`Excerpt::BYTES_MAX`] bytes, cut at a character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Longest text kept.
    pub const BYTES_MAX: usize = 512;

    /// The text kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Excerpt {
    fn from(text: &str) -> Excerpt {
        Excerpt(text[..text.floor_char_boundary(Excerpt::BYTES_MAX)].into())
    }
}

impl From<String> for Excerpt {
    fn from(text: String) -> Excerpt {
        if text.len() <= Excerpt::BYTES_MAX { Excerpt(text.into()) } else { text.as_str().into() }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u16,
    len: u16,
    set: bool,
    cut: bool,
}

/// Room for the texts of most exchanges.
const USUAL_TEXT_BYTES: usize = 192;
const KEPT_TEXT_BYTES_MAX: usize = 1_024;

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    pub(crate) fn connection(id: u64) -> Arc<ConnectionFacts> {
        let downstream = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 40_001));
        Arc::new(ConnectionFacts::new(id, 3, ListenerId(0), downstream))
    }

    const ALL: [TextField; TextField::ALL_LEN] = [
        TextField::RequestId,
        TextField::Method,
        TextField::Host,
        TextField::Path,
        TextField::Rule,
        TextField::Reason,
        TextField::Metadata,
        TextField::ForwardedId,
        TextField::ForwardedFingerprint,
        TextField::ForwardedTenant,
        TextField::ForwardedIdentity,
    ];

    #[test]
    fn texts_are_cut_at_their_limits_and_say_so() {
        for field in ALL {
            for (len, cut) in [(0, false), (field.bytes_max(), false), (field.bytes_max() + 1, true)] {
                let mut record = AccessRecord::new(connection(1), 0);
                record.set(field, vec![b'x'; len]);
                let (text, was_cut) = record.text(field).unwrap();
                assert_eq!((text.len(), was_cut), (len.min(field.bytes_max()), cut), "{field:?}");
            }
        }
    }

    #[test]
    fn all_texts_at_their_limits_fit() {
        let mut record = AccessRecord::new(connection(1), 0);
        for (position, field) in ALL.into_iter().enumerate() {
            record.set(field, vec![b'a' + position as u8; 100_000]);
        }
        for (position, field) in ALL.into_iter().enumerate() {
            let (text, _) = record.text(field).unwrap();
            assert!(
                text.len() == field.bytes_max() && text.iter().all(|byte| *byte == b'a' + position as u8)
            );
        }
    }

    #[test]
    fn setting_a_text_again_cannot_grow_the_record() {
        let mut record = AccessRecord::new(connection(1), 0);
        record.set(TextField::Path, "/first");
        record.set(TextField::Path, "/second");
        assert_eq!(record.text(TextField::Path), Some((&b"/first"[..], false)));
        assert_eq!(record.text.len(), "/first".len());
    }

    #[test]
    fn a_cleared_record_keeps_nothing_but_a_small_buffer() {
        let facts = connection(1);
        let mut record = AccessRecord::new(Arc::clone(&facts), 5);
        record.status = 200;
        record.set(TextField::Path, "/secret");
        record.clear();
        assert_eq!(Arc::strong_count(&facts), 1, "the connection is let go");
        assert_eq!((record.text(TextField::Path), record.status), (None, 0));
        assert!(record.text.is_empty() && record.text.capacity() > 0);
        record.set(TextField::Path, vec![b'/'; KEPT_TEXT_BYTES_MAX + 1]);
        record.clear();
        assert_eq!(record.text.capacity(), 0);
    }

    #[test]
    fn excerpts_are_cut_at_a_character() {
        let at_limit = "x".repeat(Excerpt::BYTES_MAX);
        assert_eq!(Excerpt::from(at_limit.as_str()).as_str(), at_limit);
        let above = format!("{}é", "x".repeat(Excerpt::BYTES_MAX - 1));
        assert_eq!(Excerpt::from(above.as_str()).as_str().len(), Excerpt::BYTES_MAX - 1);
        assert_eq!(Excerpt::from(above).as_str().len(), Excerpt::BYTES_MAX - 1);
    }
}
