//! What of a container can be put together before it is known what runs in it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use mount::GuestPath;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};

use super::attach::{Depth, INERT, attach, clone_tree, filesystem, restrict};
use super::bench::{Bench, open_directory};
use super::entries::{self, Device};
use super::points::{Kind, Points};
use super::reason::Doing as _;
use crate::linux::kernel::Kernel;
use crate::linux::message::{Preparation, Shape};
use crate::linux::sys::Reach;
use crate::{Security, SetupError};

pub(super) const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// The workbench, with the trees on it that every container has. Each is put into the container as a
/// whole; where the caller has a part of its own, the tree is put together in the container instead.
#[derive(Debug)]
pub(super) struct Workshop<'a> {
    preparation: &'a Preparation,
    pub bench: Bench,
    /// The trees that are ready, by what is at their top.
    stock: Vec<(Kernel, OwnedFd)>,
}

impl<'a> Workshop<'a> {
    /// Leaves the host's mounts to themselves and puts together what can be.
    pub(super) fn open(preparation: &'a Preparation) -> Result<Self, SetupError> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).doing("separate the mounts from the host's")?;
        let bench = Bench::set_up(preparation.scratch.as_path()).doing("set up the workbench")?;
        let mut workshop = Self { preparation, bench, stock: Vec::new() };
        let place = workshop.bench.stock();
        for top in TOPS {
            std::fs::create_dir(place_of(&place, top)).doing("set up the workbench")?;
        }
        let directory = open_directory(&place).doing("open the workbench")?;
        let mut points = Points::new(place.clone(), directory).doing("open the workbench")?;
        let usual = preparation.shape.usual;
        for kernel in Kernel::ALL.into_iter().filter(|kernel| usual.has(*kernel)) {
            workshop.create(&mut points, kernel)?;
        }
        workshop.hide_in(&points, |top| usual.has(top))?;
        for top in TOPS.into_iter().filter(|top| usual.has(*top)) {
            let tree = open_directory(&place_of(&place, top));
            workshop.stock.push((top, tree.doing("open the workbench")?));
        }
        Ok(workshop)
    }

    /// Returns what the container is like.
    pub(super) const fn shape(&self) -> &Shape {
        &self.preparation.shape
    }

    /// Mounts something of the kernel's in a container, of the stock if it is there.
    pub(super) fn mount(&self, points: &mut Points, kernel: Kernel) -> Result<(), SetupError> {
        if !self.shape().usual.has(kernel) {
            return self.create(points, kernel);
        }
        // What is not at a top came with what it is in.
        let Some((_, tree)) = self.stock.iter().find(|(top, _)| *top == kernel) else {
            return Ok(());
        };
        let target = path(kernel.target())?;
        // The kernel lists mounts in the order in which they were made. A copy is made after the root, as
        // programs expect that read the list.
        let copy = clone_tree(tree, Path::new(""), Depth::All).mounting(&target, "copy")?;
        points.mount(copy, &target)
    }

    /// Hides and protects what is not of the stock, where it was done.
    pub(super) fn hide(&self, points: &Points) -> Result<(), SetupError> {
        self.hide_in(points, |top| !self.shape().usual.has(top))
    }

    fn hide_in(&self, points: &Points, wanted: impl Fn(Kernel) -> bool) -> Result<(), SetupError> {
        if self.shape().security != Security::Sandbox {
            return Ok(());
        }
        let wanted = |path: &&str| {
            TOPS.into_iter().any(|top| wanted(top) && Path::new(path).starts_with(top.target()))
        };
        for path in entries::MASKED.into_iter().filter(wanted) {
            self.mask(points, path).doing(&format!("hide `{path}`"))?;
        }
        for path in entries::READ_ONLY.into_iter().filter(wanted) {
            protect(points, path).doing(&format!("protect `{path}`"))?;
        }
        Ok(())
    }

    fn create(&self, points: &mut Points, kernel: Kernel) -> Result<(), SetupError> {
        let shape = self.shape();
        let insecure = shape.security == Security::Insecure;
        let attributes = if insecure { INERT } else { INERT | READ_ONLY };
        let target = &path(kernel.target())?;
        let tree = match kernel {
            Kernel::Proc => filesystem("proc", &[], INERT),
            Kernel::Sys => filesystem("sysfs", &[], attributes),
            Kernel::Dev => return self.create_devices(points, target),
            Kernel::DevPts => filesystem(
                "devpts",
                &[("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            ),
            Kernel::DevShm => {
                let size = shape.shm_size.to_string();
                filesystem("tmpfs", &[("mode", "1777"), ("size", &size)], INERT)
            }
            Kernel::DevMqueue => match filesystem("mqueue", &[], INERT) {
                // A kernel without message queues.
                Err(error) if error.errno() == rustix::io::Errno::NODEV => return Ok(()),
                done => done,
            },
            Kernel::Cgroup => return self.create_cgroups(points, target, attributes),
        };
        points.mount(tree.mounting(target, "create")?, target)
    }

    fn create_devices(&self, points: &mut Points, target: &GuestPath) -> Result<(), SetupError> {
        let security = self.shape().security;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_STRICTATIME
            | device_attributes(security);
        let options = [("mode", "755"), ("size", "65536k")];
        let tree = filesystem("tmpfs", &options, attributes).mounting(target, "create")?;
        let directory = tree.try_clone().mounting(target, "create")?;
        points.mount(tree, target)?;
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

    fn create_cgroups(
        &self,
        points: &mut Points,
        target: &GuestPath,
        attributes: MountAttrFlags,
    ) -> Result<(), SetupError> {
        if points.root().stat(target).is_err() {
            // A kernel without control groups, or a caller's own `/sys`.
            return Ok(());
        }
        if self.preparation.cgroup_namespace {
            let tree = filesystem("cgroup2", &[], attributes).mounting(target, "create")?;
            return points.mount(tree, target);
        }
        let empty = filesystem("tmpfs", &[("mode", "755")], INERT).mounting(target, "create")?;
        let view = empty.try_clone().mounting(target, "create")?;
        points.mount(empty, target)?;
        for group in self.preparation.cgroup.iter().flat_map(|plan| &plan.legacy) {
            let path = target.join(&group.controller).mounting(target, "name")?;
            let tree = clone_tree(rustix::fs::CWD, group.directory.as_path(), Depth::One);
            // The group could not be made: there is nothing to show.
            let Ok(tree) = tree else { continue };
            restrict(&tree, attributes, Reach::Top).mounting(&path, "restrict")?;
            points.mount(tree, &path)?;
        }
        restrict(view, attributes, Reach::Top).mounting(target, "restrict")
    }

    fn mask(&self, points: &Points, path: &str) -> io::Result<()> {
        let path = GuestPath::new(path).map_err(io::Error::other)?;
        let Some(point) = points.existing(&path)? else { return Ok(()) };
        let cover = match Kind::of(point.as_fd())? {
            Kind::Directory => self.bench.empty(),
            Kind::File => self.bench.null(),
        };
        attach(cover.map_err(io::Error::other)?, point).map_err(io::Error::other)
    }
}

/// What is mounted in the root itself.
const TOPS: [Kernel; 3] = [Kernel::Proc, Kernel::Dev, Kernel::Sys];

/// Returns where what is mounted at `top` of a container is in the stock at `place`.
fn place_of(place: &Path, top: Kernel) -> PathBuf {
    place.join(top.target().trim_start_matches('/'))
}

fn path(target: &str) -> Result<GuestPath, SetupError> {
    GuestPath::new(target).doing("name what the kernel offers")
}

fn protect(points: &Points, path: &str) -> io::Result<()> {
    let path = GuestPath::new(path).map_err(io::Error::other)?;
    let Some(point) = points.existing(&path)? else { return Ok(()) };
    let tree = clone_tree(&point, Path::new(""), Depth::All).map_err(io::Error::other)?;
    restrict(&tree, READ_ONLY, Reach::All).map_err(io::Error::other)?;
    attach(tree, point).map_err(io::Error::other)
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
pub(super) const fn device_attributes(security: Security) -> MountAttrFlags {
    match security {
        Security::Sandbox => MountAttrFlags::MOUNT_ATTR_NODEV,
        Security::Insecure => MountAttrFlags::empty(),
    }
}
