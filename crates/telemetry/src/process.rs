//! What the kernel says about this process, read from `/proc` at each scrape.
//!
//! A figure that cannot be read (another system, a sandbox) is absent, never zero.

use std::fs;
use std::time::UNIX_EPOCH;

/// Figures of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessFigures {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
}

impl ProcessFigures {
    pub(crate) fn read() -> ProcessFigures {
        ProcessFigures {
            resident_bytes: resident_bytes(),
            open_fds: open_fds(),
            max_fds: fs::read_to_string("/proc/self/limits").ok().and_then(|text| max_fds_of(&text)),
            cpu_seconds: own_stat().map(|stat| stat.cpu_seconds),
        }
    }
}

/// Memory that this process takes, as the kernel counts it (`VmRSS`). None if it cannot be read.
pub fn resident_bytes() -> Option<u64> {
    fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes_of(&text))
}

/// When this process started, in seconds since the Unix epoch; the time of the call where the kernel does not say.
pub(crate) fn started_unix() -> f64 {
    let booted = fs::read_to_string("/proc/stat").ok().and_then(|text| boot_unix(&text));
    match (booted, own_stat()) {
        (Some(booted), Some(stat)) => booted + stat.started_after_boot_seconds,
        _ => UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64()),
    }
}

fn own_stat() -> Option<Stat> {
    fs::read_to_string("/proc/self/stat").ok().and_then(|text| stat(&text))
}

/// `VmRSS` of `/proc/<pid>/status`.
fn resident_bytes_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Since Linux 6.2 the size of the directory is the number of descriptors; before, it is 0 and they are counted.
fn open_fds() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        fds => Some(fds),
    }
}

/// The soft limit of `Max open files` in `/proc/<pid>/limits`. None as well if there is no limit.
fn max_fds_of(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

struct Stat {
    cpu_seconds: f64,
    started_after_boot_seconds: f64,
}

/// Fields 14, 15 and 22 of `/proc/<pid>/stat`. The second field, the command, may hold blanks and parentheses.
fn stat(text: &str) -> Option<Stat> {
    let (_, after_command) = text.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let started: f64 = fields.nth(6)?.parse().ok()?;
    Some(Stat {
        cpu_seconds: (user + system) / TICKS_PER_SECOND,
        started_after_boot_seconds: started / TICKS_PER_SECOND,
    })
}

/// `btime` of `/proc/stat`.
fn boot_unix(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// `USER_HZ`, a constant of the kernel's interface on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_on_linux() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.unwrap() > 100_000);
        assert!(figures.open_fds.unwrap() >= 3);
        assert!(figures.max_fds.unwrap() >= figures.open_fds.unwrap());
        assert!(figures.cpu_seconds.unwrap() >= 0.0);
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((0.0..86_400.0).contains(&(now - started_unix())), "{} {now}", started_unix());
    }

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (evil) 1 2 (x) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 4 0 500 123 456\n";
        let stat = stat(text).unwrap();
        assert_eq!((stat.cpu_seconds, stat.started_after_boot_seconds), (4.0, 5.0));
    }

    #[test]
    fn damaged_text_is_absent_not_zero() {
        assert_eq!(resident_bytes_of("VmRSS:\t  12 kB\n"), Some(12 * 1024));
        for text in ["", "VmRSS: 12", "VmRSS: x kB", "VmSize: 12 kB"] {
            assert_eq!(resident_bytes_of(text), None, "{text}");
        }
        assert_eq!(
            max_fds_of("Limit  Soft\nMax open files            1024      4096      files     \n"),
            Some(1024)
        );
        for text in ["", "Max open files", "Max open files  unlimited  unlimited  files", "Max processes 7 7"]
        {
            assert_eq!(max_fds_of(text), None, "{text}");
        }
        assert!(stat("1 (a) S 1 2").is_none());
        assert_eq!(boot_unix("cpu 1\nbtime 99\n"), Some(99.0));
        assert_eq!(boot_unix("cpu 1\n"), None);
    }
}
