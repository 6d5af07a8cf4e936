//! From stages to a build graph and an image configuration.
//!
//! First every stage is linked to what it is made from (`stages`), then bases are looked up
//! (`bases`), then each needed stage is gone through instruction by instruction (`evaluate`), which
//! gives a plan; at last the plans become a graph (`graph`).

pub(crate) mod arguments;
mod bases;
mod epoch;
mod error;
mod evaluate;
mod graph;
mod image;
mod naming;
mod plan;
mod scan;
mod stages;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bridge::{Bridge, SourceExcerpt};
use llb::{Definition, State};
use oci::{History, ImageConfig, Platform, Time};

use self::arguments::GlobalArguments;
use self::bases::{Bases, Openings, parse_base};
use self::evaluate::{Books, Evaluated, Inherited, Opening, Shared, evaluate};
use self::graph::{Builder, needs};
use self::plan::UsedPaths;
use self::stages::{Known, StageGraph};
use crate::context::{IgnorePatterns, MainContext, NamedContexts, graph_mode};
use crate::error::Problem;
use crate::expand::Lexer;
use crate::instruction::{Action, Instruction, Stages};
use crate::lint::caches::KnownCaches;
use crate::lint::checks::IgnoreFile;
use crate::lint::{Linter, checks};
use crate::options::Options;
use crate::syntax::parse;

pub(crate) use bases::read_image;
pub use error::{
    ConfigError, ContextError, CopyError, EpochError, LowerError, OptionError, PathError, RunError,
    StageError,
};
pub(crate) use evaluate::StageOutline;
pub(crate) use plan::{NamedDirectory, Start};
pub(crate) use scan::{NOT_IN_ENVIRONMENT, ScanExtras};

/// What a build for one platform is made from.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// Who is asked.
    pub(crate) bridge: &'a dyn Bridge,
    /// The options.
    pub(crate) options: &'a Options,
    /// Graphs that were given by name.
    pub(crate) inputs: &'a BTreeMap<String, Definition>,
    /// The Dockerfile.
    pub(crate) source: &'a SourceExcerpt,
    /// The character that escapes others in it.
    pub(crate) escape: char,
    /// Its stages.
    pub(crate) stages: &'a Stages,
    /// Where the files come from.
    pub(crate) context: &'a MainContext,
    /// What the client does not send.
    pub(crate) ignore: &'a IgnorePatterns<'a>,
    /// The platforms of the daemon, the default first.
    pub(crate) native: &'a [Platform],
    /// The platform to build for; none for the default.
    pub(crate) platform: Option<&'a Platform>,
    /// True to go through all stages, needed or not.
    pub(crate) all_stages: bool,
}

/// A build for one platform.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    /// The tree of the wanted stage.
    pub(crate) state: State,
    /// The platform it is for.
    pub(crate) platform: Platform,
    /// The configuration of the image.
    pub(crate) image: ImageConfig,
    /// The configuration of the base image.
    pub(crate) base_image: Option<ImageConfig>,
    /// The time that everything is given.
    pub(crate) epoch: Option<Time>,
    /// What is scanned besides, if anything is.
    pub(crate) scan: ScanExtras,
    /// What the build needs from outside.
    pub(crate) outline: Outline,
}

/// What the wanted stage, and the stages it is made from, need from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outline {
    /// The stage's name.
    pub(crate) name: String,
    /// What the file says about it.
    pub(crate) description: String,
    /// Arguments of the whole file.
    pub(crate) globals: GlobalArguments,
    /// What each stage needs.
    pub(crate) stages: Vec<StageOutline>,
}

/// Lowers a Dockerfile for one platform. Warnings go to `lint`.
pub(crate) async fn lower(request: &Request<'_>, lint: &mut Linter) -> Result<Lowered, Problem> {
    let stages = &request.stages.stages;
    if stages.is_empty() {
        return Err(LowerError::from(StageError::None).into());
    }
    checks::stage_names(stages, lint);
    checks::keyword_case(stages, lint);

    let native = request.native.first().cloned().unwrap_or_else(default_platform);
    let target_platform = request.platform.unwrap_or(&native);
    let lexer = Lexer::new(request.escape);
    let mut globals = global_arguments(request, &native, target_platform, &lexer, lint)?;
    let contexts = NamedContexts {
        bridge: request.bridge,
        options: request.options,
        inputs: request.inputs,
        target: target_platform,
    };
    let epoch = epoch::epoch(request, &globals, &contexts, &lexer).await?;
    // Where a name was given, the rest of the build sees the number.
    let told = epoch.told(request.options, &mut globals);
    let request = &Request { options: told.as_ref().unwrap_or(request.options), ..request.clone() };
    let is_replaced =
        |name: &str, platform: Option<&Platform>| contexts.find(name, platform).is_some();
    let known = Known { arguments: &globals, lexer, native: &native, is_replaced: &is_replaced };
    let mut graph = StageGraph::build(stages.clone(), &known, lint)?;
    let target = graph.target(&request.options.target)?;
    graph.link_all(&lexer)?;
    let bases = Bases {
        bridge: request.bridge,
        options: request.options,
        contexts,
        target: target_platform,
        implicit_target: request.platform.is_none(),
        native: request.native,
    };
    let (openings, wanted) =
        resolve_all(request, &bases, (&mut graph, &lexer), target, lint).await?;
    let ignore_patterns = request.ignore.get().await?;
    let ignore = IgnoreFile::new(ignore_patterns.clone()).unwrap_or_default();
    let shared = Shared {
        options: request.options,
        globals: &globals,
        lexer,
        graph: &graph,
        target_platform,
        epoch: epoch.time(),
        ignore: &ignore,
        can_merge: request.bridge.supports("mergeop"),
        all_stages: request.all_stages,
    };
    let planned = plan_stages(&shared, &bases, openings, &wanted, lint)?;
    finish(request, &shared, planned, target, ignore_patterns)
}

/// Returns the platform of a daemon that does not say what it builds for.
pub(crate) fn default_platform() -> Platform {
    Platform::new("linux", std::env::consts::ARCH)
}

fn global_arguments(
    request: &Request<'_>,
    native: &Platform,
    target_platform: &Platform,
    lexer: &Lexer,
    lint: &mut Linter,
) -> Result<GlobalArguments, Problem> {
    let Stages { stages, arguments: instructions, .. } = request.stages;
    let build_args = &request.options.build_args;
    let last = stages.last().map(|stage| stage.name.as_str()).unwrap_or_default();
    let stage = match request.options.target.as_str() {
        "" => last,
        target => target,
    };
    let automatic = arguments::automatic(native, target_platform, stage, build_args);
    checks::default_bases(stages, instructions, &automatic, lexer, lint);
    arguments::global(automatic, instructions, build_args, lexer)
}

/// Looks up all bases that are needed; their triggers may need more.
async fn resolve_all(
    request: &Request<'_>,
    bases: &Bases<'_>,
    (graph, lexer): (&mut StageGraph, &Lexer),
    target: usize,
    lint: &mut Linter,
) -> Result<(Openings, BTreeSet<usize>), Problem> {
    let mut openings = Openings::new();
    let mut triggered = BTreeSet::new();
    loop {
        let needed = graph.reachable(target);
        let wanted = match request.all_stages {
            true => (0..graph.nodes.len()).collect(),
            false => needed.clone(),
        };
        for node in graph.nodes.iter().filter(|node| needs_image(node)) {
            parse_base(node)?;
        }
        let missing = wanted
            .iter()
            .copied()
            .filter(|index| graph.nodes[*index].parent.is_none() && !openings.contains_key(index));
        let missing = missing.collect();
        openings.extend(bases.resolve(graph, &missing, lint).await?);
        let mut again = false;
        // Stages that are only looked at are looked at as they are written.
        for index in &needed {
            if triggered.insert(*index) {
                let triggers = triggers(graph, &mut openings, *index);
                again |= add_triggers((graph, lexer), *index, &triggers)?;
            }
        }
        if !again {
            recount(bases, graph, &mut openings);
            return Ok((openings, wanted));
        }
    }
}

fn needs_image(node: &stages::Node) -> bool {
    node.parent.is_none() && node.base != stages::SCRATCH
}

/// Returns what a stage's base wants done first, as text.
fn triggers(graph: &StageGraph, openings: &mut Openings, index: usize) -> Vec<String> {
    let node = &graph.nodes[index];
    if node.replaced || !node.is_stage {
        // What the image wants done is not done by whoever takes it as it is.
        if let Some(opening) = openings.get_mut(&index) {
            opening.image.config.on_build.clear();
        }
        return Vec::new();
    }
    let kept = |instruction: &Arc<Instruction>| match &instruction.action {
        Action::Onbuild(text) => Some(text.clone()),
        _ => None,
    };
    match node.parent {
        Some(parent) => graph.nodes[parent].stage.instructions.iter().filter_map(kept).collect(),
        None => openings
            .get_mut(&index)
            .map(|opening| std::mem::take(&mut opening.image.config.on_build))
            .unwrap_or_default(),
    }
}

fn add_triggers(
    (graph, lexer): (&mut StageGraph, &Lexer),
    index: usize,
    triggers: &[String],
) -> Result<bool, Problem> {
    if triggers.is_empty() {
        return Ok(false);
    }
    let lines = graph.nodes[index].stage.lines;
    let read = |text: &String| {
        let mut document = parse(text)?;
        let (Some(mut node), true) = (document.nodes.pop(), document.nodes.is_empty()) else {
            return Err(Problem::from(LowerError::from(StageError::Trigger)));
        };
        node.lines = lines;
        Ok(Arc::new(crate::instruction::read(&node)?))
    };
    let instructions: Result<Vec<_>, _> = triggers.iter().map(read).collect();
    instructions
        .and_then(|instructions| graph.add_triggers(index, instructions, lexer))
        .map_err(|problem| problem.only_at(lines))
}

/// The triggers count as steps, but the first step had its name before they were known.
fn recount(bases: &Bases<'_>, graph: &StageGraph, openings: &mut Openings) {
    for (index, opening) in openings {
        let node = &graph.nodes[*index];
        if opening.name.total == node.total && opening.name.label == node.label {
            continue;
        }
        opening.name = bases.stage_name(node, &opening.platform);
        if let Start::Image { reference, name, .. } = &mut opening.start {
            let text = format!("FROM {reference}");
            *name = opening.name.next(&text, &crate::expand::NoVariables, false);
        }
    }
}

/// Stages that have been gone through, by index. Boxed, because maps move what is in them.
type PlannedStages = BTreeMap<usize, Box<Evaluated>>;

/// All that is known once every stage has been gone through.
struct Planned {
    stages: PlannedStages,
    used: BTreeMap<usize, UsedPaths>,
    context: UsedPaths,
}

fn plan_stages(
    shared: &Shared<'_>,
    bases: &Bases<'_>,
    mut openings: Openings,
    wanted: &BTreeSet<usize>,
    lint: &mut Linter,
) -> Result<Planned, Problem> {
    let graph = shared.graph;
    let mut planned = Planned {
        stages: PlannedStages::new(),
        used: BTreeMap::new(),
        context: UsedPaths::default(),
    };
    let mut known_caches = KnownCaches::default();
    let mut done: Vec<bool> =
        graph.nodes.iter().map(|node| !node.is_stage || node.replaced).collect();
    // Images have no instructions of their own: they come first, since stages copy from them.
    let (stages, images): (Vec<usize>, Vec<usize>) =
        wanted.iter().partition(|index| graph.nodes[**index].is_stage);
    for index in images.into_iter().chain(stages) {
        let node = &graph.nodes[index];
        let parent = node.parent.and_then(|parent| planned.stages.get_mut(&parent));
        let (opening, inherited) = match parent {
            Some(parent) => from_parent(bases, node, parent),
            None => match openings.remove(&index) {
                Some(opening) => (*opening, Inherited::default()),
                None => continue,
            },
        };
        done[index] = true;
        let books = Books {
            lint: &mut *lint,
            done: &done,
            used: &mut planned.used,
            context: &mut planned.context,
            known_caches: &mut known_caches,
        };
        let evaluated = evaluate(shared, books, index, opening, inherited)?;
        planned.stages.insert(index, Box::new(evaluated));
    }
    Ok(planned)
}

/// Each stage keeps the history of its own instructions: in a long chain of stages, copies of the whole
/// would add up.
fn from_parent(
    bases: &Bases<'_>,
    node: &stages::Node,
    parent: &mut Evaluated,
) -> (Opening, Inherited) {
    let history = std::mem::take(&mut parent.plan.image.history);
    let mut image = parent.plan.image.clone();
    parent.plan.image.history = history;
    image.config.on_build.clear();
    let platform = parent.plan.platform.clone();
    let opening = Opening {
        start: Start::Stage(node.parent.unwrap_or_default()),
        image,
        base_image: parent.plan.base_image.clone(),
        name: bases.stage_name(node, &platform),
        platform,
    };
    (opening, parent.inherited.clone())
}

fn finish(
    request: &Request<'_>,
    shared: &Shared<'_>,
    mut planned: Planned,
    target: usize,
    ignore_patterns: Vec<String>,
) -> Result<Lowered, Problem> {
    let origin = shared.graph.origin(target);
    planned.used.entry(origin).or_default().add("/".to_owned());
    let context = request.context.state(
        request.bridge,
        request.options,
        planned.context.to_follow(),
        ignore_patterns,
    );
    let mut builder = Builder {
        source: request.source,
        resolve_mode: graph_mode(request.options.resolve_mode),
        context,
        used: planned.used,
        done: BTreeMap::new(),
    };
    let mut outlines = Vec::new();
    for index in build_order(&planned.stages, target) {
        if let Some(stage) = planned.stages.get_mut(&index) {
            builder.add(index, &mut stage.plan);
            outlines.push(std::mem::take(&mut stage.outline));
        }
    }
    let scan = scan_extras(request, shared.graph, &planned.stages, target, &builder);
    let Some(stage) = planned.stages.remove(&target) else {
        return Err(LowerError::from(StageError::NoTarget(request.options.target.clone())).into());
    };
    let node = &shared.graph.nodes[target];
    let platform = shared.target_platform.clone();
    let mut image = stage.plan.image;
    image.history = full_history(shared.graph, &planned.stages, target, image.history);
    image.config.labels.extend(request.options.labels.clone());
    set_platform(&mut image, request.platform);
    Ok(Lowered {
        state: builder.done.remove(&target).unwrap_or_default(),
        platform,
        image,
        base_image: stage.plan.base_image,
        epoch: shared.epoch,
        scan,
        outline: Outline {
            name: node.stage.name.clone(),
            description: node.stage.description.clone(),
            globals: shared.globals.clone(),
            stages: outlines,
        },
    })
}

/// Returns what is scanned beside the wanted stage. What that one does not need is not built, and so not scanned.
fn scan_extras(
    request: &Request<'_>,
    graph: &StageGraph,
    stages: &PlannedStages,
    target: usize,
    built: &Builder<'_>,
) -> ScanExtras {
    let ignores_cache =
        |index: usize| request.options.no_cache.applies_to(&graph.nodes[index].stage.name);
    let mut scan = ScanExtras { ignore_cache: ignores_cache(target), trees: BTreeMap::new() };
    if stages.get(&target).is_some_and(|stage| stage.scan.context) {
        scan.trees.insert("context".to_owned(), built.context.clone());
    }
    for (index, tree) in built.done.iter().filter(|(index, _)| **index != target) {
        // An image that files are copied from is no stage, and has no name either.
        let wanted = stages.get(index).is_some_and(|stage| stage.scan.stage);
        if wanted && graph.nodes[*index].is_stage {
            scan.ignore_cache |= ignores_cache(*index);
            scan.trees.insert(graph.nodes[*index].label.clone(), tree.clone());
        }
    }
    scan
}

/// Returns the history of a stage after that of all it is made from.
fn full_history(
    graph: &StageGraph,
    stages: &PlannedStages,
    target: usize,
    own: Vec<History>,
) -> Vec<History> {
    let mut parts = vec![own];
    let mut index = target;
    while let Some(parent) = graph.nodes[index].parent {
        parts.extend(stages.get(&parent).map(|stage| stage.plan.image.history.clone()));
        index = parent;
    }
    parts.into_iter().rev().flatten().collect()
}

/// Returns the stages that the wanted one needs, each after those it needs itself.
fn build_order(stages: &PlannedStages, target: usize) -> Vec<usize> {
    let mut found = BTreeSet::new();
    let mut pending = vec![target];
    while let Some(index) = pending.pop() {
        if let (true, Some(stage)) = (found.insert(index), stages.get(&index)) {
            pending.extend(needs(&stage.plan));
        }
    }
    // Images have the highest indexes, and stages need only what stands before them.
    let is_image = |index: &usize| matches!(stages.get(index), Some(stage) if stage.is_source);
    let (images, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(is_image);
    images.into_iter().chain(rest).collect()
}

fn set_platform(image: &mut ImageConfig, wanted: Option<&Platform>) {
    if let Some(wanted) = wanted {
        let same = wanted.os == image.os && wanted.architecture == image.architecture;
        image.os.clone_from(&wanted.os);
        image.architecture.clone_from(&wanted.architecture);
        if !wanted.variant.is_empty() || !same {
            image.variant.clone_from(&wanted.variant);
        }
        if !wanted.os_version.is_empty() || !same {
            image.os_version.clone_from(&wanted.os_version);
        }
        if !wanted.os_features.is_empty() {
            image.os_features.clone_from(&wanted.os_features);
        }
    }
    let normalized = image.platform().normalized();
    image.os = normalized.os;
    image.architecture = normalized.architecture;
    image.variant = normalized.variant;
}
