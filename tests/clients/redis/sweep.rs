//! Commands with all kinds of wrong words, the same in each run.

use engramdb_testkit::words::split_words;

/// A command or subcommand, and what is made of it.
pub struct Swept {
    /// The words that all of its commands begin with.
    call: &'static str,
    /// Its own keywords and values, beside those of all.
    words: &'static str,
    /// The largest number of arguments.
    arguments: usize,
    /// Commands that follow each, to undo what it may have done.
    pub after: &'static [&'static str],
}

/// Words that are wrong in most places.
const WORDS: &str = concat!(
    r#""" 0 1 -1 -0 01 +1 " 1" 1.5 x YES "two words" "a\r\nb\r\n" "a\x00b" "\xff\xfe" "#,
    "3000000000 9223372036854775807 9223372036854775808 -9223372036854775808 99999999999999999999",
);

/// A word longer than what errors show of one.
const LONG_WORD_BYTES: usize = 200;

/// Where arguments have more combinations, only some of them are tried.
const COMBINATIONS_MAX: usize = 700;
const SOME: usize = 200;

const fn swept(call: &'static str, words: &'static str, arguments: usize) -> Swept {
    Swept { call, words, arguments, after: &[] }
}

const fn undone(
    call: &'static str,
    words: &'static str,
    arguments: usize,
    after: &'static [&'static str],
) -> Swept {
    Swept { call, words, arguments, after }
}

pub const SWEPT: &[Swept] = &[
    swept("ACL", "", 1),
    swept("ACL WHOAMI", "", 1),
    undone("AUTH", "default", 2, &[]),
    swept("BGSAVE NO", "SCHEDULE", 1),
    swept("CLIENT", "", 1),
    swept("CLIENT GETNAME", "", 1),
    swept("CLIENT HELP", "", 1),
    swept("CLIENT ID", "", 1),
    swept("CLIENT INFO", "", 1),
    // Not SKIPME no, which closes the connection that asks.
    swept("CLIENT KILL", "ID ADDR LADDR TYPE USER SKIPME MAXAGE normal slave default 127.0.0.1:1", 2),
    swept("CLIENT LIST", "ID TYPE normal NORMAL pubsub replica master slave", 2),
    swept("CLIENT NO-EVICT", "on OFF", 1),
    swept("CLIENT NO-TOUCH", "on OFF", 1),
    swept("CLIENT REPLY NO", "on", 1),
    swept("CLIENT REPLY ON", "", 1),
    swept("CLIENT SETINFO", "lib-name LIB-VER redis-py", 2),
    undone("CLIENT SETNAME", "name", 1, &["CLIENT SETNAME \"\""]),
    swept("CLIENT UNBLOCK", "TIMEOUT error", 2),
    swept("COMMAND", "", 1),
    swept("COMMAND COUNT", "", 1),
    swept("COMMAND DOCS", "get config|get nosuch", 1),
    swept("COMMAND GETKEYS", "GET SET MSET CONFIG OBJECT PING MEMORY ENCODING a b", 2),
    swept("COMMAND GETKEYSANDFLAGS", "GET SET MSET CONFIG OBJECT PING a b", 2),
    swept("COMMAND HELP", "", 1),
    swept("COMMAND INFO", "get config|get nosuch", 1),
    swept("COMMAND LIST", "FILTERBY MODULE ACLCAT PATTERN hash g*", 2),
    swept("CONFIG", "", 1),
    swept("CONFIG GET", "port *max* PORT nosuch", 1),
    swept("CONFIG HELP", "", 1),
    swept("CONFIG RESETSTAT", "", 1),
    swept("CONFIG REWRITE NO", "", 1),
    undone(
        "CONFIG SET",
        "maxmemory databases DATABASES nosuch NoSuch timeout Timeout hz 100 1mb",
        3,
        &["CONFIG SET maxmemory 0 timeout 0 hz 10"],
    ),
    undone(
        "CONFIG SET timeout 0",
        "maxmemory databases DATABASES nosuch timeout hz 100",
        2,
        &["CONFIG SET maxmemory 0 timeout 0 hz 10"],
    ),
    undone("CONFIG SET maxmemory", "1mb 5K 1tb -1mb yes 7%", 1, &["CONFIG SET maxmemory 0"]),
    undone("CONFIG SET timeout", "2147483647 2147483648", 1, &["CONFIG SET timeout 0"]),
    undone("CONFIG SET tcp-keepalive", "2147483647 2147483648", 1, &["CONFIG SET tcp-keepalive 300"]),
    undone("CONFIG SET hz", "500 501", 1, &["CONFIG SET hz 10"]),
    undone("CONFIG SET slowlog-max-len", "", 1, &["CONFIG SET slowlog-max-len 128"]),
    undone("CONFIG SET slowlog-log-slower-than", "", 1, &["CONFIG SET slowlog-log-slower-than 10000"]),
    undone("CONFIG SET maxclients NO", "", 1, &[]),
    undone("CONFIG SET protected-mode", "no", 1, &["CONFIG SET protected-mode no"]),
    undone("CONFIG SET loglevel", "notice WARNING", 1, &["CONFIG SET loglevel notice"]),
    undone(
        "CONFIG SET proto-max-bulk-len",
        "1mb 1048575 1048576",
        1,
        &["CONFIG SET proto-max-bulk-len 512mb"],
    ),
    undone(
        "CONFIG SET client-query-buffer-limit",
        "1mb 1048575 1048576",
        1,
        &["CONFIG SET client-query-buffer-limit 1gb"],
    ),
    undone(
        "CONFIG SET client-output-buffer-limit",
        r#""normal 0 0 0" "normal 0 0" "normal x 0 0" "nosuch 0 0 0" "pubsub 1mb 1mb -1" "slave 0 0 0 pubsub 0 0 0""#,
        1,
        &["CONFIG SET client-output-buffer-limit \"normal 0 0 0 slave 256mb 64mb 60 pubsub 32mb 8mb 60\""],
    ),
    undone("CONFIG SET maxmemory-policy", "noeviction", 1, &[]),
    swept("DBSIZE", "", 1),
    swept("DEBUG", "", 1),
    swept("DISCARD", "", 1),
    swept("ECHO", "", 2),
    swept("EXEC", "", 1),
    swept("FLUSHALL", "ASYNC sync", 2),
    swept("FLUSHDB", "ASYNC sync", 2),
    undone("HELLO", "2 3 4 AUTH SETNAME default name", 3, &["HELLO 2"]),
    swept("HELLO 3", "AUTH SETNAME default name", 3),
    swept("INFO", "server SERVER all everything default nosuch", 2),
    swept("LASTSAVE", "", 1),
    swept("LATENCY", "", 1),
    swept("LATENCY HELP", "", 1),
    swept("LATENCY HISTORY", "command", 2),
    swept("LATENCY LATEST", "", 1),
    swept("LATENCY RESET", "command", 2),
    swept("MEMORY", "", 1),
    swept("MEMORY HELP", "", 1),
    swept("MEMORY USAGE", "nosuch SAMPLES", 3),
    swept("MODULE", "", 1),
    swept("MODULE HELP", "", 1),
    swept("MODULE LIST", "", 1),
    undone("MULTI", "", 1, &["DISCARD"]),
    swept("OBJECT", "", 1),
    swept("OBJECT ENCODING", "nosuch", 2),
    swept("OBJECT FREQ", "nosuch", 2),
    swept("OBJECT HELP", "", 1),
    swept("OBJECT IDLETIME", "nosuch", 2),
    swept("OBJECT REFCOUNT", "nosuch", 2),
    swept("PING", "", 2),
    swept("RESET NO", "", 1),
    swept("ROLE", "", 1),
    swept("SAVE NO", "", 1),
    swept("SELECT", "15 16 2147483647 2147483648 -2147483649", 1),
    swept("SHUTDOWN NO", "ABORT", 1),
    swept("SLOWLOG", "", 1),
    swept("SLOWLOG GET", "", 2),
    swept("SLOWLOG HELP", "", 1),
    swept("SLOWLOG LEN", "", 1),
    swept("SLOWLOG RESET", "", 1),
    swept("SWAPDB", "15 16 2147483647 2147483648 -2147483649", 2),
    swept("TIME", "", 1),
    undone("UNWATCH", "", 1, &[]),
    undone("WATCH", "a", 1, &["UNWATCH"]),
    swept("nosuch", "", 2),
    swept("\"a\\r\\nb\"", "", 1),
    swept("\"a\\x00b\"", "", 1),
    swept("\"\\xff\"", "", 1),
    swept("\"\"", "", 1),
];

impl Swept {
    /// All of its commands, beginning with the one without arguments.
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        let mut words = [split_words(self.words), split_words(WORDS)].concat();
        words.push(vec![b'y'; LONG_WORD_BYTES]);
        let mut all = vec![split_words(self.call)];
        let mut last = all.clone();
        for _ in 0..self.arguments {
            let longer = |begin: &Vec<Vec<u8>>, word: &Vec<u8>| [begin.clone(), vec![word.clone()]].concat();
            last = last.iter().flat_map(|begin| words.iter().map(|word| longer(begin, word))).collect();
            if last.len() > COMBINATIONS_MAX {
                // A prime stride mixes the words of all places.
                last = (0..SOME).map(|number| last[number * 7919 % last.len()].clone()).collect();
            }
            all.extend_from_slice(&last);
        }
        all
    }
}
