//! The messages of a transfer (`fsutil.types`), with names as the bytes they are.
//!
//! The same messages exist in `proto`, where the `.proto` file makes a path a string. A file name
//! need not be UTF-8, and clients send such names as they are, so here a path is `bytes`: the wire
//! is the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use rustix::fs::{FileType, Mode};

/// One message of a transfer, in either direction.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Packet {
    #[prost(enumeration = "PacketKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) stat: Option<Stat>,
    #[prost(uint32, tag = "3")]
    pub(crate) id: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum PacketKind {
    /// An entry of the tree; without one, the end of the entries.
    Stat = 0,
    /// The content of a file is wanted.
    Request = 1,
    /// A part of a file's content; an empty one is its end.
    Data = 2,
    /// All is done.
    Fin = 3,
    /// Something failed, in words.
    Error = 4,
}

/// An entry of a tree.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stat {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) path: Bytes,
    /// In Go's form, see [`FileMode`].
    #[prost(uint32, tag = "2")]
    pub(crate) mode: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) uid: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) gid: u32,
    #[prost(int64, tag = "5")]
    pub(crate) size: i64,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "6")]
    pub(crate) modified: i64,
    /// A symbolic link's target; for another file, the path it is a hard link to.
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) link: Bytes,
    #[prost(int64, tag = "8")]
    pub(crate) device_major: i64,
    #[prost(int64, tag = "9")]
    pub(crate) device_minor: i64,
    #[prost(btree_map = "string, bytes", tag = "10")]
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Packet {
    pub(crate) fn stat(stat: Stat) -> Self {
        Self { stat: Some(stat), ..Self::default() }
    }

    /// Returns the end of the entries: a message of no bytes.
    pub(crate) fn end_of_stats() -> Self {
        Self::default()
    }

    pub(crate) fn request(id: u32) -> Self {
        Self { kind: PacketKind::Request.into(), id, ..Self::default() }
    }

    pub(crate) fn data(id: u32, data: Bytes) -> Self {
        Self { kind: PacketKind::Data.into(), id, data, ..Self::default() }
    }

    pub(crate) fn fin() -> Self {
        Self { kind: PacketKind::Fin.into(), ..Self::default() }
    }

    pub(crate) fn error(message: String) -> Self {
        Self { kind: PacketKind::Error.into(), data: message.into(), ..Self::default() }
    }
}

impl Stat {
    /// Returns the mode as a typed value.
    pub(crate) fn file_mode(&self) -> FileMode {
        FileMode(self.mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.file_mode().kind() == Some(Kind::Directory)
    }

    /// Returns true for a second name of a file that came before.
    pub(crate) fn is_hard_link(&self) -> bool {
        !self.link.is_empty()
            && !matches!(self.file_mode().kind(), Some(Kind::Symlink | Kind::Directory))
    }
}

/// Mode bits in the form of Go's `os.FileMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

/// The types of files that travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Regular,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
}

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const FIFO: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHAR_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;
const IRREGULAR: u32 = 1 << 19;
const TYPE: u32 = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHAR_DEVICE | IRREGULAR;

impl FileMode {
    /// Converts the mode of a file on disk; none for a type that does not travel as itself.
    pub(crate) fn from_raw(raw: u32) -> Self {
        let kind = match FileType::from_raw_mode(raw) {
            FileType::Directory => DIRECTORY,
            FileType::Symlink => SYMLINK,
            FileType::Fifo => FIFO,
            FileType::CharacterDevice => DEVICE | CHAR_DEVICE,
            FileType::BlockDevice => DEVICE,
            // A socket travels as an empty file.
            FileType::RegularFile | FileType::Socket | FileType::Unknown => 0,
        };
        let special = [(Mode::SUID, SETUID), (Mode::SGID, SETGID), (Mode::SVTX, STICKY)]
            .into_iter()
            .filter(|(posix, _)| raw & posix.bits() != 0)
            .fold(0, |bits, (_, go)| bits | go);
        Self(kind | special | raw & 0o777)
    }

    /// Returns the file's type; none if the bits name no type that travels.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self.0 & TYPE {
            0 => Some(Kind::Regular),
            DIRECTORY => Some(Kind::Directory),
            SYMLINK => Some(Kind::Symlink),
            FIFO => Some(Kind::Fifo),
            DEVICE => Some(Kind::BlockDevice),
            bits if bits == DEVICE | CHAR_DEVICE => Some(Kind::CharDevice),
            _ => None,
        }
    }

    /// Returns the permission bits for `chmod`.
    pub(crate) fn permissions(self) -> Mode {
        [(SETUID, Mode::SUID), (SETGID, Mode::SGID), (STICKY, Mode::SVTX)]
            .into_iter()
            .filter(|(go, _)| self.0 & go != 0)
            .fold(Mode::from_raw_mode(self.0 & 0o777), |mode, (_, posix)| mode | posix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        for (raw, go) in [
            (0o100_644, 420),
            (0o040_755, 2_147_484_141),
            (0o120_777, 134_218_239),
            (0o104_755, 1 << 23 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o020_600, 1 << 26 | 1 << 21 | 0o600),
            (0o060_600, 1 << 26 | 0o600),
            (0o140_600, 0o600),
        ] {
            assert_eq!(FileMode::from_raw(raw), FileMode(go), "{raw:o}");
        }
        assert_eq!(FileMode(1 << 19).kind(), None);
    }

    #[test]
    fn the_end_of_the_entries_has_no_bytes() {
        assert_eq!(Packet::end_of_stats().encoded_len(), 0);
        assert_eq!(Packet::decode(&b""[..]).unwrap(), Packet::end_of_stats());
    }

    #[test]
    fn the_wire_is_that_of_the_proto_file() {
        let stat = Stat {
            path: "a/b".into(),
            mode: 420,
            uid: 1,
            gid: 2,
            size: 3,
            modified: 4,
            link: "a/a".into(),
            device_major: 5,
            device_minor: 6,
            xattrs: BTreeMap::from([("user.x".to_owned(), b"y".to_vec())]),
        };
        let packet = Packet { kind: 2, id: 7, data: "z".into(), stat: Some(stat) };
        let theirs = proto::fsutil::Packet::decode(&packet.encode_to_vec()[..]).unwrap();
        assert_eq!(theirs.encode_to_vec(), packet.encode_to_vec());
        let stat = theirs.stat.unwrap();
        assert_eq!((stat.path.as_str(), stat.linkname.as_str()), ("a/b", "a/a"));
        assert_eq!((stat.mod_time, stat.devmajor, stat.devminor), (4, 5, 6));
    }

    proptest! {
        #[test]
        fn permissions_survive(bits in 0u32..0o10000) {
            let mode = FileMode::from_raw(0o100_000 | bits);
            prop_assert_eq!(mode.permissions().bits(), bits);
            prop_assert_eq!(mode.kind(), Some(Kind::Regular));
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = Packet::decode(&bytes[..]);
        }
    }
}
