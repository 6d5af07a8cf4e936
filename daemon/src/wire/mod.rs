//! Conversions between the wire's messages and our own values, in both directions.
//!
//! What comes in is checked here, once; what goes out cannot fail. The rest of the daemon's services
//! are thin between these and the builder.

mod build;
mod disk;
mod history;
mod log;
mod progress;
mod session;
mod time;
mod volumes;
mod worker;

pub(crate) use self::build::build_request;
pub(crate) use self::disk::{is_older, prune_request, usage_filter, usage_record};
pub(crate) use self::history::{HistoryQuery, history_event};
pub(crate) use self::log::WireCodec;
pub(crate) use self::progress::status_messages;
pub(crate) use self::session::registration;
pub(crate) use self::time::current_timestamp;
pub(crate) use self::volumes::{
    entry, policy_patch, removed, space, volume, volume_key, volume_label, volume_name,
    volume_path, volume_status, volumes_prune,
};
pub(crate) use self::worker::Workers;
