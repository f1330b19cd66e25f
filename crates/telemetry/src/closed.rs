//! Closed sets: every label value and log word that does not come from the configuration.
//!
//! What belongs to this crate or to all is an enum. What other crates name (handshake reasons, response flags,
//! upstream errors) is handed over once as a list of words in [`ClosedSets`], so that this crate depends on none of
//! them. A word outside its set counts as `other`: it is never dropped, and it never makes a new series.

/// Declares a fieldless enum together with its stable words, in one table.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every member, in the order of their indexes.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The stable word for labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
    };
}

closed_set! {
    /// Why a downstream connection ended.
    CloseReason {
        /// The peer closed it, or `Connection: close` was asked for and honoured.
        Peer => "peer",
        /// The TLS handshake failed; the handshake counters say why.
        HandshakeFailed => "handshake_failed",
        /// No request arrived within the idle timeout.
        IdleTimeout => "idle_timeout",
        /// A request head was not complete in time.
        HeaderTimeout => "header_timeout",
        /// A request body stalled, or the client did not read its response.
        BodyTimeout => "body_timeout",
        /// The request was malformed or ambiguous, so the framing can no longer be trusted.
        BadRequest => "bad_request",
        /// The client broke the rules of HTTP/2.
        ProtocolError => "protocol_error",
        /// The client sent more HTTP/2 frames that cost us and serve nothing than an honest one would.
        FrameFlood => "frame_flood",
        /// A response had to be cut short, or a request body was left unread.
        Exchange => "exchange",
        /// It had become a tunnel, and both sides ended it.
        Tunnel => "tunnel",
        /// The connection limit of the listener was reached; closed right after accept.
        ConnectionLimit => "connection_limit",
        /// Too many handshakes of its network have failed lately; closed right after accept.
        SourceRefused => "source_refused",
        /// Its network has as many connections as it may; closed right after accept.
        SourceConnections => "source_connections",
        /// Memory runs short; closed right after accept, or after an exchange.
        Memory => "memory",
        /// The client's tenant has as many connections as it may.
        TenantLimit => "tenant_limit",
        /// The connection served as many requests as it may.
        RequestLimit => "request_limit",
        /// The connection reached its greatest age.
        AgeLimit => "age_limit",
        /// The peer's certificate reached its notAfter.
        CertificateExpired => "certificate_expired",
        /// The trust bundle that admitted the peer was changed.
        TrustChanged => "trust_changed",
        /// The peer, or an authority that it depends on, was revoked or deny-listed.
        Revoked => "revoked",
        /// The peer's proof of its key became older than the virtual host allows.
        AuthAge => "auth_age",
        /// The peer's trust was withdrawn during an exchange, which did not end within the grace.
        TrustGrace => "trust_grace",
        /// The listener or virtual host is no longer configured.
        Removed => "removed",
        /// The process is draining.
        Drain => "drain",
        /// Reading or writing the socket failed.
        Io => "io",
        /// TLS failed after the handshake (bad record, alert).
        Tls => "tls",
        /// The task that served the connection panicked.
        Panic => "panic",
    }
}

closed_set! {
    /// What a record says of an exchange that became a tunnel.
    TunnelEvent {
        /// It was opened; a record of its end follows. Written with `audit = "required"` alone.
        Opened => "opened",
        /// It has ended.
        Closed => "closed",
    }
}

closed_set! {
    /// Why a request was not let into work, where only so many may be at the same time.
    Shed {
        /// As many waited as may.
        QueueFull => "queue_full",
        /// It had waited for as long as it may.
        QueueTimeout => "queue_timeout",
        /// Its own time limit was over while it waited.
        RequestTimeout => "request_timeout",
        /// Its client had gone while it waited.
        ClientGone => "client_gone",
    }
}

closed_set! {
    /// Class of the status that the downstream got.
    StatusClass {
        /// 1xx as a final status: 101 (Switching Protocols).
        Informational => "1xx",
        /// 2xx.
        Success => "2xx",
        /// 3xx.
        Redirection => "3xx",
        /// 4xx.
        ClientError => "4xx",
        /// 5xx, and anything above that an upstream made up.
        ServerError => "5xx",
        /// The exchange ended before a status was sent, as when the client vanished.
        None => "none",
    }
}

impl StatusClass {
    /// The class of `status`; 0 stands for "no response was sent".
    pub const fn of(status: u16) -> StatusClass {
        match status {
            0..=99 => StatusClass::None,
            100..=199 => StatusClass::Informational,
            200..=299 => StatusClass::Success,
            300..=399 => StatusClass::Redirection,
            400..=499 => StatusClass::ClientError,
            _ => StatusClass::ServerError,
        }
    }
}

closed_set! {
    /// How a gRPC call ended, as its client was told. The order is that of the protocol's numbers.
    GrpcStatus {
        /// 0.
        Ok => "ok",
        /// 1.
        Cancelled => "cancelled",
        /// 2, and numbers that the protocol has not.
        Unknown => "unknown",
        /// 3.
        InvalidArgument => "invalid_argument",
        /// 4.
        DeadlineExceeded => "deadline_exceeded",
        /// 5.
        NotFound => "not_found",
        /// 6.
        AlreadyExists => "already_exists",
        /// 7.
        PermissionDenied => "permission_denied",
        /// 8.
        ResourceExhausted => "resource_exhausted",
        /// 9.
        FailedPrecondition => "failed_precondition",
        /// 10.
        Aborted => "aborted",
        /// 11.
        OutOfRange => "out_of_range",
        /// 12.
        Unimplemented => "unimplemented",
        /// 13.
        Internal => "internal",
        /// 14.
        Unavailable => "unavailable",
        /// 15.
        DataLoss => "data_loss",
        /// 16.
        Unauthenticated => "unauthenticated",
        /// No status was sent, as when the stream was reset or the upstream does not speak gRPC.
        None => "none",
    }
}

impl GrpcStatus {
    /// The status of this number of the protocol.
    pub fn of(code: u8) -> GrpcStatus {
        let known = GrpcStatus::ALL.get(usize::from(code)).filter(|status| **status != GrpcStatus::None);
        known.copied().unwrap_or(GrpcStatus::Unknown)
    }
}

closed_set! {
    /// How a policy evaluation ended. Only `Allowed` lets a request through.
    PolicyOutcome {
        /// The policy allowed the request.
        Allowed => "allowed",
        /// The policy denied it.
        Denied => "denied",
        /// The rule had no value for this input.
        Undefined => "undefined",
        /// Evaluation failed.
        Error => "error",
        /// The result was neither a boolean nor an object.
        WrongType => "wrong_type",
        /// The time budget was used up.
        Limit => "limit",
        /// The result was an object with members that cannot be honoured.
        InvalidResult => "invalid_result",
        /// The evaluator panicked and was rebuilt.
        Panic => "panic",
        /// The server that decides gave no answer, or none that means anything.
        Server => "server",
    }
}

closed_set! {
    /// What came of a question to a policy server.
    ServerOutcome {
        /// There was an answer; what it decides is another matter.
        Answered => "answered",
        /// There was none in time.
        Timeout => "timeout",
        /// There is no connection to the server.
        Unreachable => "unreachable",
        /// The connection ended before the answer did.
        Closed => "closed",
        /// What came is no answer: another status than 200, no JSON, too much.
        Invalid => "invalid",
        /// Not asked: too many questions wait for their answers.
        Busy => "busy",
        /// Not asked: the server did not answer lately.
        CircuitOpen => "circuit_open",
    }
}

closed_set! {
    /// How the decision cache of a policy was used for a request.
    CacheLookup {
        /// The decision was there.
        Hit => "hit",
        /// It was not, and the policy was evaluated.
        Miss => "miss",
        /// It was not looked for: its key would be too long, or the cache pauses because too little was found.
        Bypass => "bypass",
    }
}

closed_set! {
    /// What a candidate said beside the policy that decided.
    CandidateVerdict {
        /// The same.
        Agrees => "agrees",
        /// It would let a request through that was refused.
        NewlyAllowed => "newly_allowed",
        /// It would refuse a request that was let through.
        NewlyDenied => "newly_denied",
        /// Nothing: it failed, or was not shown what it looks at.
        Failed => "failed",
    }
}

closed_set! {
    /// Where the session of a resumed handshake was kept.
    Resumed {
        /// With the client, in a ticket.
        Ticket => "ticket",
        /// In the session cache.
        Cache => "cache",
    }
}

closed_set! {
    /// What refused a client whose certificate was valid otherwise.
    RevocationSource {
        /// A certificate revocation list names it.
        Crl => "crl",
        /// A responder calls it revoked, or gave no answer where one is required.
        Ocsp => "ocsp",
        /// The deny list names it.
        DenyList => "deny_list",
        /// A required list is not there.
        Missing => "missing",
        /// A list is older than is allowed.
        Stale => "stale",
    }
}

closed_set! {
    /// What became of what a request's header says about its client's address.
    AddressClaim {
        /// It is the client's, by the word of a trusted proxy.
        Taken => "taken",
        /// A trusted proxy has said nothing: the request is its own.
        Absent => "absent",
        /// Somebody else has said it, and it was removed.
        Untrusted => "untrusted",
        /// A trusted proxy has said what cannot be read, and the request was refused.
        Malformed => "malformed",
    }
}

closed_set! {
    /// What became of a request where identities are forwarded, unless its certificate was refused.
    ForwardedIdentity {
        /// Its certificate was verified: it is its client's.
        Admitted => "admitted",
        /// A load balancer has forwarded none: its client is anonymous.
        Absent => "absent",
        /// What a load balancer has forwarded cannot be read, and the request was refused.
        Malformed => "malformed",
        /// Somebody else has forwarded one: it was removed, or the request refused.
        Unlisted => "unlisted",
    }
}

closed_set! {
    /// Where a change of trust caught a client that it affects.
    Enforced {
        /// Between two requests.
        Idle => "idle",
        /// When its next request arrived.
        Request => "request",
        /// During an exchange: at its end, or cut after the grace.
        Exchange => "exchange",
        /// During its handshake.
        Handshake => "handshake",
    }
}

closed_set! {
    /// How an attempt to fetch a revocation list ended.
    FetchOutcome {
        /// A newer list is in use.
        Updated => "updated",
        /// The list in use is still the newest.
        Unchanged => "unchanged",
        /// Nothing, or no success, came from its source.
        Unreachable => "unreachable",
        /// What came was refused: malformed, wrongly signed, expired, or older than what was seen before.
        Invalid => "invalid",
    }
}

closed_set! {
    /// What an OCSP responder said of a client's certificate.
    OcspOutcome {
        /// It is good.
        Good => "good",
        /// It is revoked.
        Revoked => "revoked",
        /// The responder does not know it.
        Unknown => "unknown",
        /// Nothing, or no success, came from the responder.
        Unreachable => "unreachable",
        /// The answer was refused: malformed, wrongly signed, about another certificate, or out of date.
        Invalid => "invalid",
    }
}

closed_set! {
    /// What is known of an endpoint.
    EndpointHealth {
        /// Its checks pass.
        Healthy => "healthy",
        /// Its checks fail.
        Unhealthy => "unhealthy",
        /// No check of it has ended yet.
        Unchecked => "unchecked",
    }
}

closed_set! {
    /// Why a request is sent to an upstream once more.
    RetryReason {
        /// The kept connection that it took had died.
        StaleConnection => "stale_connection",
        /// No endpoint could be connected to.
        ConnectFailure => "connect_failure",
        /// The connection or stream ended before anything of a response.
        Reset => "reset_before_response",
        /// The upstream has not processed it.
        RefusedStream => "refused_stream",
        /// Nothing of a response came in time.
        Timeout => "timeout",
        /// The status of the response.
        Status => "status",
    }
}

closed_set! {
    /// What came of a request that was to be sent once more.
    RetryOutcome {
        /// A later try got a response, which the client got.
        Answered => "answered",
        /// None did.
        Failed => "failed",
        /// There was no other try, since the cluster's budget was used up.
        Budget => "budget",
    }
}

closed_set! {
    /// What came of a copy of a request.
    MirrorOutcome {
        /// It was sent, and answered.
        Answered => "answered",
        /// It was not sent, or not answered.
        Failed => "failed",
        /// It was sent in part: the cluster took the body more slowly than the request's own did.
        Cut => "cut",
        /// It was sent in part: so was the request.
        Incomplete => "incomplete",
        /// It was not sent, since too many requests or copies were under way.
        Limit => "limit",
        /// It was not sent, since memory runs short.
        Memory => "memory",
        /// It was not sent, since the configuration had changed.
        Stale => "stale",
    }
}

closed_set! {
    /// How a response is compressed: the names of content codings.
    ContentCoding {
        /// RFC 1952.
        Gzip => "gzip",
        /// RFC 7932.
        Brotli => "br",
        /// RFC 8878.
        Zstd => "zstd",
    }
}

closed_set! {
    /// How a health check of an endpoint ended. Only `Passed` is a success.
    CheckOutcome {
        /// As it should.
        Passed => "passed",
        /// There was no connection.
        Connect => "connect",
        /// There was a connection, and TLS failed on it.
        Tls => "tls",
        /// It took too long.
        Timeout => "timeout",
        /// The answer had another status than expected.
        Status => "status",
        /// The answer was that the endpoint does not serve.
        NotServing => "not_serving",
        /// The answer was none, or malformed.
        Protocol => "protocol",
    }
}

closed_set! {
    /// What an endpoint did last before it was ejected.
    OutlierReason {
        /// It took no connection.
        Connect => "connect",
        /// It took a connection, and TLS failed on it.
        Tls => "tls",
        /// It took too long.
        Timeout => "timeout",
        /// It ended its connection, or a stream, too early.
        Reset => "reset",
        /// Its answer could not be read.
        Protocol => "protocol",
        /// Its answer had a status that is a failure.
        Status => "status",
    }
}

closed_set! {
    /// What came of an attempt to find the endpoints of a cluster. With all but `Updated` and `Unchanged` the last good ones stay.
    DiscoveryOutcome {
        /// They are others than before.
        Updated => "updated",
        /// They are the same.
        Unchanged => "unchanged",
        /// What was found is refused.
        Refused => "refused",
        /// Nothing could be read, or nobody has answered.
        Unreachable => "unreachable",
        /// The answer is that there are none.
        Negative => "negative",
    }
}

closed_set! {
    /// How a reload ended.
    ReloadOutcome {
        /// A new snapshot is in force.
        Applied => "applied",
        /// Nothing had changed.
        Unchanged => "unchanged",
        /// The new state was refused; the running snapshot stays.
        Failed => "failed",
    }
}

closed_set! {
    /// Severity of a log line.
    Level {
        /// Someone must act. Never a peer's fault.
        Error => "error",
        /// Degraded, working.
        Warn => "warn",
        /// Lifecycle, and one line per exchange or failed handshake.
        Info => "info",
        /// Per connection.
        Debug => "debug",
    }
}

/// The words of sets that other crates own, in any order and without duplicates.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClosedSets {
    /// Why a handshake failed.
    pub handshake_reasons: &'static [&'static str],
    /// Why Ringward answered a request itself.
    pub response_flags: &'static [&'static str],
    /// Why an exchange with an upstream failed.
    pub upstream_errors: &'static [&'static str],
    /// Why a session was not resumed, besides `handshake_reasons`, which count there too.
    pub resumption_declines: &'static [&'static str],
}

/// The words of one set with `other` in front, looked up by text.
#[derive(Clone, Debug)]
pub(crate) struct Words(Box<[&'static str]>);

impl Words {
    pub(crate) fn new(words: impl IntoIterator<Item = &'static &'static str>) -> Words {
        let mut all = vec![OTHER];
        for word in words {
            // A duplicate would render one series twice, for which Prometheus refuses the whole scrape.
            if !all.contains(word) {
                all.push(word);
            }
        }
        Words(all.into())
    }

    /// All words, `other` included, in the order of their indexes.
    pub(crate) fn all(&self) -> &[&'static str] {
        &self.0
    }

    /// Index of `word`, or that of `other`. A linear scan: the sets are short, and most words differ in length.
    #[inline]
    pub(crate) fn index(&self, word: &str) -> usize {
        self.0.iter().position(|known| *known == word).unwrap_or(OTHER_INDEX)
    }
}

/// The word for whatever lies outside a closed set or above the ceiling of a family.
pub const OTHER: &str = "other";
/// The verdict on an observed client that would have been let in. No handshake reason has this name.
pub const ADMITTED: &str = "admitted";
const OTHER_INDEX: usize = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_outside_its_set_counts_as_other() {
        let words = Words::new(&["expired", "malformed"]);
        assert_eq!(words.index("malformed"), 2);
        assert_eq!(words.index("made up by a peer"), OTHER_INDEX);
        assert_eq!(words.all(), ["other", "expired", "malformed"]);
    }

    #[test]
    fn duplicates_and_the_reserved_word_are_listed_once() {
        let words = Words::new(&["expired", "other", "expired", "malformed"]);
        assert_eq!(words.all(), ["other", "expired", "malformed"]);
        assert_eq!(words.index("other"), OTHER_INDEX);
        assert_eq!(words.index("malformed"), 2);
    }

    #[test]
    fn words_are_stable_lower_case_and_unique() {
        for words in [
            CloseReason::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>(),
            Resumed::ALL.iter().map(|word| word.as_str()).collect(),
            RevocationSource::ALL.iter().map(|word| word.as_str()).collect(),
            ForwardedIdentity::ALL.iter().map(|word| word.as_str()).collect(),
            AddressClaim::ALL.iter().map(|word| word.as_str()).collect(),
            Enforced::ALL.iter().map(|word| word.as_str()).collect(),
            FetchOutcome::ALL.iter().map(|word| word.as_str()).collect(),
            OcspOutcome::ALL.iter().map(|word| word.as_str()).collect(),
            GrpcStatus::ALL.iter().map(|word| word.as_str()).collect(),
        ] {
            for (position, word) in words.iter().enumerate() {
                assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{word}");
                assert!(!words[..position].contains(word), "{word} occurs twice");
            }
        }
    }

    #[test]
    fn statuses_of_grpc_have_the_numbers_of_the_protocol() {
        for (code, word) in [
            (0, "ok"),
            (4, "deadline_exceeded"),
            (7, "permission_denied"),
            (14, "unavailable"),
            (16, "unauthenticated"),
        ] {
            assert_eq!(GrpcStatus::of(code).as_str(), word);
            assert_eq!(GrpcStatus::of(code) as u8, code);
        }
        assert_eq!(GrpcStatus::of(17), GrpcStatus::Unknown);
    }

    #[test]
    fn status_classes_cover_every_status() {
        for (status, class) in [
            (0, "none"),
            (99, "none"),
            (100, "1xx"),
            (101, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (499, "4xx"),
            (500, "5xx"),
            (599, "5xx"),
            (999, "5xx"),
        ] {
            assert_eq!(StatusClass::of(status).as_str(), class, "{status}");
        }
    }
}
