//! From stages to a build graph and an image configuration.

mod error;

pub use error::{ConfigError, CopyError, LowerError, OptionError, RunError, StageError};
