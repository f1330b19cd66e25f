//! When requests are due in an open loop: at rates that do not care how the target does.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Requests per second: one rate for as long as the run takes, or several, each for a time of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rates {
    stretches: Vec<Stretch>,
}

/// A time with a rate that stays, or changes evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stretch {
    from: f64,
    to: f64,
    /// In seconds; without end for the one rate of a run.
    lasts: f64,
}

/// The times at which requests are due, one after the other, counted from the begin.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    stretches: Vec<Stretch>,
    /// The stretch that is being walked through, when it begins, and how many requests were due before it.
    index: usize,
    begins: f64,
    before: f64,
    /// How many were due so far.
    count: u64,
}

impl Rates {
    /// How long they last; `None` if that is left to the run.
    pub(crate) fn duration(&self) -> Option<Duration> {
        let total: f64 = self.stretches.iter().map(|stretch| stretch.lasts).sum();
        Duration::try_from_secs_f64(total).ok()
    }

    /// When requests are due.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule { stretches: self.stretches.clone(), index: 0, begins: 0.0, before: 0.0, count: 0 }
    }
}

impl Stretch {
    /// How many requests it has, also in part.
    fn requests(&self) -> f64 {
        if self.lasts.is_infinite() { f64::INFINITY } else { (self.from + self.to) / 2.0 * self.lasts }
    }

    /// When the `n`th request is due, counted from its begin: the rate adds up to `n` by then.
    fn due(&self, n: f64) -> f64 {
        let change = (self.to - self.from) / self.lasts;
        if change == 0.0 {
            return n / self.from;
        }
        // Of the two ways to solve n = from·t + change·t²/2 the one that loses no digits where the change is small.
        2.0 * n / (self.from + (self.from * self.from + 2.0 * change * n).max(0.0).sqrt())
    }
}

impl Schedule {
    /// How many times it has told.
    pub(crate) fn told(&self) -> u64 {
        self.count
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let stretch = self.stretches.get(self.index)?;
            let n = self.count as f64 - self.before;
            if n < stretch.requests() {
                self.count += 1;
                // The first of a ramp from nothing is due at once, and not by a division by nothing.
                let due = if n <= 0.0 { 0.0 } else { stretch.due(n).min(stretch.lasts) };
                return Duration::try_from_secs_f64(self.begins + due).ok();
            }
            self.before += stretch.requests();
            self.begins += stretch.lasts;
            self.index += 1;
        }
    }
}

impl FromStr for Rates {
    type Err = String;

    /// Reads `RATE`, or `RATE:SECONDS` and `FROM-TO:SECONDS` with commas between.
    fn from_str(text: &str) -> Result<Rates, String> {
        if let Ok(rate) = rate(text)
            && rate > 0.0
        {
            return Ok(Rates { stretches: vec![Stretch { from: rate, to: rate, lasts: f64::INFINITY }] });
        }
        let stretches = text.split(',').map(stretch).collect::<Result<Vec<_>, _>>()?;
        let (seconds, requests) =
            stretches.iter().fold((0.0, 0.0), |(s, r), stretch| (s + stretch.lasts, r + stretch.requests()));
        if seconds > SECONDS_MAX {
            return Err(format!("it takes {seconds} seconds, and {SECONDS_MAX} are allowed"));
        }
        if requests < 1.0 {
            return Err("no request is due".to_owned());
        }
        Ok(Rates { stretches })
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Stretch { from, to, lasts }) in self.stretches.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            match (lasts.is_infinite(), from == to) {
                (true, _) => write!(f, "{from}")?,
                (false, true) => write!(f, "{from}:{lasts}")?,
                (false, false) => write!(f, "{from}-{to}:{lasts}")?,
            }
        }
        Ok(())
    }
}

fn stretch(text: &str) -> Result<Stretch, String> {
    let malformed = || format!("`{text}` is neither RATE:SECONDS nor FROM-TO:SECONDS");
    let (rates, seconds) = text.split_once(':').ok_or_else(malformed)?;
    let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
    let lasts: f64 = seconds.parse().map_err(|_| malformed())?;
    if !(lasts > 0.0 && lasts <= SECONDS_MAX) {
        return Err(format!("`{text}`: a time is more than 0 and up to {SECONDS_MAX} seconds"));
    }
    Ok(Stretch { from: rate(from)?, to: rate(to)?, lasts })
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("`{text}`: a rate is a number from 0 to {RATE_MAX} per second")),
    }
}

const SECONDS_MAX: f64 = 3600.0;
/// More than one thread can send.
const RATE_MAX: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    fn due(text: &str, count: usize) -> Vec<f64> {
        text.parse::<Rates>().unwrap().schedule().take(count).map(|due| due.as_secs_f64()).collect()
    }

    #[test]
    fn requests_are_due_at_the_rate() {
        assert_eq!(due("4", 5), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(due("4:1", 10), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(due("2:1,0:1,4:0.5", 10), [0.0, 0.5, 2.0, 2.25]);
    }

    /// Between any two moments there are as many as the rates add up to.
    #[test]
    fn ramps_add_up() {
        for text in ["0-1000:4", "1000-0:4", "100-101:2", "0-500:1,500:2,500-2000:1,0:1,3000:0.5"] {
            let rates: Rates = text.parse().unwrap();
            let times: Vec<f64> = rates.schedule().map(|due| due.as_secs_f64()).collect();
            assert!(times.is_sorted(), "{text}");
            assert!(*times.last().unwrap() <= rates.duration().unwrap().as_secs_f64(), "{text}");
            let total: f64 = rates.stretches.iter().map(Stretch::requests).sum();
            assert_eq!(times.len(), total.ceil() as usize, "{text}");
        }
        for (text, half, expected) in [("0-1000:4", 2.0, 500), ("1000-0:4", 2.0, 1500)] {
            let before = due(text, 10_000).iter().filter(|&&time| time < half).count();
            assert!(before.abs_diff(expected) <= 1, "{text}: {before}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["1000", "0.5", "0-1000:10,1000:60,5000:0.5", "1000-0:4"] {
            assert_eq!(text.parse::<Rates>().unwrap().to_string(), text);
        }
        for (text, wanted) in [
            ("0", "neither"),
            ("-1", "neither"),
            ("x", "neither"),
            ("10:0", "more than 0"),
            ("10:1,", "neither"),
            ("10:4000", "up to 3600"),
            ("1:3000,1:3000", "6000 seconds"),
            ("2000000:1", "from 0 to 1000000"),
            ("NaN:1", "from 0"),
            ("0:5", "no request"),
        ] {
            let error = text.parse::<Rates>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
