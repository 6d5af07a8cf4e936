//! A strict store in memory, and one whose loads fail: for tests of whoever uses the solver.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{CacheStore, KeyId, LinkKey, NewRecord, OpContext, StoreError};

/// Keeps results in memory. Refuses what a caller has no reason to ask: empty and repeated queries,
/// records without links that are not new results, and links that are there already.
#[derive(Debug)]
pub struct MemoryStore<R> {
    tables: Mutex<Tables<R>>,
}

#[derive(Debug)]
struct Tables<R> {
    links: HashMap<LinkKey, Vec<KeyId>>,
    results: HashMap<KeyId, R>,
    counts: Counts,
    failing: bool,
}

/// How often a store was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Queries.
    pub queries: usize,
    /// Loads, also those that found nothing.
    pub loads: usize,
    /// Results saved.
    pub saves: usize,
    /// Times that links were added to what was found.
    pub links: usize,
}

impl<R> Default for MemoryStore<R> {
    fn default() -> Self {
        let (links, results) = (HashMap::new(), HashMap::new());
        let counts = Counts::default();
        Self { tables: Mutex::new(Tables { links, results, counts, failing: false }) }
    }
}

impl<R> MemoryStore<R> {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how often the store was asked since the last time.
    pub fn take_counts(&self) -> Counts {
        std::mem::take(&mut self.tables.lock().counts)
    }

    /// Lets all results go; keys and links stay, as after a prune.
    pub fn forget_results(&self) {
        self.tables.lock().results.clear();
    }

    /// Lets one result go. Returns true if it was there.
    pub fn forget(&self, key: KeyId) -> bool {
        self.tables.lock().results.remove(&key).is_some()
    }

    /// Makes every call fail from now on, or work again.
    pub fn set_failing(&self, failing: bool) {
        self.tables.lock().failing = failing;
    }
}

fn refuse(action: &'static str, reason: &str) -> StoreError {
    StoreError { action, source: reason.into() }
}

impl<R> Tables<R> {
    fn check(&self, action: &'static str) -> Result<(), StoreError> {
        if self.failing { Err(refuse(action, "the store is set to fail")) } else { Ok(()) }
    }

    /// Puts the key first in each of its links.
    fn add(&mut self, record: &NewRecord) {
        for link in &record.links {
            let found = self.links.entry(*link).or_default();
            found.retain(|key| *key != record.key);
            found.insert(0, record.key);
        }
    }
}

#[async_trait]
impl<R: Clone + Send + Sync> CacheStore<R> for MemoryStore<R> {
    async fn query(&self, links: &[LinkKey]) -> Result<Vec<Vec<KeyId>>, StoreError> {
        let mut tables = self.tables.lock();
        tables.check("query")?;
        tables.counts.queries += 1;
        if links.is_empty() || links.iter().collect::<HashSet<_>>().len() < links.len() {
            return Err(refuse("query", "no links, or one of them twice"));
        }
        Ok(links.iter().map(|link| tables.links.get(link).cloned().unwrap_or_default()).collect())
    }

    async fn load(&self, _context: &OpContext, key: KeyId) -> Result<Option<R>, StoreError> {
        let mut tables = self.tables.lock();
        tables.counts.loads += 1;
        tables.check("load")?;
        Ok(tables.results.get(&key).cloned())
    }

    async fn save(&self, record: NewRecord, result: &R) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        tables.check("save")?;
        tables.counts.saves += 1;
        tables.add(&record);
        tables.results.insert(record.key, result.clone());
        Ok(())
    }

    async fn link(&self, record: NewRecord) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        tables.check("link")?;
        tables.counts.links += 1;
        if record.links.is_empty() {
            return Err(refuse("link", "no links"));
        }
        tables.add(&record);
        Ok(())
    }
}
