//! The operation that runs a process, and its parts, which the gateway's containers use as well.

use proto::pb;

use super::load::index;
use crate::error::OpError;
use crate::{
    CacheMount, CacheSharing, ContentCache, Device, ExecOp, ExtraHost, Mount, MountKind, NetMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};

pub(super) fn exec(exec: pb::ExecOp, inputs: usize) -> Result<ExecOp, OpError> {
    let missing = |missing| OpError::Missing { kind: "exec", missing };
    let meta = exec.meta.ok_or(missing("meta"))?;
    if meta.args.is_empty() {
        return Err(missing("args"));
    }
    if exec.mounts.is_empty() {
        return Err(missing("mounts"));
    }
    let mounts = mounts(exec.mounts, inputs)?;
    let mut roots = mounts.iter().filter(|mount| mount.is_root());
    let root = roots.next().ok_or(missing("rootfs"))?;
    if root.kind != MountKind::Bind {
        return Err(OpError::Root("it must be a bind mount"));
    }
    if roots.next().is_some() {
        return Err(OpError::Root("there can be only one"));
    }
    Ok(ExecOp {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        proxy: meta.proxy_env.map(exec_proxy),
        extra_hosts: meta.extra_hosts.into_iter().map(Into::into).collect(),
        hostname: meta.hostname,
        ulimits: meta.ulimit.into_iter().map(Into::into).collect(),
        cgroup_parent: meta.cgroup_parent,
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes,
        mounts,
        network: net_mode(exec.network)?,
        security: security_mode(exec.security)?,
        secret_env: secret_env(exec.secretenv),
        devices: exec_devices(exec.cdi_devices),
    })
}

/// Numbers the outputs in the order of the mounts: what a client wrote only says whether there is one.
fn mounts(mounts: Vec<pb::Mount>, inputs: usize) -> Result<Vec<Mount>, OpError> {
    let mut next = 0;
    let numbered = mounts.into_iter().map(|wire| {
        let input = match wire.input {
            -1 => None,
            given => Some(index("mount input", given, inputs)?),
        };
        let output = wire.output;
        let mut mount = exec_mount(wire)?;
        mount.input = input;
        let has_output = match &mount.kind {
            MountKind::Bind => output != -1,
            MountKind::Cache(_) => output != -1 && input.is_some(),
            // Clients leave the field of these at 0.
            MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh(_) => false,
        };
        if has_output {
            mount.output = Some(next);
            next += 1;
        }
        Ok(mount)
    });
    numbered.collect()
}

/// Returns a mount without its input and output, which mean different things in an operation and in
/// a container that a frontend asks for.
pub fn exec_mount(wire: pb::Mount) -> Result<Mount, OpError> {
    let unknown = |what, value| OpError::UnknownValue { what, value: i64::from(value) };
    let kind = match pb::MountType::try_from(wire.mount_type) {
        Ok(pb::MountType::Bind) => MountKind::Bind,
        Ok(pb::MountType::Cache) => MountKind::Cache(cache(wire.cache_opt)?),
        Ok(pb::MountType::Tmpfs) => {
            let size = wire.tmpfs_opt.unwrap_or_default().size;
            MountKind::Tmpfs { size: u64::try_from(size).unwrap_or(0) }
        }
        Ok(pb::MountType::Secret) => {
            let opt = wire.secret_opt.unwrap_or_default();
            let (uid, gid, mode) = (opt.uid, opt.gid, opt.mode);
            MountKind::Secret(SecretMount { id: opt.id, uid, gid, mode, optional: opt.optional })
        }
        Ok(pb::MountType::Ssh) => {
            let opt = wire.ssh_opt.unwrap_or_default();
            let (uid, gid, mode) = (opt.uid, opt.gid, opt.mode);
            MountKind::Ssh(SshMount { id: opt.id, uid, gid, mode, optional: opt.optional })
        }
        Err(_) => return Err(unknown("mount type", wire.mount_type)),
    };
    let content_cache = match pb::MountContentCache::try_from(wire.content_cache) {
        Ok(pb::MountContentCache::Default) => ContentCache::Default,
        Ok(pb::MountContentCache::On) => ContentCache::On,
        Ok(pb::MountContentCache::Off) => ContentCache::Off,
        Err(_) => return Err(unknown("content cache mode", wire.content_cache)),
    };
    Ok(Mount {
        dest: wire.dest,
        input: None,
        selector: wire.selector,
        output: None,
        readonly: wire.readonly,
        kind,
        content_cache,
    })
}

fn cache(wire: Option<pb::CacheOpt>) -> Result<CacheMount, OpError> {
    let wire = wire.ok_or(OpError::Missing { kind: "exec", missing: "cache mount options" })?;
    let sharing = match pb::CacheSharingOpt::try_from(wire.sharing) {
        Ok(pb::CacheSharingOpt::Shared) => CacheSharing::Shared,
        Ok(pb::CacheSharingOpt::Private) => CacheSharing::Private,
        Ok(pb::CacheSharingOpt::Locked) => CacheSharing::Locked,
        Err(_) => {
            let value = i64::from(wire.sharing);
            return Err(OpError::UnknownValue { what: "cache sharing mode", value });
        }
    };
    Ok(CacheMount { id: wire.id, sharing })
}

/// Returns the network that a number stands for.
pub fn net_mode(wire: i32) -> Result<NetMode, OpError> {
    match pb::NetMode::try_from(wire) {
        Ok(pb::NetMode::Unset) => Ok(NetMode::Sandbox),
        Ok(pb::NetMode::Host) => Ok(NetMode::Host),
        Ok(pb::NetMode::None) => Ok(NetMode::None),
        Err(_) => Err(OpError::UnknownValue { what: "network mode", value: i64::from(wire) }),
    }
}

/// Returns the confinement that a number stands for.
pub fn security_mode(wire: i32) -> Result<SecurityMode, OpError> {
    match pb::SecurityMode::try_from(wire) {
        Ok(pb::SecurityMode::Sandbox) => Ok(SecurityMode::Sandbox),
        Ok(pb::SecurityMode::Insecure) => Ok(SecurityMode::Insecure),
        Err(_) => Err(OpError::UnknownValue { what: "security mode", value: i64::from(wire) }),
    }
}

/// Returns the variables whose values are secrets.
pub fn secret_env(wire: Vec<pb::SecretEnv>) -> Vec<SecretEnv> {
    let own =
        |wire: pb::SecretEnv| SecretEnv { id: wire.id, name: wire.name, optional: wire.optional };
    wire.into_iter().map(own).collect()
}

/// Returns the devices.
pub fn exec_devices(wire: Vec<pb::CdiDevice>) -> Vec<Device> {
    wire.into_iter().map(|wire| Device { name: wire.name, optional: wire.optional }).collect()
}

/// Returns the proxies.
pub fn exec_proxy(wire: pb::ProxyEnv) -> ProxyEnv {
    ProxyEnv {
        http: wire.http_proxy,
        https: wire.https_proxy,
        ftp: wire.ftp_proxy,
        no: wire.no_proxy,
        all: wire.all_proxy,
    }
}

impl From<pb::HostIp> for ExtraHost {
    fn from(wire: pb::HostIp) -> Self {
        Self { host: wire.host, ip: wire.ip }
    }
}

impl From<pb::Ulimit> for Ulimit {
    fn from(wire: pb::Ulimit) -> Self {
        Self { name: wire.name, soft: wire.soft, hard: wire.hard }
    }
}
