//! What is allowed, by number, for one architecture.

use std::ops::Range;
use std::str::FromStr;

use super::table::{ALLOWED, ALLOWED_HERE};

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Fail(u16),
    /// `socket`: families that reach the host's kernel services or its virtual machine are refused.
    Socket,
    /// `personality`: only the usual ones, and the question which it is.
    Personality,
    /// `clone`: not into new namespaces.
    Clone,
}

/// Flags of `clone` that create namespaces.
pub(crate) const NAMESPACE_FLAGS: u32 = 0x7E02_0000;
/// Socket families that are refused: the kernel's crypto interface and virtual machine sockets.
pub(crate) const REFUSED_FAMILIES: [u32; 2] = [38, 40];
/// Personalities that may be set: Linux, with or without an old-style `uname`, 32 bit, and a query.
pub(crate) const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The rules of one architecture, by number.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The kernel's `AUDIT_ARCH_…`.
    pub architecture: u32,
    /// One rule for each number from 0 to the newest known; any beyond fails with `ENOSYS`, so that
    /// programs fall back as on an older kernel.
    pub by_number: Vec<Rule>,
    /// Numbers far beyond those that are allowed too.
    pub private: Option<Range<u32>>,
}

/// The newest number that the table of names was made for; it is the same on all architectures.
const NEWEST: usize = 469;

/// Returns the rules for a 64-bit process and for the 32-bit ones that its kernel runs.
pub(crate) fn native() -> Vec<Rules> {
    #[cfg(target_arch = "x86_64")]
    return vec![
        rules::<syscalls::x86_64::Sysno>(0xC000_003E, |name| name as usize),
        rules::<syscalls::x86::Sysno>(0x4000_0003, |name| name as usize),
    ];
    #[cfg(target_arch = "aarch64")]
    return vec![
        rules::<syscalls::aarch64::Sysno>(0xC000_00B7, |name| name as usize),
        // Breakpoints, cache flushes and thread pointers have numbers of their own there.
        Rules {
            private: Some(0x000F_0001..0x000F_0007),
            ..rules::<syscalls::arm::Sysno>(0x4000_0028, |name| name as usize)
        },
    ];
}

fn rules<S: FromStr>(architecture: u32, number: impl Fn(S) -> usize) -> Rules {
    let mut by_number = vec![Rule::Fail(libc::EPERM as u16); NEWEST + 1];
    let mut set = |name: &str, rule: Rule| {
        if let Ok(known) = name.parse::<S>()
            && let Some(slot) = by_number.get_mut(number(known))
        {
            *slot = rule;
        }
    };
    for name in ALLOWED.iter().chain(ALLOWED_HERE) {
        set(name, Rule::Allow);
    }
    set("socket", Rule::Socket);
    set("personality", Rule::Personality);
    set("clone", Rule::Clone);
    // Its flags are in memory, where a filter cannot look: the C library falls back to `clone`.
    set("clone3", Rule::Fail(libc::ENOSYS as u16));
    Rules { architecture, by_number, private: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_into_the_kernel_is_refused() {
        let native = native();
        let rule = |name: &str| {
            let number = name.parse::<syscalls::Sysno>().unwrap() as usize;
            native[0].by_number[number]
        };
        for name in [
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "mount",
            "umount2",
            "move_mount",
            "fsopen",
            "unshare",
            "setns",
            "kexec_load",
            "init_module",
            "finit_module",
            "delete_module",
            "open_by_handle_at",
            "userfaultfd",
            "io_uring_setup",
            "perf_event_open",
            "reboot",
            "swapon",
            "acct",
            "settimeofday",
            "clock_settime",
            "quotactl",
            "pidfd_getfd",
            "syslog",
            "process_madvise",
            "kcmp",
        ] {
            assert_eq!(rule(name), Rule::Fail(libc::EPERM as u16), "{name}");
        }
        for name in ["read", "execve", "openat2", "chroot", "ptrace", "mknodat", "setuid", "statx"]
        {
            assert_eq!(rule(name), Rule::Allow, "{name}");
        }
        assert_eq!(rule("clone3"), Rule::Fail(libc::ENOSYS as u16));
        assert_eq!(rule("clone"), Rule::Clone);
    }
}
