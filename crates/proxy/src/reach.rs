//! Which routes can be reached, and what a client has proved at the least when it gets there.
//!
//! Nothing is concluded from how the configuration is written: the tables and comparisons of the data path are asked, for
//! every name that a client can give. `Listener::host_index` answers for the handshake, `Listener::host_for_request` and
//! [`Host::vouches_for`] for the request, and what a route and the handshake in front of it want of clients is what
//! [`crate::caller`] goes by.

use std::{
    collections::{HashMap, HashSet},
    ptr,
};

use ringward_config::{self as config, ClientAuthMode as RouteMode, HostPattern};
use ringward_tls::ClientAuthMode;

use crate::snapshot::{Host, Listener, Route, Snapshot};

/// The server name of a handshake, or the host of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A name that a host answers to; for `*.suffix`, any one for which no other host is there.
    Name(HostPattern),
    /// A name that no host answers to.
    Unknown,
    /// None. Requests always name a host.
    Nothing,
}

/// What a client has proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing. A policy may still refuse it.
    None,
    /// To a load balancer that the host trusts, that it holds the key of a certificate that was verified by the rules of the host.
    Forwarded,
    /// That it holds the key of such a certificate, to us.
    Certificate,
}

/// A listener, seen from outside.
#[derive(Clone, Debug)]
pub struct ListenerReach {
    /// For each server name, the index of the host whose rules admit the client; `None` if there is no handshake.
    pub handshakes: Vec<(Asked, Option<usize>)>,
    /// For each name that a request may ask for, the index of the host that answers; `None` for 421.
    pub requests: Vec<(Asked, Option<usize>)>,
    /// The hosts, by index in the configuration.
    pub hosts: Vec<HostReach>,
}

/// A virtual host, seen from outside.
#[derive(Clone, Debug)]
pub struct HostReach {
    /// The index of the first host with the very same rules. Clients that were admitted by a host of this scope may ask for
    /// this one, all others get 421.
    pub scope: usize,
    /// By index of the route in the configuration: what a client has proved at the least when the route serves it.
    pub routes: Vec<Proof>,
}

impl Snapshot {
    /// What can be reached through each listener. The snapshot is of this configuration.
    pub fn reach(&self, config: &config::Config) -> Vec<ListenerReach> {
        let listeners = self.listeners.iter().zip(&config.listeners);
        listeners.map(|(listener, configured)| listener_reach(listener, configured)).collect()
    }
}

fn listener_reach(listener: &Listener, configured: &config::Listener) -> ListenerReach {
    let known: Vec<&HostPattern> = configured.hosts.iter().flat_map(|host| &host.names).collect();
    let exact: HashSet<&str> = known
        .iter()
        .filter_map(|pattern| match pattern {
            HostPattern::Exact(name) => Some(name.as_str()),
            HostPattern::Wildcard(_) => None,
        })
        .collect();
    let asked = |pattern: &&HostPattern| (Asked::Name((*pattern).clone()), example(pattern, &exact));
    let unknown = (Asked::Unknown, example_unknown(&known));
    let mut handshakes: Vec<(Asked, Option<usize>)> = known
        .iter()
        // Clients send no server name for an address (RFC 6066 §3).
        .filter(|pattern| !matches!(pattern, HostPattern::Exact(name) if name.is_ip_address()))
        .map(asked)
        .chain([unknown.clone()])
        .map(|(asked, name)| (asked, listener.host_index(Some(&name))))
        .collect();
    handshakes.push((Asked::Nothing, listener.host_index(None)));
    let position = |host: &Host| listener.hosts.iter().position(|other| ptr::eq(host, other));
    let requests = known
        .iter()
        .map(asked)
        .chain([unknown])
        .map(|(asked, name)| (asked, listener.host_for_request(&name).and_then(position)))
        .collect();
    ListenerReach { hosts: hosts(listener, &handshakes), handshakes, requests }
}

fn hosts(listener: &Listener, handshakes: &[(Asked, Option<usize>)]) -> Vec<HostReach> {
    let mut firsts: Vec<usize> = Vec::new();
    let mut scope_of = |index: usize| {
        let alike = |first: &&usize| listener.hosts[**first].vouches_for(&listener.hosts[index]);
        firsts.iter().find(alike).copied().unwrap_or_else(|| {
            firsts.push(index);
            index
        })
    };
    let scopes: Vec<usize> = (0..listener.hosts.len()).map(&mut scope_of).collect();
    // How a client was asked at the least, by scope. Where no handshake leads, nobody was.
    let mut weakest: HashMap<usize, ClientAuthMode> = HashMap::new();
    for door in handshakes.iter().filter_map(|(_, host)| *host) {
        let mode = listener.hosts[door].tls.client_auth().mode();
        let least = weakest.entry(scopes[door]).or_insert(mode);
        if *least == ClientAuthMode::Required {
            *least = mode;
        }
    }
    let reach = |(host, scope): (&Host, usize)| HostReach {
        scope,
        routes: host.routes.values().map(|route| proof(weakest.get(&scope).copied(), host, route)).collect(),
    };
    listener.hosts.iter().zip(scopes).map(reach).collect()
}

/// What a client has proved at the least that was asked like this in its handshake and is served by `route` of `host`.
fn proof(handshake: Option<ClientAuthMode>, host: &Host, route: &Route) -> Proof {
    if host.forwarding.is_some() {
        // Behind a load balancer that has passed the handshake, clients are whom its header names, or nobody.
        return if route.client_auth == RouteMode::Required { Proof::Forwarded } else { Proof::None };
    }
    match (handshake, route.client_auth) {
        (Some(ClientAuthMode::Required), _) | (_, RouteMode::Required) => Proof::Certificate,
        _ => Proof::None,
    }
}

/// A name that this pattern takes, and no other.
fn example(pattern: &HostPattern, exact: &HashSet<&str>) -> String {
    match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(suffix) => {
            unused(|label| format!("{label}.{suffix}"), |name| exact.contains(name))
        }
    }
}

fn example_unknown(known: &[&HostPattern]) -> String {
    // RFC 2606 §2: nobody has a name there.
    unused(|label| format!("{label}.{label}.invalid"), |name| known.iter().any(|known| known.matches(name)))
}

/// The first of some names that is not taken.
fn unused(name: impl Fn(&str) -> String, is_taken: impl Fn(&str) -> bool) -> String {
    let names = (0_usize..).map(|number| name(&format!("x{number}")));
    names.into_iter().find(|name| !is_taken(name)).expect("there are fewer patterns than numbers")
}
