//! The layer that turns one tree into another.

use mount::{HostPath, RootDir};

use crate::walk::TreeError;

/// Compares two trees and fills `directory`, empty so far, with the layer that turns `lower` into
/// `upper`; blocking.
///
/// Two files are the same if their metadata is, and their times tell that it cannot be by accident;
/// where a time was rounded to a second, as archives do, their content is compared.
///
/// # Errors
/// Returns an error that names the file which could not be read or copied.
pub fn diff_trees(lower: &RootDir, upper: &RootDir, directory: &HostPath) -> Result<(), TreeError> {
    todo!()
}
