//! What the user of a step is to be told about its volumes when it has ended: that writes were not
//! kept though the step did nothing wrong, or why it may have failed.

use std::fmt;

use crate::{Quota, Space, VolumeName};

/// Something that the user of a step would not expect. Its text is for them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// With what the step wrote the volume would be over its quota, so it was not published.
    OverQuota {
        /// The volume.
        volume: VolumeName,
        /// What it would take.
        space: Space,
        /// What it may take.
        quota: Quota,
    },
    /// Another step published first, and the volume's policy is that the first one does.
    Overtaken {
        /// The volume.
        volume: VolumeName,
    },
    /// The volume was reset or rolled back while the step had it.
    CutOff {
        /// The volume.
        volume: VolumeName,
    },
    /// A step failed, and the disk of the volumes is full.
    DiskFull {
        /// What is free.
        free: Space,
    },
}

/// Less than this is nothing: a step cannot do with it what it is for.
const NOTHING: Space = Space { bytes: 1 << 20, inodes: 16 };

impl Notice {
    /// Returns the notice that a disk is full with so much `free`, if it is.
    pub(crate) fn of_free(free: Space) -> Option<Self> {
        let full = free.bytes < NOTHING.bytes || free.inodes < NOTHING.inodes;
        full.then_some(Self::DiskFull { free })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverQuota { volume, space, quota } => {
                let id = volume.shown_id();
                write!(
                    f,
                    "cache volume `{id}` keeps nothing of what this step wrote: with it the "
                )?;
                write!(f, "volume would take {}", Shown(space.bytes, space.inodes))?;
                let over_bytes = quota.bytes.filter(|most| space.bytes > *most);
                let over_inodes = quota.inodes.filter(|most| space.inodes > *most);
                match (over_bytes, over_inodes) {
                    (Some(most), _) => write!(f, ", and its quota is {}", Bytes(most))?,
                    (None, most) => {
                        write!(f, ", and its quota is {} files", most.unwrap_or_default())?;
                    }
                }
                write!(
                    f,
                    "; raise the `quota` of its policy, have the step write less, or begin "
                )?;
                write!(f, "again with `larder volume reset`")
            }
            Self::Overtaken { volume } => write!(
                f,
                "cache volume `{}` keeps nothing of what this step wrote: another step published \
                 first (the policy's `merge = \"first-writer\"`)",
                volume.shown_id()
            ),
            Self::CutOff { volume } => write!(
                f,
                "cache volume `{}` keeps nothing of what this step wrote: it was reset or rolled \
                 back meanwhile",
                volume.shown_id()
            ),
            Self::DiskFull { free } => write!(
                f,
                "the disk of the cache volumes is full: {} are free; make room with `docker buildx \
                 prune` or `larder volume prune`, or have it kept free with `reserve`",
                Shown(free.bytes, free.inodes)
            ),
        }
    }
}

/// Bytes in the units of people, as `docker buildx du` shows them.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut unit) = (self.0, "B");
        let mut tenths = 0;
        for larger in ["kB", "MB", "GB", "TB"] {
            if rest < 1000 {
                break;
            }
            (tenths, rest, unit) = (rest % 1000 / 100, rest / 1000, larger);
        }
        if tenths == 0 { write!(f, "{rest}{unit}") } else { write!(f, "{rest}.{tenths}{unit}") }
    }
}

/// Bytes and files.
struct Shown(u64, u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} files", Bytes(self.0), self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_units_of_people() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (3_250_000, "3.2MB"),
            (5_000_000_000, "5GB"),
            (u64::MAX, "18446744TB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_notice_names_the_volume_its_size_its_quota_and_the_remedy() {
        let volume = VolumeName::new("default", "npm").unwrap();
        let space = Space { bytes: 3_100_000, inodes: 7 };
        let bytes = Quota { bytes: Some(1_000_000), inodes: Some(100) };
        let notice = Notice::OverQuota { volume: volume.clone(), space, quota: bytes };
        assert_eq!(
            notice.to_string(),
            "cache volume `npm` keeps nothing of what this step wrote: with it the volume would take \
             3.1MB and 7 files, and its quota is 1MB; raise the `quota` of its policy, have the step \
             write less, or begin again with `larder volume reset`"
        );
        let inodes = Quota { bytes: Some(4_000_000), inodes: Some(5) };
        let notice = Notice::OverQuota { volume, space, quota: inodes };
        assert!(notice.to_string().contains("its quota is 5 files;"), "{notice}");
    }

    #[test]
    fn a_disk_is_full_when_a_step_could_do_nothing_with_what_is_left() {
        let plenty = Space { bytes: 1 << 30, inodes: 1 << 20 };
        assert_eq!(Notice::of_free(plenty), None);
        for free in [Space { bytes: 4096, ..plenty }, Space { inodes: 0, ..plenty }] {
            assert_eq!(Notice::of_free(free), Some(Notice::DiskFull { free }));
        }
    }
}
