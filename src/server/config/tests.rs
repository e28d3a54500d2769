use super::*;
use engramdb_engine::env::Env;
use std::path::Path;

fn load(text: &str) -> Result<(Config, Notes), ConfigErrors> {
    let env = Env::system();
    let mut loader = Loader::new(&*env.disk, &module_setting);
    loader.text(Path::new("test.conf"), text, 0);
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
    let mut loader = Loader::new(&*env.disk, &module_setting);
    let variables = [("ENGRAMDB_IO_THREADS", "3"), ("ENGRAMDB_BIND", "::1 127.0.0.1"), ("PATH", "/bin")];
    loader.environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let (config, _) = loader.finish().expect("they are right");
    assert_eq!((config.threads, config.bind.len()), (3, 2));
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let text = "port 7000\nnope 1\ndatabases 0\nio-threads 100000\n\nrequirepass \"open\nport\nproto 1\n\
                cluster-enabled yes\ndir \"\"\nsearch-timeout x\nhz 501\nport 99999";
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
        "test.conf:12: hz 501: argument must be between 1 and 500 inclusive",
        "test.conf:13: port 99999: argument must be between 1 and 65535 inclusive",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    assert_eq!(problems("prot 1"), "test.conf:1: there is no parameter 'prot'; did you mean 'port'?");
    let toml = problems("port = 1\nnope = 2\n[table]\nx = 1");
    assert!(toml.contains("test.conf:2: there is no parameter 'nope'"), "{toml}");
    assert!(toml.contains("test.conf:3: table: give text"), "{toml}");
    assert!(problems("port = 1\nhz = [").starts_with("test.conf:2: "));
}

#[test]
fn variables_that_nobody_reads_are_errors() {
    let env = Env::system();
    let mut loader = Loader::new(&*env.disk, &module_setting);
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
    for wrong in
        ["user bob on", "user default -@all", "sentinel x", "maxmemory-policy allkeys-lru", "port 1 2"]
    {
        assert!(load(wrong).is_err(), "{wrong}");
    }
}
