//! Where a route is reached with less than is declared.

use std::collections::HashMap;

use ringward_config::{Config, Diagnostics, Host, Listener, Require, Route, Severity};
use ringward_proxy::{ListenerReach, Proof};

/// A route with what is needed to tell of it.
#[derive(Clone, Copy)]
struct Place<'c> {
    listener: &'c Listener,
    host: &'c Host,
    route: &'c Route,
    proof: Proof,
}

/// All findings: errors where a route is reached with less than it declares, warnings where the same path of the same cluster
/// is reached with less by another route.
pub(super) fn of(config: &Config, reach: &[ListenerReach]) -> Diagnostics {
    let places = places(config, reach);
    let mut findings = Diagnostics::new();
    for place in places.iter().filter(|place| place.lacks(place.route.require)) {
        let message = format!(
            "{} declares `require`, but clients that have {} get there: client_auth is \"{}\"",
            place.words(),
            proved(place.proof),
            place.route.client_auth.as_str()
        );
        findings.push(config.diagnostic(Severity::Error, &place.route.at, message));
    }
    let mut weak: HashMap<&str, Vec<&Place<'_>>> = HashMap::new();
    for place in places.iter().filter(|place| place.proof < Proof::Certificate) {
        for cluster in place.route.clusters() {
            weak.entry(cluster).or_default().push(place);
        }
    }
    for place in places.iter().filter(|place| place.route.require.is_some()) {
        let weak = &weak;
        let others =
            place.route.action.clusters().flat_map(|cluster| {
                weak.get(cluster).into_iter().flatten().map(move |other| (cluster, other))
            });
        let weaker = |other: &Place<'_>| !other.is(place) && other.lacks(place.route.require);
        for (cluster, other) in
            others.filter(|(_, other)| weaker(other) && other.route.path.overlaps(&place.route.path))
        {
            let message = format!(
                "{} declares `require`, but clients that have {} reach \"{}\" of cluster {} by {} at {}",
                place.words(),
                proved(other.proof),
                other.route.path,
                cluster,
                other.words(),
                config.place(&other.route.at)
            );
            findings.push(config.diagnostic(Severity::Warning, &place.route.at, message));
        }
    }
    findings
}

fn places<'c>(config: &'c Config, reach: &[ListenerReach]) -> Vec<Place<'c>> {
    let mut places = Vec::new();
    for (listener, reach) in config.listeners.iter().zip(reach) {
        for (host, reach) in listener.hosts.iter().zip(&reach.hosts) {
            let routes = host.routes.iter().zip(&reach.routes);
            places.extend(routes.map(|(route, proof)| Place { listener, host, route, proof: *proof }));
        }
    }
    places
}

impl Place<'_> {
    fn lacks(&self, require: Option<Require>) -> bool {
        match require {
            Some(Require::Mtls) => self.proof < Proof::Certificate,
            Some(Require::Forwarded) => self.proof < Proof::Forwarded,
            None => false,
        }
    }

    fn is(&self, other: &Place<'_>) -> bool {
        std::ptr::eq(self.route, other.route)
    }

    fn words(&self) -> String {
        format!("route {:?} of {} at listener {}", self.route.id, self.host.names[0], self.listener.name)
    }
}

/// What clients have done, in words.
fn proved(proof: Proof) -> &'static str {
    match proof {
        Proof::None => "proved nothing",
        Proof::Forwarded => "proved themselves to a load balancer alone",
        Proof::Certificate => "proved themselves",
    }
}
