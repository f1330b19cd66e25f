//! HTTP/2 to clients (RFC 9113), on the `h2` crate over our TLS session. HTTP/2 to upstreams is in
//! [`crate::upstream::http2`].
//!
//! After the handshake a connection takes one of two courses, by its ALPN: that of HTTP/1.1 in [`crate::connection`], one
//! exchange after the other on the connection itself, or this one, with a task for each stream:
//!
//! - `wire.rs` carries plaintext between the TLS session and the `h2` crate, in the connection's task. What arrives passes the
//!   **meter** ([`ringward_http::FrameMeter`]) first, which counts frames that cost us more than the client.
//! - `course.rs` is the connection: it takes streams on, as many at a time as `streams_max`, and decides how it waits and how
//!   it ends.
//! - `stream.rs` is one request: its head becomes a [`ringward_http::RequestHead`] under the rules of HTTP/1.1, and
//!   [`crate::exchange::run`] serves it, for which the stream is a [`crate::client_side::ClientSide`]. `body.rs` is where its body
//!   comes from and `response.rs` where the response goes.
//!
//! Streams share what [`crate::connection::Connection`] has: who the client is, its standing (so each request passes the gate),
//! what policies see of it. What is a stream's own is its body, its response, and its deadline: a timer, since the socket
//! belongs to all. A client's reset ends the exchange at once, wherever it waits, and with it the upstream's connection.
//!
//! **Flow control** is end to end: a body's window is given back when the upstream has taken the bytes, and the upstream is
//! read when the client's window and the stream's share of the send buffer (`SEND_BYTES_MAX`) have room. A stream that stands
//! still holds up others only when such streams have used up the connection's window.
//!
//! **gRPC.** A call is a request like any other, but for what its client is told of an error, which is a head with `grpc-status`
//! ([`crate::grpc`]).
//!
//! **The end.** What makes an HTTP/1.1 connection say `Connection: close` makes this one send GOAWAY and finish what runs:
//! drain, age, number of requests. When the gate refuses a stream, it is reset as not processed, and so are those after it;
//! those that run have `trust_grace`. A flood ends the connection with ENHANCE_YOUR_CALM, an idle one ends after
//! `idle_timeout`, and a head that does not end after `header_timeout`.
//!
//! Not here: CONNECT in either form, server push, which no client wants any more.

mod body;
mod course;
mod piece;
mod response;
mod stream;
mod tunnel;
mod wire;

pub(crate) use course::run;
pub(crate) use piece::Piece;
pub(crate) use response::Named;
pub(crate) use wire::{ByteSink, ByteSource, Socket, Wire, receive, transmit};
