//! From a description to a plan in which every choice is made. Pure.

use std::os::unix::ffi::OsStrExt as _;

use mount::{GuestPath, HostPath};

use super::cgroup::CgroupTrees;
use super::kernel::Usual;
use super::message::{ContainerPlan, PlannedMount, Preparation, ProcessPlan, Shape};
use crate::{
    ExecSpec, ExecutorConfig, ExecutorError, GuestMount, Network, ProcessSpec, SandboxNetwork,
    StubRemoval,
};

/// The host name of a container that asks for none: what clients know.
const DEFAULT_HOSTNAME: &str = "buildkitsandbox";
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Returns the directory on which mounts are assembled.
pub(super) fn scratch(state_dir: &HostPath) -> HostPath {
    state_dir.join("scratch")
}

/// Returns where the places are that every container mounts something on.
pub(super) fn skeleton(state_dir: &HostPath) -> HostPath {
    state_dir.join("skeleton")
}

/// Returns the name of the cgroups of the executor in `state_dir`: the same after a restart, and
/// another one for another directory.
pub(super) fn family(state_dir: &HostPath) -> String {
    // FNV-1a: it only has to be stable and to tell a handful of directories apart.
    let hash = state_dir
        .as_path()
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("larder-{hash:016x}")
}

/// Plans a container; the contents of its files come one after the other.
pub(super) fn container(
    spec: ProcessSpec,
    config: &ExecutorConfig,
) -> Result<(Shape, ContainerPlan, Vec<u8>), ExecutorError> {
    let own_network = match (spec.network, config.sandbox_network) {
        (Network::None, _) | (Network::Sandbox, SandboxNetwork::None) => true,
        (Network::Host, _) | (Network::Sandbox, SandboxNetwork::Host) => false,
    };
    let (mounts, bytes) = mounts(spec.mounts)?;
    let hostname = spec.hostname.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
    check_hosts(&hostname, spec.extra_hosts.iter().map(|host| host.name.as_str()))?;
    let process = process(ExecSpec {
        args: spec.args,
        env: spec.env,
        cwd: spec.cwd,
        user: spec.user,
        security: spec.security,
        tty: spec.tty,
    })?;
    let shape = Shape {
        security: spec.security,
        own_network,
        shm_size: spec.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        usual: Usual::beside(mounts.iter().map(|(target, _)| target)),
        cgroup_parent: spec.cgroup_parent.or_else(|| config.cgroup_parent.clone()),
        resources: spec.resources,
    };
    let plan = ContainerPlan {
        skeleton: skeleton(&config.state_dir),
        root: spec.root,
        root_readonly: spec.root_readonly,
        mounts,
        remove_stub_parents: spec.stub_removal == StubRemoval::Recursive,
        hostname,
        extra_hosts: spec.extra_hosts,
        dns: config.dns.clone(),
        process: ProcessPlan { ulimits: spec.ulimits, ..process },
    };
    Ok((shape, plan, bytes))
}

/// Plans what is made of a container of this shape before it is known what runs in it.
pub(super) fn preparation(
    shape: Shape,
    config: &ExecutorConfig,
    trees: &CgroupTrees,
    group: (&str, &str),
) -> Preparation {
    let (family, name) = group;
    let cgroup = trees.plan(shape.cgroup_parent.as_deref(), family, name, &shape.resources);
    let cgroup_namespace = trees.is_unified();
    Preparation { shape, scratch: scratch(&config.state_dir), cgroup, cgroup_namespace }
}

impl TryFrom<ExecSpec> for ProcessPlan {
    type Error = ExecutorError;

    fn try_from(spec: ExecSpec) -> Result<Self, Self::Error> {
        process(spec)
    }
}

fn process(spec: ExecSpec) -> Result<ProcessPlan, ExecutorError> {
    if spec.args.is_empty() {
        return Err(ExecutorError::Invalid("no command".to_owned()));
    }
    if let Some(bad) = spec.args.iter().chain(&spec.env).find(|text| text.contains('\0')) {
        return Err(ExecutorError::Invalid(format!("{bad:?} contains a NUL byte")));
    }
    Ok(ProcessPlan {
        args: spec.args,
        env: spec.env,
        cwd: spec.cwd,
        user: spec.user,
        security: spec.security,
        ulimits: Vec::new(),
        tty: spec.tty,
    })
}

type PlannedMounts = (Vec<(GuestPath, PlannedMount)>, Vec<u8>);

fn mounts(given: Vec<(GuestPath, GuestMount)>) -> Result<PlannedMounts, ExecutorError> {
    let mut bytes = Vec::new();
    let mut planned = Vec::with_capacity(given.len());
    for (target, mount) in given {
        if target.is_root() {
            return Err(ExecutorError::Invalid(
                "`/` is given as the root, not as a mount".to_owned(),
            ));
        }
        let mount = match mount {
            GuestMount::Mount { mount, selector } => PlannedMount::Mount { mount, selector },
            GuestMount::Tmpfs { size, mode } => PlannedMount::Tmpfs { size, mode },
            GuestMount::Socket { path } => PlannedMount::Socket { path },
            GuestMount::File { content, mode, uid, gid } => {
                bytes.extend_from_slice(content.expose());
                PlannedMount::File { length: content.expose().len(), mode, uid, gid }
            }
        };
        planned.push((target, mount));
    }
    Ok((planned, bytes))
}

/// A name becomes part of a line of `/etc/hosts`, and must not make another.
fn check_hosts<'a>(
    hostname: &'a str,
    others: impl Iterator<Item = &'a str>,
) -> Result<(), ExecutorError> {
    let bad =
        |name: &&str| name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0');
    match std::iter::once(hostname).chain(others).find(bad) {
        Some(name) => Err(ExecutorError::Invalid(format!("{name:?} is not a host name"))),
        None if hostname.len() > 64 => {
            Err(ExecutorError::Invalid(format!("host name {hostname:?} is longer than 64 bytes")))
        }
        None => Ok(()),
    }
}
