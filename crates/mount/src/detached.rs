//! Mounts that are nowhere in the file system.
//!
//! A detached mount is a descriptor: one reads and writes through it with the `…at` calls or a
//! [`RootDir`], and may attach it later. The host's mount table never shows it, and when the last
//! descriptor of it closes, by a crash too, it is gone. All calls here block, briefly.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::{HostPath, Mount, MountSource, OverlayUpper, RootDir, Syncing};

/// The most lower directories one overlay takes (`OVL_MAX_STACK` of the kernel).
pub const OVERLAY_MAX_LOWER: usize = 500;

/// The options of every overlay that is written to, and what they are set to. A layer must mean the same
/// under any other stack, so nothing in it may point at what was below when it was made; a kernel may be
/// told to let it, by default (`overlayfs.rst` of the kernel, "redirect_dir" and "metadata only copy up").
pub const SELF_CONTAINED: [(&str, &str); 3] =
    [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

/// Why a mount could not be performed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A bind mount's source cannot be opened.
    #[error("open `{path}` to be mounted")]
    Source {
        /// The source.
        path: HostPath,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel does not know the file system, or does not let us make one.
    #[error("start a mount of type `{kind}`")]
    Start {
        /// The file system's name.
        kind: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused an option or the whole mount.
    #[error("mount `{kind}`: {}", if reason.is_empty() { "the kernel gives no reason" } else { reason })]
    Refused {
        /// The file system's name.
        kind: &'static str,
        /// The kernel's own words, as read from the mount's descriptor.
        reason: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An overlay has more lower directories than the kernel takes.
    #[error("an overlay of {layers} directories is over the kernel's limit of {OVERLAY_MAX_LOWER}")]
    TooManyLayers {
        /// How many were asked for.
        layers: usize,
    },
    /// A path cannot be written as an option of a kernel without `lowerdir+` (before Linux 6.7).
    #[error("mount `overlay`: {reason}; use Linux 6.7 or newer, or a shorter root directory")]
    OldKernel {
        /// What does not fit.
        reason: &'static str,
    },
    /// The mount was made but cannot be attached to its place.
    #[error("attach a mount to `{target}`")]
    Attach {
        /// The place.
        target: HostPath,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A mount without a place; see the module.
#[must_use = "a detached mount ends when it is dropped"]
#[derive(Debug)]
pub struct DetachedMount {
    root: OwnedFd,
    attachable: bool,
}

/// Performs `mount` without attaching it anywhere.
///
/// A bind mount of a directory needs no mount at all to be read or written: it is the directory
/// itself, opened. `readonly` is enforced for an overlay and a tmpfs, not for such a directory, which
/// is one reason why [`DetachedMount::attach`] is there only for mounts that are meant to be attached
/// by their owner and not to be handed to a guest.
///
/// # Errors
/// Returns an error if the kernel refuses, with its reason.
pub fn open(mount: &Mount) -> Result<DetachedMount, MountError> {
    match &mount.source {
        MountSource::Bind(path) => {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let root = rustix::fs::open(path.as_path(), flags, Mode::empty())
                .map_err(|error| MountError::Source { path: path.clone(), source: error.into() })?;
            Ok(DetachedMount { root, attachable: false })
        }
        MountSource::Overlay { lower, upper } => {
            if lower.len() > OVERLAY_MAX_LOWER {
                return Err(MountError::TooManyLayers { layers: lower.len() });
            }
            overlay(lower, upper.as_ref(), attributes(mount.readonly))
        }
        MountSource::Tmpfs { size, mode } => tmpfs(*size, *mode, attributes(mount.readonly)),
    }
}

fn attributes(readonly: bool) -> MountAttrFlags {
    if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() }
}

impl DetachedMount {
    /// Returns the tree, for lookups that stay inside it.
    ///
    /// # Errors
    /// Returns an error if the process is out of descriptors.
    pub fn root(&self) -> io::Result<RootDir> {
        self.root.try_clone().map(RootDir::from_fd)
    }

    /// Attaches the mount to `target`, an existing directory (or a file, for a bind mount of a
    /// file). From then on it is an ordinary mount of this namespace, which its owner unmounts.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses.
    pub fn attach(&self, target: &HostPath) -> Result<(), MountError> {
        let refused =
            |error: Errno| MountError::Attach { target: target.clone(), source: error.into() };
        let from_here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        if self.attachable {
            return move_mount(&self.root, "", CWD, target.as_path(), from_here).map_err(refused);
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&self.root, "", flags).map_err(refused)?;
        move_mount(&tree, "", CWD, target.as_path(), from_here).map_err(refused)
    }
}

impl OverlayUpper {
    /// Lets a layer that its owner syncs be mounted once more: the kernel leaves a mark in its scratch
    /// space that refuses that, because it cannot know whether the machine went down since. The owner
    /// does: such a layer never outlives the process that writes it unless it is complete.
    ///
    /// # Errors
    /// Returns the error of `unlink(2)` or `rmdir(2)`; no mark is no error.
    pub fn admit_again(&self) -> Result<(), Errno> {
        // A directory with a file in it (`ovl_create_volatile_dirty` of the kernel).
        let mark = self.work.join("work/incompat/volatile");
        let file = rustix::fs::unlink(mark.join("dirty").as_path());
        for removed in [file, rustix::fs::rmdir(mark.as_path())] {
            match removed {
                Err(error) if error != Errno::NOENT => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl From<DetachedMount> for OwnedFd {
    fn from(mount: DetachedMount) -> Self {
        mount.root
    }
}

/// A file system being configured.
struct Configuration {
    kind: &'static str,
    descriptor: OwnedFd,
}

impl Configuration {
    fn start(kind: &'static str) -> Result<Self, MountError> {
        let descriptor = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| MountError::Start { kind, source: error.into() })?;
        Ok(Self { kind, descriptor })
    }

    fn set(&self, key: &str, value: impl AsRef<OsStr>) -> Result<(), MountError> {
        let value = value.as_ref();
        fsconfig_set_string(&self.descriptor, key, value)
            .map_err(|error| self.refused_option(key, value, error))
    }

    fn finish(self, attributes: MountAttrFlags) -> Result<DetachedMount, MountError> {
        fsconfig_create(&self.descriptor).map_err(|error| self.refused(error))?;
        let root = fsmount(&self.descriptor, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| self.refused(error))?;
        Ok(DetachedMount { root, attachable: true })
    }

    fn refused(&self, error: Errno) -> MountError {
        MountError::Refused { kind: self.kind, reason: self.reason(), source: error.into() }
    }

    /// The kernel is silent about a path that is not there: then the option itself is the reason.
    fn refused_option(&self, key: &str, value: &OsStr, error: Errno) -> MountError {
        let mut reason = self.reason();
        if reason.is_empty() {
            reason = format!("`{key}={}` is not taken", value.display());
        }
        MountError::Refused { kind: self.kind, reason, source: error.into() }
    }

    /// Reads the kernel's messages: one per `read`, each with a letter for its severity before it.
    fn reason(&self) -> String {
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = rustix::io::read(&self.descriptor, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]);
            let text = text.trim();
            messages.push(text.split_once(' ').map_or(text, |(_, message)| message).to_owned());
        }
        messages.join("; ")
    }
}

fn overlay(
    lower: &[HostPath],
    upper: Option<&OverlayUpper>,
    attributes: MountAttrFlags,
) -> Result<DetachedMount, MountError> {
    let configuration = Configuration::start("overlay")?;
    set_lower(&configuration, lower)?;
    if let Some(layer) = upper {
        let OverlayUpper { upper, work, syncing } = layer;
        configuration.set("upperdir", upper.as_path())?;
        configuration.set("workdir", work.as_path())?;
        if *syncing == Syncing::Owner {
            layer.admit_again().map_err(|error| configuration.refused(error))?;
            fsconfig_set_flag(&configuration.descriptor, "volatile")
                .map_err(|error| configuration.refused(error))?;
        }
        // A kernel built without an option refuses its name: then it is off.
        for (key, off) in SELF_CONTAINED {
            let _ = fsconfig_set_string(&configuration.descriptor, key, off);
        }
    }
    if !is_initial_user_namespace() {
        let _ = fsconfig_set_flag(&configuration.descriptor, "userxattr");
    }
    configuration.finish(attributes)
}

/// Returns true if the `trusted.*` attributes are ours to use; else an overlay keeps its marks in
/// `user.*`.
fn is_initial_user_namespace() -> bool {
    let whole = ["0", "0", "4294967295"];
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(whole)
}

fn set_lower(configuration: &Configuration, lower: &[HostPath]) -> Result<(), MountError> {
    if !takes_layers_one_by_one(&rustix::system::uname().release().to_string_lossy()) {
        return set_lower_at_once(configuration, lower);
    }
    lower.iter().try_for_each(|directory| configuration.set("lowerdir+", directory.as_path()))
}

/// Returns true for the release of a kernel with `lowerdir+`, 6.7 or newer.
///
/// Asking the kernel itself is no use: an old one takes any name and refuses the mount as a whole.
fn takes_layers_one_by_one(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 7))
}

/// Sets all lower directories as one option, which the kernel limits to 255 bytes.
///
/// Each directory is named through a descriptor of ours, as short as a path can be.
fn set_lower_at_once(configuration: &Configuration, lower: &[HostPath]) -> Result<(), MountError> {
    let mut held = Vec::with_capacity(lower.len());
    let mut option = PathBuf::new().into_os_string();
    for path in lower {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path.as_path(), flags, Mode::empty())
            .map_err(|error| MountError::Source { path: path.clone(), source: error.into() })?;
        if !option.is_empty() {
            option.push(":");
        }
        option.push(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        held.push(directory);
    }
    if option.len() > 255 {
        return Err(MountError::OldKernel { reason: "the list of layers is over 255 bytes" });
    }
    configuration.set("lowerdir", option)
}

fn tmpfs(
    size: Option<u64>,
    mode: u32,
    attributes: MountAttrFlags,
) -> Result<DetachedMount, MountError> {
    let configuration = Configuration::start("tmpfs")?;
    configuration.set("mode", format!("{mode:o}"))?;
    if let Some(size) = size {
        configuration.set("size", size.to_string())?;
    }
    configuration.finish(attributes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{FileType, makedev, mknodat};

    use super::*;
    use crate::GuestPath;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn directory(&self, name: &str) -> HostPath {
            let path = self.0.path().join(name);
            fs::create_dir_all(&path).unwrap();
            HostPath::new(path).unwrap()
        }
    }

    fn overlay_of(lower: Vec<HostPath>, upper: Option<OverlayUpper>) -> Mount {
        let readonly = upper.is_none();
        Mount { source: MountSource::Overlay { lower, upper }, readonly }
    }

    fn read(mount: &DetachedMount, path: &str) -> io::Result<String> {
        let file = mount.root()?.open_file(&GuestPath::new(path).unwrap())?;
        io::read_to_string(file)
    }

    fn mount_table() -> String {
        fs::read_to_string("/proc/self/mountinfo").unwrap()
    }

    #[test]
    fn an_overlay_is_readable_without_a_place() {
        let place = Place::new();
        let (below, above) = (place.directory("below"), place.directory("above"));
        fs::write(below.join("kept"), "below").unwrap();
        fs::write(below.join("gone"), "below").unwrap();
        fs::write(above.join("new"), "above").unwrap();
        let whiteout = above.join("gone");
        mknodat(CWD, whiteout.as_path(), FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
            .unwrap();
        let mount = open(&overlay_of(vec![above.clone(), below], None)).unwrap();
        assert_eq!(read(&mount, "kept").unwrap(), "below");
        assert_eq!(read(&mount, "new").unwrap(), "above");
        assert_eq!(read(&mount, "gone").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!mount_table().contains(&above.to_string()));
        let made = rustix::fs::mkdirat(&mount, "x", Mode::RWXU);
        assert_eq!(made, Err(Errno::ROFS));
    }

    #[test]
    fn what_is_written_lands_in_the_upper_directory() {
        let place = Place::new();
        let (upper, work) = (place.directory("upper"), place.directory("work"));
        let lower = vec![place.directory("below")];
        let upper = OverlayUpper { upper, work, syncing: Syncing::Kernel };
        let mount = open(&overlay_of(lower, Some(upper.clone()))).unwrap();
        rustix::fs::mkdirat(&mount, "made", Mode::RWXU).unwrap();
        assert!(upper.upper.join("made").as_path().is_dir());
    }

    #[test]
    fn a_layer_that_its_owner_syncs_is_mounted_again() {
        let place = Place::new();
        let (upper, work) = (place.directory("upper"), place.directory("work"));
        let upper = OverlayUpper { upper, work, syncing: Syncing::Owner };
        let layer = overlay_of(vec![place.directory("below")], Some(upper.clone()));
        for name in ["first", "second"] {
            let mount = open(&layer).unwrap();
            rustix::fs::mkdirat(&mount, name, Mode::RWXU).unwrap();
            assert!(upper.work.join("work/incompat/volatile").as_path().is_dir(), "it is volatile");
        }
        assert!(upper.upper.join("first").as_path().is_dir());
        assert!(upper.upper.join("second").as_path().is_dir());
    }

    #[test]
    fn many_layers_are_one_mount_and_too_many_an_error() {
        let place = Place::new();
        let mut lower: Vec<_> =
            (0..OVERLAY_MAX_LOWER).map(|n| place.directory(&format!("a-long-name-{n}"))).collect();
        fs::write(lower[OVERLAY_MAX_LOWER - 1].join("deepest"), "here").unwrap();
        let mount = open(&overlay_of(lower.clone(), None)).unwrap();
        assert_eq!(read(&mount, "deepest").unwrap(), "here");
        lower.push(place.directory("one-more"));
        let error = open(&overlay_of(lower, None)).unwrap_err();
        assert!(matches!(error, MountError::TooManyLayers { layers: 501 }), "{error}");
    }

    #[test]
    fn names_with_the_kernels_separators_are_taken() {
        let place = Place::new();
        let lower = vec![place.directory("a:b,c\\d"), place.directory("e f=g")];
        fs::write(lower[0].join("one"), "1").unwrap();
        fs::write(lower[1].join("two"), "2").unwrap();
        let mount = open(&overlay_of(lower, None)).unwrap();
        assert_eq!(read(&mount, "one").unwrap(), "1");
        assert_eq!(read(&mount, "two").unwrap(), "2");
    }

    #[test]
    fn the_kernels_reason_is_in_the_error() {
        let place = Place::new();
        let missing = HostPath::new(place.0.path().join("missing")).unwrap();
        let error = open(&overlay_of(vec![missing, place.directory("there")], None)).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        let file = place.directory("there").join("file");
        fs::write(&file, "").unwrap();
        let error = open(&overlay_of(vec![file, place.directory("there")], None)).unwrap_err();
        assert!(error.to_string().contains("is not a directory"), "{error}");
    }

    #[test]
    fn kernels_are_told_apart() {
        for (release, new) in
            [("6.18.44-x", true), ("6.7.0", true), ("7.0", true), ("6.6.9", false), ("5.15", false)]
        {
            assert_eq!(takes_layers_one_by_one(release), new, "{release}");
        }
    }

    #[test]
    fn short_lists_work_as_one_option_too() {
        let place = Place::new();
        let lower = vec![place.directory("a:b"), place.directory("c,d")];
        fs::write(lower[0].join("one"), "1").unwrap();
        let configuration = Configuration::start("overlay").unwrap();
        set_lower_at_once(&configuration, &lower).unwrap();
        let mount = configuration.finish(attributes(true)).unwrap();
        assert_eq!(read(&mount, "one").unwrap(), "1");
        let configuration = Configuration::start("overlay").unwrap();
        let many = vec![lower[0].clone(); 40];
        let error = set_lower_at_once(&configuration, &many).unwrap_err();
        assert!(matches!(error, MountError::OldKernel { .. }), "{error}");
    }

    #[test]
    fn a_tmpfs_has_its_size_and_mode() {
        let source = MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 };
        let mount = open(&Mount { source, readonly: false }).unwrap();
        let stat = rustix::fs::fstat(mount.root().unwrap().open_dir(&GuestPath::root()).unwrap());
        assert_eq!(stat.unwrap().st_mode & 0o7777, 0o1777);
        let room = rustix::fs::fstatvfs(mount.as_fd()).unwrap();
        assert_eq!(room.f_blocks * room.f_frsize, 1 << 20);
    }

    #[test]
    fn a_bind_is_the_directory_itself() {
        let place = Place::new();
        let directory = place.directory("bound");
        fs::write(directory.join("file"), "content").unwrap();
        let mount = open(&Mount::bind(directory.clone())).unwrap();
        assert_eq!(read(&mount, "file").unwrap(), "content");
        let missing = directory.join("missing");
        let error = open(&Mount::bind(missing.clone())).unwrap_err();
        assert!(error.to_string().contains(&missing.to_string()), "{error}");
    }

    #[test]
    fn a_mount_can_be_attached() {
        let place = Place::new();
        let (a, b, target) = (place.directory("a"), place.directory("b"), place.directory("at"));
        fs::write(a.join("file"), "through").unwrap();
        for mount in [overlay_of(vec![a.clone(), b], None), Mount::bind(a)] {
            open(&mount).unwrap().attach(&target).unwrap();
            assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "through");
            rustix::mount::unmount(target.as_path(), rustix::mount::UnmountFlags::empty()).unwrap();
            assert!(!mount_table().contains(&target.to_string()));
        }
    }
}
