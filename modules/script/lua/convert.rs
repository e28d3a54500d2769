//! Replies of commands as values of Lua, and values of Lua as replies: Redis's conversions.

use crate::lua::checked::{IS_COUNTED, value_of};
use crate::lua::text_of;
use engramdb_engine::command::{CommandError, Reply};
use mlua::{Lua, LuaString, Table, Value};

/// Tables inside tables that a reply may have; a table can contain itself.
const DEPTH_MAX: usize = 1000;

/// Reads one reply of a command, which this server has written.
pub struct ReplyToLua<'l, 'r> {
    lua: &'l Lua,
    rest: &'r [u8],
}

impl<'l, 'r> ReplyToLua<'l, 'r> {
    pub fn new(lua: &'l Lua, reply: &'r [u8]) -> ReplyToLua<'l, 'r> {
        ReplyToLua { lua, rest: reply }
    }

    fn line(&mut self) -> mlua::Result<&'r [u8]> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n");
        let end = end.ok_or_else(|| mlua::Error::runtime("a reply has no end"))?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        Ok(line)
    }

    fn number(&mut self) -> mlua::Result<i64> {
        let line = self.line()?;
        let (is_negative, digits) = match line.split_first() {
            Some((b'-', digits)) => (true, digits),
            _ => (false, line),
        };
        let number = digits.iter().fold(0_i64, |number, digit| {
            number.wrapping_mul(10).wrapping_add(i64::from(digit.wrapping_sub(b'0')))
        });
        Ok(if is_negative { number.wrapping_neg() } else { number })
    }

    /// The content of a string of this length.
    fn content(&mut self, length: i64) -> mlua::Result<&'r [u8]> {
        let whole = self.rest.split_at_checked(length as usize + 2);
        let (content, rest) = whole.ok_or_else(|| mlua::Error::runtime("a reply is too short"))?;
        self.rest = rest;
        Ok(&content[..length as usize])
    }

    /// The value of the reply.
    pub fn read(&mut self) -> mlua::Result<Value> {
        let (kind, rest) = self.rest.split_first().ok_or_else(|| mlua::Error::runtime("no reply"))?;
        self.rest = rest;
        let lua = self.lua;
        Ok(match kind {
            b'$' => match self.number()? {
                -1 => Value::Boolean(false),
                length => Value::String(lua.create_string(self.content(length)?)?),
            },
            b':' => Value::Number(self.number()? as f64),
            b'+' => self.field("ok", |reader| reader.text())?,
            b'-' => self.field("err", |reader| {
                let error = with_code(reader.line()?);
                Ok(Value::String(reader.lua.create_string(&error)?))
            })?,
            b'*' | b'>' => match self.number()? {
                -1 => Value::Boolean(false),
                length => self.list(length)?,
            },
            b'_' => {
                self.line()?;
                Value::Nil
            }
            b'#' => Value::Boolean(self.line()? == b"t"),
            b',' => {
                let line = String::from_utf8_lossy(self.line()?).into_owned();
                self.field("double", |_| Ok(Value::Number(line.parse().unwrap_or(f64::NAN))))?
            }
            b'(' => self.field("big_number", |reader| reader.text())?,
            b'=' => self.verbatim()?,
            b'%' => {
                let length = self.number()?;
                self.field("map", |reader| reader.map(length))?
            }
            b'~' => {
                let length = self.number()?;
                self.field("set", |reader| reader.set(length))?
            }
            _ => return Err(mlua::Error::runtime("a reply of an unknown kind")),
        })
    }

    fn text(&mut self) -> mlua::Result<Value> {
        let line = self.line()?;
        Ok(Value::String(self.lua.create_string(line)?))
    }

    fn field(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> mlua::Result<Value>,
    ) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, read(self)?)?;
        Ok(Value::Table(table))
    }

    fn list(&mut self, length: i64) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(length as usize, 0)?;
        for index in 1..=length {
            table.raw_set(index, self.read()?)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: i64) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(0, length as usize)?;
        for _ in 0..length {
            let (key, value) = (self.read()?, self.read()?);
            table.raw_set(key, value)?;
        }
        Ok(Value::Table(table))
    }

    fn set(&mut self, length: i64) -> mlua::Result<Value> {
        let table = self.lua.create_table_with_capacity(0, length as usize)?;
        for _ in 0..length {
            table.raw_set(self.read()?, true)?;
        }
        Ok(Value::Table(table))
    }

    fn verbatim(&mut self) -> mlua::Result<Value> {
        let length = self.number()?;
        let content = self.content(length)?;
        let (format, text) = content.split_at_checked(4).unwrap_or((b"txt:", content));
        let lua = self.lua;
        self.field("verbatim_string", |_| {
            let table = lua.create_table_with_capacity(0, 2)?;
            table.raw_set("format", lua.create_string(&format[..3])?)?;
            table.raw_set("string", lua.create_string(text)?)?;
            Ok(Value::Table(table))
        })
    }
}

/// An error has a code in front.
fn with_code(line: &[u8]) -> Vec<u8> {
    if line.contains(&b' ') { line.to_vec() } else { [b"ERR ", line].concat() }
}

/// The code and the text of a reply that is an error.
pub fn error_of_reply(reply: &[u8]) -> Vec<u8> {
    with_code(reply.strip_suffix(b"\r\n").unwrap_or(reply).strip_prefix(b"-").unwrap_or(reply))
}

/// Values that a reply may have. A table can contain others several times, and those others again, so that a
/// few tables are more values than can ever be written.
const VALUES_MAX: usize = 1 << 25;

/// Writes a script's value as its reply. `is_resp3` is what the script has chosen for replies of commands: it
/// decides what booleans are.
///
/// # Errors
/// A value that is too large to be written; nothing is left of it in the reply.
pub fn to_reply(value: &Value, is_resp3: bool, reply: &mut dyn Reply) -> Result<(), CommandError> {
    let mark = reply.mark();
    let mut writer = ReplyWriter { reply, is_resp3, left: VALUES_MAX };
    writer.write(value, 0);
    if writer.left > 0 {
        return Ok(());
    }
    reply.rewind(mark);
    Err(CommandError::new(format!("ERR the reply of the script has more than {VALUES_MAX} values")))
}

struct ReplyWriter<'r> {
    reply: &'r mut dyn Reply,
    is_resp3: bool,
    /// Values that may still be written; 0 ends the writing.
    left: usize,
}

/// As C converts: towards zero, and to the smallest number where it does not fit.
fn to_integer(number: f64) -> i64 {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if !(-TOO_LARGE..TOO_LARGE).contains(&number) { i64::MIN } else { number as i64 }
}

fn text_field(table: &Table, name: &str) -> Option<LuaString> {
    match table.raw_get(name) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn table_field(table: &Table, name: &str) -> Option<Table> {
    match table.raw_get(name) {
        Ok(Value::Table(inner)) => Some(inner),
        _ => None,
    }
}

fn one_line(text: &LuaString) -> Vec<u8> {
    let line = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
    text.as_bytes().iter().map(line).collect()
}

impl ReplyWriter<'_> {
    fn write(&mut self, value: &Value, depth: usize) {
        // Nothing more is needed of a reply that is dropped because too much of it is unread.
        self.left = if self.reply.room() == 0 { 1 } else { self.left };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return;
        }
        let reply = &mut *self.reply;
        match value {
            Value::String(text) => reply.bulk(&text.as_bytes()),
            Value::Boolean(truth) if self.is_resp3 => reply.boolean(*truth),
            Value::Boolean(true) => reply.integer(1),
            Value::Integer(number) => reply.integer(*number),
            Value::Number(number) => reply.integer(to_integer(*number)),
            Value::Table(_) if depth >= DEPTH_MAX => {
                reply.error(&CommandError::of("ERR reached lua stack limit"));
            }
            Value::Table(table) => self.write_table(table, depth + 1),
            _ => reply.null(),
        }
    }

    fn write_table(&mut self, table: &Table, depth: usize) {
        if self.write_named(table) {
            return;
        }
        if let Some(inner) = table_field(table, "map") {
            let pairs: Vec<(Value, Value)> = inner.pairs::<Value, Value>().filter_map(Result::ok).collect();
            self.reply.map(pairs.len());
            for (key, value) in &pairs {
                self.write(key, depth);
                self.write(value, depth);
            }
            return;
        }
        if let Some(inner) = table_field(table, "set") {
            let members: Vec<Value> =
                inner.pairs::<Value, Value>().filter_map(|pair| Some(pair.ok()?.0)).collect();
            self.reply.set(members.len());
            members.iter().for_each(|member| self.write(member, depth));
            return;
        }
        let mut count = 0;
        while !matches!(table.raw_get(count + 1), Ok(Value::Nil) | Err(_)) {
            count += 1;
        }
        self.reply.array(count);
        for index in 1..=count {
            if self.left == 0 {
                return;
            }
            self.write(&table.raw_get(index).unwrap_or(Value::Nil), depth);
        }
    }

    /// Writes a table that is one value, by the name of its field. False if it is none.
    fn write_named(&mut self, table: &Table) -> bool {
        let reply = &mut *self.reply;
        if let Some(text) = text_field(table, "err") {
            reply.error(&CommandError::new(text.as_bytes().to_vec()));
        } else if let Some(text) = text_field(table, "ok") {
            reply.simple(&String::from_utf8_lossy(&one_line(&text)));
        } else if let Ok(Value::Number(number)) = table.raw_get("double") {
            reply.double(number);
        } else if let Ok(Value::Integer(number)) = table.raw_get("double") {
            reply.double(number as f64);
        } else if let Some(text) = text_field(table, "big_number") {
            reply.big_number(&one_line(&text));
        } else if let Some(inner) = table_field(table, "verbatim_string")
            && let (Some(format), Some(text)) = (text_field(&inner, "format"), text_field(&inner, "string"))
        {
            reply.verbatim(&verbatim_format(&format.as_bytes()), &text.as_bytes());
        } else {
            return false;
        }
        true
    }
}

/// The three letters of a verbatim string's format, whatever a script says.
fn verbatim_format(format: &[u8]) -> String {
    let letter = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' };
    format.iter().copied().chain(*b"   ").take(3).map(letter).collect()
}

/// Why a script ended, with the place where it did.
pub struct Failure {
    /// The code word and the text.
    pub text: String,
    /// Source and line; absent where the error was not raised by the script.
    place: Option<(String, String)>,
    /// The interpreter itself failed.
    is_abrupt: bool,
    /// It is a command's error, which the statistics have.
    pub is_counted: bool,
}

/// Whether a script's value is the error of one of its commands, which the statistics have.
pub fn is_counted_error(value: &Value) -> bool {
    let Value::Table(table) = value else { return false };
    matches!(table.raw_get(IS_COUNTED), Ok(Value::Boolean(true)))
}

impl Failure {
    pub fn of(failure: &Value, was_ended: bool) -> Failure {
        match failure {
            Value::Table(table) => {
                let text = |name| match table.raw_get(name) {
                    Ok(Value::String(text)) => Some(text.to_string_lossy()),
                    Ok(Value::Number(number)) => Some(number.to_string()),
                    Ok(Value::Integer(number)) => Some(number.to_string()),
                    _ => None,
                };
                let place = text("source").zip(text("line"));
                let failure = Failure {
                    text: text("err").unwrap_or_else(|| "ERR unknown error".to_owned()),
                    place,
                    is_abrupt: false,
                    is_counted: is_counted_error(failure),
                };
                if was_ended { failure.killed() } else { failure }
            }
            Value::Error(error) => Failure::of_error(error, was_ended),
            Value::String(text) => Failure::abrupt(text.to_string_lossy(), was_ended),
            _ => Failure::abrupt("execution failure".to_owned(), was_ended),
        }
    }

    pub fn of_error(error: &mlua::Error, was_ended: bool) -> Failure {
        Failure::abrupt(text_of(error), was_ended)
    }

    fn abrupt(text: String, was_ended: bool) -> Failure {
        let failure = Failure { text, place: None, is_abrupt: true, is_counted: false };
        if was_ended { failure.killed() } else { failure }
    }

    fn killed(self) -> Failure {
        let text = "ERR Script killed by user with SCRIPT KILL...".to_owned();
        Failure { text, is_abrupt: false, is_counted: false, ..self }
    }

    /// The reply to the caller of the script of this name.
    pub fn error(&self, name: &str) -> CommandError {
        if self.is_abrupt {
            return CommandError::new(format!("ERR Error running script {name}, {:.100}", self.text));
        }
        match &self.place {
            Some((source, line)) => {
                CommandError::new(format!("{} script: {name}, on {source}:{line}.", self.text))
            }
            None => CommandError::new(self.text.clone()),
        }
    }
}

/// Called where an error ends a script: makes a table of it that names the place.
pub fn handled(lua: &Lua, failure: Value) -> mlua::Result<Table> {
    let failure = match &failure {
        Value::Error(error) => value_of(lua, error)?,
        _ => failure,
    };
    let table = match failure {
        Value::Table(table) => table,
        other => {
            let text = match &other {
                Value::String(text) => text.as_bytes().to_vec(),
                other => other.to_string()?.into_bytes(),
            };
            let table = lua.create_table_with_capacity(0, 3)?;
            table.raw_set("err", lua.create_string([b"ERR ", &*text].concat())?)?;
            table
        }
    };
    // The innermost function that is the script's own.
    let mut level = 1;
    loop {
        let place = lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let is_own = source.what != "C" && source.source.as_deref() != Some(super::PRELUDE);
            is_own.then(|| (source.source.unwrap_or_default().into_owned(), debug.current_line()))
        });
        match place {
            None => break,
            Some(None) => level += 1,
            Some(Some((source, line))) => {
                table.raw_set("source", source)?;
                table.raw_set("line", line)?;
                break;
            }
        }
    }
    Ok(table)
}
