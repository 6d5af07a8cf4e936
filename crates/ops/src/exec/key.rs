//! What identifies the result of a process (protocol page `llb.md` §9).

use std::collections::BTreeMap;

use digests::{Digest, StableHasher};
use llb::{ContentCache, ExecOp, Mount, MountKind, NetMode, Platform, SecurityMode};
use solver::{CacheMap, ContentKey, InputKey};

/// Returns the key of a process. Proxies, the addresses of extra hosts, the values of secrets, and
/// which volume is mounted do not count: they are how the work is done, not what it is.
pub(super) fn cache_map(op: &ExecOp, platform: Option<&Platform>, inputs: usize) -> CacheMap {
    let mut hasher = StableHasher::new("exec.op.v1");
    hasher.feed(&op.args).feed(&op.env).feed(&op.cwd).feed(&op.user).feed(&op.hostname);
    hasher.feed(&op.extra_hosts.iter().map(|host| host.host.clone()).collect::<Vec<_>>());
    hasher.feed(&(op.ulimits.len() as u64));
    for limit in &op.ulimits {
        hasher.feed(&limit.name).feed(&limit.soft).feed(&limit.hard);
    }
    hasher.feed(&op.cgroup_parent).feed(&op.valid_exit_codes);
    hasher.variant(match op.network {
        NetMode::Sandbox => 0,
        NetMode::Host => 1,
        NetMode::None => 2,
    });
    hasher.variant(match op.security {
        SecurityMode::Sandbox => 0,
        SecurityMode::Insecure => 1,
    });
    hasher.feed(&(op.secret_env.len() as u64));
    for secret in &op.secret_env {
        hasher.feed(&secret.id).feed(&secret.name).feed(&secret.optional);
    }
    if let Some(platform) = platform {
        hasher.feed(&platform.os).feed(&platform.architecture).feed(&platform.variant);
    }
    hasher.feed(&(op.mounts.len() as u64));
    for mount in &op.mounts {
        feed_mount(&mut hasher, mount);
    }
    CacheMap { digest: hasher.finish(), inputs: input_keys(op, inputs), volatile: false, pin: None }
}

fn feed_mount(hasher: &mut StableHasher, mount: &Mount) {
    hasher.feed(&mount.dest).feed(&mount.input.map(|input| input as u64));
    hasher.feed(&mount.output).feed(&mount.readonly);
    match &mount.kind {
        MountKind::Bind => hasher.variant(0),
        MountKind::Cache(_) => hasher.variant(1),
        MountKind::Tmpfs { size } => hasher.variant(2).feed(size),
        MountKind::Secret(secret) => {
            hasher.variant(3).feed(&secret.id).feed(&secret.uid).feed(&secret.gid);
            hasher.feed(&secret.mode).feed(&secret.optional)
        }
        MountKind::Ssh(ssh) => {
            hasher.variant(4).feed(&ssh.id).feed(&ssh.uid).feed(&ssh.gid);
            hasher.feed(&ssh.mode).feed(&ssh.optional)
        }
    };
}

/// Returns the selectors of each input that may be recognised by its content.
pub(super) fn content_selectors(op: &ExecOp) -> BTreeMap<usize, Vec<String>> {
    let mut selectors: BTreeMap<usize, Option<Vec<String>>> = BTreeMap::new();
    for mount in &op.mounts {
        let Some(input) = mount.input else { continue };
        let by_content = match mount.content_cache {
            ContentCache::On => true,
            ContentCache::Off => false,
            ContentCache::Default => !mount.is_root() && (mount.readonly || mount.output.is_none()),
        };
        let entry = selectors.entry(input).or_insert_with(|| Some(Vec::new()));
        match entry {
            Some(list) if by_content => list.push(mount.selector.clone()),
            // One mount that is known by definition only decides for its input.
            _ => *entry = None,
        }
    }
    selectors.into_iter().filter_map(|(input, list)| Some((input, list?))).collect()
}

fn input_keys(op: &ExecOp, inputs: usize) -> Vec<InputKey> {
    let by_content = content_selectors(op);
    let all_selectors = |slot: usize| -> Vec<String> {
        let of_slot = op.mounts.iter().filter(|mount| mount.input == Some(slot));
        of_slot.map(|mount| mount.selector.clone()).filter(|path| !path.is_empty()).collect()
    };
    (0..inputs)
        .map(|slot| {
            let paths = all_selectors(slot);
            let selector: Option<Digest> = (!paths.is_empty())
                .then(|| StableHasher::new("exec.selector.v1").feed(&paths).finish());
            let content = if by_content.contains_key(&slot) {
                ContentKey::ByContent
            } else {
                ContentKey::ByDefinition
            };
            InputKey { selector, content }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use llb::{CacheMount, CacheSharing, ExtraHost, ProxyEnv};

    use super::*;

    fn op() -> ExecOp {
        let bind = |dest: &str, input, output, readonly| Mount {
            input: Some(input),
            output,
            readonly,
            ..Mount::new(dest, MountKind::Bind)
        };
        ExecOp {
            args: vec!["make".to_owned()],
            mounts: vec![bind("/", 0, Some(0), false), bind("/src", 1, None, true)],
            ..ExecOp::default()
        }
    }

    fn digest(op: &ExecOp) -> Digest {
        cache_map(op, None, 2).digest
    }

    #[test]
    fn how_the_work_is_done_does_not_count() {
        let before = digest(&op());
        let mut proxied = op();
        proxied.proxy = Some(ProxyEnv { http: "http://proxy".to_owned(), ..ProxyEnv::default() });
        assert_eq!(digest(&proxied), before);
        let host = |ip: &str| {
            let extra_hosts = vec![ExtraHost { host: "h".to_owned(), ip: ip.to_owned() }];
            digest(&ExecOp { extra_hosts, ..op() })
        };
        assert_eq!(host("1.2.3.4"), host("4.3.2.1"));
        assert_ne!(host("1.2.3.4"), before);
        let cache = |id: &str, sharing| {
            let mut op = op();
            op.mounts[1].kind = MountKind::Cache(CacheMount { id: id.to_owned(), sharing });
            digest(&op)
        };
        assert_eq!(cache("a", CacheSharing::Shared), cache("b", CacheSharing::Locked));
    }

    #[test]
    fn what_the_work_is_counts() {
        let before = digest(&op());
        let edits: [fn(&mut ExecOp); 6] = [
            |op| op.args.push("all".to_owned()),
            |op| op.env.push("A=b".to_owned()),
            |op| op.network = NetMode::None,
            |op| op.mounts[1].readonly = false,
            |op| op.mounts[1].dest = "/other".to_owned(),
            |op| op.user = "app".to_owned(),
        ];
        for edit in edits {
            let mut changed = op();
            edit(&mut changed);
            assert_ne!(digest(&changed), before, "{changed:?}");
        }
    }

    #[test]
    fn read_only_inputs_are_recognised_by_content_the_root_is_not() {
        let keys = cache_map(&op(), None, 2).inputs;
        assert_eq!(keys[0].content, ContentKey::ByDefinition);
        assert_eq!(keys[1].content, ContentKey::ByContent);
        let mut both = op();
        both.mounts[1].input = Some(0);
        assert_eq!(cache_map(&both, None, 1).inputs[0].content, ContentKey::ByDefinition);
        let mut selected = op();
        selected.mounts[1].selector = "/a".to_owned();
        assert_ne!(cache_map(&selected, None, 2).inputs[1], keys[1]);
    }
}
