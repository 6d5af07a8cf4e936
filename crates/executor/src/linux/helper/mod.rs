//! The helper program: what the daemon's binary is when it is started by an executor.
//!
//! It is small, has one thread, and forks. The first process, the *nursery*, only waits for orders to
//! fork a *keeper*. A keeper serves one connection, and one process at a time: it creates the namespaces,
//! whose first process (the *child*) prepares itself from inside as far as it can, waits until it is told
//! what it is for, and becomes the command; then the keeper waits for it, cleans up and reports, and waits
//! for the next order. Whoever closes the connection orders the kill; so when the daemon dies, however it
//! dies, every keeper sees it and nothing is left.

mod attach;
mod bench;
mod child;
mod credentials;
mod entries;
mod keeper;
mod lookup;
mod names;
mod points;
mod reason;
mod stubs;
mod tree;
mod user;
mod workshop;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use super::seccomp;
use super::sys::{self, Side, SingleThreaded};

/// The name by which the helper knows itself.
pub(crate) const HELPER_NAME: &str = "larder-step";

/// Does the helper's work and does not return, if this process was started as an executor's helper;
/// returns at once if not. To be called first thing in `main`, before any thread is started.
pub fn run_if_helper() {
    if std::env::args_os().next().is_none_or(|name| name != HELPER_NAME) {
        return;
    }
    let code = match nursery() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("larder-step: {error}");
            1
        }
    };
    sys::exit_now(code);
}

/// The signals that the helper does not receive; all others it receives by default. A terminal's and a
/// service manager's are for the daemon, which may want to drain; keepers are reaped by nobody; and a
/// closed connection is seen where it is written to.
const IGNORED: [i32; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGCHLD, libc::SIGPIPE];

/// What every keeper inherits.
#[derive(Debug)]
pub(super) struct Inheritance {
    /// This process may fork.
    pub witness: SingleThreaded,
    /// The system call filter, made once.
    pub filter: Vec<seccomp::Instruction>,
}

fn nursery() -> io::Result<()> {
    let witness = SingleThreaded::check()?.ok_or_else(|| {
        io::Error::other("called after a thread was started: call `run_if_helper` first in `main`")
    })?;
    rustix::process::setsid()?;
    for signal in 1..=64 {
        sys::set_signal(signal, sys::Disposition::Default);
    }
    for signal in IGNORED {
        sys::set_signal(signal, sys::Disposition::Ignore);
    }
    rustix::process::chdir("/")?;
    let _ = rustix::thread::set_name(c"larder-step");
    let orders = take_stdin()?;
    let inheritance = Inheritance { witness, filter: seccomp::filter() };
    while let Some(connection) = next_connection(&orders)? {
        match sys::fork(&inheritance.witness) {
            Ok(Side::Child) => {
                drop(orders);
                sys::set_signal(libc::SIGCHLD, sys::Disposition::Default);
                keeper::keep(&inheritance, connection, None);
                sys::exit_now(0);
            }
            Ok(Side::Parent(())) => {}
            // The daemon sees its connection close.
            Err(error) => eprintln!("larder-step: cannot fork: {error}"),
        }
    }
    Ok(())
}

/// Takes the socket on which orders come, and leaves an empty standard input.
fn take_stdin() -> io::Result<OwnedFd> {
    let orders = io::stdin().as_fd().try_clone_to_owned()?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(orders)
}

/// Waits for the next order, one byte and a connection; none when the daemon is gone.
fn next_connection(orders: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    loop {
        let mut descriptors = Vec::new();
        match super::frame::receive_some(orders.as_fd(), &mut [0], &mut descriptors) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                if let Some(connection) = descriptors.pop() {
                    return Ok(Some(connection));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
