//! TLS credentials, trust bundles, verification and the record pump, without any I/O.
