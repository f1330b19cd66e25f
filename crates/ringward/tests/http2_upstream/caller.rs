//! A client of either protocol, for tests that want the same of both.

use std::collections::HashMap;

use ringward_testkit::{ClientError, Connection, Echo, Frame, Http2, Pattern, flags, kind};

use super::support::Gateway;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

pub(super) const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

/// A response as far as both protocols let it be seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) interim: Vec<u16>,
    pub(super) body: Vec<u8>,
    pub(super) has_trailers: bool,
    pub(super) ended: bool,
    pub(super) reset: Option<u32>,
}

impl Answer {
    #[track_caller]
    pub(super) fn echo(&self) -> Echo {
        assert_eq!(self.status, 200);
        serde_json::from_slice(&self.body).expect("an echo")
    }
}

/// A client on a connection of its own.
pub(super) enum Caller {
    Http1(Box<Connection>),
    Http2(Box<Streams>),
}

impl Caller {
    #[track_caller]
    pub(super) fn new(gateway: &Gateway, speaks: Speaks) -> Caller {
        match speaks {
            Speaks::Http1 => Caller::Http1(Box::new(gateway.connect())),
            Speaks::Http2 => Caller::Http2(Box::new(Streams::new(gateway, &[]))),
        }
    }

    #[track_caller]
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// Sends a request, its body with a length, and reads the response.
    #[track_caller]
    pub(super) fn request(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        match self {
            Caller::Http1(connection) => answer(connection.request(method, path, fields, body)),
            Caller::Http2(streams) => {
                let length = body.len().to_string();
                let mut fields = fields.to_vec();
                if !body.is_empty() {
                    fields.push(("content-length", &length));
                }
                let stream = streams.begin(method, path, &fields, body.is_empty());
                if !body.is_empty() {
                    streams.send(stream, body, true);
                }
                streams.finish(stream)
            }
        }
    }

    /// Sends a large body, with a length or without, and reads the response.
    #[track_caller]
    pub(super) fn upload(&mut self, path: &str, body: Pattern, with_length: bool) -> Answer {
        match self {
            Caller::Http1(connection) => answer(connection.upload(path, body, !with_length)),
            Caller::Http2(streams) => {
                let length = body.len().to_string();
                let fields: &[(&str, &str)] = if with_length { &[("content-length", &length)] } else { &[] };
                let stream = streams.begin("POST", path, fields, false);
                body.for_each_block::<()>(|block| {
                    streams.send(stream, block, false);
                    Ok(())
                })
                .expect("sending does not fail");
                streams.send(stream, b"", true);
                streams.finish(stream)
            }
        }
    }

    /// Sends a body without a length, and trailers behind it.
    #[track_caller]
    pub(super) fn upload_with_trailers(
        &mut self,
        path: &str,
        body: &str,
        trailers: &[(&str, &str)],
    ) -> Answer {
        match self {
            Caller::Http1(connection) => {
                let head = connection.head("POST", path, &[("transfer-encoding", "chunked")]);
                let mut message = format!("{:x}\r\n{body}\r\n0\r\n", body.len());
                trailers.iter().for_each(|(name, value)| message += &format!("{name}: {value}\r\n"));
                connection.send(&[&head, (message + "\r\n").as_bytes()].concat()).expect("send a request");
                answer(connection.response())
            }
            Caller::Http2(streams) => {
                let stream = streams.begin("POST", path, &[], false);
                streams.send(stream, body.as_bytes(), false);
                streams.trailers(stream, trailers);
                streams.finish(stream)
            }
        }
    }
}

#[track_caller]
fn answer(response: Result<ringward_testkit::Response, ClientError>) -> Answer {
    match response {
        Ok(response) => Answer {
            status: response.status,
            interim: response.interim,
            body: response.body,
            has_trailers: response.trailers.iter().next().is_some(),
            ended: true,
            reset: None,
        },
        Err(ClientError::Timeout) => panic!("no response"),
        Err(_) => Answer { reset: Some(0), ..Answer::default() },
    }
}

/// Several requests on a connection of HTTP/2, with flow control as it should be.
pub(super) struct Streams {
    pub(super) http2: Http2,
    next: u32,
    answers: HashMap<u32, Answer>,
    /// What may be sent, by stream, and on the connection as 0.
    windows: HashMap<u32, usize>,
    /// The windows of these streams are not given back.
    pub(super) frozen: Vec<u32>,
}

impl Streams {
    #[track_caller]
    pub(super) fn new(gateway: &Gateway, settings: &[(u16, u32)]) -> Streams {
        let connection =
            gateway.client().alpn(&["h2"]).connect(gateway.edge).expect("a trusted client connects");
        let http2 = Http2::new(connection, settings);
        Streams {
            http2,
            next: 1,
            answers: HashMap::new(),
            windows: HashMap::from([(0, INITIAL_WINDOW)]),
            frozen: Vec::new(),
        }
    }

    #[track_caller]
    pub(super) fn begin(&mut self, method: &str, path: &str, fields: &[(&str, &str)], ends: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.windows.insert(stream, INITIAL_WINDOW);
        self.answers.insert(stream, Answer::default());
        self.http2.request(stream, method, path, fields, ends).expect("send a head");
        stream
    }

    /// Sends a piece of a body as far as the server wants it: none of it once it has answered.
    #[track_caller]
    pub(super) fn send(&mut self, stream: u32, mut bytes: &[u8], ends: bool) {
        while !bytes.is_empty() {
            let n = bytes.len().min(self.windows[&0]).min(self.windows[&stream]).min(FRAME_MAX);
            let answer = &self.answers[&stream];
            if answer.ended || answer.reset.is_some() {
                return;
            }
            if n == 0 {
                self.take();
                continue;
            }
            let part;
            (part, bytes) = bytes.split_at(n);
            let flags = if ends && bytes.is_empty() { flags::END_STREAM } else { 0 };
            self.http2.send(kind::DATA, flags, stream, part).expect("send a body");
            *self.windows.get_mut(&0).expect("the connection's") -= n;
            *self.windows.get_mut(&stream).expect("the stream's") -= n;
            if flags != 0 {
                return;
            }
        }
        if ends {
            self.http2.send(kind::DATA, flags::END_STREAM, stream, b"").expect("send a body");
        }
    }

    #[track_caller]
    pub(super) fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        let flags = flags::END_HEADERS | flags::END_STREAM;
        self.http2.send(kind::HEADERS, flags, stream, &block).expect("send trailers");
    }

    /// Reads until the stream has ended.
    #[track_caller]
    pub(super) fn finish(&mut self, stream: u32) -> Answer {
        self.wait(stream, |answer| answer.ended || answer.reset.is_some())
    }

    /// Reads until it has come so far with the stream.
    #[track_caller]
    pub(super) fn wait(&mut self, stream: u32, far_enough: impl Fn(&Answer) -> bool) -> Answer {
        while !far_enough(&self.answers[&stream]) {
            self.take();
        }
        self.answers[&stream].clone()
    }

    #[track_caller]
    fn take(&mut self) {
        let frame = self.http2.frame().expect("a frame comes");
        if frame.kind == kind::WINDOW_UPDATE {
            let moved = u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes")) as usize;
            *self.windows.entry(frame.stream).or_insert(INITIAL_WINDOW) += moved;
        }
        self.file(&frame);
    }

    fn file(&mut self, frame: &Frame) {
        let Some(answer) = self.answers.get_mut(&frame.stream) else { return };
        match frame.kind {
            kind::HEADERS if answer.status >= 200 => answer.has_trailers = true,
            kind::HEADERS if frame.status() < 200 => answer.interim.push(frame.status()),
            kind::HEADERS => answer.status = frame.status(),
            kind::DATA => answer.body.extend_from_slice(&frame.payload),
            kind::RST_STREAM => answer.reset = Some(frame.code()),
            _ => {}
        }
        answer.ended |=
            matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.flags & flags::END_STREAM != 0;
        let moved = u32::try_from(frame.payload.len()).expect("a frame").to_be_bytes();
        if frame.kind == kind::DATA && !frame.payload.is_empty() && !self.frozen.contains(&frame.stream) {
            // The server may have ended the connection meanwhile.
            let _ = self.http2.send(kind::WINDOW_UPDATE, 0, 0, &moved);
            if !answer.ended {
                let _ = self.http2.send(kind::WINDOW_UPDATE, 0, frame.stream, &moved);
            }
        }
    }
}

const INITIAL_WINDOW: usize = 65_535;
const FRAME_MAX: usize = 16_384;
