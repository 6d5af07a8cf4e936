//! Volumes, as `larder.volumes.v1` says them: what a daemon answers is checked like any other input.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::volumes as wire;
use volumes::{
    Driver, Entry, EntryKind, Form, Holder, Label, LeaseRecord, Merge, NoCache, Origin, Policy,
    PolicyPatch, PolicyRule, PruneRequest, Quota, Removed, Salvage, Sharing, Space, VariantKey,
    VersionRecord, VolumeKey, VolumeName, VolumeRecord,
};

use crate::failure::{Failure, Kind};

/// Says that the daemon's answer has a value of a kind that is not known here.
fn strange(what: &str) -> Failure {
    let text = format!(
        "the daemon says something of a volume's {what} that is not known here: use the same version"
    );
    Failure::new(Kind::Other, text)
}

pub(super) fn selector(key: VolumeKey) -> Option<wire::Selector> {
    Some(wire::Selector { by: Some(wire::selector::By::Key(key.to_string())) })
}

pub(super) fn key(text: &str) -> Result<VolumeKey, Failure> {
    text.parse().map_err(|_| strange("key"))
}

pub(super) fn name(name: &VolumeName) -> wire::Name {
    wire::Name {
        namespace: name.namespace().to_owned(),
        id: name.id().to_vec().into(),
        variant: name.variant().map(|key| key.digest().to_string()).unwrap_or_default(),
    }
}

fn from_name(name: Option<wire::Name>) -> Result<VolumeName, Failure> {
    let wire::Name { namespace, id, variant } = name.ok_or_else(|| strange("name"))?;
    let name = VolumeName::new(namespace, id).map_err(|_| strange("name"))?;
    if variant.is_empty() {
        return Ok(name);
    }
    let content = variant.parse().map_err(|_| strange("variant"))?;
    Ok(name.with_variant(VariantKey::new(content)))
}

pub(super) fn label(Label { build, step }: Label) -> Option<wire::Label> {
    Some(wire::Label { build, step })
}

fn from_label(wire::Label { build, step }: wire::Label) -> Label {
    Label { build, step }
}

pub(super) fn space(space: Option<wire::Space>) -> Space {
    let wire::Space { bytes, inodes } = space.unwrap_or_default();
    Space { bytes, inodes }
}

fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn removed(removed: wire::Removed) -> Result<Removed, Failure> {
    let (key, name) = (key(&removed.key)?, from_name(removed.name)?);
    Ok(Removed { key, name, space: space(removed.space) })
}

pub(super) fn entry(entry: wire::Entry) -> Result<Entry, Failure> {
    let kind = match entry.kind() {
        wire::EntryKind::File => EntryKind::File,
        wire::EntryKind::Directory => EntryKind::Directory,
        wire::EntryKind::Symlink => EntryKind::Symlink(entry.target.to_vec()),
        wire::EntryKind::Other | wire::EntryKind::Unspecified => EntryKind::Other,
    };
    Ok(Entry {
        name: entry.name.to_vec(),
        kind,
        size: entry.size,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        modified: time(u64::try_from(entry.modified).unwrap_or_default()),
    })
}

pub(super) fn prune(request: PruneRequest, among: PolicyRule) -> wire::PruneRequest {
    let inodes = |space: Space| if space.inodes == u64::MAX { 0 } else { space.inodes };
    let keep = request.keep.map(|keep| wire::Space { bytes: keep.bytes, inodes: inodes(keep) });
    wire::PruneRequest {
        all: request.all,
        unused_for: request.unused_for.as_secs(),
        keep,
        namespace: among.namespace.unwrap_or_default(),
        pattern: among.pattern,
    }
}

pub(super) fn record(volume: wire::Volume) -> Result<VolumeRecord, Failure> {
    let form = match volume.form() {
        wire::Form::Plain => Form::Plain,
        wire::Form::Versioned => Form::Versioned,
        wire::Form::Unspecified => return Err(strange("form")),
    };
    let mut policy = Policy::default();
    from_policy(volume.policy.unwrap_or_default())?.apply(&mut policy);
    Ok(VolumeRecord {
        key: key(&volume.key)?,
        name: from_name(volume.name)?,
        space: space(volume.space),
        form,
        created: time(volume.created),
        last_used: volume.last_used.map(time),
        uses: volume.uses,
        leases: volume.leases.into_iter().map(lease).collect::<Result<_, _>>()?,
        waiting: volume.waiting.into_iter().map(lease).collect::<Result<_, _>>()?,
        head: volume.head,
        versions: volume.versions.into_iter().map(version).collect::<Result<_, _>>()?,
        policy,
        decided: from_policy(volume.decided.unwrap_or_default())?,
    })
}

fn lease(lease: wire::Lease) -> Result<LeaseRecord, Failure> {
    let sharing = match lease.sharing() {
        wire::Sharing::Shared => Sharing::Shared,
        wire::Sharing::Locked => Sharing::Locked,
        wire::Sharing::Private => Sharing::Private,
        wire::Sharing::ReadOnly => Sharing::ReadOnly,
        wire::Sharing::Unspecified => return Err(strange("leases")),
    };
    let holder = lease.holder.map(|holder| Holder {
        pid: holder.pid,
        label: from_label(holder.label.unwrap_or_default()),
        since: time(holder.since),
    });
    Ok(LeaseRecord { sharing, holder, base: lease.base })
}

fn version(version: wire::Version) -> Result<VersionRecord, Failure> {
    let origin = match version.origin() {
        wire::Origin::Created => Origin::Created,
        wire::Origin::Seeded => Origin::Seeded,
        wire::Origin::Published => Origin::Published,
        wire::Origin::Merged => Origin::Merged,
        wire::Origin::Fresh => Origin::Fresh,
        wire::Origin::Reset => Origin::Reset,
        wire::Origin::RolledBack => Origin::RolledBack,
        wire::Origin::Forked => Origin::Forked,
        wire::Origin::Unspecified => return Err(strange("versions")),
    };
    Ok(VersionRecord {
        number: version.number,
        parent: version.parent,
        origin,
        created: time(version.created),
        by: version.by.map(from_label),
        depth: version.depth as usize,
    })
}

pub(super) fn policy(patch: &PolicyPatch) -> wire::Policy {
    let salvage = |salvage: Option<Salvage>| match salvage {
        None => wire::Salvage::Unspecified,
        Some(Salvage::Keep) => wire::Salvage::Keep,
        Some(Salvage::Discard) => wire::Salvage::Discard,
    };
    let merge = match patch.merge {
        None => wire::Merge::Unspecified,
        Some(Merge::LastWriter) => wire::Merge::LastWriter,
        Some(Merge::FirstWriter) => wire::Merge::FirstWriter,
        Some(Merge::Union) => wire::Merge::Union,
    };
    let no_cache = match patch.no_cache {
        None => wire::NoCache::Unspecified,
        Some(NoCache::Fresh) => wire::NoCache::Fresh,
        Some(NoCache::Keep) => wire::NoCache::Keep,
    };
    let driver = match patch.driver {
        None => wire::Driver::Unspecified,
        Some(Driver::Auto) => wire::Driver::Auto,
        Some(Driver::Overlay) => wire::Driver::Overlay,
        Some(Driver::Reflink) => wire::Driver::Reflink,
        Some(Driver::Subvolume) => wire::Driver::Subvolume,
    };
    wire::Policy {
        merge: merge.into(),
        on_failure: salvage(patch.on_failure).into(),
        on_interrupt: salvage(patch.on_interrupt).into(),
        no_cache: no_cache.into(),
        quota: patch.quota.map(|Quota { bytes, inodes }| wire::Quota { bytes, inodes }),
        floor: patch.floor,
        expiry: patch.expiry.map(|expiry| expiry.as_secs()),
        pinned: patch.pinned,
        wait_limit: patch.wait_limit.map(|limit| limit.as_secs()),
        driver: driver.into(),
        versions: patch.versions,
    }
}

fn from_policy(policy: wire::Policy) -> Result<PolicyPatch, Failure> {
    let unknown = |_| strange("policy");
    let salvage = |number| -> Result<_, Failure> {
        Ok(match wire::Salvage::try_from(number).map_err(unknown)? {
            wire::Salvage::Unspecified => None,
            wire::Salvage::Keep => Some(Salvage::Keep),
            wire::Salvage::Discard => Some(Salvage::Discard),
        })
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_round_trips() {
        let whole = PolicyPatch {
            merge: Some(Merge::Union),
            on_failure: Some(Salvage::Discard),
            on_interrupt: Some(Salvage::Keep),
            no_cache: Some(NoCache::Keep),
            quota: Some(Quota { bytes: Some(5), inodes: None }),
            floor: Some(6),
            expiry: Some(Duration::from_secs(7)),
            pinned: Some(false),
            wait_limit: Some(Duration::from_secs(8)),
            driver: Some(Driver::Reflink),
            versions: Some(9),
        };
        for patch in [whole, PolicyPatch::default()] {
            assert_eq!(from_policy(policy(&patch)).unwrap(), patch);
        }
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_an_error() {
        assert!(record(wire::Volume::default()).is_err());
        assert!(removed(wire::Removed { key: "x".into(), ..Default::default() }).is_err());
        assert!(from_policy(wire::Policy { driver: 99, ..Default::default() }).is_err());
        assert!(lease(wire::Lease::default()).is_err());
        assert!(version(wire::Version::default()).is_err());
    }
}
