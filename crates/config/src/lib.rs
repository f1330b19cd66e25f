//! The configuration file: TOML in, a validated immutable model or diagnostics out.
