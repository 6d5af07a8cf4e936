//! Places in a file as answers have them; what is zero is left out.

use serde::Serialize;

use crate::syntax::Lines;

/// Places in one file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Location {
    #[serde(rename = "sourceIndex", skip_serializing_if = "is_zero")]
    source_index: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Clone, Serialize)]
struct Position {
    #[serde(skip_serializing_if = "is_zero")]
    line: i32,
    #[serde(skip_serializing_if = "is_zero")]
    character: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
const fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl From<bridge::Position> for Position {
    fn from(position: bridge::Position) -> Self {
        Self { line: position.line, character: position.character }
    }
}

impl Location {
    /// Returns the place of some lines, each a range of its own.
    pub(super) fn of(lines: Lines) -> Self {
        Self::of_all(&[lines])
    }

    /// Returns the places of some stretches of lines.
    pub(super) fn of_all(lines: &[Lines]) -> Self {
        let ranges = lines.iter().flat_map(|lines| lines.ranges());
        let range =
            |range: bridge::Range| Range { start: range.start.into(), end: range.end.into() };
        Self { source_index: 0, ranges: ranges.map(range).collect() }
    }
}
