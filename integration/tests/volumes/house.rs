//! A world whose steps wait at gates until the test opens them.
//!
//! Gates are pipes in a volume of their own, which every step here mounts. A step that reads one sleeps in
//! the kernel until the test writes to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use integration::{Build, BuildCommand, Launch, Program, Project, RunningBuild, Wire, World};
use proto::volumes::volumes_client::VolumesClient;
use proto::volumes::{InspectRequest, ListRequest, Name, Selector, Volume, selector};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// What a line begins with that tells of a wait, and of its end.
pub(crate) const WAITING: &str = "waiting for cache volume";
pub(crate) const GOT: &str = "got cache volume";

/// The volume of the gates is the same for builds without cache.
const GATES: &str = "\n[[larder.volumes.policy]]\nid = \"gates\"\nno-cache = \"keep\"\n";

/// A world whose steps wait at gates until the test opens them.
pub(crate) struct House {
    pub(crate) world: World,
    owner: Owner,
    volumes: PathBuf,
    gates: PathBuf,
    /// Kept open, so that what was written waits for its reader.
    opened: RefCell<BTreeMap<String, File>>,
    steps: Cell<u32>,
}

/// A build that runs, with what it is built from.
pub(crate) struct Running {
    pub(crate) build: RunningBuild,
    _project: Project,
}

impl House {
    /// Starts a world with this configuration.
    pub(crate) fn start(config: &str) -> anyhow::Result<Self> {
        Self::launch(Launch { config: config.to_owned(), ..Launch::default() })
    }

    /// Starts a world with a daemon of this configuration.
    pub(crate) fn launch(mut launch: Launch) -> anyhow::Result<Self> {
        launch.config.push_str(GATES);
        let mut world = World::launch(launch)?;
        let project = world
            .project("FROM {busybox}\nRUN --mount=type=cache,id=gates,target=/gates echo made\n")?;
        world.build(&project).succeed()?;
        let owner = Owner::connect(&world.backend.address())?;
        let root = world.daemon()?.root();
        let volumes = root.join("volumes");
        let gates = tree_of(&volumes, &owner.inspect("gates")?.key)?;
        let (opened, steps) = (RefCell::default(), Cell::default());
        Ok(Self { world, owner, volumes, gates, opened, steps })
    }

    /// Returns the daemon's volumes service, as seen by a client.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Connects again after the daemon was started anew.
    pub(crate) fn reconnect(&mut self) -> anyhow::Result<()> {
        self.owner = Owner::connect(&self.world.backend.address())?;
        Ok(())
    }

    /// Returns a step with these mounts, and with the gates at `/gates`. No two steps are the same, so none
    /// is cached.
    pub(crate) fn step(&self, mounts: &str, command: &str) -> String {
        let number = self.steps.get();
        self.steps.set(number + 1);
        format!(
            "RUN {mounts} --mount=type=cache,id=gates,target=/gates {command}\n\
             ENV STEP={number}\n"
        )
    }

    /// Returns a project of one step.
    pub(crate) fn project(&self, mounts: &str, command: &str) -> anyhow::Result<Project> {
        let number = self.steps.get();
        let step = self.step(mounts, command);
        self.world.project(&format!("FROM {{busybox}}\nENV BEFORE={number}\n{step}"))
    }

    /// Runs one step to its successful end, and returns what it said.
    pub(crate) fn run(&self, mounts: &str, command: &str) -> anyhow::Result<Vec<String>> {
        let project = self.project(mounts, command)?;
        let build = self.world.build(&project).succeed()?;
        Ok(build.step("] RUN")?.lines.clone())
    }

    /// Runs one step to its end, which is a failure.
    pub(crate) fn fail(&self, mounts: &str, command: &str) -> anyhow::Result<Build> {
        let project = self.project(mounts, command)?;
        self.world.build(&project).fail()
    }

    /// Starts a build of one step.
    pub(crate) fn begin(&self, mounts: &str, command: &str) -> anyhow::Result<Running> {
        self.begin_with(mounts, command, |build| build)
    }

    /// Starts a build of one step, with more said to the client.
    pub(crate) fn begin_with(
        &self,
        mounts: &str,
        command: &str,
        more: impl FnOnce(BuildCommand) -> BuildCommand,
    ) -> anyhow::Result<Running> {
        let project = self.project(mounts, command)?;
        let build = more(self.world.another_client()?.build(&project)).spawn()?;
        Ok(Running { build, _project: project })
    }

    /// Starts a build of one step that runs `first`, waits at a gate, and runs `then`; returns once it waits.
    pub(crate) fn hold(
        &self,
        gate: &str,
        mounts: &str,
        work: [&str; 2],
    ) -> anyhow::Result<Running> {
        let running = self.begin(mounts, &self.gated(gate, work)?)?;
        running.build.wait_for(" now holding")?;
        Ok(running)
    }

    /// Returns a command that runs `first`, waits at a gate, and runs `then`.
    pub(crate) fn gated(&self, gate: &str, [first, then]: [&str; 2]) -> anyhow::Result<String> {
        self.gate(gate)?;
        Ok(format!("{first} && echo now holding && read go < /gates/{gate} && {then}"))
    }

    /// Lets one reader of a gate go on.
    pub(crate) fn open(&self, gate: &str) -> anyhow::Result<()> {
        self.gate(gate)?;
        let mut opened = self.opened.borrow_mut();
        opened.get_mut(gate).context("a gate that was made")?.write_all(b"\n")?;
        Ok(())
    }

    /// Returns the directory of the daemon's volumes.
    pub(crate) fn volumes(&self) -> &Path {
        &self.volumes
    }

    /// Waits until nobody uses a volume. A step whose client is gone ends when it ends.
    pub(crate) fn wait_until_unused(&self, id: &str) -> anyhow::Result<()> {
        for _ in 0..100_000 {
            // Every question gives it time.
            let volume = self.owner.inspect(id)?;
            if volume.leases.is_empty() && volume.waiting.is_empty() {
                return Ok(());
            }
        }
        anyhow::bail!("volume `{id}` stays in use: {:#?}", self.owner.inspect(id)?)
    }

    /// Makes a gate, if there is none of the name; returns where the machine sees it.
    pub(crate) fn gate(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut opened = self.opened.borrow_mut();
        let path = self.gates.join(name);
        if !opened.contains_key(name) {
            mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
            // Who opens a pipe for both never waits.
            opened.insert(name.to_owned(), OpenOptions::new().read(true).write(true).open(&path)?);
        }
        Ok(path)
    }
}

impl Running {
    /// Waits for its end, which must be a success.
    pub(crate) fn succeed(self) -> anyhow::Result<Build> {
        let build = self.build.wait()?;
        anyhow::ensure!(build.status.success(), "the build failed:\n{}", build.output);
        Ok(build)
    }

    /// Waits for its end, which must be a failure.
    pub(crate) fn fail(self) -> anyhow::Result<Build> {
        let build = self.build.wait()?;
        anyhow::ensure!(!build.status.success(), "the build succeeded:\n{}", build.output);
        Ok(build)
    }
}

/// A mount at `/c` of the volume `id`.
pub(crate) fn at_c(id: &str, options: &str) -> String {
    format!("--mount=type=cache,id={id},target=/c{options}")
}

/// The only tree of a plain volume.
pub(crate) fn tree_of(volumes: &Path, key: &str) -> anyhow::Result<PathBuf> {
    let layers = volumes.join("v1/volumes").join(key).join("layers");
    let layer = std::fs::read_dir(&layers)?.next().context("a layer")??;
    Ok(layer.path().join("fs"))
}

/// The daemon's volumes service, as seen by a client.
pub(crate) struct Owner {
    runtime: Runtime,
    client: VolumesClient<Channel>,
    wire: Wire,
}

impl Owner {
    pub(crate) fn connect(address: &str) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let wire = runtime.block_on(Wire::connect(address))?;
        Ok(Self { runtime, client: VolumesClient::new(wire.channel()), wire })
    }

    /// Returns the volume of this id, without a variant.
    pub(crate) fn inspect(&self, id: &str) -> anyhow::Result<Volume> {
        let namespace = "default".to_owned();
        let name = Name { namespace, id: id.as_bytes().to_vec().into(), variant: String::new() };
        let selector = Selector { by: Some(selector::By::Name(name)) };
        let request = InspectRequest { volume: Some(selector) };
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.inspect(request));
        Ok(answer.with_context(|| format!("no volume {id}"))?.into_inner())
    }

    /// Returns all volumes but that of the gates.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Volume>> {
        let mut client = self.client.clone();
        self.runtime.block_on(async {
            let mut stream = client.list(ListRequest {}).await?.into_inner();
            let mut volumes = Vec::new();
            while let Some(volume) = stream.message().await? {
                if volume.name.as_ref().is_none_or(|name| *name.id != *b"gates") {
                    volumes.push(volume);
                }
            }
            Ok(volumes)
        })
    }

    /// Asserts that the daemon tells of every volume what `du` does.
    pub(crate) fn assert_sizes(&self, volumes: &Path) -> anyhow::Result<()> {
        for volume in self.list()? {
            let layers = volumes.join("v1/volumes").join(&volume.key).join("layers");
            let said = Program::new("du").args(["-s", "--block-size=1"]).arg(&layers).succeed()?;
            let said = said.split_whitespace().next().context("a size")?.parse::<u64>()?;
            let space = volume.space.context("a size")?;
            anyhow::ensure!(space.bytes == said, "{:?}: {space:?}, and not {said}", volume.name);
            let records = self.disk_usage(&format!("id=={}", volume.key))?;
            anyhow::ensure!(records.len() == 1, "one record of {:?}: {records:#?}", volume.name);
            anyhow::ensure!(u64::try_from(records[0].size)? == said, "{:#?}", records[0]);
        }
        Ok(())
    }

    /// Returns what the daemon tells of the disk it takes, as the client that asks for `du` gets it.
    pub(crate) fn disk_usage(
        &self,
        filter: &str,
    ) -> anyhow::Result<Vec<proto::control::UsageRecord>> {
        let filter = vec![filter.to_owned()];
        let request = proto::control::DiskUsageRequest { filter, ..Default::default() };
        let mut control = self.wire.control();
        let answer = self.runtime.block_on(control.disk_usage(request))?;
        Ok(answer.into_inner().record)
    }
}
