//! What the kernel offers to every container, and where.

use std::path::Path;

use mount::GuestPath;
use serde::{Deserialize, Serialize};

/// What the kernel offers to every container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Process files.
    Proc,
    /// The device directory.
    Dev,
    /// Terminals.
    DevPts,
    /// Shared memory.
    DevShm,
    /// Message queues.
    DevMqueue,
    /// Device files.
    Sys,
    /// The control groups, as far as a container sees them.
    Cgroup,
}

impl Kernel {
    /// Everything, parents first.
    pub(crate) const ALL: [Self; 7] = [
        Self::Proc,
        Self::Dev,
        Self::DevPts,
        Self::DevShm,
        Self::DevMqueue,
        Self::Sys,
        Self::Cgroup,
    ];

    /// Returns where it is mounted.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Proc => "/proc",
            Self::Dev => "/dev",
            Self::DevPts => "/dev/pts",
            Self::DevShm => "/dev/shm",
            Self::DevMqueue => "/dev/mqueue",
            Self::Sys => "/sys",
            Self::Cgroup => "/sys/fs/cgroup",
        }
    }
}

/// Which of the usual trees a container has as they always are: nothing is mounted by its caller at the
/// place of one of their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usual {
    /// `/proc`.
    pub proc: bool,
    /// `/dev`, with what is mounted in it.
    pub dev: bool,
    /// `/sys`, with the control groups.
    pub sys: bool,
}

impl Usual {
    /// Returns which trees stay as they are beside mounts at `targets`.
    pub(crate) fn beside<'a>(targets: impl Iterator<Item = &'a GuestPath>) -> Self {
        let mut usual = Self { proc: true, dev: true, sys: true };
        for target in targets {
            let is_there = |kernel: &Kernel| target.as_path() == Path::new(kernel.target());
            if let Some(kernel) = Kernel::ALL.iter().find(|kernel| is_there(kernel)) {
                *usual.tree_of(*kernel) = false;
            }
        }
        usual
    }

    /// Returns true if the whole tree that `kernel` is in is as always.
    pub(crate) fn has(mut self, kernel: Kernel) -> bool {
        *self.tree_of(kernel)
    }

    const fn tree_of(&mut self, kernel: Kernel) -> &mut bool {
        match kernel {
            Kernel::Proc => &mut self.proc,
            Kernel::Dev | Kernel::DevPts | Kernel::DevShm | Kernel::DevMqueue => &mut self.dev,
            Kernel::Sys | Kernel::Cgroup => &mut self.sys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_always_unless_something_takes_the_place_of_a_part() {
        let beside = |targets: &[&str]| {
            let targets: Vec<_> =
                targets.iter().map(|target| GuestPath::new(target).unwrap()).collect();
            let usual = Usual::beside(targets.iter());
            (usual.has(Kernel::Proc), usual.has(Kernel::DevPts), usual.has(Kernel::Sys))
        };
        assert_eq!(beside(&["/", "/dev/shm/x", "/sys/fs", "/process"]), (true, true, true));
        assert_eq!(beside(&["/dev/shm", "/sys/fs/cgroup"]), (true, false, false));
        assert_eq!(beside(&["/proc"]), (false, true, true));
    }
}
