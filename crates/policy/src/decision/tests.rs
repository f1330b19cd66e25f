use super::*;

fn decide(json: &str) -> Result<Decision, DecisionError> {
    Decision::from_value(&Value::from_json_str(json).unwrap())
}

fn pair(name: &str, value: &str) -> HeaderPair {
    (name.into(), value.into())
}

/// The message of an invalid result.
fn refused(json: &str) -> String {
    match decide(json) {
        Err(DecisionError::InvalidResult(message)) => message,
        other => panic!("{json}: {other:?}"),
    }
}

#[test]
fn booleans_and_undefined_are_told_apart() {
    assert_eq!(decide("true"), Ok(Decision { allowed: true, ..Decision::default() }));
    assert_eq!(decide("false"), Ok(Decision::default()));
    let undefined = Decision::from_value(&Value::Undefined);
    assert_eq!(undefined, Ok(Decision { undefined: true, ..Decision::default() }));
}

#[test]
fn an_allowed_object_changes_request_and_response() {
    let decision = decide(
        r#"{"allowed": true, "rule": "partner", "reason": "may read", "http_status": 200, "body": "unused",
            "headers": {"x-team": "a", "x-list": ["1", "2"]}, "request_headers_to_remove": ["authorization"],
            "response_headers_to_add": [{"x-one": "1"}, {"x-two": "2"}]}"#,
    );
    assert_eq!(
        decision,
        Ok(Decision {
            allowed: true,
            rule: Some("partner".into()),
            reason: Some("may read".into()),
            request_headers_to_set: vec![pair("x-list", "1"), pair("x-list", "2"), pair("x-team", "a")],
            request_headers_to_remove: vec!["authorization".into()],
            response_headers_to_add: vec![pair("x-one", "1"), pair("x-two", "2")],
            ..Decision::default()
        })
    );
}

#[test]
fn query_parameters_change_for_allowed_requests_only() {
    let edits =
        r#""query_parameters_to_set": {"a": "1", "b": ["2", ""]}, "query_parameters_to_remove": ["c", "d"]"#;
    let allowed = decide(&format!(r#"{{"allowed": true, {edits}}}"#)).unwrap();
    assert_eq!(allowed.query_parameters_to_set, [pair("a", "1"), pair("b", "2"), pair("b", "")]);
    assert_eq!(allowed.query_parameters_to_remove, ["c".into(), "d".into()]);
    assert_eq!(decide(&format!(r#"{{"allowed": false, {edits}}}"#)), Ok(Decision::default()));
    let refused = |edits: &str| refused(&format!(r#"{{"allowed": true, {edits}}}"#));
    for (edits, message) in [
        (r#""query_parameters_to_set": ["a"]"#, "holds an array, expected an object of parameters"),
        (r#""query_parameters_to_set": {"a": 1}"#, "holds a number, expected a string"),
        (r#""query_parameters_to_set": {"": "1"}"#, "names a parameter without a name"),
        (r#""query_parameters_to_remove": "a""#, "holds a string, expected a list of parameter names"),
        (r#""query_parameters_to_remove": [""]"#, "names a parameter without a name"),
        (
            r#""query_parameters_to_set": {"a": "1"}, "query_parameters_to_remove": ["a"]"#,
            "query parameter `a` is both set and removed",
        ),
    ] {
        assert!(refused(edits).ends_with(message), "{}", refused(edits));
    }
    let many: Vec<String> = (0..65).map(|number| format!("\"{number}\"")).collect();
    let most = |count: usize| format!(r#""query_parameters_to_remove": [{}]"#, many[..count].join(","));
    assert!(decide(&format!(r#"{{"allowed": true, {}}}"#, most(64))).is_ok());
    assert_eq!(refused(&most(65)), "`query_parameters_to_remove` has 65 entries, more than 64");
}

#[test]
fn metadata_is_an_object_that_fits_the_record() {
    for allowed in [true, false] {
        let json =
            format!(r#"{{"allowed": {allowed}, "dynamic_metadata": {{"b": [1, null], "a": "x\ny"}}}}"#);
        assert_eq!(decide(&json).unwrap().metadata.as_deref(), Some(r#"{"a":"x\ny","b":[1,null]}"#));
    }
    assert_eq!(
        refused(r#"{"allowed": true, "dynamic_metadata": "x"}"#),
        "`dynamic_metadata` holds a string, expected an object"
    );
    let sized = |bytes: usize| {
        let filler = "x".repeat(bytes - r#"{"a":""}"#.len());
        format!(r#"{{"allowed": true, "dynamic_metadata": {{"a": "{filler}"}}}}"#)
    };
    assert_eq!(decide(&sized(4096)).unwrap().metadata.unwrap().len(), 4096);
    assert_eq!(refused(&sized(4097)), "`dynamic_metadata` has 4097 bytes as JSON, more than 4096");
}

#[test]
fn a_denied_object_shapes_the_answer_and_nothing_else() {
    let decision = decide(
        r#"{"allow": false, "http_status": 401, "body": "no", "headers": {"www-authenticate": "Bearer"},
            "request_headers_to_remove": ["x"], "response_headers_to_add": {"y": "1"}}"#,
    );
    assert_eq!(
        decision,
        Ok(Decision {
            status: Some(401),
            body: Some("no".into()),
            headers: vec![pair("www-authenticate", "Bearer")],
            ..Decision::default()
        })
    );
}

#[test]
fn other_types_are_no_decision() {
    for (json, type_name) in [
        ("null", "null"),
        ("1", "a number"),
        ("\"true\"", "a string"),
        ("[true]", "an array"),
        ("[]", "an array"),
    ] {
        assert_eq!(decide(json), Err(DecisionError::WrongType(type_name)));
    }
    let set = Value::from(std::collections::BTreeSet::from([Value::Bool(true)]));
    assert_eq!(Decision::from_value(&set), Err(DecisionError::WrongType("a set")));
}

#[test]
fn allowed_has_to_be_one_boolean() {
    assert_eq!(refused("{}"), "`allowed` is missing");
    assert_eq!(refused(r#"{"rule": "x"}"#), "`allowed` is missing");
    assert_eq!(refused(r#"{"allowed": "true"}"#), "`allowed` holds a string, expected a boolean");
    assert_eq!(refused(r#"{"allowed": 1}"#), "`allowed` holds a number, expected a boolean");
    assert_eq!(refused(r#"{"allowed": true, "allow": false}"#), "`allowed` and `allow` are both given");
    assert_eq!(refused(r#"{"allowed": true, "allow": true}"#), "`allowed` and `allow` are both given");
}

#[test]
fn unknown_and_unavailable_fields_are_refused() {
    assert_eq!(refused(r#"{"allowed": true, "alowed": true}"#), "unknown field `alowed`");
    assert_eq!(refused(r#"{"allowed": true, "a\nb": 1}"#), "unknown field `a\\nb`");
    for (ttl, message) in [
        ("-1", "`cache_ttl` holds a number, expected a whole number of seconds"),
        ("1.5", "`cache_ttl` holds a number, expected a whole number of seconds"),
        ("4294967296", "`cache_ttl` holds a number, expected a whole number of seconds"),
        ("\"5s\"", "`cache_ttl` holds a string, expected a whole number of seconds"),
    ] {
        assert_eq!(refused(&format!(r#"{{"allowed": true, "cache_ttl": {ttl}}}"#)), message);
    }
    for allowed in [true, false] {
        let decision = decide(&format!(r#"{{"allowed": {allowed}, "cache_ttl": 4294967295}}"#)).unwrap();
        assert_eq!(decision.cache_ttl, Some(u32::MAX));
    }
    let keys = Value::from(std::collections::BTreeMap::from([(Value::from(1), Value::Bool(true))]));
    assert!(Decision::from_value(&keys).is_err());
}

#[test]
fn status_is_limited() {
    for status in [400, 403, 599] {
        let decision = decide(&format!(r#"{{"allowed": false, "http_status": {status}}}"#));
        assert_eq!(decision.unwrap().status, Some(status));
    }
    for status in ["200", "302", "399"] {
        let message = refused(&format!(r#"{{"allowed": false, "http_status": {status}}}"#));
        assert_eq!(message, format!("`http_status` {status} does not deny, use 400 to 599"));
    }
    for status in ["0", "100", "199", "600", "99999", "-1", "403.5", "\"403\"", "1e300"] {
        for allowed in [true, false] {
            refused(&format!(r#"{{"allowed": {allowed}, "http_status": {status}}}"#));
        }
    }
}

#[test]
fn header_values_cannot_break_out_of_their_line() {
    for value in
        ["a\\r\\nset-cookie: x", "a\\nb", "a\\rb", "a\\u0000b", "\\u007f", "\\u001b[0m", " a", "a ", "a\\t"]
    {
        for field in ["headers", "response_headers_to_add"] {
            for form in [format!("\"{value}\""), format!("[\"ok\", \"{value}\"]")] {
                for allowed in [true, false] {
                    refused(&format!(r#"{{"allowed": {allowed}, "{field}": {{"x-a": {form}}}}}"#));
                }
            }
        }
    }
    for value in ["", "a b", "a\\tb", "é", "\\\"quoted\\\"", "a, b;c=d"] {
        decide(&format!(r#"{{"allowed": true, "headers": {{"x-a": "{value}"}}}}"#)).unwrap();
    }
    for value in ["1", "true", "null", "{}", "[1]", "[[]]"] {
        refused(&format!(r#"{{"allowed": true, "headers": {{"x-a": {value}}}}}"#));
    }
}

#[test]
fn header_names_are_tokens() {
    for name in ["", "a b", "a:", ":authority", "a\\r\\nb", "a\\u0000", "é", "a\\t", " a", "(x)", "a/b"] {
        refused(&format!(r#"{{"allowed": true, "headers": {{"{name}": "x"}}}}"#));
        refused(&format!(r#"{{"allowed": true, "request_headers_to_remove": ["{name}"]}}"#));
    }
    refused(&format!(r#"{{"allowed": true, "headers": {{"{}": "x"}}}}"#, "a".repeat(NAME_BYTES_MAX + 1)));
    decide(&format!(r#"{{"allowed": true, "headers": {{"{}": "x"}}}}"#, "a".repeat(NAME_BYTES_MAX))).unwrap();
}

#[test]
fn identity_headers_are_out_of_reach() {
    for name in [
        "client-cert",
        "Client-Cert",
        "client_cert",
        "CLIENT-CERT-CHAIN",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
    ] {
        for allowed in [true, false] {
            for json in [
                format!(r#"{{"allowed": {allowed}, "headers": {{"{name}": "x"}}}}"#),
                format!(r#"{{"allowed": {allowed}, "headers": [{{"x-a": "1"}}, {{"{name}": ["x"]}}]}}"#),
                format!(r#"{{"allowed": {allowed}, "response_headers_to_add": {{"{name}": "x"}}}}"#),
                format!(r#"{{"allowed": {allowed}, "request_headers_to_remove": ["x-a", "{name}"]}}"#),
            ] {
                assert!(refused(&json).ends_with("which only ringward may write"), "{json}");
            }
        }
    }
}

#[test]
fn framing_and_connection_headers_are_out_of_reach() {
    for name in RESERVED.iter().chain(FORWARDED) {
        for name in [name.to_string(), name.to_ascii_uppercase(), name.replace('-', "_")] {
            refused(&format!(r#"{{"allowed": true, "headers": {{"{name}": "x"}}}}"#));
            refused(&format!(r#"{{"allowed": true, "request_headers_to_remove": ["{name}"]}}"#));
            refused(&format!(r#"{{"allowed": false, "headers": {{"{name}": "x"}}}}"#));
        }
    }
}

#[test]
fn sizes_are_limited() {
    let text = |length: usize| "x".repeat(length);
    for (json, length) in [
        (r#"{"allowed": true, "rule": "@"}"#, RULE_BYTES_MAX),
        (r#"{"allowed": true, "reason": "@"}"#, REASON_BYTES_MAX),
        (r#"{"allowed": false, "body": "@"}"#, BODY_BYTES_MAX),
        (r#"{"allowed": true, "headers": {"x": "@"}}"#, VALUE_BYTES_MAX),
    ] {
        decide(&json.replace('@', &text(length))).unwrap();
        refused(&json.replace('@', &text(length + 1)));
    }
    let fields = |count: usize| {
        let fields: Vec<String> = (0..count).map(|n| format!("\"x-{n}\": \"1\"")).collect();
        format!(r#"{{"allowed": true, "headers": {{{}}}}}"#, fields.join(","))
    };
    decide(&fields(FIELDS_MAX)).unwrap();
    refused(&fields(FIELDS_MAX + 1));
    refused(&format!(
        r#"{{"allowed": true, "headers": {{"x": [{}]}}}}"#,
        vec!["\"1\""; FIELDS_MAX + 1].join(",")
    ));
    refused(&format!(
        r#"{{"allowed": true, "request_headers_to_remove": [{}]}}"#,
        vec!["\"x\""; FIELDS_MAX + 1].join(",")
    ));
}

#[test]
fn every_error_has_a_name_of_its_own() {
    let errors = [
        DecisionError::Evaluation(String::new()),
        DecisionError::WrongType("null"),
        DecisionError::TimeBudget,
        DecisionError::InvalidResult(String::new()),
        DecisionError::Panic,
    ];
    let kinds: std::collections::BTreeSet<_> = errors.iter().map(DecisionError::kind).collect();
    assert_eq!(kinds.len(), errors.len());
}
