//! A registry in memory, stricter than real ones.
//!
//! It refuses what a real one may happen to allow: a manifest whose parts are not there, a blob whose
//! bytes are not those of its digest, a size that is not the descriptor's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use async_trait::async_trait;
use bytes::Bytes;
use digests::Digest;
use futures::stream;
use oci::{Descriptor, Index, Manifest, Raw, Reference, media};
use parking_lot::Mutex;

use crate::{
    Access, Action, Attempt, BlobPush, BlobSource, BlobStream, Pushed, Registry, RegistryError,
    Resolved,
};

/// How much a blob stream brings at once: little, so that readers see more than one piece.
const CHUNK: usize = 4096;

/// All registries there are, in memory.
#[derive(Debug, Default)]
pub struct FakeRegistry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    closed_to: BTreeMap<String, BTreeSet<String>>,
    calls: Vec<Attempt>,
    failures: Vec<Action>,
}

#[derive(Debug, Default)]
struct Repository {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeMap<Digest, (String, Bytes)>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl FakeRegistry {
    /// Returns registries with nothing in them, open to everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets only those with this identity ask `host` for anything. May be called for several.
    pub fn admit(&self, host: &str, identity: &str) {
        let mut state = self.state.lock();
        state.closed_to.entry(host.to_owned()).or_default().insert(identity.to_owned());
    }

    /// Lets the next call of this kind fail, as by a broken connection.
    pub fn fail_next(&self, action: Action) {
        self.state.lock().failures.push(action);
    }

    /// Puts a blob into the repository of `reference`, and returns its descriptor.
    pub fn add_blob(&self, reference: &Reference, media_type: &str, blob: Bytes) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &blob);
        let mut state = self.state.lock();
        let repository = state.repositories.entry(reference.name()).or_default();
        repository.blobs.insert(descriptor.digest, blob);
        descriptor
    }

    /// Puts a manifest under the tag of `reference` if it has one, and returns its descriptor. Unlike a
    /// push it may point to what is not there.
    pub fn add_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
    ) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &manifest);
        let mut state = self.state.lock();
        let repository = state.repositories.entry(reference.name()).or_default();
        repository.manifests.insert(descriptor.digest, (media_type.to_owned(), manifest));
        if let Some(tag) = reference.tag() {
            repository.tags.insert(tag.to_owned(), descriptor.digest);
        }
        descriptor
    }

    /// Returns the bytes of a blob or a manifest in the repository of `reference`.
    pub fn content(&self, reference: &Reference, digest: Digest) -> Option<Bytes> {
        let state = self.state.lock();
        let repository = state.repositories.get(&reference.name())?;
        let manifest = repository.manifests.get(&digest).map(|(_, bytes)| bytes);
        manifest.or_else(|| repository.blobs.get(&digest)).cloned()
    }

    /// Returns what has been asked so far, in order.
    pub fn calls(&self) -> Vec<Attempt> {
        self.state.lock().calls.clone()
    }

    /// Notes a call, and returns an error if it is to fail.
    fn call(
        &self,
        reference: &Reference,
        access: &Access,
        action: Action,
        object: impl ToString,
    ) -> Result<Attempt, RegistryError> {
        let attempt = Attempt {
            action,
            host: reference.host().to_owned(),
            repository: reference.repository().to_owned(),
            object: object.to_string(),
        };
        let mut state = self.state.lock();
        state.calls.push(attempt.clone());
        let identity = access.credentials().identity();
        if state.closed_to.get(reference.host()).is_some_and(|open| !open.contains(identity)) {
            let message = "insufficient_scope".to_owned();
            return Err(RegistryError::Denied { attempt: Box::new(attempt), message });
        }
        if let Some(position) = state.failures.iter().position(|failing| *failing == action) {
            state.failures.remove(position);
            let source = "connection reset by the test".into();
            return Err(RegistryError::Connection { attempt: Box::new(attempt), source });
        }
        Ok(attempt)
    }

    fn find<T>(
        &self,
        reference: &Reference,
        find: impl FnOnce(&Repository) -> Option<T>,
    ) -> Result<T, RegistryError> {
        let state = self.state.lock();
        let found = state.repositories.get(&reference.name()).and_then(find);
        found.ok_or_else(|| RegistryError::NotFound { name: reference.to_string() })
    }
}

#[async_trait]
impl Registry for FakeRegistry {
    async fn resolve(
        &self,
        reference: &Reference,
        access: &Access,
    ) -> Result<Resolved, RegistryError> {
        self.call(reference, access, Action::Resolve, reference)?;
        let descriptor = self.find(reference, |repository| {
            let tagged = || repository.tags.get(reference.tag()?).copied();
            let digest = reference.digest().or_else(tagged)?;
            let (media_type, bytes) = repository.manifests.get(&digest)?;
            Some(Descriptor::of(media_type.clone(), bytes))
        })?;
        Ok(Resolved { descriptor, manifest: None })
    }

    async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<Bytes, RegistryError> {
        let attempt = self.call(reference, access, Action::FetchManifest, descriptor.digest)?;
        let (media_type, bytes) = self
            .find(reference, |repository| repository.manifests.get(&descriptor.digest).cloned())?;
        if media_type != descriptor.media_type || bytes.len() as u64 != descriptor.size {
            return Err(garbage(attempt, "it is not of the media type and size of the descriptor"));
        }
        Ok(bytes)
    }

    async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        access: &Access,
    ) -> Result<BlobStream, RegistryError> {
        let attempt = self.call(reference, access, Action::FetchBlob, descriptor.digest)?;
        let blob =
            self.find(reference, |repository| repository.blobs.get(&descriptor.digest).cloned())?;
        if blob.len() as u64 != descriptor.size {
            return Err(garbage(attempt, "it is not of the size of the descriptor"));
        }
        Ok(Box::pin(stream::unfold(blob, |mut left| async {
            let chunk = left.split_to(left.len().min(CHUNK));
            (!chunk.is_empty()).then_some((Ok(chunk), left))
        })))
    }

    async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        push: BlobPush,
        access: &Access,
    ) -> Result<Pushed, RegistryError> {
        let digest = descriptor.digest;
        let attempt = self.call(reference, access, Action::PushBlob, digest)?;
        let has = |name: &str| {
            let state = self.state.lock();
            state.repositories.get(name).and_then(|there| there.blobs.get(&digest).cloned())
        };
        if has(&reference.name()).is_some() {
            return Ok(Pushed::AlreadyThere);
        }
        let from = push.mount_from.as_ref().map(|from| format!("{}/{from}", reference.host()));
        let (blob, pushed) = match from.and_then(|from| has(&from)) {
            Some(blob) => (blob, Pushed::Mounted),
            None => (read(push.source, digest).await?, Pushed::Uploaded),
        };
        if Descriptor::of("", &blob).digest != digest || blob.len() as u64 != descriptor.size {
            return Err(garbage(attempt, "the bytes are not those of the descriptor"));
        }
        if let Some(progress) = push.progress.filter(|_| pushed == Pushed::Uploaded) {
            progress(descriptor.size);
        }
        let mut state = self.state.lock();
        state.repositories.entry(reference.name()).or_default().blobs.insert(digest, blob);
        Ok(pushed)
    }

    async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
        access: &Access,
    ) -> Result<(), RegistryError> {
        let digest = Digest::of(&manifest);
        let attempt = self.call(reference, access, Action::PushManifest, reference)?;
        if reference.digest().is_some_and(|named| named != digest) {
            return Err(garbage(attempt, "the manifest has another digest than the reference"));
        }
        let parts = parts(media_type, &manifest)
            .ok_or_else(|| garbage(attempt.clone(), "the manifest is not what its type says"))?;
        let mut state = self.state.lock();
        let repository = state.repositories.entry(reference.name()).or_default();
        for part in parts {
            let sizes = [
                repository.blobs.get(&part.digest),
                repository.manifests.get(&part.digest).map(|(_, bytes)| bytes),
            ];
            if !sizes.into_iter().flatten().any(|found| found.len() as u64 == part.size) {
                let problem = format!("`{}`, which it points to, is not there", part.digest);
                return Err(garbage(attempt, &problem));
            }
        }
        repository.manifests.insert(digest, (media_type.to_owned(), manifest));
        if let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) {
            repository.tags.insert(tag.to_owned(), digest);
        }
        Ok(())
    }
}

/// Returns what a manifest or index points to and must be there.
fn parts(media_type: &str, document: &Bytes) -> Option<Vec<Descriptor>> {
    if media::is_index(media_type) {
        return Some(Raw::<Index>::parse(document.clone()).ok()?.into_value().manifests);
    }
    let manifest = Raw::<Manifest>::parse(document.clone()).ok()?.into_value();
    if !media::is_manifest(media_type) || manifest.media_type.is_some_and(|said| said != media_type)
    {
        return None;
    }
    let layers = manifest.layers.into_iter();
    let layers = layers.filter(|layer| !media::is_nondistributable(&layer.media_type));
    Some(layers.chain([manifest.config]).collect())
}

async fn read(source: BlobSource, digest: Digest) -> Result<Bytes, RegistryError> {
    let read = move || match source {
        BlobSource::Bytes(bytes) => Ok(bytes),
        BlobSource::File(open) => {
            let mut bytes = Vec::new();
            open()?.read_to_end(&mut bytes)?;
            Ok(bytes.into())
        }
    };
    let read = tasks::blocking("read blob", read)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map_err(|source| RegistryError::Source { digest, source })
}

fn garbage(attempt: Attempt, problem: &str) -> RegistryError {
    RegistryError::Garbage { attempt: Box::new(attempt), problem: problem.to_owned() }
}
