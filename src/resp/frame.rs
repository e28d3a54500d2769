//! The client's side of the protocol: encodes commands and decodes replies, for the benchmark tool, the demo
//! and tests.
//!
//! Scalars are decoded by redis-protocol. Arrays, maps, sets and pushes are assembled here, on a stack:
//! redis-protocol decodes an unfinished aggregate from its start at each read (a reply of n elements in r
//! reads costs n times r), recurses into nested ones, and stores maps and sets in hash tables, which loses
//! the order of replies to FT.INFO and HGETALL. Here a complete element is read once, an unfinished one costs
//! its header again, and the depth is bounded.
//!
//! Not supported: streamed replies of RESP3 (`$?`, `*?`), which servers do not send. Attributes (`|`) are
//! read and dropped.

use std::fmt;

use memchr::memchr_iter;
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp3::decode::complete::decode_range;
use redis_protocol::resp3::types::{RangeFrame, VerbatimStringFormat};

use crate::encode::write_header;

/// The maximum nesting depth of aggregates. Redis's deepest reply (COMMAND DOCS) has fewer than ten levels.
pub const DEPTH_MAX: usize = 128;

/// The longest line of a reply, in bytes: a number, a header, a status or an error.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Consumed bytes that stay in the buffer, so that the rest is not moved each time.
const CONSUMED_BYTES_MAX: usize = 64 * 1024;

/// A command as a client sends it.
pub fn encode_command<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let bytes: usize = arguments.iter().map(|argument| argument.as_ref().len() + 16).sum();
    let mut output = Vec::with_capacity(bytes + 16);
    encode_command_into(&mut output, arguments);
    output
}

/// Appends a command to `output`; repeated calls build a pipeline.
pub fn encode_command_into<A: AsRef<[u8]>>(output: &mut Vec<u8>, arguments: &[A]) {
    write_header(output, b'*', arguments.len());
    for argument in arguments {
        let argument = argument.as_ref();
        write_header(output, b'$', argument.len());
        output.extend_from_slice(argument);
        output.extend_from_slice(b"\r\n");
    }
}

/// A reply, in either protocol. Maps and sets keep the server's order.
#[derive(Clone, PartialEq)]
pub enum Value {
    Null,
    SimpleString(Vec<u8>),
    /// The code and the text, without the leading `-` or `!`.
    Error(Vec<u8>),
    Integer(i64),
    Bulk(Vec<u8>),
    Double(f64),
    Boolean(bool),
    BigNumber(Vec<u8>),
    Verbatim {
        format: [u8; 3],
        text: Vec<u8>,
    },
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
}

impl Value {
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_))
    }

    /// The bytes of any textual value: a string of any kind, an error, a big number.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::SimpleString(bytes) | Value::Error(bytes) | Value::Bulk(bytes) => Some(bytes),
            Value::BigNumber(bytes) | Value::Verbatim { text: bytes, .. } => Some(bytes),
            _ => None,
        }
    }

    /// The same as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()?).ok()
    }

    /// An integer, or a string or boolean that represents one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Integer(value) => Some(*value),
            Value::Boolean(value) => Some(i64::from(*value)),
            other => other.as_str()?.parse().ok(),
        }
    }

    /// A float, or an integer or string that represents one.
    pub fn as_double(&self) -> Option<f64> {
        match self {
            Value::Double(value) => Some(*value),
            Value::Integer(value) => Some(*value as f64),
            other => other.as_str()?.parse().ok(),
        }
    }

    /// The elements of an array, a set or a push.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(values) | Value::Set(values) | Value::Push(values) => Some(values),
            _ => None,
        }
    }

    /// The pairs of a map, or of the flat array that represents a map in RESP2.
    pub fn as_map(&self) -> Option<Vec<(&Value, &Value)>> {
        match self {
            Value::Map(pairs) => Some(pairs.iter().map(|(key, value)| (key, value)).collect()),
            Value::Array(values) if values.len() % 2 == 0 => {
                Some(values.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
            }
            _ => None,
        }
    }

    /// The value of a textual `key` in a map (or in the flat array that represents one).
    pub fn get(&self, key: &str) -> Option<&Value> {
        let is_key = |candidate: &Value| candidate.as_bytes() == Some(key.as_bytes());
        match self {
            Value::Map(pairs) => {
                pairs.iter().find(|(candidate, _)| is_key(candidate)).map(|(_, value)| value)
            }
            Value::Array(values) => values.chunks_exact(2).find(|pair| is_key(&pair[0])).map(|pair| &pair[1]),
            _ => None,
        }
    }
}

/// Shows bytes as escaped text, because values are mostly printed when a test fails.
impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut text = |kind, bytes: &[u8]| write!(formatter, "{kind}\"{}\"", bytes.escape_ascii());
        match self {
            Value::SimpleString(bytes) => text("+", bytes),
            Value::Error(bytes) => text("-", bytes),
            Value::Bulk(bytes) => text("", bytes),
            Value::BigNumber(bytes) => text("(", bytes),
            Value::Verbatim { format, text: bytes } => text("=", &[format.as_slice(), b":", bytes].concat()),
            Value::Null => formatter.write_str("null"),
            Value::Integer(value) => write!(formatter, "{value}"),
            Value::Double(value) => write!(formatter, "{value:?}"),
            Value::Boolean(value) => write!(formatter, "{value}"),
            Value::Array(values) => formatter.debug_list().entries(values).finish(),
            Value::Map(pairs) => {
                formatter.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish()
            }
            Value::Set(values) => formatter.debug_set().entries(values).finish(),
            Value::Push(values) => {
                formatter.write_str(">")?;
                formatter.debug_list().entries(values).finish()
            }
        }
    }
}

/// Why a reply cannot be parsed. The connection cannot be used any more.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum ReplyError {
    #[error("unknown reply type {:?}", char::from(*.0))]
    UnknownType(u8),
    #[error("malformed count in a reply's header")]
    MalformedCount,
    #[error("reply nests deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("line in a reply is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error("malformed reply: {0}")]
    Malformed(#[from] RedisProtocolError),
}

/// Assembles replies from the bytes of a connection, however these are split.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were converted to values.
    consumed: usize,
    /// Aggregates that have arrived in part, the outermost first.
    open: Vec<Aggregate>,
}

#[derive(Debug)]
struct Aggregate {
    kind: AggregateKind,
    values_missing: usize,
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
enum AggregateKind {
    Array,
    Map,
    Set,
    Push,
    Attribute,
}

/// The next item in the buffer.
enum Item {
    Scalar(Value),
    Aggregate(AggregateKind, usize),
}

impl ReplyReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes from the connection.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            self.consumed = 0;
        } else if self.consumed > CONSUMED_BYTES_MAX {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete reply (pushes included), or `None` until more bytes are fed.
    pub fn next_reply(&mut self) -> Result<Option<Value>, ReplyError> {
        while let Some((item, bytes)) = read_item(&self.buffer[self.consumed..])? {
            self.consumed += bytes;
            let complete = match item {
                Item::Scalar(value) => self.place(value),
                Item::Aggregate(kind, values_missing) => self.open_aggregate(kind, values_missing)?,
            };
            if complete.is_some() {
                return Ok(complete);
            }
        }
        Ok(None)
    }

    fn open_aggregate(&mut self, kind: AggregateKind, values: usize) -> Result<Option<Value>, ReplyError> {
        let aggregate =
            Aggregate { kind, values_missing: values, values: Vec::with_capacity(values.min(1024)) };
        if values == 0 {
            return Ok(aggregate.close().and_then(|value| self.place(value)));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(ReplyError::TooDeep);
        }
        self.open.push(aggregate);
        Ok(None)
    }

    /// Adds a value to the innermost open aggregate. Returns the value itself without one, or the outermost
    /// aggregate that it completes.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(innermost) = self.open.last_mut() else {
                return Some(value);
            };
            innermost.values.push(value);
            innermost.values_missing -= 1;
            if innermost.values_missing > 0 {
                return None;
            }
            value = self.open.pop().expect("the last one is open").close()?;
        }
    }
}

impl Aggregate {
    /// The value, or `None` if this is an attribute, which is not a part of the reply.
    fn close(self) -> Option<Value> {
        match self.kind {
            AggregateKind::Array => Some(Value::Array(self.values)),
            AggregateKind::Set => Some(Value::Set(self.values)),
            AggregateKind::Push => Some(Value::Push(self.values)),
            AggregateKind::Attribute => None,
            AggregateKind::Map => {
                let mut values = self.values.into_iter();
                let pairs = std::iter::from_fn(|| Some((values.next()?, values.next()?)));
                Some(Value::Map(pairs.collect()))
            }
        }
    }
}

/// Reads a scalar or an aggregate's header; returns it and its length in bytes. `None` if it is incomplete.
fn read_item(bytes: &[u8]) -> Result<Option<(Item, usize)>, ReplyError> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let Some(line_end) = find_line_end(bytes)? else {
        return Ok(None);
    };
    let (aggregate, values_per_element) = match kind {
        b'*' => (AggregateKind::Array, 1),
        b'~' => (AggregateKind::Set, 1),
        b'>' => (AggregateKind::Push, 1),
        b'%' => (AggregateKind::Map, 2),
        b'|' => (AggregateKind::Attribute, 2),
        b'$' | b'!' | b'=' | b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => return read_scalar(bytes),
        other => return Err(ReplyError::UnknownType(other)),
    };
    let item = match &bytes[1..line_end] {
        b"-1" => Item::Scalar(Value::Null),
        count => {
            let count = std::str::from_utf8(count).ok().and_then(|count| count.parse::<u32>().ok());
            let values = count.ok_or(ReplyError::MalformedCount)? as usize * values_per_element;
            Item::Aggregate(aggregate, values)
        }
    };
    Ok(Some((item, line_end + 2)))
}

fn find_line_end(bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr_iter(b'\n', window).find(|&end| end > 0 && window[end - 1] == b'\r') {
        Some(end) => Ok(Some(end - 1)),
        None if bytes.len() >= LINE_BYTES_MAX => Err(ReplyError::LineTooLong),
        None => Ok(None),
    }
}

/// Reads a scalar with redis-protocol. That returns ranges, which are copied here: its owned frames refuse
/// errors that quote bytes that are not UTF-8.
fn read_scalar(bytes: &[u8]) -> Result<Option<(Item, usize)>, ReplyError> {
    // RESP2's null, which redis-protocol's RESP3 decoder mistakes for a stream.
    const NULL_BULK: &[u8] = b"$-1\r\n";
    if bytes.starts_with(NULL_BULK) {
        return Ok(Some((Item::Scalar(Value::Null), NULL_BULK.len())));
    }
    let Some((frame, length)) = decode_range(bytes)? else {
        return Ok(None);
    };
    let copy = |(start, end): (usize, usize)| bytes[start..end].to_vec();
    let value = match frame {
        RangeFrame::BlobString { data, .. } => Value::Bulk(copy(data)),
        RangeFrame::SimpleString { data, .. } => Value::SimpleString(copy(data)),
        RangeFrame::BlobError { data, .. } | RangeFrame::SimpleError { data, .. } => Value::Error(copy(data)),
        RangeFrame::Number { data, .. } => Value::Integer(data),
        RangeFrame::Double { data, .. } => Value::Double(data),
        RangeFrame::Boolean { data, .. } => Value::Boolean(data),
        RangeFrame::BigNumber { data, .. } => Value::BigNumber(copy(data)),
        RangeFrame::Null => Value::Null,
        RangeFrame::VerbatimString { data, format, .. } => {
            let format = match format {
                VerbatimStringFormat::Text => *b"txt",
                VerbatimStringFormat::Markdown => *b"mkd",
            };
            Value::Verbatim { format, text: copy(data) }
        }
        _ => return Err(ReplyError::UnknownType(bytes[0])),
    };
    Ok(Some((Item::Scalar(value), length)))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
