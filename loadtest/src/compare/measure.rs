//! One measured run of a case: a fresh proxy, a warm-up, and the load.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::sleep;

use super::bench::{Bench, Candidate, LoadReport, Serving, Trouble};
use super::case::{Case, Load, Purpose};
use super::machine::{Meanwhile, connections, pss};
use super::pki::Client;
use super::process::Running;
use crate::process::Processes;

/// What came of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) case: Case,
    pub(super) proxy: &'static str,
    /// From 1 on.
    pub(super) round: u32,
    /// In the unit of the case; less is better.
    pub(super) figure: f64,
    /// Units of the case per second.
    pub(super) rate: Option<f64>,
    /// How much of the run the proxy was on its processors, in percent.
    pub(super) busy: Option<f64>,
    /// How much of the run load and upstream were on theirs.
    pub(super) load_busy: f64,
    /// Processor time that others used meanwhile, in percent of one processor.
    pub(super) foreign: f64,
    /// From when requests were due, in microseconds.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) p999_us: Option<f64>,
    /// Connections that resumed a session, in percent.
    pub(super) resumed: Option<f64>,
    /// What the proxy took before there were connections that wait, in MiB.
    pub(super) base_mib: Option<f64>,
}

/// Makes one run. `rate` is that of latency.
pub(super) async fn measure(
    bench: &Bench,
    candidate: &Candidate,
    case: Case,
    round: u32,
    rate: u64,
) -> Result<Sample, Trouble> {
    let serving = Serving::start(bench, candidate, case.policy).await?;
    let warm_up = format!("{} {OFFER}", case.arguments(&bench.amount, Purpose::WarmUp, rate));
    bench.load(&serving, Some(Client::A), &warm_up).await?.right()?;
    let load = case.arguments(&bench.amount, Purpose::Measure, rate);
    let load = format!("{load} {OFFER} --server-pid {}", serving.running.id());
    let memory = Processes::new(serving.running.id());
    let before = pss(&memory).ok_or(Trouble::Unseen)?;
    let usage = || memory.usage().map(|usage| usage.cpu.as_secs_f64());
    let (used, began, meanwhile) = (usage(), Instant::now(), Meanwhile::begin());
    let running = bench.begin_load(&serving, Some(Client::A), &load)?;
    let (report, bytes) = match case.load {
        Load::Idle => {
            let (report, after) = hold(bench, &serving, &memory, running).await?;
            (report, Some((before, after)))
        }
        _ => (LoadReport::of(running).await?.right()?, None),
    };
    let whole = meanwhile.end();
    let used = usage().zip(used).map(|(after, before)| (after - before) * 100.0);
    let of_proxy = used.ok_or(Trouble::Unseen)? / began.elapsed().as_secs_f64();
    serving.stop().await;
    let load_busy = (whole.ours - of_proxy).max(0.0) / bench.load_cpus.count() as f64;
    sample(bench, candidate, case, &report, bytes)
        .map(|sample| Sample { round, load_busy, foreign: whole.foreign, ..sample })
        .ok_or(Trouble::Unseen)
}

/// Waits until all connections are open and have been left alone for a while. The report, and what memory was then.
async fn hold(
    bench: &Bench,
    serving: &Serving,
    memory: &Processes,
    mut load: Running,
) -> Result<(LoadReport, u64), Trouble> {
    let wanted = bench.amount.idle_connections;
    let began = Instant::now();
    // Some have more open for a moment than in the end.
    while connections(serving.address) < wanted as usize {
        if began.elapsed() > OPEN_MAX || load.ended().is_some() {
            let open = connections(serving.address);
            // What was wrong with the load says more.
            LoadReport::of(load).await?.right()?;
            return Err(Trouble::Closed { open, wanted });
        }
        sleep(BETWEEN_LOOKS).await;
    }
    sleep(Duration::from_secs_f64(bench.amount.settle_seconds)).await;
    let after = pss(memory).ok_or(Trouble::Unseen)?;
    let open = connections(serving.address);
    if open < wanted as usize {
        return Err(Trouble::Closed { open, wanted });
    }
    Ok((LoadReport::of(load).await?.right()?, after))
}

/// `None` if the report lacks something. `memory`: in bytes, without connections that wait and with them.
fn sample(
    bench: &Bench,
    candidate: &Candidate,
    case: Case,
    report: &LoadReport,
    memory: Option<(u64, u64)>,
) -> Option<Sample> {
    let used = report.server?.cpu_seconds;
    let right = report.right as f64;
    let gigabytes = (report.received_bytes + report.sent_bytes) as f64 / 1e9;
    let times = report.due_us;
    let (figure, units) = match case.load {
        Load::Idle => {
            let (before, after) = memory?;
            let kib = after.saturating_sub(before) as f64 / 1024.0;
            (kib / f64::from(bench.amount.idle_connections), None)
        }
        Load::Latency => (times?.p99, Some(right)),
        // An upload's answers are small.
        Load::Download | Load::Upload => (used / gigabytes, Some(gigabytes)),
        _ => (used * 1e6 / right, Some(right)),
    };
    let resumed =
        report.connections_resumed.map(|resumed| resumed as f64 * 100.0 / report.connections_opened as f64);
    Some(Sample {
        case,
        proxy: candidate.proxy.name(),
        round: 0,
        figure,
        rate: units.map(|units| units / report.seconds),
        busy: units.map(|_| used * 100.0 / report.seconds / bench.proxy_cpus.count() as f64),
        load_busy: 0.0,
        foreign: 0.0,
        p50_us: times.map(|times| times.p50),
        p99_us: times.map(|times| times.p99),
        p999_us: times.map(|times| times.p999),
        resumed,
        base_mib: memory.map(|(before, _)| before as f64 / f64::from(1 << 20)),
    })
}

/// What all clients offer, so that all proxies do the same cryptography whatever they prefer.
pub(super) const OFFER: &str = "--tls-version 1.3 --tls-suite TLS_AES_128_GCM_SHA256 --tls-group X25519";
/// For all idle connections to open.
const OPEN_MAX: Duration = Duration::from_secs(300);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
