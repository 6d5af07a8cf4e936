//! How an executor is set up, as a value.

use mount::HostPath;
use serde::{Deserialize, Serialize};

/// What the production executor needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// A directory of the executor's own, created if missing. It holds nothing that must survive: an
    /// empty directory `scratch`, on which mounts are assembled in private namespaces only. Its path
    /// gives this executor's cgroups their name.
    pub state_dir: HostPath,
    /// The program that sets up a process.
    pub helper: HelperProgram,
    /// What [`Network::Sandbox`](crate::Network::Sandbox) means here.
    pub sandbox_network: SandboxNetwork,
    /// Replaces parts of the host's `/etc/resolv.conf` inside containers.
    pub dns: DnsConfig,
    /// The cgroup under which containers get theirs when a process names no parent of its own.
    pub cgroup_parent: Option<String>,
}

impl ExecutorConfig {
    /// Returns a configuration with defaults: this program as its own helper, the host's network.
    pub fn new(state_dir: HostPath) -> Self {
        Self {
            state_dir,
            helper: HelperProgram::Myself,
            sandbox_network: SandboxNetwork::Host,
            dns: DnsConfig::default(),
            cgroup_parent: None,
        }
    }
}

/// The program that sets up a process. Its `main` calls [`run_if_helper`](crate::run_if_helper) first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperProgram {
    /// The running program itself.
    Myself,
    /// Another program that embeds this crate at the same version.
    Path(HostPath),
}

/// The network of a process that asks for the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxNetwork {
    /// The host's network.
    Host,
    /// A network of its own in which only loopback is up.
    None,
}

/// Name resolution inside containers; what is empty comes from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Addresses for `nameserver` lines.
    pub nameservers: Vec<String>,
    /// Words for the `options` line.
    pub options: Vec<String>,
    /// Domains for the `search` line.
    pub search: Vec<String>,
}
