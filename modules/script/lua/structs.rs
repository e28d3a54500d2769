//! `struct`: values in the layout of a format, as in Roberto Ierusalimschy's library.

use crate::lua::checked::{CallArguments, ErrorText, add, internal};
use mlua::{Lua, MultiValue, Table, Value};

/// The largest integer, in bytes.
const INTEGER_BYTES_MAX: usize = 32;
const ALIGNMENT_MAX: usize = 8;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    add(lua, &library, "pack", pack)?;
    add(lua, &library, "unpack", unpack)?;
    add(lua, &library, "size", size)?;
    Ok(library)
}

/// Reads a format, option after option.
struct Layout<'f> {
    rest: &'f [u8],
    is_little: bool,
    alignment: usize,
}

impl<'f> Layout<'f> {
    fn new(format: &'f [u8]) -> Layout<'f> {
        // A format ends at its first zero.
        let end = format.iter().position(|byte| *byte == 0).unwrap_or(format.len());
        Layout { rest: &format[..end], is_little: cfg!(target_endian = "little"), alignment: 1 }
    }

    fn number(&mut self, default: usize) -> Result<usize, ErrorText> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let number = number
            .iter()
            .try_fold(0_i32, |sum, digit| sum.checked_mul(10)?.checked_add(i32::from(digit - b'0')));
        number.map(|number| number as usize).ok_or_else(|| "integral size overflow".to_owned())
    }

    /// The next option and the size of its value.
    fn next(&mut self) -> Result<Option<(u8, usize)>, ErrorText> {
        let Some((option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_BYTES_MAX {
                    let text = format!("integral size {size} is larger than limit of {INTEGER_BYTES_MAX}");
                    return Err(text);
                }
                size
            }
            _ => 0,
        };
        Ok(Some((*option, size)))
    }

    fn padding(&self, at: usize, (option, size): (u8, usize)) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.alignment);
        size.wrapping_sub(at & size.wrapping_sub(1)) & size.wrapping_sub(1)
    }

    /// An option that has no value.
    fn control(&mut self, option: u8, arguments: &CallArguments<'_>) -> Result<(), ErrorText> {
        match option {
            b' ' => {}
            b'>' => self.is_little = false,
            b'<' => self.is_little = true,
            b'!' => {
                let alignment = self.number(ALIGNMENT_MAX)?;
                if !alignment.is_power_of_two() {
                    return Err(format!("alignment {alignment} is not a power of 2"));
                }
                self.alignment = alignment;
            }
            option => {
                let complaint = format!("invalid format option '{}'", char::from(option));
                return Err(arguments.wrong(0, &complaint));
            }
        }
        Ok(())
    }
}

fn pack(lua: &Lua, arguments: &CallArguments<'_>) -> Result<Value, ErrorText> {
    let format = arguments.text(0)?;
    let format = format.as_bytes();
    let mut layout = Layout::new(&format);
    let mut bytes = Vec::new();
    let mut next = 1;
    while let Some((option, size)) = layout.next()? {
        let padding = layout.padding(bytes.len(), (option, size));
        bytes.resize(bytes.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                put_integer(&mut bytes, arguments.number(next)?, size, layout.is_little);
                next += 1;
            }
            b'x' => bytes.push(0),
            b'f' | b'd' => {
                let number = arguments.number(next)?;
                let start = bytes.len();
                match option {
                    b'f' => bytes.extend_from_slice(&(number as f32).to_le_bytes()),
                    _ => bytes.extend_from_slice(&number.to_le_bytes()),
                }
                if !layout.is_little {
                    bytes[start..].reverse();
                }
                next += 1;
            }
            b'c' | b's' => {
                let text = arguments.text(next)?;
                let text = text.as_bytes();
                next += 1;
                let size = if size == 0 { text.len() } else { size };
                let text = text.get(..size).ok_or_else(|| arguments.wrong(next, "string too short"))?;
                bytes.extend_from_slice(text);
                if option == b's' {
                    bytes.push(0);
                }
            }
            option => layout.control(option, arguments)?,
        }
    }
    Ok(Value::String(lua.create_string(&bytes).map_err(internal)?))
}

/// The lowest bytes of the number; beyond 64 bits, zeros.
fn put_integer(bytes: &mut Vec<u8>, number: f64, size: usize, is_little: bool) {
    let value = if number < 0.0 { number as i64 as u64 } else { number as u64 };
    let start = bytes.len();
    let value = value.to_le_bytes();
    bytes.extend((0..size).map(|index| value.get(index).copied().unwrap_or(0)));
    if !is_little {
        bytes[start..].reverse();
    }
}

fn get_integer(bytes: &[u8], is_little: bool, is_signed: bool) -> f64 {
    let shift = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
    let value = match is_little {
        true => bytes.iter().rev().fold(0, shift),
        false => bytes.iter().fold(0, shift),
    };
    if !is_signed {
        return value as f64;
    }
    let unused = 64_usize.saturating_sub(bytes.len() * 8);
    if unused == 64 { value as i64 as f64 } else { (((value << unused) as i64) >> unused) as f64 }
}

fn unpack(lua: &Lua, arguments: &CallArguments<'_>) -> Result<MultiValue, ErrorText> {
    let (format, data) = (arguments.text(0)?, arguments.text(1)?);
    let (format, data) = (format.as_bytes(), data.as_bytes());
    let start =
        if matches!(arguments.get(2), None | Some(Value::Nil)) { 1.0 } else { arguments.number(2)? };
    if start < 1.0 {
        return Err(arguments.wrong(2, "offset must be 1 or greater"));
    }
    let mut layout = Layout::new(&format);
    let mut at = start as usize - 1;
    let mut values: Vec<Value> = Vec::new();
    let too_short = || arguments.wrong(1, "data string too short");
    while let Some((option, mut size)) = layout.next()? {
        at = at.saturating_add(layout.padding(at, (option, size)));
        let end = at.checked_add(size).filter(|end| *end <= data.len()).ok_or_else(too_short)?;
        let bytes = &data[at..end];
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let number = get_integer(bytes, layout.is_little, option.is_ascii_lowercase());
                values.push(Value::Number(number));
            }
            b'x' => {}
            b'f' | b'd' => values.push(Value::Number(float_of(bytes, layout.is_little))),
            b'c' => {
                if size == 0 {
                    let Some(Value::Number(number)) = values.pop() else {
                        return Err("format 'c0' needs a previous size".to_owned());
                    };
                    size = number as usize;
                }
                let end = at.checked_add(size).filter(|end| *end <= data.len()).ok_or_else(too_short)?;
                values.push(Value::String(lua.create_string(&data[at..end]).map_err(internal)?));
            }
            b's' => {
                let length = data[at..].iter().position(|byte| *byte == 0);
                let length = length.ok_or("unfinished string in data")?;
                size = length + 1;
                values.push(Value::String(lua.create_string(&data[at..at + length]).map_err(internal)?));
            }
            option => layout.control(option, arguments)?,
        }
        at += size;
    }
    values.push(Value::Number((at + 1) as f64));
    Ok(MultiValue::from_vec(values))
}

fn float_of(bytes: &[u8], is_little: bool) -> f64 {
    let mut ordered = bytes.to_vec();
    if !is_little {
        ordered.reverse();
    }
    match ordered.len() {
        4 => f64::from(f32::from_le_bytes(ordered.try_into().expect("four bytes"))),
        _ => f64::from_le_bytes(ordered.try_into().expect("eight bytes")),
    }
}

fn size(_: &Lua, arguments: &CallArguments<'_>) -> Result<Value, ErrorText> {
    let format = arguments.text(0)?;
    let format = format.as_bytes();
    let mut layout = Layout::new(&format);
    let mut at = 0_usize;
    while let Some((option, size)) = layout.next()? {
        at += layout.padding(at, (option, size));
        match (option, size) {
            (b's', _) => return Err(arguments.wrong(0, "option 's' has no fixed size")),
            (b'c', 0) => return Err(arguments.wrong(0, "option 'c0' has no fixed size")),
            (option, _) if !option.is_ascii_alphanumeric() => layout.control(option, arguments)?,
            _ => {}
        }
        at = at.saturating_add(size);
    }
    Ok(Value::Number(at as f64))
}
