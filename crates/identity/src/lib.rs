//! Reads a peer identity from a verified certificate chain and writes it into headers.
