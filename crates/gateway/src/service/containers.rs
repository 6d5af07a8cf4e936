//! The containers of one conversation, by the ids that the frontend gave them.

use std::collections::HashMap;
use std::sync::Arc;

use bridge::{Bridge, BuildError, Container, ContainerRequest, Kind};
use parking_lot::Mutex;
use tonic::Status;

use crate::status;

/// The containers of one conversation. Dropped, it lets go of them all.
#[derive(Debug, Default)]
pub(super) struct ContainerTable {
    // Held for a look or a change only.
    known: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
enum Entry {
    /// It is being made.
    Begun,
    There(Arc<dyn Container>),
}

/// An id that is taken while its container is being made.
struct Claim<'a> {
    table: &'a ContainerTable,
    id: &'a str,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut known = self.table.known.lock();
        if matches!(known.get(self.id), Some(Entry::Begun)) {
            known.remove(self.id);
        }
    }
}

impl ContainerTable {
    /// Makes a container and enters it.
    ///
    /// # Errors
    /// Returns an error if the id is taken, or the container cannot be made.
    pub(super) async fn make(
        &self,
        bridge: &dyn Bridge,
        id: &str,
        request: ContainerRequest,
    ) -> Result<(), BuildError> {
        let containers = bridge.containers().ok_or_else(|| {
            BuildError::new(Kind::Unsupported, "this build cannot have containers of its own")
        })?;
        let claim = self.claim(id)?;
        let container = containers.create(request).await?;
        self.known.lock().insert(id.to_owned(), Entry::There(container));
        drop(claim);
        Ok(())
    }

    fn claim<'a>(&'a self, id: &'a str) -> Result<Claim<'a>, BuildError> {
        let mut known = self.known.lock();
        if known.contains_key(id) {
            let text = format!("Container {id} already exists");
            return Err(BuildError::new(Kind::AlreadyExists, text));
        }
        known.insert(id.to_owned(), Entry::Begun);
        Ok(Claim { table: self, id })
    }

    /// Returns a container that is there.
    pub(super) fn find(&self, id: &str) -> Option<Arc<dyn Container>> {
        match self.known.lock().get(id) {
            Some(Entry::There(container)) => Some(container.clone()),
            Some(Entry::Begun) | None => None,
        }
    }

    /// Takes a container out, to be released.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub(super) fn take(&self, id: &str) -> Result<Arc<dyn Container>, BuildError> {
        let mut known = self.known.lock();
        match known.remove(id) {
            Some(Entry::There(container)) => Ok(container),
            Some(begun @ Entry::Begun) => {
                known.insert(id.to_owned(), begun);
                Err(unknown(id))
            }
            None => Err(unknown(id)),
        }
    }

    /// Returns a container and the number of one of its mounts.
    ///
    /// # Errors
    /// Returns an error if there is no such container, or no mount could have this number.
    pub(super) fn mount(
        &self,
        id: &str,
        index: i32,
    ) -> Result<(Arc<dyn Container>, usize), Status> {
        let container = self.find(id).ok_or_else(|| status::of(unknown(id)))?;
        let mount = usize::try_from(index)
            .map_err(|_| Status::invalid_argument(format!("a container has no mount {index}")))?;
        Ok((container, mount))
    }
}

fn unknown(id: &str) -> BuildError {
    BuildError::new(Kind::InvalidRequest, format!("container details for {id} not found"))
}
