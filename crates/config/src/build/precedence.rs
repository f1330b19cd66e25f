//! Which routes stand in each other's way: those that can never be reached, and those that a client can choose by leaving away, or
//! sending, what another route asks for.

use std::collections::BTreeSet;
use std::ops::Range;

use super::context::{Context, Report};
use crate::bounds;
use crate::model::Route;
use crate::routes::Routes;

/// Reports them. `spans` are the places of the routes' `match`.
pub(super) fn report(cx: &mut Context<'_>, routes: &[Route], spans: &[Range<usize>]) {
    let entries = routes.iter().enumerate().map(|(index, route)| (route.matched(), index));
    match Routes::build(entries) {
        Err(conflicts) => {
            for conflict in conflicts {
                let first = &routes[conflict.first];
                let methods =
                    conflict.method.map_or_else(|| "every method".to_owned(), |method| method.to_string());
                let message = format!(
                    "the route can never be reached: the route {:?} at {} takes {methods} of \"{}\" already",
                    first.id,
                    cx.place(&first.at),
                    first.path
                );
                cx.error(&spans[conflict.second], message);
            }
        }
        Ok(table) => warn_of_alternatives(cx, routes, spans, &table),
    }
    report_shadowed_regexes(cx, routes, spans);
    report_too_many_regexes(cx, routes, spans);
}

fn warn_of_alternatives(
    cx: &mut Context<'_>,
    routes: &[Route],
    spans: &[Range<usize>],
    table: &Routes<usize>,
) {
    // Routes that share several methods are pairs several times.
    let mut known = BTreeSet::new();
    for (&first, &second) in table.alternatives() {
        if !known.insert((first, second)) {
            continue;
        }
        let (route, other) = (&routes[first], &routes[second]);
        if route.conditions.exclude(&other.conditions) {
            continue;
        }
        let Route { id, at, .. } = other;
        let place = format!("the route {id:?} at {}", cx.place(at));
        if other.is_laxer_than(route) {
            let message = format!(
                "a request that does not meet this comes to {place}, which is laxer: {}",
                difference(other, route)
            );
            warn_or_refuse(cx, &spans[first], message, (other, route))
                .help("make the other route as strict, or take it out: without it such requests get 404");
        } else if route.is_laxer_than(other) && !route.conditions.ask_for_identity() {
            let message = format!(
                "whoever sends what is asked for here gets around {place}, which is stricter: {}",
                difference(route, other)
            );
            warn_or_refuse(cx, &spans[first], message, (route, other))
                .help("make this route as strict: clients choose what they send");
        } else if route.conditions.len() == other.conditions.len() {
            let message = format!(
                "a request may meet this and what {place} asks for: this one is taken, as it stands first"
            );
            cx.warning(&spans[first], message)
                .help("if that is not meant, make their conditions exclude each other");
        }
    }
}

/// A warning that what is meant for `strict` may come to `lax`. Where `strict` declares what its clients must have proved, and
/// `lax` does with less, it is an error: leaving something away, or sending it, must not be a way around.
fn warn_or_refuse<'r, 's>(
    cx: &'r mut Context<'s>,
    span: &Range<usize>,
    message: String,
    (lax, strict): (&Route, &Route),
) -> Report<'r, 's> {
    match strict.require {
        Some(require) if lax.client_auth < strict.client_auth => {
            let (place, required) = (cx.place(&strict.at), require.as_str());
            cx.error(span, format!("{message}; the route at {place} requires {required:?}"))
        }
        _ => cx.warning(span, message),
    }
}

/// What makes `lax` laxer than `strict`.
fn difference(lax: &Route, strict: &Route) -> String {
    if lax.client_auth < strict.client_auth {
        let (lax, strict) = (lax.client_auth.as_str(), strict.client_auth.as_str());
        format!("its client_auth is \"{lax}\", not \"{strict}\"")
    } else if lax.ocsp < strict.ocsp {
        format!("its ocsp is \"{}\", not \"{}\"", lax.ocsp.as_str(), strict.ocsp.as_str())
    } else {
        "no policy decides there".to_owned()
    }
}

/// Templates come before regular expressions, and these in the order of the file, and so one route may leave an expression
/// nothing, or not all.
fn report_shadowed_regexes(cx: &mut Context<'_>, routes: &[Route], spans: &[Range<usize>]) {
    for (index, (route, span)) in routes.iter().zip(spans).enumerate() {
        let Some(regex) = route.path.regex() else { continue };
        let templates = || routes.iter().filter(|other| other.path.regex().is_none());
        let is_earlier = |other: &&Route| other.path.regex().is_some() && other.path != route.path;
        let asked_before = || templates().chain(routes[..index].iter().filter(is_earlier));
        let prefix = route.path.literal_prefix();
        if let Some(first) = templates().find(|other| other.path.takes_all_with(&prefix)) {
            let message = format!(
                "the route can never be reached: the route {:?} at {} takes every path of it already, as templates come before \
                 regular expressions",
                first.id,
                cx.place(&first.at)
            );
            cx.error(span, message)
                .help(format!("narrow \"{}\", or write it as a regex below this one", first.path));
            continue;
        }
        // Which paths two of them have in common is not worked out. That it is none is plain where they begin differently.
        let may_overlap = |other: &&Route| {
            let begins = other.path.literal_prefix();
            begins.starts_with(&prefix) || prefix.starts_with(&begins)
        };
        let is_way_around = |other: &&Route| other.client_auth < route.client_auth && may_overlap(other);
        if let (Some(require), Some(first)) = (route.require, asked_before().find(is_way_around)) {
            let message = format!(
                "paths of this may be taken by the route {:?} at {}, which is asked before it and laxer: {}; this one requires {:?}",
                first.id,
                cx.place(&first.at),
                difference(first, route),
                require.as_str()
            );
            cx.error(span, message)
                .help("let their paths begin differently, or make the other route as strict");
            continue;
        }
        let Some(example) = regex.example() else { continue };
        if let Some(first) = asked_before().find(|other| other.path.matches(&example).is_some()) {
            let why = match first.path.regex() {
                None => "templates come before regular expressions",
                Some(_) => "it stands first",
            };
            let message = format!(
                "paths such as {example:?} are taken by the route {:?} at {}, as {why}",
                first.id,
                cx.place(&first.at)
            );
            cx.warning(span, message)
                .help("if that is not meant, write the other route as a regex below this one");
        }
    }
}

fn report_too_many_regexes(cx: &mut Context<'_>, routes: &[Route], spans: &[Range<usize>]) {
    let mut known = BTreeSet::new();
    let regexes = routes.iter().zip(spans).filter(|(route, _)| route.path.regex().is_some());
    let first_beyond = regexes.into_iter().find(|(route, _)| {
        known.insert(route.path.as_str());
        known.len() > bounds::REGEXES_MAX
    });
    if let Some((_, span)) = first_beyond {
        let max = bounds::REGEXES_MAX;
        cx.error(span, format!("the host has more than {max} regular expressions for paths"))
            .help("write templates where they serve: /orders/{id}");
    }
}
