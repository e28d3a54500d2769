//! The functions of `redis.*` and of the sandbox that are written in Rust.

use crate::header::{Flags, checked_name};
use crate::lua::checked::{self, CallArguments, ErrorText, raised_table};
use crate::lua::convert::{ReplyToLua, error_of_reply, handled};
use crate::lua::current::current;
use crate::lua::number::write_number;
use crate::lua::random::LuaRandom;
use crate::lua::strings::{self, SharedTicker};
use crate::lua::{Running, bits, cjson, cmsgpack, structs};
use engramdb_engine::{REDIS_VERSION, REDIS_VERSION_NUMBER};
use engramdb_server::ScriptCall;
use mlua::{BorrowedBytes, Lua, LuaString, MultiValue, Table, Value};
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The version with a byte for each of its parts, as Redis shows it to scripts.
fn packed_version(number: u32) -> u32 {
    ((number / 10_000) << 16) | ((number / 100 % 100) << 8) | (number % 100)
}

/// The functions for `prelude.lua`.
pub fn native(lua: &Lua, running: &Arc<Running>, ticker: &SharedTicker) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    strings::add(lua, &native, (running, ticker))?;
    native.raw_set("REDIS_VERSION", REDIS_VERSION)?;
    native.raw_set("REDIS_VERSION_NUM", packed_version(REDIS_VERSION_NUMBER))?;
    let random = Arc::new(LuaRandom::default());
    let seeded = random.clone();
    checked::add(lua, &native, "random", move |_, arguments| random_of(&random, arguments))?;
    checked::add(lua, &native, "randomseed", move |_, arguments| {
        seeded.seed(arguments.number(0)? as i64 as i32);
        Ok(())
    })?;
    let resp = running.clone();
    let setresp = lua.create_function(move |_, values: MultiValue| set_resp(&resp, &values));
    native.raw_set("setresp", setresp?)?;
    native.raw_set("set_repl", lua.create_function(|_, values: MultiValue| set_repl(&values))?)?;
    native.raw_set("sha1hex", lua.create_function(|lua, values: MultiValue| sha1hex_of(lua, &values))?)?;
    native.raw_set("log", lua.create_function(|_, values: MultiValue| log(&values))?)?;
    let run = |raises: bool| {
        lua.create_function(move |lua, words: MultiValue| {
            current(|runner| runner.call(lua, &words, raises)).unwrap_or_else(|| Err(outside()))
        })
    };
    native.raw_set("call", run(true)?)?;
    native.raw_set("pcall", run(false)?)?;
    let may_call = |_: &Lua, words: MultiValue| {
        current(|runner| runner.may_call(&words)).unwrap_or_else(|| Err(outside()))
    };
    native.raw_set("acl_check_cmd", lua.create_function(may_call)?)?;
    let error_text =
        lua.create_function(|lua, text: LuaString| lua.create_string(error_text(&text.as_bytes())));
    native.raw_set("error_text", error_text?)?;
    native.raw_set("handle", lua.create_function(|lua, failure: Value| handled(lua, failure))?)?;
    let failure = |lua: &Lua, failure: Value| match &failure {
        Value::Error(error) => checked::value_of(lua, error),
        _ => Ok(failure),
    };
    native.raw_set("failure", lua.create_function(failure)?)?;
    let is_flag = |_: &Lua, name: LuaString| Ok(Flags::named(&name.as_bytes()).is_some());
    native.raw_set("is_flag", lua.create_function(is_flag)?)?;
    let name_error = |_: &Lua, name: LuaString| {
        let error = checked_name(&name.as_bytes()).err();
        Ok(error.map(|error| error.text().trim_start_matches("ERR ").to_owned()))
    };
    native.raw_set("name_error", lua.create_function(name_error)?)?;
    native.raw_set("bit", bits::library(lua)?)?;
    native.raw_set("struct", structs::library(lua)?)?;
    native.raw_set("cmsgpack", cmsgpack::library(lua)?)?;
    native.raw_set("cjson", cjson::library(lua)?)?;
    Ok(native)
}

fn outside() -> mlua::Error {
    raised_table(b"ERR redis.call/pcall can only be called inside a script invocation")
}

/// `math.random`, with Lua's arguments.
fn random_of(random: &LuaRandom, arguments: &CallArguments<'_>) -> Result<f64, ErrorText> {
    let next = random.next();
    let bound = |index| arguments.number(index).map(f64::trunc);
    match arguments.len() {
        0 => Ok(next),
        1 => {
            let upper = bound(0)?;
            if upper < 1.0 {
                return Err(arguments.wrong(0, "interval is empty"));
            }
            Ok((next * upper).floor() + 1.0)
        }
        2 => {
            let (lower, upper) = (bound(0)?, bound(1)?);
            if lower > upper {
                return Err(arguments.wrong(1, "interval is empty"));
            }
            Ok((next * (upper - lower + 1.0)).floor() + lower)
        }
        _ => Err("wrong number of arguments".to_owned()),
    }
}

/// The number that a value is, as `tonumber` reads it.
fn number_of(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => String::from_utf8_lossy(&text.as_bytes()).trim().parse().ok(),
        _ => None,
    }
}

fn set_resp(running: &Running, values: &MultiValue) -> mlua::Result<()> {
    if values.len() != 1 {
        return Err(raised_table(b"ERR redis.setresp() requires one argument."));
    }
    let version = number_of(values.front()).filter(|version| [2.0, 3.0].contains(version));
    let version = version.ok_or_else(|| raised_table(b"ERR RESP version must be 2 or 3."))?;
    running.resp.store(version as u8, Ordering::Relaxed);
    Ok(())
}

/// There is one log: what a script writes is always in it.
fn set_repl(values: &MultiValue) -> mlua::Result<()> {
    if values.len() != 1 {
        return Err(raised_table(b"ERR redis.set_repl() requires one argument."));
    }
    let flags = number_of(values.front()).unwrap_or(0.0);
    if !(0..=3).contains(&(flags as i64)) {
        let text = b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
        return Err(raised_table(text));
    }
    Ok(())
}

fn sha1hex_of(lua: &Lua, values: &MultiValue) -> mlua::Result<String> {
    match (values.len(), values.front()) {
        (1, Some(value)) => {
            let text = lua.coerce_string(value.clone())?;
            Ok(text.map_or_else(|| sha1hex(b""), |text| sha1hex(&text.as_bytes())))
        }
        _ => Err(raised_table(b"ERR wrong number of arguments")),
    }
}

/// SHA1 in lower-case hexadecimal.
pub fn sha1hex(text: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha1::digest(text);
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn log(values: &MultiValue) -> mlua::Result<()> {
    if values.len() < 2 {
        return Err(raised_table(b"ERR redis.log() requires two arguments or more."));
    }
    let level = number_of(values.front());
    let level = level.ok_or_else(|| raised_table(b"ERR First argument must be a number (log level)."))?;
    let part = |value: &Value| match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let text = values.iter().skip(1).filter_map(part).collect::<Vec<_>>().join(" ");
    match level as i64 {
        0 | 1 => tracing::debug!("{text}"),
        2 => tracing::info!("{text}"),
        3 => tracing::warn!("{text}"),
        _ => return Err(raised_table(b"ERR Invalid log level.")),
    }
    Ok(())
}

/// The text of `redis.error_reply`: a dash in front is dropped, and a text of one word gets a code.
fn error_text(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    let text = &text[..end];
    match text.contains(&b' ') {
        true => text.to_vec(),
        false => [b"ERR ", text].concat(),
    }
}

/// A word of a command, from a string or a number.
enum Word {
    Text(BorrowedBytes),
    Number(SmallVec<[u8; 24]>),
}

impl Word {
    fn bytes(&self) -> &[u8] {
        match self {
            Word::Text(text) => text,
            Word::Number(text) => text,
        }
    }
}

type Words = SmallVec<[Word; 8]>;

fn words_of(values: &MultiValue) -> Result<Words, &'static str> {
    if values.is_empty() {
        return Err("ERR Please specify at least one argument for this redis lib call");
    }
    let word = |value: &Value| match value {
        Value::String(text) => Some(Word::Text(text.as_bytes())),
        Value::Integer(number) => Some(Word::Number(SmallVec::from_slice(number.to_string().as_bytes()))),
        Value::Number(number) => {
            let mut text = Vec::with_capacity(24);
            write_number(*number, &mut text);
            Some(Word::Number(SmallVec::from_vec(text)))
        }
        _ => None,
    };
    let words: Option<Words> = values.iter().map(word).collect();
    words.ok_or("ERR Lua redis lib command arguments must be strings or integers")
}

fn slices(words: &Words) -> SmallVec<[&[u8]; 8]> {
    words.iter().map(Word::bytes).collect()
}

/// Runs a command of a script: `redis.call`, and `redis.pcall`, which returns an error instead of raising it.
pub fn call(
    lua: &Lua,
    call: &mut ScriptCall<'_, '_, '_>,
    values: &MultiValue,
    (is_resp3, raises): (bool, bool),
) -> mlua::Result<Value> {
    let failed = |error: &[u8]| match raises {
        true => Err(checked::raised_by_command(error)),
        false => Ok(Value::Table(checked::counted_error_table(lua, error)?)),
    };
    let words = match words_of(values) {
        Ok(words) => words,
        Err(text) if raises => return Err(raised_table(text.as_bytes())),
        Err(text) => return Ok(Value::Table(checked::error_table(lua, text.as_bytes())?)),
    };
    let read = call.call(&slices(&words), is_resp3, |reply| match reply.first() {
        Some(b'-') => failed(&error_of_reply(reply)),
        _ => ReplyToLua::new(lua, reply).read(),
    });
    read.unwrap_or_else(|error| failed(error.bytes()))
}

/// Whether the caller may run a command: `redis.acl_check_cmd`.
pub fn may_call(call: &mut ScriptCall<'_, '_, '_>, values: &MultiValue) -> mlua::Result<bool> {
    let words = words_of(values).map_err(|text| raised_table(text.as_bytes()))?;
    call.may_call(&slices(&words)).map_err(|error| raised_table(error.bytes()))
}
