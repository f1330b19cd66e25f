//! `--install`: gets the proxies that are missing, packages of Debian by `apt-get` and wheels by `pip`, which go to a directory of
//! their own.

use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use super::peer::{Proxy, Source};

/// Why a proxy cannot be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("apt-get needs root: run `apt-get install {0}` as root, or leave these out with --proxy")]
    NotRoot(String),
    #[error("`{command}` could not be carried out: {reason}; install {} yourself, or leave it out with --proxy", .wanted)]
    Start { command: String, wanted: String, reason: io::Error },
    #[error("`{command}` failed: {status}; see what it said above, or leave {wanted} out with --proxy")]
    Failed { command: String, wanted: String, status: ExitStatus },
}

/// Installs those of these that are missing and can be had, and says on standard error what is done.
pub(super) async fn install(proxies: &[Proxy], cache: &Path) -> Result<(), InstallError> {
    let missing: Vec<_> = proxies.iter().filter(|proxy| proxy.find(cache).is_none()).collect();
    let from = |wanted: fn(Source) -> Option<&'static str>| {
        missing.iter().filter_map(|proxy| wanted(proxy.about().source)).collect::<Vec<_>>()
    };
    let packages = from(|source| if let Source::Apt(name) = source { Some(name) } else { None });
    let wheels = from(|source| if let Source::Pip(name) = source { Some(name) } else { None });
    if !packages.is_empty() {
        let wanted = packages.join(" ");
        if !geteuid().is_root() {
            return Err(InstallError::NotRoot(wanted));
        }
        let arguments = ["install", "-y", "--no-install-recommends"];
        carry_out("apt-get", arguments.into_iter().chain(packages), &wanted).await?;
    }
    if !wheels.is_empty() {
        let wanted = wheels.join(" ");
        let venv = cache.join("venv");
        let venv = venv.to_string_lossy();
        carry_out("python3", ["-m", "venv", &*venv], &wanted).await?;
        // Wheels alone: nothing is built, and nothing of a package runs.
        let arguments = ["install", "--disable-pip-version-check", "--only-binary", ":all:"];
        carry_out(&format!("{venv}/bin/pip"), arguments.into_iter().chain(wheels), &wanted).await?;
    }
    Ok(())
}

/// Runs a command to its end. What it says goes to standard error, since standard output is the report's.
async fn carry_out<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    wanted: &str,
) -> Result<(), InstallError> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let command = format!("{program} {}", arguments.join(" "));
    let wanted = wanted.to_owned();
    // Nobody is left to be told if standard error is closed.
    let _ = writeln!(io::stderr(), "installing: {command}");
    let mut process = Command::new(program);
    process.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let ended = timeout(INSTALL_MAX, process.stdout(io::stderr()).kill_on_drop(true).status()).await;
    match ended.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(InstallError::Failed { command, wanted, status }),
        Err(reason) => Err(InstallError::Start { command, wanted, reason }),
    }
}

/// Some hundred megabytes, also over a slow line.
const INSTALL_MAX: Duration = Duration::from_secs(1800);
