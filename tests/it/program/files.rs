//! Directories whose files are shared with another directory, or missing.

use super::{engramdb, text};
use engramdb_testkit::process::{self, Server, TempDir};
use std::path::Path;

/// Makes a copy of a data directory by hard links.
fn copy_by_hard_links(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-al").args([from, to]).status().expect("cp is there");
    assert!(copied.success(), "{}", to.display());
}

/// Starts a server that must refuse to start. Returns its output.
fn refused(directory: &Path) -> String {
    let port = process::free_port().to_string();
    let output = engramdb(&["serve", "--port", &port, "--dir", directory.to_str().expect("text")]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// The story: both servers wrote to the same segment, and acknowledged writes of one of them were lost.
#[test]
fn a_copy_by_hard_links_is_refused_while_a_server_writes_to_its_files() {
    let directory = TempDir::new("linked");
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    std::fs::create_dir(&one).expect("the directory is writable");
    let first = Server::start(&one, &[]);
    text(&mut first.client(), &["SET", "before", "1"]);
    std::fs::remove_file(one.join("shards/0/log/LOCK")).expect("it is there");
    copy_by_hard_links(&one, &two);
    let text_of_refusal = refused(&two);
    let segment = two.join("shards/0/log/0000000000000001.log");
    let wanted = format!("another process has {} open for writing", segment.display());
    assert!(text_of_refusal.contains(&wanted), "{text_of_refusal}");
    text(&mut first.client(), &["SET", "after", "1"]);
    first.kill();

    // Once the first server has ended, the copy is a normal store, and neither changes the other's files.
    let second = Server::start(&two, &[]);
    text(&mut second.client(), &["SET", "of the second", "1"]);
    let first = Server::start(&one, &[]);
    for number in 0..200 {
        let (key, value) = (format!("key:{number}"), "x".repeat(500_000));
        text(&mut first.client(), &["SET", &key, &value]);
        text(&mut second.client(), &["SET", &key, &value]);
    }
    first.kill();
    second.kill();
    let (first, second) = (Server::start(&one, &[]), Server::start(&two, &[]));
    for server in [&first, &second] {
        let mut client = server.client();
        let keys = ["EXISTS", "before", "after", "key:0", "key:199"];
        assert_eq!(text(&mut client, &keys), "4");
    }
    assert_eq!(text(&mut first.client(), &["EXISTS", "of the second"]), "0");
    assert_eq!(text(&mut second.client(), &["EXISTS", "of the second"]), "1");
}

/// The story: the store started empty, and said that it had recovered 0 keys.
#[test]
fn a_log_that_has_lost_all_its_segments_is_refused() {
    let directory = TempDir::new("lost");
    let server = Server::start(directory.path(), &[]);
    text(&mut server.client(), &["SET", "a", "1"]);
    server.kill();
    let log = directory.path().join("shards/0/log");
    for entry in std::fs::read_dir(&log).expect("it is there").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(entry.path()).expect("it is ours");
        }
    }
    let told = refused(directory.path());
    let wanted = format!("the log in {} has lost all its segments", log.display());
    assert!(told.contains(&wanted) && told.contains("engramdb restore"), "{told}");
    std::fs::remove_dir_all(&log).expect("it is ours");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(text(&mut server.client(), &["DBSIZE"]), "0");
}

/// A directory as development versions wrote it before the first release: the log at its top.
#[test]
fn a_directory_with_the_old_layout_is_refused_and_left_as_it_is() {
    let directory = TempDir::new("old-layout");
    let log = directory.path().join("log");
    std::fs::create_dir(&log).expect("the directory is writable");
    std::fs::write(log.join("0000000000000001.log"), b"of an older version").expect("it is writable");
    let dir = directory.path().to_str().expect("text");
    let wanted = format!("{dir} was written by a development version from before the first release");
    let told = refused(directory.path());
    assert!(told.contains(&wanted) && told.contains("`shards/0/log`"), "{told}");
    let beside = TempDir::new("old-layout-copy");
    let target = beside.path().join("to");
    let to = target.to_str().expect("text");
    let tools: [&[&str]; 6] = [
        &["log", "verify", "--dir", dir],
        &["log", "dump", "--dir", dir],
        &["snapshot", "create", "--dir", dir],
        &["backup", "--dir", dir, "--to", to],
        &["backup", "verify", dir],
        &["restore", "--from", dir, "--to", to],
    ];
    for tool in tools {
        let output = engramdb(tool);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(&wanted), "{tool:?}: {told}");
    }
    let names =
        std::fs::read_dir(directory.path()).expect("it is there").flatten().map(|entry| entry.file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["log"], "nothing was made beside it");
}
