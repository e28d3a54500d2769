use super::*;
use engramdb_engine::env::Env;
use engramdb_testkit::TempDir;
use std::path::Path;

fn load(text: &str) -> Result<(Config, Notes), ConfigErrors> {
    load_bytes(text.as_bytes())
}

fn load_bytes(text: &[u8]) -> Result<(Config, Notes), ConfigErrors> {
    let env = Env::system();
    let mut loader = Loader::new(&*env.disk, &module_setting, crate::commands::table(&[]));
    loader.text(Path::new("test.conf"), text);
    loader.finish()
}

/// A module with one setting, a number.
fn module_setting(name: &str, value: &str) -> Option<Result<(), String>> {
    (name == "search-timeout").then(|| value.parse::<u32>().map(drop).map_err(|error| error.to_string()))
}

fn config(text: &str) -> Config {
    load(text).expect("it is right").0
}

fn problems(text: &str) -> String {
    load(text).expect_err("it is wrong").to_string()
}

#[test]
fn every_parameter_reads_what_it_shows() {
    for parameter in PARAMETERS {
        let mut config = Config::default();
        let shown = (parameter.get)(&config);
        assert_eq!((parameter.set)(&mut config, &shown), Ok(()), "{}", parameter.name);
        assert_eq!((parameter.get)(&config), shown, "{}", parameter.name);
    }
}

#[test]
fn toml_lines_and_variables_say_the_same() {
    let toml = config("port = 7000\nprotected-mode = false\nbind = [\"::1\"]");
    assert_eq!((toml.port, toml.protected_mode, toml.is_loopback_only()), (7000, false, true));
    let lines =
        config("# as in redis.conf\nPORT 7001\nproto-max-bulk-len 2mb\nrequirepass \"a b\"\nbind * -::*");
    assert_eq!((lines.port, lines.bulk_bytes_max, &*lines.password), (7001, 2 << 20, "a b"));
    assert_eq!(lines.bind, ["*", "-::*"]);
    let env = Env::system();
    let mut loader = Loader::new(&*env.disk, &module_setting, crate::commands::table(&[]));
    let variables = [("ENGRAMDB_IO_THREADS", "3"), ("ENGRAMDB_BIND", "::1 127.0.0.1"), ("PATH", "/bin")];
    loader.environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let (config, _) = loader.finish().expect("they are right");
    assert_eq!((config.threads, config.bind.len()), (3, 2));
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let text = "port 7000\nnope 1\ndatabases 0\nio-threads 100000\n\nrequirepass \"open\nport\nproto 1\n\
                cluster-enabled yes\ndir \"\"\nsearch-timeout x\nhz 0x1\nport 99999";
    let wanted = "the configuration has 11 errors
  test.conf:6: Unbalanced quotes in configuration line
  test.conf:2: there is no parameter 'nope'; did you mean 'hz'?";
    let found = problems(text);
    assert!(found.starts_with(wanted.split("; did").next().expect("a text")), "{found}");
    for line in [
        "test.conf:3: databases 0: argument must be between 1 and 65536 inclusive",
        "test.conf:4: io-threads 100000: argument must be between 0 and 128 inclusive",
        "test.conf:7: port: wrong number of arguments",
        "test.conf:8: there is no parameter 'proto'",
        "test.conf:9: cluster-enabled yes: there is no cluster mode",
        "test.conf:10: dir : a directory is needed",
        "test.conf:11: search-timeout x: invalid digit",
        "test.conf:12: hz 0x1: argument couldn't be parsed into an integer",
        "test.conf:13: port 99999: argument must be between 1 and 65535 inclusive",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    assert_eq!(problems("prot 1"), "test.conf:1: there is no parameter 'prot'; did you mean 'port'?");
    assert_eq!(problems("a 1"), "test.conf:1: there is no parameter 'a'");
    let toml = problems("port = 1\nnope = 2\n[table]\nx = 1");
    assert!(toml.contains("test.conf:2: there is no parameter 'nope'"), "{toml}");
    assert!(toml.contains("test.conf:3: table: give text"), "{toml}");
    assert!(problems("port = 1\nhz = [").starts_with("test.conf:2: "));
}

/// In the working directory first, as Redis does, and then beside the file; a pattern may match nothing.
#[test]
fn files_include_others_and_not_without_end() {
    let env = Env::system();
    let directory = TempDir::new("include");
    env.disk.create_dir_all(&directory.join("parts")).expect("the temporary directory is writable");
    let write = |name: &str, text: &str| {
        env.disk.write_atomically(&directory.join(name), text.as_bytes()).expect("it is writable");
    };
    write("main.conf", "include parts/[ab].conf\ninclude parts/none-*.conf\ninclude one.conf\nport 7002\n");
    write("parts/a.conf", "port 7000\nhz 20\n");
    write("parts/b.conf", "hz 30\n");
    write("parts/c.conf", "nope 1\n");
    write("one.conf", "timeout 9\n");
    write("loop.conf", "include circle.conf\n");
    write("circle.conf", "hz 20\ninclude parts/../loop.conf\n");
    write("endless.conf", "include /dev/zero\ninclude parts\n");
    let load = |name: &str| {
        let mut loader = Loader::new(&*env.disk, &module_setting, crate::commands::table(&[]));
        loader.file(&directory.join(name));
        loader.finish()
    };
    let (config, _) = load("main.conf").expect("they are right");
    assert_eq!((config.port, config.hz, config.idle_timeout_s), (7002, 30, 9));
    assert_eq!(config.file, Some(directory.join("main.conf")));
    let endless = load("loop.conf").expect_err("it never ends").to_string();
    let [looping, circle] =
        ["loop.conf", "circle.conf"].map(|name| directory.join(name).display().to_string());
    let chain = format!("the files include each other: {looping} -> {circle} -> ");
    assert!(endless.contains(&format!("{circle}:2: include ")) && endless.contains(&chain), "{endless}");
    let special = load("endless.conf").expect_err("neither is a file").to_string();
    for part in
        ["endless.conf:1: include /dev/zero: it is not a regular file", "parts: it is not a regular file"]
    {
        assert!(special.contains(part), "{special}");
    }
    let fifo = directory.join("fifo.conf");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("it is there").success());
    let waiting = load("fifo.conf").expect_err("nobody writes to it").to_string();
    assert!(waiting.contains("fifo.conf: cannot be read: it is not a regular file"), "{waiting}");
    let large = env.disk.create(&directory.join("large.conf")).expect("it is writable");
    large.set_size((16 << 20) + 1).expect("it may be sparse");
    let large = load("large.conf").expect_err("it is no configuration").to_string();
    assert!(large.contains("large.conf: cannot be read: it has 16777217 bytes"), "{large}");
    write("main.conf", "include parts/c.conf\ninclude gone.conf\n");
    let errors = load("main.conf").expect_err("one is wrong, one is missing").to_string();
    assert!(errors.contains("parts/c.conf:1: there is no parameter 'nope'"), "{errors}");
    assert!(errors.contains("main.conf:2: include ") && errors.contains("gone.conf: "), "{errors}");
    assert!(load("gone.conf").expect_err("it is missing").to_string().contains("gone.conf: cannot be read"));
}

/// Comments may have any encoding; values must be UTF-8.
#[test]
fn bytes_outside_of_utf8_are_fine_in_comments_only() {
    let latin = config_of(b"# caf\xe9\n  # na\xefve\nhz 20\n");
    assert_eq!(latin.hz, 20);
    let marked = config_of(b"\xef\xbb\xbfhz 20\nport 7000");
    assert_eq!((marked.hz, marked.port), (20, 7000));
    assert_eq!(config_of(b"\xef\xbb\xbfhz = 20\nport = 7000\n").hz, 20);
    assert_eq!(config_of(b"hz 20\r\nport 7000\r\n").port, 7000);
    let wrong = load_bytes(b"# fine\nrequirepass caf\xe9\nhz -1").expect_err("two are wrong").to_string();
    assert!(
        wrong.contains("test.conf:2: it is not UTF-8") && wrong.contains("test.conf:3: hz -1"),
        "{wrong}"
    );
    let wrong = load_bytes(b"requirepass \"\\xe9\"").expect_err("it is wrong").to_string();
    assert_eq!(wrong, "test.conf:1: it is not UTF-8");
    let wrong = load_bytes(b"hz = 20\n# caf\xe9\n").expect_err("TOML is UTF-8").to_string();
    assert_eq!(wrong, "test.conf:2: it is not UTF-8");
    let wrong = load_bytes(b"\xff\xfeh\0z\0").expect_err("it is wrong").to_string();
    assert!(wrong.contains("UTF-16"), "{wrong}");
}

fn config_of(text: &[u8]) -> Config {
    load_bytes(text).expect("it is right").0
}

#[test]
fn addresses_that_are_none_are_told_with_the_other_errors() {
    for wrong in ["999.1.1.1", "127.0.0.1 -1.2.3.256", "::zz", "[::1]", "127.0.0.1:6379", "-"] {
        let errors = problems(&format!("bind {wrong}\nmaxmemory 10%"));
        assert!(errors.contains("test.conf:1: bind ") && errors.contains("is not an IP address"), "{errors}");
        assert!(errors.contains("test.conf:2: maxmemory 10%"), "{errors}");
    }
    for right in ["* -::*", "localhost", "127.0.0.1 -::1", "fe80::1%eth0", "127.1", "db.example.com"] {
        config(&format!("bind {right}"));
    }
}

/// As Redis 8.2.3 reads them.
#[test]
fn numbers_are_read_as_redis_does() {
    assert_eq!([0, 1, 500, 501, 1000].map(|hz| config(&format!("hz {hz}")).hz), [1, 1, 500, 500, 500]);
    for wrong in ["hz -1", "hz 2147483648", "maxclients +5", "maxclients 007", "timeout -0", "timeout 1h"] {
        assert!(load(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_directory_is_absolute() {
    let (here, _) = load("dir data").expect("it is right");
    assert_eq!(here.directory, std::env::current_dir().expect("there is one").join("data"));
    assert!(Path::new(&(parameter("dir").expect("a parameter").get)(&config(""))).is_absolute());
}

#[test]
fn variables_that_nobody_reads_are_errors() {
    let env = Env::system();
    let mut loader = Loader::new(&*env.disk, &module_setting, crate::commands::table(&[]));
    let variables = [
        ("ENGRAMDB_PROT", "1"),
        ("ENGRAMDB_PORT", "tcp://10.0.0.1:6379"),
        ("ENGRAMDB_SERVICE_HOST", "10.0.0.1"),
        ("ENGRAMDB_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
    ];
    loader.environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let error = loader.finish().expect_err("one is unknown").to_string();
    assert_eq!(error, "ENGRAMDB_PROT: there is no parameter 'prot'; did you mean 'port'?");
}

#[test]
fn what_does_not_hold_is_told_once() {
    let (config, notes) = load(
        "appendonly no\nappendfsync everysec\nsave 3600 1\nsave 300 100\nrdbchecksum yes\nmaxmemory 100mb\n\
         loadmodule ./modules/redisearch.so\nuser default on nopass ~* &* +@all\nrename-command FLUSHALL \"\"\n\
         client-output-buffer-limit normal 64mb 0 0\nclient-output-buffer-limit replica 256mb 64mb 60\n\
         search-timeout 700\nappendonly yes\nreplicaof no one",
    )
    .expect("a stock file starts the server");
    assert_eq!((config.memory_bytes_max, config.output_limits.normal.hard), (100 << 20, 64 << 20));
    assert_eq!(config.module_settings["search-timeout"], "700");
    assert_eq!(config.renamed_commands, [("FLUSHALL".to_owned(), String::new())]);
    let ignored = notes.ignored().expect("some");
    assert!(
        ignored.contains("RDB and AOF files: save rdbchecksum;")
            || ignored.contains("RDB and AOF files: save rdbchecksum"),
        "{ignored}"
    );
    assert!(ignored.contains("loadmodule ./modules/redisearch.so"), "{ignored}");
    assert_eq!(notes.warnings.len(), 2, "{:?}", notes.warnings);
    assert!(notes.warnings[0].starts_with("test.conf:1: 'appendonly no' does not hold: every write"));
    for wrong in [
        "user",
        "rename-command NOPE x",
        "rename-command GET set",
        "sentinel x",
        "client-query-buffer-limit 3gb",
        "proto-max-bulk-len 3gb",
        "port 1 2",
    ] {
        assert!(load(wrong).is_err(), "{wrong}");
    }
}

/// The table in docs/configuration.md derives from the table of parameters; ENGRAMDB_BLESS=1 writes it.
#[test]
fn the_documentation_has_every_parameter() {
    let env = Env::system();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = String::from_utf8(env.disk.read(&path).expect("it is there")).expect("it is text");
    let (begin, end) = ("<!-- parameters -->\n", "<!-- end of parameters -->");
    let mut table = String::from("| parameter | values | default | CONFIG SET | |\n|---|---|---|---|---|\n");
    let defaults = Config::default();
    for parameter in PARAMETERS {
        let names = [&[parameter.name], parameter.aliases].concat().join("`, `");
        let values = [parameter.shape.placeholder().replace('|', ", "), parameter.shape.bounds()];
        let values = values.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
        let default = Some((parameter.get)(&defaults)).filter(|shown| !shown.is_empty());
        let default = default.map_or(String::new(), |shown| format!("`{shown}`"));
        let change = if parameter.change == Change::Live { "yes" } else { "no" };
        let help = parameter.help.replace('|', "\\|");
        table.push_str(&format!("| `{names}` | {values} | {default} | {change} | {help} |\n"));
    }
    let start = page.find(begin).expect("the table begins") + begin.len();
    let stop = page.find(end).expect("the table ends");
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") {
        let blessed = format!("{}{table}{}", &page[..start], &page[stop..]);
        env.disk.write_atomically(&path, blessed.as_bytes()).expect("it is writable");
        return;
    }
    assert_eq!(page[start..stop], table, "run it again with ENGRAMDB_BLESS=1");
}
