//! What a killed daemon may have left.
//!
//! Processes and mounts end with their keepers, which outlive the daemon just long enough to clean
//! up. Only if those were killed too are there cgroups left, and at worst processes in them.

use std::fs;
use std::io;
use std::path::Path;

use super::cgroup::{self, CgroupTrees};

/// How deep below a tree's root a parent of ours may be.
const DEPTH: usize = 8;

/// Removes the cgroups named `family`, wherever they are, and kills what is in them.
pub(super) fn sweep(trees: &CgroupTrees, family: &str) {
    for root in trees.roots() {
        sweep_below(root, family, DEPTH);
    }
}

/// Removes the directory of the family itself, where it is empty.
pub(super) fn remove_empty(trees: &CgroupTrees, parent: Option<&str>, family: &str) {
    for root in trees.roots() {
        let parent = parent.unwrap_or_default().trim_matches('/');
        // It is missing where there never was a group, and stays where there is one.
        let _ = fs::remove_dir(root.join(parent).join(family));
    }
}

fn sweep_below(directory: &Path, family: &str, depth: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == family {
            remove_family(&entry.path());
        } else if depth > 0 {
            sweep_below(&entry.path(), family, depth - 1);
        }
    }
}

fn remove_family(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Err(error) = remove_group(&entry.path())
            // It went by itself, with the last of its processes.
            && error.kind() != io::ErrorKind::NotFound
        {
            let path = entry.path();
            tracing::warn!(path = %path.display(), %error, "cannot remove a left-over cgroup");
        }
    }
}

fn remove_group(directory: &Path) -> io::Result<()> {
    let Err(error) = fs::remove_dir(directory) else { return Ok(()) };
    if error.kind() != io::ErrorKind::ResourceBusy {
        return Err(error);
    }
    if fs::write(directory.join("cgroup.kill"), "1").is_err() {
        kill_each(directory)?;
    }
    cgroup::remove_group(directory)
}

/// Version 1 has no order to kill all; nothing in there is ours to fork again before it dies.
fn kill_each(directory: &Path) -> io::Result<()> {
    for line in fs::read_to_string(directory.join("cgroup.procs"))?.lines() {
        if let Some(process) = line.parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
    Ok(())
}
