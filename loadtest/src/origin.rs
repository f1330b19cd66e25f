//! Where a report comes from: the process that made the load, and the machine it ran on.

use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A process that made load. No two are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Name and version of the program.
    pub(crate) harness: String,
    pub(crate) host: String,
    /// Random, of this boot of the host (random(4), `boot_id`): two hosts may have one name.
    pub(crate) boot: String,
    pub(crate) pid: u32,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    /// How many processors are online.
    pub(crate) cpus: usize,
    /// When its requests began, RFC 3339, in UTC.
    pub(crate) started: String,
    /// How long they took.
    pub(crate) seconds: f64,
    /// CPU time of its own from then on.
    pub(crate) cpu_seconds: f64,
}

impl Origin {
    /// This process, whose requests began then.
    pub(crate) fn here(started: SystemTime, seconds: f64, cpu_seconds: f64) -> Origin {
        let system = rustix::system::uname();
        let text = |bytes: &std::ffi::CStr| bytes.to_string_lossy().into_owned();
        Origin {
            harness: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            host: text(system.nodename()),
            boot: boot(),
            pid: std::process::id(),
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            started: rfc3339(unix_seconds(started)),
            seconds,
            cpu_seconds,
        }
    }

    /// Whether this is the same run of the same process.
    pub(crate) fn is(&self, other: &Origin) -> bool {
        (&self.boot, self.pid, &self.started) == (&other.boot, other.pid, &other.started)
    }
}

/// What tells this boot of this host from all others.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Seconds since 1970 in UTC.
pub(crate) fn unix_seconds(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The moment as text, to milliseconds, in UTC.
pub(crate) fn rfc3339(unix_seconds: f64) -> String {
    let nanos = (unix_seconds * 1e3).round() as i128 * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    moment.format(&Rfc3339).expect("years have four digits")
}

/// The moment that [`rfc3339`] wrote.
pub(crate) fn parse_rfc3339(text: &str) -> Option<f64> {
    Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos() as f64 / 1e9)
}

/// On some architectures the kernel gives none.
fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut model = model.filter(|(name, _)| matches!(name.trim(), "model name" | "Model" | "cpu model"));
    model.next().map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc() {
        for (seconds, text) in [
            (0.0, "1970-01-01T00:00:00Z"),
            (1_767_225_599.5, "2025-12-31T23:59:59.5Z"),
            (1_767_225_599.999_6, "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert!((parse_rfc3339(text).unwrap() - seconds).abs() < 0.001);
        }
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn the_model_of_the_cpu_is_found() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags: x\n"),
            "Some CPU @ 2 GHz"
        );
        assert_eq!(cpu_model(""), std::env::consts::ARCH);
    }

    #[test]
    fn a_process_is_itself() {
        let this = Origin::here(SystemTime::now(), 1.0, 0.5);
        assert!(this.is(&this.clone()));
        assert!(!this.is(&Origin { pid: this.pid + 1, ..this.clone() }));
        assert!(!this.host.is_empty() && this.kernel.starts_with("Linux "), "{this:?}");
    }
}
