//! Volumes on this disk, with or without a daemon beside.

use std::path::Path;

use mount::HostPath;
use volumes::{VolumeManager, VolumeSettings};

use crate::failure::{Failure, Kind};

/// Where volumes are in a daemon's root directory.
const VOLUMES: &str = "volumes";

/// Opens the volumes of a daemon's root directory, as its operator has decided about them; makes the
/// directory if there is none.
pub(crate) async fn open(root: &Path) -> Result<VolumeManager, Failure> {
    let cannot = || format!("cannot open the volumes of `{}`", root.display());
    let absolute = std::path::absolute(root).map_err(|error| Failure::because(cannot(), error))?;
    let root = HostPath::new(absolute).map_err(|error| Failure::because(cannot(), error))?;
    let volumes = root.join(VOLUMES);
    let settings = VolumeSettings::saved(&volumes)?;
    Ok(VolumeManager::open(volumes, settings).await?)
}

/// As [`open`], but there has to be something: to look at volumes must not make any.
pub(crate) async fn open_existing(root: &Path) -> Result<VolumeManager, Failure> {
    if !root.join(VOLUMES).is_dir() {
        let text = format!("`{}` is not the root directory of a daemon", root.display());
        return Err(Failure::new(Kind::NotFound, text));
    }
    open(root).await
}
