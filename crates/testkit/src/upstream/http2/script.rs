//! What the server does with one request, step by step.

use crate::pattern::Pattern;
use crate::upstream::Gate;

/// Steps that the server takes once it has read a request head. Nothing is sent that no step sends; a stream that has not
/// ended after the last one is reset.
#[derive(Debug, Clone, Default)]
pub struct Http2Script {
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    ReadBody,
    Interim(u16, Vec<(String, String)>),
    Head { status: u16, fields: Vec<(String, String)>, ends: bool },
    Data { bytes: Vec<u8>, ends: bool },
    SendPattern(Pattern),
    Trailers(Vec<(String, String)>),
    Wait(Gate),
    Reset(u32),
}

impl Http2Script {
    /// No steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the request body to its end.
    pub fn read_body(self) -> Self {
        self.step(Step::ReadBody)
    }

    /// Sends an interim response.
    pub fn interim(self, status: u16, fields: &[(&str, &str)]) -> Self {
        self.step(Step::Interim(status, owned(fields)))
    }

    /// Sends the head of a response, which `ends` the stream or not.
    pub fn head(self, status: u16, fields: &[(&str, &str)], ends: bool) -> Self {
        self.step(Step::Head { status, fields: owned(fields), ends })
    }

    /// Sends a part of a body, which `ends` the stream or not.
    pub fn data(self, bytes: impl AsRef<[u8]>, ends: bool) -> Self {
        self.step(Step::Data { bytes: bytes.as_ref().to_vec(), ends })
    }

    /// Sends all bytes of a pattern, as fast as they are taken.
    pub fn send_pattern(self, pattern: Pattern) -> Self {
        self.step(Step::SendPattern(pattern))
    }

    /// Ends the stream with trailer fields.
    pub fn trailers(self, fields: &[(&str, &str)]) -> Self {
        self.step(Step::Trailers(owned(fields)))
    }

    /// Sends a whole response without a length.
    pub fn respond(self, status: u16, fields: &[(&str, &str)], body: &str) -> Self {
        self.head(status, fields, false).data(body, true)
    }

    /// Waits, reading and sending nothing, until the gate is open or the client resets the stream, which ends the script.
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Resets the stream with this code.
    pub fn reset(self, code: u32) -> Self {
        self.step(Step::Reset(code))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
