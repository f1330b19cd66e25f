//! What the upstream does with one request, step by step.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::pattern::Pattern;

/// Steps that the upstream takes once it has read a request head.
///
/// After the last step the connection is kept for the next request if the body was read, else closed. Nothing is
/// sent that no step sends: not even `100 Continue`.
///
/// ```
/// use ringward_testkit::{Gate, Script};
///
/// let gate = Gate::new();
/// let lies = Script::new().read_body().send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").close();
/// let slow = Script::new().read_body().wait(&gate).respond(200, &[], "late");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    ReadBody,
    Send(Vec<u8>),
    Trickle(Vec<u8>, Duration),
    SendPattern(Pattern),
    Wait(Gate),
    Close,
    Reset,
}

/// Where an upstream stops until a test lets it go on. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<GateInner>);

#[derive(Debug, Default)]
struct GateInner {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Script {
    /// No steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the request body to its end.
    pub fn read_body(self) -> Self {
        self.step(Step::ReadBody)
    }

    /// Sends bytes as they are.
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    /// Sends bytes one by one with a pause after each.
    pub fn trickle(self, bytes: impl AsRef<[u8]>, pause: Duration) -> Self {
        self.step(Step::Trickle(bytes.as_ref().to_vec(), pause))
    }

    /// Sends all bytes of a pattern.
    pub fn send_pattern(self, pattern: Pattern) -> Self {
        self.step(Step::SendPattern(pattern))
    }

    /// Sends a response with `content-length`.
    pub fn respond(self, status: u16, fields: &[(&str, &str)], body: &str) -> Self {
        self.respond_bytes(status, fields, body.as_bytes())
    }

    /// The same with a body of any bytes, such as a CRL.
    pub fn respond_bytes(self, status: u16, fields: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        let head = head(status, fields.iter().copied().chain([("content-length", &*length)]));
        self.send([head.as_bytes(), body].concat())
    }

    /// Sends a response in chunks, with trailer fields.
    pub fn respond_chunked(
        self,
        status: u16,
        fields: &[(&str, &str)],
        chunks: &[&str],
        trailers: &[(&str, &str)],
    ) -> Self {
        let mut message = head(status, fields.iter().copied().chain([("transfer-encoding", "chunked")]));
        for chunk in chunks {
            message.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        message.push_str("0\r\n");
        for (name, value) in trailers {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send(message + "\r\n")
    }

    /// Waits, reading and sending nothing, until the gate is open.
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Closes the connection in order; what still arrives is read and dropped.
    pub fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Vanishes by a TCP reset.
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through, from now on.
    pub fn open(&self) {
        self.0.state.lock().expect("no holder panics").open = true;
        self.0.changed.notify_all();
    }

    /// Waits until `count` requests have come to the gate, those that went through included.
    ///
    /// # Panics
    /// If fewer come within `deadline`.
    #[track_caller]
    pub fn wait_for_arrivals(&self, count: usize, deadline: Duration) {
        let state = self.0.state.lock().expect("no holder panics");
        let (state, timeout) = self
            .0
            .changed
            .wait_timeout_while(state, deadline, |state| state.arrived < count)
            .expect("no holder panics");
        let arrived = state.arrived;
        drop(state);
        assert!(!timeout.timed_out(), "{arrived} of {count} requests came to the gate within {deadline:?}");
    }

    /// Waits until the gate is open or `given_up` says so.
    pub(super) fn pass(&self, given_up: impl Fn() -> bool) {
        let mut state = self.0.state.lock().expect("no holder panics");
        state.arrived += 1;
        self.0.changed.notify_all();
        while !state.open && !given_up() {
            let waited = self.0.changed.wait_timeout(state, Duration::from_millis(20));
            state = waited.expect("no holder panics").0;
        }
    }
}

/// A response head with the empty line.
pub(super) fn head<'a>(status: u16, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        404 => "Not Found",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}
