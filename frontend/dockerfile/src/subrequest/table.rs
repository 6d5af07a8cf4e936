//! Columns of text.

/// Returns rows with their columns aligned, each row ending in a line feed.
pub(super) fn aligned(rows: &[Vec<&str>], gap: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            // The last column needs no padding.
            if column + 1 < row.len() {
                let padding = widths[column] + gap - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A", "LONG", "C"], vec!["bbb", "x", ""]];
        assert_eq!(aligned(&rows, 2), "A    LONG  C\nbbb  x     \n");
    }
}
