//! Numbers that differ from one time to the next: think times, sizes of bodies, requests per connection.

use std::fmt;

use fastrand::Rng;

/// How a number is drawn. All bounds are finite and not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// Always this one.
    Always(f64),
    /// Each from the first to the second is as likely as any other.
    Between(f64, f64),
    /// Exponential with this mean, as the times between independent events are; [`MEANS_MAX`] means at the most.
    Mean(f64),
}

impl Distribution {
    /// Draws a number.
    pub(crate) fn draw(self, random: &mut Rng) -> f64 {
        match self {
            Distribution::Always(value) => value,
            Distribution::Between(least, most) => least + (most - least) * random.f64(),
            // Inversion; `1 - f64()` is never 0.
            Distribution::Mean(mean) => mean * (-(1.0 - random.f64()).ln()).min(MEANS_MAX),
        }
    }

    /// Draws a whole number, at least `least`.
    pub(crate) fn draw_count(self, random: &mut Rng, least: u64) -> u64 {
        let drawn = match self {
            // Both ends are as likely as any other number.
            Distribution::Between(least, most) => {
                return random.u64(least as u64..=most as u64);
            }
            other => other.draw(random),
        };
        (drawn.round() as u64).max(least)
    }

    /// The least and the largest number that can be drawn.
    pub(crate) fn ends(self) -> (f64, f64) {
        match self {
            Distribution::Always(value) => (value, value),
            Distribution::Between(least, most) => (least, most),
            Distribution::Mean(mean) => (0.0, mean * MEANS_MAX),
        }
    }

    /// Whether it is always this number.
    pub(crate) fn is_always(self, value: f64) -> bool {
        self == Distribution::Always(value)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Always(value) => write!(f, "{value}"),
            Distribution::Between(least, most) => write!(f, "{least} to {most}"),
            Distribution::Mean(mean) => write!(f, "{mean} on average"),
        }
    }
}

/// So that no single time is endless: one of 22,000 is cut.
const MEANS_MAX: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_lie_in_their_bounds_and_around_their_mean() {
        let mut random = Rng::with_seed(7);
        for (distribution, least, most, mean) in [
            (Distribution::Always(5.0), 5.0, 5.0, 5.0),
            (Distribution::Between(2.0, 4.0), 2.0, 4.0, 3.0),
            (Distribution::Mean(3.0), 0.0, 30.0, 3.0),
        ] {
            let drawn: Vec<f64> = (0..100_000).map(|_| distribution.draw(&mut random)).collect();
            assert!(drawn.iter().all(|value| (least..=most).contains(value)), "{distribution}");
            let average = drawn.iter().sum::<f64>() / drawn.len() as f64;
            assert_eq!(distribution.ends(), (least, most));
            assert!((average - mean).abs() < mean * 0.02, "{distribution}: {average}");
        }
    }

    #[test]
    fn counts_take_both_ends() {
        let mut random = Rng::with_seed(7);
        let mut seen = [0; 4];
        for _ in 0..1000 {
            seen[Distribution::Between(1.0, 3.0).draw_count(&mut random, 1) as usize] += 1;
        }
        assert!(seen[0] == 0 && seen[1..].iter().all(|count| *count > 250), "{seen:?}");
        assert!((0..1000).all(|_| Distribution::Mean(0.1).draw_count(&mut random, 1) >= 1));
    }
}
