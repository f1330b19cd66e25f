//! The input document: what is known of a client, its connection and one request, as the values of the evaluator.
//!
//! Built directly, never through JSON, and only what the policy can read. There is one module for each shape: `document`
//! for the native one, `envoy` and `kong`; `shape` says what differs between them, `builder` builds any of them.
//!
//! The native input is always fully populated: what is not there is an empty string, list or object or zero, so that a
//! policy's `not` cannot hold because a field is missing. Only the entries of `headers`, `headers_all`, `query`, `params`,
//! `labels` and `extensions` and the `json` of a body come and go. The others lack what their gateways leave out, as policies for them expect.

pub(crate) mod body;
pub(crate) mod builder;
pub(crate) mod document;
pub(crate) mod envoy;
pub(crate) mod facts;
pub(crate) mod given;
pub(crate) mod go_form;
pub(crate) mod kong;
pub(crate) mod parsed_body;
pub(crate) mod sample;
pub(crate) mod schema;
pub(crate) mod shape;
pub(crate) mod subject;
pub(crate) mod values;
pub(crate) mod view;
