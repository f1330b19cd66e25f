//! Policy sources to decisions.
//!
//! A [`PolicySet`] holds the bytes of a policy. [`check`] looks at them thoroughly, in a [child process](child) that
//! may crash or hang in place of the proxy; [`compile`] then makes a [`CompiledPolicy`] of the very same bytes, whose
//! digests are compared. Each worker takes its own [`PolicyWorker`], makes a [`Subject`] per connection and asks for a
//! [`Decision`] per request.
//!
//! Everything fails closed: an error, a panic, a result that cannot be carried out or too long an evaluation is a
//! [`DecisionError`], never a decision. A denied request and a rule without a value are told apart from these.
//!
//! This crate alone names regorus. It knows no runtime, no HTTP types and no TLS; it opens no files and no sockets.

#![forbid(unsafe_code)]

mod ast;
mod builtins;
mod check;
pub mod child;
mod compile;
mod decision;
mod documents;
mod engine;
mod input;
mod problem;
mod reads;
mod rego;
mod scan;
mod set;
mod smoke;
mod testing;

pub use compile::{check, compile};
pub use decision::{Decision, DecisionError, HeaderPair};
pub use engine::{CompiledPolicy, PolicyWorker};
pub use input::subject::Subject;
pub use input::view::{ConnectionView, HeaderSource, RequestView, RouteView};
pub use problem::{PolicyErrors, Problem, Report, Severity, Test, TestOutcome, TestReport};
pub use set::{Limits, PolicySet, Source, SourceKind};
pub use testing::run_tests;
