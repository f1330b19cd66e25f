//! What policies and entities name that there is not, and what they are called.

use super::*;
use crate::problem::Mentioned;

fn report(files: &[(&str, &str)]) -> Report {
    crate::check(&set_of(files)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn warnings(files: &[(&str, &str)]) -> Vec<String> {
    report(files).warnings.iter().map(ToString::to_string).collect()
}

fn forbid(scope: &str, condition: &str) -> String {
    format!("forbid ({scope}) when {{ {condition} }};\n")
}

const SCHEMA: &str = "namespace Ringward { entity Client in [Group] { blocked?: Bool, limits?: { low?: Long } };\n\
    entity Group { open: Bool }; }";

/// A tenant's authority may write into a certificate what it likes.
#[test]
fn a_tenants_client_is_called_by_its_tenant_whatever_its_spiffe_id() {
    let text = "@id(\"a\") permit (principal == Ringward::Client::\"spiffe://example.com/partner/a\", action, resource);\n\
        @id(\"b\") permit (principal == Ringward::Client::\"acme/spiffe://example.com/partner/a\", action, resource);";
    let mut worker = worker(&[("p.cedar", text)]);
    let of_tenant = |tenant| Claims { tenant, identity: partner().spiffe_id, ..partner() };
    for (tenant, expected) in
        [("", "allowed, a"), ("acme", "allowed, b"), ("globex", "denied, no policy permits the request")]
    {
        assert_eq!(asked(&mut *worker, &of_tenant(tenant), &sample::request()), expected, "{tenant}");
    }
}

#[test]
fn what_can_never_apply_is_refused() {
    let good = permit("context.request.path == \"/\"");
    for text in [
        "forbid (principal, action, resource == Ringward::Group::\"admin\");".to_owned(),
        "forbid (principal == Ringward::Route::\"a\", action, resource);".to_owned(),
        forbid(
            "principal, action, resource",
            "principal is Ringward::Anonymous && principal is Ringward::Client",
        ),
        permit("false"),
    ] {
        let found = errors(&format!("{good}{text}"));
        assert!(
            found.starts_with("p.cedar:2:1: error: ") && found.contains("help: remove the policy"),
            "{text}: {found}"
        );
        assert!(!found.contains("for policy"), "{found}");
    }
}

#[test]
fn attributes_that_nothing_has_are_refused_behind_has() {
    let check = |text: &str| errors_of(&[("p.cedar", text), ("s.cedarschema", SCHEMA)]);
    let everyone = "principal, action, resource";
    for (condition, expected) in [
        (
            "context.request.path == \"/\" || (principal has blokced && principal.blokced)",
            "p.cedar:1:1: error: attribute `blokced` is never there: `principal` has none of this name\n  help: did you mean `blocked`?",
        ),
        ("context.request.path == \"/\" || principal has open", "attribute `open` is never there"),
        ("context.request.path == \"/\" || resource has owner", "`resource` has none of this name"),
        ("context.request.path == \"/\" || principal has limits.hihg", "attribute `hihg` is never there"),
        (
            "(if context.client.verified then context.request else context.request) has paht",
            "attribute `paht` is never there",
        ),
        ("{ \"a\": context }.a.request has paht", "did you mean `path`?"),
        ("context.request.path == \"/\" || context.request has \"*\"", "`context.request` has no field `*`"),
        ("context.request.path == \"/\" || context has \"*\"", "`context` has no field `*`"),
    ] {
        let found = check(&forbid(everyone, condition));
        assert!(found.contains(expected), "{condition}: {found}");
    }
    for condition in [
        "principal has blocked && principal.blocked",
        "principal has limits.low && principal.limits.low > 1",
        "{ \"a\": context.request }.a.headers has \"x-a\" || context.request.headers has \"x-a\"",
        "context.request.headers has \"*\"",
        "{ \"mine\": context.request.path } has mine",
    ] {
        assert_eq!(check(&forbid(everyone, condition)), "", "{condition}");
    }
}

#[test]
fn entities_that_there_are_not_are_told_of() {
    let entities = r#"[
  { "uid": { "type": "Ringward::Group", "id": "partners" }, "attrs": { "open": true }, "parents": [] },
  { "uid": { "type": "Ringward::Client", "id": "a.example.com" }, "attrs": {},
    "parents": [{ "type": "Ringward::Group", "id": "partnres" }] },
  { "uid": { "type": "Ringward::Client", "id": "SPIFFE://example.com/a" }, "attrs": {}, "parents": [] },
  { "uid": { "__entity": { "type": "Ringward::Client", "id": "acme/b" } }, "attrs": {},
    "parents": [{ "__entity": { "type": "Ringward::Group", "id": "partners" } }] },
  { "uid": { "type": "Ringward::Route", "id": "orders" }, "attrs": {}, "parents": [] }
]"#;
    let text = "permit (principal in Ringward::Group::\"partner\", action, resource);\n\
        permit (principal == Ringward::Client::\"/x\", action, resource);\n\
        permit (principal == Ringward::Client::\"globex/x\", action, resource == Ringward::Route::\"exports\");\n\
        @id(\"by-id\") permit (principal, action, resource) when { context.route.id == \"invoices\" || [\"a\"].contains(context.route.id) };\n\
        permit (principal in Ringward::Group::\"partnres\", action, resource);";
    let files = [("e.json", entities), ("p.cedar", text), ("s.cedarschema", SCHEMA)];
    assert_eq!(
        warnings(&files),
        [
            "e.json:3:48: warning: `Ringward::Client::\"a.example.com\"` is in `Ringward::Group::\"partnres\"`, which is no entity\n  help: check its spelling, or add it to the entities",
            "e.json:5:48: warning: `Ringward::Client::\"SPIFFE://example.com/a\"` is never a principal: it is not written as SPIFFE IDs are",
            "p.cedar:1:1: warning: nothing is in `Ringward::Group::\"partner\"`: no entity has it as parent\n  help: did you mean `partners`?",
            "p.cedar:2:1: warning: `Ringward::Client::\"/x\"` is never a principal: a tenant's name stands before the slash",
        ]
    );
    let mentions = report(&files).mentions;
    let mut mentions: Vec<_> = mentions
        .iter()
        .map(|found| (found.of, &*found.name, &*found.rule, &*found.file, found.line))
        .collect();
    mentions.sort_by_key(|(_, name, ..)| *name);
    assert_eq!(
        mentions,
        [
            (Mentioned::Route, "a", "by-id", "p.cedar", 4),
            (Mentioned::Tenant, "acme", "", "e.json", 6),
            (Mentioned::Route, "exports", "p.cedar:3", "p.cedar", 3),
            (Mentioned::Tenant, "globex", "p.cedar:3", "p.cedar", 3),
            (Mentioned::Route, "invoices", "by-id", "p.cedar", 4),
            (Mentioned::Route, "orders", "", "e.json", 8),
        ]
    );
    let read = |group: &str| {
        let text = permit(&format!("Ringward::Group::\"{group}\".open"));
        errors_of(&[("e.json", entities), ("p.cedar", &text), ("s.cedarschema", SCHEMA)])
    };
    assert_eq!(read("partners"), "");
    assert!(
        read("none").contains(
            "p.cedar:1:1: error: `Ringward::Group::\"none\"` is not among the entities, and has no attributes"
        ),
        "{}",
        read("none")
    );
}

/// Records tell policies apart by their names.
#[test]
fn no_two_policies_have_one_name() {
    let text = "permit (principal, action, resource);";
    for (files, expected) in [
        (
            vec![("a/p.cedar", text), ("b/p.cedar", text)],
            "b/p.cedar:1:1: error: policy `p.cedar:1` is named like the one at line 1 of a/p.cedar",
        ),
        (
            vec![("p.cedar", &*format!("{text} {text}"))],
            "p.cedar:1:39: error: policy `p.cedar:1` is named like",
        ),
        (
            vec![("a.cedar", &*format!("@id(\"p.cedar:1\") {text}")), ("p.cedar", text)],
            "p.cedar:1:1: error: policy `p.cedar:1` is named like the one at line 1 of a.cedar",
        ),
    ] {
        let found = errors_of(&files);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn names_and_reasons_show_as_they_are() {
    for (annotation, character) in [
        ("@id(\"a\u{202e}b\")", "U+202E"),
        ("@reason(\"a\\u{2028}b\")", "U+2028"),
        ("@id(\"\u{feff}\")", "U+FEFF"),
    ] {
        let found = errors(&format!("{annotation} permit (principal, action, resource);"));
        assert!(found.contains("p.cedar:1:1: error: ") && found.contains(character), "{found}");
    }
    assert_eq!(errors("@id(\"é – 中\") permit (principal, action, resource);"), "");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    let mark = |text: &str| format!("\u{feff}{text}");
    let files = [
        ("e.json", mark(ENTITIES)),
        ("p.cedar", mark("permit (principal in Ringward::Group::\"partners\", action, resource);")),
        ("s.cedarschema", mark("namespace Ringward { entity Client in [Group] { level?: Long }; }")),
        ("t.test.toml", mark("[[test]]\nname = \"a\"\nexpect = \"deny\"\n")),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    assert_eq!(errors_of(&files), "");
    assert!(errors(&mark("permit (principal, actoin, resource);")).contains("p.cedar:1:20: "));
}

#[test]
fn mistakes_in_a_schema_have_a_place() {
    let good = permit("true");
    for (schema, expected) in [
        ("// Nothing\nnamespace Ringward {\n  entity Client in [Nothing];\n}", "s.cedarschema:3:21: error: "),
        (
            "namespace Ringward {\n  entity Client { level: Long };\n}",
            "s.cedarschema:2:19: error: attribute `level`",
        ),
        (
            "entity A;\naction \"x\" appliesTo { principal: [A], resource: [A] };",
            "s.cedarschema:2:1: error: the schema declares an `action`",
        ),
    ] {
        let found = errors_of(&[("p.cedar", &good), ("s.cedarschema", schema)]);
        assert!(found.contains(expected), "{found}");
    }
}

/// Cedar's own words begin with the number of the policy, which nobody gave.
#[test]
fn numbers_of_policies_are_not_shown() {
    let found = errors(&permit("principal in Contract::\"a\""));
    assert!(found.starts_with("p.cedar:1:") && !found.contains("policy `0`"), "{found}");
}
