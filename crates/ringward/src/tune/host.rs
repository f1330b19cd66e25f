//! Rows about processors, memory and entropy.

use super::kernel::is_at_least;
use super::machine::{Machine, Subject, Unread, malformed};
use super::needs::Needs;
use super::report::{Judged, Row};

/// Whether CPUs run at their speed, or have to be asked for it each time.
pub(super) fn governor(machine: &Machine, _: &Needs) -> Row {
    Row::new("CPU governor", "performance: handshakes come in bursts", || {
        let names = machine.names("/sys/devices/system/cpu")?;
        let is_cpu = |name: &&String| {
            name.strip_prefix("cpu")
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        };
        let read =
            |name: &String| machine.text(&format!("/sys/devices/system/cpu/{name}/cpufreq/scaling_governor"));
        let mut found: Vec<String> =
            names.iter().filter(is_cpu).filter_map(|name| Some(read(name).ok()?.trim().to_owned())).collect();
        found.sort();
        found.dedup();
        Ok(match &found[..] {
            [] => Judged::unknown("no governor here: a virtual machine, or its host's to choose"),
            [one] if one == "performance" => Judged::ok(one),
            several => Judged::warn(several.join(", "), "cpupower frequency-set -g performance"),
        })
    })
}

/// Whether huge pages are kept from buffers, of which connections touch little.
pub(super) fn huge_pages(machine: &Machine, _: &Needs) -> Row {
    Row::new(
        "transparent huge pages",
        "refused by the process (it does so itself), or not \"always\"",
        || {
            let text = machine.text(HUGE_PAGES)?;
            let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let Some((chosen, _)) = chosen else { return Err(malformed(HUGE_PAGES, &text)) };
            if chosen != "always" {
                return Ok(Judged::ok(chosen));
            }
            let Subject::Running(id) = machine.process else {
                return Ok(Judged::ok("always; ringward run refuses them for itself"));
            };
            Ok(match machine.status("THP_enabled")?.as_deref() {
                Some("0") => Judged::ok(format!("always; process {id} has refused them")),
                Some(_) => Judged::warn(
                    format!("always, for process {id} too"),
                    format!("echo madvise > {HUGE_PAGES}"),
                ),
                None => Judged::unknown(format!(
                    "always; this kernel does not say whether process {id} has refused them"
                )),
            })
        },
    )
}

/// Whether memory with keys may get onto a disk, and workers may wait for one.
pub(super) fn swap(machine: &Machine, _: &Needs) -> Row {
    Row::new("swap", "none for this process: it would write keys to disk, and workers would wait", || {
        let text = machine.text("/proc/swaps")?;
        let mut lines = text.lines();
        if !lines.next().is_some_and(|heading| heading.starts_with("Filename")) {
            return Err(malformed("/proc/swaps", &text));
        }
        let on_disk: Vec<&str> = lines
            .filter_map(|line| line.split_whitespace().next())
            // Compressed memory.
            .filter(|device| !device.starts_with("/dev/zram"))
            .collect();
        if on_disk.is_empty() {
            return Ok(Judged::ok("none on a disk"));
        }
        let devices = on_disk.join(", ");
        if matches!(machine.process, Subject::Running(_))
            && swap_max(machine).is_ok_and(|max| max.trim() == "0")
        {
            return Ok(Judged::ok(format!("{devices}; {} takes none", machine.process)));
        }
        Ok(Judged::warn(devices, "MemorySwapMax=0 in the unit (`systemctl edit ringward`), or swapoff -a"))
    })
}

/// Whether random numbers are to be had at once.
pub(super) fn entropy(machine: &Machine, _: &Needs) -> Row {
    Row::new("entropy", format!("{SEED_BITS} bits: keys wait for the kernel's first seed"), || {
        let bits = machine.number("/proc/sys/kernel/random/entropy_avail")?;
        Ok(match bits {
            SEED_BITS.. => Judged::ok(bits.to_string()),
            // What is there is all since the kernel was seeded.
            _ if is_at_least(machine, (5, 18))? => Judged::bad(bits.to_string(), ENTROPY_HINT),
            // It goes down with use, which does not matter.
            _ => Judged::warn(bits.to_string(), ENTROPY_HINT),
        })
    })
}

/// What the control group of the process says of swap.
fn swap_max(machine: &Machine) -> Result<String, Unread> {
    let path = machine.process_file("cgroup");
    let text = machine.text(&path)?;
    let group =
        text.lines().find_map(|line| line.strip_prefix("0::")).ok_or_else(|| malformed(&path, &text))?;
    machine.text(&format!("/sys/fs/cgroup{}/memory.swap.max", group.trim_end_matches('/')))
}

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// The key of the kernel's generator (random(4)).
const SEED_BITS: i64 = 256;
const ENTROPY_HINT: &str = "apt install rng-tools5, or virtio-rng for a virtual machine";

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{Bad, Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    const RELEASE: &str = "/proc/sys/kernel/osrelease";

    fn running() -> Fixture {
        Fixture::new().file("/proc/9/comm", "ringward\n").file("/proc/9/cmdline", "ringward\0run\0")
    }

    #[test]
    fn governors() {
        let cpu = |number: usize| format!("/sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor");
        for (governors, verdict, found) in [
            (&["performance", "performance"][..], Ok, "performance"),
            (&["performance", "schedutil"][..], Warn, "performance, schedutil"),
            (&["powersave"][..], Warn, "powersave"),
            (&[][..], Unknown, "no governor"),
        ] {
            let fixture = Fixture::new().directory("/sys/devices/system/cpu/cpufreq");
            let fixture = governors.iter().enumerate().fold(fixture, |fixture, (number, governor)| {
                fixture.file(&cpu(number), &format!("{governor}\n"))
            });
            let fix = if verdict == Warn { "cpupower" } else { "" };
            check(&governor(&fixture.machine(), &needs()), verdict, found, fix);
        }
        check(&governor(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn huge_pages_are_refused() {
        for (enabled, status, verdict, found) in [
            ("always [madvise] never\n", None, Ok, "madvise"),
            ("always madvise [never]\n", None, Ok, "never"),
            ("[always] madvise never\n", None, Ok, "for itself"),
            ("[always] madvise never\n", Some("THP_enabled:\t0\n"), Ok, "has refused"),
            ("[always] madvise never\n", Some("THP_enabled:\t1\n"), Warn, "process 9 too"),
            ("[always] madvise never\n", Some("Name:\tx\n"), Unknown, "does not say"),
            ("always\n", None, Unknown, "`always`"),
        ] {
            let fixture = match status {
                Some(status) => running().file("/proc/9/status", status),
                None => Fixture::new(),
            };
            let fix = if verdict == Warn { "echo madvise" } else { "" };
            check(&huge_pages(&fixture.file(HUGE_PAGES, enabled).machine(), &needs()), verdict, found, fix);
        }
        check(&huge_pages(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn swap_is_not_for_keys() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        for (lines, verdict, found) in [
            ("", Ok, "none"),
            ("/dev/zram0 partition 1 0 100\n", Ok, "none"),
            ("/dev/zram0 partition 1 0 100\n/swapfile file 2097148 0 -2\n", Warn, "/swapfile"),
        ] {
            let machine = Fixture::new().file("/proc/swaps", &format!("{heading}{lines}"));
            let fix = if verdict == Warn { "MemorySwapMax=0" } else { "" };
            check(&swap(&machine.machine(), &needs()), verdict, found, fix);
        }
        let swaps = format!("{heading}/dev/sda2 partition 1 0 -2\n");
        for (max, verdict) in [("0\n", Ok), ("max\n", Warn)] {
            let fixture = running()
                .file("/proc/swaps", &swaps)
                .file("/proc/9/cgroup", "0::/system.slice/ringward.service\n")
                .file("/sys/fs/cgroup/system.slice/ringward.service/memory.swap.max", max);
            assert_eq!(swap(&fixture.machine(), &needs()).verdict, verdict, "{max}");
        }
        check(&swap(&Fixture::new().file("/proc/swaps", "").machine(), &needs()), Unknown, "/proc/swaps", "");
        check(&swap(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn entropy_is_a_seed() {
        for (bits, release, verdict) in [
            ("256\n", "6.1.0", Ok),
            ("3400\n", "4.19.0", Ok),
            ("40\n", "6.1.0", Bad),
            ("40\n", "5.4.0", Warn),
            ("40\n", "", Unknown),
            ("many\n", "6.1.0", Unknown),
        ] {
            let fixture =
                Fixture::new().file("/proc/sys/kernel/random/entropy_avail", bits).file(RELEASE, release);
            let fix = if matches!(verdict, Bad | Warn) { "rng-tools5" } else { "" };
            check(&entropy(&fixture.machine(), &needs()), verdict, "", fix);
        }
        check(&entropy(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }
}
