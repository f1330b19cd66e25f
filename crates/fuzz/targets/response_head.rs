//! Response heads: the verdict must not depend on how the bytes arrive, and the client must read the framing that was
//! promised to it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::write::{self, ResponseEdits, ResponseFraming};
use ringward_http::{BodyFraming, HeadLimits, RequestKind, ResponseError, ResponseHead, Version};

fuzz_target!(|input: &[u8]| {
    for kind in [RequestKind::Other, RequestKind::Head, RequestKind::Connect, RequestKind::Upgrade] {
        let mut head = ResponseHead::new();
        let verdict = head.parse(input, kind, &LIMITS);
        assert_eq!(trickle(input, kind), verdict, "the same verdict byte by byte");
        if let Ok(Some(len)) = verdict {
            assert!(0 < len && len <= input.len(), "no more taken than there is");
            assert!((100..=599).contains(&head.status()));
            assert!(head.status() != 101 || kind == RequestKind::Upgrade, "nobody switches unasked");
            // CONNECT is refused before it could reach an upstream, so its answers are never relayed.
            if kind != RequestKind::Connect {
                check_relayed(&head, kind, Version::Http11);
                check_relayed(&head, kind, Version::Http10);
            }
        }
    }
});

/// The verdict on input that arrives byte by byte.
fn trickle(input: &[u8], kind: RequestKind) -> Result<Option<usize>, ResponseError> {
    let mut head = ResponseHead::new();
    for end in 0..input.len() {
        match head.parse(&input[..end], kind, &LIMITS) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    head.parse(input, kind, &LIMITS)
}

/// What the client is told is what the relay was told to do.
fn check_relayed(head: &ResponseHead, kind: RequestKind, version: Version) {
    let (written, promised) = relay(head, version);
    let shown = String::from_utf8_lossy(&written);
    let mut again = ResponseHead::new();
    let verdict = again.parse(&written, kind, &RELAYED_LIMITS);
    assert_eq!(verdict, Ok(Some(written.len())), "{shown}");
    assert_eq!(again.status(), head.status(), "{shown}");
    if head.is_interim() {
        return;
    }
    assert_eq!(again.body(), promised.body, "{shown}");
    assert_eq!(again.keep_alive(), promised.keep_alive, "{shown}");
    let body_goes_on = head.body() != BodyFraming::None;
    assert_eq!(promised.body != BodyFraming::None, body_goes_on, "no body appears or disappears: {shown}");
    let chunked_to_http10 = version == Version::Http10 && promised.body == BodyFraming::Chunked;
    assert!(!chunked_to_http10, "HTTP/1.0 knows no chunks: {shown}");
}

fn relay(head: &ResponseHead, version: Version) -> (Vec<u8>, ResponseFraming) {
    let mut written = Vec::new();
    let edits = ResponseEdits {
        version,
        keep_alive: true,
        is_recoded: false,
        via: None,
        date: None,
        drop_field: &|_| false,
        set: &[],
        add: &[],
    };
    let framing =
        write::response_head(&mut written, head, &edits).expect("nothing was set that could be refused");
    (written, framing)
}

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8 * 1024, fields_max: 50 };
/// A field without a blank behind its colon gets one, and framing may add two fields.
const RELAYED_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, fields_max: 52 };
