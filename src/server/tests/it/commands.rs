//! Session commands, as clients use them.

use crate::support::{TestClient, TestServer};
use engramdb_engine::env::Env;

/// The lines until the reply to a PING that is sent behind the command.
pub fn lines(client: &mut TestClient, command: &str) -> Vec<String> {
    client.command(command);
    client.command("ECHO end-of-lines");
    let mut lines = Vec::new();
    loop {
        match client.line() {
            line if line == "end-of-lines" => return lines,
            line => lines.push(line),
        }
    }
}

fn has(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line.contains(wanted)), "{wanted:?} is not in {lines:#?}");
}

#[test]
fn client_names_lists_and_kills() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("CLIENT GETNAME", "$-1\r\n");
    client.call("CLIENT SETNAME me", "+OK\r\n");
    client.call("CLIENT GETNAME", "$2\r\nme\r\n");
    client.call("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n");
    client.call("CLIENT SETINFO nope x", "-ERR Unrecognized option 'nope'\r\n");
    let mut other = server.client();
    other.call("CLIENT SETNAME other", "+OK\r\n");
    has(&lines(&mut client, "CLIENT LIST"), "name=other");
    has(&lines(&mut client, "CLIENT INFO"), "lib-name=redis-py");
    client.call("CLIENT KILL SKIPME yes TYPE normal", ":1\r\n");
    assert_eq!(other.rest(), "");
    client.call("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n");
    client.call("CLIENT REPLY WHAT", "-ERR syntax error\r\n");
    client.command("CLIENT REPLY OFF");
    client.command("PING");
    client.call("CLIENT REPLY ON", "+OK\r\n");
    client.command("CLIENT REPLY SKIP");
    client.command("PING");
    client.call("ECHO seen", "$4\r\nseen\r\n");
    // A reply of which nothing is kept was a reply all the same.
    client.call(&format!("SET large {}", "x".repeat(200_000)), "+OK\r\n");
    client.command("CLIENT REPLY SKIP");
    client.command("GET large");
    client.call("ECHO seen", "$4\r\nseen\r\n");
}

#[test]
fn a_transaction_whose_replies_are_dropped_does_what_it_says() {
    let server = TestServer::with(|config| config.output_limits.normal.hard = 2 << 20);
    let mut other = server.client();
    other.call(&format!("SET value {}", "x".repeat(1 << 20)), "+OK\r\n");
    let mut client = server.client();
    client.call("MULTI", "+OK\r\n");
    for _ in 0..4 {
        client.call("GET value", "+QUEUED\r\n");
    }
    client.call("SELECT 1", "+QUEUED\r\n");
    client.call("SET key here", "+QUEUED\r\n");
    client.command("EXEC");
    assert_eq!(client.rest(), "", "more than the limit");
    other.call("DBSIZE", ":1\r\n");
    other.call("SELECT 1", "+OK\r\n");
    other.call("GET key", "$4\r\nhere\r\n");
}

#[test]
fn configuration_in_flight() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("CONFIG GET maxclients", "*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n");
    client.call("CONFIG SET maxclients 5 timeout 7", "+OK\r\n");
    client.call("CONFIG GET MAXclients", "*2\r\n$10\r\nmaxclients\r\n$1\r\n5\r\n");
    client.call("CONFIG SET hash-max-ziplist-value 9", "+OK\r\n");
    let aliases = "*2\r\n$22\r\nhash-max-ziplist-value\r\n$1\r\n9\r\n";
    client.call("CONFIG GET hash-max-ziplist-v*", aliases);
    client
        .call("CONFIG SET nope 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'\r\n");
    client.call(
        "CONFIG SET port 1",
        "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config\r\n",
    );
    for name in ["daemonize", "pidfile", "unixsocket"] {
        let error = format!(
            "-ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config\r\n"
        );
        client.call(&format!("CONFIG SET {name} x"), &error);
    }
    client.call("DEBUG ERROR LOADING", "-LOADING\r\n");
    client.call("COMMAND GETKEYSANDFLAGS SORT a STORE b", GETKEYS_OF_SORT);
    client.call(
        "CONFIG SET timeout 9 maxclients x",
        "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an \
         integer\r\n",
    );
    // As a Redis 8.2.3 answers.
    client.call("CONFIG SET timeout 9 maxclients", "-ERR syntax error\r\n");
    let refused = |name: &str, cause: &str| {
        format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - {cause}\r\n")
    };
    for (words, name, cause) in [
        ("timeout -1", "timeout", "argument must be between 0 and 2147483647 inclusive"),
        ("maxclients 0", "maxclients", "argument must be between 1 and 4294967295 inclusive"),
        ("maxmemory 1x", "maxmemory", "argument must be a memory value"),
        ("protected-mode maybe", "protected-mode", "argument must be 'yes' or 'no'"),
        ("hz 10 hz 20", "hz", "duplicate parameter"),
        (
            "loglevel foo",
            "loglevel",
            "argument(s) must be one of the following: debug, verbose, notice, warning, nothing",
        ),
        (
            "slowlog-max-len 5 commandlog-slow-execution-max-len 6",
            "commandlog-slow-execution-max-len",
            "duplicate parameter",
        ),
        (
            "appendfsync everysec",
            "appendfsync",
            "a write is acknowledged only when the disk has confirmed it",
        ),
        ("lazyfree-lazy-expire yes", "lazyfree-lazy-expire", "it does not apply to this server"),
    ] {
        client.call(&format!("CONFIG SET {words}"), &refused(name, cause));
    }
    client.call("CONFIG SET appendonly yes appendfsync always list-max-listpack-size 128", "+OK\r\n");
    client.call("CONFIG REWRITE", "-ERR The server is running without a config file\r\n");
    client.call("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n7\r\n");
    client.call("CONFIG NOPE", "-ERR unknown subcommand 'NOPE'. Try CONFIG HELP.\r\n");
    client.call("CONFIG RESETSTAT", "+OK\r\n");
    has(&lines(&mut client, "CONFIG HELP"), "GET parameter+");
}

#[test]
fn info_in_sections_and_inside_a_transaction() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("SET a 1", "+OK\r\n");
    client.call("GET", "-ERR wrong number of arguments for 'get' command\r\n");
    let info = lines(&mut client, "INFO");
    for line in
        ["# Server", "redis_version:8.4.0", "connected_clients:1", "db0:keys=1,", "errorstat_ERR:count=1"]
    {
        has(&info, line);
    }
    assert!(!lines(&mut client, "INFO server").iter().any(|line| line.contains("# Clients")));
    has(&lines(&mut client, "INFO all"), "cmdstat_set:calls=1");
    client.call("MULTI", "+OK\r\n");
    client.call("SET b 1", "+QUEUED\r\n");
    client.call("INFO keyspace", "+QUEUED\r\n");
    client.call("SHUTDOWN", "-ERR Command not allowed inside a transaction\r\n");
    client.call("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("SET b 1", "+QUEUED\r\n");
    client.call("INFO keyspace", "+QUEUED\r\n");
    has(&lines(&mut client, "EXEC"), "db0:keys=2,");
}

#[test]
fn an_exec_with_arguments_ends_the_transaction() {
    let server = TestServer::start();
    let mut client = server.client();
    let text =
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
    client.call("EXEC now", text);
    client.call("MULTI", "+OK\r\n");
    client.call("SET a 1", "+QUEUED\r\n");
    client.call("EXEC now", text);
    client.call("GET a", "$-1\r\n");
    client.call("EXEC", "-ERR EXEC without MULTI\r\n");
}

#[test]
fn command_shows_the_table() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("COMMAND GETKEYS SET k v", "*1\r\n$1\r\nk\r\n");
    client.call("COMMAND GETKEYS PING", "-ERR The command has no key arguments\r\n");
    client.call("COMMAND GETKEYS NOPE", "-ERR Invalid command specified\r\n");
    client.call("COMMAND INFO nope", "*1\r\n$-1\r\n");
    let keys = |call: &str, flags: &str| {
        let words: Vec<&str> = flags.split(' ').collect();
        let shown: String = words.iter().map(|word| format!("+{word}\r\n")).collect();
        server.client().call(
            &format!("COMMAND GETKEYSANDFLAGS {call}"),
            &format!("*1\r\n*2\r\n$1\r\nk\r\n*{}\r\n{shown}", words.len()),
        );
    };
    keys("SET k v", "OW update");
    keys("SET k v EX 10 get", "RW access update");
    keys("GET k", "RO access");
    keys("DEL k", "RM delete");
    client.call("COMMAND LIST FILTERBY PATTERN get", "*1\r\n$3\r\nget\r\n");
    client.command("COMMAND INFO get");
    client.expect("*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n");
    let mut client = server.client();
    has(&lines(&mut client, "COMMAND DOCS config"), "config|get");
    has(&lines(&mut client, "COMMAND"), "hello");
}

/// As Redis 8 prints it, sets in RESP3 and arrays in RESP2.
#[test]
fn command_info_describes_keys() {
    let server = TestServer::start();
    let mut client = server.client();
    let key = |map: &dyn Fn(usize) -> String, set: char, flags: &str, index: usize| {
        let words: Vec<&str> = flags.split(' ').collect();
        let shown: String = words.iter().map(|word| format!("+{word}\r\n")).collect();
        format!(
            "{}$5\r\nflags\r\n{set}{}\r\n{shown}$12\r\nbegin_search\r\n{}$4\r\ntype\r\n$5\r\nindex\r\n\
             $4\r\nspec\r\n{}$5\r\nindex\r\n:{index}\r\n$9\r\nfind_keys\r\n{}$4\r\ntype\r\n$5\r\nrange\r\n\
             $4\r\nspec\r\n{}$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n",
            map(3),
            words.len(),
            map(2),
            map(1),
            map(2),
            map(3),
        )
    };
    for resp3 in [false, true] {
        let set = if resp3 { '~' } else { '*' };
        let map = |pairs: usize| match resp3 {
            true => format!("%{pairs}\r\n"),
            false => format!("*{}\r\n", 2 * pairs),
        };
        if resp3 {
            has(&lines(&mut client, "HELLO 3"), "8.4.0");
        }
        let set_row = format!(
            "*1\r\n*10\r\n$3\r\nset\r\n:-3\r\n{set}2\r\n+write\r\n+denyoom\r\n:1\r\n:1\r\n:1\r\n{set}3\r\n+@write\r\n\
             +@string\r\n+@slow\r\n{set}0\r\n{set}1\r\n{}{set}0\r\n",
            key(&map, set, "RW access update variable_flags", 1)
        );
        client.call("COMMAND INFO set", &set_row);
        let copy_row = format!(
            "*1\r\n*10\r\n$4\r\ncopy\r\n:-3\r\n{set}2\r\n+write\r\n+denyoom\r\n:1\r\n:2\r\n:1\r\n{set}3\r\n+@keyspace\r\n\
             +@write\r\n+@slow\r\n{set}0\r\n{set}2\r\n{}{}{set}0\r\n",
            key(&map, set, "RO access", 1),
            key(&map, set, "OW update", 2)
        );
        client.call("COMMAND INFO copy", &copy_row);
        client.call("COMMAND INFO nope", if resp3 { "*1\r\n_\r\n" } else { "*1\r\n$-1\r\n" });
    }
}

#[test]
fn cluster_commands_say_that_there_is_no_cluster() {
    let server = TestServer::start();
    let mut client = server.client();
    for command in [
        "CLUSTER INFO",
        "CLUSTER SLOTS",
        "CLUSTER HELP",
        "CLUSTER KEYSLOT k",
        "READONLY",
        "READWRITE",
        "ASKING",
    ] {
        client.call(command, "-ERR This instance has cluster support disabled\r\n");
    }
    client.call("CLUSTER", "-ERR wrong number of arguments for 'cluster' command\r\n");
    client.call("CLUSTER SLOTS x", "-ERR wrong number of arguments for 'cluster|slots' command\r\n");
    client.call("CLUSTER nosuch", "-ERR unknown subcommand 'nosuch'. Try CLUSTER HELP.\r\n");
}

/// The start counts as the first save.
#[test]
fn the_last_save_begins_with_the_start() {
    let before_s = Env::system().clock.wall_ms() / 1000;
    let server = TestServer::start();
    let mut client = server.client();
    client.command("LASTSAVE");
    let line = client.line();
    let saved_s: u64 = line[1..].parse().expect("an integer");
    assert!((before_s..=Env::system().clock.wall_ms() / 1000).contains(&saved_s), "{line}");
    has(&lines(&mut client, "INFO persistence"), &format!("rdb_last_save_time:{saved_s}"));
}

#[test]
fn the_rest_of_the_servers_commands() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("BGSAVE", "-ERR this server has no data directory to keep snapshots in\r\n");
    client.call("MODULE LIST", "*0\r\n");
    client.call("ACL WHOAMI", "$7\r\ndefault\r\n");
    client.call("SLOWLOG LEN", ":0\r\n");
    client.call("SLOWLOG GET x", "-ERR count should be greater than or equal to -1\r\n");
    client.call("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1\r\n");
    client.call("SLOWLOG GET -1", "*0\r\n");
    client.call("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n");
    client.call("GET a", "$-1\r\n");
    has(&lines(&mut client, "SLOWLOG GET"), "GET");
    client.call("DEBUG SLEEP 0.001", "+OK\r\n");
    client.call("SHUTDOWN ABORT", "-ERR No shutdown in progress.\r\n");
    client.command("TIME");
    client.expect("*2\r\n$10\r\n");
}

/// A name, and a word, can be as long as half a gigabyte.
#[test]
fn an_entry_of_the_slow_log_keeps_little_of_long_words_and_names() {
    let server = TestServer::start();
    let mut client = server.client();
    let (name, key) = ("n".repeat(300), "k".repeat(200));
    client.call(&format!("CLIENT SETNAME {name}"), "+OK\r\n");
    client.call("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n");
    client.call(&format!("GET {key}"), "$-1\r\n");
    client.call(&format!("DEL {}", ["key"; 40].join(" ")), ":0\r\n");
    client.call("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n");
    let entries = lines(&mut client, "SLOWLOG GET");
    has(&entries, &format!("{}... (72 more bytes)", &key[..128]));
    has(&entries, &format!("{}... (172 more bytes)", &name[..128]));
    has(&entries, "... (10 more arguments)");
    for whole in [&key[..129], &name[..129]] {
        assert!(!entries.iter().any(|line| line.contains(whole)), "{entries:#?}");
    }
    client.call(&format!("CLIENT SETNAME {}", &name[..128]), "+OK\r\n");
    client.call("CLIENT GETNAME", &format!("$128\r\n{}\r\n", &name[..128]));
}

#[test]
fn no_command_makes_a_string_longer_than_an_argument_may_be() {
    let server = TestServer::with(|config| config.bulk_bytes_max = 1 << 20);
    let mut client = server.client();
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    client.call("SETRANGE text 1048576 x", too_long);
    client.call("SETRANGE text 1048575 x", ":1048576\r\n");
    client.call("APPEND text y", too_long);
    client.call("SETRANGE one 599 x", ":600\r\n");
    let no_room = "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n";
    client.call("LCS one one LEN", no_room);
    client.call("CONFIG SET proto-max-bulk-len 2mb", "+OK\r\n");
    client.call("APPEND text y", ":1048577\r\n");
    client.call("SETRANGE text 2097152 x", too_long);
    client.call("LCS one one LEN", ":600\r\n");
    // What is longer already stays, and may be overwritten within the limit.
    client.call("CONFIG SET proto-max-bulk-len 1mb", "+OK\r\n");
    client.call("SETRANGE text 0 z", ":1048577\r\n");
    client.call("STRLEN text", ":1048577\r\n");
}

#[test]
fn one_too_many_connections() {
    let server = TestServer::with(|config| config.clients_max = 1);
    let mut client = server.client();
    client.call("PING", "+PONG\r\n");
    assert_eq!(server.client().rest(), "-ERR max number of clients reached\r\n");
    client.call("PING", "+PONG\r\n");
}

/// A command that waited is executed once, and what is behind it in the pipeline is not lost.
#[test]
fn a_pipeline_goes_on_behind_a_command_that_waited() {
    let server = TestServer::start();
    let mut client = server.client();
    client.send("PING\r\nDEBUG SLEEP 0.01\r\nPING\r\nDEBUG SLEEP 0.01\r\n");
    client.expect("+PONG\r\n+OK\r\n+PONG\r\n+OK\r\n");
    client.call("ECHO next", "$4\r\nnext\r\n");
}

/// Names that redis.conf took away are gone everywhere; what it renamed goes by the new name only.
#[test]
fn renamed_commands() {
    let long = "b840fc02d524045429941cc15f59e41cb7be6c52";
    let server = TestServer::with(|config| {
        config.renamed_commands = vec![("flushall".into(), String::new()), ("DBSIZE".into(), long.into())];
    });
    let mut client = server.client();
    client.call("FLUSHALL", "-ERR unknown command 'FLUSHALL', with args beginning with: \r\n");
    client.call("DBSIZE", "-ERR unknown command 'DBSIZE', with args beginning with: \r\n");
    client.call(&long.to_uppercase(), ":0\r\n");
    assert!(!lines(&mut client, "COMMAND LIST").contains(&"flushall".to_owned()));
}

/// Writes that need memory are refused at `maxmemory`, whatever makes room lets them in again.
#[test]
fn writes_beyond_maxmemory_are_refused() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call(&format!("SET a {}", "x".repeat(10_000)), "+OK\r\n");
    client.call("CONFIG SET maxmemory 5000", "+OK\r\n");
    let refusal = "-OOM command not allowed when used memory > 'maxmemory'.";
    let answer = |client: &mut TestClient| {
        client.command("SET b 1");
        client.line()
    };
    while answer(&mut client) != refusal {
        std::thread::yield_now();
    }
    client.call("EXISTS a", ":1\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("SET c 1", &format!("{refusal}\r\n"));
    client.call("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.call("DEL a", ":1\r\n");
    while answer(&mut client) == refusal {
        std::thread::yield_now();
    }
    client.call("CONFIG SET maxmemory 0", "+OK\r\n");
}

/// What has expired is counted once, however many steps its deletion takes: keys, and fields of hashes apart.
#[test]
fn expired_keys_and_fields_are_counted_as_in_redis() {
    const FIELDS: usize = 2500;
    let server = TestServer::start();
    let mut client = server.client();
    let names: Vec<String> = (0..FIELDS).map(|number| format!("f{number}")).collect();
    client.call(&format!("HSET h {} 1", names.join(" 1 ")), &format!(":{FIELDS}\r\n"));
    client.call("HSET h stays 1", ":1\r\n");
    client.command(&format!("HPEXPIRE h 1 FIELDS {FIELDS} {}", names.join(" ")));
    client.expect(format!("*{FIELDS}\r\n{}", ":1\r\n".repeat(FIELDS)));
    // Of a hash whose last field expires, fields have expired, and no key.
    client.call("HSET gone a 1 b 1", ":2\r\n");
    client.call("HPEXPIRE gone 1 FIELDS 2 a b", "*2\r\n:1\r\n:1\r\n");
    client.call("HSET past a 1 b 1", ":2\r\n");
    client.call("HPEXPIRE past 0 FIELDS 1 a", "*1\r\n:2\r\n");
    (0..30).for_each(|number| client.call(&format!("SET k{number} 1 PX 1"), "+OK\r\n"));
    client.call("SET past 1 PX 1", "+OK\r\n");
    while !lines(&mut client, "DBSIZE").contains(&":1".to_owned()) {
        std::thread::yield_now();
    }
    let expected = format!("expired_subkeys:{}", FIELDS + 3);
    while !lines(&mut client, "INFO stats").contains(&expected) {
        std::thread::yield_now();
    }
    assert!(lines(&mut client, "INFO stats").contains(&"expired_keys:31".to_owned()));
    client.call("HLEN h", ":1\r\n");
    client.call("CONFIG RESETSTAT", "+OK\r\n");
    has(&lines(&mut client, "INFO stats"), "expired_subkeys:0");
}

#[test]
fn the_allocator_has_no_statistics() {
    let server = TestServer::start();
    let reply = "$45\r\nStats not supported for the current allocator\r\n";
    server.client().call("MEMORY MALLOC-STATS", reply);
}

const GETKEYS_OF_SORT: &str =
    "*2\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access\r\n*2\r\n$1\r\nb\r\n*2\r\n+OW\r\n+update\r\n";
