//! Requests that get to a route.

use std::net::Ipv4Addr;

use ringward_config::{
    ClientAuthMode, Conditions, Config, Host, HostPattern, Listener, Methods, Protocol, Route, TextCondition,
};

use crate::check::admission::path_for;
use crate::check::forwarding::ask::Ask;
use crate::check::forwarding::papers::{Identity, Papers, Signer};
use crate::check::forwarding::rehearsal::{BALANCER, CLIENT, Rehearsal};

/// A route, with a request that it takes.
pub(super) struct Place<'p> {
    pub(super) at: &'p Listener,
    pub(super) host: &'p Host,
    pub(super) route: &'p Route,
    ask: Ask<'p>,
}

/// Names and values.
type Fields = Vec<(String, String)>;

/// What is shown of a route: its listener, its host, itself.
pub(super) type Names<'p> = (&'p str, &'p Host, &'p Route);

impl<'p> Place<'p> {
    /// One for each route of a host that lets something through and is unlike those before it, and those for which no request could be
    /// made up, and why.
    pub(super) fn all(
        rehearsal: &'p Rehearsal,
        (number, listener): (usize, &'p Listener),
        (index, host): (usize, &'p Host),
        identity: Option<&'p Identity>,
    ) -> (Vec<Place<'p>>, Vec<(&'p Route, String)>) {
        let (mut places, mut unreached) = (Vec::<Place<'p>>::new(), Vec::new());
        let routes = host.routes.iter().enumerate();
        for (position, route) in routes.filter(|(_, route)| route.action.clusters().next().is_some()) {
            if places.iter().any(|other| is_alike(&rehearsal.config, other.route, route)) {
                continue;
            }
            let ask = request(host, route).and_then(|(name, target, fields)| {
                let (source, preface) = coming(listener, CLIENT);
                let ask = Ask {
                    to: rehearsal.addresses[number],
                    host: name,
                    source,
                    preface,
                    identity,
                    http2: route.grpc,
                    method: method(&route.methods),
                    target,
                    fields,
                    trailers: Vec::new(),
                };
                takes(rehearsal, listener, (index, position), &ask).map(|()| ask)
            });
            match ask {
                Ok(ask) => places.push(Place { at: listener, host, route, ask }),
                Err(why) => unreached.push((route, why)),
            }
        }
        (places, unreached)
    }

    pub(super) fn names(&self) -> Names<'p> {
        (&self.at.name, self.host, self.route)
    }

    /// Whether clients speak HTTP/2, for each protocol that they can speak.
    pub(super) fn protocols(&self) -> Vec<bool> {
        match (self.route.grpc, self.at.http2) {
            (true, _) => vec![true],
            (false, true) => vec![false, true],
            (false, false) => vec![false],
        }
    }

    /// A request of an ordinary client.
    pub(super) fn ask(&self, http2: bool) -> Ask<'p> {
        Ask { http2, ..self.ask.clone() }
    }

    /// The same by the protocol that the route takes in any case.
    pub(super) fn ask_anyhow(&self) -> Ask<'p> {
        self.ask(self.route.grpc)
    }
}

/// The certificate of a client whom the handshake of this host lets in, if it asks for one.
pub(super) fn ordinary_client(papers: &Papers, host: &Host) -> Result<Option<Identity>, String> {
    let asks = host.client_auth.handshake != ClientAuthMode::Off;
    let trust = host.client_auth.verification().filter(|_| asks).and_then(|rules| rules.trust.first());
    let client = |bundle: &String| papers.client(Signer::Bundle(bundle), "ringward check client", None);
    trust.map(client).transpose()
}

/// From where, and with which first bytes, a client of this address gets to a listener.
pub(super) fn coming(listener: &Listener, client: Ipv4Addr) -> (Ipv4Addr, Vec<u8>) {
    match listener.proxy_protocol {
        None => (client, Vec::new()),
        Some(_) => (BALANCER, header(client)),
    }
}

/// A header of the PROXY protocol that names this client.
pub(super) fn header(client: Ipv4Addr) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 443\r\n").into_bytes()
}

/// Whether two routes of a host treat what clients say in the same way.
fn is_alike(config: &Config, one: &Route, other: &Route) -> bool {
    let speaks = |route: &Route| {
        let protocols = route
            .action
            .clusters()
            .filter_map(|name| config.clusters.get(name))
            .map(|cluster| cluster.protocol);
        protocols.map(|protocol| protocol == Protocol::Http2).collect::<Vec<bool>>()
    };
    one.client_auth == other.client_auth
        && one.grpc == other.grpc
        && one.request_headers == other.request_headers
        && speaks(one) == speaks(other)
}

/// Host, target and fields of a request that meets all that a route asks for, as far as that can be made up.
fn request(host: &Host, route: &Route) -> Result<(String, String, Fields), String> {
    let Conditions { headers, query, .. } = &route.conditions;
    if route.conditions.ask_for_identity() {
        return Err("its conditions ask for a certificate that is not made up here".to_owned());
    }
    let name = match &host.names[0] {
        HostPattern::Exact(name) => name.as_str().to_owned(),
        HostPattern::Wildcard(suffix) => format!("ringward-check.{}", suffix.as_str()),
    };
    let mut fields = Vec::new();
    for (name, condition) in headers {
        fields.extend(example(condition)?.map(|value| (name.to_string(), value)));
    }
    if route.grpc {
        let call = [("content-type", "application/grpc"), ("te", "trailers")];
        fields.extend(call.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let mut target = path_for(&route.path);
    for (name, condition) in query {
        if let Some(value) = example(condition)? {
            let separator = if target.contains('?') { '&' } else { '?' };
            target += &format!("{separator}{}={}", encoded(name), encoded(&value));
        }
    }
    Ok((name, target, fields))
}

/// A value that meets a condition; `None` if there has to be none.
fn example(condition: &TextCondition) -> Result<Option<String>, String> {
    match condition {
        TextCondition::Exact(value) | TextCondition::Prefix(value) => Ok(Some(value.to_string())),
        TextCondition::Present(is_there) => Ok(is_there.then(|| "1".to_owned())),
        TextCondition::Regex(regex) => {
            let example = regex.example().map(Some);
            example.ok_or_else(|| "no text is known that meets its conditions".to_owned())
        }
    }
}

/// RFC 3986 §2.1.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text + &char::from(byte).to_string(),
        byte => text + &format!("%{byte:02X}"),
    })
}

fn method(methods: &Methods) -> String {
    match methods {
        Methods::All => "POST".to_owned(),
        // A body goes with each of them, if need be.
        Methods::Only(methods) => methods[0].to_string(),
    }
}

/// Whether a request comes to this very route, by the tables of the data path.
fn takes(
    rehearsal: &Rehearsal,
    listener: &Listener,
    wanted: (usize, usize),
    ask: &Ask<'_>,
) -> Result<(), String> {
    let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", ask.method, ask.target, ask.host);
    ask.fields.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += "\r\n";
    let asked = format!("{} {}", ask.method, ask.target);
    match rehearsal.snapshot.route_of(&listener.name, head.as_bytes(), None) {
        Ok(chosen) if (chosen.host, chosen.route) == wanted => Ok(()),
        Ok(_) => Err(format!("another route takes {asked}")),
        Err(unanswered) => Err(format!("{asked} gets {}: {}", unanswered.status, unanswered.why)),
    }
}
