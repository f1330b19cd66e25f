//! From the text of tables to rules and tests: the one place where a table is judged. All problems are collected.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use ringward_config::raw::{Field, OneOrMany, strings};
use ringward_config::{Document, HostName, HostPattern, Method, PathPattern};
use ringward_identity::SpiffeId;
use serde_spanned::Spanned;

use crate::decision::{REASON_BYTES_MAX, RULE_BYTES_MAX};
use crate::input::document::is_hidden;
use crate::input::facts::Facts;
use crate::matcher::raw::{self, Effect};
use crate::matcher::rule::{Claim, ClientCondition, Conditions, Rule, Words};
use crate::matcher::trial::Trial;
use crate::problem::{Place, Problem, Severity};
use crate::set::Source;

/// What the tables of a policy hold.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) rules: Vec<Rule>,
    pub(super) tests: Vec<Trial>,
    pub(super) problems: Vec<Problem>,
    /// Where each name of a rule was given first.
    names: HashMap<Box<str>, Place>,
}

impl Tables {
    /// Reads one more file.
    pub(super) fn read(&mut self, source: &Source) {
        let Ok(text) = std::str::from_utf8(&source.bytes) else {
            let help = "TOML files are written in UTF-8";
            self.problems.push(Problem::error(&Place::file(&source.path), "file is not UTF-8").help(help));
            return;
        };
        let document = Document::new(Path::new(&source.path), text);
        let (table, found) = document.decode::<raw::Table>();
        self.problems.extend(found.into_iter().map(|found| Problem {
            file: source.path.clone(),
            line: found.line,
            column: found.column,
            severity: Severity::Error,
            message: found.message,
            help: found.help,
        }));
        let Some(table) = table else { return };
        let mut reader = Reader { document: &document, file: &source.path, problems: &mut self.problems };
        for rule in table.rule.value().into_iter().flatten().filter_map(Field::given) {
            let Some(rule) = reader.rule(rule) else { continue };
            if let Some(first) = self.names.insert(rule.name.clone(), rule.at.clone()) {
                let message = format!(
                    "rule `{}` is named like the one at line {} of {}",
                    rule.name, first.line, first.file
                );
                let help = "give each rule a name of its own: logs tell them apart by it";
                reader.problems.push(Problem::error(&rule.at, message).help(help));
            }
            self.rules.push(rule);
        }
        for test in table.test.value().into_iter().flatten().filter_map(Field::given) {
            self.tests.extend(reader.test(test));
        }
    }
}

/// Reads what a file holds, and notes what is wrong with it.
struct Reader<'r> {
    document: &'r Document,
    file: &'r str,
    problems: &'r mut Vec<Problem>,
}

impl Reader<'_> {
    fn rule(&mut self, given: &Spanned<raw::Rule>) -> Option<Rule> {
        let (raw, span) = (given.get_ref(), given.span());
        let name = self.required("name", &raw.name, "[[rule]]", &span)?;
        let effect = *self.required("effect", &raw.effect, "[[rule]]", &span)?;
        self.bounded("name", &raw.name, RULE_BYTES_MAX);
        self.bounded("reason", &raw.reason, REASON_BYTES_MAX);
        let conditions = Conditions {
            verified: raw.verified.value().copied(),
            client: self.client(raw),
            methods: self.words("methods", &raw.methods, |text| {
                Method::parse(text)
                    .map(|method| method.as_str().to_owned())
                    .map_err(|error| (error.to_string(), None))
            }),
            paths: self.list("path", &raw.path, |text| {
                PathPattern::parse(text).map_err(|error| (error.to_string(), error.help()))
            }),
            hosts: self.list("host", &raw.host, |text| {
                HostPattern::parse(text).map_err(|error| (error.to_string(), error.help()))
            }),
            routes: self.words("route", &raw.route, plain),
            headers: self.headers(&raw.headers),
        };
        if let (Some(false), Some(condition)) = (conditions.verified, conditions.client.first()) {
            let named = condition.claim.input_path();
            let message = format!("rule `{name}` can never match: without a certificate there is no {named}");
            self.error(&span, message, Some("remove `verified`, or the condition on the client"));
        }
        Some(Rule {
            name: name.as_str().into(),
            effect,
            reason: raw.reason.value().map(|reason| reason.as_str().into()),
            status: self.status(raw, effect),
            conditions,
            at: self.place(&span),
        })
    }

    fn client(&mut self, raw: &raw::Rule) -> Vec<ClientCondition> {
        let lists = [
            (Claim::Fingerprint, "fingerprint", &raw.fingerprint),
            (Claim::SpiffeId, "spiffe_id", &raw.spiffe_id),
            (Claim::Identity, "identity", &raw.identity),
            (Claim::Uri, "uri", &raw.uri),
            (Claim::Email, "email", &raw.email),
            (Claim::Dns, "dns", &raw.dns),
            (Claim::CommonName, "common_name", &raw.common_name),
            (Claim::Tenant, "tenant", &raw.tenant),
            (Claim::OrganizationalUnit, "ou", &raw.ou),
            (Claim::Organization, "organization", &raw.organization),
        ];
        if let (Some(span), true) = (raw.identity.span(), raw.tenant.is_absent()) {
            let help = "add `tenant`: two tenants may call their clients the same";
            self.error(
                &span,
                "`identity` without `tenant` does not say whose client is meant".to_owned(),
                Some(help),
            );
        }
        let mut conditions = Vec::new();
        for (claim, key, field) in lists {
            if field.is_absent() {
                continue;
            }
            let values = self.list(key, field, |text| value_of(claim, text));
            let (under, exact): (Vec<_>, Vec<_>) =
                values.into_iter().partition(|value| claim == Claim::SpiffeId && value.ends_with('/'));
            conditions.push(ClientCondition { claim, exact: Words::new(exact), under: Words::new(under) });
        }
        conditions
    }

    fn headers(
        &mut self,
        field: &Field<BTreeMap<Spanned<String>, Field<OneOrMany>>>,
    ) -> Vec<(Box<str>, Words)> {
        let mut headers: Vec<(Box<str>, Words)> = Vec::new();
        for (name, values) in field.value().into_iter().flatten() {
            let lower = name.get_ref().to_ascii_lowercase();
            // RFC 9110 §5.6.2: a field name is a token.
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if lower.is_empty() || !lower.bytes().all(token) {
                self.error(
                    &name.span(),
                    format!("`headers`: {:?} is not the name of a header field", name.get_ref()),
                    None,
                );
            } else if is_hidden(&lower) {
                let help = "ask for the client itself: `spiffe_id`, `tenant`, `dns` and so on";
                let message =
                    format!("`headers`: `{lower}` is removed from every request, so no rule can see it");
                self.error(&name.span(), message, Some(help));
            } else if headers.iter().any(|(known, _)| **known == *lower) {
                self.error(&name.span(), format!("`headers`: `{lower}` is given twice"), None);
            }
            let values = self.list("headers", values, |text| Ok(text.to_owned()));
            headers.push((lower.into(), Words::new(values)));
        }
        headers
    }

    fn status(&mut self, raw: &raw::Rule, effect: Effect) -> Option<u16> {
        let given = raw.status.given()?;
        let number = given.get_ref().0;
        if effect == Effect::Allow {
            let help = "remove `status`: what is allowed has the upstream's";
            self.error(&given.span(), "`status` belongs to rules that deny".to_owned(), Some(help));
        }
        match u16::try_from(number) {
            Ok(status @ 400..=599) => Some(status),
            _ => {
                self.error(&given.span(), format!("`status` {number} does not deny, use 400 to 599"), None);
                None
            }
        }
    }

    fn test(&mut self, given: &Spanned<raw::Test>) -> Option<Trial> {
        let (raw, span) = (given.get_ref(), given.span());
        let name = self.required("name", &raw.name, "[[test]]", &span)?;
        let expect = *self.required("expect", &raw.expect, "[[test]]", &span)?;
        let text =
            |field: &Field<String>, default: &str| field.value().map_or(default, String::as_str).to_owned();
        let path = text(&raw.path, "/");
        // A template without parameters is a path in the one form in which paths are compared.
        let normal = PathPattern::parse(&path).map_err(|error| error.to_string()).and_then(|pattern| {
            if pattern.names().next().is_some() {
                Err(format!("{path:?} is a template, write a path"))
            } else {
                Ok(())
            }
        });
        if let (Err(message), Some(at)) = (normal, raw.path.span()) {
            self.error(&at, format!("`path`: {message}"), None);
        }
        let mut headers = Vec::new();
        for (name, values) in raw.headers.value().into_iter().flatten() {
            let values = self.list("headers", values, |text| Ok(text.to_owned()));
            headers.extend(values.into_iter().map(|value| (name.get_ref().to_ascii_lowercase(), value)));
        }
        let client = raw.client.value().map(|client| self.test_client(client));
        Some(Trial {
            name: name.clone(),
            client: client.unwrap_or_default(),
            method: text(&raw.method, "GET"),
            path,
            host: self.test_host(&raw.host),
            route: text(&raw.route, ""),
            headers,
            expect,
            rule: raw.rule.value().cloned(),
            at: self.place(&span),
        })
    }

    /// The host of a test, in the form that requests have it in.
    fn test_host(&mut self, raw: &Field<String>) -> String {
        let Some(given) = raw.given().filter(|given| !given.get_ref().is_empty()) else {
            return String::new();
        };
        match HostName::parse(given.get_ref()) {
            Ok(host) => host.to_string(),
            Err(error) => {
                self.error(&given.span(), format!("`host`: {error}"), None);
                String::new()
            }
        }
    }

    /// The client of a test, with its names in the form in which certificates are read.
    fn test_client(&mut self, raw: &raw::TestClient) -> Facts {
        let text = |field: &Field<String>| field.value().map_or("", String::as_str).into();
        let fingerprint = raw.fingerprint.given().map_or(Ok(String::new()), |given| {
            value_of(Claim::Fingerprint, given.get_ref()).map_err(|fault| (given.span(), fault))
        });
        let fingerprint = fingerprint.unwrap_or_else(|(span, (message, help))| {
            self.error(&span, format!("`fingerprint`: {message}"), help);
            String::new()
        });
        let mut texts = |claim: Claim, key: &str, field: &Field<OneOrMany>| {
            self.list(key, field, |text| value_of(claim, text)).into_boxed_slice()
        };
        Facts {
            verified: true,
            tenant: text(&raw.tenant),
            identity: text(&raw.identity),
            spiffe_id: text(&raw.spiffe_id),
            fingerprint_sha256: fingerprint.into(),
            common_names: texts(Claim::CommonName, "common_name", &raw.common_name),
            organizations: texts(Claim::Organization, "organization", &raw.organization),
            organizational_units: texts(Claim::OrganizationalUnit, "ou", &raw.ou),
            uris: texts(Claim::Uri, "uri", &raw.uri),
            dns: texts(Claim::Dns, "dns", &raw.dns),
            emails: texts(Claim::Email, "email", &raw.email),
        }
    }

    fn words(&mut self, key: &str, field: &Field<OneOrMany>, read: impl Fn(&str) -> Read<String>) -> Words {
        Words::new(self.list(key, field, read))
    }

    /// The items of a list that is there; a list of nothing would be a condition that always or never holds.
    fn list<T>(&mut self, key: &str, field: &Field<OneOrMany>, read: impl Fn(&str) -> Read<T>) -> Vec<T> {
        let Some(given) = field.given() else { return Vec::new() };
        let items = strings(given);
        if items.is_empty() {
            self.error(
                &given.span(),
                format!("`{key}` is an empty list"),
                Some("remove the key, or name something"),
            );
        }
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match read(item.get_ref()) {
                Ok(value) => values.push(value),
                Err((message, help)) => self.error(&item.span(), format!("`{key}`: {message}"), help),
            }
        }
        values
    }

    fn required<'f, T>(
        &mut self,
        key: &str,
        field: &'f Field<T>,
        section: &str,
        span: &Range<usize>,
    ) -> Option<&'f T> {
        if field.is_absent() {
            self.error(span, format!("`{key}` is missing in {section}"), None);
        }
        field.value()
    }

    fn bounded(&mut self, key: &str, field: &Field<String>, bytes_max: usize) {
        let Some(given) = field.given() else { return };
        let text = given.get_ref();
        if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
            let message = format!("`{key}` has to be one line of 1 to {bytes_max} bytes, for the log");
            self.error(&given.span(), message, None);
        }
    }

    fn error(&mut self, span: &Range<usize>, message: String, help: Option<&str>) {
        let problem = Problem::error(&self.place(span), message);
        self.problems.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let at = self.document.locate(span);
        Place::new(self.file, at.line, at.column)
    }
}

/// A value, or what is wrong with it and what to do about that.
type Read<T> = Result<T, (String, Option<&'static str>)>;

/// A value of a condition in the form in which clients have it; what is below a SPIFFE ID ends in `/`.
fn value_of(claim: Claim, text: &str) -> Read<String> {
    match claim {
        Claim::SpiffeId => {
            let (id, below) = match text.strip_suffix("/*") {
                Some(id) => (id, "/"),
                None => (text, ""),
            };
            let help = Some("write a SPIFFE ID, or one with `/*` for all below it");
            SpiffeId::parse(id).map_err(|error| (format!("{text:?}: {error}"), help))?;
            Ok(format!("{id}{below}"))
        }
        Claim::Dns => plain(text).and_then(|name| match name.contains('*') {
            true => Err((format!("{name:?}: `*` has no meaning here"), Some("name each DNS name"))),
            false => Ok(name.to_ascii_lowercase()),
        }),
        Claim::Fingerprint => {
            let hex = text.replace(':', "").to_ascii_lowercase();
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let message = format!("{text:?} is not a SHA-256 in hexadecimal");
                return Err((message, Some("`openssl x509 -noout -fingerprint -sha256` prints it")));
            }
            Ok(hex)
        }
        _ => plain(text),
    }
}

fn plain(text: &str) -> Read<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err((format!("{text:?} is no name that anything has"), None));
    }
    Ok(text.to_owned())
}
