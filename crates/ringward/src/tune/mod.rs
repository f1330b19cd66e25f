//! `ringward tune`: whether the machine has what a configuration needs, and the commands that would change it.
//!
//! It changes nothing. What it knows it has read below `/proc`, `/sys` and `/run` ([`machine`]), or asked the running kernel
//! ([`asked`]); a thing that cannot be known is shown as such, with the reason. Each row is a function of its own.

mod asked;
mod clock;
mod host;
mod kernel;
mod limits;
mod machine;
mod needs;
mod nic;
mod ports;
mod report;
#[cfg(test)]
mod testing;

use std::path::{Path, PathBuf};

use clap::Args;

use self::asked::Answers;
use self::machine::Machine;
use self::needs::Needs;
use self::report::{Report, Row};
use crate::failure::{EXIT_RUNTIME, Failure};
use crate::terminal::{print_json, say};

/// Show whether this machine has what a configuration needs, and the commands that would change it.
///
/// Looks at the kernel, io_uring, limits, ports, network devices, CPUs, memory, entropy and the clock, and changes nothing. Where a
/// `ringward run` runs, its limits are shown, else those of this shell (a service has those of its unit). Fails if something is
/// bad (exit code 1): then the configuration cannot do here what it says.
#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// The configuration file; without it, what a listener and a cluster need for which nothing is said. The files that it names are not
    /// read.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at the directories `proc`, `sys` and `run` below this one, such as copies from another machine. What only a running kernel can
    /// say is unknown then.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Looks at the machine.
///
/// # Errors
/// If the configuration is refused, or something is bad; that was printed.
pub(crate) fn run(arguments: &Tune) -> Result<(), Failure> {
    let config = arguments.config.as_deref().map(ringward_config::load).transpose();
    let config = config.map_err(Failure::Configuration)?;
    let machine = match &arguments.root {
        Some(root) => Machine::new(root, Answers::default()),
        None => Machine::new(Path::new("/"), Answers::ask()),
    };
    let needs =
        config.as_ref().map_or_else(|| Needs::of_defaults(&machine), |config| Needs::of(config, &machine));
    let named = arguments.config.as_ref().map(|path| path.display().to_string());
    let report = Report::new(named, machine.process.to_string(), machine.container(), rows(&machine, &needs));
    if arguments.json {
        print_json(&report)?;
    } else {
        say(report.to_string().trim_end());
    }
    if report.ok { Ok(()) } else { Err(Failure::Reported(EXIT_RUNTIME)) }
}

fn rows(machine: &Machine, needs: &Needs) -> Vec<Row> {
    let first: [fn(&Machine, &Needs) -> Row; 14] = [
        kernel::version,
        kernel::io_uring,
        kernel::io_uring_disabled,
        kernel::seccomp,
        kernel::ring_memory,
        limits::open_files,
        limits::nr_open,
        limits::file_max,
        limits::somaxconn,
        limits::syn_backlog,
        limits::syncookies,
        ports::range,
        ports::tw_reuse,
        ports::listened,
    ];
    let last: [fn(&Machine, &Needs) -> Row; 7] = [
        host::governor,
        host::huge_pages,
        host::swap,
        host::entropy,
        clock::synchronised,
        clock::source,
        clock::jumps,
    ];
    let mut rows: Vec<Row> = first.iter().map(|look| look(machine, needs)).collect();
    rows.extend(nic::rows(machine, needs));
    rows.extend(last.iter().map(|look| look(machine, needs)));
    rows
}

#[cfg(test)]
mod tests {
    use super::report::Verdict;
    use super::testing::{Fixture, needs};
    use super::*;

    #[test]
    fn of_a_machine_that_shows_nothing_nothing_is_known() {
        let rows = rows(&Fixture::new().machine(), &needs());
        assert!(rows.len() >= 22);
        for row in rows {
            assert_eq!((row.verdict, row.fix), (Verdict::Unknown, None), "{}: {}", row.name, row.found);
        }
    }

    #[test]
    fn files_of_nonsense_are_survived() {
        let read = [
            "/proc/sys/kernel/osrelease",
            "/proc/self/status",
            "/proc/self/limits",
            "/proc/swaps",
            "/sys/class/net/eth0/operstate",
            "/sys/class/net/eth0/queues/rx-0/rps_cpus",
            "/sys/class/net/eth0/device/msi_irqs/1",
            "/proc/irq/1/effective_affinity_list",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/proc/sys/net/ipv4/ip_local_port_range",
            "/proc/sys/net/ipv4/ip_local_reserved_ports",
        ];
        let nonsense: [&[u8]; 6] = [
            b"",
            b"\n\n\n",
            &[0xff; 100],
            b"99999999999999999999999 -1 [",
            b"Seccomp:\nMax open files",
            b"\0\0\0",
        ];
        for text in nonsense {
            let fixture = read.iter().fold(Fixture::new(), |fixture, path| fixture.bytes(path, text));
            let machine = fixture.machine();
            let needs = Needs::of_defaults(&machine);
            assert!(rows(&machine, &needs).iter().all(|row| row.verdict != Verdict::Bad), "{text:?}");
        }
    }
}
