//! How accesses of keys are noted: the time of the last one, or how frequent they are.
//!
//! An entry has 32 bits for it. By recency these are the second of the last access; by frequency the low 8
//! bits are a logarithmic counter and the next 16 the minute of its last decay, as in Redis's LFU: a counter
//! of 255 is about a million accesses, and it loses one in each `decay_minutes` without one. What a change of
//! the policy finds in the bits is of the other kind; it takes some time to adjust.

/// What the policy of `maxmemory` wants to know of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    #[default]
    Recency,
    Frequency(FrequencySettings),
}

/// Redis's lfu-log-factor and lfu-decay-time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrequencySettings {
    /// The larger, the more accesses a counter needs.
    pub log_factor: u32,
    /// Minutes after which a counter that is not used loses one; 0 for never.
    pub decay_minutes: u32,
}

/// The counter of a new key: it has time to gather accesses.
const FIRST_COUNT: u32 = 5;

/// The second of the last access, of a time in milliseconds since the epoch.
pub(super) fn second_of(now_ms: u64) -> u32 {
    (now_ms / 1000) as u32
}

fn minute_of(now_ms: u64) -> u16 {
    (now_ms / 60_000) as u16
}

/// What an entry notes whose counter is this now.
pub(super) fn noted_count(now_ms: u64, count: u8) -> u32 {
    u32::from(minute_of(now_ms)) << 8 | u32::from(count)
}

impl AccessMode {
    /// As one number, to be read without a lock.
    pub(crate) fn pack(self) -> u64 {
        match self {
            AccessMode::Recency => 0,
            AccessMode::Frequency(settings) => {
                1 << 63
                    | u64::from(settings.log_factor & 0x7fff_ffff) << 32
                    | u64::from(settings.decay_minutes)
            }
        }
    }

    #[inline]
    pub(crate) fn unpack(packed: u64) -> AccessMode {
        if packed == 0 {
            return AccessMode::Recency;
        }
        let log_factor = (packed >> 32) as u32 & 0x7fff_ffff;
        AccessMode::Frequency(FrequencySettings { log_factor, decay_minutes: packed as u32 })
    }

    /// What an entry notes that was just made.
    pub(super) fn first(self, now_ms: u64) -> u32 {
        match self {
            AccessMode::Recency => second_of(now_ms),
            AccessMode::Frequency(_) => u32::from(minute_of(now_ms)) << 8 | FIRST_COUNT,
        }
    }
}

impl FrequencySettings {
    /// The counter after the time without an access, 0 to 255.
    pub(super) fn count(self, noted: u32, now_ms: u64) -> u32 {
        let count = noted & 0xff;
        if self.decay_minutes == 0 {
            return count;
        }
        let elapsed = minute_of(now_ms).wrapping_sub((noted >> 8) as u16);
        count.saturating_sub(u32::from(elapsed) / self.decay_minutes)
    }

    /// What an entry notes after an access. `random` decides whether the counter grows.
    pub(super) fn counted(self, noted: u32, now_ms: u64, random: u64) -> u32 {
        let count = self.count(noted, now_ms);
        let above = u64::from(count.saturating_sub(FIRST_COUNT));
        let one_in = above * u64::from(self.log_factor) + 1;
        let grows = count < 255 && random.is_multiple_of(one_in);
        u32::from(minute_of(now_ms)) << 8 | (count + u32::from(grows))
    }
}

/// The clock of changes, of one database.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AccessClock {
    pub(super) mode: AccessMode,
    /// 0 during recovery.
    pub(super) now_ms: u64,
    draws: u64,
}

impl AccessClock {
    pub(super) fn new(mode: AccessMode, now_ms: u64) -> AccessClock {
        AccessClock { mode, now_ms, draws: 0 }
    }

    /// What an entry notes that a change has made.
    #[inline]
    pub(super) fn first(&self) -> u32 {
        if self.now_ms == 0 { 0 } else { self.mode.first(self.now_ms) }
    }

    /// What an entry notes after a change.
    #[inline]
    pub(super) fn changed(&mut self, noted: u32) -> u32 {
        match self.mode {
            AccessMode::Frequency(settings) if self.now_ms != 0 => {
                self.draws = self.draws.wrapping_add(1);
                settings.counted(noted, self.now_ms, mixed(self.draws))
            }
            _ => self.first(),
        }
    }
}

/// A number that looks random, of each number in a row (the finalizer of SplitMix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: FrequencySettings = FrequencySettings { log_factor: 10, decay_minutes: 1 };
    const MINUTE_MS: u64 = 60_000;

    #[test]
    fn a_counter_grows_with_the_logarithm_of_accesses_and_decays() {
        let now_ms = 29_000_000 * MINUTE_MS;
        let mut noted = AccessMode::Frequency(SETTINGS).first(now_ms);
        assert_eq!(SETTINGS.count(noted, now_ms), FIRST_COUNT);
        let mut counts = Vec::new();
        for access in 1..=1_000_000u64 {
            noted = SETTINGS.counted(noted, now_ms, mixed(access));
            if [100, 1000, 100_000, 1_000_000].contains(&access) {
                counts.push(SETTINGS.count(noted, now_ms));
            }
        }
        // The table in Redis's configuration file says 10, 18, 142 and 255 for these.
        for (count, theirs) in counts.iter().zip([10u32, 18, 142, 255]) {
            assert!(count.abs_diff(theirs) <= 12, "{counts:?}");
        }
        let before = SETTINGS.count(noted, now_ms);
        assert_eq!(SETTINGS.count(noted, now_ms + 7 * MINUTE_MS), before - 7);
        assert_eq!(SETTINGS.count(noted, now_ms + 1000 * MINUTE_MS), 0);
        let forever = FrequencySettings { decay_minutes: 0, ..SETTINGS };
        assert_eq!(forever.count(noted, now_ms + 1000 * MINUTE_MS), before);
    }

    #[test]
    fn a_mode_survives_its_packing() {
        for mode in [AccessMode::Recency, AccessMode::Frequency(SETTINGS)] {
            assert_eq!(AccessMode::unpack(mode.pack()), mode);
        }
        let zero = AccessMode::Frequency(FrequencySettings { log_factor: 0, decay_minutes: 0 });
        assert_eq!(AccessMode::unpack(zero.pack()), zero);
    }
}
