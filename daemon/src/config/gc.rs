//! How much is kept of what builds made.

use std::time::Duration;

use cache::PruneRequest;
use filter::{Filter, FilterError};

use super::quantity::Amount;

/// What the operator said of garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GcConfig {
    /// False to collect only when asked.
    pub enabled: bool,
    /// The bounds of the default rules.
    pub bounds: Bounds,
    /// Rules instead of the default ones.
    pub rules: Vec<GcRuleConfig>,
}

/// Three bounds on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// This much is never collected.
    pub reserved: Amount,
    /// This much is used at the most.
    pub most: Amount,
    /// This much of the disk is to stay free.
    pub free: Amount,
}

/// One rule as the operator wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GcRuleConfig {
    /// Also what the daemon keeps for itself.
    pub all: bool,
    /// Only records that match one of these.
    pub filters: Vec<String>,
    /// Only what was not used for so long.
    pub keep: Duration,
    /// How far to go.
    pub bounds: Bounds,
}

/// One rule on this machine's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GcRule {
    /// Also what the daemon keeps for itself.
    pub all: bool,
    /// Only records that match one of these.
    pub filters: Vec<String>,
    /// Only what was not used for so long.
    pub keep: Duration,
    /// Bytes that are never collected.
    pub reserved: u64,
    /// Bytes used at the most; 0 for no bound.
    pub most: u64,
    /// Bytes of the disk that are to stay free.
    pub free: u64,
}

const NO_BOUNDS: Bounds = Bounds { reserved: Amount::NONE, most: Amount::NONE, free: Amount::NONE };

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Bounds {
    fn default() -> Self {
        NO_BOUNDS
    }
}

impl Default for GcConfig {
    fn default() -> Self {
        Self { enabled: true, bounds: NO_BOUNDS, rules: Vec::new() }
    }
}

impl Bounds {
    /// Returns the bounds of a daemon of which nothing was said: a tenth of the disk, or 10 GB, stays;
    /// four fifths of it, or 100 GB, are used at the most; a fifth stays free.
    fn of_disk(total: u64) -> Self {
        let at_most = |share: u64, bytes: u64| {
            let share = Amount::Percent(share);
            if share.bytes(total) > bytes { Amount::Bytes(bytes) } else { share }
        };
        Self {
            reserved: at_most(10, 10_000_000_000),
            most: at_most(80, 100_000_000_000),
            free: Amount::Percent(20),
        }
    }
}

impl GcConfig {
    /// Returns the rules on a disk of `total` bytes, to be applied one after the other; none if
    /// nothing is to be collected.
    pub(crate) fn rules(&self, total: u64) -> Vec<GcRule> {
        if !self.enabled {
            return Vec::new();
        }
        let rules =
            if self.rules.is_empty() { self.default_rules(total) } else { self.rules.clone() };
        rules.into_iter().map(|rule| rule.on_disk(total)).collect()
    }

    /// Returns rules that take first what is made again most easily. Cache volumes are not in the
    /// first rule, as they are with the reference: they are what a rebuild cannot bring back.
    fn default_rules(&self, total: u64) -> Vec<GcRuleConfig> {
        let bounds = if self.bounds == NO_BOUNDS { Bounds::of_disk(total) } else { self.bounds };
        let sources = ["type==source.local", "type==source.git.checkout"];
        let rule = GcRuleConfig { all: false, filters: Vec::new(), keep: Duration::ZERO, bounds };
        vec![
            GcRuleConfig {
                filters: sources.map(str::to_owned).to_vec(),
                keep: 2 * DAY,
                bounds: Bounds { most: Amount::Bytes(512_000_000), ..NO_BOUNDS },
                ..rule.clone()
            },
            GcRuleConfig { keep: 60 * DAY, ..rule.clone() },
            rule.clone(),
            GcRuleConfig { all: true, ..rule },
        ]
    }
}

impl GcRuleConfig {
    fn on_disk(self, total: u64) -> GcRule {
        GcRule {
            all: self.all,
            filters: self.filters,
            keep: self.keep,
            reserved: self.bounds.reserved.bytes(total),
            most: self.bounds.most.bytes(total),
            free: self.bounds.free.bytes(total),
        }
    }
}

impl GcRule {
    /// Returns the rule as a request.
    pub(crate) fn request(&self) -> Result<PruneRequest, FilterError> {
        Ok(PruneRequest {
            filter: Filter::parse(&self.filters)?,
            all: self.all,
            keep_duration: self.keep,
            reserved_space: self.reserved,
            max_used_space: self.most,
            min_free_space: self.free,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    #[test]
    fn the_default_is_bounded_and_spares_volumes_first() {
        let rules = GcConfig::default().rules(500 * GB);
        assert_eq!(rules.len(), 4);
        assert_eq!(rules[0].filters, ["type==source.local", "type==source.git.checkout"]);
        assert_eq!((rules[0].keep, rules[0].most), (2 * DAY, 512_000_000));
        assert_eq!((rules[1].keep, rules[2].keep), (60 * DAY, Duration::ZERO));
        for rule in &rules[1..] {
            assert_eq!((rule.reserved, rule.most, rule.free), (10 * GB, 100 * GB, 94 * GB));
        }
        assert!(rules[3].all && !rules[2].all);
        assert!(rules.iter().all(|rule| rule.request().is_ok()));
    }

    #[test]
    fn on_a_small_disk_the_default_is_a_share() {
        let rules = GcConfig::default().rules(20 * GB);
        assert_eq!((rules[2].reserved, rules[2].most), (2 * GB, 15 * GB));
    }

    #[test]
    fn the_operators_bounds_and_rules_replace_the_defaults() {
        let mut config = GcConfig::default();
        config.bounds.most = Amount::Bytes(5 * GB);
        let rules = config.rules(500 * GB);
        assert_eq!((rules[3].reserved, rules[3].most, rules[3].free), (0, 5 * GB, 0));
        config.rules.push(GcRuleConfig {
            all: true,
            filters: vec!["type==regular".to_owned()],
            keep: DAY,
            bounds: NO_BOUNDS,
        });
        assert_eq!(config.rules(500 * GB).len(), 1);
        config.enabled = false;
        assert!(config.rules(500 * GB).is_empty());
    }
}
