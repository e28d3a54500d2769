//! What the statistics say of commands in transactions, and of those that wait for keys.

use crate::commands::lines;
use crate::parking::wait_for_parked;
use crate::support::{TestClient, TestServer};

fn count(client: &mut TestClient, section: &str, start: &str) -> Option<String> {
    lines(client, &format!("INFO {section}")).into_iter().find(|line| line.starts_with(start))
}

#[test]
fn exec_and_what_it_runs_are_counted() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("CONFIG RESETSTAT", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    for command in ["SET a x", "INCR a", "INCR b"] {
        client.call(command, "+QUEUED\r\n");
    }
    client.call("EXEC", "*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n:1\r\n");
    for (name, wanted) in [("exec", ["calls=1,", "failed_calls=0"]), ("incr", ["calls=2,", "failed_calls=1"])]
    {
        let line = count(&mut client, "commandstats", &format!("cmdstat_{name}:")).expect("it was called");
        assert!(wanted.iter().all(|part| line.contains(part)), "{line}");
    }
    client.call("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n");
    client.call("SLOWLOG RESET", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("GET b", "+QUEUED\r\n");
    client.call("EXEC", "*1\r\n$1\r\n1\r\n");
    let slow = lines(&mut client, "SLOWLOG GET");
    assert!(slow.contains(&"GET".to_owned()) && !slow.contains(&"EXEC".to_owned()), "{slow:?}");
}

#[test]
fn a_command_that_waits_is_noted_when_it_has_its_reply() {
    let server = TestServer::start();
    let [mut client, mut waiting] = [(); 2].map(|()| server.client());
    client.call("CONFIG SET slowlog-log-slower-than 0", "+OK\r\n");
    client.call("SLOWLOG RESET", "+OK\r\n");
    client.call("CONFIG RESETSTAT", "+OK\r\n");
    waiting.command("BLPOP list other 0");
    wait_for_parked(&server, 1);
    assert!(!lines(&mut client, "SLOWLOG GET").contains(&"BLPOP".to_owned()));
    assert_eq!(
        count(&mut client, "clients", "total_blocking_keys:").as_deref(),
        Some("total_blocking_keys:2")
    );
    assert_eq!(count(&mut client, "commandstats", "cmdstat_blpop:"), None);
    assert!(lines(&mut client, "CLIENT LIST").iter().any(|line| line.contains("cmd=blpop")));
    // The log has the words that end what is read here.
    client.call("SLOWLOG RESET", "+OK\r\n");
    client.call("RPUSH list x", ":1\r\n");
    waiting.expect("*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    assert!(lines(&mut client, "SLOWLOG GET").contains(&"BLPOP".to_owned()));
    assert!(
        count(&mut client, "commandstats", "cmdstat_blpop:").expect("it was called").contains("calls=1,")
    );
    assert_eq!(
        count(&mut client, "clients", "total_blocking_keys:").as_deref(),
        Some("total_blocking_keys:0")
    );
}

#[test]
fn a_client_sees_its_own_command_in_the_list() {
    let server = TestServer::start();
    let mut client = server.client();
    let own = lines(&mut client, "CLIENT LIST");
    assert!(own[1].contains("cmd=client|list"), "{own:?}");
}
