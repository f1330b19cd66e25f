//! The client of a row: asks, and tells the upstream how far it has come.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use ringward_testkit::{Closing, Connection, DEADLINE, Pattern};

use super::caller::{Answer, Caller, Speaks, Streams};
use super::support::Gateway;
use super::{Asks, Row, Sees};

/// A response, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) body: String,
    /// Whether it ended as a response ends.
    pub(super) is_whole: bool,
}

impl Seen {
    pub(super) fn whole(status: u16, body: &str) -> Seen {
        Seen { status, body: body.to_owned(), is_whole: true }
    }
}

/// What the client and the upstream of a row tell one another.
pub(super) struct Cues {
    pub(super) head: Cue,
    pub(super) response: Cue,
    pub(super) ask_again: Cue,
}

/// Something that one side waits for and the other has happen.
pub(super) struct Cue(Sender<()>, Mutex<Receiver<()>>);

impl Cues {
    pub(super) fn new() -> Cues {
        Cues { head: Cue::new(), response: Cue::new(), ask_again: Cue::new() }
    }
}

impl Cue {
    fn new() -> Cue {
        let (sender, receiver) = channel();
        Cue(sender, Mutex::new(receiver))
    }

    pub(super) fn give(&self) {
        self.0.send(()).unwrap();
    }

    #[track_caller]
    pub(super) fn wait(&self, case: &str) {
        let given = self.1.lock().unwrap().recv_timeout(DEADLINE);
        assert!(given.is_ok(), "{case}: the other side does not come so far");
    }
}

/// Asks as the row says. The last response counts, and only the last request has the whole path in its record.
pub(super) fn ask(gateway: &Gateway, speaks: Speaks, row: &Row, path: &str, cues: &Cues, case: &str) -> Seen {
    let mut caller = Caller::new(gateway, speaks);
    match row.asks {
        Asks::Upload(bytes) | Asks::HastyUpload(bytes) => {
            let seen = seen(caller.upload(path, Pattern::new(bytes), true));
            cues.response.give();
            seen
        }
        Asks::Post => seen(caller.request("POST", path, &[], b"")),
        Asks::Twice(method) => {
            let first = caller.get(&format!("{path}/first"));
            assert_eq!((first.status, first.ended), (200, true), "{case}: the first time");
            cues.response.give();
            cues.ask_again.wait(case);
            seen(caller.request(method, path, &[], b""))
        }
        _ if matches!(row.sees, Sees::Cut(_)) => match &mut caller {
            Caller::Http1(connection) => until_cut(connection, path, cues, case),
            Caller::Http2(streams) => stream_until_cut(streams, path, cues),
        },
        _ => seen(caller.get(path)),
    }
}

fn seen(answer: Answer) -> Seen {
    let body = String::from_utf8(answer.body).unwrap();
    Seen { status: answer.status, body, is_whole: answer.ended && answer.reset.is_none_or(|code| code == 0) }
}

/// Reads until the connection ends: the response is whole if its framing or the end of TLS says so.
fn until_cut(connection: &mut Connection, path: &str, cues: &Cues, case: &str) -> Seen {
    connection.send(&connection.head("GET", path, &[])).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(connection.exactly(1).unwrap_or_else(|error| panic!("{case}: no head: {error}")));
    }
    cues.head.give();
    let (body, closing) = connection.wait_closed();
    let body = String::from_utf8(body).unwrap();
    let ends = body.ends_with("0\r\n\r\n") || !matches!(closing, Closing::Cut | Closing::Reset);
    let status = String::from_utf8(head).unwrap()[9..12].parse().unwrap();
    Seen { status, body, is_whole: ends }
}

fn stream_until_cut(streams: &mut Streams, path: &str, cues: &Cues) -> Seen {
    let stream = streams.begin("GET", path, &[], true);
    streams.wait(stream, |answer| answer.status != 0 || answer.reset.is_some());
    cues.head.give();
    seen(streams.finish(stream))
}
