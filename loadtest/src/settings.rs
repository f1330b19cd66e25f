//! A plan as names and values, by which a report says what it tells of.

use std::collections::BTreeMap;

use crate::args::{ExpectedBytes, Mode, Plan, REQUESTS_MAX, SECONDS_MAX};
use crate::plain::shown;

/// What decides what a run does, by the names of the arguments; what is not used is left out.
pub(crate) fn of(plan: &Plan) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    set("mode", plan.mode.to_string());
    set("target", plan.target.to_string());
    set("server-name", plan.server_name.to_str().into_owned());
    set("connections", plan.connections.to_string());
    set("path", plan.path.clone());
    set("timeout", plan.timeout.as_secs_f64().to_string());
    set("expect-status", plan.expected_status.to_string());
    let bytes = match plan.expected_bytes {
        ExpectedBytes::Exactly(bytes) => bytes.to_string(),
        ExpectedBytes::Same => "same".to_owned(),
        ExpectedBytes::Any => "any".to_owned(),
    };
    set("expect-bytes", bytes);
    if plan.http2 {
        set("http2", "yes".to_owned());
        set("streams", plan.streams.to_string());
    }
    if plan.requests_max < REQUESTS_MAX {
        set("requests", plan.requests_max.to_string());
    }
    if plan.duration_max < SECONDS_MAX && plan.mode != Mode::Idle {
        set("duration", plan.duration_max.as_secs_f64().to_string());
    }
    if let Some(rate) = &plan.rate {
        set("rate", rate.to_string());
    }
    if plan.fresh_paths > 0 {
        set("fresh-paths", plan.fresh_paths.to_string());
    }
    if plan.resume {
        set("resume", "yes".to_owned());
    }
    if plan.mode == Mode::Idle {
        set("hold", plan.hold.as_secs_f64().to_string());
    }
    if plan.body_bytes > 0 {
        set("body-bytes", plan.body_bytes.to_string());
    }
    for (name, value) in plan.offer.settings() {
        set(name, value);
    }
    settings
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
