//! Reducers of GROUPBY: their arguments, and their states by group.

use super::budget::MemoryBudget;
use super::request::ReducerWords;
use super::rows::{Cell, PipelineRow};
use crate::error::{self, Kind, SearchError};
use crate::expr::{ExprValue, compare_values};
use crate::words::whole_number;
use engramdb_engine::env::Random;
use engramdb_engine::hashing::HashSet;
use engramdb_engine::table::hash_bytes;
use engramdb_engine::types::parse_double;

/// The most rows of RANDOM_SAMPLE, and the largest resolution of QUANTILE.
const SAMPLE_MAX: usize = 1000;
/// Bytes that an entry of a hash set takes, with its unused ones.
const ENTRY_BYTES: usize = 18;
/// The registers of a HyperLogLog, as a power of two: the size that RediSearch has.
const HLL_BITS: u32 = 8;
const HLL_REGISTERS: usize = 1 << HLL_BITS;

type Registers = Box<[u8; HLL_REGISTERS]>;

/// The reducers beside COUNT, which reads no property.
const NAMES: [&[u8]; 13] = [
    b"COUNT_DISTINCT",
    b"COUNT_DISTINCTISH",
    b"HLL",
    b"HLL_SUM",
    b"SUM",
    b"AVG",
    b"MIN",
    b"MAX",
    b"STDDEV",
    b"QUANTILE",
    b"TOLIST",
    b"FIRST_VALUE",
    b"RANDOM_SAMPLE",
];

/// Whether the first argument of this reducer is a property.
pub fn reads_property(name: &[u8]) -> bool {
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A reducer, and its states by the number of the group.
#[derive(Debug)]
pub struct Reducer {
    /// The place of the property that it reads; none for COUNT.
    place: usize,
    states: States,
}

#[derive(Debug)]
enum States {
    Count(Vec<u64>),
    Distinct(Vec<HashSet<u64>>),
    Distinctish(Vec<Registers>),
    /// Gives the registers themselves.
    Hll(Vec<Registers>),
    HllSum(Vec<Registers>),
    Sum(Vec<f64>),
    Average(Vec<(f64, u64)>),
    Least(Vec<f64>),
    Most(Vec<f64>),
    Deviation(Vec<Deviation>),
    Quantile(f64, Vec<Vec<f64>>),
    List(Vec<DistinctList>),
    First(Vec<Option<ExprValue<'static>>>),
    /// The first by another property: its place, and whether it is descending.
    FirstBy(usize, bool, Vec<Option<(ExprValue<'static>, ExprValue<'static>)>>),
    /// This many, with the number of rows that there were.
    Sample(usize, Vec<(u64, Vec<ExprValue<'static>>)>),
}

/// Welford's running variance.
#[derive(Clone, Copy, Debug, Default)]
struct Deviation {
    count: u64,
    mean: f64,
    squares: f64,
}

/// Different values in the order of their first occurrence.
#[derive(Debug, Default)]
struct DistinctList {
    seen: HashSet<u64>,
    values: Vec<ExprValue<'static>>,
}

impl Reducer {
    /// Reads the words of a reducer. `place_of` finds the property of a name, or fails.
    pub fn new(
        words: &ReducerWords<'_>,
        place_of: &mut dyn FnMut(&[u8]) -> Result<usize, SearchError>,
    ) -> Result<Reducer, SearchError> {
        let name = words.name.to_ascii_uppercase();
        let mut arguments = Arguments { name: words.name, all: words.arguments, next: 0 };
        if name == b"COUNT" {
            if !words.arguments.is_empty() {
                return Err(Kind::CountArguments.error());
            }
            return Ok(Reducer { place: usize::MAX, states: States::Count(Vec::new()) });
        }
        if !NAMES.contains(&&name[..]) {
            return Err(Kind::NoReducer.of(words.name));
        }
        let place = place_of(arguments.property()?)?;
        let states = match &name[..] {
            b"COUNT_DISTINCT" => States::Distinct(Vec::new()),
            b"COUNT_DISTINCTISH" => States::Distinctish(Vec::new()),
            b"HLL" => States::Hll(Vec::new()),
            b"HLL_SUM" => States::HllSum(Vec::new()),
            b"SUM" => States::Sum(Vec::new()),
            b"AVG" => States::Average(Vec::new()),
            b"MIN" => States::Least(Vec::new()),
            b"MAX" => States::Most(Vec::new()),
            b"STDDEV" => States::Deviation(Vec::new()),
            b"QUANTILE" => {
                let states = States::Quantile(arguments.share()?, Vec::new());
                arguments.resolution()?;
                arguments.end()?;
                states
            }
            b"TOLIST" => States::List(Vec::new()),
            b"FIRST_VALUE" if arguments.take(b"BY") => {
                let by = place_of(arguments.property()?)?;
                let descending = arguments.take(b"DESC");
                _ = !descending && arguments.take(b"ASC");
                arguments.end()?;
                States::FirstBy(by, descending, Vec::new())
            }
            b"FIRST_VALUE" => {
                arguments.end()?;
                States::First(Vec::new())
            }
            _ => {
                let size = arguments.sample_size()?;
                States::Sample(size, Vec::new())
            }
        };
        Ok(Reducer { place, states })
    }

    /// The place of the property that it reads, beyond all places if it reads none.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Adds the state of another group.
    pub fn begin(&mut self, budget: &mut MemoryBudget) -> Result<(), SearchError> {
        fn add<T>(states: &mut Vec<T>, state: T) -> usize {
            states.push(state);
            size_of::<T>()
        }
        let registers = || Box::new([0; HLL_REGISTERS]);
        let bytes = match &mut self.states {
            States::Count(states) => add(states, 0),
            States::Distinct(states) => add(states, HashSet::default()),
            States::Distinctish(states) | States::Hll(states) | States::HllSum(states) => {
                add(states, registers()) + HLL_REGISTERS
            }
            States::Sum(states) => add(states, 0.0),
            States::Average(states) => add(states, (0.0, 0)),
            States::Least(states) => add(states, f64::INFINITY),
            States::Most(states) => add(states, f64::NEG_INFINITY),
            States::Deviation(states) => add(states, Deviation::default()),
            States::Quantile(_, states) => add(states, Vec::new()),
            States::List(states) => add(states, DistinctList::default()),
            States::First(states) => add(states, None),
            States::FirstBy(.., states) => add(states, None),
            States::Sample(_, states) => add(states, (0, Vec::new())),
        };
        budget.take(bytes)
    }

    /// Adds a row to a group.
    pub fn add(
        &mut self,
        group: usize,
        row: &PipelineRow<'_>,
        random: &dyn Random,
        budget: &mut MemoryBudget,
    ) -> Result<(), SearchError> {
        if let States::Count(states) = &mut self.states {
            states[group] += 1;
            return Ok(());
        }
        let cell = &row.cells[self.place];
        let number = || cell.as_ref().and_then(ExprValue::number);
        match &mut self.states {
            States::Count(_) => unreachable!("counted above"),
            States::Sum(states) => states[group] += number().unwrap_or_default(),
            States::Average(states) => {
                states[group].0 += number().unwrap_or_default();
                states[group].1 += 1;
            }
            States::Least(states) => {
                states[group] = number().map_or(states[group], |number| states[group].min(number));
            }
            States::Most(states) => {
                states[group] = number().map_or(states[group], |number| states[group].max(number));
            }
            States::Deviation(states) => each_number(cell, |number| states[group].add(number)),
            States::Quantile(_, states) => {
                let mut added = 0;
                each_number(cell, |number| {
                    states[group].push(number);
                    added += 1;
                });
                budget.take(added * size_of::<f64>())?;
            }
            States::Distinct(states) => {
                if let Some(value) = cell
                    && states[group].insert(hash_of(value))
                {
                    budget.take(ENTRY_BYTES)?;
                }
            }
            States::Distinctish(states) | States::Hll(states) => {
                if let Some(value) = cell {
                    add_hash(&mut states[group], hash_of(value));
                }
            }
            States::HllSum(states) => {
                if let Some(registers) = cell.as_ref().and_then(ExprValue::text).and_then(registers_of) {
                    states[group]
                        .iter_mut()
                        .zip(registers)
                        .for_each(|(own, other)| *own = (*own).max(*other));
                }
            }
            states => add_value(states, group, row, cell, (random, budget))?,
        }
        Ok(())
    }

    /// The result of a group. The state is taken.
    pub fn result(&mut self, group: usize) -> ExprValue<'static> {
        ExprValue::Number(match &mut self.states {
            States::Count(states) => states[group] as f64,
            States::Distinct(states) => std::mem::take(&mut states[group]).len() as f64,
            States::Distinctish(states) | States::HllSum(states) => estimate(&states[group]).floor(),
            States::Hll(states) => return ExprValue::Text(hll_text(&states[group]).into()),
            States::Sum(states) => states[group],
            States::Average(states) => match states[group] {
                (_, 0) => 0.0,
                (sum, count) => sum / count as f64,
            },
            States::Least(states) | States::Most(states) if states[group].is_infinite() => 0.0,
            States::Least(states) | States::Most(states) => states[group],
            States::Deviation(states) => states[group].result(),
            States::Quantile(share, states) => quantile(std::mem::take(&mut states[group]), *share),
            States::List(states) => {
                return ExprValue::List(std::mem::take(&mut states[group].values).into());
            }
            States::First(states) => return states[group].take().unwrap_or_default(),
            States::FirstBy(.., states) => {
                return states[group].take().map_or(ExprValue::Null, |(value, _)| value);
            }
            States::Sample(_, states) => {
                return ExprValue::List(std::mem::take(&mut states[group].1).into());
            }
        })
    }
}

/// Adds a row to a state that keeps values.
fn add_value(
    states: &mut States,
    group: usize,
    row: &PipelineRow<'_>,
    cell: &Cell<'_>,
    (random, budget): (&dyn Random, &mut MemoryBudget),
) -> Result<(), SearchError> {
    match states {
        States::List(states) => match cell.as_ref().map(ExprValue::seen) {
            Some(ExprValue::List(list)) => list.iter().try_for_each(|value| states[group].add(value, budget)),
            _ => cell.iter().try_for_each(|value| states[group].add(value, budget)),
        },
        States::First(states) => {
            let state = &mut states[group];
            if state.is_none() {
                let value = cell.as_ref().map_or(ExprValue::Null, ExprValue::to_static);
                budget.take(value.heap_bytes())?;
                *state = Some(value);
            }
            Ok(())
        }
        States::FirstBy(by, descending, states) => {
            first_by(&mut states[group], cell, &row.cells[*by], *descending, budget)
        }
        States::Sample(size, states) => sample(&mut states[group], *size, cell, random, budget),
        _ => unreachable!("the others keep numbers"),
    }
}

/// The arguments of a reducer.
struct Arguments<'a> {
    name: &'a [u8],
    all: &'a [&'a [u8]],
    next: usize,
}

impl<'a> Arguments<'a> {
    fn word(&mut self) -> Option<&'a [u8]> {
        let word = self.all.get(self.next).copied();
        self.next += usize::from(word.is_some());
        word
    }

    fn take(&mut self, keyword: &[u8]) -> bool {
        let is_next = self.all.get(self.next).is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(is_next);
        is_next
    }

    fn property(&mut self) -> Result<&'a [u8], SearchError> {
        let word = self.word().ok_or_else(|| Kind::ReducerArguments.of(self.name))?;
        Ok(word.strip_prefix(b"@").unwrap_or(word))
    }

    fn share(&mut self) -> Result<f64, SearchError> {
        let share = self.word().and_then(parse_double);
        let share = share.ok_or_else(|| error::bad_arguments(&error::text(self.name), error::CONVERSION))?;
        if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(Kind::Percentage.error()) }
    }

    /// The resolution of RediSearch's approximation. Quantiles are exact here.
    fn resolution(&mut self) -> Result<(), SearchError> {
        let Some(word) = self.word() else { return Ok(()) };
        let resolution: usize =
            whole_number(word).ok_or_else(|| error::bad_arguments("<resolution>", error::CONVERSION))?;
        if (1..=SAMPLE_MAX).contains(&resolution) { Ok(()) } else { Err(Kind::Resolution.error()) }
    }

    fn sample_size(&mut self) -> Result<usize, SearchError> {
        const NAME: &str = "<sample size>";
        let word = self.word().ok_or_else(|| error::bad_arguments(NAME, error::NO_VALUE))?;
        let size: i64 = whole_number(word).ok_or_else(|| error::bad_arguments(NAME, error::CONVERSION))?;
        let size = usize::try_from(size).map_err(|_| error::bad_arguments(NAME, error::BOUNDS))?;
        if size > SAMPLE_MAX { Err(Kind::SampleSize.error()) } else { Ok(size) }
    }

    fn end(&mut self) -> Result<(), SearchError> {
        let place = self.next;
        let Some(word) = self.word() else { return Ok(()) };
        Err(Kind::ReducerArgument.with([
            error::text(word).into(),
            place.to_string().into(),
            error::text(self.name).into(),
        ]))
    }
}

/// Calls `each` with the number of a cell, or with those of a list.
fn each_number(cell: &Cell<'_>, mut each: impl FnMut(f64)) {
    match cell.as_ref().map(ExprValue::seen) {
        Some(ExprValue::List(list)) => list.iter().filter_map(ExprValue::number).for_each(each),
        Some(value) => value.number().into_iter().for_each(&mut each),
        None => {}
    }
}

fn first_by(
    state: &mut Option<(ExprValue<'static>, ExprValue<'static>)>,
    cell: &Cell<'_>,
    by: &Cell<'_>,
    descending: bool,
    budget: &mut MemoryBudget,
) -> Result<(), SearchError> {
    let Some(value) = cell else { return Ok(()) };
    let null = ExprValue::Null;
    let key = by.as_ref().unwrap_or(&null);
    if let Some((_, best)) = state {
        let order = compare_values(key, best);
        let order = if descending { order } else { order.reverse() };
        // A null is the least value; once one leads in RediSearch, what would come after it replaces it.
        let is_better = if *best.seen() == ExprValue::Null { order.is_lt() } else { order.is_gt() };
        if !is_better {
            return Ok(());
        }
    }
    let new = (value.to_static(), key.to_static());
    let old = state.as_ref().map_or(0, |(value, key)| value.heap_bytes() + key.heap_bytes());
    budget.give_back(old);
    budget.take(new.0.heap_bytes() + new.1.heap_bytes())?;
    *state = Some(new);
    Ok(())
}

/// Reservoir sampling.
fn sample(
    (count, values): &mut (u64, Vec<ExprValue<'static>>),
    size: usize,
    cell: &Cell<'_>,
    random: &dyn Random,
    budget: &mut MemoryBudget,
) -> Result<(), SearchError> {
    let Some(value) = cell else { return Ok(()) };
    *count += 1;
    let place = if values.len() < size { values.len() as u64 } else { random.next_u64() % *count };
    if place >= size as u64 {
        return Ok(());
    }
    let value = value.to_static();
    budget.take(value.heap_bytes())?;
    match values.get_mut(place as usize) {
        Some(old) => {
            budget.give_back(old.heap_bytes());
            *old = value;
        }
        None => {
            budget.take(size_of::<ExprValue<'_>>())?;
            values.push(value);
        }
    }
    Ok(())
}

impl Deviation {
    fn add(&mut self, number: f64) {
        self.count += 1;
        let from_old = number - self.mean;
        self.mean += from_old / self.count as f64;
        self.squares += from_old * (number - self.mean);
    }

    /// Of a sample: divided by one less than the count.
    fn result(self) -> f64 {
        if self.count > 1 { (self.squares / (self.count - 1) as f64).sqrt() } else { 0.0 }
    }
}

impl DistinctList {
    fn add(&mut self, value: &ExprValue<'_>, budget: &mut MemoryBudget) -> Result<(), SearchError> {
        if self.seen.insert(hash_of(value)) {
            let value = value.to_static();
            budget.take(ENTRY_BYTES + 2 * size_of::<ExprValue<'_>>() + value.heap_bytes())?;
            self.values.push(value);
        }
        Ok(())
    }
}

/// The value that this share of the values is not above; 0 of none.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = (share * values.len() as f64).ceil() as usize;
    let place = rank.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

/// A hash of a value. Equal values of one type have the same.
fn hash_of(value: &ExprValue<'_>) -> u64 {
    match value.seen() {
        ExprValue::Null | ExprValue::Several(_) => 0,
        ExprValue::Number(number) => hash_bytes(&(number + 0.0).to_bits().to_le_bytes()),
        ExprValue::Text(text) => hash_bytes(text).rotate_left(1),
        ExprValue::List(list) => {
            list.iter().fold(1, |hash: u64, value| hash.rotate_left(7).wrapping_mul(31) ^ hash_of(value))
        }
    }
}

fn add_hash(registers: &mut Registers, hash: u64) {
    let place = (hash >> (64 - HLL_BITS)) as usize;
    let rank = (hash << HLL_BITS).leading_zeros().min(64 - HLL_BITS) as u8 + 1;
    registers[place] = registers[place].max(rank);
}

/// Flajolet's estimate, with linear counting while registers are unused.
fn estimate(registers: &Registers) -> f64 {
    let size = HLL_REGISTERS as f64;
    let sum: f64 = registers.iter().map(|&rank| (-f64::from(rank)).exp2()).sum();
    let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
    let unused = registers.iter().filter(|&&rank| rank == 0).count();
    if raw <= 2.5 * size && unused > 0 { (size * (size / unused as f64).ln()).round() } else { raw }
}

/// RediSearch's form: four bytes of flags, the bits, the registers.
fn hll_text(registers: &Registers) -> Vec<u8> {
    [&[0, 0, 0, 0, HLL_BITS as u8][..], &registers[..]].concat()
}

fn registers_of(text: &[u8]) -> Option<&[u8]> {
    let registers = text.strip_prefix(&[0, 0, 0, 0, HLL_BITS as u8])?;
    (registers.len() == HLL_REGISTERS).then_some(registers)
}
