//! The server's side of a connection of HTTP/2, frame by frame, for what no well-behaved server does.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::{Frame, fields_block, flags, frame, kind};
use crate::DEADLINE;

/// A connection on which a test plays the server. Preface and settings are exchanged.
#[derive(Debug)]
pub struct PlayedHttp2 {
    stream: TcpStream,
}

impl PlayedHttp2 {
    /// Takes the client's preface and settings, and sends `settings`, identifiers and values.
    ///
    /// # Panics
    /// If the client does not begin as RFC 9113 §3.4 asks for.
    #[track_caller]
    pub fn new(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        let mut played = Self { stream };
        let mut preface = [0; 24];
        played.stream.read_exact(&mut preface).expect("the client sends its preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        played.send(kind::SETTINGS, 0, 0, &settings);
        played
    }

    /// Sends one frame.
    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).expect("the client takes a frame");
    }

    /// Sends a head, `:status` among the fields if it is one.
    #[track_caller]
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let ends = if ends { flags::END_STREAM } else { 0 };
        self.send(kind::HEADERS, flags::END_HEADERS | ends, stream, &fields_block(fields));
    }

    /// Reads the next frame; settings and pings are confirmed.
    pub fn frame(&mut self) -> io::Result<Frame> {
        let frame = self.frame_unanswered()?;
        if matches!(frame.kind, kind::SETTINGS | kind::PING) && frame.flags & flags::ACK == 0 {
            let payload = if frame.kind == kind::PING { &frame.payload[..] } else { &[] };
            self.send(frame.kind, flags::ACK, 0, payload);
        }
        Ok(frame)
    }

    /// Reads the next frame and confirms nothing.
    pub fn frame_unanswered(&mut self) -> io::Result<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        Ok(Frame { kind: header[3], flags: header[4], stream, payload })
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

    /// Reads until the client closes; the code of its GOAWAY, if it sent one.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<u32> {
        let mut code = None;
        loop {
            match self.frame() {
                Ok(frame) if frame.kind == kind::GOAWAY => code = Some(frame.code()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("the client does not end"),
                Err(_) => return code,
            }
        }
    }

    /// The connection below.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
