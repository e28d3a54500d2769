//! Functions are data: they survive a restart, and the payload of FUNCTION DUMP.

use crate::support::{Scripted, run, show};

const CODE: &str = "#!lua name=counters\nlocal calls = 0\nredis.register_function{function_name='count', callback=function(keys, \
                    args) calls = calls + 1 return redis.call('incrby', keys[1], args[1]) + calls end, \
                    description='counts'}\nredis.register_function{function_name='read', callback=function(keys) return \
                    redis.call('get', keys[1]) end, flags={'no-writes'}}";

#[test]
fn functions_are_there_again_after_a_restart() {
    let mut server = Scripted::start();
    let mut client = server.client();
    assert!(show(&client.run(&["FUNCTION", "LOAD", CODE])).contains("counters"));
    client.run(&["FUNCTION", "LOAD", "#!lua name=other\nredis.register_function('other', function() end)"]);
    client.run(&["FUNCTION", "DELETE", "other"]);
    assert!(run(&mut client, "FCALL count 1 n 5").contains('6'));
    let listed = run(&mut client, "FUNCTION LIST WITHCODE");
    server.restart();
    let mut client = server.client();
    assert_eq!(run(&mut client, "FUNCTION LIST WITHCODE"), listed);
    assert!(
        run(&mut client, "FCALL count 1 n 5").contains("11"),
        "what a library keeps in locals begins anew"
    );
    assert!(run(&mut client, "FCALL_RO read 1 n").contains("10"));
    assert!(run(&mut client, "FCALL other 0").contains("Function not found"));
    run(&mut client, "FUNCTION FLUSH");
    server.restart();
    assert!(run(&mut server.client(), "FCALL read 1 n").contains("Function not found"));
}

#[test]
fn scripts_of_eval_are_not_kept_over_a_restart() {
    let mut server = Scripted::start();
    let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    assert!(show(&server.client().run(&["SCRIPT", "LOAD", "return 1"])).contains(sha));
    server.restart();
    assert!(run(&mut server.client(), &format!("EVALSHA {sha} 0")).contains("NOSCRIPT"));
}

#[test]
fn a_payload_brings_functions_to_another_server() {
    let (first, second) = (Scripted::start(), Scripted::start());
    let (mut from, mut to) = (first.client(), second.client());
    from.run(&["FUNCTION", "LOAD", CODE]);
    let payload = match from.run(&["FUNCTION", "DUMP"]) {
        engramdb_resp::Value::Bulk(payload) => payload.to_vec(),
        other => panic!("{other:?}"),
    };
    let restore = |to: &mut engramdb_testkit::tcp::Client, policy: &[u8]| {
        show(&to.run(&[b"FUNCTION", b"RESTORE".as_slice(), &payload, policy]))
    };
    assert!(restore(&mut to, b"APPEND").contains("OK"));
    assert!(restore(&mut to, b"APPEND").contains("Library counters already exists"));
    assert!(restore(&mut to, b"REPLACE").contains("OK"));
    to.run(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=more\nredis.register_function('more', function() return 1 end)",
    ]);
    assert!(restore(&mut to, b"FLUSH").contains("OK"));
    assert!(run(&mut to, "FCALL more 0").contains("Function not found"));
    assert!(run(&mut to, "FCALL count 1 n 1").contains('2'));
    let mut damaged = payload.clone();
    damaged[3] ^= 1;
    let reply = show(&to.run(&[b"FUNCTION", b"RESTORE".as_slice(), &damaged]));
    assert!(reply.contains("DUMP payload version or checksum are wrong"));
}
