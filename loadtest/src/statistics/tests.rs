use super::*;

impl Random {
    /// Between 0 and 1, neither of them.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller 1958.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn assert_near(seen: f64, wanted: f64, tolerance: f64) {
    assert!((seen - wanted).abs() <= tolerance, "{seen} where {wanted} was expected");
}

/// In how many of so many repetitions the interval has the truth in it, in percent.
fn covered(truth: f64, repetitions: usize, mut estimate: impl FnMut(&mut Random) -> Estimate) -> f64 {
    let mut random = Random(7);
    let is_covered = |estimate: Estimate| estimate.low <= truth && truth <= estimate.high;
    let covered = (0..repetitions).filter(|_| is_covered(estimate(&mut random))).count();
    covered as f64 * 100.0 / repetitions as f64
}

/// From printed tables.
#[test]
fn quantiles_of_students_t_are_known() {
    for (share, freedom, wanted) in [
        (0.975, 1.0, 12.7062),
        (0.975, 2.0, 4.302_65),
        (0.975, 5.0, 2.570_58),
        (0.975, 10.0, 2.228_14),
        (0.975, 30.0, 2.042_27),
        (0.975, 120.0, 1.979_93),
        (0.975, 1e6, 1.959_97),
        (0.95, 4.0, 2.131_85),
        (0.5, 3.0, 0.0),
    ] {
        assert_near(t_quantile(share, freedom), wanted, 5e-5);
    }
}

#[test]
fn the_gamma_function_is_known() {
    for (x, wanted) in [(0.5, std::f64::consts::PI.sqrt()), (1.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
        assert_near(ln_gamma(x).exp() / wanted, 1.0, 1e-12);
    }
}

/// Of the median of ten, the second and the ninth (tables of the sign test); of others by adding up.
#[test]
fn ranks_are_those_of_the_tables() {
    for (count, quantile, wanted) in [
        (10, 0.5, (Some(2), Some(9))),
        (20, 0.5, (Some(6), Some(15))),
        (5, 0.5, (None, None)),
        (6, 0.5, (Some(1), Some(6))),
        (100, 0.5, (Some(40), Some(61))),
        (100, 0.99, (Some(97), None)),
        (100, 0.01, (None, Some(4))),
        (1, 0.999, (Some(1), None)),
    ] {
        assert_eq!(rank_interval(count, quantile), wanted, "{count} {quantile}");
    }
    // Where the normal distribution takes over, it goes on as it was.
    let (low, high) = rank_interval(402, 0.5);
    let (exact_low, exact_high) = rank_interval(398, 0.5);
    assert!(low.unwrap().abs_diff(exact_low.unwrap() + 2) <= 1, "{low:?} {exact_low:?}");
    assert!(high.unwrap().abs_diff(exact_high.unwrap() + 2) <= 1, "{high:?} {exact_high:?}");
    for count in 400..3000 {
        for quantile in [0.5, 0.9, 0.95] {
            let (low, high) = rank_interval(count, quantile);
            let rank = (count as f64 * quantile) as u64;
            assert!(low.unwrap() < rank && rank < high.unwrap(), "{count} {quantile}: {low:?} {high:?}");
        }
    }
    let (low, high) = rank_interval(1_000_000_000, 0.999);
    assert!(low.unwrap() < 999_000_000 && high.unwrap() > 999_000_000);
    assert!(high.unwrap() - low.unwrap() < 4100, "{low:?} {high:?}");
}

/// Welch 1947 by hand: means 3 and 6, variances 1 and 4 of the values, so 1/3 and 4/3 of the means, and 2.94 degrees of freedom.
#[test]
fn welchs_interval_is_known() {
    let estimate = of_runs(&[2.0, 3.0, 4.0], &[4.0, 6.0, 8.0], Comparing::Differences).unwrap();
    assert_near(estimate.value, 3.0, 1e-12);
    let freedom = (5.0f64 / 3.0).powi(2) / ((1.0f64 / 3.0).powi(2) / 2.0 + (4.0f64 / 3.0).powi(2) / 2.0);
    assert_near(freedom, 2.941, 0.001);
    assert_near(estimate.high - 3.0, t_quantile(0.975, freedom) * (5.0f64 / 3.0).sqrt(), 1e-9);
    assert_near(estimate.high + estimate.low, 6.0, 1e-9);
    assert_eq!(of_runs(&[1.0], &[1.0, 2.0], Comparing::Differences), None);
    assert_eq!(of_runs(&[1.0, 0.0], &[1.0, 2.0], Comparing::Ratios), None);
    let same = of_runs(&[2.0, 2.0], &[2.0, 2.0], Comparing::Ratios).unwrap();
    assert_eq!((same.low, same.high), (0.0, 0.0));
}

/// Runs whose means differ from run to run by 5 %.
#[test]
fn several_runs_cover_the_truth() {
    for count in [2, 3, 10] {
        let covered = covered(1.1f64.ln(), 2000, |random| {
            let mut runs =
                |mean: f64| (0..count).map(|_| mean * (0.05 * random.normal()).exp()).collect::<Vec<_>>();
            let before = runs(100.0);
            of_runs(&before, &runs(110.0), Comparing::Ratios).unwrap()
        });
        // Welch's is known to be a little too wide where there are few.
        assert!((93.0..=99.5).contains(&covered), "{count}: {covered}");
    }
}

/// Seconds that have nothing to do with each other, and such that are like those before them (of first order, 0.5).
#[test]
fn seconds_cover_the_truth() {
    for (memory, seconds) in [(0.0, 10), (0.0, 30), (0.0, 60), (0.5, 60), (0.5, 120)] {
        let covered = covered(0.8f64.ln(), 500, |random| {
            let mut run = |mean: f64| {
                let mut state = random.normal() / f64::sqrt(1.0 - memory * memory);
                (0..seconds)
                    .map(|_| {
                        state = memory * state + random.normal();
                        (mean * (1.0 + 0.05 * state), 1.0)
                    })
                    .collect::<Seconds>()
            };
            let before = run(1000.0);
            of_series_resampled(&before, &run(800.0), Comparing::Ratios, 200).unwrap()
        });
        // A variance of dependent seconds is found too small in short runs.
        let least = if memory > 0.0 { 89.0 } else { 92.0 };
        assert!((least..=98.0).contains(&covered), "{memory} {seconds}: {covered}");
    }
}

/// Independent times of an exponential distribution, 20 % longer afterwards.
#[test]
fn quantiles_cover_the_truth() {
    for (count, quantile) in [(200, 0.5), (2000, 0.9), (2000, 0.99), (4000, 0.999)] {
        let mut random = Random(11);
        let mut covered = 0;
        for _ in 0..300 {
            let mut run = |mean: f64| {
                let mut times: Vec<f64> = (0..count).map(|_| -mean * random.uniform().ln()).collect();
                times.sort_by(f64::total_cmp);
                times
            };
            let (before, after) = (run(100.0), run(120.0));
            let estimate = of_quantiles(
                quantile,
                (count, &|rank| before[rank as usize - 1]),
                (count, &|rank| after[rank as usize - 1]),
            );
            let Estimate { low, high, .. } = estimate.unwrap();
            covered += usize::from((low..=high).contains(&1.2f64.ln()));
        }
        // Of 300, of which 285 are wanted.
        assert!((276..=298).contains(&covered), "{count} {quantile}: {covered}");
    }
}

#[test]
fn what_cannot_be_told_is_not_told() {
    let run = |seconds| vec![(1.0, 1.0); seconds];
    assert_eq!(of_series(&run(9), &run(100), Comparing::Ratios), None);
    let same = of_series(&run(10), &run(10), Comparing::Ratios).unwrap();
    assert_eq!((same.low, same.value, same.high), (0.0, 0.0, 0.0));
    // Nothing was answered, and nothing was asked.
    for nothing in [vec![(0.0, 1.0); 20], vec![(0.0, 0.0); 20]] {
        assert_eq!(of_series(&nothing, &run(20), Comparing::Ratios), None);
    }
    let no_bound = of_quantiles(0.99, (50, &|rank| rank as f64), (50, &|rank| rank as f64)).unwrap();
    assert_eq!((no_bound.low, no_bound.high), (f64::NEG_INFINITY, f64::INFINITY));
    assert_eq!(of_quantiles(0.5, (0, &|_| 1.0), (1, &|_| 1.0)), None);
}

#[test]
fn the_outcome_is_always_the_same() {
    let mut random = Random(3);
    let mut run = || (0..50).map(|_| (random.uniform(), 1.0)).collect::<Seconds>();
    let (before, after) = (run(), run());
    let estimate = of_series(&before, &after, Comparing::Ratios);
    assert_eq!(estimate, of_series(&before, &after, Comparing::Ratios));
}
