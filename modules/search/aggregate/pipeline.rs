//! The steps of an aggregation with their properties looked up, and how rows go through them.
//!
//! A *stretch* is the steps up to one that needs all rows before it gives any: SORTBY or GROUPBY, or the
//! reply. Rows go one by one through the steps of a stretch; its end keeps of them what it needs, and then is
//! the source of the next stretch. So no more rows are in memory than sorting, grouping and the reply need.

use super::budget::MemoryBudget;
use super::groups::Groups;
use super::meter::WorkMeter;
use super::reducers::Reducer;
use super::request::{AggregateRequest, Arrangement, GroupWords, ReducerWords, SORTED_DEFAULT, StepWords};
use super::rows::{OwnedRow, PipelineRow, RowProperties};
use super::scope::{ColumnSource, PropertyScope};
use crate::error::{Kind, SearchError};
use crate::expr::Expression;
use crate::search::plan::Plan;
use engramdb_engine::env::Random;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most properties between two GROUPBYs, as many as an index may have fields.
const PROPERTIES_MAX: usize = 1024;

/// Columns that rows of documents have before those that steps name.
pub type FirstColumns = Vec<(Vec<u8>, ColumnSource)>;

/// All stretches of an aggregation, and what documents must be read for them.
pub struct RowPipeline {
    pub columns: Vec<super::scope::Column>,
    pub loads_all: bool,
    stretches: VecDeque<Stretch>,
    pub flow: RowFlow,
    /// The names of the reply's rows with the places of their cells.
    pub names: Arc<[(Vec<u8>, usize)]>,
    /// The place of the cell that explains a row's fused score, in FT.HYBRID EXPLAINSCORE.
    pub explanation: Option<usize>,
    /// What the steps are called in a profile.
    pub labels: Vec<String>,
}

/// What has passed so far.
pub struct RowFlow {
    pub budget: MemoryBudget,
    pub meter: WorkMeter,
    /// The rows of the reply that are not written yet.
    pub out: VecDeque<OwnedRow>,
    /// Documents that were read.
    pub read: usize,
    /// The number of the last GROUPBY's groups.
    groups: Option<usize>,
    /// How many documents had been read when the first row of the reply was complete.
    at_first: Option<usize>,
    /// Rows that did not pass a FILTER since the last GROUPBY.
    filtered: usize,
    /// All rows are counted, also those behind a page.
    pub counts_all: bool,
}

#[derive(Debug)]
struct Stretch {
    steps: Vec<Step>,
    end: End,
    /// How many cells its rows have.
    width: usize,
}

#[derive(Debug)]
enum Step {
    Apply {
        expression: Expression,
        places: Vec<usize>,
        into: usize,
    },
    Filter {
        expression: Expression,
        places: Vec<usize>,
    },
    /// Skips `skip` rows, and lets `left` pass.
    Page {
        skip: usize,
        left: usize,
    },
    /// Lets none pass, but counts all.
    Count,
}

#[derive(Debug)]
enum End {
    Reply,
    Sort(super::sorting::Sorter),
    Group(Box<Groups>),
}

/// Whether more rows are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    On,
    Enough,
    /// More are needed, and the time limit has passed.
    Late,
    /// More is to be done by the pool.
    Elsewhere,
}

/// The rows of the end of a stretch.
#[derive(Debug)]
pub enum EndRows {
    Sorted(std::vec::IntoIter<OwnedRow>),
    Groups { groups: Box<Groups>, next: usize },
}

impl Iterator for EndRows {
    type Item = OwnedRow;

    fn next(&mut self) -> Option<OwnedRow> {
        match self {
            EndRows::Sorted(rows) => rows.next(),
            EndRows::Groups { groups, next } => {
                let row = (*next < groups.len()).then(|| groups.row(*next));
                *next += 1;
                row
            }
        }
    }
}

impl RowPipeline {
    /// Looks the properties of the steps up.
    pub fn new(
        plan: &Plan,
        request: &AggregateRequest<'_>,
        first: FirstColumns,
        limit: usize,
    ) -> Result<RowPipeline, SearchError> {
        let scope = PropertyScope::of_documents(plan, first);
        let mut building = Building {
            scope,
            stretches: VecDeque::new(),
            steps: Vec::new(),
            labels: Vec::new(),
            columns: Vec::new(),
            loads_all: false,
        };
        for step in &request.steps {
            building.add(step)?;
        }
        Ok(building.finish(MemoryBudget::new(limit), WorkMeter::new(plan.env.clone())))
    }

    /// Sends a row through the steps of the current stretch. What they make of it counts until it is kept or
    /// dropped.
    pub fn push(&mut self, row: &mut PipelineRow<'_>, random: &dyn Random) -> Result<Flow, SearchError> {
        let mut made = 0;
        self.flow.meter.begin_row();
        let flow = self.pass(row, random, &mut made);
        self.flow.budget.give_back(made);
        match flow {
            Err(error) if error == Kind::Timeout.error() => Ok(Flow::Late),
            Ok(Flow::On) if self.flow.meter.is_late() => Ok(Flow::Late),
            Ok(Flow::On) if self.flow.meter.is_enough_here() => Ok(Flow::Elsewhere),
            flow => flow,
        }
    }

    /// The work of a row in the steps, at most, but for the sizes of its values.
    pub fn row_work(&self) -> usize {
        let of_step = |step: &Step| match step {
            Step::Apply { expression, .. } | Step::Filter { expression, .. } => expression.work(),
            Step::Page { .. } | Step::Count => 1,
        };
        let of_end = |end: &End| match end {
            End::Group(groups) => groups.row_work(),
            End::Reply | End::Sort(_) => 1,
        };
        let of_stretch =
            |stretch: &Stretch| of_end(&stretch.end) + stretch.steps.iter().map(of_step).sum::<usize>();
        self.stretches.iter().map(of_stretch).sum()
    }

    fn pass(
        &mut self,
        row: &mut PipelineRow<'_>,
        random: &dyn Random,
        made: &mut usize,
    ) -> Result<Flow, SearchError> {
        let stretch = self.stretches.front_mut().expect("rows come while there are stretches");
        let meter = &self.flow.meter;
        let mut flow = Flow::On;
        for step in &mut stretch.steps {
            match step {
                Step::Apply { expression, places, into } => {
                    let properties = RowProperties { cells: &row.cells, places, meter };
                    let value = expression.evaluate(&properties)?.into_owned();
                    let bytes = value.heap_bytes();
                    meter.spend_bytes(bytes)?;
                    *made += bytes;
                    self.flow.budget.take(bytes)?;
                    row.cells[*into] = Some(value);
                    row.tags.set(*into, None);
                }
                Step::Filter { expression, places } => {
                    let properties = RowProperties { cells: &row.cells, places, meter };
                    if !expression.evaluate(&properties)?.is_true() {
                        self.flow.filtered += 1;
                        return Ok(flow);
                    }
                }
                Step::Page { skip, .. } if *skip > 0 => {
                    *skip -= 1;
                    meter.spend(1)?;
                    return Ok(flow);
                }
                Step::Page { left: 0, .. } if self.flow.counts_all => return Ok(flow),
                Step::Page { left: 0, .. } => return Ok(Flow::Enough),
                Step::Page { left, .. } => {
                    *left -= 1;
                    if *left == 0 && !self.flow.counts_all {
                        flow = Flow::Enough;
                    }
                }
                Step::Count => return Ok(flow),
            }
        }
        match &mut stretch.end {
            End::Reply => self.flow.give(row)?,
            End::Sort(sorter) => {
                let bytes = sorter.add(row, &mut self.flow.budget)?;
                meter.spend(1)?;
                meter.spend_bytes(bytes)?;
            }
            End::Group(groups) => groups.add(row, random, (&mut self.flow.budget, meter))?,
        }
        Ok(flow)
    }

    /// Ends the current stretch. Returns the rows of its end, which are those of the next stretch; `None` at
    /// the end of the pipeline.
    pub fn end_stretch(&mut self) -> Option<EndRows> {
        let stretch = self.stretches.pop_front()?;
        match stretch.end {
            End::Reply => None,
            End::Sort(sorter) => Some(EndRows::Sorted(sorter.finish())),
            End::Group(groups) => {
                self.flow.groups = Some(groups.len());
                self.flow.filtered = 0;
                Some(EndRows::Groups { groups, next: 0 })
            }
        }
    }

    /// Whether all rows are needed before the first one of the reply.
    pub fn gathers(&self) -> bool {
        self.stretches.len() > 1
    }

    /// How many cells the rows of the current stretch have.
    pub fn width(&self) -> usize {
        self.stretches.front().map_or(0, |stretch| stretch.width)
    }
}

impl RowFlow {
    fn give(&mut self, row: &PipelineRow<'_>) -> Result<(), SearchError> {
        self.at_first.get_or_insert(self.read);
        let row = row.to_owned_row();
        let bytes = row.bytes();
        self.budget.take(bytes)?;
        self.out.push_back(row);
        // The row is there, whatever the time is.
        _ = self.meter.spend_bytes(bytes);
        Ok(())
    }

    /// How many rows passed all FILTERs, where `documents` rows came in.
    pub fn passed(&self, documents: usize) -> usize {
        self.groups.unwrap_or(documents).saturating_sub(self.filtered)
    }

    /// The number in the reply: of groups, or of documents that were read for the first row.
    pub fn total(&self) -> usize {
        self.groups.or(self.at_first).unwrap_or(self.read)
    }
}

struct Building {
    scope: PropertyScope,
    stretches: VecDeque<Stretch>,
    steps: Vec<Step>,
    labels: Vec<String>,
    columns: Vec<super::scope::Column>,
    loads_all: bool,
}

impl Building {
    fn add(&mut self, step: &StepWords<'_>) -> Result<(), SearchError> {
        match step {
            StepWords::Load(loaded) => {
                loaded.iter().for_each(|(path, name)| self.scope.load(path, name));
                self.label("Loader");
            }
            StepWords::LoadAll => {
                self.scope.load_all();
                self.label("Loader");
            }
            StepWords::Apply { expression, name } => {
                let (expression, places) = self.expression(expression)?;
                let into = self.scope.write(name);
                self.label("Projector");
                self.steps.push(Step::Apply { expression, places, into });
            }
            StepWords::Filter(expression) => {
                let (expression, places) = self.expression(expression)?;
                self.label("Filter");
                self.steps.push(Step::Filter { expression, places });
            }
            StepWords::Arrange(arrangement) => self.arrange(arrangement)?,
            StepWords::Group(group) => self.group(group)?,
        }
        if self.scope.width() > PROPERTIES_MAX {
            return Err(Kind::PropertiesOver.with([PROPERTIES_MAX.to_string().into()]));
        }
        Ok(())
    }

    fn label(&mut self, label: &str) {
        self.labels.push(label.to_owned());
    }

    fn expression(&mut self, text: &[u8]) -> Result<(Expression, Vec<usize>), SearchError> {
        let expression = Expression::parse(text)?;
        let place = |name: &Vec<u8>| self.scope.read(name).ok_or_else(|| Kind::NoPropertyHere.of(name));
        let places = expression.properties().iter().map(place).collect::<Result<_, _>>()?;
        Ok((expression, places))
    }

    fn arrange(&mut self, arrangement: &Arrangement<'_>) -> Result<(), SearchError> {
        let Arrangement { keys, offset, limit } = arrangement;
        let Some(keys) = keys else {
            self.label("Pager/Limiter");
            self.steps.push(match *limit {
                Some(0) => Step::Count,
                limit => Step::Page { skip: *offset, left: limit.unwrap_or(usize::MAX) },
            });
            return Ok(());
        };
        let place = |(name, descending): &(&[u8], bool)| {
            let place = self.scope.read_or_load(name).ok_or_else(|| Kind::NoProperty.of(name))?;
            Ok::<_, SearchError>((place, *descending))
        };
        let keys = keys.iter().map(place).collect::<Result<_, _>>()?;
        self.label("Sorter");
        let sorter = super::sorting::Sorter::new(keys, *offset, limit.unwrap_or(SORTED_DEFAULT));
        self.end_stretch(End::Sort(sorter));
        Ok(())
    }

    fn group(&mut self, words: &GroupWords<'_>) -> Result<(), SearchError> {
        let mut next = PropertyScope::default();
        let mut by = Vec::with_capacity(words.by.len());
        for name in &words.by {
            by.push(self.scope.read_or_load(name).ok_or_else(|| Kind::NoGroupProperty.of(name))?);
            next.add(name)?;
        }
        let mut reducers = Vec::with_capacity(words.reducers.len());
        for reducer in &words.reducers {
            let scope = &mut self.scope;
            let mut place_of =
                |name: &[u8]| scope.read_or_load(name).ok_or_else(|| Kind::NoReducerProperty.of(name));
            reducers.push(Reducer::new(reducer, &mut place_of)?);
            next.add(&reducer.alias.map_or_else(|| generated_alias(reducer), <[u8]>::to_vec))?;
        }
        self.label("Grouper");
        self.end_stretch(End::Group(Box::new(Groups::new(by, reducers))));
        self.leave_documents(next);
        Ok(())
    }

    /// Rows have the cells of another scope from here on.
    fn leave_documents(&mut self, next: PropertyScope) {
        let scope = std::mem::replace(&mut self.scope, next);
        let width = scope.width();
        // Properties that are named later than a stretch ends are read from its documents too.
        self.stretches
            .iter_mut()
            .filter(|stretch| stretch.width == 0)
            .for_each(|stretch| stretch.width = width);
        if let Some((columns, loads_all)) = scope.into_columns() {
            (self.columns, self.loads_all) = (columns, loads_all);
        }
    }

    fn end_stretch(&mut self, end: End) {
        let steps = std::mem::take(&mut self.steps);
        self.stretches.push_back(Stretch { steps, end, width: 0 });
    }

    fn finish(mut self, budget: MemoryBudget, meter: WorkMeter) -> RowPipeline {
        self.end_stretch(End::Reply);
        let names = self.scope.names();
        let shows_all = self.scope.loads_all();
        self.leave_documents(PropertyScope::default());
        RowPipeline {
            columns: self.columns,
            loads_all: shows_all,
            stretches: self.stretches,
            flow: RowFlow {
                budget,
                meter,
                out: VecDeque::new(),
                read: 0,
                groups: None,
                at_first: None,
                filtered: 0,
                counts_all: false,
            },
            names: names.into(),
            explanation: None,
            labels: self.labels,
        }
    }
}

/// The name of a reducer's result if the request gives none: of the function and its arguments.
fn generated_alias<'a>(reducer: &ReducerWords<'a>) -> Vec<u8> {
    let argument = |word: &&'a [u8]| word.strip_prefix(b"@").unwrap_or(word);
    let arguments: Vec<&[u8]> = reducer.arguments.iter().map(argument).collect();
    let mut alias = [b"__generated_alias", reducer.name, &arguments.join(&b',')].concat();
    alias.make_ascii_lowercase();
    alias
}
