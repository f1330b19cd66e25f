//! The data path: listener, handshake, connection, exchange.
