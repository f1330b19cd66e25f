use super::*;

fn decision(json: &str) -> Rc<Decision> {
    Rc::new(Decision::from_value(&Value::from_json_str(json).unwrap()).unwrap())
}

fn allow(fields: &str) -> Rc<Decision> {
    decision(&format!(r#"{{"allowed": true, {fields}}}"#))
}

/// What policies with these fields allow together, asked in this order.
fn together(fields: &[&str]) -> Decision {
    let all = fields.iter().map(|fields| allow(fields));
    let combined = all.reduce(|earlier, later| combine(earlier, later).unwrap()).unwrap();
    Rc::unwrap_or_clone(combined)
}

fn pairs(pairs: &[Pair]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (&**name, &**value)).collect()
}

fn names(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

#[test]
fn only_two_allows_allow() {
    let undefined = Rc::new(Decision { undefined: true, ..Decision::default() });
    let edits = r#""headers": {"x-a": "1"}, "rule": "r", "dynamic_metadata": {"k": 1}"#;
    let allows = [decision("true"), allow(edits)];
    let denials = [
        decision("false"),
        undefined,
        decision(
            r#"{"allowed": false, "http_status": 451, "body": "no", "rule": "d", "headers": {"x-d": "1"}}"#,
        ),
    ];
    for allow in &allows {
        for other in &allows {
            assert!(combine(allow.clone(), other.clone()).unwrap().allowed);
        }
        // A denial is the whole answer, wherever it stands.
        for denial in &denials {
            for (earlier, later) in [(allow, denial), (denial, allow), (denial, denial)] {
                let combined = combine(earlier.clone(), later.clone()).unwrap();
                assert!(Rc::ptr_eq(&combined, denial), "{earlier:?} {later:?}");
            }
        }
    }
    assert!(Rc::ptr_eq(&combine(denials[0].clone(), denials[1].clone()).unwrap(), &denials[0]));
}

/// The usual pair: a policy that only lets pass, and one that says more. Neither order makes a new decision.
#[test]
fn a_plain_allow_leaves_the_other_as_it_is() {
    for plain in [decision("true"), allow(r#""cache_ttl": 5"#)] {
        for fields in [
            r#""headers": {"x-a": "1"}"#,
            r#""request_headers_to_remove": ["x-a"]"#,
            r#""response_headers_to_add": {"x-a": "1"}"#,
            r#""query_parameters_to_set": {"a": "1"}"#,
            r#""query_parameters_to_remove": ["a"]"#,
            r#""dynamic_metadata": {"a": 1}"#,
            r#""rule": "r""#,
            r#""reason": "because""#,
        ] {
            let other = allow(fields);
            assert!(Rc::ptr_eq(&combine(plain.clone(), other.clone()).unwrap(), &other), "{fields}");
            assert!(Rc::ptr_eq(&combine(other.clone(), plain.clone()).unwrap(), &other), "{fields}");
        }
    }
}

#[test]
fn of_edits_of_the_same_name_the_later_one_is_done() {
    let set = r#""headers": {"X-A": ["1", "2"], "x-b": "1"}"#;
    let set_again = r#""headers": {"x-a": "3"}"#;
    let remove = r#""request_headers_to_remove": ["x-A", "x-c"]"#;
    for (fields, expected_set, expected_removed) in [
        (&[set, set_again][..], vec![("x-b", "1"), ("x-a", "3")], vec![]),
        (&[set_again, set], vec![("X-A", "1"), ("X-A", "2"), ("x-b", "1")], vec![]),
        (&[set, remove], vec![("x-b", "1")], vec!["x-A", "x-c"]),
        (&[remove, set_again], vec![("x-a", "3")], vec!["x-c"]),
        (&[remove, set, remove], vec![("x-b", "1")], vec!["x-A", "x-c"]),
        (&[set, remove, set_again], vec![("x-b", "1"), ("x-a", "3")], vec!["x-c"]),
        (&[remove, r#""request_headers_to_remove": ["X-a", "x-d"]"#], vec![], vec!["x-c", "X-a", "x-d"]),
    ] {
        let combined = together(fields);
        assert_eq!(pairs(&combined.request_headers_to_set), expected_set, "{fields:?}");
        assert_eq!(names(&combined.request_headers_to_remove), expected_removed, "{fields:?}");
    }
}

#[test]
fn of_query_parameters_too_whose_names_have_case() {
    let set = r#""query_parameters_to_set": {"a": ["1", "2"], "A": "3"}"#;
    let remove = r#""query_parameters_to_remove": ["a", "b"]"#;
    for (fields, expected_set, expected_removed) in [
        (&[set, r#""query_parameters_to_set": {"a": "4"}"#][..], vec![("A", "3"), ("a", "4")], vec![]),
        (&[set, remove], vec![("A", "3")], vec!["a", "b"]),
        // As in a single decision, nothing is set and removed at once.
        (&[remove, set], vec![("A", "3"), ("a", "1"), ("a", "2")], vec!["b"]),
    ] {
        let combined = together(fields);
        assert_eq!(pairs(&combined.query_parameters_to_set), expected_set, "{fields:?}");
        assert_eq!(names(&combined.query_parameters_to_remove), expected_removed, "{fields:?}");
    }
}

#[test]
fn every_field_for_the_response_is_added() {
    let combined = together(&[
        r#""response_headers_to_add": {"x-a": "1"}"#,
        r#""response_headers_to_add": {"X-A": "2"}"#,
    ]);
    assert_eq!(pairs(&combined.response_headers_to_add), [("x-a", "1"), ("X-A", "2")]);
}

#[test]
fn the_last_that_says_why_is_quoted() {
    let edit = r#""headers": {"x-a": "1"}"#;
    let (rule, reason) = (r#""rule": "first", "reason": "because""#, r#""reason": "why not""#);
    let quoted = |fields: &[&str]| {
        let Decision { rule, reason, .. } = together(fields);
        (rule.map(|text| text.to_string()), reason.map(|text| text.to_string()))
    };
    let said =
        |rule: Option<&str>, reason: Option<&str>| (rule.map(str::to_owned), reason.map(str::to_owned));
    assert_eq!(quoted(&[rule, edit]), said(Some("first"), Some("because")));
    // The reason of one policy does not explain the rule of another.
    assert_eq!(quoted(&[rule, reason]), said(None, Some("why not")));
    assert_eq!(quoted(&[rule, r#""rule": "second""#, edit]), said(Some("second"), None));
}

#[test]
fn metadata_is_one_object() {
    let metadata = |fields: &[&str]| together(fields).metadata.map(|json| json.to_string());
    let first = r#""dynamic_metadata": {"a": {"x": 1}, "b": [0.5, "\n"]}"#;
    let second = r#""dynamic_metadata": {"c": null, "a": {"y": 18446744073709551615}}"#;
    assert_eq!(
        metadata(&[first, second]).as_deref(),
        Some(r#"{"a":{"y":18446744073709551615},"b":[0.5,"\n"],"c":null}"#)
    );
    assert_eq!(metadata(&[first, r#""rule": "r""#]).as_deref(), Some(r#"{"a":{"x":1},"b":[0.5,"\n"]}"#));
    assert_eq!(metadata(&[r#""rule": "r""#, r#""reason": "x""#]), None);
}

/// Each within its bounds, both together not.
#[test]
fn what_is_too_much_together_is_no_decision() {
    let objects = |prefix: &str, count: usize| {
        let pairs: Vec<String> = (0..count).map(|number| format!(r#""{prefix}{number}": "1""#)).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let lists = |prefix: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!(r#""{prefix}{number}""#)).collect();
        format!("[{}]", names.join(", "))
    };
    for (field, value) in [
        ("headers", &objects as &dyn Fn(&str, usize) -> String),
        ("request_headers_to_remove", &lists),
        ("response_headers_to_add", &objects),
        ("query_parameters_to_set", &objects),
        ("query_parameters_to_remove", &lists),
    ] {
        let earlier = allow(&format!(r#""{field}": {}"#, value("a", FIELDS_MAX / 2)));
        let later = |count| allow(&format!(r#""{field}": {}"#, value("b", count)));
        assert!(combine(earlier.clone(), later(FIELDS_MAX / 2)).is_ok(), "{field}");
        assert_eq!(
            combine(earlier, later(FIELDS_MAX / 2 + 1)),
            Err(invalid(&format!("`{field}` of all policies together has 65 entries, more than 64")))
        );
    }
    let metadata = |key: &str, bytes: usize| {
        allow(&format!(r#""dynamic_metadata": {{"{key}": "{}"}}"#, "x".repeat(bytes)))
    };
    let earlier = metadata("a", 2041);
    let combined = combine(earlier.clone(), metadata("b", 2040)).unwrap();
    assert_eq!(combined.metadata.as_ref().unwrap().len(), 4096);
    assert_eq!(
        combine(earlier, metadata("b", 2041)),
        Err(invalid("`dynamic_metadata` has 4097 bytes as JSON, more than 4096"))
    );
}
