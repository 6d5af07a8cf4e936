//! Layers as directories: how they come to be, end, and survive a crash. Knows nothing of how stacks
//! are shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mount::HostPath;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::removal::{Removals, remove_tree};
use crate::settle::{changes_nothing, settle};
use crate::walk::TreeError;
use crate::{LayerKey, SnapshotError, Usage, node};

/// What was counted of a committed layer, beside its files.
const RECORD: &str = "usage.json";

/// Layers as directories.
///
/// ```text
/// <root>/
///   <key>/fs                  a committed layer
///   <key>/usage.json          what was counted when it was committed
///   <key>.new/{fs,work}       an active layer; swept when the store is opened
///   <key>.kept/{fs,work}      a kept layer, resumed or not
///   <number>.view             a stack as a plain tree, of the copying driver; swept when opened
///   <number>.gone             being removed, by a task or after the next opening
///   .empty                    a directory with nothing in it
///   .unsynced/<boot>/<key>    a layer committed under this boot of the machine and not yet synced
/// ```
///
/// Nothing is synced when a layer is committed, for that would write out all that any build has in
/// memory. Instead a mark is made before the layer is renamed into place, and taken away after the next
/// `syncfs`. A mark of an earlier boot means that the machine went down before: its layer may be damaged
/// and is removed. (A journal keeps the order of the two; that is what this rests on.) If only this
/// process dies, the kernel still has everything, and the layer stays.
#[derive(Debug)]
pub(crate) struct Store {
    root: HostPath,
    marks: HostPath,
    /// Held only for a look or a change, never over the disk.
    layers: Mutex<HashMap<LayerKey, State>>,
    numbers: AtomicU64,
    pub(crate) removals: Arc<Removals>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Being made.
    New,
    /// Kept, and being written again.
    Resumed,
    Kept,
    Committed {
        synced: bool,
        record: Option<Record>,
    },
}

/// What is known of a committed layer without looking into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) usage: Usage,
    /// True if the layer has no whiteouts and no opaque directories, so that it is a tree as it is.
    pub(crate) plain: bool,
    /// The layer over which this one changes nothing, not even the root: over that one it need not be
    /// shown. None if there is no such layer, or if that was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_over: Option<LayerKey>,
}

impl Store {
    /// Opens the layers in `root`; blocking. What is swept is removed at leisure.
    pub(crate) fn open(root: HostPath) -> Result<Self, SnapshotError> {
        let marks = root.join(".unsynced").join(boot()?);
        for directory in [&root.join(".empty"), &marks] {
            fs::create_dir_all(directory)
                .map_err(SnapshotError::io("create directory", directory.as_path()))?;
        }
        let layers = Mutex::default();
        let (numbers, removals) = (AtomicU64::new(0), Arc::default());
        let mut store = Self { root, marks, layers, numbers, removals };
        let mut gone = store.sweep()?;
        gone.extend(store.drop_unsynced()?);
        if !gone.is_empty() {
            tracing::info!(count = gone.len(), "removing layers that were not finished");
        }
        store.removals.begin(gone);
        Ok(store)
    }

    /// Finds the layers, and puts aside what is not one.
    fn sweep(&mut self) -> Result<Vec<HostPath>, SnapshotError> {
        let mut gone = Vec::new();
        let names = list(&self.root)?;
        // New numbers begin after those that the last process left.
        let numbers = names.iter().filter_map(|name| name.split_once('.')?.0.parse::<u64>().ok());
        self.numbers = AtomicU64::new(numbers.max().map_or(0, |last| last.saturating_add(1)));
        for name in names {
            let (stem, suffix) = name.split_once('.').unwrap_or((&name, ""));
            let (state, key) = match (suffix, LayerKey::new(stem)) {
                ("", Ok(key)) => (State::Committed { synced: true, record: None }, key),
                ("kept", Ok(key)) => (State::Kept, key),
                ("new" | "view", Ok(_)) => {
                    gone.push(self.put_aside(&self.root.join(&name))?);
                    continue;
                }
                ("gone", Ok(_)) => {
                    gone.push(self.root.join(&name));
                    continue;
                }
                _ => continue,
            };
            self.layers().insert(key, state);
        }
        Ok(gone)
    }

    /// Puts aside the layers that a power loss may have damaged.
    fn drop_unsynced(&mut self) -> Result<Vec<HostPath>, SnapshotError> {
        let mut gone = Vec::new();
        let all = self.root.join(".unsynced");
        for boot in list(&all)? {
            let marks = all.join(&boot);
            let mut keys = Vec::new();
            for name in list(&marks)? {
                keys.extend(LayerKey::new(&name));
            }
            if marks == self.marks {
                for key in keys {
                    if let Some(State::Committed { synced, .. }) = self.layers().get_mut(&key) {
                        *synced = false;
                    }
                }
                continue;
            }
            for key in keys {
                let committed = matches!(self.layers().get(&key), Some(State::Committed { .. }));
                if committed {
                    tracing::info!(snapshot.key = %key, "layer was not yet safe on disk when the machine went down");
                    gone.push(self.put_aside(&self.committed(&key))?);
                    self.layers().remove(&key);
                }
            }
            fs::remove_dir_all(&marks).map_err(SnapshotError::io("remove", marks.as_path()))?;
        }
        Ok(gone)
    }

    fn layers(&self) -> MutexGuard<'_, HashMap<LayerKey, State>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the directory that has nothing in it.
    pub(crate) fn empty(&self) -> HostPath {
        self.root.join(".empty")
    }

    fn committed(&self, key: &LayerKey) -> HostPath {
        self.root.join(key.as_str())
    }

    /// Returns where an active or kept layer is.
    fn unfinished(&self, key: &LayerKey, state: &State) -> HostPath {
        let suffix = if *state == State::New { "new" } else { "kept" };
        self.root.join(format!("{key}.{suffix}"))
    }

    /// Returns the directories of committed layers, in the order of `stack`.
    pub(crate) fn stack(&self, stack: &[LayerKey]) -> Result<Vec<HostPath>, SnapshotError> {
        let layers = self.layers();
        let path = |key: &LayerKey| match layers.get(key) {
            Some(State::Committed { .. }) => Ok(self.committed(key).join("fs")),
            _ => Err(SnapshotError::Missing { layer: key.clone(), needed: "committed" }),
        };
        stack.iter().map(path).collect()
    }

    /// Returns the keys of all committed and kept layers, in their order.
    pub(crate) fn keys(&self) -> Vec<LayerKey> {
        let settled = |state: &State| matches!(state, State::Committed { .. } | State::Kept);
        let layers = self.layers();
        let settled = layers.iter().filter(|(_, state)| settled(state));
        let mut keys: Vec<_> = settled.map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Makes the directories of a new layer; blocking. `below` is the top of its stack, whose root's
    /// owner, mode and other attributes become the new root's.
    pub(crate) fn create(
        self: &Arc<Self>,
        key: LayerKey,
        below: Option<&HostPath>,
    ) -> Result<Unfinished, SnapshotError> {
        match self.layers().entry(key.clone()) {
            MapEntry::Occupied(_) => return Err(SnapshotError::Exists { layer: key }),
            MapEntry::Vacant(free) => free.insert(State::New),
        };
        let unfinished = Unfinished::new(self.clone(), key, State::New);
        for directory in [unfinished.directory(), unfinished.fs(), unfinished.work()] {
            DirBuilder::new()
                .mode(0o755)
                .create(&directory)
                .map_err(SnapshotError::io("create directory", directory.as_path()))?;
        }
        if let Some(below) = below {
            copy_root(below, &unfinished.fs()).map_err(|source| SnapshotError::Tree {
                action: "prepare",
                layer: unfinished.key.clone(),
                source,
            })?;
        }
        Ok(unfinished)
    }

    /// Opens a kept or committed layer for writing; blocking.
    pub(crate) fn resume(self: &Arc<Self>, key: LayerKey) -> Result<Unfinished, SnapshotError> {
        let before = {
            let mut layers = self.layers();
            match layers.get_mut(&key) {
                Some(state @ (State::Kept | State::Committed { .. })) => {
                    std::mem::replace(state, State::Resumed)
                }
                _ => {
                    let needed = "committed or kept";
                    return Err(SnapshotError::Missing { layer: key, needed });
                }
            }
        };
        let directory = self.unfinished(&key, &State::Resumed);
        let unfinished = Unfinished::new(self.clone(), key.clone(), State::Resumed);
        if let State::Committed { .. } = before {
            let committed = self.committed(&key);
            if let Err(error) = fs::rename(&committed, &directory) {
                unfinished.forget(before);
                return Err(SnapshotError::io("rename", committed.as_path())(error));
            }
            self.unmark(&key)?;
        }
        let work = unfinished.work();
        // A scratch directory may hold only what one mount made of it.
        remove_tree(&work)?;
        fs::create_dir(&work).map_err(SnapshotError::io("create directory", work.as_path()))?;
        Ok(unfinished)
    }

    /// Takes a layer out of sight; blocking. Returns what is left to be removed.
    pub(crate) fn remove(&self, key: &LayerKey) -> Result<HostPath, SnapshotError> {
        let state = {
            let mut layers = self.layers();
            match layers.get(key) {
                Some(state @ (State::Kept | State::Committed { .. })) => {
                    let state = state.clone();
                    layers.remove(key);
                    state
                }
                _ => {
                    let (layer, needed) = (key.clone(), "committed or kept");
                    return Err(SnapshotError::Missing { layer, needed });
                }
            }
        };
        if state == State::Kept {
            return self.put_aside(&self.unfinished(key, &state));
        }
        let gone = self.put_aside(&self.committed(key))?;
        self.unmark(key)?;
        Ok(gone)
    }

    /// Returns what is known of a committed layer; blocking.
    pub(crate) fn record(&self, key: &LayerKey) -> Result<Record, SnapshotError> {
        let state = self.layers().get(key).cloned();
        let directory = match state {
            Some(State::Committed { record: Some(record), .. }) => return Ok(record),
            Some(State::Committed { .. }) => self.committed(key),
            Some(state @ State::Kept) => {
                // It changes whenever it is resumed, so its count is not stored.
                return count(key, &self.unfinished(key, &state));
            }
            _ => {
                let (layer, needed) = (key.clone(), "committed or kept");
                return Err(SnapshotError::Missing { layer, needed });
            }
        };
        let path = directory.join(RECORD);
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let record = match known {
            Some(record) => record,
            None => {
                let record = count(key, &directory)?;
                replace_record(&directory, &record)?;
                record
            }
        };
        if let Some(State::Committed { record: slot, .. }) = self.layers().get_mut(key) {
            *slot = Some(record.clone());
        }
        Ok(record)
    }

    /// Makes all committed layers survive a power loss; blocking.
    pub(crate) fn sync(&self) -> Result<(), SnapshotError> {
        let unsynced = |state: &State| matches!(state, State::Committed { synced: false, .. });
        let keys: Vec<_> = {
            let layers = self.layers();
            layers.iter().filter(|(_, state)| unsynced(state)).map(|(key, _)| key.clone()).collect()
        };
        if keys.is_empty() {
            return Ok(());
        }
        File::open(&self.root)
            .and_then(|root| Ok(rustix::fs::syncfs(&root)?))
            .map_err(SnapshotError::io("sync", self.root.as_path()))?;
        for key in keys {
            self.unmark(&key)?;
            if let Some(State::Committed { synced, .. }) = self.layers().get_mut(&key) {
                *synced = true;
            }
        }
        Ok(())
    }

    fn mark(&self, key: &LayerKey) -> Result<(), SnapshotError> {
        let mark = self.marks.join(key.as_str());
        File::create(&mark).map_err(SnapshotError::io("create", mark.as_path()))?;
        Ok(())
    }

    fn unmark(&self, key: &LayerKey) -> Result<(), SnapshotError> {
        let mark = self.marks.join(key.as_str());
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SnapshotError::io("remove", mark.as_path())(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a new directory for a stack as a plain tree; blocking.
    pub(crate) fn create_view(&self) -> Result<HostPath, SnapshotError> {
        let view = self.numbered("view");
        fs::create_dir(&view).map_err(SnapshotError::io("create directory", view.as_path()))?;
        Ok(view)
    }

    fn numbered(&self, suffix: &str) -> HostPath {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("{number}.{suffix}"))
    }

    /// Renames a directory so that it is no layer any more.
    pub(crate) fn put_aside(&self, path: &HostPath) -> Result<HostPath, SnapshotError> {
        let gone = self.numbered("gone");
        fs::rename(path, &gone).map_err(SnapshotError::io("rename", path.as_path()))?;
        Ok(gone)
    }
}

/// A layer that is being written. Dropped, a new layer is discarded, a resumed one stays kept.
#[derive(Debug)]
pub(crate) struct Unfinished {
    store: Arc<Store>,
    key: LayerKey,
    state: State,
    finished: bool,
}

impl Unfinished {
    fn new(store: Arc<Store>, key: LayerKey, state: State) -> Self {
        Self { store, key, state, finished: false }
    }

    pub(crate) const fn key(&self) -> &LayerKey {
        &self.key
    }

    pub(crate) fn directory(&self) -> HostPath {
        self.store.unfinished(&self.key, &self.state)
    }

    pub(crate) fn fs(&self) -> HostPath {
        self.directory().join("fs")
    }

    pub(crate) fn work(&self) -> HostPath {
        self.directory().join("work")
    }

    /// Ends the layer as committed; blocking. `below` is the top of the stack that it was written over,
    /// if it may be left out over that.
    pub(crate) fn commit(self, below: Option<&LayerKey>) -> Result<Usage, SnapshotError> {
        let directory = self.directory();
        let mut record = count(&self.key, &directory)?;
        if let Some(below) = below
            && changes_nothing(&record, &self.fs(), &self.store.committed(below).join("fs"))
        {
            record.idle_over = Some(below.clone());
        }
        remove_work(&self.work())?;
        // Nobody looks into the directory before it has its name, unless it had that already.
        if self.state == State::New {
            write_record(&directory.join(RECORD), &record)?;
        } else {
            replace_record(&directory, &record)?;
        }
        self.store.mark(&self.key)?;
        let committed = self.store.committed(&self.key);
        fs::rename(&directory, &committed)
            .map_err(SnapshotError::io("rename into", committed.as_path()))?;
        let usage = record.usage;
        self.forget(State::Committed { synced: false, record: Some(record) });
        Ok(usage)
    }

    /// Ends the layer as kept; blocking.
    pub(crate) fn keep(self) -> Result<(), SnapshotError> {
        if self.state == State::New {
            let kept = self.store.unfinished(&self.key, &State::Kept);
            fs::rename(self.directory(), &kept)
                .map_err(SnapshotError::io("rename into", kept.as_path()))?;
        }
        self.forget(State::Kept);
        Ok(())
    }

    /// Ends the guard; the layer is in `state` now.
    fn forget(mut self, state: State) {
        self.finished = true;
        self.store.layers().insert(self.key.clone(), state);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if self.state == State::Resumed {
            self.store.layers().insert(self.key.clone(), State::Kept);
            return;
        }
        let directory = self.directory();
        let aside = self.store.put_aside(&directory);
        self.store.layers().remove(&self.key);
        match aside {
            Ok(gone) => self.store.removals.begin(vec![gone]),
            Err(SnapshotError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(snapshot.key = %self.key, %error, "layer is not discarded until the next start");
            }
        }
    }
}

fn count(key: &LayerKey, directory: &HostPath) -> Result<Record, SnapshotError> {
    settle(&directory.join("fs")).map_err(|source| SnapshotError::Tree {
        action: "count the files of",
        layer: key.clone(),
        source,
    })
}

fn write_record(path: &HostPath, record: &Record) -> Result<(), SnapshotError> {
    serde_json::to_vec(record)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(path, text))
        .map_err(SnapshotError::io("write", path.as_path()))
}

fn replace_record(directory: &HostPath, record: &Record) -> Result<(), SnapshotError> {
    let (path, beside) = (directory.join(RECORD), directory.join("usage.json.new"));
    write_record(&beside, record)?;
    fs::rename(&beside, &path).map_err(SnapshotError::io("write", path.as_path()))
}

/// Removes the work directory of an overlay, if there is one; blocking.
fn remove_work(work: &HostPath) -> Result<(), SnapshotError> {
    // What the kernel leaves in it need not be looked for.
    let _ = fs::remove_file(work.join("work/incompat/volatile/dirty"));
    for left in ["work/incompat/volatile", "work/incompat", "work"] {
        let _ = fs::remove_dir(work.join(left));
    }
    match fs::remove_dir(work) {
        Ok(()) => Ok(()),
        Err(_) => remove_tree(work),
    }
}

fn copy_root(from: &HostPath, to: &HostPath) -> Result<(), TreeError> {
    let open = |path: &HostPath| {
        rustix::fs::open(path.as_path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(TreeError::at("open", path.as_path()))
    };
    let (from, to) = (open(from)?, open(to)?);
    node::copy_attributes(from.as_fd(), to.as_fd(), OsStr::new("."))
}

/// Returns the names in a directory; a name that is not text is not ours.
fn list(directory: &HostPath) -> Result<Vec<String>, SnapshotError> {
    let listed = fs::read_dir(directory)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(SnapshotError::io("list", directory.as_path()))?;
    Ok(listed.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Returns the name of this run of the machine.
fn boot() -> Result<String, SnapshotError> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).map_err(SnapshotError::io("read", path))?;
    Ok(text.trim().to_owned())
}
