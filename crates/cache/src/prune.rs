//! What to remove, decided without touching anything.
//!
//! [`plan`] is given every record and a request and returns what to remove, in order. It never names
//! a record that is in use, or one that a record that stays is built on. Without a size target
//! everything that matches goes; with one, the longest unused first until the rest fits. Layers and
//! local sources go before cache volumes: a volume is what a rebuild cannot bring back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, SystemTime};

use filter::{Fields, Filter};

/// What a record is, as clients filter by it (protocol page `control.md` §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum RecordKind {
    /// The result of a step, or a layer of an image.
    #[serde(rename = "regular")]
    Regular,
    /// Something the daemon needs for itself.
    #[serde(rename = "internal")]
    Internal,
    /// A frontend's image.
    #[serde(rename = "frontend")]
    Frontend,
    /// A client's directory, kept so that only changes travel.
    #[serde(rename = "source.local")]
    LocalSource,
    /// A repository, kept so that only new commits travel.
    #[serde(rename = "source.git.checkout")]
    GitCheckout,
    /// A cache volume.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
}

impl RecordKind {
    /// Returns the name that clients use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "regular",
            Self::Internal => "internal",
            Self::Frontend => "frontend",
            Self::LocalSource => "source.local",
            Self::GitCheckout => "source.git.checkout",
            Self::CacheMount => "exec.cachemount",
        }
    }
}

/// One thing that takes space.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRecord {
    /// Its stable id.
    pub id: String,
    /// True if it still changes.
    pub mutable: bool,
    /// True if a build uses it now, or it is pinned.
    pub in_use: bool,
    /// Bytes on disk.
    pub size: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When a build last used it.
    pub last_used: Option<SystemTime>,
    /// How many builds used it.
    pub use_count: u64,
    /// What it is, for people.
    pub description: String,
    /// What it is, for filters.
    pub kind: RecordKind,
    /// True if something outside the build cache holds it too.
    pub shared: bool,
    /// The records it is built on.
    pub parents: Vec<String>,
}

impl Fields for UsageRecord {
    fn field(&self, path: &[String]) -> Option<String> {
        let [name] = path else { return None };
        let present = |is: bool| is.then(String::new);
        match name.as_str() {
            "id" => Some(self.id.clone()),
            "type" => Some(self.kind.name().to_owned()),
            "description" => Some(self.description.clone()),
            "parents" => Some(self.parents.join(";")),
            "inuse" => present(self.in_use),
            "mutable" => present(self.mutable),
            "immutable" => present(!self.mutable),
            "shared" => present(self.shared),
            "private" => present(!self.shared),
            _ => None,
        }
    }
}

/// What may go, and how much must.
#[derive(Debug, Clone, Default)]
pub struct PruneRequest {
    /// Only records that match.
    pub filter: Filter,
    /// Also internal, frontend and shared records.
    pub all: bool,
    /// Keep what was used more recently than this long ago; zero for no such limit.
    pub keep_duration: Duration,
    /// Never go below this many bytes; zero for no such limit.
    pub reserved_space: u64,
    /// Go down to this many bytes; zero for no such limit.
    pub max_used_space: u64,
    /// Go on until the disk has this many bytes free; zero for no such limit.
    pub min_free_space: u64,
}

impl PruneRequest {
    /// Returns how many bytes to keep at the most; none if everything that matches goes.
    fn target(&self, used: u64, free: u64) -> Option<u64> {
        if self.reserved_space == 0 && self.max_used_space == 0 && self.min_free_space == 0 {
            return None;
        }
        let missing = self.min_free_space.saturating_sub(free);
        let mut keep = used.saturating_sub(missing);
        if self.max_used_space > 0 {
            keep = keep.min(self.max_used_space);
        } else if self.min_free_space == 0 {
            // Only a reserve is given: it is what stays.
            keep = self.reserved_space;
        }
        Some(keep.max(self.reserved_space))
    }

    fn admits(&self, record: &UsageRecord, now: SystemTime) -> bool {
        let restricted = matches!(record.kind, RecordKind::Internal | RecordKind::Frontend);
        let last = record.last_used.unwrap_or(record.created);
        let age = now.duration_since(last).unwrap_or(Duration::ZERO);
        !record.in_use
            && (self.all || !(restricted || record.shared))
            && (self.keep_duration.is_zero() || age >= self.keep_duration)
            && self.filter.matches(record)
    }
}

/// What goes first: by class, then the longest unused, the least used, the order given.
type Rank = (bool, SystemTime, u64, usize);

fn rank(index: usize, record: &UsageRecord) -> Rank {
    let last = record.last_used.unwrap_or(record.created);
    (record.kind == RecordKind::CacheMount, last, record.use_count, index)
}

/// Returns the indices of the records to remove, in the order of removal.
///
/// `free` is what the disk has free now, in bytes.
pub fn plan(
    records: &[UsageRecord],
    request: &PruneRequest,
    now: SystemTime,
    free: u64,
) -> Vec<usize> {
    let mut used: u64 = records.iter().map(|record| record.size).sum();
    let target = request.target(used, free);
    let by_id: HashMap<&str, usize> =
        records.iter().enumerate().map(|(index, record)| (record.id.as_str(), index)).collect();
    let parents = |record: &UsageRecord| -> Vec<usize> {
        record.parents.iter().filter_map(|id| by_id.get(id.as_str()).copied()).collect()
    };
    let mut children = vec![0_usize; records.len()];
    for record in records {
        parents(record).into_iter().for_each(|parent| children[parent] += 1);
    }
    let admitted: Vec<bool> = records.iter().map(|record| request.admits(record, now)).collect();
    let mut ready: BinaryHeap<Reverse<Rank>> = (0..records.len())
        .filter(|index| admitted[*index] && children[*index] == 0)
        .map(|index| Reverse(rank(index, &records[index])))
        .collect();
    let mut removed = Vec::new();
    while target.is_none_or(|target| used > target) {
        let Some(Reverse((.., index))) = ready.pop() else { break };
        removed.push(index);
        used -= records[index].size;
        for parent in parents(&records[index]) {
            children[parent] -= 1;
            if children[parent] == 0 && admitted[parent] {
                ready.push(Reverse(rank(parent, &records[parent])));
            }
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 1000 * HOUR
    }

    fn record(id: &str, size: u64, hours_ago: u32, parents: &[&str]) -> UsageRecord {
        UsageRecord {
            id: id.to_owned(),
            mutable: false,
            in_use: false,
            size,
            created: SystemTime::UNIX_EPOCH,
            last_used: Some(now() - hours_ago * HOUR),
            use_count: 1,
            description: format!("record {id}"),
            kind: RecordKind::Regular,
            shared: false,
            parents: parents.iter().map(|&id| id.to_owned()).collect(),
        }
    }

    fn removed(records: &[UsageRecord], request: &PruneRequest) -> Vec<String> {
        let plan = plan(records, request, now(), 1000);
        plan.into_iter().map(|index| records[index].id.clone()).collect()
    }

    #[test]
    fn without_a_target_everything_unused_goes_children_first() {
        let mut used = record("d", 1, 0, &["c"]);
        used.in_use = true;
        let records =
            [record("a", 1, 9, &[]), record("b", 1, 1, &["a"]), record("c", 1, 9, &[]), used];
        assert_eq!(removed(&records, &PruneRequest::default()), ["b", "a"]);
    }

    #[test]
    fn with_a_target_the_oldest_goes_until_the_rest_fits() {
        let records =
            [record("new", 10, 1, &[]), record("old", 10, 9, &[]), record("mid", 10, 5, &[])];
        let request = |max_used_space, reserved_space, min_free_space| PruneRequest {
            max_used_space,
            reserved_space,
            min_free_space,
            ..PruneRequest::default()
        };
        assert_eq!(removed(&records, &request(20, 0, 0)), ["old"]);
        assert_eq!(removed(&records, &request(15, 0, 0)), ["old", "mid"]);
        assert_eq!(removed(&records, &request(1, 25, 0)), ["old"]);
        assert_eq!(removed(&records, &request(0, 10, 0)), ["old", "mid"]);
        assert_eq!(removed(&records, &request(0, 0, 1005)), ["old"]);
        assert_eq!(removed(&records, &request(0, 0, 900)), [""; 0]);
        assert_eq!(removed(&records, &request(100, 0, 0)), [""; 0]);
    }

    #[test]
    fn recent_internal_and_shared_records_are_spared() {
        let mut internal = record("internal", 1, 9, &[]);
        internal.kind = RecordKind::Internal;
        let mut shared = record("shared", 1, 9, &[]);
        shared.shared = true;
        let records = [record("recent", 1, 1, &[]), internal, shared, record("old", 1, 9, &[])];
        let mut request = PruneRequest { keep_duration: 2 * HOUR, ..PruneRequest::default() };
        assert_eq!(removed(&records, &request), ["old"]);
        request.all = true;
        assert_eq!(removed(&records, &request), ["internal", "shared", "old"]);
    }

    #[test]
    fn volumes_go_last() {
        let mut volume = record("volume", 10, 99, &[]);
        volume.kind = RecordKind::CacheMount;
        let records = [volume, record("layer", 10, 1, &[])];
        let request = PruneRequest { max_used_space: 10, ..PruneRequest::default() };
        assert_eq!(removed(&records, &request), ["layer"]);
    }

    #[test]
    fn only_what_the_filter_names_goes() {
        let records = [record("a", 1, 1, &[]), record("b", 1, 1, &[])];
        let filter = Filter::parse(&["id==b,immutable"]).unwrap();
        assert_eq!(removed(&records, &PruneRequest { filter, ..PruneRequest::default() }), ["b"]);
    }

    proptest! {
        #[test]
        fn no_plan_removes_what_something_kept_needs(
            shape in prop::collection::vec((0_usize..8, 0_u64..50, 0_u32..50, any::<bool>()), 1..20),
            max in 0_u64..300,
        ) {
            let records: Vec<_> = shape.iter().enumerate().map(|(index, (parent, size, age, used))| {
                let parent = (*parent < index).then(|| parent.to_string());
                let parents: Vec<&str> = parent.iter().map(String::as_str).collect();
                let mut record = record(&index.to_string(), *size, *age, &parents);
                record.in_use = *used;
                record
            }).collect();
            let request = PruneRequest { max_used_space: max, ..PruneRequest::default() };
            let plan = plan(&records, &request, now(), 0);
            let kept: Vec<_> = (0..records.len()).filter(|index| !plan.contains(index)).collect();
            for index in &plan {
                prop_assert!(!records[*index].in_use);
            }
            for index in kept {
                for parent in &records[index].parents {
                    prop_assert!(!plan.contains(&parent.parse().unwrap()));
                }
            }
        }
    }
}
