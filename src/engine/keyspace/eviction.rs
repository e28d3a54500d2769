//! Which key goes next when memory is short: Redis's policies, by samples.
//!
//! The best of a few samples goes into a pool of candidates, as in Redis: the pool keeps good ones of earlier
//! samples, so that few samples come close to the exact order.

use super::access::{AccessMode, second_of};
use super::{Database, Entry, Keyspace};

/// The policies of `maxmemory-policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// Nothing is evicted: writes that need memory are refused.
    #[default]
    None,
    AllKeys(EvictionRank),
    /// Only keys that expire.
    Volatile(EvictionRank),
}

/// What makes a key go before others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionRank {
    /// It was not accessed for longer.
    Recency,
    /// It was accessed less often.
    Frequency,
    Random,
    /// It expires earlier.
    TimeToLive,
}

impl EvictionPolicy {
    /// Redis's names.
    pub const NAMES: &[&str] = &[
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "noeviction",
    ];

    /// The policy of this name; `None` where there is none.
    pub fn named(name: &str) -> Option<EvictionPolicy> {
        use EvictionRank::{Frequency, Random, Recency, TimeToLive};
        Some(match name {
            "noeviction" => EvictionPolicy::None,
            "allkeys-lru" => EvictionPolicy::AllKeys(Recency),
            "allkeys-lfu" => EvictionPolicy::AllKeys(Frequency),
            "allkeys-random" => EvictionPolicy::AllKeys(Random),
            "volatile-lru" => EvictionPolicy::Volatile(Recency),
            "volatile-lfu" => EvictionPolicy::Volatile(Frequency),
            "volatile-random" => EvictionPolicy::Volatile(Random),
            "volatile-ttl" => EvictionPolicy::Volatile(TimeToLive),
            _ => return None,
        })
    }

    /// Whether it goes by how often keys are accessed.
    pub fn counts_accesses(self) -> bool {
        matches!(
            self,
            EvictionPolicy::AllKeys(EvictionRank::Frequency)
                | EvictionPolicy::Volatile(EvictionRank::Frequency)
        )
    }

    fn rank(self) -> Option<EvictionRank> {
        match self {
            EvictionPolicy::None => None,
            EvictionPolicy::AllKeys(rank) | EvictionPolicy::Volatile(rank) => Some(rank),
        }
    }
}

/// A key that can go.
#[derive(Debug)]
struct Candidate {
    /// The larger, the earlier it goes.
    rank: u64,
    database: u32,
    key: Vec<u8>,
}

/// The best candidates so far, the next one last.
#[derive(Debug, Default)]
pub(crate) struct EvictionPool {
    policy: EvictionPolicy,
    candidates: Vec<Candidate>,
}

/// As in Redis.
const CANDIDATES_MAX: usize = 16;

/// Where the pool looks for keys.
pub(crate) struct EvictionSource<'k> {
    pub(crate) keyspace: &'k Keyspace,
    pub(crate) mode: AccessMode,
    pub(crate) now_ms: u64,
    /// What a key counts as accessed at that was not accessed since.
    pub(crate) started_ms: u64,
    pub(crate) random: &'k dyn Fn() -> u64,
}

impl EvictionPool {
    /// The key that goes next, with its database; `None` if there is none that can. `samples` are looked at
    /// in each database.
    pub(crate) fn pick(
        &mut self,
        policy: EvictionPolicy,
        samples: usize,
        source: &EvictionSource<'_>,
    ) -> Option<(u32, Vec<u8>)> {
        let rank = policy.rank()?;
        if self.policy != policy {
            *self = EvictionPool { policy, candidates: Vec::new() };
        }
        if rank == EvictionRank::Random {
            return source.any(policy);
        }
        source.each_sample(policy, samples, &mut |database, entry| {
            self.offer(source.rank_of(rank, entry), database, entry.key());
        });
        while let Some(Candidate { rank: noted, database, key }) = self.candidates.pop() {
            let entry = source.keyspace.entry(database, &key).filter(|entry| can_go(policy, entry));
            if entry.is_some_and(|entry| source.rank_of(rank, entry) >= noted) {
                return Some((database, key));
            }
        }
        // All candidates have been used since: whatever can go now is as good.
        source.any(policy)
    }

    fn offer(&mut self, rank: u64, database: u32, key: &[u8]) {
        if self.candidates.iter().any(|known| known.database == database && known.key == key) {
            return;
        }
        let at = self.candidates.partition_point(|known| known.rank < rank);
        if self.candidates.len() == CANDIDATES_MAX {
            if at == 0 {
                return;
            }
            self.candidates.remove(0);
            self.candidates.insert(at - 1, Candidate { rank, database, key: key.to_vec() });
        } else {
            self.candidates.insert(at, Candidate { rank, database, key: key.to_vec() });
        }
    }
}

fn can_go(policy: EvictionPolicy, entry: &Entry) -> bool {
    match policy {
        EvictionPolicy::None => false,
        EvictionPolicy::AllKeys(_) => true,
        EvictionPolicy::Volatile(_) => entry.expires_at_ms() != 0,
    }
}

impl EvictionSource<'_> {
    fn rank_of(&self, rank: EvictionRank, entry: &Entry) -> u64 {
        match rank {
            EvictionRank::Recency => u64::from(u32::MAX - self.accessed_second(entry)),
            EvictionRank::Frequency => 255 - u64::from(self.count_of(entry)),
            EvictionRank::TimeToLive => u64::MAX - entry.expires_at_ms(),
            EvictionRank::Random => 0,
        }
    }

    fn accessed_second(&self, entry: &Entry) -> u32 {
        match entry.access() {
            0 => second_of(self.started_ms),
            second => second,
        }
    }

    fn count_of(&self, entry: &Entry) -> u32 {
        match self.mode {
            AccessMode::Frequency(settings) => settings.count(entry.access(), self.now_ms),
            AccessMode::Recency => 0,
        }
    }

    fn each_sample<'s>(
        &'s self,
        policy: EvictionPolicy,
        samples: usize,
        each: &mut dyn FnMut(u32, &'s Entry),
    ) {
        for (number, database) in self.keyspace.databases().iter().enumerate() {
            for _ in 0..samples {
                if let Some(entry) = self.sample(policy, database) {
                    each(number as u32, entry);
                }
            }
        }
    }

    fn sample<'s>(&self, policy: EvictionPolicy, database: &'s Database) -> Option<&'s Entry> {
        match policy {
            EvictionPolicy::Volatile(_) => database.sample_expiring(self.random),
            _ => database.sample((self.random)(), (self.random)()),
        }
    }

    /// Some key that can go, of any database that has one.
    fn any(&self, policy: EvictionPolicy) -> Option<(u32, Vec<u8>)> {
        let databases = self.keyspace.databases();
        let start = (self.random)() as usize % databases.len().max(1);
        (0..databases.len()).map(|step| (start + step) % databases.len()).find_map(|number| {
            let entry = self.sample(policy, &databases[number]).filter(|entry| can_go(policy, entry))?;
            Some((number as u32, entry.key().to_vec()))
        })
    }
}
