use super::*;

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
    let decoded = CheckRequest::decode(&CheckRequest::encode(&set)).unwrap();
    assert_eq!(decoded, set);
    assert_eq!(decoded.digest(), set.digest());
}

#[test]
fn an_accepted_set_comes_back_with_its_report() {
    let set = set(GOOD);
    let (exit, output) = child(&CheckRequest::encode(&set));
    assert_eq!(exit, 0);
    let report = parse_report(&output).unwrap().into_report(&set).unwrap();
    assert_eq!(report, check(&set).unwrap());
    assert_eq!(report.reads, ["request.method"]);
}

#[test]
fn a_refused_set_comes_back_with_its_problems() {
    let set = set("package p\nallow := nope(1)\n");
    let (exit, output) = child(&CheckRequest::encode(&set));
    assert_eq!(exit, 1);
    let refused = parse_report(&output).unwrap().into_report(&set).unwrap_err();
    let ReplyError::Refused(errors) = refused else { panic!("{refused}") };
    assert_eq!(errors, check(&set).unwrap_err());
}

#[test]
fn a_reply_about_other_bytes_is_not_accepted() {
    let checked = set(GOOD);
    let (_, output) = child(&CheckRequest::encode(&checked));
    let reply = parse_report(&output).unwrap();
    for other in [
        set(&GOOD.replace("GET", "PUT")),
        PolicySet::new(checked.sources().to_vec(), "data.p.other", *checked.limits()),
        PolicySet::new(checked.sources().to_vec(), checked.rule(), Limits::default()),
        PolicySet::new(checked.sources()[..1].to_vec(), checked.rule(), *checked.limits()),
    ] {
        assert_eq!(reply.clone().into_report(&other), Err(ReplyError::Digest));
    }
}

#[test]
fn broken_requests_and_replies_are_errors() {
    let whole = CheckRequest::encode(&set(GOOD));
    for length in 0..whole.len() {
        assert!(CheckRequest::decode(&whole[..length]).is_err(), "{length}");
    }
    assert!(CheckRequest::decode(&[&whole[..], b"x"].concat()).is_err());
    assert!(CheckRequest::decode(b"rwpolic2").is_err());
    let mut endless = whole.clone();
    endless[8..16].fill(0xff);
    endless[40..48].fill(0xff);
    assert!(CheckRequest::decode(&endless).is_err());
    assert_eq!(child(b"").0, EXIT_BROKEN);
    assert_eq!(child(&whole[..whole.len() - 1]).0, EXIT_BROKEN);
    let (_, output) = child(&whole);
    for length in 0..output.len() {
        assert!(matches!(parse_report(&output[..length]), Err(ReplyError::Unreadable(_))), "{length}");
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
    assert_eq!(run_child(CheckRequest::encode(&set(GOOD)).as_slice(), Closed), EXIT_BROKEN);
}
