//! The two logs: lifecycle messages to standard error, and access records to where the configuration says.
//!
//! Lifecycle messages are text on a terminal and JSON lines elsewhere, since then a collector reads them. Records
//! come from the workers through bounded queues; this module only opens their output and starts the writer.

use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;

use ringward_config::{AccessLog, Level};
use ringward_telemetry::{
    HandshakeLineRate, LogOpenError, LogOutput, LogStats, LogTarget, LogThread, LogWriter, RecordReceiver,
    Registry,
};

/// Starts the lifecycle log of this process. Does nothing if there is one already, as under `ringward demo`.
pub(crate) fn init(level: Level) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_target(false)
        .with_max_level(tracing_level(level));
    let started = if io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    // The only error there is: another log was started first.
    if started.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Panics are caught and harm one connection; here they get a line like everything else that someone has to look at.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("of unknown cause");
    let location = panic.location().map(ToString::to_string);
    tracing::error!(what, location, "panic");
}

/// Opens the output of the records. Without access records there are still failed handshakes, which then go to standard
/// error like everything about the process.
///
/// # Errors
/// What the file system said, with the name of the output.
pub(crate) fn open_access(access: &AccessLog) -> Result<LogOutput, LogOpenError> {
    LogOutput::open(&match access {
        AccessLog::Stdout => LogTarget::Stdout,
        AccessLog::Off | AccessLog::Stderr => LogTarget::Stderr,
        AccessLog::File(file) => LogTarget::File(file.path.clone()),
    })
}

/// Starts to write what the workers record.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn start_writer(
    output: LogOutput,
    receivers: Vec<RecordReceiver>,
    registry: Registry,
    stats: Arc<LogStats>,
) -> io::Result<LogThread> {
    LogWriter::new(output, receivers, registry, stats, HandshakeLineRate::default()).spawn()
}

fn tracing_level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}
