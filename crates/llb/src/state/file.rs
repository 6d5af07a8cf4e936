//! Changing files of a tree.

use super::{Body, Node, OpOptions, Output, State};
use crate::{
    Action, ActionInput, CopyFiles, FileAction, FileOp, MakeDir, MakeFile, Op, Remove, Symlink,
    UserRef,
};

/// Steps that change a tree, one after the other.
#[derive(Debug, Clone, Default)]
pub struct FileActions(Vec<(Action, State)>);

impl FileActions {
    /// Returns no steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a copy from another tree.
    #[must_use]
    pub fn copy(self, from: &State, copy: CopyFiles) -> Self {
        self.step(Action::Copy(copy), from.clone())
    }

    /// Adds the writing of a file.
    #[must_use]
    pub fn make_file(self, file: MakeFile) -> Self {
        self.step(Action::MakeFile(file), State::scratch())
    }

    /// Adds the making of a directory.
    #[must_use]
    pub fn make_dir(self, dir: MakeDir) -> Self {
        self.step(Action::MakeDir(dir), State::scratch())
    }

    /// Adds a removal.
    #[must_use]
    pub fn remove(self, remove: Remove) -> Self {
        self.step(Action::Remove(remove), State::scratch())
    }

    /// Adds the making of a symbolic link.
    #[must_use]
    pub fn symlink(self, link: Symlink) -> Self {
        self.step(Action::Symlink(link), State::scratch())
    }

    fn step(mut self, mut action: Action, from: State) -> Self {
        clean_paths(&mut action);
        self.0.push((action, from));
        self
    }
}

impl State {
    /// Returns this tree changed by `actions`. Users by name are looked up in this tree, not in what
    /// the steps before made of it. Without steps, that is this tree.
    #[must_use]
    pub fn file(&self, actions: FileActions, options: OpOptions) -> Self {
        let Some(last) = actions.0.len().checked_sub(1) else { return self.clone() };
        let mut inputs: Vec<Output> = Vec::new();
        let mut link = |state: &Self| match &state.output {
            None => ActionInput::Scratch,
            Some(output) => {
                inputs.push(output.clone());
                ActionInput::Input(inputs.len() - 1)
            }
        };
        let base = link(self);
        let step = |(index, (mut action, from)): (usize, (Action, Self))| {
            if let Some(owner) = action.owner_mut() {
                for user in [&mut owner.user, &mut owner.group].into_iter().flatten() {
                    if let UserRef::Name { input, .. } = user {
                        *input = base;
                    }
                }
            }
            FileAction {
                input: index.checked_sub(1).map_or(base, ActionInput::Action),
                secondary_input: link(&from),
                output: (index == last).then_some(0),
                action,
            }
        };
        let actions = actions.0.into_iter().enumerate().map(step).collect();
        let platform = options.platform_from(self);
        let body = Body::Op(Op::File(FileOp { actions }));
        Self::output_of(Node::new(inputs, body, options, ["file.base"]), 0, platform)
    }
}

/// Makes paths absolute and removes what says nothing, but keeps what marks a directory.
fn clean_paths(action: &mut Action) {
    let absolute = |path: &mut String| {
        if !is_clean(path) {
            *path = clean(&format!("/{path}"));
        }
    };
    match action {
        Action::Copy(copy) => {
            absolute(&mut copy.src);
            let marker = match copy.dest.as_str() {
                dest if dest.ends_with("/.") => "/.",
                dest if dest.ends_with('/') => "/",
                _ => "",
            };
            let plain = copy.dest.strip_suffix(marker).unwrap_or_default();
            if plain != "/" && is_clean(plain) {
                return;
            }
            absolute(&mut copy.dest);
            if !marker.is_empty() {
                copy.dest = format!("{}{marker}", copy.dest.trim_end_matches('/'));
            }
        }
        Action::MakeFile(file) => absolute(&mut file.path),
        Action::MakeDir(dir) => absolute(&mut dir.path),
        Action::Remove(remove) => absolute(&mut remove.path),
        // A link is made exactly where and as it is asked for.
        Action::Symlink(_) => {}
    }
}

/// Returns true for an absolute path that [`clean`] leaves as it is.
fn is_clean(path: &str) -> bool {
    let mut below = path.strip_prefix('/').into_iter().flat_map(|below| below.split('/'));
    path == "/" || (path.starts_with('/') && below.all(|part| !matches!(part, "" | "." | "..")))
}

/// Returns an absolute path without `.`, `..` and doubled slashes.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    ["/", &parts.join("/")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_directory_survives_cleaning() {
        let dest = |dest: &str| {
            let copy = CopyFiles { dest: dest.to_owned(), ..CopyFiles::default() };
            match FileActions::new().copy(&State::scratch(), copy).0.remove(0).0 {
                Action::Copy(copy) => copy.dest,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(dest("a/./b//"), "/a/b/");
        assert_eq!(dest("/a/../b/."), "/b/.");
        assert_eq!((dest("/a/b/").as_str(), dest("/a/b/.").as_str()), ("/a/b/", "/a/b/."));
        assert_eq!((dest("/").as_str(), dest("//").as_str()), ("/", "/"));
        assert_eq!(dest("/."), "/.");
        assert_eq!(dest("../x"), "/x");
    }
}
