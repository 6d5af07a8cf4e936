//! A saved list of what is in a tree, so that an unchanged tree need not be looked at.
//!
//! The file is `larder-tree-1\n`, then a header and the entries, each a message after its length. It
//! is written beside and renamed in, without syncing: it counts only for the boot of the machine in
//! which it was written, and for the very directory, known by inode and birth.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use bytes::{BufMut as _, Bytes, BytesMut};
use mount::HostPath;
use prost::Message as _;
use rustix::fs::{AtFlags, StatxFlags};

use super::packet::Stat;

const MAGIC: &[u8] = b"larder-tree-1\n";

/// Which tree, in which boot, and how long the list is.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    boot: String,
    #[prost(uint64, tag = "2")]
    inode: u64,
    #[prost(int64, tag = "3")]
    born_seconds: i64,
    #[prost(uint32, tag = "4")]
    born_nanoseconds: u32,
    #[prost(uint64, tag = "5")]
    length: u64,
}

/// The list of one tree: where it is kept, and what it must say to count.
#[derive(Debug)]
pub(crate) struct Index {
    path: HostPath,
    header: Header,
}

impl Index {
    /// Returns the index at `path` for the open directory `root`; none if the system does not tell
    /// what is needed to recognise it.
    pub(crate) fn of(path: HostPath, root: impl AsFd) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let wanted = StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        if !StatxFlags::from_bits_retain(stat.stx_mask).contains(wanted) {
            return None;
        }
        let header = Header {
            boot: boot.trim().to_owned(),
            inode: stat.stx_ino,
            born_seconds: stat.stx_btime.tv_sec,
            born_nanoseconds: stat.stx_btime.tv_nsec,
            length: 0,
        };
        Some(Self { path, header })
    }

    /// Returns the entries; none if there is no list, or it is for another tree or another boot.
    pub(crate) fn load(&self) -> Option<Vec<Stat>> {
        let bytes = fs::read(self.path.as_path()).ok()?;
        let mut rest = Bytes::from(bytes);
        if !rest.starts_with(MAGIC) {
            return None;
        }
        let _ = rest.split_to(MAGIC.len());
        let header = Header::decode_length_delimited(&mut rest).ok()?;
        let length = rest.len() as u64;
        if header != (Header { length, ..self.header.clone() }) {
            return None;
        }
        let mut entries = Vec::new();
        while !rest.is_empty() {
            entries.push(Stat::decode_length_delimited(&mut rest).ok()?);
        }
        Some(entries)
    }

    /// Removes the list: from now on the tree is not what it says.
    pub(crate) fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.path.as_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the list that `entries` holds.
    pub(crate) fn save(&self, entries: &Entries) -> io::Result<()> {
        let header = Header { length: entries.0.len() as u64, ..self.header.clone() };
        let mut start = MAGIC.to_vec();
        start.extend_from_slice(&header.encode_length_delimited_to_vec());
        let mut name = self.path.as_path().as_os_str().to_owned();
        name.push(".new");
        let mut file = fs::File::create(&name)?;
        io::Write::write_all(&mut file, &start)?;
        io::Write::write_all(&mut file, &entries.0)?;
        drop(file);
        fs::rename(&name, self.path.as_path())
    }
}

/// The entries of a list to be, encoded.
#[derive(Debug, Default)]
pub(crate) struct Entries(BytesMut);

impl Entries {
    /// Adds an entry after those there are.
    pub(crate) fn push(&mut self, stat: &Stat) {
        // A growable buffer never refuses.
        let _ = stat.encode_length_delimited(&mut self.0);
    }

    /// Adds an entry as a metadata-only transfer writes it: its length in four bytes, then itself.
    pub(crate) fn push_framed(&mut self, stat: &Stat) {
        self.0.put_u32_le(u32::try_from(stat.encoded_len()).unwrap_or(u32::MAX));
        self.0.put_slice(&stat.encode_to_vec());
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(directory: &tempfile::TempDir) -> Index {
        let root = fs::File::open(directory.path()).unwrap();
        let path = HostPath::new(directory.path().join("index")).unwrap();
        Index::of(path, root).unwrap()
    }

    fn entries() -> Entries {
        let mut entries = Entries::default();
        entries.push(&Stat { path: "a".into(), size: 7, ..Stat::default() });
        entries.push(&Stat { path: vec![b'b', 0xff].into(), ..Stat::default() });
        entries
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let index = index(&directory);
        assert!(index.load().is_none());
        index.save(&entries()).unwrap();
        let loaded = index.load().unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!((&loaded[0].path[..], loaded[0].size), (&b"a"[..], 7));
        assert_eq!(&loaded[1].path[..], b"b\xff");
        index.forget().unwrap();
        index.forget().unwrap();
        assert!(index.load().is_none());
    }

    #[test]
    fn a_list_counts_for_its_tree_and_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let index = index(&directory);
        index.save(&entries()).unwrap();
        for header in [
            Header { boot: "another".to_owned(), ..index.header.clone() },
            Header { inode: index.header.inode + 1, ..index.header.clone() },
            Header { born_nanoseconds: 1, born_seconds: 0, ..index.header.clone() },
        ] {
            assert!(Index { path: index.path.clone(), header }.load().is_none());
        }
    }

    #[test]
    fn a_damaged_list_is_no_list() {
        let directory = tempfile::tempdir().unwrap();
        let index = index(&directory);
        index.save(&entries()).unwrap();
        let whole = fs::read(index.path.as_path()).unwrap();
        for length in 0..whole.len() {
            fs::write(index.path.as_path(), &whole[..length]).unwrap();
            assert!(index.load().is_none(), "{length}");
        }
    }
}
