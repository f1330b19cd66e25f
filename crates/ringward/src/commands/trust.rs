//! `ringward trust`: whom a running process trusts, what differs elsewhere, and what a change would do.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use ringward_tls::{TrustBundle, TrustOptions};
use rustls::pki_types::UnixTime;
use serde::Serialize;

use super::{Process, read, show};
use crate::admin_socket::Request;
use crate::failure::{EXIT_DIFFERENT, Failure};
use crate::hex;
use crate::trust::preview::FilePreview;
use crate::trust::status::{CaStatus, Difference, LAYOUT, TrustStatus};

/// Show whom the running process trusts, what differs elsewhere, and what a change would do.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Show bundles, CAs, revocation lists, staples, ticket keys and suspensions, with the open connections.
    Status(Process),
    /// Compare what is in force with something else. Exit code 3 if there is a difference.
    ///
    /// Without anything to compare with: with the files that the configuration names, as a reload would read them.
    /// Lines with `-` are in force and not there, lines with `+` are there and not in force, lines with `~` differ.
    Diff {
        /// A file or directory with CA certificates to compare a bundle with, or what `trust status --json` printed on
        /// another host.
        #[arg(value_name = "FILE-OR-DIR")]
        against: Option<PathBuf>,
        /// The bundle to compare with CA certificates. Needed if there are several.
        #[arg(long, value_name = "NAME", requires = "against")]
        bundle: Option<String>,
        #[command(flatten)]
        process: Process,
    },
    /// Say which open connections a file would end if it were in force; nothing is changed.
    ///
    /// The file holds CA certificates (the new content of a bundle), a revocation list, or deny list entries.
    Preview {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The bundle whose CAs it would replace. Needed for CA certificates if there are several bundles.
        #[arg(long, value_name = "NAME")]
        bundle: Option<String>,
        #[command(flatten)]
        process: Process,
    },
}

/// What `trust diff` prints.
#[derive(Debug, Serialize)]
struct Differences {
    differences: Vec<Difference>,
}

/// Runs the command.
///
/// # Errors
/// If it was not done; or that there is a difference, which was printed.
pub(crate) fn run(command: &TrustCommand) -> Result<(), Failure> {
    match command {
        TrustCommand::Status(process) => {
            show(&process.ask::<TrustStatus>(Request::TrustStatus)?, process.json)
        }
        TrustCommand::Preview { file, bundle, process } => {
            let request = Request::TrustPreview { file: file.display().to_string(), bundle: bundle.clone() };
            show(&process.ask_about::<FilePreview>(request, &read(file)?)?, process.json)
        }
        TrustCommand::Diff { against, bundle, process } => {
            let differences = match against {
                None => process.ask(Request::TrustDiff)?,
                Some(against) => {
                    let status = process.ask::<TrustStatus>(Request::TrustStatus)?;
                    compare(&status, against, bundle.as_deref())?
                }
            };
            let found = !differences.is_empty();
            show(&Differences { differences }, process.json)?;
            if found { Err(Failure::Reported(EXIT_DIFFERENT)) } else { Ok(()) }
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return write!(f, "no difference");
        }
        self.differences.iter().try_for_each(|difference| writeln!(f, "{difference}"))
    }
}

/// With what another host exported, or with CA certificates.
fn compare(status: &TrustStatus, against: &Path, bundle: Option<&str>) -> Result<Vec<Difference>, Failure> {
    if against.is_file() {
        let content = read(against)?;
        if content.trim_ascii_start().starts_with(b"{") {
            return compare_export(status, against, &content);
        }
    }
    let bundles = &status.bundles;
    let bundle = match (bundle, &bundles[..]) {
        (Some(name), _) => bundles.iter().find(|bundle| bundle.name == name),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let bundle = bundle.ok_or_else(|| {
        let names: Vec<&str> = bundles.iter().map(|bundle| bundle.name.as_str()).collect();
        Failure::Usage(format!("name the bundle to compare with `--bundle`; there are: {}", names.join(", ")))
    })?;
    let mut there = bundle.clone();
    (there.cas, there.quarantined) = read_cas(&bundle.name, against)?;
    let (mut here_only, mut there_only) = (status.clone(), status.clone());
    here_only.bundles = vec![bundle.clone()];
    there_only.bundles = vec![there];
    Ok(here_only.differences(&there_only))
}

fn compare_export(status: &TrustStatus, file: &Path, content: &[u8]) -> Result<Vec<Difference>, Failure> {
    let wrong = |reason: String| Failure::Usage(format!("`{}` {reason}", file.display()));
    let there: TrustStatus = serde_json::from_slice(content)
        .map_err(|error| wrong(format!("is not what `ringward trust status --json` prints: {error}")))?;
    if there.layout > LAYOUT {
        return Err(wrong(format!(
            "is of a newer ringward ({}): compare with its `trust diff`",
            there.ringward
        )));
    }
    Ok(status.differences(&there))
}

/// The CAs of a file or directory, and what would be left out, as a bundle would take them.
fn read_cas(bundle: &str, path: &Path) -> Result<(Vec<CaStatus>, Vec<String>), Failure> {
    let mut files = Vec::new();
    if path.is_dir() {
        let failed =
            |error: std::io::Error| Failure::Usage(format!("`{}` cannot be read: {error}", path.display()));
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let ending = file.extension().and_then(|ending| ending.to_str());
            if file.is_file() && ending.is_some_and(|ending| CA_ENDINGS.contains(&ending)) {
                files.push(file);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let sources = files.into_iter().map(|file| Ok((file.clone(), read(&file)?)));
    let sources = sources.collect::<Result<Vec<_>, Failure>>()?;
    let (read, left_out) = TrustBundle::from_pem(bundle, &sources, TrustOptions::default(), UnixTime::now())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let cas = read.anchors().iter().map(|anchor| CaStatus {
        subject: anchor.subject.clone(),
        fingerprint_sha256: hex::encode(&anchor.fingerprint_sha256),
        not_before_unix: anchor.not_before_unix,
        not_after_unix: anchor.not_after_unix,
        file: anchor.file.display().to_string(),
    });
    Ok((cas.collect(), left_out.iter().map(ToString::to_string).collect()))
}

/// As in a directory of a trust bundle.
const CA_ENDINGS: [&str; 3] = ["pem", "crt", "cer"];
