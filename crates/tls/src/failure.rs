//! Why a handshake failed: one reason from a closed set for metrics, and words for the operator.
//!
//! The peer never learns any of it. It gets a TLS alert and nothing else.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ringward_identity::PeerIdentity;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use rustls_pki_types::CertificateDer;

use crate::certificate::{self, Certificate};
use crate::digest::sha256;

macro_rules! closed_set {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a handshake failed. A closed set: safe as a metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HandshakeReason { $($(#[$doc])* $variant,)* }

        impl HandshakeReason {
            /// Every reason, in declaration order.
            pub const ALL: &[HandshakeReason] = &[$(HandshakeReason::$variant,)*];

            /// The stable name used in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

closed_set! {
    /// The host requires a client certificate and the client sent none.
    NoCertificate = "no_certificate",
    /// No trust anchor of the host's bundle issued the chain.
    UnknownIssuer = "unknown_issuer",
    /// A certificate of the chain, or the anchor it leads to, has expired.
    Expired = "expired",
    /// A certificate of the chain, or the anchor it leads to, is not valid yet.
    NotYetValid = "not_yet_valid",
    /// A signature is wrong: within the chain, or the client's proof that it holds the key.
    BadSignature = "bad_signature",
    /// A signature was made with an algorithm that is not accepted.
    UnsupportedSignature = "unsupported_signature",
    /// More intermediates, or more bytes of certificates, than the host accepts.
    ChainTooLong = "chain_too_long",
    /// extendedKeyUsage is absent, or does not list clientAuth.
    BadEku = "bad_eku",
    /// keyUsage is present without digitalSignature.
    BadKeyUsage = "bad_key_usage",
    /// The leaf is a CA certificate.
    CaAsLeaf = "ca_as_leaf",
    /// A name holds NUL or control characters, or is otherwise unfit to be an identity.
    BadName = "bad_name",
    /// A name, path length or CA constraint of an issuer forbids the chain.
    ConstraintViolation = "constraint_violation",
    /// No key of the verified path is pinned by the bundle.
    PinMismatch = "pin_mismatch",
    /// A key is of a kind, or shorter than, the bundle accepts.
    KeyNotAllowed = "key_not_allowed",
    /// The leaf carries none of the certificate policies that the bundle asks for.
    PolicyOidMissing = "policy_oid_missing",
    /// The leaf is valid for longer than the bundle accepts.
    LifetimeTooLong = "lifetime_too_long",
    /// The leaf's SPIFFE trust domain is not one that any bundle that could vouch for it is bound to.
    TrustDomainMismatch = "trust_domain_mismatch",
    /// No tenant that the host admits claims the peer.
    NoTenant = "no_tenant",
    /// Several tenants claim the peer.
    AmbiguousTenant = "ambiguous_tenant",
    /// A certificate of the path was revoked by its issuer.
    Revoked = "revoked",
    /// The peer, its certificate or one of its issuers is on the deny list.
    DenyListed = "deny_listed",
    /// Revocation data is required and there is none.
    RevocationUnknown = "revocation_unknown",
    /// The revocation data is older than the bundle accepts.
    RevocationStale = "revocation_stale",
    /// The client proved its key longer ago than `max_auth_age`.
    TooOld = "too_old",
    /// A certificate cannot be parsed, or has a critical extension that is not understood.
    BadCertificate = "bad_certificate",
    /// No cipher suite in common.
    NoCommonSuite = "no_common_suite",
    /// No key exchange group in common.
    NoCommonGroup = "no_common_group",
    /// The client cannot verify signatures of the kind that the host's key makes.
    NoCommonSignature = "no_common_signature",
    /// The client does not speak TLS 1.3.
    NoCommonVersion = "no_common_version",
    /// The client offers only application protocols that the host does not speak.
    NoAlpn = "no_alpn",
    /// The client named a host that is not configured here.
    UnknownServerName = "unknown_server_name",
    /// The client named no host, and no default host answers.
    MissingServerName = "missing_server_name",
    /// Bytes that are not TLS, or TLS that breaks its rules.
    Malformed = "malformed",
    /// Plain HTTP was spoken to the TLS port.
    PlainHttp = "plain_http",
    /// A load balancer begins its connection without a header of the PROXY protocol, or with a bad one.
    ProxyHeader = "proxy_header",
    /// The connection comes from an address from which none is expected.
    ProxySource = "proxy_source",
    /// Its network has begun more full handshakes than it may.
    SourceRate = "source_rate",
    /// Too many handshakes of its network have failed lately.
    SourceRefused = "source_refused",
    /// Its network has as many connections as it may.
    SourceConnections = "source_connections",
    /// There were too many handshakes, and too many that waited, or it waited too long.
    Overload = "handshake_overload",
    /// The handshake did not finish in time.
    Timeout = "timeout",
    /// The client went away in the middle.
    PeerClosed = "peer_closed",
    /// The client gave up with an alert: often it does not trust the host's certificate.
    PeerAlert = "peer_alert",
    /// A fault of our own.
    Internal = "internal",
}

impl fmt::Display for HandshakeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HandshakeReason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == name)
            .ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

/// A text that names no [`HandshakeReason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a handshake reason")]
pub struct UnknownReason(pub String);

/// A handshake that failed: what to count, what to tell the operator, what to send.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct HandshakeFailure {
    /// The reason, for the metric.
    pub reason: HandshakeReason,
    /// What happened and the likely fix, for the operator's log. Never sent to the peer.
    pub message: String,
    /// The client chain that was refused, if it came to that.
    pub presented: Option<PresentedChain>,
    /// The trust bundle that was consulted, if one was.
    pub trust_bundle: Option<Arc<str>>,
    /// TLS bytes to send before closing. Empty if there is nothing to say in TLS, or if
    /// [`ServerSession::process`](crate::ServerSession::process) has appended them to its output already.
    pub alert: Vec<u8>,
}

impl HandshakeFailure {
    /// A failure without a chain and without an alert.
    pub fn new(reason: HandshakeReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), presented: None, trust_bundle: None, alert: Vec::new() }
    }

    /// The client asked for a host that is not configured. Carries the alert `unrecognized_name` (RFC 6066
    /// §3).
    pub fn unknown_server_name(name: &str) -> Self {
        let message = format!(
            "no host named `{name}` on this listener; add it to a host's `names` or set `default_host`"
        );
        Self {
            alert: fatal_alert(ALERT_UNRECOGNIZED_NAME),
            ..Self::new(HandshakeReason::UnknownServerName, message)
        }
    }

    /// The client named no host and the listener has no default. Carries the alert `missing_extension`, as
    /// RFC 8446 §9.2 asks of a server that requires `server_name`.
    pub fn missing_server_name() -> Self {
        let message = "the client sent no server name; have it send one or set `default_host`";
        Self {
            alert: fatal_alert(ALERT_MISSING_EXTENSION),
            ..Self::new(HandshakeReason::MissingServerName, message)
        }
    }

    /// Translates an error of rustls that no verdict of our own explains.
    pub(crate) fn from_rustls(error: &Error) -> Self {
        let (reason, hint) = classify(error);
        let message = if hint.is_empty() { error.to_string() } else { format!("{error}; {hint}") };
        Self::new(reason, message)
    }
}

/// The client chain of a failed handshake, for the operator. Nothing in it is proven: never an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedChain {
    /// Subject of the leaf by RFC 4514, cut at 512 bytes. Empty, like the next two, if the leaf cannot be
    /// parsed.
    pub subject: String,
    /// Issuer of the leaf, in the same form.
    pub issuer: String,
    /// Serial number of the leaf in lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the leaf's DER.
    pub fingerprint_sha256: [u8; 32],
    /// notAfter of the leaf, seconds since 1970. 0 if the leaf cannot be parsed.
    pub not_after_unix: i64,
    /// How many certificates were presented, the leaf included.
    pub certificates: usize,
}

impl PresentedChain {
    pub(crate) fn describe(leaf: &CertificateDer<'_>, intermediates: usize) -> Self {
        let mut chain = Self {
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
            fingerprint_sha256: sha256(leaf),
            not_after_unix: 0,
            certificates: intermediates + 1,
        };
        if let Ok(leaf) = Certificate::parse(leaf) {
            chain.subject = leaf.subject();
            chain.issuer = leaf.issuer();
            chain.serial = leaf.serial();
            chain.not_after_unix = leaf.not_after_unix();
        }
        chain
    }

    /// The same of a chain that was verified, when the handshake failed afterwards.
    pub(crate) fn of_identity(identity: &PeerIdentity) -> Self {
        Self {
            subject: identity.subject().to_owned(),
            issuer: identity.issuer().to_owned(),
            serial: identity.serial().to_owned(),
            fingerprint_sha256: *identity.fingerprint_sha256(),
            not_after_unix: identity.not_after_unix(),
            certificates: identity.chain_depth(),
        }
    }
}

impl fmt::Display for PresentedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subject `{}`, issuer `{}`, serial {}, not after {}, sha256 {}, {} certificate(s)",
            self.subject,
            self.issuer,
            self.serial,
            certificate::format_unix(self.not_after_unix),
            certificate::hex(&self.fingerprint_sha256),
            self.certificates
        )
    }
}

/// The reason for an error of rustls, and what the operator may do about it.
fn classify(error: &Error) -> (HandshakeReason, &'static str) {
    use HandshakeReason as Reason;
    match error {
        Error::NoCertificatesPresented => (
            Reason::NoCertificate,
            "the client has none configured, or none that suits our signature schemes",
        ),
        Error::InvalidCertificate(error) => classify_certificate(error),
        Error::PeerIncompatible(error) => classify_incompatible(error),
        Error::NoApplicationProtocol => (
            Reason::NoAlpn,
            "the client must offer http/1.1, h2 where the listener has http2 = true, or no ALPN",
        ),
        Error::AlertReceived(alert) => (Reason::PeerAlert, explain_alert(*alert)),
        Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord
        | Error::InvalidEncryptedClientHello(_) => (Reason::Malformed, ""),
        _ => (Reason::Internal, ""),
    }
}

/// Certificate errors that reach us from rustls itself, all about CertificateVerify: chains are judged by our
/// verifier.
#[allow(deprecated, reason = "rustls may still return the variant without context")]
fn classify_certificate(error: &CertificateError) -> (HandshakeReason, &'static str) {
    match error {
        CertificateError::BadSignature => (
            HandshakeReason::BadSignature,
            "the client does not hold the key of the certificate that it presented",
        ),
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            (HandshakeReason::UnsupportedSignature, "")
        }
        _ => (HandshakeReason::BadCertificate, ""),
    }
}

fn classify_incompatible(error: &PeerIncompatible) -> (HandshakeReason, &'static str) {
    use HandshakeReason as Reason;
    match error {
        PeerIncompatible::NoCipherSuitesInCommon => (Reason::NoCommonSuite, ""),
        PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired => (Reason::NoCommonGroup, ""),
        PeerIncompatible::NoSignatureSchemesInCommon => {
            (Reason::NoCommonSignature, "the client cannot verify the kind of key that this host has")
        }
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => (
            Reason::NoCommonVersion,
            "a client of TLS 1.2 must support the extended master secret (RFC 7627)",
        ),
        // A ClientHello without signature_algorithms is legal only up to TLS 1.2 (RFC 8446 §4.2.3).
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            (Reason::NoCommonVersion, "the client must speak TLS 1.3")
        }
        _ => (Reason::Malformed, ""),
    }
}

fn explain_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => {
            "the client does not accept this host's certificate: does it know the issuing CA, does the chain hold all \
             intermediates, does the certificate name the host?"
        }
        AlertDescription::CertificateExpired => {
            "the client takes this host's certificate for expired: check its validity and the client's clock"
        }
        AlertDescription::DecryptError => {
            "the client could not verify a signature of this host: is its CA another one of the same name?"
        }
        AlertDescription::UnsupportedCertificate => "the client cannot use this kind of server certificate",
        _ => "",
    }
}

/// A fatal alert in a plaintext record (RFC 8446 §5.1 and §6), as it may be sent before any key exists.
pub(crate) fn fatal_alert(description: u8) -> Vec<u8> {
    const CONTENT_TYPE_ALERT: u8 = 21;
    const LEGACY_VERSION: [u8; 2] = [0x03, 0x03];
    const LEVEL_FATAL: u8 = 2;
    vec![CONTENT_TYPE_ALERT, LEGACY_VERSION[0], LEGACY_VERSION[1], 0, 2, LEVEL_FATAL, description]
}

/// RFC 8446 §6: `missing_extension`.
const ALERT_MISSING_EXTENSION: u8 = 109;
/// RFC 6066 §3: `unrecognized_name`.
const ALERT_UNRECOGNIZED_NAME: u8 = 112;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_distinct_names_that_parse_back() {
        for reason in HandshakeReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            assert!(reason.as_str().bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
        }
        assert!("nonsense".parse::<HandshakeReason>().is_err());
    }

    #[test]
    fn errors_of_rustls_become_reasons() {
        let cases: [(Error, HandshakeReason); 8] = [
            (Error::NoCertificatesPresented, HandshakeReason::NoCertificate),
            (Error::InvalidCertificate(CertificateError::BadSignature), HandshakeReason::BadSignature),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), HandshakeReason::NoCommonSuite),
            (PeerIncompatible::NoKxGroupsInCommon.into(), HandshakeReason::NoCommonGroup),
            (PeerIncompatible::Tls12NotOfferedOrEnabled.into(), HandshakeReason::NoCommonVersion),
            (Error::NoApplicationProtocol, HandshakeReason::NoAlpn),
            (Error::AlertReceived(AlertDescription::UnknownCA), HandshakeReason::PeerAlert),
            (Error::DecryptError, HandshakeReason::Malformed),
        ];
        for (error, reason) in cases {
            assert_eq!(HandshakeFailure::from_rustls(&error).reason, reason, "{error}");
        }
        assert_eq!(
            HandshakeFailure::from_rustls(&Error::FailedToGetRandomBytes).reason,
            HandshakeReason::Internal
        );
    }
}
