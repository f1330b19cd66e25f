//! What the kernel counts of this machine: processor time of everybody, proportional memory, connections of a port.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;

use crate::process::Processes;

/// Looks at processor time from some moment on: the machine's, and ours.
pub(super) struct Meanwhile {
    since: Instant,
    machine: Duration,
    ours: Duration,
}

/// Processor time in percent of one processor. It is counted in ticks, 10 ms as a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    /// By this process and all that it has started.
    pub(super) ours: f64,
    /// By all others.
    pub(super) foreign: f64,
}

impl Meanwhile {
    pub(super) fn begin() -> Meanwhile {
        Meanwhile { since: Instant::now(), machine: machine_busy(), ours: ours() }
    }

    /// What was used since then.
    pub(super) fn end(self) -> Used {
        let machine = machine_busy().saturating_sub(self.machine);
        let ours = ours().saturating_sub(self.ours);
        let elapsed = self.since.elapsed().as_secs_f64();
        let percent = |time: Duration| time.as_secs_f64() * 100.0 / elapsed;
        Used { ours: percent(ours), foreign: percent(machine.saturating_sub(ours)) }
    }
}

/// Proportional set size of these processes in bytes: what they share is divided among them. `None` if they are gone.
pub(super) fn pss(processes: &Processes) -> Option<u64> {
    let sizes: Vec<u64> = processes.ids().filter_map(pss_of).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum())
}

/// How many connections from clients are open at an address.
pub(super) fn connections(address: SocketAddr) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    // proc(5): address and port in hexadecimal, and 01 for what is established.
    let port = format!(":{:04X}", address.port());
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_one).count()
}

/// Processor and kernel, as they call themselves.
pub(super) fn name() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, Linux {}", kernel.trim())
}

/// What was not idle, nor waiting for a disk.
fn machine_busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let fields = line.split_whitespace().skip(1).take(8).map(|field| field.parse().unwrap_or(0));
    ticks(fields.enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, count)| count).sum())
}

/// This process and those that it has started, also those that have ended.
fn ours() -> Duration {
    Processes::new(std::process::id()).usage().unwrap_or_default().cpu
}

fn pss_of(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

fn ticks(count: u64) -> Duration {
    Duration::from_secs_f64(count as f64 / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_of_a_port_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(connections(address), 0);
        let _clients = [0; 3].map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap()));
        assert_eq!(connections(address), 3);
    }

    #[test]
    fn memory_and_time_are_seen() {
        let this = Processes::new(std::process::id());
        assert!(pss(&this).unwrap() > 100 << 10);
        assert!(machine_busy() > Duration::ZERO && !name().is_empty());
        let used = Meanwhile::begin().end();
        assert!(used.ours >= 0.0 && used.foreign >= 0.0, "{used:?}");
    }
}
