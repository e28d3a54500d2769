//! FT.AGGREGATE and FT.CURSOR: rows of documents that go through steps.
//!
//! | file | what is in it |
//! |---|---|
//! | `request.rs` | the words |
//! | `scope.rs` | the properties that steps can name, and where they come from |
//! | `pipeline.rs` | the steps, and how rows go through them |
//! | `source.rs`, `tags.rs` | rows of documents, read in slices; the texts of their tags |
//! | `groups.rs`, `reducers.rs`, `sorting.rs` | what gathers rows |
//! | `budget.rs`, `meter.rs` | the bounds of the memory and the time of one aggregation |
//! | `cursor.rs` | FT.CURSOR |
//! | `hybrid/` | FT.HYBRID: two searches whose documents are joined, and go through the same steps |
//! | `reply.rs` | the reply |
//!
//! The documents are those of an FT.SEARCH with the same query. They are settled at one moment and read in
//! slices (`search::settled` says what that means for changes). The reply waits for the last change of the
//! index, which includes all that was read. See decision 0045.

mod budget;
mod cursor;
mod groups;
mod hybrid;
mod meter;
mod pipeline;
mod reducers;
mod reply;
mod request;
mod rows;
mod scope;
mod sorting;
mod source;
mod tags;

pub use cursor::cursor;
pub use hybrid::{fuzz_hybrid, hybrid};
pub use request::fuzz_aggregation;

use crate::error::{Kind, SearchError};
use crate::index::Index;
use crate::module::SearchModule;
use crate::search::plan::{Plan, Profile};
use crate::search::reply::Warnings;
use crate::search::settled::Settled;
use crate::search::shape::{is_flat, shaped};
use crate::search::{INLINE_WORK_MAX, PreparedPlan, check_query, prepare, profile, searched, styled};
use cursor::CursorPlace;
use engramdb_engine::command::{Args, CommandError, Job, Looks, Reply, Rest, Stage, WaitingJob};
use engramdb_engine::env::Env;
use engramdb_engine::store::view::View;
use hybrid::{FusedList, HybridProfile};
use pipeline::{EndRows, Flow, RowPipeline};
use reply::AggregateAnswer;
use request::AggregateRequest;
use scope::ColumnSource;
use source::{RowBatch, RowReader};
use std::sync::Arc;
use std::time::Duration;

/// What a word of a request takes beside its bytes.
const WORD_BYTES: usize = 64;
/// Rows of a stretch's end that go on between two looks at the clock.
const GATHERED: usize = 1024;
/// The work of a row that is too much for the thread of the command.
const ROW_WORK_MAX: usize = 4096;
/// How often the time limit can pass. Each time a stretch ends; what follows on it has the limit again.
const LIMITS: u32 = 3;
/// The bytes of a document that are walked over in a unit of work.
const WALKED_BYTES: usize = 8;
/// The least limit of FT.SEARCH's page that covers all documents of a KNN.
const ALL_ROWS: &[u8] = b"1000000";

/// An aggregation between two steps, or between two reads of its cursor.
pub struct Aggregation {
    index: Arc<Index>,
    env: Env,
    pipeline: RowPipeline,
    reader: RowReader,
    source: Source,
    batch: RowBatch,
    cursor: Option<CursorPlace>,
    expands: bool,
    /// The time limit, its end, and how often it has passed.
    limit: Option<Duration>,
    deadline: Option<Duration>,
    limits: u32,
    fails_on_timeout: bool,
    /// The rest is done by the pool, after a last look that looks at nothing.
    goes_elsewhere: bool,
    warnings: Warnings,
    /// The plan of a search that was profiled.
    profiled: Option<Box<Settled>>,
    hybrid_profile: Option<Box<HybridProfile>>,
    shape: Shape,
    /// The bytes of the request, which its steps keep.
    request_bytes: usize,
}

/// The shape of the reply.
#[derive(Clone, Copy)]
enum Shape {
    Aggregate,
    Hybrid {
        /// When the command began, on the monotonic clock.
        began: Duration,
        /// How many documents both searches have found.
        found: usize,
        /// Whether the text search and the vector search ran out of time.
        late: [bool; 2],
    },
}

/// Where the next rows come from.
enum Source {
    /// The search that finds the documents has not begun; whether it has waited for a backfill.
    Search(Box<Plan>, bool),
    /// The same of FT.HYBRID.
    Fused(Box<hybrid::Fused>),
    Documents(Box<Settled>),
    Rows(EndRows),
    Nothing,
}

/// FT.AGGREGATE.
pub fn aggregate(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let begin = || {
        check_query(args)?;
        begin(view, searched(view, args)?, args, reply.is_resp3(), None)
    };
    styled(view, begin())
}

/// FT.PROFILE of an aggregation, a hybrid search or a search.
pub fn profile_any(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    if args.is(2, "HYBRID") {
        return hybrid::profile(view, args, reply);
    }
    if !args.is(2, "AGGREGATE") {
        return crate::search::profile(view, args, reply);
    }
    let begin = || {
        let index = searched(view, args)?;
        let words = profile::words(args, b"FT.AGGREGATE")?;
        let began = view.module::<SearchModule>().options.env.clock.monotonic();
        let profile = Profile { began, ..Profile::default() };
        begin(view, index, Args::new(&words), reply.is_resp3(), Some(profile))
    };
    styled(view, begin())
}

fn begin(
    view: &View<'_>,
    index: &Arc<Index>,
    args: Args<'_>,
    is_resp3: bool,
    profile: Option<Profile>,
) -> Result<Stage, SearchError> {
    let module = view.module::<SearchModule>();
    check_query(args)?;
    let mut request = request::parse(args)?;
    request.bound(module.settings.aggregate_results_max())?;
    if request.cursor.is_some() {
        module.cursors.check_room(index)?;
    }
    // The page of a KNN holds all of it.
    request.search.extend([&b"LIMIT"[..], b"0", ALL_ROWS]);
    if request.adds_scores {
        request.search.push(b"WITHSCORES");
    }
    let PreparedPlan { plan, backfill } =
        prepare(view, index, Args::new(&request.search), is_resp3, profile)?;
    let waits = backfill.is_some();
    let mut aggregation = Aggregation::new(module, plan, &request, waits)?;
    aggregation.request_bytes = args.from(0).iter().map(|word| WORD_BYTES + word.len()).sum();
    if let Some((signal, at_most)) = backfill {
        return Ok(Stage::Wait(WaitingJob { signal, at_most, job: aggregation.job() }));
    }
    Ok(aggregation.stage())
}

impl Aggregation {
    fn new(
        module: &SearchModule,
        plan: Plan,
        request: &AggregateRequest<'_>,
        waits: bool,
    ) -> Result<Aggregation, SearchError> {
        let scores = request.adds_scores.then(|| (b"__score".to_vec(), ColumnSource::Score));
        let first = scores.into_iter().collect();
        let mut pipeline = RowPipeline::new(&plan, request, first, module.settings.aggregate_memory())?;
        let reader = RowReader::new(&plan, &mut pipeline);
        let timeout = plan.deadline.map(|deadline| deadline.saturating_sub(plan.env.clock.monotonic()));
        let place = |options| CursorPlace::new(options, &module.settings, timeout);
        let cursor = request.cursor.map(place);
        let source = Source::Search(Box::new(plan), waits);
        Ok(Aggregation::with_source(source, pipeline, reader, cursor))
    }

    /// An aggregation of a search that has not begun, or whose documents are not read yet.
    fn with_source(
        source: Source,
        pipeline: RowPipeline,
        reader: RowReader,
        cursor: Option<CursorPlace>,
    ) -> Aggregation {
        let plan = match &source {
            Source::Search(plan, _) => &**plan,
            Source::Fused(fused) => fused.plan(),
            Source::Documents(settled) => &settled.plan,
            Source::Rows(_) | Source::Nothing => unreachable!("it has documents"),
        };
        let limit = plan.deadline.map(|deadline| deadline.saturating_sub(plan.env.clock.monotonic()));
        pipeline.flow.meter.set_deadline(plan.deadline);
        Aggregation {
            index: plan.index.clone(),
            env: plan.env.clone(),
            pipeline,
            reader,
            batch: RowBatch::default(),
            cursor,
            expands: plan.request().expands,
            limit,
            deadline: plan.deadline,
            limits: 0,
            fails_on_timeout: plan.fails_on_timeout,
            goes_elsewhere: false,
            warnings: Warnings { timed_out: false, incomplete: plan.is_incomplete },
            profiled: None,
            hybrid_profile: None,
            shape: Shape::Aggregate,
            request_bytes: 0,
            source,
        }
    }

    /// The next stage of the command: on its thread if it is expected to be short.
    fn stage(self) -> Stage {
        let is_long = self.work() > INLINE_WORK_MAX || self.pipeline.row_work() > ROW_WORK_MAX;
        let meter = &self.pipeline.flow.meter;
        meter.begin();
        if is_long {
            meter.leave_thread();
            return Stage::Offload(self.job());
        }
        Stage::Run(self.job())
    }

    /// The expected work, as `Plan::work` counts it.
    fn work(&self) -> usize {
        match &self.source {
            Source::Search(plan, _) => plan.rows_work(self.reader.needs_document()),
            Source::Documents(_) | Source::Fused(_) => usize::MAX,
            Source::Rows(_) | Source::Nothing => 0,
        }
    }

    fn job(mut self) -> Job {
        Box::new(move |looks| {
            let want = self.cursor.as_ref().map_or(usize::MAX, |cursor| cursor.count);
            let run = self.run(looks, want);
            Box::new(move |view, reply| self.last_look(view, reply, run, want))
        })
    }

    /// Runs until there are `want` rows, until no more come, or until the pool must go on.
    fn run(&mut self, looks: &dyn Looks, want: usize) -> Result<(), SearchError> {
        while self.pipeline.flow.out.len() < want {
            if self.is_late() && !self.pass_limit()? {
                break;
            }
            let flow = match std::mem::replace(&mut self.source, Source::Nothing) {
                Source::Nothing => break,
                Source::Search(plan, waits) => {
                    self.settle(looks, *plan, waits)?;
                    Flow::On
                }
                Source::Fused(fused) => {
                    self.fuse(looks, *fused)?;
                    Flow::On
                }
                Source::Documents(mut settled) => {
                    let has_more =
                        self.batch.has_rows() || self.reader.next(looks, &mut settled, &mut self.batch);
                    self.source = Source::Documents(settled);
                    if has_more { self.pass_batch(want)? } else { Flow::Enough }
                }
                Source::Rows(mut rows) => {
                    let flow = self.pass_rows(&mut rows)?;
                    self.source = Source::Rows(rows);
                    flow
                }
            };
            match flow {
                Flow::On | Flow::Late => {}
                Flow::Enough => self.end_stretch(),
                Flow::Elsewhere => {
                    self.goes_elsewhere = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends what must end because the time limit has passed. False if nothing more is done now.
    fn pass_limit(&mut self) -> Result<bool, SearchError> {
        self.warnings.timed_out = true;
        if self.fails_on_timeout {
            return Err(Kind::Timeout.error());
        }
        let has_begun = matches!(self.source, Source::Documents(_) | Source::Rows(_));
        if has_begun && self.cursor.is_some() && !self.pipeline.gathers() {
            // The next read continues.
            return Ok(false);
        }
        self.limits += 1;
        if self.limits >= LIMITS {
            self.batch.release();
            self.source = Source::Nothing;
            return Ok(false);
        }
        if has_begun {
            self.end_stretch();
        }
        self.begin_limit();
        Ok(true)
    }

    /// The time limit begins now.
    fn begin_limit(&mut self) {
        self.deadline = self.limit.map(|limit| self.env.clock.monotonic() + limit);
        self.pipeline.flow.meter.set_deadline(self.deadline);
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.env.clock.monotonic() > deadline)
    }

    /// Finds the documents; reads them if they are few.
    fn settle(&mut self, looks: &dyn Looks, plan: Plan, waits: bool) -> Result<(), SearchError> {
        let (reader, batch) = (&self.reader, &mut self.batch);
        let settled =
            plan.settle(looks, waits, &mut |current, few| reader.read_some(current, few, batch, true));
        if settled.has_nothing() {
            return Err(Kind::Backfilling.error());
        }
        self.begin_documents(settled)
    }

    /// Fuses the documents of two searches.
    fn fuse(&mut self, looks: &dyn Looks, fused: hybrid::Fused) -> Result<(), SearchError> {
        let FusedList { settled, late: of_searches, vector } =
            fused.run(looks, &mut self.pipeline.flow.budget)?;
        if let Shape::Hybrid { found, late, .. } = &mut self.shape {
            (*found, *late) = (settled.left(), of_searches);
        }
        if vector.profile.is_some() {
            let found = settled.left();
            self.hybrid_profile = Some(Box::new(HybridProfile { vector, late: of_searches, found }));
        }
        self.begin_documents(settled)
    }

    /// Continues with the documents of a search.
    fn begin_documents(&mut self, settled: Settled) -> Result<(), SearchError> {
        if settled.timed_out {
            self.warnings.timed_out = true;
            if self.fails_on_timeout {
                return Err(Kind::Timeout.error());
            }
            // What was found is read.
            self.limits += 1;
            self.begin_limit();
        }
        self.source = Source::Documents(Box::new(settled));
        Ok(())
    }

    /// Sends the rows of the batch through the pipeline. Stops before the row of a large document if the
    /// reply has `want` rows already.
    fn pass_batch(&mut self, want: usize) -> Result<Flow, SearchError> {
        let Aggregation { pipeline, batch, reader, env, deadline, .. } = self;
        loop {
            let flow = pass_on(pipeline, env, (batch, reader))?;
            let Some(held) = batch.next_held().filter(|_| flow == Flow::On) else { return Ok(flow) };
            let work = held.weight / WALKED_BYTES;
            if pipeline.flow.out.len() >= want {
                return Ok(flow);
            }
            if pipeline.flow.meter.is_too_much_here(work) {
                return Ok(Flow::Elsewhere);
            }
            let held = batch.take_held().expect("looked at above");
            let is_late = || deadline.is_some_and(|deadline| env.clock.monotonic() > deadline);
            let Some(mut row) = reader.read_held(held, &is_late) else { return Ok(Flow::Late) };
            let flow = pass_on(pipeline, env, (&mut row, reader))?;
            if flow != Flow::On {
                return Ok(flow);
            }
            _ = pipeline.flow.meter.spend(work);
            if pipeline.flow.meter.is_late() {
                return Ok(Flow::Late);
            }
        }
    }

    /// Sends some rows of a stretch's end through the next one. `Enough` if there are no more.
    fn pass_rows(&mut self, rows: &mut EndRows) -> Result<Flow, SearchError> {
        let width = self.pipeline.width();
        for _ in 0..GATHERED {
            let Some(row) = rows.next() else { return Ok(Flow::Enough) };
            let mut row = row.into_row();
            row.cells.resize(width, None);
            _ = self.pipeline.flow.meter.spend(width);
            let flow = self.pipeline.push(&mut row, &*self.env.random)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn end_stretch(&mut self) {
        self.batch.clear();
        let rows = self.pipeline.end_stretch().map_or(Source::Nothing, Source::Rows);
        if let Source::Documents(settled) = std::mem::replace(&mut self.source, rows)
            && settled.plan.profile.is_some()
        {
            self.profiled = Some(settled);
        }
    }

    /// Checks that the index is still there, and returns the reply's writer.
    fn last_look(
        mut self,
        view: &View<'_>,
        reply: &mut dyn Reply,
        run: Result<(), SearchError>,
        want: usize,
    ) -> Result<Rest, CommandError> {
        let module = view.module::<SearchModule>();
        let name = &self.index.definition.name;
        let Some(index) = module.same_index(view.database(), &self.index) else {
            // The index was dropped or moved to another database during the aggregation.
            view.whole_keyspace();
            let error = Kind::NoIndex.of(name);
            return Ok(self.failed(view, error));
        };
        if std::mem::take(&mut self.goes_elsewhere) && run.is_ok() {
            self.pipeline.flow.meter.leave_thread();
            return Ok(Rest::Again(self.job()));
        }
        // After FT.ALTER it is another object.
        view.wait_for(index.changed_by());
        view.wait_for(self.index.changed_by());
        if let Err(error) = run {
            return Ok(self.failed(view, error));
        }
        let out = &mut self.pipeline.flow.out;
        let count = out.len().min(want);
        let rows: Vec<_> = out.drain(..count).collect();
        self.pipeline.flow.budget.give_back(rows.iter().map(|row| row.bytes()).sum());
        let mut answer = AggregateAnswer {
            total: self.pipeline.flow.total(),
            names: self.pipeline.names.clone(),
            explanation: self.pipeline.explanation,
            rows,
            warnings: self.warnings,
            expands: self.expands,
            cursor: None,
            seconds: None,
            late: [false; 2],
        };
        if let Shape::Hybrid { began, found, late } = self.shape {
            answer.late = late;
            answer.total = self.pipeline.flow.passed(found);
            answer.seconds = Some(self.env.clock.monotonic().saturating_sub(began));
        }
        let is_flat = is_flat(view, reply);
        if self.cursor.is_some() {
            let is_left = matches!(self.source, Source::Documents(_) | Source::Rows(_));
            let timed_out = self.warnings.timed_out && is_left;
            let is_whole = count < want && !timed_out;
            answer.cursor = Some(if is_whole { 0 } else { styled(view, self.keep(module))? });
            return Ok(Rest::Write(Box::new(move |reply| {
                shaped(is_flat, reply, |reply| answer.write(reply))
            })));
        }
        let profiled = self.profiled.take();
        let of_hybrid = self.hybrid_profile.take();
        let labels = std::mem::take(&mut self.pipeline.labels);
        Ok(Rest::Write(Box::new(move |reply| {
            shaped(is_flat, reply, |reply| match (&profiled, &of_hybrid) {
                (Some(settled), Some(of_hybrid)) => {
                    hybrid::write_profiled(&settled.plan, of_hybrid, &labels, &answer, reply);
                }
                (Some(settled), None) => write_profiled(settled, &labels, &answer, reply),
                (None, _) => answer.write(reply),
            });
        })))
    }

    /// Replies an error. The state of the aggregation, which may be large, is freed without the lock.
    fn failed(self, view: &View<'_>, error: SearchError) -> Rest {
        let error = error.in_style(view.module::<SearchModule>().settings.error_style());
        Rest::Write(Box::new(move |reply| {
            drop(self);
            reply.error(&error);
        }))
    }

    /// Bytes on the heap, estimated.
    fn heap_bytes(&self) -> usize {
        let documents = match &self.source {
            Source::Documents(settled) => settled.heap_bytes(),
            _ => 0,
        };
        size_of::<Aggregation>() + self.request_bytes + self.pipeline.flow.budget.used() + documents
    }
}

/// Sends the rows of a batch through the pipeline, up to one whose document is not read yet.
fn pass_on(
    pipeline: &mut RowPipeline,
    env: &Env,
    (batch, reader): (&mut RowBatch, &RowReader),
) -> Result<Flow, SearchError> {
    let mut last = Flow::On;
    batch.each(reader, |row| {
        row.number = pipeline.flow.read as u64;
        pipeline.flow.read += 1;
        last = pipeline.push(row, &*env.random)?;
        Ok::<bool, SearchError>(last == Flow::On)
    })?;
    Ok(last)
}

fn write_profiled(settled: &Settled, labels: &[String], answer: &AggregateAnswer, reply: &mut dyn Reply) {
    let plan = &settled.plan;
    let mut profile = plan.profile.clone().expect("the search was profiled");
    profile::begin(reply);
    profile.loading = plan.now();
    answer.write(reply);
    profile.rows = answer.total;
    profile.steps = Some(labels.to_vec());
    profile::write(plan, &profile, answer.warnings, reply);
}
