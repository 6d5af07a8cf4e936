//! The metadata store: small documents by table and key, crash-safe, written in groups.
//!
//! An embedded B-tree (`redb`) with one writer thread. Callers hand over changes and go on; the
//! thread lets them gather for a moment, writes them as one transaction and syncs it. So a step does not
//! wait for a disk, and steps in a row do not keep it busy. What is not synced yet is in a [journal](journal), from which it comes back after
//! `kill -9`; a power loss may take the last changes: every prefix of the changes, in the order they were
//! handed over, is a consistent state.
//!
//! The file name carries the format version. A store written by a newer version, or one that cannot
//! be read, is refused by name and left as it is.

mod journal;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;

use self::journal::Journal;
use self::writer::{Files, take_journals, write_groups};

/// The version in the file's name; a change of any document's meaning raises it.
const FORMAT: u32 = 1;

/// Memory for pages of the store, bytes. Everything is held in memory by its users as well.
const PAGE_CACHE: usize = 4 << 20;

/// The tables of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Layers and what is known of them.
    Layers,
    /// Results by cache key.
    Results,
    /// From an input's key to the keys of results that use it.
    Links,
    /// Finished builds.
    History,
    /// Blobs and what they were made from.
    Blobs,
    /// Settings of the store itself: the worker's id.
    Settings,
    /// What was last seen of sources outside, so that they need not be brought again.
    Sources,
}

impl Table {
    pub(crate) const ALL: [Self; 7] = [
        Self::Layers,
        Self::Results,
        Self::Links,
        Self::History,
        Self::Blobs,
        Self::Settings,
        Self::Sources,
    ];

    const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::Layers => "layers",
            Self::Results => "results",
            Self::Links => "links",
            Self::History => "history",
            Self::Blobs => "blobs",
            Self::Settings => "settings",
            Self::Sources => "sources",
        })
    }
}

/// Why the metadata store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The directory holds a store of another version.
    #[error(
        "`{path}` was written by a newer version of Larder: start that version, or give another root with --root"
    )]
    Newer {
        /// The store found.
        path: PathBuf,
    },
    /// The store could not be opened or read.
    #[error(
        "cannot read the metadata store `{path}`: restore it from a backup, or move the root away to start empty"
    )]
    Unreadable {
        /// The store.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A change could not be written.
    #[error("cannot write to the metadata store `{path}`")]
    Unwritable {
        /// The store.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// Keys with their values.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// One change to the store.
#[derive(Debug)]
enum Change {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    /// Answered when everything before it is on disk.
    Flush(oneshot::Sender<Result<(), WriteFailure>>),
}

/// Why the store cannot be read or written.
type StoreFailure = Box<dyn std::error::Error + Send + Sync>;

/// The cause of a failed write, shared by all who wait for it.
type WriteFailure = Arc<dyn std::error::Error + Send + Sync>;

/// The database while it is open. After a failure to write, the library refuses everything until the file is
/// opened anew: then there is none for as long as that fails.
type Handle = RwLock<Option<Database>>;

/// What is not on disk yet: the last value of each key, or that it is gone.
type Pending = BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// The metadata store. Clones share it.
#[derive(Debug, Clone)]
pub struct MetaStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    database: Arc<Handle>,
    changes: Mutex<Option<Sender<Change>>>,
    journal: Arc<Mutex<Journal>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl MetaStore {
    /// Opens the store in the directory `root`, creating it if there is none. Blocks.
    ///
    /// # Errors
    /// Returns an error if a newer store is there, or the store cannot be read.
    pub fn open(root: &Path) -> Result<Self, MetaError> {
        let path = root.join(format!("meta-v{FORMAT}.redb"));
        refuse_newer(root)?;
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| MetaError::Unreadable {
            path: path.clone(),
            source,
        };
        let database = open_database(&path).map_err(&unreadable)?;
        let stem = path.with_extension("journal");
        let taken = take_journals(&stem, &database).map_err(&unreadable)?;
        let journal = Arc::new(Mutex::new(Journal::after(stem.clone(), taken)));
        let database = Arc::new(RwLock::new(Some(database)));
        let (sender, receiver) = channel();
        let writer = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn({
                let files = Files { path: path.clone(), stem };
                let (database, journal) = (database.clone(), journal.clone());
                move || write_groups(&files, &database, &receiver, &journal)
            })
            .map_err(|error| unreadable(error.into()))?;
        Ok(Self(Arc::new(Inner {
            path,
            database,
            changes: Mutex::new(Some(sender)),
            journal,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Writes `value` under `key`, soon.
    pub fn put(&self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.send(Change::Put(table, key.into(), value.into()));
    }

    /// Removes `key`, soon.
    pub fn delete(&self, table: Table, key: impl Into<Vec<u8>>) {
        self.send(Change::Delete(table, key.into()));
    }

    /// Returns when everything handed over so far is on disk.
    ///
    /// # Errors
    /// Returns an error if it could not be written, such as on a full disk.
    pub async fn flush(&self) -> Result<(), MetaError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Change::Flush(sender));
        if let Some(writer) = &*self.0.writer.lock() {
            writer.thread().unpark();
        }
        let ended = || -> WriteFailure { Arc::from(Box::from("the store is closed")) };
        let written = receiver.await.unwrap_or_else(|_| Err(ended()));
        written.map_err(|source| MetaError::Unwritable { path: self.0.path.clone(), source })
    }

    /// Returns every key and value of `table`, in the order of the keys. Blocks.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub fn scan(&self, table: Table) -> Result<Rows, MetaError> {
        let unreadable = |source| MetaError::Unreadable { path: self.0.path.clone(), source };
        self.read(table).map_err(unreadable)
    }

    fn read(&self, table: Table) -> Result<Rows, StoreFailure> {
        reopen(&self.0.path, &self.0.database)?;
        let database = self.0.database.read();
        let Some(database) = &*database else { return Err("it failed a moment ago".into()) };
        let transaction = database.begin_read()?;
        let rows = transaction.open_table(table.definition())?;
        let mut all = Vec::new();
        for row in rows.iter()? {
            let (key, value) = row?;
            all.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(all)
    }

    /// Writes what is pending and ends the writer. Later changes are dropped. Blocks.
    pub fn close(&self) {
        drop(self.0.changes.lock().take());
        if let Some(writer) = self.0.writer.lock().take() {
            writer.thread().unpark();
            // The thread's panic was reported by the panic hook.
            let _ = writer.join();
        }
    }

    fn send(&self, change: Change) {
        if let Some(changes) = &*self.0.changes.lock() {
            // Held until it is sent, so that the writer finds the same changes here and there.
            let mut journal = self.0.journal.lock();
            match &change {
                Change::Put(table, key, value) => journal.note(*table, key, Some(value)),
                Change::Delete(table, key) => journal.note(*table, key, None),
                Change::Flush(_) => {}
            }
            // Fails only if the writer died; `flush` reports that.
            let _ = changes.send(change);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.changes.get_mut().take());
        if let Some(writer) = self.writer.get_mut().take() {
            writer.thread().unpark();
            let _ = writer.join();
        }
    }
}

fn refuse_newer(root: &Path) -> Result<(), MetaError> {
    let entries = std::fs::read_dir(root)
        .map_err(|error| MetaError::Unreadable { path: root.to_owned(), source: error.into() })?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| {
            name.strip_prefix("meta-v")?.strip_suffix(".redb")?.parse::<u32>().ok()
        });
        if version.is_some_and(|version| version > FORMAT) {
            return Err(MetaError::Newer { path: entry.path() });
        }
    }
    Ok(())
}

/// Opens the file, and makes it and its tables if they are missing.
fn open_database(path: &Path) -> Result<Database, StoreFailure> {
    // The library has panicked on damaged files; a damaged store is an error with a remedy.
    let opened = std::panic::catch_unwind(|| {
        let database = Database::builder().set_cache_size(PAGE_CACHE).create(path)?;
        create_tables(&database)?;
        Ok::<_, redb::Error>(database)
    });
    match opened {
        Ok(opened) => Ok(opened?),
        Err(_) => Err("the file is damaged".into()),
    }
}

/// Opens the file again if a failure closed it.
fn reopen(path: &Path, database: &Handle) -> Result<(), StoreFailure> {
    if database.read().is_none() {
        let mut database = database.write();
        if database.is_none() {
            *database = Some(open_database(path)?);
        }
    }
    Ok(())
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let exist = {
        let transaction = database.begin_read()?;
        Table::ALL.iter().all(|table| transaction.open_table(table.definition()).is_ok())
    };
    if exist {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, UnmountFlags};

    use super::*;

    #[tokio::test]
    async fn what_was_flushed_is_there_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let store = MetaStore::open(root.path()).unwrap();
        store.put(Table::Layers, "a", "1");
        store.put(Table::Layers, "b", "2");
        store.put(Table::Results, "a", "3");
        store.delete(Table::Layers, "a");
        store.flush().await.unwrap();
        drop(store);
        let store = MetaStore::open(root.path()).unwrap();
        let rows = |table| store.scan(table).unwrap();
        assert_eq!(rows(Table::Layers), [(b"b".to_vec(), b"2".to_vec())]);
        assert_eq!(rows(Table::Results), [(b"a".to_vec(), b"3".to_vec())]);
        assert_eq!(rows(Table::History), []);
    }

    #[tokio::test]
    async fn a_disk_that_was_full_is_written_to_again() {
        let root = tempfile::tempdir().unwrap();
        let small = Some(c"size=8m");
        rustix::mount::mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), small).unwrap();
        let store = MetaStore::open(root.path()).unwrap();
        let filler = root.path().join("filler");
        let full = std::fs::write(&filler, vec![1; 16 << 20]);
        assert!(full.is_err(), "the disk is small");
        store.put(Table::Layers, "while full", vec![2; 1 << 20]);
        assert!(store.flush().await.is_err());
        assert!(store.flush().await.is_err(), "it stays so while the disk is full");
        std::fs::remove_file(filler).unwrap();
        store.put(Table::Layers, "afterwards", "3");
        store.flush().await.unwrap();
        assert_eq!(store.scan(Table::Layers).unwrap().len(), 2);
        drop(store);
        let store = MetaStore::open(root.path()).unwrap();
        assert_eq!(store.scan(Table::Layers).unwrap().len(), 2, "nothing was lost");
        drop(store);
        rustix::mount::unmount(root.path(), UnmountFlags::DETACH).unwrap();
    }

    #[tokio::test]
    async fn what_a_journal_has_is_there_after_a_restart_and_only_once() {
        let root = tempfile::tempdir().unwrap();
        let store = MetaStore::open(root.path()).unwrap();
        store.put(Table::Layers, "a", "first");
        store.flush().await.unwrap();
        drop(store);
        let stem = root.path().join("meta-v1.journal");
        assert_eq!(journal::files(&stem).unwrap(), [], "all is in the store");
        // What a daemon leaves that is killed, here after the store took its first change.
        let mut killed = Journal::after(stem.clone(), 1);
        killed.note(Table::Layers, b"b", Some(b"handed over"));
        killed.note(Table::Layers, b"a", None);
        let store = MetaStore::open(root.path()).unwrap();
        let row = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(store.scan(Table::Layers).unwrap(), [row("b", "handed over")]);
        store.put(Table::Layers, "b", "later");
        store.flush().await.unwrap();
        drop(store);
        // One that should be gone and came back is not taken again.
        Journal::after(stem.clone(), 1).note(Table::Layers, b"b", Some(b"handed over"));
        let store = MetaStore::open(root.path()).unwrap();
        assert_eq!(store.scan(Table::Layers).unwrap(), [row("b", "later")]);
        assert_eq!(journal::files(&stem).unwrap(), []);
    }

    #[tokio::test]
    async fn after_close_nothing_is_lost_and_nothing_more_is_written() {
        let root = tempfile::tempdir().unwrap();
        let store = MetaStore::open(root.path()).unwrap();
        store.put(Table::Layers, "a", "1");
        store.close();
        store.put(Table::Layers, "b", "2");
        assert!(store.flush().await.is_err());
        drop(store);
        assert_eq!(MetaStore::open(root.path()).unwrap().scan(Table::Layers).unwrap().len(), 1);
    }

    #[test]
    fn a_newer_store_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let newer = root.path().join("meta-v2.redb");
        std::fs::write(&newer, "from the future").unwrap();
        assert!(matches!(MetaStore::open(root.path()), Err(MetaError::Newer { .. })));
        assert_eq!(std::fs::read(newer).unwrap(), b"from the future");
    }

    #[test]
    fn a_damaged_store_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("meta-v1.redb");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        let error = MetaStore::open(root.path()).unwrap_err();
        assert!(error.to_string().contains("meta-v1.redb"), "{error}");
        assert_eq!(std::fs::read(path).unwrap(), vec![7; 8192]);
    }
}
