//! What is shown of a run while it goes on, on standard error: on a terminal one line that is written anew each second, elsewhere a line
//! every ten seconds.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::series::{Sample, TargetSample};

/// Shows how a run goes on.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    /// How long the run may take, and how many requests it has, if that is what ends it.
    pub(crate) duration: Option<Duration>,
    pub(crate) requests: Option<u64>,
    /// What the last line told of.
    told: Option<(Duration, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// One line, again and again.
    Terminal,
    /// Some lines, one after the other.
    Lines,
}

/// What there is to show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Since requests began.
    pub(crate) elapsed: Duration,
    pub(crate) right: u64,
    pub(crate) failed: u64,
    /// The last second.
    pub(crate) last: Sample,
    pub(crate) target: Option<TargetSample>,
}

impl Progress {
    /// For standard error as it is.
    pub(crate) fn new(duration: Option<Duration>, requests: Option<u64>) -> Progress {
        let style = if io::stderr().is_terminal() { Style::Terminal } else { Style::Lines };
        Progress { style, duration, requests, told: None }
    }

    /// To be called each second.
    pub(crate) fn show(&mut self, seen: &Seen) {
        if let Some(text) = self.text(seen) {
            // Who looks at it is of no importance for the run.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    /// Takes the line away, so that the report stands alone.
    pub(crate) fn end(&mut self) {
        if self.style == Style::Terminal && self.told.is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }

    /// What is to be written now, if something is.
    fn text(&mut self, seen: &Seen) -> Option<String> {
        // Time begins once more when all connections are open.
        let (told_at, told_right) = self.told.filter(|(at, _)| *at <= seen.elapsed).unwrap_or_default();
        let since = seen.elapsed.saturating_sub(told_at);
        if self.style == Style::Lines && since + Duration::from_millis(500) < BETWEEN_LINES {
            return None;
        }
        self.told = Some((seen.elapsed, seen.right));
        Some(match self.style {
            // Without wrapping: of a narrow terminal the right half is not seen, and the line stays one.
            Style::Terminal => {
                let rate = seen.last.right as f64 / seen.last.lasts.max(1e-3);
                format!("\r\x1b[?7l{}\x1b[K\x1b[?7h", self.line(seen, rate))
            }
            Style::Lines => {
                let rate = (seen.right - told_right) as f64 / since.as_secs_f64().max(1e-3);
                format!("{}\n", self.line(seen, rate))
            }
        })
    }

    fn line(&self, seen: &Seen, rate: f64) -> String {
        let Seen { elapsed, right, failed, last, target } = seen;
        let of = self.duration.map(|of| format!(" of {}", clock(of))).unwrap_or_default();
        let requests = self.requests.map(|of| format!(" of {of}")).unwrap_or_default();
        let mut line = format!(
            "{}{of}   {rate:.0}/s   right {right}{requests}   failed {failed}   {} open",
            clock(*elapsed),
            last.open
        );
        if let (Some(p50), Some(p99)) = (last.p50_us, last.p99_us) {
            line += &format!("   p50 {}   p99 {}", time(p50), time(p99));
        }
        if let Some(TargetSample { lasts, cpu, .. }) = target {
            line += &format!("   target {:.0} % CPU", cpu * 100.0 / lasts.max(1e-3));
        }
        line
    }
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// A time in the unit that leaves few digits.
pub(crate) fn time(us: f64) -> String {
    let (value, unit) = match us {
        ..1e3 => (us, "µs"),
        ..1e6 => (us / 1e3, "ms"),
        _ => (us / 1e6, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

const BETWEEN_LINES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(second: u64) -> Seen {
        let last = Sample {
            lasts: 1.0,
            right: 150,
            open: 8,
            p50_us: Some(420.0),
            p99_us: Some(12_340.0),
            ..Sample::default()
        };
        let target = Some(TargetSample { lasts: 1.0, cpu: 0.5, ..TargetSample::default() });
        Seen { elapsed: Duration::from_secs(second), right: second * 100, failed: 3, last, target }
    }

    fn progress(style: Style) -> Progress {
        Progress { style, duration: Some(Duration::from_secs(90)), requests: None, told: None }
    }

    #[test]
    fn a_terminal_has_one_line_that_changes() {
        let mut progress = progress(Style::Terminal);
        for second in [1, 2, 65] {
            let text = progress.text(&seen(second)).unwrap();
            assert!(text.starts_with('\r') && !text.contains('\n'), "{text:?}");
            let wanted = format!(
                "{} of 1:30   150/s   right {}   failed 3   8 open   p50 420 µs   p99 12.3 ms   target 50 % CPU",
                if second == 65 { "1:05".to_owned() } else { format!("0:0{second}") },
                second * 100
            );
            assert!(text.contains(&wanted), "{text:?}");
        }
    }

    #[test]
    fn elsewhere_there_is_a_line_every_ten_seconds() {
        let mut progress = progress(Style::Lines);
        let lines: Vec<_> = (1..=35).filter_map(|second| progress.text(&seen(second))).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[2].starts_with("0:30 of 1:30   100/s   right 3000") && lines[2].ends_with('\n'));
        // All connections are open, and its time begins.
        let lines: Vec<_> = (1..=12).filter_map(|second| progress.text(&seen(second))).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut progress =
            Progress { style: Style::Terminal, duration: None, requests: Some(500), told: None };
        let text = progress.text(&Seen { last: Sample::default(), target: None, ..seen(0) }).unwrap();
        assert!(text.contains("0:00   0/s   right 0 of 500   failed 3   0 open\x1b"), "{text:?}");
    }

    #[test]
    fn times_have_three_digits_or_so() {
        for (us, text) in
            [(0.5, "0.50 µs"), (42.0, "42.0 µs"), (999.0, "999 µs"), (1500.0, "1.50 ms"), (2e6, "2.00 s")]
        {
            assert_eq!(time(us), text);
        }
    }
}
