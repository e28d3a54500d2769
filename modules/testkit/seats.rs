//! Clients that wait for keys, of an engine without sockets.

use super::wire::Wire;
use engramdb_engine::Engine;
use engramdb_engine::command::{Args, Command, Reply, Stage};
use engramdb_engine::log::Lsn;
use engramdb_engine::shard::parked::{Ticket, Waiter};
use engramdb_resp::{Protocol, Value};
use std::sync::{Arc, Mutex, PoisonError};

type Answered = Arc<Mutex<Option<(Value, Lsn)>>>;

/// A client that waits. Dropping it ends the wait, as the end of its connection does.
pub struct Seat {
    ticket: Ticket,
    answered: Answered,
}

impl Seat {
    /// The reply and the batch for which it waits, once the client has been served.
    pub fn answer(&self) -> Option<(Value, Lsn)> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the wait as its timeout does.
    pub fn time_out(&self) {
        self.ticket.time_out();
    }
}

struct Paper {
    wire: Wire,
    answered: Answered,
}

impl Waiter for Paper {
    fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply)) {
        write(&mut self.wire);
    }

    fn answered(self: Box<Self>, gate: Lsn) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(answered.replace((self.wire.value(), gate)).is_none(), "a client has one reply");
    }
}

/// Runs a blocking command as its own batch; returns its reply, or the client that waits.
pub fn begin_parking(
    engine: &Engine,
    database: u32,
    (command, args): (&'static Command, Args<'_>),
    protocol: Protocol,
) -> Result<Value, Seat> {
    let answered = Answered::default();
    let mut paper = Box::new(Paper { wire: Wire::new(protocol), answered: answered.clone() });
    if !command.is_write() {
        let run = engine.reads().expect("it serves");
        return match run.run(database, command, args, &mut paper.wire).stage {
            Stage::Park(park) => {
                Err(Seat { ticket: run.park((database, command), args, *park, paper), answered })
            }
            _ => Ok(paper.wire.value()),
        };
    }
    let words: Vec<&[u8]> = args.iter().copied().collect();
    let mut room_bytes = 0;
    loop {
        let bytes = command.batch_bytes_max(&words) + room_bytes;
        let credit = engine.admit(1, bytes).expect("a log in memory has room");
        let mut run = engine.writes(credit).with_room(room_bytes);
        match run.run(database, command, args, &mut paper.wire).stage {
            Stage::Park(park) => {
                return Err(Seat { ticket: run.park((database, command), args, *park, paper), answered });
            }
            Stage::NeedsRoom(bytes) => room_bytes = bytes,
            _ => return Ok(paper.wire.value()),
        }
    }
}
