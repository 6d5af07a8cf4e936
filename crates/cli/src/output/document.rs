//! JSON: the shape that programs may rely on. Times are RFC 3339, durations seconds, sizes bytes.

use std::time::SystemTime;

use serde::Serialize;
use volumes::{
    Driver, Entry, EntryKind, Form, LeaseRecord, Merge, NoCache, Origin, Policy, Removed, Salvage,
    Space, VersionRecord, VolumeKey, VolumeName, VolumeRecord,
};

/// A text that may not be one: then its bytes, so that nothing is lost.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Bytes(Vec<u8>),
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }
}

fn time(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().map(|time| time.to_string())
}

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeDocument {
    key: String,
    namespace: String,
    id: Text,
    variant: Option<String>,
    bytes: u64,
    inodes: u64,
    form: Form,
    created: Option<String>,
    last_used: Option<String>,
    uses: u64,
    head: u64,
    versions: Vec<VersionDocument>,
    leases: Vec<LeaseDocument>,
    waiting: Vec<LeaseDocument>,
    policy: PolicyDocument,
}

impl VolumeDocument {
    pub(crate) fn of(record: &VolumeRecord) -> Self {
        Self {
            key: record.key.to_string(),
            namespace: record.name.namespace().to_owned(),
            id: Text::of(record.name.id()),
            variant: variant(&record.name),
            bytes: record.space.bytes,
            inodes: record.space.inodes,
            form: record.form,
            created: time(record.created),
            last_used: record.last_used.and_then(time),
            uses: record.uses,
            head: record.head,
            versions: record.versions.iter().map(VersionDocument::of).collect(),
            leases: record.leases.iter().map(LeaseDocument::of).collect(),
            waiting: record.waiting.iter().map(LeaseDocument::of).collect(),
            policy: PolicyDocument::of(&record.policy),
        }
    }
}

fn variant(name: &VolumeName) -> Option<String> {
    name.variant().map(|key| key.digest().to_string())
}

/// A version of a volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionDocument {
    number: u64,
    parent: Option<u64>,
    origin: Origin,
    created: Option<String>,
    build: Option<String>,
    step: Option<String>,
    layers: usize,
}

impl VersionDocument {
    fn of(version: &VersionRecord) -> Self {
        let by = version.by.clone();
        Self {
            number: version.number,
            parent: version.parent,
            origin: version.origin,
            created: time(version.created),
            build: by.as_ref().map(|by| by.build.clone()),
            step: by.map(|by| by.step).filter(|step| !step.is_empty()),
            layers: version.depth,
        }
    }
}

/// A lease, or a place in the queue.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseDocument {
    sharing: String,
    build: Option<String>,
    step: Option<String>,
    pid: Option<u32>,
    since: Option<String>,
    version: Option<u64>,
}

impl LeaseDocument {
    fn of(lease: &LeaseRecord) -> Self {
        let holder = lease.holder.as_ref();
        Self {
            sharing: lease.sharing.to_string(),
            build: holder.map(|holder| holder.label.build.clone()),
            step: holder.map(|holder| holder.label.step.clone()).filter(|step| !step.is_empty()),
            pid: holder.map(|holder| holder.pid),
            since: holder.and_then(|holder| time(holder.since)),
            version: lease.base,
        }
    }
}

/// What holds for a volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PolicyDocument {
    pub(super) merge: Merge,
    pub(super) on_failure: Salvage,
    pub(super) on_interrupt: Option<Salvage>,
    pub(super) no_cache: NoCache,
    pub(super) quota_bytes: Option<u64>,
    pub(super) quota_inodes: Option<u64>,
    pub(super) floor: u64,
    pub(super) expiry: Option<u64>,
    pub(super) pinned: bool,
    pub(super) wait_limit: Option<u64>,
    pub(super) driver: Driver,
    pub(super) versions: u32,
}

impl PolicyDocument {
    pub(crate) fn of(policy: &Policy) -> Self {
        Self {
            merge: policy.merge,
            on_failure: policy.on_failure,
            on_interrupt: policy.on_interrupt,
            no_cache: policy.no_cache,
            quota_bytes: policy.quota.bytes,
            quota_inodes: policy.quota.inodes,
            floor: policy.floor,
            expiry: policy.expiry.map(|expiry| expiry.as_secs()),
            pinned: policy.pinned,
            wait_limit: policy.wait_limit.map(|limit| limit.as_secs()),
            driver: policy.driver,
            versions: policy.versions,
        }
    }
}

/// A volume that is gone.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedDocument {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Text>,
    bytes: u64,
    inodes: u64,
}

impl RemovedDocument {
    pub(crate) fn of(removed: &Removed) -> Self {
        Self {
            namespace: Some(removed.name.namespace().to_owned()),
            id: Some(Text::of(removed.name.id())),
            ..Self::of_key(removed.key, removed.space)
        }
    }

    pub(crate) fn of_key(key: VolumeKey, Space { bytes, inodes }: Space) -> Self {
        Self { key: key.to_string(), namespace: None, id: None, bytes, inodes }
    }
}

/// An entry of a directory.
#[derive(Debug, Serialize)]
pub(crate) struct EntryDocument {
    name: Text,
    kind: &'static str,
    size: u64,
    mode: String,
    uid: u32,
    gid: u32,
    modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Text>,
}

impl EntryDocument {
    pub(crate) fn of(entry: &Entry) -> Self {
        let (kind, target) = match &entry.kind {
            EntryKind::File => ("file", None),
            EntryKind::Directory => ("directory", None),
            EntryKind::Symlink(target) => ("symlink", Some(Text::of(target))),
            EntryKind::Other => ("other", None),
        };
        Self {
            name: Text::of(&entry.name),
            kind,
            size: entry.size,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            modified: time(entry.modified),
            target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_written_as_bytes() {
        let text = |bytes| serde_json::to_string(&Text::of(bytes)).unwrap();
        assert_eq!(text(b"go \"build\""), r#""go \"build\"""#);
        assert_eq!(text(b"\xff/"), "[255,47]");
    }

    #[test]
    fn times_are_written_as_programs_read_them() {
        let after = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_250);
        assert_eq!(time(after).unwrap(), "2023-11-14T22:13:20.25Z");
    }
}
