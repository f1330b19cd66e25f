//! Copies of requests for another cluster (`mirror` of a route).
//!
//! A copy begins when its request leaves for the first time, so that it is of one that was admitted, decided about and connected on
//! the generation in force. What it is made of is written down then: the head as the upstream gets it, and the body as it passes
//! ([`Tap`]). A task of its own sends it, once, and reads the answer without keeping any of it. The request knows nothing of what
//! comes of that, and never waits.
//!
//! What a copy may take is bounded: how many there are ([`Place`]), what is held of a body, how long each step may take, how much of an
//! answer is read. A worker that is told to end does not wait for them.

mod answer;
mod tap;

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::{Duration, Instant},
};

use ringward_config::{self as config, Forward, ForwardMode, XfccMode};
use ringward_http::{HeadLimits, RequestHead};
use ringward_telemetry::{ClusterId, GrpcStatus, MirrorOutcome};

pub(crate) use self::tap::Tap;
use self::{
    answer::Nobody,
    tap::{Next, Tapped},
};
use crate::{
    client_side::Source,
    control::Pressure,
    edits::{Client, Edits},
    error::{ProxyError, Side},
    io::spawn,
    policy_body::Room,
    relay::{self, Plan, Progress, Upload},
    upstream::{Cluster, Copying, Upstream, Wanted, split},
    upstream_side::RequestSink,
    worker::{Contained, View, Worker},
};

/// Where copies of a route's requests go.
pub(crate) struct Mirror {
    /// The index of the cluster in the snapshot.
    cluster: usize,
    /// Of 100 requests.
    percent: u64,
    timeout: Duration,
    body_held_max: usize,
    requests_max: usize,
}

/// A request that may be copied.
pub(crate) struct Request<'a> {
    /// Its connection, and which of its requests it is.
    pub(crate) number: (u64, u64),
    pub(crate) head: &'a RequestHead,
    /// What its upstream gets.
    pub(crate) edits: &'a Edits<'a>,
    /// By which an endpoint of the cluster is chosen, if that is so.
    pub(crate) hash: &'a dyn Fn(&Cluster) -> Option<u64>,
    /// What a connection of the cluster begins with that announces clients.
    pub(crate) announced: &'a mut dyn FnMut() -> Vec<u8>,
}

/// What a copy is made of.
struct Copy {
    view: Rc<View>,
    cluster: usize,
    timeout: Duration,
    /// As the upstream gets it, in HTTP/1.1.
    head: Vec<u8>,
    body: Tapped,
    hash: Option<u64>,
    announced: Option<Vec<u8>>,
    _place: Copying,
}

impl Mirror {
    /// `index_of` is where the cluster of a name is.
    pub(crate) fn new(mirror: &config::Mirror, index_of: impl Fn(&str) -> usize) -> Mirror {
        Mirror {
            cluster: index_of(&mirror.cluster),
            percent: mirror.percent.into(),
            timeout: mirror.timeout,
            body_held_max: mirror.body_held_max,
            requests_max: mirror.requests_max,
        }
    }

    /// The cluster.
    pub(crate) fn cluster(&self, view: &View) -> ClusterId {
        view.clusters[self.cluster].id
    }

    /// Whether chance has this request copied. Which cluster of a split it goes to says nothing about that.
    fn takes(&self, (connection, request): (u64, u64)) -> bool {
        self.percent >= 100 || split::random(connection ^ OTHER_THAN_SPLIT, request) % 100 < self.percent
    }

    /// Begins a copy, if there is to be one; where its body comes from.
    pub(crate) fn begin(&self, worker: &Rc<Worker>, view: &Rc<View>, request: Request<'_>) -> Option<Tap> {
        if !self.takes(request.number) {
            return None;
        }
        let cluster = &view.clusters[self.cluster];
        let not_begun = |outcome| worker.shard.upstream_mirrored(cluster.id, outcome);
        if worker.control.pressure() != Pressure::None {
            not_begun(MirrorOutcome::Memory);
            return None;
        }
        let Some(place) = cluster.load.copy(worker.share(self.requests_max)) else {
            not_begun(MirrorOutcome::Limit);
            return None;
        };
        let mut head = Vec::with_capacity(1024);
        if request.edits.request_head(&mut head, request.head).is_err() {
            // Its own upstream does not get it either.
            not_begun(MirrorOutcome::Failed);
            return None;
        }
        if takes_trailers(request.head) {
            // It is about the connection, so that it is not in what was written; servers of gRPC ask for it.
            head.truncate(head.len() - 2);
            head.extend_from_slice(b"te: trailers\r\n\r\n");
        }
        let (tap, body) = tap::tap(self.body_held_max);
        let copy = Copy {
            view: view.clone(),
            cluster: self.cluster,
            timeout: self.timeout,
            head,
            body,
            hash: (request.hash)(cluster),
            announced: cluster.announces().then(|| (request.announced)()),
            _place: place,
        };
        let worker = worker.clone();
        spawn(async move {
            let id = copy.view.clusters[copy.cluster].id;
            let outcome = Contained::new(run(worker.clone(), copy)).await.unwrap_or_else(|_| {
                worker.shard.panic_caught();
                MirrorOutcome::Failed
            });
            worker.shard.upstream_mirrored(id, outcome);
        });
        Some(tap)
    }
}

/// RFC 9110 §10.1.4.
fn takes_trailers(head: &RequestHead) -> bool {
    let options = head.fields().filter(|field| field.name.eq_ignore_ascii_case("te"));
    let mut options = options.flat_map(|field| field.value.split(|&byte| byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Sends a copy, and reads its answer.
async fn run(worker: Rc<Worker>, copy: Copy) -> MirrorOutcome {
    let Copy { view, cluster, timeout, head: written, body, hash, announced, _place } = copy;
    let cluster = &*view.clusters[cluster];
    // It does not wait: what waits behind it is worth more.
    let Some(_active) = cluster.enter() else { return MirrorOutcome::Limit };
    let mut head = worker.heads.request();
    head.clear();
    let limits = HeadLimits { head_bytes_max: 1 << 20, fields_max: usize::MAX };
    let outcome = match head.parse(&written, &limits) {
        Ok(Some(_)) => {
            drop(written);
            let announced = announced.as_deref();
            exchange(&worker, (&view, cluster), &head, body, (timeout, hash, announced)).await
        }
        // What was written is a head, or its own upstream would not get one.
        _ => MirrorOutcome::Failed,
    };
    worker.heads.put_request(head);
    outcome
}

async fn exchange(
    worker: &Rc<Worker>,
    (view, cluster): (&View, &Cluster),
    head: &RequestHead,
    body: Tapped,
    (timeout, hash, announced): (Duration, Option<u64>, Option<&[u8]>),
) -> MirrorOutcome {
    // Its own errors are counted where they arise.
    let needs_http2 = head.is_grpc() && cluster.chooses_protocol();
    let kept = if needs_http2 { None } else { cluster.kept(hash) };
    let wanted = Wanted { fresh: false, http2: needs_http2, others_than: &[] };
    let mut up = match kept {
        Some(up) => up,
        None => match cluster.connect(worker, hash, wanted, announced).await {
            Ok(up) => up,
            Err(_) => return MirrorOutcome::Failed,
        },
    };
    // What was decided is not in force any more. As with every request, nothing leaves on it.
    if !worker.is_current(view) {
        cluster.keep(up);
        return MirrorOutcome::Stale;
    }
    let (began, reused) = (Instant::now(), up.is_reused());
    worker.shard.upstream_request(cluster.id, reused);
    let (forward, client) = (unchanged(), Client::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let edits = Edits::written(&forward, &client);
    let progress = Progress::default();
    progress.grpc.set(head.is_grpc().then_some(GrpcStatus::None));
    let room = Room::new(&worker.bodies);
    let plan = Plan {
        head,
        edits: &edits,
        asked: None,
        mirror: None,
        head_limits: &ANSWER_LIMITS,
        body_bytes_max: u64::MAX,
        body_timeout: timeout,
        response_timeout: timeout,
        try_timeout: timeout,
        drops: None,
        compression: None,
        standing: None,
        buffers: &worker.buffers,
        room: &room,
        progress: &progress,
    };
    let mut source = Body { body, ended: None };
    up.set_busy(true);
    let sent = send(&plan, worker, &mut source, &mut up).await;
    up.set_busy(sent.is_err());
    if let Some(answered) = progress.answered.get() {
        let took = answered.saturating_duration_since(began).as_nanos();
        worker.shard.upstream_response(cluster.id, u64::try_from(took).unwrap_or(u64::MAX));
    }
    match (sent, source.ended) {
        (Ok(reusable), _) => {
            cluster.has_answered(up.addr(), progress.status.get(), progress.grpc.get());
            if reusable {
                cluster.keep(up);
            }
            MirrorOutcome::Answered
        }
        (Err(_), Some(outcome)) => outcome,
        // It was not taken in time, so that there was no room for more.
        (Err(_), None) if source.body.is_cut() => MirrorOutcome::Cut,
        // It goes on for longer than a copy is of interest.
        (Err(ProxyError::UpstreamTimeout(_)), None) if progress.answered.get().is_some() => {
            MirrorOutcome::Answered
        }
        // The rest of an answer that is too long, which nobody wants.
        (Err(error), None) if error.side() == Side::Downstream => MirrorOutcome::Answered,
        (Err(error), None) => {
            worker.shard.upstream_error(cluster.id, error.flag());
            // That a kept connection has died says nothing of its endpoint.
            if !reused || !matches!(error, ProxyError::UpstreamClosed | ProxyError::UpstreamReset(_)) {
                cluster.has_failed(up.addr(), &error);
            }
            MirrorOutcome::Failed
        }
    }
}

/// Sends the copy on `up`; whether that may be used again.
async fn send(
    plan: &Plan<'_>,
    worker: &Rc<Worker>,
    source: &mut Body,
    up: &mut Upstream,
) -> Result<bool, ProxyError> {
    let timer = Rc::new(worker.deadlines.timer());
    let mut response = worker.heads.response();
    response.clear();
    let ends = (source, Nobody::default());
    let sent = match up {
        Upstream::Http1(connection) => relay::copy(plan, &timer, ends, connection, &mut response).await,
        Upstream::Http1Tls(connection) => relay::copy(plan, &timer, ends, connection, &mut response).await,
        Upstream::Http2(stream) => relay::copy(plan, &timer, ends, &mut **stream, &mut response).await,
    };
    worker.heads.put_response(response);
    sent
}

/// What is written already.
fn unchanged() -> Forward {
    Forward {
        client_cert: false,
        client_cert_chain: false,
        xfcc: XfccMode::Off,
        x_forwarded: ForwardMode::Off,
        forwarded: ForwardMode::Off,
        via: None,
    }
}

/// The body of a copy.
struct Body {
    body: Tapped,
    /// What has become of the copy, if its body had no end.
    ended: Option<MirrorOutcome>,
}

impl Source for Body {
    fn is_untouched(&self) -> bool {
        false
    }

    async fn stream<S: RequestSink>(&mut self, upload: &mut Upload<'_, S>) -> Result<(), ProxyError> {
        loop {
            upload.await_client();
            let mut out = upload.plan.buffers.small();
            let (trailers, outcome) = match self.body.next().await {
                Next::Piece(piece) => {
                    upload.piece(&mut out, &piece);
                    drop(piece);
                    upload.send(out, false, || 0).await?;
                    continue;
                }
                Next::End(trailers) => (trailers, None),
                Next::Cut => (Vec::new(), Some(MirrorOutcome::Cut)),
                Next::Abandoned => (Vec::new(), Some(MirrorOutcome::Incomplete)),
            };
            if outcome.is_some() {
                upload.plan.buffers.put(out);
                self.ended = outcome;
                return Err(ProxyError::ClientGone);
            }
            let fields = trailers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            upload.end(&mut out, fields);
            return upload.finish(out, true, || 0).await;
        }
    }
}

/// Any that its own upstream could be read by.
const ANSWER_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 << 10, fields_max: 256 };
/// So that chance decides anew.
const OTHER_THAN_SPLIT: u64 = 0x6d69_7272_6f72;
