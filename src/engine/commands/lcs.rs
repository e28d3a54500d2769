//! LCS: the longest common subsequence of two strings, by the textbook table of prefix lengths.

use crate::command::{Args, CommandError, Finish, Job, Outcome, Reply, Rest, Stage};
use crate::store::view::View;
use crate::types::StringRef;
use std::borrow::Cow;

#[derive(Default)]
struct LcsOptions {
    length_only: bool,
    ranges: bool,
    match_length_min: usize,
    with_match_length: bool,
}

/// A sequence of equal bytes: both bounds are inclusive.
struct Match {
    first: (usize, usize),
    second: (usize, usize),
}

impl Match {
    fn length(&self) -> usize {
        self.first.1 - self.first.0 + 1
    }
}

/// Tables with up to this many cells are filled on the thread that received the command.
const CELLS_FEW: usize = 1 << 18;

pub fn lcs(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let not_strings = |_| CommandError::of("ERR The specified keys must contain string values");
    let first = content(view.string(args.word(1)).map_err(not_strings)?);
    let second = content(view.string(args.word(2)).map_err(not_strings)?);
    let options = parse(args)?;
    check_table(&first, &second, view.context.string_bytes_max())?;
    if first.len().saturating_mul(second.len()) <= CELLS_FEW {
        write(&first, &second, &options, reply);
        return Ok(Stage::Done);
    }
    let (first, second) = (first.into_owned(), second.into_owned());
    let job: Job = Box::new(move |_| {
        // Filling the table takes long: it is done after the last look.
        let finish: Finish = Box::new(move |_, _| {
            Ok(Rest::Write(Box::new(move |reply| {
                write(&first, &second, &options, reply);
            })))
        });
        finish
    });
    Ok(Stage::Copy(job))
}

fn write(first: &[u8], second: &[u8], options: &LcsOptions, reply: &mut dyn Reply) {
    let lengths = Lengths::of(first, second);
    if options.length_only {
        reply.integer(i64::from(lengths.at(first.len(), second.len())));
        return;
    }
    let (common, mut matches) = walk_back(first, second, &lengths);
    if !options.ranges {
        reply.bulk(&common);
        return;
    }
    matches.retain(|found| found.length() >= options.match_length_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for found in &matches {
        reply.array(2 + usize::from(options.with_match_length));
        for (start, end) in [found.first, found.second] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer(end as i64);
        }
        if options.with_match_length {
            reply.integer(found.length() as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(common.len() as i64);
}

fn content(string: Option<StringRef<'_>>) -> Cow<'_, [u8]> {
    string.map_or(Cow::Borrowed(b""), StringRef::to_bytes)
}

fn parse(args: Args<'_>) -> Result<LcsOptions, CommandError> {
    let mut parsed = LcsOptions::default();
    let mut options = args.options(3);
    while !options.is_done() {
        if options.take("LEN") {
            parsed.length_only = true;
        } else if options.take("IDX") {
            parsed.ranges = true;
        } else if options.take("WITHMATCHLEN") {
            parsed.with_match_length = true;
        } else if options.take("MINMATCHLEN") {
            parsed.match_length_min = options.integer()?.max(0) as usize;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    if parsed.length_only && parsed.ranges {
        return Err(CommandError::of("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(parsed)
}

/// As in Redis, the table of lengths may use as much memory as one argument.
fn check_table(first: &[u8], second: &[u8], bytes_max: usize) -> Outcome {
    let cells = (first.len() + 1).checked_mul(second.len() + 1);
    match cells {
        Some(cells) if cells <= bytes_max / size_of::<u32>() => Ok(()),
        _ => Err(CommandError::of(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        )),
    }
}

/// The length of the longest common subsequence of each pair of prefixes.
struct Lengths {
    cells: Vec<u32>,
    width: usize,
}

impl Lengths {
    /// Precondition: `check_table` has accepted both.
    fn of(first: &[u8], second: &[u8]) -> Lengths {
        let width = second.len() + 1;
        let mut cells = vec![0; (first.len() + 1) * width];
        for (i, a) in first.iter().enumerate() {
            let (above, row) = cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, b) in second.iter().enumerate() {
                row[j + 1] = if a == b { above[j] + 1 } else { above[j + 1].max(row[j]) };
            }
        }
        Lengths { cells, width }
    }

    fn at(&self, first: usize, second: usize) -> u32 {
        self.cells[first * self.width + second]
    }
}

/// The subsequence itself, and its matching ranges from the last to the first.
fn walk_back(first: &[u8], second: &[u8], lengths: &Lengths) -> (Vec<u8>, Vec<Match>) {
    let (mut i, mut j) = (first.len(), second.len());
    let mut common = Vec::with_capacity(lengths.at(i, j) as usize);
    let mut matches: Vec<Match> = Vec::new();
    while i > 0 && j > 0 {
        if first[i - 1] == second[j - 1] {
            (i, j) = (i - 1, j - 1);
            common.push(first[i]);
            match matches.last_mut() {
                Some(run) if run.first.0 == i + 1 && run.second.0 == j + 1 => {
                    (run.first.0, run.second.0) = (i, j);
                }
                _ => matches.push(Match { first: (i, i), second: (j, j) }),
            }
        } else if lengths.at(i - 1, j) > lengths.at(i, j - 1) {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    common.reverse();
    (common, matches)
}
