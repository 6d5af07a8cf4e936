//! The system call filter of sandboxed processes.
//!
//! A [`Rule`] for every number of an architecture comes from the table of names; equal neighbours are
//! joined to ranges, and the ranges are searched by halving. So the filter is short, quick to install
//! and quick to pass, which a list of comparisons is not.

mod program;
mod rules;
mod table;

pub(crate) use program::{Instruction, filter};
