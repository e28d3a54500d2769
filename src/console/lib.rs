//! The standard output and the standard error. No other code of the program writes to the standard output.
//!
//! `println!` panics where it cannot write, which ends this program with SIGABRT: a reader that has enough
//! (`| head`) or a full disk would lose the rest of a run. Here the first failure is remembered, nothing more
//! is written after it, and `main` asks for it at the end:
//!
//! - A pipe without a reader ends the command quietly, with the status of a process that SIGPIPE ended
//!   (`STATUS_CLOSED`).
//! - Any other failure, of a full device for example, is one line on the standard error and status 1.
//!
//! The standard error is the last place to complain to: what it cannot take is dropped.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

/// The exit status of a command whose output was closed: 128 and the number of SIGPIPE.
const STATUS_CLOSED: u8 = 128 + 13;

/// Why the standard output takes no more.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputFailure {
    /// The reader of the pipe is gone.
    Closed,
    /// What the operating system says.
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

    /// Whether an error of a command is no more than this failure, passed on.
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<OutputFailure>())
    }
}

/// The first failure. It holds until the process ends: a part of a text must not follow a gap.
static FAILURE: OnceLock<OutputFailure> = OnceLock::new();

/// Does something with the standard output, unless that has failed before.
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

/// Takes the outcome of a library that writes to the standard output itself.
pub fn printed(outcome: io::Result<()>) {
    _ = attempt(|| outcome);
}

/// Writes out what is still buffered; how all output of this process went.
fn finish() -> Result<(), &'static OutputFailure> {
    attempt(|| io::stdout().flush())
}

/// The exit status of a command that has succeeded but for its output, which is written out here. Says why it
/// is not 0, unless the output was closed.
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

/// A line on the standard error.
pub fn note(line: impl Display) {
    note_part(format_args!("{line}\n"));
}

/// Text on the standard error, as it is.
pub fn note_part(text: impl Display) {
    _ = write!(io::stderr(), "{text}");
}

/// Whether colours and the like are for a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The standard output for code that takes a writer. Its errors hold an `OutputFailure`.
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
