//! What a process cannot see or do.
use crate::{Case, cases};
pub const CASES: &[Case] = cases![];
