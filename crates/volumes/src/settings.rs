//! What an operator decides for all volumes of a root.

use mount::HostPath;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::{Driver, Policy, PolicyPatch, PolicyRule, Space, VolumeError, VolumeName, document};

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where the settings are kept, below the root.
const SAVED: &str = "settings";

impl VolumeSettings {
    /// Returns what [`VolumeSettings::save`] kept at `root`; the defaults if nothing was.
    ///
    /// # Errors
    /// [`VolumeError::Damaged`] if it cannot be understood.
    pub fn saved(root: &HostPath) -> Result<Self, VolumeError> {
        document::read(root.join(SAVED).as_path()).map(Option::unwrap_or_default)
    }

    /// Keeps these settings at `root`, so that a program without a configuration of its own does to
    /// the volumes there what was decided for them.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, root: &HostPath) -> Result<(), VolumeError> {
        let path = root.join(SAVED);
        let written = document::encode(self)
            .and_then(|bytes| Disk::default().replace(path.as_path(), &bytes));
        written.map_err(VolumeError::system("write", path.as_path()))
    }

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
