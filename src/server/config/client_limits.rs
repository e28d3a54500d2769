//! What clients may take: the forms of `client-output-buffer-limit` and `maxmemory-clients`, as Redis writes
//! them.

use crate::config::memory;

/// The limits of one class of clients. 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Bytes of unread replies beyond which a connection is closed.
    pub hard: u64,
    /// The same for a connection that has had more for longer than `soft_s`.
    pub soft: u64,
    pub soft_s: u64,
}

impl OutputLimit {
    pub fn hard_bytes(&self) -> usize {
        or_none(self.hard)
    }

    pub fn soft_bytes(&self) -> usize {
        or_none(self.soft)
    }
}

/// A limit as what to compare with.
fn or_none(limit: u64) -> usize {
    if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) }
}

/// `client-output-buffer-limit`. There are no clients of the class of replicas yet; what is set for it
/// is kept for CONFIG GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    pub replica: OutputLimit,
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    /// As in Redis, but for normal clients: Redis has no limit for them.
    fn default() -> OutputLimits {
        OutputLimits {
            normal: OutputLimit { hard: 1 << 30, soft: 0, soft_s: 0 },
            replica: OutputLimit { hard: 256 << 20, soft: 64 << 20, soft_s: 60 },
            pubsub: OutputLimit { hard: 32 << 20, soft: 8 << 20, soft_s: 60 },
        }
    }
}

impl OutputLimits {
    pub fn show(&self) -> String {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        let shown =
            classes.map(|(name, class)| format!("{name} {} {} {}", class.hard, class.soft, class.soft_s));
        shown.join(" ")
    }

    /// Sets the classes that are named: `normal 64mb 32mb 10`, one or more.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        let mut limits = *self;
        for class in words.chunks(4) {
            let limit = match class[0].to_ascii_lowercase().as_str() {
                "normal" => &mut limits.normal,
                "slave" | "replica" => &mut limits.replica,
                "pubsub" => &mut limits.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let hard = memory(class[1]).and_then(|bytes| u64::try_from(bytes).ok());
            let soft = memory(class[2]).and_then(|bytes| u64::try_from(bytes).ok());
            let read = hard.zip(soft).zip(class[3].parse().ok());
            let ((hard, soft), soft_s) = read.ok_or_else(|| {
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned()
            })?;
            *limit = OutputLimit { hard, soft, soft_s };
        }
        *self = limits;
        Ok(())
    }
}

/// `maxmemory-clients`: a number of bytes, or a share of `maxmemory`. 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMemory {
    Bytes(u64),
    Percent(u64),
}

/// The smallest limit: below it, no client could connect to raise it again.
const CLIENT_MEMORY_MIN: u64 = 128 * 1024;

impl ClientMemory {
    /// The limit in bytes; `usize::MAX` for none.
    pub fn bytes_max(&self, memory_bytes_max: u64) -> usize {
        let limit = match *self {
            ClientMemory::Bytes(bytes) => bytes,
            ClientMemory::Percent(percent) => {
                (u128::from(memory_bytes_max) * u128::from(percent) / 100) as u64
            }
        };
        or_none(if limit == 0 { 0 } else { limit.max(CLIENT_MEMORY_MIN) })
    }

    pub fn show(&self) -> String {
        match self {
            ClientMemory::Bytes(bytes) => bytes.to_string(),
            ClientMemory::Percent(percent) => format!("{percent}%"),
        }
    }

    pub fn read(text: &str) -> Result<ClientMemory, String> {
        let read = match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| *percent <= 100).map(ClientMemory::Percent)
            }
            None => memory(text).and_then(|bytes| u64::try_from(bytes).ok()).map(ClientMemory::Bytes),
        };
        let is_too_much = text.strip_suffix('%').is_some_and(|percent| percent.parse::<u64>().is_ok());
        read.ok_or_else(|| match is_too_much {
            true => "percentage argument must be less or equal to 100".to_owned(),
            false => "argument must be a memory or percent value".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_limits_are_set_by_class() {
        let mut limits = OutputLimits::default();
        assert_eq!(
            limits.show(),
            "normal 1073741824 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        );
        // The lines of a stock redis.conf, one class each.
        for line in ["normal 0 0 0", "replica 256mb 64mb 60", "pubsub 32mb 8mb 60"] {
            limits.set(line).expect("a class");
        }
        assert_eq!(limits.show(), "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
        assert_eq!((limits.normal.hard_bytes(), limits.normal.soft_bytes()), (usize::MAX, usize::MAX));
        limits.set("normal 64mb 1mb 10 slave 1 2 3").expect("two classes");
        assert_eq!((limits.normal.hard_bytes(), limits.normal.soft_bytes()), (64 << 20, 1 << 20));
        let before = limits;
        for (text, error) in [
            ("normal 1 2", "Wrong number of arguments in buffer limit configuration."),
            ("", "Wrong number of arguments in buffer limit configuration."),
            ("normal 1 1 1 master 1 2 3", "Invalid client class specified in buffer limit configuration."),
            ("normal 1 x 3", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
            ("normal 1 2 -3", "Error in hard, soft or soft_seconds setting in buffer limit configuration."),
        ] {
            assert_eq!(limits.set(text), Err(error.to_owned()), "{text}");
        }
        assert_eq!(limits, before, "an error changes nothing");
    }

    #[test]
    fn client_memory_is_bytes_or_a_share_of_the_data_limit() {
        let read = |text| ClientMemory::read(text).expect("a value");
        assert_eq!(read("0").bytes_max(1 << 30), usize::MAX);
        assert_eq!(read("1gb").bytes_max(0), 1 << 30);
        assert_eq!(read("1").bytes_max(0), 128 * 1024, "a limit leaves room to talk");
        assert_eq!(read("5%").bytes_max(100_000_000), 5_000_000);
        assert_eq!(read("5%").bytes_max(0), usize::MAX, "a share of no limit is none");
        assert_eq!((read("5%").show(), read("1mb").show()), ("5%".to_owned(), "1048576".to_owned()));
        for text in ["101%", "%", "-1", "x"] {
            assert!(ClientMemory::read(text).is_err(), "{text}");
        }
    }
}
