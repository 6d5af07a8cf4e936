//! What happens to volumes, told to whoever counts it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Origin, VolumeManager, VolumeName};

/// Something that happened to a volume in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeEvent {
    /// Somebody had to wait for a lease, and got it or gave up after this long.
    Waited(Duration),
    /// A lease began with a layer or a copy of its own above the head.
    Forked,
    /// What was written became the head.
    Published(Origin),
    /// What was written in a layer was thrown away.
    Discarded,
    /// The volume was removed to make space, or because it was not used any more.
    Evicted,
}

/// Is told what happens to volumes. Called where it happens, so it must not block.
pub trait VolumeObserver: Send + Sync + fmt::Debug {
    /// `event` happened to `volume`.
    fn observe(&self, volume: &VolumeName, event: VolumeEvent);
}

/// Where to tell what happens: to nobody, or to one observer.
#[derive(Debug, Default)]
pub(crate) struct Observed(std::sync::OnceLock<Arc<dyn VolumeObserver>>);

impl Observed {
    pub(crate) fn tell(&self, volume: &VolumeName, event: VolumeEvent) {
        if let Some(observer) = self.0.get() {
            observer.observe(volume, event);
        }
    }
}

impl VolumeManager {
    /// Tells `observer` from now on what this process does to volumes. Returns false if there is an
    /// observer already; it stays.
    pub fn observe(&self, observer: Arc<dyn VolumeObserver>) -> bool {
        self.store.observed.0.set(observer).is_ok()
    }
}
