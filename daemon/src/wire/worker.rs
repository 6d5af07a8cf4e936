//! What can build here (protocol page `control.md` §5).

use ::bridge::WorkerInfo;
use filter::Fields;
use gateway::wire::brief;
use proto::worker;

use crate::config::GcRule;
use crate::version;

/// The workers with what only the daemon knows of them.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    /// The workers.
    pub workers: Vec<WorkerInfo>,
    /// What is collected, by rule.
    pub rules: Vec<GcRule>,
}

impl Workers {
    /// Returns everything there is to say of the workers that match.
    pub(crate) fn records(&self, filter: &filter::Filter) -> Vec<worker::WorkerRecord> {
        let matching = self.workers.iter().filter(|one| filter.matches(&WorkerFields(one)));
        let record = |info: &WorkerInfo| worker::WorkerRecord {
            gc_policy: self.rules.iter().map(rule).collect(),
            buildkit_version: Some(Self::version()),
            ..brief(info)
        };
        matching.map(record).collect()
    }

    /// Returns which program this is.
    pub(crate) fn version() -> worker::BuildkitVersion {
        worker::BuildkitVersion {
            package: version::PACKAGE.to_owned(),
            version: version::API.to_owned(),
            revision: String::new(),
            dockerfile_version: String::new(),
        }
    }
}

/// A worker, as filters see it.
#[derive(Debug)]
struct WorkerFields<'a>(&'a WorkerInfo);

impl Fields for WorkerFields<'_> {
    fn field(&self, path: &[String]) -> Option<String> {
        match path {
            [name] if name == "id" => Some(self.0.id.clone()),
            // A label's name has dots in it, which a filter may leave unquoted.
            [name, label @ ..] if name == "labels" => self.0.labels.get(&label.join(".")).cloned(),
            _ => None,
        }
    }
}

fn rule(rule: &GcRule) -> worker::GcPolicy {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    worker::GcPolicy {
        all: rule.all,
        keep_duration: i64::try_from(rule.keep.as_nanos()).unwrap_or(i64::MAX),
        reserved_space: bytes(rule.reserved),
        filters: rule.filters.clone(),
        max_used_space: bytes(rule.most),
        min_free_space: bytes(rule.free),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filter::Filter;
    use oci::Platform;

    use super::*;

    fn workers() -> Workers {
        let labels = [("org.example.kind".to_owned(), "fast".to_owned())].into();
        let platforms = vec![Platform::new("linux", "amd64"), Platform::new("linux", "386")];
        let rules = vec![GcRule {
            all: true,
            filters: vec!["type==regular".to_owned()],
            keep: Duration::from_secs(2),
            reserved: 1,
            most: 2,
            free: 3,
        }];
        Workers { workers: vec![WorkerInfo { id: "w".to_owned(), labels, platforms }], rules }
    }

    #[test]
    fn a_record_says_everything() {
        let [record] = &workers().records(&Filter::default())[..] else { panic!("one worker") };
        assert_eq!(record.platforms[0].architecture, "amd64");
        assert_eq!(record.platforms.len(), 2);
        let policy = &record.gc_policy[0];
        assert_eq!((policy.all, policy.keep_duration), (true, 2_000_000_000));
        let space = (policy.reserved_space, policy.max_used_space, policy.min_free_space);
        assert_eq!((space, &*policy.filters[0]), ((1, 2, 3), "type==regular"));
        assert!(record.buildkit_version.as_ref().unwrap().version.starts_with('v'));
    }

    #[test]
    fn workers_are_filtered_by_id_and_label() {
        for (filter, count) in [
            ("id==w", 1),
            ("id==x", 0),
            ("labels.\"org.example.kind\"==fast", 1),
            ("labels.org.example.kind==fast", 1),
            ("labels.other", 0),
        ] {
            let filter_value = Filter::parse(&[filter]).unwrap();
            assert_eq!(workers().records(&filter_value).len(), count, "{filter}");
        }
    }
}
