//! Blobs as files.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use digests::Digest;
use mount::HostPath;
use tempfile::NamedTempFile;

use crate::{BlobInfo, ContentError, ContentStore, Ingest, IngestSink, Reader};

/// Blobs as files, each named by its digest.
///
/// ```text
/// <root>/
///   blobs/sha256/<64 hex>    a whole blob, mode 0444
///   ingests/<random>         on its way in; swept when the store is opened
/// ```
///
/// A blob is written beside, synced, renamed into place, and its directory synced: after a power loss
/// it is there whole, or not at all. One process at a time may have a root open, because opening it
/// sweeps the ingests of the last one.
#[derive(Debug)]
pub struct DiskStore {
    blobs: HostPath,
    ingests: HostPath,
}

impl DiskStore {
    /// Opens the store at `root`, creates it if it is not there, and sweeps stale ingests.
    ///
    /// # Errors
    /// Returns an error if the directories cannot be made or listed.
    pub async fn open(root: HostPath) -> Result<Self, ContentError> {
        tasks::blocking("open content store", move || {
            let blobs = root.join("blobs").join("sha256");
            let ingests = root.join("ingests");
            for directory in [&blobs, &ingests] {
                fs::create_dir_all(directory)
                    .map_err(ContentError::io("create directory", directory.as_path()))?;
            }
            sweep(&ingests)?;
            Ok(Self { blobs, ingests })
        })
        .await?
    }

    fn blob(&self, digest: &Digest) -> HostPath {
        self.blobs.join(digest.hex())
    }
}

fn sweep(ingests: &HostPath) -> Result<(), ContentError> {
    let listed = fs::read_dir(ingests)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(ContentError::io("list", ingests.as_path()))?;
    for entry in &listed {
        fs::remove_file(entry.path()).map_err(ContentError::io("remove", entry.path()))?;
    }
    if !listed.is_empty() {
        tracing::info!(count = listed.len(), "removed blobs that were cut off on their way in");
    }
    Ok(())
}

#[async_trait]
impl ContentStore for DiskStore {
    async fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, ContentError> {
        let (path, digest) = (self.blob(digest), *digest);
        tasks::blocking("stat blob", move || match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(info(digest, &metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContentError::io("stat", path.as_path())(error)),
        })
        .await?
    }

    async fn open(&self, digest: &Digest) -> Result<Reader, ContentError> {
        let (path, digest) = (self.blob(digest), *digest);
        tasks::blocking("open blob", move || {
            match File::open(&path).and_then(|file| Reader::new(digest, file)) {
                Ok(reader) => Ok(reader),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(ContentError::NotFound { digest })
                }
                Err(error) => Err(ContentError::io("open", path.as_path())(error)),
            }
        })
        .await?
    }

    async fn ingest(
        &self,
        expected: Option<Digest>,
        expected_size: Option<u64>,
    ) -> Result<Ingest, ContentError> {
        let (blobs, ingests) = (self.blobs.clone(), self.ingests.clone());
        let sink = tasks::blocking("start ingest", move || {
            let file = tempfile::Builder::new()
                .prefix("")
                .tempfile_in(&ingests)
                .map_err(ContentError::io("create a file in", ingests.as_path()))?;
            Ok::<_, ContentError>(FileSink { file, blobs })
        })
        .await??;
        Ok(Ingest::new(expected, expected_size, Box::new(sink)))
    }

    async fn remove(&self, digest: &Digest) -> Result<bool, ContentError> {
        let path = self.blob(digest);
        tasks::blocking("remove blob", move || match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ContentError::io("remove", path.as_path())(error)),
        })
        .await?
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, ContentError> {
        let blobs = self.blobs.clone();
        tasks::blocking("list blobs", move || list(&blobs)).await?
    }

    fn path(&self, digest: &Digest) -> Option<HostPath> {
        Some(self.blob(digest))
    }
}

fn info(digest: Digest, metadata: &fs::Metadata) -> BlobInfo {
    let created = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    BlobInfo { digest, size: metadata.len(), created }
}

fn list(blobs: &HostPath) -> Result<Vec<BlobInfo>, ContentError> {
    let mut found = Vec::new();
    let entries = fs::read_dir(blobs).map_err(ContentError::io("list", blobs.as_path()))?;
    for entry in entries {
        let entry = entry.map_err(ContentError::io("list", blobs.as_path()))?;
        let name = entry.file_name();
        let Some(digest) = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok())
        else {
            tracing::warn!(path = %entry.path().display(), "not a blob: left alone");
            continue;
        };
        match entry.metadata() {
            Ok(metadata) => found.push(info(digest, &metadata)),
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContentError::io("stat", entry.path())(error)),
        }
    }
    found.sort_unstable_by_key(|blob| blob.digest);
    Ok(found)
}

/// A file beside the blobs, removed when dropped.
struct FileSink {
    file: NamedTempFile,
    blobs: HostPath,
}

impl IngestSink for FileSink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.file.write_all(bytes).map_err(ContentError::io("write", self.file.path()))
    }

    fn publish(self: Box<Self>, digest: Digest) -> Result<(), ContentError> {
        let target: PathBuf = self.blobs.join(digest.hex()).as_path().into();
        if target.try_exists().map_err(ContentError::io("stat", &target))? {
            return Ok(());
        }
        let file = self.file.as_file();
        file.set_permissions(fs::Permissions::from_mode(0o444))
            .and_then(|()| file.sync_all())
            .map_err(ContentError::io("sync", self.file.path()))?;
        self.file
            .persist(&target)
            .map_err(|error| ContentError::io("rename into", &target)(error.error))?;
        File::open(&self.blobs)
            .and_then(|directory| directory.sync_all())
            .map_err(ContentError::io("sync", self.blobs.as_path()))
    }
}
