//! Which responses of a route are compressed, and how.

use crate::raw::CompressionAlgorithm;

/// What a route says about compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The algorithms in the order of preference, each with its level. At least one.
    pub algorithms: Vec<(CompressionAlgorithm, u8)>,
    /// Responses that are known to be shorter pass as they are; at least 1.
    pub bytes_min: u64,
    /// Media types in lower case, `type/*` among them.
    pub content_types: Vec<Box<str>>,
}

impl Compression {
    /// Whether responses with this `Content-Type` are compressed.
    pub fn takes(&self, content_type: &[u8]) -> bool {
        let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is_streamed = media_type.eq_ignore_ascii_case(EVENT_STREAM);
        self.content_types.iter().any(|allowed| match allowed.strip_suffix('*') {
            // "text/"
            Some(range) => {
                let start = media_type.get(..range.len());
                !is_streamed && start.is_some_and(|start| start.eq_ignore_ascii_case(range.as_bytes()))
            }
            None => media_type.eq_ignore_ascii_case(allowed.as_bytes()),
        })
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_compared_without_parameters_and_case() {
        let content_types = ["text/*", "application/json"].map(Box::from).to_vec();
        let compression = Compression { algorithms: Vec::new(), bytes_min: 1, content_types };
        for (content_type, taken) in [
            ("text/html", true),
            ("TEXT/Plain; charset=utf-8", true),
            ("text/event-stream", false),
            ("text/event-stream;x=y", false),
            ("application/json", true),
            ("Application/JSON ;charset=utf-8", true),
            ("application/json-seq", false),
            ("application/problem+json", false),
            ("text", false),
            ("textual/html", false),
            ("", false),
            ("image/png", false),
        ] {
            assert_eq!(compression.takes(content_type.as_bytes()), taken, "{content_type}");
        }
        let content_types = vec![Box::from("text/event-stream")];
        let named = Compression { content_types, ..compression };
        assert!(named.takes(b"text/event-stream") && !named.takes(b"text/html"));
    }
}
