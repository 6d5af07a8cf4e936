//! All volumes of a root, and the way to a single one.

use std::io;
use std::sync::{Arc, OnceLock};

use filelock::{FileLock, Label, LockError, Mode};
use mount::HostPath;

use crate::disk::Disk;
use crate::document::{self, FORMAT};
use crate::ground;
use crate::idle::Idle;
use crate::layout::{LayerId, Layout, VolumePaths, format_of};
use crate::observe::Observed;
use crate::state::{Origin, Root, State};
use crate::tree::{self, Means, View};
use crate::wake::Wakes;
use crate::{
    Driver, Neighbour, Policy, RootAttributes, Seed, VolumeError, VolumeEvent, VolumeKey,
    VolumeName, VolumeSettings,
};

/// All volumes of a root.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) layout: Layout,
    pub(crate) disk: Disk,
    pub(crate) settings: VolumeSettings,
    pub(crate) wakes: Wakes,
    pub(crate) idle: Idle,
    pub(crate) observed: Observed,
    /// Who gives way before volumes do, if anybody does.
    pub(crate) neighbour: OnceLock<Arc<dyn Neighbour>>,
    /// True if files can be copied without copying their content.
    pub(crate) reflinks: bool,
    /// True on btrfs, where a layer's tree may be one that is forked as a whole.
    pub(crate) btrfs: bool,
    /// True if such trees can be made.
    pub(crate) subvolumes: bool,
}

/// One volume; that it is there is not said.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) store: Arc<Store>,
    pub(crate) key: VolumeKey,
    pub(crate) name: VolumeName,
    pub(crate) paths: VolumePaths,
}

/// What a volume begins with, should it not be there.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) seed: Option<Seed>,
    pub(crate) by: Label,
}

impl Store {
    /// Opens the volumes under `root`, and makes the directories for them if it is empty.
    pub(crate) fn open(
        root: &HostPath,
        settings: VolumeSettings,
        disk: Disk,
    ) -> Result<Self, VolumeError> {
        let layout = Layout::new(root);
        refuse_newer(root)?;
        let directories = [layout.format().clone(), layout.empty(), layout.limbo(), layout.trash()]
            .into_iter()
            .chain([layout.seeding(), layout.volumes()]);
        std::fs::create_dir_all(root.as_path())
            .map_err(VolumeError::system("make", root.as_path()))?;
        for directory in directories {
            disk.ensure_directory(directory.as_path()).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    VolumeError::damaged(directory.as_path(), "a file where a directory should be")
                }
                _ => VolumeError::system("make", directory.as_path())(error),
            })?;
        }
        let (wakes, idle) = (Wakes::default(), Idle::default());
        let reflinks = tree::has_reflinks(layout.format().as_path());
        if !reflinks && settings.wants(Driver::Reflink) {
            return Err(VolumeError::NoReflinks(root.as_path().to_owned()));
        }
        let btrfs = ground::is_btrfs(&layout);
        let subvolumes = match ground::probe(&layout)? {
            Ok(()) => true,
            Err(source) if settings.wants(Driver::Subvolume) => {
                let path = root.as_path().to_owned();
                return Err(VolumeError::NoSubvolumes { path, source });
            }
            Err(_) => false,
        };
        let (observed, neighbour) = (Observed::default(), OnceLock::new());
        Ok(Self {
            layout,
            disk,
            settings,
            wakes,
            idle,
            observed,
            neighbour,
            reflinks,
            btrfs,
            subvolumes,
        })
    }

    /// Returns the volume called `name`, which may have to be made.
    pub(crate) fn volume(self: &Arc<Self>, name: VolumeName) -> Volume {
        let key = name.key();
        Volume { store: self.clone(), key, paths: self.layout.volume(key), name }
    }

    /// Returns the keys of all volumes.
    pub(crate) fn keys(&self) -> Result<Vec<VolumeKey>, VolumeError> {
        let directory = self.layout.volumes();
        let failed = || VolumeError::system("list", directory.as_path());
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(directory.as_path()).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            match name.to_str().map(str::parse) {
                Some(Ok(key)) => keys.push(key),
                _ => tracing::warn!(name = %name.display(), "not a volume, left alone"),
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Returns the volume whose key is `key`; none if there is none.
    pub(crate) fn by_key(self: &Arc<Self>, key: VolumeKey) -> Result<Option<Volume>, VolumeError> {
        let paths = self.layout.volume(key);
        if !paths.directory().as_path().exists() {
            return Ok(None);
        }
        let path = paths.name();
        let name: VolumeName = document::read(path.as_path())?
            .ok_or_else(|| VolumeError::damaged(path.as_path(), "it is missing"))?;
        if name.key() != key {
            return Err(VolumeError::damaged(path.as_path(), "it is the name of another volume"));
        }
        Ok(Some(Volume { store: self.clone(), key, name, paths }))
    }

    /// Moves what is at `path` out of sight in one instant, to be deleted at leisure.
    pub(crate) fn discard(&self, path: &HostPath) -> io::Result<HostPath> {
        let target = self.layout.trash().join(LayerId::invent().to_string());
        self.disk.rename(path.as_path(), target.as_path())?;
        Ok(target)
    }
}

impl Volume {
    /// Tells whoever counts it that something happened to this volume.
    pub(crate) fn tell(&self, event: VolumeEvent) {
        self.store.observed.tell(&self.name, event);
    }

    /// Returns what holds for this volume in the given state.
    pub(crate) fn policy(&self, state: &State) -> Policy {
        self.store.settings.policy(&self.name, &state.policy)
    }

    /// Makes the volume, unless somebody else makes it first.
    pub(crate) fn create(&self, beginning: &Beginning) -> Result<(), VolumeError> {
        let origin = if beginning.seed.is_some() { Origin::Seeded } else { Origin::Created };
        let by = beginning.by.clone();
        let Some(seed) = &beginning.seed else { return self.make(origin, by, None, |_, _| Ok(())) };
        // Seeding takes as long as copying does: once is enough.
        let lock = self.store.layout.seeding().join(self.key.to_string());
        let turn = FileLock::acquire(lock.as_path(), Mode::Exclusive, None).map_err(lock_error)?;
        if self.paths.directory().as_path().exists() {
            return turn.remove().map_err(lock_error);
        }
        self.make(origin, by, None, |paths, state| {
            let tree = paths.tree(state.head_layers()[0]);
            let failed = || VolumeError::system("seed", tree.as_path());
            let seed = View::open(&seed.layers).map_err(failed())?;
            tree::transfer(&seed, tree.as_path(), Means::Copy, &mut || Ok(())).map_err(failed())?;
            let root = tree::root_attributes(tree.as_path()).map_err(failed())?;
            state.remember_root(RootAttributes::default(), root);
            self.store.disk.sync_tree(tree.as_path()).map_err(failed())
        })?;
        turn.remove().map_err(lock_error)
    }

    /// Makes the volume beside its place, has it filled, and puts it there in one instant. Its tree is a
    /// fork of `from`, or empty to begin with.
    pub(crate) fn make(
        &self,
        origin: Origin,
        by: Label,
        from: Option<&HostPath>,
        fill: impl FnOnce(&VolumePaths, &mut State) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let (disk, layout) = (&self.store.disk, &self.store.layout);
        let making = layout.making();
        let _made = FileLock::acquire(making.as_path(), Mode::Shared, None).map_err(lock_error)?;
        let paths = VolumePaths::at(layout.limbo().join(LayerId::invent().to_string()));
        let beside = paths.directory().as_path();
        let layer = LayerId::invent();
        let mut state = State::new(layer, origin, Some(by));
        let written = (|| {
            let (volume, tree) = (paths.directory().clone(), paths.tree(layer));
            for path in [volume, paths.turns(), paths.layers(), paths.layer(layer)] {
                let failed = VolumeError::system("make", path.as_path());
                disk.make_directory(path.as_path()).map_err(failed)?;
            }
            match from {
                Some(from) => self.fork_tree(from, &tree)?,
                None => {
                    self.make_tree(&tree, &self.policy(&state))?;
                    let failed = VolumeError::system("open", tree.as_path());
                    let root = Root { uid: 0, gid: 0, mode: 0o755 };
                    tree::set_root(tree.as_path(), root).map_err(failed)?;
                }
            }
            fill(&paths, &mut state)?;
            self.write(&paths.name(), &self.name)?;
            self.write(&paths.state(), &state)?;
            self.put(beside)
        })();
        if written.is_err() {
            let _ = tree::remove_all(beside);
        }
        written
    }

    fn put(&self, beside: &std::path::Path) -> Result<(), VolumeError> {
        let (disk, target) = (&self.store.disk, self.paths.directory().as_path());
        match disk.rename(beside, target) {
            Ok(()) => {}
            // Somebody was first: their volume is as good. xfs says so in another way than the others.
            Err(error)
                if [io::ErrorKind::DirectoryNotEmpty, io::ErrorKind::AlreadyExists]
                    .contains(&error.kind()) =>
            {
                let _ = tree::remove_all(beside);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(VolumeError::damaged(target, "a file where a directory should be"));
            }
            Err(error) => return Err(VolumeError::system("make", target)(error)),
        }
        let directory = self.store.layout.volumes();
        let failed = VolumeError::system("sync", directory.as_path());
        disk.sync_directory(directory.as_path()).map_err(failed)
    }

    /// Replaces a document of the volume.
    pub(crate) fn write(
        &self,
        path: &HostPath,
        body: &impl serde::Serialize,
    ) -> Result<(), VolumeError> {
        let written = document::encode(body)
            .and_then(|bytes| self.store.disk.replace(path.as_path(), &bytes));
        written.map_err(VolumeError::system("write", path.as_path()))
    }
}

/// Refuses a root that a newer version has written.
fn refuse_newer(root: &HostPath) -> Result<(), VolumeError> {
    let entries = match std::fs::read_dir(root.as_path()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let reason = "a file where a directory should be";
            return Err(VolumeError::damaged(root.as_path(), reason));
        }
        Err(error) => return Err(VolumeError::system("list", root.as_path())(error)),
    };
    for entry in entries.flatten() {
        match format_of(entry.file_name().as_ref()) {
            Some(found) if found > FORMAT => {
                return Err(VolumeError::Newer { path: entry.path(), found, known: FORMAT });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Says which lock it was; a file in the place of a volume's directory is named as such.
pub(crate) fn lock_error(error: LockError) -> VolumeError {
    match error {
        LockError::System { path, source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
            let place = path.parent().unwrap_or(&path);
            VolumeError::damaged(place, "a file where a directory should be")
        }
        error => VolumeError::Lock(error),
    }
}
