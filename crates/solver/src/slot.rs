//! What an edge knows of one of its inputs.

use std::collections::HashSet;

use crate::signal::{Goal, Report};
use crate::{CacheMap, KeyId, LinkKey};

/// An edge's knowledge of one input.
#[derive(Debug)]
pub(crate) struct Slot<R> {
    /// As far as the input was asked to go.
    pub(crate) asked: Goal,
    /// The newest that it said.
    pub(crate) report: Option<Report<R>>,
    pub(crate) content: Content,
    /// The keys that were looked up, and the records they lead to.
    pub(crate) found: Vec<(KeyId, Vec<KeyId>)>,
}

/// The key of an input by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Unknown,
    Running,
    /// None: the operation has no such key for this input.
    Known(Option<KeyId>),
}

impl<R> Default for Slot<R> {
    fn default() -> Self {
        Self { asked: Goal::Nothing, report: None, content: Content::Unknown, found: Vec::new() }
    }
}

impl<R> Slot<R> {
    pub(crate) fn level(&self) -> Goal {
        self.report.as_ref().map_or(Goal::Nothing, |report| report.level)
    }

    /// Returns the key of the input's content, if it is known.
    pub(crate) fn content_key(&self) -> Option<KeyId> {
        match self.content {
            Content::Known(key) => key,
            Content::Unknown | Content::Running => None,
        }
    }

    /// Returns the keys of the input that may be looked up and were not yet.
    pub(crate) fn unasked(&self) -> Vec<KeyId> {
        let mut keys = Vec::new();
        if let Some(report) = &self.report {
            keys.extend(report.matches.iter().filter(|key| **key != report.id));
            let found_anyway = report.matches.contains(&report.id);
            keys.extend((report.trusted || found_anyway).then_some(report.id));
        }
        keys.extend(self.content_key());
        keys.retain(|key| self.found.iter().all(|(asked, _)| asked != key));
        keys
    }

    /// Returns every key of the input, also the one that may not be looked up.
    pub(crate) fn all_keys(&self) -> Vec<KeyId> {
        let mut keys = Vec::new();
        if let Some(report) = &self.report {
            keys.push(report.id);
            keys.extend(report.matches.iter().filter(|key| **key != report.id));
        }
        keys.extend(self.content_key());
        keys
    }

    /// Returns the link of this slot for one of its keys.
    pub(crate) fn link(&self, map: &CacheMap, output: u32, slot: usize, key: KeyId) -> LinkKey {
        if self.content_key() == Some(key) {
            LinkKey::by_content(map, output, slot, key)
        } else {
            LinkKey::by_definition(map, output, slot, key)
        }
    }

    /// Returns true if `from` was found to lead to the record `to`.
    pub(crate) fn leads(&self, from: KeyId, to: KeyId) -> bool {
        self.found.iter().any(|(key, found)| *key == from && found.contains(&to))
    }

    /// Returns the records that some key of the input leads to.
    pub(crate) fn candidates(&self) -> HashSet<KeyId> {
        self.found.iter().flat_map(|(_, found)| found).copied().collect()
    }

    /// Returns true if no key of the input leads anywhere, as far as was asked.
    pub(crate) fn is_lost(&self) -> bool {
        self.found.iter().all(|(_, found)| found.is_empty())
    }

    /// Returns true if the input has no more keys to give.
    pub(crate) fn is_exhausted(&self, map: &CacheMap, slot: usize) -> bool {
        let content = !map.is_by_content(slot) || matches!(self.content, Content::Known(_));
        self.level() >= Goal::Matches && content
    }
}
