//! Whether routes and their policies agree about who may look at bodies.

use std::collections::HashMap;

use ringward_config::{Config, Engine, Severity};

use super::{LoadedPolicy, Report};

/// Reports routes one of whose policies needs bodies that it does not get, and such that allow what no policy wants. Policies that could
/// not be loaded are somebody else's report.
pub(super) fn check(config: &Config, policies: &HashMap<String, LoadedPolicy>, report: &mut Report<'_>) {
    for route in config.listeners.iter().flat_map(|listener| &listener.hosts).flat_map(|host| &host.routes) {
        let names = route.policy.names();
        let loaded: Vec<_> =
            names.iter().filter_map(|name| Some((name, &policies.get(name)?.compiled))).collect();
        if route.policy_body_max.is_none() {
            // A server is given bodies where there are any, and knows which it needs.
            let is_ours =
                |name: &str| config.policies.get(name).is_some_and(|policy| policy.engine != Engine::Opa);
            let unnamed = loaded.iter().filter(|(_, policy)| policy.reads_body() && !policy.names_body());
            for (name, _) in unnamed.filter(|(name, _)| is_ours(name)) {
                let message = format!(
                    "the policy {name:?} is given the whole input, and on the route {:?} the bodies in it are empty and cut off",
                    route.id
                );
                let help = "add policy_body_max = \"64KiB\" to the route, or read single fields of the input";
                report.push(Severity::Warning, &route.at, message, Some(help.to_owned()));
            }
            for (name, _) in loaded.iter().filter(|(_, policy)| policy.names_body()) {
                let message = format!(
                    "the policy {name:?} reads the bodies of requests, which the route {:?} does not allow",
                    route.id
                );
                let help = "add policy_body_max = \"64KiB\" to the route, or give it a policy that does not read bodies";
                report.error(&route.at, message, Some(help.to_owned()));
            }
        } else if loaded.len() == names.len() && !loaded.iter().any(|(_, policy)| policy.reads_body()) {
            let message = format!(
                "`policy_body_max` of the route {:?} has no effect: no policy of it reads bodies",
                route.id
            );
            let help = "leave it away, or read the body in the policy";
            report.push(Severity::Warning, &route.at, message, Some(help.to_owned()));
        }
    }
}
