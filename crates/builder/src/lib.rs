//! One request, from arrival to export.
//!
//! A [`Builder`] takes a [`BuildRequest`], runs the frontend or lets the client be one, has the graph
//! solved, hands the result to the exporters and keeps a record in the [`History`]. It knows graphs by
//! their definitions and results by reference; what operations do is known to others, who hand in an
//! `OpResolver` through the solver.

mod attestations;
mod begun;
mod builder;
mod builds;
mod codec;
mod containers;
mod failure;
mod files;
mod graph;
mod history;
mod job;
mod leftovers;
mod line;
mod provenance;
mod request;
mod result;
mod scan;
mod space;

pub use builder::{Builder, Parts};
pub use codec::{ERROR_MEDIA_TYPE, LOG_MEDIA_TYPE, LogCodec};
pub use failure::{Explain, Explanation};
pub use graph::Entitlements;
pub use history::{History, HistoryEvent, HistoryRecord, HistoryResult, Retention};
pub use request::BuildRequest;
