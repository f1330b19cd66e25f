//! What passes between `ringward run` and a service manager, which is played here: the notify protocol, the watchdog, and sockets that
//! it hands over.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod common;

use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringward_testkit::{Client, Closing, DEADLINE, Gate, Process, Script, Signal};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use self::common::{POLICY, World, ringward};

/// The end of the notify protocol that is not ringward's.
struct Manager {
    socket: UnixDatagram,
}

/// A message, by field.
type Message = Vec<(String, String)>;

impl Manager {
    /// Listens at a path of `world`, as `NOTIFY_SOCKET` has it.
    fn at_path(world: &World) -> (Manager, String) {
        let path = world.path("notify");
        (Manager { socket: UnixDatagram::bind(&path).unwrap() }, path.display().to_string())
    }

    /// The next message.
    #[track_caller]
    fn message(&self) -> Message {
        self.message_within(DEADLINE).expect("a message of the service")
    }

    fn message_within(&self, time: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let text = str::from_utf8(&buffer[..length]).unwrap();
                let field = |line: &str| {
                    let (name, value) = line.split_once('=').unwrap();
                    (name.to_owned(), value.to_owned())
                };
                Some(text.lines().map(field).collect())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message for which `wanted` holds. Those before it say nothing but the status.
    #[track_caller]
    fn after_statuses(&self, wanted: impl Fn(&Message) -> bool) -> Message {
        loop {
            let message = self.message();
            if wanted(&message) {
                return message;
            }
            let says_more =
                message.iter().any(|(name, _)| !["STATUS", "EXTEND_TIMEOUT_USEC"].contains(&&**name));
            assert!(!says_more, "{message:?}");
        }
    }
}

fn field<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
}

fn says(name: &'static str) -> impl Fn(&Message) -> bool {
    move |message| field(message, name) == Some("1")
}

/// Starts `ringward run` with these variables, in which `$$` is its process number, and perhaps with a socket as descriptors 3 and so on.
fn start(world: &World, variables: &[(&str, &str)], handed: Option<(OwnedFd, usize)>) -> Process {
    let mut script = String::new();
    for (name, value) in variables {
        script += &format!("export {name}={value}; ");
    }
    let (socket, count) = handed.map_or((None, 0), |(socket, count)| (Some(socket), count));
    for number in 3..3 + count {
        script += &format!("exec {number}<&0; ");
    }
    script += "exec \"$0\" run -c \"$1\" </dev/null";
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(ringward().get_program()).arg(world.path("ringward.toml"));
    shell.env_remove("CREDENTIALS_DIRECTORY");
    match socket {
        Some(socket) => Process::start_with_input(&mut shell, socket),
        None => Process::start(&mut shell),
    }
}

/// Where it serves, by its log.
fn edge(process: &Process) -> SocketAddr {
    let line = process.wait_for_line(DEADLINE, |line| line.contains("\"message\":\"listening\""));
    let event: Value = serde_json::from_str(&line).unwrap();
    event["address"].as_str().unwrap().parse().unwrap()
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[track_caller]
fn assert_serves(client: &Client, edge: SocketAddr) {
    assert_eq!(client.connect(edge).unwrap().get("/open").unwrap().status, 200);
}

#[test]
fn start_reloads_and_end_are_told_in_order() {
    let world = World::new();
    let (manager, address) = Manager::at_path(&world);
    let gate = Gate::new();
    world.upstream.on("/open", Script::new().respond(200, &[], "at once"));
    let mut process = start(&world, &[("NOTIFY_SOCKET", &address)], None);
    let ready = manager.message();
    assert_eq!(field(&ready, "READY"), Some("1"), "{ready:?}");
    assert_eq!(field(&ready, "STATUS"), Some("serving generation 1"));
    let edge = edge(&process);
    // Without a wait: it serves when it says so.
    assert_serves(&world.client(), edge);

    // One that is taken.
    world.pki.write("policies/authz.rego", format!("{POLICY}# edited\n"));
    let before = monotonic_micros();
    process.signal(Signal::HUP);
    let reloading = manager.after_statuses(says("RELOADING"));
    let told_at: u64 = field(&reloading, "MONOTONIC_USEC").unwrap().parse().unwrap();
    assert!((before..=monotonic_micros()).contains(&told_at), "{reloading:?}");
    let ready = manager.after_statuses(says("READY"));
    assert_eq!(field(&ready, "STATUS"), Some("serving generation 2"));

    // One that is refused.
    world.pki.write("policies/authz.rego", POLICY.replace("default decision", "default decision decision"));
    process.signal(Signal::HUP);
    manager.after_statuses(says("RELOADING"));
    let ready = manager.after_statuses(says("READY"));
    let status = field(&ready, "STATUS").unwrap();
    assert!(
        status.starts_with("serving generation 2; refused: ") && status.contains("authz.rego:3:"),
        "{status}"
    );
    assert_serves(&world.client(), edge);

    // The end, which a request under way holds up.
    world.upstream.on("/open", Script::new().wait(&gate).respond(200, &[], "late"));
    let mut connection = world.client().connect(edge).unwrap();
    let request = connection.head("GET", "/open", &[]);
    connection.send(&request).unwrap();
    gate.wait_for_arrivals(1, DEADLINE);
    process.signal(Signal::TERM);
    let stopping = manager.after_statuses(says("STOPPING"));
    assert!(field(&stopping, "STATUS").unwrap().starts_with("draining: "), "{stopping:?}");
    let waits = |message: &Message| {
        let status = field(message, "STATUS").unwrap_or_default();
        status.starts_with("draining: 1 connections, to be cut in ") && status.ends_with(" s")
    };
    let progress = manager.after_statuses(waits);
    for message in [&stopping, &progress] {
        let micros: u64 = field(message, "EXTEND_TIMEOUT_USEC").unwrap().parse().unwrap();
        assert!(micros >= 10_000_000, "longer than what follows the cut: {message:?}");
    }
    gate.open();
    assert_eq!(connection.response().unwrap().text(), "late");
    assert_eq!(process.wait(DEADLINE).code(), Some(0), "{}", process.stderr());
}

#[test]
fn an_abstract_address_is_told_as_well_and_a_refused_configuration_is_never_ready() {
    let world = World::new();
    let name = format!("ringward-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager { socket };
    let address = format!("@{name}");
    let mut process = start(&world, &[("NOTIFY_SOCKET", &address)], None);
    assert_eq!(field(&manager.message(), "READY"), Some("1"));
    process.signal(Signal::TERM);
    manager.after_statuses(says("STOPPING"));
    assert_eq!(process.wait(DEADLINE).code(), Some(0));

    world.edit_config("cluster = \"echo\"", "cluster = \"eco\"");
    let mut process = start(&world, &[("NOTIFY_SOCKET", &address)], None);
    assert_eq!(process.wait(DEADLINE).code(), Some(2));
    while let Some(message) = manager.message_within(Duration::from_millis(1)) {
        assert_eq!(field(&message, "READY"), None, "{message:?}");
    }
}

#[test]
fn a_manager_that_is_not_there_harms_nothing() {
    for address in ["/nowhere/notify", "@nowhere", "vsock:2:1"] {
        let world = World::new();
        let mut process = start(&world, &[("NOTIFY_SOCKET", address)], None);
        assert_serves(&world.client(), edge(&process));
        process.wait_for_line(DEADLINE, |line| line.contains("NOTIFY_SOCKET"));
        assert_eq!(process.stop(DEADLINE).code(), Some(0), "{address}");
    }
}

#[test]
fn the_watchdog_is_fed_while_the_control_plane_and_every_worker_answer() {
    let world = World::new();
    let (manager, address) = Manager::at_path(&world);
    let micros = WATCHDOG.as_micros().to_string();
    let variables = [("NOTIFY_SOCKET", &*address), ("WATCHDOG_USEC", &*micros), ("WATCHDOG_PID", "$$")];
    let process = start(&world, &variables, None);
    manager.after_statuses(says("READY"));
    for _ in 0..3 {
        manager.after_statuses(says("WATCHDOG"));
    }
    for thread in ["worker-0", "worker-1", "ringward"] {
        let id = thread_of(&process, thread).to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/hold_thread.py");
        let mut holder = Process::start(Command::new("python3").arg(script).arg(id));
        let said = holder.wait_for_line(DEADLINE, |_| true);
        if said == "not allowed" {
            eprintln!("skipped: this machine does not allow to hold a thread of another process");
            return;
        }
        assert_eq!(said, "held", "{thread}");
        // It had come around shortly before, which counts for one more.
        let mut fed = 0;
        while manager.message_within(WATCHDOG).is_some() {
            fed += 1;
            assert!(fed <= 2, "the watchdog is fed without {thread}");
        }
        holder.kill();
        manager.after_statuses(says("WATCHDOG"));
    }
    let silent = process.stderr().lines().filter(|line| line.contains("workers do not answer")).count();
    assert!(silent >= 2, "{}", process.stderr());
}

#[test]
fn the_watchdog_of_another_process_is_left_alone() {
    let world = World::new();
    let (manager, address) = Manager::at_path(&world);
    let variables = [("NOTIFY_SOCKET", &*address), ("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    let mut process = start(&world, &variables, None);
    manager.after_statuses(says("READY"));
    process.signal(Signal::HUP);
    manager.after_statuses(says("RELOADING"));
    manager.after_statuses(says("READY"));
    process.signal(Signal::TERM);
    manager.after_statuses(says("STOPPING"));
    assert_eq!(process.wait(DEADLINE).code(), Some(0));
}

/// The thread of this name.
fn thread_of(process: &Process, name: &str) -> u32 {
    let threads = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let found = threads.flatten().find(|thread| {
        fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    found.unwrap().file_name().to_str().unwrap().parse().unwrap()
}

/// A listening socket of the manager, and its address.
fn opened() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn clone_of(socket: &TcpListener) -> OwnedFd {
    socket.try_clone().unwrap().into()
}

/// With so many workers, and this driver.
fn world_of(workers: usize, driver: &str) -> World {
    let world = World::new();
    world.edit_config("workers = 2", &format!("workers = {workers}\nio = \"{driver}\""));
    world
}

#[test]
fn a_socket_of_the_manager_outlives_the_process() {
    for driver in ["auto", "epoll"] {
        let world = world_of(1, driver);
        let (socket, address) = opened();
        let variables = [("LISTEN_PID", "$$"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "edge")];
        let run = || start(&world, &variables, Some((clone_of(&socket), 1)));
        let mut process = run();
        assert_eq!(edge(&process), address, "and not what `bind` says");
        let gate = Gate::new();
        world.upstream.on("/open", Script::new().wait(&gate).respond(200, &[], ""));
        let mut busy = world.client().connect(address).unwrap();
        let request = busy.head("GET", "/open", &[]);
        busy.send(&request).unwrap();
        gate.wait_for_arrivals(1, DEADLINE);
        let mut idle = world.client().connect(address).unwrap();

        // Who comes during the drain waits for the next process, and is not refused.
        process.signal(Signal::TERM);
        // Ended by the very turn of the worker in which it ceases to accept.
        assert_eq!(idle.wait_closed().1, Closing::Notified);
        let waiting = TcpStream::connect(address).unwrap();
        gate.open();
        assert_eq!(busy.response().unwrap().status, 200);
        assert_eq!(process.wait(DEADLINE).code(), Some(0), "{}", process.stderr());

        world.upstream.on("/open", Script::new().respond(200, &[], ""));
        let mut process = run();
        let mut connection = world.client().over(waiting).unwrap();
        assert_eq!(connection.get("/open").unwrap().status, 200, "{driver}");
        drop(connection);
        assert_eq!(process.stop(DEADLINE).code(), Some(0));
    }
}

#[test]
fn sockets_are_taken_by_name_or_address_whatever_their_number() {
    for driver in ["auto", "epoll"] {
        for (names, count) in
            [("edge:edge", 2), ("edge:edge:edge", 3), ("ringward.socket", 1), ("unknown:", 2)]
        {
            let world = world_of(2, driver);
            let (socket, address) = opened();
            if !names.starts_with("edge") {
                world.edit_config(
                    "127.0.0.1:0\"]\n\n[[listener.host]]",
                    &format!("{address}\"]\n\n[[listener.host]]"),
                );
            }
            let count_text = count.to_string();
            let variables = [("LISTEN_PID", "$$"), ("LISTEN_FDS", &*count_text), ("LISTEN_FDNAMES", names)];
            let mut process = start(&world, &variables, Some((clone_of(&socket), count)));
            assert_eq!(edge(&process), address, "{names}");
            let client = world.client();
            let mut connections: Vec<_> = (0..16).map(|_| client.connect(address).unwrap()).collect();
            for connection in &mut connections {
                assert_eq!(connection.get("/open").unwrap().status, 200, "{names} {driver}");
            }
            assert_eq!(process.stop(DEADLINE).code(), Some(0), "{}", process.stderr());
        }
    }
}

#[test]
fn what_is_handed_over_and_of_no_use_is_refused() {
    let (listening, address) = opened();
    let not_listening = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let (connected, _other_end) = UnixStream::pair().unwrap();
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let cases: [(OwnedFd, &str, &str, &str); 6] = [
        (clone_of(&listening), "1", "web", "no listener wants descriptor 3 (`web`) on"),
        (clone_of(&listening), "1", "edge:web", "LISTEN_FDNAMES is \"edge:web\": 1 names were expected"),
        (clone_of(&listening), "many", "edge", "LISTEN_FDS is \"many\""),
        (not_listening.into(), "1", "edge", "descriptor 3 (`edge`) from the service manager does not listen"),
        (connected.into(), "1", "edge", "descriptor 3 (`edge`) from the service manager is no TCP socket"),
        (datagrams.into(), "1", "edge", "descriptor 3 (`edge`) from the service manager is no TCP socket"),
    ];
    for (socket, count, names, complaint) in cases {
        let world = World::new();
        let variables = [("LISTEN_PID", "$$"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)];
        let mut process = start(&world, &variables, Some((socket, 1)));
        assert_eq!(process.wait(DEADLINE).code(), Some(2), "{}", process.stderr());
        assert!(process.stderr().contains(complaint), "{complaint}: {}", process.stderr());
    }
    // Descriptors that are not there.
    let world = World::new();
    let mut process = start(&world, &[("LISTEN_PID", "$$"), ("LISTEN_FDS", "1")], None);
    assert_eq!(process.wait(DEADLINE).code(), Some(2));
    assert!(process.stderr().contains("descriptor 3 (`unknown`)"), "{}", process.stderr());
    // For another process: this one opens its own, and nobody accepts from the other.
    let variables = [("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "edge")];
    let process = start(&world, &variables, Some((clone_of(&listening), 1)));
    assert_ne!(edge(&process), address);
    assert_serves(&world.client(), edge(&process));
}

/// Short, as the test waits for it.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The next message, with the descriptors that came with it.
fn message_with_descriptors(manager: &Manager) -> (String, Vec<OwnedFd>) {
    manager.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut text = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [std::io::IoSliceMut::new(&mut text)];
    let received = rustix::net::recvmsg(&manager.socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = received.unwrap().bytes;
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    text.truncate(length);
    (String::from_utf8(text).unwrap(), descriptors)
}

/// The sockets that the service leaves with the manager. Whatever it says before is answered as the manager would.
fn kept_sockets(manager: &Manager) -> Vec<OwnedFd> {
    loop {
        let (text, descriptors) = message_with_descriptors(manager);
        if text.contains("FDSTORE=1") {
            assert!(text.contains("FDNAME=ringward-listener\n"), "{text}");
            return descriptors;
        }
    }
}

#[test]
fn the_listening_sockets_survive_a_crash() {
    let world = World::new();
    world.edit_config("workers = 2", "workers = 1");
    world.upstream.on("/open", Script::new().respond(200, &[], "open"));
    let (manager, address) = Manager::at_path(&world);
    let variables = [("NOTIFY_SOCKET", &*address), ("FDSTORE", "8")];
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let bound = free.local_addr().unwrap();
    drop(free);
    world.edit_config("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"{bound}\"]"));
    let mut process = start(&world, &variables, None);
    let mut kept = kept_sockets(&manager);
    assert_eq!(kept.len(), 1, "one worker with one address");
    process.kill();

    // Nobody serves, and nobody is refused.
    let waiting = TcpStream::connect(bound).unwrap();
    let pid_variables = [
        ("NOTIFY_SOCKET", &*address),
        ("FDSTORE", "8"),
        ("LISTEN_PID", "$$"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "ringward-listener"),
    ];
    let again = start(&world, &pid_variables, kept.pop().map(|socket| (socket, 1)));
    // What it has got is taken back before it is used.
    let (text, _) = message_with_descriptors(&manager);
    assert_eq!(text, "FDSTOREREMOVE=1\nFDNAME=ringward-listener\n");
    let (text, barrier) = message_with_descriptors(&manager);
    assert_eq!((&*text, barrier.len()), ("BARRIER=1\n", 1));
    drop(barrier);
    let mut connection = world.client().over(waiting).unwrap();
    assert_eq!(connection.get("/open").unwrap().status, 200);
    let second = kept_sockets(&manager);
    assert_eq!(second.len(), 1);

    // An end that was asked for leaves nothing behind that would seem to listen.
    again.signal(Signal::TERM);
    loop {
        let (text, _) = message_with_descriptors(&manager);
        if text.contains("FDSTOREREMOVE=1") {
            break;
        }
        assert!(!text.contains("STOPPING=1"), "they are taken back before");
    }
}

#[test]
fn kept_sockets_of_another_address_are_not_in_the_way() {
    let world = World::new();
    let (manager, address) = Manager::at_path(&world);
    let old = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = old.local_addr().unwrap().port();
    world.edit_config("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"0.0.0.0:{port}\"]"));
    let variables = [
        ("NOTIFY_SOCKET", &*address),
        ("LISTEN_PID", "$$"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "ringward-listener"),
    ];
    let process = start(&world, &variables, Some((old.into(), 1)));
    let (_, nothing) = message_with_descriptors(&manager);
    assert!(nothing.is_empty());
    drop(message_with_descriptors(&manager));
    assert_eq!(edge(&process).to_string(), format!("0.0.0.0:{port}"));
    // It is told no room for further ones.
    assert_eq!(field(&manager.after_statuses(says("READY")), "READY"), Some("1"));
}
