//! What is known of an endpoint, and which endpoints take requests because of it.
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

/// Which endpoints of a cluster take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those that are fit.
    Fit,
    /// All, since too few are fit.
    All,
    /// None: none is fit, and that is to be borne.
    None,
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

impl Choice {
    /// Of a cluster with endpoints of this health. One that is awaited says nothing about the others, so that adding many
    /// endpoints to a few makes no panic.
    pub(crate) fn of(endpoints: impl Iterator<Item = Health>, panic_threshold: u32) -> Choice {
        let (mut known, mut fit) = (0_u64, 0_u64);
        for health in endpoints.filter(|health| *health != Health::Awaited) {
            known += 1;
            fit += u64::from(health.is_fit());
        }
        match fit {
            _ if known == 0 || fit * 100 < u64::from(panic_threshold) * known => Choice::All,
            0 => Choice::None,
            _ => Choice::Fit,
        }
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

    #[test]
    fn too_few_fit_endpoints_are_a_panic() {
        let table: [(&[Health], u32, Choice); 14] = [
            (&[Healthy, Healthy], 50, Choice::Fit),
            (&[Healthy, Unhealthy], 50, Choice::Fit),
            (&[Healthy, Unhealthy], 51, Choice::All),
            (&[Healthy, Unhealthy, Unhealthy], 50, Choice::All),
            (&[Unhealthy], 1, Choice::All),
            (&[Unhealthy, Unhealthy], 0, Choice::None),
            (&[Healthy, Unhealthy, Unhealthy, Unhealthy], 0, Choice::Fit),
            (&[Assumed, Unhealthy], 50, Choice::Fit),
            (&[Assumed, Unhealthy, Unhealthy], 50, Choice::All),
            (&[Healthy, Awaited, Awaited, Awaited], 50, Choice::Fit),
            (&[Unhealthy, Awaited], 0, Choice::None),
            (&[Unhealthy, Awaited], 50, Choice::All),
            // Those that it was to wait for are gone.
            (&[Awaited], 0, Choice::All),
            (&[Healthy, Unhealthy], 100, Choice::All),
        ];
        for (endpoints, threshold, choice) in table {
            assert_eq!(Choice::of(endpoints.iter().copied(), threshold), choice, "{endpoints:?} {threshold}");
        }
    }
}
