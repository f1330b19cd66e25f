//! `X-Forwarded-For` and `Forwarded`: whatever is in a head, reading it ends, and what a trusted proxy has added behind it is what
//! is read first, unless all of it is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringward_http::{HeadLimits, HopField, Hops, RequestHead};

fuzz_target!(|input: &[u8]| {
    let limits = HeadLimits { head_bytes_max: 1 << 16, fields_max: 100 };
    for (field, added) in [(HopField::XForwardedFor, "192.0.2.1"), (HopField::Forwarded, "for=192.0.2.1")] {
        let name = field.name().as_bytes();
        let text =
            [b"GET / HTTP/1.1\r\nhost: a\r\n", name, b": ", input, b", ", added.as_bytes(), b"\r\n\r\n"]
                .concat();
        let mut head = RequestHead::new();
        let Ok(Some(length)) = head.parse(&text, &limits) else { continue };
        // The input may have ended the line, or the head.
        let is_one_line = length == text.len() && !input.contains(&b'\n');
        if let Ok(hops) = Hops::of(&head, field)
            && is_one_line
        {
            assert_eq!(hops.nearest_first().next(), Some(Ok([192, 0, 2, 1].into())), "{input:?}");
            assert_eq!(hops.nearest_first().count(), hops.len());
        }
    }
});
