//! What is known of an endpoint.
//!
//! Pure: results come in, verdicts go out.

use ringward_config::HealthCheck;
use ringward_telemetry::EndpointHealth;

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nobody has looked yet, and it takes requests: it is as old as its cluster, or as the check of its cluster.
    Assumed,
    /// Nobody has looked yet, and others take its requests meanwhile: it came to a cluster that works.
    Awaited,
    /// Its checks pass.
    Healthy,
    /// Its checks fail.
    Unhealthy,
}

/// What is known of an endpoint, and what speaks against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) health: Health,
    /// Results in a row that contradict `health`.
    contradictions: u32,
}

impl Health {
    /// Whether it may take requests.
    pub(crate) fn is_fit(self) -> bool {
        matches!(self, Health::Assumed | Health::Healthy)
    }

    /// As it is reported.
    pub(crate) fn reported(self) -> EndpointHealth {
        match self {
            Health::Assumed | Health::Awaited => EndpointHealth::Unchecked,
            Health::Healthy => EndpointHealth::Healthy,
            Health::Unhealthy => EndpointHealth::Unhealthy,
        }
    }
}

impl Standing {
    /// Of an endpoint that nobody has looked at.
    pub(crate) fn new(health: Health) -> Standing {
        Standing { health, contradictions: 0 }
    }

    /// Takes the result of a check into account: whether `health` is another one now. The first check decides alone, so that an
    /// endpoint which is down when we start is not used for as long as a threshold takes.
    pub(crate) fn judge(&mut self, passed: bool, check: &HealthCheck) -> bool {
        let threshold = match (self.health, passed) {
            (Health::Assumed | Health::Awaited, _) => 1,
            (Health::Healthy, false) => check.unhealthy_threshold,
            (Health::Unhealthy, true) => check.healthy_threshold,
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.contradictions = 0;
                return false;
            }
        };
        self.contradictions += 1;
        if self.contradictions < threshold {
            return false;
        }
        *self = Standing::new(if passed { Health::Healthy } else { Health::Unhealthy });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringward_config::Probe;

    use super::Health::{Assumed, Awaited, Healthy, Unhealthy};
    use super::*;

    fn check(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold,
            unhealthy_threshold,
            panic_threshold: 50,
            sends_proxy_protocol: false,
        }
    }

    /// The health after each result, `+` passed and `-` failed.
    fn course(begin: Health, results: &str, check: &HealthCheck) -> Vec<Health> {
        let mut standing = Standing::new(begin);
        let judged = results.chars().map(|result| {
            let before = standing.health;
            let changed = standing.judge(result == '+', check);
            assert_eq!(changed, before != standing.health);
            standing.health
        });
        judged.collect()
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let check = check(2, 3);
        let table = [
            (
                Healthy,
                "--+--+---",
                vec![Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy],
            ),
            (Unhealthy, "+-+-++", vec![Unhealthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Healthy]),
            (Healthy, "---++", vec![Healthy, Healthy, Unhealthy, Unhealthy, Healthy]),
        ];
        for (begin, results, expected) in table {
            assert_eq!(course(begin, results, &check), expected, "{results}");
        }
    }

    #[test]
    fn the_first_check_decides_alone() {
        let check = check(100, 100);
        for begin in [Assumed, Awaited] {
            assert_eq!(course(begin, "+-", &check), [Healthy, Healthy]);
            assert_eq!(course(begin, "-+", &check), [Unhealthy, Unhealthy]);
        }
    }

    #[test]
    fn a_threshold_of_one_decides_at_once() {
        assert_eq!(course(Healthy, "-+-", &check(1, 1)), [Unhealthy, Healthy, Unhealthy]);
    }
}
