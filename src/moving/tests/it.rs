//! `import` and `export`: files of real servers, damage, interruptions, and a real Redis at both ends.

use engramdb_engine::backup::begin_import;
use engramdb_engine::data_dir::{DataDirError, IMPORTING_FILE, check_data_directory};
use engramdb_engine::env::Env;
use engramdb_engine::recovery::{StartOptions, open_directory};
use engramdb_engine::snapshot::digest::keyspace_digests;
use engramdb_moving::{ExportArgs, ExportFormat, ImportArgs, MoveError, ProgramParts, export, import};
use engramdb_rdb::{FileWriter, module_id, writer};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::machine::Need;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::process::TempDir;
use engramdb_testkit::tcp::Client;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// Written by a redis-server 8.2.3 with RedisJSON.
const SMALL: &[u8] = include_bytes!("../../../tests/data/small.rdb");

fn parts<T>(with: impl FnOnce(ProgramParts<'_>) -> T) -> T {
    with(ProgramParts { modules: &Vec::new, commands: &[], derived: &[], version: "test" })
}

fn to_directory(file: &Path, directory: &Path) -> ImportArgs {
    ImportArgs {
        file: Some(file.to_owned()),
        from: None,
        dir: Some(directory.to_owned()),
        to: None,
        replace: false,
        skip_modules: false,
        scan: false,
        json: true,
    }
}

fn imported(arguments: &ImportArgs) -> Result<Json, MoveError> {
    let env = Env::system();
    let mut out = Vec::new();
    parts(|parts| import(&env, arguments, parts, &mut out))?;
    Ok(serde_json::from_slice(&out).expect("it prints JSON"))
}

fn exported(directory: &Path, file: &Path, format: ExportFormat) -> Json {
    let env = Env::system();
    let arguments =
        ExportArgs { file: file.to_owned(), dir: directory.to_owned(), from: None, format, json: true };
    let mut out = Vec::new();
    parts(|parts| export(&env, &arguments, parts, &mut out)).expect("the directory is whole");
    serde_json::from_slice(&out).expect("it prints JSON")
}

fn write(directory: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    let file = Env::system().disk.create(&path).expect("the directory is writable");
    file.write_at(content, 0).expect("the directory is writable");
    path
}

/// The digests of all databases.
fn content(directory: &Path) -> String {
    let env = Env::system();
    let (engine, _) = open_directory(&env, directory, &Vec::new, Default::default(), StartOptions::default())
        .expect("it starts");
    let run = engine.inspect();
    let found = format!("{:?}", keyspace_digests(run.view(0).whole_keyspace()));
    drop(run);
    engine.close().expect("the disk is fine");
    found
}

/// A file of types that are all here.
fn plain_file() -> Vec<u8> {
    let mut file = FileWriter::begin(Vec::new(), 12, &[]).expect("memory");
    for number in 0..2000u64 {
        let mut value = Vec::new();
        match number % 3 {
            0 => writer::string(format!("value {number}").as_bytes(), &mut value),
            1 => {
                writer::timed_hash(2, 4_000_000_000_000, &mut value);
                let text = number.to_string();
                writer::timed_field(
                    4_000_000_000_000,
                    (b"a", text.as_bytes()),
                    4_000_000_000_000,
                    &mut value,
                );
                writer::timed_field(4_000_000_000_000, (b"b", b"2"), 0, &mut value);
            }
            _ => {
                writer::sorted_set(1, &mut value);
                writer::scored(b"member", number as f64 / 3.0, &mut value);
            }
        }
        let expires_at_ms = if number % 5 == 0 { 4_000_000_000_000 } else { 0 };
        file.key((number % 2) as u32, format!("key:{number}").as_bytes(), expires_at_ms, &value)
            .expect("memory");
    }
    file.finish().expect("memory")
}

#[test]
fn what_is_exported_is_imported_again() {
    let work = TempDir::new("moving");
    let [first, second] = ["first", "second"].map(|name| work.path().join(name));
    let file = write(&work, "plain.rdb", &plain_file());
    let report = imported(&to_directory(&file, &first)).expect("it is whole");
    assert_eq!(report["keys"], 2000);
    let before = content(&first);
    let again = work.path().join("again.rdb");
    assert_eq!(exported(&first, &again, ExportFormat::Rdb)["types"], report["types"]);
    imported(&to_directory(&again, &second)).expect("it is whole");
    assert_eq!(content(&second), before);
    // A directory with data is none for another import.
    let refused = imported(&to_directory(&file, &first)).expect_err("it has data").to_string();
    assert!(refused.contains("is not empty"), "{refused}");
}

#[test]
fn damage_at_every_byte_is_an_error_and_leaves_nothing() {
    let work = TempDir::new("moving");
    let directory = work.path().join("data");
    for at in 0..SMALL.len() {
        let mut damaged = SMALL.to_vec();
        damaged[at] ^= 0x5a;
        let file = write(&work, "damaged.rdb", &damaged);
        let error = imported(&to_directory(&file, &directory)).expect_err("it is damaged");
        assert!(
            matches!(error, MoveError::Rdb { .. } | MoveError::UnknownModules { .. }),
            "byte {at}: {error}"
        );
        assert!(!directory.exists(), "byte {at}: nothing was written");
        Env::system().disk.remove(&file).expect("it was written above");
    }
}

#[test]
fn a_large_value_comes_in_parts() {
    let work = TempDir::new("moving");
    let directory = work.path().join("data");
    let mut value = Vec::new();
    let filler = |number: u32| (0..100).map(|at| number.wrapping_mul(at * at + 7) as u8).collect::<Vec<u8>>();
    writer::hash(120_000, &mut value);
    for number in 0..120_000u32 {
        writer::put_string(number.to_string().as_bytes(), &mut value);
        writer::put_string(&filler(number), &mut value);
    }
    assert!(value.len() > 5 << 20, "it is beyond what is restored at once");
    let mut file = FileWriter::begin(Vec::new(), 12, &[]).expect("memory");
    file.key(0, b"large", 4_000_000_000_000, &value).expect("memory");
    let file = write(&work, "large.rdb", &file.finish().expect("memory"));
    let report = imported(&to_directory(&file, &directory)).expect("it is whole");
    assert_eq!(report["types"]["hash"]["parts"], 120_000);
    let again = work.path().join("again.rdb");
    assert_eq!(exported(&directory, &again, ExportFormat::Rdb)["types"]["hash"]["parts"], 120_000);
}

#[test]
fn unknown_modules_are_refused_by_name_or_left_out() {
    let work = TempDir::new("moving");
    let directory = work.path().join("data");
    let mut file = FileWriter::begin(Vec::new(), 11, &[]).expect("memory");
    let mut value = Vec::new();
    writer::string(b"value", &mut value);
    file.key(0, b"before", 0, &value).expect("memory");
    value.clear();
    writer::module_string(module_id("MBbloom--", 4).expect("a name"), b"bits", &mut value);
    file.key(0, b"bloom", 0, &value).expect("memory");
    let file = write(&work, "bloom.rdb", &file.finish().expect("memory"));
    let arguments = to_directory(&file, &directory);
    let refused = imported(&arguments).expect_err("it is not known").to_string();
    assert!(refused.contains("MBbloom-- (1 keys)") && refused.contains("--skip-modules"), "{refused}");
    assert!(!directory.exists());
    let report = imported(&ImportArgs { skip_modules: true, ..arguments }).expect("the rest is known");
    assert_eq!((&report["keys"], &report["skipped_keys"]), (&1.into(), &1.into()));
    assert_eq!(report["skipped_types"]["MBbloom--"], 1);
}

#[test]
fn an_interrupted_import_is_no_data_directory_and_begins_anew() {
    let work = TempDir::new("moving");
    let (env, directory) = (Env::system(), work.path().join("data"));
    let file = write(&work, "plain.rdb", &plain_file());
    // What a kill leaves: a log with some data, and the marker.
    imported(&to_directory(&file, &directory)).expect("it is whole");
    let whole = content(&directory);
    env.disk.create(&directory.join(IMPORTING_FILE)).expect("it is writable");
    let refused = check_data_directory(&*env.disk, &directory).expect_err("it is marked");
    assert!(matches!(refused, DataDirError::Importing { .. }), "{refused}");
    assert!(
        open_directory(&env, &directory, &Vec::new, Default::default(), StartOptions::default()).is_err()
    );
    imported(&to_directory(&file, &directory)).expect("it begins anew");
    assert_eq!(content(&directory), whole);
    // A file in the directory itself is spared.
    let second = work.path().join("second");
    begin_import(&env, &second, &[], &[]).expect("it is empty");
    let inside = second.join("dump.rdb");
    env.disk.create(&inside).and_then(|file| file.write_at(&plain_file(), 0)).expect("it is writable");
    imported(&to_directory(&inside, &second)).expect("it begins anew");
    assert!(inside.exists());
}

/// What a real Redis has is the same after it went through files and a directory here, and back.
#[test]
fn a_real_redis_at_both_ends() {
    if Need::Packages.is_missing() {
        return;
    }
    let work = TempDir::new("moving");
    let oracle = Oracle::start();
    let address = format!("127.0.0.1:{}", oracle.port);
    let mut client = Client::connect(&address, Protocol::Resp3);
    for command in [
        &["SET", "text", "some text, some text, some text"][..],
        &["SET", "number", "-70000", "PXAT", "4000000000000"],
        &["HSET", "hash", "a", "1", "b", "two"],
        &["HSET", "timed", "a", "1", "b", "two"],
        &["HPEXPIREAT", "timed", "4000000000000", "FIELDS", "1", "a"],
        &["ZADD", "scores", "1.5", "a", "-inf", "b"],
        &["RPUSH", "list", "a", "17", "-5", "some longer element of the list"],
        &["SADD", "numbers", "1", "2", "300"],
        &["SADD", "set", "a", "17", "b"],
        &["XADD", "stream", "5-1", "name", "a", "n", "17"],
        &["XADD", "stream", "5-2", "other", "text"],
        &["XDEL", "stream", "5-2"],
        &["XGROUP", "CREATE", "stream", "workers", "0"],
        &["XREADGROUP", "GROUP", "workers", "me", "STREAMS", "stream", ">"],
        &["XGROUP", "CREATE", "empty", "second", "0", "MKSTREAM"],
    ] {
        assert!(!client.run(command).is_error(), "{command:?}");
    }
    let before = shown(&mut client);
    for (name, scan) in [("copy", false), ("scan", true)] {
        let directory = work.path().join(name);
        let from = Some(address.clone());
        let arguments = ImportArgs { file: None, from, scan, ..to_directory(Path::new(""), &directory) };
        let report = imported(&arguments).expect("the server grants it");
        assert_eq!(report["keys"], 10, "{report}");
        assert_eq!(report["source"].as_str().is_some_and(|how| how.contains("SCAN")), scan, "{report}");
        let file = work.path().join(format!("{name}.rdb"));
        exported(&directory, &file, ExportFormat::Rdb);
        let whole = Env::system().disk.read(&file).expect("it was written above");
        let loaded = Oracle::start_on(&whole);
        let mut other = Client::connect(&format!("127.0.0.1:{}", loaded.port), Protocol::Resp3);
        assert_eq!(shown(&mut other), before, "{name}: a Redis starts on it");
        let arguments =
            ImportArgs { dir: None, to: Some(address.clone()), ..to_directory(&file, &directory) };
        let refused = imported(&arguments).expect_err("it has keys").to_string();
        assert!(refused.contains("--replace"), "{refused}");
        client.run(&["FLUSHALL"]);
        imported(&arguments).expect("Redis reads what was exported");
        assert_eq!(shown(&mut client), before, "{name}");
        let file = work.path().join(format!("{name}.resp"));
        exported(&directory, &file, ExportFormat::Commands);
        client.run(&["FLUSHALL"]);
        client.send_raw(&Env::system().disk.read(&file).expect("it was written above"));
        client.send(&["ECHO", "the end"]);
        while client.receive().as_bytes() != Some(b"the end") {}
        assert_eq!(shown(&mut client), before, "{name}, as commands");
    }
}

fn shown(client: &mut Client) -> Vec<Value> {
    let reads: [&[&str]; 15] = [
        &["DBSIZE"],
        &["GET", "text"],
        &["GET", "number"],
        &["PEXPIRETIME", "number"],
        &["HGETALL", "hash"],
        &["HGETALL", "timed"],
        &["HPEXPIRETIME", "timed", "FIELDS", "2", "a", "b"],
        &["ZRANGE", "scores", "0", "-1", "WITHSCORES"],
        &["LRANGE", "list", "0", "-1"],
        &["SORT", "numbers"],
        &["SORT", "set", "ALPHA"],
        // Commands cannot say when a consumer was seen.
        &["XINFO", "STREAM", "stream"],
        &["XINFO", "GROUPS", "stream"],
        &["XPENDING", "stream", "workers"],
        &["XINFO", "STREAM", "empty"],
    ];
    reads.iter().map(|words| client.run(words)).collect()
}
