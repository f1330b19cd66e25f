//! Ringward: mTLS reverse proxy and API gateway.
fn main() {}
