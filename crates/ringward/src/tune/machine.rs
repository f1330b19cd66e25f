//! The machine, as files below `/proc`, `/sys` and `/run` tell it, and the few answers that only the running kernel has.
//!
//! Everything is read below one root, which may be a copy from elsewhere. Nothing here writes, and nothing that is read can make it
//! panic: what is missing, malformed or too large is an [`Unread`].

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::asked::Answers;

/// A machine to look at.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
    /// The process whose limits count.
    pub(super) process: Subject,
    /// What was asked of the running kernel.
    pub(super) answers: Answers,
    /// When it is looked at.
    pub(super) now: SystemTime,
}

/// Whose limits and filters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A `ringward run` that runs.
    Running(u32),
    /// This command itself, if nothing runs.
    Itself,
}

/// Something that cannot be known from files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    path: String,
    why: String,
}

impl Machine {
    /// The machine below `root`.
    pub(super) fn new(root: &Path, answers: Answers) -> Machine {
        let mut machine =
            Machine { root: root.to_owned(), process: Subject::Itself, answers, now: SystemTime::now() };
        machine.process = machine.running().map_or(Subject::Itself, Subject::Running);
        machine
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &str) -> Result<String, Unread> {
        let unread = |why: String| Unread { path: path.to_owned(), why };
        let file = File::open(self.root.join(path.trim_start_matches('/')));
        let mut bytes = Vec::new();
        let read = file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|error| unread(error.to_string()))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(unread(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| unread("is no text".to_owned()))
    }

    /// The words of a file.
    pub(super) fn words(&self, path: &str) -> Result<Vec<String>, Unread> {
        Ok(self.text(path)?.split_whitespace().map(str::to_owned).collect())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Result<i64, Unread> {
        let text = self.text(path)?;
        text.trim().parse().map_err(|_| malformed(path, &text))
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, Unread> {
        let entries = fs::read_dir(self.root.join(path.trim_start_matches('/')))
            .map_err(|error| Unread { path: path.to_owned(), why: error.to_string() })?;
        let names = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is such a file or directory.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// A file of the process whose limits count.
    pub(super) fn process_file(&self, name: &str) -> String {
        match self.process {
            Subject::Running(id) => format!("/proc/{id}/{name}"),
            Subject::Itself => format!("/proc/self/{name}"),
        }
    }

    /// The value of a line `NAME: VALUE` of that process' status.
    pub(super) fn status(&self, name: &str) -> Result<Option<String>, Unread> {
        let text = self.text(&self.process_file("status"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.map(|value| value.trim().to_owned()))
    }

    /// How high that process may raise one of its limits; none for as high as it likes.
    pub(super) fn hard_limit(&self, name: &str) -> Result<Option<u64>, Unread> {
        let path = self.process_file("limits");
        let text = self.text(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        match line.and_then(|line| line.split_whitespace().nth(1)) {
            Some("unlimited") => Ok(None),
            Some(number) => number.parse().map(Some).map_err(|_| malformed(&path, number)),
            None => Err(Unread { path, why: format!("has no line `{name}`") }),
        }
    }

    /// What the open descriptors of that process lead to, such as `anon_inode:[io_uring]`.
    pub(super) fn descriptors(&self) -> Result<Vec<String>, Unread> {
        let directory = self.process_file("fd");
        let links = self.names(&directory)?.into_iter().filter_map(|name| {
            let link = self.root.join(directory.trim_start_matches('/')).join(name);
            fs::read_link(link).ok()?.into_os_string().into_string().ok()
        });
        Ok(links.collect())
    }

    /// The CPUs that the process may use.
    pub(super) fn cpus(&self) -> Option<usize> {
        let allowed = self.status("Cpus_allowed_list").ok()??;
        Some(cpu_list(&allowed)?.len()).filter(|cpus| *cpus > 0)
    }

    /// Which container this is, if it is one.
    pub(super) fn container(&self) -> Option<String> {
        if self.has("/.dockerenv") {
            return Some("docker".to_owned());
        }
        if self.has("/run/.containerenv") {
            return Some("podman".to_owned());
        }
        let named = self.text("/run/systemd/container").ok()?;
        Some(named.trim().to_owned()).filter(|name| !name.is_empty())
    }

    /// The kernel's version, as far as versions are compared.
    pub(super) fn kernel(&self) -> Result<(u32, u32), Unread> {
        let text = self.text(RELEASE)?;
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
            _ => Err(malformed(RELEASE, &text)),
        }
    }

    /// The first `ringward run` of the machine.
    fn running(&self) -> Option<u32> {
        let names = self.names("/proc").ok()?;
        let mut processes: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        processes.sort_unstable();
        processes.into_iter().find(|id| {
            let is_ours = self.text(&format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim() == "ringward");
            is_ours
                && self
                    .text(&format!("/proc/{id}/cmdline"))
                    .is_ok_and(|line| line.split('\0').nth(1) == Some("run"))
        })
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}", self.path, self.why)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Running(id) => write!(f, "process {id}"),
            Subject::Itself => f.write_str("this shell"),
        }
    }
}

/// A file that holds something else than it should.
pub(super) fn malformed(path: &str, text: &str) -> Unread {
    let shown: String = text.trim().chars().take(SHOWN_MAX).collect();
    Unread { path: path.to_owned(), why: format!("`{shown}` was not expected there") }
}

/// The CPUs of a list such as `0-3,8`. None if it is malformed.
pub(super) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// How much later than `now` a moment is.
pub(super) fn ahead(now: SystemTime, moment: SystemTime) -> Duration {
    moment.duration_since(now).unwrap_or_default()
}

const RELEASE: &str = "/proc/sys/kernel/osrelease";
/// What is read here has some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// As many processes as a machine has by default (`kernel.pid_max`), twice.
const ENTRIES_MAX: usize = 1 << 16;
/// As many as Linux can be built for.
const CPUS_MAX: usize = 8192;
/// Of a file that is not what it should be.
const SHOWN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (text, cpus) in [
            ("0", Some(vec![0])),
            ("0-2,5\n", Some(vec![0, 1, 2, 5])),
            ("1,1", Some(vec![1])),
            ("", Some(vec![])),
        ] {
            assert_eq!(cpu_list(text), cpus, "{text}");
        }
        for text in ["x", "3-1", "0-8192", "-1", "0-18446744073709551615"] {
            assert_eq!(cpu_list(text), None, "{text}");
        }
    }

    #[test]
    fn versions() {
        for (text, version) in
            [("6.18.44-fc\n", Some((6, 18))), ("5.4", Some((5, 4))), ("6", None), ("", None)]
        {
            let machine = Fixture::new().file(RELEASE, text).machine();
            assert_eq!(machine.kernel().ok(), version, "{text}");
        }
    }

    #[test]
    fn limits_are_those_of_a_process_that_runs() {
        let limits = |files| format!("Limit Soft Hard\nMax open files            1024  {files}  files \n");
        let fixture = Fixture::new().file("/proc/self/limits", &limits("4096"));
        let machine = fixture.machine();
        assert_eq!(
            (machine.process, machine.hard_limit("Max open files")),
            (Subject::Itself, Ok(Some(4096)))
        );
        let fixture = fixture
            .file("/proc/70/comm", "ringward\n")
            .file("/proc/70/cmdline", "ringward\0check\0")
            .file("/proc/300/comm", "ringward\n")
            .file("/proc/300/cmdline", "/usr/bin/ringward\0run\0-c\0a.toml\0")
            .file("/proc/300/limits", &limits("unlimited"));
        let machine = fixture.machine();
        assert_eq!(
            (machine.process, machine.hard_limit("Max open files")),
            (Subject::Running(300), Ok(None))
        );
        for broken in ["Max open files x y files", "Max", ""] {
            let machine = Fixture::new().file("/proc/self/limits", broken).machine();
            assert!(machine.hard_limit("Max open files").is_err(), "{broken}");
        }
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_not_read() {
        let fixture = Fixture::new().bytes("/proc/a", &[0xff, 0xfe]).bytes("/proc/b", &vec![b'1'; 2 << 20]);
        let machine = fixture.directory("/proc/c").machine();
        for path in ["/proc/a", "/proc/b", "/proc/c", "/proc/d"] {
            assert!(machine.number(path).unwrap_err().to_string().starts_with(path), "{path}");
        }
    }

    #[test]
    fn containers_are_known_by_what_they_leave() {
        for (path, text, container) in [
            ("/.dockerenv", "", Some("docker")),
            ("/run/.containerenv", "", Some("podman")),
            ("/run/systemd/container", "lxc\n", Some("lxc")),
            ("/run/systemd/container", "\n", None),
            ("/proc/x", "", None),
        ] {
            assert_eq!(Fixture::new().file(path, text).machine().container().as_deref(), container, "{path}");
        }
    }
}
