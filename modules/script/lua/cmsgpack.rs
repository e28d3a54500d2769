//! `cmsgpack`: MessagePack, as in Redis's library.

use crate::lua::checked::{CallArguments, ErrorText, add, internal};
use crate::lua::cjson::check_size;
use mlua::{Lua, MultiValue, Table, Value};

/// Tables inside tables beyond which nil is written.
const NESTING_MAX: usize = 16;
/// Arrays inside arrays that are read.
const DEPTH_MAX: usize = 1000;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    add(lua, &library, "pack", pack)?;
    add(lua, &library, "unpack", |lua, arguments| unpack(lua, arguments, None))?;
    add(lua, &library, "unpack_one", |lua, arguments| {
        let offset = optional_integer(arguments, 1)?;
        unpack(lua, arguments, Some((1, offset)))
    })?;
    add(lua, &library, "unpack_limit", |lua, arguments| {
        let (limit, offset) = (arguments.number(1)? as i64, optional_integer(arguments, 2)?);
        unpack(lua, arguments, Some((limit, offset)))
    })?;
    library.raw_set("_NAME", "cmsgpack")?;
    library.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(library)
}

fn optional_integer(arguments: &CallArguments<'_>, index: usize) -> Result<i64, ErrorText> {
    match arguments.get(index) {
        None | Some(Value::Nil) => Ok(0),
        _ => arguments.number(index).map(|number| number as i64),
    }
}

fn pack(lua: &Lua, arguments: &CallArguments<'_>) -> Result<Value, ErrorText> {
    if arguments.len() == 0 {
        return Err("bad argument #0 to 'pack' (MessagePack pack needs input.)".to_owned());
    }
    let mut bytes = Vec::new();
    for value in (0..arguments.len()).filter_map(|index| arguments.get(index)) {
        write(&mut bytes, value, 0).map_err(internal)?;
    }
    Ok(Value::String(lua.create_string(&bytes).map_err(internal)?))
}

fn write(bytes: &mut Vec<u8>, value: &Value, level: usize) -> mlua::Result<()> {
    check_size(bytes.len()).map_err(mlua::Error::runtime)?;
    match value {
        Value::String(text) => write_text(bytes, &text.as_bytes()),
        Value::Boolean(truth) => bytes.push(if *truth { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => write_integer(bytes, *number),
        Value::Number(number) if *number as i64 as f64 == *number => write_integer(bytes, *number as i64),
        Value::Number(number) => write_float(bytes, *number),
        Value::Table(table) if level < NESTING_MAX => return write_table(bytes, table, level),
        _ => bytes.push(0xc0),
    }
    Ok(())
}

fn write_float(bytes: &mut Vec<u8>, number: f64) {
    let short = number as f32;
    if f64::from(short) == number {
        bytes.push(0xca);
        bytes.extend_from_slice(&short.to_be_bytes());
    } else {
        bytes.push(0xcb);
        bytes.extend_from_slice(&number.to_be_bytes());
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &[u8]) {
    write_length(bytes, text.len(), (0xa0, 32), [Some(0xd9), Some(0xda), Some(0xdb)]);
    bytes.extend_from_slice(text);
}

/// A length below `short.1` is part of the first byte; larger ones follow a code, in 8, 16 or 32 bits.
fn write_length(bytes: &mut Vec<u8>, length: usize, short: (u8, usize), codes: [Option<u8>; 3]) {
    if length < short.1 {
        return bytes.push(short.0 | length as u8);
    }
    match (codes, length) {
        ([Some(code), ..], 0..=0xff) => bytes.extend_from_slice(&[code, length as u8]),
        ([_, Some(code), _], 0..=0xffff) => {
            bytes.push(code);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        ([.., code], _) => {
            bytes.push(code.expect("each kind has a code for the largest lengths"));
            bytes.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

fn write_integer(bytes: &mut Vec<u8>, number: i64) {
    let big_endian = number.to_be_bytes();
    let (code, size): (u8, usize) = match number {
        -32..=0x7f => return bytes.push(number as u8),
        0x80..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..=-33 => (0xd0, 1),
        -0x8000..=-0x81 => (0xd1, 2),
        -0x8000_0000..=-0x8001 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    bytes.push(code);
    bytes.extend_from_slice(&big_endian[8 - size..]);
}

fn write_table(bytes: &mut Vec<u8>, table: &Table, level: usize) -> mlua::Result<()> {
    let (mut count, mut max, mut is_list) = (0_usize, 0.0_f64, true);
    table.for_each(|key: Value, _: Value| {
        count += 1;
        let index = match key {
            Value::Integer(number) => number as f64,
            Value::Number(number) => number,
            _ => 0.0,
        };
        is_list &= index >= 1.0 && index.trunc() == index && index <= f64::from(i32::MAX);
        max = max.max(index);
        Ok(())
    })?;
    if is_list && max == count as f64 {
        write_length(bytes, count, (0x90, 16), [None, Some(0xdc), Some(0xdd)]);
        return (1..=count).try_for_each(|index| write(bytes, &table.raw_get(index)?, level + 1));
    }
    write_length(bytes, count, (0x80, 16), [None, Some(0xde), Some(0xdf)]);
    table.for_each(|key: Value, value: Value| {
        write(bytes, &key, level + 1)?;
        write(bytes, &value, level + 1)
    })
}

/// `window` is the number of values and the offset of the first, for the functions that return where to go
/// on.
fn unpack(
    lua: &Lua,
    arguments: &CallArguments<'_>,
    window: Option<(i64, i64)>,
) -> Result<MultiValue, ErrorText> {
    let data = arguments.text(0)?;
    let data = data.as_bytes();
    let (limit, offset) = window.unwrap_or((0, 0));
    if limit < 0 || offset < 0 {
        let length = data.len();
        return Err(format!("Invalid request to unpack with offset of {offset} and limit of {length}."));
    }
    let rest = data.get(offset as usize..);
    let rest =
        rest.ok_or_else(|| format!("Start offset {offset} greater than input length {}.", data.len()))?;
    let decodes_all = limit == 0 && offset == 0;
    let limit = if decodes_all { usize::MAX } else { limit as usize };
    let mut packed = Packed { lua, rest };
    let mut values = Vec::new();
    while !packed.rest.is_empty() && values.len() < limit {
        values.push(packed.value(0)?);
    }
    if !decodes_all {
        let next = data.len() - packed.rest.len();
        let next = if packed.rest.is_empty() { -1.0 } else { next as f64 };
        values.insert(0, Value::Number(next));
    }
    Ok(MultiValue::from_vec(values))
}

struct Packed<'l, 'd> {
    lua: &'l Lua,
    rest: &'d [u8],
}

impl<'d> Packed<'_, 'd> {
    fn take(&mut self, bytes: usize) -> Result<&'d [u8], ErrorText> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| "Missing bytes in input.".to_owned())?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, bytes: usize) -> Result<u64, ErrorText> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn signed(&mut self, bytes: usize) -> Result<i64, ErrorText> {
        let unused = 64 - 8 * bytes;
        Ok(((self.unsigned(bytes)? << unused) as i64) >> unused)
    }

    fn text(&mut self, length: u64) -> Result<Value, ErrorText> {
        let text = self.take(length as usize)?;
        Ok(Value::String(self.lua.create_string(text).map_err(internal)?))
    }

    fn value(&mut self, depth: usize) -> Result<Value, ErrorText> {
        if depth > DEPTH_MAX {
            let text = "too many return values at once; use unpack_one or unpack_limit instead.";
            return Err(text.to_owned());
        }
        let code = self.take(1)?[0];
        Ok(match code {
            0x00..=0x7f => Value::Number(f64::from(code)),
            0xe0..=0xff => Value::Number(f64::from(code as i8)),
            0xa0..=0xbf => self.text(u64::from(code & 0x1f))?,
            0x90..=0x9f => self.list(u64::from(code & 0xf), depth)?,
            0x80..=0x8f => self.map(u64::from(code & 0xf), depth)?,
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(code == 0xc3),
            0xca => Value::Number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xce => Value::Number(self.unsigned(1 << (code - 0xcc))? as f64),
            // Redis's library reads it as a signed number.
            0xcf => Value::Number(self.unsigned(8)? as i64 as f64),
            0xd0..=0xd3 => Value::Number(self.signed(1 << (code - 0xd0))? as f64),
            0xd9..=0xdb => {
                let length = self.unsigned(1 << (code - 0xd9))?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let length = self.unsigned(if code == 0xdc { 2 } else { 4 })?;
                self.list(length, depth)?
            }
            0xde | 0xdf => {
                let length = self.unsigned(if code == 0xde { 2 } else { 4 })?;
                self.map(length, depth)?
            }
            _ => return Err("Bad data format in input.".to_owned()),
        })
    }

    fn list(&mut self, length: u64, depth: usize) -> Result<Value, ErrorText> {
        let table = self.lua.create_table().map_err(internal)?;
        for index in 1..=length {
            let value = self.value(depth + 1)?;
            table.raw_set(index, value).map_err(internal)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, length: u64, depth: usize) -> Result<Value, ErrorText> {
        let table = self.lua.create_table().map_err(internal)?;
        for _ in 0..length {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            table.raw_set(key, value).map_err(internal)?;
        }
        Ok(Value::Table(table))
    }
}
