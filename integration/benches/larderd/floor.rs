//! The least that a step can cost on this machine, now: the namespaces, an overlay, the root, the command.

use std::fs;
use std::path::Path;
use std::time::Duration;

use executor::Network;
use mount::{HostPath, OverlayUpper, Syncing};

use crate::report::median;

const ROUNDS: usize = 200;

/// The least that things can cost on this machine.
pub(crate) struct Floor {
    /// A step that does nothing.
    pub(crate) step: Duration,
}

impl Floor {
    /// Measures it. The process must have one thread.
    pub(crate) fn measure() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let host = |name: &str| HostPath::new(directory.path().join(name));
        make_image(directory.path())?;
        let bare = executor::Floor {
            lower: host("image")?,
            upper: OverlayUpper {
                upper: host("upper")?,
                work: host("work")?,
                syncing: Syncing::Owner,
            },
            place: host("place")?,
            network: Network::Host,
        };
        let times = (0..ROUNDS).map(|_| bare.run("/bin/true"));
        Ok(Self { step: median(times.collect::<Result<_, _>>()?) })
    }
}

fn make_image(directory: &Path) -> anyhow::Result<()> {
    for name in ["image/bin", "image/proc", "image/sys", "image/dev", "upper", "work", "place"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::copy("/bin/busybox", directory.join("image/bin/busybox"))?;
    std::os::unix::fs::symlink("busybox", directory.join("image/bin/true"))?;
    Ok(())
}
