//! Running a process in a tree.

use std::collections::BTreeSet;

use super::{Body, Node, OpOptions, Output, State};
use crate::{
    CacheMount, ContentCache, Device, ExecOp, ExtraHost, Mount, MountKind, NetMode, Op, ProxyEnv,
    SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};

/// A process to run.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The environment, `KEY=value`, in order.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: String,
    /// `user[:group]`; empty is the superuser.
    pub user: String,
    /// Proxies.
    pub proxy: Option<ProxyEnv>,
    /// More entries for `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// The host name; empty is the default.
    pub hostname: String,
    /// Limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// The cgroup below which the process runs; empty is the default.
    pub cgroup_parent: String,
    /// The exit statuses that count as success; empty means 0 alone.
    pub valid_exit_codes: Vec<i32>,
    /// The network it sees.
    pub network: NetMode,
    /// How it is confined.
    pub security: SecurityMode,
    /// Whether the tree itself stays as it is.
    pub readonly_root: bool,
    /// Other trees to be seen in it.
    pub mounts: Vec<RunMount>,
    /// Secrets of the client's.
    pub secrets: Vec<RunSecret>,
    /// SSH agents of the client's.
    pub ssh: Vec<RunSsh>,
    /// Devices it asks for.
    pub devices: Vec<Device>,
}

/// Another tree to be seen by the process.
#[derive(Debug, Clone)]
pub struct RunMount {
    /// Where.
    pub dest: String,
    /// The tree.
    pub source: State,
    /// Which path of it; empty is all of it.
    pub selector: String,
    /// Whether the process may not write to it.
    pub readonly: bool,
    /// Whether what the process writes is thrown away. Otherwise it is in [`ExecState::mount`].
    pub no_output: bool,
    /// What is mounted: a bind, cache or tmpfs mount.
    pub kind: MountKind,
    /// Whether the cache key is over the tree's content.
    pub content_cache: ContentCache,
}

impl RunMount {
    /// Returns a mount of a tree that the process may change.
    pub fn bind(dest: impl Into<String>, source: State) -> Self {
        Self {
            dest: dest.into(),
            source,
            selector: String::new(),
            readonly: false,
            no_output: false,
            kind: MountKind::Bind,
            content_cache: ContentCache::Default,
        }
    }

    /// Returns a mount of a directory that outlives the build, seeded with `source`.
    pub fn cache(dest: impl Into<String>, source: State, cache: CacheMount) -> Self {
        Self { kind: MountKind::Cache(cache), ..Self::bind(dest, source) }
    }

    /// Returns a mount of a tree in memory; `size` 0 is the system's default.
    pub fn tmpfs(dest: impl Into<String>, size: u64) -> Self {
        Self { kind: MountKind::Tmpfs { size }, ..Self::bind(dest, State::scratch()) }
    }

    fn has_output(&self) -> bool {
        self.kind == MountKind::Bind && !self.no_output && !self.readonly
    }
}

/// A secret of the client's, as a file, as a variable, or both.
#[derive(Debug, Clone, Default)]
pub struct RunSecret {
    /// The secret and its file's owner and permissions; `optional` counts for both forms.
    pub secret: SecretMount,
    /// Where its file is.
    pub dest: Option<String>,
    /// The name of its variable.
    pub env: Option<String>,
}

/// An SSH agent of the client's.
#[derive(Debug, Clone, Default)]
pub struct RunSsh {
    /// The agent and its socket's owner and permissions.
    pub agent: SshMount,
    /// Where its socket is; none is `/run/buildkit/ssh_agent.<n>`.
    pub dest: Option<String>,
}

/// What a process leaves.
#[derive(Debug, Clone)]
pub struct ExecState {
    root: State,
    mounts: Vec<(String, State)>,
}

impl ExecState {
    /// Returns the tree that the process ran in, as it left it.
    pub fn root(&self) -> State {
        self.root.clone()
    }

    /// Returns the tree that was mounted at `dest`, as the process left it. None when there is no such
    /// mount, or when what was written to it is gone.
    pub fn mount(&self, dest: &str) -> Option<State> {
        self.mounts.iter().find(|(at, _)| at == dest).map(|(_, state)| state.clone())
    }
}

const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

impl State {
    /// Returns what a process leaves that runs in this tree.
    pub fn run(&self, run: ExecOptions, options: OpOptions) -> ExecState {
        let caps = caps(&run, &options);
        let platform = options.platform_from(self);
        let ExecOptions { args, mut env, cwd, user, mounts: given, secrets, ssh, .. } = run;

        let root =
            RunMount { readonly: run.readonly_root, ..RunMount::bind(Mount::ROOT, self.clone()) };
        let mut trees = Vec::with_capacity(given.len() + 1);
        trees.push(root);
        trees.extend(given);
        trees.sort_by(|a, b| a.dest.cmp(&b.dest));

        let mut inputs = Vec::new();
        let mut next = 0;
        let mut mounts: Vec<Mount> =
            trees.iter().map(|tree| mount(tree, &mut inputs, &mut next)).collect();
        mounts.extend(secrets.iter().filter_map(secret_mount));
        mounts.extend(ssh.iter().enumerate().map(|(index, ssh)| ssh_mount(index, ssh, &mut env)));
        let outputs: Vec<Option<u32>> = mounts.iter().map(|mount| mount.output).collect();

        let op = ExecOp {
            args,
            env,
            cwd,
            user,
            proxy: run.proxy,
            extra_hosts: run.extra_hosts,
            hostname: run.hostname,
            ulimits: run.ulimits,
            cgroup_parent: run.cgroup_parent,
            remove_mount_stubs_recursive: true,
            valid_exit_codes: run.valid_exit_codes,
            mounts,
            network: run.network,
            security: run.security,
            secret_env: secrets.into_iter().filter_map(secret_env).collect(),
            devices: run.devices,
        };
        let body = Body::Op(Op::Exec(Box::new(op)));
        let options = OpOptions { platform: platform.as_deref().cloned(), ..options };
        let node = std::sync::Arc::new(Node::new(inputs, body, options, caps));
        let results = trees.into_iter().zip(outputs).filter_map(|(tree, output)| match output {
            Some(index) => {
                let output = Some(Output { node: node.clone(), index });
                Some((tree.dest, Self { output, platform: platform.clone() }))
            }
            None if tree.readonly && tree.kind == MountKind::Bind => Some((tree.dest, tree.source)),
            None => None,
        });
        let mounts: Vec<_> = results.collect();
        let root = mounts.iter().find(|(dest, _)| dest == Mount::ROOT);
        let root = root.map_or_else(|| self.clone(), |(_, state)| state.clone());
        ExecState { root, mounts }
    }
}

fn mount(tree: &RunMount, inputs: &mut Vec<Output>, next: &mut u32) -> Mount {
    let input = tree.source.output.clone().map(|output| {
        inputs.push(output);
        inputs.len() - 1
    });
    let output = tree.has_output().then(|| {
        *next += 1;
        *next - 1
    });
    Mount {
        dest: tree.dest.clone(),
        input,
        selector: tree.selector.clone(),
        output,
        readonly: tree.readonly,
        kind: tree.kind.clone(),
        content_cache: tree.content_cache,
    }
}

fn secret_mount(secret: &RunSecret) -> Option<Mount> {
    let dest = secret.dest.clone()?;
    Some(Mount::new(dest, MountKind::Secret(secret.secret.clone())))
}

fn secret_env(secret: RunSecret) -> Option<SecretEnv> {
    let RunSecret { secret: SecretMount { id, optional, .. }, env, .. } = secret;
    env.map(|name| SecretEnv { id, name, optional })
}

/// The first agent is also told to the process, unless the user did.
fn ssh_mount(index: usize, ssh: &RunSsh, env: &mut Vec<String>) -> Mount {
    let dest = ssh.dest.clone().filter(|dest| !dest.is_empty());
    let dest = dest.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{index}"));
    let known = |entry: &String| entry.split('=').next() == Some(SSH_AUTH_SOCK);
    if index == 0 && !env.iter().any(known) {
        env.push(format!("{SSH_AUTH_SOCK}={dest}"));
    }
    Mount::new(dest, MountKind::Ssh(ssh.agent.clone()))
}

/// The capabilities that a client declares for a process.
fn caps(run: &ExecOptions, options: &OpOptions) -> BTreeSet<&'static str> {
    let mut caps = BTreeSet::from(["exec.meta.base", "exec.meta.setsdefaultpath"]);
    let mut add = |needed: bool, cap: &'static str| {
        if needed {
            caps.insert(cap);
        }
    };
    add(!run.valid_exit_codes.is_empty(), "exec.validexitcode");
    add(!run.ulimits.is_empty(), "exec.meta.ulimit");
    add(options.linux_resources.is_some(), "exec.meta.linux.resources");
    add(run.network != NetMode::Sandbox, "exec.meta.network");
    add(run.security == SecurityMode::Insecure, "exec.meta.security");
    add(run.proxy.is_some(), "exec.meta.proxyenv");
    add(!run.secrets.is_empty(), "exec.mount.secret");
    add(run.secrets.iter().any(|secret| secret.env.is_some()), "exec.secretenv");
    add(!run.ssh.is_empty(), "exec.mount.ssh");
    add(!run.devices.is_empty(), "exec.meta.cdi");
    // The tree itself is mounted at the root.
    add(true, "exec.mount.bind");
    for mount in &run.mounts {
        add(!mount.selector.is_empty(), "exec.mount.selector");
        add(mount.content_cache != ContentCache::Default, "exec.mount.cache.content");
        match &mount.kind {
            MountKind::Cache(_) => {
                add(true, "exec.mount.cache");
                add(true, "exec.mount.cache.sharing");
            }
            MountKind::Tmpfs { size } => {
                add(true, "exec.mount.tmpfs");
                add(*size > 0, "exec.mount.tmpfs.size");
            }
            MountKind::Bind | MountKind::Secret(_) | MountKind::Ssh(_) => {}
        }
    }
    caps
}
