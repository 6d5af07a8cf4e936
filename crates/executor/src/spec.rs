//! A process, described.

use std::net::IpAddr;

use mount::{GuestPath, Mount};
use serde::{Deserialize, Serialize};

use crate::{ContainerId, GuestMount, Held, Resources, Ulimit};

/// A process and the container made for it.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The container's name, unique among those that run.
    pub id: ContainerId,
    /// The root file system, writable also when `root_readonly` is set: mount points are made in it.
    pub root: Mount,
    /// True if the process may not write to its root.
    pub root_readonly: bool,
    /// What is mounted where, in the order in which it is mounted: parents before children. Targets
    /// are resolved inside the container; missing ones are created, and removed afterwards.
    pub mounts: Vec<(GuestPath, GuestMount)>,
    /// How much of what was created for `mounts` is removed afterwards.
    pub stub_removal: StubRemoval,
    /// The command and its arguments; at least the command.
    pub args: Vec<String>,
    /// `NAME=value`; a `PATH` is added if there is none.
    pub env: Vec<String>,
    /// The working directory; created if missing, as the user's.
    pub cwd: GuestPath,
    /// Who the process runs as.
    pub user: UserSpec,
    /// What it can reach.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// The host name; none for the default.
    pub hostname: Option<String>,
    /// Additional lines of `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// Limits of the process; empty to inherit the daemon's.
    pub ulimits: Vec<Ulimit>,
    /// The cgroup to create the container's below, instead of the configured one.
    pub cgroup_parent: Option<String>,
    /// Limits of the container.
    pub resources: Resources,
    /// The size of `/dev/shm` in bytes; none for 64 MiB.
    pub shm_size: Option<u64>,
    /// True to give the process a terminal.
    pub tty: bool,
    /// What must live as long as anything is left of the container.
    pub held: Held,
}

impl ProcessSpec {
    /// Returns a sandboxed process with the default network, run as root in `/`, with nothing
    /// mounted but the usual.
    pub fn new(id: ContainerId, root: Mount, args: Vec<String>) -> Self {
        Self {
            id,
            root,
            root_readonly: false,
            mounts: Vec::new(),
            stub_removal: StubRemoval::Recursive,
            args,
            env: Vec::new(),
            cwd: GuestPath::root(),
            user: UserSpec::default(),
            network: Network::Sandbox,
            security: Security::Sandbox,
            hostname: None,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            cgroup_parent: None,
            resources: Resources::default(),
            shm_size: None,
            tty: false,
            held: Held::default(),
        }
    }
}

/// A further process in a running container.
#[derive(Debug, Clone)]
pub struct ExecSpec {
    /// The command and its arguments; at least the command.
    pub args: Vec<String>,
    /// `NAME=value`; a `PATH` is added if there is none.
    pub env: Vec<String>,
    /// The working directory; created if missing, as the user's.
    pub cwd: GuestPath,
    /// Who the process runs as.
    pub user: UserSpec,
    /// What it may do.
    pub security: Security,
    /// True to give the process a terminal.
    pub tty: bool,
}

/// A user as given: `user`, `user:group`, names or numbers, looked up in the image's `/etc/passwd`
/// and `/etc/group`. Empty is root, whatever the files say or lack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserSpec(String);

impl UserSpec {
    /// Takes a user as given.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns it as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a process can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    /// Only itself, over loopback.
    None,
    /// All that the host can.
    Host,
    /// What the configuration says a process can reach by default.
    Sandbox,
}

/// What a process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Security {
    /// The default capabilities, a system call filter, hidden and read-only kernel files.
    Sandbox,
    /// Everything that the daemon may.
    Insecure,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// How much of what was created to mount on is removed after the run, where it is still empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StubRemoval {
    /// The mount points and the directories created to hold them.
    Recursive,
    /// The mount points alone.
    TargetsOnly,
}
