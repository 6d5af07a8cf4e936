//! Places in the user's files.

use progress::{Position, Range, SourceExcerpt};
use proto::pb;

/// Returns a place in a user's file for the wire.
pub fn excerpt_to_wire(excerpt: SourceExcerpt) -> (pb::SourceInfo, Vec<pb::Range>) {
    let position = |at: Position| Some(pb::Position { line: at.line, character: at.character });
    let range = |range: Range| pb::Range { start: position(range.start), end: position(range.end) };
    let info = pb::SourceInfo {
        filename: excerpt.filename,
        data: excerpt.data,
        definition: None,
        language: excerpt.language,
    };
    (info, excerpt.ranges.into_iter().map(range).collect())
}

/// Returns a place in a user's file.
pub fn excerpt_from_wire(info: pb::SourceInfo, ranges: &[pb::Range]) -> SourceExcerpt {
    let position = |at: Option<pb::Position>| {
        let at = at.unwrap_or_default();
        Position { line: at.line, character: at.character }
    };
    let range =
        |range: &pb::Range| Range { start: position(range.start), end: position(range.end) };
    SourceExcerpt {
        filename: info.filename,
        language: info.language,
        data: info.data,
        ranges: ranges.iter().map(range).collect(),
    }
}
