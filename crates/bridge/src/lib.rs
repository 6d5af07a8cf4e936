//! What a front door may ask of a build.
//!
//! A [`Frontend`] turns options and inputs into results; it asks a [`Bridge`] for everything it
//! needs: a file of the client's, the digest of a base image, a solved graph. The Dockerfile frontend
//! and frontends that run as containers see the build through this crate alone; so does a client
//! that drives its build over the wire. The crate knows nothing of how any of it is done.

mod container;
mod csv;
mod error;
mod frontend;
mod making;
mod metadata;
mod sources;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use container::{
    Container, ContainerMount, ContainerProcess, ContainerRequest, Containers, Process,
    ProcessStreams,
};
pub use csv::split_csv;
pub use error::{BuildError, Detail, FailedPart, Kind};
pub use frontend::{
    Attestation, AttestationKind, Bridge, CacheImport, FileRange, FileStat, Frontend,
    FrontendRequest, FrontendResult, InTotoSubject, RefHandle, ResolveMode, ResolvedImage, Results,
    SolveRequest, SolvedRef, SourceMeta, SourceMetaRequest, SubjectKind, WorkerInfo,
};
pub use making::{ContainerMaker, ContainerPlan, MadeContainer};
pub use metadata::{PlatformEntry, ResultPlatforms, keys};
/// What warnings and errors point at, so that a frontend needs no other crate for it.
pub use progress::{Position, Range, SourceExcerpt, Warning};
pub use sources::SourceResolver;
