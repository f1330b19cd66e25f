//! Why a command ended without success, and with which exit code.

use std::process::ExitCode;

use ringward_config::Diagnostics;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration, or something that it names, is refused.
    #[error("{0}")]
    Configuration(Diagnostics),
    /// The command cannot do what it was asked to, for reasons that the one who asked can change.
    #[error("error: {0}")]
    Usage(String),
    /// Something failed while it ran.
    #[error("error: {0}")]
    Runtime(String),
    /// Everything that is to be said was said.
    #[error("")]
    Reported(u8),
}

impl Failure {
    /// 1 for what failed at run time, 2 for configuration and usage, so that supervisors can tell "try again" from
    /// "do not try again".
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Configuration(_) | Failure::Usage(_) => EXIT_USAGE,
            Failure::Runtime(_) => EXIT_RUNTIME,
            Failure::Reported(code) => *code,
        })
    }
}

/// It did what it was told to.
pub(crate) const EXIT_SUCCESS: u8 = 0;
/// What was compared differs.
pub(crate) const EXIT_DIFFERENT: u8 = 3;
/// Something failed at run time.
pub(crate) const EXIT_RUNTIME: u8 = 1;
/// The configuration is refused, or the command was used wrongly. Also clap's code.
pub(crate) const EXIT_USAGE: u8 = 2;
