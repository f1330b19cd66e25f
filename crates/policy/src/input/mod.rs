//! The input document: what is known of a client, its connection and one request, as the values of the evaluator.
//!
//! Built directly, never through JSON, and always fully populated: what is not there is an empty string, list or object
//! or zero, so that a policy's `not` cannot hold because a field is missing. Only the entries of `headers`,
//! `headers_all`, `query`, `params`, `labels` and `extensions` and the `json` of a body come and go.

pub(crate) mod body;
pub(crate) mod document;
pub(crate) mod facts;
pub(crate) mod given;
pub(crate) mod sample;
pub(crate) mod schema;
pub(crate) mod subject;
pub(crate) mod values;
pub(crate) mod view;
