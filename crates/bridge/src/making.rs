//! The seam between those who know the results of a build and those who know how processes run.
//!
//! A [`Containers`](crate::Containers) speaks of results by their handles. Who keeps the handles has
//! the results built and hands the trees to a [`ContainerMaker`], which has never heard of handles.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{BuildError, ContainerProcess, ContainerRequest, Process, ProcessStreams};

/// Makes containers of trees of type `T`, and shows what is in their mounts as values of type `R`.
#[async_trait]
pub trait ContainerMaker<T: Send + 'static, R>: Send + Sync + Debug {
    /// Makes a container in which nothing runs yet. May wait for the volumes that it mounts.
    ///
    /// Dropping the future leaves nothing behind. That the build may have what it asks for was
    /// checked before.
    ///
    /// # Errors
    /// Returns an error if a mount cannot be what it should, or programs of its platform cannot run
    /// here.
    async fn make(&self, plan: ContainerPlan<T>) -> Result<Arc<dyn MadeContainer<R>>, BuildError>;
}

/// A container, with what it is made of.
#[derive(Debug, Clone)]
pub struct ContainerPlan<T> {
    /// The id of its build.
    pub build: String,
    /// The sessions of the build's client.
    pub sessions: Vec<String>,
    /// What was asked for; its handles mean nothing any more.
    pub request: ContainerRequest,
    /// The tree of each mount of the request, in their order.
    pub trees: Vec<T>,
}

/// A container that was made. Dropping it ends its processes in the background, as
/// [`MadeContainer::release`] does at once.
#[async_trait]
pub trait MadeContainer<R>: Send + Sync + Debug {
    /// Starts a process, as [`Container::start`](crate::Container::start) does.
    async fn start(
        &self,
        process: ContainerProcess,
        streams: ProcessStreams,
    ) -> Result<Box<dyn Process>, BuildError>;

    /// Returns what is in a mount now, for reading.
    ///
    /// # Errors
    /// Returns an error if there is no such mount, or if nobody outside can look into it.
    async fn look(&self, mount: usize) -> Result<R, BuildError>;

    /// Ends all its processes and lets go of its mounts, as
    /// [`Container::release`](crate::Container::release) does. A second time it does nothing.
    async fn release(&self) -> Result<(), BuildError>;
}
