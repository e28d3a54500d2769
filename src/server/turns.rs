//! Turns of the writers of a large document.
//!
//! An index reads a large document before its write, and what was read is void once another write has changed
//! the document. So one writer of a key at a time prepares its write; the others wait for their turn, in the
//! order in which they came, and look at the document after that.

use engramdb_engine::hashing::HashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

type DatabaseKey = (u32, Vec<u8>);

/// The keys whose writers have a turn, and those who wait for theirs.
#[derive(Default)]
pub struct KeyTurns(Mutex<HashMap<DatabaseKey, VecDeque<oneshot::Sender<KeyTurn>>>>);

/// The turn of one writer, until this is dropped.
pub struct KeyTurn {
    turns: Arc<KeyTurns>,
    /// `None` if it was passed on.
    key: Option<DatabaseKey>,
}

impl KeyTurns {
    /// The turn, or a receiver that gets it later.
    pub fn take(
        self: &Arc<KeyTurns>,
        (database, key): (u32, &[u8]),
    ) -> Result<KeyTurn, oneshot::Receiver<KeyTurn>> {
        let key = (database, key.to_vec());
        let mut waiting = self.0.lock();
        if let Some(others) = waiting.get_mut(&key) {
            let (sender, receiver) = oneshot::channel();
            // Those who have gone away are not kept.
            if others.len() == others.capacity() {
                others.retain(|other| !other.is_closed());
            }
            others.push_back(sender);
            return Err(receiver);
        }
        waiting.insert(key.clone(), VecDeque::new());
        Ok(KeyTurn { turns: self.clone(), key: Some(key) })
    }
}

impl KeyTurn {
    pub fn is_of(&self, (database, key): (u32, &[u8])) -> bool {
        self.key.as_ref().is_some_and(|(of, own)| *of == database && own == key)
    }
}

impl Drop for KeyTurn {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        loop {
            let next = {
                let mut waiting = self.turns.0.lock();
                let next = waiting.get_mut(&key).and_then(VecDeque::pop_front);
                if next.is_none() {
                    waiting.remove(&key);
                }
                next
            };
            let Some(next) = next else { return };
            let turn = KeyTurn { turns: self.turns.clone(), key: Some(key.clone()) };
            match next.send(turn) {
                Ok(()) => return,
                // It has gone away: the one behind it is next.
                Err(mut unsent) => unsent.key = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_a_key_come_one_after_the_other_and_those_who_went_away_not_at_all() {
        let turns = Arc::<KeyTurns>::default();
        let key = (0, &b"key"[..]);
        let first = turns.take(key).map_err(drop).expect("no other");
        assert!(first.is_of(key) && !first.is_of((1, b"key")) && turns.take((1, b"key")).is_ok());
        let mut waiting: Vec<_> =
            (0..4).map(|_| turns.take(key).map(drop).expect_err("first has it")).collect();
        drop(waiting.remove(0));
        drop(waiting.remove(1));
        drop(first);
        let second = waiting[0].try_recv().expect("it is next");
        assert!(second.is_of(key) && waiting[1].try_recv().is_err());
        drop(second);
        drop(waiting[1].try_recv().expect("it is next"));
        assert!(turns.0.lock().is_empty());
        // One that gets the turn and goes away before it takes it.
        let first = turns.take(key).map_err(drop).expect("no other");
        let receiver = turns.take(key).map(drop).expect_err("first has it");
        drop(first);
        drop(receiver);
        assert!(turns.take(key).is_ok());
    }
}
