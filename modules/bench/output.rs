//! The output of results: the heading of every report, aligned tables, and files as JSON, CSV and SVG.

use std::fmt::Arguments;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Serialize;

use crate::error::BenchError;
use crate::interrupt;
use crate::machine::Machine;
use crate::plot::{self, Chart};

/// Writes to the standard output, like `print!`. See `print`.
macro_rules! out {
    ($($text:tt)*) => { $crate::output::print(format_args!($($text)*)) };
}

/// Writes a line to the standard output, like `println!`. See `print`.
macro_rules! outln {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes a line to the standard error, like `eprintln!`.
macro_rules! note {
    ($($text:tt)*) => { engramdb_console::note(format_args!($($text)*)) };
}

/// Whether the report of this run is written to files, too.
static HAS_FILES: AtomicBool = AtomicBool::new(false);

/// Writes to the standard output. If that fails, a run whose report is written to files continues without it;
/// any other run is cleaned up and ended.
pub fn print(text: Arguments<'_>) {
    if engramdb_console::print(text).is_err() && !HAS_FILES.load(Ordering::Relaxed) {
        interrupt::end_without_output();
    }
}

/// The files of a report, which every command accepts.
#[derive(Args, Clone, Debug, Default)]
pub struct ReportFiles {
    /// Write the report as JSON
    #[arg(long, alias = "json", value_name = "FILE")]
    pub out_json: Option<PathBuf>,
    /// Write one line for each measured point as CSV
    #[arg(long, value_name = "FILE")]
    pub out_csv: Option<PathBuf>,
    /// Draw the report as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// A report that can be written in each form.
pub trait Exported: Serialize {
    /// A heading for each column, suited to programs, and a row for each measured point.
    fn csv(&self) -> TextTable;

    /// The charts, from top to bottom.
    fn charts(&self) -> Vec<Chart>;
}

impl ReportFiles {
    /// Refuses files that cannot be written, before the run that would be lost with them.
    pub fn check(&self) -> Result<(), BenchError> {
        let named = [("--out-json", &self.out_json), ("--out-csv", &self.out_csv), ("--plot", &self.plot)];
        let named: Vec<(&str, &PathBuf)> =
            named.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?))).collect();
        for (place, (flag, path)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..place].iter().find(|(_, before)| before == path) {
                let path = path.display();
                return Err(BenchError::Usage(format!("{other} and {flag} name the same file, {path}")));
            }
            check_writable(path)?;
        }
        HAS_FILES.store(!named.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Writes the requested files, and prints their names.
    pub fn write(&self, report: &impl Exported) -> Result<(), BenchError> {
        if let Some(path) = &self.out_json {
            write_json(path, report)?;
        }
        if let Some(path) = &self.out_csv {
            write(path, report.csv().render_csv().as_bytes())?;
        }
        if let Some(path) = &self.plot {
            let drawn = plot::svg(&report.charts());
            let text = drawn.map_err(|what| BenchError::Plot { path: path.clone(), what })?;
            write(path, text.as_bytes())?;
        }
        Ok(())
    }
}

/// Creates the directory, and refuses one in which no file can be written.
pub fn check_directory(path: &Path) -> Result<(), BenchError> {
    std::fs::create_dir_all(path).map_err(|source| BenchError::Write { path: path.to_owned(), source })?;
    check_writable(&path.join(format!(".engramdb-bench-{}", std::process::id())))
}

/// Opens the file for writing without changing it; a file that did not exist is removed again.
fn check_writable(path: &Path) -> Result<(), BenchError> {
    let failed = |source| BenchError::Write { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => std::fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map(drop).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The heading of every report: the command, the version, and the machine.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    pub tool: String,
    pub version: &'static str,
    pub machine: Machine,
}

impl Origin {
    /// The origin of a report of this command, here and now.
    pub fn of(command: &str) -> Self {
        Self {
            tool: format!("engramdb {command}"),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::describe(),
        }
    }
}

/// A text table, in which each column is as wide as its widest cell: names are left-aligned, numbers
/// right-aligned.
pub struct TextTable {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row with as many cells as there are headings.
    pub fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        self.row_of(cells.into());
    }

    /// The same, if the number of headings is known only at run time.
    pub fn row_of(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.headings.len(), "a row has a cell for each heading");
        self.rows.push(cells);
    }

    /// The same, for columns in groups.
    pub fn of_groups(groups: &[&[&str]]) -> Self {
        Self::new(&groups.concat())
    }

    /// Adds a row whose cells are in the same groups.
    pub fn row_of_groups(&mut self, groups: &[&[String]]) {
        self.row_of(groups.concat());
    }

    /// Headings, a rule and the rows, each line terminated.
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

    /// The same cells as comma-separated values.
    pub fn render_csv(&self) -> String {
        let line =
            |row: &Vec<String>| row.iter().map(|cell| csv_field(cell)).collect::<Vec<_>>().join(",") + "\n";
        [&self.headings].into_iter().chain(&self.rows).map(line).collect()
    }
}

/// A share that may be unknown, in percent.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// A figure in a CSV cell: empty if it is not known.
pub fn cell(value: Option<f64>, digits: usize) -> String {
    value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
}

/// Bold on a terminal; plain in a pipe, and where NO_COLOR is set (no-color.org).
pub fn bold(text: &str) -> String {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match engramdb_console::is_terminal() && !no_color {
        true => format!("\x1b[1m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}

/// A figure that may be unknown.
pub fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A field of a CSV line, quoted if necessary (RFC 4180).
fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Writes `value` as indented JSON, and prints the file's name.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BenchError> {
    let mut text = serde_json::to_vec_pretty(value).expect("reports contain only values that JSON supports");
    text.push(b'\n');
    write(path, &text)
}

/// Writes a file, and prints its name.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    std::fs::write(path, bytes).map_err(|source| BenchError::Write { path: path.to_owned(), source })?;
    outln!("wrote {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_names_left_aligned() {
        let mut table = TextTable::new(&["engine", "rate"]);
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
        let mut table = TextTable::new(&["name", "rate"]);
        table.row(["a,b".into(), "12".into()]);
        assert_eq!(table.render_csv(), "name,rate\n\"a,b\",12\n");
    }

    #[test]
    fn files_that_cannot_be_written_are_refused_and_others_stay_unchanged() {
        let directory = engramdb_testkit::TempDir::new("bench-files");
        let files = |json: &str, csv: &str| ReportFiles {
            out_json: Some(directory.join(json)),
            out_csv: Some(directory.join(csv)),
            plot: None,
        };
        std::fs::write(directory.join("old.json"), "old").unwrap();
        files("old.json", "new.csv").check().unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("old.json")).unwrap(), "old");
        assert!(!directory.join("new.csv").exists(), "a check leaves no file");
        let refusal = |json, csv| files(json, csv).check().unwrap_err().to_string();
        assert!(refusal("missing/report.json", "new.csv").contains("missing/report.json"));
        assert!(refusal("old.json", "").contains("cannot write"), "a directory is not a file");
        assert!(refusal("same", "same").contains("--out-json and --out-csv name the same file"));
    }
}
