//! FT.* through the server, in this process: which replies may be sent while the disk stalls, the shape of
//! replies, the effects of commands on keys and databases, of expiry and of restarts on indexes, and what
//! searches find while documents change.

mod gate;
mod keyspace;
mod large_documents;
mod own_writes;
mod replies;
mod stress;

use crate::served::{Served, vector_word};
use engramdb_resp::Value;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;

fn show(reply: &Value) -> String {
    format!("{reply:?}")
}

/// Runs a command line on a server with a fast disk.
fn ask(client: &mut Client, line: &str) -> String {
    show(&client.run(&split_words(line)))
}
