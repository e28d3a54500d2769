//! FT.CURSOR, and what an aggregation with a cursor keeps between two reads.

use super::request::CursorOptions;
use super::{Aggregation, Source};
use crate::cursors::IdleCursor;
use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::SearchModule;
use crate::search::styled;
use crate::settings::Settings;
use crate::words::whole_number;
use engramdb_engine::command::{Args, CommandError, Reply, Rest, Stage};
use engramdb_engine::store::view::View;
use std::sync::Arc;
use std::time::Duration;

/// What an aggregation with a cursor keeps between two reads.
#[derive(Clone, Copy, Debug)]
pub struct CursorPlace {
    /// Rows of the next reply.
    pub count: usize,
    /// Rows of a reply if the read gives no number.
    usual_count: usize,
    max_idle: Duration,
    /// 0 until the first reply.
    id: u64,
    /// The time limit of each read.
    timeout: Option<Duration>,
}

impl CursorPlace {
    pub fn new(options: CursorOptions, settings: &Settings, timeout: Option<Duration>) -> CursorPlace {
        let most = settings.cursor_max_idle();
        let count = options.count.unwrap_or(settings.cursor_read_size());
        CursorPlace {
            count,
            usual_count: count,
            max_idle: options.max_idle.unwrap_or(most).min(most),
            id: 0,
            timeout,
        }
    }
}

/// FT.CURSOR.
pub fn cursor(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    styled(view, cursor_stage(view, args, reply))
}

fn cursor_stage(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    let index = module.index(view.database(), args[2]);
    match index {
        Some(index) => view.wait_for(index.changed_by()),
        // It may have been dropped.
        None => _ = view.whole_keyspace(),
    }
    let id: u64 = whole_number(args[3]).ok_or(Kind::BadCursor.error())?;
    let mut words = args.options(4);
    let mut count = None;
    if args.is(1, "READ") && words.take("COUNT") {
        let given: Option<usize> = words.word().ok().and_then(whole_number);
        count = Some(given.filter(|count| *count > 0).ok_or(Kind::BadCursorCount.error())?);
    }
    if let Some(word) = words.peek() {
        return Err(Kind::UnknownArgument.of(word));
    }
    if args.is(1, "READ") {
        let mut aggregation = taken(module, id, index).ok_or(Kind::NoCursor.error())?;
        aggregation.read_again(view, id, count);
        return Ok(aggregation.stage());
    }
    if args.is(1, "DEL") {
        let aggregation = taken(module, id, index).ok_or(Kind::NoCursorToDelete.error())?;
        return Ok(Stage::Run(Box::new(move |_| {
            drop(aggregation);
            Box::new(|_, reply| {
                reply.ok();
                Ok(Rest::Nothing)
            })
        })));
    }
    if args.is(1, "GC") {
        let ended = module.cursors.end_idle();
        reply.integer(if ended == 0 { -1 } else { ended as i64 });
        return Ok(Stage::Done);
    }
    Err(Kind::CursorSubcommand.error())
}

fn taken(module: &SearchModule, id: u64, index: Option<&Arc<Index>>) -> Option<Box<Aggregation>> {
    let state = module.cursors.take(id, index)?.state;
    Some(state.downcast().expect("all cursors are aggregations"))
}

impl Aggregation {
    /// Keeps the aggregation until its next read. Returns the cursor's id.
    pub fn keep(mut self, module: &SearchModule) -> Result<u64, SearchError> {
        let left = self.batch.release();
        if let Source::Documents(settled) = &mut self.source {
            settled.put_back(&left);
        }
        let bytes = self.heap_bytes();
        let place = self.cursor.as_mut().expect("it has a cursor");
        let until = self.env.clock.monotonic() + place.max_idle;
        let (index, id) = (self.index.clone(), place.id);
        module.cursors.keep(IdleCursor { state: Box::new(self), index, bytes, until }, id)
    }

    /// Prepares the next read.
    fn read_again(&mut self, view: &View<'_>, id: u64, count: Option<usize>) {
        let place = self.cursor.as_mut().expect("it has a cursor");
        place.id = id;
        place.count = count.unwrap_or(place.usual_count);
        self.warnings.timed_out = false;
        let timeout = place.timeout;
        (self.limit, self.limits) = (timeout, 0);
        self.begin_limit();
        if let Source::Documents(settled) = &mut self.source {
            settled.plan.database = view.database();
            settled.plan.deadline = self.deadline;
        }
    }
}
