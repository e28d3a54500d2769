//! The standard output and the standard error. No other code of the program writes to the standard output.
//!
//! `println!` panics if it cannot write, which ends this program with SIGABRT: a reader that closes the pipe
//! early (`| head`) or a full disk would lose the rest of a run. Here the first failure is stored, nothing
//! more is written after it, and `main` checks for it at the end:
//!
//! - A pipe without a reader ends the command quietly, with the status of a process that SIGPIPE ended
//!   (`STATUS_CLOSED`).
//! - Any other failure, of a full device for example, gives one line on the standard error and status 1.
//!
//! Failures of the standard error are ignored, because there is no other place to report them.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

/// The exit status of a command whose output was closed: 128 plus the number of SIGPIPE.
const STATUS_CLOSED: u8 = 128 + 13;

/// Why the standard output cannot be written.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputFailure {
    /// The reader of the pipe is gone.
    Closed,
    /// The operating system's error text.
    Refused(String),
}

impl Display for OutputFailure {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            OutputFailure::Closed => write!(to, "the reader of the standard output is gone"),
            OutputFailure::Refused(cause) => write!(to, "cannot write to the standard output: {cause}"),
        }
    }
}

impl Error for OutputFailure {}

impl OutputFailure {
    fn of(error: &io::Error) -> OutputFailure {
        match error.kind() {
            ErrorKind::BrokenPipe => OutputFailure::Closed,
            _ => OutputFailure::Refused(error.to_string()),
        }
    }

    /// Whether a command's error is only this failure, passed on.
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<OutputFailure>())
    }
}

/// The first failure. It stays set until the process ends, because text after a gap would be misleading.
static FAILURE: OnceLock<OutputFailure> = OnceLock::new();

/// Calls `act`, unless the standard output has failed before; stores a failure.
fn attempt<T>(act: impl FnOnce() -> io::Result<T>) -> Result<T, &'static OutputFailure> {
    match FAILURE.get() {
        Some(failure) => Err(failure),
        None => act().map_err(|error| FAILURE.get_or_init(|| OutputFailure::of(&error))),
    }
}

/// Writes to the standard output.
pub fn print(text: fmt::Arguments<'_>) -> Result<(), &'static OutputFailure> {
    attempt(|| io::stdout().write_fmt(text))
}

/// Stores the failure of a library that writes to the standard output itself.
pub fn printed(outcome: io::Result<()>) {
    _ = attempt(|| outcome);
}

/// Flushes buffered output; returns the result of all output of this process.
fn finish() -> Result<(), &'static OutputFailure> {
    attempt(|| io::stdout().flush())
}

/// Flushes the output of a command that has otherwise succeeded, and returns its exit status. Prints the
/// reason if that is not 0, unless the output was closed.
pub fn end() -> u8 {
    match finish() {
        Ok(()) => 0,
        Err(OutputFailure::Closed) => STATUS_CLOSED,
        Err(failure) => {
            note(format_args!("engramdb: {failure}"));
            1
        }
    }
}

/// Writes a line to the standard error.
pub fn note(line: impl Display) {
    note_part(format_args!("{line}\n"));
}

/// Writes text to the standard error without a line end.
pub fn note_part(text: impl Display) {
    _ = write!(io::stderr(), "{text}");
}

/// Whether the standard output is a terminal, so that colours make sense.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The standard output for code that takes a writer. Its errors contain an `OutputFailure`.
#[derive(Debug, Default)]
pub struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        attempt(|| io::stdout().write(bytes)).map_err(passed_on)
    }

    fn flush(&mut self) -> io::Result<()> {
        attempt(|| io::stdout().flush()).map_err(passed_on)
    }
}

fn passed_on(failure: &'static OutputFailure) -> io::Error {
    io::Error::other(failure.clone())
}
