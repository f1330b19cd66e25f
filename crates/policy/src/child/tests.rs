use super::*;
use crate::{Evaluated, Measured, Report, TestRun};

fn set(text: &str) -> PolicySet {
    let sources =
        vec![Source::new("p.rego", text.as_bytes()), Source::new("d.json", b"{\"a\": 1}".as_slice())];
    PolicySet::new(
        sources,
        "data.p.allow",
        Limits { time_budget: Duration::from_secs(7), ..Limits::default() },
    )
}

const GOOD: &str = "package p\ndefault allow := false\nallow if input.request.method == \"GET\"\n";

fn child(request: &[u8]) -> (i32, Vec<u8>) {
    let mut output = Vec::new();
    (run_child(request, &mut output), output)
}

#[test]
fn a_request_holds_the_very_set() {
    let set = set(GOOD);
    let decoded = Request::decode(&Request::encode(&set, &Task::Check)).unwrap();
    assert_eq!(decoded, (set.clone(), Task::Check));
    assert_eq!(decoded.0.digest(), set.digest());
    for shape in crate::InputShape::ALL {
        let set = set.clone().with_input(shape);
        assert_eq!(Request::decode(&Request::encode(&set, &Task::Check)).unwrap().0, set);
    }
}

#[test]
fn an_accepted_set_comes_back_with_its_report() {
    let set = set(GOOD);
    let (exit, output) = child(&Request::encode(&set, &Task::Check));
    assert_eq!(exit, 0);
    let report = parse_reply::<Report>(&output).unwrap().into_answer(&set).unwrap();
    assert_eq!(report, check(&set).unwrap());
    assert_eq!(report.reads, ["request.method"]);
}

#[test]
fn a_refused_set_comes_back_with_its_problems() {
    let set = set("package p\nallow := nope(1)\n");
    let (exit, output) = child(&Request::encode(&set, &Task::Check));
    assert_eq!(exit, 1);
    let refused = parse_reply::<Report>(&output).unwrap().into_answer(&set).unwrap_err();
    let ReplyError::Refused(errors) = refused else { panic!("{refused}") };
    assert_eq!(errors, check(&set).unwrap_err());
}

#[test]
fn a_reply_about_other_bytes_is_not_accepted() {
    let checked = set(GOOD);
    let (_, output) = child(&Request::encode(&checked, &Task::Check));
    let reply = parse_reply::<Report>(&output).unwrap();
    for other in [
        set(&GOOD.replace("GET", "PUT")),
        PolicySet::new(checked.sources().to_vec(), "data.p.other", *checked.limits()),
        PolicySet::new(checked.sources().to_vec(), checked.rule(), Limits::default()),
        PolicySet::new(checked.sources()[..1].to_vec(), checked.rule(), *checked.limits()),
        checked.clone().with_input(crate::InputShape::Kong),
    ] {
        assert_eq!(reply.clone().into_answer(&other), Err(ReplyError::Digest));
    }
}

#[test]
fn broken_requests_and_replies_are_errors() {
    let whole = Request::encode(&set(GOOD), &Task::Check);
    for length in 0..whole.len() {
        assert!(Request::decode(&whole[..length]).is_err(), "{length}");
    }
    assert!(Request::decode(&[&whole[..], b"x"].concat()).is_err());
    assert!(Request::decode(b"rwpolic2").is_err());
    let mut endless = whole.clone();
    endless[8..16].fill(0xff);
    endless[40..48].fill(0xff);
    assert!(Request::decode(&endless).is_err());
    assert_eq!(child(b"").0, EXIT_BROKEN);
    assert_eq!(child(&whole[..whole.len() - 1]).0, EXIT_BROKEN);
    let (_, output) = child(&whole);
    for length in 0..output.len() {
        assert!(
            matches!(parse_reply::<Report>(&output[..length]), Err(ReplyError::Unreadable(_))),
            "{length}"
        );
    }
}

#[test]
fn a_reply_that_cannot_be_written_is_an_error() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(run_child(Request::encode(&set(GOOD), &Task::Check).as_slice(), Closed), EXIT_BROKEN);
}

#[test]
fn each_task_has_its_answer() {
    let set = set(GOOD);
    let input = crate::complete_input(
        crate::InputShape::Native,
        &serde_json::json!({ "request": { "method": "GET" } }),
    )
    .unwrap();
    let answer = |task: Task| {
        let (exit, output) = child(&Request::encode(&set, &task));
        assert_eq!(exit, 0);
        output
    };
    let tested = answer(Task::Test(TestOptions { coverage: true, ..TestOptions::default() }));
    let tested: TestRun = parse_reply(&tested).unwrap().into_answer(&set).unwrap();
    assert!(tested.report.tests.is_empty() && tested.coverage.is_some());
    let evaluated = answer(Task::Evaluate(Evaluation { input: input.clone(), explain: true }));
    let evaluated: Evaluated = parse_reply(&evaluated).unwrap().into_answer(&set).unwrap();
    assert_eq!(evaluated.decision, "allowed");
    let measured = answer(Task::Measure(Measurement { input, duration: Duration::ZERO }));
    let measured: Measured = parse_reply(&measured).unwrap().into_answer(&set).unwrap();
    assert!(measured.fastest_ns <= measured.median_ns && measured.median_ns <= measured.slowest_ns);
    // An answer of another task is none.
    let output = answer(Task::Check);
    assert!(matches!(parse_reply::<Measured>(&output), Err(ReplyError::Unreadable(_))));
}
