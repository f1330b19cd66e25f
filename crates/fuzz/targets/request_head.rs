//! Request heads: the verdict must not depend on how the bytes arrive, and an accepted head must mean the same to the
//! next reader once it was written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::write::{self, Forwarded, QueryEdits, RequestEdits};
use ringward_http::{Field, HeadLimits, RequestError, RequestHead, Version};

fuzz_target!(|input: &[u8]| {
    let mut head = RequestHead::new();
    let verdict = head.parse(input, &LIMITS);
    assert_eq!(trickle(input), verdict, "the same verdict byte by byte");
    if let Ok(Some(len)) = verdict {
        assert!(0 < len && len <= input.len(), "no more taken than there is");
        check_parts(&head);
        check_rewritten(&head);
    }
});

/// The verdict on input that arrives byte by byte.
fn trickle(input: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut head = RequestHead::new();
    for end in 0..input.len() {
        match head.parse(&input[..end], &LIMITS) {
            Ok(None) => {}
            decided => return decided,
        }
    }
    head.parse(input, &LIMITS)
}

fn check_parts(head: &RequestHead) {
    assert!(head.path() == "*" || head.path().starts_with('/'), "a path: {:?}", head.path());
    assert!(!head.path().contains("/../") && !head.path().contains("/./"), "normal: {:?}", head.path());
    assert!(!head.host().bytes().any(|byte| byte.is_ascii_uppercase()), "lower case: {:?}", head.host());
    assert!(!head.host().ends_with('.'), "no trailing dot: {:?}", head.host());
    for Field { name, value, .. } in head.fields() {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "a name: {name:?}");
        assert!(
            value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f),
            "a value: {value:?}"
        );
    }
}

/// What goes upstream is read there as it was read here.
fn check_rewritten(head: &RequestHead) {
    // Only HTTP/1.0 may leave the host out, and the proxy answers such a request itself.
    if head.authority().is_empty() {
        assert_eq!(head.version(), Version::Http10);
        return;
    }
    let written = rewrite(head);
    let mut again = RequestHead::new();
    let verdict = again.parse(&written, &REWRITTEN_LIMITS);
    let shown = String::from_utf8_lossy(&written);
    assert_eq!(verdict, Ok(Some(written.len())), "{shown}");
    assert_eq!(again.method(), head.method(), "{shown}");
    assert_eq!(again.path(), head.path(), "{shown}");
    assert_eq!(again.query(), head.query(), "{shown}");
    assert_eq!(again.host(), head.host(), "{shown}");
    assert_eq!(again.authority(), head.authority(), "{shown}");
    assert_eq!(again.body(), head.body(), "{shown}");
    assert_eq!(again.expects_continue(), head.expects_continue(), "{shown}");
    let hop_by_hop =
        |field: &Field<'_>| field.hop_by_hop && !field.name.eq_ignore_ascii_case("transfer-encoding");
    assert!(!again.fields().any(|field| hop_by_hop(&field)), "hop-by-hop fields stay here: {shown}");
    assert_eq!(String::from_utf8_lossy(&rewrite(&again)), shown, "writing twice changes nothing");
}

fn rewrite(head: &RequestHead) -> Vec<u8> {
    let mut written = Vec::new();
    let edits = RequestEdits {
        drop_field: &|_| false,
        path: None,
        authority: None,
        query: QueryEdits::default(),
        set: &[],
        add: &[],
        via: None,
        forwarded: Forwarded::default(),
        framing: head.body(),
        expect_continue: head.expects_continue(),
    };
    write::request_head(&mut written, head, &edits).expect("nothing was set that could be refused");
    written
}

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 8 * 1024, fields_max: 50 };
/// A field without a blank behind its colon gets one, and framing may add a field.
const REWRITTEN_LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64 * 1024, fields_max: 52 };
