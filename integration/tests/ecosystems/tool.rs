//! A package manager with caches of its own, put through all that the suite asks of one.

use integration::house::{HOLDING, House, Running, WAITING};
use integration::{Build, BuildCommand, Project};

use crate::{BUILDS, CA, DOWNLOAD};

/// What is in a cache beside the tool's own files: a copy of the cache would show on the disk.
const BALLAST: u64 = 20_000_000;

/// What the step that uses the caches has in its name, and no other.
pub(crate) const STEP: &str = "target=/gates";

/// A package manager with caches of its own.
pub(crate) struct Tool<'a> {
    pub(crate) house: &'a House,
    /// Begins the ids of its volumes.
    pub(crate) name: &'a str,
    /// The Dockerfile up to the step that uses the caches.
    pub(crate) head: &'a str,
    /// Where its caches are mounted.
    pub(crate) caches: &'a [&'a str],
    /// Returns the files of a project of this number; no two are the same.
    pub(crate) files: &'a dyn Fn(usize) -> Vec<(&'static str, String)>,
    /// Downloads what the project needs into the caches.
    pub(crate) fill: &'a str,
    /// Builds the project from what the caches have.
    pub(crate) work: &'a str,
    /// Returns what the built project of a number says.
    pub(crate) says: &'a dyn Fn(usize) -> String,
    /// More directories to build from, by their names.
    pub(crate) contexts: &'a [String],
}

impl Tool<'_> {
    /// Builds once cold, once changed and without network, and then sixteen times at once without network.
    /// Returns the second build.
    pub(crate) fn prove(&self) -> anyhow::Result<Build> {
        let cache = self.caches[0];
        let ballast = format!(
            "(cd {cache} && head -c {BALLAST} /dev/urandom > ballast && sha256sum ballast > sum)"
        );
        let all = format!("{} && {} && {ballast}", self.fill, self.work);
        self.build(0, "", &all)?;
        let cut = self.build(1, "--network=none ", self.work)?;
        let one_tree = self.house.taken()?;
        self.crowd(one_tree)?;
        self.assert_one_tree_is_left(one_tree)?;
        Ok(cut)
    }

    /// Builds sixteen projects at once, each with the whole of the warm caches, to itself.
    fn crowd(&self, one_tree: u64) -> anyhow::Result<()> {
        let (house, cache) = (self.house, self.caches[0]);
        let builds = (2..2 + BUILDS).map(|number| {
            let warm = format!(
                "(cd {cache} && sha256sum -c sum && ! ls own-* 2> /dev/null && touch own-{number})"
            );
            let then = format!("{} && (cd {cache} && echo mine: own-*)", self.work);
            let command = house.gated(self.name, [&warm, &then])?;
            Ok((number, self.begin(number, "--network=none ", &command)?))
        });
        let builds: Vec<_> = builds.collect::<anyhow::Result<_>>()?;
        for (_, running) in &builds {
            running.build.wait_for(HOLDING)?;
        }
        for index in 0..self.caches.len() {
            let leases = house.owner().inspect(&self.id(index))?.leases.len();
            assert_eq!(leases, BUILDS, "{}: all hold it at once now", self.id(index));
        }
        let above = house.taken()?.saturating_sub(one_tree);
        assert!(above < BALLAST, "{}: no copies, and {above} bytes more", self.name);
        for _ in 0..BUILDS {
            house.open(self.name)?;
        }
        for (number, running) in builds {
            let build = running.succeed()?;
            assert!(!build.output.contains(WAITING), "{}", build.output);
            self.assert_says(&build, number)?;
            let mine = format!("mine: own-{number}");
            assert!(build.step(STEP)?.lines.contains(&mine), "{}", build.output);
        }
        Ok(())
    }

    /// Asserts that the caches are of use, as one of the sixteen left them, and take no more than one tree and
    /// what is new.
    fn assert_one_tree_is_left(&self, one_tree: u64) -> anyhow::Result<()> {
        let cache = self.caches[0];
        let whole = format!("(cd {cache} && sha256sum -c sum && echo $(ls -d own-* | wc -l) own)");
        let last =
            self.build(2 + BUILDS, "--network=none ", &format!("{whole} && {}", self.work))?;
        let step = last.step(STEP)?;
        assert!(step.says("1 own"), "the head is what one of them left:\n{}", last.output);
        // What nobody needs any more is removed in the background: every question gives it time.
        let small = |_| self.house.taken().is_ok_and(|taken| taken < one_tree + BALLAST);
        assert!((0..200).any(small), "{}: one tree and what is new", self.name);
        self.house.owner().assert_sizes(self.house.volumes())
    }

    fn build(&self, number: usize, flags: &str, command: &str) -> anyhow::Result<Build> {
        let build = self.begin(number, flags, command)?.succeed()?;
        self.assert_says(&build, number)?;
        Ok(build)
    }

    fn begin(&self, number: usize, flags: &str, command: &str) -> anyhow::Result<Running> {
        let step = self.house.step(&format!("{flags}{CA} {}", self.mounts()), command);
        let project = self.house.world.project(&format!("{}{step}", self.head))?;
        let project = self.furnish(project, number)?;
        let build = self.house.world.another_client()?.build(&project);
        let build = self.contexts.iter().fold(build, |build: BuildCommand, context| {
            build.args(["--build-context", context.as_str()])
        });
        Running::spawn(build.certificates().patiently(DOWNLOAD), project)
    }

    fn furnish(&self, project: Project, number: usize) -> anyhow::Result<Project> {
        project.write(".dockerignore", "Dockerfile\n")?;
        for (path, text) in (self.files)(number) {
            project.write(path, text)?;
        }
        Ok(project)
    }

    fn assert_says(&self, build: &Build, number: usize) -> anyhow::Result<()> {
        let said = (self.says)(number);
        assert!(build.step(STEP)?.says(&said), "`{said}` is not said:\n{}", build.output);
        Ok(())
    }

    fn id(&self, index: usize) -> String {
        format!("{}-{index}", self.name)
    }

    fn mounts(&self) -> String {
        let mount = |(index, target): (usize, &&str)| {
            format!("--mount=type=cache,id={},target={target},sharing=private", self.id(index))
        };
        self.caches.iter().enumerate().map(mount).collect::<Vec<_>>().join(" ")
    }
}
