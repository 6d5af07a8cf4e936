//! Why well-formed instructions make no build.

use crate::quote::quoted;

/// Why well-formed instructions make no build.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LowerError {
    /// Something about stages.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Something about contexts and images.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// Something about `ADD` and `COPY`.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Something about the image configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something about `RUN`.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Something about the options of the build.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Something about a path of an image for Windows.
    #[error("removing drive letter")]
    Path(#[from] PathError),
    /// Something about the time of the build.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The graph cannot be written.
    #[error("failed to marshal LLB definition: {0}")]
    Graph(String),
}

/// What can be wrong with stages and their bases.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// The file is empty.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// There is no `FROM`.
    #[error("dockerfile contains no stages to build")]
    None,
    /// A base became the empty text.
    #[error("base name ({0}) should not be blank")]
    BlankBase(String),
    /// A platform became the empty text.
    #[error("empty platform value from expression {0}")]
    BlankPlatform(String),
    /// A platform is none.
    #[error("failed to parse platform {expression}: {reason}")]
    Platform {
        /// As written.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A base is no image name.
    #[error("failed to parse stage name {}: {reason}", quoted(base))]
    BaseName {
        /// The name.
        base: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The wanted stage does not exist.
    #[error("target stage {} could not be found", quoted(.0))]
    NoTarget(String),
    /// `COPY --from=` with a number too high.
    #[error("invalid stage index {0}")]
    Index(i64),
    /// The name of a stage that no context could have.
    #[error("invalid context name {name}: {reason}")]
    ContextName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Stages need one another.
    #[error("circular dependency detected on stage: {0}")]
    Cycle(String),
    /// A trigger of the base image is more than one instruction.
    #[error("onbuild trigger should be a single expression")]
    Trigger,
    /// An image configuration that cannot be read.
    #[error("failed to parse image config: {0}")]
    Config(String),
    /// Rules were violated, and the file wants that to end the build.
    #[error("lint violation found for rules: {0}")]
    Rules(String),
}

/// What can be wrong with contexts and images.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContextError {
    /// A named context is not of the form `kind:what`.
    #[error("invalid context specifier {value} for {key}")]
    Specifier {
        /// The name of the context.
        key: String,
        /// What it was set to.
        value: String,
    },
    /// A kind of context that does not exist.
    #[error("unsupported context source {kind} for {key}")]
    Unsupported {
        /// The name of the context.
        key: String,
        /// The kind.
        kind: String,
    },
    /// The name of an image that is none.
    #[error(transparent)]
    Reference(#[from] oci::ReferenceError),
    /// A source turned out to be something else than an image.
    #[error("{0} is no image")]
    NotAnImage(String),
    /// The address of a repository that contradicts itself.
    #[error("{0}")]
    Git(String),
    /// An image in a store without a digest that says which.
    #[error("oci-layout reference {} has no digest", quoted(.0))]
    NoDigest(String),
    /// An image in a store with a digest that is none.
    #[error("could not parse oci-layout reference {}", quoted(reference))]
    Digest {
        /// The reference.
        reference: String,
        /// What is wrong with its digest.
        source: digests::DigestError,
    },
    /// A tree that the client did not give.
    #[error("invalid input {input} for {key}")]
    Input {
        /// The name of the context.
        key: String,
        /// The name of the tree.
        input: String,
    },
    /// What the client says about a tree cannot be read.
    #[error("failed to parse input metadata of {key}: {reason}")]
    Metadata {
        /// The name of the context.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An ignore file with a pattern that is none.
    #[error("failed parsing {file}")]
    IgnoreFile {
        /// The name of the file.
        file: String,
        /// What is wrong with it.
        source: patterns::PatternError,
    },
}

/// What can be wrong with `ADD` and `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A variable in `--from`.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG \
         from global scope as a workaround"
    )]
    VariableFrom,
    /// The source stage comes later.
    #[error(
        "cannot copy from stage {}, it needs to be defined before current stage {}",
        quoted(from),
        quoted(stage)
    )]
    FromLater {
        /// The source stage.
        from: String,
        /// The stage of the instruction.
        stage: String,
    },
    /// `--chmod` is no mode.
    #[error("invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777")]
    Mode(String),
    /// `--chmod` is no symbolic mode.
    #[error("invalid syntax")]
    SymbolicMode,
    /// `--checksum` of what has none, or is no checksum.
    #[error("{0}")]
    Checksum(String),
    /// An address where only files can be copied.
    #[error("source can't be a {0} for COPY")]
    Address(&'static str),
    /// A git address that contradicts itself or the flags.
    #[error("{0}")]
    Git(String),
}

/// What can be wrong with instructions that change the image configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A port that is none.
    #[error("invalid port: {}: {reason}", quoted(port))]
    Port {
        /// As written.
        port: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of a port that is none.
    #[error("invalid {part}: {text}")]
    PortPart {
        /// Which part.
        part: &'static str,
        /// As written.
        text: String,
    },
    /// A volume became the empty text.
    #[error("VOLUME specified can not be an empty string")]
    BlankVolume,
    /// A signal that does not exist.
    #[error("invalid signal: {0}")]
    Signal(String),
}

/// What can be wrong with `RUN`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// There is nothing to run.
    #[error("failed to marshal LLB definition: arguments are required")]
    Empty,
    /// A here-document in the exec form.
    #[error("parsing produced an invalid run command: {0}")]
    Heredoc(String),
    /// The source stage comes later.
    #[error(
        "cannot mount from stage {} to {}, stage needs to be defined before current command",
        quoted(from),
        quoted(target)
    )]
    FromLater {
        /// The source stage.
        from: String,
        /// Where it was to appear.
        target: String,
    },
    /// A mount over the whole root.
    #[error("invalid mount target {}", quoted(.0))]
    Target(String),
    /// A socket with a source.
    #[error("ssh does not support source")]
    SshSource,
}

/// What can be wrong with an option of the build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A value that its key cannot have.
    #[error("{what}: {reason}")]
    Value {
        /// What was being read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that older frontends had.
    #[error("support for {} {kind}was removed in BuildKit 0.11", quoted(key))]
    Removed {
        /// The option.
        key: &'static str,
        /// What sort of option, with a space after it.
        kind: &'static str,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// A kind of network that does not exist.
    #[error("invalid netmode {0}")]
    NetMode(String),
    /// What is asked for is no scan.
    #[error("{0}")]
    Scan(String),
}

/// What can be wrong with the time that a build is given by a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// It is no number, and nothing has this name.
    #[error("invalid SOURCE_DATE_EPOCH: {0}")]
    Unknown(String),
    /// The stage begins with an image.
    #[error("SOURCE_DATE_EPOCH stage must use FROM scratch")]
    Base,
    /// The stage does something else.
    #[error(
        "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {0} instruction"
    )]
    Instruction(String),
    /// The stage adds nothing, or more than once.
    #[error("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")]
    NotOne,
    /// The stage adds several things at once.
    #[error("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source")]
    NotOneSource,
    /// The stage adds something of the context.
    #[error("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")]
    NotRemote,
    /// A checksum is none.
    #[error("{0}")]
    Checksum(String),
    /// An address of a repository contradicts itself.
    #[error("{0}")]
    Git(String),
}

/// What can be wrong with a path of an image for Windows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// There is a drive and nothing else.
    #[error("No relative path specified in {}", quoted(.0))]
    DriveAlone(String),
    /// It is on another machine.
    #[error("UNC paths are not supported: {}", quoted(.0))]
    Network(String),
    /// It is on another drive.
    #[error("The specified path is not on the system drive (C:): {}", quoted(.0))]
    OtherDrive(String),
}
