//! A result, delivered in the form asked for.
//!
//! [`Exporters::resolve`] turns a request into an [`Exporter`], or refuses it before any work is done;
//! the exporter then takes a finished [`ExportResult`] and returns what the client is told about it.
//! The crate does not know how a result was built.

mod archive;
mod attributes;
mod blobs;
mod counters;
mod error;
mod exporters;
mod files;
mod image;
mod json_text;
mod predicate;
mod request;

pub use error::ExportError;
pub use exporters::{Exporter, Exporters, InsecureRegistries};
pub use predicate::Predicate;
pub use request::{
    ExportContext, ExportRefs, ExportRequest, ExportResult, Statement, StatementSubject,
};
