//! Who holds a lock, as written into the lock's file.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Longest holder document that is read; anything above is not ours.
const LIMIT: usize = 64 * 1024;

/// The work a lock is held for, in words that a user knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// The build, or the command.
    pub build: String,
    /// The step of the build; empty if the holder is not a build.
    pub step: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.step.is_empty() {
            write!(f, "`{}`", self.build)
        } else {
            write!(f, "step `{}` of build `{}`", self.step, self.build)
        }
    }
}

/// Who holds a lock, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The holding process, as numbered where it runs.
    pub pid: u32,
    /// What it holds the lock for.
    pub label: Label,
    /// Since when, to the millisecond.
    #[serde(with = "milliseconds")]
    pub since: SystemTime,
}

impl Holder {
    /// Returns this process as a holder from now on.
    pub fn here(label: Label) -> Self {
        Self { pid: std::process::id(), label, since: SystemTime::now() }
    }

    /// Writes this holder into the lock's file, replacing what a former one wrote.
    pub(crate) fn write(&self, file: &File) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        // The text goes in by one call, so that a reader sees this holder or none.
        file.write_all_at(&text, 0)?;
        let length = text.len() as u64;
        // Most often the last holder was named just as long, and to set a length costs more than a look.
        if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
    }

    /// Reads the holder from a lock's file; none if there is no readable one.
    pub(crate) fn read(file: &File) -> Option<Self> {
        let mut text = vec![0; LIMIT];
        let mut length = 0;
        while length < text.len() {
            match file.read_at(&mut text[length..], length as u64).ok()? {
                0 => break,
                count => length += count,
            }
        }
        serde_json::from_slice(&text[..length]).ok()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.label, self.pid)
    }
}

/// A time as a number of milliseconds, so that the file can be read by people.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::{Deserialize, SystemTime, UNIX_EPOCH};

    pub(super) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let millis = u64::deserialize(deserializer)?;
        UNIX_EPOCH
            .checked_add(Duration::from_millis(millis))
            .ok_or_else(|| serde::de::Error::custom("time out of range"))
    }
}
