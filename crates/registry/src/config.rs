//! How each registry is reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Settings by host, as the host stands in references (`docker.io`) or in lists of mirrors.
    pub hosts: BTreeMap<String, HostConfig>,
    /// How to get out.
    pub proxy: ProxyConfig,
    /// What we call ourselves.
    pub user_agent: String,
    /// How many blobs travel at once to or from one host.
    pub transfers_per_host: usize,
    /// How long to wait, and how often to try again.
    pub timing: Timing,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            proxy: ProxyConfig::System,
            user_agent: concat!("larder/", env!("CARGO_PKG_VERSION")).to_owned(),
            transfers_per_host: 6,
            timing: Timing::default(),
        }
    }
}

/// How one registry is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostConfig {
    /// Hosts to pull from instead, in this order, before the registry itself: a host with an optional
    /// port and path, `mirror.example:5000/hub`. Each has its own entry in [`RegistryConfig::hosts`]
    /// if it needs one.
    pub mirrors: Vec<String>,
    /// Whether to speak plain HTTP. If not said, loopback hosts are tried with TLS first and without
    /// it second, and all others are reached by TLS only.
    pub http: Option<bool>,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// Files of certificates (PEM) to trust in addition to the system's.
    pub ca: Vec<PathBuf>,
    /// Certificates to show when the registry asks for one.
    pub keypairs: Vec<KeyPair>,
}

/// A client's certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The file of the private key.
    pub key: PathBuf,
    /// The file of the certificate and those above it.
    pub certificate: PathBuf,
}

/// How to get out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyConfig {
    /// By the proxy that the environment names, if any.
    #[default]
    System,
    /// Directly.
    None,
    /// By this proxy, for all hosts but loopback ones.
    Url(String),
}

/// How long to wait, and how often to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long a connection may take.
    pub connect: Duration,
    /// How long nothing may be heard.
    pub stall: Duration,
    /// How long the registry may take to take in a blob whose last byte has been sent.
    pub commit: Duration,
    /// How often in a row something is tried without getting any further.
    pub attempts: u32,
    /// How long to wait before the second attempt; each further wait is twice as long.
    pub first_delay: Duration,
    /// How long to wait at most before another attempt, whatever the registry asks for.
    pub longest_delay: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            commit: Duration::from_secs(300),
            attempts: 5,
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(20),
        }
    }
}
