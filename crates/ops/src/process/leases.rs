//! Cache mounts as leases of volumes.

use std::os::fd::AsFd as _;
use std::time::Duration;

use cache::{ImmutableRef, TreeView};
use llb::{CacheMount, CacheSharing, Mount};
use mount::{GuestPath, HostPath, MountSource};
use progress::LogStream;
use rustix::fs::Stat;
use solver::OpError;
use volumes::{
    Label, LeaseRequest, Leases, MountRequest, RootAttributes, Seed, Sharing, Variant, VariantKey,
    VolumeName, WaitObserver, Waiting,
};

use super::Patron;
use crate::{OperationError, Services, failure};

/// The mark of a directory that hides what is below it (Linux `overlayfs`).
const OPAQUE: &str = "trusted.overlay.opaque";

/// Returns the request for one cache mount. A mount that starts from an empty directory takes only
/// that directory's owner and mode; one that starts from content is a variant of the volume. The view
/// has to be held until the lease is there.
pub(super) async fn request(
    services: &Services,
    target: &GuestPath,
    mount: &Mount,
    cache: &CacheMount,
    input: &ImmutableRef,
) -> Result<(MountRequest, Option<TreeView>), OpError> {
    let id = if cache.id.is_empty() { target.to_string() } else { cache.id.clone() };
    let name = VolumeName::new(&services.namespace, user_id(&id)).map_err(failure)?;
    let sharing = match cache.sharing {
        _ if mount.readonly => Sharing::ReadOnly,
        CacheSharing::Shared => Sharing::Shared,
        CacheSharing::Private => Sharing::Private,
        CacheSharing::Locked => Sharing::Locked,
    };
    let mut request = MountRequest::new(name, sharing);
    request.readonly = mount.readonly;
    request.target = target.to_string();
    if input.is_empty() {
        return Ok((request, None));
    }
    let selector = GuestPath::new(&mount.selector).map_err(failure)?;
    let view = services.refs.view(input).await.map_err(failure)?;
    let looked = {
        let (view, selector) = (view.clone(), selector.clone());
        tasks::blocking("look at seed", move || look(&view, &selector)).await.map_err(failure)??
    };
    request.root = RootAttributes {
        uid: Some(looked.stat.st_uid),
        gid: Some(looked.stat.st_gid),
        mode: Some(looked.stat.st_mode & 0o7777),
    };
    if looked.is_empty {
        return Ok((request, None));
    }
    let sums = services.refs.checksums(input);
    let digest = {
        let (view, selector) = (view.clone(), selector.clone());
        tasks::blocking("checksum seed", move || {
            let root = view.root().map_err(failure)?;
            sums.digest(&root, &selector).map_err(failure)
        })
    };
    let key = VariantKey::new(digest.await.map_err(failure)??);
    let layers = {
        let view = view.clone();
        tasks::blocking("find seed", move || seed_layers(&view, &selector))
    };
    let seed = Seed { layers: layers.await.map_err(failure)?? };
    request.variant = Some(Variant { key, seed });
    Ok((request, Some(view)))
}

/// Returns the id as the user wrote it. Dockerfile frontends send `<namespace>/<id>`, with nothing
/// before the slash where no namespace is set.
fn user_id(id: &str) -> &str {
    match id.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => id,
    }
}

struct Looked {
    stat: Stat,
    is_empty: bool,
}

fn look(view: &TreeView, selector: &GuestPath) -> Result<Looked, OpError> {
    let root = view.root().map_err(failure)?;
    let directory = root.open_dir(selector).map_err(failure)?;
    let stat = rustix::fs::fstat(&directory).map_err(failure)?;
    let mut entries = rustix::fs::Dir::read_from(directory.as_fd()).map_err(failure)?;
    let is_empty = entries
        .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
    Ok(Looked { stat, is_empty })
}

/// Returns the directories that show the selected part of a tree, topmost first; blocking.
fn seed_layers(view: &TreeView, selector: &GuestPath) -> Result<Vec<HostPath>, OpError> {
    let layers = match &view.mount().source {
        MountSource::Bind(path) => vec![path.clone()],
        MountSource::Overlay { lower, upper: None } => lower.clone(),
        other => {
            let text = format!("a cache mount cannot be seeded from {other:?}");
            return Err(failure(OperationError::Unsupported(text)));
        }
    };
    let mut seed = Vec::new();
    for layer in layers {
        let place = layer.join(selector.relative());
        if place.as_path().is_dir() {
            seed.push(place);
        }
        if hides(&layer, selector) {
            break;
        }
    }
    Ok(seed)
}

/// Returns true if a layer hides what lower ones have at or above `selector`: by something that is no
/// directory, such as a whiteout, or by an opaque directory.
fn hides(layer: &HostPath, selector: &GuestPath) -> bool {
    selector.relative().ancestors().any(|part| {
        let place = layer.join(part);
        let Ok(metadata) = std::fs::symlink_metadata(place.as_path()) else { return false };
        let mut value = [0; 8];
        let opaque = rustix::fs::lgetxattr(place.as_path(), OPAQUE, &mut value[..]);
        !metadata.is_dir() || opaque.is_ok_and(|length| value[..length] == *b"y")
    })
}

/// Takes all leases of a process; tells the user while it waits, and how long it was.
pub(super) async fn acquire(
    services: &Services,
    patron: Patron<'_>,
    mut mounts: Vec<MountRequest>,
) -> Result<Leases, OpError> {
    if let Some(job) = patron.without_cache() {
        // A build without cache starts from empty volumes once: its later steps see what its earlier
        // ones wrote.
        for mount in &mut mounts {
            mount.fresh = services.freshened.is_first(&job, mount.name.key());
        }
    }
    let holder = Label { build: patron.build(), step: patron.name() };
    let request = LeaseRequest { mounts, holder };
    services.volumes.acquire(request, &Teller { patron }).await.map_err(failure)
}

/// Tells a waiting step's user about it, in the step's own output. A container has no output yet: its
/// wait is in the log.
struct Teller<'a> {
    patron: Patron<'a>,
}

impl Teller<'_> {
    fn tell(&self, text: String) {
        match self.patron {
            Patron::Step(context) => context.log(LogStream::Stderr, text),
            Patron::Container(owner) => {
                tracing::info!(job.id = owner.build, "container: {}", text.trim_end());
            }
        }
    }
}

impl WaitObserver for Teller<'_> {
    fn waiting(&self, waiting: &Waiting) {
        let holders: Vec<String> = waiting
            .holders
            .iter()
            .map(|holder| {
                let held = holder.since.elapsed().unwrap_or_default();
                format!("{} for {}", holder.label, shown(held))
            })
            .collect();
        let holders =
            if holders.is_empty() { "another step".to_owned() } else { holders.join(", ") };
        let place = match waiting.ahead {
            0 => "next in the queue".to_owned(),
            1 => "1 step is ahead in the queue".to_owned(),
            ahead => format!("{ahead} steps are ahead in the queue"),
        };
        let id = waiting.volume.shown_id();
        let text = format!("waiting for cache volume `{id}`, held by {holders}; {place}\n");
        self.tell(text);
    }

    fn acquired(&self, volume: &VolumeName, waited: Duration) {
        self.tell(format!("got cache volume `{}` after {}\n", volume.shown_id(), shown(waited)));
    }
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_users_wrote() {
        for (sent, id) in [
            ("/uv", "uv"),
            ("//root/.cache", "/root/.cache"),
            ("ns/uv", "ns/uv"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(user_id(sent), id);
        }
    }

    #[test]
    fn waits_are_told_in_the_units_of_people() {
        for (seconds, text) in [(0.25, "0.2s"), (75.0, "1m15s"), (4000.0, "1h6m")] {
            assert_eq!(shown(Duration::from_secs_f64(seconds)), text);
        }
    }
}
