//! Each rule by commands that break it and commands that do not.

use super::*;

fn cache(target: &str, sharing: Option<Sharing>) -> CacheUse {
    CacheUse {
        text: format!("type=cache,target={target}"),
        id: target.to_owned(),
        target: target.to_owned(),
        read_only: false,
        options: CacheOptions {
            sharing,
            owner: (None, None, None),
            seed: (String::new(), String::new()),
        },
    }
}

fn command<'a>(text: &'a str, caches: &'a [CacheUse]) -> CachedCommand<'a> {
    let lines = Lines::one(1);
    CachedCommand { caches, text, user: "", has_home: false, multi_platform: false, lines }
}

fn rules_of(commands: &[CachedCommand<'_>]) -> Vec<&'static str> {
    let (mut history, mut known) = (CacheHistory::default(), KnownCaches::default());
    let found = commands.iter().flat_map(|command| check(*command, &mut history, &mut known));
    found.map(|(rule, _)| rule.name).collect()
}

#[test]
fn tools_that_do_not_lock_must_not_share() {
    let shared = [cache("/var/cache/apk", None)];
    assert_eq!(rules_of(&[command("apk add x", &shared)]), ["CacheSharingUnsafe"]);
    let locked = [cache("/var/cache/apk", Some(Sharing::Locked))];
    assert_eq!(rules_of(&[command("apk add x", &locked)]), [""; 0]);
    let pip = [cache("/root/.cache/pip", None)];
    assert_eq!(rules_of(&[command("pip install x", &pip)]), [""; 0]);
    let gradle = [cache("/home/gradle/.gradle/caches", None)];
    assert_eq!(rules_of(&[command("gradle build", &gradle)]), ["CacheSharingUnsafe"]);
}

#[test]
fn apt_has_to_be_told_to_keep_its_downloads() {
    let caches = [cache("/var/cache/apt", Some(Sharing::Locked))];
    let install = command("apt-get update && apt-get install -y x", &caches);
    assert_eq!(rules_of(&[install]), ["CacheCleanedByApt"]);
    let keep = command("rm -f /etc/apt/apt.conf.d/docker-clean", &[]);
    assert_eq!(rules_of(&[keep, install]), [""; 0]);
}

#[test]
fn a_cache_must_not_be_emptied_or_bypassed() {
    for (target, text) in [
        (
            "/var/lib/apt",
            "rm /etc/apt/apt.conf.d/docker-clean; apt-get install x && rm -rf /var/lib/apt/lists/*",
        ),
        ("/root/.cache/pip", "pip install --no-cache-dir x"),
        ("/root/.cache/uv", "uv sync --no-cache"),
        ("/root/.npm", "npm ci && rm -rf /root/.npm"),
    ] {
        let caches = [cache(target, Some(Sharing::Locked))];
        assert_eq!(rules_of(&[command(text, &caches)]), ["CacheDefeated"], "{text}");
    }
    let caches = [cache("/root/.npm", None)];
    assert_eq!(rules_of(&[command("npm ci && rm -rf /tmp/x /root/.npmrc", &caches)]), [""; 0]);
}

#[test]
fn a_cache_must_be_where_the_tool_writes() {
    let mut home = cache("/.cache/pip", None);
    home.text = "type=cache,target=$HOME/.cache/pip".to_owned();
    let caches = [home];
    let run = command("pip install x", &caches);
    assert_eq!(rules_of(&[run]), ["CacheTargetUnused"]);
    assert_eq!(rules_of(&[CachedCommand { has_home: true, ..run }]), [""; 0]);
    let root = [cache("/root/.npm", None)];
    let run = command("npm ci", &root);
    assert_eq!(rules_of(&[CachedCommand { user: "node", ..run }]), ["CacheTargetUnused"]);
    assert_eq!(rules_of(&[CachedCommand { user: "0:0", ..run }]), [""; 0]);
}

#[test]
fn one_cache_has_one_set_of_options() {
    let first = [cache("/x", None)];
    let second = [cache("/x", Some(Sharing::Private))];
    assert_eq!(rules_of(&[command("a", &first), command("b", &second)]), ["CacheOptionsDiffer"]);
    assert_eq!(rules_of(&[command("a", &first), command("b", &first)]), [""; 0]);
}

#[test]
fn a_cache_that_was_filled_has_to_be_mounted_where_it_is_needed() {
    let caches = [cache("/go/pkg/mod", None)];
    let fill = command("go mod download", &caches);
    assert_eq!(rules_of(&[fill, command("go build ./...", &[])]), ["CacheNotMounted"]);
    assert_eq!(rules_of(&[fill, command("go build ./...", &caches)]), [""; 0]);
    assert_eq!(rules_of(&[fill, command("cargo build", &[])]), [""; 0]);
}

#[test]
fn several_platforms_need_several_caches() {
    let mut told = cache("/x", None);
    let plain = [told.clone()];
    let run = CachedCommand { multi_platform: true, ..command("make", &plain) };
    assert_eq!(rules_of(&[run]), ["CachePlatformMixed"]);
    told.text = "type=cache,id=x-$TARGETARCH,target=/x".to_owned();
    let told = [told];
    assert_eq!(rules_of(&[CachedCommand { caches: &told, ..run }]), [""; 0]);
    let npm = [cache("/root/.npm", None)];
    assert_eq!(rules_of(&[CachedCommand { caches: &npm, text: "npm ci", ..run }]), [""; 0]);
}
