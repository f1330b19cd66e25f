//! What gRPC has in fields: a timeout is read exactly or refused, never written as more than it is, and a message is written so
//! that it fits into a field and reads as the same text.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ringward_http::{grpc, write};

fuzz_target!(|input: &[u8]| {
    if let Ok(time) = grpc::parse_timeout(input) {
        let (unit, digits) = input.split_last().expect("a unit");
        let number: u32 = std::str::from_utf8(digits).expect("digits").parse().expect("a number");
        assert!(digits.len() <= 8 && b"HMSmun".contains(unit), "{input:?}");
        assert_eq!(time.is_zero(), number == 0, "{input:?}");
        assert_written(time);
    }
    if let Some(seconds) = input.first_chunk() {
        assert_written(Duration::new(u64::from_le_bytes(*seconds), u32::from(input[0]) * 1_000));
    }
    assert!(grpc::parse_status(input) <= 16);
    if grpc::is_content_type(input) {
        assert!(input.len() >= grpc::CONTENT_TYPE.len());
    }
    let text = String::from_utf8_lossy(input);
    let mut message = Vec::new();
    grpc::write_message(&mut message, &text);
    assert!(write::is_settable(grpc::MESSAGE, &message), "{message:?}");
    assert!(message.len() <= 3 * text.len());
    assert_eq!(decoded(&message), text.as_bytes());
});

/// A time is written as a value that is read as no more than it, and as no less than a unit less.
fn assert_written(time: Duration) {
    let text = grpc::TimeoutText::new(time);
    let read = grpc::parse_timeout(text.as_bytes()).expect("what is written can be read");
    let most = Duration::from_secs(99_999_999 * 3600);
    assert!(read <= time && (time - read < Duration::from_secs(3600) || read == most), "{time:?} {text:?}");
}

/// The text of a message.
fn decoded(mut message: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some((first, rest)) = message.split_first() {
        message = rest;
        if *first != b'%' {
            text.push(*first);
            continue;
        }
        let (digits, rest) = message.split_at(2);
        message = rest;
        let digits = std::str::from_utf8(digits).expect("digits");
        text.push(u8::from_str_radix(digits, 16).expect("a byte"));
    }
    text
}
