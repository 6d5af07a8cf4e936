//! In which layer of an image a file is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use content::ContentStore;
use digests::Digest;
use oci::Descriptor;

use super::file_list::absolute;
use crate::ExportError;

/// How the names of entries begin that say what is gone.
const WHITEOUT: &str = ".wh.";

/// Returns the layer of each of these paths: the last one that has it. Of a file that is gone, it is the layer that
/// had it. Layers are read from the last one on, and only while something is missing.
pub(super) async fn find(
    content: &Arc<dyn ContentStore>,
    layers: &[Descriptor],
    mut missing: BTreeSet<String>,
) -> Result<BTreeMap<String, Digest>, ExportError> {
    let mut found = BTreeMap::new();
    for layer in layers.iter().rev() {
        if missing.is_empty() {
            break;
        }
        let blob = content.open(&layer.digest).await;
        let blob = blob.map_err(ExportError::during("open a layer"))?;
        let read = tasks::blocking("list layer", move || paths(blob.into_read())).await;
        let paths = read.map_err(ExportError::during("list the files of a layer"))?;
        let paths = paths.map_err(ExportError::during("list the files of a layer"))?;
        for path in paths {
            if missing.remove(&path) {
                found.insert(path, layer.digest);
            }
        }
    }
    Ok(found)
}

/// Returns the paths that an archive has; blocking.
fn paths(archive: impl Read) -> io::Result<Vec<String>> {
    let mut archive = tar::Archive::new(snapshot::decompress(archive)?);
    let mut paths = Vec::new();
    for entry in archive.entries()? {
        let path = absolute(&String::from_utf8_lossy(&entry?.path_bytes()));
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(WHITEOUT) {
            paths.push(path);
        }
    }
    Ok(paths)
}
