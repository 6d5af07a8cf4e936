//! The daemon's log: one line an event on standard error, as text or JSON.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

use crate::config::LogConfig;

/// Opens the log. Libraries that are not ours say only what is worth a warning, unless everything is
/// wanted.
pub(crate) fn open(config: &LogConfig) {
    let level = config.level;
    let chatty = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "reqwest", "redb"];
    let filter = if level == tracing::Level::TRACE {
        Targets::new().with_default(level)
    } else {
        let quiet = level.min(tracing::Level::WARN);
        chatty.iter().fold(Targets::new().with_default(level), |filter, target| {
            filter.with_target(*target, quiet)
        })
    };
    let layer = if config.json {
        fmt::layer().json().with_writer(stderr).boxed()
    } else {
        fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
