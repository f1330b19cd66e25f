//! A request as Cedar sees it: who asks (principal), for what (action, resource), and all else (context).

use std::str::FromStr;

use cedar_policy::{Context, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use regorus::Value;

use crate::cedar::schema::{ADDRESS, ADDRESS_IP, METHODS, OTHER};
use crate::decision::DecisionError;
use crate::input::facts::Facts;
use crate::input::values::text;

/// Makes the entities of requests. The names of types and actions are read once.
pub(super) struct Names {
    client: EntityTypeName,
    route: EntityTypeName,
    anonymous: EntityUid,
    /// In the order of [`METHODS`].
    actions: Vec<EntityUid>,
    other: EntityUid,
}

impl Names {
    pub(super) fn new() -> Self {
        let name = |name: &str| EntityTypeName::from_str(name).expect("a name of ours is a name of Cedar");
        let uid = |of: &str, id: &str| EntityUid::from_type_name_and_id(name(of), EntityId::new(id));
        Self {
            client: name(CLIENT),
            route: name(ROUTE),
            anonymous: uid(ANONYMOUS, ""),
            actions: METHODS.iter().map(|method| uid(ACTION, method)).collect(),
            other: uid(ACTION, OTHER),
        }
    }

    pub(super) fn action(&self, method: &str) -> EntityUid {
        let known = METHODS.iter().position(|known| *known == method);
        known.map_or(&self.other, |index| &self.actions[index]).clone()
    }

    pub(super) fn resource(&self, route: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.route.clone(), EntityId::new(route))
    }

    /// The principal of a caller.
    ///
    /// # Errors
    ///
    /// If another caller could have the same name.
    pub(super) fn principal(&self, caller: &Caller<'_>) -> Result<EntityUid, DecisionError> {
        if !caller.verified {
            return Ok(self.anonymous.clone());
        }
        let client = |id: &str| Ok(EntityUid::from_type_name_and_id(self.client.clone(), EntityId::new(id)));
        // Before the SPIFFE ID: a tenant's authority could write that of another tenant's client into a certificate.
        if !caller.tenant.is_empty() {
            if !is_tenant(caller.tenant) {
                return Err(ambiguous(caller.tenant));
            }
            return client(&[caller.tenant, "/", caller.identity].concat());
        }
        if !caller.spiffe_id.is_empty() {
            return client(caller.spiffe_id);
        }
        if caller.identity.is_empty() || !caller.name_is_plain() {
            return Err(ambiguous(caller.identity));
        }
        client(caller.identity)
    }
}

/// The names of who asks.
#[derive(Debug, Default)]
pub(super) struct Caller<'a> {
    pub(super) verified: bool,
    pub(super) spiffe_id: &'a str,
    pub(super) tenant: &'a str,
    /// Of a client without tenant its name: its first URI, DNS or email name, its subject or its fingerprint.
    pub(super) identity: &'a str,
    pub(super) has_uri: bool,
    pub(super) has_dns: bool,
    pub(super) has_email: bool,
}

impl<'a> Caller<'a> {
    pub(super) fn of(facts: &'a Facts) -> Self {
        Self {
            verified: facts.verified,
            spiffe_id: &facts.spiffe_id,
            tenant: &facts.tenant,
            identity: &facts.identity,
            has_uri: !facts.uris.is_empty(),
            has_dns: !facts.dns.is_empty(),
            has_email: !facts.emails.is_empty(),
        }
    }

    /// The caller of an input document.
    pub(super) fn of_document(document: &'a Value) -> Self {
        let client = &document["client"];
        let field = |name: &str| match &client[name] {
            Value::String(text) => text.as_ref(),
            _ => "",
        };
        let has = |name: &str| matches!(&client["san"][name], Value::Array(names) if !names.is_empty());
        Self {
            verified: matches!(client["verified"], Value::Bool(true)),
            spiffe_id: field("spiffe_id"),
            tenant: field("tenant"),
            identity: field("identity"),
            has_uri: has("uri"),
            has_dns: has("dns"),
            has_email: has("email"),
        }
    }

    /// Whether the name of a client without tenant can be no other caller's.
    ///
    /// A SPIFFE ID begins with `spiffe:`, a tenant's client with the tenant's name and a slash, a fingerprint with `sha256:`. A DNS
    /// name has none of `:`, `/`, `=` and `@`, a URI a colon before any slash or equals sign, a subject an equals sign before any
    /// colon or slash; so these differ from one another. An email address may have any of them in it, and then is not told from
    /// the others.
    fn name_is_plain(&self) -> bool {
        let name = self.identity;
        if name.starts_with('/') || name.starts_with("spiffe:") {
            return false;
        }
        match (self.has_uri, self.has_dns, self.has_email) {
            (true, ..) => !name.starts_with("sha256:"),
            (false, true, _) => !name.contains([':', '/', '=', '@']),
            (false, false, true) => !name.contains([':', '/', '=']),
            (false, false, false) => true,
        }
    }
}

/// Whether a text is the name of a tenant as configurations have them: above all it has no slash and no colon.
pub(super) fn is_tenant(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn ambiguous(name: &str) -> DecisionError {
    let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    DecisionError::Evaluation(format!(
        "the client's name `{name}` could be another client's, so it is no principal"
    ))
}

/// What policies look at of a document, as a tree of names.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Everything from here on.
    whole: bool,
    fields: Vec<Field>,
}

/// A field that policies look at.
#[derive(Debug)]
struct Field {
    /// Its name in the document.
    key: Value,
    /// Its name in the context.
    name: String,
    /// It is made of the text as `ip(...)` makes it.
    is_ip: bool,
    wanted: Wanted,
}

impl Wanted {
    pub(super) fn of<'p>(paths: impl Iterator<Item = &'p [String]>) -> Self {
        let mut wanted = Self::default();
        for path in paths {
            wanted.add(path);
            // The address is in what is taken as a whole, too, though no document has it: a `forbid` that asks for it by `has` would
            // not hold else.
            if path.len() < ADDRESS_IP.len() && ADDRESS_IP.iter().zip(path).all(|(a, b)| a == b) {
                wanted.add(&ADDRESS_IP[..1]);
                wanted.add(&ADDRESS_IP);
            }
        }
        wanted.without_what_is_whole();
        wanted
    }

    fn add(&mut self, path: &[impl AsRef<str>]) {
        let mut at = self;
        for (index, name) in path.iter().enumerate() {
            let is_ip = path[..=index].iter().map(AsRef::as_ref).eq(ADDRESS_IP);
            at = at.field(if is_ip { ADDRESS[1] } else { name.as_ref() }, name.as_ref(), is_ip);
        }
        at.whole = true;
    }

    /// Leaves out the fields that are there anyhow, as what they are in is taken as a whole.
    fn without_what_is_whole(&mut self) {
        self.fields.iter_mut().for_each(|field| field.wanted.without_what_is_whole());
        if self.whole {
            self.fields.retain(|field| field.is_ip || !field.wanted.fields.is_empty());
        }
    }

    fn field(&mut self, key: &str, name: &str, is_ip: bool) -> &mut Self {
        let known = self.fields.iter().position(|known| known.name == name);
        let index = known.unwrap_or_else(|| {
            self.fields.push(Field { key: text(key), name: name.to_owned(), is_ip, wanted: Self::default() });
            self.fields.len() - 1
        });
        &mut self.fields[index].wanted
    }

    /// The context that this makes of a document, and how large it is.
    ///
    /// # Errors
    ///
    /// If something in it is no value of Cedar, or there is too much.
    pub(super) fn context(&self, document: &Value) -> Result<(Context, Size), DecisionError> {
        let mut size = Size::default();
        let fields = self.fields_of(document, &mut size)?;
        let context =
            Context::from_pairs(fields).map_err(|error| DecisionError::Evaluation(error.to_string()))?;
        Ok((context, size))
    }

    fn fields_of(
        &self,
        value: &Value,
        size: &mut Size,
    ) -> Result<Vec<(String, RestrictedExpression)>, DecisionError> {
        let Value::Object(object) = value else { return Err(no_value("no object where one belongs")) };
        let mut found = Vec::with_capacity(self.fields.len());
        if self.whole {
            for (name, value) in object.iter() {
                let Value::String(name) = name else { return Err(no_value("a name that is no text")) };
                let made = match self.fields.iter().find(|field| !field.is_ip && field.name == **name) {
                    Some(field) => record(field.wanted.fields_of(value, size)?)?,
                    None => whole(value, size)?,
                };
                found.push((name.to_string(), made));
            }
        }
        for field in self.fields.iter().filter(|field| field.is_ip || !self.whole) {
            let value = match object.get(&field.key) {
                Some(value) => value,
                None if field.is_ip => return Err(no_value("no address of the client")),
                None => continue,
            };
            let value = match value {
                Value::String(address) if field.is_ip => RestrictedExpression::new_ip(address),
                value if field.wanted.fields.is_empty() => whole(value, size)?,
                value => record(field.wanted.fields_of(value, size)?)?,
            };
            found.push((field.name.clone(), value));
        }
        Ok(found)
    }
}

/// How much a context holds.
#[derive(Debug, Default)]
pub(super) struct Size {
    /// Bytes of its texts.
    pub(super) text_bytes: usize,
    /// Values, those in sets and records too.
    pub(super) items: usize,
}

/// A value with everything in it.
fn whole(value: &Value, size: &mut Size) -> Result<RestrictedExpression, DecisionError> {
    size.items += 1;
    if size.items > ITEMS_MAX {
        return Err(DecisionError::Evaluation(format!(
            "the request has more than {ITEMS_MAX} values that the policy looks at"
        )));
    }
    Ok(match value {
        Value::Bool(value) => RestrictedExpression::new_bool(*value),
        Value::Number(number) => {
            // Cedar has no other numbers, and rounding could allow what the number itself does not.
            let number = number.as_i64().ok_or_else(|| no_value("a number that is no integer of 64 bits"))?;
            RestrictedExpression::new_long(number)
        }
        Value::String(text) => {
            size.text_bytes += text.len();
            RestrictedExpression::new_string(text.to_string())
        }
        Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| whole(item, size)).collect();
            RestrictedExpression::new_set(items?)
        }
        Value::Object(_) => record(EVERYTHING.fields_of(value, size)?)?,
        Value::Null => return Err(no_value("null")),
        Value::Set(_) | Value::Undefined => return Err(no_value("a value that is no JSON")),
    })
}

fn record(fields: Vec<(String, RestrictedExpression)>) -> Result<RestrictedExpression, DecisionError> {
    RestrictedExpression::new_record(fields).map_err(|error| DecisionError::Evaluation(error.to_string()))
}

fn no_value(what: &str) -> DecisionError {
    DecisionError::Evaluation(format!("the policy looks at {what}, which Cedar has not"))
}

/// All of a value.
const EVERYTHING: Wanted = Wanted { whole: true, fields: Vec::new() };

pub(super) const CLIENT: &str = "Ringward::Client";
pub(super) const ANONYMOUS: &str = "Ringward::Anonymous";
pub(super) const ROUTE: &str = "Ringward::Route";
const ACTION: &str = "Ringward::Action";

/// Values in one context; the largest certificates have a thousand names.
const ITEMS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn caller<'a>(spiffe_id: &'a str, tenant: &'a str, identity: &'a str) -> Caller<'a> {
        Caller { verified: true, spiffe_id, tenant, identity, ..Caller::default() }
    }

    fn by_uri(name: &str) -> Caller<'_> {
        Caller { has_uri: true, ..caller("", "", name) }
    }

    fn by_dns(name: &str) -> Caller<'_> {
        Caller { has_dns: true, ..caller("", "", name) }
    }

    fn by_email(name: &str) -> Caller<'_> {
        Caller { has_email: true, ..caller("", "", name) }
    }

    fn principal(caller: &Caller<'_>) -> Option<String> {
        Names::new().principal(caller).ok().map(|uid| uid.to_string())
    }

    #[test]
    fn callers_are_named_by_what_they_proved() {
        let spiffe = "spiffe://example.com/a";
        for (caller, expected) in [
            (Caller::default(), Some("Ringward::Anonymous::\"\"")),
            // What is not verified counts for nothing.
            (Caller { verified: false, ..caller(spiffe, "acme", "x") }, Some("Ringward::Anonymous::\"\"")),
            (caller(spiffe, "", spiffe), Some("Ringward::Client::\"spiffe://example.com/a\"")),
            (caller(spiffe, "acme", "x"), Some("Ringward::Client::\"acme/x\"")),
            (caller(spiffe, "acme", spiffe), Some("Ringward::Client::\"acme/spiffe://example.com/a\"")),
            (caller("", "acme", "x"), Some("Ringward::Client::\"acme/x\"")),
            (caller("", "acme", "x/y"), Some("Ringward::Client::\"acme/x/y\"")),
            (by_dns("a.example.com"), Some("Ringward::Client::\"a.example.com\"")),
            (by_email("a@example.com"), Some("Ringward::Client::\"a@example.com\"")),
            (by_uri("https://example.com/a"), Some("Ringward::Client::\"https://example.com/a\"")),
            (caller("", "", "CN=a,O=b/c"), Some("Ringward::Client::\"CN=a,O=b/c\"")),
            (caller("", "", "sha256:0011"), Some("Ringward::Client::\"sha256:0011\"")),
            (caller("", "", ""), None),
            (caller("", "", "/x"), None),
        ] {
            assert_eq!(principal(&caller).as_deref(), expected, "{caller:?}");
        }
    }

    /// Whoever could be taken for somebody else is nobody.
    #[test]
    fn no_two_callers_are_one_principal() {
        let texts = [
            "spiffe://example.com/a",
            "a/a",
            "/example.com/a",
            "spiffe:",
            "spiffe",
            "acme",
            "acme/a",
            "a",
            "/a",
            "//example.com/a",
            "acme/spiffe://a",
            "CN=a",
            "CN=a@b",
            "a@b",
            "x:a@b",
            "x/a@b",
            "acme/a@b",
            "sha256:00",
            "a.example.com",
            "https://a/b",
            "urn:a@b",
            "",
            "x:a",
            "example.com/a",
            "/",
        ];
        let mut callers = vec![Caller::default()];
        // Everything that is a name of its kind: a SPIFFE ID, a URI, a host name, a mailbox, a subject, a fingerprint.
        callers.extend(
            texts.iter().filter(|text| text.starts_with("spiffe://")).map(|text| caller(text, "", text)),
        );
        // The authority of each tenant could give its clients any SPIFFE ID.
        for tenant in texts.into_iter().filter(|tenant| !tenant.is_empty()) {
            callers.extend(texts.iter().map(|identity| caller("spiffe://example.com/a", tenant, identity)));
        }
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && !scheme.contains(['/', '=', '@'])
        };
        callers.extend(
            texts
                .iter()
                .filter(|text| text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)))
                .map(|text| by_uri(text)),
        );
        callers.extend(
            texts
                .iter()
                .filter(|text| !text.is_empty() && !text.contains(['/', ':', '=', '@']))
                .map(|text| by_dns(text)),
        );
        callers.extend(texts.iter().filter(|text| text.matches('@').count() == 1).map(|text| by_email(text)));
        callers.extend(
            texts
                .iter()
                .filter(|text| text.starts_with("CN=") || text.starts_with("sha256:"))
                .map(|text| caller("", "", text)),
        );
        let mut known: HashMap<String, &Caller<'_>> = HashMap::new();
        for caller in &callers {
            let Some(principal) = principal(caller) else { continue };
            if let Some(other) = known.insert(principal.clone(), caller) {
                panic!("{principal} is {other:?} and {caller:?}");
            }
        }
        assert!(known.len() > 100, "{}", known.len());
    }

    #[test]
    fn only_values_of_cedar_get_into_a_context() {
        let context = |json: &str| {
            let document = Value::from_json_str(json).unwrap();
            let path = ["request", "a"].map(str::to_owned);
            Wanted::of([path.as_slice()].into_iter()).context(&document)
        };
        for (json, expected) in [
            (r#"{"request": {"a": "x", "b": null}}"#, r#"{request: {a: "x"}}"#),
            (r#"{"request": {"a": ["x", "y", "x"]}}"#, r#"{request: {a: ["x", "y"]}}"#),
            (r#"{"request": {"a": [1, "x", true]}}"#, r#"{request: {a: [true, 1, "x"]}}"#),
            (
                r#"{"request": {"a": {"b c": -9223372036854775808}}}"#,
                r#"{request: {a: {"b c": -9223372036854775808}}}"#,
            ),
            (r#"{"request": {"b": 1}}"#, "{request: {}}"),
            (r#"{"client": {"b": 1}}"#, "{}"),
        ] {
            let (context, _) = context(json).unwrap_or_else(|error| panic!("{json}: {error}"));
            let shown: String = context.to_string().chars().filter(|character| *character != '\n').collect();
            assert_eq!(shown, expected, "{json}");
        }
        let many = format!(r#"{{"request": {{"a": [{}]}}}}"#, vec!["1"; ITEMS_MAX].join(","));
        for (json, expected) in [
            (r#"{"request": {"a": null}}"#, "null"),
            (r#"{"request": {"a": [1, null]}}"#, "null"),
            (r#"{"request": {"a": 1.5}}"#, "a number that is no integer of 64 bits"),
            (r#"{"request": {"a": 9223372036854775808}}"#, "a number that is no integer of 64 bits"),
            (r#"{"request": []}"#, "no object where one belongs"),
            (&many, "more than 4096 values"),
        ] {
            let error = context(json).expect_err(json).to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
