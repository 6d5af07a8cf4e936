//! What a crash has left behind is found and deleted, while the volumes are in use.

use std::io;
use std::sync::Arc;

use filelock::{FileLock, LockError, Mode};
use mount::HostPath;

use crate::VolumeError;
use crate::store::{Store, Volume, lock_error};
use crate::tidy::{Tidying, delete};

/// Deletes everything that no volume needs and nobody is using, and ends what the dead have begun.
/// A volume that is damaged is left as it is.
pub(crate) fn sweep(store: &Arc<Store>) -> Result<(), VolumeError> {
    delete(store, &entries(&store.layout.trash())?);
    let making = store.layout.making();
    match FileLock::try_acquire(making.as_path(), Mode::Exclusive, None) {
        Ok(_nobody_makes_anything) => delete(store, &entries(&store.layout.limbo())?),
        Err(LockError::Held { .. }) => {}
        Err(error) => return Err(lock_error(error)),
    }
    for key in store.keys()? {
        let swept = match store.by_key(key) {
            Ok(Some(volume)) => sweep_volume(store, &volume),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = swept {
            tracing::warn!(volume.id = %key, error = &error as &dyn std::error::Error,
                "a volume was not swept");
        }
    }
    Ok(())
}

fn sweep_volume(store: &Arc<Store>, volume: &Volume) -> Result<(), VolumeError> {
    let mut tidying = Tidying::new(store.clone()).thorough();
    let mut orphans = Vec::new();
    if let Some(mut gate) = volume.enter()? {
        if gate.bury(&mut orphans)? {
            store.wakes.signal(volume.key);
        }
        if gate.trim(None) {
            gate.commit()?;
        }
        let trash = gate.collect()?;
        let deep = gate.state.head_layers().len() > store.settings.depth;
        drop(gate);
        tidying.add(volume, trash, orphans, deep);
    }
    tidying.run();
    Ok(())
}

fn entries(directory: &HostPath) -> Result<Vec<HostPath>, VolumeError> {
    let failed = || VolumeError::system("list", directory.as_path());
    let names = std::fs::read_dir(directory.as_path())
        .map_err(failed())?
        .map(|entry| entry.map(|entry| directory.join(entry.file_name())));
    names.collect::<io::Result<_>>().map_err(failed())
}
