//! An RDB file, record by record.
//!
//! ```text
//! "REDIS" and four digits, or "VALKEY" and three: the version
//! records: an opcode and its operands; or expiry, idle time and frequency, then a type, a key and a value
//! 0xff, CRC-64 of everything before it (from version 5 on; 0 if it was not computed)
//! ```

use super::checksum::crc64;
use super::error::{RdbError, Read, damaged};
use super::module_value;
use super::part::ModuleItem;
use super::part::{EachPart, ValueKind, ValuePart};
use super::payload::is_known;
use super::source::{ByteSource, byte, length, moment, owned_string, string};
use super::value::read_value;
use std::io;

const SLOT_IMPORT: u8 = 243;
const SLOT_INFO: u8 = 244;
pub(crate) const FUNCTION: u8 = 245;
const MODULE_AUX: u8 = 247;
const IDLE: u8 = 248;
const FREQUENCY: u8 = 249;
pub(crate) const AUX: u8 = 250;
const RESIZE: u8 = 251;
pub(crate) const EXPIRES_MS: u8 = 252;
const EXPIRES: u8 = 253;
pub(crate) const SELECT: u8 = 254;
pub(crate) const END: u8 = 255;

const CHECKSUM_SINCE: u32 = 5;
const BUFFER_BYTES: usize = 64 << 10;

/// A key, and what comes before its value in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyHeader {
    pub database: u64,
    pub key: Vec<u8>,
    /// In milliseconds since the epoch; 0 for none.
    pub expires_at_ms: u64,
    pub value_type: u8,
    pub idle_seconds: Option<u64>,
    pub frequency: Option<u8>,
}

impl KeyHeader {
    pub fn kind(&self) -> Option<ValueKind> {
        ValueKind::of(self.value_type)
    }
}

/// A value as it is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawValue {
    /// Type and content.
    pub bytes: Vec<u8>,
    /// How many elements, fields, members or entries it has; 1 for a string and a module's value.
    pub parts: u64,
    /// The number of the type of a module's value.
    pub module: Option<u64>,
}

/// A record of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum RdbRecord {
    /// A note of the writer, as its version.
    Aux { name: Vec<u8>, value: Vec<u8> },
    /// The code of a library of functions.
    Function(Vec<u8>),
    /// What a module has stored beside keys: the number of its type. [`RdbFile::items`] reads it.
    ModuleAux { id: u64 },
    /// A key, whose value comes next: it is read by [`RdbFile::value`] or [`RdbFile::raw_value`].
    Key(KeyHeader),
    /// The checksum was right.
    End,
}

/// Reads a file from its beginning. A record's value has to be read before the next record.
pub struct RdbFile<R> {
    input: Input<R>,
    version: u32,
    database: u64,
}

impl<R: io::Read> RdbFile<R> {
    /// # Errors
    /// What does not begin like an RDB, or is of a version that is not known.
    pub fn open(reader: R) -> Result<RdbFile<R>, RdbError> {
        let mut input = Input::new(reader);
        let magic: [u8; 9] = input.array().map_err(|error| match error {
            RdbError::Truncated => RdbError::NoRdb,
            other => other,
        })?;
        let digits = magic.strip_prefix(b"REDIS").or_else(|| magic.strip_prefix(b"VALKEY"));
        let version = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        match version {
            Some(version) if is_known(version) => Ok(RdbFile { input, version, database: 0 }),
            Some(version) => Err(RdbError::UnknownVersion(version)),
            None => Err(RdbError::NoRdb),
        }
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.input.position
    }

    /// The next record.
    ///
    /// # Errors
    /// Damage, also a checksum that does not match at the end.
    pub fn next_record(&mut self) -> Result<RdbRecord, RdbError> {
        let mut header = KeyHeader::default();
        loop {
            let input = &mut self.input;
            match byte(input)? {
                END => return self.end(),
                SELECT => self.database = length(input)?,
                RESIZE => _ = (length(input)?, length(input)?),
                AUX => return Ok(RdbRecord::Aux { name: owned_string(input)?, value: owned_string(input)? }),
                FUNCTION => return Ok(RdbRecord::Function(owned_string(input)?)),
                MODULE_AUX => {
                    let id = length(input)?;
                    // When it was stored: a number with its type.
                    if length(input)? != module_value::UNSIGNED {
                        return damaged("a module's notes do not say when they were written");
                    }
                    length(input)?;
                    return Ok(RdbRecord::ModuleAux { id });
                }
                SLOT_INFO => _ = (length(input)?, length(input)?, length(input)?),
                SLOT_IMPORT => {
                    return damaged(
                        "it was written while slots were moving: save it again when they are at rest",
                    );
                }
                IDLE => header.idle_seconds = Some(length(input)?),
                FREQUENCY => header.frequency = Some(byte(input)?),
                EXPIRES_MS => header.expires_at_ms = expiry(moment(input)?),
                EXPIRES => {
                    let seconds = i64::from(i32::from_le_bytes(input.array()?));
                    header.expires_at_ms = expiry(seconds * 1000);
                }
                value_type if ValueKind::of(value_type).is_some() => {
                    string(input, &mut header.key)?;
                    return Ok(RdbRecord::Key(KeyHeader { database: self.database, value_type, ..header }));
                }
                other => return Err(RdbError::UnknownType(other)),
            }
        }
    }

    /// Reads the value of the key that was returned last.
    pub fn value(&mut self, header: &KeyHeader, each: &mut EachPart<'_>) -> Result<(), RdbError> {
        read_value((header.value_type, self.version), &mut self.input, each)
    }

    /// Reads the value of the key that was returned last, checks it, and returns type and bytes as they are
    /// in the file. `None` if there are more than `bytes_max`: then [`RdbFile::value`] reads it part by part.
    pub fn raw_value(&mut self, header: &KeyHeader, bytes_max: usize) -> Result<Option<RawValue>, RdbError> {
        self.input.record(vec![header.value_type], bytes_max);
        let (mut parts, mut module) = (0, None);
        let read = read_value((header.value_type, self.version), &mut self.input, &mut |part| {
            parts += u64::from(part.is_content());
            if let ValuePart::Module { id } = part {
                module = Some(id);
            }
            Ok(())
        });
        match (read, self.input.recorded.take()) {
            (Ok(()), Some(recorded)) if !recorded.is_full => {
                Ok(Some(RawValue { bytes: recorded.bytes, parts, module }))
            }
            (_, Some(mut recorded)) if recorded.is_full => {
                recorded.bytes.remove(0);
                self.input.again(recorded.bytes);
                Ok(None)
            }
            (read, _) => Err(read.err().unwrap_or(RdbError::Truncated)),
        }
    }

    /// Reads what the module of the last [`RdbRecord::ModuleAux`] has stored.
    pub fn items(&mut self, each: &mut dyn FnMut(ModuleItem<'_>)) -> Result<(), RdbError> {
        module_value::items(&mut self.input, &mut |item| {
            each(item);
            Ok(())
        })
    }

    fn end(&mut self) -> Read<RdbRecord> {
        let found = self.input.sum();
        if self.version >= CHECKSUM_SINCE {
            let wanted = u64::from_le_bytes(self.input.array()?);
            if wanted != 0 && wanted != found {
                return Err(RdbError::Checksum { wanted, found });
            }
        } else if self.input.some(1).is_ok() {
            return damaged("bytes follow its end");
        }
        Ok(RdbRecord::End)
    }
}

/// A time that has no meaning is long past.
fn expiry(at_ms: i64) -> u64 {
    at_ms.max(1) as u64
}

/// What was read since recording began.
struct Recorded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

/// A reader with a buffer and a running checksum.
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    /// What of the buffer was handed out, and what of that is in the sum.
    at: usize,
    summed: usize,
    sum: u64,
    position: u64,
    recorded: Option<Recorded>,
    /// What is read once more, and does not count again.
    again: Vec<u8>,
    again_at: usize,
}

impl<R: io::Read> Input<R> {
    fn new(reader: R) -> Input<R> {
        Input {
            reader,
            buffer: Vec::new(),
            at: 0,
            summed: 0,
            sum: 0,
            position: 0,
            recorded: None,
            again: Vec::new(),
            again_at: 0,
        }
    }

    fn record(&mut self, bytes: Vec<u8>, bytes_max: usize) {
        self.recorded = Some(Recorded { bytes, bytes_max, is_full: false });
    }

    /// Has these bytes, which were read last, read once more.
    fn again(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(&self.again[self.again_at..]);
        (self.again, self.again_at) = (bytes, 0);
    }

    /// The checksum of all that was handed out.
    fn sum(&mut self) -> u64 {
        self.sum = crc64(self.sum, &self.buffer[self.summed..self.at]);
        self.summed = self.at;
        self.sum
    }

    /// Up to `wanted` next bytes, at least one.
    fn some(&mut self, wanted: u64) -> Read<&[u8]> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if self.again_at < self.again.len() {
            let from = self.again_at;
            self.again_at = self.again.len().min(from.saturating_add(wanted));
            return Ok(&self.again[from..self.again_at]);
        }
        if self.recorded.as_ref().is_some_and(|recorded| recorded.is_full) {
            return Err(RdbError::Truncated);
        }
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        let from = self.at;
        self.at = self.buffer.len().min(from.saturating_add(wanted));
        self.position += (self.at - from) as u64;
        Ok(&self.buffer[from..self.at])
    }

    fn fill(&mut self) -> Read<()> {
        self.sum();
        self.buffer.resize(BUFFER_BYTES, 0);
        let count = loop {
            match self.reader.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(*count.as_ref().unwrap_or(&0));
        (self.at, self.summed) = (0, 0);
        if count? == 0 { Err(RdbError::Truncated) } else { Ok(()) }
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(recorded) = &mut self.recorded {
            recorded.bytes.extend_from_slice(bytes);
            recorded.is_full = recorded.bytes.len() > recorded.bytes_max;
        }
    }
}

impl<R: io::Read> ByteSource for Input<R> {
    fn append(&mut self, length: u64, out: &mut Vec<u8>) -> Read<()> {
        let mut left = length;
        while left > 0 {
            let start = out.len();
            let some = self.some(left)?;
            left -= some.len() as u64;
            out.extend_from_slice(some);
            if self.recorded.is_some() {
                self.note(&out[start..]);
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            let some = self.some((N - filled) as u64)?;
            bytes[filled..filled + some.len()].copy_from_slice(some);
            filled += some.len();
        }
        self.note(&bytes);
        Ok(bytes)
    }
}
