//! Checks a policy in a child process before any other process evaluates it.
//!
//! A policy can do to its reader what no guard in the same process survives: overflow the stack, exhaust memory, or
//! keep a parser busy for hours. So this binary starts itself once more, with little memory, little time and an empty
//! environment, and hands it the sources. Only if the child lives to say that exactly these bytes are good, they are
//! compiled here. `ringward policy` has policies tested and evaluated by such a child, too, and compiles nothing itself.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringward_policy::child::{self, EXIT_BROKEN, ReplyError, Request, Task};
use ringward_policy::{PolicyErrors, PolicySet, Report};
use rustix::process::{Resource, Rlimit, Signal};
use serde::de::DeserializeOwned;

/// Why a policy was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// The policy is bad, and the child could say why.
    #[error("the policy is refused")]
    Refused(PolicyErrors),
    /// The child needed more than it is given: see [`Bounds`].
    #[error("checking the policy {0}, so it is refused")]
    Exceeded(&'static str),
    /// The child died of the policy.
    #[error("checking the policy crashed ({0}), so it is refused")]
    Crashed(String),
    /// The check itself did not work; the policy may be good.
    #[error("the policy cannot be checked: {0}")]
    Unchecked(String),
}

impl ChildError {
    /// What to do about it.
    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            ChildError::Refused(_) => None,
            ChildError::Exceeded(_) => Some(
                "look for deeply nested literals, recursion, loops over large ranges and very large data documents",
            ),
            ChildError::Crashed(_) => Some(
                "deep nesting and recursion overflow the stack; very large data documents exhaust the memory",
            ),
            ChildError::Unchecked(_) => {
                Some("the process needs to be able to start itself again (/proc, process limits)")
            }
        }
    }
}

/// What a check may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// CPU time. Checking 500 rules takes an eighth of a second.
    cpu_seconds: u64,
    /// Address space. The largest allowed data document takes about 1 GiB as values.
    memory_bytes: u64,
    /// Wall-clock time. When a configuration is reloaded on a machine without a core to spare, the child gives way to the
    /// workers ([`background`](crate::background)) and needs many times its CPU time.
    wall: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { cpu_seconds: 10, memory_bytes: 2 << 30, wall: Duration::from_secs(120) }
    }
}

impl Bounds {
    /// For a task that somebody waits for and that may take this long beside a check.
    pub(crate) fn with_time(time: Duration) -> Bounds {
        let bounds = Bounds::default();
        Bounds {
            cpu_seconds: bounds.cpu_seconds + time.as_secs() + 1,
            wall: bounds.wall + 2 * time,
            ..bounds
        }
    }
}

/// Has a child process check `set`. Blocks until it is done, at most as long as `bounds` say.
///
/// # Errors
/// Unless the child said that exactly this set is good.
pub(crate) fn check(set: &PolicySet, bounds: &Bounds) -> Result<Report, ChildError> {
    perform(set, &Task::Check, bounds)
}

/// Has a child process do something with `set`. The answer has to be of the task's type.
///
/// # Errors
/// Unless the child said that exactly this set is good.
pub(crate) fn perform<T: DeserializeOwned>(
    set: &PolicySet,
    task: &Task,
    bounds: &Bounds,
) -> Result<T, ChildError> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(SUBCOMMAND)
        .args([bounds.cpu_seconds.to_string(), bounds.memory_bytes.to_string()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let (status, reply) = converse(command, &Request::encode(set, task), bounds.wall)?;
    if !matches!(status.code(), Some(EXIT_ACCEPTED | EXIT_REFUSED)) {
        return Err(death(status));
    }
    // What was checked must be what is compiled next: the reply is only good for this set's digest.
    match child::parse_reply(&reply).and_then(|reply| reply.into_answer(set)) {
        Ok(answer) if status.success() => Ok(answer),
        Ok(_) => Err(ChildError::Unchecked("its exit code and its reply contradict each other".to_owned())),
        Err(ReplyError::Refused(errors)) => Err(ChildError::Refused(errors)),
        Err(error) => Err(ChildError::Unchecked(error.to_string())),
    }
}

/// The child's side: limits itself, reads a policy set from standard input, checks it, answers on standard output.
pub(crate) fn run_child(cpu_seconds: u64, memory_bytes: u64) -> ExitCode {
    let broken = ExitCode::from(u8::try_from(EXIT_BROKEN).unwrap_or(u8::MAX));
    if restrict(cpu_seconds, memory_bytes).is_err() {
        return broken;
    }
    // The child must not survive by a larger stack what the parent's compiling thread would not.
    let checker = thread::Builder::new().stack_size(CHECK_STACK_BYTES);
    let Ok(checker) = checker.spawn(|| child::run_child(io::stdin(), io::stdout())) else { return broken };
    match checker.join().map(u8::try_from) {
        Ok(Ok(code)) => ExitCode::from(code),
        // A panic of the checker is a crash like any other.
        _ => ExitCode::from(EXIT_PANICKED),
    }
}

fn restrict(cpu_seconds: u64, memory_bytes: u64) -> io::Result<()> {
    let limits = [
        (Resource::Cpu, cpu_seconds, cpu_seconds + 1),
        (Resource::As, memory_bytes, memory_bytes),
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
    ];
    for (resource, soft, hard) in limits {
        rustix::process::setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })?;
    }
    // If the parent is killed, nobody waits for the answer.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Runs `command` with `input`; its status and at most [`ANSWER_BYTES_MAX`] of its output.
fn converse(mut command: Command, input: &[u8], wall: Duration) -> Result<(ExitStatus, Vec<u8>), ChildError> {
    let unchecked = |error: io::Error| ChildError::Unchecked(error.to_string());
    let mut child = command.spawn().map_err(unchecked)?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(ChildError::Unchecked("its pipes are missing".to_owned()));
    };
    thread::scope(|scope| {
        // A thread for each pipe: a child that does not read must not keep us from noticing the time.
        scope.spawn(move || {
            // A child that died early is noticed by its status.
            let _ = stdin.write_all(input);
        });
        let (sender, finished) = mpsc::channel();
        scope.spawn(move || {
            let mut output = Vec::new();
            let result = stdout.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut output);
            let _ = sender.send(result.map(|_| output));
        });
        let output = finished.recv_timeout(wall);
        let too_much = matches!(&output, Ok(Ok(output)) if output.len() as u64 > ANSWER_BYTES_MAX);
        if output.is_err() || too_much {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
        }
        let status = child.wait().map_err(unchecked)?;
        match output {
            Err(_) => Err(ChildError::Exceeded("took too long")),
            Ok(_) if too_much => Err(ChildError::Exceeded("found more problems than can be shown")),
            Ok(output) => Ok((status, output.map_err(unchecked)?)),
        }
    })
}

fn death(status: ExitStatus) -> ChildError {
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(EXIT_BROKEN) => {
                ChildError::Unchecked("the child process could not set itself up".to_owned())
            }
            _ => ChildError::Crashed(status.to_string()),
        };
    };
    match signal {
        signal if signal == Signal::XCPU.as_raw() => ChildError::Exceeded("used too much CPU time"),
        _ => ChildError::Crashed(status.to_string()),
    }
}

/// Name of the hidden command of this binary.
pub(crate) const SUBCOMMAND: &str = "policy-check-child";
/// Stack of the thread that checks; whoever compiles a checked policy needs no less.
pub(crate) const CHECK_STACK_BYTES: usize = 4 << 20;
/// Thousands of problems with their texts.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Exit codes of a child, beside [`EXIT_BROKEN`].
const EXIT_ACCEPTED: i32 = 0;
const EXIT_REFUSED: i32 = 1;
const EXIT_PANICKED: u8 = 4;

#[cfg(test)]
mod tests;
