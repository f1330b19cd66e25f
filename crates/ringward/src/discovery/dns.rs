//! Endpoints from DNS: one attempt.
//!
//! Hides hickory-resolver. Names are absolute and no search list is used: when the first of two names fails, the answer for the
//! second would be somebody else's servers. Answers are neither kept nor combined with those of other attempts, but for one case
//! (`addresses`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use ringward_config::{DnsQuery, Endpoint, EndpointAddr, EndpointsDns, Family};
use ringward_telemetry::DiscoveryOutcome;
use tokio::time::timeout;

use super::source::{Found, Trouble};

/// Asks once. `before` is what was found last.
///
/// # Errors
/// Why there is nothing that could be used.
pub(super) async fn look_up(dns: &EndpointsDns, before: &[Endpoint]) -> Result<Found, Trouble> {
    let asking = async {
        let asker = Asker { resolver: resolver(&dns.servers)?, family: dns.family };
        match &dns.query {
            DnsQuery::Addresses { name, port } => {
                let Addresses { found, ttl, failed } = asker.addresses(name).await?;
                let endpoint = |ip| {
                    let addr = SocketAddr::new(ip, *port);
                    (addr, Endpoint { addr: addr.into(), weight: 1, zone: None, priority: 0 })
                };
                let mut endpoints = found.into_iter().map(endpoint).collect();
                let unconfirmed = keep(&mut endpoints, before, |addr| failed[usize::from(addr.is_ipv6())]);
                Ok(Found { endpoints: endpoints.into_values().collect(), ttl, unconfirmed })
            }
            DnsQuery::Service(name) => asker.service(name, before).await,
        }
    };
    let found = timeout(ATTEMPT_MAX, asking).await;
    let found = found.unwrap_or_else(|_| Err(unreachable(format!("no answer within {ATTEMPT_MAX:?}"))))?;
    match found.endpoints.len() {
        0 => Err(negative(format!("{}: none of its servers has an address", dns.query))),
        1..=ENDPOINTS_MAX => Ok(found),
        many => {
            Err(refused(format!("{}: {many} endpoints, of which {ENDPOINTS_MAX} are allowed", dns.query)))
        }
    }
}

/// Endpoints, each once.
type Endpoints = BTreeMap<SocketAddr, Endpoint>;

/// Those of `before` stay of whose kind not all is known now: which stay only therefore.
fn keep(
    endpoints: &mut Endpoints,
    before: &[Endpoint],
    is_unknown: impl Fn(&SocketAddr) -> bool,
) -> Vec<EndpointAddr> {
    let mut kept = Vec::new();
    for endpoint in before {
        match &endpoint.addr {
            EndpointAddr::Ip(addr) if is_unknown(addr) => {
                endpoints.entry(*addr).or_insert_with(|| {
                    kept.push(endpoint.addr.clone());
                    endpoint.clone()
                });
            }
            // DNS names no sockets.
            EndpointAddr::Ip(_) | EndpointAddr::Unix(_) => {}
        }
    }
    kept
}

/// The addresses of a name.
struct Addresses {
    found: BTreeSet<IpAddr>,
    /// For how long they hold.
    ttl: Duration,
    /// That there was no answer for IPv4, and for IPv6.
    failed: [bool; 2],
}

struct Asker {
    resolver: TokioResolver,
    family: Family,
}

impl Asker {
    /// The addresses of a name.
    ///
    /// # Errors
    /// When there is none. That a server does not answer for one family takes nothing away from the other.
    async fn addresses(&self, name: &str) -> Result<Addresses, Trouble> {
        let (ipv4, ipv6) = tokio::join!(
            self.of_family(name, Family::Ipv4, RecordType::A),
            self.of_family(name, Family::Ipv6, RecordType::AAAA),
        );
        let (mut all, mut ttl) = (BTreeSet::new(), Duration::MAX);
        let mut failed = [false; 2];
        let mut trouble = None;
        for (index, answer) in [ipv4, ipv6].into_iter().enumerate() {
            match answer {
                None => {}
                Some(Ok((addresses, holds))) => {
                    all.extend(addresses);
                    ttl = ttl.min(holds);
                }
                Some(Err(error)) => {
                    failed[index] = error.outcome != DiscoveryOutcome::Negative;
                    // Of a failure and an answer that there is nothing, the failure says more.
                    if failed[index] || trouble.is_none() {
                        trouble = Some(error);
                    }
                }
            }
        }
        if all.is_empty()
            && let Some(trouble) = trouble
        {
            return Err(trouble);
        }
        Ok(Addresses { found: all, ttl, failed })
    }

    /// `None` if this family is not wanted.
    async fn of_family(
        &self,
        name: &str,
        family: Family,
        record_type: RecordType,
    ) -> Option<Result<(Vec<IpAddr>, Duration), Trouble>> {
        if self.family != Family::Any && self.family != family {
            return None;
        }
        Some(self.ask(name, record_type).await.and_then(|(records, ttl)| {
            let address = |data: &RData| match data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            };
            // What sinkholes answer, and nobody serves at.
            let serves = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
            let addresses: Vec<IpAddr> = records.iter().filter_map(address).filter(serves).collect();
            match addresses.is_empty() {
                true => {
                    Err(negative(format!("{name} {record_type}: none of its addresses is that of a server")))
                }
                false => Ok((addresses, ttl)),
            }
        }))
    }

    /// The servers of a service (RFC 2782). All of its targets have to be found.
    async fn service(&self, name: &str, before: &[Endpoint]) -> Result<Found, Trouble> {
        let (records, mut ttl) = self.ask(name, RecordType::SRV).await?;
        let services = records.iter().filter_map(|data| match data {
            RData::SRV(service) => Some(service),
            _ => None,
        });
        // RFC 2782: a single target that is the root says that the service is decidedly not there.
        let services: Vec<&SRV> =
            services.filter(|service| !service.target.is_root() && service.port > 0).collect();
        if services.is_empty() {
            return Err(negative(format!("{name}: no SRV record names a server")));
        }
        if services.len() > TARGETS_MAX {
            let count = services.len();
            return Err(refused(format!("{name}: {count} SRV records, of which {TARGETS_MAX} are allowed")));
        }
        let ranks = Ranks::of(&services);
        let mut endpoints = Endpoints::new();
        // Ports of which a family of addresses is not known.
        let mut failed = BTreeSet::new();
        for service in services {
            let target = service.target.to_ascii();
            let found = match self.addresses(target.trim_end_matches('.')).await {
                Ok(found) => found,
                // One that has no address is not there; the others are.
                Err(trouble) if trouble.outcome == DiscoveryOutcome::Negative => continue,
                Err(trouble) => return Err(trouble),
            };
            ttl = ttl.min(found.ttl);
            let unknown = [false, true].into_iter().filter(|is_ipv6| found.failed[usize::from(*is_ipv6)]);
            failed.extend(unknown.map(|is_ipv6| (service.port, is_ipv6)));
            for ip in found.found {
                let addr = SocketAddr::new(ip, service.port);
                let (priority, weight) = ranks.rank(service);
                let endpoint = Endpoint { addr: addr.into(), weight, zone: None, priority };
                // Of two that name the same server the first priority counts.
                let known = endpoints.entry(addr).or_insert_with(|| endpoint.clone());
                if endpoint.priority < known.priority {
                    *known = endpoint;
                }
            }
        }
        let unconfirmed =
            keep(&mut endpoints, before, |addr| failed.contains(&(addr.port(), addr.is_ipv6())));
        Ok(Found { endpoints: endpoints.into_values().collect(), ttl, unconfirmed })
    }

    /// The data of all records of an answer, and for how long all of it holds.
    async fn ask(&self, name: &str, record_type: RecordType) -> Result<(Vec<RData>, Duration), Trouble> {
        let failed = |error: NetError| {
            let reason = format!("{name} {record_type}: {error}");
            if error.is_no_records_found() {
                negative(format!(
                    "{name} {record_type}: {}",
                    if error.is_nx_domain() { "no such name" } else { "no records" }
                ))
            } else {
                unreachable(reason)
            }
        };
        let absolute =
            Name::from_ascii(format!("{name}.")).map_err(|error| refused(format!("{name}: {error}")))?;
        let lookup = self.resolver.lookup(absolute, record_type).await.map_err(failed)?;
        let answers = lookup.answers();
        let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or(0);
        let data = answers.iter().map(|record| record.data.clone()).collect();
        Ok((data, Duration::from_secs(ttl.into())))
    }
}

/// How priorities and weights of SRV records become those of endpoints, which have fewer.
struct Ranks {
    /// In order; the place is the priority.
    priorities: Vec<u16>,
    largest_weight: u16,
}

impl Ranks {
    fn of(services: &[&SRV]) -> Ranks {
        let priorities: BTreeSet<u16> = services.iter().map(|service| service.priority).collect();
        let largest_weight = services.iter().map(|service| service.weight).max().unwrap_or(0);
        Ranks { priorities: priorities.into_iter().collect(), largest_weight }
    }

    fn rank(&self, service: &SRV) -> (u8, u32) {
        let place = self.priorities.iter().position(|priority| *priority == service.priority).unwrap_or(0);
        let priority = u8::try_from(place).unwrap_or(PRIORITY_MAX).min(PRIORITY_MAX);
        let weight = match u32::from(self.largest_weight) {
            // Proportions stay what they are, but for the smallest.
            largest @ 257.. => (u32::from(service.weight) * WEIGHT_MAX).div_ceil(largest),
            _ => u32::from(service.weight),
        };
        (priority, weight.clamp(1, WEIGHT_MAX))
    }
}

/// A resolver for one attempt. Of `servers`, or of those that the system names, which may have changed.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, Trouble> {
    let failed = |error: NetError| unreachable(format!("/etc/resolv.conf: {error}"));
    let config = match servers {
        [] => {
            let (system, _) = hickory_resolver::system_conf::read_system_conf().map_err(failed)?;
            ResolverConfig::from_name_servers(system.name_servers().to_vec())
        }
        servers => ResolverConfig::from_name_servers(servers.iter().copied().map(name_server).collect()),
    };
    if config.name_servers().is_empty() {
        return Err(unreachable(
            "/etc/resolv.conf names no servers: write dns_servers into [server]".to_owned(),
        ));
    }
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let ResolverOpts { timeout, attempts, edns0, cache_size, use_hosts_file, preserve_intermediates, .. } =
        builder.options_mut();
    (*timeout, *attempts, *edns0, *cache_size) = (QUESTION_MAX, 1, true, 0);
    *use_hosts_file = ResolveHosts::Never;
    // What an alias leads to holds no longer than the alias.
    *preserve_intermediates = true;
    builder.build().map_err(|error| unreachable(error.to_string()))
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = server.port());
    NameServerConfig::new(server.ip(), true, connections)
}

fn unreachable(reason: String) -> Trouble {
    Trouble { outcome: DiscoveryOutcome::Unreachable, reason }
}

fn negative(reason: String) -> Trouble {
    Trouble { outcome: DiscoveryOutcome::Negative, reason }
}

fn refused(reason: String) -> Trouble {
    Trouble { outcome: DiscoveryOutcome::Refused, reason }
}

/// A server that has to ask others first takes a second or two.
const QUESTION_MAX: Duration = Duration::from_secs(2);
/// For all questions of an attempt.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// As many as a configuration may name.
const ENDPOINTS_MAX: usize = 1024;
/// Each is asked for twice.
const TARGETS_MAX: usize = 128;
/// As for endpoints of a configuration.
const PRIORITY_MAX: u8 = 15;
const WEIGHT_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_the_priorities_and_weights_that_endpoints_may_have() {
        let service = |(priority, weight)| SRV::new(priority, weight, 80, Name::root());
        let ranks = |of: &[(u16, u16)]| -> Vec<(u8, u32)> {
            let services: Vec<SRV> = of.iter().copied().map(service).collect();
            let services: Vec<&SRV> = services.iter().collect();
            let ranks = Ranks::of(&services);
            services.iter().map(|service| ranks.rank(service)).collect()
        };
        assert_eq!(ranks(&[(10, 3), (10, 1), (500, 0)]), [(0, 3), (0, 1), (1, 1)]);
        assert_eq!(ranks(&[(0, 256), (0, 0)]), [(0, 256), (0, 1)]);
        assert_eq!(ranks(&[(0, 65_535), (0, 32_768), (0, 1)]), [(0, 256), (0, 129), (0, 1)]);
        let many: Vec<(u16, u16)> = (0..20).map(|priority| (priority * 3, 1)).collect();
        let last: Vec<u8> = ranks(&many)[14..].iter().map(|(priority, _)| *priority).collect();
        assert_eq!(last, [14, 15, 15, 15, 15, 15], "the order stays");
    }
}
