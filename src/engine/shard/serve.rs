//! Serves parked clients inside the batch that fed their keys; see [`super::parked`].

use crate::command::{Args, Awaited, BlockingStage, Command, Handler, Reply};
use crate::log::pipeline::Credit;
use crate::shard::engine::Engine;
use crate::shard::parked::{Answer, Attempt, ParkedClients};
use crate::shard::run::{RunReplies, Transaction, run_blocking};
use crate::store::Store;
use crate::store::tx::{Lent, Tx};

/// The result of running a parked client's command again.
enum Tried {
    Served(Answer),
    StillWaits,
    NoRoom,
}

impl Transaction<'_> {
    /// Serves the clients of all keys that the batch has fed, including keys fed by served commands. Each
    /// client is served at most once, so this ends.
    #[cold]
    pub(super) fn serve_parked(&mut self) {
        let parked = &*self.engine.parked;
        let (mut unserved, mut has_room) = (Vec::new(), true);
        // Without room, what is left is for readers.
        while (has_room || parked.has_readers())
            && let Some((database, key)) = self.tx.store().hook.fed.pop()
        {
            if !self.serve_key(parked, (database, &key), &mut has_room) {
                unserved.push((database, key));
            }
        }
        // The order of the feeds.
        let fed = &mut self.tx.store().hook.fed;
        unserved.into_iter().rev().for_each(|key| fed.put_back(key));
        parked.note_unserved(!fed.is_empty());
    }

    /// False if clients must be tried again, because the log has no room for what their commands would
    /// change. `has_room` is false from the first such client on: later ones whose commands write must not
    /// overtake it, and those whose commands only read are served.
    fn serve_key(&mut self, parked: &ParkedClients, key: (u32, &[u8]), has_room: &mut bool) -> bool {
        let mut is_served = true;
        for condition in parked.conditions(key.0, key.1) {
            let mut last_ticket = 0;
            while self.holds(condition, key) {
                is_served &= *has_room || !parked.has_writers(key, condition);
                let Some(attempt) = parked.next(key, condition, last_ticket, !*has_room) else { break };
                last_ticket = attempt.ticket;
                match self.attempt(parked, attempt) {
                    Tried::Served(answer) => self.replies.answers.push(answer),
                    Tried::StillWaits => {}
                    Tried::NoRoom => *has_room = false,
                }
            }
        }
        is_served
    }

    fn holds(&mut self, condition: &Awaited, (database, key): (u32, &[u8])) -> bool {
        self.tx.nested(database, |tx| tx.look(|view| (condition.holds)(view, key))).0
    }

    /// Runs a parked client's command again, from its words.
    fn attempt(&mut self, parked: &ParkedClients, mut attempt: Attempt) -> Tried {
        let (command, stored) = (attempt.command, attempt.words.clone());
        let words: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        if command.is_write() {
            let bytes = command.batch_bytes_max(&words) + self.room_of_attempt(&attempt, &words);
            match self.engine.admit(1, bytes) {
                Ok(credit) => self.replies.credit.absorb(credit),
                Err(_) => {
                    self.still_waits(parked, attempt);
                    return Tried::NoRoom;
                }
            }
        }
        let mut waits = false;
        // It is a command of its own, and not one of the client that fed the key.
        let feeder = self.tx.store().hook.notices.begin_served();
        let ((), gate) = self.tx.nested(attempt.database, |tx| {
            tx.event(command.event);
            attempt.write(&mut |reply: &mut dyn Reply| {
                waits = matches!(run_again(tx, command, Args::new(&words), reply), BlockingStage::Park(_));
            });
        });
        self.tx.store().hook.notices.set_client(feeder);
        if !waits {
            // The reply shows the batch's changes so far, even if the command itself changed nothing.
            let store = self.tx.store();
            let batch = store.hook.last_applied(store.last_lsn);
            return Tried::Served(parked.served(attempt, gate.max(batch)));
        }
        self.still_waits(parked, attempt);
        Tried::StillWaits
    }

    /// The bytes that a parked client's command may log beyond the bound from its words. It runs under the
    /// same hold of the lock, so its needs do not grow before it runs.
    fn room_of_attempt(&mut self, attempt: &Attempt, words: &[&[u8]]) -> usize {
        let Some(room) = attempt.command.room else { return 0 };
        self.tx.nested(attempt.database, |tx| tx.look(|view| room(view, Args::new(words)))).0
    }

    /// Keeps the reply of a client whose wait was ended meanwhile, to be sent once the lock is released, like
    /// those of served clients.
    fn still_waits(&mut self, parked: &ParkedClients, attempt: Attempt) {
        let answer = parked.still_waits(attempt);
        self.replies.answers.extend(answer);
    }
}

fn run_again(tx: &mut Tx<'_>, command: &Command, args: Args<'_>, reply: &mut dyn Reply) -> BlockingStage {
    match command.handler {
        Handler::Blocking(handler) => run_blocking(reply, |reply| handler(tx, args, reply)),
        Handler::BlockingRead(handler) => {
            tx.read(|view| run_blocking(reply, |reply| handler(view, args, reply)))
        }
        _ => unreachable!("{} does not block", command.name),
    }
}

impl Engine {
    /// Serves the clients of keys that a follower has changed. Their commands only read, because a follower
    /// admits no writes. The caller delivers the replies after it has released the lock.
    #[cold]
    pub(super) fn serve_readers(&self, store: &mut Store) -> Vec<Answer> {
        let mut lent = Lent::default();
        let mut replies = RunReplies::new(self.now_ms(), Credit::none());
        let tx = Tx::new(store, &self.context, &mut lent, 0, replies.now_ms);
        Transaction { tx, engine: self, replies: &mut replies, spare_bytes: 0 }.serve_parked();
        replies.answers
    }
}
