//! A stage as a list of steps, with all words expanded, before it becomes a graph.
//!
//! Which files of the build context are needed is known only after the last stage is planned, but the
//! context is an input of the first operation. So all stages are planned first.

use std::collections::BTreeSet;

use bytes::Bytes;
use digests::Digest;
use llb::{CopyFiles, ExecOptions, GitOptions, LinuxResources, MakeDir, RunMount, State};
use oci::{ImageConfig, Platform};

use crate::syntax::Lines;

/// What a stage begins with.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// Nothing.
    Scratch,
    /// An image.
    Image {
        /// Its full name with its digest.
        reference: String,
        /// The platform whose image it is.
        platform: Platform,
        /// What clients show.
        name: String,
        /// The text of `FROM`.
        command: String,
    },
    /// Another stage, by index.
    Stage(usize),
    /// A tree that was given by name.
    Tree(State),
    /// A client's directory that was given by name.
    Directory(NamedDirectory),
}

/// A client's directory that was given by name.
#[derive(Debug, Clone)]
pub(crate) struct NamedDirectory {
    /// Which of the client's directories.
    pub(crate) local: String,
    /// The session that has it.
    pub(crate) session: String,
    /// What clients show.
    pub(crate) name: String,
    /// What tells it from others when a received tree is reused.
    pub(crate) shared_key: String,
    /// What its ignore file says.
    pub(crate) exclude: Vec<String>,
}

/// A planned stage.
#[derive(Debug, Clone)]
pub(super) struct PlannedStage {
    /// What it begins with.
    pub(super) start: Start,
    /// What is done.
    pub(super) steps: Vec<Step>,
    /// The platform of what is run.
    pub(super) platform: Platform,
    /// Where `FROM` stands.
    pub(super) lines: Lines,
    /// The configuration of an image made from it.
    pub(super) image: ImageConfig,
    /// The configuration of the image it is made from.
    pub(super) base_image: Option<ImageConfig>,
}

/// One thing that is done.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What clients show.
    pub(super) name: String,
    /// Where the instruction stands.
    pub(super) lines: Lines,
    /// Whether it is done without the cache.
    pub(super) ignore_cache: bool,
    /// What is done.
    pub(super) work: Work,
}

/// What is done.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// A directory is made.
    MakeDir(MakeDir),
    /// Files are copied.
    Copy(Copying),
    /// A command is run.
    Run(Box<Running>),
}

/// Files are copied.
#[derive(Debug, Clone)]
pub(super) struct Copying {
    /// One for each source, in order.
    pub(super) pieces: Vec<(Origin, CopyFiles)>,
    /// Set if the files become a layer that knows nothing of those below.
    pub(super) link: Option<Linked>,
}

/// How the two operations of a `--link` are shown as one.
#[derive(Debug, Clone)]
pub(super) struct Linked {
    /// What makes them one.
    pub(super) group: String,
    /// The name of the operation that joins the layers.
    pub(super) merge_name: String,
}

/// Where files come from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// Nowhere.
    Scratch,
    /// The build context.
    Context,
    /// A stage, by index.
    Stage(usize),
    /// The Dockerfile itself.
    Inline {
        /// The file's name.
        name: String,
        /// Its permissions.
        mode: u32,
        /// Its content.
        data: Bytes,
    },
    /// The web.
    Web {
        /// The address.
        url: String,
        /// The file's name.
        filename: String,
        /// The digest it must have.
        checksum: Option<Digest>,
    },
    /// A repository.
    Git {
        /// Where it is.
        remote: String,
        /// What of it is meant.
        options: GitOptions,
    },
}

/// A command is run.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// The command and its surroundings, without trees from elsewhere.
    pub(super) options: ExecOptions,
    /// Trees from elsewhere.
    pub(super) mounts: Vec<Mounted>,
    /// Limits.
    pub(super) resources: Option<LinuxResources>,
    /// The instruction's text.
    pub(super) command: String,
}

/// A tree from elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Mounted {
    /// How it is mounted; its source is filled in later.
    pub(super) mount: RunMount,
    /// What is mounted.
    pub(super) origin: Origin,
    /// The directory in it that carries the ownership and permissions asked for.
    pub(super) permissions: Option<MakeDir>,
}

/// Paths that are used of a tree; the root stands for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UsedPaths(BTreeSet<String>);

impl UsedPaths {
    /// Adds a path, absolute and clean.
    pub(super) fn add(&mut self, path: String) {
        self.0.insert(path);
    }

    /// Returns the paths to ask for; none means everything.
    pub(super) fn to_follow(&self) -> Vec<String> {
        if self.0.contains("/") {
            return Vec::new();
        }
        let mut paths: Vec<_> =
            self.0.iter().map(|path| path.trim_start_matches('/').to_owned()).collect();
        paths.sort();
        paths
    }
}
