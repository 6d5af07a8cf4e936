//! What one daemon makes of a case and what another does, side by side.
//!
//! A [`Case`] is a Dockerfile with files and options. It is put to both sides of a [`Pair`] and becomes an
//! [`Outcome`] on each: lines that say everything a client can see, without what is different in every build.
//! What is left over when the two are compared is either on the list of [`Known`] differences or a finding.

mod building;
mod case;
mod chance;
mod documents;
mod graph;
mod known;
mod lowering;
mod outcome;
mod pair;
mod trees;

pub use case::{Case, CaseFile};
pub use known::Known;
pub use outcome::{Difference, Outcome};
pub use pair::{Finding, Level, Pair};
