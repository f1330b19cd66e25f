//! What can be asked over the admin socket, as it is written there.
//!
//! Both ends are usually the same binary, but not during an upgrade: what one end does not know is an error and is never
//! passed over.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line that a client sends.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope {
    pub(super) request: Request,
    /// Bytes that follow the line.
    #[serde(default)]
    pub(super) attachment_bytes: usize,
}

/// A line that answers one.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reply {
    /// It was done.
    Ok(Value),
    /// It was not, or not entirely.
    Error(String),
}

/// Something to be done by the process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Refuse somebody from now on.
    Revoke {
        /// Who.
        target: Target,
        /// Why, in the words of whoever decided it.
        reason: String,
        /// For how many seconds; for ever if absent.
        #[serde(default)]
        expires_seconds: Option<u64>,
    },
    /// Say whom [`Request::Revoke`] would hit, and change nothing.
    RevokePreview {
        /// Who.
        target: Target,
    },
    /// Take an entry off the deny list.
    RevokeRemove {
        /// Whose.
        target: Target,
    },
    /// The entries of the deny list.
    RevokeList,
    /// Everything that decides whom this process trusts.
    TrustStatus,
    /// What would change if the files were read now.
    TrustDiff,
    /// Say whom the attached file would hit if it were in force, and change nothing.
    TrustPreview {
        /// What to call the file.
        file: String,
        /// The trust bundle that it would be the content of, or that its issuer is in.
        #[serde(default)]
        bundle: Option<String>,
    },
    /// Seal session tickets with the next key from now on.
    KeysRotate,
    /// The keys that seal session tickets, without their secrets.
    KeysShow,
    /// Read the configuration and all files again, as on SIGHUP, and say what came of it.
    Reload {
        /// How long the client waits for the outcome.
        timeout_seconds: u64,
    },
    /// Have a new process of the program on disk take over, and drain.
    Upgrade {
        /// How long the new process may take until it serves.
        timeout_seconds: u64,
    },
}

/// Whom an entry of the deny list is about. Bytes are hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Target {
    /// One certificate, by the CA that issued it and its serial number.
    Serial {
        /// [`ringward_tls::IssuerId`] of the CA.
        issuer: String,
        /// The serial number.
        serial: String,
    },
    /// Every certificate with this public key: SHA-256 of its SubjectPublicKeyInfo.
    Spki(String),
    /// One certificate: SHA-256 of its DER.
    Fingerprint(String),
    /// Every certificate with this name: an identity, a SPIFFE ID, or a subject alternative name.
    Identity(String),
    /// Every certificate that depends on this CA, by [`ringward_tls::IssuerId`].
    Ca(String),
}

impl Request {
    /// For logs and messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Request::Revoke { .. } => "revoke",
            Request::RevokePreview { .. } => "revoke --preview",
            Request::RevokeRemove { .. } => "revoke --remove",
            Request::RevokeList => "revoke list",
            Request::TrustStatus => "trust status",
            Request::TrustDiff => "trust diff",
            Request::TrustPreview { .. } => "trust preview",
            Request::KeysRotate => "keys rotate",
            Request::KeysShow => "keys show",
            Request::Reload { .. } => "reload",
            Request::Upgrade { .. } => "upgrade",
        }
    }

    /// Whether it changes something. A reload and an upgrade say for themselves what they change.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Request::Revoke { .. } | Request::RevokeRemove { .. } | Request::KeysRotate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Envelope, serde_json::Error> {
        serde_json::from_str(line)
    }

    #[test]
    fn requests_are_read_as_they_are_written() {
        let target = Target::Serial { issuer: "00".repeat(32), serial: "0a".to_owned() };
        for request in [
            Request::Revoke { target: target.clone(), reason: "lost".to_owned(), expires_seconds: Some(60) },
            Request::RevokePreview { target: Target::Ca("00".repeat(32)) },
            Request::RevokeRemove { target: Target::Identity("a".to_owned()) },
            Request::RevokeList,
            Request::TrustStatus,
            Request::TrustDiff,
            Request::TrustPreview { file: "a.crl".to_owned(), bundle: None },
            Request::KeysRotate,
            Request::KeysShow,
            Request::Reload { timeout_seconds: 60 },
            Request::Upgrade { timeout_seconds: 60 },
        ] {
            let line =
                serde_json::to_string(&Envelope { request: request.clone(), attachment_bytes: 0 }).unwrap();
            assert_eq!(parse(&line).unwrap().request, request, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        assert!(parse(r#"{"request": "keys_show"}"#).is_ok());
        assert!(parse(r#"{"request": {"revoke_preview": {"target": {"identity": "a"}}}}"#).is_ok());
        for line in [
            "",
            "{}",
            r#"{"request": "keys_forget"}"#,
            r#"{"request": "keys_show", "dry_run": true}"#,
            r#"{"request": {"revoke_preview": {"target": {"identity": "a"}, "only": "b"}}}"#,
            r#"{"request": {"revoke_preview": {"target": {"identity": "a", "spki": "b"}}}}"#,
            r#"{"request": {"revoke": {"target": {"identity": "a"}, "reason": "r", "expires_seconds": -1}}}"#,
            r#"{"request": "keys_show", "attachment_bytes": -1}"#,
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
