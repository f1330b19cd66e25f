//! What the target's processes use: CPU time and memory, as the kernel counts them.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// A process and all that it has started: a gateway may serve in children.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    root: u32,
    proc: PathBuf,
}

/// What they have used at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of all threads since they began, in user and kernel, to the kernel's ticks (10 ms as a rule).
    pub(crate) cpu: Duration,
    /// Resident, in bytes. What processes share is counted for each.
    pub(crate) memory: u64,
}

impl Processes {
    /// The process of this id.
    pub(crate) fn new(root: u32) -> Processes {
        Processes { root, proc: PathBuf::from("/proc") }
    }

    /// Looks at them now; `None` if the process is gone, or is not ours to look at.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage_of(self.root)?;
        for child in self.descendants() {
            // It may have ended since it was found.
            let more = self.usage_of(child).unwrap_or_default();
            usage = Usage { cpu: usage.cpu + more.cpu, memory: usage.memory + more.memory };
        }
        Some(usage)
    }

    /// The ids of those that are there.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        [self.root].into_iter().chain(self.descendants())
    }

    /// The process that all others were started by.
    pub(crate) fn id(&self) -> u32 {
        self.root
    }

    /// When it was started, in clock ticks since the host was (proc_pid_stat(5), field 22): tells it from another one that gets its id
    /// later.
    pub(crate) fn began_ticks(&self) -> Option<u64> {
        self.stat(self.root)?.get(22 - 3)?.parse().ok()
    }

    /// CPU time of the process itself, all threads.
    pub(crate) fn own_cpu(&self) -> Option<Duration> {
        Some(self.usage_of(self.root)?.cpu)
    }

    /// The fields of proc_pid_stat(5) from the third on.
    fn stat(&self, id: u32) -> Option<Vec<String>> {
        let stat = fs::read_to_string(self.proc.join(id.to_string()).join("stat")).ok()?;
        // The second field is its name in parentheses, in which there may be spaces and parentheses.
        let (_, fields) = stat.rsplit_once(") ")?;
        Some(fields.split_whitespace().map(str::to_owned).collect())
    }

    fn usage_of(&self, id: u32) -> Option<Usage> {
        let status = fs::read_to_string(self.proc.join(id.to_string()).join("status")).ok()?;
        // utime, stime, cutime and cstime: of all threads, also those that have ended, and of children that have ended and were waited for.
        let stat = self.stat(id)?;
        let ticks: u64 = stat.iter().skip(14 - 3).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
        let cpu = Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
        // Kernel threads and zombies have none.
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        Some(Usage { cpu, memory: kib << 10 })
    }

    fn descendants(&self) -> HashSet<u32> {
        let (mut found, mut left) = (HashSet::new(), vec![self.root]);
        while let Some(id) = left.pop() {
            left.extend(self.children(id).into_iter().filter(|child| found.insert(*child)));
        }
        found
    }

    fn children(&self, id: u32) -> Vec<u32> {
        let Ok(threads) = fs::read_dir(self.proc.join(id.to_string()).join("task")) else {
            return Vec::new();
        };
        let lists =
            threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_this_process_uses_is_seen() {
        let this = Processes::new(std::process::id());
        let before = this.usage().unwrap();
        assert!(before.memory > 1 << 20, "{before:?}");
        assert!(this.began_ticks().unwrap() > 0);
        let began = Instant::now();
        // Until it is on record, however busy the machine is.
        while this.usage().unwrap().cpu < before.cpu + Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(60), "no CPU time is counted");
        }
    }

    #[test]
    fn threads_that_have_ended_count() {
        let this = Processes::new(std::process::id());
        let before = this.usage().unwrap().cpu;
        let burn = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {}
        };
        let began = Instant::now();
        while this.usage().unwrap().cpu < before + Duration::from_millis(100) {
            std::thread::spawn(burn).join().unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "no CPU time is counted");
        }
    }

    #[test]
    fn children_count_and_strangers_do_not() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 60 & wait"]).stdin(Stdio::null()).spawn().unwrap();
        let family = Processes::new(child.id());
        let began = Instant::now();
        while family.descendants().len() != 1 {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", family.descendants());
        }
        let grandchild = *family.descendants().iter().next().unwrap();
        assert!(
            Processes::new(std::process::id()).descendants().is_superset(&[child.id(), grandchild].into())
        );
        let alone = family.usage_of(child.id()).unwrap().memory;
        assert!(family.usage().unwrap().memory > alone);
        let _ = Command::new("kill").arg(grandchild.to_string()).status();
        child.wait().unwrap();
        assert_eq!(family.usage(), None, "it is gone");
    }
}
