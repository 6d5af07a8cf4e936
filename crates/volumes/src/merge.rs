//! What becomes of a fork when it is to be published: the pure rule.

use crate::Merge;

/// What is known when a fork is to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Situation {
    /// The volume's merge policy.
    pub(crate) merge: Merge,
    /// The version the fork began with.
    pub(crate) base: u64,
    /// The newest published version.
    pub(crate) head: u64,
    /// What began before this version may not be published.
    pub(crate) cutoff: u64,
}

/// What is to be done with a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It becomes the head as it is.
    Advance,
    /// What the head has not changed too is put above the head.
    Unite,
    /// It is thrown away.
    Drop,
}

/// Decides what becomes of a fork.
pub(crate) fn decide(situation: Situation) -> Decision {
    let Situation { merge, base, head, cutoff } = situation;
    if base < cutoff {
        return Decision::Drop;
    }
    if base == head {
        return Decision::Advance;
    }
    match merge {
        Merge::LastWriter => Decision::Advance,
        Merge::FirstWriter => Decision::Drop,
        Merge::Union => Decision::Unite,
    }
}
