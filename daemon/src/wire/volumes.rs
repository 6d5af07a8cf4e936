//! Volumes, as `larder.volumes.v1` says them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mount::GuestPath;
use proto::volumes as wire;
use tonic::{Code, Status};
use volumes::{
    Driver, Entry, EntryKind, Form, Holder, Label, LeaseRecord, Merge, NoCache, Origin, Policy,
    PolicyPatch, PolicyRule, PruneRequest, Quota, Removed, Salvage, Sharing, Space, VariantKey,
    VersionRecord, VolumeError, VolumeKey, VolumeName, VolumeRecord,
};

/// Returns the status of a call that failed with `error`.
pub(crate) fn volume_status(error: &VolumeError) -> Status {
    let code = match error {
        VolumeError::Unknown(_)
        | VolumeError::NoVersion { .. }
        | VolumeError::NoDirectory { .. } => Code::NotFound,
        VolumeError::InUse { .. } => Code::FailedPrecondition,
        VolumeError::Exists(_) => Code::AlreadyExists,
        VolumeError::WaitLimit { .. } => Code::DeadlineExceeded,
        VolumeError::Damaged { .. } => Code::DataLoss,
        VolumeError::Newer { .. }
        | VolumeError::NoReflinks(_)
        | VolumeError::NoSubvolumes { .. } => Code::Unimplemented,
        VolumeError::NoSpace { .. } => Code::ResourceExhausted,
        VolumeError::Lock(_) | VolumeError::System { .. } => Code::Internal,
        VolumeError::Stopped(_) => Code::Unavailable,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Status::new(code, text)
}

fn invalid(text: impl Into<String>) -> Status {
    Status::invalid_argument(text)
}

/// Reads which volume is meant.
pub(crate) fn volume_key(selector: Option<wire::Selector>) -> Result<VolumeKey, Status> {
    match selector.and_then(|selector| selector.by) {
        Some(wire::selector::By::Key(key)) => {
            key.parse().map_err(|error: volumes::NameError| invalid(error.to_string()))
        }
        Some(wire::selector::By::Name(name)) => volume_name(Some(name)).map(|name| name.key()),
        None => Err(invalid("a volume is missing")),
    }
}

/// Reads a volume's name.
pub(crate) fn volume_name(name: Option<wire::Name>) -> Result<VolumeName, Status> {
    let Some(wire::Name { namespace, id, variant }) = name else {
        return Err(invalid("a volume's name is missing"));
    };
    let name = VolumeName::new(namespace, id).map_err(|error| invalid(error.to_string()))?;
    if variant.is_empty() {
        return Ok(name);
    }
    let content = variant.parse().map_err(|_| invalid(format!("`{variant}` is not a digest")))?;
    Ok(name.with_variant(VariantKey::new(content)))
}

/// Reads who something is done for; the caller says so, and need not.
pub(crate) fn volume_label(label: Option<wire::Label>) -> Label {
    let wire::Label { build, step } = label.unwrap_or_default();
    let build = if build.is_empty() { "a client".to_owned() } else { build };
    Label { build, step }
}

/// Reads a directory of a volume.
pub(crate) fn volume_path(path: &[u8]) -> Result<GuestPath, Status> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::OsStr::from_bytes(path);
    GuestPath::new(path).map_err(|error| invalid(error.to_string()))
}

/// Reads what is decided about a volume.
pub(crate) fn policy_patch(policy: wire::Policy) -> Result<PolicyPatch, Status> {
    let unknown = |error: prost::UnknownEnumValue| invalid(format!("policy: {error}"));
    let merge = match wire::Merge::try_from(policy.merge).map_err(unknown)? {
        wire::Merge::Unspecified => None,
        wire::Merge::LastWriter => Some(Merge::LastWriter),
        wire::Merge::FirstWriter => Some(Merge::FirstWriter),
        wire::Merge::Union => Some(Merge::Union),
    };
    let no_cache = match wire::NoCache::try_from(policy.no_cache).map_err(unknown)? {
        wire::NoCache::Unspecified => None,
        wire::NoCache::Fresh => Some(NoCache::Fresh),
        wire::NoCache::Keep => Some(NoCache::Keep),
    };
    let driver = match wire::Driver::try_from(policy.driver).map_err(unknown)? {
        wire::Driver::Unspecified => None,
        wire::Driver::Auto => Some(Driver::Auto),
        wire::Driver::Overlay => Some(Driver::Overlay),
        wire::Driver::Reflink => Some(Driver::Reflink),
        wire::Driver::Subvolume => Some(Driver::Subvolume),
    };
    let salvage = |number| {
        Ok::<_, Status>(match wire::Salvage::try_from(number).map_err(unknown)? {
            wire::Salvage::Unspecified => None,
            wire::Salvage::Keep => Some(Salvage::Keep),
            wire::Salvage::Discard => Some(Salvage::Discard),
        })
    };
    if policy.versions == Some(0) {
        return Err(invalid("policy: at least one version has to be kept"));
    }
    Ok(PolicyPatch {
        merge,
        on_failure: salvage(policy.on_failure)?,
        on_interrupt: salvage(policy.on_interrupt)?,
        no_cache,
        quota: policy.quota.map(|quota| Quota { bytes: quota.bytes, inodes: quota.inodes }),
        floor: policy.floor,
        expiry: policy.expiry.map(Duration::from_secs),
        pinned: policy.pinned,
        wait_limit: policy.wait_limit.map(Duration::from_secs),
        driver,
        versions: policy.versions,
    })
}

/// Reads which volumes are to be removed: how many, and among which.
pub(crate) fn volumes_prune(request: wire::PruneRequest) -> (PruneRequest, PolicyRule) {
    let keep = request.keep.map(|keep| Space {
        bytes: keep.bytes,
        inodes: if keep.inodes == 0 { u64::MAX } else { keep.inodes },
    });
    let unused_for = Duration::from_secs(request.unused_for);
    let pattern = if request.pattern.is_empty() { "*".to_owned() } else { request.pattern };
    let namespace = (!request.namespace.is_empty()).then_some(request.namespace);
    let among = PolicyRule { namespace, pattern, policy: PolicyPatch::default() };
    (PruneRequest { all: request.all, unused_for, keep }, among)
}

/// Says what can be seen of a volume.
pub(crate) fn volume(record: VolumeRecord) -> wire::Volume {
    let form = match record.form {
        Form::Plain => wire::Form::Plain,
        Form::Versioned => wire::Form::Versioned,
    };
    wire::Volume {
        key: record.key.to_string(),
        name: Some(name(&record.name)),
        space: Some(space(record.space)),
        form: form.into(),
        created: milliseconds(record.created),
        last_used: record.last_used.map(milliseconds),
        uses: record.uses,
        leases: record.leases.into_iter().map(lease).collect(),
        waiting: record.waiting.into_iter().map(lease).collect(),
        head: record.head,
        versions: record.versions.into_iter().map(version).collect(),
        policy: Some(policy(&record.policy)),
        decided: Some(decided(&record.decided)),
    }
}

/// Says that a volume is gone.
pub(crate) fn removed(removed: &Removed) -> wire::Removed {
    wire::Removed {
        key: removed.key.to_string(),
        name: Some(name(&removed.name)),
        space: Some(space(removed.space)),
    }
}

/// Says how much disk something takes.
pub(crate) fn space(space: Space) -> wire::Space {
    wire::Space { bytes: space.bytes, inodes: space.inodes }
}

/// Says what an entry of a directory is.
pub(crate) fn entry(entry: Entry) -> wire::Entry {
    let (kind, target) = match entry.kind {
        EntryKind::File => (wire::EntryKind::File, Vec::new()),
        EntryKind::Directory => (wire::EntryKind::Directory, Vec::new()),
        EntryKind::Symlink(target) => (wire::EntryKind::Symlink, target),
        EntryKind::Other => (wire::EntryKind::Other, Vec::new()),
    };
    wire::Entry {
        name: entry.name.into(),
        kind: kind.into(),
        size: entry.size,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: i64::try_from(milliseconds(entry.modified)).unwrap_or(i64::MAX),
        target: target.into(),
    }
}

fn name(name: &VolumeName) -> wire::Name {
    wire::Name {
        namespace: name.namespace().to_owned(),
        id: name.id().to_vec().into(),
        variant: name.variant().map(|key| key.digest().to_string()).unwrap_or_default(),
    }
}

fn lease(lease: LeaseRecord) -> wire::Lease {
    let sharing = match lease.sharing {
        Sharing::Shared => wire::Sharing::Shared,
        Sharing::Locked => wire::Sharing::Locked,
        Sharing::Private => wire::Sharing::Private,
        Sharing::ReadOnly => wire::Sharing::ReadOnly,
    };
    let holder = lease.holder.map(|Holder { pid, label: by, since }| wire::Holder {
        pid,
        label: Some(label(by)),
        since: milliseconds(since),
    });
    wire::Lease { sharing: sharing.into(), holder, base: lease.base }
}

fn version(version: VersionRecord) -> wire::Version {
    let origin = match version.origin {
        Origin::Created => wire::Origin::Created,
        Origin::Seeded => wire::Origin::Seeded,
        Origin::Published => wire::Origin::Published,
        Origin::Merged => wire::Origin::Merged,
        Origin::Fresh => wire::Origin::Fresh,
        Origin::Reset => wire::Origin::Reset,
        Origin::RolledBack => wire::Origin::RolledBack,
        Origin::Forked => wire::Origin::Forked,
    };
    wire::Version {
        number: version.number,
        parent: version.parent,
        origin: origin.into(),
        created: milliseconds(version.created),
        by: version.by.map(label),
        depth: u32::try_from(version.depth).unwrap_or(u32::MAX),
    }
}

fn label(Label { build, step }: Label) -> wire::Label {
    wire::Label { build, step }
}

fn policy(policy: &Policy) -> wire::Policy {
    let merge = match policy.merge {
        Merge::LastWriter => wire::Merge::LastWriter,
        Merge::FirstWriter => wire::Merge::FirstWriter,
        Merge::Union => wire::Merge::Union,
    };
    let salvage = |salvage| match salvage {
        None => wire::Salvage::Unspecified.into(),
        Some(Salvage::Keep) => wire::Salvage::Keep.into(),
        Some(Salvage::Discard) => wire::Salvage::Discard.into(),
    };
    let no_cache = match policy.no_cache {
        NoCache::Fresh => wire::NoCache::Fresh,
        NoCache::Keep => wire::NoCache::Keep,
    };
    let driver = match policy.driver {
        Driver::Auto => wire::Driver::Auto,
        Driver::Overlay => wire::Driver::Overlay,
        Driver::Reflink => wire::Driver::Reflink,
        Driver::Subvolume => wire::Driver::Subvolume,
    };
    let Quota { bytes, inodes } = policy.quota;
    wire::Policy {
        merge: merge.into(),
        on_failure: salvage(Some(policy.on_failure)),
        on_interrupt: salvage(policy.on_interrupt),
        no_cache: no_cache.into(),
        quota: Some(wire::Quota { bytes, inodes }),
        floor: Some(policy.floor),
        expiry: policy.expiry.map(|expiry| expiry.as_secs()),
        pinned: Some(policy.pinned),
        wait_limit: policy.wait_limit.map(|limit| limit.as_secs()),
        driver: driver.into(),
        versions: Some(policy.versions),
    }
}

fn decided(patch: &PolicyPatch) -> wire::Policy {
    // A whole policy with just these decisions has them in the wire's words.
    let mut whole = Policy::default();
    patch.apply(&mut whole);
    let words = policy(&whole);
    wire::Policy {
        merge: patch.merge.map_or(0, |_| words.merge),
        on_failure: patch.on_failure.map_or(0, |_| words.on_failure),
        on_interrupt: words.on_interrupt,
        no_cache: patch.no_cache.map_or(0, |_| words.no_cache),
        quota: patch.quota.and(words.quota),
        floor: patch.floor,
        expiry: words.expiry,
        pinned: patch.pinned,
        wait_limit: words.wait_limit,
        driver: patch.driver.map_or(0, |_| words.driver),
        versions: patch.versions,
    }
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_leads_to_the_same_volume_as_its_key() {
        let id = b"../\xff/\xf0\x9f\xa6\x80".to_vec();
        let ours = VolumeName::new("default", id).unwrap();
        let by_name = wire::selector::By::Name(name(&ours));
        let by_key = wire::selector::By::Key(ours.key().to_string());
        for by in [by_name, by_key] {
            let selector = wire::Selector { by: Some(by) };
            assert_eq!(volume_key(Some(selector)).unwrap(), ours.key());
        }
    }

    #[test]
    fn what_names_no_volume_is_refused() {
        let by_name = |id: &'static [u8], variant: &str| {
            let (namespace, variant) = ("n".to_owned(), variant.to_owned());
            Some(wire::selector::By::Name(wire::Name { namespace, id: id.into(), variant }))
        };
        let key = Some(wire::selector::By::Key("../x".into()));
        for by in [None, key, by_name(b"a\0", ""), by_name(b"a", "sha256:short")] {
            let refused = volume_key(Some(wire::Selector { by })).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        assert_eq!(volume_key(None).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn what_a_policy_leaves_out_stays_undecided() {
        assert_eq!(policy_patch(wire::Policy::default()).unwrap(), PolicyPatch::default());
        let whole = policy_patch(policy(&Policy::default())).unwrap();
        let some = PolicyPatch { merge: Some(Merge::Union), floor: Some(1), ..Default::default() };
        assert_eq!(policy_patch(decided(&some)).unwrap(), some);
        let mut applied = Policy { versions: 9, floor: 7, ..Policy::default() };
        whole.apply(&mut applied);
        assert_eq!(applied, Policy::default());
        for wrong in [
            wire::Policy { merge: 99, ..Default::default() },
            wire::Policy { on_failure: -1, ..Default::default() },
            wire::Policy { versions: Some(0), ..Default::default() },
        ] {
            assert_eq!(policy_patch(wrong).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn an_error_names_the_volume_and_its_cause() {
        let error = VolumeError::NoDirectory {
            volume: "default/go".into(),
            path: "/pkg".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let status = volume_status(&error);
        assert_eq!(status.code(), Code::NotFound);
        let text = "volume `default/go` has no directory `/pkg`: entity not found";
        assert_eq!(status.message(), text);
    }
}
