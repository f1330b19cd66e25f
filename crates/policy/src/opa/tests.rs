use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;
use crate::cache::{CacheOptions, CachingWorker, SubjectMark, Verdict};
use crate::input::sample;

fn worker() -> Box<dyn PolicyWorker> {
    OpaPolicy::new("data.ringward.authz.decision", InputShape::Native).worker()
}

fn answered(answer: &str) -> Result<Decision, DecisionError> {
    worker().read_answer(answer.as_bytes())
}

/// Why an answer is no decision of anybody.
#[track_caller]
fn not_understood(answer: &[u8]) -> String {
    match worker().read_answer(answer) {
        Err(DecisionError::Server(ServerError::NotJson(reason))) => reason,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(answer)),
    }
}

#[test]
fn the_question_is_the_whole_input() {
    let Reply::Pending(query) = worker().ask(&sample::subject(), &sample::request()).unwrap() else {
        panic!("it asks nobody");
    };
    let question: Json = serde_json::from_slice(&query.body).unwrap();
    let input = Builder::whole(InputShape::Native).build(&sample::subject(), &sample::request()).unwrap();
    assert_eq!(question, json!({ "input": serde_json::from_str::<Json>(&input.to_string()).unwrap() }));
    // What OPA decides by is there, credentials included.
    let headers = &question["input"]["request"]["headers"];
    assert_eq!(
        (&headers["authorization"], &headers["cookie"]),
        (&"Bearer sample".into(), &"session=sample".into())
    );
    assert_eq!(question["input"]["client"]["verified"], true);
}

/// The answers of OPA's documentation and of its server.
#[test]
fn results_are_read_as_those_of_rego_are() {
    let denied = Decision::default();
    let allowed = Decision { allowed: true, ..Decision::default() };
    let undefined = Decision { undefined: true, ..Decision::default() };
    for (answer, decision) in [
        (r#"{"result":true}"#, &allowed),
        (r#"{"result":false}"#, &denied),
        (r#"{"result": {"allowed": true}}"#, &allowed),
        ("{\"decision_id\":\"4ca636c1-55e4-417a-b1d8-4aceb67960d1\",\"result\":true}\n", &allowed),
        (r#"{"metrics":{"timer_rego_query_eval_ns":1.5e4},"result":false}"#, &denied),
        ("{}", &undefined),
        (r#"{"warning":{"code":"api_usage_warning","message":"'input' key missing"}}"#, &undefined),
        // An escape is another way to write the same key.
        (r#"{"\u0072esult":true}"#, &allowed),
        (r#"{"Result":true}"#, &undefined),
    ] {
        assert_eq!(answered(answer).as_ref(), Ok(decision), "{answer}");
    }
    let decision =
        answered(r#"{"result":{"allowed":false,"http_status":451,"rule":"r","headers":{"x-a":"1"}}}"#);
    let decision = decision.unwrap();
    assert_eq!((decision.status, decision.rule.as_deref()), (Some(451), Some("r")));
    for (answer, kind) in [
        (r#"{"result":null}"#, "wrong_type"),
        (r#"{"result":"true"}"#, "wrong_type"),
        (r#"{"result":1}"#, "wrong_type"),
        (r#"{"result":[true]}"#, "wrong_type"),
        (r#"{"result":{"allowed":"yes"}}"#, "invalid_result"),
        (r#"{"result":{"allowed":true,"allow":true}}"#, "invalid_result"),
        (r#"{"result":{"allowed":true,"headers":{"client-cert":"x"}}}"#, "invalid_result"),
        (r#"{"result":{"decision":true}}"#, "invalid_result"),
    ] {
        assert_eq!(answered(answer).map_err(|error| error.kind()), Err(kind), "{answer}");
    }
}

#[test]
fn what_is_not_one_object_is_no_answer() {
    for answer in [
        "",
        " ",
        "true",
        "null",
        "[]",
        "\"\"",
        "1",
        "{",
        r#"{"result":true"#,
        r#"{"result":true}}"#,
        r#"{"result":true}{"result":true}"#,
        r#"{"result":true},"#,
        r#"{"result":True}"#,
        r#"{'result':true}"#,
        r#"{"result":true,}"#,
        r#"{"result":tru"#,
        "\u{feff}{\"result\":true}",
        "<html>{\"result\":true}</html>",
        r#"{"result":true,"x":NaN}"#,
    ] {
        not_understood(answer.as_bytes());
    }
    not_understood(b"{\"result\":true,\"\xff\":1}");
    not_understood(b"{\"result\":\"\xc0\x80\"}");
    not_understood(b"\"\\");
    not_understood(b"{\"a\":\"\\");
    let deep = format!(r#"{{"result":{}true{}}}"#, "[".repeat(40), "]".repeat(40));
    assert!(not_understood(deep.as_bytes()).starts_with("nested deeper than 32"));
    let deepest = format!(r#"{{"x":{}{},"result":true}}"#, "[".repeat(5000), "]".repeat(5000));
    not_understood(deepest.as_bytes());
}

/// Of two results one reader takes the first and another the last.
#[test]
fn a_key_that_occurs_twice_makes_it_no_answer() {
    for answer in [
        r#"{"result":false,"result":true}"#,
        r#"{"result":true,"result":true}"#,
        r#"{"result":false,"\u0072esult":true}"#,
        r#"{"result":{"allowed":false,"allowed":true}}"#,
        r#"{"result":true,"metrics":{"a":1,"a":1}}"#,
    ] {
        assert!(not_understood(answer.as_bytes()).contains("occurs twice"), "{answer}");
    }
}

#[test]
fn numbers_are_kept_or_refused() {
    let with =
        |number: &str| format!(r#"{{"result":{{"allowed":true,"dynamic_metadata":{{"n":{number}}}}}}}"#);
    for number in
        ["0", "-1", "18446744073709551615", "-9223372036854775808", "0.1", "1.25e-7", "0.0", "0e5", "-0.0"]
    {
        assert!(answered(&with(number)).is_ok(), "{number}");
    }
    for number in [
        "18446744073709551616",
        "-9223372036854775809",
        "0.1234567890123456789",
        "9007199254740993.5",
        "1e400",
        "1e-400",
        "-1e-320",
    ] {
        assert!(not_understood(with(number).as_bytes()).contains("would be rounded"), "{number}");
    }
    // Digits in a text are no number, wherever a quotation mark stands.
    for text in [r#""18446744073709551616""#, r#""\"18446744073709551616""#, r#""\\""#, r#""1e-400\\""#] {
        assert!(answered(&with(text)).is_ok(), "{text}");
    }
    not_understood(with(r#""\\", "m": 18446744073709551616"#).as_bytes());
}

/// A server may know more the next time, so nothing that it has said is said again.
#[test]
fn answers_are_never_kept() {
    let policy = OpaPolicy::new("data.r", InputShape::Native);
    let options = CacheOptions {
        entries: 64,
        bytes: 1 << 20,
        verify_every: std::num::NonZeroU32::MAX,
        misses_per_second: None,
    };
    let mut worker = CachingWorker::new(&policy, Some(&options));
    assert!(!worker.is_active());
    let mut mark = SubjectMark::default();
    for _ in 0..5 {
        let now = std::time::Instant::now() + Duration::from_secs(1);
        let answer = worker.decide(&mut mark, &mut sample::subject, &sample::request(), now);
        assert!(matches!(answer.verdict, Verdict::Pending(_)) && answer.lookup.is_none());
        assert!(worker.read_answer(br#"{"result":true}"#).unwrap().allowed);
    }
}

#[test]
fn policies_are_told_apart_by_their_rules() {
    let digest = |rule| *OpaPolicy::new(rule, InputShape::Native).digest();
    assert_eq!(digest("data.a"), digest("data.a"));
    assert_ne!(digest("data.a"), digest("data.b"));
}

/// Cut anywhere it is no answer, and with a byte changed it is one of the two verdicts that JSON gives it.
#[test]
fn a_part_of_an_answer_is_none() {
    for answer in [
        r#"{"result":true}"#,
        "{\"decision_id\":\"a\\\"b\",\"result\":{\"allowed\":true,\"headers\":{\"x\":[\"1\"]}}}",
        "{\"metrics\":{\"n\":-1.5e2},\"result\":{\"allowed\":true,\"dynamic_metadata\":{\"n\":12}}}",
    ] {
        assert!(answered(answer).unwrap().allowed);
        for end in 0..answer.len() {
            not_understood(&answer.as_bytes()[..end]);
        }
        for at in 0..answer.len() {
            for byte in 0..=u8::MAX {
                let mut changed = answer.as_bytes().to_vec();
                changed[at] = byte;
                let Ok(decision) = worker().read_answer(&changed) else { continue };
                let json: Json = serde_json::from_slice(&changed).unwrap();
                let result = &json["result"];
                let allowed = result == true || result["allowed"] == true || result["allow"] == true;
                assert_eq!(decision.allowed, allowed, "{}", String::from_utf8_lossy(&changed));
            }
        }
    }
}
