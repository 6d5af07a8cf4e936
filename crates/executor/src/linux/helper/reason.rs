//! From the kernel's errors to those of a setup.

use std::fmt::Display;

use mount::GuestPath;

use crate::SetupError;

/// Says what was being done when something failed.
pub(super) trait Doing<T> {
    /// Turns the error into that of a step of the setup.
    fn doing(self, step: &str) -> Result<T, SetupError>;

    /// Turns the error into that of mounting at `target`.
    fn mounting(self, target: &GuestPath, step: &str) -> Result<T, SetupError>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, step: &str) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::Step { step: step.to_owned(), reason: error.to_string() })
    }

    fn mounting(self, target: &GuestPath, step: &str) -> Result<T, SetupError> {
        self.map_err(|error| SetupError::Mount {
            target: target.to_string(),
            reason: format!("{step}: {error}"),
        })
    }
}
