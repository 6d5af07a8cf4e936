//! The operation that runs a process.

use super::{Message, NONE, index};
use crate::{
    CacheSharing, ContentCache, ExecOp, Mount, MountKind, NetMode, ProxyEnv, SecurityMode,
};

pub(super) fn write(message: &mut Message, exec: &ExecOp) {
    message.message(1, |message| write_meta(message, exec));
    for mount in &exec.mounts {
        message.message(2, |message| write_mount(message, mount));
    }
    let network = match exec.network {
        NetMode::Sandbox => 0,
        NetMode::Host => 1,
        NetMode::None => 2,
    };
    let security = match exec.security {
        SecurityMode::Sandbox => 0,
        SecurityMode::Insecure => 1,
    };
    message.signed(3, network).signed(4, security);
    for secret in &exec.secret_env {
        message.message(5, |message| {
            message.text(1, &secret.id).text(2, &secret.name).flag(3, secret.optional);
        });
    }
    for device in &exec.devices {
        message.message(6, |message| {
            message.text(1, &device.name).flag(2, device.optional);
        });
    }
}

fn write_meta(message: &mut Message, exec: &ExecOp) {
    message.texts(1, &exec.args).texts(2, &exec.env).text(3, &exec.cwd).text(4, &exec.user);
    if let Some(proxy) = &exec.proxy {
        message.message(5, |message| write_proxy(message, proxy));
    }
    for host in &exec.extra_hosts {
        message.message(6, |message| {
            message.text(1, &host.host).text(2, &host.ip);
        });
    }
    message.text(7, &exec.hostname);
    for limit in &exec.ulimits {
        message.message(9, |message| {
            message.text(1, &limit.name).signed(2, limit.soft).signed(3, limit.hard);
        });
    }
    message
        .text(10, &exec.cgroup_parent)
        .flag(11, exec.remove_mount_stubs_recursive)
        .packed(12, exec.valid_exit_codes.iter().map(|code| i64::from(*code)));
}

fn write_proxy(message: &mut Message, proxy: &ProxyEnv) {
    message
        .text(1, &proxy.http)
        .text(2, &proxy.https)
        .text(3, &proxy.ftp)
        .text(4, &proxy.no)
        .text(5, &proxy.all);
}

fn write_mount(message: &mut Message, mount: &Mount) {
    let no_output = match &mount.kind {
        MountKind::Bind | MountKind::Cache(_) | MountKind::Tmpfs { .. } => NONE,
        // Clients leave the field out here.
        MountKind::Secret(_) | MountKind::Ssh(_) => 0,
    };
    message
        .signed(1, index(mount.input))
        .text(2, &mount.selector)
        .text(3, &mount.dest)
        .signed(4, mount.output.map_or(no_output, i64::from))
        .flag(5, mount.readonly);
    write_kind(message, &mount.kind);
    let content_cache = match mount.content_cache {
        ContentCache::Default => 0,
        ContentCache::On => 1,
        ContentCache::Off => 2,
    };
    message.signed(24, content_cache);
}

fn write_kind(message: &mut Message, kind: &MountKind) {
    match kind {
        MountKind::Bind => {}
        MountKind::Secret(secret) => {
            message.signed(6, 1).message(21, |message| {
                message
                    .text(1, &secret.id)
                    .unsigned(2, u64::from(secret.uid))
                    .unsigned(3, u64::from(secret.gid))
                    .unsigned(4, u64::from(secret.mode))
                    .flag(5, secret.optional);
            });
        }
        MountKind::Ssh(agent) => {
            message.signed(6, 2).message(22, |message| {
                message
                    .text(1, &agent.id)
                    .unsigned(2, u64::from(agent.uid))
                    .unsigned(3, u64::from(agent.gid))
                    .unsigned(4, u64::from(agent.mode))
                    .flag(5, agent.optional);
            });
        }
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                CacheSharing::Shared => 0,
                CacheSharing::Private => 1,
                CacheSharing::Locked => 2,
            };
            message.signed(6, 3).message(20, |message| {
                message.text(1, &cache.id).signed(2, sharing);
            });
        }
        MountKind::Tmpfs { size } => {
            message.signed(6, 4).message(19, |message| {
                message.unsigned(1, *size);
            });
        }
    }
}
