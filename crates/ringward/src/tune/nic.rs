//! Rows about network devices: over how many CPUs they spread what arrives.

use super::machine::{Machine, Unread, cpu_list};
use super::needs::Needs;
use super::report::{Judged, Row};

/// Rows for each device of hardware that is up; one that says so if there is none to be seen.
pub(super) fn rows(machine: &Machine, needs: &Needs) -> Vec<Row> {
    let devices = match devices(machine) {
        Ok(devices) if !devices.is_empty() => devices,
        Ok(_) => {
            return vec![Row::new(NONE, SPREAD, || {
                Ok(Judged::unknown("no device of hardware is to be seen here"))
            })];
        }
        Err(unread) => return vec![Row::new(NONE, SPREAD, || Err(unread))],
    };
    devices
        .iter()
        .flat_map(|device| [queues(machine, needs, device), interrupts(machine, needs, device)])
        .collect()
}

/// Whether a device has a queue for each worker, or the kernel spreads what one receives.
fn queues(machine: &Machine, needs: &Needs, device: &str) -> Row {
    let wanted = needs.workers;
    Row::new(format!("queues of {device}"), format!("{wanted}, one for each worker, or RPS"), || {
        let queues = receive_queues(machine, device)?;
        let found = queues.len().to_string();
        if queues.len() >= wanted {
            return Ok(Judged::ok(found));
        }
        let is_spread = |queue: &String| {
            let mask = machine.text(&format!("/sys/class/net/{device}/queues/{queue}/rps_cpus"));
            mask.is_ok_and(|mask| mask.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
        };
        if !queues.is_empty() && queues.iter().all(is_spread) {
            return Ok(Judged::ok(format!("{found}, spread by RPS")));
        }
        let fix = format!(
            "ethtool -L {device} combined {wanted}; if it has no more, echo {} | tee /sys/class/net/{device}/queues/rx-*/rps_cpus",
            mask(wanted)
        );
        Ok(Judged::warn(found, fix))
    })
}

/// Whether different CPUs take the interrupts of a device with several queues.
fn interrupts(machine: &Machine, needs: &Needs, device: &str) -> Row {
    Row::new(
        format!("interrupts of {device}"),
        "on as many CPUs as it has queues, up to one for each worker",
        || {
            let wanted = receive_queues(machine, device)?.len().min(needs.workers);
            // A virtio device has them at the device that it is on.
            let directories =
                ["msi_irqs", "../msi_irqs"].map(|end| format!("/sys/class/net/{device}/device/{end}"));
            let Some(Ok(numbers)) = directories.iter().map(|path| machine.names(path)).find(Result::is_ok)
            else {
                return Ok(Judged::unknown("it does not say which interrupts are its own"));
            };
            let mut cpus = Vec::new();
            for number in &numbers {
                // What is in force; before Linux 4.15, or where the controller does not say, what is allowed.
                let files = ["effective_affinity_list", "smp_affinity_list"]
                    .map(|file| format!("/proc/irq/{number}/{file}"));
                let lists = files.iter().filter_map(|path| cpu_list(&machine.text(path).ok()?));
                cpus.extend(lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default());
            }
            cpus.sort_unstable();
            cpus.dedup();
            let found = format!("{} on {} CPUs", numbers.len(), cpus.len());
            Ok(match cpus.len() {
                0 => Judged::unknown("where its interrupts are handled cannot be read"),
                count if count >= wanted => Judged::ok(found),
                _ => Judged::warn(
                    found,
                    "systemctl enable --now irqbalance, or one CPU each into /proc/irq/NUMBER/smp_affinity_list",
                ),
            })
        },
    )
}

/// Devices of hardware, real or virtual, that are up.
fn devices(machine: &Machine) -> Result<Vec<String>, Unread> {
    let names = machine.names("/sys/class/net")?;
    let is_used = |name: &String| {
        machine.has(&format!("/sys/class/net/{name}/device"))
            && machine
                .text(&format!("/sys/class/net/{name}/operstate"))
                .is_ok_and(|state| state.trim() != "down")
    };
    Ok(names.into_iter().filter(is_used).take(DEVICES_MAX).collect())
}

fn receive_queues(machine: &Machine, device: &str) -> Result<Vec<String>, Unread> {
    let names = machine.names(&format!("/sys/class/net/{device}/queues"))?;
    Ok(names.into_iter().filter(|name| name.starts_with("rx-")).collect())
}

/// The first CPUs, as the kernel writes masks: groups of eight digits.
fn mask(cpus: usize) -> String {
    let groups = cpus.div_ceil(32).max(1);
    let group = |index: usize| {
        let bits = cpus.saturating_sub(32 * index).min(32);
        format!("{:x}", (1_u64 << bits) - 1)
    };
    (0..groups).rev().map(group).collect::<Vec<_>>().join(",")
}

const NONE: &str = "network devices";
const SPREAD: &str = "queues and interrupts spread over the CPUs of the workers";
/// More than a server has.
const DEVICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    /// A device with as many queues, which has these interrupts on these CPUs.
    fn device(queues: usize, rps: &str, interrupts: &[(&str, &str)]) -> Fixture {
        let net = "/sys/class/net/eth0";
        let mut fixture =
            Fixture::new().directory("/sys/class/net/lo").file(&format!("{net}/operstate"), "up\n");
        fixture = fixture.directory(&format!("{net}/device")).directory(&format!("{net}/queues/tx-0"));
        for queue in 0..queues {
            fixture = fixture.file(&format!("{net}/queues/rx-{queue}/rps_cpus"), rps);
        }
        for (number, cpus) in interrupts {
            fixture = fixture
                .file(&format!("{net}/device/msi_irqs/{number}"), "msix\n")
                .file(&format!("/proc/irq/{number}/effective_affinity_list"), cpus);
        }
        fixture
    }

    #[test]
    fn queues_are_enough_or_spread() {
        for (queues, rps, verdict, fix) in [
            (4, "0\n", Ok, ""),
            (8, "0\n", Ok, ""),
            (1, "0\n", Warn, "ethtool -L eth0 combined 4"),
            (1, "f\n", Ok, ""),
            (2, "00000000,00000000\n", Warn, "echo f |"),
            (0, "", Warn, "ethtool"),
        ] {
            let fixture = device(queues, rps, &[]);
            check(&rows(&fixture.machine(), &needs())[0], verdict, &queues.to_string(), fix);
        }
    }

    #[test]
    fn interrupts_are_spread_or_not() {
        for (queues, interrupts, verdict, found) in [
            (2, &[("41", "0\n"), ("42", "1\n")][..], Ok, "2 on 2 CPUs"),
            (2, &[("41", "1\n"), ("42", "1\n")][..], Warn, "2 on 1 CPUs"),
            (1, &[("41", "0\n")][..], Ok, "1 on 1 CPUs"),
            (2, &[("41", "x\n")][..], Unknown, "cannot be read"),
            (2, &[][..], Unknown, "does not say"),
        ] {
            let fixture = device(queues, "0", interrupts);
            let fix = if verdict == Warn { "irqbalance" } else { "" };
            check(&rows(&fixture.machine(), &needs())[1], verdict, found, fix);
        }
        let fixture = device(1, "0", &[]).file("/sys/class/net/eth0/msi_irqs/7", "");
        let fixture = fixture.file("/proc/irq/7/smp_affinity_list", "0-3");
        check(&rows(&fixture.machine(), &needs())[1], Ok, "1 on 4 CPUs", "");
    }

    #[test]
    fn a_machine_without_devices_says_so() {
        let down = device(1, "0", &[]).file("/sys/class/net/eth0/operstate", "down\n");
        for (fixture, found) in [
            (Fixture::new(), "cannot be read"),
            (Fixture::new().file("/sys/class/net/eth0/operstate", "up\n"), "no device of hardware"),
            (down, "no device of hardware"),
        ] {
            let rows = rows(&fixture.machine(), &needs());
            assert_eq!(rows.len(), 1);
            check(&rows[0], Unknown, found, "");
        }
        let unreadable = Fixture::new()
            .file("/sys/class/net/eth0/operstate", "up")
            .directory("/sys/class/net/eth0/device");
        for row in rows(&unreadable.machine(), &needs()) {
            check(&row, Unknown, "queues cannot be read", "");
        }
    }

    #[test]
    fn masks() {
        for (cpus, text) in
            [(1, "1"), (4, "f"), (32, "ffffffff"), (33, "1,ffffffff"), (96, "ffffffff,ffffffff,ffffffff")]
        {
            assert_eq!(mask(cpus), text);
        }
    }
}
