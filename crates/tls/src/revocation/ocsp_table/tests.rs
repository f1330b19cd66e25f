use ringward_testkit::{Authority, Leaf};

use super::*;
use crate::revocation::testing::{Client, now};
use crate::revocation::{RevocationParts, RevocationReason, Suspension};

const GRACE: Duration = Duration::from_secs(600);
const ENTRIES_MAX: usize = 4;

/// A table, its book, and clients to ask about.
struct World {
    table: Arc<OcspTable>,
    ledger: OcspLedger,
    root: Authority,
}

impl World {
    fn new() -> Self {
        let table = Arc::new(OcspTable::new());
        let ledger = OcspLedger::new(table.clone(), ENTRIES_MAX, GRACE);
        Self { table, ledger, root: Authority::root("Root") }
    }

    fn client(&self) -> Client {
        Client::new(&self.root.issue(&Leaf::client("a")), &self.root)
    }

    fn judge(&self, client: &Client, mode: OcspMode, now_unix: i64) -> OcspVerdict {
        self.table.judge(&client.path, &client.peer, mode, &Revocation::empty(), now_unix)
    }

    /// Asks about a client for the first time and settles it.
    fn settle(&mut self, client: &Client, response: Option<&OcspResponse>, now_unix: i64) -> bool {
        let query = query(client);
        assert!(self.table.ask(query.clone()));
        assert_eq!(self.keys_due(now_unix), [query.key]);
        let revoked = self.ledger.settle(&query, response, now_unix);
        self.ledger.publish();
        revoked
    }

    fn keys_due(&mut self, now_unix: i64) -> Vec<OcspKey> {
        self.ledger.due(100, now_unix).into_iter().map(|query| query.key).collect()
    }
}

fn query(client: &Client) -> OcspQuery {
    OcspQuery::about_leaf(client.path.clone()).unwrap()
}

fn key(client: &Client) -> OcspKey {
    query(client).key
}

/// True since `from`, for half an hour.
fn answer(status: OcspStatus, from: i64) -> OcspResponse {
    OcspResponse {
        status,
        this_update_unix: from,
        next_update_unix: Some(from + HALF_HOUR),
        until_unix: from + HALF_HOUR,
    }
}

fn good(from: i64) -> OcspResponse {
    answer(OcspStatus::Good, from)
}

fn revoked(from: i64) -> OcspResponse {
    answer(OcspStatus::Revoked { at_unix: from, reason: RevocationReason::KeyCompromise }, from)
}

fn finding(verdict: &OcspVerdict) -> Option<RevocationFinding> {
    match verdict {
        OcspVerdict::Refuse(refusal) => {
            assert_eq!(refusal.source, RevocationSource::Ocsp);
            Some(refusal.what)
        }
        _ => None,
    }
}

const HALF_HOUR: i64 = 1800;

#[test]
fn verdict_follows_from_answer_and_mode() {
    use OcspMode::{HardFail, Off, SoftFail};
    use RevocationFinding::{Revoked, Unknown};
    let mut world = World::new();
    let at = now();
    for (response, soft, hard) in [
        (Some(good(at)), OcspVerdict::Pass, None),
        (Some(answer(OcspStatus::Unknown, at)), OcspVerdict::PassUnchecked, Some(Unknown)),
        (None, OcspVerdict::PassUnchecked, Some(Unknown)),
    ] {
        let client = world.client();
        for mode in [SoftFail, HardFail] {
            assert_eq!(world.judge(&client, mode, at), OcspVerdict::Wait, "nothing is known yet");
        }
        assert!(!world.settle(&client, response.as_ref(), at));
        assert_eq!(world.judge(&client, Off, at), OcspVerdict::Pass);
        assert_eq!(world.judge(&client, SoftFail, at), soft);
        assert_eq!(finding(&world.judge(&client, HardFail, at)), hard);
    }
    let client = world.client();
    assert!(world.settle(&client, Some(&revoked(at)), at), "to be enforced on living connections");
    for mode in [SoftFail, HardFail] {
        assert_eq!(
            finding(&world.judge(&client, mode, at)),
            Some(Revoked),
            "revoked is revoked in either mode"
        );
    }
    assert_eq!(world.judge(&client, Off, at), OcspVerdict::Pass);
    assert_eq!(Off.without_answer(&client.path), OcspVerdict::Pass);
    assert_eq!(SoftFail.without_answer(&client.path), OcspVerdict::PassUnchecked);
    assert_eq!(finding(&HardFail.without_answer(&client.path)), Some(Unknown));
}

#[test]
fn suspended_tenant_passes_until_the_time() {
    let mut world = World::new();
    let at = now();
    let client = world.client().of_tenant("acme");
    world.settle(&client, Some(&revoked(at)), at);
    let suspended = vec![Suspension { tenant: "acme".into(), until_unix: at + 60 }];
    let revocation = Revocation::new(RevocationParts { suspended, ..RevocationParts::default() });
    let judge =
        |now_unix| world.table.judge(&client.path, &client.peer, OcspMode::HardFail, &revocation, now_unix);
    assert_eq!(judge(at + 59), OcspVerdict::Pass);
    assert_eq!(finding(&judge(at + 60)), Some(RevocationFinding::Revoked));
}

#[test]
fn answers_are_used_until_their_end_and_grace() {
    let mut world = World::new();
    let (at, until) = (now(), now() + HALF_HOUR);
    let (one, other) = (world.client(), world.client());
    world.settle(&one, Some(&good(at)), at);
    world.settle(&other, Some(&revoked(at)), at);
    let grace = GRACE.as_secs() as i64;
    let get = |client: &Client, now_unix| world.table.get(&key(client), now_unix);
    assert_eq!(get(&one, until + grace - 1), Some(OcspAnswer::Good));
    assert_eq!(get(&one, until + grace), None);
    assert_eq!(get(&other, until + grace), Some(OcspAnswer::Revoked), "silence clears nobody");
    assert_eq!(get(&other, until + REVOKED_KEPT_SECONDS - 1), Some(OcspAnswer::Revoked));
    assert_eq!(get(&other, until + REVOKED_KEPT_SECONDS), None);
}

#[test]
fn long_promises_are_cut() {
    let mut world = World::new();
    let at = now();
    let client = world.client();
    let response = OcspResponse { until_unix: at + 365 * 86_400, ..good(at) };
    world.settle(&client, Some(&response), at);
    let grace = GRACE.as_secs() as i64;
    let get = |now_unix| world.table.get(&key(&client), now_unix);
    assert_eq!(get(at + ANSWER_USED_SECONDS_MAX + grace - 1), Some(OcspAnswer::Good));
    assert_eq!(get(at + ANSWER_USED_SECONDS_MAX + grace), None);
}

#[test]
fn ended_answer_is_asked_for_once_while_it_serves() {
    let mut world = World::new();
    let (at, until) = (now(), now() + HALF_HOUR);
    let client = world.client();
    world.settle(&client, Some(&good(at)), at);
    assert_eq!(world.table.get(&key(&client), until - 1), Some(OcspAnswer::Good));
    assert!(world.table.queue.is_empty() && world.keys_due(until - 1).is_empty(), "nobody wishes");
    for _ in 0..10 {
        assert_eq!(world.table.get(&key(&client), until), Some(OcspAnswer::Good), "the last one serves");
    }
    assert_eq!(world.keys_due(until), [key(&client)]);
    assert_eq!(world.ledger.in_flight(), 1);
    world.table.get(&key(&client), until + 1);
    world.table.ask(query(&client));
    assert!(world.keys_due(until + 1).is_empty(), "it is on its way");
    assert!(!world.ledger.settle(&query(&client), Some(&good(until)), until + 2));
    assert_eq!(world.ledger.in_flight(), 0);
    assert_eq!(world.table.get(&key(&client), until + HALF_HOUR - 1), Some(OcspAnswer::Good), "seen at once");
    assert!(!world.ledger.publish(), "without a new index");
}

#[test]
fn answer_counts_for_the_certificate_of_its_issuer_alone() {
    let mut world = World::new();
    let numbered = Leaf::client("a").serial(&[7]);
    let (ours, namesake) = (world.root.issue(&numbered), Authority::root("Root"));
    let (ours, theirs) =
        (Client::new(&ours, &world.root), Client::new(&namesake.issue(&numbered), &namesake));
    let at = now();
    world.settle(&ours, Some(&good(at)), at);
    assert_eq!(world.judge(&ours, OcspMode::HardFail, at), OcspVerdict::Pass);
    assert_eq!(world.judge(&theirs, OcspMode::HardFail, at), OcspVerdict::Wait);
}

#[test]
fn questions_about_one_certificate_are_asked_once() {
    let mut world = World::new();
    let at = now();
    let (one, other) = (world.client(), world.client());
    for client in [&one, &other, &one, &one] {
        assert!(world.table.ask(query(client)));
    }
    assert_eq!(world.ledger.due(1, at).len(), 1, "as many as are wanted");
    assert_eq!(world.keys_due(at), [key(&other)]);
    world.ledger.settle(&query(&one), Some(&good(at)), at);
    // Answered, and not published yet.
    world.table.ask(query(&one));
    assert!(world.keys_due(at).is_empty());
    assert_eq!(world.table.get(&key(&one), at), None);
    assert!(world.ledger.publish());
    assert_eq!(world.table.get(&key(&one), at), Some(OcspAnswer::Good));
    world.table.ask(query(&one));
    assert!(world.keys_due(at).is_empty());
}

#[test]
fn queue_is_bounded() {
    let world = World::new();
    let client = world.client();
    for _ in 0..OCSP_QUEUE_MAX {
        assert!(world.table.ask(query(&client)));
    }
    assert!(!world.table.ask(query(&client)));
}

#[test]
fn wish_that_finds_no_place_is_made_again() {
    let mut world = World::new();
    let (at, until) = (now(), now() + HALF_HOUR);
    let (client, other) = (world.client(), world.client());
    world.settle(&client, Some(&good(at)), at);
    // Nobody holds it, so it is left alone until its end.
    assert!(world.keys_due(until).is_empty());
    while world.table.ask(query(&other)) {}
    world.table.get(&key(&client), until);
    assert_eq!(world.keys_due(until), [key(&other)]);
    world.table.get(&key(&client), until);
    assert_eq!(world.keys_due(until), [key(&client)]);
}

#[test]
fn failure_is_short_and_displaces_no_answer() {
    let mut world = World::new();
    let (at, until) = (now(), now() + HALF_HOUR);
    let client = world.client();
    world.settle(&client, None, at);
    let get = |world: &World, now_unix| world.table.get(&key(&client), now_unix);
    assert_eq!(get(&world, at + FAILURE_SECONDS - 1), Some(OcspAnswer::Failed));
    assert!(world.keys_due(at + FAILURE_SECONDS - 1).is_empty(), "nobody is asked again so soon");
    assert_eq!(get(&world, at + FAILURE_SECONDS), None);
    world.table.ask(query(&client));
    assert_eq!(world.keys_due(at + FAILURE_SECONDS), [key(&client)]);
    world.ledger.settle(&query(&client), Some(&good(at)), at);
    assert_eq!(get(&world, until - 1), Some(OcspAnswer::Good));
    // The responder is gone when a new answer is due: the old one serves for its grace, and no longer.
    assert_eq!(get(&world, until), Some(OcspAnswer::Good));
    assert_eq!(world.keys_due(until), [key(&client)]);
    assert!(!world.ledger.settle(&query(&client), None, until));
    assert_eq!(get(&world, until + 1), Some(OcspAnswer::Good));
    assert!(world.keys_due(until + FAILURE_SECONDS - 1).is_empty(), "with a pause");
    assert!(world.keys_due(until + FAILURE_SECONDS).is_empty(), "unless somebody wishes");
    assert_eq!(get(&world, until + FAILURE_SECONDS), Some(OcspAnswer::Good));
    assert_eq!(world.keys_due(until + FAILURE_SECONDS), [key(&client)]);
    let end = until + GRACE.as_secs() as i64;
    world.ledger.settle(&query(&client), None, end);
    assert_eq!(get(&world, end), Some(OcspAnswer::Failed));
}

#[test]
fn pauses_grow_up_to_a_limit() {
    let mut world = World::new();
    let client = world.client();
    let mut at = now();
    world.settle(&client, None, at);
    // A living connection under `soft_fail`.
    let held = world.table.entry(&key(&client)).unwrap();
    for pause in [30, 60, 120, 240, 480, 960, 960, 960] {
        assert!(world.keys_due(at + pause - 1).is_empty(), "{pause}");
        at += pause;
        assert_eq!(world.keys_due(at), [key(&client)], "{pause}");
        world.ledger.settle(&query(&client), None, at);
    }
    assert_eq!(held.answer(at), Some(OcspAnswer::Failed));
}

#[test]
fn older_answer_never_takes_the_place_of_a_newer() {
    let mut world = World::new();
    let at = now();
    let client = world.client();
    world.settle(&client, Some(&revoked(at)), at);
    let entry = world.table.entry(&key(&client)).unwrap();
    // "Good" as it was a minute before, recorded and played again; it has not ended yet.
    let due = at + HALF_HOUR / 2;
    assert_eq!(world.keys_due(due), [key(&client)]);
    assert!(!world.ledger.settle(&query(&client), Some(&good(at - 60)), due));
    assert_eq!(entry.answer(due), Some(OcspAnswer::Revoked));
    // The same again is no older.
    assert_eq!(world.keys_due(due + FAILURE_SECONDS), [key(&client)]);
    assert!(!world.ledger.settle(&query(&client), Some(&revoked(at)), due), "known already");
    // A suspension that was lifted.
    world.ledger.settle(&query(&client), Some(&good(at + 1)), due);
    assert_eq!(entry.answer(due), Some(OcspAnswer::Good));
}

#[test]
fn answers_of_a_short_life_do_not_keep_their_responder_busy() {
    let mut world = World::new();
    let (at, client) = (now(), world.client());
    let short = OcspResponse { next_update_unix: Some(at + 60), until_unix: at + 60, ..good(at) };
    world.settle(&client, Some(&short), at);
    let _connection = world.table.entry(&key(&client)).unwrap();
    assert!(world.keys_due(at + 299).is_empty());
    assert_eq!(world.keys_due(at + 300), [key(&client)]);
}

#[test]
fn answers_of_living_connections_are_refreshed_and_others_forgotten() {
    let mut world = World::new();
    let (at, until) = (now(), now() + HALF_HOUR);
    let (living, gone) = (world.client(), world.client());
    world.settle(&living, Some(&good(at)), at);
    world.settle(&gone, Some(&good(at)), at);
    let held = world.table.entry(&key(&living)).unwrap();
    assert!(world.keys_due(at + HALF_HOUR / 2 - 1).is_empty());
    assert_eq!(world.keys_due(at + HALF_HOUR / 2), [key(&living)], "at half its life");
    world.ledger.settle(&query(&living), Some(&revoked(at + 1)), at + HALF_HOUR / 2);
    assert_eq!(held.answer(until), Some(OcspAnswer::Revoked), "the connection sees it without the table");
    let end = until + GRACE.as_secs() as i64;
    drop(held);
    assert!(world.keys_due(end - 1).is_empty());
    assert!(!world.ledger.publish());
    assert_eq!(world.table.len(), 2);
    assert!(world.keys_due(end).is_empty());
    assert!(world.ledger.publish());
    assert_eq!(world.table.len(), 1, "the one that is revoked stays for a day");
    assert!(world.table.entry(&key(&gone)).is_none());
    assert!(world.keys_due(until + 2 * REVOKED_KEPT_SECONDS).is_empty());
    world.ledger.publish();
    assert!(world.table.is_empty());
    assert_eq!(world.ledger.in_flight(), 0);
}

#[test]
fn table_is_bounded_and_keeps_what_matters() {
    let mut world = World::new();
    let at = now();
    let clients: Vec<_> = (0..ENTRIES_MAX).map(|_| world.client()).collect();
    let (held, denied, soon, late) = (&clients[0], &clients[1], &clients[2], &clients[3]);
    for (client, response) in
        [(held, good(at - 2)), (denied, revoked(at - 3)), (soon, good(at - 1)), (late, good(at))]
    {
        world.settle(client, Some(&response), at);
    }
    let _connection = world.table.entry(&key(held)).unwrap();
    assert_eq!(world.table.len(), ENTRIES_MAX);
    let known = |world: &World, client: &Client| world.table.entry(&key(client)).is_some();
    let next = world.client();
    world.settle(&next, Some(&good(at)), at);
    assert_eq!(world.table.len(), ENTRIES_MAX);
    assert!(!known(&world, soon) && known(&world, held) && known(&world, denied));
    for _ in 0..10 {
        let another = world.client();
        world.settle(&another, Some(&good(at)), at);
        assert_eq!(world.table.len(), ENTRIES_MAX);
    }
    assert!(known(&world, held) && known(&world, denied));
    assert!(world.ledger.plans.len() <= ENTRIES_MAX && world.ledger.agenda.len() <= ENTRIES_MAX);
}

#[test]
fn answer_and_time_fit_one_word() {
    for answer in [OcspAnswer::Good, OcspAnswer::Revoked, OcspAnswer::Unknown, OcspAnswer::Failed] {
        for (until, grace) in [(0, 0), (1_800_000_000, 600), ((1 << 36) - 1, (1 << 26) - 1)] {
            let state = State { answer, until, grace };
            assert_eq!(State::unpack(state.pack()), state);
        }
        let beyond = State { answer, until: i64::MAX, grace: i64::MAX };
        let most = State { answer, until: (1 << 36) - 1, grace: (1 << 26) - 1 };
        assert_eq!(State::unpack(beyond.pack()), most);
        let before = State { answer, until: -1, grace: -1 };
        assert_eq!(State::unpack(before.pack()), State { answer, until: 0, grace: 0 });
    }
}
