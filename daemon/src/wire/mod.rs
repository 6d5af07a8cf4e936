//! Conversions between the wire's messages and our own values, in both directions.
//!
//! What comes in is checked here, once; what goes out cannot fail. The rest of the daemon's services
//! are thin between these and the builder.

mod bridge;
mod build;
mod disk;
mod errors;
mod history;
mod log;
mod progress;
mod results;
mod session;
mod time;
mod volumes;
mod worker;

pub(crate) use self::bridge::{
    directory, file_range, image_question, image_reference, source_answer, source_question, stat,
    to_solve, warning,
};
pub(crate) use self::build::build_request;
pub(crate) use self::disk::{is_older, prune_request, usage_filter, usage_record};
pub(crate) use self::errors::{from_rpc, to_rpc};
pub(crate) use self::history::{HistoryQuery, history_event};
pub(crate) use self::log::WireCodec;
pub(crate) use self::progress::status_messages;
pub(crate) use self::results::{from_result, to_result};
pub(crate) use self::session::registration;
pub(crate) use self::time::current_timestamp;
pub(crate) use self::volumes::{
    entry, policy_patch, removed, space, volume, volume_key, volume_label, volume_name,
    volume_path, volume_status, volumes_prune,
};
pub(crate) use self::worker::Workers;

use ::bridge::{BuildError, Kind};
use llb::Definition;

/// Returns the error of a request that says what cannot be.
pub(crate) fn invalid(text: impl Into<String>) -> BuildError {
    BuildError::new(Kind::InvalidRequest, text)
}

fn definition(wire: proto::pb::Definition) -> Result<Definition, BuildError> {
    Definition::from_wire(wire).map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))
}

fn definitions(
    wire: std::collections::BTreeMap<String, proto::pb::Definition>,
) -> Result<std::collections::BTreeMap<String, Definition>, BuildError> {
    let checked = wire.into_iter().map(|(name, wire)| Ok((name, definition(wire)?)));
    checked.collect()
}
