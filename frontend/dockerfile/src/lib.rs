//! The Dockerfile: text to LLB, pure.
//!
//! [`DockerfileFrontend`] turns options and a Dockerfile into build graphs, image configurations and
//! warnings. It asks a [`bridge::Bridge`] for every file and every image it needs and does no input
//! or output itself. The way of a Dockerfile: [`syntax`] splits the text into instructions,
//! [`instruction`] says what each of them means, [`lower`] turns the wanted stages into a graph.

mod caps;
mod context;
mod error;
pub mod expand;
mod frontend;
pub mod instruction;
mod lint;
pub mod lower;
mod number;
mod options;
mod path;
mod quote;
mod source_url;
mod subrequest;
mod suggest;
pub mod syntax;

pub use caps::CAPABILITIES;
pub use error::{Cause, Problem};
pub use frontend::DockerfileFrontend;
