//! Image documents as values, with the bytes they came in.
//!
//! References and platforms, descriptors, manifests, indexes and image configs, as the OCI image
//! specification and Docker's additions to it define them. A document that arrives is kept as
//! [`Raw`], with its bytes, and is never encoded again; one that we make is encoded as Go would. The
//! crate knows nothing of registries, stores or files.

pub mod annotations;
mod config;
mod descriptor;
pub mod json;
mod manifest;
mod matcher;
pub mod media;
mod platform;
mod raw;
mod reference;
mod time;

pub use config::{Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use descriptor::Descriptor;
pub use manifest::{Index, Manifest};
pub use matcher::PlatformMatcher;
pub use platform::{Platform, PlatformError};
pub use raw::{Document, DocumentError, Raw};
pub use reference::{Reference, ReferenceError};
pub use time::{Time, TimeError};
