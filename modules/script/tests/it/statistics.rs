//! Errors of scripts and of their commands in the statistics.

use crate::support::{Scripted, eval, run, show};
use engramdb_testkit::tcp::Client;

fn has(client: &mut Client, section: &str, wanted: &str) {
    let info = run(client, &format!("INFO {section}"));
    assert!(info.contains(wanted), "{wanted:?} is not in {info}");
}

#[test]
fn an_error_of_a_command_is_counted_once() {
    let server = Scripted::start();
    let mut client = server.client();
    for script in [
        "return redis.call('incr', KEYS[1])",
        "return redis.pcall('incr', KEYS[1])",
        "redis.pcall('incr', KEYS[1]) return 1",
        "return redis.call('nothing')",
        "return redis.pcall('get')",
        "return redis.error_reply('ERR mine')",
    ] {
        run(&mut client, "SET text x");
        run(&mut client, "CONFIG RESETSTAT");
        client.run(&["EVAL", script, "1", "text"]);
        has(&mut client, "errorstats", "errorstat_ERR:count=1");
        has(&mut client, "stats", "total_error_replies:1");
    }
    run(&mut client, "CONFIG RESETSTAT");
    client.run(&["EVAL", "return redis.call('incr', KEYS[1])", "1", "text"]);
    has(&mut client, "commandstats", "cmdstat_incr:calls=1,");
    has(&mut client, "commandstats", "rejected_calls=0,failed_calls=1");
    run(&mut client, "CONFIG SET maxmemory 1");
    run(&mut client, "CONFIG RESETSTAT");
    client.run(&["EVAL", "return redis.call('set', KEYS[1], 1)", "1", "text"]);
    has(&mut client, "errorstats", "errorstat_OOM:count=1");
    has(&mut client, "commandstats", "cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1");
}

#[test]
fn what_scripts_of_redis_suites_do() {
    let server = Scripted::start();
    let mut client = server.client();
    let version = "local n = redis.REDIS_VERSION_NUM \
        return string.format('%d.%d.%d', bit.rshift(n, 16), bit.band(bit.rshift(n, 8), 255), bit.band(n, 255)) \
        == redis.REDIS_VERSION";
    assert_eq!(eval(&mut client, version), "1");
    let blocking = eval(&mut client, "return redis.call('XRead', 'BLOCK', 0, 'STREAMS', 's', '$')");
    assert!(
        blocking.contains("ERR XRead command is not allowed with BLOCK option from scripts"),
        "{blocking}"
    );
    run(&mut client, "SADD members b aa a azz");
    let sorted = eval(&mut client, "return table.concat(redis.call('sort', 'members', 'by', 'nosort'), ' ')");
    assert!(sorted.contains("a aa azz b"), "{sorted}");
    let published = show(&client.run(&["EVAL_RO", "return redis.call('publish', 'c', 'm')", "0"]));
    assert!(published.contains("ERR Write commands are not allowed from read-only scripts."), "{published}");
    let library = "#!lua name=\"quoted\"\nredis.register_function('many', function(keys) local a = {} \
        for i = 1, 7990 do a[i] = i end return redis.call('rpush', keys[1], unpack(a)) end)";
    client.run(&["FUNCTION", "LOAD", library]);
    assert_eq!(run(&mut client, "FCALL many 1 list"), "7990");
}

/// A bound of a small command is many times what it logs: what it did not use is there for the next one.
#[test]
fn a_script_of_a_hundred_thousand_writes_fits_into_the_log() {
    let server = Scripted::start();
    let mut client = server.client();
    let script =
        "for i = 1, 100000 do redis.call('sadd', KEYS[1], i) end return redis.call('scard', KEYS[1])";
    let reply = client.run(&["EVAL", script, "1", "set"]);
    assert_eq!(show(&reply), "100000");
}

#[test]
fn monitors_see_a_script_and_then_its_commands() {
    let server = Scripted::start();
    let (mut client, mut monitor) = (server.client(), server.client());
    run(&mut monitor, "MONITOR");
    eval(&mut client, "return redis.call('set', 'key', 1)");
    for wanted in ["\"EVAL\"", "[0 lua] \"set\" \"key\" \"1\""] {
        let seen = format!("{:?}", monitor.receive()).replace('\\', "");
        assert!(seen.contains(wanted), "{wanted} is not in {seen}");
    }
}
