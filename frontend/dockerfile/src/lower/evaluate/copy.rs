//! `ADD` and `COPY`.

use std::borrow::Cow;

use bytes::Bytes;
use digests::Digest;
use llb::{CopyMode, GitOptions, Owner};

use super::super::image::Layer;
use super::super::naming::shown;
use super::super::plan::{Copying, Linked, Origin, Step, Work};
use super::super::{CopyError, LowerError};
use super::{Stage, mode, windows};
use crate::error::Problem;
use crate::expand::Lexer;
use crate::instruction::{CopyFiles, InlineFile, Instruction, SourceKind};
use crate::lint::{checks, rules};
use crate::path::{self, Mark, absolute};
use crate::source_url::{
    GitSource, has_web_scheme, is_web_file, parse_checksum, parse_git, web_file_name,
};

/// What all sources of one instruction share, expanded.
struct Target<'a> {
    copy: &'a CopyFiles,
    sources: Vec<String>,
    destination: String,
    /// The destination as the graph has it.
    place: String,
    owner: String,
    mode: Option<CopyMode>,
    /// What the flag says, or the address of the last repository that said it.
    checksum: String,
    /// The same.
    keep_git_dir: Option<bool>,
}

impl Stage<'_> {
    pub(super) fn copy(
        &mut self,
        position: usize,
        instruction: &Instruction,
        copy: &CopyFiles,
    ) -> Result<(), Problem> {
        let owner = self.expand(instruction, &copy.owner)?;
        let mode_text = self.expand(instruction, &copy.mode)?;
        let checksum = self.expand(instruction, &copy.checksum)?;
        let sources = self.expand_all(instruction, &copy.sources)?;
        let destination = self.expand(instruction, &copy.destination)?;
        let inline = self.inline_files(instruction, &copy.inline)?;
        let tree = self.copy_origin(position, copy).map_err(LowerError::from)?;
        let mode = match mode_text.as_str() {
            "" => None,
            text => Some(mode::parse(text).map_err(LowerError::from)?),
        };
        let place = windows::plain(&self.platform.os, &destination, Mark::Kept);
        let place = place.map_err(LowerError::from)?;
        let keep_git_dir = copy.keep_git_dir;
        let mut target =
            Target { copy, sources, destination, place, owner, mode, checksum, keep_git_dir };
        check_checksum(&target).map_err(LowerError::from)?;

        let text = shown(&instruction.code, &self.shared.lexer, &self.inherited.env);
        let name = self.name.next(&text, &self.inherited.env, self.onbuild);
        let mut pieces = Vec::new();
        for source in target.sources.clone() {
            pieces.push(self.piece(instruction, &mut target, &source, &tree)?);
        }
        for file in &inline {
            pieces.push(self.inline_piece(&target, file));
        }
        let is_linked = copy.link && mode_text.is_empty() && self.shared.can_merge;
        let link = is_linked.then(|| {
            let merge = format!("LINK {text}");
            let merge_name = self.name.current(&merge, &self.inherited.env, self.onbuild);
            let key = format!("{} {} {}", self.platform, self.index, self.steps.len());
            Linked { group: Digest::of(format!("{key} {name}")).hex(), merge_name }
        });
        let work = Work::Copy(Copying { pieces, link });
        let ignore_cache = self.ignore_cache();
        self.steps.push(Step { name, lines: instruction.lines, ignore_cache, work });
        let history = history(&target, &mode_text, &inline);
        self.record(history, Layer::Made);
        Ok(())
    }

    /// Expands the contents of here-documents, in which quotes are ordinary characters.
    fn inline_files(
        &mut self,
        instruction: &Instruction,
        files: &[InlineFile],
    ) -> Result<Vec<InlineFile>, Problem> {
        let lexer = Lexer::new('\\').ignore_quotes();
        let mut expanded = Vec::with_capacity(files.len());
        for file in files {
            let content = match file.expand {
                true => self.expand_with(lexer, instruction, &file.content)?,
                false => file.content.clone(),
            };
            expanded.push(InlineFile { content, ..file.clone() });
        }
        Ok(expanded)
    }

    fn copy_origin(&self, position: usize, copy: &CopyFiles) -> Result<Origin, CopyError> {
        match self.source(position, 0) {
            Some(None) => Ok(Origin::Context),
            Some(Some(stage)) => Ok(Origin::Stage(stage)),
            None => Err(CopyError::FromLater {
                from: copy.from.clone(),
                stage: self.node.label.clone(),
            }),
        }
    }

    /// Returns the copy of one source.
    fn piece(
        &mut self,
        instruction: &Instruction,
        target: &mut Target<'_>,
        source: &str,
        tree: &Origin,
    ) -> Result<(Origin, llb::CopyFiles), LowerError> {
        match parse_git(source) {
            Some(Err(error)) => return Err(CopyError::Git(error).into()),
            Some(Ok(git)) if !git.looks_local => {
                if target.copy.kind == SourceKind::Copy {
                    return Err(CopyError::Address("git ref").into());
                }
                if !has_web_scheme(source) {
                    self.use_path(None, path::join("/", source));
                }
                let (remote, options) = git_options(git, target)?;
                let files = llb::CopyFiles { src: "/".to_owned(), ..self.base_copy(target) };
                return Ok((Origin::Git { remote, options }, files));
            }
            Some(Ok(_)) | None => {}
        }
        if has_web_scheme(source) {
            if target.copy.kind == SourceKind::Copy {
                return Err(CopyError::Address("URL").into());
            }
            return Ok(self.web_piece(target, source)?);
        }
        if let Some(excluded) = self.excluded(source, tree) {
            let verb = if target.copy.kind == SourceKind::Add { "Add" } else { "Copy" };
            let text = format!(
                "Attempting to {verb} file {} that is excluded by .dockerignore",
                crate::quote::quoted(&excluded)
            );
            self.warn(&rules::COPY_IGNORED_FILE, instruction, text);
        }
        // The point from which parents are kept would be lost.
        let source = match target.copy.parents {
            true => source.to_owned(),
            false => windows::plain(&self.platform.os, source, Mark::Dropped)?,
        };
        match tree {
            Origin::Stage(stage) => self.use_path(Some(*stage), path::join("/", &source)),
            _ => self.use_path(None, path::join("/", &source)),
        }
        Ok((tree.clone(), self.file_copy(target, &source)))
    }

    fn excluded(&self, source: &str, tree: &Origin) -> Option<String> {
        match tree {
            Origin::Context => checks::ignored_source(source, self.shared.ignore),
            _ => None,
        }
    }

    fn base_copy(&self, target: &Target<'_>) -> llb::CopyFiles {
        let owner = &target.owner;
        llb::CopyFiles {
            dest: self.destination(&target.place),
            owner: (!owner.is_empty()).then(|| Owner::parse(owner)),
            mode: target.mode.clone(),
            create_dest_path: true,
            exclude_patterns: target.copy.exclude.clone(),
            ..llb::CopyFiles::default()
        }
    }

    fn destination(&self, path: &str) -> String {
        // The working directory itself is not the same as a file in its place.
        let path = if matches!(path, "" | ".") { "./" } else { path };
        absolute(&self.inherited.cwd, path, Mark::Kept)
    }

    fn web_piece(
        &self,
        target: &Target<'_>,
        url: &str,
    ) -> Result<(Origin, llb::CopyFiles), CopyError> {
        let checksum = match target.checksum.as_str() {
            "" => None,
            text => Some(
                parse_checksum(text).map_err(|reason| CopyError::Checksum(reason.to_owned()))?,
            ),
        };
        let filename = web_file_name(url);
        let files = llb::CopyFiles {
            src: filename.clone(),
            attempt_unpack: target.copy.unpack.unwrap_or(false),
            ..self.base_copy(target)
        };
        Ok((Origin::Web { url: url.to_owned(), filename, checksum }, files))
    }

    fn inline_piece(&self, target: &Target<'_>, file: &InlineFile) -> (Origin, llb::CopyFiles) {
        let files = llb::CopyFiles { src: file.name.clone(), ..self.base_copy(target) };
        let data = Bytes::copy_from_slice(file.content.as_bytes());
        (Origin::Inline { name: file.name.clone(), mode: 0o644, data }, files)
    }

    fn file_copy(&self, target: &Target<'_>, source: &str) -> llb::CopyFiles {
        let copy = target.copy;
        let mut files = llb::CopyFiles {
            follow_symlink: true,
            dir_copy_contents: true,
            allow_wildcard: true,
            allow_empty_wildcard: true,
            attempt_unpack: copy.unpack.unwrap_or(copy.kind == SourceKind::Add),
            ..self.base_copy(target)
        };
        let mut root = source;
        if copy.parents {
            // What stands before `/./` is not part of what is kept.
            let (parent, pattern) = source.split_once("/./").unwrap_or(("/", source));
            let pattern = absolute("/", pattern, Mark::Dropped);
            if !path::has_wildcards(parent) && !path::has_wildcards(&pattern) {
                let required = path::join(parent, &pattern);
                files.required_paths = vec![absolute("/", &required, Mark::Dropped)];
            }
            files.include_patterns = vec![pattern.strip_prefix('/').unwrap_or(&pattern).to_owned()];
            root = parent;
        }
        files.src = absolute("/", root, Mark::Dropped);
        files
    }
}

fn check_checksum(target: &Target<'_>) -> Result<(), CopyError> {
    if target.checksum.is_empty() {
        return Ok(());
    }
    let wrong = |text: &str| Err(CopyError::Checksum(text.to_owned()));
    if target.copy.kind == SourceKind::Copy {
        return wrong("checksum can't be specified for COPY");
    }
    let [source] = target.sources.as_slice() else {
        return wrong("checksum can't be specified for multiple sources");
    };
    if !is_web_file(source) && !matches!(parse_git(source), Some(Ok(_))) {
        return wrong("checksum requires HTTP(S) or Git sources");
    }
    Ok(())
}

fn git_options(git: GitSource, target: &mut Target<'_>) -> Result<(String, GitOptions), CopyError> {
    if let (Some(flag), Some(query)) = (target.keep_git_dir, git.keep_git_dir)
        && flag != query
    {
        return Err(CopyError::Git("inconsistent keep-git-dir configuration".to_owned()));
    }
    let (given, wanted) = (&target.checksum, &git.checksum);
    if !given.is_empty() && !wanted.is_empty() && given != wanted {
        let (given, wanted) = (crate::quote::quoted(given), crate::quote::quoted(wanted));
        return Err(CopyError::Git(format!("checksum mismatch {given} != {wanted}")));
    }
    target.keep_git_dir = git.keep_git_dir.or(target.keep_git_dir);
    if !git.checksum.is_empty() {
        target.checksum = git.checksum;
    }
    let options = GitOptions {
        reference: git.reference,
        subdir: git.subdir,
        keep_git_dir: target.keep_git_dir.unwrap_or(false),
        checksum: target.checksum.clone(),
        skip_submodules: git.submodules == Some(false),
        fetch_by_commit: git.fetch_by_commit,
        ..GitOptions::default()
    };
    Ok((git.remote, options))
}

fn history(target: &Target<'_>, mode: &str, inline: &[InlineFile]) -> String {
    let mut parts: Vec<Cow<'_, str>> = vec![target.copy.kind.keyword().into()];
    if target.copy.parents {
        parts.push("--parents".into());
    }
    if !target.owner.is_empty() {
        parts.push(format!("--chown={}", target.owner).into());
    }
    if !mode.is_empty() {
        parts.push(format!("--chmod={mode}").into());
    }
    parts.extend(target.sources.iter().map(Cow::from));
    parts.extend(inline.iter().map(|file| Cow::from(format!("<<{}", file.name))));
    parts.push(Cow::from(&target.destination));
    parts.push("# buildkit".into());
    parts.join(" ")
}
