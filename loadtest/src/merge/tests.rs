use super::*;
use crate::report::tests::{synthetic, synthetic_seconds, with_failures};

const BEGIN: u64 = 1_800_000_000;

fn merged(reports: &[&Report]) -> Report {
    merge(reports.iter().map(|report| (*report).clone()).collect(), false).unwrap()
}

/// A target of its own.
fn with_target(mut report: Report, boot: &str, pid: u32) -> Report {
    report.targets[0].boot = boot.to_owned();
    report.targets[0].pid = pid;
    report
}

#[test]
fn a_merged_report_is_that_of_one_run_with_all_requests() {
    let one = with_failures(synthetic("a", BEGIN, 1000), 20, "broken");
    let other = with_failures(synthetic("b", BEGIN, 2000), 10, "broken too");
    let mut sum = merged(&[&one, &other]);
    // Times are the same for each thousand.
    let mut union = with_failures(synthetic("a", BEGIN, 3000), 30, "broken");
    assert_eq!(sum.processes.len(), 2);
    assert_eq!((sum.connections, sum.connections_opened, sum.refused), (2, 2, Some(2)));
    assert_eq!((sum.clients[0].connections_opened, sum.clients[0].refused), (2, 2));
    assert_eq!(sum.clients[0].refusals["an alert"], 2);
    assert_eq!((sum.clients.len(), sum.requests.len(), sum.requests[0].right), (1, 1, sum.right));
    assert!(sum.series.iter().all(|sample| sample.open == 2 && (sample.load_cpu - 0.5).abs() < 1e-9));
    // What there is for each process and not for each request.
    sum.processes.truncate(1);
    for report in [&mut sum, &mut union] {
        report.connections = 1;
        report.connections_opened = 1;
        report.refused = Some(1);
        (report.clients[0].connections_opened, report.clients[0].refused) = (1, 1);
        report.clients[0].refusals.clear();
        for sample in &mut report.series {
            (sample.open, sample.opened, sample.load_cpu) = (0, 0, 0.0);
        }
    }
    assert_eq!(sum.to_json(), union.to_json());
}

#[test]
fn it_does_not_matter_which_are_merged_first() {
    let [a, b, c] = [("a", 0, 5), ("b", 3, 70), ("c", 1, 300)]
        .map(|(host, later, right)| synthetic(host, BEGIN + later, right));
    let at_once = merged(&[&a, &b, &c]).to_json();
    assert_eq!(merged(&[&merged(&[&a, &b]), &c]).to_json(), at_once);
    assert_eq!(merged(&[&c, &merged(&[&b, &a])]).to_json().len(), at_once.len());
}

#[test]
fn seconds_are_put_together_by_the_clock() {
    let one = synthetic_seconds("a", BEGIN, &[1, 2, 3]);
    let later = synthetic_seconds("b", BEGIN + 2, &[10, 20, 30]);
    let sum = merged(&[&one, &later]);
    let right: Vec<_> = sum.series.iter().map(|sample| (sample.unix - BEGIN, sample.right)).collect();
    assert_eq!(right, [(0, 1), (1, 2), (2, 13), (3, 20), (4, 30)]);
    assert_eq!((sum.seconds, sum.right, sum.per_second), (5.0, 66, Some(66.0 / 5.0)));
}

#[test]
fn a_target_that_two_have_looked_at_counts_once() {
    let (a, b) = (synthetic("a", BEGIN, 10), synthetic("b", BEGIN, 10));
    for (b, targets, cpu) in [
        (b.clone(), 1, 5.0),
        // The same id on another host, and another one on the same.
        (with_target(b.clone(), "other", 99), 2, 10.0),
        (with_target(b, "target", 100), 2, 10.0),
    ] {
        let sum = merged(&[&a, &b]);
        assert_eq!((sum.targets.len(), sum.server().unwrap().cpu_seconds), (targets, cpu));
        let per_right = sum.server().unwrap().cpu_us_per_right.unwrap();
        assert!((per_right - cpu * 1e6 / 200.0).abs() < 1e-6);
        let series = sum.target_series();
        assert!(series.values().all(|sample| (sample.cpu - cpu / 10.0).abs() < 1e-9), "{series:?}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let one = synthetic("a", BEGIN, 10);
    let mut another_path = synthetic("b", BEGIN, 10);
    another_path.plan.insert("path".to_owned(), "/other".to_owned());
    for (other, wanted, may_be_forced) in [
        (one.clone(), "process 7 on a is in two of them", false),
        (another_path, "path: / and /other", true),
        (
            synthetic("b", BEGIN + 10, 10),
            "did not run at the same time: one ended at 2027-01-15T08:00:10Z",
            true,
        ),
    ] {
        let error = merge(vec![one.clone(), other.clone()], false).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        let forced = merge(vec![one.clone(), other], true);
        assert_eq!(forced.is_ok(), may_be_forced, "{wanted}");
        if let Ok(forced) = forced {
            assert_eq!(forced.right, 200);
        }
    }
}

#[test]
fn what_differs_stands_side_by_side() {
    let one = synthetic("a", BEGIN, 10);
    let mut other = synthetic("b", BEGIN, 10);
    other.plan.insert("path".to_owned(), "/other".to_owned());
    other.tls = Some("TLSv1_2".to_owned());
    let sum = merge(vec![one, other.clone()], true).unwrap();
    assert_eq!((&*sum.plan["path"], &*sum.plan["mode"]), ("/ | /other", "keepalive"));
    assert_eq!(sum.tls.as_deref(), Some("TLSv1_3 | TLSv1_2"));
}
