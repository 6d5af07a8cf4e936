//! A world whose steps wait at gates until the test opens them.
//!
//! Gates are pipes in a volume of their own, which every step here mounts. A step that reads one sleeps in
//! the kernel until the test writes to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Build, BuildCommand, Launch, Owner, Program, Project, RunningBuild, World};

/// What a line begins with that tells of a wait.
pub const WAITING: &str = "waiting for cache volume";
/// What a line begins with that tells of the end of a wait.
pub const GOT: &str = "got cache volume";
/// What is shown of a step that stands at a gate.
pub const HOLDING: &str = " now holding";
/// What such a step says. Its name has this in it, which must not be taken for what it says.
const SAY_HOLDING: &str = "echo now 'hold'ing";

/// The volume of the gates is the same for builds without cache.
const GATES: &str = "\n[[larder.volumes.policy]]\nid = \"gates\"\nno-cache = \"keep\"\n";

/// A world whose steps wait at gates until the test opens them.
#[derive(Debug)]
pub struct House {
    /// The world, with its daemon.
    pub world: World,
    owner: Owner,
    volumes: PathBuf,
    gates: PathBuf,
    /// Kept open, so that what was written waits for its reader.
    opened: RefCell<BTreeMap<String, File>>,
    steps: Cell<u32>,
}

/// A build that runs, with what it is built from.
#[derive(Debug)]
pub struct Running {
    /// The build.
    pub build: RunningBuild,
    _project: Project,
}

impl House {
    /// Starts a world with this configuration.
    ///
    /// # Errors
    /// Fails if the world does not come up.
    pub fn start(config: &str) -> anyhow::Result<Self> {
        Self::launch(Launch { config: config.to_owned(), ..Launch::default() })
    }

    /// Starts a world with a daemon of this configuration.
    ///
    /// # Errors
    /// Fails if the world does not come up, or its daemon is not ours.
    pub fn launch(mut launch: Launch) -> anyhow::Result<Self> {
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
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Connects again after the daemon was started anew.
    ///
    /// # Errors
    /// Fails if the daemon does not answer.
    pub fn reconnect(&mut self) -> anyhow::Result<()> {
        self.owner = Owner::connect(&self.world.backend.address())?;
        Ok(())
    }

    /// Returns a step with these mounts, and with the gates at `/gates`. No two steps are the same, so none
    /// is cached.
    pub fn step(&self, mounts: &str, command: &str) -> String {
        let number = self.steps.get();
        self.steps.set(number + 1);
        format!(
            "RUN {mounts} --mount=type=cache,id=gates,target=/gates {command}\n\
             ENV STEP={number}\n"
        )
    }

    /// Returns a project of one step.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn project(&self, mounts: &str, command: &str) -> anyhow::Result<Project> {
        let number = self.steps.get();
        let step = self.step(mounts, command);
        self.world.project(&format!("FROM {{busybox}}\nENV BEFORE={number}\n{step}"))
    }

    /// Runs one step to its successful end, and returns what it said.
    ///
    /// # Errors
    /// Fails if the build does.
    pub fn run(&self, mounts: &str, command: &str) -> anyhow::Result<Vec<String>> {
        let project = self.project(mounts, command)?;
        let build = self.world.build(&project).succeed()?;
        Ok(build.step("] RUN")?.lines.clone())
    }

    /// Runs one step to its end, which is a failure.
    ///
    /// # Errors
    /// Fails if the build succeeds.
    pub fn fail(&self, mounts: &str, command: &str) -> anyhow::Result<Build> {
        let project = self.project(mounts, command)?;
        self.world.build(&project).fail()
    }

    /// Starts a build of one step.
    ///
    /// # Errors
    /// Fails if the client cannot be started.
    pub fn begin(&self, mounts: &str, command: &str) -> anyhow::Result<Running> {
        self.begin_with(mounts, command, |build| build)
    }

    /// Starts a build of one step, with more said to the client.
    ///
    /// # Errors
    /// Fails if the client cannot be started.
    pub fn begin_with(
        &self,
        mounts: &str,
        command: &str,
        more: impl FnOnce(BuildCommand) -> BuildCommand,
    ) -> anyhow::Result<Running> {
        let project = self.project(mounts, command)?;
        Running::spawn(more(self.world.another_client()?.build(&project)), project)
    }

    /// Starts a build of one step that runs `first`, waits at a gate, and runs `then`; returns once it waits.
    ///
    /// # Errors
    /// Fails if it ends before.
    pub fn hold(&self, gate: &str, mounts: &str, work: [&str; 2]) -> anyhow::Result<Running> {
        let running = self.begin(mounts, &self.gated(gate, work)?)?;
        running.build.wait_for(HOLDING)?;
        Ok(running)
    }

    /// Returns a command that runs `first`, waits at a gate, and runs `then`.
    ///
    /// # Errors
    /// Fails if the gate cannot be made.
    pub fn gated(&self, gate: &str, [first, then]: [&str; 2]) -> anyhow::Result<String> {
        self.gate(gate)?;
        Ok(format!("{first} && {SAY_HOLDING} && read go < /gates/{gate} && {then}"))
    }

    /// Lets one reader of a gate go on.
    ///
    /// # Errors
    /// Fails if the gate cannot be made.
    pub fn open(&self, gate: &str) -> anyhow::Result<()> {
        self.gate(gate)?;
        let mut opened = self.opened.borrow_mut();
        opened.get_mut(gate).context("a gate that was made")?.write_all(b"\n")?;
        Ok(())
    }

    /// Kills the step that stands at a gate, as the machine's owner would.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn kill_step_at(&self, gate: &str) -> anyhow::Result<()> {
        let gate = format!("/gates/{gate} ");
        let stands = |process: &u32| {
            let words = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            words.starts_with("/bin/sh\0") && words.contains(&gate)
        };
        let processes = fs::read_dir("/proc")?.flatten();
        let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let step = processes.find(stands).context("nobody stands at the gate")?;
        let step = i32::try_from(step).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process(step, Signal::KILL)?)
    }

    /// Returns the directory of the daemon's volumes.
    pub fn volumes(&self) -> &Path {
        &self.volumes
    }

    /// Returns how many bytes all volumes take on the disk.
    ///
    /// # Errors
    /// Fails if they cannot be counted.
    pub fn taken(&self) -> anyhow::Result<u64> {
        let said = self.look_through(&["du", "-s", "--block-size=1"])?;
        Ok(said.split_whitespace().next().unwrap_or_default().parse()?)
    }

    /// Returns how many files and directories there are in all volumes.
    ///
    /// # Errors
    /// Fails if they cannot be counted.
    pub fn names(&self) -> anyhow::Result<usize> {
        Ok(self.look_through(&["find"])?.lines().count())
    }

    /// Returns what a program says of the directory of volumes.
    fn look_through(&self, words: &[&str]) -> anyhow::Result<String> {
        let look = || Program::new(words[0]).args(&words[1..]).arg(&self.volumes).succeed();
        // What is removed in the background may go while it is counted: then it is counted again.
        (0..100).find_map(|_| look().ok()).map_or_else(look, Ok)
    }

    /// Waits until nobody uses a volume. A step whose client is gone ends when it ends.
    ///
    /// # Errors
    /// Fails if it stays in use.
    pub fn wait_until_unused(&self, id: &str) -> anyhow::Result<()> {
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
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub fn gate(&self, name: &str) -> anyhow::Result<PathBuf> {
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
    /// Starts a build of a project, which is kept until its end.
    ///
    /// # Errors
    /// Fails if the client cannot be started.
    pub fn spawn(build: BuildCommand, project: Project) -> anyhow::Result<Self> {
        Ok(Self { build: build.spawn()?, _project: project })
    }

    /// Waits for its end, which must be a success.
    ///
    /// # Errors
    /// Fails if it does not; the error has what was shown.
    pub fn succeed(self) -> anyhow::Result<Build> {
        let build = self.build.wait()?;
        anyhow::ensure!(build.status.success(), "the build failed:\n{}", build.output);
        Ok(build)
    }

    /// Waits for its end, which must be a failure.
    ///
    /// # Errors
    /// Fails if it succeeds.
    pub fn fail(self) -> anyhow::Result<Build> {
        let build = self.build.wait()?;
        anyhow::ensure!(!build.status.success(), "the build succeeded:\n{}", build.output);
        Ok(build)
    }
}

/// Returns a mount at `/c` of the volume `id`.
pub fn at_c(id: &str, options: &str) -> String {
    format!("--mount=type=cache,id={id},target=/c{options}")
}

/// Returns the only tree of a plain volume.
fn tree_of(volumes: &Path, key: &str) -> anyhow::Result<PathBuf> {
    let layers = volumes.join("v1/volumes").join(key).join("layers");
    let layer = fs::read_dir(&layers)?.next().context("a layer")??;
    Ok(layer.path().join("fs"))
}
