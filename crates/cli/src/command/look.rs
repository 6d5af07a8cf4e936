//! Commands that change nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::SystemTime;

use mount::GuestPath;
use volumes::{VolumeError, VolumeManager};

use crate::arguments::{Format, Volume, Volumes};
use crate::failure::{Failure, Kind};
use crate::output::{self, EntryDocument, VolumeDocument};
use crate::place::Place;
use crate::wanted::Wanted;

pub(super) async fn list(
    place: &dyn Place,
    namespace: Option<String>,
    quiet: bool,
    format: Format,
) -> Result<(), Failure> {
    let mut records = place.list().await?;
    records.retain(|record| namespace.as_ref().is_none_or(|one| record.name.namespace() == one));
    records.sort_by(|a, b| a.name.cmp(&b.name));
    match format {
        Format::Json => {
            let documents: Vec<_> = records.iter().map(VolumeDocument::of).collect();
            output::json(&documents)
        }
        Format::Table if quiet => {
            output::lines(records.iter().map(|record| record.key.to_string()))
        }
        Format::Table => output::lines(output::volumes(&records, SystemTime::now())),
    }
}

pub(super) async fn inspect(
    place: &dyn Place,
    volumes: &Volumes,
    format: Format,
) -> Result<(), Failure> {
    let mut records = Vec::new();
    for text in &volumes.volumes {
        let wanted = Wanted { namespace: &volumes.namespace, text };
        records.push(wanted.with(place, async |key| place.inspect(key).await).await?);
    }
    match format {
        Format::Json => output::json(&records.iter().map(VolumeDocument::of).collect::<Vec<_>>()),
        Format::Table => {
            let now = SystemTime::now();
            let parts: Vec<_> = records.iter().map(|one| output::volume(one, now)).collect();
            output::lines(parts.join(&String::new()))
        }
    }
}

pub(super) async fn browse(
    place: &dyn Place,
    volume: &Volume,
    path: &OsStr,
    format: Format,
) -> Result<(), Failure> {
    let path =
        GuestPath::new(path).map_err(|error| Failure::new(Kind::Usage, error.to_string()))?;
    let wanted = Wanted { namespace: &volume.namespace, text: &volume.volume };
    let browse = async |key| place.browse(key, path.clone()).await;
    let entries = wanted.with(place, browse).await?;
    match format {
        Format::Json => output::json(&entries.iter().map(EntryDocument::of).collect::<Vec<_>>()),
        Format::Table => output::lines(output::entries(&entries, SystemTime::now())),
    }
}

pub(super) async fn path(
    volumes: &VolumeManager,
    volume: &Volume,
    format: Format,
) -> Result<(), Failure> {
    let wanted = Wanted { namespace: &volume.namespace, text: &volume.volume };
    let path = async |key| volumes.path(key).await.map_err(|error: VolumeError| error.into());
    let location = wanted.with(volumes, path).await?;
    match format {
        Format::Json => {
            let head: Vec<_> = location.head.iter().map(ToString::to_string).collect();
            output::json(&BTreeMap::from([
                ("directory", serde_json::Value::from(location.directory.to_string())),
                ("layers", location.layers.to_string().into()),
                ("head", head.into()),
            ]))
        }
        Format::Table => output::lines(location.head.iter().map(ToString::to_string)),
    }
}
