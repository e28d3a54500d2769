//! `string.find`, `match`, `gmatch` and `gsub`: Lua's, by our own [`pattern`](super::pattern) matcher.

use crate::lua::checked::{CallArguments, ErrorText, raised};
use crate::lua::cjson::check_size;
use crate::lua::pattern::{Captured, Matcher, PatternError, has_specials};
use crate::lua::{Running, Ticker};
use engramdb_server::Tick;
use memchr::memmem;
use mlua::{Lua, LuaString, MultiValue, Table, Value};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The ticker of the script that runs.
pub type SharedTicker = Arc<Mutex<Option<Ticker>>>;

/// Why a function ends: with a text of its own, or with an error of what it called.
enum Failed {
    Text(ErrorText),
    Passed(mlua::Error),
}

impl From<ErrorText> for Failed {
    fn from(text: ErrorText) -> Failed {
        Failed::Text(text)
    }
}

impl From<mlua::Error> for Failed {
    fn from(error: mlua::Error) -> Failed {
        Failed::Passed(error)
    }
}

impl From<PatternError> for Failed {
    fn from(error: PatternError) -> Failed {
        match error {
            PatternError::Wrong(text) => Failed::Text(text.to_owned()),
            PatternError::Ended => Failed::Passed(mlua::Error::runtime("ended")),
        }
    }
}

type Function = fn(&Lua, &CallArguments<'_>, &dyn Fn() -> bool) -> Result<MultiValue, Failed>;

/// Adds the functions for `prelude.lua`. `gmatch_next` is one step of the iterator of `gmatch`.
pub fn add(lua: &Lua, native: &Table, (running, ticker): (&Arc<Running>, &SharedTicker)) -> mlua::Result<()> {
    let functions: [(&'static str, Function); 4] =
        [("find", find), ("match", find_captures), ("gmatch", gmatch_next), ("gsub", gsub)];
    for (name, function) in functions {
        let (running, ticker) = (running.clone(), ticker.clone());
        let call = lua.create_function(move |lua, values: MultiValue| {
            let goes_on = || {
                let ticker = ticker.lock().clone();
                let goes_on = ticker.is_none_or(|ticker| ticker() == Tick::GoOn);
                running.has_ended_work.fetch_or(!goes_on, Ordering::Relaxed);
                goes_on
            };
            let arguments = CallArguments::new(lua, name, &values);
            function(lua, &arguments, &goes_on).map_err(|failed| match failed {
                Failed::Text(text) => raised(lua, &text),
                Failed::Passed(error) => error,
            })
        })?;
        native.raw_set(name, call)?;
    }
    Ok(())
}

fn find(lua: &Lua, arguments: &CallArguments<'_>, goes_on: &dyn Fn() -> bool) -> Result<MultiValue, Failed> {
    search(lua, arguments, goes_on, true)
}

fn find_captures(
    lua: &Lua,
    arguments: &CallArguments<'_>,
    goes_on: &dyn Fn() -> bool,
) -> Result<MultiValue, Failed> {
    search(lua, arguments, goes_on, false)
}

/// `find` and `match`: the first match from an index on.
fn search(
    lua: &Lua,
    arguments: &CallArguments<'_>,
    goes_on: &dyn Fn() -> bool,
    is_find: bool,
) -> Result<MultiValue, Failed> {
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let start = match optional_integer(arguments, 2)?.unwrap_or(1) {
        from @ 1.. => (from - 1) as usize,
        0 => 0,
        from => (text.len() as i64 + from).max(0) as usize,
    };
    let start = start.min(text.len());
    let is_plain = !matches!(arguments.get(3), None | Some(Value::Nil | Value::Boolean(false)));
    if is_find && (is_plain || !has_specials(&pattern)) {
        let Some(found) = memmem::find(&text[start..], &pattern) else { return Ok(nothing()) };
        let first = start + found;
        return Ok(numbers([first + 1, first + pattern.len()]));
    }
    let mut matcher = Matcher::new(&text, &pattern, goes_on);
    let is_anchored = matcher.take_anchor();
    for first in start..=text.len() {
        if let Some(end) = matcher.match_at(first)? {
            let mut values = if is_find { numbers([first + 1, end]) } else { MultiValue::new() };
            push_captures(lua, &matcher, (first, end), !is_find, &mut values)?;
            return Ok(values);
        }
        if is_anchored {
            break;
        }
    }
    Ok(nothing())
}

/// The next match from an index on, counted from 0: where to go on, and the captures.
fn gmatch_next(
    lua: &Lua,
    arguments: &CallArguments<'_>,
    goes_on: &dyn Fn() -> bool,
) -> Result<MultiValue, Failed> {
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let start = optional_integer(arguments, 2)?.and_then(|start| usize::try_from(start).ok());
    let mut matcher = Matcher::new(&text, &pattern, goes_on);
    for first in start.unwrap_or(0)..=text.len() {
        if let Some(end) = matcher.match_at(first)? {
            let next = end + usize::from(end == first);
            let mut values = MultiValue::from_vec(vec![Value::Number(next as f64)]);
            push_captures(lua, &matcher, (first, end), true, &mut values)?;
            return Ok(values);
        }
    }
    Ok(nothing())
}

/// What a match is replaced by.
enum Replacement {
    Text(LuaString),
    Table(Table),
    Function(mlua::Function),
}

fn gsub(lua: &Lua, arguments: &CallArguments<'_>, goes_on: &dyn Fn() -> bool) -> Result<MultiValue, Failed> {
    let (text, pattern) = (arguments.text(0)?, arguments.text(1)?);
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let count_max = optional_integer(arguments, 3)?.map_or(usize::MAX, |count| count.max(0) as usize);
    let replacement = match arguments.get(2) {
        Some(Value::Table(table)) => Replacement::Table(table.clone()),
        Some(Value::Function(function)) => Replacement::Function(function.clone()),
        Some(Value::String(_) | Value::Number(_) | Value::Integer(_)) => {
            Replacement::Text(arguments.text(2)?)
        }
        _ => return Err(arguments.wrong(2, "string/function/table expected").into()),
    };
    let mut matcher = Matcher::new(&text, &pattern, goes_on);
    let is_anchored = matcher.take_anchor();
    let (mut made, mut at, mut count) = (Vec::new(), 0, 0);
    while count < count_max {
        let end = matcher.match_at(at)?;
        if let Some(end) = end {
            count += 1;
            replace(lua, &matcher, &replacement, (&text, at, end), &mut made)?;
            check_size(made.len())?;
        }
        match end {
            Some(end) if end > at => at = end,
            _ if at < text.len() => {
                made.push(text[at]);
                at += 1;
            }
            _ => break,
        }
        if is_anchored {
            break;
        }
    }
    made.extend_from_slice(&text[at..]);
    let made = Value::String(lua.create_string(&made)?);
    Ok(MultiValue::from_vec(vec![made, Value::Number(count as f64)]))
}

/// Appends what replaces the match `start..end`.
fn replace(
    lua: &Lua,
    matcher: &Matcher<'_>,
    replacement: &Replacement,
    (text, start, end): (&[u8], usize, usize),
    made: &mut Vec<u8>,
) -> Result<(), Failed> {
    let value = match replacement {
        Replacement::Text(template) => {
            return fill_in(matcher, &template.as_bytes(), (text, start, end), made);
        }
        Replacement::Table(table) => table.get::<Value>(value_of(lua, matcher.capture(0, (start, end))?)?)?,
        Replacement::Function(function) => {
            let mut captures = MultiValue::new();
            push_captures(lua, matcher, (start, end), true, &mut captures)?;
            function.call::<Value>(captures)?
        }
    };
    match value {
        Value::Nil | Value::Boolean(false) => made.extend_from_slice(&text[start..end]),
        Value::String(text) => made.extend_from_slice(&text.as_bytes()),
        Value::Number(_) | Value::Integer(_) => {
            if let Some(text) = lua.coerce_string(value)? {
                made.extend_from_slice(&text.as_bytes());
            }
        }
        other => {
            return Err(format!("invalid replacement value (a {})", other.type_name()).into());
        }
    }
    Ok(())
}

/// Appends a replacement in which `%0` is the match and `%1` a capture.
fn fill_in(
    matcher: &Matcher<'_>,
    template: &[u8],
    (text, start, end): (&[u8], usize, usize),
    made: &mut Vec<u8>,
) -> Result<(), Failed> {
    let mut rest = template.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            made.push(byte);
            continue;
        }
        match rest.next().copied().unwrap_or(0) {
            b'0' => made.extend_from_slice(&text[start..end]),
            digit @ b'1'..=b'9' => match matcher.capture(usize::from(digit - b'1'), (start, end))? {
                Captured::Bytes(bytes) => made.extend_from_slice(bytes),
                Captured::Position(at) => made.extend_from_slice(at.to_string().as_bytes()),
            },
            other => made.push(other),
        }
    }
    Ok(())
}

fn push_captures(
    lua: &Lua,
    matcher: &Matcher<'_>,
    (start, end): (usize, usize),
    at_least_one: bool,
    values: &mut MultiValue,
) -> Result<(), Failed> {
    let count = matcher.captures().max(usize::from(at_least_one));
    for index in 0..count {
        values.push_back(value_of(lua, matcher.capture(index, (start, end))?)?);
    }
    Ok(())
}

fn value_of(lua: &Lua, captured: Captured<'_>) -> mlua::Result<Value> {
    Ok(match captured {
        Captured::Bytes(bytes) => Value::String(lua.create_string(bytes)?),
        Captured::Position(at) => Value::Number(at as f64),
    })
}

fn optional_integer(arguments: &CallArguments<'_>, index: usize) -> Result<Option<i64>, ErrorText> {
    match arguments.get(index) {
        None | Some(Value::Nil) => Ok(None),
        _ => arguments.number(index).map(|number| Some(number as i64)),
    }
}

fn nothing() -> MultiValue {
    MultiValue::from_vec(vec![Value::Nil])
}

fn numbers(numbers: [usize; 2]) -> MultiValue {
    MultiValue::from_vec(numbers.map(|number| Value::Number(number as f64)).into())
}
