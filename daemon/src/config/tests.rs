//! The configuration as operators write it.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use volumes::{Merge, NoCache, Salvage};

use super::quantity::Amount;
use super::section::Text;
use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    file::parse(Text { path: Path::new("larderd.toml"), text }, &mut config)?;
    Ok(config)
}

fn flags(arguments: &[&str]) -> Result<Config, ConfigError> {
    flags_over("", arguments)
}

fn flags_over(text: &str, arguments: &[&str]) -> Result<Config, ConfigError> {
    let mut config = read(text)?;
    let flags = Flags::try_parse_from([&["larderd"], arguments].concat()).expect("flags");
    flags.apply(&mut config)?;
    Ok(config)
}

#[track_caller]
fn assert_refused(text: &str, says: &str) {
    let error = read(text).expect_err("the file is wrong").to_string();
    assert_eq!(error, says);
}

/// Every key of the reference's public example.
const REFERENCE: &str = r#"
root = "/srv/builds"
insecure-entitlements = ["network.host", "security.insecure", "device"]
proxyNetwork = true
provenanceEnvDir = "/etc/buildkit/provenance.d"

[log]
format = "json"
level = "debug"

[dns]
nameservers = ["192.0.2.1"]
options = ["edns0"]
searchDomains = ["example.com"]

[grpc]
address = ["tcp://0.0.0.0:1234", "unix:///run/a.sock"]
debugAddress = "0.0.0.0:6060"
uid = 1
gid = 2
[grpc.tls]
cert = "/etc/tls.crt"
key = "/etc/tls.key"
ca = "/etc/ca.crt"

[otel]
socketPath = "/run/otel.sock"

[cdi]
disabled = true
specDirs = ["/etc/cdi"]
autoAllowed = ["vendor.example/device"]

[history]
maxAge = 3600
maxEntries = 7

[worker.oci]
enabled = true
platforms = ["linux/amd64", "linux/arm64"]
snapshotter = "native"
rootless = false
noProcessSandbox = false
gc = true
reservedSpace = "30%"
maxUsedSpace = "60GB"
minFreeSpace = 20000000000
binary = ""
apparmor-profile = ""
selinux = false
max-parallelism = 4
networkMode = "host"
cniConfigPath = "/etc/cni.json"
cniBinaryPath = "/opt/cni/bin"
cniPoolSize = 16
bridgeName = "b0"
bridgeSubnet = "192.0.2.0/24"
proxySnapshotterPath = ""
defaultCgroupParent = "builds"
userRemapUnsupported = ""
[worker.oci.stargzSnapshotter]
noprefetch = true
[worker.oci.labels]
"foo" = "bar"
[[worker.oci.gcpolicy]]
reservedSpace = "512MB"
maxUsedSpace = "1GB"
minFreeSpace = "10GB"
keepDuration = "48h"
filters = ["type==source.local", "type==exec.cachemount"]
[[worker.oci.gcpolicy]]
all = true
keepBytes = 1024000000
keepDuration = 60

[worker.containerd]
address = "/run/containerd/containerd.sock"
[worker.containerd.runtime]
options = { BinaryName = "runc" }

[registry."docker.io"]
mirrors = ["mirror.example:5000", "other.example/hub"]
http = true
insecure = true
ca = ["/etc/ca.pem"]
[[registry."docker.io".keypair]]
key = "/etc/key.pem"
cert = "/etc/cert.pem"
[registry."mirror.example:5000"]
http = false

[frontend."dockerfile.v0"]
enabled = false
[frontend."gateway.v0"]
enabled = true
allowedRepositories = ["docker.io/a/b"]

[system]
platformsCacheMaxAge = "1h"
maxRegistryConcurrency = 4

[ghacache.sign]
cmd = ""
[cache.gha]
"#;

#[test]
fn the_references_file_is_understood() {
    let config = read(REFERENCE).unwrap();
    assert_eq!(config.root.as_path(), Path::new("/srv/builds"));
    assert_eq!(config.entitlements, ["network.host", "security.insecure", "device"]);
    assert_eq!(config.log, LogConfig { json: true, level: tracing::Level::DEBUG });
    let addresses: Vec<String> = config.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["tcp://0.0.0.0:1234", "unix:///run/a.sock"]);
    assert_eq!(config.socket_owner, Ownership { user: Some(1), group: Some(2) });
    let tls = config.tls.as_ref().unwrap();
    assert_eq!(tls.clients.as_deref(), Some(Path::new("/etc/ca.crt")));
    assert_eq!(config.history, HistoryConfig { age: Duration::from_secs(3600), most: 7 });
    assert!(!config.frontends.dockerfile && config.frontends.gateway);
    assert_eq!(config.frontends.repositories, ["docker.io/a/b"]);
    assert_eq!(config.registry.transfers_per_host, 4);
}

#[test]
fn the_references_worker_is_understood() {
    let worker = read(REFERENCE).unwrap().worker;
    assert_eq!(worker.platforms.len(), 2);
    assert_eq!(worker.snapshotter, SnapshotterChoice::Copy);
    assert_eq!(worker.dns.nameservers, ["192.0.2.1"]);
    assert_eq!(
        (&*worker.dns.options, &*worker.dns.search),
        (&["edns0".to_owned()][..], &["example.com".to_owned()][..])
    );
    assert_eq!(worker.parallelism, Some(4));
    assert_eq!(worker.cgroup_parent.as_deref(), Some("builds"));
    assert_eq!(worker.labels["foo"], "bar");
    assert_eq!(worker.gc.bounds.reserved, Amount::Percent(30));
    assert_eq!(worker.gc.bounds.most, Amount::Bytes(60 << 30));
    assert_eq!(worker.gc.bounds.free, Amount::Bytes(20_000_000_000));
    let rules = worker.gc.rules(0);
    assert_eq!((rules[0].reserved, rules[0].most, rules[0].free), (512 << 20, 1 << 30, 10 << 30));
    assert_eq!(rules[0].keep, Duration::from_secs(48 * 3600));
    assert_eq!(rules[0].filters, ["type==source.local", "type==exec.cachemount"]);
    assert!(rules[1].all);
    assert_eq!((rules[1].reserved, rules[1].keep), (1_024_000_000, Duration::from_secs(60)));
}

#[test]
fn the_references_registries_are_understood() {
    let hosts = read(REFERENCE).unwrap().registry.hosts;
    let hub = &hosts["docker.io"];
    assert_eq!(hub.mirrors, ["mirror.example:5000", "other.example/hub"]);
    assert_eq!((hub.http, hub.insecure), (Some(true), true));
    assert_eq!(hub.ca, [Path::new("/etc/ca.pem")]);
    assert_eq!(hub.keypairs[0].certificate, Path::new("/etc/cert.pem"));
    assert_eq!(hosts["mirror.example:5000"].http, Some(false));
}

#[test]
fn a_directory_of_certificates_is_read() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ca.crt", "client.cert", "client.key", "README"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    let text = format!("[registry.\"h\"]\ntlsconfigdir = [{:?}]", directory.path());
    let host = &read(&text).unwrap().registry.hosts["h"];
    assert_eq!(host.ca, [directory.path().join("ca.crt")]);
    assert_eq!(host.keypairs[0].key, directory.path().join("client.key"));
    assert!(read("[registry.\"h\"]\ntlsconfigdir = [\"/nonexistent\"]").is_err());
}

#[test]
fn what_has_no_effect_is_said_once() {
    let notes = read(REFERENCE).unwrap().notes;
    for said in [
        "`proxyNetwork`",
        "`provenanceEnvDir`",
        "`otel`",
        "`cdi`",
        "`cache`",
        "`ghacache`",
        "`grpc.debugAddress`",
        "`system.platformsCacheMaxAge`",
        "`worker.oci.binary`",
        "`worker.oci.cniPoolSize`",
        "`worker.oci.stargzSnapshotter`",
        "`[worker.containerd]` is read over",
    ] {
        assert_eq!(notes.iter().filter(|note| note.starts_with(said)).count(), 1, "{said}");
    }
    assert!(read("root = \"/x\"").unwrap().notes.is_empty());
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    assert_refused(
        "[worker.oci]\ngc = true\nreservdSpace = 1\n",
        "`larderd.toml` line 3: unknown key `reservdSpace` in `[worker.oci]`: did you mean `reservedSpace`?",
    );
    assert_refused(
        "rot = \"/x\"",
        "`larderd.toml` line 1: unknown key `rot`: did you mean `root`?",
    );
    assert_refused(
        "[registry.\"a.b:5\"]\nhtttp = true",
        "`larderd.toml` line 2: unknown key `htttp` in `[registry.\"a.b:5\"]`: did you mean `http`?",
    );
    assert_refused(
        "[[worker.oci.gcpolicy]]\nkeepDurration = 1",
        "`larderd.toml` line 2: unknown key `keepDurration` in `[worker.oci.gcpolicy]`: did you mean `keepDuration`?",
    );
    assert_refused(
        "[larder]\ndrain = 1",
        "`larderd.toml` line 2: unknown key `drain` in `[larder]`: did you mean `drain-timeout`?",
    );
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    for (text, says) in [
        ("\nroot = 1", "line 2: `root`: expected a text, found integer"),
        ("[grpc]\naddress = [\"x\"]", "line 2: `grpc.address`: invalid address `x`"),
        ("[grpc]\ngid = -1", "line 2: `grpc.gid`: `-1` is out of range"),
        ("[grpc.tls]\ncert = \"c\"", "line 2: `grpc.tls.cert`: a certificate needs its key"),
        ("[log]\nformat = \"xml\"", "line 2: `log.format`: `xml` is not a format of logs"),
        ("[log]\nlevel = \"loud\"", "line 2: `log.level`: `loud` is not a log level"),
        ("[worker.oci]\ngc = 1", "line 2: `worker.oci.gc`: expected true or false, found integer"),
        (
            "[worker.oci]\nplatforms = [\"a/b/c/d\"]",
            "line 2: `worker.oci.platforms`: \"a/b/c/d\": cannot parse platform specifier",
        ),
        (
            "[worker.oci]\nmaxUsedSpace = \"lots\"",
            "line 2: `worker.oci.maxUsedSpace`: `lots` is not an amount",
        ),
        (
            "[[worker.oci.gcpolicy]]\nfilters = [\"type==\"]",
            "line 2: `worker.oci.gcpolicy.filters`: ",
        ),
        ("[[worker.oci.gcpolicy]]\nkeepDuration = \"soon\"", "`soon` is not a duration"),
        (
            "[system]\nmaxRegistryConcurrency = 0",
            "line 2: `system.maxRegistryConcurrency`: it must be",
        ),
        ("[[registry.\"h\".keypair]]\nkey = \"k\"", "`registry.h.keypair.key`: a pair needs both"),
        ("worker = 1", "line 1: `worker`: expected a table, found integer"),
        ("[larder]\nmetrics-address = \"0.0.0.0:1\"", "it must be an address of loopback"),
        ("[larder.volumes]\nreserve = \"10%\"", "write a size"),
        (
            "[larder.volumes]\nmerge = \"newest\"",
            "line 2: `larder.volumes.merge`: unknown variant `newest`",
        ),
        ("[[larder.volumes.policy]]\nmerge = \"union\"", "for which volumes"),
        (
            "[[larder.volumes.policy]]\nid = \"go-*\"\non-failrue = \"keep\"",
            "line 3: unknown key `on-failrue` in `[larder.volumes.policy]`: did you mean `on-failure`?",
        ),
        ("a = = 1", "line 1: "),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(says), "{error}\nshould say: {says}");
    }
}

#[test]
fn keys_are_found_whatever_their_case() {
    assert_eq!(read("[history]\nmaxentries = 3").unwrap().history.most, 3);
}

#[test]
fn our_own_tables_are_read() {
    let config = read(
        r#"
        [larder]
        drain-timeout = "90s"
        metrics-address = "127.0.0.1:9090"
        [larder.volumes]
        on-failure = "discard"
        no-cache = "keep"
        reserve = "1GB"
        reserve-inodes = 5
        depth = 2
        most-depth = 9
        [[larder.volumes.policy]]
        id = "go-*"
        namespace = "ci"
        merge = "union"
        quota = "5GB"
        quota-inodes = 9
        floor = 1
        expiry = "720h"
        pinned = true
        wait-limit = 30
        driver = "overlay"
        versions = 2
        on-interrupt = "keep"
        "#,
    )
    .unwrap();
    assert_eq!(config.drain_timeout, Duration::from_secs(90));
    assert_eq!(config.metrics.unwrap().to_string(), "127.0.0.1:9090");
    let volumes = config.volumes;
    assert_eq!(volumes.defaults.on_failure, Some(Salvage::Discard));
    assert_eq!(volumes.defaults.no_cache, Some(NoCache::Keep));
    assert_eq!((volumes.reserve.bytes, volumes.reserve.inodes), (1 << 30, 5));
    assert_eq!((volumes.depth, volumes.most_depth), (2, 9));
    let rule = &volumes.rules[0];
    assert_eq!((&*rule.pattern, rule.namespace.as_deref()), ("go-*", Some("ci")));
    assert_eq!(rule.policy.merge, Some(Merge::Union));
    let quota = rule.policy.quota.unwrap();
    assert_eq!((quota.bytes, quota.inodes), (Some(5 << 30), Some(9)));
    assert_eq!(rule.policy.expiry, Some(Duration::from_secs(720 * 3600)));
    assert_eq!(rule.policy.wait_limit, Some(Duration::from_secs(30)));
    assert_eq!((rule.policy.pinned, rule.policy.versions), (Some(true), Some(2)));
    assert_eq!(rule.policy.on_interrupt, Some(Salvage::Keep));

    let config = read("[larder.volumes]\ndriver = \"subvolume\"").unwrap();
    assert_eq!(config.volumes.defaults.driver, Some(volumes::Driver::Subvolume));
    assert_eq!(config.volumes.reserve.bytes, 16 << 20, "some space is kept if nothing is said");
}

#[test]
fn flags_are_read_in_both_forms() {
    for arguments in [
        &["--addr=tcp://:1", "--root=/r", "--oci-worker=true", "--debug", "--oci-worker-gc=false"]
            [..],
        &[
            "--addr",
            "tcp://:1",
            "--root",
            "/r",
            "--oci-worker",
            "true",
            "--debug=true",
            "--oci-worker-gc=0",
        ][..],
    ] {
        let config = flags(arguments).unwrap();
        assert_eq!(config.addresses, [Address::Tcp(":1".to_owned())]);
        assert_eq!(config.root.as_path(), Path::new("/r"));
        assert_eq!(config.log.level, tracing::Level::DEBUG);
        assert!(!config.worker.gc.enabled);
        assert!(config.notes.is_empty());
    }
}

#[test]
fn flags_win_over_the_file() {
    let config = flags_over(
        REFERENCE,
        &[
            "--addr=fd://",
            "--addr=unix:///b.sock",
            "--group=0",
            "--allow-insecure-entitlement=device",
            "--log-level=warn",
            "--log-format=text",
            "--oci-worker-labels=a=b",
            "--oci-worker-labels=c=d=e",
            "--oci-worker-snapshotter=overlayfs",
            "--oci-worker-platform=linux/arm64",
            "--oci-worker-gc-keepstorage=1,2,3",
            "--oci-max-parallelism=9",
            "--tlscert=/c",
        ],
    )
    .unwrap();
    assert_eq!(config.addresses.len(), 2);
    assert_eq!(config.socket_owner.group, Some(0));
    assert_eq!(config.entitlements, ["device"]);
    assert_eq!(config.log, LogConfig { json: false, level: tracing::Level::WARN });
    assert_eq!((&*config.worker.labels["foo"], &*config.worker.labels["c"]), ("bar", "d=e"));
    assert_eq!(config.worker.snapshotter, SnapshotterChoice::Overlay);
    assert_eq!(config.worker.platforms.len(), 1);
    assert_eq!(config.worker.parallelism, Some(9));
    let bounds = config.worker.gc.bounds;
    assert_eq!(bounds.reserved, Amount::Bytes(1_000_000));
    assert_eq!(bounds.free, Amount::Bytes(2_000_000));
    assert_eq!(bounds.most, Amount::Bytes(3_000_000));
    let tls = config.tls.unwrap();
    assert_eq!((tls.certificate.to_str(), tls.key.to_str()), (Some("/c"), Some("/etc/tls.key")));
}

#[test]
fn a_group_may_be_named() {
    assert_eq!(flags(&["--group", "root"]).unwrap().socket_owner.group, Some(0));
    let error = flags(&["--group", "no such group"]).unwrap_err().to_string();
    assert_eq!(error, "`--group`: there is no group `no such group`");
}

#[test]
fn flags_of_another_worker_are_read_over_with_one_note() {
    assert!(flags(&["--containerd-worker=false"]).unwrap().notes.is_empty());
    let config = flags(&[
        "--containerd-worker=true",
        "--containerd-worker-addr=/x",
        "--containerd-worker-labels=a=b",
        "--containerd-cni-pool-size=3",
        "--containerd-worker-gc",
    ])
    .unwrap();
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
}

#[test]
fn flags_without_effect_are_noted() {
    let config = flags(&[
        "--rootless=false",
        "--oci-worker-binary=crun",
        "--otel-socket-path=/x",
        "--registry-auth-tlscontext=host=h,ca=c",
        "--oci-worker-no-process-sandbox",
        "--oci-cni-pool-size=2",
        "--oci-worker-net=cni",
        "--save-cache-debug",
        "--config=/nonexistent.toml",
    ])
    .unwrap();
    assert_eq!(config.notes.len(), 8, "{:?}", config.notes);
}

#[test]
fn an_unknown_flag_is_named_with_the_nearest_known_one() {
    let error = Flags::try_parse_from(["larderd", "--oci-worker-snapshoter=x"]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("--oci-worker-snapshoter") && text.contains("--oci-worker-snapshotter"),
        "{text}"
    );
}

#[test]
fn a_wrong_flag_is_named() {
    for (arguments, says) in [
        (&["--oci-worker-labels=x"][..], "`--oci-worker-labels`: `x` has no `=`"),
        (&["--oci-worker-gc-keepstorage=1,2,3,4"][..], "`--oci-worker-gc-keepstorage`: "),
        (&["--oci-worker-gc-keepstorage=lots"][..], "`lots` is not a number of MB"),
        (&["--tlscacert=/x"][..], "`--tlscert`: verifying clients needs"),
        (&["--log-level=loud"][..], "`--log-level`: `loud`"),
    ] {
        let error = flags(arguments).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_file_is_found_by_flag() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.toml");
    std::fs::write(&path, "[history]\nmaxEntries = 3").unwrap();
    let flags = Flags::try_parse_from(["larderd", "--config", path.to_str().unwrap()]).unwrap();
    assert_eq!(Config::load(&flags).unwrap().history.most, 3);
}
