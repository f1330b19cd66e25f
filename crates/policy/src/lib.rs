//! Policy sources to decisions.
//!
//! A [`PolicySet`] holds the bytes of a policy. [`check`] looks at them thoroughly, in a [child process](child) that
//! may crash or hang in place of the proxy; [`compile`] then makes a [`CompiledPolicy`] of the very same bytes, whose
//! digests are compared. Each worker takes its own [`PolicyWorker`], in a [`CachingWorker`] that gives decisions again where
//! it can, makes a [`Subject`] per connection and asks for a [`Decision`] per request.
//!
//! Everything fails closed: an error, a panic, a result that cannot be carried out or too long an evaluation is a
//! [`DecisionError`], never a decision. A denied request and a rule without a value are told apart from these.
//!
//! This crate alone names regorus and Cedar. It knows no runtime, no HTTP types and no TLS; it opens no files and no sockets.

#![forbid(unsafe_code)]

mod ast;
mod builtins;
mod cache;
mod cedar;
mod check;
pub mod child;
mod compile;
mod coverage;
mod decision;
#[cfg(test)]
mod differential;
mod documents;
mod engine;
mod evaluate;
mod explain;
mod input;
mod matcher;
mod opa;
mod problem;
mod reads;
mod rego;
mod scan;
mod server_error;
mod set;
mod smoke;
mod testing;
mod trace;

pub use cache::{Answer, CacheOptions, CachingWorker, Lookup, Projection, Remains, SubjectMark, Verdict};
pub use compile::{check, compile};
pub use coverage::{Coverage, FileCoverage};
pub use decision::{Decision, DecisionError, HeaderPair, QueryParameter, combine};
pub use engine::{CompiledPolicy, PolicyWorker, Query, Reply};
pub use evaluate::{Evaluated, Evaluation, Measured, Measurement, evaluate, measure};
pub use explain::{ExplainedBody, ExplainedRule, Explanation, FailedCondition, Outcome};
pub use input::given::{Described, InputError, client_claims, complete_input};
pub use input::schema::{InputField, input_fields, input_json_schema};
pub use input::shape::{InputShape, UnknownShape};
pub use input::subject::Subject;
pub use input::view::{BodyView, ConnectionView, HeaderSource, RequestView, RouteView};
pub use opa::OpaPolicy;
pub use problem::{
    FailedStatement, Mention, Mentioned, PolicyErrors, Problem, Report, Severity, Test, TestOutcome,
    TestReport,
};
pub use server_error::ServerError;
pub use set::{Language, Limits, PolicySet, Source, SourceKind};
pub use testing::{TestOptions, TestRun, check_test_filter, run_tests};

/// For the benchmarks of this repository: the steps of a decision on their own.
#[doc(hidden)]
pub mod bench {
    use crate::input::builder::Builder;
    use crate::reads::Reads;
    use crate::{InputShape, RequestView, Subject};

    /// Builds input documents.
    pub struct InputBuilder(Builder);

    impl InputBuilder {
        /// A builder for a policy that reads everything.
        pub fn whole(shape: InputShape) -> Self {
            Self(Builder::whole(shape))
        }

        /// A builder for a policy that reads these paths, such as `request.path`.
        pub fn reading(shape: InputShape, paths: &[&str]) -> Self {
            Self(Builder::reading(shape, &Reads::from_dotted(paths)))
        }

        /// Builds the document of a request. Returns the number of its top-level fields, so that it is not optimised away.
        pub fn build(&mut self, subject: &Subject, request: &RequestView<'_>) -> usize {
            let document = self.0.build(subject, request);
            document.map_or(0, |document| document.as_object().map_or(0, |fields| fields.len()))
        }
    }
}
