//! The least that a step can cost, to measure against: the namespaces, an overlay, the root, the
//! command, and nothing else.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mount::{HostPath, OverlayUpper, Syncing};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};
use rustix::process::{WaitId, WaitIdOptions};

use super::sys::{self, Birth, Side, SingleThreaded};
use crate::Network;

/// What the bare process runs on.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The image.
    pub lower: HostPath,
    /// The writable layer.
    pub upper: OverlayUpper,
    /// An empty directory to mount on.
    pub place: HostPath,
    /// Its network: its own for [`Network::None`], else the host's.
    pub network: Network,
}

impl Floor {
    /// Runs `command` once and returns how long that took. Waits until the
    /// calling process has one thread.
    ///
    /// # Errors
    /// Returns the error of the first system call that fails in this process.
    pub fn run(&self, command: &str) -> io::Result<Duration> {
        // A thread that was just joined may be seen a moment longer.
        let witness = loop {
            match SingleThreaded::check()? {
                Some(witness) => break witness,
                None => std::thread::yield_now(),
            }
        };
        let own = if self.network == Network::None { libc::CLONE_NEWNET } else { 0 };
        let namespaces =
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | own;
        let start = Instant::now();
        match sys::clone(&witness, &Birth { namespaces, ..Birth::default() })? {
            Side::Child => {
                let _ = self.become_command(command);
                sys::exit_now(111)
            }
            Side::Parent(process) => {
                let status =
                    rustix::process::waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)?;
                let took = start.elapsed();
                match status.and_then(|status| status.exit_status()) {
                    Some(0) => Ok(took),
                    other => Err(io::Error::other(format!("the bare process ended by {other:?}"))),
                }
            }
        }
    }

    fn become_command(&self, command: &str) -> io::Result<()> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)?;
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, path: &Path| rustix::mount::fsconfig_set_string(&context, key, path);
        set("lowerdir+", self.lower.as_path())?;
        set("upperdir", self.upper.upper.as_path())?;
        set("workdir", self.upper.work.as_path())?;
        if self.upper.syncing == Syncing::Owner {
            self.upper.admit_again()?;
            rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        }
        rustix::mount::fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let tree = rustix::mount::fsmount(&context, flags, MountAttrFlags::empty())?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&tree, "", rustix::fs::CWD, self.place.as_path(), empty)?;
        rustix::process::fchdir(&tree)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        let command = CString::new(command)?;
        let environment: [CString; 0] = [];
        nix::unistd::execve(&command, std::slice::from_ref(&command), &environment)?;
        Ok(())
    }
}
