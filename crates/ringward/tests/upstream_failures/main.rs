//! The table of upstreams that fail: whatever one does, in whichever phase, the client sees the promised status or a response that
//! is plainly cut off, the record has the promised flag, the metric of that reason counts one, and nothing is left behind.
//!
//! A row of `http1.rs`, `http2.rs` and `tls.rs` says the phase and the failure, what the upstream does ([`Step`]s, which `upstream.rs`
//! plays), what the client sees, and the flag. Each table is run with clients of both versions and on both drivers, those of HTTP
//! without TLS and with it. Rows in which somebody runs out of time do so side by side, each with an upstream of its own.
#![allow(clippy::unwrap_used, reason = "a failed expectation here is a failed test")]

#[path = "../http2_upstream/caller.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod caller;
#[path = "../support/mod.rs"]
mod support;

mod client;
mod http1;
mod http2;
mod stage;
mod tls;
mod upstream;

use std::sync::Mutex;
use std::thread;

use ringward_testkit::{DEADLINE, eventually};

use self::caller::{BOTH, Speaks};
use self::client::{Cues, Seen};
use self::stage::{LANES, Lane, Stage, Transport};
use self::support::on_both_drivers;

on_both_drivers!(
    http1_in_the_clear,
    http1_over_tls,
    http2_in_the_clear,
    http2_over_tls,
    tls_handshakes,
    nobody_there
);

fn http1_in_the_clear(driver: &str) {
    check(&Stage::new(driver, Transport::Http1), &http1::rows());
}

fn http1_over_tls(driver: &str) {
    check(&Stage::new(driver, Transport::Http1Tls), &[http1::rows(), http1::rows_of_tls()].concat());
}

fn http2_in_the_clear(driver: &str) {
    check(&Stage::new(driver, Transport::Http2), &http2::rows());
}

fn http2_over_tls(driver: &str) {
    check(&Stage::new(driver, Transport::Http2Tls), &http2::rows());
}

fn tls_handshakes(driver: &str) {
    check(&Stage::new(driver, Transport::Http1Tls), &tls::rows());
}

/// Where nobody listens, and where nobody takes connections.
fn nobody_there(driver: &str) {
    let (_socket, refusing) = support::deserted();
    let (_listener, _waiting, full) = support::congested();
    for (address, status, flag) in
        [(refusing, 502, "upstream_connect"), (full, 504, "upstream_connect_timeout")]
    {
        let rows = [Row::new(flag, Asks::HastyGet, vec![], Sees::Status(status), flag)];
        thread::scope(|scope| {
            for transport in Transport::ALL {
                let rows = &rows;
                scope.spawn(move || check(&Stage::in_front_of([address; LANES], driver, transport), rows));
            }
        });
    }
}

/// One failure.
#[derive(Clone)]
struct Row {
    /// Phase and failure.
    name: &'static str,
    asks: Asks,
    /// What the upstream does on its first connection, its second, and so on.
    connections: Vec<Vec<Step>>,
    sees: Sees,
    /// The flag of the record, and the reason of the metric; empty if nothing failed.
    flag: &'static str,
    /// What the record may say as well: the kernel tells of a reset once, and then of an end, to whichever side of us asks.
    or_flag: Option<&'static str>,
    /// Whose certificate the upstream shows, where it speaks TLS.
    shows: tls::Shows,
}

impl Row {
    fn new(name: &'static str, asks: Asks, steps: Vec<Step>, sees: Sees, flag: &'static str) -> Row {
        let connections = if steps.is_empty() { vec![] } else { vec![steps] };
        Row { name, asks, connections, sees, flag, or_flag: None, shows: tls::Shows::Good }
    }

    /// The record may say this as well.
    fn or(self, flag: &'static str) -> Row {
        Row { or_flag: Some(flag), ..self }
    }

    /// Whether it is a failure of the upstream for certain, which the metrics tell.
    fn is_counted(&self) -> bool {
        self.flag.starts_with("upstream_")
    }

    /// What the upstream does on its next connection.
    fn then(mut self, steps: Vec<Step>) -> Row {
        self.connections.push(steps);
        self
    }
}

/// What is asked, of which route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Get,
    Post,
    /// By a route with short limits of time.
    HastyGet,
    /// By a route with a short `request_timeout`.
    LimitedGet,
    /// With a body of so many bytes.
    Upload(u64),
    HastyUpload(u64),
    /// Twice on one connection of the client; the second time by this method.
    Twice(&'static str),
}

impl Asks {
    /// Whether somebody may run out of time.
    fn may_wait(self) -> bool {
        matches!(self, Asks::HastyGet | Asks::HastyUpload(_) | Asks::LimitedGet)
    }

    /// Where the route begins.
    fn route(self) -> &'static str {
        match self {
            Asks::HastyGet | Asks::HastyUpload(_) => "/hasty",
            Asks::LimitedGet => "/limited",
            _ => "/patient",
        }
    }
}

/// What an upstream does next.
#[derive(Clone)]
enum Step {
    /// Reads the head of a request.
    Head,
    /// Reads so many bytes of its body.
    Body(u64),
    Send(Vec<u8>),
    /// Sends this for as long as it is taken.
    Flood(Vec<u8>),
    /// Waits until the client has seen the head of the response.
    ClientHasHead,
    /// Waits until the client has its first response whole.
    ClientHasResponse,
    /// Lets the client ask for the second time.
    LetItAsk,
    /// Reads nothing until the client has its response.
    Idle,
    /// Does not begin to speak HTTP/2.
    Mute,
    /// Waits until the proxy has given up the connection, or the stream.
    IsLeft,
    /// Ends the connection in order.
    Close,
    /// Ends the connection in order, but for the end of TLS.
    Truncate,
    Reset,
    /// This and the following happens on TCP, before TLS begins.
    BelowTls,
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// This status, from us.
    Status(u16),
    /// The upstream's response, whole.
    Whole(u16, &'static str),
    /// A head with this status, and no end behind it: the connection or the stream is cut.
    Cut(u16),
}

impl Sees {
    fn status(self) -> u16 {
        match self {
            Sees::Status(status) | Sees::Whole(status, _) | Sees::Cut(status) => status,
        }
    }

    #[track_caller]
    fn assert_is(self, seen: &Seen, case: &str) {
        let expected = match self {
            Sees::Status(502) => Seen::whole(502, "bad gateway\n"),
            Sees::Status(504) => Seen::whole(504, "gateway timeout\n"),
            Sees::Status(status) => Seen::whole(status, &seen.body),
            Sees::Whole(status, body) => Seen::whole(status, body),
            Sees::Cut(status) => Seen { status, body: seen.body.clone(), is_whole: false },
        };
        assert_eq!(*seen, expected, "{case}");
    }
}

const ERRORS: &str = "ringward_upstream_errors_total";

/// A row with one kind of client.
struct Case<'r> {
    row: &'r Row,
    speaks: Speaks,
    /// Its place in the table.
    index: usize,
}

/// Runs a table with each kind of client.
fn check(stage: &Stage, rows: &[Row]) {
    let before = stage.holdings();
    let rows = rows.iter().enumerate();
    let cases =
        BOTH.into_iter().flat_map(|speaks| rows.clone().map(move |(index, row)| Case { row, speaks, index }));
    let (waiting, others): (Vec<_>, Vec<_>) = cases.partition(|case| case.row.asks.may_wait());
    // Whose time was over first, the client's or the upstream's, may be the one or the other when that of the request is.
    let of = |is_counted: fn(&Row) -> bool| -> f64 {
        waiting.iter().chain(&others).filter(|case| is_counted(case.row)).count() as f64
    };
    let (surely, at_most) = (of(Row::is_counted), of(|row| !row.flag.is_empty()));
    let lanes = stage.lanes();
    others.iter().for_each(|case| case.check(lanes[0]));
    let waiting = Mutex::new(waiting.into_iter());
    let next = || waiting.lock().unwrap().next();
    thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(move || std::iter::from_fn(next).for_each(|case| case.check(lane)));
        }
    });
    let counted = stage.gateway.metric(ERRORS, &[]);
    assert!(
        (surely..=at_most).contains(&counted),
        "nothing else is counted: {counted}, not {surely} to {at_most}"
    );
    stage.assert_nothing_is_left(&before);
}

impl Case<'_> {
    fn check(&self, lane: Lane<'_>) {
        let Case { row, speaks, index } = *self;
        let gateway = &lane.stage.gateway;
        let case = format!("{} ({speaks:?})", row.name);
        let path = format!("{}/{}/{speaks:?}/{index}", row.asks.route(), lane.number);
        let flags = [Some(row.flag), row.or_flag];
        let of_reasons = || {
            let failures = lane.failures();
            flags.iter().flatten().map(|flag| failures.get(*flag).unwrap_or(&0.0)).sum::<f64>()
        };
        let (all, before) = (lane.failures().values().sum::<f64>(), of_reasons());
        let cues = Cues::new();
        let seen = thread::scope(|scope| {
            let plays = scope.spawn(|| lane.play(row, &cues, &case));
            let seen = client::ask(gateway, speaks, row, &path, &cues, &case);
            plays.join().unwrap_or_else(|_| panic!("{case}: the upstream could not do its part: {seen:?}"));
            seen
        });
        row.sees.assert_is(&seen, &case);
        let record = gateway.wait_for_record("path", path);
        assert!(flags.contains(&Some(record["flag"].as_str().unwrap_or_default())), "{case}: {record}");
        assert_eq!(record["status"], row.sees.status(), "{case}: {record}");
        if row.is_counted() {
            eventually(DEADLINE, "it is counted", || of_reasons() == before + 1.0);
            assert_ne!(record["reason"].as_str().unwrap_or_default(), "", "{case}: {record}");
            let failures = lane.failures();
            assert_eq!(
                failures.values().sum::<f64>(),
                all + 1.0,
                "{case}: nothing else is counted: {failures:?}"
            );
        }
    }
}
