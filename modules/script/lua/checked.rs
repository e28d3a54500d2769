//! Functions of Rust with errors that are Lua's: a text with the place of the caller, or a table.
//!
//! A function of Rust cannot raise a value of Lua. It raises a [`Raised`], and what can catch errors in a
//! script (`pcall`, `xpcall`, `coroutine.resume`) makes the text or the table of it.

use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use std::fmt;

/// The text of an error that a script gets.
pub type ErrorText = String;

/// An error on its way through the interpreter.
#[derive(Debug)]
pub struct Raised {
    text: Vec<u8>,
    /// A table whose field `err` is the text.
    is_table: bool,
    /// A command's error, which the statistics have already.
    is_counted: bool,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl std::error::Error for Raised {}

/// An error whose value is a table: code word and text.
pub fn raised_table(text: &[u8]) -> mlua::Error {
    mlua::Error::external(Raised { text: text.to_vec(), is_table: true, is_counted: false })
}

/// The same for the error of a command that a script has called.
pub fn raised_by_command(text: &[u8]) -> mlua::Error {
    mlua::Error::external(Raised { text: text.to_vec(), is_table: true, is_counted: true })
}

/// An error whose value is a text, with the place of the function's caller in front.
pub fn raised(lua: &Lua, text: &str) -> mlua::Error {
    // Where a function of the prelude called this one, the script's place is that function's caller.
    let places = (1..).map_while(|level| {
        lua.inspect_stack(level, |debug| {
            let source = debug.source();
            let is_prelude = source.source.as_deref() == Some(super::PRELUDE);
            let line = debug.current_line().filter(|line| *line > 0);
            let place = line.map(|line| format!("{}:{line}: ", source.short_src.as_deref().unwrap_or("?")));
            (!is_prelude, place.unwrap_or_default())
        })
    });
    let place = places.into_iter().find_map(|(is_own, place)| is_own.then_some(place));
    let text = format!("{}{text}", place.unwrap_or_default());
    mlua::Error::external(Raised { text: text.into_bytes(), is_table: false, is_counted: false })
}

/// The value of an error, as a script that catches it gets it.
pub fn value_of(lua: &Lua, error: &mlua::Error) -> mlua::Result<Value> {
    match error {
        mlua::Error::CallbackError { cause, .. } => value_of(lua, cause),
        mlua::Error::ExternalError(external) => match external.downcast_ref::<Raised>() {
            Some(Raised { text, is_table: true, is_counted: true }) => {
                Ok(Value::Table(counted_error_table(lua, text)?))
            }
            Some(Raised { text, is_table: true, .. }) => Ok(Value::Table(error_table(lua, text)?)),
            Some(Raised { text, .. }) => Ok(Value::String(lua.create_string(text)?)),
            None => Ok(Value::String(lua.create_string(external.to_string())?)),
        },
        other => Ok(Value::String(lua.create_string(super::text_of(other))?)),
    }
}

/// An error as commands return it to scripts.
pub fn error_table(lua: &Lua, error: &[u8]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 3)?;
    table.raw_set("err", lua.create_string(error)?)?;
    Ok(table)
}

/// What Redis calls the field that says that the statistics have an error.
pub const IS_COUNTED: &str = "ignore_error_stats_update";

/// The error of a command, which the statistics have.
pub fn counted_error_table(lua: &Lua, error: &[u8]) -> mlua::Result<Table> {
    let table = error_table(lua, error)?;
    table.raw_set(IS_COUNTED, true)?;
    Ok(table)
}

/// Adds a function to a library.
pub fn add<R: IntoLuaMulti>(
    lua: &Lua,
    library: &Table,
    name: &'static str,
    call: impl Fn(&Lua, &CallArguments<'_>) -> Result<R, ErrorText> + Send + 'static,
) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, values: MultiValue| {
        call(lua, &CallArguments::new(lua, name, &values)).map_err(|text| raised(lua, &text))
    })?;
    library.raw_set(name, function)
}

/// An error of the interpreter, which can only be a lack of memory.
pub fn internal(error: mlua::Error) -> ErrorText {
    super::text_of(&error)
}

/// The arguments of a call, with Lua's errors for those of the wrong type.
pub struct CallArguments<'a> {
    lua: &'a Lua,
    name: &'static str,
    values: &'a MultiValue,
}

impl<'a> CallArguments<'a> {
    pub fn new(lua: &'a Lua, name: &'static str, values: &'a MultiValue) -> CallArguments<'a> {
        CallArguments { lua, name, values }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn get(&self, index: usize) -> Option<&Value> {
        self.values.get(index)
    }

    pub fn wrong(&self, index: usize, complaint: &str) -> ErrorText {
        format!("bad argument #{} to '{}' ({complaint})", index + 1, self.name)
    }

    fn expected(&self, index: usize, wanted: &str) -> ErrorText {
        let got = match self.get(index) {
            None => "no value",
            Some(Value::Integer(_)) => "number",
            Some(value) => value.type_name(),
        };
        self.wrong(index, &format!("{wanted} expected, got {got}"))
    }

    pub fn number(&self, index: usize) -> Result<f64, ErrorText> {
        let number = match self.get(index) {
            Some(Value::Number(number)) => Some(*number),
            Some(Value::Integer(number)) => Some(*number as f64),
            Some(value @ Value::String(_)) => self.lua.coerce_number(value.clone()).ok().flatten(),
            _ => None,
        };
        number.ok_or_else(|| self.expected(index, "number"))
    }

    pub fn text(&self, index: usize) -> Result<LuaString, ErrorText> {
        let text = match self.get(index) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Integer(_))) => {
                self.lua.coerce_string(value.clone()).ok().flatten()
            }
            _ => None,
        };
        text.ok_or_else(|| self.expected(index, "string"))
    }
}
