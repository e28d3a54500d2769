//! How results leave the program: what every report begins with, aligned tables, JSON files, CSV fields.

use std::path::Path;

use serde::Serialize;

use crate::error::BenchError;
use crate::machine::Machine;

/// What every report begins with: which command of which version made it, and where.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    pub tool: String,
    pub version: &'static str,
    pub machine: Machine,
}

impl Origin {
    /// Of a command of `engramdb`, here and now.
    pub fn of(command: &str) -> Self {
        Self {
            tool: format!("engramdb {command}"),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::describe(),
        }
    }
}

/// A table of text, drawn with each column as wide as its widest cell: names to the left, numbers to the right.
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are headings.
    pub fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        self.row_of(cells.into());
    }

    /// The same where the number of headings is known at run time only.
    pub fn row_of(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell for each heading");
        self.rows.push(cells);
    }

    /// Headings, a rule and the rows, each line ended.
    pub fn render(&self) -> String {
        let columns = self.headings.len();
        let cells = |column: usize| self.rows.iter().map(move |row| &row[column]);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                cells(column)
                    .chain([&self.headings[column]])
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let is_number = |cell: &String| cell == "-" || cell.trim_end_matches(" %").parse::<f64>().is_ok();
        let to_the_right: Vec<bool> = (0..columns).map(|column| cells(column).all(is_number)).collect();
        let line = |row: &[String]| {
            let padded = row.iter().zip(&widths).zip(&to_the_right).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            padded.collect::<Vec<_>>().join("  ") + "\n"
        };
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        [&self.headings, &rule].into_iter().chain(&self.rows).map(|row| line(row)).collect()
    }
}

/// A figure that may be unknown.
pub fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A field of a CSV line, quoted where it must be (RFC 4180).
pub fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes `value` as indented JSON, and says so.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BenchError> {
    let mut text = serde_json::to_vec_pretty(value).expect("reports hold nothing that JSON cannot");
    text.push(b'\n');
    write(path, &text)
}

/// Writes a file, and says so.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    std::fs::write(path, bytes).map_err(|source| BenchError::Write { path: path.to_owned(), source })?;
    println!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_names_to_the_left() {
        let mut table = Table::new(&["engine", "rate"]);
        table.row(["a".into(), "12".into()]);
        table.row(["longer".into(), "-".into()]);
        table.row(["née".into(), "123456".into()]);
        table.row(["share".into(), "+1.5 %".into()]);
        let expected = "engine    rate\n------  ------\na           12\nlonger       -\nnée     123456\nshare   +1.5 %\n";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn csv_fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_field("plain"), "plain");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
