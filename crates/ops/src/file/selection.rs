//! What a copy selects of its source, for cache keys.
//!
//! Two copies with the same selection of equal content do the same, wherever the content lay: so a
//! copy's key has the last name of its source, not the way there, and the content that patterns
//! select, not what they leave out.

use std::os::fd::{AsFd as _, BorrowedFd};

use cache::Checksums;
use digests::{Digest, StableHasher};
use llb::{Action, ActionInput, CopyMode, FileAction, Owner, UserRef};
use mount::{GuestPath, RootDir};
use patterns::PatternList;
use rustix::fs::FileType;

use super::copy::MAX_DEPTH;
use super::resolve::resolve;
use super::{FileError, entry, wildcard};

/// Returns the digest of which part of an input the copies use.
pub(super) fn selector(copies: &[&llb::CopyFiles]) -> Digest {
    let mut hasher = StableHasher::new("copy.selector.v1");
    hasher.feed(&(copies.len() as u64));
    for copy in copies {
        hasher.feed(&copy.src).feed(&copy.include_patterns).feed(&copy.exclude_patterns);
        hasher.feed(&copy.required_paths);
    }
    hasher.finish()
}

/// Returns the digest of the content that the copies use. Blocks.
pub(super) fn digest(
    tree: &RootDir,
    sums: &Checksums,
    copies: &[llb::CopyFiles],
) -> Result<Digest, FileError> {
    let mut hasher = StableHasher::new("copy.content.v1");
    for copy in copies {
        for required in &copy.required_paths {
            let path = GuestPath::new(required)?;
            tree.stat(&path).map_err(|_| FileError::NotFound(quoted(required)))?;
        }
        let paths = sources(tree, copy)?;
        hasher.feed(&(paths.len() as u64));
        let patterns = Patterns::of(copy)?;
        for path in paths {
            feed_source(&mut hasher, tree, sums, copy, &patterns, &path)?;
        }
    }
    Ok(hasher.finish())
}

fn sources(tree: &RootDir, copy: &llb::CopyFiles) -> Result<Vec<GuestPath>, FileError> {
    if copy.allow_wildcard && wildcard::is_pattern(&copy.src) {
        let found = wildcard::expand(tree, &copy.src)?;
        if found.is_empty() && !copy.allow_empty_wildcard {
            return Err(FileError::NotFound(quoted(&copy.src)));
        }
        return Ok(found);
    }
    Ok(vec![GuestPath::new(&copy.src)?])
}

fn feed_source(
    hasher: &mut StableHasher,
    tree: &RootDir,
    sums: &Checksums,
    copy: &llb::CopyFiles,
    patterns: &Patterns,
    path: &GuestPath,
) -> Result<(), FileError> {
    let missing = |error: FileError| match error {
        FileError::Io { source, .. } if source.0.kind() == std::io::ErrorKind::NotFound => {
            FileError::NotFound(quoted(&path.to_string()))
        }
        other => other,
    };
    let real =
        if copy.follow_symlink { resolve(tree, path).map_err(missing)? } else { path.clone() };
    if let Some(name) = path.file_name() {
        hasher.feed(name.as_encoded_bytes());
    }
    if patterns.are_none() {
        let digest = sums.digest(tree, &real);
        let digest = digest.map_err(FileError::io("lstat", path)).map_err(missing)?;
        hasher.feed(&digest);
        return Ok(());
    }
    let stat = tree.symlink_stat(&real).map_err(FileError::io("lstat", path)).map_err(missing)?;
    if entry::kind(&stat) == FileType::Directory {
        let directory = tree.open_dir(&real).map_err(FileError::io("open", path))?;
        let walk = Walk { tree, sums, patterns, top: &real };
        return walk.children(hasher, directory.as_fd(), "", 0);
    }
    hasher.feed(&sums.digest(tree, &real).map_err(FileError::io("lstat", path))?);
    Ok(())
}

fn quoted(path: &str) -> String {
    format!("\"{path}\"")
}

struct Patterns {
    include: PatternList,
    exclude: PatternList,
}

impl Patterns {
    fn of(copy: &llb::CopyFiles) -> Result<Self, FileError> {
        let list = |patterns: &[String]| {
            PatternList::new(patterns).map_err(|error| FileError::Invalid(error.to_string()))
        };
        Ok(Self { include: list(&copy.include_patterns)?, exclude: list(&copy.exclude_patterns)? })
    }

    fn are_none(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    fn want(&self, path: &str) -> bool {
        (self.include.is_empty() || self.include.matches(path)) && !self.exclude.matches(path)
    }
}

struct Walk<'a> {
    tree: &'a RootDir,
    sums: &'a Checksums,
    patterns: &'a Patterns,
    top: &'a GuestPath,
}

impl Walk<'_> {
    fn children(
        &self,
        hasher: &mut StableHasher,
        directory: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> Result<(), FileError> {
        if depth > MAX_DEPTH {
            let text = format!("{path}: more than {MAX_DEPTH} directories deep");
            return Err(FileError::Invalid(text));
        }
        for name in entry::names(directory).map_err(FileError::io("read", path))? {
            let shown = name.to_string_lossy();
            let below =
                if path.is_empty() { shown.into_owned() } else { format!("{path}/{shown}") };
            let error = |action| FileError::io(action, &below);
            let stat = entry::stat(directory, &name).map_err(error("lstat"))?;
            if entry::kind(&stat) == FileType::Directory {
                if self.patterns.want(&below) {
                    hasher.feed(&below).feed(&stat.st_mode).feed(&stat.st_uid).feed(&stat.st_gid);
                }
                let inner = entry::open_dir(directory, &name).map_err(error("open"))?;
                self.children(hasher, inner.as_fd(), &below, depth + 1)?;
            } else if self.patterns.want(&below) {
                let place = self.top.join(&below)?;
                let digest = self.sums.digest(self.tree, &place).map_err(error("lstat"))?;
                hasher.feed(&below).feed(&digest);
            }
        }
        Ok(())
    }
}

/// Feeds what an action does, with the place of its source left out.
pub(super) fn feed_action(hasher: &mut StableHasher, action: &FileAction) {
    feed_input(hasher, action.input);
    feed_input(hasher, action.secondary_input);
    hasher.feed(&action.output);
    match &action.action {
        Action::Copy(copy) => feed_copy(hasher, copy, action.secondary_input),
        Action::MakeFile(file) => {
            hasher.variant(1).feed(&file.path).feed(&file.mode).feed(&file.data[..]);
            hasher.feed(&file.timestamp);
        }
        Action::MakeDir(directory) => {
            hasher.variant(2).feed(&directory.path).feed(&directory.mode);
            hasher.feed(&directory.make_parents).feed(&directory.timestamp);
        }
        Action::Remove(remove) => {
            hasher.variant(3).feed(&remove.path).feed(&remove.allow_not_found);
            hasher.feed(&remove.allow_wildcard);
        }
        Action::Symlink(link) => {
            hasher.variant(4).feed(&link.target).feed(&link.path).feed(&link.timestamp);
        }
    }
    feed_owner(hasher, action.action.owner());
}

fn feed_copy(hasher: &mut StableHasher, copy: &llb::CopyFiles, from: ActionInput) {
    hasher.variant(0);
    // The content of an input is known by its digest; that of another action's result is not.
    if matches!(from, ActionInput::Input(_)) && !wildcard::is_pattern(&copy.src) {
        let name = copy.src.trim_end_matches("/.").trim_end_matches('/').rsplit('/').next();
        hasher.feed(name.unwrap_or_default());
    } else {
        hasher.feed(&copy.src);
    }
    hasher.feed(&copy.dest).feed(&copy.follow_symlink).feed(&copy.dir_copy_contents);
    hasher.feed(&copy.attempt_unpack).feed(&copy.create_dest_path).feed(&copy.allow_wildcard);
    hasher.feed(&copy.allow_empty_wildcard).feed(&copy.timestamp).feed(&copy.always_replace);
    hasher.feed(&copy.include_patterns).feed(&copy.exclude_patterns).feed(&copy.required_paths);
    match &copy.mode {
        None => hasher.variant(0),
        Some(CopyMode::Bits(bits)) => hasher.variant(1).feed(bits),
        Some(CopyMode::Symbolic(text)) => hasher.variant(2).feed(text),
    };
}

fn feed_input(hasher: &mut StableHasher, input: ActionInput) {
    match input {
        ActionInput::Scratch => hasher.variant(0),
        ActionInput::Input(index) => hasher.variant(1).feed(&(index as u64)),
        ActionInput::Action(index) => hasher.variant(2).feed(&(index as u64)),
    };
}

fn feed_owner(hasher: &mut StableHasher, owner: Option<&Owner>) {
    let Some(owner) = owner else {
        hasher.variant(0);
        return;
    };
    hasher.variant(1);
    for user in [&owner.user, &owner.group] {
        match user {
            None => {
                hasher.variant(0);
            }
            Some(UserRef::Id(id)) => {
                hasher.variant(1).feed(id);
            }
            Some(UserRef::Name { name, input }) => {
                hasher.variant(2).feed(name);
                feed_input(hasher, *input);
            }
        }
    }
}
