//! The stages of a build: which is made from which, and which of them are needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oci::Platform;

use super::StageError;
use super::arguments::GlobalArguments;
use crate::error::Problem;
use crate::expand::{ExpandError, Expansion, Lexer, NoVariables, Variables};
use crate::instruction::{Action, Instruction, Stage};
use crate::lint::Linter;
use crate::lint::checks;
use crate::suggest::{Case, hint};
use crate::syntax::Lines;

/// The name of the empty image.
pub(super) const SCRATCH: &str = "scratch";

/// A stage, or an image that is used like one.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// What the file says.
    pub(super) stage: Stage,
    /// What it begins with, expanded.
    pub(super) base: String,
    /// The stage it begins with, if it is one.
    pub(super) parent: Option<usize>,
    /// `--platform`, expanded.
    pub(super) platform: Option<Platform>,
    /// What clients show in front of its steps.
    pub(super) label: String,
    /// True for a stage of the file, false for an image in a `--from`.
    pub(super) is_stage: bool,
    /// True if a named context takes the place of the whole stage.
    pub(super) replaced: bool,
    /// Where each instruction takes files from, by index.
    pub(super) sources: Vec<Vec<Option<usize>>>,
    /// The nodes it takes files from, and where it says so.
    pub(super) dependencies: Vec<(usize, Lines)>,
    /// How many of its first instructions come from its base.
    pub(super) triggers: usize,
    /// The number of steps with a counter.
    pub(super) total: usize,
    /// The global arguments that `FROM` uses.
    pub(super) used_arguments: BTreeSet<String>,
}

/// What is known before stages are linked.
pub(super) struct Known<'a> {
    /// The arguments of the whole file.
    pub(super) arguments: &'a GlobalArguments,
    /// How words are read.
    pub(super) lexer: Lexer,
    /// The platform of the daemon.
    pub(super) native: &'a Platform,
    /// Tells whether a named context takes the place of a stage.
    pub(super) is_replaced: &'a (dyn Fn(&str, Option<&Platform>) -> bool + Sync),
}

/// All stages of a file, and the images they take files from.
#[derive(Debug, Clone, Default)]
pub(super) struct StageGraph {
    /// The stages in order, then images.
    pub(super) nodes: Vec<Node>,
    by_name: BTreeMap<String, usize>,
    /// How many mounts have a source that is no stage: clients see that in a stage's name.
    unnamed_sources: usize,
}

impl StageGraph {
    /// Expands what stages begin with and finds those that begin with another.
    pub(super) fn build(
        stages: Vec<Stage>,
        known: &Known<'_>,
        lint: &mut Linter,
    ) -> Result<Self, Problem> {
        let mut graph = Self::default();
        for (index, stage) in stages.into_iter().enumerate() {
            let mut node = stage_node(stage, known, lint)?;
            check_name(&node.stage.name)?;
            node.replaced = !node.stage.name.is_empty()
                && (known.is_replaced)(&node.stage.name, node.platform.as_ref());
            if node.stage.name.is_empty() {
                node.label = format!("stage-{index}");
            }
            if !node.replaced {
                node.parent = graph.by_name.get(&node.base).copied();
                let base = usize::from(node.base != SCRATCH && node.parent.is_none());
                node.total = base + node.stage.instructions.iter().filter(|i| is_step(i)).count();
            }
            graph.add(node);
        }
        Ok(graph)
    }

    /// Finds where all instructions take files from.
    pub(super) fn link_all(&mut self, lexer: &Lexer) -> Result<(), Problem> {
        for index in 0..self.nodes.len() {
            let instructions = std::mem::take(&mut self.nodes[index].stage.instructions);
            let linked =
                instructions.iter().map(|instruction| self.link(index, instruction, lexer));
            let sources = linked.collect::<Result<Vec<_>, _>>()?;
            self.nodes[index].stage.instructions = instructions;
            self.nodes[index].sources = sources;
        }
        self.refuse_cycles()?;
        if let ([only], 0) = (self.nodes.as_mut_slice(), self.unnamed_sources) {
            only.label.clear();
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> usize {
        let index = self.nodes.len();
        if !node.stage.name.is_empty() {
            self.by_name.insert(node.stage.name.clone(), index);
        }
        self.nodes.push(node);
        index
    }

    /// Returns a stage by its name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    /// Returns the names that can be built and copied from.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.label.as_str()).filter(|label| !label.is_empty())
    }

    /// Returns the stage that is wanted.
    pub(super) fn target(&self, wanted: &str) -> Result<usize, Problem> {
        if wanted.is_empty() {
            return Ok(self.nodes.iter().rposition(|node| node.is_stage).unwrap_or_default());
        }
        self.find(wanted).ok_or_else(|| {
            let error = StageError::NoTarget(wanted.to_owned());
            Problem::from(super::LowerError::from(error)).suggesting(&hint(
                wanted,
                self.names(),
                Case::Matters,
            ))
        })
    }

    /// Finds where an instruction of a stage takes files from.
    fn link(
        &mut self,
        stage: usize,
        instruction: &Instruction,
        lexer: &Lexer,
    ) -> Result<Vec<Option<usize>>, Problem> {
        let lines = instruction.lines;
        let sources = match &instruction.action {
            Action::Copy(copy) if !copy.from.is_empty() => {
                vec![Some(self.source(&copy.from, lines, lexer).map_err(|p| p.at(lines))?)]
            }
            Action::Run(run) => {
                let mut sources = Vec::with_capacity(run.mounts.len());
                for mount in &run.mounts {
                    // A cache begins with the empty image, or with a stage that took its name.
                    let from = if mount.from.is_empty() { SCRATCH } else { &mount.from };
                    match self.find(from) {
                        Some(stage) => sources.push(Some(stage)),
                        None if mount.from.is_empty() => {
                            self.unnamed_sources += 1;
                            sources.push(None);
                        }
                        None => sources.push(Some(self.named_source(from, lines))),
                    }
                }
                sources
            }
            _ => Vec::new(),
        };
        let found = sources.iter().flatten().map(|source| (*source, lines));
        self.nodes[stage].dependencies.extend(found);
        Ok(sources)
    }

    /// Returns the node of `--from`: a stage by number or name, else an image.
    fn source(&mut self, from: &str, lines: Lines, lexer: &Lexer) -> Result<usize, Problem> {
        let wrong = |error: super::LowerError| Problem::from(error);
        let expanded = lexer.expand(from, &NoVariables)?;
        if expanded.text != from {
            return Err(wrong(super::CopyError::VariableFrom.into()));
        }
        let Ok(number) = from.parse::<i64>() else {
            return Ok(self.named_source(from, lines));
        };
        let is_stage = |index: &usize| self.nodes.get(*index).is_some_and(|node| node.is_stage);
        let index = usize::try_from(number).ok().filter(is_stage);
        index.ok_or_else(|| wrong(StageError::Index(number).into()))
    }

    fn named_source(&mut self, from: &str, lines: Lines) -> usize {
        if let Some(index) = self.find(from) {
            return index;
        }
        let mut node = image_node(from, lines);
        node.parent = None;
        self.add(node)
    }

    /// Puts the triggers of a stage's base before its own instructions. Returns whether they need
    /// something that was not needed before.
    pub(super) fn add_triggers(
        &mut self,
        stage: usize,
        triggers: Vec<Arc<Instruction>>,
        lexer: &Lexer,
    ) -> Result<bool, Problem> {
        let mut sources = Vec::with_capacity(triggers.len());
        for trigger in &triggers {
            sources.push(self.link(stage, trigger, lexer)?);
        }
        let new = sources.iter().any(|found| !found.is_empty());
        let node = &mut self.nodes[stage];
        node.triggers += triggers.len();
        node.total += triggers.len();
        node.stage.instructions.splice(0..0, triggers);
        node.sources.splice(0..0, sources);
        Ok(new)
    }

    /// Returns a stage and all it needs.
    pub(super) fn reachable(&self, target: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut pending = vec![target];
        while let Some(index) = pending.pop() {
            if found.insert(index) {
                let node = &self.nodes[index];
                // What stands in its place has all it needs.
                if node.replaced {
                    continue;
                }
                pending.extend(node.parent);
                pending.extend(node.dependencies.iter().map(|(source, _)| *source));
            }
        }
        found
    }

    /// Returns the stage without parent that a stage begins with, over all that are in between.
    pub(super) fn origin(&self, mut index: usize) -> usize {
        // A parent always stands earlier in the file.
        while let Some(parent) = self.nodes[index].parent {
            index = parent;
        }
        index
    }

    fn refuse_cycles(&self) -> Result<(), Problem> {
        let mut done = vec![false; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut path: Vec<(usize, usize)> = vec![(start, 0)];
            while let Some((index, next)) = path.last_mut() {
                let (index, position) = (*index, *next);
                *next += 1;
                let Some(&(source, _)) = self.nodes[index].dependencies.get(position) else {
                    done[index] = true;
                    path.pop();
                    continue;
                };
                if path.iter().any(|(on_path, _)| *on_path == source) {
                    return Err(self.cycle(start, &path));
                }
                if !done[source] {
                    path.push((source, 0));
                }
            }
        }
        Ok(())
    }

    /// Names the stage that the search began with, and all that leads round from it.
    fn cycle(&self, stage: usize, path: &[(usize, usize)]) -> Problem {
        let error = StageError::Cycle(self.nodes[stage].label.clone());
        let problem = Problem::from(super::LowerError::from(error));
        path.iter().fold(problem, |problem, (index, next)| {
            match self.nodes[*index].dependencies.get(next.saturating_sub(1)) {
                Some((_, lines)) => problem.at(*lines),
                None => problem,
            }
        })
    }
}

/// Steps that clients count.
fn is_step(instruction: &Instruction) -> bool {
    matches!(instruction.action, Action::Copy(_) | Action::Run(_) | Action::Workdir(_))
}

/// Checks that a context could have the name of a stage, whether there is one or not.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.is_empty() || checks::RESERVED_STAGES.contains(&name) {
        return Ok(());
    }
    oci::Reference::parse(name).map(drop).map_err(|reason| {
        let (name, reason) = (name.to_owned(), reason.to_string());
        Problem::from(super::LowerError::from(StageError::ContextName { name, reason }))
    })
}

fn image_node(base: &str, lines: Lines) -> Node {
    Node {
        stage: Stage {
            name: String::new(),
            base: base.to_owned(),
            platform: String::new(),
            description: String::new(),
            keyword: String::new(),
            code: String::new(),
            lines,
            comments: Vec::new(),
            instructions: Vec::new(),
        },
        base: base.to_owned(),
        parent: None,
        platform: None,
        label: String::new(),
        is_stage: false,
        replaced: false,
        sources: Vec::new(),
        dependencies: Vec::new(),
        triggers: 0,
        total: 0,
        used_arguments: BTreeSet::new(),
    }
}

fn stage_node(stage: Stage, known: &Known<'_>, lint: &mut Linter) -> Result<Node, Problem> {
    let Known { arguments, lexer, native, .. } = *known;
    let lines = stage.lines;
    let wrong = |error: StageError| Problem::from(super::LowerError::from(error)).at(lines);
    let expand = |text: &str, lint: &mut Linter| {
        let result = lexer.expand(text, &arguments.values);
        let unmatched = result.as_ref().map_or_else(ExpandError::unmatched, |done| &done.unmatched);
        checks::undeclared_in_from(unmatched, arguments, &stage, lint);
        result.map_err(|error| Problem::from(error).at(lines))
    };
    let base = expand(&stage.base, lint)?;
    if base.text.is_empty() {
        return Err(wrong(StageError::BlankBase(stage.base.clone())));
    }
    let mut used = base.matched.clone();
    let mut platform = None;
    if !stage.platform.is_empty() {
        let expansion = expand(&stage.platform, lint)
            .map_err(|problem| problem.context("failed to process arguments for platform "))?;
        checks::platform_flag(&expansion, arguments, &stage, native, lint);
        let hint = undeclared_hint(&expansion, arguments);
        let suggest = |problem: Problem| problem.suggesting(&hint);
        if expansion.text.is_empty() {
            return Err(suggest(wrong(StageError::BlankPlatform(stage.platform))));
        }
        let parsed = Platform::parse_with_default(&expansion.text, native).map_err(|error| {
            let expression = stage.platform.clone();
            suggest(wrong(StageError::Platform { expression, reason: error.to_string() }))
        });
        platform = Some(parsed?);
        used.extend(expansion.matched);
    }
    let mut node = image_node(&base.text, lines);
    node.label.clone_from(&stage.name);
    node.stage = stage;
    node.platform = platform;
    node.is_stage = true;
    node.used_arguments = used;
    Ok(node)
}

fn undeclared_hint(expansion: &Expansion, arguments: &GlobalArguments) -> String {
    let names = arguments.values.names();
    let hints =
        expansion.unmatched.iter().map(|name| hint(name, names.iter().copied(), Case::Matters));
    hints.into_iter().find(|hint| !hint.is_empty()).unwrap_or_default()
}
