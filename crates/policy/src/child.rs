//! What is done with a policy set in a child process, above all its check: what goes in, what comes out.
//!
//! A policy can make the interpreter use up stack, memory or time in ways that no guard foresaw, and a stack overflow
//! cannot be caught. So the set is checked in a process of its own first. The binary spawns it, limits its processor
//! time and memory and waits with a deadline; the request goes to its standard input, the reply comes from its standard
//! output. The reply names the digest of the bytes that were checked, and the parent loads a set only if that is the
//! digest of its own bytes: what was checked is what runs.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::compile::check;
use crate::evaluate::{Evaluation, Measurement, evaluate, measure};
use crate::problem::{PolicyErrors, Problem};
use crate::set::{Language, Limits, PolicySet, Source};
use crate::testing::{TestOptions, run_tests};

/// First bytes of a request; the number is the version of its form.
const MAGIC: &[u8; 8] = b"rwpolic3";

/// Most bytes of a request: more than any set within its limits would be sensible to have.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// Exit code of a child that could not read its request or write its reply.
pub const EXIT_BROKEN: i32 = 3;

/// What a child does with a set, and what it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Checks it, for a [`Report`](crate::Report). Failed tests refuse the set.
    Check,
    /// Runs its tests, for a [`TestRun`](crate::TestRun).
    Test(TestOptions),
    /// Evaluates it on an input, for what came out, [`Evaluated`](crate::Evaluated).
    Evaluate(Evaluation),
    /// Evaluates it many times, for how long that takes, [`Measured`](crate::Measured).
    Measure(Measurement),
}

/// What a child is asked to do.
pub struct Request;

impl Request {
    /// The request for a set: each part preceded by its length.
    pub fn encode(set: &PolicySet, task: &Task) -> Vec<u8> {
        let task = serde_json::to_vec(&(set.language(), task))
            .expect("names and values of a task are text and numbers");
        let size: usize =
            set.sources().iter().map(|source| source.path.len() + source.bytes.len() + 16).sum();
        let mut request = Vec::with_capacity(size + set.rule().len() + task.len() + 64);
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
        part(&task);
        part(set.rule().as_bytes());
        part(set.input().name().as_bytes());
        for source in set.sources() {
            part(source.path.as_bytes());
            part(&source.bytes);
        }
        request
    }

    /// The set that a request holds, and what is to be done with it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is no request of this version.
    pub fn decode(request: &[u8]) -> io::Result<(PolicySet, Task)> {
        let mut rest = Parts(request);
        if rest.take(MAGIC.len())? != MAGIC {
            return Err(broken("is not of this version"));
        }
        let limits = Limits {
            time_budget: Duration::from_nanos(rest.number()?),
            files_max: rest.size()?,
            policy_bytes_max: rest.size()?,
            data_bytes_max: rest.size()?,
        };
        let count = rest.size()?;
        let (language, task): (Language, Task) =
            serde_json::from_slice(rest.part()?).map_err(|_| broken("asks for an unknown task"))?;
        let rule = rest.text()?;
        let input = rest.text()?.parse().map_err(|_| broken("has an unknown shape of the input"))?;
        let mut sources = Vec::new();
        for _ in 0..count {
            let path = rest.text()?;
            sources.push(Source::new(path, rest.part()?));
        }
        if !rest.0.is_empty() {
            return Err(broken("has bytes behind its end"));
        }
        Ok((PolicySet::of(language, sources, rule.to_owned(), limits).with_input(input), task))
    }
}

/// What a child found: an answer of the task's type, or problems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<T> {
    /// Digest of the set that was looked at, in hexadecimal.
    digest: String,
    outcome: Outcome<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome<T> {
    Accepted(T),
    Refused(Vec<Problem>),
}

impl<T> Reply<T> {
    /// What the child found in `set`.
    ///
    /// # Errors
    ///
    /// [`ReplyError::Digest`] if the child looked at other bytes, [`ReplyError::Refused`] with all it found.
    pub fn into_answer(self, set: &PolicySet) -> Result<T, ReplyError> {
        if self.digest != hexadecimal(set.digest()) {
            return Err(ReplyError::Digest);
        }
        match self.outcome {
            Outcome::Accepted(answer) => Ok(answer),
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
pub fn parse_reply<T: DeserializeOwned>(output: &[u8]) -> Result<Reply<T>, ReplyError> {
    serde_json::from_slice(output).map_err(|error| ReplyError::Unreadable(error.to_string()))
}

/// The child: reads a request, does what it asks for, writes the reply. Returns the exit code of the process: 0 if the set
/// is accepted, 1 if it is refused, [`EXIT_BROKEN`] if there is no reply.
pub fn run_child(input: impl Read, output: impl Write) -> i32 {
    let mut request = Vec::new();
    let read = input.take(REQUEST_BYTES_MAX).read_to_end(&mut request);
    let Ok((set, task)) = read.and_then(|_| Request::decode(&request)) else { return EXIT_BROKEN };
    match task {
        Task::Check => reply(&set, check(&set), output),
        Task::Test(options) => reply(&set, run_tests(&set, &options), output),
        Task::Evaluate(evaluation) => reply(&set, evaluate(&set, &evaluation), output),
        Task::Measure(measurement) => reply(&set, measure(&set, &measurement), output),
    }
}

fn reply<T: Serialize>(set: &PolicySet, result: Result<T, PolicyErrors>, mut output: impl Write) -> i32 {
    let outcome = match result {
        Ok(answer) => Outcome::Accepted(answer),
        Err(errors) => Outcome::Refused(errors.problems().to_vec()),
    };
    let exit = i32::from(matches!(outcome, Outcome::Refused(_)));
    let reply = Reply { digest: hexadecimal(set.digest()), outcome };
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
    io::Error::new(io::ErrorKind::InvalidData, format!("request {what}"))
}

fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
