//! Tenants: whose bundles, which conditions, and the suspension of revocation.

use std::collections::BTreeMap;

use ringward_identity::{TenantDefinition, TenantError, TenantMap, TenantMatch, TenantRule};
use serde_spanned::Spanned;

use super::context::Context;
use super::names::Names;
use super::section;
use crate::bounds;
use crate::model::{Tenant, TenantCondition, Trust};
use crate::raw::{self, Field};
use crate::units::ShowDuration;

/// Builds all tenants, and their rules checked against one another.
pub(super) fn tenants(
    cx: &mut Context<'_>,
    table: &Field<BTreeMap<Spanned<String>, Field<raw::Tenant>>>,
    names: &Names,
    trust: &BTreeMap<String, Trust>,
) -> (BTreeMap<String, Tenant>, TenantMap) {
    let tenants = super::each(cx, table, |cx, name, raw| tenant(cx, name, raw, names));
    for tenant in tenants.values() {
        check_trust_domains(cx, tenant, trust);
    }
    if are_too_many(cx, table, &tenants) {
        return (tenants, TenantMap::default());
    }
    // Without a bundle, which was reported, there is nothing to compare.
    let comparable = tenants.values().filter(|tenant| !tenant.trust.is_empty());
    let definition = |tenant: &Tenant| TenantDefinition {
        name: tenant.name.as_str().into(),
        trust: tenant.trust.clone(),
        matches: tenant.matches.iter().map(|condition| condition.rule.clone()).collect(),
        identity: tenant.identity,
    };
    let map = TenantMap::build(comparable.map(definition).collect()).unwrap_or_else(|errors| {
        for error in &errors {
            report(cx, &tenants, error);
        }
        TenantMap::default()
    });
    (tenants, map)
}

/// A condition on a trust domain that no bundle of the tenant signs for holds for nobody.
fn check_trust_domains(cx: &mut Context<'_>, tenant: &Tenant, trust: &BTreeMap<String, Trust>) {
    let bundles = tenant.trust.iter().map(|name| trust.get(name).map(|bundle| &bundle.spiffe_trust_domain));
    // None if a bundle is broken, which was reported, or signs for every domain.
    let bound: Option<Vec<&String>> = bundles.map(|domain| domain.and_then(Option::as_ref)).collect();
    let Some(bound) = bound.filter(|bound| !bound.is_empty()) else { return };
    for condition in &tenant.matches {
        if let TenantMatch::SpiffeTrustDomain(domain) = &condition.rule
            && !bound.contains(&domain)
        {
            let message = format!(
                "no certificate can be of {domain:?}: the bundles of the tenant sign for {} only",
                bound.iter().map(|domain| format!("{domain:?}")).collect::<Vec<_>>().join(" and ")
            );
            cx.error_at(condition.at.clone(), message)
                .help("correct the trust domain here, or spiffe_trust_domain of the bundle");
        }
    }
}

/// Comparing all of them would take minutes, and somebody's generator has run wild.
fn are_too_many<T>(
    cx: &mut Context<'_>,
    table: &Field<BTreeMap<Spanned<String>, T>>,
    tenants: &BTreeMap<String, Tenant>,
) -> bool {
    let conditions = tenants.values().map(|tenant| tenant.matches.len()).sum();
    let (what, found, max) = match (tenants.len(), conditions) {
        (found, _) if found > bounds::TENANTS_MAX => ("tenants", found, bounds::TENANTS_MAX),
        (_, found) if found > bounds::TENANT_RULES_MAX => {
            ("conditions of tenants", found, bounds::TENANT_RULES_MAX)
        }
        _ => return false,
    };
    if let Some((last, _)) = table.value().and_then(BTreeMap::last_key_value) {
        cx.error(&last.span(), format!("there are {found} {what}: up to {max} are allowed"));
    }
    true
}

/// What two rules have to do with one another, at the second, with the line of the first.
fn report(cx: &mut Context<'_>, tenants: &BTreeMap<String, Tenant>, error: &TenantError) {
    let place = |tenant: &str, rule: Option<usize>| {
        let tenant = &tenants[tenant];
        rule.and_then(|index| tenant.matches.get(index)).map_or(&tenant.at, |condition| &condition.at)
    };
    let of = |rule: &TenantRule| place(&rule.tenant, Some(rule.index));
    let pair = |bundle: &str, first: &TenantRule, second: &TenantRule| {
        format!(
            "a certificate of the bundle {bundle:?} could be of two tenants: by {} of {:?} and by {} of {:?} at {}",
            second.text,
            second.tenant,
            first.text,
            first.tenant,
            cx.place(of(first))
        )
    };
    let (tenant, rule) = error.place();
    let (message, help) = match error {
        TenantError::Overlap { bundle, first, second } => (
            pair(bundle, first, second),
            "make the conditions exclude each other, or give each tenant a bundle of its own",
        ),
        TenantError::DifferentKinds { bundle, first, second } => (
            pair(bundle, first, second),
            "they look at different parts of a certificate: give both tenants conditions of one kind, or each a bundle of its own",
        ),
        TenantError::OwnsAll { bundle, owner, other } => {
            let other_place = cx.place(place(other, None));
            let message = format!(
                "the tenant {owner:?} has no `match`, so that every certificate of the bundle {bundle:?} is its own, but the \
                 tenant {other:?} at {other_place} uses the bundle too"
            );
            (message, "add match = [{ ... }], or give each tenant a bundle of its own")
        }
        TenantError::Rule { rule, problem } => {
            let (problem, help) =
                problem.split_once("; ").unwrap_or((problem, "write what this tenant alone has"));
            (format!("`match`: {} {problem}", rule.text), help)
        }
        TenantError::Duplicate { .. } | TenantError::NoTrust { .. } => {
            (error.to_string(), "name it once, with `trust`")
        }
    };
    cx.error_at(place(tenant, rule).clone(), message).help(help);
}

fn tenant(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Tenant>, trust: &Names) -> Option<Tenant> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let matches = conditions(cx, &raw.r#match);
    let (limits, _) = section(cx, &raw.limits);
    let connections_max =
        cx.optional_number("connections_max", &limits.connections_max, &bounds::CONNECTIONS_MAX);
    let suspension = &raw.danger_suspend_revocation_until;
    let suspended_until = cx.given(suspension).and_then(|until| suspension_end(cx, until));
    let list = cx.required("trust", "trust = [\"NAME\"]", &raw.trust, &span)?;
    Some(Tenant {
        name,
        // A bundle that only a tenant names verifies nobody, so this does not count as its use.
        trust: cx.names("trust", list, bounds::TRUST_BUNDLES, |cx, name| trust.exists(cx, name)),
        matches,
        identity: cx.value_or(&raw.identity, raw::IdentitySource::Name).into(),
        connections_max,
        danger_suspend_revocation_until_unix: suspended_until,
        at: cx.at(&span),
    })
}

fn conditions(cx: &mut Context<'_>, field: &Field<Vec<Field<raw::TenantMatch>>>) -> Vec<TenantCondition> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let (written, allowed) = (list.get_ref().len(), bounds::TENANT_RULES);
    if !allowed.contains(&written) {
        let (min, max) = (allowed.start(), allowed.end());
        cx.error(&list.span(), format!("`match` has {written} entries: from {min} to {max} are allowed"));
    }
    let mut conditions: Vec<TenantCondition> = Vec::new();
    for entry in list.get_ref().iter().take(*allowed.end()) {
        let Some(entry) = cx.given(entry) else { continue };
        let Some(built) = condition(cx, entry) else { continue };
        if conditions.iter().any(|known| known.rule == built.rule) {
            cx.error(&entry.span(), format!("`match` has {} twice", built.rule));
        }
        conditions.push(built);
    }
    conditions
}

fn condition(cx: &mut Context<'_>, raw: &Spanned<raw::TenantMatch>) -> Option<TenantCondition> {
    let span = raw.span();
    let fields = kinds(raw.get_ref());
    let mut given = fields.iter().filter(|(_, field, _)| !field.is_absent());
    let Some((key, field, rule)) = given.next() else {
        // It may be empty only because its key is not known, which was reported.
        if cx.text(&span).contains('=') {
            return None;
        }
        cx.error(&span, "a condition of `match` is empty")
            .help("write what a certificate must have: { spiffe_trust_domain = \"acme.example\" }");
        return None;
    };
    if let Some((second, _, _)) = given.next() {
        cx.error(&span, format!("a condition of `match` has `{key}` and `{second}`"))
            .help("write one key into each pair of braces: a certificate matches if one of them holds");
        return None;
    }
    let text = cx.given(field)?;
    if text.get_ref().is_empty() || text.get_ref().chars().count() > bounds::TENANT_TEXT_CHARS_MAX {
        let max = bounds::TENANT_TEXT_CHARS_MAX;
        cx.error(&text.span(), format!("`{key}` is empty or longer than {max} characters"));
        return None;
    }
    Some(TenantCondition { rule: rule(text.get_ref().clone()), at: cx.at(&span) })
}

type Kind<'r> = (&'static str, &'r Field<String>, fn(String) -> TenantMatch);

fn kinds(raw: &raw::TenantMatch) -> [Kind<'_>; 8] {
    [
        ("spiffe_trust_domain", &raw.spiffe_trust_domain, TenantMatch::SpiffeTrustDomain),
        ("san_uri", &raw.san_uri, TenantMatch::SanUri),
        ("san_dns", &raw.san_dns, TenantMatch::SanDns),
        ("san_email", &raw.san_email, TenantMatch::SanEmail),
        ("ou", &raw.ou, TenantMatch::OrganizationalUnit),
        ("organization", &raw.organization, TenantMatch::Organization),
        ("organization_identifier", &raw.organization_identifier, TenantMatch::OrganizationIdentifier),
        ("issuer", &raw.issuer, TenantMatch::Issuer),
    ]
}

/// None if it is over. The file must not become bad by the passing of time: a process that restarts in the night after a
/// suspension has to come up, with revocation in force.
fn suspension_end(cx: &mut Context<'_>, until: &Spanned<raw::DateTime>) -> Option<i64> {
    let (key, span) = ("danger_suspend_revocation_until", until.span());
    let end = cx.moment(key, until)?;
    let left = end.saturating_sub(cx.now_unix());
    if left <= 0 {
        cx.warning(
            &span,
            "the suspension of revocation is over: certificates of this tenant are looked up again",
        )
        .help("remove it");
        return None;
    }
    if left.unsigned_abs() > bounds::SUSPENSION_MAX.as_secs() {
        let max = ShowDuration(bounds::SUSPENSION_MAX);
        cx.error(&span, format!("`{key}` is more than {max} ahead"))
            .help("choose an earlier moment, and another one then if it must be: the time without revocation is to be short");
        return None;
    }
    cx.warning(
        &span,
        "certificates of this tenant are not looked up in revocation lists or with OCSP until then",
    );
    Some(end)
}
