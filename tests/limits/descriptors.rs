//! The server with few file descriptors, or none left.

use engramdb_resp::Value;
use engramdb_testkit::process::{Client, Server, TempDir, until};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::net::TcpStream;
use std::path::PathBuf;

fn info(client: &mut Client, field: &str) -> u64 {
    let reply = client.call(&["INFO"]).expect("the server answers");
    let text = reply.as_str().expect("INFO is text").to_owned();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).expect("the field is there");
    line[field.len() + 1..].parse().expect("a number")
}

fn log_of(directory: &TempDir) -> String {
    std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there")
}

fn log_directory(directory: &TempDir) -> PathBuf {
    directory.path().join("shards/0/log")
}

fn segments_of(directory: &TempDir) -> usize {
    let names = std::fs::read_dir(log_directory(directory)).expect("the log's directory is there");
    names
        .filter(|name| name.as_ref().is_ok_and(|name| name.path().extension() == Some("log".as_ref())))
        .count()
}

/// Writes `mib` MiB, for which the log needs new segments. Fails with the text of the first refused write.
fn write_mib(client: &mut Client, mib: usize) -> Result<(), String> {
    let value = vec![b'x'; 1 << 20];
    for number in 0..mib {
        let key = format!("key:{}", number % 4);
        match client.call(&[b"SET", key.as_bytes(), &value]).expect("the server lives") {
            Value::Error(text) => return Err(String::from_utf8_lossy(&text).into_owned()),
            reply => assert_eq!(reply, Value::SimpleString(b"OK".to_vec())),
        }
    }
    Ok(())
}

#[test]
fn more_clients_than_files_are_refused_and_the_log_goes_on() {
    let directory = TempDir::new("few-files");
    let server = Server::start_limited(directory.path(), &["--set", "io-threads=1"], 256);
    let mut writer = server.client();
    let clients_max = info(&mut writer, "maxclients");
    assert_eq!(clients_max, 222, "256 less 31 and those of one worker");
    assert!(log_of(&directory).contains("maxclients is 222 instead of 10000"), "{}", log_of(&directory));
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("the backlog takes it"))
        .collect();
    until("all are accepted or refused", || info(&mut writer, "total_connections_received") >= 301);
    assert_eq!(info(&mut writer, "connected_clients"), clients_max);
    let mut refused = server.client();
    let refusal = refused.receive().expect("a word before it is closed");
    assert_eq!(refusal, Value::Error(b"ERR max number of clients reached".to_vec()));
    assert!(refused.is_closed());
    assert_eq!(write_mib(&mut writer, 150), Ok(()), "the log gets its segments");
    let set = writer.call(&["CONFIG", "SET", "maxclients", "5000"]).expect("the server answers");
    assert_eq!(
        set,
        Value::Error(
            b"ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to \
              handle the specified number of clients, try with 222"
                .to_vec()
        )
    );
    drop(silent);
    until("places become free", || info(&mut writer, "connected_clients") == 1);
    assert_eq!(server.client().call(&["PING"]).expect("a place"), Value::SimpleString(b"PONG".to_vec()));
    assert!(server.shut_down());
}

#[test]
fn a_rewritten_configuration_keeps_the_clients_that_were_asked_for() {
    let directory = TempDir::new("rewritten");
    let file = directory.path().join("engramdb.conf");
    std::fs::write(&file, "maxclients 5000\n").expect("the directory is writable");
    let name = file.to_str().expect("a path of ours is text");
    let server = Server::start_limited(directory.path(), &["--config", name, "--io-threads", "1"], 256);
    let mut client = server.client();
    assert_eq!(info(&mut client, "maxclients"), 222);
    let ok = Value::SimpleString(b"OK".to_vec());
    let mut rewritten = |maxclients: &[&str], hz: &str| {
        let words = [&["CONFIG", "SET", "hz", hz], maxclients].concat();
        assert_eq!(client.call(&words).expect("the server answers"), ok);
        assert_eq!(client.call(&["CONFIG", "REWRITE"]).expect("the server answers"), ok);
        std::fs::read_to_string(&file).expect("it was replaced as a whole")
    };
    let text = rewritten(&[], "20");
    assert!(text.contains("maxclients 5000\n") && text.contains("hz 20\n"), "{text}");
    let text = rewritten(&["maxclients", "222"], "30");
    assert!(text.contains("maxclients 222\n") && text.contains("hz 30\n"), "{text}");
}

#[test]
fn the_limit_is_raised_as_far_as_it_goes() {
    let directory = TempDir::new("raised");
    let server = Server::start(directory.path(), &["--set", "maxclients=500"]);
    let mut client = server.client();
    assert_eq!(info(&mut client, "maxclients"), 500);
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    // A soft limit is raised if more clients are configured; the hard one belongs to the administrator.
    let hard = Rlimit { current: Some(600), maximum: Some(2000) };
    prlimit(Some(pid), Resource::Nofile, hard).expect("our own child");
    let set = client.call(&["CONFIG", "SET", "maxclients", "1000"]).expect("the server answers");
    assert_eq!(set, Value::SimpleString(b"OK".to_vec()));
    let set = client.call(&["CONFIG", "SET", "maxclients", "3000"]).expect("the server answers");
    assert!(set.is_error(), "{set:?}");
    assert_eq!(info(&mut client, "maxclients"), 1000);
}

#[test]
fn a_server_without_descriptors_waits_for_them() {
    let directory = TempDir::new("no-files");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    assert_eq!(write_mib(&mut client, 1), Ok(()));
    // More bytes of names than a refused write of 1 MiB leaves free in a segment.
    let long_names: Vec<String> = (0..60).map(|number| format!("{}{number}", "x".repeat(100_000))).collect();
    for name in &long_names {
        let set = client.call(&["SET", name, ""]).expect("the server answers");
        assert_eq!(set, Value::SimpleString(b"OK".to_vec()));
    }
    until("the reserve is prepared", || log_directory(&directory).join("snapshot-0.reserve").exists());
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(1024) };
        prlimit(Some(pid), Resource::Nofile, limit).expect("our own child");
    };
    limit(0);
    let waiting = TcpStream::connect(("127.0.0.1", server.port)).expect("the backlog takes it");
    until("the failing accept is in the log", || log_of(&directory).contains("cannot accept connections"));
    let refused = write_mib(&mut client, 300).expect_err("a new segment needs a descriptor");
    assert!(refused.starts_with("MISCONF No room") && refused.contains("Too many open files"), "{refused}");
    let read = client.call(&["STRLEN", "key:0"]).expect("reads go on");
    assert_eq!(read, Value::Integer(1 << 20));
    let segments = segments_of(&directory);
    for name in &long_names {
        let deleted = client.call(&["DEL", name]).expect("the server lives");
        assert_eq!(deleted, Value::Integer(1), "deletes go on in the reserve");
    }
    assert!(segments_of(&directory) > segments, "they needed a new segment");
    limit(1024);
    let mut refusal = Err(refused);
    until("writes go on by themselves", || {
        refusal = write_mib(&mut client, 1);
        refusal.is_ok()
    });
    assert_eq!(write_mib(&mut client, 150), Ok(()));
    until("it is accepted after all", || info(&mut client, "connected_clients") == 2);
    drop(waiting);
    let warnings = log_of(&directory).matches("cannot accept connections").count();
    let seconds = info(&mut client, "uptime_in_seconds") as usize;
    assert!(warnings <= seconds + 2, "{warnings} warnings in {seconds} s");
    assert!(server.shut_down());
}
