//! A checker for histories of concurrent clients across crashes: is there one order of the operations that
//! explains every reply?
//!
//! The condition is *strict linearizability* (Aguilera and Frølund, "Strict linearizability and the power of
//! aborting", 2003). Each operation that was answered takes effect at one moment between its invocation and
//! its reply. An operation that was in flight at a crash took effect at one moment before the crash, or
//! never; it does not take effect after the recovery.
//!
//! The search is Wing and Gong's ("Testing and verifying concurrent objects", 1993) in the just-in-time form
//! of Lowe ("Testing for linearizability", 2017): events are read in order of time, and the checker keeps
//! every configuration that can explain what it has read. A configuration consists of the key's value and the
//! set of open operations that have taken effect. Equal configurations are merged, which is Lowe's
//! memoisation. An operation takes effect as late as possible: just before a reply requires it, or just
//! before a crash. Keys are checked one by one (Horn and Kroening, "Faster linearizability checking via
//! P-compositionality", 2015), because all operations here access one key, and strict linearizability is
//! local.
//!
//! Not supported: operations on several keys, expiry, types other than strings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

/// A logical time. Of two events of a history, the earlier one has the smaller stamp; no two are equal.
pub type Stamp = u64;

/// A key's value; `None` while it is absent.
pub type Value = Option<Vec<u8>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Set(Vec<u8>),
    SetIfAbsent(Vec<u8>),
    /// Sets the value, and replies with the previous one.
    GetSet(Vec<u8>),
    Increment(i64),
    Delete,
    Exists,
    /// Removes the value and replies with it. Waits for one while there is none; at its deadline it replies
    /// that there was none.
    Take,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    Done,
    Value(Value),
    Integer(i64),
    /// The operation changed nothing.
    Error,
}

#[derive(Clone, Debug)]
pub struct Operation {
    pub client: usize,
    pub key: Vec<u8>,
    pub action: Action,
    pub invoked: Stamp,
    /// The time of the reply, and the reply; `None` if there was none.
    pub reply: Option<(Stamp, Observed)>,
}

/// The operations of clients and their replies, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    /// Times at which all operations in flight ended.
    pub crashes: Vec<Stamp>,
}

/// A reply that no order of the operations explains.
#[derive(Clone, Debug)]
pub struct Violation {
    pub operation: Operation,
    /// The values that the key could have had, given all earlier events.
    pub possible: BTreeSet<Value>,
    /// The key's operations until then and the crashes, in words, one per line.
    pub story: String,
}

impl History {
    /// Looks for an order of each key's operations that explains all replies.
    ///
    /// # Panics
    /// If the history is malformed: a reply follows a crash during its operation, or more than 64 operations
    /// on one key are open at once.
    pub fn check(&self) -> Result<(), Box<Violation>> {
        let mut keys: BTreeMap<&[u8], Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(&operation.key).or_default().push(operation);
        }
        keys.into_values().try_for_each(|operations| Search::new(operations, &self.crashes).run())
    }
}

impl Action {
    /// The key's value afterwards, and the reply.
    fn apply(&self, value: &Value) -> (Value, Observed) {
        match self {
            Action::Get => (value.clone(), Observed::Value(value.clone())),
            Action::Set(new) => (Some(new.clone()), Observed::Done),
            Action::SetIfAbsent(_) if value.is_some() => (value.clone(), Observed::Integer(0)),
            Action::SetIfAbsent(new) => (Some(new.clone()), Observed::Integer(1)),
            Action::GetSet(new) => (Some(new.clone()), Observed::Value(value.clone())),
            Action::Increment(by) => match integer(value).and_then(|number| number.checked_add(*by)) {
                Some(sum) => (Some(sum.to_string().into_bytes()), Observed::Integer(sum)),
                None => (value.clone(), Observed::Error),
            },
            Action::Delete => (None, Observed::Integer(value.is_some().into())),
            Action::Take => (None, Observed::Value(value.clone())),
            Action::Exists => (value.clone(), Observed::Integer(value.is_some().into())),
        }
    }
}

/// A string as INCR parses it; an absent one is 0.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Some(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        None => Some(0),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Invoke(usize),
    Reply(usize),
    Crash,
}

/// One explanation of what was read so far.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration {
    value: Value,
    /// The open operations that have taken effect: bits of their slots.
    taken: u64,
}

/// The search over one key.
struct Search<'h> {
    operations: Vec<&'h Operation>,
    events: Vec<(Stamp, Event)>,
    /// The open operations.
    slots: Vec<Option<usize>>,
    configurations: HashSet<Configuration>,
}

impl<'h> Search<'h> {
    fn new(operations: Vec<&'h Operation>, crashes: &[Stamp]) -> Search<'h> {
        let invokes = operations.iter().enumerate().map(|(index, op)| (op.invoked, Event::Invoke(index)));
        let replies = operations
            .iter()
            .enumerate()
            .filter_map(|(index, op)| Some((op.reply.as_ref()?.0, Event::Reply(index))));
        let crashes = crashes.iter().map(|stamp| (*stamp, Event::Crash));
        let mut events: Vec<_> = invokes.chain(replies).chain(crashes).collect();
        events.sort_by_key(|(stamp, _)| *stamp);
        let configurations = HashSet::from([Configuration { value: None, taken: 0 }]);
        Search { operations, events, slots: Vec::new(), configurations }
    }

    fn run(mut self) -> Result<(), Box<Violation>> {
        for at in 0..self.events.len() {
            match self.events[at].1 {
                Event::Invoke(operation) => self.open(operation),
                Event::Reply(operation) => {
                    let before: BTreeSet<Value> =
                        self.configurations.iter().map(|configuration| configuration.value.clone()).collect();
                    self.answer(operation);
                    if self.configurations.is_empty() {
                        return Err(self.violation(operation, at, before));
                    }
                }
                Event::Crash => self.crash(),
            }
        }
        Ok(())
    }

    fn open(&mut self, operation: usize) {
        match self.slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(operation),
            None => self.slots.push(Some(operation)),
        }
        assert!(self.slots.len() <= 64, "at most 64 operations on one key at once");
    }

    /// Keeps the configurations in which the operation has taken effect, and closes it.
    fn answer(&mut self, operation: usize) {
        let slot = self.slots.iter().position(|open| *open == Some(operation));
        let slot = slot.expect("an operation that is answered was invoked, and no crash came between");
        let bit = 1 << slot;
        let explored = self.explore(|configuration| configuration.taken & bit != 0);
        let taken = explored.into_iter().filter(|configuration| configuration.taken & bit != 0);
        self.configurations = taken.map(|it| Configuration { taken: it.taken & !bit, ..it }).collect();
        self.slots[slot] = None;
    }

    /// Every open operation has taken effect by now, or never will.
    fn crash(&mut self) {
        for operation in self.slots.iter().flatten() {
            assert!(self.operations[*operation].reply.is_none(), "a reply came after the crash");
        }
        let explored = self.explore(|_| false);
        self.configurations = explored.into_iter().map(|it| Configuration { taken: 0, ..it }).collect();
        self.slots.clear();
    }

    /// All configurations that open operations lead to; does not explore beyond those that are `enough`.
    fn explore(&mut self, enough: impl Fn(&Configuration) -> bool) -> HashSet<Configuration> {
        let mut seen = std::mem::take(&mut self.configurations);
        let mut ahead: Vec<Configuration> = seen.iter().cloned().collect();
        while let Some(configuration) = ahead.pop() {
            if enough(&configuration) {
                continue;
            }
            for (slot, open) in self.slots.iter().enumerate() {
                let Some(operation) = open.filter(|_| configuration.taken & 1 << slot == 0) else { continue };
                let operation = self.operations[operation];
                let (value, observed) = operation.action.apply(&configuration.value);
                if operation.reply.as_ref().is_some_and(|(_, reply)| *reply != observed) {
                    continue;
                }
                let next = Configuration { value, taken: configuration.taken | 1 << slot };
                if seen.insert(next.clone()) {
                    ahead.push(next);
                }
            }
        }
        seen
    }

    fn violation(&self, operation: usize, at: usize, possible: BTreeSet<Value>) -> Box<Violation> {
        let mut story = String::new();
        for (stamp, event) in &self.events[..=at] {
            story += &match *event {
                Event::Crash => format!("{stamp}: crash\n"),
                Event::Invoke(index) => {
                    let operation = self.operations[index];
                    format!("{stamp}: client {} asks {}\n", operation.client, operation.action)
                }
                Event::Reply(index) => {
                    let operation = self.operations[index];
                    let reply = operation.reply.as_ref().map(|(_, reply)| reply);
                    format!("{stamp}: client {} sees {:?}\n", operation.client, reply)
                }
            };
        }
        Box::new(Violation { operation: self.operations[operation].clone(), possible, story })
    }
}

fn text(value: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(value)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Get => write!(f, "GET"),
            Action::Take => write!(f, "TAKE"),
            Action::Set(value) => write!(f, "SET {}", text(value)),
            Action::SetIfAbsent(value) => write!(f, "SETNX {}", text(value)),
            Action::GetSet(value) => write!(f, "GETSET {}", text(value)),
            Action::Increment(by) => write!(f, "INCRBY {by}"),
            Action::Delete => write!(f, "DEL"),
            Action::Exists => write!(f, "EXISTS"),
        }
    }
}

impl fmt::Display for Violation {
    /// The end of the key's history, which contains the cause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LINES_MAX: usize = 60;
        let lines: Vec<&str> = self.story.lines().collect();
        writeln!(f, "key {}:", text(&self.operation.key))?;
        for line in &lines[lines.len().saturating_sub(LINES_MAX)..] {
            writeln!(f, "  {line}")?;
        }
        write!(f, "Nothing explains the last reply; before it the key could hold one of")?;
        for value in &self.possible {
            write!(f, " [{}]", value.as_deref().map_or("nothing".into(), text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "linearizability_tests.rs"]
mod tests;
