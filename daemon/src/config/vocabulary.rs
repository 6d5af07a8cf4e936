//! Every word of the configuration by itself: it has an effect or says that it has none, and is proposed to who
//! misspells it.

use std::path::Path;

use clap::Parser as _;

use super::section::Text;
use super::*;

/// A word with a value that is not the default.
struct Word {
    /// The flag, or the key with its table.
    name: &'static str,
    config: Config,
}

impl Word {
    /// Asserts that the word changes what the daemon does, or that it is said once that it does not.
    fn assert_counts(self) {
        let Self { name, mut config } = self;
        let notes = std::mem::take(&mut config.notes);
        let changed = format!("{config:?}") != format!("{:?}", Config::default());
        assert!(changed != (notes.len() == 1), "`{name}`: changes: {changed}, says: {notes:?}");
    }
}

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    file::parse(Text { path: Path::new("larderd.toml"), text }, &mut config)?;
    Ok(config)
}

/// A table, its lines that must be there for a key to make sense, and the key with its value.
const KEYS: [(&str, &str, &str, &str); 70] = [
    ("", "", "root", "\"/srv\""),
    ("", "", "insecure-entitlements", "[\"network.host\"]"),
    ("", "", "debug", "true"),
    ("", "", "trace", "true"),
    ("", "", "provenanceEnvDir", "\"/etc/p\""),
    ("", "", "proxyNetwork", "true"),
    ("[log]", "", "format", "\"json\""),
    ("[log]", "", "level", "\"debug\""),
    ("[dns]", "", "nameservers", "[\"192.0.2.1\"]"),
    ("[dns]", "", "options", "[\"edns0\"]"),
    ("[dns]", "", "searchDomains", "[\"example.com\"]"),
    ("[grpc]", "", "address", "[\"tcp://0.0.0.0:1234\"]"),
    ("[grpc]", "", "debugAddress", "\"0.0.0.0:6060\""),
    ("[grpc]", "", "uid", "1"),
    ("[grpc]", "", "gid", "1"),
    ("[grpc]", "", "securityDescriptor", "\"x\""),
    ("[grpc.tls]", "key = \"k\"", "cert", "\"c\""),
    ("[grpc.tls]", "cert = \"c\"", "key", "\"k\""),
    ("[grpc.tls]", "cert = \"c\"\nkey = \"k\"", "ca", "\"a\""),
    ("", "", "otel", "{ socketPath = \"/x\" }"),
    ("", "", "cdi", "{ disabled = true }"),
    ("[history]", "", "maxAge", "3600"),
    ("[history]", "", "maxEntries", "7"),
    ("[worker.oci]", "", "enabled", "false"),
    ("[worker.oci]", "", "platforms", "[\"linux/arm64\"]"),
    ("[worker.oci]", "", "labels", "{ a = \"b\" }"),
    ("[worker.oci]", "", "snapshotter", "\"native\""),
    ("[worker.oci]", "", "rootless", "true"),
    ("[worker.oci]", "", "noProcessSandbox", "true"),
    ("[worker.oci]", "", "gc", "false"),
    ("[worker.oci]", "", "gckeepstorage", "\"1GB\""),
    ("[worker.oci]", "", "reservedSpace", "\"30%\""),
    ("[worker.oci]", "", "maxUsedSpace", "\"60GB\""),
    ("[worker.oci]", "", "minFreeSpace", "20000"),
    ("[worker.oci]", "", "max-parallelism", "4"),
    ("[worker.oci]", "", "networkMode", "\"cni\""),
    ("[worker.oci]", "", "cniConfigPath", "\"/c\""),
    ("[worker.oci]", "", "cniBinaryPath", "\"/c\""),
    ("[worker.oci]", "", "cniPoolSize", "3"),
    ("[worker.oci]", "", "bridgeName", "\"b\""),
    ("[worker.oci]", "", "bridgeSubnet", "\"192.0.2.0/24\""),
    ("[worker.oci]", "", "binary", "\"crun\""),
    ("[worker.oci]", "", "apparmor-profile", "\"p\""),
    ("[worker.oci]", "", "selinux", "true"),
    ("[worker.oci]", "", "proxySnapshotterPath", "\"/p\""),
    ("[worker.oci]", "", "defaultCgroupParent", "\"builds\""),
    ("[worker.oci]", "", "stargzSnapshotter", "{ noprefetch = true }"),
    ("[worker]", "", "containerd", "{ enabled = true }"),
    ("[[worker.oci.gcpolicy]]", "", "all", "true"),
    ("[[worker.oci.gcpolicy]]", "", "filters", "[\"type==regular\"]"),
    ("[[worker.oci.gcpolicy]]", "", "keepDuration", "\"48h\""),
    ("[[worker.oci.gcpolicy]]", "", "keepBytes", "1"),
    ("[[worker.oci.gcpolicy]]", "", "reservedSpace", "1"),
    ("[[worker.oci.gcpolicy]]", "", "maxUsedSpace", "1"),
    ("[[worker.oci.gcpolicy]]", "", "minFreeSpace", "1"),
    ("[registry.\"h\"]", "", "mirrors", "[\"m\"]"),
    ("[registry.\"h\"]", "", "http", "true"),
    ("[registry.\"h\"]", "", "insecure", "true"),
    ("[registry.\"h\"]", "", "ca", "[\"/ca\"]"),
    ("[[registry.\"h\".keypair]]", "cert = \"c\"", "key", "\"k\""),
    ("[[registry.\"h\".keypair]]", "key = \"k\"", "cert", "\"c\""),
    ("[frontend.\"dockerfile.v0\"]", "", "enabled", "false"),
    ("[frontend.\"gateway.v0\"]", "", "enabled", "false"),
    ("[frontend.\"gateway.v0\"]", "", "allowedRepositories", "[\"docker.io/a/b\"]"),
    ("[system]", "", "platformsCacheMaxAge", "\"2h\""),
    ("[system]", "", "maxRegistryConcurrency", "9"),
    ("[larder]", "", "drain-timeout", "\"90s\""),
    ("[larder]", "", "metrics-address", "\"127.0.0.1:1\""),
    ("[larder.volumes]", "", "on-failure", "\"discard\""),
    ("[[larder.volumes.policy]]", "", "id", "\"go-*\""),
];

#[test]
fn each_key_has_an_effect_or_says_that_it_has_none() {
    for (table, needed, name, value) in KEYS {
        let text = format!("{table}\n{needed}\n{name} = {value}\n");
        let config = read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        Word { name, config }.assert_counts();
    }
}

#[test]
fn each_key_is_proposed_to_who_misspells_it() {
    for (table, needed, name, value) in KEYS {
        let last = name.chars().next_back().unwrap();
        let text = format!("{table}\n{needed}\n{name}{last} = {value}\n");
        let error = read(&text).expect_err(&text).to_string();
        let asked = format!("unknown key `{name}{last}`");
        let proposed = format!("did you mean `{name}`?");
        assert!(error.contains(&asked) && error.contains(&proposed), "{error}");
    }
}

/// Flags with a value that is not the default.
const FLAGS: [(&str, &str); 48] = [
    ("addr", "tcp://:1"),
    ("root", "/srv"),
    ("config", "/nonexistent.toml"),
    ("debug", ""),
    ("trace", ""),
    ("log-format", "json"),
    ("log-level", "warn"),
    ("group", "0"),
    ("allow-insecure-entitlement", "network.host"),
    ("debugaddr", "0.0.0.0:6060"),
    ("otel-socket-path", "/x"),
    ("registry-auth-tlscontext", "host=h,ca=c"),
    ("cdi-disabled", ""),
    ("cdi-spec-dir", "/etc/cdi"),
    ("save-cache-debug", ""),
    ("rootless", ""),
    ("proxy-network", ""),
    ("oci-worker", "false"),
    ("oci-worker-labels", "a=b"),
    ("oci-worker-snapshotter", "native"),
    ("oci-worker-proxy-snapshotter-path", "/x"),
    ("oci-worker-platform", "linux/arm64"),
    ("oci-worker-rootless", ""),
    ("oci-worker-no-process-sandbox", ""),
    ("oci-worker-gc", "false"),
    ("oci-worker-gc-keepstorage", "1,2,3"),
    ("oci-worker-net", "cni"),
    ("oci-cni-config-path", "/x"),
    ("oci-cni-binary-dir", "/x"),
    ("oci-cni-pool-size", "2"),
    ("oci-worker-binary", "crun"),
    ("oci-worker-apparmor-profile", "p"),
    ("oci-worker-selinux", ""),
    ("oci-max-parallelism", "3"),
    ("containerd-worker", "true"),
    ("containerd-worker-addr", "/x"),
    ("containerd-worker-labels", "a=b"),
    ("containerd-worker-snapshotter", "x"),
    ("containerd-worker-platform", "linux/arm64"),
    ("containerd-worker-namespace", "n"),
    ("containerd-worker-runtime", "r"),
    ("containerd-worker-net", "host"),
    ("containerd-worker-gc", ""),
    ("containerd-worker-gc-keepstorage", "1"),
    ("containerd-worker-selinux", ""),
    ("containerd-worker-apparmor-profile", "p"),
    ("containerd-cni-pool-size", "2"),
    ("containerd-max-parallelism", "2"),
];

/// The flags whose value may only follow an equals sign, because it may be left out.
const SWITCHES: [&str; 1] = ["oci-worker-gc"];

fn flags(arguments: &[String]) -> Result<Flags, clap::Error> {
    Flags::try_parse_from(std::iter::once("larderd").chain(arguments.iter().map(String::as_str)))
}

#[test]
fn each_flag_has_an_effect_or_says_that_it_has_none_in_both_forms() {
    for (name, value) in FLAGS {
        let joined = if value.is_empty() { "true" } else { value };
        let mut forms = vec![vec![format!("--{name}={joined}")]];
        if value.is_empty() {
            forms.push(vec![format!("--{name}")]);
        } else if !SWITCHES.contains(&name) {
            forms.push(vec![format!("--{name}"), value.to_owned()]);
        }
        for form in forms {
            let mut config = Config::default();
            let parsed = flags(&form).unwrap_or_else(|error| panic!("{form:?}: {error}"));
            parsed.apply(&mut config).unwrap();
            Word { name, config }.assert_counts();
        }
    }
}

#[test]
fn flags_of_certificates_go_together() {
    let given = ["--tlscert=/c", "--tlskey=/k", "--tlscacert", "/a"].map(str::to_owned);
    let mut config = Config::default();
    flags(&given).unwrap().apply(&mut config).unwrap();
    let tls = config.tls.unwrap();
    let paths = [tls.certificate, tls.key, tls.clients.unwrap()];
    assert_eq!(paths.map(|path| path.display().to_string()), ["/c", "/k", "/a"]);
}

#[test]
fn each_flag_is_proposed_to_who_misspells_it() {
    let names = FLAGS.map(|(name, _)| name);
    for name in names.into_iter().chain(["tlscert", "tlskey", "tlscacert"]) {
        let last = name.chars().next_back().unwrap();
        let error = flags(&[format!("--{name}{last}=x")]).unwrap_err().to_string();
        let proposed = error.split_once('\n').map(|(_, rest)| rest.contains(&format!("'--{name}")));
        assert!(error.contains(&format!("--{name}{last}")) && proposed == Some(true), "{error}");
    }
}
