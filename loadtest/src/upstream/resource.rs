//! What a path asks the upstream for.

use std::time::Duration;

/// What is answered, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Counted from when the request was read, without its body.
    pub(super) delay: Duration,
    pub(super) resource: Resource,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// So many bytes, with their length.
    Bytes(u64),
    /// So many bytes, without their length.
    Chunked(u64),
    /// This status and no body.
    Status(u16),
    /// So many server-sent events, one by one, with this time between them.
    Events { count: u32, between: Duration },
    /// The body of the request, as it comes.
    Echo,
    /// Length and SHA-256 of the request's body.
    Report,
}

impl Wanted {
    /// What a request of this method for this path asks for. A path with a number that is none, or too large, gets status 400.
    pub(super) fn new(method: &str, path: &str) -> Wanted {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let mut delay = Duration::ZERO;
        let mut parts = path.strip_prefix('/').unwrap_or(path);
        while let Some(rest) = parts.strip_prefix("delay/") {
            let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
            let Some(milliseconds) = number(first, MILLISECONDS_MAX) else {
                return Wanted { delay: Duration::ZERO, resource: Resource::Status(400) };
            };
            delay = (delay + Duration::from_millis(milliseconds)).min(DELAY_MAX);
            parts = rest;
        }
        let resource = Resource::new(method, parts).unwrap_or(Resource::Status(400));
        Wanted { delay, resource }
    }
}

impl Resource {
    fn new(method: &str, path: &str) -> Option<Resource> {
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        if name == "echo" {
            return Some(Resource::Echo);
        }
        if name == "discard" {
            return Some(Resource::Bytes(BYTES_DEFAULT));
        }
        if method == "POST" {
            return Some(Resource::Report);
        }
        let first = || rest.split('/').next().unwrap_or("");
        Some(match name {
            "bytes" => Resource::Bytes(number(first(), BYTES_MAX)?),
            "chunked" => Resource::Chunked(number(first(), BYTES_MAX)?),
            "status" => {
                Resource::Status(number(first(), 599).filter(|&status| status >= 200)?.try_into().ok()?)
            }
            "sse" => {
                let (count, between) = rest.split_once('/').unwrap_or((rest, "0"));
                let count = number(count, EVENTS_MAX)?.try_into().ok()?;
                let between = number(between.split('/').next()?, MILLISECONDS_MAX)?;
                Resource::Events { count, between: Duration::from_millis(between) }
            }
            _ => Resource::Bytes(BYTES_DEFAULT),
        })
    }
}

fn number(text: &str, max: u64) -> Option<u64> {
    text.parse().ok().filter(|&number| number <= max)
}

/// A small answer, as APIs give.
const BYTES_DEFAULT: u64 = 128;
/// As much as a run may ask for (`--expect-bytes`, `--body-bytes`).
const BYTES_MAX: u64 = 16 << 30;
/// No run lasts longer.
const DELAY_MAX: Duration = Duration::from_secs(3600);
const MILLISECONDS_MAX: u64 = 3_600_000;
const EVENTS_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_is_answered() {
        let events = |count, between| Resource::Events { count, between: Duration::from_millis(between) };
        for (request, delay, resource) in [
            ("GET /", 0, Resource::Bytes(128)),
            ("GET /orders/17?page=2", 0, Resource::Bytes(128)),
            ("GET /bytes/0", 0, Resource::Bytes(0)),
            ("GET /bytes/17/4711-1", 0, Resource::Bytes(17)),
            ("GET /bytes/17179869184?x=/", 0, Resource::Bytes(16 << 30)),
            ("GET /bytes/17179869185", 0, Resource::Status(400)),
            ("GET /bytes/-1", 0, Resource::Status(400)),
            ("GET /bytes", 0, Resource::Status(400)),
            ("HEAD /chunked/5", 0, Resource::Chunked(5)),
            ("GET /status/503", 0, Resource::Status(503)),
            ("GET /status/199", 0, Resource::Status(400)),
            ("GET /status/600", 0, Resource::Status(400)),
            ("GET /sse/3/20", 0, events(3, 20)),
            ("GET /sse/3", 0, events(3, 0)),
            ("GET /sse/1000001/0", 0, Resource::Status(400)),
            ("GET /delay/20", 20, Resource::Bytes(128)),
            ("GET /delay/20/status/404", 20, Resource::Status(404)),
            ("GET /delay/20/delay/30/bytes/1", 50, Resource::Bytes(1)),
            ("GET /delay/3600001", 0, Resource::Status(400)),
            ("POST /discard", 0, Resource::Bytes(128)),
            ("POST /bytes/17", 0, Resource::Report),
            ("POST /delay/5/upload", 5, Resource::Report),
            ("POST /echo", 0, Resource::Echo),
            ("PUT /echo/x", 0, Resource::Echo),
            ("OPTIONS *", 0, Resource::Bytes(128)),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            let wanted = Wanted { delay: Duration::from_millis(delay), resource };
            assert_eq!(Wanted::new(method, path), wanted, "{request}");
        }
    }
}
