//! Plays the steps of a row on one connection, of either version of HTTP, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ringward_testkit::{DEADLINE, flags, frame, kind};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::Step;
use super::client::Cues;

/// A connection of the proxy.
pub(super) struct Wire {
    stream: Stream,
    http2: bool,
    /// What was read and not yet used.
    received: Vec<u8>,
    /// The stream of HTTP/2 that was asked on last.
    asked: u32,
    /// Whether the proxy has given up this stream.
    is_left: bool,
    body: u64,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// How far the other side has come.
#[derive(PartialEq)]
enum Came {
    Head,
    Something,
    End,
}

impl Wire {
    /// Completes a handshake if there is one. Fails if the proxy does not like it.
    pub(super) fn open(tcp: TcpStream, tls: Option<Arc<ServerConfig>>, http2: bool) -> io::Result<Wire> {
        tcp.set_read_timeout(Some(DEADLINE))?;
        tcp.set_write_timeout(Some(DEADLINE))?;
        tcp.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let mut tls = StreamOwned::new(ServerConnection::new(config).expect("a server"), tcp);
                while tls.conn.is_handshaking() {
                    tls.conn.complete_io(&mut tls.sock)?;
                }
                Stream::Tls(Box::new(tls))
            }
        };
        Ok(Wire { stream, http2, received: Vec::new(), asked: 0, is_left: false, body: 0 })
    }

    /// Plays all steps; what is left of the connection then ends in order, so that nothing else is asked on it.
    pub(super) fn play(mut self, steps: &[Step], cues: &Cues, case: &str) {
        for step in steps {
            match step {
                Step::Head => self.head(case),
                Step::Body(count) => {
                    while self.body < *count {
                        assert!(self.take(case) != Came::End, "{case}: the body ends after {}", self.body);
                    }
                }
                Step::Send(bytes) => self.send(bytes).unwrap_or_else(|error| panic!("{case}: {error}")),
                Step::Flood(bytes) => while self.send(bytes).is_ok() && !self.was_left(case) {},
                Step::ClientHasHead => cues.head.wait(case),
                Step::ClientHasResponse => cues.response.wait(case),
                Step::LetItAsk => cues.ask_again.give(),
                Step::Idle => cues.response.wait(case),
                // What comes counts as a body.
                Step::Mute => (self.http2, self.asked) = (false, 1),
                Step::IsLeft => {
                    while !self.is_left && self.take(case) != Came::End {}
                    self.is_left = false;
                }
                Step::Close => return self.close(case),
                Step::Truncate => {
                    self.tcp().shutdown(Shutdown::Write).expect("it is open");
                    while self.take(case) != Came::End {}
                    return;
                }
                Step::Reset => {
                    SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
                    return;
                }
                // What comes is the handshake, and counts as a body.
                Step::BelowTls => self.asked = 1,
            }
        }
        // A kept connection of HTTP/1.1 is looked at when it is to be used, or has idled too long: no need to wait for that.
        if self.http2 {
            self.leave();
            self.close(case);
        }
    }

    /// Says in HTTP/2 that nothing more is to be asked, so that the end of the connection meets no request.
    fn leave(&mut self) {
        if self.http2 && self.asked != 0 {
            let last = [&self.asked.to_be_bytes()[..], &[0; 4]].concat();
            // It may be gone.
            let _ = self.send(&frame(kind::GOAWAY, 0, 0, &last));
        }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }

    /// Ends in order, with nothing unread, which would be a reset.
    fn close(&mut self, case: &str) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        let _ = self.tcp().shutdown(Shutdown::Write);
        // Whoever keeps it is not done with it, and that is a leak.
        while self.take(case) != Came::End {}
    }

    fn head(&mut self, case: &str) {
        if !self.http2 {
            self.asked = 0;
        }
        loop {
            match self.take(case) {
                Came::Head => return,
                Came::Something => {}
                Came::End => panic!("{case}: the proxy closes and asks for nothing"),
            }
        }
    }

    /// Whether the proxy has given up already, as far as it can be seen without waiting.
    fn was_left(&mut self, case: &str) -> bool {
        self.tcp().set_read_timeout(Some(Duration::from_millis(1))).expect("set a timeout");
        let end = self.take_if_any(case) == Some(Came::End);
        self.tcp().set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        end || self.is_left
    }

    #[track_caller]
    fn take(&mut self, case: &str) -> Came {
        self.take_if_any(case).unwrap_or_else(|| panic!("{case}: the proxy neither goes on nor leaves"))
    }

    /// Takes the next piece of what the proxy sends. Nothing if none comes in time.
    fn take_if_any(&mut self, case: &str) -> Option<Came> {
        loop {
            let came = if self.http2 { self.frame(case) } else { self.text() };
            if came.is_some() {
                return came;
            }
            let mut block = vec![0; 65_536];
            let read = match &mut self.stream {
                Stream::Plain(tcp) => tcp.read(&mut block),
                Stream::Tls(tls) => tls.read(&mut block),
            };
            match read {
                Ok(0) => return Some(Came::End),
                Ok(count) => self.received.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Some(Came::End),
            }
        }
    }

    /// A piece of HTTP/1.1, if one is here.
    fn text(&mut self) -> Option<Came> {
        if self.asked == 0 {
            let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
            self.received.drain(..end + 4);
            (self.asked, self.body) = (1, 0);
            return Some(Came::Head);
        }
        let count = std::mem::take(&mut self.received).len() as u64;
        self.body += count;
        (count > 0).then_some(Came::Something)
    }

    /// A frame, if one is here. Settings and pings are confirmed, windows are not given back.
    fn frame(&mut self, case: &str) -> Option<Came> {
        if self.received.starts_with(PREFACE) {
            self.received.drain(..PREFACE.len());
            let _ = self.send(&frame(kind::SETTINGS, 0, 0, &[]));
        }
        let header = self.received.get(..9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, with) = (header[3], header[4]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        if self.received.len() < 9 + length {
            return None;
        }
        let payload = self.received.drain(..9 + length).skip(9).collect::<Vec<u8>>();
        match kind {
            kind::HEADERS => {
                (self.asked, self.body, self.is_left) = (stream, 0, false);
                return Some(Came::Head);
            }
            kind::DATA => self.body += payload.len() as u64,
            kind::RST_STREAM => self.is_left = true,
            kind::SETTINGS | kind::PING if with & flags::ACK == 0 => {
                let echo = if kind == kind::PING { &payload[..] } else { &[] };
                let _ = self.send(&frame(kind, flags::ACK, 0, echo));
            }
            _ => assert!(kind <= kind::CONTINUATION, "{case}: a frame of type {kind}"),
        }
        Some(Came::Something)
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
