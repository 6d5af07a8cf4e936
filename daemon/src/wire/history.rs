//! Records of builds, and questions about them (protocol page `control.md` §7).

use std::time::{Duration, SystemTime};

use ::bridge::{BuildError, Kind};
use builder::{HistoryEvent, HistoryRecord, HistoryResult};
use filter::Filter;
use gateway::wire::{code, invalid};
use oci::Descriptor;
use proto::{control, rpc};

use super::time;

/// Which records a client wants to see.
#[derive(Debug, Clone)]
pub(crate) struct HistoryQuery {
    /// One build only; empty for all.
    pub reference: String,
    /// Only builds that run.
    pub active_only: bool,
    /// Do not wait for what happens next.
    pub early_exit: bool,
    filters: Vec<HistoryFilter>,
    limit: usize,
}

/// What a record must be: all of it.
#[derive(Debug, Clone, Default)]
struct HistoryFilter {
    times: Vec<TimeTest>,
    fields: Filter,
}

#[derive(Debug, Clone)]
struct TimeTest {
    subject: Subject,
    order: Order,
}

#[derive(Debug, Clone)]
enum Subject {
    Started(SystemTime),
    Completed(SystemTime),
    Duration(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Order {
    fn holds<T: PartialOrd>(self, value: &T, bound: &T) -> bool {
        match self {
            Self::AtLeast => value >= bound,
            Self::AtMost => value <= bound,
            Self::Above => value > bound,
            Self::Below => value < bound,
        }
    }
}

impl TryFrom<control::BuildHistoryRequest> for HistoryQuery {
    type Error = BuildError;

    fn try_from(wire: control::BuildHistoryRequest) -> Result<Self, BuildError> {
        let filters = wire.filter.iter().map(|filter| history_filter(filter, SystemTime::now()));
        let limit = usize::try_from(wire.limit);
        Ok(Self {
            reference: wire.r#ref,
            active_only: wire.active_only,
            early_exit: wire.early_exit,
            filters: filters.collect::<Result<_, _>>()?,
            limit: limit.map_err(|_| invalid(format!("invalid limit {}", wire.limit)))?,
        })
    }
}

impl HistoryQuery {
    /// Returns true if the build is one that was asked for.
    pub(crate) fn is_about(&self, record: &HistoryRecord) -> bool {
        self.reference.is_empty() || self.reference == record.reference
    }

    /// Returns what there is to tell now, of `records` with the newest first: builds that run, then,
    /// if wanted, finished ones that match.
    pub(crate) fn select(&self, records: Vec<HistoryRecord>) -> Vec<HistoryEvent> {
        let asked = records.into_iter().filter(|record| self.is_about(record));
        let (running, mut finished): (Vec<_>, Vec<_>) =
            asked.partition(|record| record.completed.is_none());
        finished.retain(|record| !self.active_only && self.matches(record));
        if self.limit > 0 {
            finished.truncate(self.limit);
        }
        let running = running.into_iter().map(HistoryEvent::Started);
        running.chain(finished.into_iter().map(HistoryEvent::Completed)).collect()
    }

    fn matches(&self, record: &HistoryRecord) -> bool {
        self.filters.is_empty()
            || self.filters.iter().any(|filter| {
                filter.times.iter().all(|test| test.holds(record)) && filter.fields.matches(record)
            })
    }
}

impl TimeTest {
    fn holds(&self, record: &HistoryRecord) -> bool {
        let completed = record.completed.unwrap_or(SystemTime::UNIX_EPOCH);
        match &self.subject {
            Subject::Started(bound) => self.order.holds(&record.created, bound),
            Subject::Completed(bound) => self.order.holds(&completed, bound),
            Subject::Duration(bound) => {
                let duration = completed.duration_since(record.created).unwrap_or_default();
                self.order.holds(&duration, bound)
            }
        }
    }
}

/// Parses terms between commas; a term may be in quotes, as in CSV.
fn history_filter(text: &str, now: SystemTime) -> Result<HistoryFilter, BuildError> {
    let mut filter = HistoryFilter::default();
    let mut fields = Vec::new();
    for term in csv_fields(text)? {
        match time_test(&term, now)? {
            Some(test) => filter.times.push(test),
            None => fields.push(term),
        }
    }
    filter.fields = Filter::parse(&[fields.join(",")])
        .map_err(|error| BuildError::from_error(Kind::InvalidRequest, error))?;
    Ok(filter)
}

fn csv_fields(text: &str) -> Result<Vec<String>, BuildError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)
                .ok_or_else(|| invalid(format!("unbalanced quotes in filter {text}")))?,
            None => match rest.split_once(',') {
                Some((field, after)) => (field.to_owned(), Some(after)),
                None => (rest.to_owned(), None),
            },
        };
        if !field.is_empty() {
            fields.push(field);
        }
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// Splits at the quote that ends a field; two quotes stand for one.
fn quoted_field(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.chars().next() {
            None => return Some((field, None)),
            Some(',') => return Some((field, Some(&after[1..]))),
            Some('"') => {
                field.push('"');
                rest = &after[1..];
            }
            Some(_) => return None,
        }
    }
}

fn time_test(term: &str, now: SystemTime) -> Result<Option<TimeTest>, BuildError> {
    let Some(at) = term.find(['>', '<']) else { return Ok(None) };
    let (name, rest) = term.split_at(at);
    let operators =
        [(">=", Order::AtLeast), ("<=", Order::AtMost), (">", Order::Above), ("<", Order::Below)];
    let found = operators.iter().find_map(|(text, order)| Some((rest.strip_prefix(text)?, *order)));
    let Some((value, order)) = found else { return Ok(None) };
    let subject = match name {
        "startedAt" => Subject::Started(moment(value, now)?),
        "completedAt" => Subject::Completed(moment(value, now)?),
        "duration" => Subject::Duration(
            duration(value).ok_or_else(|| invalid(format!("invalid duration {value}")))?,
        ),
        _ => return Ok(None),
    };
    Ok(Some(TimeTest { subject, order }))
}

fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

/// Returns a moment: so long ago, or one written out.
fn moment(text: &str, now: SystemTime) -> Result<SystemTime, BuildError> {
    if let Some(ago) = duration(text) {
        return Ok(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    let parsed = text.parse::<jiff::Timestamp>();
    parsed.map(SystemTime::from).map_err(|_| invalid(format!("invalid time {text}")))
}

/// Returns what happened to a record.
pub(crate) fn history_event(event: HistoryEvent) -> control::BuildHistoryEvent {
    use control::BuildHistoryEventType::{Complete, Deleted, Started};
    let (kind, record) = match event {
        HistoryEvent::Started(record) => (Started, record),
        HistoryEvent::Completed(record) => (Complete, record),
        HistoryEvent::Deleted(record) => (Deleted, record),
    };
    control::BuildHistoryEvent { r#type: kind.into(), record: Some(record_to_wire(record)) }
}

fn record_to_wire(record: HistoryRecord) -> control::BuildHistoryRecord {
    let exporters = record.exporters.into_iter();
    let mut results = record.results;
    // A build of one platform has one result; its name is empty.
    let result = results.remove("").map(result_to_wire);
    // Of an entry with nothing in it, its value is left out on the wire, and clients stumble over that.
    let told = results.into_iter().filter(|(_, result)| *result != HistoryResult::default());
    let results = told.map(|(key, result)| (key, result_to_wire(result)));
    control::BuildHistoryRecord {
        r#ref: record.reference,
        frontend: record.frontend,
        frontend_attrs: record.options,
        exporters: exporters.map(|(r#type, attrs)| control::Exporter { r#type, attrs }).collect(),
        error: record.error.map(|(cancelled, message)| {
            let kind = if cancelled { Kind::Cancelled } else { Kind::User };
            rpc::Status { code: code(kind) as i32, message, details: Vec::new() }
        }),
        created_at: Some(time::to_wire(record.created)),
        completed_at: record.completed.map(time::to_wire),
        logs: record.logs.as_ref().map(descriptor),
        exporter_response: record.metadata,
        result,
        results: results.collect(),
        generation: record.generation,
        trace: None,
        pinned: record.pinned,
        num_cached_steps: record.cached_steps,
        num_total_steps: record.total_steps,
        num_completed_steps: record.completed_steps,
        external_error: record.external_error.as_ref().map(descriptor),
        num_warnings: record.warnings,
    }
}

fn result_to_wire(result: HistoryResult) -> control::BuildResultInfo {
    let results: std::collections::BTreeMap<_, _> =
        result.descriptors.iter().map(|(index, blob)| (*index, descriptor(blob))).collect();
    control::BuildResultInfo {
        result_deprecated: results.values().next().cloned(),
        attestations: result.attestations.iter().map(descriptor).collect(),
        results,
    }
}

fn descriptor(blob: &Descriptor) -> control::Descriptor {
    control::Descriptor {
        media_type: blob.media_type.clone(),
        digest: blob.digest.to_string(),
        size: i64::try_from(blob.size).unwrap_or(i64::MAX),
        annotations: blob.annotations.clone(),
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
