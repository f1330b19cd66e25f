//! Gives hosts and routes that stand apart to their listeners and hosts.

use serde_spanned::Spanned;

use super::super::context::Context;
use crate::raw::{self, Field, Host, Listener, Route};
use crate::suggest::nearest;

/// Moves each `[[host]]` to its listener, then each `[[route]]` to its host.
pub(super) fn attach(cx: &mut Context<'_>, file: &mut raw::File) {
    let hosts = std::mem::take(&mut file.host);
    let routes = std::mem::take(&mut file.route);
    // Of listeners that cannot be read, which was reported, nothing is known.
    let is_known = !matches!(file.listener, Field::Unreadable(_));
    let mut none = Vec::new();
    let listeners = file.listener.value_mut().unwrap_or(&mut none);
    for host in items(cx, hosts) {
        attach_host(cx, listeners, host, is_known);
    }
    for route in items(cx, routes) {
        attach_route(cx, listeners, route, is_known);
    }
}

/// The readable items of a list.
fn items<T>(cx: &mut Context<'_>, list: Field<Vec<Field<T>>>) -> Vec<Spanned<T>> {
    cx.given(&list);
    let Field::Given(list) = list else { return Vec::new() };
    let readable = list.into_inner().into_iter().filter_map(|item| {
        cx.given(&item);
        match item {
            Field::Given(item) => Some(item),
            Field::Absent | Field::Unreadable(_) => None,
        }
    });
    readable.collect()
}

fn attach_host(
    cx: &mut Context<'_>,
    listeners: &mut [Field<Listener>],
    mut host: Spanned<Host>,
    is_known: bool,
) {
    let span = host.span();
    let example = "listener = \"NAME\", the listener that this host is for";
    let Some(name) = cx.required("listener", example, &host.get_ref().listener, &span).cloned() else {
        return;
    };
    let of_name = |listener: &&mut Listener| listener.name.value() == Some(name.get_ref());
    let found = listeners.iter_mut().filter_map(Field::value_mut).find(of_name);
    host.get_mut().listener = Field::Absent;
    match found {
        Some(listener) => push(&mut listener.host, host),
        None if is_known => no_listener(cx, listeners, &name),
        None => {}
    }
}

fn no_listener(cx: &mut Context<'_>, listeners: &[Field<Listener>], name: &Spanned<String>) {
    let known = || listeners.iter().filter_map(|listener| listener.value()?.name.value()).map(String::as_str);
    let help = match nearest(name.get_ref(), known()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
    };
    cx.error(&name.span(), format!("there is no listener {:?}", name.get_ref())).help(help);
}

fn attach_route(
    cx: &mut Context<'_>,
    listeners: &mut [Field<Listener>],
    mut route: Spanned<Route>,
    is_known: bool,
) {
    let span = route.span();
    let example = "host = \"api.example.com\", one of the names of the host that this route is for";
    let Some(name) = cx.required("host", example, &route.get_ref().host, &span).cloned() else { return };
    let listener = cx.given(&route.get_ref().listener).cloned();
    if let Some(wanted) = &listener
        && is_known
        && !listeners.iter().any(|listener| listener.value().is_some_and(|is| is_called(is, wanted)))
    {
        no_listener(cx, listeners, wanted);
        return;
    }
    route.get_mut().host = Field::Absent;
    route.get_mut().listener = Field::Absent;
    let wanted = |it: &&mut Listener| listener.as_ref().is_none_or(|wanted| is_called(it, wanted));
    let mut known = Vec::new();
    let mut hosts = Vec::new();
    for listener in listeners.iter_mut().filter_map(Field::value_mut).filter(wanted) {
        for host in listener.host.value_mut().into_iter().flatten().filter_map(Field::value_mut) {
            let names: Vec<String> = names(host);
            if names.iter().any(|own| own.eq_ignore_ascii_case(name.get_ref())) {
                hosts.push(host);
            }
            known.extend(names);
        }
    }
    match <[&mut Host; 1]>::try_from(hosts) {
        Ok([host]) => push(&mut host.route, route),
        Err(hosts) if hosts.is_empty() => {
            let help = match nearest(name.get_ref(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    "write one of the names of a [[listener.host]] or [[host]], as it stands there".to_owned()
                }
            };
            cx.error(&name.span(), format!("no host is called {:?}", name.get_ref())).help(help);
        }
        Err(_) => {
            let message = format!("several listeners have a host that is called {:?}", name.get_ref());
            cx.error(&name.span(), message).help("add listener = \"NAME\"");
        }
    }
}

fn is_called(listener: &Listener, name: &Spanned<String>) -> bool {
    listener.name.value() == Some(name.get_ref())
}

/// The names of a host, as they stand there.
fn names(host: &Host) -> Vec<String> {
    let list = host.names.given();
    list.map(raw::strings).into_iter().flatten().map(|name| (*name.get_ref()).to_owned()).collect()
}

fn push<T>(list: &mut Field<Vec<Field<T>>>, item: Spanned<T>) {
    match list {
        Field::Given(items) => items.get_mut().push(Field::Given(item)),
        Field::Absent => *list = Field::Given(Spanned::new(item.span(), vec![Field::Given(item)])),
        // It was reported, and refuses the file.
        Field::Unreadable(_) => {}
    }
}
