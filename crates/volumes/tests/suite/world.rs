//! A root with volumes in it, and steps that use them.
#![allow(unreachable_pub, reason = "a test binary has no outside")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::sync::Arc;

use mount::{HostPath, Mount, MountSource};
use parking_lot::Mutex;
use tasks::Task;
use tokio::sync::watch;
use volumes::{
    Driver, Label, LeaseRequest, Leases, MountRequest, Outcome, Seed, Sharing, Unobserved, Variant,
    VariantKey, VolumeError, VolumeKey, VolumeManager, VolumeName, VolumeRecord, VolumeSettings,
    WaitObserver, Waiting,
};

pub struct World {
    pub manager: VolumeManager,
    pub root: tempfile::TempDir,
    seeds: Mutex<Vec<tempfile::TempDir>>,
    _mounted: Option<Mounted>,
}

/// A file system of its own, in a file or in memory, until dropped.
pub struct Mounted {
    pub path: PathBuf,
    _image: tempfile::TempDir,
}

impl Mounted {
    /// Makes one in a file; none if that cannot be done here.
    pub fn new(file_system: &str) -> Option<Self> {
        // In memory where that goes: these tests sync all the time.
        let memory = std::path::Path::new("/dev/shm");
        let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(directory).unwrap();
        let (image, path) = (directory.path().join("image"), directory.path().join("mounted"));
        fs::create_dir(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
        let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
            #[expect(clippy::disallowed_methods, reason = "file systems are made by programs")]
            let mut command = std::process::Command::new(program);
            command.args(arguments).output().is_ok_and(|output| output.status.success())
        };
        if !run(&format!("mkfs.{file_system}"), &["-q".as_ref(), image.as_os_str()]) {
            eprintln!("no mkfs.{file_system} here: not tried");
            return None;
        }
        let loop_mount = ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), path.as_os_str()];
        assert!(run("mount", &loop_mount), "{file_system} is made and cannot be mounted");
        Some(Self { path, _image: directory })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        rustix::mount::unmount(&self.path, flags).unwrap();
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(VolumeSettings::default()).await
    }

    pub async fn with(settings: VolumeSettings) -> Self {
        let root = tempfile::tempdir().unwrap();
        let manager = open(root.path().into(), settings).await;
        Self { manager, root, seeds: Mutex::default(), _mounted: None }
    }

    /// Opens volumes on a file system of its own, in a file; none if it cannot be made here.
    pub async fn on(file_system: &str, settings: VolumeSettings) -> Option<Self> {
        Some(Self::at(Mounted::new(file_system)?, settings).await)
    }

    async fn at(mounted: Mounted, settings: VolumeSettings) -> Self {
        let root = tempfile::tempdir_in(&mounted.path).unwrap();
        let manager = open(root.path().into(), settings).await;
        Self { manager, root, seeds: Mutex::default(), _mounted: Some(mounted) }
    }

    /// Opens volumes on a file system of its own of `size` bytes, in memory.
    pub async fn on_memory(size: u64) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().to_owned();
        let tmpfs = MountSource::Tmpfs { size: Some(size), mode: 0o700 };
        let tmpfs = mount::detached::open(&Mount { source: tmpfs, readonly: false }).unwrap();
        tmpfs.attach(&HostPath::new(&path).unwrap()).unwrap();
        Self::at(Mounted { path, _image: place }, VolumeSettings::default()).await
    }

    pub fn request(&self, id: &str, sharing: Sharing) -> LeaseRequest {
        request(id, sharing)
    }

    pub async fn take(&self, id: &str, sharing: Sharing) -> Leases {
        self.take_with(id, sharing, |_| ()).await
    }

    pub async fn take_with(
        &self,
        id: &str,
        sharing: Sharing,
        change: impl FnOnce(&mut MountRequest),
    ) -> Leases {
        let mut request = request(id, sharing);
        change(&mut request.mounts[0]);
        self.manager.acquire(request, &Unobserved).await.unwrap()
    }

    pub fn spawn_take(
        &self,
        id: &str,
        sharing: Sharing,
        told: &Told,
    ) -> Task<Result<Leases, VolumeError>> {
        let (manager, request, told) = (self.manager.clone(), request(id, sharing), told.clone());
        tasks::spawn("step", async move { manager.acquire(request, &told).await })
    }

    /// Puts files into a volume by a step that succeeds.
    pub async fn fill(&self, id: &str, files: &[(&str, &str)]) {
        let lease = self.take(id, Sharing::Locked).await;
        let tree = mounted(&lease.mount(0).unwrap());
        for (name, content) in files {
            tree.write(name, content);
        }
        drop(tree);
        lease.finish(Outcome::Succeeded).await.unwrap();
    }

    /// The names in the root of the head, seen without a lease: once more if layers of it were put
    /// together meanwhile.
    pub async fn head(&self, id: &str) -> Vec<String> {
        loop {
            let head = self.manager.path(key(id)).await.unwrap().head;
            let seen = try_mounted(&view(head.clone())).map(|tree| tree.names());
            if self.manager.path(key(id)).await.unwrap().head == head {
                return seen.unwrap();
            }
        }
    }

    pub async fn record(&self, id: &str) -> VolumeRecord {
        self.manager.inspect(key(id)).await.unwrap()
    }

    /// How many layers are on disk.
    pub async fn layers(&self, id: &str) -> usize {
        let location = self.manager.path(key(id)).await.unwrap();
        fs::read_dir(location.layers.as_path()).unwrap().count()
    }

    pub fn seed(&self, files: &[(&str, &str)]) -> Variant {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let layers = vec![HostPath::new(directory.path()).unwrap()];
        self.seeds.lock().push(directory);
        Variant { key: VariantKey::new(digests::Digest::of("seed")), seed: Seed { layers } }
    }
}

pub async fn open(root: PathBuf, mut settings: VolumeSettings) -> VolumeManager {
    #[expect(
        clippy::disallowed_methods,
        reason = "how the suite is run once more by another driver"
    )]
    let said = std::env::var("VOLUMES_DRIVER");
    if said.is_ok_and(|driver| driver == "subvolume") && is_on_btrfs(&root) {
        settings.defaults.driver = settings.defaults.driver.or(Some(Driver::Subvolume));
    }
    let manager = VolumeManager::open(HostPath::new(root).unwrap(), settings).await.unwrap();
    manager.sweep().await.unwrap();
    manager
}

pub fn is_on_btrfs(path: &std::path::Path) -> bool {
    is_on(path, 0x9123_683E)
}

pub fn is_on_xfs(path: &std::path::Path) -> bool {
    is_on(path, 0x5846_5342)
}

/// The number is the one of `statfs(2)`.
fn is_on(path: &std::path::Path, file_system: u64) -> bool {
    u64::try_from(rustix::fs::statfs(path).unwrap().f_type) == Ok(file_system)
}

pub fn name(id: &str) -> VolumeName {
    VolumeName::new("default", id).unwrap()
}

pub fn key(id: &str) -> VolumeKey {
    name(id).key()
}

pub fn label() -> Label {
    Label { build: "b1".to_owned(), step: "RUN make".to_owned() }
}

pub fn request(id: &str, sharing: Sharing) -> LeaseRequest {
    LeaseRequest { mounts: vec![MountRequest::new(name(id), sharing)], holder: label() }
}

/// The read-only mount of some layers.
pub fn view(lower: Vec<HostPath>) -> Mount {
    let source = match &lower[..] {
        [single] => MountSource::Bind(single.clone()),
        _ => MountSource::Overlay { lower, upper: None },
    };
    Mount { source, readonly: true }
}

/// A wait observer whose observations can be waited for.
#[derive(Clone)]
pub struct Told(Arc<watch::Sender<Vec<Waiting>>>, Arc<Mutex<(usize, bool)>>);

impl Default for Told {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())), Arc::default())
    }
}

impl Told {
    /// The next thing that was told about the wait.
    pub async fn waiting(&self) -> Waiting {
        let next = self.1.lock().0;
        let mut receiver = self.0.subscribe();
        let told = receiver.wait_for(|told| told.len() > next).await.unwrap()[next].clone();
        self.1.lock().0 += 1;
        told
    }

    pub fn is_acquired(&self) -> bool {
        self.1.lock().1
    }
}

impl WaitObserver for Told {
    fn waiting(&self, waiting: &Waiting) {
        self.0.send_modify(|told| told.push(waiting.clone()));
    }

    fn acquired(&self, _: &VolumeName, _: std::time::Duration) {
        self.1.lock().1 = true;
    }
}

/// A mount as a step sees it, until dropped.
pub struct Tree {
    pub path: PathBuf,
    mountpoint: Option<tempfile::TempDir>,
}

/// Performs a mount as an executor would.
pub fn mounted(mount: &Mount) -> Tree {
    try_mounted(mount).unwrap()
}

fn try_mounted(mount: &Mount) -> Result<Tree, mount::MountError> {
    if let MountSource::Bind(path) = &mount.source {
        return Ok(Tree { path: path.as_path().to_owned(), mountpoint: None });
    }
    let mountpoint = tempfile::tempdir().unwrap();
    let target = HostPath::new(mountpoint.path()).unwrap();
    mount::detached::open(mount)?.attach(&target)?;
    Ok(Tree { path: mountpoint.path().to_owned(), mountpoint: Some(mountpoint) })
}

impl Tree {
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path.join(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path.join(name)).ok()
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Names with their contents.
    pub fn listing(&self) -> Vec<String> {
        self.names().iter().map(|n| format!("{n}={}", self.read(n).unwrap())).collect()
    }

    pub fn root(&self) -> (u32, u32, u32) {
        let metadata = fs::metadata(&self.path).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    }

    pub fn set_root(&self, uid: u32, gid: u32, mode: u32) {
        chown(&self.path, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(mountpoint) = &self.mountpoint {
            // Another test may be starting a process just now, with our files open in it for a moment.
            let flags = rustix::mount::UnmountFlags::DETACH;
            rustix::mount::unmount(mountpoint.path(), flags).unwrap();
        }
    }
}

/// Starts one of this binary's tests as a second process, with a root and an errand.
pub fn second(test: &str, root: &std::path::Path, errand: &str) -> std::process::Child {
    #[expect(clippy::disallowed_methods, reason = "volumes of several processes need several")]
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env("VOLUMES_ROOT", root)
        .env("VOLUMES_ERRAND", errand)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::inherit())
        .spawn()
        .unwrap()
}

/// What this process was started for, if it is a second one.
pub fn errand() -> Option<(PathBuf, String)> {
    #[expect(clippy::disallowed_methods, reason = "how the first process says what to do")]
    let said = |name| std::env::var(name).ok();
    Some((said("VOLUMES_ROOT")?.into(), said("VOLUMES_ERRAND")?))
}
