use std::thread;

use super::*;
use crate::closed::Level;
use crate::record::tests::connection;

fn access(sender: &RecordSender, number: u64) -> Box<AccessRecord> {
    sender.blank(&connection(1), number)
}

fn event() -> Box<EventRecord> {
    Box::new(EventRecord { time_unix_ns: 0, level: Level::Info, message: "x", fields: Vec::new() })
}

fn drain(receiver: &RecordReceiver) -> Vec<u64> {
    std::iter::from_fn(|| receiver.pop())
        .filter_map(|record| match record {
            Record::Access(record) => Some(record.started_unix_ns),
            Record::Handshake(_) | Record::Event(_) => None,
        })
        .collect()
}

#[test]
fn a_full_queue_refuses_and_takes_again_once_drained() {
    let (sender, receiver) = record_queue(4);
    for number in 0..4 {
        assert_eq!(sender.push(access(&sender, number)), Ok(()));
    }
    assert_eq!(sender.push(access(&sender, 4)), Err(QueueFull));
    assert!(sender.reserve().is_none());
    assert_eq!(drain(&receiver), [0, 1, 2, 3], "in order, and nothing overwritten");
    assert_eq!(sender.push(access(&sender, 5)), Ok(()));
    assert_eq!(drain(&receiver), [5]);
}

#[test]
fn a_permit_keeps_its_slot_against_everything_else() {
    let (sender, receiver) = record_queue(4);
    let permit = sender.reserve().unwrap();
    for number in 0..3 {
        sender.push(access(&sender, number)).unwrap();
    }
    assert_eq!(sender.push(access(&sender, 9)), Err(QueueFull));
    assert_eq!(sender.push_event(event()), Err(QueueFull));
    permit.send(access(&sender, 3));
    assert_eq!(drain(&receiver), [0, 1, 2, 3]);
}

#[test]
fn permits_are_limited_by_the_capacity_even_if_unused() {
    let (sender, receiver) = record_queue(4);
    let mut permits: Vec<_> = std::iter::from_fn(|| sender.reserve()).collect();
    assert_eq!(permits.len(), 4);
    permits.pop();
    let again = sender.reserve().expect("a dropped permit gives its slot back");
    assert!(sender.reserve().is_none(), "but only one");
    permits.push(again);
    for (number, permit) in permits.into_iter().enumerate() {
        permit.send(access(&sender, number as u64));
    }
    assert_eq!(drain(&receiver), [0, 1, 2, 3]);
}

#[test]
fn a_panic_while_a_permit_is_held_gives_the_slot_back() {
    let (sender, _receiver) = record_queue(2);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _first = sender.reserve();
        let _second = sender.reserve();
        std::panic::resume_unwind(Box::new("the exchange"));
    }));
    assert!(outcome.is_err());
    assert!(sender.reserve().is_some());
}

#[test]
fn failed_handshakes_and_events_cannot_take_more_than_half() {
    let (sender, receiver) = record_queue(8);
    let pushed = std::iter::from_fn(|| sender.push_event(event()).ok()).count();
    assert_eq!(pushed, 4);
    for number in 0..4 {
        sender.push(access(&sender, number)).expect("the other half is for exchanges");
    }
    assert_eq!(sender.push(access(&sender, 4)), Err(QueueFull));
    assert_eq!(drain(&receiver), [0, 1, 2, 3]);
    assert_eq!(sender.push_event(event()), Ok(()), "room is seen again");
}

#[test]
fn written_records_come_back_empty_to_their_worker() {
    let (sender, receiver) = record_queue(2);
    let mut record = access(&sender, 7);
    record.set(crate::record::TextField::Path, "/x");
    let place = std::ptr::from_ref(&*record);
    sender.push(record).unwrap();
    let Some(Record::Access(record)) = receiver.pop() else { panic!("an access record was pushed") };
    receiver.recycle(record);
    let again = access(&sender, 8);
    assert_eq!(std::ptr::from_ref(&*again), place, "the same allocation");
    assert_eq!((again.started_unix_ns, again.text(crate::record::TextField::Path)), (8, None));
}

#[test]
fn nothing_is_lost_or_reordered_between_threads() {
    const RECORDS: u64 = 20_000;
    let (sender, receiver) = record_queue(64);
    let consumer = thread::spawn(move || {
        let mut next = 0;
        while next < RECORDS {
            match receiver.pop() {
                Some(Record::Access(record)) => {
                    assert_eq!(record.started_unix_ns, next);
                    next += 1;
                    receiver.recycle(record);
                }
                Some(_) => panic!("only access records were pushed"),
                None => thread::yield_now(),
            }
        }
    });
    for number in 0..RECORDS {
        loop {
            // What a permit promises holds while the consumer runs.
            if let Some(permit) = sender.reserve() {
                permit.send(access(&sender, number));
                break;
            }
            thread::yield_now();
        }
    }
    consumer.join().unwrap();
}
