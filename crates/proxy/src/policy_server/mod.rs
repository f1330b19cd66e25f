//! Asks the servers that decide for policies.
//!
//! Everything here belongs to one worker: connections that are kept, the number of questions under way, the circuit. A question
//! has one deadline over all that it takes. Whatever goes wrong on the way is no decision; nothing is answered in the server's
//! place.

mod circuit;
mod connection;
mod question;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ringward_config::{self as config, PolicyServerAddress};
use ringward_policy::{Decision, DecisionError, Query, ServerError};
use ringward_telemetry::{PolicyId, ServerOutcome, Shard};

use self::{
    circuit::{Change, Circuit},
    connection::Connection,
};
use crate::{io, record::nanos, snapshot, worker::Worker};

/// A server as a snapshot has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PolicyServer {
    address: PolicyServerAddress,
    /// The head of every question up to the length of its body.
    head: Box<[u8]>,
    timeout: Duration,
    connections_max: usize,
    answer_bytes_max: usize,
    failures_to_open: u32,
    open_for: Duration,
}

/// A server as a worker asks it.
pub(crate) struct Asker {
    policy: PolicyId,
    name: Arc<str>,
    server: Arc<PolicyServer>,
    /// Connections without a question under way; the most recently used one is taken first.
    idle: RefCell<Vec<Connection>>,
    asking: Cell<usize>,
    circuit: Circuit,
}

impl PolicyServer {
    /// The server that knows the values of `rule`, which begins with `data.`.
    pub(crate) fn new(server: &config::PolicyServer, rule: &str) -> PolicyServer {
        let host = match &server.address {
            PolicyServerAddress::Tcp(address) => address.to_string(),
            PolicyServerAddress::Unix(_) => "localhost".to_owned(),
        };
        // A rule is words and dots (config), so that nothing of it needs an escape.
        let path = rule.replace('.', "/");
        let head = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: ringward\r\n\
             content-type: application/json\r\naccept: application/json\r\ncontent-length: "
        );
        PolicyServer {
            address: server.address.clone(),
            head: head.into_bytes().into(),
            timeout: server.timeout,
            connections_max: server.connections_max,
            answer_bytes_max: server.answer_bytes_max,
            failures_to_open: server.failures_to_open.get(),
            open_for: server.open_for,
        }
    }
}

impl Asker {
    /// Asks the server of `policy`, if it has one. One of `previous` is taken over if the server is the same, with its
    /// connections and what is known of it.
    pub(crate) fn of(policy: &snapshot::Policy, previous: Option<&[Option<Rc<Asker>>]>) -> Option<Rc<Asker>> {
        let server = policy.server.as_ref()?;
        let same = |asker: &&Rc<Asker>| asker.policy == policy.id && asker.server == *server;
        let kept = previous.and_then(|askers| askers.iter().flatten().find(same).cloned());
        Some(kept.unwrap_or_else(|| {
            Rc::new(Asker {
                policy: policy.id,
                name: policy.name.clone(),
                server: server.clone(),
                idle: RefCell::default(),
                asking: Cell::new(0),
                circuit: Circuit::new(server.failures_to_open, server.open_for),
            })
        }))
    }

    /// Has the server decide. `read` says what its answer means.
    ///
    /// # Errors
    /// [`DecisionError::Server`] if it does not, and those of `read`.
    pub(crate) async fn decide(
        &self,
        worker: &Worker,
        query: Query,
        read: impl FnOnce(&[u8]) -> Result<Decision, DecisionError>,
    ) -> Result<Decision, DecisionError> {
        let begun = Instant::now();
        let (decided, answer_time) = match self.ask(worker, query, begun).await {
            Ok(answer) => {
                let decided = read(&answer);
                worker.buffers.put(answer);
                (decided, Some(nanos(begun.elapsed())))
            }
            Err(error) => (Err(DecisionError::Server(error)), None),
        };
        worker.shard.policy_server_asked(self.policy, outcome(&decided), answer_time);
        decided
    }

    /// The body of the server's answer.
    async fn ask(&self, worker: &Worker, query: Query, begun: Instant) -> Result<Vec<u8>, ServerError> {
        let _place = Place::take(&self.asking, self.server.connections_max)
            .ok_or(ServerError::Busy(self.server.connections_max))?;
        let pass = self.circuit.enter(begun).ok_or(ServerError::CircuitOpen)?;
        let is_large = query.body.len() > TAKEN_UNREAD_BYTES;
        // What was begun is given up with its connection, see there.
        let answer = io::within(self.server.timeout, question::put(self, worker, query))
            .await
            .unwrap_or(Err(ServerError::Timeout(self.server.timeout)));
        let change = match &answer {
            answer if is_sign_of_life(answer) => pass.answered(),
            // It may have refused a question that it did not take in, and be silent until it closes.
            Err(ServerError::Timeout(_)) if is_large => None,
            _ => pass.failed(Instant::now()),
        };
        self.tell(worker, change, answer.as_ref().err());
        answer
    }

    /// Tells the operator when the circuit changes, and only then.
    fn tell(&self, worker: &Worker, change: Option<Change>, error: Option<&ServerError>) {
        let (policy, server, index) = (&*self.name, &self.server.address, worker.index);
        match (change, error) {
            (Some(Change::Opened), Some(error)) => tracing::warn!(
                %policy, %server, worker = index, %error,
                "policy server does not answer, requests are refused without asking it for now"
            ),
            (Some(Change::Closed), _) => {
                tracing::info!(%policy, %server, worker = index, "policy server answers again");
            }
            _ => {}
        }
    }

    /// Forgets the connections that died of age, and tells the metrics how the circuit stands. To be done now and then, with
    /// those in use: what an asker of an earlier snapshot finds out is no news.
    pub(crate) fn tend(&self, shard: &Shard) {
        self.idle.borrow_mut().retain(|connection| !connection.has_died());
        shard.policy_server_circuit(self.policy, self.circuit.is_open());
    }

    async fn connect(&self, worker: &Worker) -> std::io::Result<Connection> {
        let stream = match &self.server.address {
            PolicyServerAddress::Tcp(address) => io::ServerStream::connect_tcp(*address).await?,
            PolicyServerAddress::Unix(path) => io::ServerStream::connect_unix(path).await?,
        };
        Ok(Connection::new(stream, &worker.deadlines))
    }

    /// A kept connection that is alive, as far as can be seen, and on which nothing waits: bytes that nobody asked for would be
    /// taken for the decision about the next request.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find_map(Connection::awakened)
    }

    fn keep(&self, connection: Connection) {
        // No more than are asked on at once, so it needs no bound of its own.
        self.idle.borrow_mut().push(connection.asleep());
    }
}

/// What the socket of a server takes in, although the server does not read.
const TAKEN_UNREAD_BYTES: usize = 16 * 1024;

/// Whether the server is there. An HTTP response says so whatever is in it: its evaluations may fail for the requests of one
/// client, who must not be able to end it for all others.
fn is_sign_of_life(answer: &Result<Vec<u8>, ServerError>) -> bool {
    matches!(answer, Ok(_) | Err(ServerError::Status(_) | ServerError::TooLarge(_)))
}

fn outcome(decided: &Result<Decision, DecisionError>) -> ServerOutcome {
    let Err(DecisionError::Server(error)) = decided else { return ServerOutcome::Answered };
    match error {
        ServerError::Unreachable(_) => ServerOutcome::Unreachable,
        ServerError::Closed => ServerOutcome::Closed,
        ServerError::Timeout(_) => ServerOutcome::Timeout,
        ServerError::Busy(_) => ServerOutcome::Busy,
        ServerError::CircuitOpen => ServerOutcome::CircuitOpen,
        ServerError::Status(_)
        | ServerError::TooLarge(_)
        | ServerError::NotHttp(_)
        | ServerError::NotJson(_) => ServerOutcome::Invalid,
    }
}

/// One of the questions that may be under way at once, until it is dropped.
struct Place<'a>(&'a Cell<usize>);

impl<'a> Place<'a> {
    fn take(taken: &'a Cell<usize>, most: usize) -> Option<Place<'a>> {
        if taken.get() >= most {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Place(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn places_are_given_back() {
        let taken = Cell::new(0);
        let (first, second) = (Place::take(&taken, 2), Place::take(&taken, 2));
        assert!(first.is_some() && second.is_some() && Place::take(&taken, 2).is_none());
        drop(first);
        assert!(Place::take(&taken, 2).is_some());
        assert_eq!(taken.get(), 1);
    }

    #[test]
    fn the_rule_is_the_path() {
        let server = |address| config::PolicyServer {
            address,
            timeout: Duration::from_millis(100),
            connections_max: 1,
            answer_bytes_max: 1024,
            failures_to_open: std::num::NonZeroU32::MIN,
            open_for: Duration::from_secs(1),
        };
        let head =
            |address, rule| String::from_utf8(PolicyServer::new(&server(address), rule).head.into()).unwrap();
        let tcp =
            head(PolicyServerAddress::Tcp("[::1]:8181".parse().unwrap()), "data.ringward.authz.decision");
        assert!(
            tcp.starts_with("POST /v1/data/ringward/authz/decision HTTP/1.1\r\nhost: [::1]:8181\r\n"),
            "{tcp}"
        );
        let unix = head(PolicyServerAddress::Unix(PathBuf::from("/run/opa.sock")), "data.a");
        assert!(unix.starts_with("POST /v1/data/a HTTP/1.1\r\nhost: localhost\r\n"), "{unix}");
    }
}
