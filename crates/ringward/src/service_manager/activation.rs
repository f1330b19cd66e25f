//! Listening sockets that the service manager has opened (sd_listen_fds(3)), as `.socket` units of systemd do.
//!
//! A listener takes all whose name (`FileDescriptorName=`) is its own, and then binds nothing itself; each of the others takes the
//! place of the address of a listener that it is bound to. Hides how descriptors of other processes become sockets, which the
//! `listenfd` crate does: it looks at what they are and keeps child processes from inheriting them.

use std::net::{SocketAddr, TcpListener};
use std::{fmt, io};

use listenfd::ListenFd;
use socket2::SockRef;

use super::store;

/// Sockets that were handed over and that no listener has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    handed: Vec<Handed>,
    /// Our own of the last time, which the manager has kept.
    kept: Vec<TcpListener>,
}

/// Sockets on one address, for one listener.
#[derive(Debug)]
pub(crate) struct InheritedSockets {
    /// What they are bound to.
    pub(crate) address: SocketAddr,
    /// At least one.
    pub(crate) sockets: Vec<TcpListener>,
}

/// A socket that was handed over.
#[derive(Debug)]
struct Handed {
    what: Descriptor,
    address: SocketAddr,
    socket: TcpListener,
}

/// What messages call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    number: usize,
    name: String,
}

/// Why the sockets that were handed over are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    /// What the variables say cannot be meant.
    #[error("the service manager has handed over sockets, but {name} is {value:?}: {wanted}")]
    Variable {
        /// Of the environment.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: String,
    },
    /// Another kind of descriptor.
    #[error(
        "{what} from the service manager is no TCP socket ({source}): `ListenStream=` with an IP address and a port \
         makes one"
    )]
    NotTcp {
        /// Which one.
        what: Descriptor,
        /// What was found.
        source: io::Error,
    },
    /// A connection, or a socket that is only bound.
    #[error(
        "{0} from the service manager does not listen: `Accept=no` in the socket unit, which is the default"
    )]
    NotListening(Descriptor),
}

impl Inherited {
    /// What was handed to this process. Takes it out of the environment; so to be called once, before there are threads.
    ///
    /// # Errors
    /// If something of it is no listening TCP socket.
    pub(crate) fn from_env() -> Result<Inherited, ActivationError> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(offered) = offered(variable, std::process::id())? else { return Ok(Inherited::default()) };
        let mut passed = ListenFd::from_env();
        let handed = offered.into_iter().enumerate().map(|(index, what)| {
            let socket = passed.take_tcp_listener(index).and_then(|socket| {
                let socket = socket.ok_or(io::ErrorKind::NotFound)?;
                Ok((socket.local_addr()?, SockRef::from(&socket).is_listener()?, socket))
            });
            match socket {
                Ok((address, true, socket)) => Ok(Handed { what, address, socket }),
                Ok((_, false, _)) => Err(ActivationError::NotListening(what)),
                Err(source) => Err(ActivationError::NotTcp { what, source }),
            }
        });
        let mut inherited = Inherited::default();
        for handed in handed {
            match handed {
                Ok(Handed { what, socket, .. }) if what.name == store::NAME => inherited.kept.push(socket),
                Ok(handed) => inherited.handed.push(handed),
                // A worker may have closed it before the process died.
                Err(ActivationError::NotListening(what) | ActivationError::NotTcp { what, .. })
                    if what.name == store::NAME => {}
                Err(error) => return Err(error),
            }
        }
        Ok(inherited)
    }

    /// Sockets that the last process has left with the manager.
    pub(crate) fn take_kept(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.kept)
    }

    /// All that have the name of a listener, by address.
    pub(crate) fn take_named(&mut self, listener: &str) -> Vec<InheritedSockets> {
        let mut taken: Vec<InheritedSockets> = Vec::new();
        for Handed { address, socket, .. } in
            self.handed.extract_if(.., |handed| handed.what.name == listener)
        {
            match taken.iter_mut().find(|sockets| sockets.address == address) {
                Some(same) => same.sockets.push(socket),
                None => taken.push(InheritedSockets { address, sockets: vec![socket] }),
            }
        }
        taken
    }

    /// All that are bound to an address.
    pub(crate) fn take_bound(&mut self, address: SocketAddr) -> Option<InheritedSockets> {
        let taken = self.handed.extract_if(.., |handed| handed.address == address);
        let sockets: Vec<TcpListener> = taken.map(|handed| handed.socket).collect();
        (!sockets.is_empty()).then_some(InheritedSockets { address, sockets })
    }

    /// Those that nobody has taken, with the addresses that they are bound to.
    pub(crate) fn left(&self) -> impl Iterator<Item = (&Descriptor, SocketAddr)> {
        self.handed.iter().map(|handed| (&handed.what, handed.address))
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} (`{}`)", self.number, self.name)
    }
}

/// The descriptors that the process `own` was handed, in order; `None` if none were, or another process was meant.
fn offered(
    variable: impl Fn(&str) -> Option<String>,
    own: u32,
) -> Result<Option<Vec<Descriptor>>, ActivationError> {
    let number = |name: &'static str| {
        let Some(value) = variable(name) else { return Ok(None) };
        let number = value.parse::<u32>();
        let wanted = || "a number was expected".to_owned();
        number.map(Some).map_err(|_| ActivationError::Variable { name, value, wanted: wanted() })
    };
    // Without it nobody says that the descriptors are ours: an earlier process of the same environment may have been meant.
    if number("LISTEN_PID")? != Some(own) {
        return Ok(None);
    }
    let Some(count @ 1..) = number("LISTEN_FDS")? else { return Ok(None) };
    let wrong = |name: &'static str, value: String, wanted: String| {
        Err(ActivationError::Variable { name, value, wanted })
    };
    if count > DESCRIPTORS_MAX {
        return wrong("LISTEN_FDS", count.to_string(), format!("at most {DESCRIPTORS_MAX} are taken"));
    }
    let count = count as usize;
    let names = match variable("LISTEN_FDNAMES") {
        None => vec![NO_NAME.to_owned(); count],
        Some(text) => {
            let names: Vec<String> = text.split(':').map(str::to_owned).collect();
            if names.len() != count {
                return wrong("LISTEN_FDNAMES", text, format!("{count} names were expected"));
            }
            names
        }
    };
    let numbered = names.into_iter().enumerate();
    Ok(Some(numbered.map(|(index, name)| Descriptor { number: FIRST_DESCRIPTOR + index, name }).collect()))
}

/// `SD_LISTEN_FDS_START`.
const FIRST_DESCRIPTOR: usize = 3;
/// What sd_listen_fds_with_names(3) calls those that have no name.
const NO_NAME: &str = "unknown";
/// Some for each CPU and each of a hundred addresses.
const DESCRIPTORS_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(
        pid: Option<&str>,
        fds: Option<&str>,
        names: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, ActivationError> {
        let variable = |name: &str| {
            let value = match name {
                "LISTEN_PID" => pid,
                "LISTEN_FDS" => fds,
                _ => names,
            };
            value.map(str::to_owned)
        };
        offered(variable, 17)
    }

    #[test]
    fn descriptors_are_counted_from_three_and_named() {
        let named = |names: &[&str]| -> Vec<Descriptor> {
            let numbered = names.iter().enumerate();
            numbered.map(|(index, name)| Descriptor { number: 3 + index, name: (*name).to_owned() }).collect()
        };
        for (pid, fds, names, expected) in [
            (Some("17"), Some("2"), Some("edge:partners"), Some(named(&["edge", "partners"]))),
            (Some("17"), Some("2"), None, Some(named(&["unknown", "unknown"]))),
            (Some("17"), Some("1"), Some(""), Some(named(&[""]))),
            (Some("17"), Some("0"), None, None),
            (Some("17"), None, None, None),
            // Of another process, which has started us without knowing of them.
            (Some("18"), Some("2"), None, None),
            (None, Some("2"), None, None),
            (None, None, None, None),
        ] {
            assert_eq!(offer(pid, fds, names).unwrap(), expected, "{pid:?} {fds:?} {names:?}");
        }
        assert_eq!(offer(Some("17"), Some("4096"), None).unwrap().unwrap().len(), 4096, "at the limit");
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        for (pid, fds, names, part) in [
            (Some("self"), Some("1"), None, "LISTEN_PID is \"self\""),
            (Some("17"), Some("-1"), None, "LISTEN_FDS is \"-1\""),
            (Some("17"), Some("4097"), None, "at most 4096"),
            (Some("17"), Some("4294967295"), None, "at most 4096"),
            (Some("17"), Some("2"), Some("edge"), "2 names were expected"),
            (Some("17"), Some("1"), Some("edge:edge"), "1 names were expected"),
        ] {
            let error = offer(pid, fds, names).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sockets_go_to_the_listener_of_their_name_or_address() {
        let handed = |number: usize, name: &str, socket: &TcpListener| Handed {
            what: Descriptor { number, name: name.to_owned() },
            address: socket.local_addr().unwrap(),
            socket: socket.try_clone().unwrap(),
        };
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two, three) = (bind(), bind(), bind());
        let handed = vec![
            handed(3, "edge", &one),
            handed(4, "unknown", &two),
            handed(5, "edge", &one),
            handed(6, "unknown", &three),
        ];
        let mut inherited = Inherited { handed, kept: Vec::new() };
        let edge = inherited.take_named("edge");
        assert_eq!((edge.len(), edge[0].address, edge[0].sockets.len()), (1, one.local_addr().unwrap(), 2));
        assert!(inherited.take_named("edge").is_empty() && inherited.take_bound(edge[0].address).is_none());
        let bound = inherited.take_bound(two.local_addr().unwrap()).unwrap();
        assert_eq!(bound.sockets.len(), 1);
        let left: Vec<String> = inherited.left().map(|(what, _)| what.to_string()).collect();
        assert_eq!(left, ["descriptor 6 (`unknown`)"]);
    }
}
