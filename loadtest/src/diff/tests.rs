use super::*;
use crate::report::tests::{synthetic_seconds, with_failures};

const BEGIN: u64 = 1_800_000_000;

/// A run in which each second has about so many right answers.
fn run(right: u64) -> (PathBuf, Report) {
    let seconds: Vec<_> = (0..30).map(|second| right + second * 7 % 5).collect();
    ("a.json".into(), synthetic_seconds("a", BEGIN, &seconds))
}

/// The same with all times and CPU times so much longer.
fn slower((file, mut report): (PathBuf, Report), factor: f64) -> (PathBuf, Report) {
    for times in report.histograms.values_mut() {
        let mut longer = crate::times::Times::new();
        for rank in 1..=times.count() {
            longer.add(std::time::Duration::from_secs_f64(times.ranked_us(rank) * factor / 1e6));
        }
        *times = longer;
    }
    report.targets[0].used.cpu_seconds *= factor;
    report.targets[0].series.iter_mut().for_each(|sample| sample.cpu *= factor);
    report.sum_up();
    (file, report)
}

fn verdicts(comparison: &Comparison) -> Vec<(&str, Verdict)> {
    comparison.quantities.iter().map(|quantity| (&*quantity.name, quantity.verdict)).collect()
}

#[test]
fn a_run_is_as_fast_as_itself() {
    let comparison = Comparison::new(&[run(100)], &[run(100)]);
    let names: Vec<_> = verdicts(&comparison).iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "throughput",
            "target CPU per answer",
            "failures",
            "exchange p50",
            "exchange p90",
            "exchange p99",
            "exchange p99.9"
        ]
    );
    assert!(
        comparison
            .quantities
            .iter()
            .all(|quantity| quantity.verdict == Verdict::Same && quantity.difference == Some(0.0)),
        "{comparison:?}"
    );
    assert!(comparison.worse_than(0.0).is_empty());
}

#[test]
fn what_is_slower_is_called_so() {
    let (before, after) = (run(100), slower(run(50), 1.5));
    let comparison = Comparison::new(std::slice::from_ref(&before), std::slice::from_ref(&after));
    for (name, verdict) in verdicts(&comparison) {
        let wanted = if name == "failures" { Verdict::Same } else { Verdict::Slower };
        // So few have no upper bound of p99.9 that could be told.
        assert!(verdict == wanted || name == "exchange p99.9", "{name}: {verdict:?}");
    }
    let throughput = &comparison.quantities[0];
    let [low, high] = throughput.interval.unwrap().map(Option::unwrap);
    assert!(low < -49.0 && high > -50.5 && high - low < 3.0, "{throughput:?}");
    // Of as many times the same quantiles are half as long again.
    let as_many = Comparison::new(std::slice::from_ref(&before), &[slower(run(100), 1.5)]);
    for quantity in as_many.quantities.iter().filter(|quantity| quantity.name.starts_with("exchange")) {
        assert!((quantity.difference.unwrap() - 50.0).abs() < 0.3, "{quantity:?}");
    }
    let text = comparison.to_text();
    assert!(text.contains("One run each") && text.contains("slower"), "{text}");

    let back = Comparison::new(&[after], &[before]);
    assert!(verdicts(&back)[0] == ("throughput", Verdict::Faster), "{back:?}");
    assert!(back.worse_than(0.0).is_empty());
    for (percent, wanted) in [(0.0, true), (40.0, true), (60.0, false)] {
        let worse = comparison.worse_than(percent);
        assert_eq!(worse.contains(&"throughput"), wanted, "{percent}: {worse:?}");
    }
    assert!(comparison.worse_than(400.0).is_empty());
}

#[test]
fn several_runs_are_compared_by_their_means() {
    let side = |rates: [u64; 3]| rates.map(run);
    let comparison = Comparison::new(&side([100, 104, 98]), &side([101, 97, 103]));
    assert_eq!(
        (comparison.method, verdicts(&comparison)[0]),
        (Method::Between, ("throughput", Verdict::Same))
    );
    let comparison = Comparison::new(&side([100, 104, 98]), &side([150, 151, 155]));
    assert_eq!(verdicts(&comparison)[0], ("throughput", Verdict::Faster));
    assert!(comparison.to_text().contains("means of 3 and 3 runs"), "{}", comparison.to_text());
}

/// They are told in points, since there are often none to begin with.
#[test]
fn failures_are_compared_by_their_share() {
    let failing = |count: u64| {
        let (file, report) = run(100);
        (file, with_failures(report, count, "x"))
    };
    for (before, after, verdict, is_worse) in [
        (0, 0, Verdict::Same, false),
        (0, 300, Verdict::More, true),
        (300, 0, Verdict::Fewer, false),
        (300, 303, Verdict::Same, false),
        (300, 360, Verdict::More, false),
        (300, 600, Verdict::More, true),
    ] {
        let comparison = Comparison::new(&[failing(before)], &[failing(after)]);
        let failures = &comparison.quantities[2];
        assert_eq!(
            (&*failures.name, failures.verdict),
            ("failures", verdict),
            "{before} {after}: {failures:?}"
        );
        assert_eq!(comparison.worse_than(50.0).contains(&"failures"), is_worse, "{before} {after}");
        assert_eq!(failures.difference_in, "points");
    }
}

#[test]
fn what_cannot_be_told_is_called_so() {
    let short = ("b.json".into(), synthetic_seconds("b", BEGIN, &[100; 5]));
    let comparison = Comparison::new(&[run(100)], &[short]);
    assert_eq!(verdicts(&comparison)[0], ("throughput", Verdict::Unknown));
    assert!(comparison.to_text().contains("fewer than 10 whole seconds"), "{}", comparison.to_text());
    // What one side has not is left out.
    let (file, mut report) = run(100);
    report.targets.clear();
    report.sum_up();
    let comparison = Comparison::new(&[run(100)], &[(file, report)]);
    assert!(verdicts(&comparison).iter().all(|(name, _)| !name.contains("CPU")), "{comparison:?}");
}

#[test]
fn plans_that_differ_are_told() {
    let (file, mut report) = run(100);
    report.plan.insert("path".to_owned(), "/other".to_owned());
    let comparison = Comparison::new(&[run(100)], &[(file, report)]);
    assert_eq!(comparison.plan_differences, ["path: / and /other"]);
    let json: serde_json::Value = serde_json::from_str(&comparison.to_json()).unwrap();
    assert_eq!(
        (&json["schema"], &json["quantities"][0]["verdict"]),
        (&1.into(), &"no difference seen".into())
    );
    assert_eq!(json["quantities"][0]["interval"].as_array().unwrap().len(), 2);
}

#[test]
fn one_is_not_compared_with_several() {
    let sides = |before: usize, after: usize| {
        let files = |count| vec![PathBuf::from("a.json"); count];
        let arguments = DiffArguments {
            reports: Vec::new(),
            before: files(before),
            after: files(after),
            fail_if_worse: None,
            json: false,
        };
        arguments
            .sides()
            .map(|(before, after)| (before.len(), after.len()))
            .map_err(|error| error.to_string())
    };
    assert_eq!(sides(1, 1), Ok((1, 1)));
    assert_eq!(sides(2, 5), Ok((2, 5)));
    assert!(sides(1, 2).unwrap_err().contains("--before has 1 reports and --after 2"));
}

/// Also where a run is too short for an interval.
#[test]
fn wrong_answers_are_worse_however_short_the_run() {
    let short = || synthetic_seconds("a", BEGIN, &[10, 10]);
    let few = ("few.json".into(), with_failures(short(), 1, "broken"));
    let many = ("many.json".into(), with_failures(short(), 10, "broken"));
    let none = ("none.json".into(), short());
    let is_worse = |before: &(PathBuf, Report), after: &(PathBuf, Report), percent| {
        let comparison = Comparison::new(std::slice::from_ref(before), std::slice::from_ref(after));
        assert!(
            comparison
                .quantities
                .iter()
                .all(|quantity| quantity.interval.is_none() || quantity.name != "failures")
        );
        comparison.worse_than(percent) == ["failures"]
    };
    assert!(is_worse(&none, &few, 5.0) && is_worse(&few, &many, 5.0));
    assert!(!is_worse(&many, &few, 5.0) && !is_worse(&few, &few, 0.0) && !is_worse(&none, &none, 0.0));
    assert!(!is_worse(&few, &many, 1000.0), "it may rise so far");
}
