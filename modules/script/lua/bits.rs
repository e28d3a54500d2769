//! `bit`: operations on the 32 bits of a number, as in LuaBitOp.

use crate::lua::checked::{CallArguments, ErrorText, add};
use mlua::{Lua, Table};

type OfOne = fn(u32) -> u32;
type OfTwo = fn(u32, u32) -> u32;

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let unary: [(&'static str, OfOne); 3] =
        [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", u32::swap_bytes)];
    for (name, operation) in unary {
        add(lua, &library, name, move |_, arguments| Ok(number(operation(bits_of(arguments, 0)?))))?;
    }
    let folds: [(&'static str, OfTwo); 3] =
        [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, operation) in folds {
        add(lua, &library, name, move |_, arguments| {
            let first = bits_of(arguments, 0)?;
            let rest = 1..arguments.len();
            rest.into_iter()
                .try_fold(first, |bits, index| Ok(operation(bits, bits_of(arguments, index)?)))
                .map(number)
        })?;
    }
    let shifts: [(&'static str, OfTwo); 5] = [
        ("lshift", |bits, by| bits << by),
        ("rshift", |bits, by| bits >> by),
        ("arshift", |bits, by| ((bits as i32) >> by) as u32),
        ("rol", u32::rotate_left),
        ("ror", u32::rotate_right),
    ];
    for (name, operation) in shifts {
        add(lua, &library, name, move |_, arguments| {
            let bits = bits_of(arguments, 0)?;
            Ok(number(operation(bits, bits_of(arguments, 1)? & 31)))
        })?;
    }
    add(lua, &library, "tohex", |_, arguments| {
        let bits = bits_of(arguments, 0)?;
        let digits = if arguments.len() < 2 { 8 } else { bits_of(arguments, 1)? as i32 };
        let count = digits.unsigned_abs().min(8) as usize;
        let text = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
        Ok(text[8 - count..].to_owned())
    })?;
    Ok(library)
}

fn number(bits: u32) -> f64 {
    f64::from(bits as i32)
}

/// The lowest bits of the nearest integer: those of the fraction of a float that has no bits for less than 1.
fn bits_of(arguments: &CallArguments<'_>, index: usize) -> Result<u32, ErrorText> {
    const INTEGERS_ONLY: f64 = 6_755_399_441_055_744.0;
    Ok((arguments.number(index)? + INTEGERS_ONLY).to_bits() as u32)
}
