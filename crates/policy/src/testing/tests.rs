use super::*;
use crate::set::{Limits, Source};

const POLICY: &str = "package p

default decision := false

decision if {
	input.request.method == \"GET\"
	some name in input.client.san.dns
	name == \"b\"
}

decision if input.request.path == \"/never\"
";

fn run_of(tests: &str, options: &TestOptions) -> TestRun {
    let tests = format!("package p_test\n\nimport data.p\n\n{tests}");
    let sources =
        vec![Source::new("p.rego", POLICY.as_bytes()), Source::new("p_test.rego", tests.as_bytes())];
    run_tests(&PolicySet::new(sources, "data.p.decision", Limits::default()), options).unwrap()
}

const TESTS: &str = "test_b if p.decision with input as {\"request\": {\"method\": \"GET\"}, \"client\": {\"san\": {\"dns\": [\"b\"]}}}

test_fails if {
	print(\"before\", 1, [\"x\"])
	p.decision with input as {\"request\": {\"method\": \"PUT\"}}
	print(\"never\")
}

test_errs if count(to_number(\"x\")) == 1

todo_test_later if p.decision
";

#[test]
fn each_test_has_its_outcome_its_time_and_what_it_printed() {
    let run = run_of(TESTS, &TestOptions::default());
    let named = |name: &str| run.report.tests.iter().find(|test| test.name.ends_with(name)).unwrap();
    assert_eq!(named(".test_b").outcome, TestOutcome::Passed);
    assert_eq!(named(".test_fails").outcome, TestOutcome::Failed);
    assert!(
        matches!(&named(".test_errs").outcome, TestOutcome::Error(error) if error.contains("p_test.rego:13"))
    );
    assert_eq!(named(".todo_test_later").outcome, TestOutcome::Skipped);
    assert_eq!((run.report.passed(), run.report.failed().count()), (1, 2));
    assert_eq!(named(".test_fails").prints, ["p_test.rego:8: before 1 [\"x\"]"]);
    assert!(named(".test_b").took > Duration::ZERO && named(".test_b").prints.is_empty());
    assert_eq!(run.coverage, None);
    let failed = named(".test_fails").failed.as_ref().unwrap();
    let text = "p.decision with input as {\"request\": {\"method\": \"PUT\"}}";
    assert_eq!((failed.line, failed.text.as_str()), (9, text));
    assert!(named(".test_errs").failed.is_none() && named(".test_b").failed.is_none());
}

#[test]
fn tests_are_chosen_by_their_names() {
    let only = |run: &str| {
        let run = run_of(TESTS, &TestOptions { run: Some(run.to_owned()), ..TestOptions::default() });
        run.report.tests.into_iter().map(|test| test.name).collect::<Vec<_>>()
    };
    assert_eq!(only("fails|later"), ["data.p_test.test_fails", "data.p_test.todo_test_later"]);
    assert_eq!(only("^nothing"), [""; 0]);
    assert!(test_filter("(").unwrap_err().contains("is no regular expression"));
}

#[test]
fn a_test_that_takes_too_long_is_ended() {
    let options = TestOptions { time_budget: Duration::from_millis(1), ..TestOptions::default() };
    let run = run_of(
        "test_long if count([1 | some i in numbers.range(1, 3000); some j in numbers.range(1, 3000); i == j]) > 0\n",
        &options,
    );
    assert!(
        matches!(&run.report.tests[0].outcome, TestOutcome::Error(error) if error.contains("time budget"))
    );
}

#[test]
fn coverage_has_the_lines_that_tests_evaluate() {
    let options = TestOptions { coverage: true, ..TestOptions::default() };
    let covered = |tests: &str| {
        let coverage = run_of(tests, &options).coverage.unwrap();
        assert_eq!(coverage.files.len(), 1, "tests are not counted");
        (coverage.files[0].covered.clone(), coverage.files[0].not_covered.clone(), coverage)
    };
    let (lines, not, coverage) = covered(TESTS);
    assert_eq!((lines, not), (vec![3, 5, 6, 7, 8], vec![11]));
    assert_eq!(coverage.lines(), (5, 6));
    assert!(coverage.reaches(83) && !coverage.reaches(84));
    // The head only counts if its body held, here it ended at the first condition.
    let (lines, not, _) = covered(
        "test_put if not p.decision with input as {\"request\": {\"method\": \"PUT\", \"path\": \"/\"}}\n",
    );
    assert_eq!((lines, not), (vec![3, 6], vec![5, 7, 8, 11]));
    let (lines, _, coverage) = covered("test_nothing if true\n");
    assert_eq!(lines, [0; 0]);
    assert!(coverage.reaches(0) && !coverage.reaches(1));
}

#[test]
fn only_tests_may_print() {
    let policy = "package p\ndefault decision := false\ndecision if print(\"x\")\n";
    let set =
        PolicySet::new(vec![Source::new("p.rego", policy.as_bytes())], "data.p.decision", Limits::default());
    let errors = run_tests(&set, &TestOptions::default()).unwrap_err();
    assert!(errors.to_string().contains("function `print` is refused"), "{errors}");
}

#[test]
fn prints_are_bounded() {
    let long = "test_talks if {\n\tprint(concat(\"\", [\"x\" | some i in numbers.range(1, 5000)]))\n\tevery i in numbers.range(1, 500) { print(i) }\n}\n";
    let run = run_of(long, &TestOptions::default());
    let prints = &run.report.tests[0].prints;
    assert_eq!(prints.len(), PRINTS_MAX + 1);
    assert!(prints.iter().all(|print| print.chars().count() <= PRINT_CHARS_MAX + 1));
    assert_eq!(prints[PRINTS_MAX], "... and 451 more");
}

#[test]
fn a_failed_test_refuses_the_set_and_says_where() {
    let tests = "package p_test\n\nimport data.p\n\ntest_x if {\n\ttrue\n\tnot p.decision == false\n}\n";
    let sources =
        vec![Source::new("p.rego", POLICY.as_bytes()), Source::new("p_test.rego", tests.as_bytes())];
    let errors = crate::check(&PolicySet::new(sources, "data.p.decision", Limits::default())).unwrap_err();
    let expected = "p_test.rego:5:1: error: test `test_x` failed\n  help: `not p.decision == false` in line 7 does not hold";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn coverage_of_other_outcomes_is_not_given() {
    let tests = "package p_test\n\ntest_x if true\n";
    let sources =
        vec![Source::new("p.rego", POLICY.as_bytes()), Source::new("p_test.rego", tests.as_bytes())];
    let set = PolicySet::new(sources, "data.p.decision", Limits::default());
    let prepared = Prepared::of(&set).unwrap();
    let mut report = run(&prepared, &set, TIME_BUDGET);
    assert!(cover(&prepared, &set, &report, TIME_BUDGET).is_ok());
    report.tests[0].outcome = TestOutcome::Failed;
    let error = cover(&prepared, &set, &report, TIME_BUDGET).unwrap_err();
    assert!(error.contains("ends otherwise"), "{error}");
}

/// The report of a check has to fit into the reply of a child, whatever tests print.
#[test]
fn nothing_printed_is_in_the_report_of_a_check() {
    let tests = "package p_test\n\ntest_x if print(\"x\")\n";
    let sources =
        vec![Source::new("p.rego", POLICY.as_bytes()), Source::new("p_test.rego", tests.as_bytes())];
    let report = crate::check(&PolicySet::new(sources, "data.p.decision", Limits::default())).unwrap();
    assert_eq!((report.tests.passed(), report.tests.tests[0].prints.len()), (1, 0));
}
