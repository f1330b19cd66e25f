//! `ringward keys`: the keys that seal session tickets.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use ringward_tls::KeyRing;
use rustls::pki_types::UnixTime;

use super::{Process, parse_span, show};
use crate::admin_socket::Request;
use crate::failure::Failure;
use crate::trust::keys;
use crate::trust::status::KeysStatus;

/// Make, rotate and show the keys that seal session tickets.
///
/// Hosts that share a ring file resume each other's sessions. Keep the file as a private key is kept; rotate it on one host,
/// or centrally, and carry it to the others before the next key seals.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a ring file with new keys.
    New {
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// How long each key seals.
        #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "4h")]
        rotate_every: Duration,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Seal with the next key from now on, and add another next key.
    ///
    /// Of the running process; or with `--file` in a ring file, without any process. Keys that have sealed open their tickets
    /// for one more interval.
    Rotate {
        /// A ring file, to be rotated without asking a process.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "config"])]
        file: Option<PathBuf>,
        #[command(flatten)]
        process: Process,
    },
    /// Show which keys there are and what they are used for; never the keys themselves.
    Show {
        /// A ring file, to be shown without asking a process.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["socket", "config"])]
        file: Option<PathBuf>,
        #[command(flatten)]
        process: Process,
    },
}

/// Runs the command.
///
/// # Errors
/// If it was not done.
pub(crate) fn run(command: &KeysCommand) -> Result<(), Failure> {
    let failed = |error: keys::RingError| Failure::Usage(error.to_string());
    let now = UnixTime::now();
    let of_file = |ring: &KeyRing, file: &PathBuf| keys::status(ring, Some(file), now);
    match command {
        KeysCommand::New { file, rotate_every, json } => {
            if !ROTATE_EVERY.contains(rotate_every) {
                return Err(Failure::Usage("`--rotate-every` takes a span from `1h` to `24h`".to_owned()));
            }
            let ring = keys::new_file(file, *rotate_every).map_err(failed)?;
            show(&of_file(&ring, file), *json)
        }
        KeysCommand::Rotate { file: Some(file), process } => {
            let ring = keys::rotate_file(file, now).map_err(failed)?;
            show(&of_file(&ring, file), process.json)
        }
        KeysCommand::Show { file: Some(file), process } => {
            let content = keys::read_file(file).map_err(failed)?;
            let ring = keys::parse(file, &content).map_err(failed)?;
            show(&of_file(&ring, file), process.json)
        }
        KeysCommand::Rotate { file: None, process } => {
            show(&process.ask::<KeysStatus>(Request::KeysRotate)?, process.json)
        }
        KeysCommand::Show { file: None, process } => {
            show(&process.ask::<KeysStatus>(Request::KeysShow)?, process.json)
        }
    }
}

/// As `rotate_every` in [keys].
const ROTATE_EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(86_400);
