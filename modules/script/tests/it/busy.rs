//! Scripts that take long: what others get, and how they are ended.

use crate::support::{Scripted, await_reply, eval, is_silent, run, show};
use engramdb_server::Config;

const ENDLESS: &str = "while true do end";

fn impatient(config: &mut Config) {
    config.busy_reply_threshold_ms = 1;
}

#[test]
fn others_get_busy_on_the_only_worker_until_the_script_is_killed() {
    let server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    for script in [
        ENDLESS,
        "while true do pcall(function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "return (('a'):rep(40)):find(('a?'):rep(40)..('a'):rep(40)..'b')",
        "while true do redis.call('get', 'x') end",
        "while true do redis.pcall('nosuch') end",
        "coroutine.wrap(function() while true do end end)()",
        "local co = coroutine.create(function() while true do end end) coroutine.resume(co) while true do end",
    ] {
        caller.send(&["EVAL", script, "0"]);
        let busy = await_reply(&mut other, &["PING"], "BUSY");
        assert!(busy.contains("You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), "{busy}");
        // A new connection is answered, too.
        let mut third = server.client();
        assert!(run(&mut third, "SET k v").contains("BUSY"));
        assert!(run(&mut third, "FUNCTION KILL").contains("BUSY"));
        assert!(run(&mut third, "FUNCTION STATS").contains("BUSY"));
        assert!(run(&mut third, "SCRIPT KILL").contains("OK"));
        let killed = show(&caller.receive());
        assert!(killed.contains("Script killed by user with SCRIPT KILL..."), "{killed}");
        await_reply(&mut other, &["PING"], "PONG");
        assert!(run(&mut other, "SCRIPT KILL").contains("NOTBUSY"));
    }
}

#[test]
fn a_transaction_is_broken_by_a_busy_server() {
    let server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    caller.send(&["EVAL", ENDLESS, "0"]);
    await_reply(&mut other, &["PING"], "BUSY");
    assert!(run(&mut other, "MULTI").contains("OK"));
    assert!(run(&mut other, "INCR n").contains("BUSY"));
    let mut third = server.client();
    assert!(run(&mut third, "SCRIPT KILL").contains("OK"));
    caller.receive();
    assert!(run(&mut other, "EXEC").contains("EXECABORT"));
    assert!(run(&mut other, "EXISTS n").contains('0'));
}

#[test]
fn a_script_in_a_transaction_is_killed() {
    let server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    run(&mut caller, "MULTI");
    caller.run(&["EVAL", ENDLESS, "0"]);
    caller.send(&["EXEC"]);
    await_reply(&mut other, &["PING"], "BUSY");
    assert!(run(&mut other, "SCRIPT KILL").contains("OK"));
    let reply = show(&caller.receive());
    assert!(reply.contains("Script killed by user"), "{reply}");
}

#[test]
fn a_script_that_has_written_is_not_killed() {
    let server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    let script = "redis.call('set', 'a', '1') local i = 0 while i < 3e7 do i = i + 1 end return 'done'";
    caller.send(&["EVAL", script, "0"]);
    await_reply(&mut other, &["PING"], "BUSY");
    assert!(run(&mut other, "SCRIPT KILL").contains("UNKILLABLE"));
    assert!(show(&caller.receive()).contains("done"));
    assert!(run(&mut other, "GET a").contains('1'));
}

#[test]
fn a_function_is_killed_by_its_own_command() {
    let server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    let code = "#!lua name=endless\nredis.register_function('endless', function() while true do end end)";
    caller.run(&["FUNCTION", "LOAD", code]);
    caller.send(&["FCALL", "endless", "0", "word"]);
    let busy = await_reply(&mut other, &["PING"], "BUSY");
    assert!(busy.contains("You can only call FUNCTION KILL or SHUTDOWN NOSAVE."), "{busy}");
    let stats = run(&mut other, "FUNCTION STATS");
    assert!(["endless", "FCALL", "word", "duration_ms"].iter().all(|part| stats.contains(part)), "{stats}");
    assert!(run(&mut other, "SCRIPT KILL").contains("BUSY"));
    assert!(run(&mut other, "FUNCTION KILL").contains("OK"));
    assert!(show(&caller.receive()).contains("Script killed by user"));
    assert!(!run(&mut other, "FUNCTION STATS").contains("endless"));
}

#[test]
fn the_code_of_a_library_runs_for_a_bounded_time() {
    let server = Scripted::start();
    let mut client = server.client();
    let reply = show(&client.run(&["FUNCTION", "LOAD", "#!lua name=slow\nwhile true do end"]));
    assert!(reply.contains("FUNCTION LOAD timeout"), "{reply}");
    assert!(eval(&mut client, "return 1").contains('1'));
}

#[test]
fn a_server_stops_in_spite_of_a_script() {
    let mut server = Scripted::with(impatient);
    let (mut caller, mut other) = (server.client(), server.client());
    caller.send(&["EVAL", "redis.call('set', 'a', '1') while true do end", "0"]);
    await_reply(&mut other, &["PING"], "BUSY");
    server.restart();
    let mut client = server.client();
    assert!(run(&mut client, "PING").contains("PONG"));
}

#[test]
fn replies_wait_until_the_script_s_batch_is_durable() {
    let server = Scripted::stalled();
    let (mut writer, mut reader) = (server.client(), server.client());
    writer.send(&["EVAL", "redis.call('set', 'a', '1') redis.call('set', 'b', '2') return 'written'", "0"]);
    assert!(is_silent(&mut writer), "the script's batch is not durable");
    // A script that reads it waits as well.
    reader.send(&["EVAL", "return redis.call('get', 'b')", "0"]);
    assert!(is_silent(&mut reader));
    server.sync();
    assert!(show(&writer.receive()).contains("written"));
    assert!(show(&reader.receive()).contains('2'));
    // One that reads nothing does not.
    assert!(eval(&mut reader, "return 'at once'").contains("at once"));
}

#[test]
fn functions_and_their_replies_wait_until_they_are_durable() {
    let server = Scripted::stalled();
    let (mut admin, mut caller, mut reader) = (server.client(), server.client(), server.client());
    let code = "#!lua name=kept\nredis.register_function('kept', function(keys) redis.call('rpush', keys[1], 'a', 'b') \
                return redis.call('llen', keys[1]) end)";
    admin.send(&["FUNCTION", "LOAD", code]);
    assert!(is_silent(&mut admin), "the library is not durable");
    reader.send(&["FUNCTION", "LIST"]);
    assert!(is_silent(&mut reader), "nor is what shows it");
    server.sync();
    assert!(show(&admin.receive()).contains("kept"));
    assert!(show(&reader.receive()).contains("kept"));
    caller.send(&["FCALL", "kept", "1", "list"]);
    assert!(is_silent(&mut caller), "the function's batch is not durable");
    reader.send(&["LLEN", "list"]);
    assert!(is_silent(&mut reader));
    server.sync();
    assert!(show(&caller.receive()).contains('2'));
    assert!(show(&reader.receive()).contains('2'));
    // A client that waits is served by a script's batch.
    reader.send(&["BLPOP", "queue", "0"]);
    assert!(is_silent(&mut reader));
    caller.send(&["EVAL", "return redis.call('rpush', 'queue', 'x')", "0"]);
    assert!(is_silent(&mut caller) && is_silent(&mut reader), "the batch that feeds it is not durable");
    server.sync();
    assert!(show(&reader.receive()).contains('x'));
    assert!(show(&caller.receive()).contains('1'));
}
