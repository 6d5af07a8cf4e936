//! `SOURCE_DATE_EPOCH`: a number of seconds, or the name of what has a time of its own: the main context, a
//! context by name, or a stage that does nothing but add one thing from elsewhere.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bridge::{Bridge, BuildError, Kind, RefHandle};
use llb::{GitOptions, HttpOptions, OpOptions, SourceOp, State};
use oci::Time;

use super::arguments::GlobalArguments;
use super::stages::SCRATCH;
use super::{EpochError, LowerError, Request};
use crate::context::{
    MainContext, NamedContexts, git_state, is_archive, read_head, solve, unpacked,
};
use crate::error::Problem;
use crate::expand::{Environment, Lexer, Variables};
use crate::instruction::{Action, CopyFiles, SourceKind, Stage};
use crate::options::Options;
use crate::path;
use crate::source_url::{is_web_file, parse_checksum, parse_git, web_file_name};

/// The name of the argument.
const NAME: &str = "SOURCE_DATE_EPOCH";

/// What a file begins with that zstd has compressed: such an archive is none as a context, but has a time.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The part of a mode that says what kind of file it is (`S_IFMT`), and two of the kinds.
const FILE_TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR_FILE: u32 = 0o100_000;

/// What the argument says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    /// Nothing, or a number.
    Given(Option<Time>),
    /// The name of something, whose time this is if it has one.
    Found(Option<Time>),
}

impl Epoch {
    /// Returns the time that everything new is given.
    pub(super) const fn time(self) -> Option<Time> {
        match self {
            Self::Given(time) | Self::Found(time) => time,
        }
    }

    /// Returns the build arguments in which a name has become the number, if it was a name.
    pub(super) fn told(self, options: &Options, globals: &mut GlobalArguments) -> Option<Options> {
        let Self::Found(time) = self else {
            return None;
        };
        let number = time.map(|time| time.unix_seconds().to_string());
        let mut options = options.clone();
        if options.build_args.remove(NAME).is_some() {
            options.build_args.extend(number.clone().map(|number| (NAME.to_owned(), number)));
        }
        if globals.values.value(NAME).is_some() {
            match &number {
                Some(number) => globals.values.set(NAME, number),
                None => globals.values.remove(NAME),
            }
        }
        Some(options)
    }
}

/// Finds the time of a build, from the build argument or else the global one.
pub(super) async fn epoch(
    request: &Request<'_>,
    globals: &GlobalArguments,
    contexts: &NamedContexts<'_>,
    lexer: &Lexer,
) -> Result<Epoch, Problem> {
    let given = request.options.build_args.get(NAME).map(String::as_str);
    let text = given.or_else(|| globals.values.value(NAME)).unwrap_or_default();
    if text.is_empty() {
        return Ok(Epoch::Given(None));
    }
    if let Ok(seconds) = text.parse() {
        return Ok(Epoch::Given(Some(Time::from_unix(seconds))));
    }
    let Some(source) = named_source(request, globals, contexts, lexer, text)? else {
        return Ok(Epoch::Found(None));
    };
    Ok(Epoch::Found(time_of(request, &source).await?))
}

/// Something from elsewhere that has a time.
#[derive(Debug, Clone)]
enum Source {
    /// A repository, whose files have the time of its commit.
    Git(State),
    /// A file of the web, by the name it is stored under.
    Web(State, String),
}

fn named_source(
    request: &Request<'_>,
    globals: &GlobalArguments,
    contexts: &NamedContexts<'_>,
    lexer: &Lexer,
    name: &str,
) -> Result<Option<Source>, Problem> {
    if name == "context" {
        return Ok(match request.context {
            MainContext::Tree(_, Some(source)) => main_source(source),
            MainContext::Tree(_, None) | MainContext::Local => None,
        });
    }
    if let Some(context) = contexts.find(name, None) {
        return address(context.address()).map_err(|error| Problem::from(LowerError::from(error)));
    }
    let Some(stage) =
        request.stages.stages.iter().find(|stage| stage.name.eq_ignore_ascii_case(name))
    else {
        return Err(LowerError::from(EpochError::Unknown(name.to_owned())).into());
    };
    let build_args = &request.options.build_args;
    let source = stage_source(stage, build_args, &globals.values, lexer);
    source.map(Some).map_err(|problem| problem.at(stage.lines))
}

fn main_source(source: &SourceOp) -> Option<Source> {
    let mut source = source.clone();
    match source.split().0 {
        "git" => {
            source.attributes.insert("git.mtime".to_owned(), "commit".to_owned());
            Some(Source::Git(State::source(source, shown())))
        }
        "http" | "https" => {
            let file = source.attribute("http.filename").unwrap_or_default().to_owned();
            Some(Source::Web(State::source(source, shown()), file))
        }
        _ => None,
    }
}

/// Returns the source that a named context's address stands for, if it is one with a time.
fn address(address: &str) -> Result<Option<Source>, EpochError> {
    if let Some(git) = git_state(address, None, Some("commit")) {
        return git.map(|(state, _)| Some(Source::Git(state))).map_err(EpochError::Git);
    }
    Ok(is_web_file(address).then(|| {
        let filename = "context".to_owned();
        let http = HttpOptions { filename: filename.clone(), ..HttpOptions::default() };
        Source::Web(State::http(address, http, shown()), filename)
    }))
}

/// Returns what a stage adds, which must be all it does.
fn stage_source(
    stage: &Stage,
    build_args: &BTreeMap<String, String>,
    globals: &Environment,
    lexer: &Lexer,
) -> Result<Source, Problem> {
    let wrong = |error: EpochError| Problem::from(LowerError::from(error));
    let mut variables = globals.clone();
    variables.remove(NAME);
    if lexer.expand(&stage.base, &variables)?.text != SCRATCH {
        return Err(wrong(EpochError::Base));
    }
    let mut source = None;
    for instruction in &stage.instructions {
        match &instruction.action {
            Action::Arg(arguments) => {
                for argument in arguments {
                    match (build_args.get(&argument.name), &argument.default) {
                        (Some(value), _) => variables.set(&argument.name, value),
                        (None, Some(default)) => {
                            let value = lexer.expand(default, &variables)?.text;
                            variables.set(&argument.name, value);
                        }
                        (None, None) => {}
                    }
                }
            }
            Action::Copy(copy) if copy.kind == SourceKind::Add && source.is_none() => {
                source = Some(added(copy, &variables, lexer)?);
            }
            Action::Copy(copy) if copy.kind == SourceKind::Add => {
                return Err(wrong(EpochError::NotOne));
            }
            _ => return Err(wrong(EpochError::Instruction(instruction.keyword.clone()))),
        }
    }
    source.ok_or_else(|| wrong(EpochError::NotOne))
}

fn added(copy: &CopyFiles, variables: &Environment, lexer: &Lexer) -> Result<Source, Problem> {
    let wrong = |error: EpochError| Problem::from(LowerError::from(error));
    let ([source], []) = (copy.sources.as_slice(), copy.inline.as_slice()) else {
        return Err(wrong(EpochError::NotOneSource));
    };
    let source = lexer.expand(source, variables)?.text;
    let checksum = lexer.expand(&copy.checksum, variables)?.text;
    if is_web_file(&source) {
        let filename = web_file_name(&source);
        let digest = (!checksum.is_empty()).then(|| parse_checksum(&checksum)).transpose();
        let checksum = digest.map_err(|reason| wrong(EpochError::Checksum(reason.to_owned())))?;
        let http = HttpOptions { filename: filename.clone(), checksum, ..HttpOptions::default() };
        return Ok(Source::Web(State::http(&source, http, shown()), filename));
    }
    match parse_git(&source) {
        Some(Err(error)) => Err(wrong(EpochError::Git(error))),
        Some(Ok(git)) if !git.looks_local => {
            let checksum = if checksum.is_empty() { git.checksum } else { checksum };
            let options = GitOptions {
                reference: git.reference,
                subdir: git.subdir,
                checksum,
                skip_submodules: git.submodules == Some(false),
                mtime: "commit".to_owned(),
                ..GitOptions::default()
            };
            Ok(Source::Git(State::git(&git.remote, options, shown())))
        }
        Some(Ok(_)) | None => Err(wrong(EpochError::NotRemote)),
    }
}

fn shown() -> OpOptions {
    OpOptions::named(format!("[internal] resolve {NAME}"))
}

async fn time_of(request: &Request<'_>, source: &Source) -> Result<Option<Time>, BuildError> {
    let native = request.native.first().map(llb::Platform::from).unwrap_or_default();
    let bridge = request.bridge;
    let (Source::Git(state) | Source::Web(state, _)) = source;
    let (_, handle) = solve(bridge, state, &native, false).await?;
    match source {
        Source::Git(_) => {
            let entries = bridge.read_dir(&handle, "/", None).await?;
            Ok(told(entries.into_iter().map(|entry| entry.modified).max()))
        }
        Source::Web(_, file) => match bridge.stat_file(&handle, file).await {
            Ok(entry) if told(Some(entry.modified)).is_some() => Ok(told(Some(entry.modified))),
            Ok(_) => {
                let head = read_head(bridge, &handle, file).await?;
                if !is_archive(&head) && !head.starts_with(ZSTD) {
                    return Ok(None);
                }
                let tree = unpacked(state, file, shown());
                let (_, handle) = solve(bridge, &tree, &native, false).await?;
                Ok(told(newest_file(bridge, &handle).await?))
            }
            Err(error) if error.kind() == Kind::User => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// Returns a time in whole seconds. A file whose server tells none has the first one there is.
fn told(modified: Option<SystemTime>) -> Option<Time> {
    let time = modified.map(|modified| Time::from_unix(Time::from(modified).unix_seconds()));
    time.filter(|time| time.unix_seconds() != 0)
}

/// Returns when the file of a tree was changed that was changed last.
async fn newest_file(
    bridge: &dyn Bridge,
    handle: &RefHandle,
) -> Result<Option<SystemTime>, BuildError> {
    let mut newest = None;
    let mut pending = vec!["/".to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in bridge.read_dir(handle, &directory, None).await? {
            match entry.mode & FILE_TYPE {
                DIRECTORY => pending.push(path::join(&directory, &entry.name)),
                REGULAR_FILE => newest = newest.max(Some(entry.modified)),
                _ => {}
            }
        }
    }
    Ok(newest)
}
