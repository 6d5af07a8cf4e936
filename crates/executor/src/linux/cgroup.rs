//! Control groups, of either version, as far as the machine has them.
//!
//! Version 2 gives a container a group always: it is cheap to be born in, and killed as a whole.
//! Version 1 is used only for controllers that somebody asked for, by a limit or by having made the
//! parent in the controller's tree, because moving a process there costs more than a short step.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use mount::HostPath;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::Resources;

/// The control group trees of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CgroupTrees {
    /// Where version 2 is mounted.
    pub unified: Option<PathBuf>,
    /// The version 1 controllers, and where each is mounted.
    pub legacy: Vec<(String, PathBuf)>,
}

impl CgroupTrees {
    /// Finds the trees that are mounted writable, in the text of `/proc/self/mountinfo`.
    pub(crate) fn from_mountinfo(text: &str) -> Self {
        let mut trees = Self::default();
        for line in text.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut fields = left.split(' ').skip(4);
            let (Some(place), Some(options)) = (fields.next(), fields.next()) else { continue };
            let mut source = right.split(' ');
            let kind = source.next().unwrap_or_default();
            let super_options = source.nth(1).unwrap_or_default();
            if options.split(',').any(|option| option == "ro") {
                continue;
            }
            if kind == "cgroup2" {
                trees.unified.get_or_insert_with(|| PathBuf::from(place));
            } else if kind == "cgroup" {
                let known = ["memory", "cpu", "cpuset"];
                let found = super_options.split(',').filter(|option| known.contains(option));
                trees.legacy.extend(found.map(|name| (name.to_owned(), PathBuf::from(place))));
            }
        }
        trees
    }

    /// Returns true if version 2 is all there is, so that containers get a view of their own group.
    pub(crate) fn is_unified(&self) -> bool {
        self.unified.is_some() && self.legacy.is_empty()
    }

    /// Returns every place that may hold groups of ours.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.unified.iter().chain(self.legacy.iter().map(|(_, place)| place)).map(PathBuf::as_path)
    }

    /// Decides which groups a container gets: those called `name` below `family` below `parent`.
    pub(crate) fn plan(
        &self,
        parent: Option<&str>,
        family: &str,
        name: &str,
        resources: &Resources,
    ) -> Option<CgroupPlan> {
        let parent = Path::new(parent.unwrap_or_default());
        let parent = parent.components().filter(|part| matches!(part, Component::Normal(_)));
        let parent: PathBuf = parent.collect();
        let place = |root: &Path| root.join(&parent).join(family).join(name);
        let has_parent = |root: &Path| parent != Path::new("") && root.join(&parent).is_dir();
        let host = |path: PathBuf| HostPath::new(path).ok();
        let mut plan = CgroupPlan::default();
        if let Some(root) = &self.unified {
            let directory = place(root);
            if self.legacy.is_empty() {
                plan.settings = unified_settings(resources);
            }
            plan.root = host(root.clone());
            plan.unified = host(directory);
        }
        for (controller, root) in &self.legacy {
            let settings = legacy_settings(controller, resources);
            let asked = !settings.is_empty() || has_parent(root);
            if let (true, Some(directory)) = (asked, host(place(root))) {
                plan.legacy.push(LegacyGroup {
                    controller: controller.clone(),
                    directory,
                    settings,
                });
            }
        }
        (plan.unified.is_some() || !plan.legacy.is_empty()).then_some(plan)
    }
}

/// The groups of one container.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct CgroupPlan {
    /// Where version 2 is mounted.
    root: Option<HostPath>,
    /// The group in version 2.
    unified: Option<HostPath>,
    /// What is written into the files of that group.
    settings: Vec<(String, String)>,
    /// The groups in version 1.
    pub(crate) legacy: Vec<LegacyGroup>,
}

/// A group of one version 1 controller.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct LegacyGroup {
    /// The controller's name.
    pub(crate) controller: String,
    /// The group.
    pub(crate) directory: HostPath,
    settings: Vec<(String, String)>,
}

fn unified_settings(resources: &Resources) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |file: &str, value: String| settings.push((file.to_owned(), value));
    if let Some(memory) = resources.memory {
        set("memory.max", memory.to_string());
    }
    match resources.memory_swap {
        Some(swap) if swap < 0 => set("memory.swap.max", "max".to_owned()),
        // Version 2 counts swap alone, version 1 (which the numbers speak of) memory and swap.
        Some(swap) => {
            let swap = swap.unsigned_abs().saturating_sub(resources.memory.unwrap_or(0));
            set("memory.swap.max", swap.to_string());
        }
        None => {}
    }
    if let Some(shares) = resources.cpu_shares {
        let shares = shares.clamp(2, 262_144);
        set("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string());
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let quota = resources.cpu_quota.filter(|quota| *quota > 0);
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        set("cpu.max", format!("{quota} {}", resources.cpu_period.unwrap_or(100_000)));
    }
    for (file, value) in
        [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)]
    {
        if let Some(value) = value {
            set(file, value.clone());
        }
    }
    settings
}

fn legacy_settings(controller: &str, resources: &Resources) -> Vec<(String, String)> {
    let values = match controller {
        "memory" => vec![
            ("memory.limit_in_bytes", resources.memory.map(|bytes| bytes.to_string())),
            ("memory.memsw.limit_in_bytes", resources.memory_swap.map(|bytes| bytes.to_string())),
        ],
        "cpu" => vec![
            ("cpu.shares", resources.cpu_shares.map(|shares| shares.to_string())),
            ("cpu.cfs_period_us", resources.cpu_period.map(|period| period.to_string())),
            ("cpu.cfs_quota_us", resources.cpu_quota.map(|quota| quota.to_string())),
        ],
        "cpuset" => vec![
            ("cpuset.cpus", resources.cpuset_cpus.clone()),
            ("cpuset.mems", resources.cpuset_mems.clone()),
        ],
        _ => Vec::new(),
    };
    values.into_iter().filter_map(|(file, value)| Some((file.to_owned(), value?))).collect()
}

/// The groups of a container, while they exist.
#[derive(Debug)]
pub(crate) struct Cgroup {
    plan: CgroupPlan,
    unified: Option<OwnedFd>,
}

impl Cgroup {
    /// Creates the groups, as far as the machine lets us.
    pub(crate) fn create(plan: CgroupPlan) -> Self {
        let unified = plan.unified.as_ref().and_then(|directory| {
            if let Some(root) = plan.root.as_ref().filter(|_| !plan.settings.is_empty()) {
                delegate(root.as_path(), directory.as_path(), &plan.settings);
            }
            create_group(directory.as_path()).ok()?;
            apply(directory.as_path(), &plan.settings);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(directory.as_path(), flags, Mode::empty()).ok()
        });
        for group in &plan.legacy {
            if create_group(group.directory.as_path()).is_ok() {
                if group.controller == "cpuset" {
                    inherit_cpuset(group.directory.as_path());
                }
                apply(group.directory.as_path(), &group.settings);
            }
        }
        Self { plan, unified }
    }

    /// Returns the version 2 group to be born in.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|group| group.as_fd())
    }

    /// Moves the calling process into the version 1 groups, as far as they exist.
    pub(crate) fn join_legacy(plan: Option<&CgroupPlan>) {
        for group in plan.iter().flat_map(|plan| &plan.legacy) {
            // A limit that the machine does not offer is no reason to fail a build.
            let _ = fs::write(group.directory.as_path().join("cgroup.procs"), "0");
        }
    }

    /// Moves the calling process into all groups.
    pub(crate) fn join(plan: Option<&CgroupPlan>) {
        if let Some(directory) = plan.and_then(|plan| plan.unified.as_ref()) {
            let _ = fs::write(directory.as_path().join("cgroup.procs"), "0");
        }
        Self::join_legacy(plan);
    }

    /// Returns true if the kernel killed something in here for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let unified = self.plan.unified.iter().map(|group| group.as_path().join("memory.events"));
        let memory = self.plan.legacy.iter().filter(|group| group.controller == "memory");
        let legacy = memory.map(|group| group.directory.as_path().join("memory.oom_control"));
        unified.chain(legacy).any(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count != "0")
        })
    }

    /// Removes the groups; their processes have ended.
    pub(crate) fn remove(self) {
        let unified = self.plan.unified.iter();
        for directory in unified.chain(self.plan.legacy.iter().map(|group| &group.directory)) {
            // What cannot be removed is removed when the executor starts again.
            let _ = remove_group(directory.as_path());
        }
    }
}

/// Removes a group whose processes have ended or were killed.
///
/// A process counts in its group a moment longer than it can be waited for.
pub(super) fn remove_group(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            await_empty(directory)?;
            fs::remove_dir(directory)
        }
        done => done,
    }
}

/// Waits a moment for killed processes to be gone, where the kernel says so.
fn await_empty(directory: &Path) -> io::Result<()> {
    let Ok(events) = fs::File::open(directory.join("cgroup.events")) else { return Ok(()) };
    let timeout = Timespec { tv_sec: 2, tv_nsec: 0 };
    while !io::read_to_string(&events)?.contains("populated 0") {
        if poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        io::Seek::rewind(&mut &events)?;
    }
    Ok(())
}

/// Creates a group; one that is there already was left by a crash, and is as good.
fn create_group(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn apply(directory: &Path, settings: &[(String, String)]) {
    for (file, value) in settings {
        let _ = fs::write(directory.join(file), value);
    }
}

/// Passes the controllers that `settings` need from the root down to the parent of `directory`.
fn delegate(root: &Path, directory: &Path, settings: &[(String, String)]) {
    let mut ancestors: Vec<&Path> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(root)).collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let _ = create_group(ancestor);
        for (file, _) in settings {
            let controller = file.split('.').next().unwrap_or_default();
            let _ = fs::write(ancestor.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

/// A new version 1 cpuset group is empty and takes no process until it has what its parent has.
fn inherit_cpuset(directory: &Path) {
    let Some(parent) = directory.parent() else { return };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let is_empty = |path: &Path| {
            fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim().is_empty())
        };
        if is_empty(parent) {
            inherit_cpuset(parent);
        }
        if is_empty(directory)
            && let Ok(value) = fs::read_to_string(parent.join(file))
        {
            let _ = fs::write(directory.join(file), value.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    fn plan(mountinfo: &str, resources: &Resources) -> Option<CgroupPlan> {
        CgroupTrees::from_mountinfo(mountinfo).plan(Some("/a/../b"), "larder-1", "one", resources)
    }

    #[test]
    fn both_versions_are_found() {
        let trees = CgroupTrees::from_mountinfo(HYBRID);
        assert_eq!(trees.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        assert_eq!(trees.legacy.len(), 2);
        assert!(!trees.is_unified());
        let pure = "33 30 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        assert!(CgroupTrees::from_mountinfo(pure).is_unified());
        let readonly = "33 30 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw";
        assert_eq!(CgroupTrees::from_mountinfo(readonly), CgroupTrees::default());
    }

    #[test]
    fn version_one_is_used_only_when_asked_for() {
        let without = plan(HYBRID, &Resources::default()).unwrap();
        assert!(without.legacy.is_empty());
        let limits = Resources { memory: Some(1 << 20), ..Resources::default() };
        let with = plan(HYBRID, &limits).unwrap();
        let [group] = with.legacy.as_slice() else { panic!("{with:?}") };
        assert_eq!(group.directory.to_string(), "/sys/fs/cgroup/memory/a/b/larder-1/one");
        assert_eq!(group.settings, [("memory.limit_in_bytes".to_owned(), "1048576".to_owned())]);
        assert_eq!(plan("", &limits), None);
    }

    #[test]
    fn a_parent_with_limits_of_its_own_holds_its_children() {
        let tree = tempfile::tempdir().unwrap();
        let place = tree.path().display();
        let mounts = format!(
            "{HYBRID}\n34 30 0:30 / {place}/memory rw - cgroup cgroup rw,memory\n\
             35 30 0:31 / {place}/cpu rw - cgroup cgroup rw,cpu"
        );
        fs::create_dir_all(tree.path().join("memory/a/b")).unwrap();
        fs::create_dir_all(tree.path().join("cpu/a")).unwrap();
        let plan = plan(&mounts, &Resources::default()).unwrap();
        let [group] = plan.legacy.as_slice() else { panic!("{plan:?}") };
        assert_eq!(group.directory.to_string(), format!("{place}/memory/a/b/larder-1/one"));
        assert!(group.settings.is_empty());
    }

    #[test]
    fn limits_are_translated_for_version_two() {
        let resources = Resources {
            memory: Some(100),
            memory_swap: Some(150),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpuset_cpus: Some("0-1".to_owned()),
            ..Resources::default()
        };
        let settings = unified_settings(&resources);
        let text: Vec<String> =
            settings.iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            text,
            [
                "memory.max=100",
                "memory.swap.max=50",
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "cpuset.cpus=0-1"
            ]
        );
    }
}
