//! A scenario as names and values, by which a report says what it tells of.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clients::Outcome;
use crate::plain::shown;
use crate::request::{ExpectedBytes, RequestKind, What};
use crate::scenario::{ClassPlan, Scenario, Source};

/// What decides what a run does, by the names of the arguments and of the keys of scenarios; what is not used is left out.
pub(crate) fn of(scenario: &Scenario, target: SocketAddr) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    set("mode", scenario.name.clone());
    set("target", target.to_string());
    set("server-name", names(&scenario.server_names));
    set("connections", scenario.connections.to_string());
    set("timeout", seconds(scenario.timeout));
    if scenario.offer.http2 {
        set("http2", "yes".to_owned());
        set("streams", scenario.streams.to_string());
    }
    if scenario.resume {
        set("resume", "yes".to_owned());
    }
    if !scenario.kept {
        set("client", "next".to_owned());
    }
    if !scenario.think_time.is_always(0.0) {
        set("think-time", scenario.think_time.to_string());
    }
    let mut some = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            set(name, value);
        }
    };
    some("requests", text(scenario.requests_max));
    some("duration", scenario.duration_max.map(seconds));
    some("rate", text(scenario.rate.as_ref()));
    some("hold", scenario.hold.map(seconds));
    some("requests-per-connection", text(scenario.per_connection));
    some("storm-every", scenario.storm_every.map(seconds));
    for (name, value) in scenario.offer.settings() {
        set(name, value);
    }
    for class in &scenario.classes {
        set(&format!("clients {}", class.name), class_text(class));
    }
    for kind in &scenario.kinds {
        set(&format!("requests {}", kind.name), kind_text(kind));
    }
    settings
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

fn names(names: &[String]) -> String {
    match names {
        [first, .., last] => format!("{} names, {first} to {last}", names.len()),
        _ => names.concat(),
    }
}

fn class_text(class: &ClassPlan) -> String {
    let source = match &class.source {
        Source::Anonymous => "without certificates".to_owned(),
        Source::Files { cert, .. } => cert.display().to_string(),
        Source::Fleet { class, count: None } => format!("all {class}"),
        Source::Fleet { class, count: Some(count) } => format!("{count} {class}"),
    };
    let outcome = if class.outcome == Outcome::Refused { ", to be refused" } else { "" };
    format!("share {}, {source}{outcome}", class.share)
}

fn kind_text(kind: &RequestKind) -> String {
    let what = match kind.what {
        What::Request => kind.method.to_string(),
        What::Call { kind, messages, .. } => format!("{kind:?} call of {messages} messages"),
        What::WebSocket { messages, .. } => format!("WebSocket of {messages} messages"),
    };
    let fresh = if kind.fresh_paths > 0 { format!(", {} % fresh", kind.fresh_paths) } else { String::new() };
    let body = if kind.body.is_always(0.0) { String::new() } else { format!(", {} bytes", kind.body) };
    let bytes = match kind.expected.bytes.get() {
        ExpectedBytes::Exactly(bytes) => format!(" with {bytes} bytes"),
        ExpectedBytes::Same => " with as many bytes as the first".to_owned(),
        ExpectedBytes::Any => String::new(),
    };
    let status = kind.expected.status;
    format!("share {}, {what} {}{fresh}{body}, {status}{bytes}", kind.share, kind.path)
}

/// Where two plans differ, for people: name, and what each says.
pub(crate) fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    let value =
        |plan: &BTreeMap<String, String>, name| plan.get(name).cloned().unwrap_or("nothing".to_owned());
    let differ = names.filter(|name| a.get(*name) != b.get(*name));
    differ.map(|name| shown(&format!("{name}: {} and {}", value(a, name), value(b, name)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_by_name() {
        let plan = |text: &str| {
            let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        let one = plan("mode=idle connections=5 path=/");
        assert_eq!(differences(&one, &one), Vec::<String>::new());
        assert_eq!(
            differences(&one, &plan("mode=idle connections=6 rate=10 path=/")),
            ["connections: 5 and 6", "rate: nothing and 10"]
        );
    }
}
