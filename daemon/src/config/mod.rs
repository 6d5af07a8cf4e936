//! Everything that flags, the configuration file and the environment decide, as one value.
//!
//! The daemon reads the world here and nowhere else. The file is that of `buildkitd` with all its
//! keys, and has tables of ours under `[larder]`; flags win over it. What is accepted but changes
//! nothing yet is collected in [`Config::notes`], to be said once when the log is open.

mod address;
mod file;
mod flags;
mod gc;
mod larder;
mod quantity;
mod section;
mod spelling;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mount::HostPath;
use registry::RegistryConfig;

pub(crate) use self::address::Address;
pub(crate) use self::flags::Flags;
pub(crate) use self::gc::GcRule;
use self::section::Place;
pub(crate) use self::worker::{SnapshotterChoice, WorkerConfig};

/// Why the daemon cannot be configured as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where it stops being TOML.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("{place}: unknown key `{key}`{section}: did you mean `{nearest}`?")]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The table it is in, in words.
        section: String,
        /// The known key that is spelled most like it.
        nearest: String,
    },
    /// A value that its key cannot have.
    #[error("{place}: `{key}`: {reason}")]
    Value {
        /// Where it stands.
        place: Place,
        /// The key, with its tables.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag that cannot have its value.
    #[error("`--{flag}`: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// What the operator decided; the rest has its default.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The directory of everything that lasts.
    pub root: HostPath,
    /// Where to listen; not empty.
    pub addresses: Vec<Address>,
    /// Who owns unix sockets; none for whoever runs the daemon.
    pub socket_owner: Ownership,
    /// Certificates for TCP.
    pub tls: Option<TlsFiles>,
    /// What is logged and how.
    pub log: LogConfig,
    /// What builds may ask for beyond the usual: `network.host`, `security.insecure`, `device`.
    pub entitlements: Vec<String>,
    /// How steps run and what is kept of them.
    pub worker: WorkerConfig,
    /// How registries are reached.
    pub registry: RegistryConfig,
    /// What is remembered of finished builds.
    pub history: HistoryConfig,
    /// Which frontends may be used.
    pub frontends: FrontendConfig,
    /// What holds for cache volumes.
    pub volumes: volumes::VolumeSettings,
    /// How long running builds may take to finish when the daemon is to stop.
    pub drain_timeout: Duration,
    /// Where metrics are served, on this machine only.
    pub metrics: Option<SocketAddr>,
    /// What was said without effect, in sentences.
    pub notes: Vec<String>,
}

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ownership {
    /// The user; none to leave it.
    pub user: Option<u32>,
    /// The group; none to leave it.
    pub group: Option<u32>,
}

/// Files (PEM) that make a TCP listener speak TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificate and those above it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who may sign clients' certificates. If given, clients must show one.
    pub clients: Option<PathBuf>,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// One object a line instead of text.
    pub json: bool,
    /// The least severe level that is logged.
    pub level: tracing::Level,
}

/// What is remembered of finished builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryConfig {
    /// Records above `most` that are older than this are dropped.
    pub age: Duration,
    /// So many records are kept whatever their age.
    pub most: usize,
}

/// Which frontends may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrontendConfig {
    /// `dockerfile.v0`
    pub dockerfile: bool,
    /// `gateway.v0`
    pub gateway: bool,
    /// Repositories that images of frontends may come from; empty for all.
    pub repositories: Vec<String>,
}

impl Config {
    /// Reads the file that the flags name, or the default one if there is one, and applies the flags.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = flags.config_file() {
            file::read(&path, &mut config)?;
        }
        flags.apply(&mut config)?;
        Ok(config)
    }
}

impl Default for Config {
    fn default() -> Self {
        let constant = "the default paths are absolute";
        Self {
            root: HostPath::new("/var/lib/larder").expect(constant),
            addresses: vec![Address::default()],
            socket_owner: Ownership::default(),
            tls: None,
            log: LogConfig { json: false, level: tracing::Level::INFO },
            entitlements: Vec::new(),
            worker: WorkerConfig::default(),
            registry: RegistryConfig::default(),
            history: HistoryConfig { age: Duration::from_secs(48 * 3600), most: 50 },
            frontends: FrontendConfig { dockerfile: true, gateway: true, repositories: Vec::new() },
            volumes: volumes::VolumeSettings {
                reserve: volumes::Space { bytes: 16 << 20, inodes: 1024 },
                ..Default::default()
            },
            drain_timeout: Duration::from_secs(600),
            metrics: None,
            notes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vocabulary;
