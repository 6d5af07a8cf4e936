//! Whether a file or a directory is still as it was when it was read.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The clock of a file system moves in ticks of at most a hundredth of a second, unless it counts whole
/// seconds. A change in the tick of the look before cannot be seen by its time.
const TICK: Duration = Duration::from_millis(50);

/// By which it is seen that something has not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Looks at what is at `path`, before it is read. None if it changed so lately, or its file system
    /// counts so coarsely, that a change from now on could go unseen.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        let stat = rustix::fs::lstat(path)?;
        let stamp = Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime, stat.st_ctime_nsec as i64),
        };
        Ok(Some(stamp).filter(|stamp| stamp.is_settled(SystemTime::now())))
    }

    /// Returns true if the tick in which it last changed is over. A time to come, after the clock was
    /// set back, says nothing.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(rest)) =
            (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, rest));
        let age = changed.and_then(|changed| now.duration_since(changed).ok());
        rest != 0 && age.is_some_and(|age| age > TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(changed: (i64, i64)) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified: (4, 5), changed }
    }

    #[test]
    fn only_what_lies_back_far_enough_is_settled() {
        let at = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        let changed = stamp((10, 1_000_000));
        for (now, settled) in [(10_001, false), (10_051, false), (10_052, true), (9_000, false)] {
            assert_eq!(changed.is_settled(at(now)), settled, "{now}");
        }
        assert!(!stamp((10, 0)).is_settled(at(60_000)), "a clock of whole seconds");
        assert!(!stamp((-1, 5)).is_settled(at(60_000)));
    }

    #[test]
    fn what_was_just_made_has_no_stamp() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Stamp::of(file.path()).unwrap(), None);
        assert!(Stamp::of(&file.path().join("no")).is_err());
        let old = Stamp::of(Path::new("/proc/self/../../usr")).unwrap();
        assert_eq!(old, Stamp::of(Path::new("/usr")).unwrap());
    }
}
