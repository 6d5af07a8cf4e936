//! Conversions between the messages of a bridge and our own values, in both directions.
//!
//! What comes in is checked here, once; what goes out cannot fail.

mod asked;
mod containers;
mod errors;
mod excerpts;
mod questions;
mod results;
mod workers;

pub use self::asked::{
    file_stat, image_message, image_meta, range_message, silent, solve_message, source_message,
    source_meta, warn_message,
};
pub use self::containers::{container, exec_message, exit, process};
pub use self::errors::{code, from_rpc, to_rpc};
pub use self::excerpts::{excerpt_from_wire, excerpt_to_wire};
pub use self::questions::{
    directory, file_range, image_question, image_reference, source_answer, source_question, stat,
    to_solve, warning,
};
pub use self::results::{from_result, given_result, last_metadata, to_result};
pub use self::workers::{brief, platform_from_wire, platform_to_wire, pong, worker};

use bridge::{BuildError, Kind};
use llb::Definition;

/// Returns the error of a request that says what cannot be.
pub fn invalid(text: impl Into<String>) -> BuildError {
    BuildError::new(Kind::InvalidRequest, text)
}

/// Returns a graph, checked.
pub fn definition(wire: proto::pb::Definition) -> Result<Definition, BuildError> {
    Definition::from_wire(wire).map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))
}

/// Returns graphs by name, checked.
pub fn definitions(
    wire: std::collections::BTreeMap<String, proto::pb::Definition>,
) -> Result<std::collections::BTreeMap<String, Definition>, BuildError> {
    let checked = wire.into_iter().map(|(name, wire)| Ok((name, definition(wire)?)));
    checked.collect()
}
