//! The same for policies in Cedar.

use super::*;
use crate::problem::PolicyErrors;
use crate::set::Language;

/// Conditions over all fields of the context, and over who asks for what. Each holds for some of the requests and not for others.
const CONDITIONS: &[&str] = &[
    "principal is Ringward::Anonymous",
    "principal == Ringward::Client::\"spiffe://x/1\"",
    "principal == Ringward::Client::\"t1/n\"",
    "principal in Ringward::Group::\"g\"",
    "principal has level && principal.level > 1",
    "action == Ringward::Action::\"GET\"",
    "action in [Ringward::Action::\"POST\", Ringward::Action::\"OTHER\"]",
    "resource == Ringward::Route::\"r1\"",
    "resource in Ringward::Group::\"h\"",
    "context.request.method == \"GET\"",
    "context.request.path == \"/a\"",
    "context.request.path like \"/a/*\"",
    "context.request.segments.contains(\"a\")",
    "context.request.segments == [\"b c\", \"a\"]",
    "context.request.raw_path like \"*?*\"",
    "context.request.query has page && context.request.query.page.contains(\"1\")",
    "!(context.request.query has page)",
    "context.request.query has \"a b\"",
    "context.request.host == \"a.example\"",
    "context.request.scheme == \"https\"",
    "context.request.protocol == \"HTTP/1.1\"",
    "context.request.headers has \"x-a\" && context.request.headers[\"x-a\"] == \"1\"",
    "context has request.headers.cookie && context.request.headers.cookie == \"s=1; t=2\"",
    "!(context.request.headers has \"x-a\")",
    "context.request.headers_all has \"x-a\" && context.request.headers_all[\"x-a\"].containsAll([\"1\", \"2\"])",
    "context.request.headers has cookie && context.request.headers.cookie like \"s=*\"",
    "context.client.verified",
    "context.client.tenant == \"t1\"",
    "context.client.name == \"n\"",
    "context.client.subject.organizational_units.contains(\"ou\")",
    "context.client.san.dns.containsAny([\"d2\", \"e\"])",
    "context.client.extensions has \"1.2.3\" && context.client.extensions[\"1.2.3\"] == \"x\"",
    "!(context.client.extensions has \"1.2.3\")",
    "context.client.not_after_unix > 1900000000",
    "{ \"a\": context.client.serial }.a == \"0a\"",
    "[context.client.san].contains({ \"dns\": [\"d1\"], \"email\": [\"a@z\"], \"ip\": [\"192.0.2.7\"], \"uri\": [\"spiffe://x/1\"] })",
    "context.connection.remote_addr == \"192.0.2.1\"",
    "context.connection.remote_ip.isInRange(ip(\"192.0.2.1/32\"))",
    "context.connection.remote_port > 1000",
    "context.connection.resumed",
    "context.connection.sni == \"a.example\"",
    "context.connection.auth_age_seconds < 60",
    "context.route.id == \"r1\"",
    "context.route.template == \"/a/{id}\"",
    "context.route.upstream == \"u1\"",
    "context.route.params has id && context.route.params.id == \"7\"",
    "context.route.labels has team && context.route.labels.team == \"x\"",
    "context.time.unix_s > 1800000030",
    "context.version == 1",
    "[\"r1\", \"u1\"].contains(if context.request.method == \"GET\" then context.route.id else context.route.upstream)",
    "context.request.path == \"/a\" || context.client.tenant == \"t2\"",
    // Ends in an error for some.
    "(context.time.unix_s - 1800000000) * 9000000000000000000 > 0",
];

const SCHEMA: &str = "namespace Ringward { entity Client in [Group] { level?: Long }; }";

const ENTITIES: &str = r#"[
    { "uid": { "type": "Ringward::Client", "id": "spiffe://x/1" }, "attrs": { "level": 2 }, "parents": [] },
    { "uid": { "type": "Ringward::Client", "id": "t1/n" }, "attrs": { "level": 1 },
      "parents": [{ "type": "Ringward::Group", "id": "g" }] },
    { "uid": { "type": "Ringward::Client", "id": "n" }, "attrs": {}, "parents": [{ "type": "Ringward::Group", "id": "g" }] },
    { "uid": { "type": "Ringward::Route", "id": "r2" }, "attrs": {}, "parents": [{ "type": "Ringward::Group", "id": "h" }] }
]"#;

fn compiled(policies: &str) -> Arc<dyn CompiledPolicy> {
    compile(policies).unwrap_or_else(|errors| panic!("{policies}\n{errors}"))
}

fn compile(policies: &str) -> Result<Arc<dyn CompiledPolicy>, PolicyErrors> {
    let files = [("e.json", ENTITIES), ("p.cedar", policies), ("s.cedarschema", SCHEMA)];
    let sources = files.iter().map(|(path, text)| Source::new(*path, text.as_bytes())).collect();
    let set = PolicySet::without_rule(Language::Cedar, sources, Limits::default());
    crate::compile(&set)
}

/// Some policies with some conditions.
fn policies(random: &mut Random) -> String {
    loop {
        let policies = any_policies(random);
        match compile(&policies) {
            // Of conditions that exclude each other.
            Err(errors) if errors.to_string().contains("policy is impossible") => {}
            _ => return policies,
        }
    }
}

fn any_policies(random: &mut Random) -> String {
    let mut policies = String::new();
    for number in 0..1 + random.below(4) {
        let effect = random.of(&["permit", "permit", "forbid"]);
        let conditions: Vec<_> =
            (0..1 + random.below(3)).map(|_| format!("({})", random.of(CONDITIONS))).collect();
        let joined = conditions.join(random.of(&[" && ", " || "]));
        policies +=
            &format!("@id(\"{number}\") {effect} (principal, action, resource) when {{ {joined} }};\n");
    }
    policies
}

#[test]
fn cached_decisions_are_those_of_the_policy() {
    let (mut random, mut hits, mut allowed) = (Random(0x9e37_79b9_7f4a_7c15), 0, 0);
    for number in 0..60 {
        let text = policies(&mut random);
        let policy = compiled(&text);
        let projection = (**policy.projection().unwrap_or_else(|why| panic!("{text}\n{why:?}"))).clone();
        let cases = cases(&mut random, 200);
        let (found, wrong) = compare(&*policy, projection, &cases);
        assert_eq!(wrong, None, "policy {number}:\n{text}");
        hits += found;
        let mut plain = policy.worker();
        let decide =
            |case: &Case| plain.decide(&case.subject, &case.request.view(&Headers(&case.request.headers)));
        allowed += cases
            .iter()
            .map(decide)
            .filter(|decided| decided.as_ref().is_ok_and(|decision| decision.allowed))
            .count();
    }
    assert!(hits > 600 && allowed > 600, "{hits} hits, {allowed} allowed: the requests try nothing");
}

#[test]
fn a_projection_that_lacks_any_part_is_found_out() {
    let (mut random, mut unnoticed) = (Random(0xdead_beef_cafe_f00d), Vec::new());
    for condition in CONDITIONS.iter().filter(|condition| !condition.starts_with("principal")) {
        let policy = compiled(&format!("permit (principal, action, resource) when {{ {condition} }};"));
        let projection = policy.projection().unwrap_or_else(|why| panic!("{condition}: {why:?}"));
        let cases = cases(&mut random, 3000);
        let (_, wrong) = compare(&*policy, (**projection).clone(), &cases);
        assert_eq!(wrong, None, "{condition}");
        for (part, broken) in (0..).map_while(|part| Some((part, projection.without(part)?))) {
            if compare(&*policy, broken, &cases).1.is_none() {
                unnoticed.push(format!("{condition}: part {part} of {projection:?}"));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// A principal is made of many parts, so two clients hardly ever differ in one alone: here are two for each.
#[test]
fn every_part_of_the_principal_tells_clients_apart() {
    let one = |text: &str| vec![text.to_owned()].into();
    let nobody = Claims { verified: true, ..Claims::default() };
    let named = |identity| Claims { identity, ..nobody.clone() };
    let of_tenant = |tenant, identity| Claims { tenant, identity, ..nobody.clone() };
    let mailbox = Claims { emails: one("x:y@z"), ..named("x:y@z") };
    for (part, principal, allowed, other) in [
        ("client.identity", "t1/n", of_tenant("t1", "n"), of_tenant("t1", "m")),
        ("client.tenant", "t1/n", of_tenant("t1", "n"), of_tenant("t2", "n")),
        ("client.spiffe_id", "n", named("n"), Claims { spiffe_id: "spiffe://x/1", ..named("n") }),
        ("client.verified", "n", named("n"), Claims { verified: false, ..named("n") }),
        // These say of what kind the name is, and so whether it could be another client's.
        ("client.san.dns", "a@z", named("a@z"), Claims { dns: one("d"), ..named("a@z") }),
        ("client.san.email", "x:y@z", named("x:y@z"), mailbox.clone()),
        ("client.san.uri", "x:y@z", Claims { uris: one("x:y@z"), ..mailbox.clone() }, mailbox.clone()),
    ] {
        let policy =
            compiled(&format!("permit (principal == Ringward::Client::\"{principal}\", action, resource);"));
        let projection = policy.projection().unwrap();
        let index = projection.subject.iter().position(|path| path.join(".") == part).unwrap();
        let request = Parts::random(&mut Random(1));
        let subjects = [allowed, other].map(|claims| Subject::from_claims(&claims, &sample::connection()));
        let case = |connection: usize| Case {
            subject: subjects[connection].clone(),
            connection,
            request: request.clone(),
        };
        let cases = [0, 0, 0, 1, 1, 1, 0, 1].map(case);
        assert_eq!(compare(&*policy, (**projection).clone(), &cases).1, None, "{part}");
        assert!(
            policy.worker().decide(&subjects[0], &request.view(&Headers(&[]))).unwrap().allowed,
            "{part}"
        );
        let broken = projection.without(projection.fields.len() + index).unwrap();
        assert_eq!(compare(&*policy, broken, &cases).1, Some(3), "{part}");
    }
}
