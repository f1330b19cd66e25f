//! What is in no file: whether this process gets a ring, and whether the clock is kept right.

use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Answers of the running kernel; none of them for a machine that is only a copy of its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Whether a ring could be set up here as a worker does it.
    pub(super) ring: Option<Result<(), String>>,
    /// Whether the clock is synchronised (`adjtimex`).
    pub(super) synchronised: Option<Result<bool, String>>,
    /// How far the wall clock went otherwise than the monotonic one while this command ran, either way.
    pub(super) jumped: Option<Duration>,
}

impl Answers {
    /// Asks the kernel that runs.
    pub(super) fn ask() -> Answers {
        let (wall, steady) = (SystemTime::now(), Instant::now());
        let ring = ringward_proxy::try_ring().map_err(|error| error.to_string());
        let synchronised = synchronised();
        let passed = steady.elapsed();
        let jumped = match SystemTime::now().duration_since(wall) {
            Ok(walked) => walked.abs_diff(passed),
            Err(back) => back.duration() + passed,
        };
        Answers { ring: Some(ring), synchronised: Some(synchronised), jumped: Some(jumped) }
    }
}

/// What `adjtimex` says, through systemd's tool: the call itself has no wrapper in safe code.
fn synchronised() -> Result<bool, String> {
    let said = output("timedatectl", &["show", "--property=NTPSynchronized", "--value"])?;
    match said.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => {
            Err(format!("timedatectl said `{}`", other.chars().take(ANSWER_SHOWN_MAX).collect::<String>()))
        }
    }
}

/// What a program writes, if it succeeds in time.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let failed = |error: io::Error| format!("{program} cannot be run: {error}");
    // A file rather than a pipe, which others could hold open when the program has ended.
    let mut written = tempfile::tempfile().map_err(failed)?;
    let stdout = written.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let end = Instant::now() + ANSWER_WAIT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() >= end {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait().map_err(failed)?;
            return Err(format!("{program} did not answer within {} s", ANSWER_WAIT.as_secs()));
        }
        thread::sleep(ANSWER_LOOK);
    };
    if !status.success() {
        return Err(format!("{program} failed ({status})"));
    }
    let mut text = String::new();
    written.seek(SeekFrom::Start(0)).map_err(failed)?;
    written.take(ANSWER_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// D-Bus may have to start the service that answers.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
const ANSWER_LOOK: Duration = Duration::from_millis(5);
const ANSWER_BYTES_MAX: u64 = 4096;
const ANSWER_SHOWN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_answer_or_it_is_said_why_not() {
        assert_eq!(output("echo", &["yes"]).as_deref(), Ok("yes\n"));
        for (program, arguments, why) in
            [("false", &[][..], "failed"), ("no-such-program", &[][..], "cannot be run")]
        {
            let said = output(program, arguments).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn the_kernel_that_runs_is_asked() {
        let Answers { ring, synchronised, jumped } = Answers::ask();
        assert!(ring.is_some() && synchronised.is_some() && jumped.is_some());
    }
}
