//! How changes get into the metadata store: in groups, and from journals that an earlier process left.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase as _, TableDefinition};

use super::journal::{self, Journal};
use super::{Change, Handle, Pending, StoreFailure, Table, WriteFailure, reopen};

/// The number of the last journal whose changes are in the store.
const TAKEN: TableDefinition<'static, (), u64> = TableDefinition::new("taken");

/// Puts into the store what journals have and it has not. Returns the number of the last of them.
pub(super) fn take_journals(stem: &Path, database: &Database) -> Result<u64, StoreFailure> {
    let taken = {
        let transaction = database.begin_read()?;
        match transaction.open_table(TAKEN) {
            Ok(table) => table.get(())?.map_or(0, |row| row.value()),
            // A store that never took one has no table of it.
            Err(_) => 0,
        }
    };
    let (mut last, mut pending) = (taken, Pending::new());
    for (number, path) in journal::files(stem)?.into_iter().filter(|(number, _)| *number > taken) {
        pending.extend(journal::read(&path)?);
        last = number;
    }
    if last > taken {
        commit(database, &pending, last)?;
        tracing::debug!(changes = pending.len(), "what the last daemon did not sync is there");
    }
    journal::remove(stem, last)?;
    Ok(last)
}

/// Where the store is, and where its journals are.
pub(super) struct Files {
    pub(super) path: PathBuf,
    pub(super) stem: PathBuf,
}

/// How long changes gather before they are committed, unless somebody waits for it. To commit and sync them
/// costs as much as a short step does, and what is in a journal is safe from all but a loss of power.
const GATHERING: Duration = Duration::from_millis(50);

/// The writer: lets changes gather, takes what there is, commits it as one, tells who waits for it. What could not be
/// written is kept, and written with what comes next.
pub(super) fn write_groups(
    files: &Files,
    database: &Handle,
    changes: &Receiver<Change>,
    journal: &Mutex<Journal>,
) {
    let mut pending = Pending::new();
    let mut failing = false;
    while let Ok(first) = changes.recv() {
        if !matches!(first, Change::Flush(_)) {
            // Who waits, or closes the store, wakes this thread.
            std::thread::park_timeout(GATHERING);
        }
        let (gathered, number) = {
            let mut journal = journal.lock();
            (std::iter::once(first).chain(changes.try_iter()).collect::<Vec<_>>(), journal.turn())
        };
        let mut waiting = Vec::new();
        for change in gathered {
            match change {
                Change::Flush(waiter) => waiting.push(waiter),
                Change::Put(table, key, value) => drop(pending.insert((table, key), Some(value))),
                Change::Delete(table, key) => drop(pending.insert((table, key), None)),
            }
        }
        let result = write(files, database, &pending, number).map_err(WriteFailure::from);
        match &result {
            Ok(()) => pending.clear(),
            Err(error) if !failing => {
                tracing::error!(%error, changes = pending.len(), "metadata cannot be written");
            }
            Err(error) => {
                tracing::debug!(%error, changes = pending.len(), "metadata cannot be written");
            }
        }
        if failing && result.is_ok() {
            tracing::info!("metadata is written again");
        }
        failing = result.is_err();
        for waiter in waiting {
            // Who no longer waits does not want to know.
            let _ = waiter.send(result.clone());
        }
    }
}

fn write(
    files: &Files,
    database: &Handle,
    pending: &Pending,
    number: u64,
) -> Result<(), StoreFailure> {
    if pending.is_empty() {
        return Ok(());
    }
    reopen(&files.path, database)?;
    let result = match &*database.read() {
        Some(database) => commit(database, pending, number).map_err(StoreFailure::from),
        None => return Err("it failed a moment ago".into()),
    };
    match &result {
        Ok(()) => {
            if let Err(error) = journal::remove(&files.stem, number) {
                // It is known by its number, and not read again.
                tracing::debug!(%error, "a journal stays");
            }
        }
        Err(_) => *database.write() = None,
    }
    result
}

/// Writes changes, up to those of the journal with this number.
fn commit(database: &Database, pending: &Pending, number: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        let mut changes = pending.iter().filter(|((of, _), _)| *of == table).peekable();
        if changes.peek().is_none() {
            continue;
        }
        let mut rows = transaction.open_table(table.definition())?;
        for ((_, key), value) in changes {
            match value {
                Some(value) => rows.insert(key.as_slice(), value.as_slice())?,
                None => rows.remove(key.as_slice())?,
            };
        }
    }
    transaction.open_table(TAKEN)?.insert((), number)?;
    transaction.commit()?;
    Ok(())
}
