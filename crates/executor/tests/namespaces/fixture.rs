//! A small image made of busybox, and processes in it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use executor::{
    ContainerId, Executor, ExecutorConfig, ExecutorError, ExitStatus, LinuxExecutor, Output,
    ProcessIo, ProcessSpec, Running,
};
use mount::{GuestPath, HostPath, Mount, MountSource, OverlayUpper, Syncing};
use tokio::sync::mpsc;

const COMMANDS: &[&str] = &[
    "sh", "true", "false", "cat", "ls", "id", "sleep", "echo", "grep", "stat", "mount", "umount",
    "hostname", "env", "pwd", "dd", "kill", "ip", "mkdir", "rm", "rmdir", "ln", "touch", "chmod",
    "unshare", "mknod", "readlink", "ps", "stty", "tty", "wc", "head", "yes", "seq", "find",
    "test", "nproc", "ulimit", "sync", "setsid", "chown", "tr", "mv",
];

/// An image, a container's writable layer above it, and an executor.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    pub(crate) executor: LinuxExecutor,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Fixture {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ExecutorConfig)) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let image = directory.path().join("image");
        for name in ["image/bin", "image/etc", "image/tmp", "image/root", "image/var"] {
            fs::create_dir_all(directory.path().join(name))?;
        }
        for name in ["upper", "work", "outside"] {
            fs::create_dir_all(directory.path().join(name))?;
        }
        fs::copy("/bin/busybox", image.join("bin/busybox")).context("busybox-static")?;
        for command in COMMANDS {
            symlink("busybox", image.join("bin").join(command))?;
        }
        fs::write(
            image.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n",
        )?;
        fs::write(image.join("etc/group"), "root:x:0:\nann:x:1001:\nwheel:x:10:ann\n")?;
        let mut config = ExecutorConfig::new(HostPath::new(directory.path().join("state"))?);
        change(&mut config);
        let executor = LinuxExecutor::open(config).await?;
        Ok(Self { directory, executor })
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn host(&self, name: &str) -> HostPath {
        HostPath::new(self.path(name)).expect("absolute")
    }

    /// The layer that a container writes, named so that several can be had.
    pub(crate) fn layer(&self, name: &str) -> Mount {
        let (upper, work) = (format!("upper{name}"), format!("work{name}"));
        for directory in [&upper, &work] {
            fs::create_dir_all(self.path(directory)).expect("layer");
        }
        Mount {
            source: MountSource::Overlay {
                lower: vec![self.host("image")],
                upper: Some(OverlayUpper {
                    upper: self.host(&upper),
                    work: self.host(&work),
                    syncing: Syncing::Owner,
                }),
            },
            readonly: false,
        }
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ProcessSpec {
        let id = ContainerId::new(format!("test-{}", COUNTER.fetch_add(1, Ordering::Relaxed)));
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        ProcessSpec::new(id.expect("valid"), self.layer(""), args)
    }

    pub(crate) fn shell(&self, script: &str) -> ProcessSpec {
        self.spec(&["sh", "-c", script])
    }

    pub(crate) async fn run(&self, spec: ProcessSpec) -> Result<Done, ExecutorError> {
        let (io, stdout, stderr) = collecting();
        let running = self.executor.start(spec, io).await?;
        collect(running, stdout, stderr).await
    }

    /// Runs a script that must succeed and returns what it said.
    pub(crate) async fn output(&self, script: &str) -> anyhow::Result<String> {
        let done = self.run(self.shell(script)).await?;
        anyhow::ensure!(done.status.success(), "{done:?}");
        Ok(done.stdout)
    }

    /// What the written layer adds to the image or changes in it, sorted.
    pub(crate) fn written(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path("upper"), Path::new(""), &mut found);
        let describe = |root: &str, path: &String| {
            let metadata = fs::symlink_metadata(self.path(root).join(path)).ok()?;
            let times = (metadata.mtime(), metadata.mtime_nsec());
            Some((metadata.mode(), metadata.uid(), metadata.gid(), times, metadata.is_dir()))
        };
        // A directory that is as in the image was only opened for writing.
        found.retain(|path| {
            let copy = describe("upper", path);
            copy != describe("image", path) || copy.is_some_and(|copy| !copy.4)
        });
        found.sort();
        found
    }
}

fn walk(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(below)).expect("layer").flatten() {
        let path = below.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            walk(root, &path, found);
        }
        found.push(path.display().to_string());
    }
}

pub(crate) fn guest(path: &str) -> GuestPath {
    GuestPath::new(path).expect("no NUL")
}

pub(crate) type Chunks = mpsc::Receiver<Bytes>;

pub(crate) fn collecting() -> (ProcessIo, Chunks, Chunks) {
    let (out, stdout) = mpsc::channel(16);
    let (err, stderr) = mpsc::channel(16);
    let io =
        ProcessIo { stdout: Output::Chunks(out), stderr: Output::Chunks(err), ..ProcessIo::null() };
    (io, stdout, stderr)
}

pub(crate) async fn text(mut chunks: Chunks) -> String {
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        all.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub(crate) async fn collect(
    running: Box<dyn Running>,
    stdout: Chunks,
    stderr: Chunks,
) -> Result<Done, ExecutorError> {
    let (status, stdout, stderr) = tokio::join!(running.wait(), text(stdout), text(stderr));
    Ok(Done { status: status?, stdout, stderr })
}
