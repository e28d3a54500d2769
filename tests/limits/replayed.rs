//! Limits apply to commands, not to durable data.

use engramdb_resp::Value;
use engramdb_testkit::process::{Server, TempDir};

#[test]
fn a_string_that_was_made_under_a_higher_limit_comes_back() {
    let directory = TempDir::new("replayed");
    let server = Server::start(directory.path(), &[]);
    let length = server.client().call(&["SETRANGE", "text", "1500000", "x"]).expect("the server answers");
    assert_eq!(length, Value::Integer(1_500_001));
    // Only the log contains it.
    drop(server);
    let server = Server::start(directory.path(), &["--set", "proto-max-bulk-len=1mb"]);
    let mut client = server.client();
    assert_eq!(client.call(&["STRLEN", "text"]).expect("the server answers"), Value::Integer(1_500_001));
    assert!(client.call(&["APPEND", "text", "y"]).expect("the server answers").is_error());
}
