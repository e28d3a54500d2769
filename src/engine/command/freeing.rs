//! Which commands free memory: these are executed even while the disk is full, using reserved log space.

use super::{Args, Command, flag, integer};
use crate::log::Purpose;

/// Commands that set an expiry, the time in the second argument: its unit in milliseconds, and whether it
/// counts from now.
const EXPIRIES: &[(&str, i64, bool)] = &[
    ("EXPIRE", 1000, true),
    ("EXPIREAT", 1000, false),
    ("PEXPIRE", 1, true),
    ("PEXPIREAT", 1, false),
    ("HEXPIRE", 1000, true),
    ("HEXPIREAT", 1000, false),
    ("HPEXPIRE", 1, true),
    ("HPEXPIREAT", 1, false),
];

impl Command {
    /// Whether a call with these words frees memory, or writes nothing: it deletes, or sets an expiry in the
    /// past.
    pub fn frees_memory(&self, args: Args<'_>, now_ms: u64) -> bool {
        !self.is_write() || self.has(flag::FREES) || self.expires_at_once(args, now_ms)
    }

    /// Which log space a call with these words may use.
    pub fn purpose(&self, args: Args<'_>, now_ms: u64) -> Purpose {
        if ["FLUSHALL", "FLUSHDB"].contains(&self.name) {
            return Purpose::Flush;
        }
        if self.frees_memory(args, now_ms) { Purpose::Freeing } else { Purpose::Any }
    }

    fn expires_at_once(&self, args: Args<'_>, now_ms: u64) -> bool {
        let Some((_, unit_ms, is_relative)) = EXPIRIES.iter().find(|(name, ..)| *name == self.name) else {
            return false;
        };
        let time = args.get(2).and_then(|word| integer(word).ok());
        let start_ms = if *is_relative { 0 } else { now_ms as i64 };
        time.and_then(|time| time.checked_mul(*unit_ms)).is_some_and(|ms| ms <= start_ms)
    }
}

#[cfg(test)]
mod tests {
    use crate::command::{Args, CommandTable};
    use crate::commands::FAMILIES;
    use crate::log::Purpose;

    /// Whether the call frees memory at 5,000 ms after the epoch.
    fn frees(line: &str) -> bool {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let table = CommandTable::new(FAMILIES.iter().copied());
        let known = table.resolve(Args::new(&words)).expect("a command of ours");
        known.command.frees_memory(Args::new(&words), 5000)
    }

    #[test]
    fn what_removes_all_may_use_the_last_room() {
        for (line, wanted) in [
            ("FLUSHALL", Purpose::Flush),
            ("FLUSHDB ASYNC", Purpose::Flush),
            ("DEL a", Purpose::Freeing),
            ("SET a 1", Purpose::Any),
        ] {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let table = CommandTable::new(FAMILIES.iter().copied());
            let known = table.resolve(Args::new(&words)).expect("a command of ours");
            assert_eq!(known.command.purpose(Args::new(&words), 5000), wanted, "{line}");
        }
    }

    #[test]
    fn deletes_and_expiries_in_the_past_free_memory() {
        for line in [
            "DEL a b",
            "UNLINK a",
            "GETDEL a",
            "HDEL h f",
            "HGETDEL h FIELDS 1 f",
            "FLUSHALL",
            "FLUSHDB ASYNC",
            "EXPIRE a 0",
            "EXPIRE a -1",
            "PEXPIRE a 0",
            "EXPIREAT a 5",
            "PEXPIREAT a 4999",
            "HEXPIRE h 0 FIELDS 1 f",
            "HPEXPIREAT h 5000 FIELDS 1 f",
            "GET a",
        ] {
            assert!(frees(line), "{line}");
        }
        for line in [
            "SET a 1",
            "HSET h f v",
            "EXPIRE a 1",
            "EXPIREAT a 6",
            "PEXPIREAT a 5001",
            "EXPIRE a word",
            "EXPIRE a 9223372036854775807",
            "PERSIST a",
            "RENAME a b",
            "COPY a b",
            "GETEX a",
            "HGETEX h EX 1 FIELDS 1 f",
        ] {
            assert!(!frees(line), "{line}");
        }
    }
}
