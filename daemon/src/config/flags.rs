//! The flags of the command line: those of `buildkitd`, in both forms (`--flag=v` and `--flag v`).

use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser};

use super::file::{absolute, is_json, level_of, tls_files};
use super::quantity::Amount;
use super::worker::{choose_snapshotter, note_network, parse_platforms};
use super::{Address, Config, ConfigError};

const DEFAULT_FILE: &str = "/etc/larder/larderd.toml";
const REFERENCE_FILE: &str = "/etc/buildkit/buildkitd.toml";

/// The Larder build daemon.
#[derive(Debug, Clone, Parser)]
#[command(name = "larderd", version = crate::version::LONG, max_term_width = 100)]
pub(crate) struct Flags {
    /// Where to listen: `unix:///path`, `tcp://host:port`, `fd://`; may be given several times
    /// [default: unix:///run/larder/larderd.sock]
    #[arg(long, value_name = "ADDRESS")]
    addr: Vec<Address>,
    /// The directory of everything that lasts [default: /var/lib/larder]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<String>,
    /// The configuration file [default: /etc/larder/larderd.toml, or else
    /// /etc/buildkit/buildkitd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: LogFlags,
    /// The group, by name or number, that owns unix sockets
    #[arg(long)]
    group: Option<String>,
    /// What builds may ask for beyond the usual: `network.host`, `security.insecure`, `device`
    #[arg(long, value_name = "ENTITLEMENT")]
    allow_insecure_entitlement: Vec<String>,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    worker: WorkerFlags,
    #[command(flatten)]
    unused: UnusedFlags,
    #[command(flatten)]
    containerd: ContainerdFlags,
}

/// A flag that may stand alone or have a value.
macro_rules! switches {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident),* $(,)? } $($rest:tt)*) => {
        $(#[$about])*
        #[derive(Debug, Clone, Args)]
        struct $name {
            $(
                $(#[$doc])*
                #[arg(long, num_args = 0..=1, require_equals = true, action = ArgAction::Set,
                      default_missing_value = "true", value_name = "BOOL",
                      value_parser = BoolishValueParser::new())]
                $field: Option<bool>,
            )*
        }
        $($rest)*
    };
}

switches! {
    /// Switches of the log.
    LogSwitches {
        /// Log what helps to find errors
        debug,
        /// Log everything
        trace,
    }
}

#[derive(Debug, Clone, Args)]
struct LogFlags {
    #[command(flatten)]
    switches: LogSwitches,
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// `error`, `warn`, `info`, `debug` or `trace`
    #[arg(long, value_name = "LEVEL", env = "BUILDKITD_LOG_LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct TlsFlags {
    /// The daemon's certificate
    #[arg(long, value_name = "FILE")]
    tlscert: Option<String>,
    /// Its key
    #[arg(long, value_name = "FILE")]
    tlskey: Option<String>,
    /// Who may sign clients' certificates; makes clients show one
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<String>,
}

switches! {
    /// Switches of the worker.
    WorkerSwitches {
        /// Collect automatically what is not needed
        oci_worker_gc,
        /// Has no effect yet
        oci_worker_no_process_sandbox,
        /// Has no effect yet
        oci_worker_selinux,
        /// Has no effect yet
        oci_worker_rootless,
    }
}

#[derive(Debug, Clone, Args)]
struct WorkerFlags {
    #[command(flatten)]
    switches: WorkerSwitches,
    /// Larder's one worker is always on
    #[arg(long, value_name = "BOOL|auto")]
    oci_worker: Option<String>,
    /// A label that clients see; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    oci_worker_labels: Vec<String>,
    /// How trees of files are kept: `auto`, `overlayfs` or `native`
    #[arg(long, value_name = "NAME")]
    oci_worker_snapshotter: Option<String>,
    /// What can be built, instead of what is found out
    #[arg(long, value_name = "PLATFORM")]
    oci_worker_platform: Vec<String>,
    /// The network of steps: `auto` or `host`
    #[arg(long, value_name = "MODE")]
    oci_worker_net: Option<String>,
    /// What collection keeps, in MB: `RESERVED[,FREE[,MAXIMUM]]`
    #[arg(long, value_name = "SPACE")]
    oci_worker_gc_keepstorage: Option<String>,
    /// How many steps run at once
    #[arg(long, value_name = "COUNT")]
    oci_max_parallelism: Option<usize>,
}

/// Flags that change nothing yet.
#[derive(Debug, Clone, Args)]
struct UnusedFlags {
    #[arg(long, hide = true)]
    oci_worker_proxy_snapshotter_path: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_binary: Option<String>,
    #[arg(long, hide = true)]
    oci_worker_apparmor_profile: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_config_path: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_binary_dir: Option<String>,
    #[arg(long, hide = true)]
    oci_cni_pool_size: Option<i64>,
    #[arg(long, hide = true, env = "BUILDKITD_DEBUGADDR")]
    debugaddr: Option<String>,
    #[arg(long, hide = true)]
    registry_auth_tlscontext: Vec<String>,
    #[arg(long, hide = true)]
    otel_socket_path: Option<String>,
    #[arg(long, hide = true)]
    cdi_spec_dir: Vec<String>,
    #[command(flatten)]
    switches: UnusedSwitches,
}

switches! {
    /// Switches that change nothing yet.
    UnusedSwitches {
        rootless,
        proxy_network,
        cdi_disabled,
        save_cache_debug,
    }
}

switches! {
    /// Switches of a worker that Larder does not need.
    ContainerdSwitches {
        containerd_worker_selinux,
        containerd_worker_rootless,
        containerd_worker_gc,
    }
}

/// Flags of a worker that Larder does not need: read over.
#[derive(Debug, Clone, Args)]
struct ContainerdFlags {
    #[arg(long, hide = true)]
    containerd_worker: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_addr: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_labels: Vec<String>,
    #[arg(long, hide = true)]
    containerd_worker_platform: Vec<String>,
    #[arg(long, hide = true)]
    containerd_worker_namespace: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_runtime: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_net: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_snapshotter: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_apparmor_profile: Option<String>,
    #[arg(long, hide = true)]
    containerd_worker_gc_keepstorage: Option<String>,
    #[arg(long, hide = true)]
    containerd_cni_config_path: Option<String>,
    #[arg(long, hide = true)]
    containerd_cni_binary_dir: Option<String>,
    #[arg(long, hide = true)]
    containerd_cni_pool_size: Option<i64>,
    #[arg(long, hide = true)]
    containerd_max_parallelism: Option<i64>,
    #[command(flatten)]
    switches: ContainerdSwitches,
}

impl Flags {
    /// Returns the file to read; none if there is none. As with the reference, a file that was asked
    /// for may be missing.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        let defaults = [DEFAULT_FILE, REFERENCE_FILE].map(Path::new);
        let mut candidates = match &self.config {
            Some(asked) => vec![asked.as_path()],
            None => defaults.to_vec(),
        };
        candidates.retain(|path| path.exists());
        candidates.first().map(|path| path.to_path_buf())
    }

    /// Puts what the flags say into `config`.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(asked) = self.config.as_ref().filter(|asked| !asked.exists()) {
            config.notes.push(format!("there is no configuration file `{}`", asked.display()));
        }
        if !self.addr.is_empty() {
            config.addresses.clone_from(&self.addr);
        }
        if let Some(root) = &self.root {
            config.root = absolute(root).map_err(wrong("root"))?;
        }
        if let Some(group) = &self.group {
            config.socket_owner.group = Some(group_number(group).map_err(wrong("group"))?);
        }
        if !self.allow_insecure_entitlement.is_empty() {
            config.entitlements.clone_from(&self.allow_insecure_entitlement);
        }
        self.log.apply(config)?;
        self.tls.apply(config)?;
        self.worker.apply(config)?;
        self.unused.apply(config);
        self.containerd.apply(config);
        Ok(())
    }
}

fn wrong<E: std::fmt::Display>(flag: &'static str) -> impl Fn(E) -> ConfigError {
    move |error| ConfigError::Flag { flag, reason: error.to_string() }
}

/// Returns the number of a group that is given by name or number.
fn group_number(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(format!("there is no group `{group}`")),
        Err(error) => Err(format!("cannot look up the group `{group}`: {error}")),
    }
}

impl LogFlags {
    fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        if let Some(format) = &self.log_format {
            config.log.json = is_json(format).map_err(wrong("log-format"))?;
        }
        if self.switches.debug == Some(true) {
            config.log.level = tracing::Level::DEBUG;
        }
        if self.switches.trace == Some(true) {
            config.log.level = tracing::Level::TRACE;
        }
        if let Some(level) = &self.log_level {
            config.log.level = level_of(level).map_err(wrong("log-level"))?;
        }
        Ok(())
    }
}

impl TlsFlags {
    /// A flag replaces the one file it names.
    fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let before = config.tls.as_ref();
        let given = |flag: &Option<String>| flag.clone().filter(|path| !path.is_empty());
        let certificate = given(&self.tlscert).or(before.map(|tls| text(&tls.certificate)));
        let key = given(&self.tlskey).or(before.map(|tls| text(&tls.key)));
        let clients =
            given(&self.tlscacert).or(before.and_then(|tls| tls.clients.as_ref().map(text)));
        config.tls = tls_files(certificate, key, clients).map_err(wrong("tlscert"))?;
        Ok(())
    }
}

impl WorkerFlags {
    fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        for label in &self.oci_worker_labels {
            let missing = || wrong("oci-worker-labels")(format!("`{label}` has no `=`"));
            let (key, value) = label.split_once('=').ok_or_else(missing)?;
            config.worker.labels.insert(key.to_owned(), value.to_owned());
        }
        if !self.oci_worker_platform.is_empty() {
            let platforms = parse_platforms(&self.oci_worker_platform);
            config.worker.platforms = platforms.map_err(wrong("oci-worker-platform"))?;
        }
        if let Some(name) = &self.oci_worker_snapshotter {
            choose_snapshotter(name, config);
        }
        if let Some(limit) = self.oci_max_parallelism {
            config.worker.parallelism = (limit > 0).then_some(limit);
        }
        if let Some(enabled) = self.switches.oci_worker_gc {
            config.worker.gc.enabled = enabled;
        }
        if let Some(kept) = &self.oci_worker_gc_keepstorage {
            let bounds = &mut config.worker.gc.bounds;
            [bounds.reserved, bounds.free, bounds.most] =
                kept_storage(kept).map_err(wrong("oci-worker-gc-keepstorage"))?;
        }
        if let Some(mode) = &self.oci_worker_net {
            note_network(mode, "--oci-worker-net", &mut config.notes);
        }
        if self.oci_worker.as_deref() == Some("false") {
            let note = "`--oci-worker=false`: Larder has one worker, which is always on";
            config.notes.push(note.to_owned());
        }
        let unused = [
            ("oci-worker-no-process-sandbox", self.switches.oci_worker_no_process_sandbox),
            ("oci-worker-selinux", self.switches.oci_worker_selinux),
            ("oci-worker-rootless", self.switches.oci_worker_rootless),
        ];
        note_switches(&unused, config);
        Ok(())
    }
}

/// Parses reserved, free and maximal space in units of a million bytes.
fn kept_storage(text: &str) -> Result<[Amount; 3], String> {
    let mut amounts = [Amount::NONE; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > amounts.len() {
        return Err(format!("`{text}` has more than three parts"));
    }
    for (amount, part) in amounts.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
        let bytes = part.trim().parse::<u64>().ok().and_then(|mega| mega.checked_mul(1_000_000));
        *amount = Amount::Bytes(bytes.ok_or_else(|| format!("`{part}` is not a number of MB"))?);
    }
    Ok(amounts)
}

impl UnusedFlags {
    fn apply(&self, config: &mut Config) {
        let given = [
            ("oci-worker-proxy-snapshotter-path", self.oci_worker_proxy_snapshotter_path.is_some()),
            ("oci-worker-binary", self.oci_worker_binary.is_some()),
            ("oci-worker-apparmor-profile", self.oci_worker_apparmor_profile.is_some()),
            ("oci-cni-config-path", self.oci_cni_config_path.is_some()),
            ("oci-cni-binary-dir", self.oci_cni_binary_dir.is_some()),
            ("oci-cni-pool-size", self.oci_cni_pool_size.is_some()),
            ("debugaddr", self.debugaddr.is_some()),
            ("registry-auth-tlscontext", !self.registry_auth_tlscontext.is_empty()),
            ("otel-socket-path", self.otel_socket_path.is_some()),
            ("cdi-spec-dir", !self.cdi_spec_dir.is_empty()),
        ];
        note_switches(&given.map(|(flag, is)| (flag, is.then_some(true))), config);
        let switches = [
            ("rootless", self.switches.rootless),
            ("proxy-network", self.switches.proxy_network),
            ("cdi-disabled", self.switches.cdi_disabled),
            ("save-cache-debug", self.switches.save_cache_debug),
        ];
        note_switches(&switches, config);
    }
}

fn note_switches(flags: &[(&str, Option<bool>)], config: &mut Config) {
    for (flag, _) in flags.iter().filter(|(_, value)| *value == Some(true)) {
        config.notes.push(format!("`--{flag}` has no effect yet"));
    }
}

impl ContainerdFlags {
    /// One note, unless all that is said is that this worker is off.
    fn apply(&self, config: &mut Config) {
        let worker = self.containerd_worker.as_deref().unwrap_or("false");
        let texts = [
            &self.containerd_worker_addr,
            &self.containerd_worker_namespace,
            &self.containerd_worker_runtime,
            &self.containerd_worker_net,
            &self.containerd_worker_snapshotter,
            &self.containerd_worker_apparmor_profile,
            &self.containerd_worker_gc_keepstorage,
            &self.containerd_cni_config_path,
            &self.containerd_cni_binary_dir,
        ];
        let numbers = [self.containerd_cni_pool_size, self.containerd_max_parallelism];
        let lists = [&self.containerd_worker_labels, &self.containerd_worker_platform];
        let switches = [
            self.switches.containerd_worker_selinux,
            self.switches.containerd_worker_rootless,
            self.switches.containerd_worker_gc,
        ];
        let said = worker != "false"
            || texts.iter().any(|flag| flag.is_some())
            || numbers.iter().any(Option::is_some)
            || lists.iter().any(|list| !list.is_empty())
            || switches.contains(&Some(true));
        if said {
            let note = "`--containerd-worker*` is read over: Larder needs no other service";
            config.notes.push(note.to_owned());
        }
    }
}
