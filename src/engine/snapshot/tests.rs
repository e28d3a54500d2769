use super::create::{CreateError, CreateOptions, CreateReport, LogSource};
use super::manifest::Manifest;
use super::*;
use crate::effect::{Cause, Effect, List, Record};
use crate::env::Env;
use crate::gate::OpenBatch;
use crate::keyspace::{Housing, Keyspace};
use crate::log::memory::MemoryLog;
use crate::log::pipeline::{Options, Pipeline};
use crate::log::replay::Recovered;
use crate::log::{LogId, Lsn, Pos, ShardLog};
use crate::module::{Applied, Follower, HousedContent, Module, ModuleEffect, ReadHash};
use crate::recovery::{self, StartError};
use crate::store::hook::Hook;
use crate::types::{House, Housed};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keeps a definition per database: the last payload. FLUSHALL removes them, SWAPDB exchanges them.
#[derive(Default)]
struct Definitions(BTreeMap<u32, Vec<u8>>, Arc<Listener>);

/// Hears of the keys of a snapshot, and keeps the longer contents of hashes itself.
#[derive(Default)]
struct Listener {
    keys: Mutex<BTreeSet<(u32, Vec<u8>)>>,
    housed: AtomicUsize,
}

impl Listener {
    fn hear(&self, database: u32, key: &[u8]) {
        let is_new = self.keys.lock().insert((database, key.to_vec()));
        assert!(is_new, "it hears of each key once: {}", key.escape_ascii());
    }
}

impl Follower for Listener {
    fn hashes(&self, database: u32, hashes: &[ReadHash<'_>]) -> Vec<HousedContent> {
        let mut all_housed = Vec::new();
        for (hash, read) in hashes.iter().enumerate() {
            self.hear(database, read.key);
            let pairs = read.fields.pairs().enumerate();
            for (pair, (_, content)) in pairs.filter(|(_, (_, content))| content.len() > 100) {
                self.housed.fetch_add(1, Ordering::Relaxed);
                let housed = Housed::new(Arc::new(Kept(content.to_vec())), 0);
                all_housed.push(HousedContent { hash, pair, housed });
            }
        }
        all_housed
    }

    fn loaded(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]) {
        for key in keys {
            self.hear(database, key);
            assert!(keyspace.entry(database, key).is_some());
        }
    }
}

struct Kept(Vec<u8>);

impl House for Kept {
    fn content(&self, _: u32) -> &[u8] {
        &self.0
    }
    fn release(&self, _: u32) {}
}

impl Module for Definitions {
    fn name(&self) -> &'static str {
        "definitions"
    }
    fn number(&self) -> u8 {
        9
    }
    fn list_version(&self) -> u32 {
        1
    }
    fn apply(
        &mut self,
        _: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        _: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        self.0.insert(effect.database, effect.payload.to_vec());
        Ok(())
    }
    fn follower(&self) -> Option<Arc<dyn Follower>> {
        Some(self.1.clone())
    }
    fn observe(&mut self, _: &mut Housing<'_>, applied: &Applied<'_>, _: &mut OpenBatch<'_>) {
        match applied.record.effect {
            Effect::FlushAll => self.0.clear(),
            Effect::SwapDatabases { first, second } => {
                let (one, two) = (self.0.remove(&first), self.0.remove(&second));
                self.0.extend(two.map(|definition| (first, definition)));
                self.0.extend(one.map(|definition| (second, definition)));
            }
            _ => {}
        }
    }
    fn save(&self, each: &mut dyn FnMut(&Record<'_>)) {
        for (&database, payload) in &self.0 {
            let effect = Effect::Module { module: 9, version: 1, kind: 1, key: None, payload };
            each(&Record { database, effect });
        }
    }
    fn recovered(&mut self, _: &mut Housing<'_>) -> Vec<String> {
        Vec::new()
    }
}

fn options() -> recovery::StartOptions {
    recovery::StartOptions { databases: 0, threads: 3, ..Default::default() }
}

fn modules() -> Vec<Box<dyn Module>> {
    vec![Box::new(Definitions::default())]
}

/// A log with its writer, the keyspace that was built from the same effects, and a directory for snapshots.
struct World {
    env: Env,
    directory: tempfile::TempDir,
    log: Arc<dyn ShardLog>,
    pipeline: Pipeline,
    lsn: Lsn,
    live: Keyspace,
    hook: Hook,
    definitions: Definitions,
    options: CreateOptions,
}

impl World {
    fn new(name: &str) -> World {
        let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([7; 16])));
        let options = Options { log_thread: false, ..Options::default() };
        let pipeline =
            Pipeline::start(log.clone(), &Recovered::default(), options).expect("nobody else claims");
        World {
            env: Env::system(),
            directory: tempfile::Builder::new()
                .prefix(name)
                .tempdir()
                .expect("the temporary directory is writable"),
            log,
            pipeline,
            lsn: Lsn(0),
            live: Keyspace::new(0),
            hook: Hook::default(),
            definitions: Definitions::default(),
            options: CreateOptions::default(),
        }
    }

    /// Applies the effects that fit, and logs them as one batch.
    fn batch(&mut self, effects: &[(u32, Effect<'_>)]) {
        let mut batch = Vec::new();
        self.lsn = self.lsn.next();
        for &(database, effect) in effects {
            let record = Record { database, effect };
            if let Effect::Module { version, kind, key: None, payload, .. } = effect {
                let effect = ModuleEffect { database, version, kind, payload };
                let applied =
                    self.definitions.apply(&mut Housing::of(&mut self.live), &effect, &mut self.hook.batch());
                applied.expect("it takes anything");
            } else if self.live.apply(&record).mismatch {
                continue;
            }
            let applied = Applied { record: &record, count: 1, observation: Cell::default() };
            self.definitions.observe(&mut Housing::of(&mut self.live), &applied, &mut self.hook.batch());
            effect.encode(database, &mut batch);
        }
        let mut credit = self.pipeline.admit(batch.len()).expect("memory has room");
        self.pipeline.submit(&mut credit, self.lsn, 1_000_000 + self.lsn.0, &batch);
        self.pipeline.pump();
    }

    fn create(&self) -> Result<CreateReport, CreateError> {
        let source = LogSource {
            log_id: self.log.id(),
            parent: LogId::default(),
            parent_pos: Pos(0),
            read: &|mark| self.log.read(mark),
        };
        create(&self.env, self.directory.path(), &source, &modules, &self.options)
    }

    fn recover(&self) -> Result<(recovery::Recovering, recovery::StartReport), StartError> {
        let recovered = recovery::recover(&self.env, self.directory.path(), &*self.log, &modules, &options());
        recovered.map(|(recovering, _, report)| (recovering, report))
    }

    /// What recovery brings back is what is live.
    fn check(&self) -> recovery::StartReport {
        let (recovering, report) = self.recover().expect("snapshot and log are whole");
        assert_same(&self.live, recovering.keyspace());
        let Definitions(definitions, listener) = recovering.modules().get();
        assert_eq!(self.definitions.0, *definitions);
        if report.batches == 0 {
            let keys = (0..).zip(self.live.databases()).flat_map(|(number, database)| {
                database.iter().map(move |entry| (number, entry.key().to_vec()))
            });
            assert_eq!(keys.collect::<BTreeSet<_>>(), *listener.keys.lock(), "a follower hears of all keys");
            let housed = recovering.keyspace().databases().iter().flat_map(|database| database.iter());
            let housed = housed.filter(|entry| entry.value().housed_bytes() > 0).count();
            assert!(housed <= listener.housed.load(Ordering::Relaxed));
        }
        report
    }

    fn manifest(&self) -> Manifest {
        Manifest::load(&*self.env.disk, self.directory.path()).expect("the manifest is whole")
    }

    fn newest(&self) -> PathBuf {
        self.directory.path().join(&self.manifest().newest().expect("one was made").file)
    }

    fn trim(&self) {
        let upto = self.manifest().trim_through(2).expect("two snapshots are there");
        self.log.trim(upto).expect("memory does not fail");
    }
}

fn assert_same(one: &Keyspace, two: &Keyspace) {
    assert_eq!(digest::keyspace_digests(one), digest::keyspace_digests(two));
    for (number, database) in one.databases().iter().enumerate() {
        for entry in database.iter() {
            let twin = two.entry(number as u32, entry.key()).expect("the digests agree on the keys");
            assert_eq!(entry.value(), twin.value(), "{:?}", String::from_utf8_lossy(entry.key()));
            assert_eq!(entry.expires_at_ms(), twin.expires_at_ms());
        }
        let twin = two.database(number as u32);
        assert_eq!(database.expiring(), twin.map_or(0, |database| database.expiring()));
    }
}

/// A random effect on few keys, so that they meet. `borders` allows Rename and Copy between any two keys.
fn random_batch(world: &mut World, random: &mut SmallRng, borders: bool) {
    let keys: Vec<Vec<u8>> = (0..random.random_range(1..6))
        .flat_map(|_| {
            let number = random.random_range(0..60);
            [format!("key:{number}"), format!("{{key:{number}}}:twin")]
        })
        .map(String::into_bytes)
        .collect();
    let words: Vec<Vec<u8>> = (0..8).map(|_| random_word(random)).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let many: Vec<Vec<u8>> =
        (0..2 * random.random_range(1..800)).map(|n| format!("f{n}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let fields = |random: &mut SmallRng| {
        List::Arguments(if random.random_bool(0.1) { &many } else { &words[..2 * random.random_range(1..4)] })
    };
    let mut effects = Vec::new();
    for pair in keys.chunks(2) {
        let (key, twin) = (pair[0].as_slice(), pair[1].as_slice());
        let to = if borders { keys[random.random_range(0..keys.len())].as_slice() } else { twin };
        let expires_at_ms = if random.random_bool(0.3) { 0 } else { random.random_range(1..9_000_000) };
        let (value, keep_expiry) = (words[0], random.random_bool(0.5));
        let effect = match random.random_range(0..100) {
            0..8 => Effect::Delete { key, cause: Cause::Command },
            8..16 => Effect::Expire { key, expires_at_ms },
            16..40 => Effect::StringSet { key, value, expires_at_ms },
            40..45 => Effect::StringAppend { key, suffix: value },
            45..50 => Effect::StringWrite { key, offset: random.random_range(0..50), content: value },
            50..72 => Effect::HashSet { key, fields: fields(random), keep_expiry },
            72..77 => Effect::HashDelete { key, fields: fields(random), cause: Cause::Expired },
            77..85 => Effect::HashExpire { key, fields: fields(random), expires_at_ms },
            85..89 if to != key => Effect::Rename { key, to },
            89..93 if to != key => Effect::Copy { key, to, to_database: random.random_range(0..3) },
            93..95 => Effect::Move { key, to_database: 2 },
            95 => Effect::Flush,
            96 if random.random_bool(0.2) => Effect::FlushAll,
            97 => Effect::SwapDatabases { first: 0, second: random.random_range(0..4) },
            _ => Effect::Module { module: 9, version: 1, kind: 1, key: None, payload: value },
        };
        effects.push((random.random_range(0..3), effect));
    }
    world.batch(&effects);
}

fn random_word(random: &mut SmallRng) -> Vec<u8> {
    match random.random_range(0..4) {
        0 => random.random_range(-1000..1000).to_string().into_bytes(),
        1 => vec![b'x'; random.random_range(0..5000)],
        2 => vec![b'0'; random.random_range(0..40)],
        _ => (0..random.random_range(0..40)).map(|_| random.random()).collect(),
    }
}

#[test]
fn snapshots_at_random_cuts_and_the_tail_bring_back_what_was_live() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(&format!("snapshot-cuts-{seed}"));
        let borders = seed % 4 == 0;
        // Small ones make values go to the file and come back after every few effects.
        world.options.carry_bytes = [1, 3_000, 100_000, 10 << 20][random.random_range(0..4)];
        let mut any_carried = false;
        for _ in 0..5 {
            for _ in 0..random.random_range(0..60) {
                random_batch(&mut world, &mut random, borders);
            }
            let report = world.create().expect("nothing is damaged");
            any_carried |= report.carried > 0;
            if let Some(created) = &report.created {
                assert_eq!(created.lsn, world.lsn.0);
            }
            let report = world.check();
            assert_eq!(report.batches, 0, "the snapshot has all");
            assert_eq!(report.snapshot, world.manifest().newest().cloned());
            assert!(world.manifest().snapshots.len() <= 2);
            if let Some(upto) = world.manifest().trim_through(2) {
                world.log.trim(upto).expect("memory does not fail");
            }
            for _ in 0..random.random_range(0..30) {
                random_batch(&mut world, &mut random, borders);
            }
            world.check();
        }
        assert_eq!(any_carried, borders, "seed {seed}");
    }
}

#[test]
fn a_tail_larger_than_the_buffers_goes_through_files() {
    let mut world = World::new("snapshot-spill");
    let large = vec![b'v'; 100_000];
    for round in 0..3 {
        for number in 0..20 {
            let key = format!("{{same slot}}{number}");
            let effect = Effect::StringSet { key: key.as_bytes(), value: &large[round..], expires_at_ms: 0 };
            world.batch(&[(0, effect)]);
        }
        world.create().expect("there is space");
        world.check();
    }
    let names = world.env.disk.list(world.directory.path()).expect("it is there");
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.ends_with(".snapshot")).count(), 2);
}

#[test]
fn a_follower_hears_of_hashes_once_however_blocks_cut_them() {
    let mut world = World::new("snapshot-follower");
    let contents: Vec<Vec<u8>> = (0..40).map(|n| vec![b'a' + n % 20; 997 * (usize::from(n) + 1)]).collect();
    for (number, content) in contents.iter().enumerate() {
        let key = format!("{{same slot}}{number}");
        let key = key.as_bytes();
        // Effects of up to 40 KB in blocks of 128 KB; and one hash that takes several.
        let fields: Vec<&[u8]> = match number {
            7 => {
                contents.iter().flat_map(|content| [&content[..20 + content.len() / 997], content]).collect()
            }
            _ => vec![b"number", b"7", b"content", content],
        };
        world.batch(&[(1, Effect::HashSet { key, fields: List::Arguments(&fields), keep_expiry: false })]);
        let names = List::Arguments(&[b"content"]);
        match number % 5 {
            0 => world.batch(&[(1, Effect::HashExpire { key, fields: names, expires_at_ms: 9_000_000 })]),
            1 => world.batch(&[(1, Effect::Expire { key, expires_at_ms: 9_000_000 })]),
            2 => world.batch(&[(1, Effect::StringSet { key: b"a string", value: key, expires_at_ms: 0 })]),
            _ => {}
        }
    }
    world.create().expect("there is something");
    world.check();
    let (recovering, _) = world.recover().expect("snapshot and log are whole");
    let entry = |number: usize| {
        let key = format!("{{same slot}}{number}");
        recovering.keyspace().entry(1, key.as_bytes()).expect("it is there")
    };
    let housed = (0..40).filter(|&number| entry(number).value().housed_bytes() == contents[number].len());
    assert!(housed.count() > 25, "most hashes are read whole, and then nothing of theirs stands twice");
    assert_eq!(entry(7).value().housed_bytes(), 0, "one that takes several effects is followed afterwards");
}

#[test]
fn nothing_new_makes_no_snapshot() {
    let mut world = World::new("snapshot-nothing");
    assert!(world.create().expect("an empty log is fine").created.is_none());
    world.batch(&[(0, Effect::StringSet { key: b"a", value: b"1", expires_at_ms: 0 })]);
    assert!(world.create().expect("there is something").created.is_some());
    assert!(world.create().expect("an empty tail is fine").created.is_none());
}

#[test]
fn only_one_snapshotter_runs_in_a_directory() {
    let mut world = World::new("snapshot-lock");
    world.batch(&[(0, Effect::StringSet { key: b"a", value: b"1", expires_at_ms: 0 })]);
    world.create().expect("there is something");
    let _held = world.env.disk.lock(world.directory.path()).expect("nobody has it");
    assert!(matches!(world.create(), Err(CreateError::Locked { .. })));
}

/// A world with a snapshot of a few keys of every kind.
fn small_world(name: &str) -> World {
    let mut world = World::new(name);
    let fields: List<'_> = List::Arguments(&[b"name", b"value", b"age", b"7"]);
    world.batch(&[
        (0, Effect::StringSet { key: b"a", value: b"1", expires_at_ms: 5 }),
        (1, Effect::HashSet { key: b"h", fields, keep_expiry: false }),
        (1, Effect::HashExpire { key: b"h", fields: List::Arguments(&[b"age"]), expires_at_ms: 77 }),
        (1, Effect::Expire { key: b"h", expires_at_ms: 99 }),
        (0, Effect::Module { module: 9, version: 1, kind: 1, key: None, payload: b"definition" }),
    ]);
    world.create().expect("there is something");
    world
}

fn load(world: &World, path: &Path) -> Result<(), SnapshotError> {
    let snapshot = SnapshotFile::open(&*world.env.disk, path)?;
    snapshot.load(&mut recovery::Recovering::new(world.env.clone(), 16, modules()), 1)
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let world = small_world("snapshot-flips");
    let bytes = world.env.disk.read(&world.newest()).expect("just written");
    let path = world.directory.path().join("damaged");
    let attempt = |bytes: &[u8]| {
        let file = world.env.disk.create(&path).expect("there is space");
        file.write_at(bytes, 0).expect("there is space");
        load(&world, &path)
    };
    attempt(&bytes).expect("nothing is changed yet");
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        let error = attempt(&damaged).expect_err("a flipped bit").to_string();
        assert!(error.contains("damaged is damaged at offset"), "byte {place}: {error}");
    }
    for length in 0..bytes.len() {
        assert!(attempt(&bytes[..length]).expect_err("a cut").is_damage());
    }
    attempt(&[&bytes[..], b"\0"].concat()).expect_err("more than was written");
}

#[test]
fn every_flipped_byte_of_the_manifest_is_refused_or_harmless() {
    let world = small_world("snapshot-manifest");
    let path = world.directory.path().join(manifest::MANIFEST_FILE);
    let bytes = world.env.disk.read(&path).expect("just written");
    let whole = world.manifest();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            world.env.disk.write_atomically(&path, &damaged).expect("there is space");
            if let Ok(manifest) = Manifest::load(&*world.env.disk, world.directory.path()) {
                assert_eq!(manifest, whole, "byte {place}");
            }
        }
    }
}

/// All checksums are right, so only the contradiction shows the forgery.
#[test]
fn a_forged_snapshot_of_no_batch_that_holds_keys_is_refused() {
    let world = small_world("snapshot-forged");
    let path = world.newest();
    let mut header = *SnapshotFile::open(&*world.env.disk, &path).expect("it is whole").header();
    let mut bytes = world.env.disk.read(&path).expect("just written");
    header.checkpoint.lsn = Lsn(0);
    let header = header.encode();
    let (rest, trailer) =
        bytes.split_last_chunk_mut::<{ format::TRAILER_BYTES }>().expect("it has a trailer");
    let mut totals = format::Trailer::decode(trailer).expect("it is whole");
    *trailer = totals.encode(&header, &rest[totals.footer_offset as usize..]);
    bytes[..header.len()].copy_from_slice(&header);
    world.env.disk.write_atomically(&path, &bytes).expect("there is space");
    let error = load(&world, &path).expect_err("no batch has made its keys");
    assert!(error.is_damage() && error.to_string().contains("no batch"), "{error}");
}

fn damage(world: &World, path: &Path) {
    let mut bytes = world.env.disk.read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.env.disk.write_atomically(path, &bytes).expect("there is space");
}

#[test]
fn a_damaged_snapshot_is_passed_over_while_the_log_reaches_back_and_refused_after() {
    let mut world = small_world("snapshot-fallback");
    let first = world.newest();
    world.batch(&[(0, Effect::StringSet { key: b"b", value: b"2", expires_at_ms: 0 })]);
    world.create().expect("there is something");
    let second = world.newest();
    world.trim();
    damage(&world, &second);
    let report = world.check();
    assert_eq!((report.batches, report.notes.len()), (1, 1), "the older snapshot and the log after it");
    damage(&world, &first);
    let Err(error) = world.recover() else { panic!("nothing is left to start from") };
    let text = error.to_string();
    for path in [&first, &second] {
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
    assert!(matches!(error, StartError::NoSnapshot { .. }));
}

#[test]
fn a_new_snapshot_is_built_past_a_damaged_one() {
    let mut world = small_world("snapshot-rebuild");
    damage(&world, &world.newest());
    world.batch(&[(0, Effect::StringSet { key: b"b", value: b"2", expires_at_ms: 0 })]);
    let report = world.create().expect("the log is whole");
    assert_eq!((report.batches, report.notes.len()), (2, 1));
    world.check();
}

#[test]
fn a_snapshot_of_another_log_or_of_a_missing_module_is_refused_by_name() {
    let world = small_world("snapshot-foreign");
    let refused = recovery::recover(&world.env, world.directory.path(), &*world.log, &Vec::new, &options());
    let text = refused.err().expect("the module is missing").to_string();
    assert!(text.contains("the module definitions (number 9)"), "{text}");
    let other = MemoryLog::new(LogId([8; 16]));
    let refused = recovery::recover(&world.env, world.directory.path(), &other, &modules, &options());
    assert!(matches!(refused.err().expect("another log"), StartError::ForeignLog { .. }));
}

/// Twenty keys and short values, hardly anything but effects that move values: chains, swaps by three
/// renames, copies that change afterwards, databases exchanged and flushed in between.
#[test]
fn values_carried_from_key_to_key_end_as_in_a_plain_replay() {
    for seed in 0..100 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new(&format!("snapshot-carried-{seed}"));
        world.options.carry_bytes = [1, 200, 2_000, 1 << 20][random.random_range(0..4)];
        for round in 0..4 {
            for _ in 0..random.random_range(1..200) {
                random_move(&mut world, &mut random);
            }
            let report = world.create().expect("nothing is damaged");
            assert_eq!(world.check().batches, 0, "seed {seed} round {round}: {report:?}");
        }
    }
}

fn random_move(world: &mut World, random: &mut SmallRng) {
    let names: Vec<Vec<u8>> =
        (0..3).map(|_| format!("k{}", random.random_range(0..20)).into_bytes()).collect();
    let [key, to, third] = [&names[0][..], &names[1][..], &names[2][..]];
    let word = random.random_range(0..1000).to_string().into_bytes();
    let fields = List::Arguments(&[b"f", &word, &word, b"v"]);
    let names = List::Arguments(&[b"f"]);
    let expires_at_ms = random.random_range(0..4);
    let (database, to_database) = (random.random_range(0..3), random.random_range(0..4));
    let other = |effect| (to_database, effect);
    let this = |effect| (database, effect);
    match random.random_range(0..100) {
        0..15 if key != to => world.batch(&[this(Effect::Rename { key, to })]),
        15..30 if key != to => world.batch(&[this(Effect::Copy { key, to, to_database })]),
        30..38 if to_database != database => world.batch(&[this(Effect::Move { key, to_database })]),
        38..46 if key != to && to != third && key != third => world.batch(&[
            this(Effect::Rename { key, to: third }),
            this(Effect::Rename { key: to, to: key }),
            this(Effect::Rename { key: third, to }),
        ]),
        46..50 => world.batch(&[this(Effect::Rename { key, to: key })]),
        50..60 => world.batch(&[this(Effect::StringSet { key, value: &word, expires_at_ms })]),
        60..65 => world.batch(&[this(Effect::StringAppend { key, suffix: &word })]),
        65..75 => world.batch(&[this(Effect::HashSet { key, fields, keep_expiry: true })]),
        75..80 => world.batch(&[this(Effect::HashExpire { key, fields: names, expires_at_ms })]),
        80..84 => {
            world.batch(&[this(Effect::HashDelete { key, fields: names, cause: Cause::Expired })]);
        }
        84..88 => world.batch(&[this(Effect::Expire { key, expires_at_ms })]),
        88..92 => world.batch(&[this(Effect::Delete { key, cause: Cause::Expired })]),
        92..95 => world.batch(&[other(Effect::SwapDatabases { first: database, second: to_database })]),
        95..97 => world.batch(&[this(Effect::Flush)]),
        97 if random.random_bool(0.3) => world.batch(&[this(Effect::FlushAll)]),
        _ => {}
    }
}

/// Many times the memory that it may take, every value of it moved: through one temporary name, in chains,
/// and by copies.
#[test]
fn a_snapshot_of_moved_values_takes_the_memory_of_one_range() {
    const KEYS: usize = 6_000;
    const VALUE_BYTES: usize = 4 << 10;
    let mut world = World::new("snapshot-carried-memory");
    world.options.carry_bytes = 1 << 20;
    let mut value = vec![b'v'; VALUE_BYTES];
    let mut set = |world: &mut World, key: &[u8], number: usize| {
        value[..8].copy_from_slice(&number.to_le_bytes());
        world.batch(&[(0, Effect::StringSet { key, value: &value, expires_at_ms: 0 })]);
    };
    for number in 0..KEYS {
        let (first, last) = (format!("first:{number}"), format!("last:{number}"));
        match number % 3 {
            0 => {
                set(&mut world, b"temporary", number);
                world.batch(&[(0, Effect::Rename { key: b"temporary", to: last.as_bytes() })]);
            }
            _ => set(&mut world, first.as_bytes(), number),
        }
    }
    // The second one finds the values in the first one.
    for step in ["middle", "last"] {
        for number in (0..KEYS).filter(|number| number % 3 != 0) {
            let before = if step == "last" { "middle" } else { "first" };
            let (key, to) = (format!("{before}:{number}"), format!("{step}:{number}"));
            let (key, to) = (key.as_bytes(), to.as_bytes());
            match number % 3 {
                1 => world.batch(&[(0, Effect::Rename { key, to })]),
                _ => world.batch(&[
                    (0, Effect::Copy { key, to, to_database: 1 }),
                    (1, Effect::Rename { key: to, to: key }),
                    (0, Effect::Move { key, to_database: 2 }),
                    (1, Effect::Move { key, to_database: 0 }),
                    (0, Effect::Rename { key, to }),
                ]),
            }
        }
        let report = world.create().expect("nothing is damaged");
        assert!(report.carried > KEYS as u64 / 2, "{report:?}");
        let all = world.live.heap_bytes();
        assert!(all > KEYS * VALUE_BYTES);
        assert!(report.held_bytes_max < all / 6, "{report:?} of {all}");
        world.check();
    }
}

/// The story: a length of 32 bits that grows with the data. Here a block may have 100 bytes instead of 4 GiB.
#[test]
fn no_length_in_the_file_grows_with_a_value() {
    let world = small_world("lengths");
    let mut live = Keyspace::new(1);
    let names: Vec<String> = (0..3000).map(|number| format!("field {number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let value = vec![b'v'; if number % 1000 == 0 { 200_000 } else { number % 50 }];
        let fields: [&[u8]; 2] = [name.as_bytes(), &value];
        let effect = Effect::HashSet { key: b"hash", fields: List::Arguments(&fields), keep_expiry: false };
        assert!(!live.apply(&Record { database: 0, effect }).mismatch);
    }
    let entry = live.entry(0, b"hash").expect("just made");
    let mut longest = 0;
    let mut measure = |effect: &Effect<'_>| {
        let mut bytes = Vec::new();
        effect.encode(0, &mut bytes);
        longest = longest.max(bytes.len());
        Ok(())
    };
    entry.save(&mut measure).expect("measuring does not fail");
    assert!((200_000..300_000).contains(&longest), "a value and little more: {longest}");

    let path = world.directory.path().join("lengths.snapshot");
    let header = *SnapshotFile::open(&*world.env.disk, &world.newest()).expect("it is whole").header();
    let writer = SnapshotWriter::create(&*world.env.disk, &path, &header).expect("the disk has room");
    let mut writer = writer.with_blocks_of_at_most(100);
    let content =
        format::SectionContent::Keys { database: 0, first_slot: 0, last_slot: crate::slot::SLOTS - 1 };
    writer.begin_section(content).expect("the disk has room");
    writer.entry(entry).expect("the disk has room");
    writer.finish().expect("the disk has room");
    let read = SnapshotFile::open(&*world.env.disk, &path).expect("it is whole");
    read.verify(&world.env, Vec::new()).expect("the same comes back");
}
