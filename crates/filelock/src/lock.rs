//! The lock itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs2::FileExt;

use crate::notice::Notices;
use crate::{Cancel, Holder, LockError};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Together with any number of other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// A held lock; dropping it lets go.
#[must_use = "a lock is let go when its guard is dropped"]
#[derive(Debug)]
pub struct FileLock {
    /// Shared only in the moment of parking.
    file: Arc<File>,
    identity: Identity,
    path: PathBuf,
    mode: Mode,
}

/// The device and the inode of a file.
type Identity = (u64, u64);

impl FileLock {
    /// Takes the lock at `path` if nobody is in the way; makes the file if it is missing.
    ///
    /// An exclusive holder that gives its name is named to those it is in the way of.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody is in the way.
    pub fn try_acquire(
        path: &Path,
        mode: Mode,
        holder: Option<&Holder>,
    ) -> Result<Self, LockError> {
        loop {
            let file = open(path)?;
            if !try_lock(&file, mode).map_err(system("take", path))? {
                return Err(LockError::Held { path: path.to_owned(), holder: Holder::read(&file) });
            }
            if let Some(lock) = settle(file, path, mode, holder)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock at `path`, and blocks the thread for as long as somebody is in the way.
    /// For a lock that is only ever held for a moment; a wait that may be long is for
    /// [`FileLock::acquire_or_cancel`].
    ///
    /// # Errors
    /// [`LockError::System`] if the system refuses.
    pub fn acquire(path: &Path, mode: Mode, holder: Option<&Holder>) -> Result<Self, LockError> {
        loop {
            let file = open(path)?;
            lock(&file, mode).map_err(system("take", path))?;
            if let Some(lock) = settle(file, path, mode, holder)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock at `path`, and blocks the thread while somebody is in the way, until `cancel`
    /// says to give up.
    ///
    /// # Errors
    /// [`LockError::Cancelled`] if the wait was called off.
    pub fn acquire_or_cancel(
        path: &Path,
        mode: Mode,
        holder: Option<&Holder>,
        cancel: &Cancel,
    ) -> Result<Self, LockError> {
        'file: loop {
            match Self::try_acquire(path, mode, holder) {
                Err(LockError::Held { .. }) => {}
                done => return done,
            }
            let mut notices = match Notices::listen(path) {
                // It was removed by its holder just now, so there is no more to wait for.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(system("wait for", path))?,
            };
            // From here on nothing is missed; but something may have happened before.
            let file = open(path)?;
            while !try_lock(&file, mode).map_err(system("take", path))? {
                if !notices.wait(cancel).map_err(system("wait for", path))? {
                    return Err(LockError::Cancelled { path: path.to_owned() });
                }
                let led = identity(&file).and_then(|identity| leads_to(path, identity));
                if !led.map_err(system("look at", path))? {
                    continue 'file;
                }
            }
            if let Some(lock) = settle(file, path, mode, holder)? {
                return Ok(lock);
            }
        }
    }

    /// Returns true if a living process holds the lock at `path` in any mode. Wakes nobody and
    /// changes nothing; a missing file is a lock that nobody holds.
    ///
    /// The answer is exact when the holder cannot change meanwhile, and a hint otherwise.
    ///
    /// # Errors
    /// [`LockError::System`] if the file cannot be opened.
    pub fn is_held(path: &Path) -> Result<bool, LockError> {
        let Some(file) = open_to_look(path)? else { return Ok(false) };
        Ok(!is_free(&file, path)?)
    }

    /// Returns who holds the lock at `path`; none if nobody does, or nobody who gave a name.
    ///
    /// # Errors
    /// [`LockError::System`] if the file cannot be opened.
    pub fn holder_of(path: &Path) -> Result<Option<Holder>, LockError> {
        let Some(file) = open_to_look(path)? else { return Ok(None) };
        Ok(if is_free(&file, path)? { None } else { Holder::read(&file) })
    }

    /// Returns how the lock is held.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the path of the lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the lock's file another name in the same directory, without letting go.
    ///
    /// # Errors
    /// [`LockError::System`] if the file cannot be renamed; it keeps its name then.
    pub fn rename(&mut self, to: &Path) -> Result<(), LockError> {
        moment();
        std::fs::rename(&self.path, to).map_err(system("rename", &self.path))?;
        self.path = to.to_owned();
        Ok(())
    }

    /// Returns the lock's file once more, for another process to have open. The lock lasts until this
    /// guard lets go or, if this process dies before, until the last copy is closed.
    ///
    /// # Errors
    /// [`LockError::System`] if the system has no more room for open files.
    pub fn share(&self) -> Result<OwnedFd, LockError> {
        self.file.try_clone().map(OwnedFd::from).map_err(system("share", &self.path))
    }

    /// Lets go, and keeps the file open to be taken again at little cost.
    pub fn park(self) -> ParkedLock {
        let (path, mode) = (self.path.clone(), self.mode);
        let (file, identity) = (self.file.clone(), self.identity);
        drop(self);
        ParkedLock { file, identity, path, mode }
    }

    /// Removes the lock's file and lets go.
    ///
    /// # Errors
    /// [`LockError::System`] if the file cannot be removed; the lock is let go all the same.
    pub fn remove(self) -> Result<(), LockError> {
        moment();
        // Removed while held: whoever waits on this file finds out by its missing name.
        std::fs::remove_file(&self.path).map_err(system("remove", &self.path))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        moment();
        // Before the file is closed: the notice that waiters get is of the closing.
        if let Err(error) = FileExt::unlock(&*self.file) {
            tracing::warn!(path = %self.path.display(), %error, "lock not let go before its end");
        }
    }
}

/// A lock that was let go while its file stays open. Nobody is kept out by it.
#[derive(Debug)]
pub struct ParkedLock {
    file: Arc<File>,
    identity: Identity,
    path: PathBuf,
    mode: Mode,
}

impl ParkedLock {
    /// Returns the path of the lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the lock again; none if somebody has removed the file or locked it meanwhile.
    ///
    /// # Errors
    /// [`LockError::System`] if the system refuses.
    pub fn resume(self, holder: Option<&Holder>) -> Result<Option<FileLock>, LockError> {
        let Self { file, identity, path, mode } = self;
        if !try_lock(&file, mode).map_err(system("take", &path))? {
            return Ok(None);
        }
        // From here on the guard lets go, whatever happens.
        let lock = FileLock { file, identity, path, mode };
        if !leads_to(&lock.path, identity).map_err(system("look at", &lock.path))? {
            return Ok(None);
        }
        if let (Some(holder), Mode::Exclusive) = (holder, mode) {
            holder.write(&lock.file).map_err(system("sign", &lock.path))?;
        }
        Ok(Some(lock))
    }
}

/// Makes sure that the freshly locked `file` is still the one its path leads to; none if not.
fn settle(
    file: File,
    path: &Path,
    mode: Mode,
    holder: Option<&Holder>,
) -> Result<Option<FileLock>, LockError> {
    let identity = identity(&file).map_err(system("look at", path))?;
    if !leads_to(path, identity).map_err(system("look at", path))? {
        return Ok(None);
    }
    if let (Some(holder), Mode::Exclusive) = (holder, mode) {
        holder.write(&file).map_err(system("sign", path))?;
    }
    Ok(Some(FileLock { file: Arc::new(file), identity, path: path.to_owned(), mode }))
}

fn open(path: &Path) -> Result<File, LockError> {
    moment();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(system("open", path))
}

fn open_to_look(path: &Path) -> Result<Option<File>, LockError> {
    moment();
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(system("open", path)(error)),
    }
}

/// Returns true if nobody holds the lock, by holding it for a moment.
fn is_free(file: &File, path: &Path) -> Result<bool, LockError> {
    if !try_lock(file, Mode::Exclusive).map_err(system("look at", path))? {
        return Ok(false);
    }
    moment();
    // Not left to the closing of the file: a process that is being started just now has it open too,
    // and would hold the lock on until its program begins.
    FileExt::unlock(file).map(|()| true).map_err(system("let go of", path))
}

// The standard library has methods of the same names that would be picked silently, with another
// error type: hence the calls by the trait's name.

fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    moment();
    let tried = match mode {
        Mode::Shared => FileExt::try_lock_shared(file),
        Mode::Exclusive => FileExt::try_lock_exclusive(file),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn lock(file: &File, mode: Mode) -> io::Result<()> {
    loop {
        let done = match mode {
            Mode::Shared => FileExt::lock_shared(file),
            Mode::Exclusive => FileExt::lock_exclusive(file),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn identity(file: &File) -> io::Result<Identity> {
    let opened = file.metadata()?;
    Ok((opened.dev(), opened.ino()))
}

fn leads_to(path: &Path, identity: Identity) -> io::Result<bool> {
    moment();
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == identity),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Comes before each thing that others may see or change: where tests let others go first.
fn moment() {
    #[cfg(test)]
    interleavings::moment();
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::System { action, path, source }
}

#[cfg(test)]
mod interleavings;
