//! The metric catalogue, per-worker shards and the access, decision and security records.
