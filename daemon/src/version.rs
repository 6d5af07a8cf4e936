//! What this daemon is called and which version it is.

/// Our own version.
pub(crate) const OURS: &str = env!("CARGO_PKG_VERSION");

/// What `--version` prints after the program's name.
pub(crate) const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (BuildKit API v0.25.0)");

/// The version that clients of the BuildKit API see. Some compare it: it is the release whose API this
/// is, and says in the part that comparisons leave out whose it is.
pub(crate) const API: &str = concat!("v0.25.0+larder.", env!("CARGO_PKG_VERSION"));

/// The package that clients see beside it.
pub(crate) const PACKAGE: &str = "larder";
