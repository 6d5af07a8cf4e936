//! The operation that runs a process.

/// Runs a process.
///
/// It has at least one argument, and exactly one mount at `/`, of kind [`MountKind::Bind`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOp {
    /// The command and its arguments.
    pub args: Vec<String>,
    /// The environment, `KEY=value`, in order.
    pub env: Vec<String>,
    /// The working directory, created when missing.
    pub cwd: String,
    /// `user[:group]`, each a name or a number; empty is the superuser.
    pub user: String,
    /// Proxies, set as variables but no part of the cache key.
    pub proxy: Option<ProxyEnv>,
    /// More entries for `/etc/hosts`.
    pub extra_hosts: Vec<ExtraHost>,
    /// The host name; empty is the default.
    pub hostname: String,
    /// Limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// The cgroup below which the process runs; empty is the default.
    pub cgroup_parent: String,
    /// Whether all directories that were made for a mount point are removed after the run.
    pub remove_mount_stubs_recursive: bool,
    /// The exit statuses that count as success; empty means 0 alone.
    pub valid_exit_codes: Vec<i32>,
    /// The mounts, in the order given.
    pub mounts: Vec<Mount>,
    /// The network it sees.
    pub network: NetMode,
    /// How it is confined.
    pub security: SecurityMode,
    /// Variables whose values are secrets.
    pub secret_env: Vec<SecretEnv>,
    /// Devices it asks for.
    pub devices: Vec<Device>,
}

impl ExecOp {
    /// Returns whether the process counts as successful with exit status `code`.
    pub fn accepts(&self, code: i32) -> bool {
        if self.valid_exit_codes.is_empty() {
            code == 0
        } else {
            self.valid_exit_codes.contains(&code)
        }
    }

    /// Returns the number of outputs.
    pub fn output_count(&self) -> u32 {
        self.mounts
            .iter()
            .filter_map(|mount| mount.output)
            .map(|output| output + 1)
            .max()
            .unwrap_or(0)
    }
}

/// Something to be seen in the process' file tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where; a relative path is below the working directory.
    pub dest: String,
    /// Which input of the vertex it shows; none is an empty tree.
    pub input: Option<usize>,
    /// Which path of the input; empty is all of it.
    pub selector: String,
    /// Which output of the vertex it becomes. Only a bind mount, or a cache mount with an input,
    /// has one; outputs are numbered from 0 in the order of the mounts.
    pub output: Option<u32>,
    /// Whether the process may not write to it.
    pub readonly: bool,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether the cache key is over the input's content.
    pub content_cache: ContentCache,
}

impl Mount {
    /// The destination of the mount that is the process' root.
    pub const ROOT: &'static str = "/";

    /// Returns a mount that shows an empty tree, or what needs none, at `dest`: to be written, and without
    /// an output.
    pub fn new(dest: impl Into<String>, kind: MountKind) -> Self {
        Self {
            dest: dest.into(),
            input: None,
            selector: String::new(),
            output: None,
            readonly: false,
            kind,
            content_cache: ContentCache::Default,
        }
    }

    /// Returns the mount that is the process' root.
    pub fn root() -> Self {
        Self::new(Self::ROOT, MountKind::Bind)
    }

    /// Returns whether this is the process' root.
    pub fn is_root(&self) -> bool {
        self.dest == Self::ROOT
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// The input itself.
    Bind,
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// A tree in memory.
    Tmpfs {
        /// The most it may hold, in bytes; 0 is the system's default.
        size: u64,
    },
    /// A file with a secret of the client's.
    Secret(SecretMount),
    /// A socket to an SSH agent of the client's.
    Ssh(SshMount),
}

/// A directory that outlives the build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CacheMount {
    /// Which one; empty means the mount's destination (see [`CacheMount::id_or`]).
    pub id: String,
    /// Who may use it at the same time.
    pub sharing: CacheSharing,
}

impl CacheMount {
    /// Returns the id, which is `dest` when none was given.
    pub fn id_or<'a>(&'a self, dest: &'a str) -> &'a str {
        if self.id.is_empty() { dest } else { &self.id }
    }
}

/// Who may use a cache directory at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// All see one directory.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A file with a secret of the client's; by default its owner alone may read it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// The owner of the file.
    pub uid: u32,
    /// The group of the file.
    pub gid: u32,
    /// The permissions of the file.
    pub mode: u32,
    /// Whether the mount is left out when the client lacks the secret.
    pub optional: bool,
}

impl Default for SecretMount {
    fn default() -> Self {
        Self { id: String::new(), uid: 0, gid: 0, mode: 0o400, optional: false }
    }
}

/// A socket to an SSH agent of the client's; by default its owner alone may use it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshMount {
    /// Which agent; empty is `default`.
    pub id: String,
    /// The owner of the socket.
    pub uid: u32,
    /// The group of the socket.
    pub gid: u32,
    /// The permissions of the socket.
    pub mode: u32,
    /// Whether the mount is left out when the client lacks the agent.
    pub optional: bool,
}

impl Default for SshMount {
    fn default() -> Self {
        Self { id: String::new(), uid: 0, gid: 0, mode: 0o600, optional: false }
    }
}

/// Whether the cache key of a mount is over its input's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ContentCache {
    /// When it is safe.
    #[default]
    Default,
    /// Always; an error where it is unsafe.
    On,
    /// Never.
    Off,
}

/// The network a process sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NetMode {
    /// One of its own, with a way out.
    #[default]
    Sandbox,
    /// The host's.
    Host,
    /// Only itself.
    None,
}

/// How a process is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SecurityMode {
    /// In a sandbox.
    #[default]
    Sandbox,
    /// With all privileges.
    Insecure,
}

/// Proxies, set as variables in upper and lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ProxyEnv {
    /// `HTTP_PROXY`.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `FTP_PROXY`.
    pub ftp: String,
    /// `NO_PROXY`.
    pub no: String,
    /// `ALL_PROXY`.
    pub all: String,
}

/// An entry for `/etc/hosts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ExtraHost {
    /// The name.
    pub host: String,
    /// The address.
    pub ip: String,
}

/// A limit of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ulimit {
    /// Which: `nofile`.
    pub name: String,
    /// The limit it starts with; -1 is unlimited.
    pub soft: i64,
    /// The most it may raise it to; -1 is unlimited.
    pub hard: i64,
}

/// A variable whose value is a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SecretEnv {
    /// Which secret.
    pub id: String,
    /// The name of the variable.
    pub name: String,
    /// Whether the variable is empty when the client lacks the secret.
    pub optional: bool,
}

/// A device that a process asks for, by its name in the Container Device Interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Device {
    /// `vendor.example/class=name`.
    pub name: String,
    /// Whether the process also runs without it.
    pub optional: bool,
}
