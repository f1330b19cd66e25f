//! Who connects: classes of clients, each with its share, its certificates and the outcome that it must get.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::mix::Turns;
use crate::tls;

/// All clients of a run.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) classes: Vec<Class>,
    turns: RefCell<Turns>,
    /// Whether who connects in one place is the same each time.
    kept: bool,
    pub(crate) resume: bool,
}

/// Clients that are alike.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Of all connections.
    pub(crate) share: f64,
    pub(crate) outcome: Outcome,
    /// Each with a certificate of its own, or one that has none.
    pub(crate) members: Vec<Arc<ClientConfig>>,
    /// Counts who was taken.
    taken: Cell<usize>,
}

/// What the target has to do with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Serve it as requests expect.
    Served,
    /// Refuse its handshake.
    Refused,
}

/// One who connects.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Index of its class.
    pub(crate) class: usize,
    pub(crate) outcome: Outcome,
    pub(crate) tls: Arc<ClientConfig>,
}

/// A name that clients ask for, as TLS and HTTP say it.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) server_name: ServerName<'static>,
    /// What the `Host` field says.
    pub(crate) authority: String,
}

impl Class {
    /// A class of clients, of which there is at least one.
    pub(crate) fn new(name: String, share: f64, outcome: Outcome, members: Vec<Arc<ClientConfig>>) -> Class {
        Class { name, share, outcome, members, taken: Cell::new(0) }
    }
}

impl Clients {
    /// Clients of these classes. With `resume` each keeps its sessions and resumes them; with `kept` one place stands for one
    /// client for the whole run.
    pub(crate) fn new(mut classes: Vec<Class>, kept: bool, resume: bool) -> Clients {
        if resume && !kept {
            for class in &mut classes {
                class.members.iter_mut().for_each(|member| *member = tls::resuming(member));
            }
        }
        let turns = RefCell::new(Turns::new(classes.iter().map(|class| class.share)));
        Clients { classes, turns, kept, resume }
    }

    /// Who uses a place, if that is the same one for the whole run.
    pub(crate) fn for_place(&self) -> Option<Rc<Client>> {
        self.kept.then(|| {
            let mut client = self.take();
            if self.resume {
                // Its sessions are its own: connections at the same time would take them away from each other.
                client.tls = tls::resuming(&client.tls);
            }
            Rc::new(client)
        })
    }

    /// Who connects next, where that differs.
    pub(crate) fn next(&self) -> Rc<Client> {
        Rc::new(self.take())
    }

    fn take(&self) -> Client {
        let index = self.turns.borrow_mut().next();
        let class = &self.classes[index];
        let taken = class.taken.get();
        class.taken.set(taken + 1);
        let tls = class.members[taken % class.members.len()].clone();
        Client { class: index, outcome: class.outcome, tls }
    }
}

impl Host {
    /// RFC 9110 §7.2: with the port, unless it is that of the scheme.
    pub(crate) fn new(server_name: ServerName<'static>, port: u16) -> Host {
        let host = match &server_name {
            ServerName::IpAddress(rustls::pki_types::IpAddr::V6(_)) => format!("[{}]", server_name.to_str()),
            _ => server_name.to_str().into_owned(),
        };
        let authority = if port == HTTPS_PORT { host } else { format!("{host}:{port}") };
        Host { server_name, authority }
    }
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_has_the_port_unless_it_is_the_usual_one() {
        for (name, port, wanted) in [
            ("api.example.com", 443, "api.example.com"),
            ("api.example.com", 8443, "api.example.com:8443"),
            ("127.0.0.1", 8443, "127.0.0.1:8443"),
            ("::1", 8443, "[::1]:8443"),
        ] {
            assert_eq!(Host::new(ServerName::try_from(name).unwrap(), port).authority, wanted);
        }
    }
}
