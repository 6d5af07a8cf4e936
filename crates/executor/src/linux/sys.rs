//! The system calls that have no safe door elsewhere, each behind a short safe function.
//!
//! This is the only file of the workspace with `unsafe` in it. Nothing here decides anything.

#![expect(unsafe_code, reason = "this is the one file that may")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use tokio::io::unix::AsyncFd;

use super::seccomp::Instruction;

/// The letter of the calls of btrfs.
const BTRFS: u8 = 0x94;

/// A witness that this process has one thread, so that a forked child may allocate and lock.
///
/// Nothing in the helper program starts threads; the check is made once, before the first fork.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Returns the witness if this process has exactly one thread.
    pub(crate) fn check() -> io::Result<Option<Self>> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        Ok((threads == 1).then_some(Self(())))
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Side<P> {
    /// The old process.
    Parent(P),
    /// The new one.
    Child,
}

/// Forks.
pub(crate) fn fork(_: &SingleThreaded) -> io::Result<Side<()>> {
    // JUSTIFICATION: no library offers a fork that is safe for single-threaded programs.
    // SAFETY: the witness says that no other thread can hold a lock in the copied memory.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent(())),
    }
}

/// What a child gets at its birth.
#[derive(Debug, Default)]
pub(crate) struct Birth<'a> {
    /// `CLONE_NEW…` flags of the namespaces to create.
    pub namespaces: i32,
    /// The version 2 cgroup to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// True to give the child to the caller's own parent.
    pub sibling: bool,
}

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces; the parent gets a descriptor of the child.
pub(crate) fn clone(_: &SingleThreaded, birth: &Birth<'_>) -> io::Result<Side<OwnedFd>> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: u64::from(birth.namespaces.cast_unsigned()) | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: if birth.sibling { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if birth.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    }
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    let pidfd_pointer = (&raw mut pidfd).expose_provenance();
    args.pidfd = pidfd_pointer as u64;
    // JUSTIFICATION: neither the C library nor rustix has clone3.
    // SAFETY: `args` is a valid `clone_args` of the size given, and `pidfd` lives across the call.
    // Without CLONE_VM and with no stack given the call behaves as fork, for which the witness
    // vouches.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => {
            // SAFETY: with CLONE_PIDFD the kernel stored a new descriptor that nobody else owns.
            Ok(Side::Parent(unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
    }
}

/// Ends the process at once, running no destructors and flushing nothing.
pub(crate) fn exit_now(code: i32) -> ! {
    // JUSTIFICATION: a forked child must not run what its parent registered for its own exit.
    // SAFETY: `_exit` has no requirements.
    unsafe { libc::_exit(code) }
}

/// How signals are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// As the kernel does by default.
    Default,
    /// Not at all.
    Ignore,
}

/// Sets how `signal` is received; a signal that cannot be set is left alone.
pub(crate) fn set_signal(signal: i32, disposition: Disposition) {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // JUSTIFICATION: nix and rustix offer it as unsafe only.
    // SAFETY: no handler of ours is installed, so none can run in an unexpected place; an invalid
    // number is refused by the kernel.
    unsafe { libc::signal(signal, handler) };
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() {
    let none = nix::sys::signal::SigSet::empty();
    // Cannot fail with a valid set.
    let _ = none.thread_set_mask();
}

/// Sends a signal by number to a process known by a descriptor.
pub(crate) fn pidfd_send_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // JUSTIFICATION: rustix knows named signals only, without the real-time ones.
    // SAFETY: a null siginfo asks the kernel to fill it in; the other arguments are plain numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Which mounts of a tree are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The topmost alone.
    Top,
    /// All.
    All,
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount known by a descriptor.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, reach: Reach) -> io::Result<()> {
    let attr = MountAttr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let recursive = if reach == Reach::All { libc::AT_RECURSIVE } else { 0 };
    // JUSTIFICATION: rustix does not have mount_setattr.
    // SAFETY: the path is an empty C string and `attr` a valid `mount_attr` of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Installs a system call filter on this thread.
pub(crate) fn install_filter(program: &[Instruction]) -> io::Result<()> {
    let filter: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.jump_true, jf: i.jump_false, k: i.value })
        .collect();
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // JUSTIFICATION: no library in use offers seccomp(2).
    // SAFETY: `program` points at `length` instructions that outlive the call; the kernel only reads
    // and verifies them.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Marks every descriptor above the standard three to be closed when a program is executed.
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    // JUSTIFICATION: no library in use offers close_range.
    // SAFETY: only a flag of descriptors is changed.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings the loopback device of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // JUSTIFICATION: interface flags are set by an ioctl that no library in use offers.
    // SAFETY: an all-zero `ifreq` is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which `request` is, and keeps no pointer.
    let result = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the runtime watch a descriptor that does not block.
pub(crate) fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // JUSTIFICATION: the runtime's safe types are for sockets and pipes, and a terminal is neither.
    // SAFETY: an `OwnedFd` returns the same descriptor as long as it lives and is the one to close it,
    // and it is moved into the result, which deregisters before it drops it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// The kernel's `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct SubvolumeArguments {
    descriptor: i64,
    name: [u8; 4088],
}

/// What btrfs is asked to do at a name in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SubvolumeCall<'a> {
    /// Make an empty subvolume.
    Create,
    /// Make one with the content of another.
    Snapshot(BorrowedFd<'a>),
    /// Take one away.
    Destroy,
}

/// Has btrfs make or take away the subvolume `name` of the directory `parent`.
pub(crate) fn subvolume_call(
    parent: BorrowedFd<'_>,
    name: &[u8],
    call: SubvolumeCall<'_>,
) -> io::Result<()> {
    let mut arguments = SubvolumeArguments { descriptor: 0, name: [0; 4088] };
    // A NUL is left at the end, for the kernel to find.
    if name.len() >= arguments.name.len() || name.contains(&0) {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    arguments.name[..name.len()].copy_from_slice(name);
    let number = match call {
        SubvolumeCall::Snapshot(source) => {
            arguments.descriptor = i64::from(source.as_raw_fd());
            1
        }
        SubvolumeCall::Create => 14,
        SubvolumeCall::Destroy => 15,
    };
    let code = rustix::ioctl::opcode::write::<SubvolumeArguments>(BTRFS, number);
    // JUSTIFICATION: no library in use offers the calls of btrfs; those that do need libclang to be
    // built, or a library in C.
    // SAFETY: all three calls read a `btrfs_ioctl_vol_args`, which `arguments` is, and keep no pointer.
    let result = unsafe { libc::ioctl(parent.as_raw_fd(), code as _, &raw const arguments) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the kernel's `struct btrfs_ioctl_get_subvol_info_args` about the subvolume that a
/// descriptor is in, as the words it consists of.
pub(crate) fn subvolume_info(inside: BorrowedFd<'_>) -> io::Result<[u64; 63]> {
    let mut words = [0; 63];
    let code = rustix::ioctl::opcode::read::<[u64; 63]>(BTRFS, 60);
    // JUSTIFICATION: as for `subvolume_call`.
    // SAFETY: the call writes 504 bytes, the size of `words`, in which all bit patterns are valid.
    let result = unsafe { libc::ioctl(inside.as_raw_fd(), code as _, &raw mut words) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(words) }
}

/// Returns the kernel's `struct btrfs_ioctl_get_subvol_rootref_args`: which subvolumes are directly
/// inside the one that a descriptor is in, or the first of them.
pub(crate) fn subvolume_children(inside: BorrowedFd<'_>) -> io::Result<[u64; 512]> {
    let mut words = [0; 512];
    let code = rustix::ioctl::opcode::read_write::<[u64; 512]>(BTRFS, 61);
    // JUSTIFICATION: as for `subvolume_call`.
    // SAFETY: the call reads and writes 4096 bytes, the size of `words`, in which all bit patterns are
    // valid.
    let result = unsafe { libc::ioctl(inside.as_raw_fd(), code as _, &raw mut words) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(words) }
}
