//! One stage, instruction by instruction: what it does to the files, and what to the configuration.

mod config;
mod copy;
mod mode;
mod mounts;
mod ports;
mod run;
mod signal;
mod windows;

use std::collections::BTreeMap;

use oci::{ImageConfig, Platform, Time};

use super::LowerError;
use super::arguments::{Definition, GlobalArguments};
use super::image::{DEFAULT_PATH, Layer, record, set_env};
use super::naming::{StageName, shown};
use super::plan::{PlannedStage, Start, Step, UsedPaths, Work};
use super::scan::ScanWishes;
use super::stages::{Node, StageGraph};
use crate::error::Problem;
use crate::expand::{Environment, ExpandError, Lexer, Variables};
use crate::instruction::{Action, Argument, Instruction};
use crate::lint::caches::{CacheHistory, KnownCaches};
use crate::lint::checks::IgnoreFile;
use crate::lint::{Linter, Rule, checks, rules};
use crate::options::Options;
use crate::path::{Mark, absolute};
use crate::syntax::{Lines, Pair};

pub(crate) use signal::is_signal;

/// What all stages of a build share.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    /// The options of the build.
    pub(super) options: &'a Options,
    /// The arguments of the whole file.
    pub(super) globals: &'a GlobalArguments,
    /// How words are read.
    pub(super) lexer: Lexer,
    /// The stages.
    pub(super) graph: &'a StageGraph,
    /// The platform that is built for.
    pub(super) target_platform: &'a Platform,
    /// The time that everything is given, if there is one.
    pub(super) epoch: Option<Time>,
    /// What the client does not send.
    pub(super) ignore: &'a IgnoreFile,
    /// Whether the builder can lay one tree over another without copying; without it, `--link` is an
    /// ordinary copy.
    pub(super) can_merge: bool,
    /// Whether stages are gone through that something else stands in place of, too.
    pub(super) all_stages: bool,
}

/// A stage whose files are still those of its base.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// What it begins with.
    pub(super) start: Start,
    /// The configuration of the image it begins with.
    pub(super) image: ImageConfig,
    /// The same, never changed; none without a base image.
    pub(super) base_image: Option<ImageConfig>,
    /// The platform of what is run.
    pub(super) platform: Platform,
    /// The name of its first step, if that is shown; counted already.
    pub(super) name: StageName,
}

/// A stage that has been gone through.
#[derive(Debug, Clone)]
pub(super) struct Evaluated {
    /// What it does.
    pub(super) plan: PlannedStage,
    /// What the stages made from it begin with.
    pub(super) inherited: Inherited,
    /// What it needs from outside, for outlines.
    pub(super) outline: StageOutline,
    /// What is to be scanned.
    pub(super) scan: ScanWishes,
    /// True if it has no instructions because something else stands in its place.
    pub(super) is_source: bool,
}

/// What a stage hands on to those made from it.
#[derive(Debug, Clone, Default)]
pub(super) struct Inherited {
    env: Environment,
    cwd: String,
    user: String,
    arguments: Vec<Argument>,
    workdir_set: bool,
    caches: CacheHistory,
}

/// What a stage needs from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageOutline {
    /// Arguments it declares.
    pub(crate) arguments: BTreeMap<String, Definition>,
    /// Names of arguments it uses.
    pub(crate) used: std::collections::BTreeSet<String>,
    /// Secrets, and whether they are required.
    pub(crate) secrets: BTreeMap<String, (bool, Lines)>,
    /// Agents, and whether they are required.
    pub(crate) ssh: BTreeMap<String, (bool, Lines)>,
}

/// A stage being gone through.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    shared: &'a Shared<'a>,
    lint: &'a mut Linter,
    node: &'a Node,
    /// Which stages have been gone through.
    done: &'a [bool],
    /// Paths used of each tree, by the index of the stage it is the origin of.
    used: &'a mut BTreeMap<usize, UsedPaths>,
    /// Paths used of the build context.
    context: &'a mut UsedPaths,
    /// The caches of the whole file.
    known_caches: &'a mut KnownCaches,
    index: usize,
    image: ImageConfig,
    inherited: Inherited,
    platform: Platform,
    name: StageName,
    steps: Vec<Step>,
    outline: StageOutline,
    /// True while the instructions of the base's triggers are gone through.
    onbuild: bool,
    cmd_at: Option<Lines>,
    entrypoint_at: Option<Lines>,
    healthcheck_at: Option<Lines>,
}

/// What is written down while stages are gone through.
#[derive(Debug)]
pub(super) struct Books<'a> {
    /// Where warnings go.
    pub(super) lint: &'a mut Linter,
    /// Which stages have been gone through.
    pub(super) done: &'a [bool],
    /// Paths used of each tree, by the index of the stage it is the origin of.
    pub(super) used: &'a mut BTreeMap<usize, UsedPaths>,
    /// Paths used of the build context.
    pub(super) context: &'a mut UsedPaths,
    /// The caches of the whole file.
    pub(super) known_caches: &'a mut KnownCaches,
}

/// Goes through a stage. `inherited` is what its parent hands on.
pub(super) fn evaluate(
    shared: &Shared<'_>,
    books: Books<'_>,
    index: usize,
    opening: Opening,
    inherited: Inherited,
) -> Result<Evaluated, Problem> {
    let node = &shared.graph.nodes[index];
    let Opening { start, image, base_image, platform, name } = opening;
    let mut stage = Stage {
        shared,
        lint: books.lint,
        node,
        done: books.done,
        used: books.used,
        context: books.context,
        known_caches: books.known_caches,
        index,
        image,
        inherited,
        platform,
        name,
        steps: Vec::new(),
        outline: StageOutline { used: node.used_arguments.clone(), ..StageOutline::default() },
        onbuild: false,
        cmd_at: None,
        entrypoint_at: None,
        healthcheck_at: None,
    };
    stage.take_image_defaults().map_err(|error| Problem::from(error).at(node.stage.lines))?;
    let skipped = node.replaced && !shared.all_stages;
    let instructions = if skipped { &[] } else { node.stage.instructions.as_slice() };
    for (position, instruction) in instructions.iter().enumerate() {
        stage.onbuild = position < node.triggers;
        stage.run(position, instruction).map_err(|problem| problem.at(instruction.lines))?;
    }
    let Stage { image, inherited, platform, steps, outline, .. } = stage;
    let lines = node.stage.lines;
    let plan = PlannedStage { start, steps, platform, lines, image, base_image };
    let is_source = !node.is_stage || node.replaced;
    let scan = ScanWishes::of(&node.label, &inherited.arguments, &shared.globals.values);
    Ok(Evaluated { plan, inherited, outline, scan, is_source })
}

impl Stage<'_> {
    /// Makes what the image's configuration says hold for the commands of the stage.
    fn take_image_defaults(&mut self) -> Result<(), LowerError> {
        let config = &mut self.image.config;
        let has_path = config.env.iter().any(|entry| entry.split('=').next() == Some("PATH"));
        if !has_path && self.platform.os != "windows" {
            config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for entry in &config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.inherited.env.set(name, value);
        }
        if self.inherited.cwd.is_empty() {
            "/".clone_into(&mut self.inherited.cwd);
        }
        if !config.working_dir.is_empty() {
            let system = &self.platform.os;
            let directory = windows::plain(system, &config.working_dir, Mark::Dropped)?;
            self.inherited.cwd = absolute("/", &directory, Mark::Dropped);
            config.working_dir = windows::native(system, &self.inherited.cwd);
        }
        if !config.user.is_empty() {
            self.inherited.user.clone_from(&config.user);
        }
        Ok(())
    }

    fn run(&mut self, position: usize, instruction: &Instruction) -> Result<(), Problem> {
        match &instruction.action {
            Action::Copy(copy) => self.copy(position, instruction, copy),
            Action::Run(run) => self.command(position, instruction, run),
            Action::Workdir(path) => self.workdir(instruction, path),
            Action::Arg(arguments) => self.arguments(instruction, arguments),
            Action::Env(pairs) => self.env(instruction, pairs),
            Action::Label(pairs) => self.label(instruction, pairs),
            Action::User(user) => self.user(instruction, user),
            Action::Cmd(_)
            | Action::Entrypoint(_)
            | Action::Expose(_)
            | Action::Healthcheck(_)
            | Action::Maintainer(_)
            | Action::Onbuild(_)
            | Action::Shell(_)
            | Action::StopSignal(_)
            | Action::Volume(_) => self.configure(instruction),
        }
    }

    /// Expands a word with the variables of the stage.
    fn expand(&mut self, instruction: &Instruction, word: &str) -> Result<String, Problem> {
        self.expand_with(self.shared.lexer, instruction, word)
    }

    fn expand_with(
        &mut self,
        lexer: Lexer,
        instruction: &Instruction,
        word: &str,
    ) -> Result<String, Problem> {
        let result = lexer.expand(word, &self.inherited.env);
        // Also where the word goes wrong: that a variable is not defined is often why.
        let unmatched = result.as_ref().map_or_else(ExpandError::unmatched, |done| &done.unmatched);
        let undefined =
            checks::undefined_variables(unmatched, &self.inherited.arguments, &self.inherited.env);
        for text in undefined {
            self.warn(&rules::UNDEFINED_VAR, instruction, text);
        }
        Ok(result?.text)
    }

    fn expand_all(
        &mut self,
        instruction: &Instruction,
        words: &[String],
    ) -> Result<Vec<String>, Problem> {
        words.iter().map(|word| self.expand(instruction, word)).collect()
    }

    fn expand_pairs(
        &mut self,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<Vec<Pair>, Problem> {
        let mut expanded = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = self.expand(instruction, &pair.key)?;
            let value = self.expand(instruction, &pair.value)?;
            expanded.push(Pair { key, value, legacy: pair.legacy });
        }
        Ok(expanded)
    }

    fn warn_legacy(&mut self, instruction: &Instruction, pair: &Pair) {
        if pair.legacy {
            let keyword = &instruction.keyword;
            let text = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.warn(&rules::LEGACY_KEY_VALUE_FORMAT, instruction, text);
        }
    }

    fn warn(&mut self, rule: &'static Rule, instruction: &Instruction, text: impl Into<String>) {
        self.lint.report(rule, instruction.lines, &instruction.comments, text);
    }

    fn record(&mut self, created_by: impl Into<String>, layer: Layer) {
        record(&mut self.image, created_by, layer, self.shared.epoch);
    }

    /// Returns the name of the next step, from an instruction's text.
    fn step_name(&mut self, code: &str) -> String {
        let text = shown(code, &self.shared.lexer, &self.inherited.env);
        self.name.next(&text, &self.inherited.env, self.onbuild)
    }

    fn ignore_cache(&self) -> bool {
        self.shared.options.no_cache.applies_to(&self.node.stage.name)
    }

    /// The time that everything new is given, in nanoseconds.
    fn timestamp(&self) -> Option<i64> {
        self.shared.epoch.map(|time| time.unix_seconds().saturating_mul(1_000_000_000))
    }

    /// Returns the tree that an instruction's source stands for; none for a stage that comes later.
    fn source(&self, position: usize, which: usize) -> Option<Option<usize>> {
        let sources = self.node.sources.get(position)?;
        let source = sources.get(which).copied().flatten();
        match source {
            None => Some(None),
            Some(index) if self.done[index] => Some(Some(index)),
            Some(_) => None,
        }
    }

    fn use_path(&mut self, stage: Option<usize>, path: String) {
        match stage {
            None => self.context.add(path),
            Some(index) => {
                let origin = self.shared.graph.origin(index);
                self.used.entry(origin).or_default().add(path);
            }
        }
    }

    fn arguments(
        &mut self,
        instruction: &Instruction,
        arguments: &[Argument],
    ) -> Result<(), Problem> {
        let mut history = String::from("ARG");
        for argument in arguments {
            if checks::seems_secret(&argument.name) {
                self.warn_secret("ARG", &argument.name, instruction);
            }
            let given = self.shared.options.build_args.get(&argument.name).cloned();
            let global = self.shared.globals.values.value(&argument.name).map(str::to_owned);
            let from_global = given.is_none() && argument.default.is_none() && global.is_some();
            let value = match (given, &argument.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.expand(instruction, default)?),
                (None, None) => global,
            };
            if let Some(value) = &value
                && !super::NOT_IN_ENVIRONMENT.contains(&argument.name.as_str())
            {
                self.inherited.env.set(&argument.name, value);
            }
            if !from_global {
                let definition = Definition {
                    argument: argument.clone(),
                    value: value.clone().unwrap_or_default(),
                    needs: std::collections::BTreeSet::new(),
                    lines: instruction.lines,
                };
                self.outline.arguments.insert(argument.name.clone(), definition);
            }
            self.outline.used.insert(argument.name.clone());
            history.push(' ');
            history.push_str(&argument.name);
            if let Some(value) = &value {
                history.push('=');
                history.push_str(value);
            }
            let declared = Argument { default: value, ..argument.clone() };
            self.inherited.arguments.push(declared);
        }
        self.record(history, Layer::None);
        Ok(())
    }

    fn warn_secret(&mut self, keyword: &str, name: &str, instruction: &Instruction) {
        let name = crate::quote::quoted(name);
        let text =
            format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name})");
        self.warn(&rules::SECRETS_USED_IN_ARG_OR_ENV, instruction, text);
    }

    fn env(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<(), Problem> {
        // All of them see the environment as it was before the instruction.
        let pairs = self.expand_pairs(instruction, pairs)?;
        let mut history = String::from("ENV");
        for pair in &pairs {
            self.warn_legacy(instruction, pair);
            if checks::seems_secret(&pair.key) {
                self.warn_secret("ENV", &pair.key, instruction);
            }
            history.push(' ');
            history.push_str(&pair.joined());
            self.inherited.env.set(&pair.key, &pair.value);
            set_env(&mut self.image.config.env, &pair.key, &pair.value);
        }
        self.record(history, Layer::None);
        Ok(())
    }

    fn label(&mut self, instruction: &Instruction, pairs: &[Pair]) -> Result<(), Problem> {
        let pairs = self.expand_pairs(instruction, pairs)?;
        let mut history = String::from("LABEL");
        for pair in pairs {
            self.warn_legacy(instruction, &pair);
            history.push(' ');
            history.push_str(&pair.joined());
            self.image.config.labels.insert(pair.key, pair.value);
        }
        self.record(history, Layer::None);
        Ok(())
    }

    fn user(&mut self, instruction: &Instruction, user: &str) -> Result<(), Problem> {
        let user = self.expand(instruction, user)?;
        self.record(format!("USER {user}"), Layer::None);
        self.image.config.user.clone_from(&user);
        self.inherited.user = user;
        Ok(())
    }

    fn workdir(&mut self, instruction: &Instruction, path: &str) -> Result<(), Problem> {
        let path = self.expand(instruction, path)?;
        let plain = windows::plain(&self.platform.os, &path, Mark::Dropped);
        let plain = plain.map_err(LowerError::from)?;
        if !self.inherited.workdir_set && !plain.starts_with('/') {
            let text = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                crate::quote::quoted(&path)
            );
            self.warn(&rules::WORKDIR_RELATIVE_PATH, instruction, text);
        }
        self.inherited.workdir_set = true;
        let before =
            windows::plain(&self.platform.os, &self.image.config.working_dir, Mark::Dropped);
        let before = before.map_err(LowerError::from)?;
        let directory = absolute(&before, &plain, Mark::Dropped);
        self.image.config.working_dir = windows::native(&self.platform.os, &directory);
        self.inherited.cwd.clone_from(&directory);
        let mut layer = Layer::None;
        if directory != "/" {
            let user = &self.image.config.user;
            let make = llb::MakeDir {
                path: directory.clone(),
                mode: 0o755,
                make_parents: true,
                owner: (!user.is_empty()).then(|| llb::Owner::parse(user)),
                timestamp: self.timestamp(),
            };
            let name = self.step_name(&instruction.code);
            let (lines, work) = (instruction.lines, Work::MakeDir(make));
            self.steps.push(Step { name, lines, ignore_cache: false, work });
            layer = Layer::Made;
        }
        self.record(["WORKDIR ", &directory].concat(), layer);
        Ok(())
    }
}
