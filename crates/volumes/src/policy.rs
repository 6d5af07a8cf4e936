//! What may be decided about a volume, and how it is decided by the pattern of its id.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Outcome, Sharing, VolumeName};

/// What becomes of a fork when the head has moved since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Merge {
    /// The fork becomes the head; what others published meanwhile stays an earlier version.
    #[default]
    LastWriter,
    /// The fork is dropped.
    FirstWriter,
    /// Files changed on one side only are taken from that side; on a conflict the head wins.
    Union,
}

/// What becomes of what a step wrote when the step did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Salvage {
    /// It is kept as if the step had succeeded.
    Keep,
    /// It is thrown away; the volume is as it was before the step.
    Discard,
}

/// What a step that is built without cache finds in its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoCache {
    /// An empty tree of its own, which becomes the head when it is published.
    #[default]
    Fresh,
    /// What every other step finds.
    Keep,
}

/// How a fork is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Overlay layers; and snapshots of subvolumes, or reflink copies, where they spare a wait.
    #[default]
    Auto,
    /// Overlay layers only.
    Overlay,
    /// Reflink copies where overlay layers would make somebody wait; refused at start on a file
    /// system that has none.
    Reflink,
    /// Snapshots of subvolumes for every writer: no layers, no wait, and a directory can be renamed as
    /// anywhere else; but each fork waits for the disk. Refused at start on a file system that has none. What a volume has in layers already stays so.
    Subvolume,
}

/// An amount of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Space {
    /// Bytes in allocated blocks, as `du` counts.
    pub bytes: u64,
    /// Files, directories and all else that takes an inode; a file with two names counts once.
    pub inodes: u64,
}

impl std::ops::Add for Space {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// A limit on the disk that a volume may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Most bytes; none for no limit.
    pub bytes: Option<u64>,
    /// Most inodes; none for no limit.
    pub inodes: Option<u64>,
}

impl Quota {
    /// Returns true if `space` is more than this allows.
    pub fn is_exceeded_by(&self, space: Space) -> bool {
        self.bytes.is_some_and(|most| space.bytes > most)
            || self.inodes.is_some_and(|most| space.inodes > most)
    }
}

/// Everything that is decided about a volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What becomes of a fork when the head has moved.
    pub merge: Merge,
    /// What becomes of the writes of a step that ended with an error.
    pub on_failure: Salvage,
    /// What becomes of the writes of a step that was killed, cancelled, or cut off by a crash. None
    /// for the default: discarded for `private` and `locked` leases that have a layer of their own,
    /// kept for `shared` ones unless `on_failure` is discard. An explicit discard makes the volume
    /// versioned, so that there is a layer to discard.
    pub on_interrupt: Option<Salvage>,
    /// What a step that is built without cache finds.
    pub no_cache: NoCache,
    /// The most disk the volume may take: a layer that would take it above is not published, and a
    /// volume above is collected first. A quota makes the volume versioned, so that there is a layer to
    /// refuse.
    pub quota: Quota,
    /// A volume that takes no more bytes than this is not collected to make space.
    pub floor: u64,
    /// How long an unused volume is kept; none for as long as there is space.
    pub expiry: Option<Duration>,
    /// True if the volume is never collected.
    pub pinned: bool,
    /// How long a step waits for a lease before it fails; none for as long as it takes.
    pub wait_limit: Option<Duration>,
    /// How forks are made.
    pub driver: Driver,
    /// How many versions are kept, the head included; at least one.
    pub versions: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            merge: Merge::default(),
            on_failure: Salvage::Keep,
            on_interrupt: None,
            no_cache: NoCache::default(),
            quota: Quota::default(),
            floor: 0,
            expiry: None,
            pinned: false,
            wait_limit: None,
            driver: Driver::default(),
            versions: 3,
        }
    }
}

impl Policy {
    /// Returns true if something would throw a step's writes away, be it how the step ends or how much
    /// it wrote, so that they cannot go into the head's own tree.
    pub fn may_discard(&self) -> bool {
        let by_outcome = [Some(self.on_failure), self.on_interrupt];
        by_outcome.contains(&Some(Salvage::Discard)) || self.quota != Quota::default()
    }

    /// Returns what becomes of what a step wrote into a layer of its own.
    pub fn salvage(&self, outcome: Outcome, sharing: Sharing) -> Salvage {
        match outcome {
            Outcome::Succeeded => Salvage::Keep,
            Outcome::Failed => self.on_failure,
            Outcome::Killed => self.on_interrupt.unwrap_or(match sharing {
                Sharing::Shared => self.on_failure,
                Sharing::Locked | Sharing::Private | Sharing::ReadOnly => Salvage::Discard,
            }),
        }
    }
}

/// The parts of a policy that somebody decided; the others stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PolicyPatch {
    /// See [`Policy::merge`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
    /// See [`Policy::on_failure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Salvage>,
    /// See [`Policy::on_interrupt`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_interrupt: Option<Salvage>,
    /// See [`Policy::no_cache`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_cache: Option<NoCache>,
    /// See [`Policy::quota`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// See [`Policy::floor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<u64>,
    /// See [`Policy::expiry`]; in seconds.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub expiry: Option<Duration>,
    /// See [`Policy::pinned`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// See [`Policy::wait_limit`]; in seconds.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub wait_limit: Option<Duration>,
    /// See [`Policy::driver`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// See [`Policy::versions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<u32>,
}

impl PolicyPatch {
    /// Puts what this patch decides into `policy`.
    pub fn apply(&self, policy: &mut Policy) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        set(&mut policy.merge, &self.merge);
        set(&mut policy.on_failure, &self.on_failure);
        policy.on_interrupt = self.on_interrupt.or(policy.on_interrupt);
        set(&mut policy.no_cache, &self.no_cache);
        set(&mut policy.quota, &self.quota);
        set(&mut policy.floor, &self.floor);
        policy.expiry = self.expiry.or(policy.expiry);
        set(&mut policy.pinned, &self.pinned);
        policy.wait_limit = self.wait_limit.or(policy.wait_limit);
        set(&mut policy.driver, &self.driver);
        set(&mut policy.versions, &self.versions.map(|count| count.max(1)));
    }
}

/// Decides for the volumes whose id matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// The namespace it is for; none for all.
    pub namespace: Option<String>,
    /// A pattern for the id: `*` stands for any text, `?` for one byte, all else for itself.
    pub pattern: String,
    /// What is decided.
    pub policy: PolicyPatch,
}

impl PolicyRule {
    /// Returns true if the rule is for `name`.
    pub fn matches(&self, name: &VolumeName) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == name.namespace())
            && glob(self.pattern.as_bytes(), name.id())
    }
}

/// Matches with one place to go back to: the last `*`. Linear in practice, never exponential.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Optional durations as whole seconds.
mod seconds {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Duration, Serialize};

    #[expect(clippy::ref_option, reason = "the shape that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|duration| duration.as_secs()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_people_expect() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("go-*", "go-build", true),
            ("go-*", "cargo-build", false),
            ("*uv*", "/root/.cache/uv", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxbxxbxx", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn a_later_rule_decides_only_what_it_names() {
        let mut policy = Policy::default();
        PolicyPatch { merge: Some(Merge::Union), versions: Some(0), ..Default::default() }
            .apply(&mut policy);
        PolicyPatch { floor: Some(7), ..Default::default() }.apply(&mut policy);
        assert_eq!((policy.merge, policy.floor, policy.versions), (Merge::Union, 7, 1));
    }

    #[test]
    fn a_typo_in_a_patch_is_refused() {
        assert!(serde_json::from_str::<PolicyPatch>(r#"{"on-failrue":"keep"}"#).is_err());
        let patch: PolicyPatch =
            serde_json::from_str(r#"{"on-failure":"discard","expiry":60}"#).unwrap();
        assert_eq!(patch.on_failure, Some(Salvage::Discard));
        assert_eq!(patch.expiry, Some(Duration::from_secs(60)));
    }

    #[test]
    fn salvage_follows_the_documented_table() {
        use {Outcome::*, Salvage::*, Sharing::*};
        let keep = Policy::default();
        let discard = Policy { on_failure: Discard, ..Policy::default() };
        for (policy, outcome, sharing, salvage) in [
            (&keep, Succeeded, Private, Keep),
            (&keep, Failed, Private, Keep),
            (&keep, Failed, Locked, Keep),
            (&keep, Killed, Private, Discard),
            (&keep, Killed, Locked, Discard),
            (&keep, Killed, Shared, Keep),
            (&discard, Succeeded, Shared, Keep),
            (&discard, Failed, Shared, Discard),
            (&discard, Killed, Shared, Discard),
        ] {
            assert_eq!(policy.salvage(outcome, sharing), salvage, "{outcome:?} {sharing:?}");
        }
    }

    #[test]
    fn writes_go_straight_into_the_head_only_if_nothing_may_throw_them_away() {
        let policy = Policy::default();
        assert!(!policy.may_discard());
        let limited = |quota| Policy { quota, ..Policy::default() };
        for cautious in [
            Policy { on_failure: Salvage::Discard, ..Policy::default() },
            Policy { on_interrupt: Some(Salvage::Discard), ..Policy::default() },
            limited(Quota { bytes: Some(1), inodes: None }),
            limited(Quota { bytes: None, inodes: Some(1) }),
        ] {
            assert!(cautious.may_discard(), "{cautious:?}");
        }
    }

    proptest! {
        #[test]
        fn a_star_on_both_sides_finds_any_part(a in "[a-c]{0,5}", b in "[a-c]{0,5}", c in "[a-c]{0,5}") {
            let (pattern, text) = (format!("*{b}*"), format!("{a}{b}{c}"));
            prop_assert!(glob(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
