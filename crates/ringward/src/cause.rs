//! What went wrong in talking to a peer, in so few words that a log can have them.

use std::error::Error;

/// The error and its causes, to which hyper and h2 keep some of it. They may hold what the peer has said, as much as it liked: what
/// is long is cut, and nothing in it is an order to a terminal.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    bounded(&text)
}

fn bounded(text: &str) -> String {
    let mut bounded = String::new();
    for c in text.chars() {
        let length = bounded.len();
        if c.is_control() {
            bounded.extend(c.escape_default())
        } else {
            bounded.push(c)
        }
        if bounded.len() > TEXT_BYTES_MAX {
            bounded.truncate(length);
            return bounded + "...";
        }
    }
    bounded
}

/// Our own words and those of libraries are shorter; some of what the peer said helps.
const TEXT_BYTES_MAX: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_cut_and_no_order_to_a_terminal() {
        let told = |text: String| in_full(&std::io::Error::other(text));
        assert_eq!(told("as it is: \u{fc}".to_owned()), "as it is: \u{fc}");
        assert_eq!(told("a\r\n\u{1b}[31m\u{9b}".to_owned()), "a\\r\\n\\u{1b}[31m\\u{9b}");
        for (text, length) in [
            ("x".repeat(192), 192),
            ("x".repeat(193), 195),
            ("\u{fc}".repeat(50_000), 195),
            ("\0".repeat(1000), 193),
        ] {
            assert_eq!(told(text.clone()).len(), length, "{}", text.len());
        }
    }
}
