//! The rights of the caller hold inside scripts.

use crate::support::{Scripted, eval, run, show};

#[test]
fn commands_of_a_script_need_the_caller_s_rights() {
    let server = Scripted::start();
    let mut admin = server.client();
    assert!(run(&mut admin, "ACL SETUSER u on nopass ~a* +@all -set").contains("OK"));
    let mut client = server.client();
    assert!(run(&mut client, "AUTH u x").contains("OK"));
    let refused = eval(&mut client, "return redis.call('set', 'a', '1')");
    let wanted = "ERR ACL failure in script: User u has no permissions to run the \\'set\\' command";
    assert!(refused.contains(wanted), "{refused}");
    let refused = eval(&mut client, "return redis.pcall('get', 'b')");
    assert!(refused.contains("ERR ACL failure in script: No permissions to access a key"), "{refused}");
    assert!(!eval(&mut client, "return redis.call('get', 'a')").contains("ACL"));
    let asked = "return {redis.acl_check_cmd('set', 'a', '1'), redis.acl_check_cmd('get', 'a')}";
    let allowed = eval(&mut client, asked);
    assert!(allowed.contains("[null, 1]"), "{allowed}");
    let keys = show(&client.run(&["EVAL", "return 1", "1", "b"]));
    assert!(keys.contains("NOPERM"), "{keys}");
    // The same in a transaction.
    run(&mut client, "MULTI");
    client.run(&["EVAL", "return redis.call('set', 'a', '1')", "0"]);
    let reply = run(&mut client, "EXEC");
    assert!(reply.contains("ACL failure in script"), "{reply}");
    assert!(run(&mut admin, "EXISTS a").contains('0'));
    assert!(run(&mut admin, "ACL LOG").contains("lua"));
}
