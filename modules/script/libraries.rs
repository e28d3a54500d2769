//! Libraries of functions: ground state, and the effects that change it.
//!
//! ```text
//! kind 1, load:    name, code, functions; each: name, description, flags    (replaces one of the same name)
//! kind 2, delete:  name
//! kind 3, flush:   nothing
//! ```
//! A text is its length in 32 bits, little-endian, and its bytes. The length of an absent description has all
//! bits set. The effect names the functions that the code registered when it was loaded, so that applying it
//! needs no interpreter.

use crate::header::Flags;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The module's number in effects; part of the format.
pub const NUMBER: u8 = 3;
pub const VERSION: u8 = 1;

pub const KIND_LOAD: u8 = 1;
pub const KIND_DELETE: u8 = 2;
pub const KIND_FLUSH: u8 = 3;

/// The largest encoded functions of a library, in bytes: their names and descriptions may be computed, so
/// that the words of FUNCTION LOAD do not bound them.
pub const FUNCTIONS_BYTES_MAX: usize = 64 << 10;

const ABSENT: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredFunction {
    pub name: String,
    pub description: Option<Vec<u8>>,
    pub flags: Flags,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    pub name: String,
    pub code: Vec<u8>,
    /// In the order in which they were registered.
    pub functions: Vec<RegisteredFunction>,
}

impl Library {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.code.len() + 64);
        put_text(&mut bytes, self.name.as_bytes());
        put_text(&mut bytes, &self.code);
        bytes.extend_from_slice(&self.encode_functions());
        bytes
    }

    /// The part of the encoding that the code's length does not bound.
    pub fn encode_functions(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(self.functions.len() as u32).to_le_bytes());
        for function in &self.functions {
            put_text(&mut bytes, function.name.as_bytes());
            match &function.description {
                Some(description) => put_text(&mut bytes, description),
                None => bytes.extend_from_slice(&ABSENT.to_le_bytes()),
            }
            bytes.push(function.flags.0);
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Library> {
        let name = take_name(&mut bytes)?;
        let code = take_text(&mut bytes)??.to_vec();
        let count = take_number(&mut bytes)?;
        let mut functions = Vec::new();
        for _ in 0..count {
            let name = take_name(&mut bytes)?;
            let description = take_text(&mut bytes)?.map(<[u8]>::to_vec);
            let (flags, rest) = bytes.split_first()?;
            bytes = rest;
            if *flags & !Flags::ALL.0 != 0 {
                return None;
            }
            functions.push(RegisteredFunction { name, description, flags: Flags(*flags) });
        }
        bytes.is_empty().then_some(Library { name, code, functions })
    }

    fn heap_bytes(&self) -> usize {
        let functions = self.functions.iter().map(|function| {
            2 * function.name.len() + function.description.as_ref().map_or(0, Vec::len) + 128
        });
        self.code.len() + 2 * self.name.len() + 128 + functions.sum::<usize>()
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text);
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

/// A text; the inner `None` if it is absent.
fn take_text<'b>(bytes: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    let length = take_number(bytes)?;
    if length == ABSENT {
        return Some(None);
    }
    let (text, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(Some(text))
}

fn take_name(bytes: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_text(bytes)??.to_vec()).ok()
}

/// All libraries, by name.
#[derive(Default)]
pub struct Libraries {
    by_name: BTreeMap<String, Arc<Library>>,
    /// The library and the place in it of each function, by its name in lower case.
    functions: BTreeMap<String, (Arc<Library>, usize)>,
    heap_bytes: usize,
}

impl Libraries {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Library>> {
        self.by_name.get(name)
    }

    /// The function of this name, and its library.
    pub fn function(&self, name: &[u8]) -> Option<(&Arc<Library>, &RegisteredFunction)> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let (library, index) = self.functions.get(&name)?;
        Some((library, &library.functions[*index]))
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn functions_len(&self) -> usize {
        self.functions.len()
    }

    pub fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// The first function of the library that another library has too.
    pub fn collision<'l>(&self, library: &'l Library) -> Option<&'l str> {
        let is_taken = |function: &&RegisteredFunction| {
            let taken = self.functions.get(&function.name.to_ascii_lowercase());
            taken.is_some_and(|(other, _)| other.name != library.name)
        };
        library.functions.iter().find(is_taken).map(|function| &*function.name)
    }

    /// Applies an effect. An error says that it is newer than this program, or does not fit.
    pub fn apply(&mut self, kind: u8, payload: &[u8]) -> Result<(), String> {
        match kind {
            KIND_LOAD => {
                let library = Library::decode(payload).ok_or("a library that cannot be read")?;
                self.remove(&library.name);
                if self.collision(&library).is_some() {
                    return Err("a function of two libraries".to_owned());
                }
                self.insert(Arc::new(library));
                Ok(())
            }
            KIND_DELETE => {
                let name = std::str::from_utf8(payload).ok();
                let is_removed = name.is_some_and(|name| self.remove(name));
                if is_removed { Ok(()) } else { Err("a library that does not exist is deleted".to_owned()) }
            }
            KIND_FLUSH => {
                *self = Libraries::default();
                Ok(())
            }
            kind => Err(format!("an effect of kind {kind} is newer than this program")),
        }
    }

    fn insert(&mut self, library: Arc<Library>) {
        self.heap_bytes += library.heap_bytes();
        for (index, function) in library.functions.iter().enumerate() {
            self.functions.insert(function.name.to_ascii_lowercase(), (library.clone(), index));
        }
        self.by_name.insert(library.name.clone(), library);
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(library) = self.by_name.remove(name) else { return false };
        self.heap_bytes -= library.heap_bytes();
        library.functions.iter().for_each(|function| {
            self.functions.remove(&function.name.to_ascii_lowercase());
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{KIND_DELETE, KIND_FLUSH, KIND_LOAD, Libraries, Library, RegisteredFunction};
    use crate::header::Flags;

    fn library(name: &str, functions: &[&str]) -> Library {
        let function = |name: &&str| RegisteredFunction {
            name: (*name).to_owned(),
            description: name.strip_prefix('d').map(|rest| rest.as_bytes().to_vec()),
            flags: Flags::NO_WRITES,
        };
        let functions = functions.iter().map(function).collect();
        Library { name: name.to_owned(), code: b"#!lua\n\0code".to_vec(), functions }
    }

    const VERSION_1: &str = include_str!("../../tests/formats/functions/v1.txt");

    fn show(libraries: &Libraries) -> String {
        let function = |function: &RegisteredFunction| match &function.description {
            Some(description) => format!("{}: {}", function.name, description.escape_ascii()),
            None => function.name.clone(),
        };
        let library = |library: &std::sync::Arc<Library>| {
            let functions: Vec<String> = library.functions.iter().map(function).collect();
            format!("{} ({})", library.name, functions.join(", "))
        };
        libraries.iter().map(library).collect::<Vec<_>>().join("; ")
    }

    /// A line is a kind, the payload, and the libraries after it.
    #[test]
    fn effects_of_version_1_stay_readable() {
        let mut libraries = Libraries::default();
        let mut kinds = Vec::new();
        for line in VERSION_1.lines() {
            let mut parts = line.splitn(3, ' ');
            let kind: u8 = parts.next().expect("a kind").parse().expect("a number");
            let digits = parts.next().expect("a payload").trim_start_matches('-');
            let byte =
                |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
            let payload: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            libraries.apply(kind, &payload).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(show(&libraries), parts.next().unwrap_or_default(), "{line}");
            if kind == KIND_LOAD {
                assert_eq!(Library::decode(&payload).expect("it was read").encode(), payload);
            }
            kinds.push(kind);
        }
        assert_eq!(kinds, [KIND_LOAD, KIND_LOAD, KIND_DELETE, KIND_FLUSH]);
    }

    #[test]
    fn effects_change_the_libraries() {
        let mut libraries = Libraries::default();
        let one = library("one", &["a", "described"]);
        libraries.apply(KIND_LOAD, &one.encode()).expect("loads");
        assert_eq!(**libraries.get("one").expect("there"), one);
        assert!(libraries.function(b"described").is_some());
        assert_eq!(libraries.collision(&library("two", &["b", "a"])), Some("a"));
        assert_eq!(libraries.collision(&library("one", &["a"])), None, "it is replaced");
        libraries.apply(KIND_LOAD, &library("one", &["c"]).encode()).expect("replaces");
        assert_eq!((libraries.len(), libraries.functions_len()), (1, 1));
        assert!(libraries.function(b"a").is_none());
        libraries.apply(KIND_LOAD, &library("two", &["a"]).encode()).expect("loads");
        libraries.apply(KIND_DELETE, b"one").expect("is there");
        assert!(libraries.function(b"c").is_none());
        libraries.apply(KIND_DELETE, b"one").expect_err("is gone");
        libraries.apply(KIND_FLUSH, b"").expect("flushes");
        assert_eq!((libraries.len(), libraries.functions_len(), libraries.heap_bytes()), (0, 0, 0));
    }

    /// The payload of a load, as the first version wrote it. Never changed.
    const FROZEN: &[u8] =
        b"\x03\0\0\0one\x0b\0\0\0#!lua\n\0code\x02\0\0\0\x01\0\0\0a\xff\xff\xff\xff\x01\x09\0\0\0described\
                            \x08\0\0\0escribed\x01";

    #[test]
    fn payloads_of_the_first_version_are_read() {
        let one = library("one", &["a", "described"]);
        assert_eq!(Library::decode(FROZEN), Some(library("one", &["a", "described"])));
        assert_eq!(one.encode(), FROZEN);
    }

    #[test]
    fn damage_is_an_error() {
        let whole = library("one", &["a", "described"]).encode();
        for end in 0..whole.len() {
            Libraries::default().apply(KIND_LOAD, &whole[..end]).expect_err("a part of a library");
        }
        let mut longer = whole.clone();
        longer.push(0);
        Libraries::default().apply(KIND_LOAD, &longer).expect_err("more than a library");
        Libraries::default().apply(9, b"").expect_err("a kind of a later program");
    }
}
