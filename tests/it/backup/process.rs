//! The commands of the real binary: beside a running server, with an index, on the real disk.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

use engramdb_testkit::process::{Client, Server, TempDir, free_port, program};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Runs `engramdb` with these arguments. Returns whether it succeeded, and its output.
pub fn engramdb(arguments: &[&str]) -> (bool, String) {
    let output = program().args(arguments).output().expect("the binary was built with the tests");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub fn succeed(arguments: &[&str]) -> String {
    let (succeeded, text) = engramdb(arguments);
    assert!(succeeded, "{arguments:?}: {text}");
    text
}

fn refused(arguments: &[&str]) -> String {
    let (succeeded, text) = engramdb(arguments);
    assert!(!succeeded, "{arguments:?}: {text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

fn inodes(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).expect("it is a folder").flatten();
    let with_inode = |entry: std::fs::DirEntry| {
        (PathBuf::from(entry.file_name()), entry.metadata().expect("it is there").ino())
    };
    let mut found: Vec<_> = entries.map(with_inode).collect();
    found.sort();
    found
}

/// The names under which both folders contain the same file (hard links).
fn linked(one: &Path, two: &Path) -> Vec<PathBuf> {
    let two = inodes(two);
    inodes(one).into_iter().filter(|file| two.contains(file)).map(|(name, _)| name).collect()
}

fn vector(number: u32) -> Vec<u8> {
    [number as f32, 1.0, -(number as f32)].iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// Makes an index and documents with vectors.
pub fn load(client: &mut Client, documents: u32) {
    let create = "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA colour TAG embedding VECTOR HNSW 6 TYPE FLOAT32 DIM 3 \
                  DISTANCE_METRIC L2";
    let created = client.call(&create.split_whitespace().collect::<Vec<_>>()).expect("the server answers");
    assert!(!created.is_error(), "{created:?}");
    for number in 0..documents {
        let (key, vector) = (format!("doc:{number}"), vector(number));
        let words: [&[u8]; 6] = [b"HSET", key.as_bytes(), b"colour", b"red", b"embedding", &vector];
        assert!(!client.call(&words).expect("the server answers").is_error());
    }
}

/// The answers to some searches.
pub fn answers(client: &mut Client) -> Vec<String> {
    let ask = |number: u32| {
        let vector = vector(number);
        let query = b"@colour:{red}=>[KNN 5 @embedding $q AS distance]";
        let words: [&[u8]; 8] = [b"FT.SEARCH", b"docs", query, b"PARAMS", b"2", b"q", &vector, b"DIALECT"];
        let words = [&words[..], &[b"2"]].concat();
        format!("{:?}", client.call(&words).expect("the server answers"))
    };
    [0, 7, 150, 299].map(ask).to_vec()
}

#[test]
fn a_backup_of_a_running_server_comes_back_with_its_index_and_graph() {
    let place = TempDir::new("backup");
    let [data, linked_to, copied_to, restored, moved] =
        ["data", "linked", "copied", "restored", "moved"].map(|name| place.path().join(name));
    std::fs::create_dir(&data).expect("a writable directory");
    let server = Server::start(&data, &[]);
    let mut client = server.client();
    load(&mut client, 300);
    assert!(!client.call(&["SAVE"]).expect("the server answers").is_error());
    client.call(&["SET", "after", "the snapshot"]).expect("the server answers");
    let expected = answers(&mut client);

    let made = succeed(&["backup", "--dir", text(&data), "--to", text(&linked_to)]);
    assert!(
        made.contains("a snapshot of 300 keys, and 1 batches of the log") && made.contains("Next: copy"),
        "{made}"
    );
    let of_snapshots = linked(&data.join("shards/0/snapshots"), &linked_to.join("shards/0/snapshots"));
    assert!(of_snapshots.len() == 1 && text(&of_snapshots[0]).ends_with(".snapshot"), "{of_snapshots:?}");
    assert_eq!(
        linked(&data.join("shards/0/log"), &linked_to.join("shards/0/log")),
        Vec::<PathBuf>::new(),
        "those are still written"
    );
    assert_eq!(linked(&data.join("shards/0/indexes"), &linked_to.join("shards/0/indexes")).len(), 1);
    succeed(&["backup", "--dir", text(&data), "--to", text(&copied_to), "--copy"]);
    for folder in ["shards/0/snapshots", "shards/0/log", "shards/0/indexes"] {
        assert_eq!(linked(&data.join(folder), &copied_to.join(folder)), Vec::<PathBuf>::new());
    }
    let verified = succeed(&["backup", "verify", text(&linked_to)]);
    assert!(verified.contains("is good: a snapshot of 300 keys"), "{verified}");
    let verified = succeed(&["backup", "verify", text(&linked_to), "--json"]);
    let verified: serde_json::Value = serde_json::from_str(&verified).expect("JSON");
    assert_eq!(verified["problems"], serde_json::json!([]));

    // The data directory is no longer needed. A backup may be moved.
    server.kill();
    std::fs::remove_dir_all(&data).expect("it is there");
    std::fs::rename(&copied_to, &moved).expect("the same file system");
    let told = succeed(&["restore", "--from", text(&moved), "--to", text(&restored)]);
    assert!(told.contains(&format!("Next: engramdb serve --dir {}", restored.display())), "{told}");
    let server = Server::start(&restored, &[]);
    let mut client = server.client();
    assert_eq!(answers(&mut client), expected);
    assert_eq!(client.call(&["GET", "after"]).expect("the server answers").as_str(), Some("the snapshot"));
    let log = std::fs::read_to_string(restored.join("server.log")).expect("the server writes it");
    assert!(log.contains("300 graph nodes loaded, 0 inserted again"), "{log}");
    assert!(!client.call(&["SAVE"]).expect("the server answers").is_error());
    assert!(server.shut_down());
    succeed(&["snapshot", "verify", "--dir", text(&restored)]);
    let verified = succeed(&["log", "verify", "--dir", text(&restored)]);
    assert!(verified.contains("; restored from log "), "{verified}");
    drop(Server::start(&restored, &[]));
}

#[test]
fn a_copy_of_the_snapshots_directory_comes_back() {
    let place = TempDir::new("backup-snapshots");
    let [data, restored] = ["data", "restored"].map(|name| place.path().join(name));
    std::fs::create_dir(&data).expect("a writable directory");
    let server = Server::start(&data, &[]);
    let mut client = server.client();
    load(&mut client, 300);
    assert!(!client.call(&["SAVE"]).expect("the server answers").is_error());
    let expected = answers(&mut client);
    server.kill();
    let snapshots = data.join("shards/0/snapshots");
    let told = succeed(&["restore", "--from", text(&snapshots), "--to", text(&restored)]);
    assert!(told.contains("It is a snapshot alone"), "{told}");
    let server = Server::start(&restored, &[]);
    assert_eq!(answers(&mut server.client()), expected);
}

#[test]
fn mistakes_are_refused_with_a_text_that_says_what_to_do() {
    let place = TempDir::new("backup-mistakes");
    let [data, backup, fresh] = ["data", "backup", "fresh"].map(|name| place.path().join(name));
    std::fs::create_dir(&data).expect("a writable directory");
    let nowhere = place.path().join("nowhere");
    let says = refused(&["backup", "--dir", text(&nowhere), "--to", text(&backup)]);
    assert!(says.contains("nowhere is no data directory: it has no log"), "{says}");
    assert!(!backup.exists(), "nothing was made");
    drop(Server::start(&data, &[]));
    assert!(refused(&["backup", "--dir", text(&data)]).contains("--to <DIRECTORY>"));
    let says = refused(&["backup", "--dir", text(&data), "--to", text(&data)]);
    assert!(says.contains("is not empty: it has"), "{says}");
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("a writable directory");
    for inside in [data.join("sub"), data.join("shards/0/log/deep/sub"), link.join("sub")] {
        let says = refused(&["backup", "--dir", text(&data), "--to", text(&inside)]);
        assert!(says.contains("the data directory: give a directory outside of it with --to"), "{says}");
        assert!(!inside.exists(), "nothing was made");
    }
    succeed(&["backup", "--dir", text(&data), "--to", text(&backup)]);
    let says = refused(&["restore", "--from", text(&backup), "--to", text(&backup.join("sub"))]);
    assert!(says.contains("what is to be restored: give a directory outside of it with --to"), "{says}");
    let port = free_port().to_string();
    let says = refused(&["serve", "--port", &port, "--dir", text(&backup)]);
    assert!(says.contains("it is a backup. Restore it with `engramdb restore --from"), "{says}");
    let says = refused(&["backup", "verify", text(&data)]);
    assert!(says.contains("is a data directory, not a backup"), "{says}");
    let says = refused(&["restore", "--from", text(&backup), "--to", text(&data)]);
    assert!(says.contains("is not empty: it has"), "{says}");

    // Damage: verify names the file, restore refuses it and leaves no files.
    let segment = backup.join("shards/0/log/0000000000000001.log");
    let mut bytes = std::fs::read(&segment).expect("it is there");
    bytes[5000] ^= 16;
    std::fs::write(&segment, bytes).expect("it is writable");
    for says in [
        refused(&["backup", "verify", text(&backup)]),
        refused(&["restore", "--from", text(&backup), "--to", text(&fresh)]),
    ] {
        assert!(says.contains(&format!("{} is damaged at offset 0", segment.display())), "{says}");
    }
    assert!(!fresh.exists(), "the log is checked before anything is written");
    std::fs::create_dir(&fresh).expect("a writable directory");
    std::fs::write(fresh.join("RESTORING"), "as an interrupted restore leaves it").expect("it is writable");
    let says = refused(&["serve", "--port", &port, "--dir", text(&fresh)]);
    assert!(says.contains("was not restored to the end. Run the same `engramdb restore` again"), "{says}");
}

/// The work was done and checked, and only its report is lost: the standard error and the exit status say so.
#[test]
fn a_complete_result_stays_if_its_report_cannot_be_printed() {
    let place = TempDir::new("backup-unreported");
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| place.path().join(name));
    std::fs::create_dir(&data).expect("a writable directory");
    drop(Server::start(&data, &[]));
    for (arguments, what) in [
        (["backup", "--dir", text(&data), "--to", text(&backup)], "the backup in"),
        (["restore", "--from", text(&backup), "--to", text(&restored)], "the restored data directory in"),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output =
            program().args(arguments).stdout(full).output().expect("the binary was built with the tests");
        let says = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(says.contains(what) && says.contains("is whole and stays"), "{says}");
        assert!(says.contains("cannot write to the standard output"), "{says}");
    }
    succeed(&["backup", "verify", text(&backup)]);
    drop(Server::start(&restored, &[]));
}

/// A segment or a snapshot of another store in a backup means that directories were mixed. Files that people
/// add are harmless. A restore takes neither.
#[test]
fn files_that_the_manifest_does_not_name_are_reported_and_never_restored() {
    let place = TempDir::new("backup-extra");
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| place.path().join(name));
    std::fs::create_dir(&data).expect("a writable directory");
    let server = Server::start(&data, &[]);
    load(&mut server.client(), 50);
    assert!(!server.client().call(&["SAVE"]).expect("the server answers").is_error());
    assert!(server.shut_down());
    succeed(&["backup", "--dir", text(&data), "--to", text(&backup)]);
    let harmless = ["README", ".DS_Store", "shards/0/log/.nfs01"];
    for name in harmless {
        std::fs::write(backup.join(name), "a note").expect("it is writable");
    }
    let says = succeed(&["backup", "verify", text(&backup)]);
    for name in harmless {
        let path = backup.join(name);
        assert!(says.contains(&format!("{} is not of this backup; a restore", path.display())), "{says}");
    }
    assert!(says.contains("is good"), "{says}");
    let ours = [
        "shards/0/log/0000000000000009.log",
        "shards/0/log/wrong",
        "shards/0/snapshots/0000000000000001.snapshot",
        "shards/0/indexes/7.index",
        "0000000000000002.log",
        "0000000000000003.snapshot",
    ];
    for name in ours {
        std::fs::write(backup.join(name), "of another store").expect("it is writable");
        let says = refused(&["backup", "verify", text(&backup)]);
        let line = format!("{} is not of this backup: its manifest does not", backup.join(name).display());
        assert!(says.contains(&line) && says.contains("problems: 1."), "{says}");
        let json = program().args(["backup", "verify", text(&backup), "--json"]).output().expect("built");
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(
            (json["problems"].as_array().map(Vec::len), json["notes"].as_array().map(Vec::len)),
            (Some(1), Some(3))
        );
        succeed(&["restore", "--from", text(&backup), "--to", text(&restored)]);
        let left: Vec<_> = [&harmless[..], &[name]].concat();
        assert!(!left.iter().any(|name| restored.join(name).exists()), "{name} was restored");
        std::fs::remove_dir_all(&restored).expect("it was made");
        std::fs::remove_file(backup.join(name)).expect("it is ours");
    }
}
