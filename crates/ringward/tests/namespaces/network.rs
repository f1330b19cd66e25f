//! Networks of clients: namespaces of their own, each with a link to the one in which the gateway runs.
//!
//! They have no names. A namespace lives for as long as something is in it or has its file open, so that nothing is left when a test
//! fails or is killed, and tests that run at once do not meet.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;

use ringward_testkit::{DEADLINE, Process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::support::{program, said};

/// Networks of clients around the thread that made them. That thread is in the namespace in the middle from then on, and so is
/// what it starts.
pub(super) struct Networks(Vec<Namespace>);

struct Namespace(File);

impl Networks {
    /// So many networks, which are numbered from 1. `None` if this user may not make any, which is said aloud.
    #[allow(clippy::print_stderr, reason = "who skips a test has to be told")]
    pub(super) fn new(count: u8) -> Option<Networks> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("SKIPPED: only root may make network namespaces, so nothing was tested");
            return None;
        }
        Namespace::new().enter();
        ip("link set lo up");
        let networks = (1..=count).map(|network| {
            let namespace = Namespace::new();
            let file = format!("/proc/{}/fd/{}", std::process::id(), namespace.0.as_raw_fd());
            ip(&format!("link add net{network} type veth peer name uplink netns {file}"));
            ip(&format!("address add {}/24 dev net{network}", gateway_v4(network)));
            ip(&format!("address add {}/64 dev net{network} nodad", gateway_v6(network)));
            ip(&format!("link set net{network} up"));
            namespace.run(|| {
                ip("link set lo up");
                for host in CLIENTS {
                    ip(&format!("address add {}/24 dev uplink", client_v4(network, host)));
                    ip(&format!("address add {}/64 dev uplink nodad", client_v6(network, host)));
                }
                ip("link set uplink up");
            });
            namespace
        });
        Some(Networks(networks.collect()))
    }

    /// Runs this in a network, on a thread of its own.
    pub(super) fn within<T: Send>(&self, network: u8, run: impl FnOnce() -> T + Send) -> T {
        self.0[usize::from(network) - 1].run(run)
    }
}

impl Namespace {
    fn new() -> Namespace {
        // It is there for no longer than it takes to open the file.
        let script = "echo made; exec sleep 60";
        let holder = Process::start(program("unshare", "util-linux").args(["--net", "sh", "-c", script]));
        holder.wait_for_line(DEADLINE, |line| line == "made");
        Namespace(File::open(format!("/proc/{}/ns/net", holder.id())).unwrap())
    }

    /// Moves this thread there.
    fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }

    fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let there = move || {
            self.enter();
            run()
        };
        let ended = thread::scope(|scope| scope.spawn(there).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs ip(8) where this thread is.
#[track_caller]
fn ip(arguments: &str) {
    let mut ip: Command = program("ip", "iproute2");
    said(ip.args(arguments.split(' ')));
}

/// How clients of a network call the gateway.
pub(super) fn gateway_v4(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, network, 1)
}

pub(super) fn gateway_v6(network: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x99, 0, network.into(), 0, 0, 0, 1)
}

/// A client's own address.
pub(super) fn client_v4(network: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, network, host)
}

pub(super) fn client_v6(network: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x99, 0, network.into(), 0, 0, 0, host.into())
}

/// A client's address and where it finds the gateway, whose ports for IPv4 and IPv6 these are.
pub(super) fn ways(network: u8, host: u8, [v4, v6]: [SocketAddr; 2]) -> [(IpAddr, SocketAddr); 2] {
    [
        (client_v4(network, host).into(), (gateway_v4(network), v4.port()).into()),
        (client_v6(network, host).into(), (gateway_v6(network), v6.port()).into()),
    ]
}

/// The hosts of each network.
pub(super) const CLIENTS: std::ops::RangeInclusive<u8> = 2..=9;
