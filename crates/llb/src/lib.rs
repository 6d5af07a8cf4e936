//! The build graph a client sends, parsed and checked; and the builder for frontends.
//!
//! A [`Definition`] is the graph as it was received: its digests are those of the received bytes. A
//! [`Graph`] is the same graph understood: each [`Vertex`] has an [`Op`] in types whose bad states
//! cannot be written. A [`State`] is how a frontend makes a definition. Nothing here knows what an
//! operation does to a file; wire types stay inside [`wire`].

pub mod caps;
mod definition;
mod document;
mod encode;
mod error;
mod exec;
mod file;
mod graph;
mod location;
mod message_json;
mod metadata;
mod names;
mod op;
mod platform;
mod rewrite;
mod state;
pub mod wire;

pub use definition::Definition;
pub use document::GraphDocument;
pub use error::{DefinitionError, OpError};
pub use exec::{
    CacheMount, CacheSharing, ContentCache, Device, ExecOp, ExtraHost, Mount, MountKind, NetMode,
    ProxyEnv, SecretEnv, SecretMount, SecurityMode, SshMount, Ulimit,
};
pub use file::{
    Action, ActionInput, CopyFiles, CopyMode, FileAction, FileOp, MakeDir, MakeFile, Owner, Remove,
    Symlink, UserRef,
};
pub use graph::{Edge, Graph, Vertex};
pub use location::{Position, Range, SourceLocation};
pub use message_json::{GraphMessages, operation_json};
pub use metadata::{LinuxResources, OpMetadata, ProgressGroup};
pub use op::{BuildOp, Op, PassthroughOp, SourceOp};
pub use platform::Platform;
pub use state::{
    Differ, ExecOptions, ExecState, FileActions, GitOptions, HttpOptions, ImageOptions,
    LocalOptions, OciLayoutOptions, OpOptions, RecordType, ResolveMode, RunMount, RunSecret,
    RunSsh, State,
};
