use super::*;

fn completed(given: Json) -> Json {
    complete_input(InputShape::Native, &given).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(given: Json, expected: &[&str]) {
    assert_eq!(complete_input(InputShape::Native, &given).unwrap_err().problems, expected);
}

#[test]
fn nothing_given_is_the_invented_request() {
    assert_eq!(completed(json!({})), schema::example(InputShape::Native));
}

#[test]
fn the_invented_request_comes_out_as_it_is() {
    let example = schema::example(InputShape::Native);
    assert_eq!(completed(example.clone()), example);
}

/// A claim that nobody wrote must not be what lets a request through.
#[test]
fn a_client_in_part_has_no_other_claim() {
    let input = completed(json!({ "client": { "subject": { "organizational_units": ["Operations"] } } }));
    let mut client = Kind::empty(Kind::Object(INPUT))["client"].clone();
    client["verified"] = true.into();
    client["subject"]["organizational_units"] = json!(["Operations"]);
    assert_eq!(input["client"], client);
    assert_eq!(input["request"], schema::example(InputShape::Native)["request"]);
    assert_eq!(completed(json!({ "client": { "verified": false } }))["client"]["verified"], json!(false));
}

#[test]
fn what_follows_from_a_claim_is_there() {
    let client =
        completed(json!({ "client": { "spiffe_id": "spiffe://example.com/ns/a/sa/b" } }))["client"].clone();
    assert_eq!(client["trust_domain"], json!("example.com"));
    assert_eq!(client["san"]["uri"], json!(["spiffe://example.com/ns/a/sa/b"]));
    assert_eq!(client["identity"], json!("spiffe://example.com/ns/a/sa/b"));
    let subject =
        |given: Json| completed(json!({ "client": { "subject": given } }))["client"]["subject"].clone();
    assert_eq!(subject(json!({ "common_name": "a" }))["common_names"], json!(["a"]));
    assert_eq!(subject(json!({ "common_names": ["a"] }))["common_name"], json!("a"));
    assert_eq!(subject(json!({ "common_names": ["a", "b"] }))["common_name"], json!(""));
}

#[test]
fn a_request_in_part_is_described_as_a_real_one() {
    let input = completed(json!({ "request": {
        "path": "/a%2Fb/c", "query": { "q": ["x y", "&"] }, "headers": { "x-a": "1" },
    } }));
    let request = &input["request"];
    assert_eq!(request["method"], json!("GET"));
    assert_eq!(request["segments"], json!(["a/b", "c"]));
    assert_eq!(request["raw_path"], json!("/a%2Fb/c?q=x%20y&q=%26"));
    assert_eq!(request["query"], json!({ "q": ["x y", "&"] }));
    assert_eq!(request["headers"], json!({ "x-a": "1" }));
    assert_eq!(request["headers_all"], json!({ "x-a": ["1"] }));
    assert_eq!(input["route"]["params"], json!({}));
    assert_eq!(input["route"]["id"], json!(""));
    let joined = completed(json!({ "request": { "headers_all": { "x-a": ["1", "2"] } } }));
    assert_eq!(joined["request"]["headers"]["x-a"], json!("1, 2"));
    let raw = completed(json!({ "request": { "raw_path": "/?a=b" } }));
    assert_eq!(raw["request"]["query"], json!({ "a": ["b"] }));
    let route = completed(json!({ "route": { "params": { "id": "7" } } }));
    assert_eq!((&route["route"]["params"], &route["route"]["id"]), (&json!({ "id": "7" }), &json!("")));
}

#[test]
fn the_age_of_the_proof_follows_from_both_times() {
    let input = completed(json!({ "connection": { "auth_time_unix": 1000 }, "time": { "unix_s": 1600 } }));
    assert_eq!(input["connection"]["auth_age_seconds"], json!(600));
    assert_eq!(input["connection"]["remote_addr"], json!("192.0.2.7"));
    let given = json!({ "connection": { "auth_age_seconds": 5 }, "time": { "unix_s": 1600 } });
    assert_eq!(completed(given)["connection"]["auth_age_seconds"], json!(5));
}

#[test]
fn fields_that_no_input_has_are_refused_with_the_likely_name() {
    refused(
        json!({ "request": { "mehtod": "GET" }, "cleint": {} }),
        &[
            "`input.request` has no field `mehtod`; did you mean `method`?",
            "`input` has no field `cleint`; did you mean `client`?",
        ],
    );
    refused(json!({ "time": { "zone": "UTC" } }), &["`input.time` has no field `zone`; there are unix_s"]);
}

#[test]
fn values_of_another_type_are_refused() {
    refused(json!([]), &["`input` is a list, expected an object"]);
    refused(
        json!({ "client": null, "time": { "unix_s": "1" } }),
        &[
            "`input.client` is null, expected an object",
            "`input.time.unix_s` is a string, expected an integer",
        ],
    );
    refused(
        json!({ "client": { "san": { "dns": "a" }, "verified": "yes" } }),
        &[
            "`input.client.san.dns` is a string, expected a list of strings",
            "`input.client.verified` is a string, expected a boolean",
        ],
    );
    refused(
        json!({ "request": { "headers": { "x-a": ["1"] }, "query": { "a": "1" } } }),
        &[
            "`input.request.headers[\"x-a\"]` is a list, expected a string",
            "`input.request.query[\"a\"]` is a string, expected a list of strings",
        ],
    );
}

#[test]
fn what_no_request_has_is_refused() {
    refused(
        json!({ "request": { "path": "a?b" } }),
        &["`input.request.path` begins with `/` and has no query, which is in `query`"],
    );
    refused(
        json!({ "request": { "headers": { "X-A": "1", "client-cert": "x" } } }),
        &[
            "`input.request.headers` has `X-A`: names are in lower case",
            "`input.request.headers` has `client-cert`, which policies never see",
        ],
    );
}

fn completed_in(shape: InputShape, given: Json) -> Json {
    complete_input(shape, &given).unwrap_or_else(|error| panic!("{shape}: {error}"))
}

#[test]
fn the_invented_request_of_every_shape_comes_out_as_it_is() {
    for shape in InputShape::ALL {
        let example = schema::example(shape);
        assert_eq!(completed_in(shape, json!({})), example, "{shape}");
        assert_eq!(completed_in(shape, example.clone()), example, "{shape}");
    }
}

#[test]
fn an_envoy_request_in_part_is_described_as_a_real_one() {
    let input = completed_in(
        InputShape::EnvoyV3,
        json!({ "attributes": {
        "request": { "http": {
            "method": "POST", "path": "/a%2Fb/c?q=1", "headers": { "x-a": "1", "content-type": "application/json" },
            "body": "{\"item\": 5}",
        } },
        "source": { "principal": "spiffe://example.com/ns/a/sa/b" },
    } }),
    );
    assert_eq!(input["parsed_path"], json!(["a/b", "c"]));
    assert_eq!(input["parsed_query"], json!({ "q": ["1"] }));
    assert_eq!(input["parsed_body"], json!({ "item": 5 }));
    let http = &input["attributes"]["request"]["http"];
    assert_eq!(http["headers"][":path"], json!("/a%2Fb/c?q=1"));
    assert_eq!((&http["headers"]["x-a"], &http["headers"]["authorization"]), (&json!("1"), &Json::Null));
    assert_eq!(http["size"], json!("11"));
    let ringward = &input["attributes"]["metadataContext"]["filterMetadata"]["ringward"];
    assert_eq!(ringward["client"]["spiffe_id"], json!("spiffe://example.com/ns/a/sa/b"));
    assert_eq!((&ringward["client"]["tenant"], &ringward["route"]["id"]), (&json!(""), &json!("")));
}

/// A principal that nobody wrote must not be what lets a request through.
#[test]
fn a_source_in_part_has_no_principal() {
    let source = json!({ "address": { "socketAddress": { "address": "192.0.2.9" } } });
    let input = completed_in(InputShape::EnvoyV3, json!({ "attributes": { "source": source } }));
    assert_eq!(input["attributes"]["source"]["principal"], Json::Null);
    assert_eq!(input["attributes"]["source"]["address"]["socketAddress"]["address"], json!("192.0.2.9"));
    let nobody = json!({ "ringward": { "client": { "verified": false } } });
    assert_eq!(completed_in(InputShape::Kong, nobody)["consumer"], Json::Null);
}

#[test]
fn a_kong_request_in_part_is_described_as_a_real_one() {
    let input = completed_in(
        InputShape::Kong,
        json!({
            "client_ip": "192.0.2.9",
            "consumer": { "username": "partner-a" },
            "request": { "http": { "path": "/a", "headers": { "x-a": ["1", "2"] }, "querystring": { "q": "x y", "flag": true } } },
            "route": { "name": "r" },
        }),
    );
    let http = &input["request"]["http"];
    assert_eq!(http["headers"], json!({ "x-a": ["1", "2"] }));
    assert_eq!(http["querystring"], json!({ "flag": true, "q": "x y" }));
    assert_eq!(input["ringward"]["connection"]["remote_addr"], json!("192.0.2.9"));
    assert_eq!(input["ringward"]["client"]["identity"], json!("partner-a"));
    assert_eq!((&input["ringward"]["route"]["id"], &input["service"]["name"]), (&json!("r"), &json!("")));
}

#[test]
fn what_an_input_of_a_shape_cannot_have_is_said() {
    for (shape, given, expected) in [
        (
            InputShape::EnvoyV3,
            json!({ "attributes": { "request": { "http": { "mehtod": "GET" } } } }),
            "`input.attributes.request.http` has no field `mehtod`; did you mean `method`?",
        ),
        (
            InputShape::EnvoyV3,
            json!({ "attributes": { "request": { "http": { "headers": { "X-A": "1" } } } } }),
            "`input.attributes.request.http.headers` has `X-A`: names are in lower case",
        ),
        (
            InputShape::Kong,
            json!({ "request": { "http": { "querystring": { "a": 1 } } } }),
            "`input.request.http.querystring` is an object, expected a map of strings, lists of strings or true",
        ),
    ] {
        assert_eq!(complete_input(shape, &given).unwrap_err().problems, [expected]);
    }
}

#[test]
fn a_described_request_is_an_input_of_its_shape() {
    let described = Described {
        path: Some("/a?b=1".to_owned()),
        headers: vec![("x-a".to_owned(), vec!["1".to_owned(), "2".to_owned()])],
        client: Some(json!({ "name": "n", "identity": "n", "verified": true })),
        ..Described::default()
    };
    let envoy = completed_in(InputShape::EnvoyV3, described.input(InputShape::EnvoyV3));
    assert_eq!(envoy["attributes"]["request"]["http"]["headers"]["x-a"], json!("1,2"));
    assert_eq!(envoy["parsed_query"], json!({ "b": ["1"] }));
    let kong = completed_in(InputShape::Kong, described.input(InputShape::Kong));
    assert_eq!(kong["request"]["http"]["headers"]["x-a"], json!(["1", "2"]));
    assert_eq!(kong["consumer"]["username"], json!("n"));
    for shape in [InputShape::EnvoyV3, InputShape::Kong] {
        let nothing = Described::default().input(shape);
        assert_eq!(completed_in(shape, nothing), schema::example(shape), "the invented request");
    }
}

#[test]
fn a_body_is_given_as_json_or_as_text() {
    let body = |request: Json| completed(json!({ "request": request }))["request"]["body"].clone();
    assert_eq!(body(json!({})), json!({ "size": 0, "text": "", "truncated": false }));
    let expected = json!({ "json": { "a": [1] }, "size": 9, "text": "{\"a\":[1]}", "truncated": false });
    assert_eq!(body(json!({ "body": { "json": { "a": [1] } } })), expected);
    let typed =
        json!({ "headers": { "content-type": "application/json" }, "body": { "text": "{\"a\":[1]}" } });
    assert_eq!(body(typed), expected);
    let text = json!({ "size": 1, "text": "{", "truncated": true });
    assert_eq!(body(json!({ "body": { "text": "{", "truncated": true } })), text);
    // Another part of the input says nothing about the body of the invented request.
    assert_eq!(completed(json!({ "client": {} }))["request"], schema::example(InputShape::Native)["request"]);
}

#[test]
fn a_body_that_no_policy_would_see_is_refused() {
    refused(
        json!({ "request": { "body": { "json": 1, "truncated": true } } }),
        &["`input.request.body` is truncated, and such a body has no `json`"],
    );
    let twice = json!({
        "headers": { "content-type": "application/json" },
        "body": { "text": "{\"a\": 1, \"a\": 2}" },
    });
    let problems = complete_input(InputShape::Native, &json!({ "request": twice })).unwrap_err().problems;
    assert!(
        problems[0].starts_with("`input.request.body`: the body is not JSON that everybody"),
        "{problems:?}"
    );
    refused(
        json!({ "request": { "body": { "size": "1" } } }),
        &["`input.request.body.size` is a string, expected an integer"],
    );
}
