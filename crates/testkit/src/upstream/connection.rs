//! One connection of the upstream.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use super::script::{Script, Step, head};
use super::{Echo, ReceivedRequest, Shared};
use crate::http::{BodyEnd, Framing, Head, Incoming, MessageError, malformed, request_framing};
use crate::pattern::{Pattern, Sha256};

/// Serves requests until one of both sides closes.
pub(super) fn serve(stream: TcpStream, number: usize, shared: &Shared) {
    // Only makes scripted pieces arrive as they are sent.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection { incoming: Incoming::new(stream), number, shared };
    loop {
        match connection.serve_request() {
            Ok(After::KeepAlive) => {}
            Ok(After::Close) => break connection.close(),
            Ok(After::Reset) => break connection.reset(),
            Err(MessageError::Io(_)) => break,
            Err(error) => {
                if !shared.is_stopping() {
                    shared.record().errors.push(format!("connection {number}: {error}"));
                }
                break connection.close();
            }
        }
    }
}

struct Connection<'s> {
    incoming: Incoming<TcpStream>,
    number: usize,
    shared: &'s Shared,
}

#[derive(PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    Reset,
}

struct Request {
    received: ReceivedRequest,
    framing: Framing,
    keeps_alive: bool,
}

impl Connection<'_> {
    fn serve_request(&mut self) -> Result<After, MessageError> {
        let Some(head) = self.incoming.head()? else {
            return Ok(After::Close);
        };
        let request = parse_request(self.number, head)?;
        self.shared.record().requests.push(request.received.clone());
        let path = request.received.target.split('?').next().unwrap_or_default();
        match self.shared.script(path) {
            Some(script) => self.play(&script, &request),
            None => self.answer(path, &request),
        }
    }

    fn play(&mut self, script: &Script, request: &Request) -> Result<After, MessageError> {
        let mut body_read = request.framing == Framing::Length(0);
        for step in &script.steps {
            match step {
                Step::ReadBody => {
                    self.read_body(request.framing, &mut |_| {})?;
                    body_read = true;
                }
                Step::Send(bytes) => self.send(bytes)?,
                Step::Trickle(bytes, pause) => self.trickle(bytes, *pause)?,
                Step::SendPattern(pattern) => pattern.write_to(self.incoming.stream_mut())?,
                Step::Wait(gate) => gate.pass(|| self.shared.is_stopping()),
                Step::Close => return Ok(After::Close),
                Step::Reset => return Ok(After::Reset),
            }
        }
        Ok(if body_read && request.keeps_alive { After::KeepAlive } else { After::Close })
    }

    fn answer(&mut self, path: &str, request: &Request) -> Result<After, MessageError> {
        if request.received.headers.lists("expect", "100-continue") {
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut hash = Sha256::new();
        let body = self.read_body(request.framing, &mut |part| hash.update(part))?;
        let with_body = request.received.method != "HEAD";
        if let Some(status) = number_after(path, "/status/") {
            let status = u16::try_from(status).unwrap_or(500);
            // RFC 9110 §8.6: no content-length with 204.
            let length = (status != 204).then_some(("content-length", "0"));
            self.send(head(status, length).as_bytes())?;
        } else if let Some(bytes) = number_after(path, "/big/") {
            self.send(head(200, [("content-length", &*bytes.to_string())]).as_bytes())?;
            if with_body {
                Pattern::new(bytes).write_to(self.incoming.stream_mut())?;
            }
        } else if let Some(bytes) = number_after(path, "/big-chunked/") {
            self.send(head(200, [("transfer-encoding", "chunked")]).as_bytes())?;
            if with_body {
                self.send_chunked(Pattern::new(bytes))?;
            }
        } else if path == "/trailers" && with_body {
            let script = Script::new().respond_chunked(
                200,
                &[("trailer", "x-checksum")],
                &["first ", "second"],
                &[("x-checksum", "ok")],
            );
            self.play(&script, request)?;
        } else {
            self.send_echo(request, body, hash.finish_hex())?;
        }
        Ok(if request.keeps_alive { After::KeepAlive } else { After::Close })
    }

    /// A proxy may end what it cannot complete by a reset, which is then the end of a broken request like any other.
    fn read_body(&mut self, framing: Framing, sink: &mut dyn FnMut(&[u8])) -> Result<BodyEnd, MessageError> {
        self.incoming.body(framing, sink).map_err(|error| match error {
            MessageError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                MessageError::Ended("within a body, by a reset")
            }
            other => other,
        })
    }

    fn send_echo(&mut self, request: &Request, body: BodyEnd, body_sha256: String) -> io::Result<()> {
        let echo = Echo {
            method: request.received.method.clone(),
            target: request.received.target.clone(),
            headers: request.received.headers.clone(),
            body_bytes: body.bytes,
            body_sha256,
            trailers: body.trailers,
        };
        let text = serde_json::to_string(&echo).expect("an echo is plain text");
        let length = text.len().to_string();
        let head = head(200, [("content-type", "application/json"), ("content-length", &length)]);
        let with_body = request.received.method != "HEAD";
        self.send((head + if with_body { &text } else { "" }).as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.incoming.stream_mut().write_all(bytes)
    }

    fn send_chunked(&mut self, pattern: Pattern) -> io::Result<()> {
        pattern.for_each_block(|block| {
            let size = format!("{:x}\r\n", block.len());
            self.send(&[size.as_bytes(), block, b"\r\n"].concat())
        })?;
        self.send(b"0\r\n\r\n")
    }

    fn trickle(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Ends our direction, then reads until the peer ends its own: closing a socket with unread data would reset
    /// the connection, and the peer could lose what was sent to it (RFC 9112 §9.6).
    fn close(&mut self) {
        let stream = self.incoming.stream_mut();
        let mut dropped = [0; 16 * 1024];
        if stream.shutdown(Shutdown::Write).is_ok() {
            while matches!(stream.read(&mut dropped), Ok(1..)) {}
        }
    }

    fn reset(&mut self) {
        let stream = self.incoming.stream();
        let socket = socket2::SockRef::from(stream);
        socket.set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
        // The record holds a second handle, and the socket is closed with its last one.
        self.shared.record().open.remove(&self.number);
    }
}

fn parse_request(connection: usize, head: Head) -> Result<Request, MessageError> {
    let parts: Vec<&str> = head.start_line.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = parts[..] else {
        return Err(malformed(format!("request line {:?}", head.start_line)));
    };
    if method.is_empty() || target.is_empty() {
        return Err(malformed(format!("request line {:?}", head.start_line)));
    }
    if version == "HTTP/1.1" && head.headers.all("host").len() != 1 {
        return Err(malformed(format!("host {:?}", head.headers.all("host"))));
    }
    let framing = request_framing(&head.headers)?;
    let keeps_alive = version == "HTTP/1.1" && !head.headers.lists("connection", "close");
    let received = ReceivedRequest {
        connection,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: head.headers,
        raw_head: head.raw,
    };
    Ok(Request { received, framing, keeps_alive })
}

fn number_after(path: &str, prefix: &str) -> Option<u64> {
    path.strip_prefix(prefix)?.parse().ok()
}
