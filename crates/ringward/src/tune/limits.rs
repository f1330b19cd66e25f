//! Rows about open files, and what waits to be accepted.

use super::machine::Machine;
use super::needs::Needs;
use super::report::{Judged, Row};

/// Descriptors that the process may have.
pub(super) fn open_files(machine: &Machine, needs: &Needs) -> Row {
    let needed = format!("{} for {} connections and as many to upstreams", needs.files, needs.connections);
    Row::new("open files", needed, || {
        let fix = || {
            format!(
                "LimitNOFILE={} in the unit (`systemctl edit ringward`), or a lower connections_max",
                needs.files
            )
        };
        Ok(match machine.hard_limit("Max open files")? {
            None => Judged::ok("unlimited"),
            Some(limit) if limit >= needs.files => Judged::ok(limit.to_string()),
            Some(limit) if limit > needs.connections => Judged::warn(limit.to_string(), fix()),
            Some(limit) => Judged::bad(limit.to_string(), fix()),
        })
    })
}

/// Descriptors that one process may have at the most, whatever its limit says.
pub(super) fn nr_open(machine: &Machine, needs: &Needs) -> Row {
    at_least(machine, "fs.nr_open", needs.files)
}

/// Open files of the whole machine.
pub(super) fn file_max(machine: &Machine, needs: &Needs) -> Row {
    at_least(machine, "fs.file-max", needs.files)
}

/// To what the kernel cuts a backlog.
pub(super) fn somaxconn(machine: &Machine, needs: &Needs) -> Row {
    slower_below(machine, "net.core.somaxconn", needs.backlog)
}

/// Connections that are half open.
pub(super) fn syn_backlog(machine: &Machine, needs: &Needs) -> Row {
    slower_below(machine, "net.ipv4.tcp_max_syn_backlog", needs.backlog)
}

/// What helps when more connections are half open than may be.
pub(super) fn syncookies(machine: &Machine, _: &Needs) -> Row {
    Row::new("net.ipv4.tcp_syncookies", "1: clients get in while somebody floods the port", || {
        Ok(match machine.number("/proc/sys/net/ipv4/tcp_syncookies")? {
            0 => Judged::warn("0", "sysctl -w net.ipv4.tcp_syncookies=1"),
            value => Judged::ok(value.to_string()),
        })
    })
}

fn at_least(machine: &Machine, name: &str, needed: u64) -> Row {
    Row::new(name, needed.to_string(), || {
        let text = machine.text(&path_of(name))?;
        // `fs.file-max` goes up to the largest number of the kernel.
        let value: u64 = text.trim().parse().map_err(|_| super::machine::malformed(&path_of(name), &text))?;
        Ok(match value >= needed {
            true => Judged::ok(value.to_string()),
            false => Judged::bad(value.to_string(), format!("sysctl -w {name}={needed}")),
        })
    })
}

fn slower_below(machine: &Machine, name: &str, backlog: u32) -> Row {
    Row::new(name, format!("{backlog}, the longest backlog of a listener"), || {
        let value = machine.number(&path_of(name))?;
        Ok(match value >= i64::from(backlog) {
            true => Judged::ok(value.to_string()),
            false => Judged::warn(value.to_string(), format!("sysctl -w {name}={backlog}")),
        })
    })
}

fn path_of(sysctl: &str) -> String {
    format!("/proc/sys/{}", sysctl.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict::{self, Bad, Ok, Unknown, Warn};
    use super::super::testing::{Fixture, check, needs};
    use super::*;

    #[test]
    fn open_files_are_enough_or_not() {
        for (limit, verdict, fix) in [
            ("2000", Ok, ""),
            ("unlimited", Ok, ""),
            ("1999", Warn, "LimitNOFILE=2000"),
            ("1000", Bad, "LimitNOFILE=2000"),
            ("some", Unknown, ""),
        ] {
            let line =
                format!("Max open files            1024                 {limit}               files\n");
            let machine = Fixture::new().file("/proc/self/limits", &line).machine();
            check(&open_files(&machine, &needs()), verdict, "", fix);
        }
        check(
            &open_files(&Fixture::new().machine(), &needs()),
            Unknown,
            "/proc/self/limits cannot be read",
            "",
        );
    }

    #[test]
    fn numbers_of_the_kernel() {
        type Look = fn(&Machine, &Needs) -> Row;
        let rows: [(Look, &str, &str, Verdict, &str); 10] = [
            (nr_open, "fs/nr_open", "1048576", Ok, ""),
            (nr_open, "fs/nr_open", "1999", Bad, "sysctl -w fs.nr_open=2000"),
            (file_max, "fs/file-max", "9223372036854775807", Ok, ""),
            (file_max, "fs/file-max", "100", Bad, "sysctl -w fs.file-max=2000"),
            (somaxconn, "net/core/somaxconn", "4096", Ok, ""),
            (somaxconn, "net/core/somaxconn", "128", Warn, "sysctl -w net.core.somaxconn=4096"),
            (syn_backlog, "net/ipv4/tcp_max_syn_backlog", "8192", Ok, ""),
            (syn_backlog, "net/ipv4/tcp_max_syn_backlog", "512", Warn, "tcp_max_syn_backlog=4096"),
            (syncookies, "net/ipv4/tcp_syncookies", "1", Ok, ""),
            (syncookies, "net/ipv4/tcp_syncookies", "0", Warn, "tcp_syncookies=1"),
        ];
        for (look, path, value, verdict, fix) in rows {
            let path = format!("/proc/sys/{path}");
            check(
                &look(&Fixture::new().file(&path, &format!("{value}\n")).machine(), &needs()),
                verdict,
                value,
                fix,
            );
            check(&look(&Fixture::new().file(&path, "1 2 3").machine(), &needs()), Unknown, "`1 2 3`", "");
            check(&look(&Fixture::new().machine(), &needs()), Unknown, "cannot be read", "");
        }
    }
}
