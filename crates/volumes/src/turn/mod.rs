//! Who goes when: the pure rules of a volume's queue.
//!
//! Everyone who uses a volume or wants to has a *turn*. Turns have numbers in the order of their
//! coming. A turn waits for every conflicting turn that holds, and for every conflicting turn that
//! waits with a smaller number. That is all: no two conflicting turns hold at once, and as nobody is
//! overtaken by somebody that conflicts, nobody starves.

use crate::Sharing;
use crate::layout::LayerId;

/// What a volume is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// One tree, written in place.
    Plain,
    /// Versions that never change; whoever writes has a layer of their own.
    Versioned,
}

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// In the queue.
    Waiting,
    /// Using the volume.
    Holding,
    /// Done with the volume, but what was written is not published yet: nobody may join any more.
    Ending,
}

/// One use of a volume, now or to come. Its coding is the name of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Turn {
    /// The place in the order of coming.
    pub(crate) number: u64,
    pub(crate) phase: Phase,
    pub(crate) sharing: Sharing,
    /// True if it begins with an empty tree of its own.
    pub(crate) fresh: bool,
    /// True if its writes may have to be thrown away, so that they need a layer of their own.
    pub(crate) discards: bool,
    /// True if it writes straight into the tree of its base.
    pub(crate) in_place: bool,
    /// The version it began with; 0 while it waits.
    pub(crate) base: u64,
    /// Where it writes; none while it waits, or if it only reads.
    pub(crate) layer: Option<LayerId>,
}

/// How a turn stands to the live tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Has it alone.
    Alone,
    /// Has it together with others.
    Joined,
    /// Has a tree of its own, or reads a version.
    Apart,
}

/// Whether a turn may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now.
    Grant,
    /// Not yet.
    Wait {
        /// The turns that hold and are in the way, by place in the list.
        holders: Vec<usize>,
        /// How many waiting turns go first.
        ahead: usize,
    },
}

impl Turn {
    /// Returns a turn that is about to be queued.
    pub(crate) const fn new(number: u64, sharing: Sharing, fresh: bool, discards: bool) -> Self {
        let (phase, in_place, base, layer) = (Phase::Waiting, false, 0, None);
        Self { number, phase, sharing, fresh, discards, in_place, base, layer }
    }

    fn stand(&self) -> Stand {
        match self.sharing {
            Sharing::Locked => Stand::Alone,
            Sharing::Shared if !self.fresh => Stand::Joined,
            Sharing::Shared | Sharing::Private | Sharing::ReadOnly => Stand::Apart,
        }
    }

    /// Returns true if this turn is one of a group that shares one live tree.
    pub(crate) fn is_joined(&self) -> bool {
        self.stand() == Stand::Joined
    }

    /// Returns true if those who wait may be waiting for it.
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.stand() != Stand::Apart
    }

    /// Returns true if the tree of a plain volume must stop changing before this turn begins.
    pub(crate) fn freezes(&self, form: Form) -> bool {
        let begins = self.phase == Phase::Waiting && !self.fresh && form == Form::Plain;
        begins && (self.stand() == Stand::Apart || self.discards)
    }

    /// Returns true if `self`, which has a tree apart, cannot begin while `other` may be writing into
    /// the tree it is to be forked from.
    fn waits_for_calm(&self, other: &Self, form: Form) -> bool {
        self.freezes(form) && (other.in_place || other.phase == Phase::Waiting)
    }

    /// Returns true if the two cannot hold at once; the same whichever way they are given.
    fn conflicts(&self, other: &Self, form: Form) -> bool {
        match (self.stand(), other.stand()) {
            (Stand::Apart, Stand::Apart) => false,
            (Stand::Apart, _) => self.waits_for_calm(other, form),
            (_, Stand::Apart) => other.waits_for_calm(self, form),
            (Stand::Alone, _) | (_, Stand::Alone) => true,
            (Stand::Joined, Stand::Joined) => {
                let ending = self.phase == Phase::Ending || other.phase == Phase::Ending;
                let mixed = (self.discards && other.in_place) || (other.discards && self.in_place);
                ending || mixed || self.freezes(form) != other.freezes(form)
            }
        }
    }

    /// Returns the name of the turn's file.
    pub(crate) fn encode(&self) -> String {
        let phase = match self.phase {
            Phase::Waiting => 'w',
            Phase::Holding => 'h',
            Phase::Ending => 'e',
        };
        let sharing = match self.sharing {
            Sharing::Shared => 's',
            Sharing::Locked => 'l',
            Sharing::Private => 'p',
            Sharing::ReadOnly => 'r',
        };
        let flag = |set: bool, letter: char| if set { letter } else { '_' };
        let flags: String =
            [flag(self.fresh, 'f'), flag(self.discards, 'd'), flag(self.in_place, 'i')]
                .iter()
                .collect();
        let layer = self.layer.map_or_else(|| "0".to_owned(), |layer| layer.to_string());
        format!("{:016x}-{phase}{sharing}{flags}-{:x}-{layer}", self.number, self.base)
    }

    /// Reads the name of a turn's file; none if it is not one.
    pub(crate) fn decode(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let number = u64::from_str_radix(parts.next()?, 16).ok()?;
        let letters: Vec<char> = parts.next()?.chars().collect();
        let base = u64::from_str_radix(parts.next()?, 16).ok()?;
        let layer = match parts.next()? {
            "0" => None,
            text => Some(text.parse().ok()?),
        };
        let [phase, sharing, fresh, discards, in_place] = letters[..] else { return None };
        let phase = match phase {
            'w' => Phase::Waiting,
            'h' => Phase::Holding,
            'e' => Phase::Ending,
            _ => return None,
        };
        let sharing = match sharing {
            's' => Sharing::Shared,
            'l' => Sharing::Locked,
            'p' => Sharing::Private,
            'r' => Sharing::ReadOnly,
            _ => return None,
        };
        let (fresh, discards, in_place) = (fresh == 'f', discards == 'd', in_place == 'i');
        let turn = Self { number, phase, sharing, fresh, discards, in_place, base, layer };
        (parts.next().is_none() && turn.encode() == name).then_some(turn)
    }
}

/// Decides whether `turn` may begin, given all other turns of the volume.
pub(crate) fn admit(turn: &Turn, others: &[Turn], form: Form) -> Verdict {
    let (mut holders, mut ahead) = (Vec::new(), 0);
    for (index, other) in others.iter().enumerate() {
        if other.number == turn.number || !turn.conflicts(other, form) {
            continue;
        }
        match other.phase {
            Phase::Holding | Phase::Ending => holders.push(index),
            Phase::Waiting if other.number < turn.number => ahead += 1,
            Phase::Waiting => {}
        }
    }
    if holders.is_empty() && ahead == 0 { Verdict::Grant } else { Verdict::Wait { holders, ahead } }
}

/// Where a turn that begins now writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nowhere: it reads a version.
    Read,
    /// Into the tree of the head.
    InPlace,
    /// Where a living group writes already.
    Join {
        /// The group's layer.
        layer: LayerId,
        /// The version the group began with.
        base: u64,
        /// True if that is the version's own tree.
        in_place: bool,
    },
    /// Into a new layer above the head.
    Above,
    /// Into a new, empty tree.
    Empty,
    /// Into a copy of the head's tree, which others are writing in place.
    Copy,
    /// Into a fork of the head's tree as a whole: instead of [`Start::Above`] or [`Start::Copy`], where
    /// the file system can. Never decided here.
    Snapshot,
}

/// Decides where a granted `turn` writes. A group that began before `cutoff` is not joined any more.
pub(crate) fn start(turn: &Turn, others: &[Turn], form: Form, cutoff: u64) -> Start {
    if turn.sharing == Sharing::ReadOnly {
        return Start::Read;
    }
    if turn.fresh {
        return Start::Empty;
    }
    let group = others.iter().find(|other| {
        let lives = other.phase == Phase::Holding && other.is_joined();
        lives && other.number != turn.number && other.base >= cutoff
    });
    if let (true, Some(Turn { layer: Some(layer), base, in_place, .. })) = (turn.is_joined(), group)
    {
        return Start::Join { layer: *layer, base: *base, in_place: *in_place };
    }
    if form == Form::Plain && !turn.freezes(form) { Start::InPlace } else { Start::Above }
}

#[cfg(test)]
mod model;
