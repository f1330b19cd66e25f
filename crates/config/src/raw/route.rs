//! `[[listener.host.route]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;

use super::{
    ClientAuthMode, ClientCertificate, Compression, Cors, Count, DurationText, Field, HeaderEdits, Mirror,
    OcspMode, OneOrMany, Require, Retry, Rewrite, SizeText, Split, WordOrTable,
};

/// `[[listener.host.route]]`: where the requests of a path go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "[[listener.host.route]]", default, deny_unknown_fields)]
pub struct Route {
    /// Of a `[[route]]`, which stands apart from its host: one of the host's names. In a `[[listener.host.route]]` it is refused.
    ///
    /// Required in a `[[route]]`. Example: `host = "api.example.com"`.
    pub host: Field<String>,
    /// Of a `[[route]]`: the name of the listener, if hosts of several have that name.
    ///
    /// Default: the only one that has such a host. Example: `listener = "edge"`.
    pub listener: Field<String>,
    /// The route's name in logs, metrics and policies.
    ///
    /// Default: made from methods and template, `get-orders-id` for `GET /orders/{id}`; no other route's of the host.
    /// Example: `id = "orders"`.
    pub id: Field<String>,
    /// `match = { path = ..., methods = ... }` or `match = { grpc = ... }`: the requests that take this route.
    ///
    /// Required.
    pub r#match: Field<Match>,
    /// The name of the cluster that they go to.
    ///
    /// Required, unless there is `split`, `redirect` or `respond`. Example: `cluster = "orders"`.
    pub cluster: Field<String>,
    /// `split = { ... }`: instead of `cluster`, several clusters among which its requests are divided. Policies see the one that a
    /// request goes to.
    ///
    /// Default: none. Example: `split = { weights = { orders = 95, orders-next = 5 } }`.
    pub split: Field<Split>,
    /// `mirror = { ... }`: copies of its requests go to another cluster as well, whose answers nobody sees.
    ///
    /// Default: none. Example: `mirror = { cluster = "orders-next", percent = 10 }`.
    pub mirror: Field<Mirror>,
    /// `upstream_certificate = { chain = "FILE", key = "FILE" }`: the certificate of ours that endpoints of its clusters, those of
    /// `split` and `mirror` included, are shown for its requests, instead of the cluster's `certificate`. They go by connections
    /// and sessions of this certificate and no other. The clusters need `tls`, whose other keys count as they are. Health checks
    /// show the cluster's.
    ///
    /// Default: the cluster's, if it has one. Example:
    /// `upstream_certificate = { chain = "tls/payroll.pem", key = "tls/payroll.key" }`.
    pub upstream_certificate: Field<ClientCertificate>,
    /// `redirect = { ... }`: instead of `cluster`, clients are sent elsewhere. Authentication and policies come first, as everywhere.
    ///
    /// Default: none. Example: `redirect = { to = "https://{host}/new/{id}{query}" }`.
    pub redirect: Field<Redirect>,
    /// `respond = { ... }`: instead of `cluster`, they get a response that stands here. Authentication and policies come first.
    ///
    /// Default: none. Example: `respond = { status = 410, body = "gone\n" }`.
    pub respond: Field<Respond>,
    /// `rewrite = { ... }`: another path or host for the upstream. Routes, policies, records and the path in `{path}` are those that
    /// the client has asked for; a path that is in no normal form once everything is put in is refused with 400 and the flag
    /// `bad_rewrite`, like one that a client asks for. `Location` in responses and the like are not changed back.
    ///
    /// Default: none. Example: `rewrite = { path = "/v2/orders/{id}" }`.
    pub rewrite: Field<Rewrite>,
    /// `cors = { ... }`: pages of these origins may use it from a browser. Ringward answers preflights (OPTIONS with
    /// `Origin` and `Access-Control-Request-Method`) for the route that takes the method which is asked for: they do not reach the
    /// upstream, and no policy is asked. `client_auth` of the route counts for them as for every request. In responses all
    /// `Access-Control-` fields of the upstream are replaced. Answers to requests that are refused have none.
    ///
    /// Default: the host's. Example: `cors = { origins = ["https://app.example.com"], credentials = true }`.
    pub cors: Field<Cors>,
    /// `request_headers = { ... }`: header fields of their requests that are changed on the way to the upstream.
    ///
    /// Default: the host's. Example: `request_headers = { set = { "x-order" = "{id}" } }`.
    pub request_headers: Field<HeaderEdits>,
    /// `response_headers = { ... }`: header fields that are changed in the responses of the upstream, and of `redirect` and
    /// `respond`. The answer to a request that is refused has none of them.
    ///
    /// Default: the host's. Example: `response_headers = { remove = ["server"] }`.
    pub response_headers: Field<HeaderEdits>,
    /// `compression = { ... }`: its responses are compressed for clients that can read it. Not where responses hold secrets beside what
    /// the request has said: see there.
    ///
    /// Default: none are. Example: `compression = { algorithms = ["zstd", "gzip"], bytes_min = "1KiB" }`.
    pub compression: Field<Compression>,
    /// The policy that decides about them, or several of which every one has to allow, instead of the host's: a list adds nothing
    /// to the host's, so what is to be asked here as well has to be named here as well.
    ///
    /// Default: the host's; 1 to 8, each once. Example: `policy = "reports"`, `policy = ["limits", "reports"]`.
    pub policy: Field<OneOrMany>,
    /// What it wants of clients instead of the host's `mode`: `"off"`, `"observe"`, `"optional"` or `"required"`. The
    /// handshake asks as the weakest route of the host does; a request that comes without what its route requires is
    /// answered with 403. Requests of an `"off"` route are nobody's: neither policy nor upstream learns of a certificate.
    ///
    /// Default: the host's. Example: `client_auth = "optional"`.
    pub client_auth: Field<ClientAuthMode>,
    /// What clients must have proved before this route serves them, beside what the host's `require` says: `"mtls"`. See there.
    ///
    /// Default: the host's. Example: `require = "mtls"`.
    pub require: Field<Require>,
    /// Whether OCSP responders are asked about the client, instead of the host's `ocsp`.
    ///
    /// Default: the host's, and `"off"` where no certificate identifies the client. Example: `ocsp = "hard_fail"`.
    pub ocsp: Field<OcspMode>,
    /// Words for policies and logs: names of lower-case letters, digits and `_`, with text.
    ///
    /// Default: none; up to 32, values up to 256 characters. Example: `labels = { team = "billing" }`.
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: Field<BTreeMap<Spanned<String>, Field<String>>>,
    /// Whether `%2F` may stand in the path. It is passed on as it is; many servers take it for a `/`, and thereby see
    /// another path than the policy did.
    ///
    /// Default `false`. Example: `allow_encoded_slash = true`.
    pub allow_encoded_slash: Field<bool>,
    /// How large the body of a request may be, instead of the listener's limit, or `"unlimited"`.
    ///
    /// Default: the listener's; from `"0B"`. Example: `body_bytes_max = "1GB"`.
    pub body_bytes_max: Field<SizeText>,
    /// How much of a request's body is read before the decision, for policies that look at `input.request.body`. What is
    /// longer is passed on whole, and the policy sees its beginning with `truncated` set. The client has `body_timeout` to
    /// send this much. Nothing is read ahead where no policy of the route looks at bodies.
    ///
    /// Default: none, and then a policy that names `input.request.body` is refused for the route; `"1B"` to `"1MiB"`.
    /// Example: `policy_body_max = "64KiB"`.
    pub policy_body_max: Field<SizeText>,
    /// How long the upstream may be silent, instead of the cluster's limit: from the end of the request to the head of the
    /// response, and then between two parts of the body. It says nothing about how long the response lasts. For server-sent
    /// events and model responses it has to be longer than the longest pause; what bounds the whole is `request_timeout`. The
    /// client of a gRPC call may be silent for as long, if that is more than `body_timeout`.
    ///
    /// Default: the cluster's; `"1ms"` to `"1d"`. Example: `response_timeout = "5m"`.
    pub response_timeout: Field<DurationText>,
    /// How long a request may take altogether, from its head to the end of the response, however much moves meanwhile. A request
    /// that is not answered by then gets 504, a gRPC call DEADLINE_EXCEEDED, and a response that has begun is cut. A gRPC call may
    /// ask for less by `grpc-timeout`, and its upstream is told what is left. Streams that are to live leave it away and set
    /// `response_timeout`. Of a tunnel (`upgrade`) it bounds the opening.
    ///
    /// Default `"unlimited"`; `"1ms"` to `"1d"`. Example: `request_timeout = "15s"`.
    pub request_timeout: Field<DurationText>,
    /// `retry = { ... }`: when a request that failed is sent again, instead of what the host says, or `"off"`.
    ///
    /// Default: the host's. Example: `retry = { attempts = 3, status = ["502-504"], per_try_timeout = "2s" }`.
    pub retry: Field<WordOrTable<Retry>>,
    /// The protocols to which a client may switch its connection with `Upgrade`, or a stream of HTTP/2 with an extended
    /// CONNECT. Once the decision has allowed the request and the upstream has agreed (with 101, or 2xx to an extended
    /// CONNECT if its cluster speaks HTTP/2), bytes pass both ways unseen, for as long as the client is trusted: when its
    /// trust is withdrawn, the tunnel is cut within `trust_grace`. A policy sees what is asked for as
    /// `input.request.headers.upgrade`, spelled as here and from HTTP/2 as well (with the method `GET`), and decides about the
    /// opening alone. Without this, `Upgrade` is dropped and the request goes on as if it had none, for policies too.
    ///
    /// A WebSocket handshake is checked on its way, its proof (`Sec-WebSocket-Accept`) too; a request with a body, and one that
    /// offers several protocols of which the route allows one, are refused with 400. CONNECT without a protocol is refused
    /// everywhere: where it leads would be the client's choice.
    ///
    /// Default: none; 1 to 8 names with or without a version. `h2c`, `HTTP/...` and `TLS/...` are refused, since the
    /// requests within would pass no route and no policy. Example: `upgrade = ["websocket"]`.
    pub upgrade: Field<OneOrMany>,
    /// How long a tunnel may be without a byte in either direction before it is closed. Once one side has said that it sends no
    /// more, the listener's `body_timeout` counts instead, if that is less.
    ///
    /// Default `"1h"`; `"100ms"` to `"168h"`. Example: `tunnel_idle_timeout = "10m"`.
    pub tunnel_idle_timeout: Field<DurationText>,
    /// How old a tunnel may become before it is closed, or `"unlimited"`.
    ///
    /// Default `"unlimited"`; `"1s"` to `"720h"`. Example: `tunnel_age_max = "24h"`.
    pub tunnel_age_max: Field<DurationText>,
}

/// `redirect = { ... }` of a route.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "redirect", default, deny_unknown_fields)]
pub struct Redirect {
    /// Where to, as `Location` has it: a text in which `{host}` stands for the host that was asked for (without a port), `{path}` for
    /// the normalised path, `{query}` for the query with its `?`, if there is one, and a name for that parameter of the route's path.
    /// It begins with `/`, or with a host that is written out or is `{host}`.
    ///
    /// Required; up to 2048 bytes. Example: `to = "https://new.example.com/{rest}{query}"`.
    pub to: Field<String>,
    /// The status: 301 and 308 are kept by clients, 302, 303 and 307 are not; after 301, 302 and 303 they may ask with GET.
    ///
    /// Default 308; 301, 302, 303, 307 or 308. Example: `status = 307`.
    pub status: Field<Count>,
}

/// `respond = { ... }` of a route.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "respond", default, deny_unknown_fields)]
pub struct Respond {
    /// The status.
    ///
    /// Required; 200 to 599. Example: `status = 200`.
    pub status: Field<Count>,
    /// The body.
    ///
    /// Default: none; up to 65536 bytes, and none for 204, 205 and 304. Example: `body = "{}"`.
    pub body: Field<String>,
    /// What the body is.
    ///
    /// Default `"text/plain; charset=utf-8"`. Example: `content_type = "application/json"`.
    pub content_type: Field<String>,
}

/// `match = { ... }` of a route.
///
/// Of the routes of a host that could take a request, the path decides first: segment by segment from the left, literals come
/// before `{name}`, and that before `{name...}`; expressions come last, in the order of the file. Of routes with this very path one
/// that names the method comes before one for all. Of those, the one with more conditions (`headers`, `query`, `identity`: each entry
/// is one) comes before one with fewer, and of two with as many the one that stands first in the file. If none of them is met, the answer
/// is 404: no route with another path takes the request. Where a route that is laxer would take it, or one that is stricter is
/// got around by a header, `ringward check` warns.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "match", default, deny_unknown_fields)]
pub struct Match {
    /// The template of the path. `{name}` stands for one whole segment that is not empty, `{name...}` in the last place for
    /// everything that follows, also nothing. Matched against the normalised path, with case; a path with and
    /// one without a trailing `/` are two.
    ///
    /// Required, unless there is `grpc` or `regex`; up to 2048 bytes, 64 segments, 8 names. Example: `path = "/orders/{id}"`,
    /// `path = "/files/{rest...}"`.
    pub path: Field<String>,
    /// The methods, in capitals. `GET` does not include `HEAD`.
    ///
    /// Default: all methods; up to 32. Example: `methods = ["GET", "HEAD"]`.
    pub methods: Field<OneOrMany>,
    /// Instead of path and methods, a method of a gRPC service, or `*` for all methods of one. It stands for POST of
    /// `/package.Service/Method` with the content type of gRPC (`application/grpc`) over HTTP/2, so the listener has
    /// to speak that (`http2`). Anything else at that path gets 405 or 415 and no other route. Policies see the method of
    /// `package.Service/*` as the path parameter `method`.
    ///
    /// Default: none. Example: `grpc = "orders.v1.Orders/Get"`, `grpc = "orders.v1.Orders/*"`.
    pub grpc: Field<String>,
    /// Instead of `path`, a regular expression for the whole normalised path, in the syntax of the regex crate without Unicode
    /// classes, look-around and back-references. It has no parameters, and is asked only where no template takes the path.
    ///
    /// Default: none; begins with `/`, up to 1024 bytes and 256 KiB of states, 64 in a host. Example: `regex = "/v[0-9]+/reports/[a-z-]+"`.
    pub regex: Field<String>,
    /// Header fields that a request must have, by name: a text that the value is, or `{ prefix = "..." }`, `{ regex = "..." }` or
    /// `{ present = true }`. A field that stands several times must meet it each time. Fields that would say who the client is, and
    /// those of the connection, are refused.
    ///
    /// Default: none; 1 to 16. Example: `headers = { "x-tier" = "gold", "x-canary" = { present = true } }`.
    #[schemars(with = "BTreeMap<String, WordOrTable<TextCondition>>")]
    pub headers: Field<BTreeMap<Spanned<String>, Field<WordOrTable<TextCondition>>>>,
    /// The same for parameters of the query, names and values percent-decoded and with `+` for a blank.
    ///
    /// Default: none; 1 to 16. Example: `query = { version = { regex = "[0-9]{1,3}" } }`.
    #[schemars(with = "BTreeMap<String, WordOrTable<TextCondition>>")]
    pub query: Field<BTreeMap<Spanned<String>, Field<WordOrTable<TextCondition>>>>,
    /// What the certificate of the client must say, all of it. Only in routes whose `client_auth` is `"required"` or `"optional"`,
    /// their own or their host's.
    ///
    /// Default: none. Example: `identity = { tenant = "acme" }`, `identity = { san_uri = "spiffe://acme.example/ns/prod/*" }`.
    pub identity: Field<IdentityMatch>,
}

/// What a text has to be, in `headers` and `query` of `match`: one of these.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "a condition of match", default, deny_unknown_fields)]
pub struct TextCondition {
    /// What it begins with.
    ///
    /// Default: none; up to 1024 bytes. Example: `{ prefix = "v1." }`.
    pub prefix: Field<String>,
    /// A regular expression for the whole of it.
    ///
    /// Default: none; as `regex` of `match`. Example: `{ regex = "[0-9]+" }`.
    pub regex: Field<String>,
    /// `true`: it is there, whatever it is. `false`: it is not there.
    ///
    /// Default: none. Example: `{ present = true }`.
    pub present: Field<bool>,
}

/// `identity = { ... }` of `match`. Names are read as `match` of `[tenant.NAME]` reads them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename = "identity of match", default, deny_unknown_fields)]
pub struct IdentityMatch {
    /// The tenant that it belongs to.
    ///
    /// Default: any or none. Example: `{ tenant = "acme" }`.
    pub tenant: Field<String>,
    /// The trust domain of its SPIFFE ID.
    ///
    /// Default: no such condition. Example: `{ spiffe_trust_domain = "acme.example" }`.
    pub spiffe_trust_domain: Field<String>,
    /// A URI among the alternative names, such as its SPIFFE ID: this one, or with `/*` at the end every one below it.
    ///
    /// Default: no such condition. Example: `{ san_uri = "spiffe://acme.example/ns/prod/*" }`.
    pub san_uri: Field<String>,
    /// A DNS name among the alternative names: this one, or with `*.` in front exactly one label before it.
    ///
    /// Default: no such condition. Example: `{ san_dns = "*.acme.example" }`.
    pub san_dns: Field<String>,
    /// A mail address among the alternative names: this one, or with `@` in front every one of that domain.
    ///
    /// Default: no such condition. Example: `{ san_email = "@acme.example" }`.
    pub san_email: Field<String>,
    /// An organizational unit of the subject.
    ///
    /// Default: no such condition. Example: `{ ou = "payments" }`.
    pub ou: Field<String>,
    /// An organization of the subject.
    ///
    /// Default: no such condition. Example: `{ organization = "Acme Ltd" }`.
    pub organization: Field<String>,
    /// An organization identifier of the subject (ETSI EN 319 412-1).
    ///
    /// Default: no such condition. Example: `{ organization_identifier = "PSDGB-FCA-123456" }`.
    pub organization_identifier: Field<String>,
}
