//! What an operator decides for all volumes of a root.

use crate::{Driver, Policy, PolicyPatch, PolicyRule, Space, VolumeName};

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSettings {
    /// What holds for every volume unless a rule or the volume itself says otherwise.
    pub defaults: PolicyPatch,
    /// Decisions by the pattern of the id; of two that match, the later one decides.
    pub rules: Vec<PolicyRule>,
    /// What is to stay free on the volumes' disk. A lease is refused when there is less and removing
    /// unused volumes does not help.
    pub reserve: Space,
    /// More layers than this are put together when nobody uses them.
    pub depth: usize,
    /// A head of more layers than this is made into one before the next version is published, even
    /// while others read the layers. The kernel's own limit is 500.
    pub most_depth: usize,
}

impl Default for VolumeSettings {
    fn default() -> Self {
        Self {
            defaults: PolicyPatch::default(),
            rules: Vec::new(),
            reserve: Space::default(),
            depth: 4,
            most_depth: 64,
        }
    }
}

impl VolumeSettings {
    /// Returns true if `driver` is asked for anywhere.
    pub(crate) fn wants(&self, driver: Driver) -> bool {
        let patches = self.rules.iter().map(|rule| &rule.policy).chain([&self.defaults]);
        patches.into_iter().any(|patch| patch.driver == Some(driver))
    }

    /// Returns what holds for the volume `name`, about which `own` was decided by name.
    pub fn policy(&self, name: &VolumeName, own: &PolicyPatch) -> Policy {
        let mut policy = Policy::default();
        self.defaults.apply(&mut policy);
        for rule in self.rules.iter().filter(|rule| rule.matches(name)) {
            rule.policy.apply(&mut policy);
        }
        own.apply(&mut policy);
        policy
    }
}
