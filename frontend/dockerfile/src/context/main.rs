//! The main context, and the Dockerfile in it or beside it.

use std::collections::BTreeMap;

use bridge::{
    Bridge, BuildError, FileRange, Kind, RefHandle, Results, SolveRequest, SourceExcerpt,
};
use bytes::Bytes;
use digests::VertexDigest;
use llb::{
    CopyFiles, Definition, Differ, FileActions, GitOptions, HttpOptions, LocalOptions, OpOptions,
    Platform, SourceOp, State,
};

use crate::instruction::parse_bool;
use crate::options::Options;
use crate::path;
use crate::source_url::{has_web_scheme, parse_git};

const DOCKERFILE: &str = "Dockerfile";
const IGNORE_FILE: &str = ".dockerignore";
/// The name that a context from the web is stored under.
const WEB_FILE: &str = "context";
/// How many bytes tell an archive from a Dockerfile.
const SNIFFED: u64 = 1024;

/// Where the files of the build come from.
#[derive(Debug, Clone)]
pub(crate) enum MainContext {
    /// A directory of the client's.
    Local,
    /// A tree from elsewhere, and the source it is made of.
    Tree(State, Option<SourceOp>),
}

/// The Dockerfile, and what was learnt on the way to it.
#[derive(Debug, Clone)]
pub(crate) struct DockerfileSource {
    /// The file, for errors and warnings; its ranges are empty.
    pub(crate) excerpt: SourceExcerpt,
    /// The vertex that warnings are shown under.
    pub(crate) vertex: Option<VertexDigest>,
    /// The ignore file that belongs to this Dockerfile, if there is one: its name and content.
    pub(crate) ignore: Option<(String, Bytes)>,
    /// Where the files of the build come from.
    pub(crate) context: MainContext,
}

/// Finds the main context and reads the Dockerfile.
pub(crate) async fn read_dockerfile(
    bridge: &dyn Bridge,
    options: &Options,
    inputs: &BTreeMap<String, Definition>,
    native: &Platform,
) -> Result<DockerfileSource, BuildError> {
    let mut filename = options.get("filename").unwrap_or(DOCKERFILE).to_owned();
    let local = options.get("dockerfilekey");
    let found = find_context(bridge, options, inputs, native).await?;
    if found.is_dockerfile {
        WEB_FILE.clone_into(&mut filename);
    }
    let from_input = inputs.get("dockerfile").filter(|_| found.takes_inputs).map(State::definition);
    let state = match (local, from_input.or(found.whole)) {
        (None, Some(state)) => state,
        _ => dockerfile_directory(bridge, options, local.unwrap_or("dockerfile"), &filename),
    };
    let (definition, handle) = solve(bridge, &state, native, false)
        .await
        .map_err(|error| error.context("failed to resolve dockerfile"))?;
    let data = read_either_case(bridge, &handle, &filename).await?;
    let ignore_name = format!("{filename}{IGNORE_FILE}");
    let ignore = bridge.read_file(&handle, &ignore_name, None).await.ok();
    Ok(DockerfileSource {
        excerpt: SourceExcerpt {
            filename,
            language: DOCKERFILE.to_owned(),
            data,
            ranges: Vec::new(),
        },
        vertex: definition.root().map(|edge| edge.vertex),
        ignore: ignore.map(|data| (ignore_name, data)),
        context: found.context,
    })
}

/// Solves a graph with one result; returns the graph and the result.
pub(crate) async fn solve(
    bridge: &dyn Bridge,
    state: &State,
    native: &Platform,
    evaluate: bool,
) -> Result<(Definition, RefHandle), BuildError> {
    let definition =
        state.marshal(native).map_err(|error| BuildError::from_error(Kind::Internal, error))?;
    let request =
        SolveRequest { definition: Some(definition.clone()), evaluate, ..SolveRequest::default() };
    match bridge.solve(request).await?.results {
        Results::Single(solved) => Ok((definition, solved.handle)),
        Results::None => Ok((definition, RefHandle::default())),
        Results::ByPlatform(_) => {
            Err(BuildError::new(Kind::Internal, "a source has more than one result"))
        }
    }
}

fn dockerfile_directory(
    bridge: &dyn Bridge,
    options: &Options,
    local: &str,
    filename: &str,
) -> State {
    let mut follow_paths = vec![filename.to_owned(), format!("{filename}{IGNORE_FILE}")];
    follow_paths.extend(lower_case_name(filename));
    let source = LocalOptions {
        session: session(bridge, options, local),
        follow_paths,
        shared_key_hint: local.to_owned(),
        differ: Some(Differ::None),
        ..LocalOptions::default()
    };
    let name = format!("[internal] load build definition from {filename}");
    State::local(local, source, OpOptions::named(name))
}

/// Returns the session that has a client's directory.
pub(super) fn session(bridge: &dyn Bridge, options: &Options, local: &str) -> String {
    options.session_of(local).map_or_else(|| bridge.session(), str::to_owned)
}

/// A file called `dockerfile` does as well, but only in place of `Dockerfile`.
fn lower_case_name(filename: &str) -> Option<String> {
    (path::base(filename) == DOCKERFILE)
        .then(|| path::join(&path::directory(filename), &DOCKERFILE.to_lowercase()))
}

async fn read_either_case(
    bridge: &dyn Bridge,
    handle: &RefHandle,
    filename: &str,
) -> Result<Bytes, BuildError> {
    let error = match bridge.read_file(handle, filename, None).await {
        Ok(data) => return Ok(data),
        Err(error) => error,
    };
    if let Some(lower) = lower_case_name(filename)
        && let Ok(data) = bridge.read_file(handle, &lower, None).await
    {
        return Ok(data);
    }
    Err(error.context("failed to read dockerfile"))
}

struct FoundContext {
    context: MainContext,
    /// The same, if it comes from elsewhere, without being narrowed to a directory: the Dockerfile is in it.
    whole: Option<State>,
    /// True if the context is a single file, and that is the Dockerfile.
    is_dockerfile: bool,
    /// True if the client may have given trees by name.
    takes_inputs: bool,
}

async fn find_context(
    bridge: &dyn Bridge,
    options: &Options,
    inputs: &BTreeMap<String, Definition>,
    native: &Platform,
) -> Result<FoundContext, BuildError> {
    let key = options.get("contextkey").unwrap_or("context");
    let address = options.get(key).unwrap_or_default();
    let mut found = FoundContext {
        context: MainContext::Local,
        whole: None,
        is_dockerfile: false,
        takes_inputs: false,
    };
    if let Some(git) = git_context(options, address) {
        found.context = git.map_err(|error| BuildError::new(Kind::User, error))?;
    } else if has_web_scheme(address) {
        let (context, is_dockerfile) = web_context(bridge, address, native).await?;
        found.context = context;
        found.is_dockerfile = is_dockerfile;
    } else {
        found.takes_inputs = true;
        if let Some(input) = inputs.get("context") {
            found.context = MainContext::Tree(State::definition(input), None);
        }
    }
    if let (MainContext::Tree(state, _), false) = (&found.context, found.takes_inputs) {
        found.whole = Some(state.clone());
    }
    if let (MainContext::Tree(state, source), Some(subdir)) =
        (&found.context, options.get("contextsubdir"))
    {
        let copy = CopyFiles {
            src: subdir.to_owned(),
            dest: "/".to_owned(),
            dir_copy_contents: true,
            ..CopyFiles::default()
        };
        let scoped =
            State::scratch().file(FileActions::new().copy(state, copy), OpOptions::default());
        found.context = MainContext::Tree(scoped, source.clone());
    }
    Ok(found)
}

fn git_context(options: &Options, address: &str) -> Option<Result<MainContext, String>> {
    let keep = options.get("build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR").and_then(parse_bool);
    let mtime = options.get("build-arg:SOURCE_DATE_EPOCH").filter(|value| !value.is_empty());
    let state = git_state(address, keep, mtime.map(|_| "commit"))?;
    Some(state.map(|(state, source)| MainContext::Tree(state, Some(source))))
}

/// Returns the tree of a repository, if the address names one.
pub(crate) fn git_state(
    address: &str,
    keep_git_dir: Option<bool>,
    mtime: Option<&str>,
) -> Option<Result<(State, SourceOp), String>> {
    let git = match parse_git(address)? {
        Ok(git) => git,
        Err(error) => return Some(Err(error)),
    };
    let mtime = if git.mtime.is_empty() { mtime.unwrap_or_default() } else { &git.mtime };
    let options = GitOptions {
        mtime: mtime.to_owned(),
        reference: git.reference,
        subdir: git.subdir,
        keep_git_dir: git.keep_git_dir == Some(true) || keep_git_dir == Some(true),
        checksum: git.checksum,
        skip_submodules: git.submodules == Some(false),
        fetch_by_commit: git.fetch_by_commit,
        ..GitOptions::default()
    };
    let name = format!("[internal] load git source {address}");
    let state = State::git(&git.remote, options, OpOptions::named(name));
    Some(source_of(&state).map(|source| (state, source)))
}

/// Returns the operation of a tree that is nothing but a source.
fn source_of(state: &State) -> Result<SourceOp, String> {
    let definition = state.marshal(&Platform::default()).map_err(|error| error.to_string())?;
    let graph = definition.load().map_err(|error| error.to_string())?;
    let source = graph.vertices.iter().find_map(|vertex| match &vertex.op {
        llb::Op::Source(source) => Some(source.clone()),
        _ => None,
    });
    source.ok_or_else(|| "the context has no source".to_owned())
}

async fn web_context(
    bridge: &dyn Bridge,
    address: &str,
    native: &Platform,
) -> Result<(MainContext, bool), BuildError> {
    let http = HttpOptions { filename: WEB_FILE.to_owned(), ..HttpOptions::default() };
    let name = "[internal] load remote build context";
    let state = State::http(address, http, OpOptions::named(name));
    let (_, handle) = solve(bridge, &state, native, false)
        .await
        .map_err(|error| error.context("failed to resolve httpcontext"))?;
    let head = read_head(bridge, &handle, WEB_FILE)
        .await
        .map_err(|error| error.context("failed to read downloaded context"))?;
    let source = source_of(&state).ok();
    if !is_archive(&head) {
        return Ok((MainContext::Tree(state, source), true));
    }
    let tree = unpacked(&state, WEB_FILE, OpOptions::default());
    Ok((MainContext::Tree(tree, source), false))
}

/// Returns as many of a file's first bytes as [`is_archive`] looks at.
pub(crate) async fn read_head(
    bridge: &dyn Bridge,
    handle: &RefHandle,
    file: &str,
) -> Result<Bytes, BuildError> {
    bridge.read_file(handle, file, Some(FileRange { offset: 0, length: SNIFFED })).await
}

/// Returns the tree that is in an archive.
pub(crate) fn unpacked(state: &State, file: &str, options: OpOptions) -> State {
    let copy = CopyFiles {
        src: format!("/{file}"),
        dest: "/".to_owned(),
        attempt_unpack: true,
        ..CopyFiles::default()
    };
    State::scratch().file(FileActions::new().copy(state, copy), options)
}

/// Returns true for the first bytes of an archive, compressed or not.
pub(crate) fn is_archive(head: &[u8]) -> bool {
    const BZIP2: &[u8] = b"BZh";
    const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
    const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
    [BZIP2, GZIP, XZ].iter().any(|magic| head.starts_with(magic)) || is_tar_header(head)
}

/// A header's checksum is the sum of its bytes, with spaces in its own place.
fn is_tar_header(head: &[u8]) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let Some(header) = head.get(..512) else {
        return false;
    };
    let digits = header[CHECKSUM].iter().filter(|byte| byte.is_ascii_digit());
    let stored = digits.fold(0_u32, |sum, digit| sum.wrapping_mul(8) + u32::from(digit - b'0'));
    let byte =
        |(at, byte): (usize, &u8)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { *byte });
    stored != 0 && header.iter().enumerate().map(byte).sum::<u32>() == stored
}

impl MainContext {
    /// Returns the tree, with only the paths to follow if it is a directory of the client's.
    pub(crate) fn state(
        &self,
        bridge: &dyn Bridge,
        options: &Options,
        follow_paths: Vec<String>,
        exclude_patterns: Vec<String>,
    ) -> State {
        const LOCAL: &str = "context";
        match self {
            Self::Tree(state, _) => state.clone(),
            Self::Local => {
                let source = LocalOptions {
                    session: session(bridge, options, LOCAL),
                    exclude_patterns,
                    follow_paths,
                    shared_key_hint: LOCAL.to_owned(),
                    ..LocalOptions::default()
                };
                let name = "[internal] load build context";
                State::local(LOCAL, source, OpOptions::named(name))
            }
        }
    }

    /// Returns the name and content of the ignore file in a directory of the client's.
    pub(crate) async fn ignore_file(
        &self,
        bridge: &dyn Bridge,
        options: &Options,
        native: &Platform,
    ) -> Result<Option<(String, Bytes)>, BuildError> {
        match self {
            Self::Tree(..) => Ok(None),
            Self::Local => {
                let name = format!("[internal] load {IGNORE_FILE}");
                let hint = format!("context-{IGNORE_FILE}");
                let data =
                    read_ignore_file(bridge, options, native, ("context", hint, name), false);
                Ok(data.await?.map(|data| (IGNORE_FILE.to_owned(), data)))
            }
        }
    }
}

/// Reads the ignore file of a client's directory: its name, the hint for reuse, the name shown.
pub(super) async fn read_ignore_file(
    bridge: &dyn Bridge,
    options: &Options,
    native: &Platform,
    (local, shared_key_hint, name): (&str, String, String),
    evaluate: bool,
) -> Result<Option<Bytes>, BuildError> {
    let source = LocalOptions {
        session: session(bridge, options, local),
        follow_paths: vec![IGNORE_FILE.to_owned()],
        shared_key_hint,
        differ: Some(Differ::None),
        ..LocalOptions::default()
    };
    let state = State::local(local, source, OpOptions::named(name));
    let (_, handle) = solve(bridge, &state, native, evaluate).await?;
    // A directory without an ignore file is the usual one.
    Ok(bridge.read_file(&handle, IGNORE_FILE, None).await.ok())
}
