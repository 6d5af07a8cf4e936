//! What has to be done to a tree, found by walking what it has and what it should have side by side.
//!
//! Pure: both sides are sequences of entries in the order of a transfer.

use std::cmp::Ordering;
use std::iter::Peekable;

use bytes::Bytes;

use super::Differ;
use super::order::{compare, is_below};
use super::packet::Stat;

/// What an entry that should be there means for the tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is there as it should be.
    Unchanged,
    /// Nothing is there.
    Added,
    /// The other thing is there.
    Modified(Box<Stat>),
}

/// Walks the entries that a tree has beside those that it should have.
pub(crate) struct Difference<K: Iterator<Item = Stat>> {
    known: Peekable<K>,
    differ: Differ,
    /// The directory that went last: what is below it has gone with it.
    gone: Option<Bytes>,
}

impl<K: Iterator<Item = Stat>> Difference<K> {
    pub(crate) fn new(known: K, differ: Differ) -> Self {
        Self { known: known.peekable(), differ, gone: None }
    }

    /// Takes the next entry that should be there. Calls `remove` for what comes before it and
    /// should not; of a directory only the topmost path is told.
    pub(crate) fn advance<E>(
        &mut self,
        wanted: &Stat,
        mut remove: impl FnMut(Stat) -> Result<(), E>,
    ) -> Result<Verdict, E> {
        loop {
            let order = self.known.peek().map(|known| compare(&known.path, &wanted.path));
            match order {
                Some(Ordering::Less) => {
                    let Some(known) = self.known.next() else { continue };
                    self.let_go(known, &mut remove)?;
                }
                Some(Ordering::Equal) => {
                    let Some(known) = self.known.next() else { continue };
                    if self.has_gone(&known) {
                        return Ok(Verdict::Added);
                    }
                    if same(&known, wanted, self.differ) {
                        return Ok(Verdict::Unchanged);
                    }
                    if known.is_dir() && !wanted.is_dir() {
                        self.gone = Some(known.path.clone());
                    }
                    return Ok(Verdict::Modified(Box::new(known)));
                }
                Some(Ordering::Greater) | None => return Ok(Verdict::Added),
            }
        }
    }

    /// Says that nothing more should be there.
    pub(crate) fn finish<E>(
        mut self,
        mut remove: impl FnMut(Stat) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(known) = self.known.next() {
            self.let_go(known, &mut remove)?;
        }
        Ok(())
    }

    fn let_go<E>(
        &mut self,
        known: Stat,
        remove: &mut impl FnMut(Stat) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.has_gone(&known) {
            return Ok(());
        }
        if known.is_dir() {
            self.gone = Some(known.path.clone());
        }
        remove(known)
    }

    fn has_gone(&self, known: &Stat) -> bool {
        self.gone.as_ref().is_some_and(|gone| is_below(&known.path, gone))
    }
}

fn same(known: &Stat, wanted: &Stat, differ: Differ) -> bool {
    if differ == Differ::None {
        return false;
    }
    // A directory's size is nobody's business.
    (known.size == wanted.size || known.is_dir())
        && known.modified == wanted.modified
        && known.mode == wanted.mode
        && known.uid == wanted.uid
        && known.gid == wanted.gid
        && known.device_major == wanted.device_major
        && known.device_minor == wanted.device_minor
        && known.link == wanted.link
        && known.xattrs == wanted.xattrs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    const DIRECTORY: u32 = 1 << 31 | 0o755;

    fn entry(path: &str, mode: u32, modified: i64) -> Stat {
        Stat { path: path.to_owned().into(), mode, modified, ..Stat::default() }
    }

    /// Returns what is done, as `+path`, `~path`, `-path`.
    fn run(known: &[Stat], wanted: &[Stat], differ: Differ) -> Vec<String> {
        let mut done = Vec::new();
        let name =
            |sign: char, stat: &Stat| format!("{sign}{}", String::from_utf8_lossy(&stat.path));
        let mut difference = Difference::new(known.iter().cloned(), differ);
        for stat in wanted {
            let mut removed = Vec::new();
            let verdict = difference.advance(stat, |known| {
                removed.push(name('-', &known));
                Ok::<_, Infallible>(())
            });
            done.append(&mut removed);
            match verdict.unwrap() {
                Verdict::Unchanged => {}
                Verdict::Added => done.push(name('+', stat)),
                Verdict::Modified(_) => done.push(name('~', stat)),
            }
        }
        let finished = difference.finish(|known| {
            done.push(name('-', &known));
            Ok::<_, Infallible>(())
        });
        finished.unwrap();
        done
    }

    #[test]
    fn a_removed_directory_takes_its_entries_along() {
        let known = [entry("a", DIRECTORY, 1), entry("a/b", 0o644, 1), entry("c", 0o644, 1)];
        assert_eq!(run(&known, &known[2..], Differ::Metadata), ["-a"]);
        assert_eq!(run(&known, &[], Differ::Metadata), ["-a", "-c"]);
    }

    #[test]
    fn a_directory_that_becomes_a_file_loses_its_entries() {
        let known = [entry("a", DIRECTORY, 1), entry("a/b", 0o644, 1), entry("a-", 0o644, 1)];
        let wanted = [entry("a", 0o644, 1), entry("a-", 0o644, 1)];
        assert_eq!(run(&known, &wanted, Differ::Metadata), ["~a"]);
        assert_eq!(run(&wanted, &known, Differ::Metadata), ["~a", "+a/b"]);
    }

    #[test]
    fn without_a_differ_everything_is_new() {
        let tree = [entry("a", DIRECTORY, 1), entry("a/b", 0o644, 1)];
        assert_eq!(run(&tree, &tree, Differ::None), ["~a", "~a/b"]);
        assert!(run(&tree, &tree, Differ::Metadata).is_empty());
    }

    type Model = BTreeMap<String, i64>;

    fn sequence(model: &Model) -> Vec<Stat> {
        let mut stats: Vec<Stat> =
            model.iter().map(|(path, modified)| entry(path, 0o644, *modified)).collect();
        stats.sort_by(|left, right| compare(&left.path, &right.path));
        stats
    }

    proptest! {
        #[test]
        fn doing_what_it_says_makes_the_trees_equal(
            known in proptest::collection::btree_map("[abc-]{1,3}", 0i64..3, 0..12),
            wanted in proptest::collection::btree_map("[abc-]{1,3}", 0i64..3, 0..12),
        ) {
            let mut tree = known.clone();
            for step in run(&sequence(&known), &sequence(&wanted), Differ::Metadata) {
                let (sign, path) = step.split_at(1);
                match sign {
                    "-" => prop_assert!(tree.remove(path).is_some()),
                    "+" => prop_assert!(tree.insert(path.to_owned(), wanted[path]).is_none()),
                    _ => prop_assert!(tree.insert(path.to_owned(), wanted[path]).is_some()),
                }
            }
            prop_assert_eq!(tree, wanted);
        }
    }
}
