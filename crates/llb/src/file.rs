//! The operation that changes files, in steps.

use bytes::Bytes;

/// Changes files, in steps.
///
/// There is at least one action, the outputs are numbered from 0 without a gap, and no action
/// depends on itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileOp {
    /// The steps.
    pub actions: Vec<FileAction>,
}

impl FileOp {
    /// Returns the number of outputs.
    pub fn output_count(&self) -> u32 {
        self.actions
            .iter()
            .filter_map(|action| action.output)
            .map(|output| output + 1)
            .max()
            .unwrap_or(0)
    }

    /// Returns the order in which the actions can be done: each after those whose results it needs,
    /// otherwise as given.
    ///
    /// Shorter than the actions when there is a loop; an operation from a graph has none.
    pub fn order(&self) -> Vec<usize> {
        let mut state = vec![Visit::New; self.actions.len()];
        let mut order = Vec::with_capacity(self.actions.len());
        for first in 0..self.actions.len() {
            let mut steps = vec![(first, false)];
            while let Some((index, needs_done)) = steps.pop() {
                if needs_done {
                    state[index] = Visit::Done;
                    order.push(index);
                    continue;
                }
                match state[index] {
                    Visit::Done => continue,
                    Visit::Open => return order,
                    Visit::New => state[index] = Visit::Open,
                }
                steps.push((index, true));
                for input in self.actions[index].needs() {
                    match input {
                        ActionInput::Action(needed) if needed < state.len() => {
                            steps.push((needed, false));
                        }
                        ActionInput::Action(_) | ActionInput::Scratch | ActionInput::Input(_) => {}
                    }
                }
            }
        }
        order
    }
}

#[derive(Clone, Copy)]
enum Visit {
    New,
    Open,
    Done,
}

/// One step of a file operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAction {
    /// The tree to change.
    pub input: ActionInput,
    /// The tree to copy from.
    pub secondary_input: ActionInput,
    /// Which output of the vertex the changed tree becomes; none is for other steps only.
    pub output: Option<u32>,
    /// What to do.
    pub action: Action,
}

impl FileAction {
    /// Returns all trees it needs.
    pub fn needs(&self) -> Vec<ActionInput> {
        let mut needs = vec![self.input, self.secondary_input];
        let users = self.action.owner().map(|owner| [&owner.user, &owner.group]);
        for user in users.into_iter().flatten().flatten() {
            if let UserRef::Name { input, .. } = user {
                needs.push(*input);
            }
        }
        needs
    }
}

/// A tree that a step starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ActionInput {
    /// The empty tree, or none.
    #[default]
    Scratch,
    /// An input of the vertex.
    Input(usize),
    /// The result of another step.
    Action(usize),
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Copies from the secondary input.
    Copy(CopyFiles),
    /// Writes a file.
    MakeFile(MakeFile),
    /// Makes a directory.
    MakeDir(MakeDir),
    /// Removes.
    Remove(Remove),
    /// Makes a symbolic link.
    Symlink(Symlink),
}

impl Action {
    /// Returns the owner asked for.
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Copy(copy) => copy.owner.as_ref(),
            Self::MakeFile(file) => file.owner.as_ref(),
            Self::MakeDir(dir) => dir.owner.as_ref(),
            Self::Symlink(link) => link.owner.as_ref(),
            Self::Remove(_) => None,
        }
    }

    pub(crate) fn owner_mut(&mut self) -> Option<&mut Owner> {
        match self {
            Self::Copy(copy) => copy.owner.as_mut(),
            Self::MakeFile(file) => file.owner.as_mut(),
            Self::MakeDir(dir) => dir.owner.as_mut(),
            Self::Symlink(link) => link.owner.as_mut(),
            Self::Remove(_) => None,
        }
    }
}

/// Copies from the secondary input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyFiles {
    /// What, absolute.
    pub src: String,
    /// Where to, absolute; a trailing `/` or `/.` says that it is a directory.
    pub dest: String,
    /// The new owner; none keeps the source's.
    pub owner: Option<Owner>,
    /// The new permissions; none keeps the source's.
    pub mode: Option<CopyMode>,
    /// Whether `src` itself is followed when it is a symbolic link.
    pub follow_symlink: bool,
    /// Whether the contents of a directory are copied instead of the directory.
    pub dir_copy_contents: bool,
    /// Whether archives are unpacked.
    pub attempt_unpack: bool,
    /// Whether missing parents of `dest` are made.
    pub create_dest_path: bool,
    /// Whether `src` is a pattern.
    pub allow_wildcard: bool,
    /// Whether a pattern may match nothing.
    pub allow_empty_wildcard: bool,
    /// The new time of change, in nanoseconds since the epoch; none keeps the source's.
    pub timestamp: Option<i64>,
    /// Patterns of what to copy, relative to `src`; empty is everything.
    pub include_patterns: Vec<String>,
    /// Patterns of what not to copy, relative to `src`.
    pub exclude_patterns: Vec<String>,
    /// Whether a file replaces a directory and the other way round.
    pub always_replace: bool,
    /// Paths of the source that must exist.
    pub required_paths: Vec<String>,
}

/// The permissions that a copy gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CopyMode {
    /// These bits.
    Bits(u32),
    /// A change in symbolic form: `u+x,go-w`.
    Symbolic(String),
}

/// Writes a file, replacing what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MakeFile {
    /// Where, absolute.
    pub path: String,
    /// The permissions.
    pub mode: u32,
    /// The content.
    pub data: Bytes,
    /// The owner; none is 0:0.
    pub owner: Option<Owner>,
    /// The time of change, in nanoseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}

/// Makes a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MakeDir {
    /// Where, absolute.
    pub path: String,
    /// The permissions.
    pub mode: u32,
    /// Whether missing parents are made as well.
    pub make_parents: bool,
    /// The owner; none is 0:0.
    pub owner: Option<Owner>,
    /// The time of change, in nanoseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}

/// Removes a file, or a directory with all below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remove {
    /// What, absolute.
    pub path: String,
    /// Whether it may be missing.
    pub allow_not_found: bool,
    /// Whether the path is a pattern.
    pub allow_wildcard: bool,
}

/// Makes a symbolic link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symlink {
    /// The text of the link.
    pub target: String,
    /// Where the link is, absolute.
    pub path: String,
    /// The owner; none is 0:0.
    pub owner: Option<Owner>,
    /// The time of change, in nanoseconds since the epoch; none is now.
    pub timestamp: Option<i64>,
}

/// Who owns what a step makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user.
    pub user: Option<UserRef>,
    /// The group; none follows the user.
    pub group: Option<UserRef>,
}

impl Owner {
    /// Returns the owner that `user[:group]` names, each a name or a number. Names are looked up in
    /// the tree that is changed.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, group)) => {
                Self { user: Some(UserRef::parse(user)), group: Some(UserRef::parse(group)) }
            }
            None => Self { user: Some(UserRef::parse(text)), group: None },
        }
    }

    /// Returns an owner by numbers.
    pub const fn ids(user: u32, group: u32) -> Self {
        Self { user: Some(UserRef::Id(user)), group: Some(UserRef::Id(group)) }
    }
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserRef {
    /// By name, to be looked up in a tree.
    Name {
        /// The name.
        name: String,
        /// The tree. [`crate::State::file`] fills it in: the tree that the step changes.
        input: ActionInput,
    },
    /// By number.
    Id(u32),
}

impl UserRef {
    /// Returns the user or group that `text` names: a number, `root`, or a name.
    pub fn parse(text: &str) -> Self {
        if text == "root" {
            return Self::Id(0);
        }
        match text.parse::<i32>() {
            // Negative numbers wrap as they do for the reference client.
            Ok(id) => Self::Id(id.cast_unsigned()),
            Err(_) if text.is_empty() => Self::Id(0),
            Err(_) => Self::Name { name: text.to_owned(), input: ActionInput::Scratch },
        }
    }
}
