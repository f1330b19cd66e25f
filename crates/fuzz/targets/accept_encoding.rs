//! `Accept-Encoding`: whatever is in it, a coding is chosen only if the field names it or `*`, and one that is refused never is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::{HeadLimits, RequestHead};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

fn preferred(value: &[u8]) -> Option<Option<&'static str>> {
    let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
    let text = [b"GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: ", value, b"\r\n\r\n"].concat();
    let mut head = RequestHead::new();
    let length = head.parse(&text, &limits).ok().flatten()?;
    // The input may have ended the line, or the head.
    let is_one_line = length == text.len() && !value.contains(&b'\n');
    is_one_line.then(|| head.preferred_coding(&CODINGS).map(|index| CODINGS[index]))
}

fuzz_target!(|input: &[u8]| {
    let Some(Some(chosen)) = preferred(input) else { return };
    let lower = input.to_ascii_lowercase();
    assert!(lower.contains(&b'*') || lower.windows(chosen.len()).any(|part| part == chosen.as_bytes()));
    // Whatever else is said, a refusal counts.
    let refused = [input, b", ", chosen.as_bytes(), b";q=0"].concat();
    let again = preferred(&refused).expect("the line was good");
    assert_ne!(again, Some(chosen), "{input:?}");
});
