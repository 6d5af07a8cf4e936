//! How often a volume is used and how much disk it takes. Statistics: a crash may lose the last.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::layout::VolumePaths;
use crate::state::now;
use crate::{Space, document};

/// What is known about the use of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct UsageRecord {
    /// When it was last used, in milliseconds of the epoch; 0 for never.
    pub(crate) last_used: u64,
    /// How many leases have ended.
    pub(crate) uses: u64,
    /// How much disk it took when last measured, unless it was used or changed since.
    pub(crate) measured: Option<Space>,
}

impl UsageRecord {
    /// Returns what is known about the volume at `paths`; nothing if the record is lost.
    pub(crate) fn read(paths: &VolumePaths) -> Self {
        let path = paths.usage();
        document::read(path.as_path())
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "statistics of a volume are lost");
                None
            })
            .unwrap_or_default()
    }

    /// Returns the record after one more use.
    pub(crate) fn used(self) -> Self {
        Self { last_used: now(), uses: self.uses + 1, measured: None }
    }

    /// Returns the record after the trees changed without a use.
    pub(crate) fn unmeasured(self) -> Self {
        Self { measured: None, ..self }
    }

    /// Writes the record; it is not synced, and a failure is of no consequence.
    pub(crate) fn write(self, paths: &VolumePaths) {
        let path = paths.usage();
        let written = document::encode(&self).and_then(|bytes| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(path.as_path())?;
            file.write_all_at(&bytes, 0)?;
            file.set_len(bytes.len() as u64)
        });
        if let Err(error) = written {
            tracing::debug!(%error, "statistics of a volume were not written");
        }
    }
}
