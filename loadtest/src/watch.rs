//! Looks at a run and at the target's processes while it goes on: a sample each second, and the progress that is shown.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use crate::origin::{Origin, boot, unix_seconds};
use crate::process::{Processes, Usage};
use crate::progress::{Progress, Seen};
use crate::record::Record;
use crate::report::{ServerReport, TargetReport};
use crate::series::{SAMPLES_MAX, Sample, TargetSample};

/// Somebody who looks, until the end.
pub(crate) struct Watch {
    looks: Rc<Looks>,
    looking: JoinHandle<()>,
}

/// What was seen of a run.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) origin: Origin,
    pub(crate) series: Vec<Sample>,
    /// None if there was nothing to look at, or it is gone.
    pub(crate) target: Option<TargetReport>,
}

struct Looks {
    record: Rc<RefCell<Record>>,
    target: Option<Processes>,
    load: Processes,
    progress: Option<RefCell<Progress>>,
    /// One moment by both clocks; all others are told from it, so that a clock that is set does no harm.
    instant: Instant,
    clock: SystemTime,
    /// When requests began, and what had been used by then.
    begun: Cell<Instant>,
    begun_used: Cell<Used>,
    /// The same for the sample that is under way.
    sampled: Cell<Instant>,
    sampled_used: Cell<Used>,
    memory_max: Cell<u64>,
    series: RefCell<Vec<Sample>>,
    target_series: RefCell<Vec<TargetSample>>,
}

/// What the target's processes and this one have used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    target: Option<Usage>,
    load: Duration,
}

impl Watch {
    /// Looks from now on. To be called on a [`tokio::runtime::LocalRuntime`].
    pub(crate) fn begin(
        record: Rc<RefCell<Record>>,
        target: Option<Processes>,
        progress: Option<Progress>,
    ) -> Watch {
        let now = Instant::now();
        let looks = Rc::new(Looks {
            record,
            target,
            load: Processes::new(std::process::id()),
            progress: progress.map(RefCell::new),
            instant: now,
            clock: SystemTime::now(),
            begun: Cell::new(now),
            begun_used: Cell::default(),
            sampled: Cell::new(now),
            sampled_used: Cell::default(),
            memory_max: Cell::new(0),
            series: RefCell::default(),
            target_series: RefCell::default(),
        });
        let used = looks.used();
        looks.begun_used.set(used);
        looks.sampled_used.set(used);
        let looking = spawn_local({
            let looks = looks.clone();
            async move { looks.look().await }
        });
        Watch { looks, looking }
    }

    /// What is used from now on is told as the run's.
    pub(crate) fn requests_begin(&self) {
        self.looks.begun.set(Instant::now());
        self.looks.begun_used.set(self.looks.used());
    }

    /// What was seen. Requests took this long.
    pub(crate) fn end(&self, elapsed: Duration) -> Watched {
        self.looking.abort();
        let looks = &self.looks;
        looks.sample();
        if let Some(progress) = &looks.progress {
            progress.borrow_mut().end();
        }
        let (before, after) = (looks.begun_used.get(), looks.sampled_used.get());
        let started = looks.clock + (looks.begun.get() - looks.instant);
        let load = after.load.saturating_sub(before.load);
        Watched {
            origin: Origin::here(started, elapsed.as_secs_f64(), load.as_secs_f64()),
            series: looks.series.take(),
            target: looks.target(before.target.zip(after.target)),
        }
    }
}

impl Looks {
    async fn look(&self) {
        loop {
            let next = self.sampled.get() + self.until_next_second(self.sampled.get());
            loop {
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                sleep(left.min(BETWEEN_LOOKS)).await;
                // If they are gone, the run's own failures say so.
                let memory = self.target.as_ref().and_then(Processes::usage).map_or(0, |usage| usage.memory);
                self.memory_max.set(self.memory_max.get().max(memory));
            }
            self.sample();
            self.show();
        }
    }

    fn unix(&self, moment: Instant) -> f64 {
        unix_seconds(self.clock) + (moment - self.instant).as_secs_f64()
    }

    /// How long it takes from this moment until the wall clock tells another second.
    fn until_next_second(&self, moment: Instant) -> Duration {
        let into = self.unix(moment).fract();
        // By a little more, so that a rounded time is in the next second and not at the end of this one.
        Duration::from_secs_f64(1.0 - into) + Duration::from_micros(10)
    }

    fn used(&self) -> Used {
        let target = self.target.as_ref().and_then(Processes::usage);
        Used { target, load: self.load.own_cpu().unwrap_or_default() }
    }

    /// Ends the sample that is under way.
    fn sample(&self) {
        let (began, used_before) = (self.sampled.replace(Instant::now()), self.sampled_used.get());
        let used = self.used();
        self.sampled_used.set(used);
        let (unix, lasts) = (self.unix(began) as u64, (self.sampled.get() - began).as_secs_f64());
        let seen = self.record.borrow_mut().sample();
        let load_cpu = used.load.saturating_sub(used_before.load).as_secs_f64();
        let mut series = self.series.borrow_mut();
        if series.len() < SAMPLES_MAX {
            series.push(Sample { unix, lasts, load_cpu, ..seen });
        }
        if let Some((before, after)) = used_before.target.zip(used.target) {
            self.memory_max.set(self.memory_max.get().max(after.memory));
            let mut target_series = self.target_series.borrow_mut();
            if target_series.len() < SAMPLES_MAX {
                let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
                target_series.push(TargetSample { unix, lasts, cpu, memory: after.memory });
            }
        }
    }

    fn show(&self) {
        let (Some(progress), Some(last)) = (&self.progress, self.series.borrow().last().copied()) else {
            return;
        };
        let record = self.record.borrow();
        progress.borrow_mut().show(&Seen {
            elapsed: self.sampled.get().saturating_duration_since(self.begun.get()),
            right: record.right,
            failed: record.failed_count(),
            last,
            target: self.target_series.borrow().last().copied().filter(|target| target.unix == last.unix),
        });
    }

    /// What they have used between these two.
    fn target(&self, used: Option<(Usage, Usage)>) -> Option<TargetReport> {
        let (processes, (before, after)) = (self.target.as_ref()?, used?);
        Some(TargetReport {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: boot(),
            pid: processes.id(),
            began_ticks: processes.began_ticks().unwrap_or(0),
            used: ServerReport {
                cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
                cpu_us_per_right: None,
                memory_begin: before.memory,
                memory_max: self.memory_max.get().max(after.memory).max(before.memory),
                memory_end: after.memory,
            },
            series: self.target_series.take(),
        })
    }
}

/// Often enough for memory, and rarely enough to cost nothing.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use crate::testing::World;

    /// What is counted in seconds is what is counted in all.
    #[tokio::test(flavor = "local")]
    async fn seconds_add_up_to_the_run() {
        let world = World::start().await;
        let own = std::process::id();
        for (arguments, is_right) in [
            ("--duration 1.2 --connections 3 --path /bytes/1", true),
            ("--rate 200:1.2 --connections 3 --path /bytes/1", true),
            ("--mode handshake --requests 20 --connections 2 --path /bytes/1", true),
            ("--mode idle --connections 5 --hold 1.1 --path /bytes/1", true),
            ("--http2 --streams 3 --requests 50 --connections 2 --path /bytes/1", true),
            ("--requests 10 --connections 2 --path /status/500", false),
            ("--rate 100:0.3 --connections 1 --path /slow/200 --timeout 0.4", false),
        ] {
            let report = world.run(&format!("{arguments} --server-pid {own}")).await;
            assert_eq!(report.is_right(), is_right, "{arguments}: {}", report.to_text());
            let sum = |count: fn(&super::Sample) -> u64| report.series.iter().map(count).sum::<u64>();
            assert_eq!(sum(|sample| sample.right), report.right, "{arguments}");
            assert_eq!(sum(|sample| sample.failed), report.failed, "{arguments}");
            assert_eq!(sum(|sample| sample.opened), report.connections_opened(), "{arguments}");
            let times: Vec<_> = report.series.iter().map(|sample| sample.unix).collect();
            assert!(times.is_sorted_by(|a, b| a < b), "each second once: {times:?}");
            // Whatever was measured at all has its seconds.
            let is_timed = report.series.iter().any(|sample| sample.max_us.is_some());
            assert_eq!(is_timed, report.right > 0 || report.due().is_some(), "{arguments}");
            let target = &report.targets[0];
            assert_eq!((target.pid, target.series.len()), (own, report.series.len()), "{arguments}");
            assert!(target.began_ticks > 0 && !target.boot.is_empty());
            let all: f64 = target.series.iter().map(|sample| sample.cpu).sum();
            assert!(all + 1e-6 >= target.used.cpu_seconds, "{arguments}: {all} {:?}", target.used);
        }
    }

    #[tokio::test(flavor = "local")]
    async fn connections_are_counted_while_they_are_open() {
        let world = World::start().await;
        let report = world.run("--mode idle --connections 5 --hold 2.1 --path /bytes/1").await;
        let most = report.series.iter().map(|sample| sample.open).max();
        assert_eq!(most, Some(5), "{:?}", report.series);
        let shared = world.run("--http2 --streams 4 --duration 2.1 --connections 3 --path /bytes/1").await;
        let most = shared.series.iter().map(|sample| sample.open).max();
        assert_eq!(most, Some(3), "however many share one: {:?}", shared.series);
    }

    #[tokio::test(flavor = "local")]
    async fn a_report_says_what_was_run_and_where() {
        let world = World::start().await;
        let report = world.run("--requests 3 --connections 2 --path /bytes/1?a=b --tls-version 1.3").await;
        for (name, value) in [
            ("mode", "keepalive"),
            ("requests", "3"),
            ("connections", "2"),
            ("requests /bytes/1?a=b", "share 1, GET /bytes/1?a=b, 200 with as many bytes as the first"),
            ("tls-version", "1.3"),
        ] {
            assert_eq!(report.plan.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!report.plan.contains_key("rate") && !report.plan.contains_key("hold"), "{:?}", report.plan);
        let process = &report.processes[0];
        assert_eq!((process.pid, process.seconds), (std::process::id(), report.seconds()));
        assert!(
            process.started.ends_with('Z') && process.harness.starts_with("ringward-load "),
            "{process:?}"
        );
    }
}
