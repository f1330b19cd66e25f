//! The commands that ask a running process, or work on the files that it shares with others, or on policies.

pub(crate) mod help;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod reload;
pub(crate) mod revoke;
pub(crate) mod route;
pub(crate) mod trust;
pub(crate) mod upgrade;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ringward_tls::IssuerId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin_socket::{Client, ClientError, Request};
use crate::failure::Failure;
use crate::load::files;
use crate::terminal::{print_json, say};

/// Which process is meant, and how it is to be shown.
#[derive(Debug, Args)]
pub(crate) struct Process {
    /// The admin socket of the process, as `socket` in `[admin]` of its configuration.
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "config")]
    socket: Option<PathBuf>,
    /// The configuration file of the process, to find its admin socket.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Process {
    /// Asks the process.
    ///
    /// # Errors
    /// If it does not run, or says no.
    pub(crate) fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, Failure> {
        self.ask_about(request, &[])
    }

    /// Asks the process about a file.
    ///
    /// # Errors
    /// If it does not run, or says no.
    pub(crate) fn ask_about<T: DeserializeOwned>(&self, request: Request, file: &[u8]) -> Result<T, Failure> {
        let path = self.socket()?;
        let failed = |error: ClientError| Failure::Runtime(error.to_string());
        Client::connect(&path).map_err(failed)?.ask(request, file).map_err(failed)
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let Some(file) = &self.config else { return Ok(PathBuf::from(SOCKET_DEFAULT)) };
        let config = ringward_config::load(file).map_err(Failure::Configuration)?;
        let socket = config.admin.socket.ok_or_else(|| {
            Failure::Usage(format!(
                "`{}` has no `socket` in [admin]: the process cannot be asked",
                file.display()
            ))
        })?;
        Ok(socket.path)
    }
}

/// Prints a result, for people or as JSON.
///
/// # Errors
/// If it cannot be written as JSON.
pub(crate) fn show(result: &(impl Serialize + std::fmt::Display), json: bool) -> Result<(), Failure> {
    if json {
        return print_json(result);
    }
    say(result.to_string().trim_end());
    Ok(())
}

/// Reads a file that was named on the command line.
///
/// # Errors
/// If it cannot be read, or is larger than any such file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::read_named(path).map_err(|error| Failure::Usage(error.to_string()))
}

/// The first certificate of a file, PEM or DER.
///
/// # Errors
/// If there is none.
pub(crate) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    let content = read(path)?;
    let from_pem = CertificateDer::pem_slice_iter(&content).next();
    let certificate = match from_pem {
        Some(Ok(certificate)) => certificate,
        // DER begins with a SEQUENCE; whether it is a certificate shows when it is used.
        None if content.first() == Some(&DER_SEQUENCE) => CertificateDer::from(content),
        Some(Err(error)) => {
            return Err(Failure::Usage(format!("`{}` cannot be parsed: {error}", path.display())));
        }
        None => {
            return Err(Failure::Usage(format!(
                "`{}` holds no certificate in PEM or DER form",
                path.display()
            )));
        }
    };
    Ok(certificate)
}

/// The certificates of a file in PEM form, the leaf first.
///
/// # Errors
/// What is wrong with the file, to be said behind its name.
pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("holds no certificate in PEM form".to_owned()),
        Err(error) => Err(format!("cannot be parsed: {error}")),
    }
}

/// A CA as an issuer.
///
/// # Errors
/// If the file holds no certificate.
pub(crate) fn read_issuer(path: &Path) -> Result<IssuerId, Failure> {
    let certificate = read_certificate(path)?;
    IssuerId::of_certificate(&certificate).map_err(|error| {
        Failure::Usage(format!("`{}` holds no certificate that can be used: {error}", path.display()))
    })
}

/// Reads a span of time such as `30d`, `12h` or `1h30m`.
///
/// # Errors
/// How to write it.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "write whole numbers with units, such as `30d`, `12h` or `1h30m` (d, h, m, s)".to_owned();
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let mut letters = after.chars();
        let seconds: u64 = match letters.next() {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        let span = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
        total = span
            .and_then(|span| total.checked_add(span))
            .filter(|total| *total <= SPAN_SECONDS_MAX)
            .ok_or_else(wrong)?;
        rest = letters.as_str();
    }
    if total == 0 { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

/// Where packages put the socket.
const SOCKET_DEFAULT: &str = "/run/ringward/admin.sock";
const DER_SEQUENCE: u8 = 0x30;
/// Longer than any certificate lives.
const SPAN_SECONDS_MAX: u64 = 100 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_limits() {
        for (text, seconds) in [("30d", 2_592_000), ("1h30m", 5_400), ("1s", 1), ("36600d", SPAN_SECONDS_MAX)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "d", "0s", "-1d", "1.5h", "1w", "1 h", "36601d", "99999999999999999999d", "1é"]
        {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
