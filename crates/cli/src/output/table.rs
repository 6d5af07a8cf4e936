//! Columns of text.

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Returns the lines of a table; what would break a line or a column is shown escaped.
pub(super) fn table<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Vec<String> {
    let heads = columns.map(|(head, _)| head.to_owned());
    let rows = rows.into_iter().map(|row| row.map(|cell| shown(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(heads).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(columns) {
                let padding = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend([cell, padding.as_str(), "  "]),
                    Align::Right => line.extend([padding.as_str(), cell, "  "]),
                }
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Returns a text without control characters, which could do anything to a terminal.
pub(super) fn shown(text: &str) -> String {
    let escape = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns = [("ID", Align::Left), ("SIZE", Align::Right), ("KEY", Align::Left)];
        let row = |id: &str, size: &str, key: &str| [id, size, key].map(str::to_owned);
        let lines = table(columns, [row("größe", "1kB", "a"), row("x", "10.0MB", "")]);
        assert_eq!(lines, ["ID       SIZE  KEY", "größe     1kB  a", "x      10.0MB"]);
    }

    #[test]
    fn an_id_cannot_command_the_terminal() {
        let lines = table([("ID", Align::Left)], [["a\nb\u{1b}[2J".to_owned()]]);
        assert_eq!(lines, ["ID", "a\\nb\\u{1b}[2J"]);
    }
}
