//! A table of the matcher as it is written: one field per key, in the words of the file. This is the reference of its format.

use std::collections::BTreeMap;

use ringward_config::raw::{Count, Field, OneOrMany};
use serde::Deserialize;
use serde_spanned::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "a matcher table", default, deny_unknown_fields)]
pub(super) struct Table {
    /// `[[rule]]`: what is allowed, and what is denied in any case.
    pub(super) rule: Field<Vec<Field<Rule>>>,
    /// `[[test]]`: requests, and what has to become of them. They are run whenever the table is loaded, and a table with a failing
    /// one is refused.
    pub(super) test: Field<Vec<Field<Test>>>,
}

/// `[[rule]]`: a request matches if all the conditions that are given hold. A condition with several values holds for any of them.
///
/// A request is denied if a rule with `effect = "deny"` matches, wherever it stands; allowed if none does and one with
/// `effect = "allow"` matches; and denied if nothing matches. Of several rules that match, the first gives name and reason.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "[[rule]]", default, deny_unknown_fields)]
pub(super) struct Rule {
    /// The rule's name in logs, up to 128 bytes. Required; no two rules of a policy have the same. Example: `name = "orders"`.
    pub(super) name: Field<String>,
    /// `"allow"` or `"deny"`. Required.
    pub(super) effect: Field<Effect>,
    /// Why, for the log: up to 1024 bytes. Example: `reason = "exports are suspended"`.
    pub(super) reason: Field<String>,
    /// Status of the answer to a request that this rule denies, 400 to 599. Default: 403. Example: `status = 451`.
    pub(super) status: Field<Count>,
    /// `true`: clients with a verified certificate; `false`: clients without. Needless beside a condition on a name of the client,
    /// which no client without certificate has.
    pub(super) verified: Field<bool>,
    /// SPIFFE IDs. One that ends in `/*` stands for all IDs below it, by whole segments: `"spiffe://example.com/ns/shop/*"` for
    /// `spiffe://example.com/ns/shop/sa/orders`, and neither for `spiffe://example.com/ns/shop` nor `.../ns/shopping/sa/a`.
    pub(super) spiffe_id: Field<OneOrMany>,
    /// Tenants of the configuration.
    pub(super) tenant: Field<OneOrMany>,
    /// What its tenant calls the client. Needs `tenant`: two tenants may use the same name.
    pub(super) identity: Field<OneOrMany>,
    /// DNS names of the certificate, in any letter case.
    pub(super) dns: Field<OneOrMany>,
    /// URI names of the certificate.
    pub(super) uri: Field<OneOrMany>,
    /// Email names of the certificate.
    pub(super) email: Field<OneOrMany>,
    /// Common names (CN) of the subject. A client with several passes no rule that allows by one of them.
    pub(super) common_name: Field<OneOrMany>,
    /// Organizations (O) of the subject.
    pub(super) organization: Field<OneOrMany>,
    /// Organizational units (OU) of the subject.
    pub(super) ou: Field<OneOrMany>,
    /// SHA-256 of the certificate in hexadecimal.
    pub(super) fingerprint: Field<OneOrMany>,
    /// Methods. `GET` does not stand for `HEAD`. Example: `methods = ["GET", "HEAD"]`.
    pub(super) methods: Field<OneOrMany>,
    /// Templates of paths, as routes have them: `"/orders/{id}"` takes one segment, `"/files/{rest...}"` all that follows `/files/`.
    /// They are compared with the path that goes upstream; an encoded slash (`%2F`) is a part of its segment.
    pub(super) path: Field<OneOrMany>,
    /// Host names, or `*.` and a name for all names with one more label in front. Example: `host = "api.example.com"`.
    pub(super) host: Field<OneOrMany>,
    /// Ids of routes of the configuration.
    pub(super) route: Field<OneOrMany>,
    /// Header fields and their values. A rule that allows matches if the field is there and all its values are among these, one
    /// that denies if any of its values is. Example: `headers = { x-team = ["red", "blue"] }`.
    pub(super) headers: Field<BTreeMap<Spanned<String>, Field<OneOrMany>>>,
}

/// What a rule does with requests that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename = "rule.effect", rename_all = "snake_case")]
pub(super) enum Effect {
    /// Allows them, unless another rule denies them.
    Allow,
    /// Denies them.
    Deny,
}

/// `[[test]]`: a request, and what has to become of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "[[test]]", default, deny_unknown_fields)]
pub(super) struct Test {
    /// What it shows. Required.
    pub(super) name: Field<String>,
    /// The client. Default: one without certificate. Example: `client = { ou = "Partners" }`.
    pub(super) client: Field<TestClient>,
    /// The method. Default `"GET"`.
    pub(super) method: Field<String>,
    /// The path, as it would go upstream, without query. Default `"/"`.
    pub(super) path: Field<String>,
    /// The host. Default: one that no rule names.
    pub(super) host: Field<String>,
    /// The id of the route. Default: one that no rule names.
    pub(super) route: Field<String>,
    /// The header fields. Default: none.
    pub(super) headers: Field<BTreeMap<Spanned<String>, Field<OneOrMany>>>,
    /// What has to become of it. Required.
    pub(super) expect: Field<Effect>,
    /// The rule that has to decide. Default: any, or none.
    pub(super) rule: Field<String>,
}

/// `client = { ... }` of `[[test]]`: the names of a client with a verified certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(rename = "test.client", default, deny_unknown_fields)]
pub(super) struct TestClient {
    pub(super) spiffe_id: Field<String>,
    pub(super) tenant: Field<String>,
    pub(super) identity: Field<String>,
    pub(super) dns: Field<OneOrMany>,
    pub(super) uri: Field<OneOrMany>,
    pub(super) email: Field<OneOrMany>,
    pub(super) common_name: Field<OneOrMany>,
    pub(super) organization: Field<OneOrMany>,
    pub(super) ou: Field<OneOrMany>,
    pub(super) fingerprint: Field<String>,
}
