//! FT.* through the server, in this process: what may leave while the disk stalls, the shape of replies, what commands on
//! keys and databases, expiry and restarts do to indexes, and what searches find while documents change.

#[path = "search/gate.rs"]
mod gate;
mod harness;
#[path = "search/keyspace.rs"]
mod keyspace;
#[path = "search/replies.rs"]
mod replies;
#[path = "search/stress.rs"]
mod stress;

use engramdb_resp::Value;
use harness::served::{Served, vector_word};
use harness::tcp::Client;
use harness::words::split_words;

fn show(reply: &Value) -> String {
    format!("{reply:?}")
}

/// Runs a command line on a server whose disk is quick.
fn ask(client: &mut Client, line: &str) -> String {
    show(&client.run(&split_words(line)))
}
