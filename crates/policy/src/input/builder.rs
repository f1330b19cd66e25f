//! Builds documents of any shape.

use regorus::Value;

use crate::decision::DecisionError;
use crate::input::shape::InputShape;
use crate::input::subject::Subject;
use crate::input::view::RequestView;
use crate::input::{document, envoy, kong};
use crate::reads::Reads;

/// Builds the documents of one shape; owned by one worker.
pub(crate) enum Builder {
    Native(Box<document::Builder>),
    EnvoyV3(Box<envoy::Builder>),
    Kong(Box<kong::Builder>),
}

impl Builder {
    /// For a policy that reads no more than this. What is not read is left out, which no policy can notice.
    pub(crate) fn reading(shape: InputShape, reads: &Reads) -> Self {
        match shape {
            InputShape::Native => Self::Native(Box::new(document::Builder::new(document::Parts::of(reads)))),
            InputShape::EnvoyV3 => Self::EnvoyV3(Box::new(envoy::Builder::new(reads))),
            InputShape::Kong => Self::Kong(Box::new(kong::Builder::new(reads))),
        }
    }

    /// For whole documents.
    pub(crate) fn whole(shape: InputShape) -> Self {
        Self::reading(shape, &Reads::everything())
    }

    /// The document of a request.
    ///
    /// # Errors
    ///
    /// If the policy reads the body, and nobody can say for sure what it is.
    pub(crate) fn build(
        &mut self,
        subject: &Subject,
        view: &RequestView<'_>,
    ) -> Result<Value, DecisionError> {
        match self {
            Self::Native(builder) => builder.build(subject, view),
            Self::EnvoyV3(builder) => builder.build(subject, view),
            Self::Kong(builder) => builder.build(subject, view),
        }
    }
}
