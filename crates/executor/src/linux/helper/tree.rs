//! The container's tree, put together before it is entered.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use mount::{GuestPath, Mount, MountSource};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::attach::{AttachError, Depth, INERT, attach, clone_tree, filesystem, overlay, restrict};
use super::bench::{Bench, PrivateFile, open_directory};
use super::entries::{self, Entry};
use super::names;
use super::points::Points;
use super::reason::Doing as _;
use super::workshop::{READ_ONLY, Workshop, device_attributes};
use crate::SetupError;
use crate::linux::message::{ContainerPlan, PlannedMount, Shape};
use crate::linux::skeleton;
use crate::linux::sys::Reach;

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
    workshop: Workshop<'a>,
    /// Where things are mounted, and what was created for it.
    pub points: Points,
    /// The root's own mount.
    top: OwnedFd,
}

impl<'a> Contents<'a> {
    /// Makes the texts, and cuts the files' contents out of the raw bytes that came with `plan`.
    pub(super) fn of(plan: &ContainerPlan, bytes: &'a [u8], shape: &Shape) -> Self {
        let mut rest = bytes;
        let lengths = plan.mounts.iter().filter_map(|(_, mount)| match mount {
            PlannedMount::File { length, .. } => Some(*length),
            PlannedMount::Mount { .. }
            | PlannedMount::Tmpfs { .. }
            | PlannedMount::Socket { .. } => None,
        });
        let cut = |length: usize| {
            let (file, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            file
        };
        Self {
            hosts: names::hosts(&plan.hostname, &plan.extra_hosts),
            resolv_conf: names::resolv_conf(&plan.dns, shape.own_network),
            files: lengths.map(cut).collect(),
        }
    }
}

impl<'a> Tree<'a> {
    /// Mounts the root.
    pub(super) fn plant(
        workshop: Workshop<'a>,
        plan: &'a ContainerPlan,
        contents: &'a Contents<'a>,
    ) -> Result<Self, SetupError> {
        let root = GuestPath::root();
        let attributes = device_attributes(plan.process.security);
        let whole = skeleton::below(&plan.root, &plan.skeleton);
        let top = source(&whole, attributes, &workshop.bench).mounting(&root, "root")?;
        let place = workshop.bench.root();
        let point = open_directory(&place).mounting(&root, "root")?;
        attach(&top, &point).mounting(&root, "root")?;
        let handle = top.try_clone().mounting(&root, "root")?;
        let points = Points::new(place, handle).mounting(&root, "root")?;
        Ok(Self { plan, contents, workshop, points, top })
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
            match entry {
                Entry::Kernel(kernel) => self.workshop.mount(&mut self.points, kernel)?,
                Entry::ResolvConf => {
                    self.mount_text(&target, "resolv.conf", &self.contents.resolv_conf)?;
                }
                Entry::Hosts => self.mount_text(&target, "hosts", &self.contents.hosts)?,
                Entry::Guest(mount, index) => self.mount_guest(&target, mount, index)?,
            }
        }
        self.workshop.hide(&self.points)
    }

    fn mount_text(&mut self, target: &GuestPath, name: &str, text: &str) -> Result<(), SetupError> {
        let file = PrivateFile { name, content: text.as_bytes(), mode: 0o644, owner: (0, 0) };
        let tree = self.workshop.bench.file(&file).mounting(target, "write")?;
        restrict(&tree, INERT | READ_ONLY, Reach::Top).mounting(target, "restrict")?;
        self.points.mount(tree, target)
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
                let tree = part(mount, selector, devices, &self.workshop.bench);
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
                let tree = self.workshop.bench.file(&file).mounting(target, "write")?;
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
        self.points.mount(tree, target)
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
