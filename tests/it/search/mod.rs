//! FT.* through the server, in this process: what may leave while the disk stalls, the shape of replies, what
//! commands on keys and databases, expiry and restarts do to indexes, and what searches find while documents
//! change.

mod gate;
mod keyspace;
mod replies;
mod stress;

use crate::served::{Served, vector_word};
use engramdb_resp::Value;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;

fn show(reply: &Value) -> String {
    format!("{reply:?}")
}

/// Runs a command line on a server whose disk is quick.
fn ask(client: &mut Client, line: &str) -> String {
    show(&client.run(&split_words(line)))
}
