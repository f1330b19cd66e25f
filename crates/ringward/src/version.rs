//! What this binary is.

/// Version of the release.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Revision of the source, given by whoever builds a release.
pub(crate) const REVISION: &str = match option_env!("RINGWARD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// How it was compiled.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
/// For which machines.
pub(crate) const ARCHITECTURE: &str = std::env::consts::ARCH;
