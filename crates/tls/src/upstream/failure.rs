//! Why TLS with an upstream failed: a closed set of reasons, each with what the operator may do about it.

use std::error::Error as StdError;
use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

/// Why TLS with an upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamTlsReason {
    /// None of our CAs vouches for its certificate.
    UnknownCa,
    /// Its certificate is somebody else's: another name, address or SPIFFE ID.
    NameMismatch,
    /// Its certificate, or one above it, has expired.
    Expired,
    /// Its certificate, or one above it, is not valid yet.
    NotYetValid,
    /// None of the pinned keys is on the path.
    PinMismatch,
    /// A list says that its certificate, or one above it, is revoked.
    Revoked,
    /// No list says whether a certificate of its chain is revoked, and one is asked for.
    RevocationUnknown,
    /// The list that would say whether a certificate of its chain is revoked is too old.
    RevocationStale,
    /// Its certificate is unusable in another way, or it has no proof of its key.
    BadCertificate,
    /// It does not accept our certificate, or wants one and we have none.
    CertificateRefused,
    /// No version of TLS that both speak.
    NoCommonVersion,
    /// No cipher suite, group or signature scheme that both have.
    NoCommonSuite,
    /// It does not speak the application protocol.
    AlpnRefused,
    /// It ended the connection with another alert.
    PeerAlert,
    /// What it sends is not TLS, or breaks its rules.
    Malformed,
    /// It closed during the handshake without a word.
    Closed,
    /// The handshake took too long.
    Timeout,
    /// A fault of ours.
    Internal,
}

impl UpstreamTlsReason {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::UnknownCa,
        Self::NameMismatch,
        Self::Expired,
        Self::NotYetValid,
        Self::PinMismatch,
        Self::Revoked,
        Self::RevocationUnknown,
        Self::RevocationStale,
        Self::BadCertificate,
        Self::CertificateRefused,
        Self::NoCommonVersion,
        Self::NoCommonSuite,
        Self::AlpnRefused,
        Self::PeerAlert,
        Self::Malformed,
        Self::Closed,
        Self::Timeout,
        Self::Internal,
    ];

    /// The stable name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownCa => "upstream_tls_unknown_ca",
            Self::NameMismatch => "upstream_tls_name_mismatch",
            Self::Expired => "upstream_tls_expired",
            Self::NotYetValid => "upstream_tls_not_yet_valid",
            Self::PinMismatch => "upstream_tls_pin_mismatch",
            Self::Revoked => "upstream_tls_revoked",
            Self::RevocationUnknown => "upstream_tls_revocation_unknown",
            Self::RevocationStale => "upstream_tls_revocation_stale",
            Self::BadCertificate => "upstream_tls_bad_certificate",
            Self::CertificateRefused => "upstream_tls_certificate_refused",
            Self::NoCommonVersion => "upstream_tls_no_common_version",
            Self::NoCommonSuite => "upstream_tls_no_common_suite",
            Self::AlpnRefused => "upstream_tls_alpn_refused",
            Self::PeerAlert => "upstream_tls_peer_alert",
            Self::Malformed => "upstream_tls_malformed",
            Self::Closed => "upstream_tls_closed",
            Self::Timeout => "upstream_tls_timeout",
            Self::Internal => "upstream_tls_internal",
        }
    }
}

impl fmt::Display for UpstreamTlsReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// TLS with an upstream failed: what to count, and what to tell the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UpstreamTlsFailure {
    /// The reason, for the metric.
    pub reason: UpstreamTlsReason,
    /// What happened and the likely fix.
    pub message: String,
}

impl UpstreamTlsFailure {
    /// A failure. What of the message is the upstream's may be as long as it likes: it is cut, and nothing in it is an order to a
    /// terminal.
    pub fn new(reason: UpstreamTlsReason, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
            message.truncate(end);
            message.push_str("...");
        }
        if message.contains(char::is_control) {
            message = message.replace(char::is_control, "?");
        }
        Self { reason, message }
    }

    /// The failure for an error of rustls. `asked`: the upstream has asked for our certificate, and whether we have one.
    pub(super) fn of(error: &Error, asked: Option<bool>) -> Self {
        use UpstreamTlsReason as Reason;
        let with_hint = |reason, hint: &str| Self::new(reason, format!("{error}{hint}"));
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::NoCertificatesPresented => with_hint(Reason::BadCertificate, ""),
            Error::AlertReceived(alert) => Self::of_alert(*alert, asked),
            Error::NoApplicationProtocol => with_hint(Reason::AlpnRefused, ": is `protocol` right?"),
            Error::PeerIncompatible(why) => match why {
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerSentHelloRetryRequestWithUnknownExtension => {
                    with_hint(Reason::NoCommonVersion, VERSION_HINT)
                }
                PeerIncompatible::ExtendedMasterSecretExtensionRequired => with_hint(
                    Reason::NoCommonVersion,
                    ": with TLS 1.2 the upstream must support the extended master secret (RFC 7627)",
                ),
                _ => with_hint(Reason::NoCommonSuite, ""),
            },
            Error::InvalidMessage(_) => {
                with_hint(Reason::Malformed, ": does the upstream speak TLS on this port?")
            }
            Error::PeerMisbehaved(rustls::PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
                with_hint(Reason::AlpnRefused, ": is `protocol` right?")
            }
            Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => with_hint(Reason::Malformed, ""),
            _ => with_hint(Reason::Internal, ""),
        }
    }

    #[allow(deprecated, reason = "rustls may still return the variants without context")]
    fn of_certificate(error: &CertificateError) -> Self {
        use UpstreamTlsReason as Reason;
        let (reason, hint) = match error {
            CertificateError::Other(OtherError(ours)) => {
                return match ours.downcast_ref::<Self>() {
                    Some(failure) => failure.clone(),
                    None => Self::new(Reason::BadCertificate, ours.to_string()),
                };
            }
            CertificateError::UnknownIssuer => {
                (Reason::UnknownCa, ": is its CA in `ca`, and does the upstream send all intermediates?")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (Reason::NameMismatch, ": is `server_name` what the upstream's certificate names?")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (Reason::Expired, ""),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                (Reason::NotYetValid, "")
            }
            _ => (Reason::BadCertificate, ""),
        };
        Self::new(reason, format!("the upstream's certificate is not accepted: {error}{hint}"))
    }

    fn of_alert(alert: AlertDescription, asked: Option<bool>) -> Self {
        use UpstreamTlsReason as Reason;
        let name = alert.as_str().unwrap_or("(unknown)");
        let said =
            |reason, hint: &str| Self::new(reason, format!("the upstream sent the TLS alert {name}{hint}"));
        let refused = || {
            let hint = match asked {
                Some(false) => ": it asks for a certificate and we have none: add `certificate`",
                _ => ": it does not accept our certificate: does it know our CA, and is it valid?",
            };
            said(Reason::CertificateRefused, hint)
        };
        match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => refused(),
            // What servers of TLS 1.2 say to who has no certificate, and of any version to one that they cannot verify.
            AlertDescription::HandshakeFailure | AlertDescription::DecryptError if asked.is_some() => {
                refused()
            }
            AlertDescription::ProtocolVersion => said(Reason::NoCommonVersion, VERSION_HINT),
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => said(
                Reason::NoCommonSuite,
                ": it has no cipher suite, group or signature scheme in common with us",
            ),
            AlertDescription::NoApplicationProtocol => said(Reason::AlpnRefused, ": is `protocol` right?"),
            AlertDescription::UnrecognisedName => {
                said(Reason::PeerAlert, ": it does not serve this name: is `server_name` right?")
            }
            _ => said(Reason::PeerAlert, ""),
        }
    }

    /// As an error of a verifier.
    pub(super) fn into_rustls(self) -> Error {
        let error: std::sync::Arc<dyn StdError + Send + Sync> = std::sync::Arc::new(self);
        CertificateError::Other(OtherError(error)).into()
    }
}

/// Our own words and those of rustls are shorter, with some names of the upstream's.
const MESSAGE_BYTES_MAX: usize = 512;
const VERSION_HINT: &str =
    ": with TLS 1.2, which is all that older servers speak, min_version = \"1.2\" is needed";
