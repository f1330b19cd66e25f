//! gRPC over HTTP/2, without any knowledge of what its messages mean.

pub(crate) mod messages;
