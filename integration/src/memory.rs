//! A control group whose processes get no more than so much memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::leftovers::remove_cgroups;

/// A group to be named as the parent of a step's group; removed when dropped.
#[derive(Debug)]
pub struct SmallMemory {
    name: String,
}

impl SmallMemory {
    /// Makes a group with `bytes` of memory and no swap; none if this machine limits no memory.
    ///
    /// # Errors
    /// Fails if the machine limits memory and the group cannot be made.
    pub fn of(bytes: u64) -> anyhow::Result<Option<Self>> {
        let Some((tree, file)) = tree()? else {
            println!("this machine limits no memory: not tried");
            return Ok(None);
        };
        let small = Self { name: format!("larder-small-{}", std::process::id()) };
        let group = tree.join(&small.name);
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        fs::write(group.join(file), bytes.to_string()).context("memory cannot be limited")?;
        Ok(Some(small))
    }

    /// Returns the name by which a client asks for it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for SmallMemory {
    fn drop(&mut self) {
        remove_cgroups(&self.name);
    }
}

/// Returns where groups for memory are made, and the file with the limit.
fn tree() -> anyhow::Result<Option<(PathBuf, &'static str)>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let place = |mark: &str| {
        let line = table.lines().find(|line| line.contains(mark) && line.contains(" rw"));
        line.and_then(|line| line.split(' ').nth(4)).map(PathBuf::from)
    };
    if let Some(tree) = place(" - cgroup cgroup rw,memory") {
        return Ok(Some((tree, "memory.limit_in_bytes")));
    }
    let Some(tree) = place(" - cgroup2 ") else { return Ok(None) };
    let controllers = fs::read_to_string(tree.join("cgroup.controllers"))?;
    if !controllers.split_whitespace().any(|controller| controller == "memory") {
        return Ok(None);
    }
    pass_on(&tree)?;
    Ok(Some((tree, "memory.max")))
}

fn pass_on(tree: &Path) -> anyhow::Result<()> {
    fs::write(tree.join("cgroup.subtree_control"), "+memory").context("memory is not passed on")
}
