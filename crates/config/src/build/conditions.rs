//! What a route asks of a request besides path and method: `headers`, `query` and `identity` of `match`.

use std::collections::BTreeMap;

use ringward_identity::{IdentityCondition, TenantMatch, headers};
use serde_spanned::Spanned;

use super::References;
use super::context::Context;
use crate::bounds;
use crate::model::ClientAuthMode;
use crate::raw::{self, Field, WordOrTable};
use crate::regex::BoundedRegex;
use crate::routes::condition::{Conditions, TextCondition};

/// The conditions of a route that wants `client_auth` of its clients.
pub(super) fn conditions(
    cx: &mut Context<'_>,
    matched: &raw::Match,
    client_auth: ClientAuthMode,
    references: &References,
) -> Conditions {
    let mut conditions = Conditions {
        headers: texts(cx, "headers", &matched.headers, header_name),
        query: texts(cx, "query", &matched.query, query_name),
        ..Conditions::default()
    };
    if let Some(identity) = cx.given(&matched.identity) {
        if !client_auth.identifies() {
            let mode = client_auth.as_str();
            let message =
                format!("`identity` could never be met: client_auth is \"{mode}\" here, which knows nobody");
            cx.error(&identity.span(), message)
                .help("write client_auth = \"required\" or \"optional\" in the route, or in its host");
        }
        of_identity(cx, "identity", identity, references, &mut conditions);
    }
    conditions
}

type Texts = Field<BTreeMap<Spanned<String>, Field<WordOrTable<raw::TextCondition>>>>;

fn texts(
    cx: &mut Context<'_>,
    key: &str,
    field: &Texts,
    name: fn(&mut Context<'_>, &Spanned<String>) -> Option<Box<str>>,
) -> BTreeMap<Box<str>, TextCondition> {
    let Some(table) = cx.given(field) else { return BTreeMap::new() };
    if !bounds::CONDITIONS.contains(&table.get_ref().len()) {
        let (min, max) = (bounds::CONDITIONS.start(), bounds::CONDITIONS.end());
        let message =
            format!("`{key}` has {} entries: from {min} to {max} are allowed", table.get_ref().len());
        cx.error(&table.span(), message);
    }
    let mut conditions = BTreeMap::new();
    for (written, condition) in table.get_ref() {
        let name = name(cx, written);
        let condition = cx.given(condition).and_then(|condition| text(cx, written.get_ref(), condition));
        let (Some(name), Some(condition)) = (name, condition) else { continue };
        if conditions.contains_key(&name) {
            cx.error(&written.span(), format!("`{key}` has {name:?} twice: names of fields have no case"));
        }
        conditions.insert(name, condition);
    }
    conditions
}

/// RFC 9110 §5.1: names have no case. What says who the client is must not come from the client.
fn header_name(cx: &mut Context<'_>, written: &Spanned<String>) -> Option<Box<str>> {
    let (name, span) = (written.get_ref().to_ascii_lowercase(), written.span());
    let symbol = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || symbol(byte)) {
        cx.error(&span, format!("`headers`: {name:?} is not the name of a header field"));
        return None;
    }
    if headers::is_stripped_inbound(name.as_bytes()) {
        cx.error(&span, format!("`headers`: {name:?} would let clients say who they are"))
            .help("write identity = { ... }, which asks their certificates");
        return None;
    }
    if UNFIT_HEADERS.contains(&name.as_str()) {
        cx.error(
            &span,
            format!("`headers`: {name:?} is about the connection or the message, not about a route"),
        )
        .help("for a host, write a [[listener.host]] with that name");
        return None;
    }
    Some(name.into())
}

fn query_name(cx: &mut Context<'_>, written: &Spanned<String>) -> Option<Box<str>> {
    let name = written.get_ref();
    if name.is_empty() || name.len() > bounds::CONDITION_BYTES_MAX {
        let max = bounds::CONDITION_BYTES_MAX;
        cx.error(
            &written.span(),
            format!("`query`: the name of a parameter is empty or longer than {max} bytes"),
        );
        return None;
    }
    Some(name.as_str().into())
}

fn text(
    cx: &mut Context<'_>,
    name: &str,
    condition: &Spanned<WordOrTable<raw::TextCondition>>,
) -> Option<TextCondition> {
    let span = condition.span();
    let table = match condition.get_ref() {
        WordOrTable::Word(word) => {
            return fits(cx, name, &Spanned::new(span, word.clone())).map(TextCondition::Exact);
        }
        WordOrTable::Table(table) => table,
    };
    let given = [!table.prefix.is_absent(), !table.regex.is_absent(), !table.present.is_absent()];
    let given = given.into_iter().filter(|given| *given).count();
    // It may be empty only because its key is not known, which was reported.
    if given == 0 && cx.text(&span).contains('=') {
        return None;
    }
    if given != 1 {
        cx.error(&span, format!("the condition on {name:?} needs one of `prefix`, `regex` and `present`"))
            .help(format!("write {name} = \"TEXT\" for one text, or {name} = {{ prefix = \"TEXT\" }}"));
        return None;
    }
    if let Some(prefix) = cx.given(&table.prefix) {
        return fits(cx, name, prefix).map(TextCondition::Prefix);
    }
    if let Some(written) = cx.given(&table.regex) {
        return match BoundedRegex::new(written.get_ref()) {
            Ok(regex) => Some(TextCondition::Regex(regex)),
            Err(error) => {
                cx.error(&written.span(), format!("`regex`: {error}"));
                None
            }
        };
    }
    Some(TextCondition::Present(*cx.given(&table.present)?.get_ref()))
}

fn fits(cx: &mut Context<'_>, name: &str, text: &Spanned<String>) -> Option<Box<str>> {
    let (max, written) = (bounds::CONDITION_BYTES_MAX, text.get_ref());
    if written.len() > max || written.chars().any(char::is_control) {
        cx.error(
            &text.span(),
            format!("the text for {name:?} is longer than {max} bytes or has control characters"),
        );
        return None;
    }
    Some(written.as_str().into())
}

/// What a text of the file is compared with.
type Kind = fn(String) -> TenantMatch;

/// Conditions on what a certificate says, in the key of this name.
pub(super) fn of_identity(
    cx: &mut Context<'_>,
    key: &str,
    identity: &Spanned<raw::IdentityMatch>,
    references: &References,
    conditions: &mut Conditions,
) {
    let raw = identity.get_ref();
    let tenant = cx.given(&raw.tenant);
    conditions.tenant = tenant.and_then(|name| references.tenant.exists(cx, name)).map(Into::into);
    let fields: [(&Field<String>, Kind); 7] = [
        (&raw.spiffe_trust_domain, TenantMatch::SpiffeTrustDomain),
        (&raw.san_uri, TenantMatch::SanUri),
        (&raw.san_dns, TenantMatch::SanDns),
        (&raw.san_email, TenantMatch::SanEmail),
        (&raw.ou, TenantMatch::OrganizationalUnit),
        (&raw.organization, TenantMatch::Organization),
        (&raw.organization_identifier, TenantMatch::OrganizationIdentifier),
    ];
    let mut asks = !raw.tenant.is_absent();
    for (field, kind) in fields {
        asks |= !field.is_absent();
        let Some(written) = cx.given(field) else { continue };
        let wanted = kind(written.get_ref().clone());
        match IdentityCondition::new(wanted.clone()) {
            Ok(condition) => conditions.identity.push(condition),
            Err(problem) => {
                let (problem, help) =
                    problem.split_once("; ").unwrap_or((problem, "write what it has to be"));
                cx.error(&written.span(), format!("`{key}`: {wanted} {problem}")).help(help);
            }
        }
    }
    // It may be empty only because its key is not known, which was reported.
    if !asks && !cx.text(&identity.span()).contains('=') {
        cx.error(&identity.span(), format!("`{key}` is empty, and everybody would meet it"))
            .help(format!("write what a certificate must say: {key} = {{ tenant = \"NAME\" }}"));
    }
}

/// RFC 9110 §7.6.1 and what frames a message; and `Host`, by which the virtual host is chosen.
const UNFIT_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
