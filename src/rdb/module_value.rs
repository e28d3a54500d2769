//! Values of modules: the type's number, and items that say their own types, so that they can be read, or
//! skipped, by a program without the module.

use super::error::{Read, damaged};
use super::part::{EachPart, ModuleItem, ValuePart};
use super::source::{ByteSource, length, string};

pub(crate) const END: u64 = 0;
const SIGNED: u64 = 1;
pub(crate) const UNSIGNED: u64 = 2;
const FLOAT: u64 = 3;
const DOUBLE: u64 = 4;
pub(crate) const STRING: u64 = 5;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NAME_LETTERS: u32 = 9;
const VERSION_BITS: u32 = 10;

/// The name in a type's number, nine letters, and the version of its encoding.
pub fn module_name(id: u64) -> (String, u16) {
    let letter = |at: u32| LETTERS[(id >> (VERSION_BITS + 6 * (NAME_LETTERS - 1 - at))) as usize & 63];
    ((0..NAME_LETTERS).map(|at| char::from(letter(at))).collect(), (id & 0x3ff) as u16)
}

/// The number of a type with this name; `None` if it is no name of a type.
pub fn module_id(name: &str, version: u16) -> Option<u64> {
    let letters = name.bytes().map(|letter| LETTERS.iter().position(|known| *known == letter));
    let number = letters.map(|place| place.map(|place| place as u64));
    let number = number.reduce(|number, letter| Some(number? << 6 | letter?))??;
    let is_name = name.len() == NAME_LETTERS as usize && version < 1 << VERSION_BITS;
    is_name.then_some(number << VERSION_BITS | u64::from(version))
}

pub(crate) fn read(source: &mut impl ByteSource, each: &mut EachPart<'_>) -> Read<()> {
    each(ValuePart::Module { id: length(source)? })?;
    items(source, &mut |item| each(ValuePart::ModuleItem(item)))
}

/// The items up to the mark of their end.
pub(crate) fn items(
    source: &mut impl ByteSource,
    each: &mut dyn FnMut(ModuleItem<'_>) -> Read<()>,
) -> Read<()> {
    let mut text = Vec::new();
    loop {
        let item = match length(source)? {
            END => return Ok(()),
            SIGNED => ModuleItem::Signed(length(source)? as i64),
            UNSIGNED => ModuleItem::Unsigned(length(source)?),
            FLOAT => ModuleItem::Float(f32::from_le_bytes(source.array()?)),
            DOUBLE => ModuleItem::Double(f64::from_le_bytes(source.array()?)),
            STRING => {
                string(source, &mut text)?;
                ModuleItem::String(&text)
            }
            _ => return damaged("a module's value has an item of an unknown type"),
        };
        each(item)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_number() {
        for name in ["ReJSON-RL", "MBbloom--", "ft_index0"] {
            for version in [0, 3, 1023] {
                let id = module_id(name, version).expect("it is a name");
                assert_eq!(module_name(id), (name.to_owned(), version));
            }
        }
        for (name, version) in
            [("short", 0), ("ten-letters", 0), ("with blank", 0), ("ReJSON RL", 0), ("ReJSON-RL", 1024)]
        {
            assert_eq!(module_id(name, version), None, "{name}");
        }
    }
}
