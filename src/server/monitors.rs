//! MONITOR: clients that see all commands.
//!
//! A command is shown after it has run, as in Redis, and when what it wrote is durable. Commands of
//! administrators are not shown.

use crate::clients::Client;
use crate::output::Push;
use crate::stats::secret_words;
use engramdb_engine::command::{Args, Command, flag};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
pub struct Monitors {
    count: AtomicUsize,
    clients: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether any client monitors. Costs one load.
    #[inline]
    pub fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub fn add(&self, client: &Arc<Client>) {
        let mut clients = self.clients.lock();
        if !clients.iter().any(|known| known.id == client.id) {
            clients.push(client.clone());
        }
        self.count.store(clients.len(), Ordering::Relaxed);
    }

    pub fn remove(&self, id: u64) {
        if self.is_any() {
            let mut clients = self.clients.lock();
            clients.retain(|client| client.id != id);
            self.count.store(clients.len(), Ordering::Relaxed);
        }
    }

    pub fn each(&self, mut each: impl FnMut(&Client)) {
        self.clients.lock().iter().for_each(|client| each(client));
    }
}

/// Whether monitors see calls of the command.
pub fn shows(command: &Command) -> bool {
    command.flags & (flag::SKIP_MONITOR | flag::ADMIN) == 0
}

/// A call as a monitor sees it: of a client, or of a script. Passwords are left out.
pub fn line(wall_ms: u64, database: u32, client: Option<&Client>, args: Args<'_>) -> Arc<Push> {
    let caller = client.map_or("lua".to_owned(), |client| client.address.to_string());
    let mut text = format!("{}.{:06} [{database} {caller}]", wall_ms / 1000, wall_ms % 1000 * 1000);
    let is_secret = secret_words(args);
    let hides = args.is(0, "AUTH") || args.is(0, "HELLO");
    for (index, word) in args.iter().enumerate() {
        text.push(' ');
        match (hides && index > 0) || is_secret(index) {
            true => text.push_str("\"(redacted)\""),
            false => quote(word, &mut text),
        }
    }
    Push::line(text)
}

/// As Redis quotes words for people.
fn quote(word: &[u8], text: &mut String) {
    text.push('"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => text.extend(['\\', byte as char]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            7 => text.push_str("\\a"),
            8 => text.push_str("\\b"),
            b' '..=b'~' => text.push(byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
}
