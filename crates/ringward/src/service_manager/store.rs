//! Listening sockets that the service manager keeps while the process is gone (sd_pid_notify_with_fds(3)).
//!
//! For ends that nobody has planned: after a crash they go on listening, and who connects meanwhile waits in their queues until the next
//! process has them. A process that drains takes them back first, since nobody may come after it.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::notify::{DESCRIPTORS_MAX, NotifySocket};

/// How many descriptors the manager keeps for this service: `FileDescriptorStoreMax=`, which systemd says since version 254.
pub(super) fn room(variable: impl Fn(&str) -> Option<String>) -> usize {
    variable("FDSTORE").and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Has it keep these and no others.
pub(super) fn keep(manager: &mut NotifySocket, room: usize, sockets: Vec<OwnedFd>) {
    if room == 0 {
        return;
    }
    forget(manager);
    if sockets.len() > room {
        // A part of them would be of use to a part of the clients only, and the others would not know why.
        tracing::warn!(
            sockets = sockets.len(),
            room,
            "listening sockets would not survive a crash: raise FileDescriptorStoreMax= of the unit"
        );
        return;
    }
    let mut sockets = sockets.into_iter().peekable();
    while sockets.peek().is_some() {
        let some = sockets.by_ref().take(DESCRIPTORS_MAX).collect();
        manager.send_with(format!("FDSTORE=1\nFDNAME={NAME}\n"), some);
    }
}

/// Has it keep none.
pub(super) fn forget(manager: &mut NotifySocket) {
    manager.send(format!("FDSTOREREMOVE=1\nFDNAME={NAME}\n"));
}

/// Waits until it has done what it was told, for a moment at most.
pub(super) fn synchronise(manager: &mut NotifySocket) -> std::io::Result<()> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    manager.send_with("BARRIER=1\n".to_owned(), vec![theirs.into()]);
    // It is closed when its turn has come (sd_notify_barrier(3)).
    ours.read(&mut [0]).map(drop)
}

/// What they are called there.
pub(super) const NAME: &str = "ringward-listener";
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_manager_says() {
        for (value, expected) in
            [(None, 0), (Some("0"), 0), (Some("128"), 128), (Some("-1"), 0), (Some("all"), 0)]
        {
            assert_eq!(room(|_| value.map(str::to_owned)), expected, "{value:?}");
        }
    }
}
