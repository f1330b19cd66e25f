//! Trust bundles: CAs, pins, profile, where revocation comes from and what it means.

use std::collections::BTreeMap;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_identity::SpiffeId;
use serde_spanned::Spanned;

use super::context::{Context, object_ids};
use super::section;
use crate::bounds;
use crate::host::HostName;
use crate::model::{
    CrlMode, KeyKind, NamedPath, NamedUrl, Profile, RevocationDepth, RevocationPolicy, Trust,
};
use crate::raw::{self, Field, OneOrMany};
use crate::system_roots::is_system_bundle;

/// Builds one bundle.
pub(super) fn trust(cx: &mut Context<'_>, name: String, raw: &Spanned<raw::Trust>) -> Option<Trust> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let spiffe_trust_domain = cx.given(&raw.spiffe_trust_domain).and_then(|domain| trust_domain(cx, domain));
    let hints = cx.value_or(&raw.hints, false);
    let pins = pins(cx, &raw.pins);
    let profile = profile(cx, &raw.profile);
    let crl = paths(cx, "crl", &raw.crl);
    let crl_urls = urls(cx, "crl_urls", &raw.crl_urls);
    let crl_distribution_points = hosts(cx, "crl_distribution_points", &raw.crl_distribution_points);
    let crl_issuers = paths(cx, "crl_issuers", &raw.crl_issuers);
    let ocsp_url = cx.given(&raw.ocsp_url).and_then(|text| cx.url("ocsp_url", text));
    let ocsp_hosts = hosts(cx, "ocsp_hosts", &raw.ocsp_hosts);
    for (key, span) in crl_sources(raw) {
        cx.needs_state_dir(&span, &format!("`{key}`"), "the highest number of each list is kept in it");
    }
    let revocation = revocation(cx, raw);
    let list = cx.required("ca", "ca = [\"FILE-OR-DIRECTORY\"]", &raw.ca, &span)?;
    Some(Trust {
        name,
        ca: authorities(cx, list),
        spiffe_trust_domain,
        hints,
        pins,
        profile,
        crl,
        crl_urls,
        crl_distribution_points,
        crl_issuers,
        ocsp_url,
        ocsp_hosts,
        revocation,
        at: cx.at(&span),
    })
}

/// No two bundles may be bound to one trust domain: which of them admits a SPIFFE ID would depend on their order.
pub(super) fn check_trust_domains(
    cx: &mut Context<'_>,
    table: &Field<BTreeMap<Spanned<String>, Field<raw::Trust>>>,
) {
    let mut bound: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, trust) in table.value().into_iter().flatten() {
        let Some(domain) = trust.value().and_then(|trust| trust.spiffe_trust_domain.given()) else {
            continue;
        };
        if let Some(first) = bound.insert(domain.get_ref(), name.get_ref()) {
            let message = format!(
                "the SPIFFE trust domain {:?} is bound to the bundle {first:?} already",
                domain.get_ref()
            );
            cx.error(&domain.span(), message).help("put the CAs of one trust domain into one bundle");
        }
    }
}

fn authorities(cx: &mut Context<'_>, list: &Spanned<OneOrMany>) -> Vec<NamedPath> {
    let mut ca = Vec::new();
    for item in cx.list("ca", list, bounds::PATHS) {
        let Some(named) = cx.path("ca", item.get_ref(), &item.span()) else { continue };
        if is_system_bundle(&named.path) {
            cx.error(&item.span(), format!("{:?} holds the CAs of the public web", item.get_ref())).help(
                "they sign for everybody, so everybody would be trusted: copy the CAs of your clients into a directory of their own",
            );
        }
        ca.push(named);
    }
    ca
}

fn trust_domain(cx: &mut Context<'_>, text: &Spanned<String>) -> Option<String> {
    let domain = text.get_ref();
    match SpiffeId::parse(&format!("spiffe://{domain}")) {
        Ok(id) if id.trust_domain() == domain => return Some(domain.clone()),
        Ok(_) => cx
            .error(&text.span(), format!("`spiffe_trust_domain`: {domain:?} is not a trust domain"))
            .help("write the part between spiffe:// and the next slash: \"prod.example.com\""),
        Err(error) => cx
            .error(&text.span(), format!("`spiffe_trust_domain`: {domain:?} is not a trust domain: {error}"))
            .help("write it without spiffe://, as in \"prod.example.com\""),
    }
    None
}

/// The pins of a bundle, of which there must be more than one.
pub(super) fn pins(cx: &mut Context<'_>, field: &Field<OneOrMany>) -> Vec<[u8; 32]> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut pins: Vec<[u8; 32]> = Vec::new();
    let items = match list.get_ref() {
        OneOrMany::Many(items) if items.len() != 1 => cx.list("pins", list, bounds::PINS),
        _ => {
            cx.error(&list.span(), "`pins` has one entry: the loss of its key would lock everybody out")
                .help("add the pin of a spare key, which is kept elsewhere");
            raw::strings(list)
        }
    };
    for item in items {
        match pin(item.get_ref()) {
            Some(pin) if pins.contains(&pin) => {
                cx.error(&item.span(), format!("the pin {:?} appears twice", item.get_ref()))
                    .help("the second is to be that of a spare key");
            }
            Some(pin) => pins.push(pin),
            None => cx.error(&item.span(), format!("`pins`: {:?} is not a pin", item.get_ref())).help(
                "write sha256/ and 44 characters of base64: openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin \
                 -outform DER | openssl dgst -sha256 -binary | base64",
            ),
        }
    }
    pins
}

fn pin(text: &str) -> Option<[u8; 32]> {
    let digest = STANDARD.decode(text.strip_prefix("sha256/")?).ok()?;
    digest.try_into().ok()
}

fn profile(cx: &mut Context<'_>, field: &Field<raw::Profile>) -> Profile {
    let (raw, _) = section(cx, field);
    let mut keys = cx.choices("keys", &raw.keys);
    if raw.keys.is_absent() {
        keys = KeyKind::ALL.to_vec();
    }
    if let (false, false, Some(span)) =
        (keys.is_empty(), keys.contains(&KeyKind::Rsa), raw.rsa_bits_min.span())
    {
        cx.error(&span, "`rsa_bits_min` has no effect, since `keys` has no \"rsa\"")
            .help("leave one of them away");
    }
    let bits = cx.number("rsa_bits_min", &raw.rsa_bits_min, &bounds::RSA_BITS_MIN);
    Profile {
        keys,
        rsa_bits_min: u32::try_from(bits).unwrap_or(u32::MAX),
        policies: object_ids(cx, "policies", &raw.policies, bounds::CERTIFICATE_POLICIES),
        path_length_max: cx.optional_number(
            "path_length_max",
            &raw.path_length_max,
            &bounds::PATH_LENGTH_MAX,
        ),
        leaf_lifetime_max: cx.optional_duration(
            "leaf_lifetime_max",
            &raw.leaf_lifetime_max,
            &bounds::LEAF_LIFETIME_MAX,
        ),
    }
}

/// The keys that name revocation lists.
fn crl_sources(raw: &raw::Trust) -> impl Iterator<Item = (&'static str, Range<usize>)> {
    let keys = [
        ("crl", raw.crl.span()),
        ("crl_urls", raw.crl_urls.span()),
        ("crl_distribution_points", raw.crl_distribution_points.span()),
    ];
    keys.into_iter().filter_map(|(key, span)| Some((key, span?)))
}

fn revocation(cx: &mut Context<'_>, trust: &raw::Trust) -> RevocationPolicy {
    let (raw, _) = section(cx, &trust.revocation);
    let has_lists = crl_sources(trust).next().is_some();
    let default = if has_lists { CrlMode::Required } else { CrlMode::Off };
    let crl = cx.value_or(&raw.crl, default);
    match (crl, has_lists, raw.crl.span()) {
        (CrlMode::Off, true, Some(span)) => {
            let (key, _) = crl_sources(trust).next().expect("there is a list");
            cx.error(&span, format!("crl is \"off\", but `{key}` names revocation lists"))
                .help("leave one of them away: lists that are not looked at protect nobody");
        }
        (CrlMode::Required | CrlMode::IfPresent, false, Some(span)) => {
            cx.error(&span, format!("crl is \"{}\", but no revocation list is named", crl.as_str())).help(
                "add crl = [\"FILE-OR-DIRECTORY\"], crl_urls or crl_distribution_points to the trust bundle",
            );
        }
        _ => {}
    }
    refuse_without_lists(cx, trust, &raw, has_lists);
    RevocationPolicy {
        crl,
        stale: cx.duration_or_word("stale", &raw.stale, "deny", &bounds::CRL_STALE),
        refresh: cx.duration("refresh", &raw.refresh, &bounds::CRL_REFRESH),
        crl_bytes_max: cx.size("crl_bytes_max", &raw.crl_bytes_max, &bounds::CRL_BYTES_MAX),
        depth: cx.value_or(&raw.depth, RevocationDepth::Chain),
    }
}

/// Whoever writes how lists are used expects that there are some.
fn refuse_without_lists(cx: &mut Context<'_>, trust: &raw::Trust, raw: &raw::Revocation, has_lists: bool) {
    let has_urls = trust.crl_urls.span().is_some() || trust.crl_distribution_points.span().is_some();
    let has_ocsp = trust.ocsp_url.span().is_some() || trust.ocsp_hosts.span().is_some();
    let no_lists = "the bundle has no revocation lists";
    let given = [
        ("crl_issuers", trust.crl_issuers.span(), has_lists, no_lists),
        ("stale", raw.stale.span(), has_lists, no_lists),
        ("crl_bytes_max", raw.crl_bytes_max.span(), has_lists, no_lists),
        ("refresh", raw.refresh.span(), has_urls, "no list of the bundle is fetched"),
        (
            "depth",
            raw.depth.span(),
            has_lists || has_ocsp,
            "the bundle has neither revocation lists nor OCSP",
        ),
    ];
    for (key, span, _, why) in given.into_iter().filter(|(_, _, has_effect, _)| !has_effect) {
        if let Some(span) = span {
            cx.error(&span, format!("`{key}` has no effect: {why}")).help(
                "leave it away, or say where revocation comes from: crl, crl_urls, crl_distribution_points",
            );
        }
    }
}

/// The files and directories of a key.
pub(super) fn paths(cx: &mut Context<'_>, key: &str, field: &Field<OneOrMany>) -> Vec<NamedPath> {
    cx.given(field).map_or_else(Vec::new, |list| cx.paths(key, list, bounds::PATHS))
}

fn urls(cx: &mut Context<'_>, key: &str, field: &Field<OneOrMany>) -> Vec<NamedUrl> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut urls: Vec<NamedUrl> = Vec::new();
    for item in cx.list(key, list, bounds::URLS) {
        let Some(named) = cx.url(key, &item) else { continue };
        if urls.iter().any(|known| known.url == named.url) {
            cx.error(&item.span(), format!("`{key}`: {:?} appears twice", item.get_ref()));
        }
        urls.push(named);
    }
    urls
}

fn hosts(cx: &mut Context<'_>, key: &str, field: &Field<OneOrMany>) -> Vec<HostName> {
    let Some(list) = cx.given(field) else { return Vec::new() };
    let mut hosts: Vec<HostName> = Vec::new();
    for item in cx.list(key, list, bounds::HOSTS) {
        match HostName::parse(item.get_ref()) {
            Ok(host) if hosts.contains(&host) => {
                cx.error(&item.span(), format!("`{key}`: \"{host}\" appears twice"));
            }
            Ok(host) => hosts.push(host),
            Err(error) => cx
                .error(&item.span(), format!("`{key}`: {error}"))
                .help("write the host alone, as certificates name it: \"pki.example.com\""),
        }
    }
    hosts
}
