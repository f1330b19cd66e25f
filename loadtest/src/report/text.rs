//! A report as lines for people.

use std::fmt::{Result, Write};

use super::{ClassReport, IdleReport, KindReport, Report, ServerReport, TimesReport};
use crate::plain::shown;

impl Report {
    /// Lines for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> Result {
        writeln!(
            text,
            "{} of {}, {} connections, {:.2} s",
            shown(&self.mode),
            shown(&self.target),
            self.connections,
            self.seconds
        )?;
        for line in [&self.description, &self.tls].into_iter().flatten() {
            writeln!(text, "  {}", shown(line))?;
        }
        if self.processes.len() > 1 {
            writeln!(text, "  by {} processes, merged", self.processes.len())?;
        }
        if let (Some(rate), Some(due)) = (&self.rate, self.due) {
            writeln!(text, "due       {due:>12}   at {rate} per second")?;
        }
        let rate = self.per_second.map(|rate| format!("   {rate:.0} per second")).unwrap_or_default();
        writeln!(text, "right     {:>12}{rate}", self.right)?;
        writeln!(text, "failed    {:>12}", self.failed)?;
        for (kind, failures) in &self.failures {
            let first = shown(&failures.first);
            writeln!(text, "  {:<10}{:>10}   first: {first}", kind.as_str(), failures.count)?;
        }
        if let Some(refused) = self.refused {
            writeln!(text, "refused   {refused:>12} clients, as they must be")?;
        }
        for (status, count) in &self.statuses {
            writeln!(text, "status {status}{count:>12}")?;
        }
        for (name, bytes) in [("received", self.received_bytes), ("sent", self.sent_bytes)] {
            if bytes > 0 {
                let rate = bytes as f64 / 1e6 / self.seconds;
                writeln!(text, "{name:<10}{bytes:>12} bytes of bodies, {rate:.1} MB/s")?;
            }
        }
        writeln!(
            text,
            "opened    {:>12} connections, {} were stale when used again",
            self.connections_opened, self.stale_connections
        )?;
        if let Some(resumed) = self.connections_resumed {
            let share = resumed as f64 * 100.0 / (self.connections_opened.max(1)) as f64;
            writeln!(text, "resumed   {resumed:>12} of them, {share:.1} %")?;
        }
        if let Some(idle) = &self.idle {
            let IdleReport { opened_seconds, held, answered_again } = idle;
            writeln!(text, "held      {held:>12} connections, opened in {opened_seconds:.2} s")?;
            writeln!(text, "again     {answered_again:>12} of them answered afterwards")?;
        }
        if let Some(ServerReport { cpu_seconds, cpu_us_per_right, memory_begin, memory_max, memory_end }) =
            self.server
        {
            let busy = cpu_seconds * 100.0 / self.seconds;
            let each = cpu_us_per_right
                .map(|each| format!(", {each:.1} µs for each right answer"))
                .unwrap_or_default();
            writeln!(text, "target    {cpu_seconds:>12.2} s of CPU time, {busy:.0} % of a core{each}")?;
            let [begin, max, end] =
                [memory_begin, memory_max, memory_end].map(|bytes| bytes as f64 / f64::from(1 << 20));
            writeln!(text, "memory    {max:>12.1} MiB at the most, {begin:.1} before, {end:.1} after")?;
        }
        self.write_breakdown(text)?;
        let header = ["mean", "p50", "p90", "p99", "p99.9", "max"];
        writeln!(text, "{:<11}{}", "µs", header.map(|name| format!("{name:>11}")).concat())?;
        for (name, times) in self.times() {
            if let Some(TimesReport { mean, p50, p90, p99, p999, max }) = times {
                let columns = [mean, p50, p90, p99, p999, max].map(|value| format!("{value:>11.1}"));
                writeln!(text, "{name:<11}{}", columns.concat())?;
            }
        }
        Ok(())
    }

    /// By class of clients and kind of requests.
    fn write_breakdown(&self, text: &mut String) -> Result {
        for ClassReport { name, connections_opened, refused, refusals, right, failed, .. } in &self.clients {
            let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
            writeln!(
                text,
                "clients   {right:>12} right, {failed} failed, {connections_opened} connections{refused}: {}",
                shown(name)
            )?;
            for (how, count) in refusals {
                writeln!(text, "  refused {count:>12}   {}", shown(how))?;
            }
        }
        for KindReport { name, right, failed, exchange_us } in &self.requests {
            let times =
                exchange_us.map(|times| format!(", p50 {:.1} µs, p99 {:.1} µs", times.p50, times.p99));
            writeln!(
                text,
                "requests  {right:>12} right, {failed} failed{}: {}",
                times.unwrap_or_default(),
                shown(name)
            )?;
        }
        Ok(())
    }
}
