//! Listening sockets: one per worker and address, so that the kernel spreads connections and no accept queue is shared. But for
//! those that the service manager has opened: of these there are as many as it says, and workers share them.
//!
//! Opened by the main thread before any worker starts, so that a port in use is an error of the start and not of a
//! worker. Never accepts anything.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use ringward_proxy::ListenSocket;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::service_manager::InheritedSockets;

/// An address to listen on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Address and port; port 0 takes a free one.
    pub(crate) address: SocketAddr,
    /// Connections that may wait to be accepted, per socket.
    pub(crate) backlog: i32,
}

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The address with the port that was taken.
    pub(crate) address: SocketAddr,
    /// One per worker, unless they are shared.
    pub(crate) sockets: Vec<TcpListener>,
    /// Others listen on them, too.
    pub(crate) shared: bool,
}

impl Opened {
    /// The sockets of each of so many workers. No socket is left without a worker, and no worker without a socket.
    ///
    /// # Errors
    /// If there are no descriptors left for those that several workers share.
    pub(crate) fn per_worker(self, workers: usize) -> io::Result<Vec<Vec<ListenSocket>>> {
        let Opened { sockets, shared, .. } = self;
        let mut divided: Vec<Vec<ListenSocket>> = (0..workers).map(|_| Vec::new()).collect();
        for turn in 0..sockets.len().max(workers) {
            let socket = sockets[turn % sockets.len()].try_clone()?;
            divided[turn % workers].push(ListenSocket { socket, shared });
        }
        Ok(divided)
    }
}

impl From<InheritedSockets> for Opened {
    fn from(InheritedSockets { address, sockets }: InheritedSockets) -> Opened {
        Opened { address, sockets, shared: true }
    }
}

impl Opened {
    /// Sockets that a predecessor listens on, for a listener of this process. `managed`: the service manager has opened them.
    pub(crate) fn handed_over((address, sockets): (SocketAddr, Vec<TcpListener>), managed: bool) -> Opened {
        Opened { address, sockets, shared: managed }
    }
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    /// The address.
    pub(crate) address: SocketAddr,
    /// What the kernel said.
    pub(crate) source: io::Error,
}

impl ListenError {
    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has this port: end it (`ss -ltnp` names it), or change the port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need a permission: `AmbientCapabilities=CAP_NET_BIND_SERVICE` in the systemd unit, \
                 `setcap cap_net_bind_service=+ep` on the binary, or a port above"
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has this address (`ip address` lists them)"
            }
            io::ErrorKind::Unsupported => {
                "leave `[::]` and `0.0.0.0` of this port as they were, or end the running process and start the new one instead \
                 of an upgrade"
            }
            _ => "check the address and the limits of the process (`ulimit -n`)",
        }
    }
}

/// Whether a socket that was opened by another process takes the clients that one would that is opened for `address` now: `[::]` with
/// IPv4, or without.
///
/// # Errors
/// That it does not, and another one cannot be opened beside it.
pub(crate) fn check_families(
    socket: &TcpListener,
    address: SocketAddr,
    all: &[SocketAddr],
) -> Result<(), ListenError> {
    let failed = |source| ListenError { address, source };
    let wanted = is_dual_stack(address, all);
    // Others than `[::]` never take IPv4, whatever was said.
    if address.ip() != Ipv6Addr::UNSPECIFIED || SockRef::from(socket).only_v6().map_err(failed)? != wanted {
        return Ok(());
    }
    let (takes, wants) = if wanted { ("IPv6 alone", "IPv4 too") } else { ("IPv4 too", "IPv6 alone") };
    let text = format!("the running process takes {takes} on this address, and {wants} is wanted");
    Err(failed(io::Error::new(io::ErrorKind::Unsupported, text)))
}

fn is_dual_stack(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let ipv4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
    address.ip() == Ipv6Addr::UNSPECIFIED && !all.contains(&ipv4)
}

/// Opens `workers` sockets on `wanted`. `all` are all addresses of the configuration: `[::]` takes IPv4 too unless
/// `0.0.0.0` with the same port is among them.
///
/// # Errors
/// If the address is taken, also by a socket with SO_REUSEPORT, or not ours to take.
pub(crate) fn open(wanted: Wanted, workers: usize, all: &[SocketAddr]) -> Result<Opened, ListenError> {
    let failed = |source| ListenError { address: wanted.address, source };
    let dual_stack = is_dual_stack(wanted.address, all);
    // With SO_REUSEPORT alone a second process of the same user would quietly take its share of the connections, which is
    // what someone gets who starts twice. So the port has to be free for a socket without it first.
    let probe = bind(wanted.address, dual_stack, false).map_err(failed)?;
    let address = probe.local_addr().map_err(failed)?.as_socket().unwrap_or(wanted.address);
    drop(probe);
    let sockets: Result<Vec<TcpListener>, io::Error> = (0..workers)
        .map(|_| {
            let socket = bind(address, dual_stack, true)?;
            socket.listen(wanted.backlog)?;
            Ok(TcpListener::from(socket))
        })
        .collect();
    Ok(Opened { address, sockets: sockets.map_err(failed)?, shared: false })
}

fn bind(address: SocketAddr, dual_stack: bool, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the last run may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpStream;

    use super::*;

    fn any(ip: IpAddr) -> Wanted {
        Wanted { address: SocketAddr::new(ip, 0), backlog: 16 }
    }

    #[test]
    fn each_worker_has_its_own_socket_on_one_port() {
        let opened = open(any(Ipv4Addr::LOCALHOST.into()), 3, &[]).unwrap();
        assert_eq!(opened.sockets.len(), 3);
        assert!(opened.sockets.iter().all(|socket| socket.local_addr().unwrap() == opened.address));
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for (sockets, workers, each) in
            [(1, 1, &[1][..]), (3, 3, &[1, 1, 1]), (1, 3, &[1, 1, 1]), (2, 3, &[1, 1, 1]), (5, 3, &[2, 2, 1])]
        {
            let sockets: Vec<_> = (0..sockets).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: HashSet<u16> =
                sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
            let address = sockets[0].local_addr().unwrap();
            let divided = Opened { address, sockets, shared: true }.per_worker(workers).unwrap();
            assert_eq!(divided.iter().map(Vec::len).collect::<Vec<_>>(), each);
            let divided = divided.into_iter().flatten();
            let taken: HashSet<u16> =
                divided.map(|taken| taken.socket.local_addr().unwrap().port()).collect();
            assert_eq!(taken, ports);
        }
    }

    #[test]
    fn a_port_of_a_running_instance_is_taken() {
        let first = open(any(Ipv4Addr::LOCALHOST.into()), 1, &[]).unwrap();
        let error = open(Wanted { address: first.address, backlog: 16 }, 1, &[]).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&first.address.to_string()), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error = open(any(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), 1, &[]).unwrap_err();
        assert!(error.help().contains("no interface"), "{error}");
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_unless_that_is_asked_for_separately() {
        let Ok(both) = open(any(Ipv6Addr::UNSPECIFIED.into()), 1, &[]) else { return };
        TcpStream::connect((Ipv4Addr::LOCALHOST, both.address.port())).unwrap();

        let v4 = open(any(Ipv4Addr::UNSPECIFIED.into()), 1, &[]).unwrap();
        let v6 =
            Wanted { address: SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), v4.address.port()), backlog: 16 };
        assert!(open(v6, 1, &[]).is_err(), "dual stack, and IPv4 is taken");
        open(v6, 1, &[v4.address, v6.address]).unwrap();
    }

    #[test]
    fn a_socket_of_another_process_takes_ipv4_as_the_configuration_wants() {
        let Ok(both) = open(any(Ipv6Addr::UNSPECIFIED.into()), 1, &[]) else { return };
        let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), both.address.port());
        check_families(&both.sockets[0], both.address, &[both.address]).unwrap();
        let error = check_families(&both.sockets[0], both.address, &[both.address, v4]).unwrap_err();
        assert!(error.to_string().contains("takes IPv4 too"), "{error}");

        let all = [v4, both.address];
        drop(both);
        let v6 = open(Wanted { address: all[1], backlog: 16 }, 1, &all).unwrap();
        check_families(&v6.sockets[0], v6.address, &all).unwrap();
        let error = check_families(&v6.sockets[0], v6.address, &all[1..]).unwrap_err();
        assert!(error.to_string().contains("takes IPv6 alone"), "{error}");
        assert!(error.help().contains("instead of an upgrade"));

        let local = open(any(Ipv4Addr::LOCALHOST.into()), 1, &[]).unwrap();
        check_families(&local.sockets[0], local.address, &[]).unwrap();
    }
}
