//! A daemon, a registry and a client that know each other: where a test begins.

use anyhow::Context as _;

use crate::{
    BUSYBOX, Backend, BuildCommand, Buildx, DEBIAN, Daemon, Launch, Project, Registry, Settings,
};

/// A daemon, a registry and a client that know each other.
#[derive(Debug)]
pub struct World {
    /// Where things are.
    pub settings: Settings,
    /// What builds. It is judged when the world goes.
    pub backend: Backend,
    /// Where base images come from, and results go to.
    pub registry: Registry,
    /// The client.
    pub client: Buildx,
}

impl World {
    /// Starts a world with a daemon as it comes.
    ///
    /// # Errors
    /// Fails if a part of it does not come up.
    pub fn start() -> anyhow::Result<Self> {
        Self::launch(Launch::default())
    }

    /// Starts a world with a daemon of this configuration, in which `{registry}` is the registry's host.
    ///
    /// # Errors
    /// Fails if a part of it does not come up.
    pub fn launch(mut launch: Launch) -> anyhow::Result<Self> {
        let settings = Settings::read()?;
        let registry = Registry::start(&settings)?;
        launch.config = launch.config.replace("{registry}", registry.host());
        let backend = Backend::start(&settings, launch)?;
        let client = Buildx::connect(&settings, &backend.address())?;
        Ok(Self { settings, backend, registry, client })
    }

    /// Returns a build of a project.
    pub fn build(&self, project: &Project) -> BuildCommand {
        self.client.build(project)
    }

    /// Returns a project whose Dockerfile has the names of the base images for `{busybox}` and `{debian}`.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub fn project(&self, dockerfile: &str) -> anyhow::Result<Project> {
        Project::new(&self.fill(dockerfile))
    }

    /// Returns `text` with the names of the base images for `{busybox}` and `{debian}`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("{busybox}", &self.registry.image(BUSYBOX))
            .replace("{debian}", &self.registry.image(DEBIAN))
    }

    /// Returns another client of the same daemon, as on another machine.
    ///
    /// # Errors
    /// Fails if the client does not take the daemon.
    pub fn another_client(&self) -> anyhow::Result<Buildx> {
        Buildx::connect(&self.settings, &self.backend.address())
    }

    /// Returns the daemon, to stop and start it or to look at its log.
    ///
    /// # Errors
    /// Fails if it is not ours.
    pub fn daemon(&mut self) -> anyhow::Result<&mut Daemon> {
        match &mut self.backend {
            Backend::Larder(daemon) => Ok(daemon),
            other => Err(anyhow::anyhow!("{} is not ours to touch", other.address())),
        }
    }

    /// Expects warnings and errors with `text` in them in the daemon's log.
    pub fn allow_log(&self, text: &str) {
        if let Backend::Larder(daemon) = &self.backend {
            daemon.allow(text);
        }
    }

    /// Returns the size in bytes and the reclaimable bytes that `docker buildx du` shows in all.
    ///
    /// # Errors
    /// Fails if the client does, or shows no total.
    pub fn disk_usage(&self, filters: &[&str]) -> anyhow::Result<String> {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        self.client.command(["du", "--verbose"]).args(filters).succeed().context("du")
    }
}
