//! The order of a comparison: every proxy is probed, then round after round is measured, and runs of the proxies take turns.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::CompareError;
use super::bench::{Bench, Candidate, Trouble};
use super::case::{Case, Load};
use super::measure::{Sample, measure};
use super::peer::Proxy;
use super::probe::{Seen, probe};
use super::summary::{Comparison, FailureRow};

/// What is under way.
pub(super) struct Work<'a> {
    pub(super) bench: Bench,
    pub(super) candidates: Vec<Candidate>,
    pub(super) comparison: &'a mut Comparison,
    /// A file for all that is known so far.
    pub(super) save: Option<PathBuf>,
}

impl Work<'_> {
    /// Probes every proxy. Those that do something else than they should are measured in none of the cases that it is about.
    pub(super) async fn probe(&mut self, cases: &BTreeSet<Case>) {
        for policy in [false, true] {
            let concerned: Vec<Case> = cases.iter().copied().filter(|case| case.policy == policy).collect();
            if concerned.is_empty() {
                continue;
            }
            for candidate in self.candidates.clone() {
                let name = candidate.proxy.name();
                let outcome = probe(&self.bench, &candidate, policy).await;
                let trouble = match &outcome {
                    Ok(seen) => wrong(seen),
                    Err(trouble) => Some(trouble.to_string()),
                };
                let report = self.comparison.proxies.iter_mut().find(|report| report.name == name);
                let Some(report) = report else { continue };
                if let Ok(seen) = outcome {
                    *(if policy { &mut report.probe_with_policy } else { &mut report.probe }) = seen;
                }
                if let Some(reason) = trouble {
                    tell(&format!("{name} is not measured: {reason}"));
                    report.refused = Some(reason);
                    let row = |case| FailureRow { case, proxy: name, reason: PROBE_FAILED.to_owned() };
                    self.comparison.failures.extend(concerned.iter().copied().map(row));
                }
            }
        }
    }

    /// Round after round, in each case after case, in each proxy after proxy.
    pub(super) async fn measure(&mut self, cases: &BTreeSet<Case>) -> Result<(), CompareError> {
        for round in 1..=self.comparison.rounds {
            for &case in cases {
                let rate = match case.load {
                    Load::Latency => self.rate(case).await,
                    _ => 0,
                };
                for candidate in self.candidates.clone() {
                    if let Some(sample) = self.sample(&candidate, case, round, rate).await {
                        self.comparison.runs.push(sample);
                        self.save()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One run, unless that proxy has failed in that case before. Says on standard error what came of it.
    async fn sample(&mut self, candidate: &Candidate, case: Case, round: u32, rate: u64) -> Option<Sample> {
        let name = candidate.proxy.name();
        if self.comparison.failures.iter().any(|row| (row.case, row.proxy) == (case, name)) {
            return None;
        }
        let outcome = measure(&self.bench, candidate, case, round, rate).await;
        let rounds = self.comparison.rounds;
        match outcome {
            Ok(sample) => {
                tell(&format!(
                    "{round}/{rounds} {} {name}: {:.3} {}",
                    case.name(),
                    sample.figure,
                    case.unit()
                ));
                Some(sample)
            }
            Err(trouble) => {
                self.failed(case, name, &trouble);
                None
            }
        }
    }

    fn failed(&mut self, case: Case, proxy: &'static str, trouble: &Trouble) {
        tell(&format!("{} {proxy}: {trouble}", case.name()));
        self.comparison.failures.push(FailureRow { case, proxy, reason: trouble.to_string() });
    }

    /// Requests per second for a case of latency: half of what the best peer can do, or of what the best of all can if there is no peer.
    async fn rate(&mut self, latency: Case) -> u64 {
        if let Some(&rate) = self.comparison.rates.get(latency.name()) {
            return rate;
        }
        let case = Case { load: Load::Keepalive, policy: latency.policy };
        let mut runs: Vec<Sample> =
            self.comparison.runs.iter().copied().filter(|run| run.case == case).collect();
        if runs.is_empty() {
            for candidate in self.candidates.clone() {
                runs.extend(self.sample(&candidate, case, 1, 0).await);
            }
        }
        let peers: Vec<_> =
            Proxy::ALL.iter().filter(|proxy| proxy.is_peer()).map(|proxy| proxy.name()).collect();
        let best = |runs: &mut dyn Iterator<Item = &Sample>| runs.filter_map(|run| run.rate).reduce(f64::max);
        let rate = best(&mut runs.iter().filter(|run| peers.contains(&run.proxy)))
            .or_else(|| best(&mut runs.iter()));
        // If nobody has answered, nobody will, and that is what is reported.
        let rate = rate.map_or(1, |rate| (rate / 2.0).max(1.0) as u64);
        self.comparison.rates.insert(latency.name(), rate);
        rate
    }

    fn save(&mut self) -> Result<(), CompareError> {
        let Some(file) = &self.save else { return Ok(()) };
        self.comparison.sum_up();
        fs::write(file, self.comparison.to_json())
            .map_err(|reason| CompareError::Save { file: file.clone(), reason })
    }
}

/// What was wrong, if something was.
fn wrong(seen: &[Seen]) -> Option<String> {
    let wrong: Vec<_> =
        seen.iter().filter(|seen| !seen.right).map(|seen| format!("{}: {}", seen.what, seen.seen)).collect();
    (!wrong.is_empty()).then(|| wrong.join(", "))
}

/// Nobody is left to be told if standard error is closed.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

const PROBE_FAILED: &str = "its probe failed, see the list of proxies";
