//! What a volume is: its versions, its head, and what was decided about it. One document, replaced as
//! a whole, so that every change of it is a publish or none.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filelock::Label;
use serde::{Deserialize, Serialize};

use crate::document::FORMAT;
use crate::layout::LayerId;
use crate::turn::Form;
use crate::{PolicyPatch, RootAttributes};

/// Where a version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The empty tree that the volume began with.
    Created,
    /// The content that a variant began with.
    Seeded,
    /// A step wrote it above the version before.
    Published,
    /// A step wrote it above an older version, and it was put together with what came between.
    Merged,
    /// A step began it from nothing.
    Fresh,
    /// The user wanted an empty volume.
    Reset,
    /// The user went back to an earlier version.
    RolledBack,
    /// Copied from another volume.
    Forked,
}

/// One version of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionState {
    pub(crate) number: u64,
    /// The layers it consists of, topmost first; at least one.
    pub(crate) layers: Vec<LayerId>,
    /// The version it was made from.
    pub(crate) parent: Option<u64>,
    pub(crate) origin: Origin,
    /// When it was made, in milliseconds of the epoch.
    pub(crate) created: u64,
    /// Who made it.
    pub(crate) by: Option<Label>,
}

/// Owner and mode of a mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// How a mount's root was left by a step that asked for certain attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RootRecord {
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    found: Root,
}

/// The state of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u64,
    pub(crate) form: Form,
    /// The number of the head.
    pub(crate) head: u64,
    /// In the order of their numbers; the head is among them.
    pub(crate) versions: Vec<VersionState>,
    /// The number of the next version.
    next: u64,
    /// What began with a version before this one is not published any more: the user has reset the
    /// volume or gone back since.
    pub(crate) cutoff: u64,
    roots: Vec<RootRecord>,
    /// What was decided about this volume by name.
    pub(crate) policy: PolicyPatch,
    /// When the volume was made, in milliseconds of the epoch.
    pub(crate) created: u64,
}

impl State {
    /// Returns the state of a new volume whose tree is `layer`.
    pub(crate) fn new(layer: LayerId, origin: Origin, by: Option<Label>) -> Self {
        let created = now();
        let (number, layers, parent) = (1, vec![layer], None);
        Self {
            format: FORMAT,
            form: if origin == Origin::Forked { Form::Versioned } else { Form::Plain },
            head: number,
            versions: vec![VersionState { number, layers, parent, origin, created, by }],
            next: 2,
            cutoff: 0,
            roots: Vec::new(),
            policy: PolicyPatch::default(),
            created,
        }
    }

    /// Returns what is wrong with a state that was read, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut numbers = BTreeSet::new();
        for version in &self.versions {
            if version.layers.is_empty() {
                return Some(format!("version {} has no layers", version.number));
            }
            if !numbers.insert(version.number) || version.number >= self.next {
                return Some(format!("version {} is out of order", version.number));
            }
        }
        let head = numbers.contains(&self.head);
        (!head).then(|| format!("version {} is its head and missing", self.head))
    }

    /// Returns the format it was written in.
    pub(crate) const fn format(&self) -> u64 {
        self.format
    }

    pub(crate) fn version(&self, number: u64) -> Option<&VersionState> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// Returns the layers of the head, topmost first.
    pub(crate) fn head_layers(&self) -> &[LayerId] {
        self.version(self.head).map_or(&[], |version| &version.layers)
    }

    /// Returns all layers that some version needs.
    pub(crate) fn layers(&self) -> BTreeSet<LayerId> {
        self.versions.iter().flat_map(|version| version.layers.iter().copied()).collect()
    }

    /// Makes a version of `layers` the head.
    pub(crate) fn advance(
        &mut self,
        layers: Vec<LayerId>,
        parent: Option<u64>,
        origin: Origin,
        by: Option<Label>,
    ) {
        let number = self.next;
        self.next += 1;
        self.versions.push(VersionState { number, layers, parent, origin, created: now(), by });
        self.head = number;
    }

    /// Forbids everything that began before the head to be published.
    pub(crate) fn cut_off(&mut self) {
        self.cutoff = self.head;
    }

    /// Forgets the oldest versions above `keep`, never the head nor one that is `in_use`.
    pub(crate) fn trim(&mut self, keep: u32, in_use: &BTreeSet<u64>) {
        let mut excess = self.versions.len().saturating_sub(keep.max(1) as usize);
        let head = self.head;
        self.versions.retain(|version| {
            let goes = excess > 0 && version.number != head && !in_use.contains(&version.number);
            excess -= usize::from(goes);
            !goes
        });
    }

    /// Returns how the root of a mount is to look to a step that asks for `asked`.
    pub(crate) fn root_for(&self, asked: RootAttributes) -> Root {
        self.roots.iter().find(|record| record.is_for(asked)).map_or_else(
            || Root {
                uid: asked.uid.unwrap_or(0),
                gid: asked.gid.unwrap_or(0),
                mode: asked.mode.unwrap_or(0o755),
            },
            |record| record.found,
        )
    }

    /// Remembers how a step that asked for `asked` left the root. Returns true if that is news.
    pub(crate) fn remember_root(&mut self, asked: RootAttributes, found: Root) -> bool {
        if self.root_for(asked) == found {
            return false;
        }
        self.roots.retain(|record| !record.is_for(asked));
        let RootAttributes { uid, gid, mode } = asked;
        self.roots.push(RootRecord { uid, gid, mode, found });
        true
    }
}

impl RootRecord {
    fn is_for(&self, asked: RootAttributes) -> bool {
        (self.uid, self.gid, self.mode) == (asked.uid, asked.gid, asked.mode)
    }
}

/// Returns the time in milliseconds of the epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time that is `milliseconds` of the epoch.
pub(crate) fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}
