//! What programs can run here.

use std::path::Path;

use oci::Platform;

/// Returns what can be built here, the machine's own platform first.
pub(crate) fn detect() -> Vec<Platform> {
    let mut platforms = native();
    for platform in emulated(Path::new("/proc/sys/fs/binfmt_misc")) {
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    platforms
}

/// Returns the platforms that the processor runs by itself.
fn native() -> Vec<Platform> {
    let linux = |architecture: &str, variant: &str| {
        let mut platform = Platform::new("linux", architecture);
        variant.clone_into(&mut platform.variant);
        platform.normalized()
    };
    match std::env::consts::ARCH {
        "x86_64" => {
            let variants = x86_variants().into_iter().map(|variant| linux("amd64", variant));
            std::iter::once(linux("amd64", "")).chain(variants).chain([linux("386", "")]).collect()
        }
        "x86" => vec![linux("386", "")],
        "aarch64" => vec![linux("arm64", "")],
        "arm" => vec![linux("arm", "v7")],
        "powerpc64" if cfg!(target_endian = "little") => vec![linux("ppc64le", "")],
        "loongarch64" => vec![linux("loong64", "")],
        other => vec![linux(other, "")],
    }
}

/// Returns the levels of the x86-64 architecture above the first that the processor has.
#[cfg(target_arch = "x86_64")]
fn x86_variants() -> Vec<&'static str> {
    macro_rules! has {
        ($($feature:tt),*) => { $(std::arch::is_x86_feature_detected!($feature))&&* };
    }
    let v2 = has!("cmpxchg16b", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3");
    let v3 = v2 && has!("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave");
    let v4 = v3 && has!("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl");
    let levels = [(v2, "v2"), (v3, "v3"), (v4, "v4")];
    levels.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn x86_variants() -> Vec<&'static str> {
    Vec::new()
}

/// Emulators by the name under which they are registered, and what they run.
const EMULATORS: [(&str, &str); 14] = [
    ("qemu-x86_64", "amd64"),
    ("qemu-i386", "386"),
    ("qemu-aarch64", "arm64"),
    ("qemu-arm", "arm"),
    ("qemu-riscv64", "riscv64"),
    ("qemu-ppc64le", "ppc64le"),
    ("qemu-ppc64", "ppc64"),
    ("qemu-s390x", "s390x"),
    ("qemu-mips64el", "mips64le"),
    ("qemu-mips64", "mips64"),
    ("qemu-mipsel", "mipsle"),
    ("qemu-mips", "mips"),
    ("qemu-loongarch64", "loong64"),
    ("rosetta", "amd64"),
];

/// Returns the platforms for which the kernel has an emulator that works in containers: one that was
/// opened when it was registered (flag `F`).
fn emulated(registry: &Path) -> Vec<Platform> {
    let works = |name: &str| {
        let entry = std::fs::read_to_string(registry.join(name)).unwrap_or_default();
        let mut flags = entry.lines().filter_map(|line| line.strip_prefix("flags: "));
        entry.starts_with("enabled") && flags.any(|flags| flags.contains('F'))
    };
    let mut platforms = Vec::new();
    for (name, architecture) in EMULATORS {
        if works(name) {
            platforms.push(Platform::new("linux", architecture));
            if architecture == "arm" {
                let mut older = Platform::new("linux", "arm");
                "v6".clone_into(&mut older.variant);
                platforms.push(older);
            }
        }
    }
    platforms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_platform_comes_first() {
        let platforms = detect();
        assert_eq!(platforms[0].os, "linux");
        assert!(platforms[0].variant.is_empty() || platforms[0].architecture == "arm");
        if std::env::consts::ARCH == "x86_64" {
            assert!(platforms.contains(&Platform::new("linux", "386")));
            assert_eq!(platforms[0], Platform::new("linux", "amd64"));
        }
    }

    #[test]
    fn only_emulators_that_work_in_containers_count() {
        let directory = tempfile::tempdir().unwrap();
        let register = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        register("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OCF\n");
        register("qemu-riscv64", "enabled\ninterpreter /usr/bin/qemu-riscv64\nflags: OC\n");
        register("qemu-s390x", "disabled\ninterpreter /usr/bin/qemu-s390x\nflags: F\n");
        register("python3", "enabled\nflags: F\n");
        assert_eq!(emulated(directory.path()), [Platform::new("linux", "arm64")]);
        assert!(emulated(Path::new("/nonexistent")).is_empty());
    }
}
