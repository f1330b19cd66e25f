//! The program under test as a child process.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// A running program whose output is kept. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    program: String,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    lines: Vec<(Stream, String)>,
    streams_ended: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Process {
    /// Starts a program with its output captured and no input.
    pub fn start(command: &mut Command) -> Self {
        Self::start_with_input(command, Stdio::null())
    }

    /// Starts a program with its output captured and this as its standard input.
    pub fn start_with_input(command: &mut Command, input: impl Into<Stdio>) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let output = Arc::new(Output::default());
        output.collect(Stream::Stdout, child.stdout.take().expect("stdout is piped"));
        output.collect(Stream::Stderr, child.stderr.take().expect("stderr is piped"));
        Self { child, program, output }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written to standard output so far.
    pub fn stdout(&self) -> String {
        self.output.text(Stream::Stdout)
    }

    /// Everything written to standard error so far.
    pub fn stderr(&self) -> String {
        self.output.text(Stream::Stderr)
    }

    /// The first line of either stream, from the beginning on, for which `wanted` holds.
    ///
    /// # Panics
    /// With all output, if there is none within `deadline` or the program ends without one.
    #[track_caller]
    pub fn wait_for_line(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + deadline;
        let mut state = self.output.lock();
        let mut seen = 0;
        loop {
            if let Some((_, line)) = state.lines[seen..].iter().find(|(_, line)| wanted(line)) {
                return line.clone();
            }
            seen = state.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.streams_ended == STREAMS {
                let how = if left.is_zero() { "did not write" } else { "ended without" };
                drop(state);
                panic!("{} {how} the line waited for; {}", self.program, self.transcript());
            }
            state = self.output.changed.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    /// True until the program has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_none()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("send a signal to a child");
    }

    /// Whether all its threads stand still, after [`Signal::STOP`].
    #[track_caller]
    pub fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("the program runs");
        threads.flatten().all(|thread| {
            // A thread that has ended meanwhile stands still, too.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// Waits until the program has ended and all its output is here.
    ///
    /// # Panics
    /// With all output, if it runs on after `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the state of a child") {
                break status;
            }
            assert!(
                Instant::now() < end,
                "{} runs on after {deadline:?}; {}",
                self.program,
                self.transcript()
            );
            thread::sleep(Duration::from_millis(2));
        };
        let mut state = self.output.lock();
        // A grandchild that inherited the streams could hold them open; that is not worth a failure.
        while state.streams_ended < STREAMS {
            let (next, timeout) =
                self.output.changed.wait_timeout(state, Duration::from_secs(1)).expect("no reader panics");
            state = next;
            if timeout.timed_out() {
                break;
            }
        }
        status
    }

    /// Asks the program to end (SIGTERM) and waits; kills it if it runs on after `deadline`.
    ///
    /// # Panics
    /// With all output, if it had to be killed.
    #[track_caller]
    pub fn stop(&mut self, deadline: Duration) -> ExitStatus {
        if self.is_running() {
            self.signal(Signal::TERM);
        }
        let end = Instant::now() + deadline;
        while self.is_running() {
            if Instant::now() >= end {
                self.kill();
                panic!("{} ran on {deadline:?} after SIGTERM; {}", self.program, self.transcript());
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.wait(deadline)
    }

    /// Ends the program at once (SIGKILL).
    pub fn kill(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB");
        kibibytes * 1024
    }

    /// How many file descriptors are open.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("the program runs").count()
    }

    fn transcript(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Output {
    fn collect(self: &Arc<Self>, stream: Stream, source: impl Read + Send + 'static) {
        let output = self.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                output.lock().lines.push((stream, text));
                output.changed.notify_all();
                line.clear();
            }
            output.lock().streams_ended += 1;
            output.changed.notify_all();
        });
    }

    fn text(&self, stream: Stream) -> String {
        let state = self.lock();
        let lines = state.lines.iter().filter(|(from, _)| *from == stream);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    }

    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().expect("no holder panics")
    }
}

const STREAMS: usize = 2;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::DEADLINE;

    fn shell(script: &str) -> Process {
        Process::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn captures_both_streams() {
        let mut process = shell("echo one; echo two >&2; echo three; exit 3");
        assert_eq!(process.wait_for_line(DEADLINE, |line| line.starts_with("tw")), "two");
        assert_eq!(process.wait(DEADLINE).code(), Some(3));
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("one\nthree\n", "two\n"));
        assert!(!process.is_running());
        assert_eq!(process.wait_for_line(DEADLINE, |line| line == "three"), "three", "also afterwards");
    }

    #[test]
    fn hands_its_input_over() {
        let (read, write) = std::io::pipe().unwrap();
        (&write).write_all(b"one\n").unwrap();
        drop(write);
        let mut process =
            Process::start_with_input(Command::new("sh").args(["-c", "read line; echo $line"]), read);
        process.wait(DEADLINE);
        assert_eq!(process.stdout(), "one\n");
    }

    #[test]
    fn stops_by_sigterm() {
        let mut process = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        process.wait_for_line(DEADLINE, |line| line == "ready");
        assert!(process.is_running() && process.open_files() >= 3 && process.resident_bytes() > 0);
        assert_eq!(process.stop(DEADLINE).code(), Some(0));
        assert_eq!(process.stdout(), "ready\nbye\n");
    }

    #[test]
    #[should_panic(expected = "after SIGTERM")]
    fn kills_what_does_not_stop() {
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
        process.wait_for_line(DEADLINE, |line| line == "ready");
        process.stop(Duration::from_millis(50));
    }

    #[test]
    #[should_panic(expected = "ended without the line waited for; stdout:\none")]
    fn a_program_that_ends_early_fails_the_wait() {
        shell("echo one").wait_for_line(DEADLINE, |line| line == "two");
    }

    #[test]
    #[should_panic(expected = "runs on after 50ms; stdout:\none")]
    fn a_wait_in_vain_tells_what_was_written() {
        let mut process = shell("echo one; exec sleep 600");
        process.wait_for_line(DEADLINE, |line| line == "one");
        process.wait(Duration::from_millis(50));
    }

    #[test]
    fn is_killed_when_dropped() {
        let process = shell("echo ready; exec sleep 600");
        process.wait_for_line(DEADLINE, |line| line == "ready");
        let id = process.id();
        drop(process);
        assert!(!fs::exists(format!("/proc/{id}")).unwrap());
    }
}
