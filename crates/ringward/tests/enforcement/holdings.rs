//! What a client has of a gateway: sessions, idle connections, requests in flight.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ringward_testkit::{
    Client, ClientError, Closing, Connection, DEADLINE, Gate, Greeting, MessageError, Script, Sessions,
    eventually,
};
use rustls::AlertDescription;

use crate::support::{Gateway, with_sessions};

/// Listeners of every gateway here: with tickets, and with the cache.
pub(crate) const TICKETS: &str = "edge";
pub(crate) const CACHE: &str = "cached";

/// Everything that one client holds.
pub(crate) struct Holdings {
    client: Client,
    tickets: SocketAddr,
    cache: SocketAddr,
    /// With sessions of the one listener and of the other.
    pub(crate) ticketed: Client,
    ticket_stock: Sessions,
    pub(crate) cached: Client,
    cache_stock: Sessions,
    idle: Option<Connection>,
    asking: Connection,
    /// With half of the head of a request sent, and the other half.
    halved: (Connection, Vec<u8>),
    /// Handshakes of which the client's last message is missing: a full one, and those that resume a session.
    greetings: Vec<(&'static str, Greeting)>,
    /// With a request in flight, and another one behind it.
    finishing: Connection,
    finish: Gate,
    hanging: Option<Connection>,
    hang: Gate,
}

/// Connections of a client that only waits for what becomes of them.
pub(crate) struct Watched {
    idle: JoinHandle<Seen>,
    hanging: JoinHandle<Seen>,
}

/// The end of a connection on which nothing has arrived any more.
pub(crate) struct Seen {
    pub(crate) closing: Closing,
    pub(crate) at: Instant,
}

impl Watched {
    fn begin(mut connection: Connection) -> JoinHandle<Seen> {
        thread::spawn(move || {
            let (received, closing) = connection.wait_closed();
            assert!(received.is_empty(), "{:?}", String::from_utf8_lossy(&received));
            Seen { closing, at: Instant::now() }
        })
    }

    /// Waits for both: the idle one, and the one with an exchange that does not end.
    pub(crate) fn endings(self) -> (Seen, Seen) {
        (self.idle.join().unwrap(), self.hanging.join().unwrap())
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Answered(u16),
    Alert(AlertDescription),
    Closed(Closing),
}

impl Ending {
    pub(crate) fn of(answer: Result<u16, ClientError>) -> Ending {
        let error = match answer {
            Ok(status) => return Ending::Answered(status),
            Err(error) => error,
        };
        match (&error, error.alert()) {
            (_, Some(alert)) => Ending::Alert(alert),
            (ClientError::Cut, _) => Ending::Closed(Closing::Cut),
            (ClientError::Reset, _) => Ending::Closed(Closing::Reset),
            (ClientError::Message(MessageError::Ended(_)), _) => Ending::Closed(Closing::Notified),
            _ => panic!("no way to end: {error}"),
        }
    }

    /// Whether the request was not served.
    pub(crate) fn is_refusal(self) -> bool {
        !matches!(self, Ending::Answered(_))
    }
}

/// A request on a connection of its own.
pub(crate) fn attempt(client: &Client, address: SocketAddr, target: &str) -> Ending {
    let answer = client.connect(address).and_then(|mut connection| connection.get(target));
    Ending::of(answer.map(|response| response.status))
}

impl Holdings {
    /// Collects them. Sessions are resumed once, so that a test which resumes none is noticed.
    pub(crate) fn of(gateway: &Gateway, client: &Client, name: &str) -> Holdings {
        let (tickets, cache) = (gateway.listener(TICKETS), gateway.listener(CACHE));
        // To wait for as long as a row takes.
        let client = &client.clone().timeout(3 * DEADLINE);
        let gated = |what: &str| {
            let (gate, target) = (Gate::new(), format!("/{what}/{name}"));
            gateway.upstream.on(&target, Script::new().wait(&gate).respond(200, &[], "late"));
            let mut connection = client.connect(tickets).unwrap();
            let head = connection.head("GET", &target, &[]);
            connection.send(&head).unwrap();
            gate.wait_for_arrivals(1, DEADLINE);
            (connection, gate)
        };
        let (mut finishing, finish) = gated("finishing");
        let behind = finishing.head("GET", &format!("/behind/{name}"), &[]);
        finishing.send(&behind).unwrap();
        let (hanging, hang) = gated("hanging");
        let idle = || {
            let mut connection = client.connect(tickets).unwrap();
            assert_eq!(connection.get("/before/idle").unwrap().status, 200);
            connection
        };
        let mut halved = idle();
        let head = halved.head("GET", &format!("/halved/{name}"), &[]);
        halved.send(&head[..20]).unwrap();
        let (ticketed, ticket_stock) = with_sessions(client, tickets, 3);
        let (cached, cache_stock) = with_sessions(client, cache, 3);
        let greetings =
            [("full", client, tickets), ("ticket", &ticketed, tickets), ("cache", &cached, cache)];
        let greetings = greetings.into_iter().map(|(how, client, address)| {
            let greeting = client.greet(address).unwrap();
            assert_eq!(greeting.is_resumed(), how != "full", "{how}");
            (how, greeting)
        });
        let greetings = greetings.collect();
        let holdings = Holdings {
            client: client.clone(),
            tickets,
            cache,
            ticketed,
            ticket_stock,
            cached,
            cache_stock,
            idle: Some(idle()),
            asking: idle(),
            halved: (halved, head[20..].to_vec()),
            greetings,
            finishing,
            finish,
            hanging: Some(hanging),
            hang,
        };
        holdings.resume("/before/resumed", true);
        holdings
    }

    /// A request on a connection that was idle.
    pub(crate) fn ask_on_idle(&mut self, target: &str) -> Ending {
        Ending::of(self.asking.get(target).map(|response| response.status))
    }

    /// Sends the other half of a request.
    pub(crate) fn end_request(&mut self) -> Ending {
        let (connection, rest) = &mut self.halved;
        let answer = connection.send(rest).and_then(|()| connection.response());
        Ending::of(answer.map(|response| response.status))
    }

    /// Ends the handshakes that are under way, with a request at once.
    pub(crate) fn end_handshakes(&mut self, target: &str) -> Vec<(&'static str, Ending)> {
        let end = |(how, greeting): (&'static str, Greeting)| {
            let answer = greeting.finish().and_then(|mut connection| connection.get(target));
            (how, Ending::of(answer.map(|response| response.status)))
        };
        self.greetings.drain(..).map(end).collect()
    }

    pub(crate) fn attempt_with_ticket(&self, target: &str) -> Ending {
        assert!(!self.ticket_stock.is_empty(), "a ticket is left");
        attempt(&self.ticketed, self.tickets, target)
    }

    pub(crate) fn attempt_with_cache(&self, target: &str) -> Ending {
        assert!(!self.cache_stock.is_empty(), "a session is left");
        attempt(&self.cached, self.cache, target)
    }

    /// Begins to wait for the end of those connections that are not asked for anything.
    pub(crate) fn watch(&mut self) -> Watched {
        let begin = |connection: &mut Option<Connection>| Watched::begin(connection.take().unwrap());
        Watched { idle: begin(&mut self.idle), hanging: begin(&mut self.hanging) }
    }

    /// Lets one exchange end: it does so in order, and with it the connection.
    pub(crate) fn finish_exchange(&mut self) -> Ending {
        self.finish.open();
        let response = self.finishing.response().expect("what was in flight may end");
        assert_eq!((response.text(), response.headers.get("connection")), ("late", Some("close")));
        self.finishing.wait_closed();
        Ending::Answered(response.status)
    }

    /// Nothing of it has been harmed.
    pub(crate) fn goes_on(mut self) {
        for gate in [&self.finish, &self.hang] {
            gate.open();
        }
        let (mut idle, mut hanging) = (self.idle.take().unwrap(), self.hanging.take().unwrap());
        assert_eq!(self.end_request(), Ending::Answered(200));
        for (_, ending) in self.end_handshakes("/bystander") {
            assert_eq!(ending, Ending::Answered(200));
        }
        assert_eq!(self.finishing.response().map(|response| response.status).unwrap(), 200, "in flight");
        for connection in [&mut self.finishing, &mut hanging] {
            assert_eq!(connection.response().map(|response| response.status).unwrap(), 200);
        }
        for connection in [&mut idle, &mut self.asking, &mut self.finishing, &mut hanging] {
            assert_eq!(connection.get("/bystander").map(|response| response.status).unwrap(), 200);
        }
        assert_eq!(attempt(&self.client, self.tickets, "/bystander"), Ending::Answered(200));
        self.resume("/bystander", false);
    }

    /// A request by each kind of session. Where the rules have changed, a full handshake may have taken the place of it.
    fn resume(&self, target: &str, must: bool) {
        for (client, address, stock) in [
            (&self.ticketed, self.tickets, &self.ticket_stock),
            (&self.cached, self.cache, &self.cache_stock),
        ] {
            let (left, received) = (stock.len(), stock.received());
            let mut connection = client.connect(address).unwrap();
            assert_eq!(connection.get(target).map(|response| response.status).unwrap(), 200);
            assert!(connection.is_resumed() || !must, "it is resumed");
            eventually(DEADLINE, "the session is replaced", || {
                stock.received() > received || thread::panicking()
            });
            assert_eq!(stock.len(), left);
        }
    }
}
