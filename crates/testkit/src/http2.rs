//! A client of HTTP/2 (and a server, [`PlayedHttp2`]) that writes its frames one by one, so that a test can write any.
//!
//! Knows RFC 9113 and as much of HPACK (RFC 7541) as it needs: it writes every field as a literal, and allows no table for those
//! that it reads.

mod fields;

mod played;

pub use played::PlayedHttp2;

use crate::client::{ClientError, Connection};

/// A connection on which HTTP/2 is spoken. Its preface and settings are sent.
#[derive(Debug)]
pub struct Http2 {
    connection: Connection,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type: one of [`kind`].
    pub kind: u8,
    /// Its flags: some of [`flags`].
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Types of frames (RFC 9113 §6).
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub mod flags {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
}

impl Http2 {
    /// Begins to speak. `settings` are identifiers and values; a table size of 0 for HPACK is added.
    ///
    /// # Panics
    /// If the connection has not agreed on `h2`, or is gone.
    pub fn new(connection: Connection, settings: &[(u16, u32)]) -> Self {
        assert_eq!(connection.alpn(), Some(&b"h2"[..]), "the server agrees to speak HTTP/2");
        let mut http2 = Self { connection };
        http2.connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("send the preface");
        let settings: Vec<u8> = [(HEADER_TABLE_SIZE, 0)]
            .iter()
            .chain(settings)
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        http2.send(kind::SETTINGS, 0, 0, &settings).expect("send the settings");
        http2
    }

    /// Sends one frame.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), ClientError> {
        self.connection.send(&frame(kind, flags, stream, payload))
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.connection.send(bytes)
    }

    /// Sends the same frame many times, in one write. An error means that the server has had enough.
    pub fn send_many(&mut self, count: usize, frames: &[u8]) -> Result<(), ClientError> {
        self.connection.send(&frames.repeat(count))
    }

    /// Sends the head of a request for the host of the connection's client. With `ends`, it has no body.
    pub fn request(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        ends: bool,
    ) -> Result<(), ClientError> {
        let host = self.connection.host().to_owned();
        let mut all = vec![(":method", method), (":scheme", "https"), (":path", path), (":authority", &host)];
        all.extend(fields);
        self.head(stream, &all, ends)
    }

    /// Sends a head with exactly these fields.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) -> Result<(), ClientError> {
        let flags = if ends { flags::END_HEADERS | flags::END_STREAM } else { flags::END_HEADERS };
        self.send(kind::HEADERS, flags, stream, &fields_block(fields))
    }

    /// Reads the next frame; settings and pings are confirmed.
    pub fn frame(&mut self) -> Result<Frame, ClientError> {
        let header = self.connection.exactly(9)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let frame = Frame {
            kind: header[3],
            flags: header[4],
            stream: u32::from_be_bytes([header[5], header[6], header[7], header[8]]),
            payload: self.connection.exactly(length)?,
        };
        if matches!(frame.kind, kind::SETTINGS | kind::PING) && frame.flags & flags::ACK == 0 {
            let payload = if frame.kind == kind::PING { &frame.payload[..] } else { &[] };
            self.send(frame.kind, flags::ACK, 0, payload)?;
        }
        Ok(frame)
    }

    /// Reads frames until one is of this type, and gives that one.
    #[track_caller]
    pub fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().unwrap_or_else(|error| panic!("no frame of type {kind} comes: {error}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads a whole response: its status, its body, and whether trailers came. Windows are given back as it comes.
    #[track_caller]
    pub fn response(&mut self, stream: u32) -> (u16, Vec<u8>, bool) {
        let (mut status, mut body, mut trailers) = (0, Vec::new(), false);
        loop {
            let frame = self.frame().expect("a response comes");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                kind::HEADERS if status >= 200 => trailers = true,
                kind::HEADERS => status = frame.status(),
                kind::DATA => {
                    let moved = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                    body.extend_from_slice(&frame.payload);
                    if frame.flags & flags::END_STREAM == 0 && !frame.payload.is_empty() {
                        self.send(kind::WINDOW_UPDATE, 0, 0, &moved).unwrap();
                        self.send(kind::WINDOW_UPDATE, 0, stream, &moved).unwrap();
                    }
                }
                kind::RST_STREAM => panic!("the stream was reset: {:?}", frame.code()),
                _ => {}
            }
            if frame.flags & flags::END_STREAM != 0 && matches!(frame.kind, kind::HEADERS | kind::DATA) {
                return (status, body, trailers);
            }
        }
    }

    /// Reads until the connection ends; the code of the last GOAWAY.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<u32> {
        let mut code = None;
        loop {
            match self.frame() {
                Ok(frame) if frame.kind == kind::GOAWAY => code = Some(frame.code()),
                Ok(_) => {}
                Err(ClientError::Timeout) => panic!("the server does not end the connection"),
                Err(_) => return code,
            }
        }
    }

    /// The connection alone.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// The connection below.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// The fields in HEADERS, pseudo-header fields included.
    pub fn fields(&self) -> Vec<(String, String)> {
        fields::read(&self.payload)
    }

    /// The status in HEADERS.
    pub fn status(&self) -> u16 {
        let fields = self.fields();
        let status = fields.iter().find(|(name, _)| name == ":status").expect("a status");
        status.1.parse().expect("a number")
    }
}

/// One frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals without indexing (RFC 7541 §6.2.2).
pub fn fields_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // RFC 7541 §5.1: 7 bits, then groups of 7.
            let mut length = text.len();
            if length < 0x7f {
                block.push(length as u8);
            } else {
                block.push(0x7f);
                length -= 0x7f;
                while length >= 0x80 {
                    block.push((length & 0x7f) as u8 | 0x80);
                    length >>= 7;
                }
                block.push(length as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 9113 §6.5.2.
const HEADER_TABLE_SIZE: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_form() {
        let headers =
            |payload: &[u8]| Frame { kind: kind::HEADERS, flags: 4, stream: 1, payload: payload.into() };
        assert_eq!(headers(&[0x88]).status(), 200);
        assert_eq!(headers(&[0x20, 0x8d]).status(), 404);
        assert_eq!(headers(b"\x08\x03421").status(), 421);
        // RFC 7541 C.6.1: 302 in two bytes.
        assert_eq!(headers(&[0x48, 0x82, 0x64, 0x02]).status(), 302);
    }

    #[test]
    fn long_fields_have_their_length_in_several_bytes() {
        let value = "v".repeat(300);
        let block = fields_block(&[("a", &value)]);
        assert_eq!(&block[..6], [0, 1, b'a', 0x7f, 0xad, 0x01]);
        assert_eq!(block.len(), 6 + 300);
    }
}
