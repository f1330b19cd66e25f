//! `server` of `[policy.NAME]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Count, DurationText, Field, SizeText};

/// `server = { ... }` of `[policy.NAME]`: the OPA server that decides, and how it is asked. A request that it gives no decision
/// about is answered with 500.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "policy.server", default, deny_unknown_fields)]
pub struct PolicyServer {
    /// Where it listens: a loopback address with a port, or `unix:` with the path of a socket. It is spoken to in plain
    /// HTTP/1.1, so that any other address is refused.
    ///
    /// Required. Example: `address = "unix:/run/opa/opa.sock"`.
    pub address: Field<String>,
    /// How long a question may take, from connecting to the last byte of the answer. The request waits for it, other requests
    /// do not.
    ///
    /// Default `"100ms"`; `"1ms"` to `"10s"`. Example: `timeout = "20ms"`.
    pub timeout: Field<DurationText>,
    /// How many questions may wait for their answers in each worker, each on a connection of its own, which is kept for the
    /// next one. Nobody queues: a question above that is not asked.
    ///
    /// Default 256; 1 to 65536. Example: `connections_max = 32`.
    pub connections_max: Field<Count>,
    /// How large an answer may be.
    ///
    /// Default `"256KiB"`; `"1KiB"` to `"4MiB"`. Example: `answer_bytes_max = "64KiB"`.
    pub answer_bytes_max: Field<SizeText>,
    /// After how many questions in a row without an answer a worker does not ask any more, for `open_for`. An answer of any
    /// kind begins the count anew, also one that is no decision.
    ///
    /// Default 10; 1 to 1000000. Example: `failures_to_open = 3`.
    pub failures_to_open: Field<Count>,
    /// How long it does not ask then. Afterwards one question is asked, and if that is answered all are asked again, else none
    /// for as long once more.
    ///
    /// Default `"1s"`; `"10ms"` to `"1h"`. Example: `open_for = "5s"`.
    pub open_for: Field<DurationText>,
}
