//! The configuration file, table by table.

use std::path::{Path, PathBuf};

use mount::HostPath;
use registry::{HostConfig, KeyPair};
use toml::de::DeTable;

use super::quantity::duration_of;
use super::section::{Section, Text};
use super::{Config, ConfigError, TlsFiles, larder, worker};

/// Reads the file at `path` into `config`.
pub(super) fn read(path: &Path, config: &mut Config) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(Text { path, text: &text }, config)
}

pub(super) fn parse(text: Text<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let table = DeTable::parse(text.text).map_err(|error| ConfigError::Syntax {
        place: text.place(error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    read_root(Section::root(text, table.get_ref()), config)
}

fn read_root(root: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(path) = root.text("root")? {
        config.root = root.convert("root", || absolute(&path))?;
    }
    if let Some(entitlements) = root.texts("insecure-entitlements")? {
        config.entitlements = entitlements;
    }
    for (key, level) in [("debug", tracing::Level::DEBUG), ("trace", tracing::Level::TRACE)] {
        if root.boolean(key)? == Some(true) {
            config.log.level = level;
        }
    }
    read_tables(&root, config)?;
    if let Some(larder) = root.section("larder")? {
        larder::read(larder, config)?;
    }
    for key in ["proxyNetwork", "provenanceEnvDir", "otel", "cdi", "cache", "ghacache"] {
        note_unused(&root, key, config);
    }
    root.finish()
}

/// Reads the tables that the reference has too.
fn read_tables(root: &Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(log) = root.section("log")? {
        read_log(log, config)?;
    }
    if let Some(grpc) = root.section("grpc")? {
        read_grpc(grpc, config)?;
    }
    if let Some(dns) = root.section("dns")? {
        read_dns(dns, config)?;
    }
    if let Some(history) = root.section("history")? {
        read_history(history, config)?;
    }
    if let Some(workers) = root.section("worker")? {
        read_workers(workers, config)?;
    }
    for (host, section) in root.named("registry")? {
        let settings = read_registry(section)?;
        config.registry.hosts.insert(host, settings);
    }
    if let Some(frontends) = root.section("frontend")? {
        read_frontends(frontends, config)?;
    }
    if let Some(system) = root.section("system")? {
        read_system(system, config)?;
    }
    Ok(())
}

/// Says of a key that is known but changes nothing that it does so.
fn note_unused(section: &Section<'_>, key: &'static str, config: &mut Config) {
    if section.has(key) {
        config.notes.push(format!("`{key}` has no effect yet"));
    }
}

pub(super) fn absolute(path: &str) -> Result<HostPath, mount::PathError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    HostPath::new(path)
}

fn read_log(log: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(format) = log.text("format")? {
        config.log.json = log.convert("format", || is_json(&format))?;
    }
    if let Some(level) = log.text("level")?.filter(|level| !level.is_empty()) {
        config.log.level = log.convert("level", || level_of(&level))?;
    }
    log.finish()
}

pub(super) fn is_json(format: &str) -> Result<bool, String> {
    match format {
        "json" => Ok(true),
        "text" | "" => Ok(false),
        other => Err(format!("`{other}` is not a format of logs: choose `text` or `json`")),
    }
}

pub(super) fn level_of(level: &str) -> Result<tracing::Level, String> {
    match level.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Ok(tracing::Level::ERROR),
        "warn" | "warning" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        other => Err(format!(
            "`{other}` is not a log level: choose `error`, `warn`, `info`, `debug` or `trace`"
        )),
    }
}

fn read_grpc(grpc: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(addresses) = grpc.texts("address")?.filter(|list| !list.is_empty()) {
        let parse = || addresses.iter().map(|address| address.parse()).collect();
        config.addresses = grpc.convert::<_, super::address::AddressError>("address", parse)?;
    }
    config.socket_owner.user = grpc.number("uid")?.or(config.socket_owner.user);
    config.socket_owner.group = grpc.number("gid")?.or(config.socket_owner.group);
    for key in ["debugAddress", "securityDescriptor"] {
        if grpc.has(key) {
            config.notes.push(format!("`grpc.{key}` has no effect yet"));
        }
    }
    if let Some(tls) = grpc.section("tls")? {
        let path = |key| tls.text(key).map(|path| path.filter(|path| !path.is_empty()));
        let (certificate, key, clients) = (path("cert")?, path("key")?, path("ca")?);
        tls.finish()?;
        config.tls = tls.convert("cert", || tls_files(certificate, key, clients))?;
    }
    grpc.finish()
}

/// Returns the files of TLS, of which the certificate and the key go together.
pub(super) fn tls_files(
    certificate: Option<String>,
    key: Option<String>,
    clients: Option<String>,
) -> Result<Option<TlsFiles>, &'static str> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
            certificate: certificate.into(),
            key: key.into(),
            clients: clients.map(Into::into),
        })),
        (None, None) if clients.is_none() => Ok(None),
        (Some(_), None) => Err("a certificate needs its key"),
        (None, Some(_)) => Err("a key needs its certificate"),
        (None, None) => Err("verifying clients needs a certificate and a key of the daemon's own"),
    }
}

fn read_dns(dns: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let to = &mut config.worker.dns;
    to.nameservers = dns.texts("nameservers")?.unwrap_or_default();
    to.options = dns.texts("options")?.unwrap_or_default();
    to.search = dns.texts("searchDomains")?.unwrap_or_default();
    dns.finish()
}

fn read_history(history: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(age) = history.scalar("maxAge", duration_of)? {
        config.history.age = age;
    }
    if let Some(most) = history.number("maxEntries")? {
        config.history.most = most;
    }
    history.finish()
}

fn read_workers(workers: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(oci) = workers.section("oci")? {
        worker::read_oci(oci, config)?;
    }
    if workers.has("containerd") {
        let note = "`[worker.containerd]` is read over: Larder needs no other service".to_owned();
        config.notes.push(note);
    }
    workers.finish()
}

fn read_registry(section: Section<'_>) -> Result<HostConfig, ConfigError> {
    let mut host = HostConfig {
        mirrors: section.texts("mirrors")?.unwrap_or_default(),
        http: section.boolean("http")?,
        insecure: section.boolean("insecure")?.unwrap_or_default(),
        ca: section.texts("ca")?.unwrap_or_default().into_iter().map(PathBuf::from).collect(),
        keypairs: Vec::new(),
    };
    for pair in section.list("keypair")? {
        let (key, certificate) = (pair.text("key")?, pair.text("cert")?);
        pair.finish()?;
        let both = key.zip(certificate).ok_or("a pair needs both `key` and `cert`");
        let (key, certificate) = pair.convert("key", || both)?;
        host.keypairs.push(KeyPair { key: key.into(), certificate: certificate.into() });
    }
    for directory in section.texts("tlsconfigdir")?.unwrap_or_default() {
        section.convert("tlsconfigdir", || add_directory(Path::new(&directory), &mut host))?;
    }
    section.finish()?;
    Ok(host)
}

/// Adds the certificates in a directory: `*.crt` are trusted, `x.cert` and `x.key` are shown.
fn add_directory(directory: &Path, host: &mut HostConfig) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
    }
    files.sort();
    for file in files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => host.ca.push(file),
            Some("cert") => {
                let key = file.with_extension("key");
                host.keypairs.push(KeyPair { key, certificate: file });
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_frontends(frontends: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let to = &mut config.frontends;
    if let Some(dockerfile) = frontends.section("dockerfile.v0")? {
        to.dockerfile = dockerfile.boolean("enabled")?.unwrap_or(true);
        dockerfile.finish()?;
    }
    if let Some(gateway) = frontends.section("gateway.v0")? {
        to.gateway = gateway.boolean("enabled")?.unwrap_or(true);
        to.repositories = gateway.texts("allowedRepositories")?.unwrap_or_default();
        gateway.finish()?;
    }
    frontends.finish()
}

fn read_system(system: Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    if let Some(limit) = system.number::<usize>("maxRegistryConcurrency")? {
        let checked = if limit > 0 { Ok(limit) } else { Err("it must be greater than 0") };
        config.registry.transfers_per_host =
            system.convert("maxRegistryConcurrency", || checked)?;
    }
    if system.scalar("platformsCacheMaxAge", duration_of)?.is_some() {
        let note = "`system.platformsCacheMaxAge` has no effect: platforms are found out at start";
        config.notes.push(note.to_owned());
    }
    system.finish()
}
