//! SIGKILL of an import: what it leaves is no data directory, and the same command fills it from the
//! beginning.

use engramdb_rdb::{FileWriter, writer};
use engramdb_testkit::process::{Server, TempDir, free_port, program, until};
use std::path::Path;
use std::process::{Command, Stdio};

const KEYS: u64 = 20_000;
const ROUNDS: u64 = 6;

/// A file of strings and hashes, a third of which expire.
fn file() -> Vec<u8> {
    let mut file = FileWriter::begin(Vec::new(), writer::VERSION, &[]).expect("memory");
    let mut value = Vec::new();
    for number in 0..KEYS {
        value.clear();
        let text = number.to_string();
        if number % 2 == 0 {
            writer::string(text.repeat(20).as_bytes(), &mut value);
        } else {
            writer::hash(2, &mut value);
            [&b"number"[..], text.as_bytes(), b"text", &[b'x'; 100]]
                .iter()
                .for_each(|word| writer::put_string(word, &mut value));
        }
        let expires_at_ms = if number % 3 == 0 { 4_000_000_000_000 } else { 0 };
        file.key((number % 2) as u32, format!("key:{number}").as_bytes(), expires_at_ms, &value)
            .expect("memory");
    }
    file.finish().expect("memory")
}

/// The bytes of all files below a directory.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let of = |path: &Path| {
        if path.is_dir() { bytes_below(path) } else { path.metadata().map_or(0, |found| found.len()) }
    };
    entries.flatten().map(|entry| of(&entry.path())).sum()
}

fn importing(file: &Path, directory: &Path) -> Command {
    let mut command = program();
    command.arg("import").arg(file).arg("--dir").arg(directory);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn an_import_that_was_killed_is_no_data_directory() {
    let work = TempDir::new("killed-import");
    let (path, directory) = (work.path().join("dump.rdb"), work.path().join("data"));
    std::fs::write(&path, file()).expect("the directory is writable");
    let marker = directory.join("IMPORTING");
    let mut killed = 0;
    for round in 0..ROUNDS {
        let mut child = importing(&path, &directory).spawn().expect("the binary was built with the tests");
        let log = directory.join("shards");
        // Later in each round; the log is written from the first key on.
        until("the import does not go on", || {
            marker.exists() && bytes_below(&log) >= round * 300_000
                || child.try_wait().is_ok_and(|end| end.is_some())
        });
        child.kill().expect("it is our own child");
        child.wait().expect("it is our own child");
        if !marker.exists() {
            break;
        }
        killed += 1;
        let port = free_port().to_string();
        for words in [&["serve", "--port", &port][..], &["export", "all.rdb"]] {
            let output = program().args(words).arg("--dir").arg(&directory).current_dir(work.path()).output();
            let output = output.expect("the binary was built with the tests");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains("import"), "round {round}, {words:?}: {text}");
        }
    }
    assert!(killed > 0, "no import was killed in the middle");
    if marker.exists() {
        assert!(importing(&path, &directory).status().expect("it runs").success(), "it begins anew");
    }
    let server = Server::start(&directory, &[]);
    let mut client = server.client();
    for database in ["0", "1"] {
        client.call(&["SELECT", database]).expect("the server answers");
        let keys = client.call(&["DBSIZE"]).expect("the server answers");
        assert_eq!(keys.as_int(), Some(KEYS as i64 / 2));
    }
}
