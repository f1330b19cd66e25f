//! The engine whose policies are evaluated elsewhere: by an OPA server, over the REST API of its data.
//!
//! This is the question and the meaning of the answer. What is sent is the whole input, because nobody here knows what the
//! server's policies read of it. Who asks, and how long it waits, is the caller's business.
//!
//! <https://www.openpolicyagent.org/docs/rest-api#get-a-document-with-input>

mod answer;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::cache::Projection;
use crate::decision::{Decision, DecisionError};
use crate::engine::{CompiledPolicy, PolicyWorker, Query, Reply};
use crate::input::builder::Builder;
use crate::input::shape::InputShape;
use crate::input::subject::Subject;
use crate::input::view::RequestView;
use crate::problem::{Place, Problem};
use crate::server_error::ServerError;

/// A policy that an OPA server decides.
pub struct OpaPolicy {
    digest: [u8; 32],
    shape: InputShape,
    uncacheable: [Problem; 1],
}

impl OpaPolicy {
    /// The policy whose decisions are the values of `rule` (such as `data.ringward.authz.decision`) on the server, which gets
    /// an input of this shape.
    pub fn new(rule: &str, shape: InputShape) -> Self {
        let reason = "a server decides, and may know more the next time";
        Self {
            digest: Sha256::new().chain_update(format!("opa {shape} {rule}")).finalize().into(),
            shape,
            uncacheable: [Problem::warning(&Place::default(), reason)],
        }
    }
}

impl CompiledPolicy for OpaPolicy {
    fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn reads_body(&self) -> bool {
        true
    }

    fn projection(&self) -> Result<&Arc<Projection>, &[Problem]> {
        Err(&self.uncacheable)
    }

    fn worker(&self) -> Box<dyn PolicyWorker> {
        Box::new(OpaWorker { shape: self.shape, builder: Builder::whole(self.shape) })
    }
}

/// One worker's writer of questions.
struct OpaWorker {
    shape: InputShape,
    builder: Builder,
}

impl PolicyWorker for OpaWorker {
    fn ask(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Reply, DecisionError> {
        let input = self.builder.build(subject, request)?;
        let mut body = Vec::with_capacity(QUESTION_BYTES);
        body.extend_from_slice(b"{\"input\":");
        serde_json::to_writer(&mut body, &input)
            .map_err(|error| DecisionError::Evaluation(format!("the input cannot be written: {error}")))?;
        body.push(b'}');
        Ok(Reply::Pending(Query { body }))
    }

    fn read_answer(&mut self, answer: &[u8]) -> Result<Decision, DecisionError> {
        let result =
            answer::result(answer).map_err(|reason| DecisionError::Server(ServerError::NotJson(reason)))?;
        self.shape.decision(&result)
    }
}

/// Room for the question about a common request, so that it is written without growing.
const QUESTION_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
