//! From planned stages to a build graph.

use std::collections::{BTreeMap, BTreeSet};

use bridge::SourceExcerpt;
use llb::{
    FileActions, HttpOptions, ImageOptions, LocalOptions, MakeFile, OpOptions, ProgressGroup,
    RunMount, SourceLocation, State,
};
use oci::Platform;

use super::plan::{
    Copying, NamedDirectory, Origin, PlannedStage, Running, Start, Step, UsedPaths, Work,
};
use crate::syntax::Lines;

/// What a graph is made with.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    /// The file that all steps come from.
    pub(super) source: &'a SourceExcerpt,
    /// How eagerly registries are asked.
    pub(super) resolve_mode: llb::ResolveMode,
    /// The build context.
    pub(super) context: State,
    /// Paths used of each tree, by the index of the stage it is the origin of.
    pub(super) used: BTreeMap<usize, UsedPaths>,
    /// The trees of the stages that are done.
    pub(super) done: BTreeMap<usize, State>,
}

impl Builder<'_> {
    /// Adds a stage, whose steps are taken out of the plan; all it needs have been added before.
    pub(super) fn add(&mut self, index: usize, stage: &mut PlannedStage) {
        let mut state = self.start(index, stage);
        for Step { name, lines, ignore_cache, work } in std::mem::take(&mut stage.steps) {
            let options =
                OpOptions { ignore_cache, sources: self.location(lines), ..OpOptions::named(name) };
            if takes_from(&work, index) {
                self.done.insert(index, state.clone());
            }
            state = match work {
                Work::MakeDir(make) => state.file(FileActions::new().make_dir(make), options),
                Work::Copy(copying) => self.copy(&state, options, copying),
                Work::Run(running) => self.run(&state, options, *running, &stage.platform),
            };
        }
        self.done.insert(index, state);
    }

    fn start(&self, index: usize, stage: &PlannedStage) -> State {
        let platform = llb::Platform::from(&stage.platform);
        match &stage.start {
            Start::Scratch => State::scratch().with_platform(platform),
            Start::Stage(parent) => self.done.get(parent).cloned().unwrap_or_default(),
            Start::Tree(state) => state.clone().with_platform(platform),
            Start::Directory(directory) => {
                let used = self.used.get(&index).map(UsedPaths::to_follow).unwrap_or_default();
                named_directory(directory, used)
            }
            Start::Image { reference, platform, name, command } => {
                let options = OpOptions {
                    platform: Some(platform.into()),
                    description: command_description(command.clone()),
                    sources: self.location(stage.lines),
                    ..OpOptions::named(name)
                };
                let image =
                    ImageOptions { resolve_mode: self.resolve_mode, ..ImageOptions::default() };
                State::image(reference, image, options)
            }
        }
    }

    fn copy(&self, state: &State, options: OpOptions, copying: Copying) -> State {
        let name = options.name.clone().unwrap_or_default();
        let mut actions = FileActions::new();
        for (origin, copy) in copying.pieces {
            actions = actions.copy(&self.origin(origin, &name), copy);
        }
        let Some(link) = copying.link else {
            return state.file(actions, options);
        };
        let group = |weak| Some(ProgressGroup { id: link.group.clone(), name: name.clone(), weak });
        let copied = State::scratch()
            .file(actions, OpOptions { progress_group: group(true), ..options.clone() });
        let merge =
            OpOptions { name: Some(link.merge_name), progress_group: group(false), ..options };
        let platform = state.platform().cloned();
        let merged = State::merge([state.clone(), copied], merge);
        platform.map_or(merged.clone(), |platform| merged.with_platform(platform))
    }

    fn run(
        &self,
        state: &State,
        options: OpOptions,
        running: Running,
        platform: &Platform,
    ) -> State {
        let name = options.name.as_deref().unwrap_or_default();
        let mut run = running.options;
        for mounted in running.mounts {
            let mut source = self.origin(mounted.origin, name);
            if let Some(make) = mounted.permissions {
                let name = "[internal] setting cache mount permissions";
                let actions = FileActions::new().make_dir(make);
                source = source.file(actions, OpOptions::named(name));
            }
            run.mounts.push(RunMount { source, ..mounted.mount });
        }
        let options = OpOptions {
            platform: Some(platform.into()),
            description: command_description(running.command),
            linux_resources: running.resources,
            ..options
        };
        state.run(run, options).root()
    }

    fn origin(&self, origin: Origin, step_name: &str) -> State {
        match origin {
            Origin::Scratch => State::scratch(),
            Origin::Context => self.context.clone(),
            Origin::Stage(index) => self.done.get(&index).cloned().unwrap_or_default(),
            Origin::Inline { name, mode, data } => {
                let file = MakeFile { path: name, mode, data, ..MakeFile::default() };
                let shown = OpOptions::named("[internal] preparing inline document");
                State::scratch().file(FileActions::new().make_file(file), shown)
            }
            Origin::Web { url, filename, checksum } => {
                let http = HttpOptions { filename, checksum, ..HttpOptions::default() };
                State::http(&url, http, OpOptions::named(step_name))
            }
            Origin::Git { remote, options } => {
                State::git(&remote, options, OpOptions::named(step_name))
            }
        }
    }

    fn location(&self, lines: Lines) -> Vec<SourceLocation> {
        let position = |position: bridge::Position| llb::Position {
            line: position.line,
            character: position.character,
        };
        let range = |range: bridge::Range| llb::Range {
            start: position(range.start),
            end: position(range.end),
        };
        vec![SourceLocation {
            filename: self.source.filename.clone(),
            language: self.source.language.clone(),
            data: self.source.data.clone(),
            ranges: lines.ranges().into_iter().map(range).collect(),
        }]
    }
}

fn named_directory(directory: &NamedDirectory, follow_paths: Vec<String>) -> State {
    let source = LocalOptions {
        session: directory.session.clone(),
        follow_paths,
        exclude_patterns: directory.exclude.clone(),
        shared_key_hint: directory.shared_key.clone(),
        ..LocalOptions::default()
    };
    State::local(&directory.local, source, OpOptions::named(&directory.name))
}

fn command_description(command: String) -> BTreeMap<String, String> {
    BTreeMap::from([("com.docker.dockerfile.v1.command".to_owned(), command)])
}

/// Returns the stages that a stage's plan needs before it.
pub(super) fn needs(stage: &PlannedStage) -> BTreeSet<usize> {
    let mut needs = BTreeSet::new();
    if let Start::Stage(parent) = stage.start {
        needs.insert(parent);
    }
    for step in &stage.steps {
        needs.extend(origins(&step.work).filter_map(|origin| match origin {
            Origin::Stage(index) => Some(*index),
            _ => None,
        }));
    }
    needs
}

fn origins(work: &Work) -> Box<dyn Iterator<Item = &Origin> + '_> {
    match work {
        Work::MakeDir(_) => Box::new(std::iter::empty()),
        Work::Copy(copying) => Box::new(copying.pieces.iter().map(|(origin, _)| origin)),
        Work::Run(running) => Box::new(running.mounts.iter().map(|mount| &mount.origin)),
    }
}

/// A trigger can take files from the stage that it has become a part of.
fn takes_from(work: &Work, stage: usize) -> bool {
    origins(work).any(|origin| matches!(origin, Origin::Stage(index) if *index == stage))
}
