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
    /// What is known of a client and its connection, in the form that [`Self::decide`] takes. To be made once per
    /// connection; see [`Subject`] for how long it lasts.
    fn subject(&self, peer: Option<&PeerIdentity>, connection: &ConnectionView<'_>) -> Subject {
        Subject::new(peer, connection)
    }

    /// Decides one request.
    ///
    /// # Errors
    ///
    /// Every error means that there is no decision, so the request must not pass. After an error the evaluator is as
    /// new: nothing of one request reaches another.
    fn decide(&mut self, subject: &Subject, request: &RequestView<'_>) -> Result<Decision, DecisionError>;
}
