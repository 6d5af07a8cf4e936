//! The command's process, and what it leaves running.

use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::process::Child as Process;

use super::attached::{self, Plan};
use super::signals::{self, Signals};
use crate::failure::{Failure, Kind};

/// A command that runs.
#[derive(Debug)]
pub(super) struct Child(Process);

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// True if it was told to end by a signal that we passed on.
    pub(super) told_to_end: bool,
}

/// Starts the helper that becomes the command; it inherits `kept`.
pub(super) fn start(plan: &Plan, kept: Vec<OwnedFd>) -> Result<Child, Failure> {
    // Whoever loses their parent becomes our child, so that nobody gets away.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| Failure::because("cannot look after children", error))?;
    for file in &kept {
        rustix::io::fcntl_setfd(file, FdFlags::empty())
            .map_err(|error| Failure::because("cannot pass a lease on", error))?;
    }
    let child = attached::command(plan)?
        .spawn()
        .map_err(|error| Failure::because("cannot start a helper", error))?;
    Ok(Child(child))
}

impl Child {
    /// Waits for the end of the command, passes signals on to it, and then ends what it left running.
    pub(super) async fn wait(mut self, signals: &mut Signals) -> Result<Ended, Failure> {
        let mut told_to_end = false;
        let status = loop {
            tokio::select! {
                status = self.0.wait() => break status,
                signal = signals.next() => {
                    told_to_end = true;
                    self.pass_on(signal);
                }
            }
        };
        let status =
            status.map_err(|error| Failure::because("cannot wait for the command", error))?;
        end_the_rest()?;
        Ok(Ended { status, told_to_end })
    }

    fn pass_on(&self, signal: i32) {
        let pid = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let known = Signal::from_named_raw(signal);
        if let (Some(pid), Some(signal), false) = (pid, known, signals::is_shared(signal)) {
            // It may be gone already, and then there is nobody to tell.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Ends all children, and the children that they leave, until there are none.
fn end_the_rest() -> Result<(), Failure> {
    loop {
        for child in children()? {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(Failure::because("cannot wait for children", error)),
        }
    }
}

/// Returns the children of this process, whichever of its threads they belong to.
fn children() -> Result<Vec<Pid>, Failure> {
    let cannot = |error| Failure::because("cannot find out what still runs", error);
    let mut children = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").map_err(cannot)? {
        let path = task.map_err(cannot)?.path().join("children");
        // A thread may end meanwhile; its children are another's then, and found the next time.
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let pids = text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        children.extend(pids);
    }
    if children.is_empty() && !std::path::Path::new("/proc/self/task").exists() {
        return Err(Failure::new(Kind::Other, "`/proc` is not mounted"));
    }
    Ok(children)
}
