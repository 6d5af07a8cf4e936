//! The daemon's hold on its helper program.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::channel::socket_pair;
use super::helper::HELPER_NAME;
use super::link::Link;
use super::sys::{self, Reach};
use crate::{ExecutorError, HelperProgram};

/// A running helper. Dropping it ends the helper, but not the keepers it forked.
#[derive(Debug)]
pub(crate) struct Nursery {
    orders: Option<Link>,
    process: Child,
}

impl Nursery {
    /// Starts the helper; must be called within a runtime.
    pub(crate) fn start(program: &HelperProgram) -> Result<Self, ExecutorError> {
        let path = match program {
            HelperProgram::Myself => "/proc/self/exe".to_owned(),
            HelperProgram::Path(path) => path.to_string(),
        };
        spawn(&path).map_err(|source| ExecutorError::Helper { program: path, source })
    }

    /// Has a keeper forked and returns the connection to it.
    pub(crate) async fn keeper(&self) -> io::Result<Link> {
        let orders = self.orders.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (ours, theirs) = socket_pair()?;
        orders.send_bytes(&[0], &[theirs.as_fd()]).await?;
        Link::new(ours)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The helper ends when its orders end, at once.
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the executor starts its helper")]
fn spawn(path: &str) -> io::Result<Nursery> {
    let (ours, theirs) = socket_pair()?;
    let program = protected(path);
    let path = program.as_ref().map_or_else(
        || path.to_owned(),
        |program| format!("/proc/self/fd/{}", program.as_raw_fd()),
    );
    let process = Command::new(path)
        .arg0(HELPER_NAME)
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok(Nursery { orders: Some(Link::new(ours)?), process })
}

/// Opens the program by a read-only mount that only we have: a process that becomes the program again
/// (a command of `/proc/self/exe`) gets no hold on the file that the next daemon is started from.
fn protected(path: &str) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(rustix::fs::CWD, path, flags).ok()?;
    let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    sys::mount_setattr(program.as_fd(), read_only, Reach::Top).ok()?;
    Some(program)
}
