//! The Dockerfile: text to LLB, pure.
//!
//! A [`bridge::Frontend`] that turns options and a Dockerfile into build graphs, image configurations and
//! warnings. It asks a [`bridge::Bridge`] for every file and every image it needs and does no input
//! or output itself. The way of a Dockerfile: [`syntax`] splits the text into instructions,
//! [`instruction`] says what each of them means, [`lower`] turns the wanted stages into a graph.

mod error;
pub mod expand;
pub mod instruction;
pub mod lower;
mod quote;
mod suggest;
pub mod syntax;

pub use error::{Cause, Problem};
