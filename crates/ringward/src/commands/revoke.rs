//! `ringward revoke`: refuse a client from now on, on this host.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use ringward_tls::{CertificateFacts, Serial, SerialError};

use super::{Process, parse_span, read_certificate, read_issuer, show};
use crate::admin_socket::{Request, Target};
use crate::failure::Failure;
use crate::hex;
use crate::trust::deny::{DenyEntries, Removed, Revoked};
use crate::trust::preview::Hits;

/// Refuse a client from now on: new connections, resumed sessions and open connections alike.
///
/// The entry goes to the deny list of the running process, which is kept in its `state_dir`. The command ends when the entry
/// is on disk and every worker has it; its exit code is 0 then, and only then. Repeating it does no harm.
///
/// It is for this host, and at once. The CA should revoke the certificate, too.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group = ArgGroup::new("whom").required(true))]
pub(crate) struct Revoke {
    #[command(subcommand)]
    command: Option<RevokeCommand>,
    /// One certificate by its serial number in hexadecimal digits, with `--issuer-cert`.
    #[arg(long, value_name = "HEX", group = "whom", requires = "issuer_cert")]
    serial: Option<String>,
    /// The certificate of the CA that issued it, for `--serial` or `--cert`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spki", "fingerprint", "identity", "ca"])]
    issuer_cert: Option<PathBuf>,
    /// The certificate in this file: with `--issuer-cert` just this one, by its serial number; without, every certificate
    /// with its public key, so renewed ones too.
    #[arg(long, value_name = "FILE", group = "whom")]
    cert: Option<PathBuf>,
    /// Every certificate with this public key: SHA-256 of its SubjectPublicKeyInfo.
    #[arg(long, value_name = "SHA256", group = "whom")]
    spki: Option<String>,
    /// One certificate by SHA-256 of its DER. ECDSA signatures can be rewritten by anybody, which changes the fingerprint of
    /// a certificate that stays valid: prefer `--cert` or `--serial`.
    #[arg(long, value_name = "SHA256", group = "whom")]
    fingerprint: Option<String>,
    /// Every certificate with this name: an identity as it is logged, a SPIFFE ID, or a subject alternative name.
    #[arg(long, value_name = "NAME", group = "whom")]
    identity: Option<String>,
    /// Every certificate that depends on the CA (root or intermediate) in this file.
    #[arg(long, value_name = "FILE", group = "whom")]
    ca: Option<PathBuf>,
    /// Why, for whoever reads the list later.
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["preview", "remove"])]
    reason: Option<String>,
    /// Let the entry expire after this time, such as `30d`: when the certificate has expired, for instance.
    #[arg(long, value_name = "SPAN", value_parser = parse_span, conflicts_with_all = ["preview", "remove"])]
    expires: Option<Duration>,
    /// Only say whom it would hit; nothing is changed.
    #[arg(long, conflicts_with = "remove")]
    preview: bool,
    /// Take the entry off the list again.
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    process: Process,
}

#[derive(Debug, Subcommand)]
enum RevokeCommand {
    /// Show the entries of the deny list.
    List(Process),
}

/// Runs the command.
///
/// # Errors
/// If it was not done, or not entirely.
pub(crate) fn run(arguments: &Revoke) -> Result<(), Failure> {
    let process = &arguments.process;
    if let Some(RevokeCommand::List(process)) = &arguments.command {
        return show(&process.ask::<DenyEntries>(Request::RevokeList)?, process.json);
    }
    let target = target(arguments)?;
    if arguments.preview {
        return show(&process.ask::<Hits>(Request::RevokePreview { target })?, process.json);
    }
    if arguments.remove {
        return show(&process.ask::<Removed>(Request::RevokeRemove { target })?, process.json);
    }
    let request = Request::Revoke {
        target,
        reason: arguments.reason.clone().unwrap_or_default(),
        expires_seconds: arguments.expires.map(|expires| expires.as_secs()),
    };
    show(&process.ask::<Revoked>(request)?, process.json)
}

fn target(arguments: &Revoke) -> Result<Target, Failure> {
    let Revoke { serial, issuer_cert, cert, spki, fingerprint, identity, ca, .. } = arguments;
    let issuer = issuer_cert.as_deref().map(read_issuer).transpose()?.map(|issuer| hex::encode(&issuer.0));
    // Exactly one of them is there, by the group.
    if let (Some(serial), Some(issuer)) = (serial, &issuer) {
        return Ok(Target::Serial { issuer: issuer.clone(), serial: serial_digits(serial)? });
    }
    if let Some(file) = cert {
        let certificate = read_certificate(file)?;
        let facts = CertificateFacts::read(&certificate).map_err(|error| {
            Failure::Usage(format!("`{}` holds no certificate that can be used: {error}", file.display()))
        })?;
        return Ok(match issuer {
            Some(issuer) => Target::Serial { issuer, serial: facts.serial.to_string() },
            None => Target::Spki(hex::encode(&facts.spki_sha256)),
        });
    }
    if let Some(digest) = spki {
        return Ok(Target::Spki(sha256("--spki", digest)?));
    }
    if let Some(digest) = fingerprint {
        return Ok(Target::Fingerprint(sha256("--fingerprint", digest)?));
    }
    if let Some(name) = identity {
        return Ok(Target::Identity(name.clone()));
    }
    match ca {
        Some(file) => Ok(Target::Ca(hex::encode(&read_issuer(file)?.0))),
        None => Err(Failure::Usage(
            "name one of --serial, --cert, --spki, --fingerprint, --identity, --ca".to_owned(),
        )),
    }
}

/// Digits as `openssl x509 -serial` prints them, or with colons as in its `-text`.
fn serial_digits(text: &str) -> Result<String, Failure> {
    let digits = text.strip_prefix("serial=").unwrap_or(text);
    let serial: Result<Serial, SerialError> = digits.parse();
    serial
        .map(|serial| serial.to_string())
        .map_err(|error| Failure::Usage(format!("`--serial {text}`: {error}")))
}

fn sha256(option: &str, text: &str) -> Result<String, Failure> {
    hex::decode_array::<32>(text).map(|digest| hex::encode(&digest)).ok_or_else(|| {
        Failure::Usage(format!(
            "`{option} {text}`: write SHA-256 as 64 hexadecimal digits, with or without colons"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_read_as_tools_print_them() {
        for text in ["0A0b", "a0b", "0a:0b", "serial=0A0B"] {
            assert_eq!(serial_digits(text).unwrap(), "0a0b", "{text}");
        }
        for text in ["", "x", "-1", "0a:b", "serial=", &"0a".repeat(21)] {
            assert!(serial_digits(text).is_err(), "{text}");
        }
        assert!(sha256("--spki", &"0".repeat(64)).is_ok());
        assert!(sha256("--spki", &"0".repeat(63)).is_err());
    }
}
