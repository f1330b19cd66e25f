//! What the caller knows of a connection and a request, as borrowed parts.
//!
//! Plain views without behaviour, so that neither the proxy's types nor a test's have to know an evaluator.

use std::net::SocketAddr;

/// A connection from a client, as far as policies see it. Texts are empty where there is nothing.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionView<'a> {
    /// The client's address. IPv4 mapped into IPv6 reaches policies as IPv4.
    pub remote: SocketAddr,
    /// The port that accepted the connection.
    pub local_port: u16,
    /// The server name of the TLS handshake, normalised.
    pub sni: &'a str,
    /// The negotiated application protocol, such as `http/1.1`.
    pub alpn: &'a str,
    /// The TLS version, such as `TLSv1.3`.
    pub tls_version: &'a str,
    /// The cipher suite by its IANA name.
    pub cipher: &'a str,
    /// Whether the TLS session was resumed, so that the client did not prove its key on this connection.
    pub resumed: bool,
    /// When the client last proved its key, in seconds since 1970 (UTC): the full handshake that this session goes
    /// back to. 0 if it is not known, which makes the proof look older than any rule allows.
    pub auth_time_unix: i64,
}

/// One request.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The method, as received.
    pub method: &'a str,
    /// The one normalised path that router, log and upstream use too.
    pub path: &'a str,
    /// Path and query as received.
    pub raw_path: &'a str,
    /// The query without `?`, as received.
    pub query: Option<&'a str>,
    /// The validated host: lower case, no port.
    pub host: &'a str,
    /// `https` or `http`.
    pub scheme: &'a str,
    /// `HTTP/1.1` and the like.
    pub protocol: &'a str,
    /// The request's id in log and answer.
    pub id: &'a str,
    /// The header fields.
    pub headers: &'a dyn HeaderSource,
    /// What of the body was read before the decision; `None` if nothing was, because no policy of the route asks for it.
    pub body: Option<BodyView<'a>>,
    /// What the router found.
    pub route: RouteView<'a>,
    /// The time of the decision in seconds since 1970 (UTC).
    pub now_unix: i64,
}

/// The body of a request, as far as it was read before the decision.
#[derive(Debug, Clone, Copy)]
pub struct BodyView<'a> {
    /// Its bytes without transfer coding.
    pub bytes: &'a [u8],
    /// There is more of it than these bytes.
    pub truncated: bool,
}

/// A matched route.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteView<'a> {
    /// Its id from the configuration.
    pub id: &'a str,
    /// Its path template, such as `/orders/{id}`.
    pub template: &'a str,
    /// What the template's parameters matched, in order of the template.
    pub params: &'a [(&'a str, &'a str)],
    /// The cluster that it leads to.
    pub upstream: &'a str,
    /// Its labels from the configuration.
    pub labels: &'a [(String, String)],
}

/// The header fields of a request.
pub trait HeaderSource {
    /// Calls `each` with name and value of every field in the order received. Names are in lower case.
    ///
    /// Called at most once per evaluation, and only for policies that can read headers.
    fn for_each(&self, each: &mut dyn FnMut(&str, &str));

    /// Calls `each` with the value of every field that [`Self::for_each`] would call `name`, in the same order. The decision
    /// cache asks for single fields this way, for every request: worth its own implementation.
    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) {
        self.for_each(&mut |other, value| {
            if other == name {
                each(value);
            }
        });
    }
}

impl HeaderSource for [(&str, &str)] {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.iter().for_each(|(name, value)| each(name, value));
    }
}

impl<const N: usize> HeaderSource for [(&str, &str); N] {
    fn for_each(&self, each: &mut dyn FnMut(&str, &str)) {
        self.as_slice().for_each(each);
    }
}
