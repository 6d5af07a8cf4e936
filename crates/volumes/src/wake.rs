//! Who waits for a volume is woken when a turn of it ends, in this process or in another.
//!
//! A turn is a file. Ending it removes the file, and the death of its process closes it; the kernel
//! gives notice of both (`inotify`). Looking at a turn's file opens it for reading, and gives none.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tasks::Task;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::VolumeKey;
use crate::layout::VolumePaths;

/// Wakes those who wait in this process.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    waits: Arc<Mutex<Waits>>,
    /// The notices, once somebody has waited; none also where the kernel has none to give.
    notices: Mutex<Option<Notices>>,
}

#[derive(Debug, Default)]
struct Waits {
    volumes: HashMap<VolumeKey, Wait>,
    watches: HashMap<i32, VolumeKey>,
}

#[derive(Debug)]
struct Wait {
    sender: watch::Sender<()>,
    watch: Option<i32>,
    waiters: usize,
}

#[derive(Debug)]
struct Notices {
    inotify: Arc<OwnedFd>,
    _reader: Task<()>,
}

/// Hears when a volume's turns change. Letting go ends the listening.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    wakes: &'a Wakes,
    key: VolumeKey,
    receiver: watch::Receiver<()>,
}

impl Wakes {
    /// Wakes all who wait for `key` in this process.
    pub(crate) fn signal(&self, key: VolumeKey) {
        self.waits.lock().signal(key);
    }

    /// Starts to listen; what happens from now on is not missed.
    pub(crate) fn listen(&self, key: VolumeKey, paths: &VolumePaths) -> Listener<'_> {
        let inotify = self.inotify();
        let mut waits = self.waits.lock();
        let wait = waits.wait(key);
        wait.waiters += 1;
        let receiver = wait.sender.subscribe();
        if let (None, Some(inotify)) = (wait.watch, inotify) {
            let what = WatchFlags::DELETE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM;
            match inotify::add_watch(&*inotify, paths.turns().as_path(), what) {
                Ok(watch) => {
                    wait.watch = Some(watch);
                    waits.watches.insert(watch, key);
                }
                Err(error) => tracing::debug!(%error, "no notices about turns"),
            }
        }
        Listener { wakes: self, key, receiver }
    }

    fn inotify(&self) -> Option<Arc<OwnedFd>> {
        let mut notices = self.notices.lock();
        if notices.is_none() {
            match Notices::start(self.waits.clone()) {
                Ok(started) => *notices = Some(started),
                Err(error) => {
                    tracing::warn!(%error, "waits for volumes of other processes will be slow");
                }
            }
        }
        notices.as_ref().map(|notices| notices.inotify.clone())
    }

    fn forget(&self, key: VolumeKey) {
        let mut waits = self.waits.lock();
        let Some(wait) = waits.volumes.get_mut(&key) else { return };
        wait.waiters -= 1;
        if wait.waiters > 0 {
            return;
        }
        let watch = wait.watch;
        waits.volumes.remove(&key);
        if let Some(watch) = watch {
            waits.watches.remove(&watch);
            if let Some(notices) = &*self.notices.lock() {
                // Fails if the kernel has ended the watch itself, with the directory.
                let _ = inotify::remove_watch(&*notices.inotify, watch);
            }
        }
    }
}

impl Waits {
    fn wait(&mut self, key: VolumeKey) -> &mut Wait {
        let nobody = || Wait { sender: watch::Sender::new(()), watch: None, waiters: 0 };
        self.volumes.entry(key).or_insert_with(nobody)
    }

    fn signal(&self, key: VolumeKey) {
        if let Some(wait) = self.volumes.get(&key) {
            wait.sender.send_replace(());
        }
    }
}

impl Notices {
    fn start(waits: Arc<Mutex<Waits>>) -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        #[expect(
            deprecated,
            reason = "deprecated for types whose descriptor may change; ours cannot, and the new way is unsafe code"
        )]
        let readable = AsyncFd::new(inotify.clone())?;
        let reader = tasks::spawn("volumes.notices", async move {
            while let Ok(mut ready) = readable.readable().await {
                dispatch(readable.get_ref(), &waits);
                ready.clear_ready();
            }
        });
        Ok(Self { inotify, _reader: reader })
    }
}

fn dispatch(inotify: &OwnedFd, waits: &Mutex<Waits>) {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(inotify, &mut space);
    while let Ok(event) = reader.next() {
        let waits = waits.lock();
        match waits.watches.get(&event.wd()) {
            Some(key) => waits.signal(*key),
            // Notices were lost: everyone looks.
            None if event.wd() < 0 => waits.volumes.keys().for_each(|key| waits.signal(*key)),
            None => {}
        }
    }
}

impl Listener<'_> {
    /// Forgets what was heard so far: called before a look at the turns.
    pub(crate) fn begin(&mut self) {
        self.receiver.mark_unchanged();
    }

    /// Waits until something has happened since [`Listener::begin`].
    pub(crate) async fn heard(&mut self) {
        // The sender lives as long as there is a listener.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.wakes.forget(self.key);
    }
}

#[cfg(test)]
mod interleavings;
