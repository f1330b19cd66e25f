//! Rows about the clock, by which certificates, lists, staples and tickets begin and end.

use std::fs;
use std::time::Duration;

use super::machine::{Machine, ahead};
use super::needs::Needs;
use super::report::{Judged, Row};
use crate::table;

/// Whether something keeps the clock right.
pub(super) fn synchronised(machine: &Machine, _: &Needs) -> Row {
    Row::new("clock synchronised", "yes: certificates, lists and tickets begin and end by it", || {
        // systemd-timesyncd leaves it when it has set the clock.
        let by_file = machine.has("/run/systemd/timesync/synchronized");
        Ok(match &machine.answers.synchronised {
            Some(Ok(true)) => Judged::ok("yes (adjtimex)"),
            Some(Ok(false)) => {
                Judged::bad("no (adjtimex)", "timedatectl set-ntp true, or apt install chrony")
            }
            _ if by_file => Judged::ok("yes (systemd-timesyncd)"),
            Some(Err(why)) => Judged::unknown(format!("{why}; `chronyc tracking` or `ntpq -p` may know")),
            None => Judged::unknown("only the kernel that runs can say"),
        })
    })
}

/// Whether looking at the clock is cheap, and the kernel believes it.
pub(super) fn source(machine: &Machine, _: &Needs) -> Row {
    Row::new(
        "clock source",
        format!("one of {}: others cost a system call each time", SOURCES.join(", ")),
        || {
            let current = machine.text(&format!("{CLOCK_SOURCE}/current_clocksource"))?;
            let current = current.trim();
            if SOURCES.contains(&current) {
                return Ok(Judged::ok(current));
            }
            let available = machine.words(&format!("{CLOCK_SOURCE}/available_clocksource"))?;
            let fix = match available.iter().find(|name| SOURCES.contains(&name.as_str())) {
                Some(better) => format!("echo {better} > {CLOCK_SOURCE}/current_clocksource"),
                None => {
                    "dmesg | grep -i clocksource says why the kernel has given up a better one".to_owned()
                }
            };
            Ok(Judged::warn(current, fix))
        },
    )
}

/// Whether the clock has been set back or forth, as far as that leaves traces.
pub(super) fn jumps(machine: &Machine, needs: &Needs) -> Row {
    Row::new("clock jumps", "none: what was valid would not be, and the other way round", || {
        let newest = needs.files_named.iter().filter_map(|path| {
            let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
            Some((ahead(machine.now, written), path))
        });
        if let Some((future, path)) = newest.max()
            && future > TOLERANCE
        {
            let future = table::span(i64::try_from(future.as_secs()).unwrap_or(i64::MAX));
            let found =
                format!("{} was written {future} from now: the clock is, or was, wrong", path.display());
            return Ok(Judged::bad(found, "date; timedatectl set-ntp true; write the file again"));
        }
        Ok(match machine.answers.jumped {
            Some(jumped) if jumped > TOLERANCE => {
                let found = format!("{} ms while this command ran", jumped.as_millis());
                Judged::bad(
                    found,
                    "one service that keeps the clock, and one that slews it: chrony with makestep at the start alone",
                )
            }
            Some(_) => {
                Judged::ok("none while this command ran; no file of the configuration is from the future")
            }
            None => Judged::unknown("only the kernel that runs can say"),
        })
    })
}

const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0";
/// Those that are read without entering the kernel.
const SOURCES: [&str; 4] = ["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"];
/// Slewing is much less, also over some seconds; file systems round times.
const TOLERANCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::super::asked::Answers;
    use super::super::report::Verdict::{Bad, Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    #[test]
    fn clocks_are_synchronised_or_not() {
        let asked = |synchronised| Fixture::new().answers(Answers { synchronised, ..Answers::default() });
        let timesyncd = |fixture: Fixture| fixture.file("/run/systemd/timesync/synchronized", "");
        let silent = || Some(Err("timedatectl cannot be run".to_owned()));
        for (fixture, verdict, found, fix) in [
            (asked(Some(Result::Ok(true))), Ok, "yes", ""),
            (asked(Some(Result::Ok(false))), Bad, "no", "set-ntp true"),
            (timesyncd(asked(Some(Result::Ok(false)))), Bad, "no", "set-ntp true"),
            (timesyncd(asked(silent())), Ok, "systemd-timesyncd", ""),
            (timesyncd(asked(None)), Ok, "systemd-timesyncd", ""),
            (asked(silent()), Unknown, "timedatectl cannot be run", ""),
            (asked(None), Unknown, "kernel that runs", ""),
        ] {
            check(&synchronised(&fixture.machine(), &needs()), verdict, found, fix);
        }
    }

    #[test]
    fn clock_sources() {
        for (current, available, verdict, fix) in [
            ("tsc\n", "tsc hpet\n", Ok, ""),
            ("hpet\n", "hpet acpi_pm\n", Warn, "dmesg"),
            ("acpi_pm\n", "tsc acpi_pm\n", Warn, "echo tsc >"),
        ] {
            let fixture = Fixture::new()
                .file(&format!("{CLOCK_SOURCE}/current_clocksource"), current)
                .file(&format!("{CLOCK_SOURCE}/available_clocksource"), available);
            check(&source(&fixture.machine(), &needs()), verdict, current.trim(), fix);
        }
        check(&source(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn jumps_leave_traces() {
        let moved = |jumped| Fixture::new().answers(Answers { jumped, ..Answers::default() }).machine();
        let millis = |millis| Some(Duration::from_millis(millis));
        for (jumped, verdict, found, fix) in [
            (millis(0), Ok, "none", ""),
            (millis(500), Ok, "none", ""),
            (millis(501), Bad, "501 ms", "chrony"),
            (None, Unknown, "kernel that runs", ""),
        ] {
            check(&jumps(&moved(jumped), &needs()), verdict, found, fix);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let file = File::create(&path).unwrap();
        let named = Needs { files_named: vec![dir.path().join("missing"), path], ..needs() };
        check(&jumps(&moved(millis(0)), &named), Ok, "none", "");
        file.set_modified(SystemTime::now() + Duration::from_secs(7200)).unwrap();
        check(&jumps(&moved(millis(0)), &named), Bad, "a.pem was written 1h 59m", "timedatectl");
    }
}
