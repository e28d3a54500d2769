//! The program as its user experiences it: the offline tools on a directory of `serve`, refusals at the
//! start, and the state after a restart, including search.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod files;

use engramdb_testkit::process::{self, BadOutput, Client, Server, TempDir, until};
use std::path::Path;
use std::process::Output;

fn engramdb(arguments: &[&str]) -> Output {
    process::program().args(arguments).output().expect("the binary was built")
}

fn tool(arguments: &[&str], directory: &Path) -> String {
    let directory = directory.to_str().expect("a path of ours is text");
    let output = engramdb(&[arguments, &["--dir", directory]].concat());
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

fn text(client: &mut Client, command: &[&str]) -> String {
    let reply = client.call(command).expect("the server answers");
    assert!(!reply.is_error(), "{command:?}: {reply:?}");
    reply.as_str().map(str::to_owned).unwrap_or_else(|| format!("{reply:?}"))
}

/// BGSAVE, and waiting for its end.
fn snapshot(client: &mut Client) {
    text(client, &["BGSAVE"]);
    let mut info = String::new();
    until("the snapshot does not end", || {
        info = text(client, &["INFO", "persistence"]);
        info.contains("rdb_bgsave_in_progress:0")
    });
    assert!(info.contains("rdb_last_bgsave_status:ok"), "{info}");
}

fn vector(number: u32) -> Vec<u8> {
    [number as f32, 1.0, -(number as f32)].iter().flat_map(|component| component.to_le_bytes()).collect()
}

fn store(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let (key, vector) = (format!("doc:{number}"), vector(number));
        let words: [&[u8]; 6] = [b"HSET", key.as_bytes(), b"tag", b"x", b"embedding", &vector];
        assert!(!client.call(&words).expect("the server answers").is_error());
    }
}

fn nearest(client: &mut Client, number: u32) -> String {
    let vector = vector(number);
    let words: [&[u8]; 10] = [
        b"FT.SEARCH",
        b"docs",
        b"@tag:{x}=>[KNN 3 @embedding $q]",
        b"NOCONTENT",
        b"PARAMS",
        b"2",
        b"q",
        &vector,
        b"DIALECT",
        b"2",
    ];
    format!("{:?}", client.call(&words).expect("the server answers"))
}

#[test]
fn a_directory_outlives_a_kill_and_the_tools_read_it() {
    let directory = TempDir::new("program");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let create = "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA tag TAG embedding VECTOR HNSW 6 TYPE FLOAT32 DIM 3 \
                  DISTANCE_METRIC L2";
    text(&mut client, &create.split_whitespace().collect::<Vec<_>>());
    store(&mut client, 0..300);
    snapshot(&mut client);
    store(&mut client, 300..320);
    text(&mut client, &["DEL", "doc:7"]);
    text(&mut client, &["SET", "counter", "41"]);
    text(&mut client, &["INCR", "counter"]);
    let before = nearest(&mut client, 310);
    server.kill();

    let listed = tool(&["snapshot", "list"], directory.path());
    assert!(listed.contains(".snapshot"), "{listed}");
    let verified = tool(&["snapshot", "verify"], directory.path());
    assert!(verified.contains("300") && verified.contains("good"), "{verified}");
    let verified = tool(&["log", "verify"], directory.path());
    assert!(verified.contains("the log is good"), "{verified}");
    let dumped = tool(&["log", "dump", "--limit", "1000"], directory.path());
    assert!(dumped.contains("StringSet \"counter\" = \"42\""), "{dumped}");
    assert!(dumped.contains("Delete \"doc:7\""), "{dumped}");

    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    assert_eq!(text(&mut client, &["GET", "counter"]), "42");
    assert_eq!(nearest(&mut client, 310), before);
    assert!(!nearest(&mut client, 7).contains("doc:7\""), "deleted before the kill");
    let started =
        std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(started.contains("300 graph nodes loaded, 20 being inserted again, 1 removed"), "{started}");
    assert!(server.shut_down(), "SHUTDOWN ends in order");
    let created = tool(&["snapshot", "create"], directory.path());
    assert!(created.contains("320 keys"), "{created}");
    let verified = tool(&["log", "verify"], directory.path());
    assert!(verified.contains(", stopped in order"), "{verified}");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(text(&mut server.client(), &["DBSIZE"]), "320");
}

#[test]
fn shutdown_save_leaves_a_snapshot_of_everything() {
    let directory = TempDir::new("save");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    (0..20).for_each(|number| drop(text(&mut client, &["SET", &format!("key:{number}"), "value"])));
    client.send(&[&["SHUTDOWN", "SAVE"]]).expect("the server listens");
    assert_eq!(server.wait(), Some(0));
    let verified = tool(&["snapshot", "verify"], directory.path());
    assert!(verified.contains("20") && verified.contains("good"), "{verified}");
    let server = Server::start(directory.path(), &[]);
    assert_eq!(text(&mut server.client(), &["DBSIZE"]), "20");
    let started =
        std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(started.contains("(20 keys) and 0 batches"), "{started}");
}

#[test]
fn a_second_server_on_the_directory_is_refused() {
    let directory = TempDir::new("second");
    let _server = Server::start(directory.path(), &[]);
    let port = process::free_port().to_string();
    let output = engramdb(&[
        "serve",
        "--port",
        &port,
        "--dir",
        directory.path().to_str().expect("a path of ours is text"),
    ]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("another process has the log"), "{text}");
}

#[test]
fn another_address_needs_a_password() {
    let directory = TempDir::new("open");
    let port = process::free_port().to_string();
    let place = directory.path().to_str().expect("a path of ours is text");
    let output = engramdb(&["serve", "--bind", "0.0.0.0", "--port", &port, "--dir", place]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("requirepass"), "{text}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "told before recovery");
}

#[test]
fn a_port_in_use_is_told_before_recovery() {
    let directory = TempDir::new("taken");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let place = directory.path().to_str().expect("a path of ours is text");
    let output = engramdb(&["serve", "--port", &port.to_string(), "--dir", place]);
    let text = String::from_utf8_lossy(&output.stderr);
    let wanted = format!("cannot listen on 127.0.0.1:{port}: Address already in use");
    assert!(output.status.code() == Some(1) && text.contains(&wanted), "{text}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "{text}");
}

/// Refused before anything is created: through each source, and with all errors at once.
#[test]
fn a_wrong_configuration_is_refused_as_a_whole() {
    let directory = TempDir::new("configuration");
    let file = directory.path().join("wrong.conf");
    std::fs::write(&file, "port 0\n# fine\nhz 10\nnope 1\n").expect("the directory is writable");
    let data = directory.path().join("data");
    let mut command = process::program();
    command.args(["serve", "--databases", "0", "--io-threads=100000", "--dir"]).arg(&data);
    let output = command.arg("--config").arg(&file).env("ENGRAMDB_TIMEOUTS", "3").output();
    let output = output.expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "engramdb: the configuration has 5 errors",
        "wrong.conf:1: port 0: argument must be between 1 and 65535 inclusive",
        "wrong.conf:4: there is no parameter 'nope'",
        "ENGRAMDB_TIMEOUTS: there is no parameter 'timeouts'; did you mean 'timeout'?",
        "--databases: databases 0: argument must be between 1 and 65536 inclusive",
        "--io-threads: io-threads 100000: argument must be between 0 and 128 inclusive",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!data.exists(), "nothing was created");
    let output = engramdb(
        &"serve --maxmemory 10% --bind 999.1.1.1 --set x --nope 1 --ports=7 --hz 10 --hz 5h --timeout 1 --nada"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let text = String::from_utf8_lossy(&output.stderr);
    for line in [
        "engramdb: the configuration has 7 errors",
        "--maxmemory: maxmemory 10%: argument must be a memory value",
        "--bind: bind 999.1.1.1: '999.1.1.1' is not an IP address",
        "--set: x: give NAME=VALUE",
        "--nope: there is no parameter 'nope'",
        "--ports: there is no parameter 'ports'; did you mean 'port'?",
        "--hz: hz 5h: argument couldn't be parsed into an integer",
        "--nada: there is no parameter 'nada'",
    ] {
        assert!(text.lines().any(|found| found.trim() == line), "{line}: {text}");
    }
    let output = engramdb(&["serve", "--dir", ""]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--dir: dir : a directory is needed"), "{text}");
}

/// Flags override variables, and variables override the file; settings of search are ordinary parameters.
#[test]
fn every_parameter_is_a_flag_a_variable_and_a_line() {
    let directory = TempDir::new("layers");
    let file = directory.path().join("redis.conf");
    let lines = "maxclients 100\nhz 20\ntimeout 30\nsearch-timeout 700\nappendonly no\nrdbchecksum yes\n\
                 rename-command FLUSHALL \"\"\nrename-command DBSIZE b840fc02d524045429941cc15f59e41cb7be6c52\n";
    std::fs::write(&file, lines).expect("the directory is writable");
    let file = file.to_str().expect("a path of ours is text");
    let flags = ["--config", file, "--timeout", "32", "--search-live-recall-every", "5", "--save", ""];
    let server = Server::start(directory.path(), &flags);
    let mut client = server.client();
    for (name, value) in [
        (
            "dir",
            std::path::absolute(directory.path())
                .expect("there is a working directory")
                .to_str()
                .expect("text"),
        ),
        ("maxclients", "100"),
        ("hz", "20"),
        ("timeout", "32"),
        ("search-timeout", "700"),
        ("search-live-recall-every", "5"),
    ] {
        let reply = client.call(&["CONFIG", "GET", name]).expect("the server answers");
        assert_eq!(reply.as_array().map(|pair| pair[1].as_str()), Some(Some(value)), "{name}: {reply:?}");
    }
    assert!(client.call(&["FLUSHALL"]).expect("the server answers").is_error());
    assert!(client.call(&["DBSIZE"]).expect("the server answers").is_error());
    assert_eq!(text(&mut client, &["b840fc02d524045429941cc15f59e41cb7be6c52"]), "0");
    let log = std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
    assert!(log.contains("redis.conf:5: 'appendonly no' does not hold"), "{log}");
    assert_eq!(log.matches("ignored parameters").count(), 1, "{log}");
    assert!(log.contains("RDB and AOF files: rdbchecksum save"), "{log}");
}

/// A file with every parameter of a stock Redis or Valkey starts the server. Values that differ from the
/// defaults here take effect, the others are named once.
#[test]
fn a_stock_redis_conf_starts() {
    for parameters in [
        include_str!("../../data/parameters-redis-8.2.txt"),
        include_str!("../../data/parameters-valkey-9.1.txt"),
    ] {
        let directory = TempDir::new("stock");
        let file = directory.path().join("stock.conf");
        let lines = parameters.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.split_once('=').expect("a name and a value");
            let is_list = name == "client-output-buffer-limit" || name == "oom-score-adj-values";
            if is_list { format!("{name} {value}\n") } else { format!("{name} \"{value}\"\n") }
        });
        std::fs::write(&file, lines.collect::<String>()).expect("the directory is writable");
        std::fs::write(directory.path().join("dump.rdb"), "REDIS0011").expect("the directory is writable");
        let server =
            Server::start(directory.path(), &["--config", file.to_str().expect("a path of ours is text")]);
        let mut client = server.client();
        assert_eq!(parameter(&mut client, "appendonly"), "yes");
        let limit = parameter(&mut client, "client-output-buffer-limit");
        assert!(limit.starts_with("normal 0 0 0 "), "{limit}");
        let log =
            std::fs::read_to_string(directory.path().join("server.log")).expect("the log file is there");
        assert_eq!(log.matches("ignored parameters").count(), 1, "{log}");
        assert!(log.contains("'appendonly no' does not hold: every write is in the log"), "{log}");
        assert!(log.contains("'appendfsync everysec' does not hold"), "{log}");
        assert!(log.contains("dump.rdb is data of a Redis, which is not read"), "{log}");
    }
}

fn parameter(client: &mut Client, name: &str) -> String {
    let reply = client.call(&["CONFIG", "GET", name]).expect("the server answers");
    let pair = reply.as_array().expect("a name and a value");
    pair[1].as_str().expect("a value is text").to_owned()
}

/// Changes by CONFIG or FT.CONFIG are present after a start with the file; comments and the order are kept.
#[test]
fn config_rewrite_keeps_what_was_set() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new("rewrite");
    let file = directory.path().join("redis.conf");
    std::fs::write(&file, "# ours\nmaxmemory 100mb\ntimeout 30\nrename-command FT.INFO \"\"\n# end\n")
        .expect("writable");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let flags = ["--config", file.to_str().expect("a path of ours is text")];
    let server = Server::start(directory.path(), &flags);
    let mut client = server.client();
    let info = text(&mut client, &["INFO", "server"]);
    assert!(info.contains(&format!("config_file:{}", file.display())), "{info}");
    text(
        &mut client,
        &["CONFIG", "SET", "timeout", "60", "loglevel", "warning", "search-on-timeout", "fail"],
    );
    text(&mut client, &["FT.CONFIG", "SET", "TIMEOUT", "1234"]);
    text(&mut client, &["CONFIG", "SET", "requirepass", "a \"b\""]);
    text(&mut client, &["CONFIG", "REWRITE"]);
    let all = |client: &mut Client| {
        let reply = client.call(&["CONFIG", "GET", "*"]).expect("the server answers");
        let words: Vec<String> = reply
            .as_array()
            .expect("pairs")
            .iter()
            .map(|word| word.as_str().expect("text").to_owned())
            .collect();
        let pairs = words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        pairs.filter(|(name, _)| name != "port").collect::<Vec<_>>()
    };
    let before = all(&mut client);
    server.kill();
    let rewritten = std::fs::read_to_string(&file).expect("it is there");
    assert!(
        rewritten.starts_with(
            "# ours\nmaxmemory 100mb\ntimeout 60\nrename-command FT.INFO \"\"\n# end\n# Generated"
        ),
        "{rewritten}"
    );
    for line in
        ["requirepass \"a \\\"b\\\"\"", "search-timeout 1234", "search-on-timeout fail", "loglevel warning"]
    {
        assert!(rewritten.lines().any(|known| known == line), "{line}: {rewritten}");
    }
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a file with a password is not opened to others");
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("it is there")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{names:?}");

    let server = Server::start(directory.path(), &flags);
    let mut client = server.client();
    text(&mut client, &["AUTH", "a \"b\""]);
    assert_eq!(all(&mut client), before);
    std::fs::remove_file(&file).expect("it is ours");
    std::fs::create_dir(&file).expect("the directory is writable");
    let refused = client.call(&["CONFIG", "REWRITE"]).expect("the server answers");
    assert!(
        refused.is_error()
            && refused.as_str().is_some_and(|text| text.starts_with("ERR Rewriting config file: ")),
        "{refused:?}"
    );
}

#[test]
fn signals_that_do_not_stop_the_server() {
    let directory = TempDir::new("signals");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    for signal in ["HUP", "USR1"] {
        let kill = std::process::Command::new("kill")
            .args([format!("-{signal}"), server.pid().to_string()])
            .status();
        assert!(kill.expect("kill is there").success());
        until("the signal is not noted", || {
            let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap_or_default();
            log.contains(&format!("SIG{signal}: ignored"))
        });
        assert_eq!(text(&mut client, &["PING"]), "PONG");
    }
}

#[test]
fn log_lines_go_to_the_file_and_the_level_changes_in_flight() {
    let directory = TempDir::new("logfile");
    let file = directory.path().join("lines.log");
    let server = Server::start(
        directory.path(),
        &["--logfile", file.to_str().expect("a path of ours is text"), "--save", "60 1"],
    );
    let mut client = server.client();
    let lines = || std::fs::read_to_string(&file).expect("it is there");
    assert!(lines().contains("ignored parameters"), "{}", lines());
    let before = lines();
    text(&mut client, &["CONFIG", "SET", "loglevel", "warning"]);
    assert!(server.shut_down());
    assert_eq!(lines(), before, "SHUTDOWN is noted, and not warned of");
}

#[test]
fn tools_refuse_what_is_no_data_directory() {
    let directory = TempDir::new("nothing");
    let place = directory.path().to_str().expect("a path of ours is text");
    let missing = format!("{place}/missing");
    for tool in [
        ["snapshot", "verify"],
        ["snapshot", "list"],
        ["snapshot", "repair"],
        ["log", "verify"],
        ["log", "dump"],
    ] {
        for place in [place, &missing] {
            let output = engramdb(&[tool[0], tool[1], "--dir", place]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.code() == Some(1) && text.contains("is no data directory"),
                "{tool:?} {text}"
            );
        }
    }
}

#[test]
fn an_offline_snapshot_beside_a_server_points_to_bgsave() {
    let directory = TempDir::new("beside");
    let server = Server::start(directory.path(), &[]);
    text(&mut server.client(), &["SET", "a", "1"]);
    let place = directory.path().to_str().expect("a path of ours is text");
    let output = engramdb(&["snapshot", "create", "--dir", place]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("BGSAVE"), "{text}");
    tool(&["snapshot", "create", "--sealed-only"], directory.path());
}

/// Nothing panics, and no loss goes unnoticed: `| head` ends a command as SIGPIPE does, a full disk is an
/// error.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs /dev/full")]
fn an_output_that_fails_is_no_panic_and_no_success() {
    let directory = TempDir::new("output");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    text(&mut client, &["SET", "key", "value"]);
    snapshot(&mut client);
    text(&mut client, &["SET", "key", "other"]);
    server.kill();
    let place = TempDir::new("output-backup");
    let (data, copy) = (directory.path(), place.path().join("copy"));
    let made = process::program().args(["backup", "--dir"]).arg(data).arg("--to").arg(&copy).output();
    assert!(made.expect("the binary was built").status.success());
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["--version"],
        &["serve", "--help"],
        &["snapshot", "list"],
        &["snapshot", "verify"],
        &["snapshot", "create"],
        &["log", "verify"],
        &["log", "dump", "--json"],
        &["backup", "verify"],
    ];
    for arguments in commands {
        for output in [BadOutput::Closed, BadOutput::Full] {
            let mut command = process::program();
            command.args(arguments);
            match arguments {
                ["backup", ..] => _ = command.arg(&copy),
                ["snapshot" | "log", ..] => _ = command.arg("--dir").arg(data),
                _ => {}
            }
            assert_eq!(output.run(&mut command), output.outcome(), "{arguments:?} {output:?}");
        }
    }
    std::fs::remove_file(copy.join("BACKUP")).expect("it was made");
    let (status, said) = BadOutput::Closed.run(process::program().args(["backup", "verify"]).arg(&copy));
    assert!(
        status == Some(1) && said.contains("not a backup"),
        "an error of its own comes first: {status:?} {said}"
    );
}
