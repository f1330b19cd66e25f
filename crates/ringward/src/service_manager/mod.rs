//! What passes between this process and the service manager that has started it, which is systemd in most cases.
//!
//! Told to it: when all listeners serve, what a reload came to, how far a drain is, that everything still moves ([`ServiceManager`],
//! sd_notify(3)). Taken from it: sockets that it has opened ([`Inherited`], sd_listen_fds(3)). Without one all of this does
//! nothing. It is never waited for: a message that it does not take stays in a short queue.

mod activation;
mod notify;
mod store;
mod watchdog;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) use self::activation::{Inherited, InheritedSockets};
use self::notify::{NotifySocket, monotonic_micros, one_line};
use self::watchdog::Watchdog;

/// The service manager, as the control plane talks to it.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    socket: Option<NotifySocket>,
    watchdog: Option<Watchdog>,
    /// How many descriptors it keeps.
    room: usize,
    /// Told last.
    status: String,
}

impl ServiceManager {
    /// The one of `NOTIFY_SOCKET`, if there is one, with the watchdog of `WATCHDOG_USEC`.
    pub(crate) fn from_env() -> ServiceManager {
        let variable = |name: &str| std::env::var_os(name);
        let socket = variable("NOTIFY_SOCKET").and_then(|address| {
            let opened = NotifySocket::new(&address);
            opened.inspect_err(|error| tracing::warn!(%error, "the service manager is told nothing")).ok()
        });
        let watchdog = socket.as_ref().and_then(|_| {
            let period = watchdog::period(variable, std::process::id());
            period.inspect_err(|error| tracing::warn!(error, "the watchdog is left alone")).ok().flatten()
        });
        let room = store::room(|name| std::env::var(name).ok());
        ServiceManager { socket, watchdog: watchdog.map(Watchdog::new), room, status: String::new() }
    }

    /// Has it keep these listening sockets, and no others that it was given before, should this process die.
    pub(crate) fn keep(&mut self, sockets: Vec<OwnedFd>) {
        if let Some(socket) = &mut self.socket {
            store::keep(socket, self.room, sockets);
        }
    }

    /// Has it keep none, and waits for a moment until that is so.
    pub(crate) fn take_back(&mut self) {
        if let Some(socket) = &mut self.socket {
            store::forget(socket);
            if let Err(error) = store::synchronise(socket) {
                tracing::warn!(%error, "the service manager does not say that it has closed the sockets that it kept");
            }
        }
    }

    /// All listeners serve, or a reload has ended, whichever way.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell("READY=1\n", status);
    }

    /// A reload begins that somebody has asked for. [`ServiceManager::ready`] ends it.
    pub(crate) fn reloading(&mut self) {
        // Beside it the time, by which the manager tells the answer to its signal from one to an earlier signal.
        let message = format!("RELOADING=1\nMONOTONIC_USEC={}\n", monotonic_micros());
        self.tell(&message, "reloading");
    }

    /// The process ends.
    pub(crate) fn stopping(&mut self, status: &str) {
        if let Some(socket) = self.socket.as_mut().filter(|_| self.room > 0) {
            store::forget(socket);
        }
        self.tell(&format!("STOPPING=1\n{}", extension()), status);
    }

    /// The end takes its time, for a good reason. To be said again and again: if it is not, the manager's patience ends.
    pub(crate) fn draining(&mut self, status: &str) {
        self.tell(&extension(), status);
    }

    /// Another process serves from now on, of which the manager has not known so far. It is told nothing more by this one.
    pub(crate) fn leave_to(&mut self, process: u32) {
        if let Some(socket) = &mut self.socket {
            socket.send(format!("MAINPID={process}\n"));
        }
        *self = ServiceManager::default();
    }

    /// In what state the process is, for people.
    pub(crate) fn status(&mut self, status: &str) {
        if one_line(status) != self.status {
            self.tell("", status);
        }
    }

    /// When to look after the workers next: [`ServiceManager::look_after`]. `None` if nobody wants to know.
    pub(crate) fn look_again_after(&self) -> Option<Duration> {
        self.watchdog.as_ref().map(Watchdog::pause)
    }

    /// Says that all is well if every worker has come around since that was said last; `beats` has how often each has, by its
    /// number. That the control plane does, is seen by its calling this.
    pub(crate) fn look_after(&mut self, beats: &[(usize, u64)]) {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.is_all_well(beats)
            && let Some(socket) = &mut self.socket
        {
            socket.send("WATCHDOG=1\n".to_owned());
        }
    }

    /// Sends what the manager did not take so far. To be called now and then.
    pub(crate) fn catch_up(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.flush();
        }
    }

    fn tell(&mut self, message: &str, status: &str) {
        let Some(socket) = &mut self.socket else { return };
        self.status = one_line(status);
        socket.send(format!("{message}STATUS={}\n", self.status));
    }
}

fn extension() -> String {
    format!("EXTEND_TIMEOUT_USEC={}\n", EXTENSION.as_micros())
}

/// How much longer than its own timeout the manager is to wait for the next message of a drain, or for the end. Connections that
/// are cut, workers that end and the last access records take 10 s at the most. An extension never shortens the timeout.
const EXTENSION: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_manager_nothing_is_said() {
        let mut nobody = ServiceManager::default();
        nobody.ready("serving");
        nobody.reloading();
        nobody.status("serving");
        nobody.look_after(&[(0, 1)]);
        nobody.catch_up();
        assert_eq!((nobody.look_again_after(), &*nobody.status), (None, ""));
    }
}
