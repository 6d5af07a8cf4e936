//! What people see of volumes.

use std::time::{Duration, SystemTime};

use volumes::{
    Entry, EntryKind, Form, Label, LeaseRecord, Origin, Policy, Removed, VersionRecord,
    VolumeRecord,
};

use super::document::PolicyDocument;
use super::table::{Align, shown, table};
use crate::quantity::{shown_duration, shown_size};

/// The most letters of a step's name in a table.
const WIDEST: usize = 48;

/// Returns how long ago something was.
fn age(then: SystemTime, now: SystemTime) -> String {
    format!("{} ago", shown_duration(now.duration_since(then).unwrap_or_default()))
}

/// Returns the table of volumes.
pub(crate) fn volumes(records: &[VolumeRecord], now: SystemTime) -> Vec<String> {
    let columns = [
        ("NAMESPACE", Align::Left),
        ("ID", Align::Left),
        ("SIZE", Align::Right),
        ("FILES", Align::Right),
        ("VERSIONS", Align::Right),
        ("USES", Align::Right),
        ("LAST USED", Align::Left),
        ("STATE", Align::Left),
        ("KEY", Align::Left),
    ];
    let row = |record: &VolumeRecord| {
        let id = record.name.shown_id();
        let seeded = record.name.variant().is_some();
        [
            record.name.namespace().to_owned(),
            if seeded { format!("{id} (seeded)") } else { id },
            shown_size(record.space.bytes),
            record.space.inodes.to_string(),
            record.versions.len().to_string(),
            record.uses.to_string(),
            record.last_used.map_or_else(|| "never".to_owned(), |then| age(then, now)),
            state(record),
            record.key.to_string()[..12].to_owned(),
        ]
    };
    table(columns, records.iter().map(row))
}

fn state(record: &VolumeRecord) -> String {
    let mut states = Vec::new();
    if !record.leases.is_empty() {
        states.push(format!("{} in use", record.leases.len()));
    }
    if !record.waiting.is_empty() {
        states.push(format!("{} waiting", record.waiting.len()));
    }
    if record.policy.pinned {
        states.push("pinned".to_owned());
    }
    if record.policy.quota.is_exceeded_by(record.space) {
        states.push("over quota".to_owned());
    }
    if states.is_empty() { "idle".to_owned() } else { states.join(", ") }
}

/// Returns all that can be seen of one volume.
pub(crate) fn volume(record: &VolumeRecord, now: SystemTime) -> Vec<String> {
    let form = match record.form {
        Form::Plain => "written in place",
        Form::Versioned => "versioned",
    };
    let facts = [
        ("Volume", record.name.to_string()),
        ("Key", record.key.to_string()),
        ("Size", format!("{} in {} files", shown_size(record.space.bytes), record.space.inodes)),
        ("Form", form.to_owned()),
        ("Created", age(record.created, now)),
        ("Last used", record.last_used.map_or_else(|| "never".to_owned(), |at| age(at, now))),
        ("Uses", record.uses.to_string()),
        ("State", state(record)),
    ];
    let mut lines: Vec<String> = facts.map(|(name, fact)| fact_line(name, &fact)).into();
    lines.extend(policy(&record.policy));
    lines.push(String::new());
    lines.extend(versions(record, now));
    for (title, leases) in [("LEASE", &record.leases), ("WAITING", &record.waiting)] {
        if !leases.is_empty() {
            lines.push(String::new());
            lines.extend(lease_table(title, leases, now));
        }
    }
    lines
}

fn fact_line(name: &str, fact: &str) -> String {
    format!("{:<15}{}", format!("{name}:"), shown(fact))
}

fn versions(record: &VolumeRecord, now: SystemTime) -> Vec<String> {
    let columns = [
        ("VERSION", Align::Right),
        ("FROM", Align::Right),
        ("HOW", Align::Left),
        ("LAYERS", Align::Right),
        ("CREATED", Align::Left),
        ("BY", Align::Left),
    ];
    let row = |version: &VersionRecord| {
        let head = if version.number == record.head { "*" } else { "" };
        [
            format!("{head}{}", version.number),
            version.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string()),
            origin(version.origin).to_owned(),
            version.depth.to_string(),
            age(version.created, now),
            version.by.as_ref().map_or_else(|| "-".to_owned(), short),
        ]
    };
    table(columns, record.versions.iter().rev().map(row))
}

/// Returns who it is, in a width that leaves a table readable.
fn short(label: &Label) -> String {
    let step = label.step.lines().next().unwrap_or_default();
    let cut = match step.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &step[..end]),
        None => step.to_owned(),
    };
    Label { build: label.build.clone(), step: cut }.to_string()
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Created => "created",
        Origin::Seeded => "seeded",
        Origin::Published => "published",
        Origin::Merged => "merged",
        Origin::Fresh => "fresh",
        Origin::Reset => "reset",
        Origin::RolledBack => "rolled back",
        Origin::Forked => "forked",
    }
}

fn lease_table(title: &str, leases: &[LeaseRecord], now: SystemTime) -> Vec<String> {
    let columns = [
        (title, Align::Left),
        ("VERSION", Align::Right),
        ("FOR", Align::Left),
        ("PROCESS", Align::Right),
        ("BY", Align::Left),
    ];
    let row = |lease: &LeaseRecord| {
        let unknown = || "-".to_owned();
        let holder = lease.holder.as_ref();
        let held = |since| now.duration_since(since).unwrap_or(Duration::ZERO);
        [
            lease.sharing.to_string(),
            lease.base.map_or_else(unknown, |base| base.to_string()),
            holder.map_or_else(unknown, |holder| shown_duration(held(holder.since))),
            holder.map_or_else(unknown, |holder| holder.pid.to_string()),
            holder.map_or_else(unknown, |holder| short(&holder.label)),
        ]
    };
    table(columns, leases.iter().map(row))
}

/// Returns what holds for a volume.
pub(crate) fn policy(policy: &Policy) -> Vec<String> {
    let PolicyDocument {
        merge,
        on_failure,
        on_interrupt,
        no_cache,
        quota_bytes,
        quota_inodes,
        floor,
        expiry,
        pinned,
        wait_limit,
        driver,
        versions,
    } = PolicyDocument::of(policy);
    let word = |value: serde_json::Result<serde_json::Value>| match value {
        Ok(serde_json::Value::String(word)) => word,
        _ => "-".to_owned(),
    };
    let none = || "none".to_owned();
    let duration = |seconds| shown_duration(Duration::from_secs(seconds));
    let salvage = serde_json::to_value(on_interrupt);
    let interrupted = on_interrupt.map_or_else(|| "by sharing".to_owned(), |_| word(salvage));
    [
        ("Merge", word(serde_json::to_value(merge))),
        ("On failure", word(serde_json::to_value(on_failure))),
        ("On interrupt", interrupted),
        ("No cache", word(serde_json::to_value(no_cache))),
        ("Quota", quota_bytes.map_or_else(none, shown_size)),
        ("Quota files", quota_inodes.map_or_else(none, |most| most.to_string())),
        ("Floor", shown_size(floor)),
        ("Expiry", expiry.map_or_else(none, duration)),
        ("Pinned", if pinned { "yes" } else { "no" }.to_owned()),
        ("Wait limit", wait_limit.map_or_else(none, duration)),
        ("Driver", word(serde_json::to_value(driver))),
        ("Versions kept", versions.to_string()),
    ]
    .map(|(name, fact)| fact_line(name, &fact))
    .into()
}

/// Returns what was removed, and how much that was.
pub(crate) fn removed(removed: &[Removed]) -> Vec<String> {
    let columns = [("VOLUME", Align::Left), ("SIZE", Align::Right), ("KEY", Align::Left)];
    let row = |one: &Removed| {
        [one.name.to_string(), shown_size(one.space.bytes), one.key.to_string()[..12].to_owned()]
    };
    let bytes = removed.iter().map(|one| one.space.bytes).sum();
    let mut lines =
        if removed.is_empty() { Vec::new() } else { table(columns, removed.iter().map(row)) };
    lines.push(format!("Total: {}", shown_size(bytes)));
    lines
}

/// Returns a directory as `ls -l` would show it.
pub(crate) fn entries(entries: &[Entry], now: SystemTime) -> Vec<String> {
    let columns = [
        ("MODE", Align::Left),
        ("OWNER", Align::Right),
        ("SIZE", Align::Right),
        ("CHANGED", Align::Left),
        ("NAME", Align::Left),
    ];
    let row = |entry: &Entry| {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        let (letter, name) = match &entry.kind {
            EntryKind::File => ('-', name),
            EntryKind::Directory => ('d', format!("{name}/")),
            EntryKind::Symlink(target) => {
                ('l', format!("{name} -> {}", String::from_utf8_lossy(target)))
            }
            EntryKind::Other => ('?', name),
        };
        [
            format!("{letter}{:04o}", entry.mode),
            format!("{}:{}", entry.uid, entry.gid),
            shown_size(entry.size),
            age(entry.modified, now),
            name,
        ]
    };
    table(columns, entries.iter().map(row))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use volumes::{Holder, PolicyPatch, Sharing, Space, VolumeName};

    use super::*;

    fn record() -> VolumeRecord {
        let name = VolumeName::new("default", "/root/.cache/uv").unwrap();
        let label = Label { build: "b1".into(), step: "RUN uv sync".into() };
        let versions = [(4, None, Origin::Created), (5, Some(4), Origin::Published)];
        let version = |(number, parent, origin)| VersionRecord {
            number,
            parent,
            origin,
            created: UNIX_EPOCH,
            by: (number == 5).then(|| label.clone()),
            depth: 1,
        };
        let holder = Some(Holder { pid: 7, label: label.clone(), since: UNIX_EPOCH });
        VolumeRecord {
            key: name.key(),
            name,
            space: Space { bytes: 1_500_000, inodes: 42 },
            form: Form::Versioned,
            created: UNIX_EPOCH,
            last_used: None,
            uses: 3,
            leases: vec![LeaseRecord { sharing: Sharing::Locked, holder, base: Some(5) }],
            waiting: vec![LeaseRecord { sharing: Sharing::Shared, holder: None, base: None }],
            head: 5,
            versions: versions.map(version).into(),
            policy: Policy { pinned: true, ..Policy::default() },
            decided: PolicyPatch::default(),
        }
    }

    #[test]
    fn a_list_says_what_one_wants_to_know() {
        let now = UNIX_EPOCH + Duration::from_secs(200);
        let lines = volumes(&[record()], now);
        assert_eq!(
            lines,
            [
                "NAMESPACE  ID                SIZE  FILES  VERSIONS  USES  LAST USED  STATE                        KEY",
                &format!(
                    "default    /root/.cache/uv  1.5MB     42         2     3  never      1 in use, 1 waiting, pinned  {}",
                    &record().key.to_string()[..12]
                ),
            ]
        );
    }

    #[test]
    fn one_volume_is_shown_with_its_lineage_and_its_users() {
        let now = UNIX_EPOCH + Duration::from_secs(200);
        let lines = volume(&record(), now);
        for line in [
            "Volume:        default//root/.cache/uv",
            "Size:          1.5MB in 42 files",
            "Pinned:        yes",
            "     *5     4  published       1  3m20s ago  step `RUN uv sync` of build `b1`",
            "      4     -  created         1  3m20s ago  -",
            "locked        5  3m20s        7  step `RUN uv sync` of build `b1`",
            "shared         -  -          -  -",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} is not in\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn nothing_removed_is_said_so() {
        assert_eq!(removed(&[]), ["Total: 0B"]);
    }
}
