//! What is mounted in a container, in which order.

use mount::GuestPath;

use crate::Security;
use crate::linux::kernel::Kernel;
use crate::linux::message::PlannedMount;

/// Something that is mounted in a container.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// What the kernel offers.
    Kernel(Kernel),
    /// `/etc/resolv.conf`.
    ResolvConf,
    /// `/etc/hosts`.
    Hosts,
    /// What the caller wants mounted; the number says which of its files, if it is one.
    Guest(&'a PlannedMount, usize),
}

/// Hidden from sandboxed processes.
pub(super) const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Read-only for sandboxed processes.
pub(super) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A device node: its name below `/dev`, its kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    /// Below `/dev`.
    pub name: &'static str,
    /// Major and minor number.
    pub number: (u32, u32),
}

const fn device(name: &'static str, major: u32, minor: u32) -> Device {
    Device { name, number: (major, minor) }
}

const BASIC_DEVICES: [Device; 6] = [
    device("null", 1, 3),
    device("zero", 1, 5),
    device("full", 1, 7),
    device("random", 1, 8),
    device("urandom", 1, 9),
    device("tty", 5, 0),
];

const INSECURE_DEVICES: [Device; 6] = [
    device("kmsg", 1, 11),
    device("cuse", 10, 203),
    device("fuse", 10, 229),
    device("kvm", 10, 232),
    device("net/tun", 10, 200),
    device("loop-control", 10, 237),
];

/// Loop devices that an insecure process finds.
pub(super) const LOOP_DEVICES: u32 = 16;

/// Returns the device nodes, the basic ones first.
pub(super) fn devices(security: Security) -> impl Iterator<Item = Device> {
    let more: &[Device] = match security {
        Security::Sandbox => &[],
        Security::Insecure => &INSECURE_DEVICES,
    };
    BASIC_DEVICES.into_iter().chain(more.iter().copied())
}

/// Links in `/dev`.
pub(super) const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// One more, where the kernel has what it points to.
pub(super) const CORE_LINK: (&str, &str) = ("core", "/proc/kcore");

/// Returns what is mounted where, in order: the usual, then what the caller wants. A caller's mount at
/// a usual one's place takes that place, and its turn.
pub(super) fn entries(mounts: &[(GuestPath, PlannedMount)]) -> Vec<(GuestPath, Entry<'_>)> {
    let kernel = Kernel::ALL.map(|kernel| (kernel.target(), Entry::Kernel(kernel)));
    let texts = [("/etc/resolv.conf", Entry::ResolvConf), ("/etc/hosts", Entry::Hosts)];
    let mut all: Vec<(GuestPath, Entry<'_>)> = kernel
        .into_iter()
        .chain(texts)
        .filter_map(|(path, entry)| Some((GuestPath::new(path).ok()?, entry)))
        .collect();
    let mut files = 0;
    for (target, mount) in mounts {
        let entry = Entry::Guest(mount, files);
        files += usize::from(matches!(mount, PlannedMount::File { .. }));
        match all.iter_mut().find(|(path, _)| path == target) {
            Some(place) => place.1 = entry,
            None => all.push((target.clone(), entry)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_takes_the_place_of_a_usual_one() {
        let path = |text: &str| GuestPath::new(text).unwrap();
        let tmpfs = || PlannedMount::Tmpfs { size: None, mode: 0o1777 };
        let file = || PlannedMount::File { length: 0, mode: 0o400, uid: 0, gid: 0 };
        let mounts = [(path("/dev/shm"), tmpfs()), (path("/a"), file()), (path("/b"), file())];
        let entries = entries(&mounts);
        assert_eq!(entries.len(), 11);
        assert!(matches!(&entries[3], (_, Entry::Guest(PlannedMount::Tmpfs { .. }, 0))));
        assert!(matches!(&entries[9], (_, Entry::Guest(_, 0))));
        assert!(matches!(&entries[10], (_, Entry::Guest(_, 1))));
    }
}
