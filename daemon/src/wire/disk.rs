//! What takes space, and requests to make some (protocol page `control.md` §6).

use std::time::SystemTime;

use ::bridge::{BuildError, Kind};
use cache::{PruneRequest, UsageRecord};
use filter::Filter;
use proto::control;

use super::time;

/// Returns the filter of a request about space.
pub(crate) fn usage_filter(filters: &[String]) -> Result<Filter, BuildError> {
    Filter::parse(filters).map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))
}

/// Returns true if nobody used the record for as long as a client says, or ever.
pub(crate) fn is_older(record: &UsageRecord, nanoseconds: i64, now: SystemTime) -> bool {
    record.last_used.is_none_or(|last| {
        now.duration_since(last).unwrap_or_default() >= time::duration(nanoseconds)
    })
}

/// Returns a request to make space.
pub(crate) fn prune_request(wire: &control::PruneRequest) -> Result<PruneRequest, BuildError> {
    let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(PruneRequest {
        filter: usage_filter(&wire.filter)?,
        all: wire.all,
        keep_duration: time::duration(wire.keep_duration),
        reserved_space: bytes(wire.reserved_space),
        max_used_space: bytes(wire.max_used_space),
        min_free_space: bytes(wire.min_free_space),
    })
}

/// Returns a record of what takes space.
pub(crate) fn usage_record(record: UsageRecord) -> control::UsageRecord {
    control::UsageRecord {
        id: record.id,
        mutable: record.mutable,
        in_use: record.in_use,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        parent: String::new(),
        created_at: Some(time::to_wire(record.created)),
        last_used_at: record.last_used.map(time::to_wire),
        usage_count: i64::try_from(record.use_count).unwrap_or(i64::MAX),
        description: record.description,
        record_type: record.kind.name().to_owned(),
        shared: record.shared,
        parents: record.parents,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use cache::RecordKind;

    use super::*;

    fn record() -> UsageRecord {
        UsageRecord {
            id: "a".to_owned(),
            mutable: true,
            in_use: false,
            size: 7,
            created: UNIX_EPOCH,
            last_used: Some(UNIX_EPOCH + Duration::from_secs(9)),
            use_count: 3,
            description: "cache volume id=x".to_owned(),
            kind: RecordKind::CacheMount,
            shared: false,
            parents: vec!["p".to_owned()],
        }
    }

    #[test]
    fn records_are_told_whole() {
        let wire = usage_record(record());
        assert_eq!((&*wire.id, wire.mutable, wire.in_use, wire.size), ("a", true, false, 7));
        assert_eq!(wire.created_at.unwrap().seconds, 0);
        assert_eq!(wire.last_used_at.unwrap().seconds, 9);
        assert_eq!((wire.usage_count, &*wire.record_type), (3, "exec.cachemount"));
        assert_eq!((&*wire.description, wire.parents), ("cache volume id=x", vec!["p".to_owned()]));
    }

    #[test]
    fn an_empty_filter_matches_everything() {
        for filters in [&[][..], &[String::new()][..]] {
            assert!(usage_filter(filters).unwrap().matches(&record()));
        }
        assert!(!usage_filter(&["type==regular".to_owned()]).unwrap().matches(&record()));
        assert!(usage_filter(&["type==".to_owned()]).is_err());
    }

    #[test]
    fn the_age_of_a_record_is_that_of_its_last_use() {
        let now = UNIX_EPOCH + Duration::from_secs(10);
        for (limit, older) in [(0, true), (1, true), (2, false), (-1, true)] {
            assert_eq!(is_older(&record(), limit * 1_000_000_000, now), older, "{limit}");
        }
        assert!(is_older(&UsageRecord { last_used: None, ..record() }, i64::MAX, now));
    }

    #[test]
    fn requests_are_read_whole() {
        let wire = control::PruneRequest {
            filter: vec![String::new()],
            all: true,
            keep_duration: 3_600_000_000_000,
            reserved_space: 1,
            max_used_space: 2,
            min_free_space: -3,
        };
        let request = prune_request(&wire).unwrap();
        assert!(request.all && request.filter.matches(&record()));
        assert_eq!(request.keep_duration, Duration::from_secs(3600));
        let space = (request.reserved_space, request.max_used_space, request.min_free_space);
        assert_eq!(space, (1, 2, 0));
    }
}
