//! What a build says, as messages of the status stream (protocol page `control.md` §4).

use std::time::SystemTime;

use ::progress::{Event, Group, Log, LogStream, Status, Vertex, Warning};
use bytes::Bytes;
use gateway::wire::{excerpt_from_wire, excerpt_to_wire};
use proto::{control, pb};

use super::time;

/// A message is sent when its logs have so many bytes, or it has so many entries: far below the
/// limit of a message.
const LOG_BYTES: usize = 1 << 20;
const ENTRIES: usize = 2048;

/// Returns the messages that say `events`, in order.
///
/// A message holds many events. A client looks at the vertices of a message before its counters,
/// warnings and output, so their order among each other need not be kept.
pub(crate) fn status_messages(
    events: impl IntoIterator<Item = Event>,
) -> Vec<control::StatusResponse> {
    let mut messages = Vec::new();
    let mut message = control::StatusResponse::default();
    let (mut bytes, mut entries) = (0, 0);
    for event in events {
        entries += 1;
        match event {
            Event::Vertex(vertex) => message.vertexes.push(vertex_to_wire(vertex)),
            Event::Status(status) => message.statuses.push(status_to_wire(status)),
            Event::Log(log) => {
                bytes += log.data.len();
                message.logs.push(log_to_wire(log));
            }
            Event::Warning(warning) => message.warnings.push(warning_to_wire(warning)),
        }
        if bytes >= LOG_BYTES || entries >= ENTRIES {
            messages.push(std::mem::take(&mut message));
            (bytes, entries) = (0, 0);
        }
    }
    if entries > 0 {
        messages.push(message);
    }
    messages
}

/// Returns the events that a message says; what is damaged in it is left out.
pub(super) fn events(message: control::StatusResponse) -> Vec<Event> {
    let vertices = message.vertexes.into_iter().filter_map(vertex_from_wire).map(Event::Vertex);
    let statuses = message.statuses.into_iter().filter_map(status_from_wire).map(Event::Status);
    let warnings = message.warnings.into_iter().filter_map(warning_from_wire).map(Event::Warning);
    let logs = message.logs.into_iter().filter_map(log_from_wire).map(Event::Log);
    vertices.chain(statuses).chain(warnings).chain(logs).collect()
}

fn vertex_to_wire(vertex: Vertex) -> control::Vertex {
    control::Vertex {
        digest: vertex.digest.to_string(),
        inputs: vertex.inputs.iter().map(ToString::to_string).collect(),
        name: vertex.name,
        cached: vertex.cached,
        started: vertex.started.map(time::to_wire),
        completed: vertex.completed.map(time::to_wire),
        error: vertex.error.unwrap_or_default(),
        progress_group: vertex.group.map(|group| pb::ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    }
}

fn vertex_from_wire(vertex: control::Vertex) -> Option<Vertex> {
    let inputs = vertex.inputs.iter().map(|input| input.parse().ok());
    Some(Vertex {
        digest: vertex.digest.parse().ok()?,
        inputs: inputs.collect::<Option<_>>()?,
        name: vertex.name,
        cached: vertex.cached,
        started: time::from_wire(vertex.started),
        completed: time::from_wire(vertex.completed),
        error: Some(vertex.error).filter(|error| !error.is_empty()),
        group: vertex.progress_group.map(|group| Group {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
    })
}

fn status_to_wire(status: Status) -> control::VertexStatus {
    control::VertexStatus {
        id: status.id,
        vertex: status.vertex.to_string(),
        name: status.name,
        current: status.current,
        total: status.total,
        timestamp: Some(time::to_wire(status.timestamp)),
        started: status.started.map(time::to_wire),
        completed: status.completed.map(time::to_wire),
    }
}

fn status_from_wire(status: control::VertexStatus) -> Option<Status> {
    Some(Status {
        vertex: status.vertex.parse().ok()?,
        id: status.id,
        name: status.name,
        current: status.current,
        total: status.total,
        timestamp: time::from_wire(status.timestamp).unwrap_or(SystemTime::UNIX_EPOCH),
        started: time::from_wire(status.started),
        completed: time::from_wire(status.completed),
    })
}

fn log_to_wire(log: Log) -> control::VertexLog {
    control::VertexLog {
        vertex: log.vertex.to_string(),
        timestamp: Some(time::to_wire(log.timestamp)),
        stream: match log.stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        },
        msg: log.data,
    }
}

fn log_from_wire(log: control::VertexLog) -> Option<Log> {
    Some(Log {
        vertex: log.vertex.parse().ok()?,
        stream: if log.stream == 2 { LogStream::Stderr } else { LogStream::Stdout },
        timestamp: time::from_wire(log.timestamp).unwrap_or(SystemTime::UNIX_EPOCH),
        data: log.msg,
    })
}

fn warning_to_wire(warning: Warning) -> control::VertexWarning {
    let (info, ranges) = warning.source.map(excerpt_to_wire).unzip();
    control::VertexWarning {
        vertex: warning.vertex.to_string(),
        level: warning.level,
        short: warning.short.into(),
        detail: warning.detail.into_iter().map(Bytes::from).collect(),
        url: warning.url,
        info,
        ranges: ranges.unwrap_or_default(),
    }
}

fn warning_from_wire(warning: control::VertexWarning) -> Option<Warning> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    Some(Warning {
        vertex: warning.vertex.parse().ok()?,
        level: warning.level,
        short: text(&warning.short),
        detail: warning.detail.iter().map(text).collect(),
        url: warning.url,
        source: warning.info.map(|info| excerpt_from_wire(info, &warning.ranges)),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use ::progress::{Range, SourceExcerpt};
    use digests::Digest;

    use super::*;

    pub(in super::super) fn every_kind() -> Vec<Event> {
        let vertex = Digest::of("v");
        let now = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 7);
        vec![
            Event::Vertex(Vertex {
                digest: vertex,
                inputs: vec![Digest::of("i")],
                name: "[2/3] RUN make".to_owned(),
                cached: true,
                started: Some(now),
                completed: Some(now),
                error: Some("exit code: 1".to_owned()),
                group: Some(Group { id: "g".to_owned(), name: "LINK".to_owned(), weak: true }),
            }),
            Event::Status(Status {
                vertex,
                id: "transferring context:".to_owned(),
                name: "transferring".to_owned(),
                current: 1,
                total: 2,
                timestamp: now,
                started: Some(now),
                completed: None,
            }),
            Event::Warning(Warning {
                vertex,
                level: 1,
                short: "s".to_owned(),
                detail: vec!["d".to_owned()],
                url: "u".to_owned(),
                source: Some(SourceExcerpt {
                    filename: "Dockerfile".to_owned(),
                    language: "Dockerfile".to_owned(),
                    data: Bytes::from_static(b"FROM x"),
                    ranges: vec![Range::lines(1, 2)],
                }),
            }),
            log(b"text"),
        ]
    }

    fn log(data: &[u8]) -> Event {
        Event::Log(Log {
            vertex: Digest::of("v"),
            stream: LogStream::Stderr,
            timestamp: SystemTime::UNIX_EPOCH,
            data: Bytes::copy_from_slice(data),
        })
    }

    #[test]
    fn what_a_build_says_round_trips() {
        let [message] = &status_messages(every_kind())[..] else { panic!("one message") };
        assert_eq!(events(message.clone()), every_kind());
    }

    #[test]
    fn messages_are_split_at_their_output() {
        let chunk = vec![b'x'; 400 << 10];
        let messages = status_messages((0..5).map(|_| log(&chunk)));
        let logs: Vec<usize> = messages.iter().map(|message| message.logs.len()).collect();
        assert_eq!(logs, [3, 2]);
        assert!(status_messages([]).is_empty());
    }

    #[test]
    fn messages_are_split_at_their_number_of_entries() {
        let messages = status_messages((0..5000).map(|_| log(b"x")));
        assert_eq!(messages.iter().map(|message| message.logs.len()).max(), Some(ENTRIES));
        assert_eq!(messages.iter().map(|message| message.logs.len()).sum::<usize>(), 5000);
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let message = control::StatusResponse {
            vertexes: vec![control::Vertex { digest: "x".to_owned(), ..Default::default() }],
            logs: vec![control::VertexLog::default()],
            ..Default::default()
        };
        assert!(events(message).is_empty());
    }
}
