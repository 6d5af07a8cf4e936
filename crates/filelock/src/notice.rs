//! The kernel's notices about a lock file, for a thread that waits for it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::Cancel;

/// The longest wait without a look at the lock: for file systems that give no notices.
const PATIENCE: Duration = Duration::from_secs(1);

/// The first wait after a notice. A dying process closes its files before the kernel takes its locks
/// away, so the notice may come a moment early.
const EAGER: Duration = Duration::from_millis(1);

/// Waits for something to happen to one file.
#[derive(Debug)]
pub(crate) struct Notices {
    inotify: OwnedFd,
    pause: Duration,
}

impl Notices {
    /// Starts to listen to the file at `path`; what happens from now on is not missed.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // Only descriptors open for writing take locks here; those that just look are opened for
        // reading, and do not wake anyone.
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::DELETE_SELF;
        inotify::add_watch(&inotify, path, what)?;
        Ok(Self { inotify, pause: PATIENCE })
    }

    /// Waits until the lock is worth another look. Returns false if the wait was called off.
    pub(crate) fn wait(&mut self, cancel: &Cancel) -> io::Result<bool> {
        if cancel.is_cancelled() {
            return Ok(false);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(self.pause.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(self.pause.subsec_nanos()),
        };
        let mut fds =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(cancel, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (noticed, cancelled) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if noticed {
            self.drain();
            self.pause = EAGER;
        } else {
            self.pause = (self.pause * 2).min(PATIENCE);
        }
        Ok(!cancelled)
    }

    fn drain(&self) {
        let mut space = [MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                tracing::debug!("notices about a lock were lost");
            }
        }
    }
}
