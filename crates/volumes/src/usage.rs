//! How often a volume is used and how much disk it takes. Statistics: a crash may lose the last.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;

use mount::HostPath;
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

    /// Returns the record after some more uses.
    pub(crate) fn used(self, times: u64) -> Self {
        Self { last_used: now(), uses: self.uses + times }
    }

    /// Writes the record; it is not synced, and a failure is of no consequence.
    pub(crate) fn write(self, paths: &VolumePaths) {
        write(&paths.usage(), &self);
    }
}

/// How much disk a volume takes; there only while that does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// None while somebody measures.
    space: Option<Space>,
    /// Whose measurement it is.
    token: u64,
}

impl Measured {
    /// Says that a measurement begins. Whatever changes the volume from here on ends it.
    pub(crate) fn begin(paths: &VolumePaths) -> Self {
        let begun = Self { space: None, token: rand::random() };
        write(&paths.measured(), &begun);
        begun
    }

    /// Says what was measured, unless the volume has changed since. Called inside the gate.
    pub(crate) fn end(self, paths: &VolumePaths, space: Space) {
        let now: Option<Self> = document::read(paths.measured().as_path()).ok().flatten();
        if now == Some(self) {
            write(&paths.measured(), &Self { space: Some(space), ..self });
        }
    }
}

/// Returns how much disk a volume took when it was measured; none if it may have changed since.
pub(crate) fn measured(paths: &VolumePaths) -> Option<Space> {
    let measured: Option<Measured> = document::read(paths.measured().as_path()).ok().flatten();
    measured?.space
}

/// Forgets how much disk a volume took: it is about to change.
pub(crate) fn forget_measured(paths: &VolumePaths) -> io::Result<()> {
    match std::fs::remove_file(paths.measured().as_path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &HostPath, body: &impl Serialize) {
    let written = document::encode(body).and_then(|bytes| {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path.as_path())?;
        file.write_all_at(&bytes, 0)?;
        file.set_len(bytes.len() as u64)
    });
    if let Err(error) = written {
        tracing::debug!(%error, "statistics of a volume were not written");
    }
}
