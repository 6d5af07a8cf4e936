//! Writes a layer as an archive.

use std::io::Write;

use mount::HostPath;

use super::{ArchiveError, WriteOptions, Written};

/// Writes the layer in `directory` as an uncompressed OCI layer archive; blocking.
///
/// The same layer gives the same bytes: entries are sorted, names of users and groups are left out,
/// and PAX records are there only where the plain header does not suffice.
///
/// # Errors
/// Returns an error if a file cannot be read or `archive` cannot be written.
pub fn write_layer(
    directory: &HostPath,
    archive: impl Write,
    options: WriteOptions,
) -> Result<Written, ArchiveError> {
    todo!()
}
