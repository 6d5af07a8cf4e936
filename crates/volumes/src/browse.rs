//! What is in a volume's head, a directory at a time, without a lease.

use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mount::{GuestPath, HostPath, Mount, MountSource, RootDir, detached};
use rustix::fs::{AtFlags, Dir, FileType, Stat};

use crate::{VolumeError, VolumeKey, VolumeManager};

/// An entry of a directory of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: any bytes but a slash.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes, for what it means something to.
    pub size: u64,
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When its content last changed, to the second.
    pub modified: SystemTime,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Symlink(Vec<u8>),
    /// A socket, a pipe or a device.
    Other,
}

impl VolumeManager {
    /// Returns the entries of the directory at `path` in the volume's head, by name. Links on the way
    /// are followed as a step would follow them, but never out of the volume.
    ///
    /// Takes no lease: what somebody writes in place meanwhile is seen half-done.
    ///
    /// # Errors
    /// [`VolumeError::Unknown`] if there is no such volume, [`VolumeError::NoDirectory`] if there is no
    /// such directory in it.
    pub async fn browse(&self, key: VolumeKey, path: GuestPath) -> Result<Vec<Entry>, VolumeError> {
        let name = self.inspect_name(key).await?;
        let location = self.path(key).await?;
        self.blocking("volumes.browse", move |_| {
            let listed = head(location.head).and_then(|head| entries(&head, &path));
            listed.map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    VolumeError::NoDirectory { volume: name, path: path.to_string(), source }
                }
                _ => VolumeError::system("browse", location.directory.as_path())(source),
            })
        })
        .await
    }

    async fn inspect_name(&self, key: VolumeKey) -> Result<String, VolumeError> {
        self.blocking("volumes.name", move |store| {
            Ok(crate::admin::known(&store, key)?.name.to_string())
        })
        .await
    }
}

/// Opens the tree that some layers make, topmost first.
fn head(mut layers: Vec<HostPath>) -> io::Result<RootDir> {
    let source = match layers.pop() {
        Some(only) if layers.is_empty() => return RootDir::open(&only),
        Some(last) => {
            layers.push(last);
            MountSource::Overlay { lower: layers, upper: None }
        }
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    detached::open(&Mount { source, readonly: true }).map_err(io::Error::other)?.root()
}

fn entries(head: &RootDir, path: &GuestPath) -> io::Result<Vec<Entry>> {
    let directory = head.open_dir(path)?;
    let mut entries = Vec::new();
    for listed in Dir::read_from(&directory)? {
        let listed = listed?;
        let name = listed.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed between the two looks.
            Err(rustix::io::Errno::NOENT) => continue,
            other => other?,
        };
        entries.push(entry(&directory, name, &stat)?);
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn entry(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<Entry> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            EntryKind::Symlink(target.into_bytes())
        }
        _ => EntryKind::Other,
    };
    let after = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    Ok(Entry {
        name: name.to_bytes().to_vec(),
        kind,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: UNIX_EPOCH.checked_add(after).unwrap_or(UNIX_EPOCH),
    })
}
