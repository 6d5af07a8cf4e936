//! What a daemon may leave on a machine when it is gone: nothing mounted, nothing running, no cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::wait_for_exit;

/// What was found of a daemon that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Lines of this process' mount table.
    pub mounts: Vec<String>,
    /// Processes that see the daemon's files mounted.
    pub processes: Vec<String>,
    /// Control groups.
    pub cgroups: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for what the daemon with this root and this parent of cgroups left. Processes that are
    /// being killed are given `limit` to be gone.
    pub fn of(root: &Path, cgroup_parent: &str, limit: Duration) -> Self {
        for (process, _) in processes_with(root) {
            // Whether it ended is seen by looking again.
            let _ = wait_for_exit(process, limit);
        }
        Self {
            mounts: mounts(root),
            processes: processes_with(root).into_iter().map(|(_, words)| words).collect(),
            cgroups: cgroups(cgroup_parent),
        }
    }

    /// Returns whether nothing was found.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns the mounts on, or from, something below `root`, but for those the harness made for it.
fn mounts(root: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<String> = table.lines().filter(|l| names(l, root)).map(Into::into).collect();
    found.retain(|line| line.split(' ').nth(4) != root.to_str());
    found
}

fn names(line: &str, root: &Path) -> bool {
    root.to_str().is_some_and(|root| line.contains(&format!("{root}/")) || line.ends_with(root))
}

/// Returns the processes in whose mount table something of `root` is, other than in ours.
fn processes_with(root: &Path) -> Vec<(u32, String)> {
    let own = fs::read_link("/proc/self/ns/mnt").ok();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let place = entry.path();
        if fs::read_link(place.join("ns/mnt")).ok() == own {
            continue;
        }
        let table = fs::read_to_string(place.join("mountinfo")).unwrap_or_default();
        if table.lines().any(|line| names(line, root)) {
            let words = fs::read_to_string(place.join("cmdline")).unwrap_or_default();
            found.push((process, format!("{process} {}", words.replace('\0', " "))));
        }
    }
    found
}

/// Returns the groups of containers below groups named `parent`, in any tree.
fn cgroups(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in places(parent) {
        let families = fs::read_dir(&place).into_iter().flatten().flatten();
        for family in families.filter(|entry| entry.path().is_dir()) {
            let containers = fs::read_dir(family.path()).into_iter().flatten().flatten();
            found.extend(containers.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
    }
    found
}

/// Removes the groups named `parent`, which the harness named, with what is empty in them.
pub(crate) fn remove_cgroups(parent: &str) {
    for place in places(parent) {
        for family in fs::read_dir(&place).into_iter().flatten().flatten() {
            if family.path().is_dir() {
                let _ = fs::remove_dir(family.path());
            }
        }
        let _ = fs::remove_dir(place);
    }
}

fn places(parent: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let trees = table.lines().filter(|line| line.contains(" - cgroup"));
    let trees = trees.filter_map(|line| line.split(' ').nth(4));
    trees.map(|tree| Path::new(tree).join(parent)).filter(|place| place.is_dir()).collect()
}
