//! When a snapshot is tried again that could not be made.
//!
//! Failures that repeat cost more each time than they can give: on a full disk each attempt writes until
//! there is no room, without enough memory each one reads the log. So the pause doubles with each failure.
//! What may have removed the cause ends it: a snapshot that was made, or on a full disk memory that was
//! freed.

use std::time::Duration;

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(8 * 60);
/// So large a part of the data counts as freed.
const FREED_PART_INVERSE: usize = 8;

/// How much of the data was freed since the last attempt at a snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Freed {
    Little,
    Much,
    /// More than half. After an attempt that fails nevertheless, half of the rest must be freed, so there are
    /// few such attempts in a row.
    Most,
}

#[derive(Debug, Default)]
pub struct Retries {
    /// In a row.
    failures: u32,
    /// No automatic attempt before this moment of the monotonic clock.
    not_before: Duration,
    /// What was logged last.
    said: Option<(String, Duration)>,
    /// The most bytes that the data had since the last attempt.
    data_bytes_max: usize,
}

impl Retries {
    /// A snapshot was made. The line to be logged, if that is news.
    pub fn succeeded(&mut self, data_bytes: usize) -> Option<String> {
        let failures = self.failures;
        *self = Retries { data_bytes_max: data_bytes, ..Retries::default() };
        (failures > 0).then(|| format!("a snapshot was made, after {failures} attempts that failed"))
    }

    /// No snapshot was made. The line to be logged, if that is news.
    pub fn failed(&mut self, cause: &str, now: Duration, data_bytes: usize) -> Option<String> {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
        self.data_bytes_max = data_bytes;
        let saying = (cause.to_owned(), pause);
        if self.said.as_ref() == Some(&saying) {
            return None;
        }
        self.said = Some(saying);
        Some(format!(
            "no snapshot was made: {cause}. The next attempt is made in {} s at the latest",
            pause.as_secs()
        ))
    }

    /// Whether failures forbid an attempt.
    pub fn forbid(&self, now: Duration) -> bool {
        now < self.not_before
    }

    /// How long they still do; `None` after a success.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        (self.failures > 0).then(|| self.not_before.saturating_sub(now))
    }

    /// How much of the data was freed since the last attempt.
    pub fn freed(&mut self, data_bytes: usize) -> Freed {
        self.data_bytes_max = self.data_bytes_max.max(data_bytes);
        if data_bytes < self.data_bytes_max / 2 {
            Freed::Most
        } else if data_bytes < self.data_bytes_max - self.data_bytes_max / FREED_PART_INVERSE {
            Freed::Much
        } else {
            Freed::Little
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_pause_doubles_and_is_said_once_per_change() {
        let mut retries = Retries::default();
        assert!(!retries.forbid(SECONDS(0)) && retries.wait(SECONDS(0)).is_none());
        let mut now = SECONDS(100);
        for (pause, is_said) in
            [(60, true), (120, true), (240, true), (480, true), (480, false), (480, false)]
        {
            let line = retries.failed("no room", now, 0);
            assert_eq!(line.is_some(), is_said, "{line:?}");
            assert!(line.is_none_or(|line| {
                line.contains(&format!("no room. The next attempt is made in {pause} s"))
            }));
            assert_eq!(retries.wait(now), Some(SECONDS(pause)));
            assert!(retries.forbid(now + SECONDS(pause - 1)));
            now += SECONDS(pause);
            assert!(!retries.forbid(now));
        }
        assert!(retries.failed("no memory", now, 0).is_some(), "another cause is news");
        let line = retries.succeeded(0);
        assert_eq!(line.as_deref(), Some("a snapshot was made, after 7 attempts that failed"));
        assert_eq!((retries.succeeded(0), retries.wait(now)), (None, None));
        assert!(retries.failed("no memory", now, 0).is_some_and(|line| line.contains("in 60 s")));
    }

    #[test]
    fn an_eighth_of_the_data_counts_as_freed_once_per_attempt() {
        let mut retries = Retries::default();
        assert_eq!(
            [800, 700, 699].map(|bytes| retries.freed(bytes)),
            [Freed::Little, Freed::Little, Freed::Much]
        );
        assert_eq!([400, 399].map(|bytes| retries.freed(bytes)), [Freed::Much, Freed::Most]);
        assert_eq!(
            retries.failed("no room", SECONDS(1), 699),
            Some(
                retries
                    .said
                    .clone()
                    .map(|(cause, _)| {
                        format!(
                            "no snapshot was made: {cause}. The next attempt is made in 60 s at the latest"
                        )
                    })
                    .expect("said")
            )
        );
        assert_eq!(retries.freed(699), Freed::Little, "that attempt has seen it");
        assert_eq!(retries.freed(0), Freed::Most);
    }
}
