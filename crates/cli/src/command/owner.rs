//! Commands by which an owner changes volumes.

use std::ffi::OsStr;
use std::time::Duration;

use volumes::{PolicyPatch, PolicyRule, PruneRequest, Space, VolumeKey};

use super::by;
use crate::arguments::{Format, Volume, Volumes};
use crate::failure::Failure;
use crate::output::{self, RemovedDocument};
use crate::place::Place;
use crate::quantity::shown_size;
use crate::wanted::Wanted;

/// Does `work` to each volume, also when it cannot be done to some. Returns the first failure, and tells
/// of the others.
async fn each(
    place: &dyn Place,
    volumes: &Volumes,
    work: impl AsyncFn(VolumeKey) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut first: Result<(), Failure> = Ok(());
    for text in &volumes.volumes {
        let wanted = Wanted { namespace: &volumes.namespace, text };
        if let Err(failure) = wanted.with(place, &work).await {
            match &first {
                Ok(()) => first = Err(failure),
                Err(_) => eprintln!("larder: {}", failure.text()),
            }
        }
    }
    first
}

pub(super) async fn remove(
    place: &dyn Place,
    volumes: &Volumes,
    format: Format,
) -> Result<(), Failure> {
    each(place, volumes, async |key| {
        let freed = place.remove(key).await?;
        match format {
            Format::Table => output::lines([format!("{key} {}", shown_size(freed.bytes))]),
            Format::Json => output::json(&RemovedDocument::of_key(key, freed)),
        }
    })
    .await
}

pub(super) async fn reset(place: &dyn Place, volumes: &Volumes) -> Result<(), Failure> {
    each(place, volumes, async |key| place.reset(key, by("reset")).await).await
}

pub(super) async fn pin(place: &dyn Place, volumes: &Volumes, pinned: bool) -> Result<(), Failure> {
    each(place, volumes, async |key| place.pin(key, pinned).await).await
}

pub(super) async fn rollback(
    place: &dyn Place,
    volume: &Volume,
    version: u64,
) -> Result<(), Failure> {
    let wanted = Wanted { namespace: &volume.namespace, text: &volume.volume };
    wanted.with(place, async |key| place.rollback(key, version, by("rollback")).await).await
}

pub(super) async fn fork(
    place: &dyn Place,
    volume: &Volume,
    to: &OsStr,
    to_namespace: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let wanted = Wanted { namespace: &volume.namespace, text: &volume.volume };
    let namespace = to_namespace.unwrap_or(&volume.namespace);
    let name = Wanted { namespace, text: to }.name()?;
    let fork = async |key| place.fork(key, name.clone(), by("fork")).await;
    let made = wanted.with(place, fork).await?;
    match format {
        Format::Table => output::lines([made.to_string()]),
        Format::Json => output::json(&serde_json::json!({ "key": made.to_string() })),
    }
}

/// What is to be removed.
pub(super) struct Prune {
    pub(super) namespace: Option<String>,
    pub(super) id: String,
    pub(super) all: bool,
    pub(super) unused_for: Duration,
    pub(super) keep_storage: Option<u64>,
}

pub(super) async fn prune(place: &dyn Place, what: Prune, format: Format) -> Result<(), Failure> {
    let keep = what.keep_storage.map(|bytes| Space { bytes, inodes: u64::MAX });
    let Prune { all, unused_for, .. } = what;
    let request = PruneRequest { all, unused_for, keep };
    let (namespace, pattern) = (what.namespace, what.id);
    let among = PolicyRule { namespace, pattern, policy: PolicyPatch::default() };
    let removed = place.prune(request, among).await?;
    match format {
        Format::Json => output::json(&removed.iter().map(RemovedDocument::of).collect::<Vec<_>>()),
        Format::Table => output::lines(output::removed(&removed)),
    }
}
