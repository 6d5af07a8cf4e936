//! The container's tree, put together before it is entered.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use mount::{GuestPath, Mount, MountSource};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use super::attach::{AttachError, Depth, INERT, attach, clone_tree, filesystem, overlay, restrict};
use super::bench::{Bench, PrivateFile};
use super::entries::{self, Device, Entry};
use super::points::{Kind, Points};
use super::reason::Doing as _;
use crate::linux::message::{ContainerPlan, PlannedMount};
use crate::linux::skeleton;
use crate::linux::sys::Reach;
use crate::{Security, SetupError};

const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
/// The kernel's magic number of a proc file system.
const PROC_MAGIC: i64 = 0x9fa0;

/// The texts and contents that a container's files are made of.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// What goes into the caller's files, in order.
    pub files: Vec<&'a [u8]>,
}

/// A container's tree while it is put together.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    plan: &'a ContainerPlan,
    contents: &'a Contents<'a>,
    bench: Bench,
    /// Where things are mounted, and what was created for it.
    pub points: Points,
    /// The root's own mount.
    top: OwnedFd,
}

impl<'a> Tree<'a> {
    /// Mounts the root.
    pub(super) fn plant(
        plan: &'a ContainerPlan,
        contents: &'a Contents<'a>,
    ) -> Result<Self, SetupError> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).doing("separate the mounts from the host's")?;
        let bench = Bench::set_up(plan.scratch.as_path()).doing("set up the workbench")?;
        let root = GuestPath::root();
        let attributes = device_attributes(plan.process.security);
        let whole = skeleton::below(&plan.root, &plan.skeleton);
        let top = source(&whole, attributes, &bench).mounting(&root, "root")?;
        let place = bench.root();
        let point = open_directory(&place).mounting(&root, "root")?;
        attach(&top, &point).mounting(&root, "root")?;
        let handle = top.try_clone().mounting(&root, "root")?;
        let points = Points::new(place, handle).mounting(&root, "root")?;
        Ok(Self { plan, contents, bench, points, top })
    }

    /// Returns a descriptor by which the root itself can be changed when everything else is gone, also
    /// if the process may not write to it.
    pub(super) fn writable_root(&self) -> Result<OwnedFd, SetupError> {
        if self.plan.root_readonly {
            clone_tree(&self.top, Path::new(""), Depth::One).doing("keep the root writable")
        } else {
            self.top.try_clone().doing("keep the root open")
        }
    }

    /// Mounts everything else.
    pub(super) fn furnish(&mut self) -> Result<(), SetupError> {
        for (target, entry) in entries::entries(&self.plan.mounts) {
            self.mount(&target, &entry)?;
        }
        if self.plan.process.security == Security::Sandbox {
            for path in entries::MASKED {
                self.mask(path).doing(&format!("hide `{path}`"))?;
            }
            for path in entries::READ_ONLY {
                self.make_read_only(path).doing(&format!("protect `{path}`"))?;
            }
        }
        Ok(())
    }

    fn mount(&mut self, target: &GuestPath, entry: &Entry<'_>) -> Result<(), SetupError> {
        let insecure = self.plan.process.security == Security::Insecure;
        let kernel = if insecure { INERT } else { INERT | READ_ONLY };
        let tree = match entry {
            Entry::Proc => filesystem("proc", &[], INERT),
            Entry::Sys => filesystem("sysfs", &[], kernel),
            Entry::Dev => return self.mount_devices(target),
            Entry::DevPts => filesystem(
                "devpts",
                &[("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            ),
            Entry::DevShm => {
                let size = self.plan.shm_size.to_string();
                filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], INERT)
            }
            Entry::DevMqueue => match filesystem("mqueue", &[], INERT) {
                // A kernel without message queues.
                Err(error) if error.errno() == rustix::io::Errno::NODEV => return Ok(()),
                done => done,
            },
            Entry::Cgroup => return self.mount_cgroups(target, kernel),
            Entry::ResolvConf => {
                return self.mount_text(target, "resolv.conf", &self.contents.resolv_conf);
            }
            Entry::Hosts => return self.mount_text(target, "hosts", &self.contents.hosts),
            Entry::Guest(mount, index) => return self.mount_guest(target, mount, *index),
        };
        let tree = tree.mounting(target, "create")?;
        self.put(tree, target)
    }

    /// Attaches `tree` at `target`.
    fn put(&mut self, tree: OwnedFd, target: &GuestPath) -> Result<(), SetupError> {
        let kind = Kind::of(tree.as_fd()).mounting(target, "look at the source")?;
        let point = self.points.point(target, kind).mounting(target, "make the mount point")?;
        if Kind::of(point.as_fd()).mounting(target, "look at the mount point")? != kind {
            let error = "a directory and a file cannot be mounted on one another";
            return Err(error).mounting(target, "attach");
        }
        let is_proc = rustix::fs::fstatfs(&point).is_ok_and(|fs| fs.f_type == PROC_MAGIC);
        if is_proc {
            return Err("it is inside `/proc`").mounting(target, "attach");
        }
        attach(tree, point).mounting(target, "attach")
    }

    fn mount_devices(&mut self, target: &GuestPath) -> Result<(), SetupError> {
        let security = self.plan.process.security;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_STRICTATIME
            | device_attributes(security);
        let options = [("mode", "755"), ("size", "65536k")];
        let tree = filesystem("tmpfs", &options, attributes).mounting(target, "create")?;
        let directory = tree.try_clone().mounting(target, "create")?;
        self.put(tree, target)?;
        self.fill_devices(&directory, security).mounting(target, "fill")
    }

    /// Device nodes are single mounts: what the process itself creates in `/dev` opens no device.
    fn fill_devices(&self, dev: &OwnedFd, security: Security) -> io::Result<()> {
        for name in ["pts", "shm", "mqueue"] {
            rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
        }
        let core = Some(entries::CORE_LINK).filter(|(_, target)| Path::new(target).exists());
        for (name, target) in entries::DEVICE_LINKS.into_iter().chain(core) {
            rustix::fs::symlinkat(target, dev, name)?;
        }
        for Device { name, number } in entries::devices(security) {
            let node = self.bench.node(name, FileType::CharacterDevice, number)?;
            attach_device(dev, name, &node)?;
        }
        if security == Security::Insecure {
            for minor in 0..entries::LOOP_DEVICES {
                let name = format!("loop{minor}");
                let node = self.bench.node(&name, FileType::BlockDevice, (7, minor))?;
                attach_device(dev, &name, &node)?;
            }
        }
        Ok(())
    }

    /// Mounts the terminal as the console.
    pub(super) fn put_console(
        &mut self,
        console: OwnedFd,
        place: &GuestPath,
    ) -> Result<(), SetupError> {
        self.put(console, place)
    }

    fn mount_cgroups(
        &mut self,
        target: &GuestPath,
        attributes: MountAttrFlags,
    ) -> Result<(), SetupError> {
        if self.points.root().stat(target).is_err() {
            // A kernel without control groups, or a caller's own `/sys`.
            return Ok(());
        }
        if self.plan.cgroup_namespace {
            let tree = filesystem("cgroup2", &[], attributes).mounting(target, "create")?;
            return self.put(tree, target);
        }
        let groups = self.plan.cgroup.iter().flat_map(|plan| &plan.legacy);
        let groups: Vec<_> = groups.collect();
        let empty = filesystem("tmpfs", &[("mode", "755")], INERT).mounting(target, "create")?;
        let view = empty.try_clone().mounting(target, "create")?;
        self.put(empty, target)?;
        for group in groups {
            let path = target.join(&group.controller).mounting(target, "name")?;
            let tree = clone_tree(rustix::fs::CWD, group.directory.as_path(), Depth::One);
            // The group could not be made: there is nothing to show.
            let Ok(tree) = tree else { continue };
            restrict(&tree, attributes, Reach::Top).mounting(&path, "restrict")?;
            self.put(tree, &path)?;
        }
        restrict(view, attributes, Reach::Top).mounting(target, "restrict")
    }

    fn mount_text(&mut self, target: &GuestPath, name: &str, text: &str) -> Result<(), SetupError> {
        let file = PrivateFile { name, content: text.as_bytes(), mode: 0o644, owner: (0, 0) };
        let tree = self.bench.file(&file).mounting(target, "write")?;
        restrict(&tree, INERT | READ_ONLY, Reach::Top).mounting(target, "restrict")?;
        self.put(tree, target)
    }

    fn mount_guest(
        &mut self,
        target: &GuestPath,
        mount: &PlannedMount,
        index: usize,
    ) -> Result<(), SetupError> {
        let devices = device_attributes(self.plan.process.security);
        let tree = match mount {
            PlannedMount::Mount { mount, selector } => {
                let tree = part(mount, selector, devices, &self.bench);
                tree.mounting(target, "open the source")?
            }
            PlannedMount::Tmpfs { size, mode } => {
                tmpfs(*size, *mode, devices).mounting(target, "create")?
            }
            PlannedMount::File { mode, uid, gid, .. } => {
                let content = self.contents.files.get(index).copied().unwrap_or_default();
                let name = format!("guest-{index}");
                let owner = (*uid, *gid);
                let file = PrivateFile { name: &name, content, mode: *mode, owner };
                let tree = self.bench.file(&file).mounting(target, "write")?;
                let mut attributes = READ_ONLY | INERT;
                attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, mode & 0o111 == 0);
                restrict(&tree, attributes, Reach::Top).mounting(target, "restrict")?;
                tree
            }
            PlannedMount::Socket { path } => {
                let tree = clone_tree(rustix::fs::CWD, path.as_path(), Depth::One);
                tree.mounting(target, "open the socket")?
            }
        };
        self.put(tree, target)
    }

    fn mask(&self, path: &str) -> io::Result<()> {
        let Some(point) = self.existing(path)? else { return Ok(()) };
        let cover = match Kind::of(point.as_fd())? {
            Kind::Directory => self.bench.empty(),
            Kind::File => self.bench.null(),
        };
        let cover = cover.map_err(io::Error::other)?;
        attach(cover, point).map_err(io::Error::other)
    }

    fn make_read_only(&self, path: &str) -> io::Result<()> {
        let Some(point) = self.existing(path)? else { return Ok(()) };
        let tree = clone_tree(&point, Path::new(""), Depth::All).map_err(io::Error::other)?;
        restrict(&tree, READ_ONLY, Reach::All).map_err(io::Error::other)?;
        attach(tree, point).map_err(io::Error::other)
    }

    fn existing(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        let path = GuestPath::new(path).map_err(io::Error::other)?;
        match self.points.root().open_at(&path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(point) => Ok(Some(point)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the tree the root of this process and leaves everything else behind.
    pub(super) fn enter(self) -> Result<(), SetupError> {
        if self.plan.root_readonly {
            restrict(&self.top, READ_ONLY, Reach::Top).doing("make the root read-only")?;
        }
        rustix::process::fchdir(&self.top).doing("enter the root")?;
        rustix::process::pivot_root(".", ".").doing("change the root")?;
        unmount(".", UnmountFlags::DETACH).doing("leave the host's root")?;
        rustix::process::chdir("/").doing("enter the root")
    }
}

/// Attaches a device's mount at a new name in `dev`.
fn attach_device(dev: &OwnedFd, name: &str, node: &OwnedFd) -> io::Result<()> {
    if let Some((directory, _)) = name.rsplit_once('/') {
        rustix::fs::mkdirat(dev, directory, Mode::from_raw_mode(0o755))?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let point = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o644))?;
    attach(node, point).map_err(io::Error::other)
}

/// Devices of the host are reached through what is in `/dev` alone, unless everything is allowed.
const fn device_attributes(security: Security) -> MountAttrFlags {
    match security {
        Security::Sandbox => MountAttrFlags::MOUNT_ATTR_NODEV,
        Security::Insecure => MountAttrFlags::empty(),
    }
}

/// Returns a mount of the whole of `mount`'s source.
fn source(
    mount: &Mount,
    attributes: MountAttrFlags,
    bench: &Bench,
) -> Result<OwnedFd, AttachError> {
    let mut attributes = attributes;
    attributes.set(READ_ONLY, mount.readonly);
    match &mount.source {
        MountSource::Bind(path) => {
            let tree = clone_tree(rustix::fs::CWD, path.as_path(), Depth::All)?;
            restrict(&tree, attributes, Reach::All)?;
            Ok(tree)
        }
        MountSource::Overlay { lower, upper: None } if lower.len() == 1 => {
            let [only] = lower.as_slice() else { unreachable!("its length is 1") };
            let tree = clone_tree(rustix::fs::CWD, only.as_path(), Depth::All)?;
            restrict(&tree, attributes | READ_ONLY, Reach::All)?;
            Ok(tree)
        }
        MountSource::Overlay { lower, upper } => {
            overlay(lower, upper.as_ref(), attributes, &bench.other())
        }
        MountSource::Tmpfs { size, mode } => tmpfs(*size, *mode, attributes),
    }
}

fn tmpfs(size: Option<u64>, mode: u32, attributes: MountAttrFlags) -> Result<OwnedFd, AttachError> {
    let mode = format!("{:o}", mode & 0o7777);
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    filesystem("tmpfs", &options, attributes | MountAttrFlags::MOUNT_ATTR_NOSUID)
}

/// Returns a mount of what `selector` names inside `mount`'s source.
fn part(
    mount: &Mount,
    selector: &GuestPath,
    attributes: MountAttrFlags,
    bench: &Bench,
) -> io::Result<OwnedFd> {
    let whole = source(mount, attributes, bench).map_err(io::Error::other)?;
    if selector.is_root() {
        return Ok(whole);
    }
    // A part can be taken of an attached tree only.
    let other = open_directory(&bench.other())?;
    attach(&whole, other).map_err(io::Error::other)?;
    let inside = mount::RootDir::from_fd(whole);
    let place = inside.open_at(selector, OFlags::PATH, Mode::empty());
    let tree = place.and_then(|place| {
        let tree = clone_tree(place, Path::new(""), Depth::All).map_err(io::Error::other)?;
        Ok(tree)
    });
    unmount(bench.other(), UnmountFlags::DETACH)?;
    tree
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
