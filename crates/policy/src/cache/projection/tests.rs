use super::*;
use crate::compile::Prepared;
use crate::set::{Limits, PolicySet, Source};

fn projection(text: &str) -> Result<Projection, Vec<String>> {
    projection_in(InputShape::Native, text)
}

fn projection_in(shape: InputShape, text: &str) -> Result<Projection, Vec<String>> {
    let set = PolicySet::new(vec![Source::new("p.rego", text.as_bytes())], "data.p.allow", Limits::default());
    let set = set.with_input(shape);
    let prepared = Prepared::of(&set).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    prepared
        .projection()
        .map(|projection| (**projection).clone())
        .map_err(|reasons| reasons.iter().map(ToString::to_string).collect())
}

fn of_body(body: &str) -> Result<Projection, Vec<String>> {
    of_body_in(InputShape::Native, body)
}

/// Its parts, without where they come from.
fn of_body_in(shape: InputShape, body: &str) -> Result<Projection, Vec<String>> {
    let text = format!("package p\ndefault allow := false\nallow if {{ {body} }}\nf(x) := x\n");
    projection_in(shape, &text).map(|projection| Projection { reads: Vec::new(), ..projection })
}

fn subject(paths: &[&str]) -> Vec<Vec<String>> {
    paths.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
}

#[test]
fn each_read_is_a_part_of_the_key() {
    use Accessor::*;
    for (body, expected) in [
        ("input.request.method == \"GET\"", Method),
        ("input.request.path == \"/\"", Path),
        ("input.request.segments[0] == \"a\"", Path),
        ("input.request.raw_path == \"/\"", RawPath),
        ("count(input.request.query) == 0", Query),
        ("input.request.query.page[_] == \"1\"", QueryValues("page".into())),
        ("input.request.host == \"a\"", Host),
        ("input.request.scheme == \"https\"", Scheme),
        ("input.request.protocol == \"HTTP/1.1\"", Protocol),
        ("input.request.headers[\"x-a\"] == \"1\"", Header("x-a".into())),
        ("input.request.headers_all[\"x-a\"][0] == \"1\"", Header("x-a".into())),
        ("header(\"X-A\") == \"1\"", Header("x-a".into())),
        ("input.route.id == \"r\"", RouteId),
        ("input.route.template == \"/\"", RouteTemplate),
        ("input.route.upstream == \"u\"", RouteUpstream),
        ("count(input.route.params) == 0", RouteParams),
        ("input.route.params.id == \"1\"", RouteParam("id".into())),
        ("count(input.route.labels) == 0", RouteLabels),
        ("input.route.labels.team == \"a\"", RouteLabel("team".into())),
        ("input.time.unix_s > 5", Second),
    ] {
        assert_eq!(
            of_body(body),
            Ok(Projection { fields: vec![expected], ..Projection::default() }),
            "{body}"
        );
    }
    let version = of_body("input.version == 1");
    assert_eq!(version, Ok(Projection::default()), "the same in every request");
}

#[test]
fn client_and_connection_are_the_subject() {
    for (body, expected) in [
        ("input.client.spiffe_id == \"a\"", vec!["client.spiffe_id"]),
        ("\"a\" in input.client.san.uri", vec!["client.san.uri"]),
        ("input.client.extensions[\"1.2.3\"] == \"a\"", vec!["client.extensions.1.2.3"]),
        ("f(input.client) == 1", vec!["client"]),
        ("input.connection.sni == \"a\"", vec!["connection.sni"]),
        ("input.connection.remote_port == 1", vec!["connection.remote_port"]),
    ] {
        let mut expected = subject(&expected);
        if let [only] = &mut expected[..]
            && only.get(1).is_some_and(|name| name == "extensions")
        {
            only.truncate(2);
            only.push("1.2.3".to_owned());
        }
        assert_eq!(of_body(body), Ok(Projection { subject: expected, ..Projection::default() }), "{body}");
    }
}

/// The age changes while the rest of the connection does not.
#[test]
fn the_age_of_a_proof_is_made_of_its_time_and_the_present() {
    let second = || vec![Accessor::Second];
    assert_eq!(
        of_body("input.connection.auth_age_seconds < 60"),
        Ok(Projection { fields: second(), subject: subject(&["connection.auth_time_unix"]), reads: vec![] })
    );
    let whole = of_body("f(input.connection) == 1").unwrap();
    assert_eq!(whole.fields, second());
    assert!(whole.subject.contains(&vec!["connection".to_owned()]));
}

#[test]
fn what_cannot_be_in_a_key_says_why_and_where() {
    for (body, reason) in [
        ("f(input).client.name == \"a\"", "the whole `input` is read"),
        ("some x in input.request; x == 1", "the whole `input.request` is read"),
        ("some name; input.request[name] == \"a\"", "the whole `input.request` is read"),
        ("input.request.id == \"a\"", "`input.request.id` is read, which no two requests have in common"),
        ("input.request.body.json.a == 1", "`input.request.body` is read, and bodies are not compared"),
        ("input.request.body.size > 1", "`input.request.body` is read, and bodies are not compared"),
        ("f(input.request.body) == 1", "`input.request.body` is read, and bodies are not compared"),
        ("count(input.request.headers) == 1", "all header fields are read"),
        ("some name; input.request.headers[name] == \"a\"", "all header fields are read"),
        ("input.request.headers_all[input.request.path][0] == \"a\"", "all header fields are read"),
        ("object.get(input.request.headers, \"x\", \"\") == \"a\"", "all header fields are read"),
        ("time.now_ns() > 5", "`time.now_ns` does not follow from the input"),
        ("rand.intn(\"a\", 5) > 2", "`rand.intn` does not follow from the input"),
        ("uuid.rfc4122(\"a\") == \"x\"", "`uuid.rfc4122` does not follow from the input"),
        ("f(1) == 1 with input.request.path as \"/\"", "`with` replaces a part of the input"),
        ("f(1) == 1 with data.p as {}", "`with` replaces a part of the input"),
    ] {
        let reasons = of_body(body).expect_err(body);
        assert!(reasons[0].contains(&format!("warning: {reason}")), "{body}: {reasons:?}");
        assert!(reasons[0].starts_with("p.rego:3:"), "{body}: {reasons:?}");
    }
}

#[test]
fn all_reasons_are_given_and_those_of_other_rules_too() {
    let text = "package p\nallow if g\ng if time.now_ns() > 1\nunused if input.request.id == \"x\"\n";
    let reasons = projection(text).unwrap_err();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    let imported = projection("package p\nimport input.request\nallow if request.id == \"/\"\n").unwrap_err();
    assert!(imported[0].starts_with("p.rego:3:"), "{imported:?}");
}

#[test]
fn tests_of_a_policy_do_not_count() {
    let sources = vec![
        Source::new("p.rego", &b"package p\nallow if input.request.path == \"/\"\n"[..]),
        Source::new(
            "p_test.rego",
            &b"package p_test\ntest_a if data.p.allow with input as {\"request\": {\"path\": \"/\"}}\n"[..],
        ),
    ];
    let prepared = Prepared::of(&PolicySet::new(sources, "data.p.allow", Limits::default())).unwrap();
    assert!(prepared.projection().is_ok());
}

#[test]
fn a_document_keeps_what_is_named_and_nothing_else() {
    let text = "package p\nallow if input.request.headers.a == input.client.san.uri[0]\nallow if input.version == 2\n";
    let projection = projection(text).unwrap();
    let document = Value::from_json_str(
        r#"{"version": 1, "client": {"name": "n", "san": {"uri": ["u"], "dns": []}},
            "request": {"path": "/", "headers": {"a": "1", "b": "2"}, "headers_all": {"a": ["1"]}}}"#,
    );
    let kept = r#"{"version": 1, "client": {"san": {"uri": ["u"]}}, "request": {"headers": {"a": "1"}}}"#;
    assert_eq!(projection.of_document(&document.unwrap()), Value::from_json_str(kept).unwrap());
}

#[test]
fn each_read_of_another_shape_is_a_part_of_the_key() {
    use Accessor::*;
    let envoy: &[(&str, &[Accessor], &[&str])] = &[
        ("attributes.request.http.method", &[Method], &[]),
        ("attributes.request.http.headers[\":method\"]", &[Method], &[]),
        ("attributes.request.http.path", &[Path, Query], &[]),
        ("attributes.request.http.headers[\":path\"]", &[Path, Query], &[]),
        ("attributes.request.http.host", &[Host], &[]),
        ("attributes.request.http.headers[\":authority\"]", &[Host], &[]),
        ("attributes.request.http.headers[\":scheme\"]", &[Scheme], &[]),
        ("attributes.request.http.headers[\"x-a\"]", &[Header("x-a".into())], &[]),
        ("attributes.request.http.protocol", &[Protocol], &[]),
        ("attributes.request.time", &[Second], &[]),
        ("parsed_query.page", &[QueryValues("page".into())], &[]),
        ("parsed_query[\"a;b\"]", &[Query], &[]),
        ("parsed_query[\"%zz\"]", &[Query], &[]),
        ("attributes.contextExtensions", &[RouteLabels], &[]),
        ("attributes.contextExtensions.team", &[RouteLabel("team".into())], &[]),
        ("attributes.destination", &[], &["connection.local_port"]),
        ("attributes.source.address.socketAddress.address", &[], &["connection.remote_addr"]),
        ("attributes.source.address", &[], &["connection.remote_addr", "connection.remote_port"]),
        (
            "attributes.source.principal",
            &[],
            &["client.san.dns", "client.san.uri", "client.subject.dn", "client.verified"],
        ),
        ("attributes.tlsSession.sni", &[], &["connection.sni"]),
        ("attributes.metadataContext.filterMetadata.ringward.client.tenant", &[], &["client.tenant"]),
        (
            "attributes.metadataContext.filterMetadata.ringward.route.params.id",
            &[RouteParam("id".into())],
            &[],
        ),
        ("parsed_path", &[Path], &[]),
        ("parsed_query.page[0]", &[QueryValues("page".into())], &[]),
        ("version", &[], &[]),
    ];
    let kong: &[(&str, &[Accessor], &[&str])] = &[
        ("client_ip", &[], &["connection.remote_addr"]),
        ("consumer.username", &[], &["client.identity", "client.verified"]),
        ("request.http.method", &[Method], &[]),
        ("request.http.path", &[Path], &[]),
        ("request.http.host", &[Host], &[]),
        ("request.http.port", &[], &["connection.local_port"]),
        ("request.http.scheme", &[Scheme], &[]),
        ("request.http.headers[\"x-a\"]", &[Header("x-a".into())], &[]),
        ("request.http.querystring.a", &[Query], &[]),
        ("request.http.tls", &[], &["client.verified", "connection.cipher", "connection.tls_version"]),
        ("request.http.tls.client_verify", &[], &["client.verified"]),
        ("request.http.tls.version", &[], &["connection.tls_version"]),
        ("request.http.uri_captures.named.id", &[RouteParams], &[]),
        ("ringward.client.tenant", &[], &["client.tenant"]),
        ("ringward.time.unix_s", &[Second], &[]),
        ("route.name", &[RouteId], &[]),
        ("service.name", &[RouteUpstream], &[]),
    ];
    for (shape, table) in [(InputShape::EnvoyV3, envoy), (InputShape::Kong, kong)] {
        for (path, fields, of_subject) in table {
            let expected =
                Projection { fields: fields.to_vec(), subject: subject(of_subject), reads: vec![] };
            assert_eq!(of_body_in(shape, &format!("f(input.{path}) == 1")), Ok(expected), "{path}");
        }
    }
}

#[test]
fn what_cannot_be_in_a_key_of_another_shape_says_why() {
    for (shape, path, reason) in [
        (InputShape::EnvoyV3, "attributes", "the whole `input.attributes` is read"),
        (InputShape::EnvoyV3, "attributes.request.http", "the whole `input.attributes.request.http` is read"),
        (InputShape::EnvoyV3, "attributes.request.http.headers", "all header fields are read"),
        (
            InputShape::EnvoyV3,
            "attributes.request.http.id",
            "`input.attributes.request.http.id` is read, which",
        ),
        (InputShape::EnvoyV3, "attributes.request.http.body", "and bodies are not compared"),
        (InputShape::EnvoyV3, "attributes.request.http.size", "and bodies are not compared"),
        (InputShape::EnvoyV3, "parsed_body.a", "and bodies are not compared"),
        (InputShape::EnvoyV3, "truncated_body", "and bodies are not compared"),
        (InputShape::Kong, "request.http", "the whole `input.request.http` is read"),
        (InputShape::Kong, "ringward", "the whole `input.ringward` is read"),
        (InputShape::Kong, "request.http.headers", "all header fields are read"),
        (InputShape::Kong, "request.http.body_size", "and bodies are not compared"),
        (InputShape::Kong, "request.http.parsed_body.a", "and bodies are not compared"),
    ] {
        let reasons = of_body_in(shape, &format!("f(input.{path}) == 1")).expect_err(path);
        assert!(reasons[0].contains(reason), "{path}: {reasons:?}");
    }
}
