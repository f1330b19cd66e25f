//! Rows about local ports: those of connections to upstreams, and those that are listened on.

use super::machine::{Machine, Unread, malformed};
use super::needs::{Needs, Upstream};
use super::report::{Judged, Row};

/// Whether there is a port for each connection to an upstream endpoint.
pub(super) fn range(machine: &Machine, needs: &Needs) -> Row {
    let most = needs.upstreams.iter().max_by_key(|upstream| upstream.per_endpoint);
    let needed = match most {
        Some(Upstream { cluster, per_endpoint, .. }) => {
            format!("{per_endpoint} for an endpoint of cluster {cluster}")
        }
        None => "none: no upstream is reached by TCP".to_owned(),
    };
    let wanted = most.map_or(0, |upstream| upstream.per_endpoint);
    Row::new("net.ipv4.ip_local_port_range", needed, || {
        let (first, last) = ephemeral(machine)?;
        let reserved = reserved(machine)?.iter().filter(|port| (first..=last).contains(*port)).count();
        let ports = u64::from(last - first) + 1 - reserved as u64;
        let found = format!("{ports} ({first} to {last})");
        Ok(if ports >= wanted {
            Judged::ok(found)
        } else if wanted <= PORTS_MAX {
            Judged::bad(found, "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"")
        } else {
            Judged::bad(found, "more endpoints, requests_max for the cluster, or protocol = \"http2\"")
        })
    })
}

/// Whether ports of connections that have ended can be used again at once, if each request leaves one.
pub(super) fn tw_reuse(machine: &Machine, needs: &Needs) -> Row {
    let leaving: Vec<&Upstream> =
        needs.upstreams.iter().filter(|upstream| upstream.one_per_request).collect();
    let needed = match leaving.first() {
        Some(upstream) => format!("1: cluster {} leaves a port behind with each request", upstream.cluster),
        None => "any: connections to upstreams are kept".to_owned(),
    };
    Row::new("net.ipv4.tcp_tw_reuse", needed, || {
        let value = machine.number("/proc/sys/net/ipv4/tcp_tw_reuse")?;
        let is_enough = match value {
            1 => true,
            // Among addresses of loopback.
            2 => leaving.iter().all(|upstream| upstream.is_local),
            _ => leaving.is_empty(),
        };
        Ok(match is_enough {
            true => Judged::ok(value.to_string()),
            false => Judged::bad(value.to_string(), "sysctl -w net.ipv4.tcp_tw_reuse=1"),
        })
    })
}

/// Whether a connection could take a port that is to be listened on, before it is.
pub(super) fn listened(machine: &Machine, needs: &Needs) -> Row {
    Row::new(
        "net.ipv4.ip_local_reserved_ports",
        "the ports of listeners, as far as connections could take them",
        || {
            let (range, reserved) = (ephemeral(machine)?, reserved(machine)?);
            let taken = needs
                .ports
                .iter()
                .filter(|port| (range.0..=range.1).contains(*port) && !reserved.contains(port));
            let taken: Vec<String> = taken.map(ToString::to_string).collect();
            if taken.is_empty() {
                return Ok(Judged::ok("no port of a listener can be taken"));
            }
            let all = machine.text(RESERVED)?;
            let all: Vec<&str> = Some(all.trim()).filter(|all| !all.is_empty()).into_iter().collect();
            let all = all.into_iter().chain(taken.iter().map(String::as_str)).collect::<Vec<_>>().join(",");
            let found = format!("a connection may take {} before we do", taken.join(", "));
            Ok(Judged::warn(found, format!("sysctl -w net.ipv4.ip_local_reserved_ports={all}")))
        },
    )
}

/// The first and the last port of connections.
fn ephemeral(machine: &Machine) -> Result<(u16, u16), Unread> {
    let words = machine.words(RANGE)?;
    let numbers: Vec<u16> = words.iter().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [first, last] if first <= last => Ok((first, last)),
        _ => Err(malformed(RANGE, &words.join(" "))),
    }
}

/// Ports that no connection takes by itself.
fn reserved(machine: &Machine) -> Result<Vec<u16>, Unread> {
    let text = machine.text(RESERVED)?;
    let mut ports = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Err(malformed(RESERVED, &text));
        };
        ports.extend(first..=last);
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// From 1024 to 65535.
const PORTS_MAX: u64 = 64_512;

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{Bad, Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    fn machine(range: &str, reserved: &str) -> Fixture {
        Fixture::new().file(RANGE, range).file(RESERVED, reserved)
    }

    fn upstream(per_endpoint: u64, one_per_request: bool, is_local: bool) -> Needs {
        let upstream = Upstream { cluster: "app".to_owned(), per_endpoint, one_per_request, is_local };
        Needs { upstreams: vec![upstream], ..needs() }
    }

    #[test]
    fn ports_are_enough_or_not() {
        for (ports, reserved, wanted, verdict, fix) in [
            ("32768\t60999\n", "\n", 28_232, Ok, ""),
            ("32768\t60999\n", "\n", 28_233, Bad, "ip_local_port_range"),
            ("32768\t60999\n", "32768,1-10\n", 28_232, Bad, "ip_local_port_range"),
            ("1024\t65535\n", "\n", 70_000, Bad, "more endpoints"),
            ("32768\n", "\n", 1, Unknown, ""),
            ("5\t4\n", "\n", 1, Unknown, ""),
            ("32768\t60999\n", "x-y\n", 1, Unknown, ""),
        ] {
            let row = range(&machine(ports, reserved).machine(), &upstream(wanted, false, false));
            check(&row, verdict, "", fix);
        }
        check(&range(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
        let none = Needs { upstreams: Vec::new(), ..needs() };
        check(&range(&machine("1 1", "").machine(), &none), Ok, "1 (1 to 1)", "");
    }

    #[test]
    fn ports_are_used_again_where_that_matters() {
        for (value, one_per_request, is_local, verdict) in [
            ("0", false, false, Ok),
            ("2", false, false, Ok),
            ("1", true, false, Ok),
            ("2", true, true, Ok),
            ("2", true, false, Bad),
            ("0", true, true, Bad),
            ("", true, true, Unknown),
        ] {
            let machine = Fixture::new().file("/proc/sys/net/ipv4/tcp_tw_reuse", value).machine();
            let fix = if verdict == Bad { "tcp_tw_reuse=1" } else { "" };
            check(&tw_reuse(&machine, &upstream(1, one_per_request, is_local)), verdict, "", fix);
        }
        check(&tw_reuse(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn ports_of_listeners_are_kept_from_connections() {
        for (range, reserved, verdict, fix) in [
            ("32768 60999", "", Ok, ""),
            ("1024 65535", "8000-9000", Ok, ""),
            ("1024 65535", "\n", Warn, "ip_local_reserved_ports=8443"),
            ("1024 65535", "7,9\n", Warn, "ip_local_reserved_ports=7,9,8443"),
            ("1024", "", Unknown, ""),
        ] {
            check(&listened(&machine(range, reserved).machine(), &needs()), verdict, "", fix);
        }
        check(&listened(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }
}
