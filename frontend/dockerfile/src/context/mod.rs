//! Where the files of a build come from: the main context, named contexts, the Dockerfile itself.

mod ignore;
mod main;
mod named;

pub(crate) use ignore::{IgnorePatterns, parse_ignore_file};
pub(crate) use main::{
    DockerfileSource, MainContext, git_state, is_archive, read_dockerfile, read_head, solve,
    unpacked,
};
pub(crate) use named::{NamedContext, NamedContexts, graph_mode};
