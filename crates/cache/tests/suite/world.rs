//! A root with layers in it, shown by the kernel's overlays.
#![allow(unreachable_pub, reason = "a test binary has no outside")]

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use cache::{
    CacheIndex, Collector, ImmutableRef, LayerInfo, LocalTrees, MetaStore, MutableRef, Refs,
};
use content::DiskStore;
use mount::{GuestPath, HostPath, RootDir};
use rustix::fs::{AtFlags, Mode, OFlags};
use snapshot::{CopySnapshotter, OverlaySnapshotter, Snapshotter};

pub struct World {
    pub root: tempfile::TempDir,
    pub meta: MetaStore,
    pub refs: Refs,
    pub trees: LocalTrees,
    pub index: CacheIndex,
}

impl World {
    pub async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    pub async fn open(root: tempfile::TempDir) -> Self {
        let layers = place(&root, "snapshots");
        let snapshotter = Arc::new(OverlaySnapshotter::open(layers).await.unwrap());
        Self::on(root, snapshotter).await
    }

    /// Returns a world whose layers are shown as copies.
    pub async fn of_copies() -> Self {
        let root = tempfile::tempdir().unwrap();
        let layers = place(&root, "snapshots");
        let snapshotter = Arc::new(CopySnapshotter::open(layers).await.unwrap());
        Self::on(root, snapshotter).await
    }

    async fn on(root: tempfile::TempDir, snapshotter: Arc<dyn Snapshotter>) -> Self {
        let meta = MetaStore::open(root.path()).unwrap();
        let content = Arc::new(DiskStore::open(place(&root, "content")).await.unwrap());
        let refs = Refs::open(meta.clone(), snapshotter, content).await.unwrap();
        let trees = LocalTrees::open(&refs).await.unwrap();
        let index = CacheIndex::open(&refs).await.unwrap();
        Self { root, meta, refs, trees, index }
    }

    /// Ends as a daemon does that is told to.
    pub async fn reopen(self) -> Self {
        self.trees.close().await;
        self.crash().await
    }

    /// Ends without a word; what was handed over is on disk.
    pub async fn crash(self) -> Self {
        let Self { root, meta, refs, trees, index } = self;
        meta.flush().await.unwrap();
        meta.close();
        drop((refs, trees, index, meta));
        Self::open(root).await
    }

    pub fn collector(&self) -> Collector {
        Collector::new(self.refs.clone(), self.trees.clone(), self.index.clone())
    }

    /// Makes a layer over `base` with these files.
    pub async fn layer(&self, base: &ImmutableRef, files: &[(&str, &str)]) -> ImmutableRef {
        let layer = self.start(base).await;
        let root = layer.root().unwrap();
        for (path, content) in files {
            put(&root, path, content);
        }
        drop(root);
        layer.commit().await.unwrap()
    }

    /// Makes a layer over `base` without this file.
    pub async fn without(&self, base: &ImmutableRef, path: &str) -> ImmutableRef {
        let layer = self.start(base).await;
        let path = GuestPath::new(path).unwrap();
        let root = layer.root().unwrap();
        let (directory, name) = root.parent_of(&path).unwrap().unwrap();
        rustix::fs::unlinkat(&directory, name, AtFlags::empty()).unwrap();
        drop((directory, root));
        layer.commit().await.unwrap()
    }

    pub async fn start(&self, base: &ImmutableRef) -> MutableRef {
        self.refs.new_layer(base, LayerInfo::regular("a step")).await.unwrap()
    }

    /// Returns all files of a tree with their contents.
    pub async fn files(&self, tree: &ImmutableRef) -> Vec<(String, String)> {
        let view = self.refs.view(tree).await.unwrap();
        let mut found = Vec::new();
        let root = view.root().unwrap();
        list(&root, &GuestPath::root(), &mut found);
        found
    }

    pub async fn layers_on_disk(&self) -> usize {
        self.refs.snapshotter().layers().await.unwrap().len()
    }
}

fn place(root: &tempfile::TempDir, name: &str) -> HostPath {
    HostPath::new(root.path().join(name)).unwrap()
}

pub fn put(root: &RootDir, path: &str, content: &str) {
    let path = GuestPath::new(path).unwrap();
    let parent = path.parent().unwrap();
    root.create_dir_all(&parent, Mode::from_raw_mode(0o755), |_| Ok(())).unwrap();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = root.open_at(&path, flags, Mode::from_raw_mode(0o644)).unwrap();
    std::fs::File::from(file).write_all(content.as_bytes()).unwrap();
}

fn list(root: &RootDir, path: &GuestPath, found: &mut Vec<(String, String)>) {
    let directory = root.open_dir(path).unwrap();
    let mut names: Vec<_> = rustix::fs::Dir::read_from(directory.as_fd())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .filter(|name| name != "." && name != "..")
        .collect();
    names.sort();
    for name in names {
        let path = path.join(&name).unwrap();
        match root.open_dir(&path) {
            Ok(_) => list(root, &path, found),
            Err(_) => {
                let mut content = String::new();
                root.open_file(&path).unwrap().read_to_string(&mut content).unwrap();
                found.push((path.to_string(), content));
            }
        }
    }
}

pub fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect()
}

pub fn host(path: &Path) -> HostPath {
    HostPath::new(path).unwrap()
}
