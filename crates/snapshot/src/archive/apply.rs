//! Unpacks an archive into a layer.

use std::io::Read;

use mount::{HostPath, RootDir};

use super::{Applied, ArchiveError};

/// Unpacks an uncompressed OCI layer archive into `directory`, in the format of a layer; blocking.
///
/// `below` is the tree the layer will lie on. A directory that the archive implies but does not
/// contain takes its owner, mode and times from there, and a hard link to a file that is only there
/// copies it up. With none, such directories belong to root with mode 0755, and such a link is an
/// error.
///
/// No entry reaches outside `directory`, whatever its name or the links on the way; a name with `..`
/// that climbs is an error. Reads the archive to its end, so that the digest covers all of it.
///
/// # Errors
/// Returns an error that names the entry; what was unpacked so far stays for the caller to discard.
pub fn apply(
    archive: impl Read,
    directory: &HostPath,
    below: Option<&RootDir>,
) -> Result<Applied, ArchiveError> {
    todo!()
}
