//! The ways into a configuration, as a table or JSON.

use std::fmt;

use ringward_config::{Config, Host, Listener, Methods, Route};
use ringward_proxy::{Asked, ListenerReach, Proof};
use serde::Serialize;

use crate::check;
use crate::table::Table;

#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Listeners(Vec<ListenerWays>);

#[derive(Debug, Serialize)]
struct ListenerWays {
    name: String,
    bind: Vec<String>,
    protocols: Vec<&'static str>,
    /// Clients are admitted to one of these by their handshake, and get 421 if they ask for a host of another.
    scopes: Vec<Scope>,
    hosts: Vec<HostWays>,
}

/// Hosts with the very same rules for clients.
#[derive(Debug, Serialize)]
struct Scope {
    /// What the handshake asks for.
    handshake: &'static str,
    trust: Vec<String>,
    /// The server names that lead here.
    server_names: Vec<String>,
    /// Names that no host answers to lead here, too.
    unknown_names: bool,
    /// And so do handshakes without a name.
    no_name: bool,
}

#[derive(Debug, Serialize)]
struct HostWays {
    names: Vec<String>,
    /// Requests for names that no host answers to are served here, too.
    unknown_names: bool,
    /// The index of its scope.
    scope: usize,
    routes: Vec<RouteWays>,
}

#[derive(Debug, Serialize)]
struct RouteWays {
    id: String,
    path: String,
    /// Empty for all.
    methods: Vec<String>,
    protocols: Vec<&'static str>,
    client_auth: &'static str,
    /// What a client has proved at the least: `mtls`, `forwarded` (to a load balancer) or `none`.
    weakest: &'static str,
    /// What the configuration declares.
    require: Option<&'static str>,
    /// In the order in which they are asked; empty if nobody decides.
    policies: Vec<String>,
    /// Absent if Ringward answers itself.
    cluster: Option<String>,
    /// The cluster that gets copies of its requests.
    mirror: Option<String>,
}

impl Listeners {
    pub(super) fn of(config: &Config, reach: &[ListenerReach]) -> Listeners {
        Listeners(
            config.listeners.iter().zip(reach).map(|(one, reach)| ListenerWays::of(one, reach)).collect(),
        )
    }
}

impl ListenerWays {
    fn of(listener: &Listener, reach: &ListenerReach) -> ListenerWays {
        let mut firsts: Vec<usize> = Vec::new();
        for host in &reach.hosts {
            if !firsts.contains(&host.scope) {
                firsts.push(host.scope);
            }
        }
        let number = |host: usize| firsts.iter().position(|first| *first == reach.hosts[host].scope);
        let scope = |(index, first): (usize, &usize)| {
            let client_auth = &listener.hosts[*first].client_auth;
            let doors = || {
                let led = reach.handshakes.iter().filter(|(_, host)| host.and_then(number) == Some(index));
                led.map(|(asked, _)| asked)
            };
            Scope {
                handshake: client_auth.handshake.as_str(),
                trust: client_auth.verification().map_or_else(Vec::new, |rules| rules.trust.clone()),
                server_names: doors().filter_map(name).collect(),
                unknown_names: doors().any(|asked| *asked == Asked::Unknown),
                no_name: doors().any(|asked| *asked == Asked::Nothing),
            }
        };
        let unknown = reach.requests.iter().find(|(asked, _)| *asked == Asked::Unknown);
        let takes_unknown = unknown.and_then(|(_, host)| *host);
        let hosts = listener.hosts.iter().zip(&reach.hosts).enumerate();
        ListenerWays {
            name: listener.name.clone(),
            bind: listener.bind.iter().map(|bind| bind.addr.to_string()).collect(),
            protocols: protocols(listener),
            scopes: firsts.iter().enumerate().map(scope).collect(),
            hosts: hosts
                .map(|(index, (host, reach))| HostWays {
                    names: host.names.iter().map(ToString::to_string).collect(),
                    unknown_names: takes_unknown == Some(index),
                    scope: number(index).unwrap_or_default(),
                    routes: routes(listener, host, &reach.routes),
                })
                .collect(),
        }
    }
}

fn name(asked: &Asked) -> Option<String> {
    match asked {
        Asked::Name(pattern) => Some(pattern.to_string()),
        Asked::Unknown | Asked::Nothing => None,
    }
}

fn protocols(listener: &Listener) -> Vec<&'static str> {
    if listener.http2 { vec!["http/1.1", "h2"] } else { vec!["http/1.1"] }
}

fn routes(listener: &Listener, host: &Host, proofs: &[Proof]) -> Vec<RouteWays> {
    let ways = |(route, proof): (&Route, &Proof)| RouteWays {
        id: route.id.clone(),
        path: route.path.to_string(),
        methods: match &route.methods {
            Methods::All => Vec::new(),
            Methods::Only(methods) => methods.iter().map(ToString::to_string).collect(),
        },
        protocols: match (route.grpc, &route.tunnel) {
            // Calls of gRPC need HTTP/2.
            (true, _) => vec!["grpc"],
            (false, None) => protocols(listener),
            (false, Some(_)) => [protocols(listener), vec!["upgrade"]].concat(),
        },
        client_auth: route.client_auth.as_str(),
        weakest: match proof {
            Proof::None => "none",
            Proof::Forwarded => "forwarded",
            Proof::Certificate => "mtls",
        },
        require: route.require.map(|require| require.as_str()),
        policies: route.policy.names().to_vec(),
        cluster: check::clusters(route),
        mirror: route.mirror.as_ref().map(|mirror| mirror.cluster.clone()),
    };
    host.routes.iter().zip(proofs).map(ways).collect()
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|listener| writeln!(f, "{listener}"))
    }
}

impl fmt::Display for ListenerWays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "listener {} at {}, {}", self.name, self.bind.join(", "), self.protocols.join(" and "))?;
        let mut table = Table::new(&HEADINGS);
        for host in &self.hosts {
            let scope = &self.scopes[host.scope];
            for route in &host.routes {
                table.row([
                    shortened(host.names.clone(), [(host.unknown_names, ANY_OTHER)]),
                    or(route.methods.join(" "), "all"),
                    route.path.clone(),
                    route.protocols.join(" "),
                    match route.weakest {
                        "mtls" => format!("mtls ({})", scope.trust.join(", ")),
                        weakest => format!("{weakest} ({})", route.client_auth),
                    },
                    route.require.unwrap_or("-").to_owned(),
                    or(route.policies.join(" "), "-"),
                    or(scope.to_string(), "nobody"),
                ]);
            }
        }
        write!(f, "{table}")
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = [(self.unknown_names, ANY_OTHER), (self.no_name, "no name")];
        f.write_str(&shortened(self.server_names.clone(), others))
    }
}

/// The first of some names, how many follow, and which others.
fn shortened<const N: usize>(mut names: Vec<String>, others: [(bool, &str); N]) -> String {
    if names.len() > NAMES_SHOWN {
        let more = names.len() - NAMES_SHOWN;
        names.truncate(NAMES_SHOWN);
        names.push(format!("{more} more"));
    }
    names.extend(others.into_iter().filter(|(is_so, _)| *is_so).map(|(_, word)| word.to_owned()));
    names.join(", ")
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text }
}

const HEADINGS: [&str; 8] =
    ["HOST", "METHODS", "PATH", "PROTOCOLS", "AT LEAST", "REQUIRE", "POLICIES", "SERVER NAMES"];
const ANY_OTHER: &str = "any other";
const NAMES_SHOWN: usize = 3;
