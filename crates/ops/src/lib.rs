//! What each LLB operation means, in terms of the mechanisms.
//!
//! [`LlbOps`] is the solver's source of operations: one type per kind, each of which says what
//! identifies its results and how to make them. The crate knows files, processes, registries and
//! volumes; it does not know builds, clients' requests, or how results are delivered.

mod build;
mod clients;
mod combine;
mod container;
mod error;
mod exec;
mod file;
mod process;
mod resolver;
mod services;
mod source;

use solver::OpError;

pub use build::NestedBuild;
pub use error::OperationError;
pub use file::{Cause, FileError};
pub use resolver::LlbOps;
pub use services::Mechanisms;
pub(crate) use services::Services;

/// Wraps any error as that of an operation; a full disk gets a message that says what to do.
pub(crate) fn failure(error: impl std::error::Error + Send + Sync + 'static) -> OpError {
    if is_disk_full(&error) {
        return OpError::new(OperationError::DiskFull { what: error.to_string() });
    }
    OpError::new(error)
}

/// Returns what is left where the content of an input could not be looked at.
pub(crate) fn unread(slot: usize, input: &cache::ImmutableRef) -> cache::Remains {
    let part = Some(cache::FailedPart::Content(slot));
    cache::Remains { inputs: vec![Some(input.clone())], outputs: Vec::new(), part }
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        let io = io.or_else(|| error.downcast_ref::<Cause>().map(|cause| &cause.0));
        let kept = error.downcast_ref::<cache::CacheError>();
        if matches!(io.map(std::io::Error::kind), Some(StorageFull | QuotaExceeded))
            || kept.is_some_and(cache::CacheError::is_disk_full)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
