//! The operation as the solver sees it: its key, what it reads of its inputs, its run.

use std::collections::HashMap;

use async_trait::async_trait;
use cache::{FailedPart, ImmutableRef, LayerInfo, Leftover, MutableRef, Refs, Remains, TreeView};
use digests::{Digest, StableHasher};
use llb::{Action, ActionInput, FileAction, FileOp};
use mount::{GuestPath, RootDir};
use patterns::PatternList;
use solver::{CacheMap, ContentKey, InputKey, Op, OpContext, OpError};

use super::copy::{self, CopyOptions, Means};
use super::make::{self, Attributes};
use super::mode::ModeChange;
use super::owner::{Name, owner};
use super::target::Target;
use super::{FileError, selection, unpack, wildcard};
use crate::{OperationError, failure};

/// A chain of actions on trees.
#[derive(Debug)]
pub(crate) struct FileOperation {
    pub(crate) refs: Refs,
    pub(crate) op: FileOp,
    pub(crate) inputs: usize,
}

#[async_trait]
impl Op<ImmutableRef> for FileOperation {
    async fn cache_map(&self, _context: &OpContext) -> Result<CacheMap, OpError> {
        let inputs = (0..self.inputs)
            .map(|slot| match self.copies_of(slot) {
                Some(copies) => InputKey {
                    selector: Some(selection::selector(&copies)),
                    content: ContentKey::ByContent,
                },
                None => InputKey::default(),
            })
            .collect();
        Ok(CacheMap { digest: self.digest(), inputs, volatile: false, pin: None })
    }

    async fn content_key(
        &self,
        _context: &OpContext,
        slot: usize,
        input: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        let Some(copies) = self.copies_of(slot) else { return Ok(None) };
        let copies: Vec<llb::CopyFiles> = copies.into_iter().cloned().collect();
        let view = self.refs.view(input).await.map_err(failure)?;
        let sums = self.refs.checksums(input);
        let digest = tasks::blocking("checksum copy", move || {
            let tree = view.root().map_err(|error| FileError::Invalid(error.to_string()))?;
            selection::digest(&tree, &sums, &copies)
        });
        let wrap = |source| {
            let error = OpError::new(OperationError::checksum(input, source));
            error.leaving(crate::unread(slot, input))
        };
        digest.await.map_err(failure)?.map(Some).map_err(wrap)
    }

    async fn exec(
        &self,
        context: &OpContext,
        inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        let description = context.vertex().name.clone();
        let mut views = HashMap::new();
        for (slot, tree) in inputs.iter().enumerate() {
            let input = ActionInput::Input(slot);
            if self.reads(input) {
                views.insert(input, self.refs.view(tree).await.map_err(failure)?);
            }
        }
        let mut run = Run { operation: self, description, inputs, views, results: HashMap::new() };
        for chain in chains(&self.op) {
            run.chain(&chain).await?;
        }
        run.outputs()
    }
}

impl FileOperation {
    /// Returns the copies that read from an input, if copies are all that uses it.
    fn copies_of(&self, slot: usize) -> Option<Vec<&llb::CopyFiles>> {
        let mut copies = Vec::new();
        for action in &self.op.actions {
            if action.input == ActionInput::Input(slot) || names_users_of(action, slot) {
                return None;
            }
            match (&action.action, action.secondary_input) {
                (Action::Copy(copy), ActionInput::Input(from)) if from == slot => copies.push(copy),
                _ => {}
            }
        }
        Some(copies)
    }

    /// Returns true if an action reads from a tree, or looks names up in it, beside working on one.
    fn reads(&self, input: ActionInput) -> bool {
        self.op.actions.iter().any(|action| {
            action.secondary_input == input
                || action.needs().into_iter().skip(2).any(|i| i == input)
        })
    }

    fn digest(&self) -> Digest {
        let mut hasher = StableHasher::new("file.op.v2");
        hasher.feed(&(self.op.actions.len() as u64));
        for action in &self.op.actions {
            selection::feed_action(&mut hasher, action);
        }
        hasher.finish()
    }
}

fn names_users_of(action: &FileAction, slot: usize) -> bool {
    let named = action.needs();
    // The first two are the trees themselves, which are looked at by the caller.
    named.iter().skip(2).any(|input| *input == ActionInput::Input(slot))
}

/// Splits the actions into chains that work on one tree: a chain ends where its tree is an output or is
/// needed by more than the next action.
fn chains(op: &FileOp) -> Vec<Vec<usize>> {
    let mut needed = vec![0_usize; op.actions.len()];
    for action in &op.actions {
        for input in action.needs() {
            if let ActionInput::Action(index) = input {
                needed[index] += 1;
            }
        }
    }
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for index in op.order() {
        let base = op.actions[index].input;
        let open = chains.iter().position(|chain| {
            let last = chain.last().copied();
            last.is_some_and(|last| {
                base == ActionInput::Action(last)
                    && needed[last] == 1
                    && op.actions[last].output.is_none()
            })
        });
        match open {
            Some(chain) => chains[chain].push(index),
            None => chains.push(vec![index]),
        }
    }
    chains
}

/// One run of the operation.
struct Run<'a> {
    operation: &'a FileOperation,
    description: String,
    inputs: Vec<ImmutableRef>,
    /// The trees that actions read from.
    views: HashMap<ActionInput, TreeView>,
    /// Finished trees by the action that finished them.
    results: HashMap<usize, ImmutableRef>,
}

impl Run<'_> {
    /// Performs the actions of a chain on one new layer.
    async fn chain(&mut self, chain: &[usize]) -> Result<(), OpError> {
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else { return Ok(()) };
        let refs = &self.operation.refs;
        let base = self.tree(self.operation.op.actions[*first].input);
        let info = LayerInfo::regular(self.description.clone());
        let layer = refs.new_layer(&base, info).await.map_err(failure)?;
        let only_copies = chain.iter().all(|index| copies(&self.operation.op.actions[*index]));
        // What else there is may write over a file that is there, which must not be a client's.
        let means = if only_copies { Means::Link } else { Means::Copy };
        let steps: Vec<Step> = chain.iter().map(|index| self.step(*index, means)).collect();
        let layer = tasks::blocking("file operation", move || perform(layer, steps)).await;
        let layer = layer.map_err(failure)?.map_err(|stopped| {
            let Stopped { error, place, layer } = *stopped;
            failure(error).leaving(self.remains(chain[place], layer))
        })?;
        let result = layer.commit().await.map_err(failure)?;
        let made = ActionInput::Action(*last);
        if self.operation.reads(made) {
            self.views.insert(made, refs.view(&result).await.map_err(failure)?);
        }
        self.results.insert(*last, result);
        Ok(())
    }

    /// Returns what is left if an action has failed: the inputs, and for each action the tree that it made.
    fn remains(&self, failed: usize, layer: MutableRef) -> Remains {
        let made = |index| self.results.get(&index).cloned().map(Leftover::unchanged);
        let mut outputs: Vec<_> = (0..self.operation.op.actions.len()).map(made).collect();
        outputs[failed] = Some(Leftover::written(layer));
        let inputs = self.inputs.iter().cloned().map(Some).collect();
        Remains { inputs, outputs, part: Some(FailedPart::Action(failed)) }
    }

    fn tree(&self, input: ActionInput) -> ImmutableRef {
        match input {
            ActionInput::Scratch => ImmutableRef::default(),
            ActionInput::Input(slot) => self.inputs.get(slot).cloned().unwrap_or_default(),
            ActionInput::Action(index) => self.results.get(&index).cloned().unwrap_or_default(),
        }
    }

    fn step(&self, index: usize, means: Means) -> Step {
        let action = self.operation.op.actions[index].clone();
        let view = |input| self.views.get(&input).cloned();
        let source = view(action.secondary_input);
        let users = action.needs().into_iter().skip(2).map(|input| (input, view(input)));
        let users = users.collect();
        Step { action, source, users, means }
    }

    fn outputs(self) -> Result<Vec<ImmutableRef>, OpError> {
        let op = &self.operation.op;
        let output = |wanted: u32| {
            let found = op.actions.iter().position(|action| action.output == Some(wanted));
            let result = found.and_then(|index| self.results.get(&index));
            result.cloned()
        };
        (0..op.output_count())
            .map(|index| {
                output(index).ok_or_else(|| {
                    failure(OperationError::Unsupported(format!("output {index} is not made")))
                })
            })
            .collect()
    }
}

/// An action with all it reads from.
struct Step {
    action: FileAction,
    source: Option<TreeView>,
    users: Vec<(ActionInput, Option<TreeView>)>,
    means: Means,
}

/// Returns true if an action copies and does nothing else.
fn copies(action: &FileAction) -> bool {
    matches!(&action.action, Action::Copy(copy) if !copy.attempt_unpack)
}

/// Why a chain of actions came to no end, and how far it came.
struct Stopped {
    error: FileError,
    /// The place of the action in the chain.
    place: usize,
    /// What was written, also by the action itself.
    layer: MutableRef,
}

fn perform(mut layer: MutableRef, steps: Vec<Step>) -> Result<MutableRef, Box<Stopped>> {
    let mut target = Target::new(&layer);
    let mut lenders = Vec::new();
    let mut stopped = None;
    for (place, step) in steps.iter().enumerate() {
        match step.perform(&mut target) {
            Ok(lender) => lenders.extend(lender),
            Err(error) => {
                // It may have linked some files before it failed.
                lenders.extend(step.source.as_ref().filter(|_| step.means == Means::Link));
                stopped = Some((error, place));
                break;
            }
        }
    }
    drop(target);
    for lender in lenders {
        layer.borrowed_from(lender);
    }
    match stopped {
        None => Ok(layer),
        Some((error, place)) => Err(Box::new(Stopped { error, place, layer })),
    }
}

impl Step {
    /// Performs the action; returns the tree whose files were linked, if that was done.
    fn perform(&self, target: &mut Target<'_>) -> Result<Option<&TreeView>, FileError> {
        if let Action::Copy(copy) = &self.action.action {
            return self.copy(target, copy);
        }
        match &self.action.action {
            Action::Copy(_) => {}
            Action::MakeFile(file) => {
                let path = GuestPath::new(&file.path)?;
                let attributes = self.attributes(target, file.owner.as_ref(), file.timestamp)?;
                target.make(&path, |tree| {
                    make::file(tree, &path, file.mode, &file.data, attributes)
                })?;
            }
            Action::MakeDir(directory) => {
                let path = GuestPath::new(&directory.path)?;
                let attributes =
                    self.attributes(target, directory.owner.as_ref(), directory.timestamp)?;
                let (mode, parents) = (directory.mode, directory.make_parents);
                target
                    .make(&path, |tree| make::directory(tree, &path, mode, parents, attributes))?;
            }
            Action::Remove(remove) => {
                let (missing, wildcard) = (remove.allow_not_found, remove.allow_wildcard);
                make::remove(target.root()?, &remove.path, missing, wildcard)?;
            }
            Action::Symlink(link) => {
                let path = GuestPath::new(&link.path)?;
                let attributes = self.attributes(target, link.owner.as_ref(), link.timestamp)?;
                target.make(&path, |tree| make::symlink(tree, &path, &link.target, attributes))?;
            }
        }
        Ok(None)
    }

    fn copy(
        &self,
        target: &mut Target<'_>,
        copy: &llb::CopyFiles,
    ) -> Result<Option<&TreeView>, FileError> {
        let empty = || FileError::NotFound(copy.src.clone());
        let view = self.source.as_ref().ok_or_else(empty)?;
        let open = |error: cache::CacheError| FileError::Invalid(error.to_string());
        let source = view.root().map_err(open)?;
        let owner = self.owner(target, copy.owner.as_ref())?;
        let mut options = options(copy, owner)?;
        let loan = if self.means == Means::Link { view.lend() } else { None };
        options.means = if loan.is_some() { Means::Link } else { Means::Copy };
        let mut linked = false;
        let pattern = copy.allow_wildcard && wildcard::is_pattern(&copy.src);
        let paths = if pattern {
            wildcard::expand(&source, &copy.src)?
        } else {
            vec![GuestPath::new(&copy.src)?]
        };
        if paths.is_empty() && !copy.allow_empty_wildcard {
            return Err(empty());
        }
        for path in paths {
            let (tree, dest) = (target.root()?, GuestPath::new(&copy.dest)?);
            let unpacked =
                copy.attempt_unpack && unpack::unpack(&source, &path, tree, &dest, owner)?;
            if !unpacked {
                linked |= copy::copy(&source, &path, target, &copy.dest, &options)?;
            }
        }
        Ok(linked.then_some(view))
    }

    fn attributes(
        &self,
        target: &mut Target<'_>,
        asked: Option<&llb::Owner>,
        timestamp: Option<i64>,
    ) -> Result<Attributes, FileError> {
        Ok(Attributes { owner: self.owner(target, asked)?, timestamp })
    }

    fn owner(
        &self,
        target: &mut Target<'_>,
        asked: Option<&llb::Owner>,
    ) -> Result<Option<super::entry::Owner>, FileError> {
        let Some(asked) = asked else { return Ok(None) };
        let open = |error: cache::CacheError| FileError::Invalid(error.to_string());
        let mut trees: Vec<(ActionInput, RootDir)> = Vec::new();
        for (input, view) in &self.users {
            if let Some(view) = view {
                trees.push((*input, view.root().map_err(open)?));
            }
        }
        let is_named =
            |user: &Option<llb::UserRef>| matches!(user, Some(llb::UserRef::Name { .. }));
        let by_name = is_named(&asked.user) || is_named(&asked.group);
        let changed = if by_name { Some(target.root()?) } else { None };
        let find = |input: &ActionInput| {
            let read = trees.iter().find(|(other, _)| other == input).map(|(_, tree)| tree);
            // Otherwise a name of the tree that is being changed.
            read.or_else(|| changed.filter(|_| *input == self.action.input))
        };
        let user = asked.user.as_ref().map(|user| name_of(user, find));
        let group = asked.group.as_ref().map(|group| name_of(group, find));
        owner(user, group).map(Some)
    }
}

fn name_of<'a>(
    user: &'a llb::UserRef,
    find: impl Fn(&ActionInput) -> Option<&'a RootDir>,
) -> Name<'a> {
    match user {
        llb::UserRef::Id(id) => Name::Id(*id),
        llb::UserRef::Name { name, input } => Name::Named(name, find(input)),
    }
}

/// Returns how an operation's copy is to be performed.
pub(super) fn options(
    copy: &llb::CopyFiles,
    owner: Option<super::entry::Owner>,
) -> Result<CopyOptions, FileError> {
    let invalid = |error: &dyn std::fmt::Display| FileError::Invalid(error.to_string());
    let mode = match &copy.mode {
        None => None,
        Some(llb::CopyMode::Bits(bits)) => Some(ModeChange::Absolute(*bits)),
        Some(llb::CopyMode::Symbolic(text)) => {
            Some(ModeChange::parse(text).map_err(|error| invalid(&error))?)
        }
    };
    let patterns = |list: &[String]| PatternList::new(list).map_err(|error| invalid(&error));
    Ok(CopyOptions {
        owner,
        mode,
        timestamp: copy.timestamp,
        follow_links: copy.follow_symlink,
        contents_only: copy.dir_copy_contents,
        create_parents: copy.create_dest_path,
        replace: copy.always_replace,
        include: patterns(&copy.include_patterns)?,
        exclude: patterns(&copy.exclude_patterns)?,
        means: Means::default(),
    })
}
