//! What a policy engine has to offer. Two traits, because compiling and deciding happen in two worlds: a
//! [`CompiledPolicy`] belongs to a snapshot and is shared by all workers, a [`PolicyWorker`] belongs to one of them.

use std::sync::Arc;

use ringward_identity::PeerIdentity;

use crate::cache::Projection;
use crate::decision::{Decision, DecisionError};
use crate::input::subject::Subject;
use crate::input::view::{ConnectionView, RequestView};
use crate::problem::Problem;

/// A policy that passed all checks. Immutable.
pub trait CompiledPolicy: Send + Sync {
    /// Digest of the policy set that it was compiled from.
    fn digest(&self) -> &[u8; 32];

    /// Whether its decisions can depend on the body of a request, so that [`RequestView::body`] is worth filling.
    fn reads_body(&self) -> bool {
        false
    }

    /// Whether the policy was written with the body in mind: it names it. One that does not, such as one that reads the whole
    /// input, does without.
    fn names_body(&self) -> bool {
        false
    }

    /// What of a request its decisions depend on.
    ///
    /// # Errors
    ///
    /// Every reason why its decisions must not be given again.
    fn projection(&self) -> Result<&Arc<Projection>, &[Problem]>;

    /// An evaluator of its own for one worker. Cheap: the policy itself is shared.
    ///
    /// The thread that decides needs 1 MiB of stack; what could take more was refused by the checks.
    fn worker(&self) -> Box<dyn PolicyWorker>;
}

/// The evaluator of one worker.
pub trait PolicyWorker {
    /// What is known of a client and its connection, in the form that [`Self::ask`] takes. To be made once per
    /// connection; see [`Subject`] for how long it lasts.
    fn subject(&self, peer: Option<&PeerIdentity>, connection: &ConnectionView<'_>) -> Subject {
        Subject::new(peer, connection)
    }

    /// Decides one request, or says whom to ask.
    ///
    /// # Errors
    ///
    /// Every error means that there is no decision, so the request must not pass. After an error the evaluator is as
    /// new: nothing of one request reaches another.
    fn ask(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Reply, DecisionError>;

    /// The decision that a server's answer to a [`Query`] of this policy stands for.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`]: whatever is not plainly a decision is none.
    fn read_answer(&mut self, answer: &[u8]) -> Result<Decision, DecisionError> {
        let _ = answer;
        Err(DecisionError::Evaluation("the engine asks no server".to_owned()))
    }
}

/// How far an engine came by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It has decided.
    Decided(Decision),
    /// A server decides: the caller is to send it the query, and to give its answer to [`PolicyWorker::read_answer`].
    Pending(Query),
}

/// What a policy server is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// The body of the question, as JSON.
    pub body: Vec<u8>,
}

impl dyn PolicyWorker + '_ {
    /// Decides one request by an engine that asks nobody.
    ///
    /// # Errors
    ///
    /// As [`PolicyWorker::ask`], and for an engine that has to ask a server.
    pub fn decide(
        &mut self,
        subject: &Subject,
        request: &RequestView<'_>,
    ) -> Result<Decision, DecisionError> {
        match self.ask(subject, request)? {
            Reply::Decided(decision) => Ok(decision),
            Reply::Pending(_) => Err(DecisionError::Evaluation("a policy server has to be asked".to_owned())),
        }
    }
}
