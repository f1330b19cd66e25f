//! The check of a policy set in a child process: what goes in, what comes out.
//!
//! A policy can make the interpreter use up stack, memory or time in ways that no guard foresaw, and a stack overflow
//! cannot be caught. So the set is checked in a process of its own first. The binary spawns it, limits its processor
//! time and memory and waits with a deadline; the request goes to its standard input, the reply comes from its standard
//! output. The reply names the digest of the bytes that were checked, and the parent loads a set only if that is the
//! digest of its own bytes: what was checked is what runs.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compile::check;
use crate::problem::{PolicyErrors, Problem, Report};
use crate::set::{Limits, PolicySet, Source};

/// First bytes of a request; the number is the version of its form.
const MAGIC: &[u8; 8] = b"rwpolic1";

/// Most bytes of a request: more than any set within its limits would be sensible to have.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Exit code of a child that could not read its request or write its reply.
pub const EXIT_BROKEN: i32 = 3;

/// What a child is asked to check.
pub struct CheckRequest;

impl CheckRequest {
    /// The request for a set: each part preceded by its length.
    pub fn encode(set: &PolicySet) -> Vec<u8> {
        let size: usize =
            set.sources().iter().map(|source| source.path.len() + source.bytes.len() + 16).sum();
        let mut request = Vec::with_capacity(size + set.rule().len() + 64);
        request.extend_from_slice(MAGIC);
        let limits = set.limits();
        let budget = u64::try_from(limits.time_budget.as_nanos()).unwrap_or(u64::MAX);
        for number in [
            budget,
            limits.files_max as u64,
            limits.policy_bytes_max as u64,
            limits.data_bytes_max as u64,
            set.sources().len() as u64,
        ] {
            request.extend_from_slice(&number.to_be_bytes());
        }
        let mut part = |bytes: &[u8]| {
            request.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            request.extend_from_slice(bytes);
        };
        part(set.rule().as_bytes());
        for source in set.sources() {
            part(source.path.as_bytes());
            part(&source.bytes);
        }
        request
    }

    /// The set that a request holds.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is no request of this version.
    pub fn decode(request: &[u8]) -> io::Result<PolicySet> {
        let mut rest = Parts(request);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(broken("is not a check request of this version"));
        }
        let limits = Limits {
            time_budget: Duration::from_nanos(rest.number()?),
            files_max: rest.size()?,
            policy_bytes_max: rest.size()?,
            data_bytes_max: rest.size()?,
        };
        let count = rest.size()?;
        let rule = rest.text()?;
        let mut sources = Vec::new();
        for _ in 0..count {
            let path = rest.text()?;
            sources.push(Source::new(path, rest.part()?));
        }
        if !rest.0.is_empty() {
            return Err(broken("has bytes behind its end"));
        }
        Ok(PolicySet::new(sources, rule, limits))
    }
}

/// What a child found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReply {
    /// Digest of the set that was checked, in hexadecimal.
    digest: String,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Accepted(Report),
    Refused(Vec<Problem>),
}

impl CheckReply {
    /// What the child found in `set`.
    ///
    /// # Errors
    ///
    /// [`ReplyError::Digest`] if the child checked other bytes, [`ReplyError::Refused`] with all it found.
    pub fn into_report(self, set: &PolicySet) -> Result<Report, ReplyError> {
        if self.digest != hexadecimal(set.digest()) {
            return Err(ReplyError::Digest);
        }
        match self.outcome {
            Outcome::Accepted(report) => Ok(report),
            Outcome::Refused(problems) => Err(ReplyError::Refused(PolicyErrors::new(problems))),
        }
    }
}

/// Why a policy set was not accepted by a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The child did not write a reply: it was ended, or crashed.
    #[error("the check of the policy wrote no reply ({0}); it likely ran out of stack, memory or time")]
    Unreadable(String),
    /// The child checked something else.
    #[error("the check of the policy was of other bytes than those to be loaded")]
    Digest,
    /// The set is refused.
    #[error("{0}")]
    Refused(PolicyErrors),
}

/// Reads what a child wrote.
///
/// # Errors
///
/// [`ReplyError::Unreadable`] if it is not a whole reply.
pub fn parse_report(output: &[u8]) -> Result<CheckReply, ReplyError> {
    serde_json::from_slice(output).map_err(|error| ReplyError::Unreadable(error.to_string()))
}

/// The child: reads a request, checks the set, writes the reply. Returns the exit code of the process: 0 if the set is
/// accepted, 1 if it is refused, [`EXIT_BROKEN`] if there is no reply.
pub fn run_child(input: impl Read, mut output: impl Write) -> i32 {
    let mut request = Vec::new();
    let read = input.take(REQUEST_BYTES_MAX).read_to_end(&mut request);
    let Ok(set) = read.and_then(|_| CheckRequest::decode(&request)) else { return EXIT_BROKEN };
    let outcome = match check(&set) {
        Ok(report) => Outcome::Accepted(report),
        Err(errors) => Outcome::Refused(errors.problems().to_vec()),
    };
    let exit = i32::from(matches!(outcome, Outcome::Refused(_)));
    let reply = CheckReply { digest: hexadecimal(set.digest()), outcome };
    let Ok(json) = serde_json::to_vec(&reply) else { return EXIT_BROKEN };
    if output.write_all(&json).and_then(|()| output.flush()).is_err() {
        return EXIT_BROKEN;
    }
    exit
}

/// The parts of a request that are still to be read.
struct Parts<'r>(&'r [u8]);

impl<'r> Parts<'r> {
    fn take(&mut self, count: usize) -> io::Result<&'r [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| broken("ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
        Ok(u64::from_be_bytes(bytes))
    }

    fn size(&mut self) -> io::Result<usize> {
        usize::try_from(self.number()?).map_err(|_| broken("has a size beyond this machine"))
    }

    fn part(&mut self) -> io::Result<&'r [u8]> {
        let size = self.size()?;
        self.take(size)
    }

    fn text(&mut self) -> io::Result<&'r str> {
        std::str::from_utf8(self.part()?).map_err(|_| broken("has a name that is not UTF-8"))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("check request {what}"))
}

fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
