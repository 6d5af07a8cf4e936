//! Results by their keys: the store that the solver asks.
//!
//! Two tables, both held in memory and written through. A result is the list of its layers; where
//! that is just a layer and all it was made over, only the layer is written. A result of which a layer
//! is gone is forgotten when somebody asks for it, or when the layer is removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use digests::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use snapshot::LayerKey;
use solver::{CacheStore, KeyId, LinkKey, NewRecord, OpContext, StoreError};

use crate::{CacheError, ImmutableRef, Refs, Table};

/// How many results one link may lead to; older ones are forgotten.
const RESULTS_PER_LINK: usize = 16;

/// How many links may lead to one result; older ones are forgotten. A step that uses a client's
/// directory gets a new one with every build.
const LINKS_PER_RESULT: usize = 256;

/// Results by their keys. Clones share them.
#[derive(Debug, Clone)]
pub struct CacheIndex(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    refs: Refs,
    // Held for a look or a change in memory, never over an await.
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    results: HashMap<KeyId, StoredResult>,
    links: HashMap<LinkKey, Vec<KeyId>>,
    /// Which links lead to a result.
    links_to: HashMap<KeyId, Vec<LinkKey>>,
    /// Which results need a layer as their top or in their list.
    results_of: HashMap<LayerKey, HashSet<KeyId>>,
}

/// A result as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum StoredResult {
    /// A layer and all it was made over; none is the empty file system.
    Chain(Option<LayerKey>),
    /// These layers, lowest first.
    Stack(Vec<LayerKey>),
}

impl StoredResult {
    fn of(result: &ImmutableRef) -> Self {
        if result.is_plain_chain() {
            Self::Chain(result.layers().last().map(|layer| layer.key.clone()))
        } else {
            Self::Stack(result.keys())
        }
    }

    fn layers(&self) -> &[LayerKey] {
        match self {
            Self::Chain(top) => top.as_slice(),
            Self::Stack(layers) => layers,
        }
    }
}

impl CacheIndex {
    /// Reads what is known.
    ///
    /// # Errors
    /// Returns an error if the metadata cannot be read.
    pub async fn open(refs: &Refs) -> Result<Self, CacheError> {
        let meta = refs.meta().clone();
        let read =
            move || Ok::<_, CacheError>((meta.scan(Table::Results)?, meta.scan(Table::Links)?));
        let (results, links) = tasks::blocking("read results", read).await??;
        let mut tables = Tables::default();
        for (key, value) in results {
            if let (Some(key), Ok(result)) = (digest(&key), serde_json::from_slice(&value)) {
                tables.insert(KeyId::from_digest(key), result);
            }
        }
        for (link, value) in links {
            let Some(link) = digest(&link) else { continue };
            for key in value.chunks_exact(32).rev().filter_map(digest) {
                tables.link(LinkKey::from_digest(link), KeyId::from_digest(key));
            }
        }
        Ok(Self(Arc::new(Inner { refs: refs.clone(), tables: Mutex::new(tables) })))
    }

    /// Forgets the results that need `layer`, and the links that led only to them.
    pub(crate) fn forget_layer(&self, layer: &LayerKey) {
        let mut tables = self.0.tables.lock();
        let keys = tables.results_of.get(layer).cloned().unwrap_or_default();
        for key in keys {
            self.forget(&mut tables, key);
        }
    }

    fn forget(&self, tables: &mut Tables, key: KeyId) {
        let meta = self.0.refs.meta();
        let Some(result) = tables.results.remove(&key) else { return };
        meta.delete(Table::Results, key.digest().as_bytes());
        for layer in result.layers() {
            if let Some(keys) = tables.results_of.get_mut(layer) {
                keys.remove(&key);
                if keys.is_empty() {
                    tables.results_of.remove(layer);
                }
            }
        }
        for link in tables.links_to.remove(&key).unwrap_or_default() {
            let Some(keys) = tables.links.get_mut(&link) else { continue };
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                tables.links.remove(&link);
                meta.delete(Table::Links, link.digest().as_bytes());
            } else {
                meta.put(Table::Links, link.digest().as_bytes(), bytes_of(keys));
            }
        }
    }

    fn add_links(&self, tables: &mut Tables, record: &NewRecord) {
        for link in tables.surplus_links(record.key) {
            match tables.links.get(&link) {
                Some(keys) => {
                    self.0.refs.meta().put(Table::Links, link.digest().as_bytes(), bytes_of(keys));
                }
                None => self.0.refs.meta().delete(Table::Links, link.digest().as_bytes()),
            }
        }
        for link in &record.links {
            if tables.link(*link, record.key) {
                let value = bytes_of(&tables.links[link]);
                self.0.refs.meta().put(Table::Links, link.digest().as_bytes(), value);
            }
        }
    }

    /// Returns the result that is kept under a key, for whoever only describes it: that is no use.
    pub fn peek(&self, key: KeyId) -> Option<ImmutableRef> {
        let stored = self.0.tables.lock().results.get(&key).cloned()?;
        match &stored {
            StoredResult::Chain(None) => Some(ImmutableRef::default()),
            StoredResult::Chain(Some(top)) => self.0.refs.stack_below(top),
            StoredResult::Stack(layers) => self.0.refs.stack_of(layers),
        }
    }

    fn resolve(&self, key: KeyId) -> Option<ImmutableRef> {
        let stored = self.0.tables.lock().results.get(&key).cloned()?;
        let found = match &stored {
            StoredResult::Chain(None) => Some(ImmutableRef::default()),
            StoredResult::Chain(Some(top)) => self.0.refs.chain(top),
            StoredResult::Stack(layers) => self.0.refs.get(layers),
        };
        if found.is_none() {
            self.forget(&mut self.0.tables.lock(), key);
        }
        found
    }
}

impl Tables {
    fn insert(&mut self, key: KeyId, result: StoredResult) {
        if let Some(before) = self.results.insert(key, result.clone()) {
            for layer in before.layers() {
                if let Some(keys) = self.results_of.get_mut(layer) {
                    keys.remove(&key);
                }
            }
        }
        for layer in result.layers() {
            self.results_of.entry(layer.clone()).or_default().insert(key);
        }
    }

    /// Forgets the oldest links to `key` over the limit; returns those that changed.
    fn surplus_links(&mut self, key: KeyId) -> Vec<LinkKey> {
        let Some(links) = self.links_to.get_mut(&key) else { return Vec::new() };
        let surplus = links.len().saturating_sub(LINKS_PER_RESULT);
        let mut changed = Vec::new();
        for link in links.drain(..surplus) {
            let Some(keys) = self.links.get_mut(&link) else { continue };
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.links.remove(&link);
            }
            changed.push(link);
        }
        changed
    }

    /// Makes `link` lead to `key` first; returns false if it does already.
    fn link(&mut self, link: LinkKey, key: KeyId) -> bool {
        let keys = self.links.entry(link).or_default();
        if keys.first() == Some(&key) {
            return false;
        }
        let was_there = keys.contains(&key);
        keys.retain(|other| *other != key);
        keys.insert(0, key);
        for dropped in keys.split_off(keys.len().min(RESULTS_PER_LINK)) {
            if let Some(links) = self.links_to.get_mut(&dropped) {
                links.retain(|other| *other != link);
            }
        }
        if !was_there {
            self.links_to.entry(key).or_default().push(link);
        }
        true
    }
}

fn digest(bytes: impl AsRef<[u8]>) -> Option<Digest> {
    bytes.as_ref().try_into().ok().map(Digest::from_bytes)
}

fn bytes_of(keys: &[KeyId]) -> Vec<u8> {
    keys.iter().flat_map(|key| *key.digest().as_bytes()).collect()
}

#[async_trait]
impl CacheStore<ImmutableRef> for CacheIndex {
    async fn query(&self, links: &[LinkKey]) -> Result<Vec<Vec<KeyId>>, StoreError> {
        let tables = self.0.tables.lock();
        Ok(links.iter().map(|link| tables.links.get(link).cloned().unwrap_or_default()).collect())
    }

    async fn load(
        &self,
        _context: &OpContext,
        key: KeyId,
    ) -> Result<Option<ImmutableRef>, StoreError> {
        Ok(self.resolve(key))
    }

    async fn save(&self, record: NewRecord, result: &ImmutableRef) -> Result<(), StoreError> {
        // A client's directory changes with the next sync: it is no result to come back to.
        if result.is_local() {
            return Ok(());
        }
        let stored = StoredResult::of(result);
        let mut tables = self.0.tables.lock();
        if tables.results.get(&record.key) != Some(&stored) {
            let value = serde_json::to_vec(&stored)
                .map_err(|error| StoreError { action: "save a result", source: error.into() })?;
            self.0.refs.meta().put(Table::Results, record.key.digest().as_bytes(), value);
            tables.insert(record.key, stored);
        }
        self.add_links(&mut tables, &record);
        Ok(())
    }

    async fn link(&self, record: NewRecord) -> Result<(), StoreError> {
        self.add_links(&mut self.0.tables.lock(), &record);
        Ok(())
    }
}
