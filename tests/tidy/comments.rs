//! Lines with comments have at most 110 columns, which rustfmt enforces for code only.

use super::assert_none;
use super::sources::sources;
use std::fmt::Write;

const COLUMNS_MAX: usize = 110;

#[test]
fn comments_end_at_column_110() {
    let mut complaints = String::new();
    for source in sources() {
        for (index, line) in source.lines.iter().enumerate() {
            let columns = line.chars().count();
            if line.contains("//") && columns > COLUMNS_MAX {
                let place = format!("{}:{}", source.path, index + 1);
                _ = writeln!(complaints, "{place}: {columns} columns, {COLUMNS_MAX} at most");
            }
        }
    }
    assert_none(complaints);
}
