//! Answers of policy servers: whatever the bytes are, there is one verdict, and an allow is the whole of them.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use ringward_policy::{CompiledPolicy, OpaPolicy, PolicyWorker};

thread_local! {
    static WORKER: RefCell<Box<dyn PolicyWorker>> = RefCell::new(OpaPolicy::new("data.r", ringward_policy::InputShape::Native).worker());
}

fuzz_target!(|input: &[u8]| {
    let read = |answer: &[u8]| WORKER.with_borrow_mut(|worker| worker.read_answer(answer));
    let decided = read(input);
    assert_eq!(read(input), decided, "the same verdict again");
    let Ok(decision) = decided else { return };
    assert!(!(decision.allowed && decision.undefined));
    let end = input.trim_ascii_end().len();
    for cut in [0, end / 2, end - 1] {
        assert!(read(&input[..cut]).is_err(), "a part of an answer is none");
    }
    for more in [&b"}"[..], b"{}", b",", b"\0"] {
        assert!(read(&[input, more].concat()).is_err(), "an answer with more behind it is none");
    }
});
