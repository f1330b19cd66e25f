//! Whether to tell the service manager's watchdog that all is well (sd_watchdog_enabled(3)).
//!
//! Fails closed: what does not answer is not excused, and then the manager ends the process.

use std::ffi::OsString;
use std::time::Duration;

/// Compares how often workers have come around.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// If it hears nothing for so long, the manager acts.
    period: Duration,
    /// How often each worker had come around when all was well last, by its number.
    beats: Vec<(usize, u64)>,
    /// Workers that have not since.
    silent: Vec<usize>,
}

impl Watchdog {
    pub(super) fn new(period: Duration) -> Watchdog {
        Watchdog { period, beats: Vec::new(), silent: Vec::new() }
    }

    /// Until the next look: half of the period, or less while a worker is silent, so that one that was only slow is in time.
    pub(super) fn pause(&self) -> Duration {
        let parts = if self.silent.is_empty() { LOOKS } else { LOOKS_AT_SILENT };
        (self.period / parts).max(PAUSE_MIN)
    }

    /// Whether each worker has come around since this was true last.
    pub(super) fn is_all_well(&mut self, beats: &[(usize, u64)]) -> bool {
        let silent = beats.iter().filter(|beat| self.beats.contains(beat)).map(|(worker, _)| *worker);
        let silent: Vec<usize> = silent.collect();
        if silent != self.silent && !silent.is_empty() {
            tracing::error!(workers = ?silent, "workers do not answer, and the watchdog is not told that all is well");
        }
        if silent.is_empty() {
            self.beats = beats.to_vec();
        }
        self.silent = silent;
        self.silent.is_empty()
    }
}

/// What `WATCHDOG_USEC` says, if `WATCHDOG_PID` is absent or means the process `own`.
///
/// # Errors
/// If one of the two is no number.
pub(super) fn period(
    variable: impl Fn(&str) -> Option<OsString>,
    own: u32,
) -> Result<Option<Duration>, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(value) = variable(name) else { return Ok(None) };
        let number = value.to_str().and_then(|value| value.parse().ok());
        number.map(Some).ok_or_else(|| format!("{name} is {value:?}, which is no number"))
    };
    let micros = number("WATCHDOG_USEC")?.filter(|micros| *micros > 0);
    let is_ours = number("WATCHDOG_PID")?.is_none_or(|pid| pid == u64::from(own));
    Ok(micros.filter(|_| is_ours).map(Duration::from_micros))
}

/// Looks in one period while all is well, as sd_watchdog_enabled(3) recommends, and while a worker is silent.
const LOOKS: u32 = 2;
const LOOKS_AT_SILENT: u32 = 20;
/// Workers come around every 50 ms, and looking more often than they do finds them silent.
const PAUSE_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_to_move() {
        let mut watchdog = Watchdog::new(Duration::from_secs(20));
        assert_eq!(watchdog.pause(), Duration::from_secs(10));
        let looks: [(&[(usize, u64)], bool); 7] = [
            (&[(0, 1), (1, 1)], true),
            (&[(0, 2), (1, 1)], false),
            // Not excused by having been silent before.
            (&[(0, 3), (1, 1)], false),
            (&[(0, 3), (1, 2)], true),
            // The first one has ended, as in a drain.
            (&[(1, 3)], true),
            // Started again; it goes on counting.
            (&[(0, 4), (1, 4)], true),
            (&[(0, 4), (1, 5)], false),
        ];
        for (number, (beats, well)) in looks.into_iter().enumerate() {
            assert_eq!(watchdog.is_all_well(beats), well, "look {number}");
        }
        assert_eq!(watchdog.pause(), Duration::from_secs(1), "while one is silent");
        assert_eq!(Watchdog::new(Duration::from_micros(1)).pause(), PAUSE_MIN);
    }

    #[test]
    fn the_watchdog_is_that_of_this_process() {
        let asked = |usec: Option<&str>, pid: Option<&str>| {
            let variable = |name: &str| {
                let value = if name == "WATCHDOG_USEC" { usec } else { pid };
                value.map(OsString::from)
            };
            period(variable, 17)
        };
        let second = Ok(Some(Duration::from_secs(1)));
        for (usec, pid, expected) in [
            (Some("1000000"), Some("17"), second.clone()),
            (Some("1000000"), None, second),
            (Some("1000000"), Some("18"), Ok(None)),
            (Some("0"), Some("17"), Ok(None)),
            (None, Some("17"), Ok(None)),
            (None, None, Ok(None)),
        ] {
            assert_eq!(asked(usec, pid), expected, "{usec:?} {pid:?}");
        }
        for (usec, pid) in [(Some("1s"), None), (Some("-1"), None), (Some("1"), Some("main"))] {
            assert!(asked(usec, pid).unwrap_err().contains("no number"), "{usec:?} {pid:?}");
        }
    }
}
