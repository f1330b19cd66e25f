//! Policy sources to decisions.
