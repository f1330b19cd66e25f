//! One request of the server.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::Shared;
use super::script::{Http2Script, Step};
use crate::http::Headers;
use crate::pattern::{Pattern, Sha256};
use crate::upstream::{Echo, Gate, ReceivedRequest};

/// Why a stream is not gone on with; a client's reset has its code.
type Ended = Option<Reason>;

pub(super) async fn serve(
    shared: Arc<Shared>,
    connection: usize,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut fields: Vec<_> = parts
        .uri
        .authority()
        .map(|authority| ("host".to_owned(), authority.to_string()))
        .into_iter()
        .collect();
    fields.extend(text(&parts.headers));
    let received = ReceivedRequest {
        connection,
        method: parts.method.to_string(),
        target,
        headers: Headers::from_pairs(fields),
        raw_head: Vec::new(),
    };
    shared.record().requests.push(received.clone());
    let path = received.target.split('?').next().unwrap_or_default().to_owned();
    let mut stream = Stream { shared: shared.clone(), body, respond, sending: None };
    let ended = match shared.script(&path) {
        Some(script) => stream.play(script).await,
        None => stream.answer(&path, received).await,
    };
    if let Err(Some(reason)) = ended {
        shared.record().resets.push(reason.into());
    }
}

struct Stream {
    shared: Arc<Shared>,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
}

impl Stream {
    async fn play(&mut self, script: Http2Script) -> Result<(), Ended> {
        for step in script.steps {
            match step {
                Step::ReadBody => drop(self.read_body().await?),
                Step::Interim(status, fields) => {
                    let response = response(status, &fields);
                    self.respond.send_informational(response).map_err(|error| error.reason())?;
                }
                Step::Head { status, fields, ends } => self.head(response(status, &fields), ends)?,
                Step::Data { bytes, ends } => self.data(&bytes, ends).await?,
                Step::SendPattern(pattern) => self.pattern(pattern).await?,
                Step::Trailers(fields) => {
                    let sending = self.sending.as_mut().expect("a head was sent");
                    sending.send_trailers(map(&fields)).map_err(|error| error.reason())?;
                }
                Step::Wait(gate) => self.pass(gate).await?,
                Step::Reset(code) => match &mut self.sending {
                    Some(sending) => sending.send_reset(code.into()),
                    None => self.respond.send_reset(code.into()),
                },
            }
        }
        Ok(())
    }

    async fn answer(&mut self, path: &str, received: ReceivedRequest) -> Result<(), Ended> {
        let (bytes, hash, trailers) = self.read_body().await?;
        let with_body = received.method != "HEAD";
        let number = |prefix| path.strip_prefix(prefix).and_then(|number| number.parse::<u64>().ok());
        if let Some(status) = number("/status/") {
            let length = ("content-length".to_owned(), "0".to_owned());
            let fields = if status == 204 { Vec::new() } else { vec![length] };
            return self.head(response(u16::try_from(status).unwrap_or(500), &fields), true);
        }
        if let Some(bytes) = number("/big/").or_else(|| number("/big-chunked/")) {
            let length = ("content-length".to_owned(), bytes.to_string());
            let fields = if path.starts_with("/big/") { vec![length] } else { Vec::new() };
            self.head(response(200, &fields), !with_body)?;
            if with_body {
                self.pattern(Pattern::new(bytes)).await?;
                self.data(&[], true).await?;
            }
            return Ok(());
        }
        if path == "/trailers" && with_body {
            self.head(response(200, &[]), false)?;
            self.data(b"first ", false).await?;
            self.data(b"second", false).await?;
            let sending = self.sending.as_mut().expect("a head was sent");
            let trailers = map(&[("x-checksum".to_owned(), "ok".to_owned())]);
            return sending.send_trailers(trailers).map_err(|error| error.reason());
        }
        let ReceivedRequest { method, target, headers, .. } = received;
        let echo = Echo { method, target, headers, body_bytes: bytes, body_sha256: hash, trailers };
        let text = serde_json::to_string(&echo).expect("an echo is plain text");
        let fields = [
            ("content-type".to_owned(), "application/json".to_owned()),
            ("content-length".to_owned(), text.len().to_string()),
        ];
        self.head(response(200, &fields), !with_body)?;
        if with_body { self.data(text.as_bytes(), true).await } else { Ok(()) }
    }

    /// Its length, its hash, and the trailers.
    async fn read_body(&mut self) -> Result<(u64, String, Headers), Ended> {
        let (mut bytes, mut hash) = (0, Sha256::new());
        while let Some(data) = self.body.data().await {
            let data = data.map_err(|error| error.reason())?;
            hash.update(&data);
            bytes += data.len() as u64;
            self.body.flow_control().release_capacity(data.len()).map_err(|error| error.reason())?;
        }
        let trailers = self.body.trailers().await.map_err(|error| error.reason())?.unwrap_or_default();
        Ok((bytes, hash.finish_hex(), Headers::from_pairs(text(&trailers).collect())))
    }

    fn head(&mut self, response: Response<()>, ends: bool) -> Result<(), Ended> {
        self.sending = Some(self.respond.send_response(response, ends).map_err(|error| error.reason())?);
        Ok(())
    }

    async fn pattern(&mut self, pattern: Pattern) -> Result<(), Ended> {
        let mut blocks = Vec::new();
        // Blocks are made ahead of their time, at most 64 KiB each.
        pattern
            .for_each_block::<()>(|block| {
                blocks.push(block.to_vec());
                Ok(())
            })
            .expect("collecting");
        for block in blocks {
            self.data(&block, false).await?;
        }
        Ok(())
    }

    async fn data(&mut self, mut bytes: &[u8], ends: bool) -> Result<(), Ended> {
        let sending = self.sending.as_mut().expect("a head was sent");
        while !bytes.is_empty() {
            sending.reserve_capacity(bytes.len());
            let capacity = poll_fn(|cx| sending.poll_capacity(cx)).await;
            let n = match capacity {
                Some(Ok(n)) => n.min(bytes.len()),
                Some(Err(error)) => return Err(error.reason()),
                None => return Err(poll_fn(|cx| sending.poll_reset(cx)).await.ok()),
            };
            let part;
            (part, bytes) = bytes.split_at(n);
            let last = ends && bytes.is_empty();
            sending.send_data(Bytes::copy_from_slice(part), last).map_err(|error| error.reason())?;
            if last {
                return Ok(());
            }
        }
        if ends {
            sending.send_data(Bytes::new(), true).map_err(|error| error.reason())?;
        }
        Ok(())
    }

    async fn pass(&mut self, gate: Gate) -> Result<(), Ended> {
        let given_up = Arc::new(AtomicBool::new(false));
        let passing = tokio::task::spawn_blocking({
            let (given_up, shared) = (given_up.clone(), self.shared.clone());
            move || gate.pass(|| given_up.load(Ordering::Acquire) || shared.is_stopping())
        });
        let Stream { respond, sending, .. } = self;
        let reset = poll_fn(|cx| match sending {
            Some(sending) => sending.poll_reset(cx),
            None => respond.poll_reset(cx),
        });
        tokio::select! {
            _ = passing => Ok(()),
            reset = reset => {
                given_up.store(true, Ordering::Release);
                Err(reset.ok())
            }
        }
    }
}

fn response(status: u16, fields: &[(String, String)]) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = map(fields);
    response
}

fn map(fields: &[(String, String)]) -> HeaderMap {
    let pair = |(name, value): &(String, String)| {
        (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"))
    };
    fields.iter().map(pair).collect()
}

fn text(map: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    map.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
}
