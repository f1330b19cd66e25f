//! Rows about the kernel and io_uring.

use ringward_config::IoDriver;

use super::machine::{Machine, Subject, Unread};
use super::needs::Needs;
use super::report::{Judged, Row};

/// Whether the kernel has what rings of full speed need.
pub(super) fn version(machine: &Machine, needs: &Needs) -> Row {
    let needed = match needs.io {
        IoDriver::Epoll => "any that is maintained (io = \"epoll\")",
        IoDriver::Auto | IoDriver::IoUring => "6.0 for io_uring at full speed, 5.7 for io_uring",
    };
    Row::new("kernel", needed, || {
        let version = machine.kernel()?;
        let found = format!("{}.{}", version.0, version.1);
        Ok(match needs.io {
            IoDriver::Epoll => Judged::ok(found),
            _ if version >= RING_FAST => Judged::ok(found),
            IoDriver::IoUring if version < RING => Judged::bad(found, UPGRADE),
            _ => Judged::warn(found, UPGRADE),
        })
    })
}

/// Whether the kernel's settings admit rings.
pub(super) fn io_uring_disabled(machine: &Machine, needs: &Needs) -> Row {
    Row::new("kernel.io_uring_disabled", ring_wanted(needs), || {
        if !machine.has(DISABLED) {
            // It is there since Linux 6.6; before, nothing could be switched off.
            return Ok(match machine.kernel()? {
                version if version < (6, 6) => Judged::ok("not there: this kernel cannot switch it off"),
                _ => Judged::unknown("not there: this kernel was built without io_uring, or hides it"),
            });
        }
        Ok(match machine.number(DISABLED)? {
            0 => Judged::ok("0"),
            1 => {
                let group = machine.number("/proc/sys/kernel/io_uring_group").unwrap_or(-1);
                let found = format!("1: for root and group {group} alone");
                missing(needs, found, "sysctl -w kernel.io_uring_group=$(id -g ringward)")
            }
            other => {
                missing(needs, format!("{other}: nobody gets a ring"), "sysctl -w kernel.io_uring_disabled=0")
            }
        })
    })
}

/// Whether a worker gets a ring: of the process that runs, by what it has open, else by trying.
pub(super) fn io_uring(machine: &Machine, needs: &Needs) -> Row {
    Row::new("io_uring", ring_wanted(needs), || {
        if let Subject::Running(id) = machine.process
            && let Ok(open) = machine.descriptors()
            && !open.is_empty()
        {
            return Ok(match open.iter().any(|link| link == RING_LINK) {
                true => Judged::ok(format!("process {id} has rings")),
                false => missing(needs, format!("process {id} has no ring"), RING_HINT),
            });
        }
        Ok(match &machine.answers.ring {
            Some(Ok(())) => Judged::ok("a ring was set up, as this user"),
            Some(Err(error)) => missing(needs, format!("no ring for this user: {error}"), RING_HINT),
            None => Judged::unknown("only the kernel that runs can say"),
        })
    })
}

/// Whether system calls are filtered, and with them those of io_uring.
pub(super) fn seccomp(machine: &Machine, needs: &Needs) -> Row {
    Row::new("seccomp", "no filter, or one that lets io_uring_setup, _enter and _register through", || {
        let mode = machine.status("Seccomp")?;
        let whose = machine.process;
        Ok(match (mode.as_deref(), machine.process, &machine.answers.ring) {
            (Some("0"), _, _) => Judged::ok(format!("{whose} has no filter")),
            (Some(_), Subject::Itself, Some(Ok(()))) => Judged::ok("a filter that lets io_uring through"),
            (Some(_), Subject::Itself, Some(Err(_))) => missing(needs, "a filter".to_owned(), SECCOMP_HINT),
            (Some(_), _, _) => {
                Judged::unknown(format!("{whose} has a filter: the row io_uring says what it lets through"))
            }
            (None, _, _) => Judged::unknown("this kernel does not say"),
        })
    })
}

/// Whether the rings fit the limit on locked memory, where they count for it.
pub(super) fn ring_memory(machine: &Machine, needs: &Needs) -> Row {
    let bytes = needs.workers as u64 * RING_BYTES;
    let needed = match needs.io {
        IoDriver::Epoll => "none (io = \"epoll\")".to_owned(),
        _ => format!("{} KiB for {} rings, before Linux 5.12", bytes >> 10, needs.workers),
    };
    Row::new("locked memory", needed, || {
        if needs.io == IoDriver::Epoll {
            return Ok(Judged::ok("not needed"));
        }
        if machine.kernel()? >= RING_UNCOUNTED {
            return Ok(Judged::ok("does not count for rings on this kernel"));
        }
        Ok(match machine.hard_limit("Max locked memory")? {
            None => Judged::ok("unlimited"),
            Some(limit) if limit >= bytes => Judged::ok(format!("{} KiB", limit >> 10)),
            Some(limit) => {
                let fix = format!("LimitMEMLOCK={}K in the unit (`systemctl edit ringward`)", bytes >> 10);
                missing(needs, format!("{} KiB", limit >> 10), &fix)
            }
        })
    })
}

/// Something without which there is no ring: what that means depends on what is configured.
fn missing(needs: &Needs, found: String, fix: &str) -> Judged {
    match needs.io {
        IoDriver::Epoll => Judged::ok(found),
        IoDriver::Auto => Judged::warn(found, fix),
        IoDriver::IoUring => Judged::bad(found, fix),
    }
}

fn ring_wanted(needs: &Needs) -> &'static str {
    match needs.io {
        IoDriver::Epoll => "not needed (io = \"epoll\")",
        IoDriver::Auto => "io_uring, else epoll (io = \"auto\")",
        IoDriver::IoUring => "io_uring (io = \"io_uring\")",
    }
}

/// Whether the kernel is at least that old.
pub(super) fn is_at_least(machine: &Machine, version: (u32, u32)) -> Result<bool, Unread> {
    Ok(machine.kernel()? >= version)
}

/// `IORING_SETUP_SINGLE_ISSUER`, which workers ask for; without it they take a plain ring.
const RING_FAST: (u32, u32) = (6, 0);
/// All operations that are used.
const RING: (u32, u32) = (5, 7);
/// Since then rings are accounted to the control group and not to the limit on locked memory.
const RING_UNCOUNTED: (u32, u32) = (5, 12);
/// A ring of a worker with its buffers.
const RING_BYTES: u64 = 400 << 10;
const DISABLED: &str = "/proc/sys/kernel/io_uring_disabled";
const RING_LINK: &str = "anon_inode:[io_uring]";
const UPGRADE: &str = "a kernel of 6.0 or later, such as `apt install linux-image-amd64` of Debian 12";
const RING_HINT: &str = "see the rows kernel.io_uring_disabled and seccomp; containers often forbid it";
const SECCOMP_HINT: &str = "SystemCallFilter=io_uring_setup io_uring_enter io_uring_register in the unit; of a container, a seccomp \
                            profile that allows these";

#[cfg(test)]
mod tests {
    use super::super::asked::Answers;
    use super::super::report::Verdict::{self, Bad, Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    const STATUS: &str = "/proc/self/status";
    const LIMITS: &str = "/proc/self/limits";

    fn wanting(io: IoDriver) -> Needs {
        Needs { io, ..needs() }
    }

    #[test]
    fn kernels() {
        for (release, io, verdict) in [
            ("6.18.44-fc", IoDriver::Auto, Ok),
            ("6.0.0", IoDriver::IoUring, Ok),
            ("5.19.1", IoDriver::IoUring, Warn),
            ("5.4.0-150-generic", IoDriver::Auto, Warn),
            ("5.4.0-150-generic", IoDriver::IoUring, Bad),
            ("4.19.0", IoDriver::Epoll, Ok),
            ("nonsense", IoDriver::Auto, Unknown),
        ] {
            let machine = Fixture::new().file(RELEASE, release).machine();
            assert_eq!(version(&machine, &wanting(io)).verdict, verdict, "{release} {io:?}");
        }
        check(&version(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn io_uring_can_be_switched_off() {
        for (value, io, verdict, fix) in [
            ("0\n", IoDriver::IoUring, Ok, ""),
            ("1\n", IoDriver::Auto, Warn, "io_uring_group"),
            ("2\n", IoDriver::Auto, Warn, "io_uring_disabled=0"),
            ("2\n", IoDriver::IoUring, Bad, "io_uring_disabled=0"),
            ("2\n", IoDriver::Epoll, Ok, ""),
            ("?\n", IoDriver::IoUring, Unknown, ""),
        ] {
            let machine = Fixture::new().file(DISABLED, value).machine();
            check(&io_uring_disabled(&machine, &wanting(io)), verdict, "", fix);
        }
        for (release, verdict) in [("5.15.0", Ok), ("6.12.0", Unknown), ("", Unknown)] {
            let machine = Fixture::new().file(RELEASE, release).machine();
            check(&io_uring_disabled(&machine, &needs()), verdict, "", "");
        }
    }

    #[test]
    fn a_ring_is_tried_or_seen() {
        let refused = || Some(Err("not permitted".to_owned()));
        for (ring, io, verdict, found) in [
            (Some(Result::Ok(())), IoDriver::IoUring, Ok, "set up"),
            (refused(), IoDriver::Auto, Warn, "not permitted"),
            (refused(), IoDriver::IoUring, Bad, "not permitted"),
            (refused(), IoDriver::Epoll, Ok, "not permitted"),
            (None, IoDriver::IoUring, Unknown, "kernel that runs"),
        ] {
            let machine = Fixture::new().answers(Answers { ring, ..Answers::default() }).machine();
            let fix = if matches!(verdict, Warn | Bad) { "seccomp" } else { "" };
            check(&io_uring(&machine, &wanting(io)), verdict, found, fix);
        }
        let running =
            || Fixture::new().file("/proc/9/comm", "ringward\n").file("/proc/9/cmdline", "ringward\0run\0");
        let fixture = running().link("/proc/9/fd/0", "/dev/null");
        check(&io_uring(&fixture.machine(), &needs()), Warn, "process 9 has no ring", "seccomp");
        let fixture = fixture.link("/proc/9/fd/7", RING_LINK);
        check(&io_uring(&fixture.machine(), &needs()), Ok, "process 9 has rings", "");
        check(&io_uring(&running().machine(), &needs()), Unknown, "", "");
    }

    #[test]
    fn filters_of_system_calls() {
        let blocked = || Some(Err("not permitted".to_owned()));
        for (status, ring, verdict, fix) in [
            ("Seccomp:\t0\n", None, Ok, ""),
            ("Seccomp:\t2\n", Some(Result::Ok(())), Ok, ""),
            ("Seccomp:\t2\n", blocked(), Warn, "SystemCallFilter"),
            ("Seccomp:\t2\n", None, Unknown, ""),
            ("Name:\tx\n", None, Unknown, ""),
        ] {
            let machine =
                Fixture::new().file(STATUS, status).answers(Answers { ring, ..Answers::default() }).machine();
            check(&seccomp(&machine, &needs()), verdict, "", fix);
        }
        let machine = Fixture::new().file(STATUS, "Seccomp:\t2\n");
        let machine = machine.answers(Answers { ring: blocked(), ..Answers::default() }).machine();
        check(&seccomp(&machine, &wanting(IoDriver::IoUring)), Bad, "a filter", "SystemCallFilter");
        check(&seccomp(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
    }

    #[test]
    fn rings_count_for_locked_memory_on_old_kernels() {
        let line = |limit: &str| {
            format!("Max locked memory         {limit}              {limit}              bytes\n")
        };
        for (release, limit, io, verdict) in [
            ("6.1.0", "65536", IoDriver::IoUring, Ok),
            ("5.10.0", "8388608", IoDriver::IoUring, Ok),
            ("5.10.0", "unlimited", IoDriver::IoUring, Ok),
            ("5.10.0", "65536", IoDriver::Auto, Warn),
            ("5.10.0", "65536", IoDriver::IoUring, Bad),
            ("5.10.0", "65536", IoDriver::Epoll, Ok),
            ("5.10.0", "many", IoDriver::Auto, Unknown),
        ] {
            let machine = Fixture::new().file(RELEASE, release).file(LIMITS, &line(limit)).machine();
            let row = ring_memory(&machine, &wanting(io));
            assert_eq!(row.verdict, verdict, "{release} {limit}: {row:?}");
        }
        let verdict: Verdict =
            ring_memory(&Fixture::new().file(RELEASE, "5.10.0").machine(), &needs()).verdict;
        assert_eq!(verdict, Unknown);
    }
}
