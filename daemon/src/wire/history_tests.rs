//! Questions about builds, and their answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use builder::{HistoryEvent, HistoryRecord};
use digests::Digest;
use oci::Descriptor;
use proto::control;

use super::{HistoryQuery, csv_fields, history_event};

/// Returns the record of a build that began so many seconds ago and took `took` seconds, or runs.
fn record(reference: &str, ago: u64, took: Option<u64>) -> HistoryRecord {
    let created = SystemTime::now() - Duration::from_secs(ago);
    let mut record: HistoryRecord = serde_json::from_value(serde_json::json!({
        "reference": reference, "frontend": "", "options": {}, "exporters": [], "error": null,
        "created": created, "completed": null, "logs": null, "external_error": null,
        "metadata": {}, "results": {}, "generation": 1, "pinned": false,
        "cached_steps": 1, "total_steps": 2, "completed_steps": 2, "warnings": 3,
    }))
    .expect("a record");
    record.completed = took.map(|took| created + Duration::from_secs(took));
    record
}

fn records() -> Vec<HistoryRecord> {
    let mut failed = record("failed", 100, Some(50));
    failed.error = Some((false, "exit code: 1".to_owned()));
    let mut cancelled = record("cancelled", 200, Some(5));
    cancelled.error = Some((true, "context canceled".to_owned()));
    vec![record("running", 1, None), failed, cancelled, record("old", 7200, Some(60))]
}

fn query(wire: control::BuildHistoryRequest) -> Vec<String> {
    let query = HistoryQuery::try_from(wire).expect("a query");
    let events = query.select(records()).into_iter().map(|event| match event {
        HistoryEvent::Started(record) => format!("+{}", record.reference),
        HistoryEvent::Completed(record) | HistoryEvent::Deleted(record) => record.reference,
    });
    events.collect()
}

fn filtered(filters: &[&str]) -> Vec<String> {
    let filter = filters.iter().map(|filter| (*filter).to_owned()).collect();
    query(control::BuildHistoryRequest { filter, ..Default::default() })
}

#[test]
fn running_builds_come_first() {
    assert_eq!(query(Default::default()), ["+running", "failed", "cancelled", "old"]);
    let active = control::BuildHistoryRequest { active_only: true, ..Default::default() };
    assert_eq!(query(active), ["+running"]);
}

#[test]
fn one_build_may_be_asked_for() {
    let one =
        |name: &str| control::BuildHistoryRequest { r#ref: name.to_owned(), ..Default::default() };
    assert_eq!(query(one("old")), ["old"]);
    assert!(query(one("never")).is_empty());
}

#[test]
fn a_limit_keeps_the_newest() {
    let limited = control::BuildHistoryRequest { limit: 2, ..Default::default() };
    assert_eq!(query(limited), ["+running", "failed", "cancelled"]);
    let negative = control::BuildHistoryRequest { limit: -1, ..Default::default() };
    assert!(HistoryQuery::try_from(negative).is_err());
}

#[test]
fn finished_builds_are_filtered() {
    assert_eq!(filtered(&["status==error"]), ["+running", "failed"]);
    assert_eq!(filtered(&["status==canceled", "ref==old"]), ["+running", "cancelled", "old"]);
    assert_eq!(filtered(&["startedAt>1h"]), ["+running", "failed", "cancelled"]);
    assert_eq!(filtered(&["startedAt<2020-01-01T00:00:00Z"]), ["+running"]);
    assert_eq!(filtered(&["completedAt<=1h"]), ["+running", "old"]);
    assert_eq!(filtered(&["duration>=50s,startedAt>1h"]), ["+running", "failed"]);
    assert_eq!(filtered(&["\"status==error\",duration>1s"]), ["+running", "failed"]);
    assert_eq!(filtered(&[""]).len(), 4);
}

#[test]
fn a_wrong_filter_is_refused() {
    for filter in ["startedAt>soon", "duration<soon", "\"status==error", "status=="] {
        let wire =
            control::BuildHistoryRequest { filter: vec![filter.to_owned()], ..Default::default() };
        assert!(HistoryQuery::try_from(wire).is_err(), "{filter}");
    }
}

#[test]
fn terms_may_be_quoted() {
    assert_eq!(csv_fields("a,\"b,\"\"c\",d").unwrap(), ["a", "b,\"c", "d"]);
    assert_eq!(csv_fields("\"a\"").unwrap(), ["a"]);
    assert!(csv_fields("\"a\"b").is_err());
}

#[test]
fn a_record_is_told_whole() {
    let blob = Descriptor::new("m/t", Digest::of("b"), 1);
    let mut record = record("r", 10, Some(5));
    record.error = Some((true, "context canceled".to_owned()));
    record.logs = Some(blob.clone());
    let result = builder::HistoryResult {
        descriptors: BTreeMap::from([(0, blob.clone())]),
        attestations: vec![blob],
    };
    record.results = BTreeMap::from([
        (String::new(), result.clone()),
        ("linux/amd64".to_owned(), result),
        ("linux/arm64".to_owned(), builder::HistoryResult::default()),
    ]);
    let event = history_event(HistoryEvent::Completed(record));
    assert_eq!(event.r#type, 1);
    let wire = event.record.unwrap();
    assert_eq!(wire.error.unwrap().code, 1);
    assert_eq!(wire.logs.unwrap().digest, Digest::of("b").to_string());
    assert_eq!((wire.num_cached_steps, wire.num_total_steps, wire.num_warnings), (1, 2, 3));
    assert!(wire.created_at.is_some() && wire.completed_at.is_some());
    assert!(wire.result.unwrap().result_deprecated.is_some());
    assert_eq!(wire.results["linux/amd64"].attestations.len(), 1);
    // The client takes an entry without a value for one that has it, and falls.
    assert!(!wire.results.contains_key("linux/arm64"));
}
