//! What arrives, in which pieces, and what comes back.

use crate::support::TestServer;

#[test]
fn pipelines_and_inline_commands() {
    let server = TestServer::start();
    let mut client = server.client();
    client.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nGET a\r\nping\r\n");
    client.expect("+OK\r\n$1\r\n1\r\n$1\r\n1\r\n+PONG\r\n");
    let pipeline: String = (0..5000).map(|number| format!("SET k{number} v\r\n")).collect();
    client.send(pipeline);
    client.expect("+OK\r\n".repeat(5000));
    client.call("GET k4999", "$1\r\nv\r\n");
}

#[test]
fn one_byte_at_a_time() {
    let server = TestServer::start();
    let mut client = server.client();
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n" {
        client.send([*byte]);
    }
    client.expect("+OK\r\n$2\r\n\r\n\r\n");
}

#[test]
fn errors_keep_the_connection() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("GET", "-ERR wrong number of arguments for 'get' command\r\n");
    client.call("NOPE a b", "-ERR unknown command 'NOPE', with args beginning with: 'a' 'b' \r\n");
    client.call("SELECT 99", "-ERR DB index is out of range\r\n");
    client.call("PING", "+PONG\r\n");
    client.call("EXEC", "-ERR EXEC without MULTI\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("MULTI", "-ERR MULTI calls can not be nested\r\n");
    client.call("GET", "-ERR wrong number of arguments for 'get' command\r\n");
    client.call("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.call("PING", "+PONG\r\n");
}

#[test]
fn protocol_errors_are_named_and_close_the_connection() {
    let server = TestServer::start();
    for (bytes, text) in [
        ("*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("PING\r\n*1\r\n:1\r\n", "+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"),
        ("*1\r\n$5368709120\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\n*1\r\n", "-ERR Protocol error: expected '$', got '*'\r\n"),
        ("SET a \"b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let mut client = server.client();
        client.send(bytes);
        assert_eq!(client.rest(), text);
    }
}

#[test]
fn strangers_are_bounded_until_they_authenticate() {
    let server = TestServer::with(|config| config.password = "secret".to_owned());
    let mut client = server.client();
    client.call("GET a", "-NOAUTH Authentication required.\r\n");
    client.call("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    client.send("*11\r\n");
    assert_eq!(client.rest(), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let mut client = server.client();
    client.send("*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    assert_eq!(client.rest(), "-ERR Protocol error: unauthenticated bulk length\r\n");
    let mut client = server.client();
    let large = "x".repeat(20_000);
    client.send(format!("AUTH secret\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$20000\r\n{large}\r\n"));
    client.expect("+OK\r\n+OK\r\n");
    client.call("AUTH default secret", "+OK\r\n");
}

#[test]
fn resp3_after_hello() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("GET none", "$-1\r\n");
    client.call("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    client.command("HELLO 3");
    client.expect("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n");
    while client.line() != "modules" {}
    client.expect("*0\r\n");
    client.call("GET none", "_\r\n");
    client.call("RESET", "+RESET\r\n");
    client.call("GET none", "$-1\r\n");
}

#[test]
fn transactions() {
    let server = TestServer::start();
    let mut client = server.client();
    for line in ["SET a 1", "SELECT 1", "GET a", "PING", "NOPE"].iter().take(4) {
        if *line == "SET a 1" {
            client.call("MULTI", "+OK\r\n");
        }
        client.call(line, "+QUEUED\r\n");
    }
    client.call("EXEC", "*4\r\n+OK\r\n+OK\r\n$-1\r\n+PONG\r\n");
    client.call("GET a", "$-1\r\n");
    client.call("SELECT 0", "+OK\r\n");
    client.call("GET a", "$1\r\n1\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("SET a 2", "+QUEUED\r\n");
    client.call("DISCARD", "+OK\r\n");
    client.call("GET a", "$1\r\n1\r\n");
    client.call("WATCH a", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("WATCH b", "-ERR WATCH inside MULTI is not allowed\r\n");
    client.call("SET a 3", "+QUEUED\r\n");
    let mut other = server.client();
    other.call("SET a 9", "+OK\r\n");
    client.call("EXEC", "*-1\r\n");
    client.call("GET a", "$1\r\n9\r\n");
}
