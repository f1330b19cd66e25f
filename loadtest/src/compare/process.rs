//! Processes that a comparison starts: pinned to their processors, and ended with all that they have started, however it ends.
//!
//! Each is started through this program itself (`launch`), which pins itself, asks to be ended with the comparison, and then
//! becomes the other program. So nothing of it ever runs elsewhere, and nothing is left behind if the comparison is killed.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, fmt, io, process, thread};

use clap::Args;
use rustix::process::{
    Pid, Signal, getppid, kill_process, kill_process_group, set_parent_process_death_signal,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Arguments of the hidden `ringward-load launch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LaunchArguments {
    /// Where to run.
    #[arg(long)]
    cpus: Cpus,
    /// Who started this.
    #[arg(long)]
    parent: u32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes another program. Returns only if that cannot be.
pub(crate) fn launch(arguments: &LaunchArguments) -> String {
    let [program, rest @ ..] = &arguments.command[..] else { return "no program is named".to_owned() };
    let prepared = set_parent_process_death_signal(Some(Signal::TERM))
        .and_then(|()| sched_setaffinity(None, &arguments.cpus.set()));
    if let Err(error) = prepared {
        return format!("processors {}: {error}", arguments.cpus);
    }
    // Whoever ended before the request above took effect has sent no signal.
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get() as u32 != arguments.parent) {
        return "who started this has ended".to_owned();
    }
    format!("`{}`: {}", Path::new(program).display(), process::Command::new(program).args(rest).exec())
}

/// Processors, by the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    /// The processor that is the first, or the last, that this process may use.
    pub(crate) fn at_end(last: bool) -> io::Result<Cpus> {
        let allowed = Cpus::allowed()?.0;
        let found = if last { allowed.last() } else { allowed.first() };
        Ok(Cpus(found.copied().into_iter().collect()))
    }

    /// All that this process may use.
    pub(crate) fn allowed() -> io::Result<Cpus> {
        let set = sched_getaffinity(None)?;
        Ok(Cpus((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn overlap(&self, other: &Cpus) -> bool {
        self.0.iter().any(|cpu| other.0.contains(cpu))
    }

    /// The first of these that is not among `other`.
    pub(crate) fn missing_in(&self, other: &Cpus) -> Option<usize> {
        self.0.iter().copied().find(|cpu| !other.0.contains(cpu))
    }

    fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|&cpu| set.set(cpu));
        set
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let number = |word: &str| word.parse().ok().filter(|&cpu| cpu < CpuSet::MAX_CPU);
        let numbers: Option<Vec<usize>> = text.split(',').map(number).collect();
        numbers.map(Cpus).ok_or_else(|| format!("numbers below {} with commas between", CpuSet::MAX_CPU))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(","))
    }
}

/// A program with what it is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

/// A process that was started. When it is dropped, it and its children end.
pub(crate) struct Running {
    child: Child,
}

/// What a process has said until its end.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Running {
    /// Starts it. What it says goes to `log`, or can be read if there is none.
    pub(crate) fn start(start: &Start, cpus: &Cpus, log: Option<&Path>) -> io::Result<Running> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["launch", "--cpus", &cpus.to_string(), "--parent", &process::id().to_string(), "--"]);
        command.arg(&start.program).args(&start.arguments).envs(start.variables.iter().map(|(k, v)| (k, v)));
        // A group of its own, so that it ends with its children.
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        match log {
            Some(path) => {
                let log = File::create(path)?;
                command.stdout(log.try_clone()?).stderr(log);
            }
            None => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            }
        }
        Ok(Running { child: command.spawn()? })
    }

    /// Its id; 0, which no process has, when it has ended.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The first line that it says.
    pub(crate) async fn first_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if let Some(output) = &mut self.child.stdout {
            let mut limited = BufReader::new(output).take(LINE_BYTES_MAX);
            timeout(START_MAX, limited.read_line(&mut line)).await??;
        }
        Ok(line)
    }

    /// Waits until it ends, and returns what it has said. For processes without a log.
    pub(crate) async fn finish(mut self, limit: Duration) -> io::Result<Outcome> {
        let (mut output, mut errors) = (String::new(), String::new());
        let (Some(out), Some(err)) = (self.child.stdout.take(), self.child.stderr.take()) else {
            return Err(io::Error::other("its output goes elsewhere"));
        };
        let (mut out, mut err) = (out.take(OUTPUT_BYTES_MAX), err.take(OUTPUT_BYTES_MAX));
        let all = async {
            tokio::try_join!(out.read_to_string(&mut output), err.read_to_string(&mut errors))?;
            self.child.wait().await
        };
        let status = timeout(limit, all).await??;
        Ok(Outcome { status, output, errors })
    }

    /// Asks it to end, and sees to it that it does.
    pub(crate) async fn stop(mut self) {
        if let Some(id) = self.pid() {
            // If it is gone already, that is as well.
            let _ = kill_process(id, Signal::TERM);
            let _ = timeout(STOP_MAX, self.child.wait()).await;
        }
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(id) = self.pid() else { return };
        // Its own, and nobody else's as long as it has not been waited for.
        let _ = kill_process_group(id, Signal::KILL);
        let began = Instant::now();
        while self.ended().is_none() && began.elapsed() < KILL_MAX {
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

/// For the first line of a program that is ours.
const START_MAX: Duration = Duration::from_secs(20);
/// Some let requests end first.
const STOP_MAX: Duration = Duration::from_secs(5);
/// The kernel's own time to end a process with much memory.
const KILL_MAX: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);
const LINE_BYTES_MAX: u64 = 4 << 10;
/// A report has some kilobytes.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_numbers() {
        for (text, count) in [("0", 1), ("0,1", 2), ("7,3,5", 3)] {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.count(), cpus.to_string().as_str()), (count, text));
        }
        for text in ["", "a", "0,", "-1", "0-1", "100000"] {
            text.parse::<Cpus>().unwrap_err();
        }
        let [a, b] = ["0,1", "1,2"].map(|text| text.parse::<Cpus>().unwrap());
        assert!(a.overlap(&b) && !a.overlap(&"2".parse().unwrap()));
        assert_eq!((a.missing_in(&b), a.missing_in(&a)), (Some(0), None));
    }
}
