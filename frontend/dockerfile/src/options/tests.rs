//! Options as clients send them.

use super::*;

fn read(entries: &[(&str, &str)]) -> Result<Options, String> {
    let raw = entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Options::read(&raw, &Platform::new("linux", "amd64")).map_err(|error| error.to_string())
}

#[test]
fn options_become_types() {
    let options = read(&[
        ("build-arg:A", "1"),
        ("build-arg:Http_Proxy", "http://p"),
        ("label:x", "y"),
        ("platform", "arm64,linux/386"),
        ("no-cache", "a,B"),
        ("add-hosts", "Db=10.0.0.1,six=::1,both=::ffff:10.0.0.2"),
        ("ulimit", "nofile=1:2,core=-1"),
        ("shm-size", "67108864"),
        ("memory", "1000"),
        ("cpusetcpus", "0-3, 5,"),
        ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"r"}}]"#),
        ("cache-from", "s"),
    ])
    .unwrap();
    assert_eq!(options.build_args["A"], "1");
    assert_eq!(options.run.proxy.as_ref().unwrap().http, "http://p");
    assert_eq!(options.labels["x"], "y");
    assert_eq!(options.platforms[0].to_string(), "linux/arm64");
    assert!(options.multi_platform);
    assert!(options.no_cache.applies_to("b") && !options.no_cache.applies_to("c"));
    assert_eq!(options.run.extra_hosts[0], ExtraHost { host: "db".into(), ip: "10.0.0.1".into() });
    assert_eq!(options.run.extra_hosts[2].ip, "10.0.0.2");
    assert_eq!(options.run.ulimits[1], Ulimit { name: "core".into(), soft: -1, hard: -1 });
    assert_eq!(options.run.shm_size, 64 << 20);
    assert_eq!(options.run.resources.unwrap().memory, 1000);
    assert_eq!(options.cache_imports[1].attributes["ref"], "s");
}

#[test]
fn mistakes_name_the_option() {
    for (key, value, expected) in [
        ("platform", "a/b/c/d", "failed to parse target platform a/b/c/d: "),
        ("image-resolve-mode", "x", "invalid image-resolve-mode: x"),
        ("force-network-mode", "x", "invalid netmode x"),
        ("add-hosts", "A", "failed to parse additional hosts: invalid key-value pair A"),
        ("add-hosts", "a=b", "failed to parse additional hosts: failed to parse IP b"),
        ("ulimit", "x=1", "failed to parse ulimit: invalid ulimit type: x"),
        ("ulimit", "core=2:1", "failed to parse ulimit: ulimit soft limit must be less"),
        ("memory", "-1", "failed to parse resource limits: invalid memory value: -1: must be > 0"),
        ("ulimit", "as=1", "failed to parse ulimit: invalid ulimit type: as"),
        (
            "ulimit",
            "core=-1:1",
            "failed to parse ulimit: ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 1",
        ),
        (
            "ulimit",
            "core=1:2:3",
            "failed to parse ulimit: too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
        ),
        (
            "ulimit",
            "core=x",
            "failed to parse ulimit: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "shm-size",
            "x",
            "failed to parse shm size: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "cpushares",
            "-1",
            "failed to parse resource limits: invalid cpushares value: -1: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "cpuperiod",
            "0",
            "failed to parse resource limits: invalid cpuperiod value: 0: must be > 0",
        ),
        (
            "cpusetmems",
            "3-1",
            "failed to parse resource limits: invalid cpusetmems value: 3-1: invalid cpuset range \"3-1\"",
        ),
        (
            "cpusetcpus",
            "0,x",
            "failed to parse resource limits: invalid cpusetcpus value: 0,x: invalid cpuset element \"x\"",
        ),
        (
            "cpusetcpus",
            "9000",
            "failed to parse resource limits: invalid cpusetcpus value: 9000: cpuset element \"9000\" exceeds maximum 8192",
        ),
        ("multi-platform", "x", "invalid boolean value for multi-platform: x"),
        ("override-copy-image", "x", "support for \"override-copy-image\" was removed"),
        (
            "build-arg:BUILDKIT_DISABLE_FILEOP",
            "1",
            "support for \"BUILDKIT_DISABLE_FILEOP\" build-arg was removed",
        ),
    ] {
        let error = read(&[(key, value)]).unwrap_err();
        assert!(error.starts_with(expected), "{key}: {error}");
    }
}
