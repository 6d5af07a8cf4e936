//! What the daemon and its helper say to each other.

use mount::{GuestPath, HostPath, Mount};
use serde::{Deserialize, Serialize};

use super::cgroup::CgroupPlan;
use super::kernel::Usual;
use crate::{DnsConfig, ExitStatus, ExtraHost, Resources, Security, SetupError, Ulimit, UserSpec};

/// The first message to a keeper: what it is to keep.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// A container, as far as it can be made before it is known what runs in it. When it is made, a
    /// [`ContainerPlan`] follows, to its first process.
    Start(Box<Preparation>),
    /// A further process in the container of the keeper that this one comes from. Its standard streams
    /// come along, three, or none if it gets a terminal.
    Exec(Box<ProcessPlan>),
}

/// Every later message to a keeper. Its end is the order to kill.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Let another keeper serve the connection that comes along.
    Keep,
}

/// What a keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The container is made and waits for its plan.
    Prepared,
    /// The process runs. A descriptor of it comes along, and its terminal's if it has one.
    Started,
    /// It could not be started, and nothing is left of the attempt.
    Failed(SetupError),
    /// It ended, and nothing is left of it.
    Exited(ExitStatus),
}

/// What a container is made of before it is known what runs in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Preparation {
    pub shape: Shape,
    /// An empty directory to assemble mounts on.
    pub scratch: HostPath,
    pub cgroup: Option<CgroupPlan>,
    /// True to show the container its own cgroup as the root.
    pub cgroup_namespace: bool,
}

/// In what containers differ before it is known what runs in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub security: Security,
    pub own_network: bool,
    pub shm_size: u64,
    /// What is mounted as always.
    pub usual: Usual,
    /// The cgroup to make the container's below.
    pub cgroup_parent: Option<String>,
    pub resources: Resources,
}

/// A container, described for its first process: every choice is made. The process's standard streams come
/// along, three, or none if it gets a terminal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerPlan {
    /// A tree of the places where the usual things are mounted, to lie below a root that is written to.
    pub skeleton: HostPath,
    pub root: Mount,
    pub root_readonly: bool,
    pub mounts: Vec<(GuestPath, PlannedMount)>,
    pub remove_stub_parents: bool,
    pub hostname: String,
    pub extra_hosts: Vec<ExtraHost>,
    pub dns: DnsConfig,
    pub process: ProcessPlan,
}

/// A process, described for the helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: GuestPath,
    pub user: UserSpec,
    pub security: Security,
    pub ulimits: Vec<Ulimit>,
    pub tty: bool,
}

/// A mount, described for the helper. The content of files is in the frame's raw bytes, one after the
/// other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum PlannedMount {
    Mount { mount: Mount, selector: GuestPath },
    Tmpfs { size: Option<u64>, mode: u32 },
    File { length: usize, mode: u32, uid: u32, gid: u32 },
    Socket { path: HostPath },
}
