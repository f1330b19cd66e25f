//! Intervals in which a difference lies with 95 % confidence, of what is known of two runs or of several.
//!
//! What they rest on, and what they cannot know:
//! - **Quantities per second** ([`of_series`]): a moving block bootstrap (Künsch 1989, "The jackknife and the bootstrap for general
//!   stationary observations") tells how much a run's ratio of two sums varies, though neighbouring seconds are alike. Blocks are
//!   2·n^(1/3) seconds long: of the order that Hall, Horowitz and Jing 1995 ("On blocking rules for the bootstrap with dependent
//!   data") find best for a variance, on the long side. The interval is Student's, with 1.5 times as many degrees of freedom as blocks
//!   fit in less one (Meketon and Schmeiser 1984, "Overlapping batch means: something for nothing?"). It takes the run to be
//!   stationary: a ramp is not, and adds its own rise to the variance, so that the interval is too wide. What varies more slowly than
//!   a run lasts, it cannot see.
//! - **Percentiles** ([`of_quantiles`]): between which ranks a quantile lies is binomial, whatever the distribution of times is (David
//!   and Nagaraja 2003, "Order Statistics", 7.1); the two intervals are made one for the ratio as Zou and Donner 2008
//!   ("Construction of confidence limits about effect measures") do. It takes the times to be independent. They are not, where
//!   a target stalls and many wait at once; then the interval is too narrow.
//! - **Several runs** ([`of_runs`]): Welch's t interval of the means of logarithms. It has in it what differs from run to run, which the
//!   others have not, and is the one to believe.

/// An estimate, and between what the truth lies with 95 % confidence; a side that is not bounded is infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A sum over something and what it is to be divided by, for each second.
pub(crate) type Seconds = Vec<(f64, f64)>;

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparing {
    /// By the logarithm of their ratio. They must be positive.
    Ratios,
    /// By their difference.
    Differences,
}

impl Comparing {
    /// The mean whose logarithm or value is compared.
    pub(crate) fn mean(self, values: &[f64]) -> f64 {
        match (self, values) {
            // As it is, to the last digit.
            (_, [value]) => *value,
            (Comparing::Ratios, _) => mean(&values.iter().map(|value| value.ln()).collect::<Vec<_>>()).exp(),
            (Comparing::Differences, _) => mean(values),
        }
    }

    fn scaled(self, value: f64) -> Option<f64> {
        let scaled = if self == Comparing::Ratios { value.ln() } else { value };
        scaled.is_finite().then_some(scaled)
    }
}

/// Compares two runs by ratios of sums over their seconds. `None` if one is too short for that, or has nothing to compare.
pub(crate) fn of_series(before: &Seconds, after: &Seconds, by: Comparing) -> Option<Estimate> {
    of_series_resampled(before, after, by, RESAMPLES)
}

fn of_series_resampled(
    before: &Seconds,
    after: &Seconds,
    by: Comparing,
    resamples: usize,
) -> Option<Estimate> {
    let [before, after] = [before, after].map(|seconds| {
        let n = seconds.len();
        if n < SECONDS_MIN {
            return None;
        }
        let block = ((2.0 * (n as f64).cbrt()).round() as usize).clamp(1, n / 3);
        let value = by.scaled(ratio(seconds)?)?;
        let variance = bootstrap_variance(seconds, block, by, resamples)?;
        // Overlapping blocks are alike by what they share.
        let variance = variance * n as f64 / (n - block) as f64;
        Some(Mean { value, variance, freedom: 1.5 * n as f64 / block as f64 - 1.0 })
    });
    Some(difference(before?, after?))
}

/// Compares two quantiles by the logarithm of their ratio. `times` has the time of each rank from 1 to `count`.
pub(crate) fn of_quantiles(
    quantile: f64,
    before: (u64, &dyn Fn(u64) -> f64),
    after: (u64, &dyn Fn(u64) -> f64),
) -> Option<Estimate> {
    let [before, after] = [before, after].map(|(count, times)| {
        if count == 0 {
            return None;
        }
        let log = |rank: u64| times(rank).max(TIME_MIN).ln();
        let (low, high) = rank_interval(count, quantile);
        let rank = ((quantile * count as f64).ceil() as u64).clamp(1, count);
        Some(Estimate {
            value: log(rank),
            low: low.map_or(f64::NEG_INFINITY, log),
            high: high.map_or(f64::INFINITY, log),
        })
    });
    let (before, after) = (before?, after?);
    let value = after.value - before.value;
    Some(Estimate {
        value,
        low: value - (after.value - after.low).hypot(before.high - before.value),
        high: value + (after.high - after.value).hypot(before.value - before.low),
    })
}

/// Compares several runs before with several after. `None` unless there are two of each, and all can be compared.
pub(crate) fn of_runs(before: &[f64], after: &[f64], by: Comparing) -> Option<Estimate> {
    let [before, after] = [before, after].map(|values| {
        let scaled = values.iter().map(|value| by.scaled(*value)).collect::<Option<Vec<_>>>()?;
        if scaled.len() < 2 {
            return None;
        }
        let n = scaled.len() as f64;
        Some(Mean { value: mean(&scaled), variance: variance(&scaled) / n, freedom: n - 1.0 })
    });
    Some(difference(before?, after?))
}

/// An estimate of a mean, and how sure it is.
#[derive(Clone, Copy, Debug)]
struct Mean {
    value: f64,
    /// Of the estimate.
    variance: f64,
    freedom: f64,
}

/// Welch's interval.
fn difference(before: Mean, after: Mean) -> Estimate {
    let value = after.value - before.value;
    let variance = before.variance + after.variance;
    if variance <= 0.0 {
        return Estimate { value, low: value, high: value };
    }
    let part = |mean: Mean| mean.variance * mean.variance / mean.freedom;
    let freedom = variance * variance / (part(before) + part(after));
    let half = t_quantile(0.975, freedom) * variance.sqrt();
    Estimate { value, low: value - half, high: value + half }
}

/// Of the two sums.
pub(crate) fn ratio<'a>(seconds: impl IntoIterator<Item = &'a (f64, f64)>) -> Option<f64> {
    let (above, below) =
        seconds.into_iter().fold((0.0, 0.0), |sums, second| (sums.0 + second.0, sums.1 + second.1));
    (below > 0.0).then(|| above / below)
}

/// How much the ratio varies among runs that are made of this one's blocks.
fn bootstrap_variance(seconds: &[(f64, f64)], block: usize, by: Comparing, resamples: usize) -> Option<f64> {
    let mut random = Random(SEED);
    let blocks = seconds.len().div_ceil(block);
    let mut ratios = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let begins = (0..blocks).map(|_| random.below(seconds.len() - block + 1));
        let resampled = begins.flat_map(|begin| &seconds[begin..begin + block]).take(seconds.len());
        ratios.push(by.scaled(ratio(resampled)?)?);
    }
    Some(variance(&ratios))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// Ranks between which a quantile lies with 95 % confidence. `None` where there are too few for a bound.
fn rank_interval(count: u64, quantile: f64) -> (Option<u64>, Option<u64>) {
    // How many of `count` are below the quantile is binomial. From the side on which fewer are.
    let (low, high) = match quantile >= 0.5 {
        true => {
            // The rank from above.
            let (low, high) = binomial_bounds(count, 1.0 - quantile);
            (high.and_then(|high| (count + 1).checked_sub(high)), low.map(|low| count + 1 - low))
        }
        false => binomial_bounds(count, quantile),
    };
    let in_range = |rank: u64| (1..=count).contains(&rank);
    (low.filter(|rank| in_range(*rank)), high.filter(|rank| in_range(*rank)))
}

/// The largest rank that is below with 2.5 % at the most, and the least that is above. `p` is a half at the most.
fn binomial_bounds(count: u64, p: f64) -> (Option<u64>, Option<u64>) {
    let n = count as f64;
    let variance = n * p * (1.0 - p);
    if variance > NORMAL_MIN {
        let half = 1.959_963_985 * variance.sqrt() + 0.5;
        return (Some((n * p - half).floor() as u64), Some((n * p + half).ceil() as u64 + 1));
    }
    // P(X < rank): by adding up P(X = 0), P(X = 1) …
    let mut each = (n * (-p).ln_1p()).exp();
    let (mut below, mut low, mut rank) = (0.0, None, 0);
    loop {
        // Now `below` is P(X < rank): the quantile is at this rank or above with at least 97.5 %.
        if below <= 0.025 && rank > 0 {
            low = Some(rank);
        }
        if below >= 0.975 {
            return (low, Some(rank));
        }
        if rank > count {
            return (low, None);
        }
        below += each;
        each *= (n - rank as f64) / (rank as f64 + 1.0) * p / (1.0 - p);
        rank += 1;
    }
}

/// Student's t distribution: below which value lies this share, a half or more.
fn t_quantile(share: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        let x = freedom / (freedom + middle * middle);
        let above = incomplete_beta(x, freedom / 2.0, 0.5) / 2.0;
        if 1.0 - above < share { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) as Lentz evaluates such.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // It converges fast on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away_from_0 = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away_from_0(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..TERMS_MAX {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / away_from_0(1.0 + term * d);
            c = away_from_0(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction / before - 1.0).abs() < 1e-14 {
            break;
        }
    }
    front * fraction
}

/// By Stirling's series (DLMF 5.11.1), from 10 on, where five of its terms are exact to 14 digits or so.
fn ln_gamma(x: f64) -> f64 {
    let mut shifted = x;
    let mut product = 1.0;
    while shifted < 10.0 {
        product *= shifted;
        shifted += 1.0;
    }
    let squared = shifted * shifted;
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let series = terms.iter().rev().fold(0.0, |sum, term| sum / squared + term) / shifted;
    (shifted - 0.5) * shifted.ln() - shifted + 0.5 * std::f64::consts::TAU.ln() + series - f64::ln(product)
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same numbers in every run, so that a report is compared with the same outcome.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        // The high half of the product; what is uneven about it is a 2^50th for the lengths of runs.
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// Seconds of a run below which its variance cannot be told.
pub(crate) const SECONDS_MIN: usize = 10;
const RESAMPLES: usize = 1000;
const SEED: u64 = 1;
/// In microseconds: below what is measured.
const TIME_MIN: f64 = 1e-3;
/// Of a binomial distribution: from this variance on it is as good as normal. Up to it, the chance of none at all is a number that a
/// double can be.
const NORMAL_MIN: f64 = 100.0;
/// More than a double has digits.
const BISECTIONS: usize = 80;
/// Hundreds suffice for all degrees of freedom that are met with.
const TERMS_MAX: i32 = 10_000;

#[cfg(test)]
mod tests;
