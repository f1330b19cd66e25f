//! The keys of a scenario file. Each field's comment is its reference.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_spanned::Spanned;

use super::Problems;

/// A value and its place in the file.
pub(super) type Field<T> = Spanned<T>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// What the load stands for, in a sentence.
    pub(super) description: Field<String>,
    /// Whom it is for. All of it can be given on the command line too.
    #[serde(default)]
    pub(super) target: Target,
    /// How much, and for how long.
    pub(super) load: Load,
    /// How clients use their connections.
    #[serde(default)]
    pub(super) connection: Connection,
    /// What clients offer.
    #[serde(default)]
    pub(super) tls: Tls,
    /// Who connects: without it clients of class `valid`.
    #[serde(default)]
    pub(super) clients: Vec<Field<Class>>,
    /// What they ask for.
    pub(super) requests: Vec<Field<Request>>,
}

/// `[target]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    /// `HOST:PORT`.
    pub(super) address: Option<Field<String>>,
    /// The name that the certificate must carry, sent as SNI and Host: one, or several that connections ask for in turn. In a
    /// name `{A..B}` stands for all numbers from A to B.
    pub(super) server_name: Option<Field<OneOrMany>>,
    /// A directory that `ringward-load pki` has made: certificates of clients, and the one that signed the target's.
    pub(super) pki: Option<Field<String>>,
    /// Who may have signed the target's certificate, PEM.
    pub(super) ca: Option<Field<String>>,
}

/// `[load]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    /// How many connections are used at the same time.
    pub(super) connections: Field<u64>,
    /// Over HTTP/2: how many requests are made at the same time on each.
    pub(super) streams: Option<Field<u64>>,
    /// End after so many requests.
    pub(super) requests: Option<Field<u64>>,
    /// End after so long.
    pub(super) duration: Option<Field<String>>,
    /// An open loop: `2000`, or `0-2000:10,2000:60` as `--rate` has it.
    pub(super) rate: Option<Field<String>>,
    /// How long a handshake or an exchange may take, `30s` by default.
    pub(super) timeout: Option<Field<String>>,
    /// What is drawn is drawn alike in runs with the same seed; 1 by default.
    pub(super) seed: Option<Field<u64>>,
}

/// `[connection]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connection {
    /// `http/1.1` (default) or `h2`.
    pub(super) protocol: Option<Field<String>>,
    /// Requests until it is closed: `1`, `{ min = 50, max = 150 }` or `{ mean = 100 }`. Without it connections stay open.
    pub(super) requests: Option<Field<Spread>>,
    /// Between an answer and the next request: `1s`, `{ min = "1s", max = "5s" }` or `{ mean = "2s" }`. Closed loops only.
    pub(super) think_time: Option<Field<Spread>>,
    /// Whether clients keep what the target gives for resuming a session, and resume.
    pub(super) resume: Option<Field<bool>>,
    /// How often all clients leave their connections and come again at the same moment.
    pub(super) storm_every: Option<Field<String>>,
    /// Handshakes at the same time, 64 by default.
    pub(super) handshakes_max: Option<Field<u64>>,
    /// Who opens the next connection where one has ended: the `same` client (default), or the `next` of all.
    pub(super) client: Option<Field<String>>,
}

/// `[tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// `1.2` or `1.3`; both by default.
    pub(super) version: Option<Field<String>>,
    /// Cipher suites by their names of IANA, the preferred one first.
    #[serde(default)]
    pub(super) suites: Vec<Field<String>>,
    /// Groups, the preferred one first.
    #[serde(default)]
    pub(super) groups: Vec<Field<String>>,
}

/// `[[clients]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    /// For reports and for `clients` and `status_for` of requests.
    pub(super) name: Field<String>,
    /// Of all connections, against the shares of the others; 1 by default.
    pub(super) share: Option<Field<f64>>,
    /// Certificates of this class of the PKI: `valid`, `expired`, `not_yet_valid`, `revoked`, `wrong_ca`, `no_client_auth`.
    pub(super) class: Option<Field<String>>,
    /// The first so many of them; all by default.
    pub(super) count: Option<Field<u64>>,
    /// A certificate with its intermediates, PEM, and its key.
    pub(super) cert: Option<Field<String>>,
    pub(super) key: Option<Field<String>>,
    /// `true`: without a certificate.
    pub(super) anonymous: Option<Field<bool>>,
    /// `served` (default), or `refused` if the target must refuse the handshake.
    pub(super) outcome: Option<Field<String>>,
}

/// `[[requests]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// For reports.
    pub(super) name: Field<String>,
    /// Of the requests of a client, against the shares of the others; 1 by default.
    pub(super) share: Option<Field<f64>>,
    /// Names of the clients that make it; all by default.
    #[serde(default)]
    pub(super) clients: Vec<Field<String>>,
    /// `GET` by default.
    pub(super) method: Option<Field<String>>,
    /// Path and query; `{1..1000}` is any number from 1 to 1000, `{n}` the number of the request.
    pub(super) path: Field<String>,
    /// Of a hundred so many ask for a path below it that no other request asks for.
    pub(super) fresh_percent: Option<Field<u64>>,
    /// Sent along.
    #[serde(default)]
    pub(super) headers: BTreeMap<Field<String>, Field<String>>,
    /// Size of the body: `4KiB`, `{ min = "1KiB", max = "64KiB" }` or `{ mean = "4KiB" }`; none by default.
    pub(super) body: Option<Field<Spread>>,
    /// Makes it a gRPC call of the method that `path` names; `body` is then the size of each message.
    pub(super) grpc: Option<Field<Grpc>>,
    /// Makes it a WebSocket with somebody who echoes; `body` is then the size of each message.
    pub(super) websocket: Option<Field<WebSocket>>,
    /// What the answer has to be.
    #[serde(default)]
    pub(super) expect: Expect,
}

/// `grpc` of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    /// `unary`, `server-stream` (the request begins with how many messages are to come back), `client-stream` or `bidi`.
    pub(super) kind: Field<String>,
    /// How many messages in the direction that has many; 1 by default.
    pub(super) messages: Option<Field<u64>>,
    /// Told to the server as `grpc-timeout`; none by default.
    pub(super) deadline: Option<Field<String>>,
    /// The `grpc-status` that the call must end with; 0 by default.
    pub(super) status: Option<Field<u64>>,
}

/// `websocket` of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebSocket {
    /// How many messages, one after the other, until it is closed.
    pub(super) messages: Field<u64>,
    /// After each message that came back, until the next is sent; nothing by default.
    pub(super) between: Option<Field<String>>,
}

/// `expect` of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// 200 by default.
    pub(super) status: Option<Field<u64>>,
    /// Where it is another one for the clients of this name: `{ strangers = 403 }`.
    #[serde(default)]
    pub(super) status_for: BTreeMap<Field<String>, Field<u64>>,
    /// Size of the body: `128B`, `same` as that of the first answer, or `any` (default).
    pub(super) body: Option<Field<String>>,
    /// SHA-256 of the body in hexadecimal.
    pub(super) sha256: Option<Field<String>>,
}

/// One string, or several.
#[derive(Debug)]
pub(super) struct OneOrMany(pub(super) Vec<String>);

/// A number or a text with a unit, and how it differs from one time to the next.
#[derive(Debug)]
pub(super) enum Spread {
    Always(Scalar),
    Spread(SpreadTable),
}

/// `{ min, max }` or `{ mean }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpreadTable {
    pub(super) min: Option<Scalar>,
    pub(super) max: Option<Scalar>,
    pub(super) mean: Option<Scalar>,
}

/// A whole number, or a text with a unit.
#[derive(Debug)]
pub(super) enum Scalar {
    Number(u64),
    Text(String),
}

impl File {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first thing that is no TOML, or no key or value of a scenario.
    pub(super) fn parse(file: &Path, text: &str) -> Result<File, Problems> {
        toml::from_str(text).map_err(|error| {
            let mut problems = Problems::new(file);
            problems.add(text, error.span(), error.message());
            problems
        })
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl<'de> Deserialize<'de> for Spread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Spread;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a string with a unit, `{ min = ..., max = ... }` or `{ mean = ... }`")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Spread, E> {
                ScalarValue.visit_i64(number).map(Spread::Always)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Spread, E> {
                Ok(Spread::Always(Scalar::Text(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Spread, A::Error> {
                SpreadTable::deserialize(MapAccessDeserializer::new(map)).map(Spread::Spread)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarValue)
    }
}

/// Reads a [`Scalar`].
struct ScalarValue;

impl Visitor<'_> for ScalarValue {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative, or a string with a unit")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        let wrong = || E::invalid_value(de::Unexpected::Signed(number), &self);
        u64::try_from(number).map(Scalar::Number).map_err(|_| wrong())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}
