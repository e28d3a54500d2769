//! Scripts that want too much: clear errors, and a server that goes on.

use crate::support::{Scripted, eval, run, show};

#[test]
fn too_much_of_anything_is_an_error() {
    let server = Scripted::start();
    let mut client = server.client();
    for (script, wanted) in [
        ("local function f(n) return 1 + f(n + 1) end return f(1)", "stack overflow"),
        ("local s = 'x' while true do s = s .. s end", "not enough memory"),
        ("local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end", "not enough memory"),
        ("return string.rep('x', 1e10)", "not enough memory"),
        ("return {unpack({}, 1, 1e7)}", "too many results to unpack"),
        ("local t = {} t.x = t return cjson.encode(t)", "excessive nesting"),
        ("return (('a'):rep(200000)):find(('a?'):rep(200000))", "pattern too complex"),
        ("local co co = coroutine.wrap(function() co() end) co()", "cannot resume"),
        ("return coroutine.yield(1)", "attempt to yield"),
        ("return (('a'):rep(200000)):gsub(('a-'):rep(200000) .. 'b', '')", "pattern too complex"),
        ("return (('a'):rep(200000)):find(('a'):rep(100000)) == 1", "1"),
        ("return string.find('a')", "user_script:1: bad argument #2 to"),
        ("return redis.sha1hex(string.gsub(1234, 2, 'x'))", "wrong number of arguments"),
    ] {
        let reply = eval(&mut client, script);
        assert!(reply.contains(wanted), "{script}: {reply}");
        assert!(eval(&mut client, "return 'fine'").contains("fine"));
    }
}

/// A few tables that contain each other are more values than can be written.
#[test]
fn a_reply_has_a_bounded_number_of_values() {
    let server = Scripted::start();
    let mut client = server.client();
    let reply = eval(&mut client, "local t = {} t[1] = t t[2] = t return t");
    assert!(reply.contains("too many values"), "{reply}");
    assert!(eval(&mut client, "return 'fine'").contains("fine"));
}

#[test]
fn a_verbatim_string_s_format_can_be_anything() {
    let server = Scripted::start();
    let mut client = server.client();
    for format in ["txt", "", "a", "\\255\\254\\253x", "\\r\\n:"] {
        let script = format!("return {{verbatim_string = {{format = '{format}', string = 'text'}}}}");
        assert!(eval(&mut client, &script).contains("text"), "{format}");
    }
}

#[test]
fn a_script_of_many_writes_is_one_batch() {
    let server = Scripted::start();
    let mut client = server.client();
    let before = server.server().engine().last_lsn();
    let script = "for i = 1, 20000 do redis.call('set', 'key:' .. i, string.rep('v', 100)) end return 'done'";
    assert!(eval(&mut client, script).contains("done"));
    assert_eq!(server.server().engine().last_lsn().0, before.0 + 1);
    assert!(run(&mut client, "DBSIZE").contains("20000"));
}

#[test]
fn a_script_that_fails_keeps_what_it_wrote() {
    let mut server = Scripted::start();
    let mut client = server.client();
    assert!(eval(&mut client, "redis.call('set', 'a', '1') error('oops')").contains("oops"));
    assert!(run(&mut client, "GET a").contains('1'));
    server.restart();
    assert!(run(&mut server.client(), "GET a").contains('1'));
}

#[test]
fn a_script_larger_than_the_log_s_buffer_gets_an_error() {
    let server = Scripted::with(|_| ());
    let mut client = server.client();
    // 100 MB in one batch, where 64 MiB may wait.
    let script = "local v = string.rep('v', 1000000) for i = 1, 100 do redis.call('set', 'key:' .. i, v) end";
    let reply = eval(&mut client, script);
    assert!(reply.contains("MISCONF") && reply.contains("transaction log"), "{reply}");
    assert!(eval(&mut client, "return redis.call('exists', 'key:1', 'key:100')").contains('1'));
    assert!(run(&mut client, "SET after 1").contains("OK"));
}

#[test]
fn eval_keeps_a_bounded_number_of_scripts() {
    let server = Scripted::start();
    let mut client = server.client();
    let loaded = show(&client.run(&["SCRIPT", "LOAD", "return 'loaded'"]));
    let first = "return 0";
    eval(&mut client, first);
    for number in 1..=510 {
        eval(&mut client, &format!("return {number}"));
    }
    let sha = loaded.split('"').nth(1).expect("a SHA1").to_owned();
    assert!(show(&client.run(&["EVALSHA", &sha, "0"])).contains("loaded"), "SCRIPT LOAD's scripts stay");
    // SHA1 of `return 0`.
    let forgotten = show(&client.run(&["SCRIPT", "EXISTS", "06d3d9b2060dd51343d5f19f0e531f15c507e3d1"]));
    assert!(forgotten.contains('0'));
}

/// As in Redis: the call of the script, and then what the script calls.
#[test]
fn monitors_see_scripts_and_what_they_call() {
    let server = Scripted::start();
    let (mut client, mut monitor) = (server.client(), server.client());
    assert!(show(&monitor.run(&["MONITOR"])).contains("OK"));
    eval(&mut client, "redis.call('set', 'key', 'value') return redis.call('get', 'key')");
    run(&mut client, "PING");
    for (caller, start) in [
        ("127.0.0.1:", "\"EVAL\""),
        ("lua]", "\"set\" \"key\" \"value\""),
        ("lua]", "\"get\" \"key\""),
        ("127.0.0.1:", "\"PING\""),
    ] {
        let line = show(&monitor.receive());
        assert!(line.replace('\\', "").contains(start) && line.contains(caller), "{line}");
    }
}
