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
//! - `seat.rs` has the tasks in which streams are served.
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
//! **Tunnels** (RFC 8441): where a route of the listener has `upgrade`, an extended CONNECT is what `Upgrade` is on HTTP/1.1,
//! for everybody behind `stream.rs`; in a tunnel (`tunnel.rs`) DATA are its bytes and END_STREAM ends a direction.
//!
//! **What a client can make us do**, and what bounds it; `deploy/manual/security.md` has the list by attack. Work without use is counted by the
//! meter, in frames: budgets that grow with time and with requests that were *answered to their end*, so that nobody earns
//! anything by calling off. What only the crate sees, it bounds: resets that the client provokes (`PROVOKED_RESETS_MAX`), small
//! DATA frames that wait, the size of decoded heads, the tables of HPACK (4 KiB in each direction). Memory is bounded per
//! stream, by `STREAM_WINDOW_BYTES` in and `SEND_BYTES_MAX` out, which in the buffers that they take are about 160 KiB for a response
//! that the client does not take off the wire and 30 KiB for one that it does not open its window for; both are given
//! up after `body_timeout`. A connection of `streams_max` = 100 holds some 16 MiB at most.
//!
//! **Turns.** What a connection may do before the worker looks after the others is bounded, too: so many bytes and frames are handed to
//! the protocol (`TURN_BYTES`, `TURN_FRAMES`) and so many streams taken on (`TURN_STREAMS`), then the task waits for its next
//! turn ([`crate::io::Turnstile`]), for which connections queue. Sockets of upstreams that a client makes us open and give up, a
//! hundred at once when its connection begins or ends, are opened and closed in turns as well.
//!
//! What the crate refuses by itself has no record, since nobody knows what it would have said: malformed heads, those beyond
//! the limits of heads or streams; they are counted (`ringward_streams_unserved_total`). A fragment in `:path`, which HTTP/1.1
//! refuses, is cut off by the `http` crate when the `h2` crate makes a request of the head, and the text as it came is shown to
//! nobody; so nobody decides, records or serves by it. Should it be shown one day, [`ringward_http::RequestHead::take_http2`]
//! refuses it.
//!
//! Not here: CONNECT to an address that the client names, and server push, which no client wants any more.

mod body;
mod course;
mod piece;
mod response;
mod room;
mod seat;
mod stream;
mod tunnel;
mod wire;

pub(crate) use course::run;
pub(crate) use piece::Piece;
pub(crate) use response::Named;
pub(crate) use room::poll_room;
pub(crate) use seat::Seats;
pub(crate) use wire::{ByteSink, ByteSource, Socket, Wire, receive, transmit};
