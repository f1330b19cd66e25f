//! A comparison as lines for people.

use std::fmt::{Result, Write};

use super::{Comparison, Method, Quantity, Run, Verdict};
use crate::plain::shown;
use crate::statistics::SECONDS_MIN;

impl Comparison {
    /// Lines for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> Result {
        for (side, runs) in [("before", &self.before), ("after", &self.after)] {
            for Run { file, started, seconds, right, failed } in runs {
                writeln!(
                    text,
                    "{side:<8}{file}: {}, {seconds:.1} s, {right} right, {failed} failed",
                    shown(started)
                )?;
            }
        }
        if !self.plan_differences.is_empty() {
            writeln!(text, "the plans differ: {}", self.plan_differences.join("; "))?;
        }
        writeln!(text, "\n{:<24}{:>13}{:>13}{:>12}   95 % interval", "", "before", "after", "difference")?;
        for quantity in &self.quantities {
            quantity.write(text)?;
        }
        writeln!(text)?;
        if self.quantities.iter().any(|quantity| quantity.verdict == Verdict::Unknown) {
            let of = match self.method {
                Method::Within => {
                    format!("a run has fewer than {SECONDS_MIN} whole seconds, or nothing right in it")
                }
                Method::Between => "a run has nothing right in it".to_owned(),
            };
            writeln!(text, "What cannot be told: {of}.")?;
        }
        match self.method {
            Method::Within => writeln!(
                text,
                "One run each: the intervals do not know what differs from run to run. Compare several (--before, --after) before you decide."
            ),
            Method::Between => writeln!(
                text,
                "Intervals are those of the means of {} and {} runs.",
                self.before.len(),
                self.after.len()
            ),
        }
    }
}

impl Quantity {
    fn write(&self, text: &mut String) -> Result {
        let (unit, digits) = if self.difference_in == "percent" { ("%", 1) } else { ("pt", 2) };
        let change = |change: f64| match change {
            1000.0.. => ">+999".to_owned(),
            _ => format!("{change:+.digits$}"),
        };
        let known = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), change);
        let difference = format!("{} {unit}", known(self.difference));
        let interval =
            self.interval.map_or_else(String::new, |[low, high]| format!("{} … {}", known(low), known(high)));
        let value = |value: f64| {
            let digits = if value.abs() < 1000.0 { 1 } else { 0 };
            let digits = if self.unit == "%" { 2 } else { digits };
            format!("{value:.digits$} {}", self.unit)
        };
        writeln!(
            text,
            "{:<24}{:>13}{:>13}{difference:>12}   {interval:<19} {}",
            self.name,
            value(self.before),
            value(self.after),
            self.verdict.as_str()
        )
    }
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Slower => "slower",
            Verdict::Faster => "faster",
            Verdict::More => "more",
            Verdict::Fewer => "fewer",
            Verdict::Same => "no difference seen",
            Verdict::Unknown => "cannot be told",
        }
    }
}
