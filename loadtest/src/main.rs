//! Load harness.
fn main() {}
