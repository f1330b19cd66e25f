//! A report as one page, with plots and without anything from elsewhere. Nothing in it can run: it has no script, and what a target has
//! said is escaped.

use std::fmt::{Result, Write};

use super::csv::quantiles;
use super::plot::{Axis, Line, Plot, grouped};
use super::{Report, TimesReport};
use crate::plain::escaped;
use crate::progress::time;
use crate::series::Sample;

impl Report {
    /// The whole page.
    pub(crate) fn to_html(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_page(&mut page);
        page
    }

    fn write_page(&self, page: &mut String) -> Result {
        let title = escaped(&format!("{} of {}", self.mode, self.target));
        // Whatever got through: nothing is loaded, nothing runs.
        writeln!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
            <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
            <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
            <meta name=\"color-scheme\" content=\"light dark\">\n\
            <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>"
        )?;
        self.write_head(page, &title)?;
        self.write_plots(page)?;
        self.write_times(page)?;
        self.write_failures(page)?;
        self.write_clients_and_requests(page)?;
        self.write_plan(page)?;
        self.write_processes(page)?;
        writeln!(page, "</main>\n</body>\n</html>")
    }

    fn write_head(&self, page: &mut String, title: &str) -> Result {
        let (class, verdict) = match self.is_right() {
            true => ("good", "every answer was right"),
            false if self.right == 0 && self.failed == 0 => ("bad", "nothing was answered"),
            false => ("bad", "not every answer was right"),
        };
        let started = self.processes.first().map_or("", |process| &process.started);
        let tls = self.tls.as_deref().unwrap_or("no connection");
        writeln!(page, "<header>\n<h1>{title}</h1>\n<p class=\"verdict {class}\">{verdict}</p>")?;
        writeln!(
            page,
            "<p class=\"about\">{} &middot; {:.1} s &middot; {} connections &middot; {}</p>\n</header>",
            escaped(started),
            self.seconds,
            grouped(self.connections as f64, 0),
            escaped(tls)
        )?;
        let count = |count: u64| grouped(count as f64, 0);
        let mut tiles = vec![("right", count(self.right)), ("failed", count(self.failed))];
        tiles.extend(self.per_second.map(|rate| ("per second", grouped(rate, 0))));
        if let Some(times) = self.due_us.or(self.exchange_us) {
            tiles.extend([("p50", time(times.p50)), ("p99", time(times.p99)), ("longest", time(times.max))]);
        }
        if let Some(server) = &self.server {
            tiles.extend(server.cpu_us_per_right.map(|us| ("target CPU per answer", time(us))));
            tiles.push(("target memory, most", mebibytes(server.memory_max)));
        }
        writeln!(page, "<section class=\"tiles\">")?;
        for (name, value) in tiles {
            let bad = if name == "failed" && self.failed > 0 { " bad" } else { "" };
            writeln!(page, "<div class=\"tile{bad}\"><b>{value}</b><span>{name}</span></div>")?;
        }
        writeln!(page, "</section>")
    }

    fn write_plots(&self, page: &mut String) -> Result {
        let of = if self.due_us.is_some() { "since due" } else { "exchange" };
        let (started, targets) = (self.started(), self.target_series());
        let from = self.series.first().map_or(0.0, |sample| (sample.unix as f64 - started).min(0.0));
        let seconds = || Axis::of_seconds(from, self.seconds);
        let line = |name: &str, class, value: &dyn Fn(&Sample) -> Option<f64>| {
            let point = |sample: &Sample| (self.middle(sample, started).max(from), value(sample));
            Line { name: name.to_owned(), class, points: self.series.iter().map(point).collect() }
        };
        let rate = |count: u64, sample: &Sample| Some(count as f64 / sample.lasts.max(MOMENT));
        let percent = |cpu: f64, lasts: f64| Some(cpu * 100.0 / lasts.max(MOMENT));
        let plot = |title, x_name, y_name, x, y_is_logarithmic, lines| Plot {
            title,
            x_name,
            y_name,
            x,
            y_is_logarithmic,
            lines,
        };
        let mut plots = vec![self.percentiles()];
        plots.push(plot(
            "Times over time",
            SECONDS,
            of,
            seconds(),
            true,
            vec![
                line("p50", "one", &|sample| sample.p50_us),
                line("p99", "two", &|sample| sample.p99_us),
                line("longest", "three", &|sample| sample.max_us),
            ],
        ));
        plots.push(plot(
            "Throughput and failures over time",
            SECONDS,
            "per second",
            seconds(),
            false,
            vec![
                line("right", "one", &|sample| rate(sample.right, sample)),
                line("failed", "bad-line", &|sample| rate(sample.failed, sample)),
            ],
        ));
        plots.push(plot(
            "Connections over time",
            SECONDS,
            "connections",
            seconds(),
            false,
            vec![
                line("open", "one", &|sample| Some(sample.open as f64)),
                line("opened per second", "two", &|sample| rate(sample.opened, sample)),
            ],
        ));
        let target_cpu = line("target", "one", &|sample| {
            targets.get(&sample.unix).and_then(|target| percent(target.cpu, target.lasts))
        });
        let load_cpu = line("the load itself", "two", &|sample| percent(sample.load_cpu, sample.lasts));
        let lines = if targets.is_empty() { vec![load_cpu] } else { vec![target_cpu, load_cpu] };
        plots.push(plot("CPU over time", SECONDS, "% of one core", seconds(), false, lines));
        if !targets.is_empty() {
            plots.push(plot(
                "Memory of the target over time",
                SECONDS,
                "MiB",
                seconds(),
                false,
                vec![line("resident", "one", &|sample| {
                    targets.get(&sample.unix).map(|target| target.memory as f64 / MEBIBYTE)
                })],
            ));
        }
        for plot in plots {
            writeln!(
                page,
                "<section>\n<h2>{}</h2>\n<div class=\"scroll\">\n{}</div>\n</section>",
                escaped(plot.title),
                plot.to_svg()
            )?;
        }
        Ok(())
    }

    /// Where a sample stands on the axis of time.
    fn middle(&self, sample: &Sample, started: f64) -> f64 {
        (sample.unix as f64 - started + 0.5).min(self.seconds.max(1.0))
    }

    fn percentiles(&self) -> Plot<'static> {
        let mut nines: f64 = 1.0;
        let lines =
            self.phases().zip(["one", "two", "three", "four", "five"]).map(|((name, times), class)| {
                let all = quantiles(times);
                let point = |quantile: &f64| {
                    let x = -(1.0 - quantile).log10();
                    (x, Some(times.quantile_us(*quantile)))
                };
                // The longest is beyond all nines.
                let points: Vec<_> = all[..all.len() - 1].iter().map(point).collect();
                nines = points.last().map_or(nines, |(x, _)| x.max(nines));
                Line { name: name.to_owned(), class, points }
            });
        let lines = lines.collect();
        Plot {
            title: "Times by percentile",
            x_name: "percentile",
            y_name: "time",
            x: Axis::of_nines(nines - 0.01),
            y_is_logarithmic: true,
            lines,
        }
    }

    fn write_times(&self, page: &mut String) -> Result {
        let names = ["", "mean", "p50", "p90", "p99", "p99.9", "longest", "count"].map(str::to_owned);
        let counts = self.phases().map(|(name, times)| (name, times.count())).collect::<Vec<_>>();
        let rows = self.times().into_iter().filter_map(|(name, times)| {
            let TimesReport { mean, p50, p90, p99, p999, max } = times?;
            let count = counts.iter().find(|(phase, _)| *phase == name).map_or(0, |(_, count)| *count);
            let mut row = vec![name.to_owned()];
            row.extend([mean, p50, p90, p99, p999, max].map(time));
            row.push(grouped(count as f64, 0));
            Some(row)
        });
        write_table(page, "Times", &names, rows.collect(), "numbers")?;
        let mut counts = vec![
            ("right answers", grouped(self.right as f64, 0)),
            ("failed", grouped(self.failed as f64, 0)),
            ("connections opened", grouped(self.connections_opened as f64, 0)),
            ("stale when used again", grouped(self.stale_connections as f64, 0)),
        ];
        counts.extend(self.due.map(|due| ("requests due", grouped(due as f64, 0))));
        counts.extend(self.refused.map(|count| ("refused as they must be", grouped(count as f64, 0))));
        counts.extend(self.connections_resumed.map(|count| ("sessions resumed", grouped(count as f64, 0))));
        for (name, bytes) in [("received", self.received_bytes), ("sent", self.sent_bytes)] {
            if bytes > 0 {
                counts.push((name, format!("{} bytes of bodies", grouped(bytes as f64, 0))));
            }
        }
        if let Some(idle) = &self.idle {
            counts.push(("connections that waited", grouped(idle.held as f64, 0)));
            counts.push(("of them answered again", grouped(idle.answered_again as f64, 0)));
        }
        let mut rows: Vec<_> = counts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
        rows.extend(
            self.statuses
                .iter()
                .map(|(status, count)| vec![format!("status {status}"), grouped(*count as f64, 0)]),
        );
        write_table(page, "Counts", &[], rows, "pairs")
    }

    fn write_failures(&self, page: &mut String) -> Result {
        let names = ["kind", "count", "the first one"].map(str::to_owned);
        let rows: Vec<_> = self
            .failures
            .iter()
            .map(|(kind, failures)| {
                vec![kind.as_str().to_owned(), grouped(failures.count as f64, 0), failures.first.clone()]
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        write_table(page, "Failures", &names, rows, "failures")
    }

    /// By class of clients and kind of requests.
    fn write_clients_and_requests(&self, page: &mut String) -> Result {
        let number = |count: u64| grouped(count as f64, 0);
        if !self.clients.is_empty() {
            let names = ["", "right", "failed", "connections", "resumed", "refused"].map(str::to_owned);
            let rows = self.clients.iter().map(|class| {
                let resumed = class.connections_resumed.map_or("–".to_owned(), number);
                let [right, failed, opened, refused] =
                    [class.right, class.failed, class.connections_opened, class.refused].map(number);
                vec![class.name.clone(), right, failed, opened, resumed, refused]
            });
            write_table(page, "Clients", &names, rows.collect(), "numbers")?;
            let refusals = self.clients.iter().flat_map(|class| {
                class
                    .refusals
                    .iter()
                    .map(|(how, count)| vec![class.name.clone(), number(*count), how.clone()])
            });
            let refusals: Vec<_> = refusals.collect();
            if !refusals.is_empty() {
                let names = ["clients", "count", "refused with"].map(str::to_owned);
                write_table(page, "Refusals", &names, refusals, "failures")?;
            }
        }
        if !self.requests.is_empty() {
            let names = ["", "right", "failed", "p50", "p90", "p99", "longest"].map(str::to_owned);
            let rows = self.requests.iter().map(|kind| {
                let mut row = vec![kind.name.clone(), number(kind.right), number(kind.failed)];
                row.extend(match kind.exchange_us {
                    Some(times) => [times.p50, times.p90, times.p99, times.max].map(time),
                    None => [(); 4].map(|()| "–".to_owned()),
                });
                row
            });
            write_table(page, "Requests", &names, rows.collect(), "numbers")?;
        }
        Ok(())
    }

    fn write_plan(&self, page: &mut String) -> Result {
        let rows = self.plan.iter().map(|(name, value)| vec![name.clone(), value.clone()]);
        write_table(page, "Plan", &[], rows.collect(), "pairs")
    }

    fn write_processes(&self, page: &mut String) -> Result {
        let names = ["load from", "began", "CPU time", "processor", "kernel", "version"].map(str::to_owned);
        let rows = self.processes.iter().map(|process| {
            vec![
                format!("{}, process {}", process.host, process.pid),
                process.started.clone(),
                format!("{:.2} s of {:.2} s", process.cpu_seconds, process.seconds),
                format!("{} × {}", process.cpus, process.cpu),
                process.kernel.clone(),
                process.harness.clone(),
            ]
        });
        write_table(page, "Where it ran", &names, rows.collect(), "words")?;
        if self.targets.is_empty() {
            return Ok(());
        }
        let names = ["target", "CPU time", "memory before", "at the most", "after"].map(str::to_owned);
        let rows = self.targets.iter().map(|target| {
            let mut row = vec![
                format!("{}, process {}", target.host, target.pid),
                format!("{:.2} s", target.used.cpu_seconds),
            ];
            row.extend(
                [target.used.memory_begin, target.used.memory_max, target.used.memory_end].map(mebibytes),
            );
            row
        });
        write_table(page, "Under load", &names, rows.collect(), "numbers")
    }
}

/// A table, without a head if there are no names.
fn write_table(
    page: &mut String,
    title: &str,
    names: &[String],
    rows: Vec<Vec<String>>,
    class: &str,
) -> Result {
    writeln!(page, "<section>\n<h2>{title}</h2>\n<div class=\"scroll\"><table class=\"{class}\">")?;
    if !names.is_empty() {
        let cells: String =
            names.iter().map(|name| format!("<th scope=\"col\">{}</th>", escaped(name))).collect();
        writeln!(page, "<thead><tr>{cells}</tr></thead>")?;
    }
    writeln!(page, "<tbody>")?;
    for row in rows {
        let cell = |(index, cell): (usize, &String)| match index {
            0 => format!("<th scope=\"row\">{}</th>", escaped(cell)),
            _ => format!("<td>{}</td>", escaped(cell)),
        };
        let cells: String = row.iter().enumerate().map(cell).collect();
        writeln!(page, "<tr>{cells}</tr>")?;
    }
    writeln!(page, "</tbody>\n</table></div>\n</section>")
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes as f64 / MEBIBYTE, 1))
}

const MEBIBYTE: f64 = 1_048_576.0;
const SECONDS: &str = "seconds since the first request";
/// Of what lasts less no rate is told.
const MOMENT: f64 = 1e-3;
const STYLE: &str = include_str!("report.css");

#[cfg(test)]
mod tests;
