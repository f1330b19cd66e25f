use super::*;
use crate::input::sample;

fn parsed(body: &str) -> Result<Value, DecisionError> {
    parse(&BodyView { bytes: body.as_bytes(), truncated: false })
}

#[track_caller]
fn gives(body: &str, expected: &str) {
    assert_eq!(parsed(body), Ok(Value::from_json_str(expected).unwrap()), "{body}");
}

#[track_caller]
fn is_refused(body: &str, why: &str) {
    match parsed(body) {
        Err(DecisionError::Body(reason)) => assert!(reason.contains(why), "{body}: {reason}"),
        other => panic!("{body}: {other:?}"),
    }
}

/// What a policy sees of this body, with these fields in the head.
fn seen(headers: &[(&str, &str)], body: Option<BodyView<'_>>) -> Result<Value, DecisionError> {
    let headers = headers.to_vec();
    struct Fields<'a>(Vec<(&'a str, &'a str)>);
    impl crate::HeaderSource for Fields<'_> {
        fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
            self.0.as_slice().for_each(each);
        }
    }
    let view = RequestView { headers: &Fields(headers), body, ..sample::request() };
    BodyBuilder::new(BodyParts::ALL).build(&view)
}

fn whole(bytes: &[u8]) -> Option<BodyView<'_>> {
    Some(BodyView { bytes, truncated: false })
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn json_is_read_as_it_is() {
    gives(r#" {"a": [1, -2.5, true, null, "x\u00e9"]} "#, r#"{"a": [1, -2.5, true, null, "xé"]}"#);
    gives("18446744073709551615", "18446744073709551615");
    gives("-9223372036854775808", "-9223372036854775808");
    gives("[0, 0.0, -0, 1e3, 1.0]", "[0, 0, 0, 1000, 1]");
    gives(r#""123456789012345678901234567890 \" 1e999""#, r#""123456789012345678901234567890 \" 1e999""#);
    assert_eq!(parsed(""), Ok(Value::Undefined));
}

#[test]
fn what_two_readers_could_take_for_two_values_is_refused() {
    is_refused(r#"{"a": 1, "a": 2}"#, "line 1 column 12");
    is_refused(r#"{"x": {"a": 1, "\u0061": 2}}"#, "a key occurs twice");
    for number in [
        "9007199254740993.0",
        "0.12345678901234567",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "1e400",
        "1e30",
        "1e-400",
        "1.5e-320",
    ] {
        for body in [number.to_owned(), format!("{{\"a\":[1,{number}]}}"), format!("[\"\\\\\",{number}]")] {
            is_refused(&body, "");
        }
    }
    for malformed in
        ["{\"a\": 1,}", "{} {}", "\u{feff}{}", "[1", "{'a': 1}", "NaN", "[01]", " ", "\"\\ud800\""]
    {
        is_refused(malformed, "malformed");
    }
}

/// It goes into the log.
#[test]
fn a_refusal_says_nothing_of_the_body() {
    for body in [r#"{"secret": 1, "secret": 2}"#, "{\"secret\" 1}", "[1.23456789012345678]", "[1e30]"] {
        let Err(error) = parsed(body) else { panic!("{body}") };
        let error = error.to_string();
        assert!(!error.contains("secret") && !error.contains("1.2") && !error.contains("000"), "{error}");
    }
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parsed(&nested(BOUNDS.depth_max)).is_ok());
    is_refused(&nested(BOUNDS.depth_max + 1), "nested too deep");
    is_refused(&nested(100_000), "nested too deep");
    let list = |values: usize| format!("[{}]", vec!["0"; values - 1].join(","));
    assert!(parsed(&list(BOUNDS.values_max)).is_ok());
    is_refused(&list(BOUNDS.values_max + 1), "too many values");
}

#[test]
fn only_one_plain_type_of_json_is_json() {
    let body = whole(br#"{"a":1}"#);
    let is_json = |headers: &[(&str, &str)]| {
        let body = seen(headers, body).unwrap();
        documents::at(&body, &["json", "a"]).is_some()
    };
    for good in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"; v=1",
        "application/merge-patch+json",
        "application/vnd.api+json",
    ] {
        assert!(is_json(&[("content-type", good)]), "{good}");
    }
    for other in [
        "",
        "json",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-json",
        "application/json, text/plain",
        "text/plain, application/vnd.api+json",
        "application/json; charset=utf-16",
        "application/json; Charset=UTF-7",
    ] {
        assert!(!is_json(&[("content-type", other)]), "{other}");
    }
    assert!(!is_json(&[]));
    assert!(!is_json(&[JSON, JSON]) && !is_json(&[("content-type", "text/plain"), JSON]));
    assert!(is_json(&[JSON, ("content-encoding", "identity")]));
    for coding in ["gzip", "identity, gzip", "x"] {
        assert!(!is_json(&[JSON, ("content-encoding", coding)]), "{coding}");
    }
    assert!(!is_json(&[JSON, ("content-encoding", ""), ("content-encoding", "gzip")]));
}

#[test]
fn a_part_is_no_json_and_shows_what_there_is() {
    let expected = |text: &str, size: usize, truncated: bool| {
        let fields = [("size", Value::from(size)), ("text", text.into()), ("truncated", truncated.into())];
        Ok(crate::input::values::object(fields))
    };
    let part = Some(BodyView { bytes: br#"{"a":1}"#, truncated: true });
    assert_eq!(seen(&[JSON], part), expected(r#"{"a":1}"#, 7, true));
    assert_eq!(seen(&[JSON], whole(b"")), expected("", 0, false));
    assert_eq!(seen(&[], whole(b"a\xffb")), expected("a\u{fffd}b", 3, false));
    // Malformed, but nobody says that it is JSON.
    assert_eq!(seen(&[], whole(b"{")), expected("{", 1, false));
    assert!(matches!(seen(&[JSON], whole(b"{")), Err(DecisionError::Body(_))));
}

#[test]
fn a_body_that_nobody_has_read_is_not_taken_for_an_empty_one() {
    assert!(matches!(seen(&[], None), Err(DecisionError::Evaluation(_))));
}

#[test]
fn what_is_not_read_is_not_built() {
    let parts = |paths: &[&str]| BodyParts::of(&Reads::from_dotted(paths));
    let build = |paths: &[&str], bytes: &[u8]| {
        let view = RequestView { body: whole(bytes), ..sample::request() };
        BodyBuilder::new(parts(paths)).build(&view)
    };
    assert_eq!(build(&["request.path"], b"{"), Ok(Value::Undefined));
    let size = build(&["request.body.size"], b"{").unwrap();
    assert!(documents::at(&size, &["text"]).is_none(), "{size}");
    assert!(build(&["request.body.text"], b"{").is_ok());
    assert!(build(&["request.body.json.a"], b"{").is_err());
    assert!(build(&["request"], b"{").is_err());
    let named = |paths: &[&str]| (parts(paths).any(), Reads::from_dotted(paths).names(&["request", "body"]));
    assert_eq!(named(&["request"]), (true, false));
    assert_eq!(named(&["request", "request.body.size"]), (true, true));
    assert_eq!(named(&["request.bodyguard"]), (false, false));
}
