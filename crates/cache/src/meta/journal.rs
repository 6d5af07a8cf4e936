//! Changes that are not in the metadata store yet, in files that outlive the process.
//!
//! The store syncs what it writes, which takes as long as the disk takes. Until then each change is in a file
//! that the kernel has: nothing that was handed over is lost with the process, at the cost of one write into
//! memory. A power loss may lose what was not synced; what is damaged by it is recognised and left out.
//!
//! ```text
//! <root>/meta-v1.journal-<number>    the changes since the store took those of the number before
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use digests::Digest;

use super::Table;

/// The bytes of a sum that are kept.
const SUM: usize = 8;

/// A key of a table, and its new value or that it is gone.
pub(crate) type Entry = ((Table, Vec<u8>), Option<Vec<u8>>);

/// The files of changes; one of them is written to.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The path of each, but for the number.
    stem: PathBuf,
    number: u64,
    /// The file of this number, once there is something in it.
    file: Option<File>,
    /// True if the file has a damaged end, behind which nothing would be found.
    damaged: bool,
}

impl Journal {
    /// Returns a journal that goes on behind `number`.
    pub(crate) fn after(stem: PathBuf, number: u64) -> Self {
        Self { stem, number: number + 1, file: None, damaged: false }
    }

    /// Writes a change down. If the disk is full it is not: then it is only in memory, as all was before.
    pub(crate) fn note(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        if self.damaged {
            return;
        }
        if let Err(error) = self.append(&encode(table, key, value)) {
            tracing::debug!(%error, "a change of the metadata is not in the journal");
            self.damaged = true;
        }
    }

    fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.write_all(frame);
        }
        let mut file = File::create(numbered(&self.stem, self.number))?;
        let written = file.write_all(frame);
        self.file = Some(file);
        written
    }

    /// Goes on in another file, and returns the number of the last one that is not written to any more.
    pub(crate) fn turn(&mut self) -> u64 {
        if self.file.take().is_some() {
            self.number += 1;
        }
        self.damaged = false;
        self.number - 1
    }
}

/// Returns the files that are there with their numbers, in order.
pub(crate) fn files(stem: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(root), Some(name)) = (stem.parent(), stem.file_name()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let file = entry.file_name();
        let rest =
            file.to_str().zip(name.to_str()).and_then(|(file, name)| file.strip_prefix(name));
        if let Some(number) = rest.and_then(|rest| rest.strip_prefix('-')?.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the changes in a file, up to what is damaged.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut entries = Vec::new();
    while let Some(entry) = decode(&mut rest) {
        entries.push(entry);
    }
    if !rest.is_empty() {
        tracing::info!(path = %path.display(), "the end of a journal is damaged, and left out");
    }
    Ok(entries)
}

/// Removes the files up to `number`, whose changes the store has.
pub(crate) fn remove(stem: &Path, number: u64) -> io::Result<()> {
    for (_, path) in files(stem)?.into_iter().filter(|(found, _)| *found <= number) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn numbered(stem: &Path, number: u64) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!("-{number}"));
    path.into()
}

/// A frame: the length of what follows, its sum, the table, whether there is a value, the length of the key, the
/// key, the value.
fn encode(table: Table, key: &[u8], value: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![table as u8, u8::from(value.is_some())];
    body.extend((key.len() as u64).to_le_bytes());
    body.extend(key);
    body.extend(value.unwrap_or_default());
    let mut frame = (body.len() as u64).to_le_bytes().to_vec();
    frame.extend(&Digest::of(&body).as_bytes()[..SUM]);
    frame.extend(body);
    frame
}

/// Takes a frame from the front; leaves all as it is if it is not whole.
fn decode(rest: &mut &[u8]) -> Option<Entry> {
    let (length, after) = take_length(rest)?;
    let (sum, after) = after.split_at_checked(SUM)?;
    let (body, after) = after.split_at_checked(length)?;
    if Digest::of(body).as_bytes()[..SUM] != *sum {
        return None;
    }
    let ([table, has_value], keyed) = body.split_first_chunk::<2>()?;
    let table = Table::ALL.into_iter().find(|known| *known as u8 == *table)?;
    let (length, keyed) = take_length(keyed)?;
    let (key, value) = keyed.split_at_checked(length)?;
    *rest = after;
    Some(((table, key.to_vec()), (*has_value == 1).then(|| value.to_vec())))
}

fn take_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    Some((usize::try_from(u64::from_le_bytes(*length)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(table: Table, key: &str, value: Option<&str>) -> Entry {
        ((table, key.into()), value.map(Into::into))
    }

    #[test]
    fn what_was_noted_is_read_in_its_order() {
        let root = tempfile::tempdir().unwrap();
        let stem = root.path().join("meta.journal");
        let mut journal = Journal::after(stem.clone(), 4);
        assert_eq!(journal.turn(), 4, "nothing was noted");
        journal.note(Table::Layers, b"a", Some(b"1"));
        journal.note(Table::Sources, b"", None);
        assert_eq!(journal.turn(), 5);
        journal.note(Table::Layers, b"a", Some(b""));
        let found = files(&stem).unwrap();
        let read: Vec<_> =
            found.iter().map(|(number, path)| (*number, read(path).unwrap())).collect();
        let first = vec![entry(Table::Layers, "a", Some("1")), entry(Table::Sources, "", None)];
        assert_eq!(read, [(5, first), (6, vec![entry(Table::Layers, "a", Some(""))])]);
        remove(&stem, 5).unwrap();
        assert_eq!(files(&stem).unwrap().len(), 1);
    }

    #[test]
    fn what_is_cut_off_or_garbled_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("meta.journal-1");
        let whole = encode(Table::Results, b"key", Some(b"value"));
        for length in 0..whole.len() {
            fs::write(&path, [&whole, &whole[..length]].concat()).unwrap();
            assert_eq!(read(&path).unwrap(), [entry(Table::Results, "key", Some("value"))]);
            let mut garbled = whole.clone();
            garbled[length] ^= 1;
            fs::write(&path, [whole.as_slice(), &garbled].concat()).unwrap();
            assert_eq!(read(&path).unwrap().len(), 1, "byte {length}");
        }
        fs::write(&path, [0xff; 64]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
