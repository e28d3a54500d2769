//! Decodes requests: arrays of bulk strings, and inline commands.
//!
//! ```text
//! array    *2\r\n$3\r\nGET\r\n$1\r\nk\r\n   a count, then that many bulks: a length, then that many bytes
//! inline   GET k\r\n                       a line, split at blanks, with quotes (module `inline`)
//! ```
//!
//! A request never nests, so there is no tree to build and no recursion to bound. One call decodes a whole
//! pipeline into flat lists of ranges into the connection's read buffer. A request allocates nothing once the
//! lists have grown to the size of a usual pipeline.
//!
//! Invariants:
//! * No byte is examined twice, however the input is split (except the few digits of a header that is split
//!   itself): the state of an unfinished request is kept (the arguments found, the length of the pending
//!   bulk, how far a line was searched). Neither the cost nor the meaning of a request depends on the number
//!   of reads in which it arrives.
//! * A limit is checked when the header that exceeds it is read. A header never allocates; memory grows only
//!   with bytes that have arrived.
//! * Requests before a malformed one are returned before the error, as the order of replies in a pipeline
//!   requires.
//!
//! As in Redis, the two bytes after a count, a length or a bulk are skipped without being examined, an inline
//! line may end in a bare line feed, and empty requests (`*0`, `*-1`, blank lines) get no reply. Unlike
//! Redis, a NUL byte is an ordinary byte of an inline command, and a wrong byte in place of a bulk's `$` is
//! refused before its line has ended.
//!
//! This module deliberately does not own the buffer, bound its total size (the server's query buffer limit
//! does), or know about commands and authentication; the caller passes the [`RequestLimits`] that apply.
//!
//! Source of the protocol: the RESP specification in Redis's documentation, and networking.c of Redis for
//! limits and errors.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use crate::inline;

/// The maximum length of a line (an inline command, or a header with its type byte) in bytes, without the
/// line end. Redis's PROTO_INLINE_MAX_SIZE.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Redis's default of `proto-max-bulk-len`, in bytes.
pub const BULK_BYTES_MAX_DEFAULT: usize = 512 * 1024 * 1024;

/// Redis 7's limit of the arguments of one request. A header reserves no memory for them: each argument takes
/// memory when it arrives.
pub const ARGUMENTS_MAX_DEFAULT: usize = i32::MAX as usize;

/// The minimum room that a connection should provide for a read, in bytes. Redis's PROTO_IOBUF_LEN.
pub const READ_BYTES_MIN: usize = 16 * 1024;

/// Ranges that stay allocated between pipelines; the memory of a larger request is freed.
const KEPT_RANGES_MAX: usize = 4096;
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Arguments of a request, the command's name first. Up to 16 are stored without an allocation.
pub type Arguments<'a> = SmallVec<[&'a [u8]; 16]>;

/// The limits of a client's requests. They are checked at each header; see [`Decoder::set_limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments in one request, the command's name included.
    pub arguments_max: usize,
    /// Bytes in one argument: `proto-max-bulk-len`.
    pub bulk_bytes_max: usize,
    /// A password is required and was not given: at most ten arguments of 16 KiB, so that unknown clients
    /// cannot make the server use much memory. As in Redis, inline commands are limited only by their line.
    pub unauthenticated: bool,
}

impl RequestLimits {
    /// Redis's limits before a client has authenticated.
    pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;
    pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            arguments_max: ARGUMENTS_MAX_DEFAULT,
            bulk_bytes_max: BULK_BYTES_MAX_DEFAULT,
            unauthenticated: false,
        }
    }
}

/// Why a connection's input cannot be parsed. No next request can be found in the stream: send the error and
/// close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    #[error("Protocol error: too big mbulk count string")]
    MultibulkCountTooLong,
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    #[error("Protocol error: too big bulk count string")]
    BulkCountTooLong,
    /// The byte in the position of a bulk's `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text of Redis's error reply, code included. It is bytes because it may quote a byte of the
    /// client's request, even a line end: write it with [`Encoder::error`](crate::Encoder::error).
    pub fn reply_text(&self) -> Cow<'static, [u8]> {
        match *self {
            Self::ExpectedBulk(byte) => {
                let mut text = b"ERR Protocol error: expected '$', got '".to_vec();
                text.extend_from_slice(&[byte, b'\'']);
                text.into()
            }
            other => format!("ERR {other}").into_bytes().into(),
        }
    }
}

/// The result of one call of [`Decoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct DecodeProgress {
    /// Bytes at the start of the buffer that belong to the decoded requests. The caller drops them after it
    /// has used the requests' arguments and before the next call.
    pub consumed_bytes: usize,
    /// Why decoding stopped.
    pub stop: DecodeStop,
}

/// Why decoding stopped. The requests decoded before are valid in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeStop {
    /// The rest of the buffer is not a complete request; at least this many bytes are missing (exact for the
    /// end of a pending bulk, else 1). See [`read_reserve_bytes`] for the room to provide.
    NeedBytes(usize),
    /// The maximum number of requests was decoded; there may be more.
    RequestsMax,
    /// Send this after the replies of the preceding requests, then close the connection.
    Malformed(ProtocolError),
}

/// The room that a connection should provide for its next read, in bytes: the missing bytes, but at most as
/// much as the client has sent already. So a header that announces 512 MiB costs [`READ_BYTES_MIN`], and the
/// total cost of copying while a large bulk arrives is linear.
pub fn read_reserve_bytes(missing_bytes: usize, buffered_bytes: usize) -> usize {
    missing_bytes.clamp(READ_BYTES_MIN, buffered_bytes.max(READ_BYTES_MIN))
}

/// Decoded requests. The value can be reused for every call, also of other connections: `decode` replaces its
/// contents.
#[derive(Debug, Default)]
pub struct Requests {
    entries: Vec<Entry>,
    /// Ranges of all requests' arguments, one request after another.
    ranges: Vec<Range<usize>>,
    /// Arguments of inline commands, whose quotes and escapes require copies.
    unescaped: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// The end of this request's arguments in `ranges`; they start at the end of those of the previous
    /// request.
    ranges_end: usize,
    source: Source,
}

/// The bytes that an argument's range refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    ReadBuffer,
    Unescaped,
}

impl Requests {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The request at `index` (panics if there is none), with the `buffer` from which it was decoded.
    pub fn get<'a>(&'a self, index: usize, buffer: &'a [u8]) -> Request<'a> {
        let start = if index == 0 { 0 } else { self.entries[index - 1].ranges_end };
        let entry = &self.entries[index];
        let bytes = match entry.source {
            Source::ReadBuffer => buffer,
            Source::Unescaped => &self.unescaped,
        };
        Request { ranges: &self.ranges[start..entry.ranges_end], bytes, source: entry.source }
    }

    /// The requests in their order, with the `buffer` from which they were decoded.
    pub fn iter<'a>(&'a self, buffer: &'a [u8]) -> impl ExactSizeIterator<Item = Request<'a>> {
        (0..self.len()).map(move |index| self.get(index, buffer))
    }

    /// Removes all requests. [`Decoder::decode`] does this itself.
    pub fn clear(&mut self) {
        self.entries.clear();
        clear_kept(&mut self.ranges, KEPT_RANGES_MAX);
        clear_kept(&mut self.unescaped, KEPT_BYTES_MAX);
    }

    /// Memory of the lists, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.ranges.capacity() * size_of::<Range<usize>>()
            + self.unescaped.capacity()
    }

    fn push(&mut self, source: Source) {
        self.entries.push(Entry { ranges_end: self.ranges.len(), source });
    }
}

fn clear_kept<T>(list: &mut Vec<T>, kept_max: usize) {
    list.clear();
    if list.capacity() > kept_max {
        list.shrink_to(kept_max);
    }
}

/// One request: its arguments, the command's name first. Never empty. A view that is cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    ranges: &'a [Range<usize>],
    bytes: &'a [u8],
    source: Source,
}

impl<'a> Request<'a> {
    /// The number of arguments, the name included. At least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The command's name, as sent (any case).
    pub fn name(&self) -> &'a [u8] {
        self.argument(0)
    }

    /// The argument at `index`, 0 being the name. Panics if there is none.
    pub fn argument(&self, index: usize) -> &'a [u8] {
        &self.bytes[self.ranges[index].clone()]
    }

    /// The arguments, the name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |range| &bytes[range.clone()])
    }

    /// Replaces a list's contents with the arguments, for handlers that take `&[&[u8]]`. Reusing one list for
    /// all requests of a run is several times faster than a new one for each ([`Request::arguments`]).
    pub fn fill(&self, arguments: &mut Vec<&'a [u8]>) {
        arguments.clear();
        arguments.extend(self.iter());
    }

    /// The arguments as a new list.
    pub fn arguments(&self) -> Arguments<'a> {
        self.iter().collect()
    }

    /// The range of the argument at `index` in the read buffer, for a caller that shares large values instead
    /// of copying them. `None` for an inline command, whose bytes are elsewhere.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        (self.source == Source::ReadBuffer).then(|| self.ranges[index].clone())
    }
}

/// A connection's decoder: the state of the request that has arrived in part.
///
/// All positions are relative to that request's first byte, which is the first byte of the next call's
/// buffer.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: RequestLimits,
    /// Bytes of the pending request that need not be examined again.
    position: usize,
    /// Bytes of the line at `position` that are known to contain no line end.
    scanned: usize,
    /// Bulks of the pending array that were not decoded yet; 0 between requests.
    bulks_missing: usize,
    /// The length of the bulk at `position`, if its header was read.
    bulk_bytes: Option<usize>,
    /// Arguments of the pending array. Separate from [`Requests`], which other connections use between two
    /// calls.
    pending: Vec<Range<usize>>,
    /// A malformed stream stays malformed.
    failed: Option<ProtocolError>,
}

/// The result of decoding one request.
enum Step {
    /// It consumed this many bytes (a request, or an empty one, which is skipped).
    Done(usize),
    /// At least this many bytes are missing.
    NeedBytes(usize),
}

/// The two kinds of header lines. They differ only in their errors.
#[derive(Clone, Copy)]
enum Header {
    Count,
    Length,
}

impl Header {
    fn too_long(self) -> ProtocolError {
        match self {
            Header::Count => ProtocolError::MultibulkCountTooLong,
            Header::Length => ProtocolError::BulkCountTooLong,
        }
    }

    fn invalid(self) -> ProtocolError {
        match self {
            Header::Count => ProtocolError::InvalidMultibulkLength,
            Header::Length => ProtocolError::InvalidBulkLength,
        }
    }
}

impl Decoder {
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Memory of the pending request's arguments, in bytes; the read buffer belongs to the caller.
    pub fn heap_bytes(&self) -> usize {
        self.pending.capacity() * size_of::<Range<usize>>()
    }

    /// Frees the memory kept for the next request.
    ///
    /// # Panics
    /// If a request has arrived in part: call it only between requests.
    pub fn give_back(&mut self) {
        assert_eq!(self.bulks_missing, 0, "a request is pending");
        self.pending = Vec::new();
    }

    /// Takes effect at the next header: call it when AUTH has succeeded or `proto-max-bulk-len` has changed.
    ///
    /// While a client is unauthenticated, decode one request at a time: the limits after an AUTH apply to the
    /// requests that follow it in the same pipeline.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Replaces the contents of `requests` with up to `requests_max` requests from the start of `buffer`.
    ///
    /// `buffer` starts with the first byte that no earlier call has consumed: between two calls the caller
    /// only drops the consumed bytes and appends the bytes that were read.
    ///
    /// # Panics
    /// If bytes of the request that has arrived in part are missing.
    pub fn decode(&mut self, buffer: &[u8], requests: &mut Requests, requests_max: usize) -> DecodeProgress {
        assert!(buffer.len() >= self.position, "bytes of a pending request were dropped");
        requests.clear();
        let mut consumed_bytes = 0;
        let stop = loop {
            if requests.len() >= requests_max {
                break DecodeStop::RequestsMax;
            }
            match self.step(&buffer[consumed_bytes..], consumed_bytes, requests) {
                Ok(Step::Done(bytes)) => consumed_bytes += bytes,
                Ok(Step::NeedBytes(missing_bytes)) => break DecodeStop::NeedBytes(missing_bytes),
                Err(error) => {
                    self.failed = Some(error);
                    break DecodeStop::Malformed(error);
                }
            }
        };
        DecodeProgress { consumed_bytes, stop }
    }

    /// Decodes one request from `bytes`, which starts at `base` in the caller's buffer.
    fn step(&mut self, bytes: &[u8], base: usize, requests: &mut Requests) -> Result<Step, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.bulks_missing > 0 {
            assert_eq!(base, 0, "only a call's first request was pending");
            return self.resume_array(bytes, requests);
        }
        match bytes.first() {
            None => Ok(Step::NeedBytes(1)),
            Some(b'*') => self.start_array(bytes, base, requests),
            Some(_) => self.inline(bytes, requests),
        }
    }

    fn start_array(
        &mut self,
        bytes: &[u8],
        base: usize,
        requests: &mut Requests,
    ) -> Result<Step, ProtocolError> {
        let Some((count, header_end)) = self.header(bytes, 0, Header::Count)? else {
            return Ok(Step::NeedBytes(1));
        };
        let Ok(count @ 1..) = usize::try_from(count) else {
            return Ok(Step::Done(header_end));
        };
        if count > self.limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        if self.limits.unauthenticated && count > RequestLimits::UNAUTHENTICATED_ARGUMENTS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        self.bulks_missing = count;
        self.position = header_end;

        let ranges_start = requests.ranges.len();
        let step = self.bulks(bytes, base, &mut requests.ranges);
        if let Ok(Step::Done(_)) = step {
            requests.push(Source::ReadBuffer);
        } else {
            // The next call's buffer starts with this request.
            let found = requests.ranges.drain(ranges_start..);
            self.pending.extend(found.map(|range| range.start - base..range.end - base));
        }
        step
    }

    fn resume_array(&mut self, bytes: &[u8], requests: &mut Requests) -> Result<Step, ProtocolError> {
        let mut pending = std::mem::take(&mut self.pending);
        let step = self.bulks(bytes, 0, &mut pending);
        if let Ok(Step::Done(_)) = step {
            requests.ranges.extend_from_slice(&pending);
            requests.push(Source::ReadBuffer);
            clear_kept(&mut pending, KEPT_RANGES_MAX);
        }
        self.pending = pending;
        step
    }

    /// Decodes the missing bulks of the array in `bytes` and appends their ranges, relative to the byte
    /// `base` before.
    fn bulks(
        &mut self,
        bytes: &[u8],
        base: usize,
        ranges: &mut Vec<Range<usize>>,
    ) -> Result<Step, ProtocolError> {
        while self.bulks_missing > 0 {
            let bulk_bytes = match self.bulk_bytes.take() {
                Some(bulk_bytes) => bulk_bytes,
                None => match self.bulk_header(bytes)? {
                    Some(bulk_bytes) => bulk_bytes,
                    None => return Ok(Step::NeedBytes(1)),
                },
            };
            let start = self.position;
            let end = start.saturating_add(bulk_bytes);
            let next = end.saturating_add(2);
            if bytes.len() < next {
                self.bulk_bytes = Some(bulk_bytes);
                return Ok(Step::NeedBytes(next - bytes.len()));
            }
            ranges.push(base + start..base + end);
            self.position = next;
            self.bulks_missing -= 1;
        }
        Ok(Step::Done(std::mem::take(&mut self.position)))
    }

    /// Reads the bulk header at `position` and advances past it. Returns the bulk's length in bytes.
    ///
    /// Inlined with its callees, because calls were a third of the time to decode a GET.
    #[inline(always)]
    fn bulk_header(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match bytes.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
        }
        let Some((length, header_end)) = self.header(bytes, self.position, Header::Length)? else {
            return Ok(None);
        };
        let length = usize::try_from(length).map_err(|_| ProtocolError::InvalidBulkLength)?;
        if length > self.limits.bulk_bytes_max {
            return Err(ProtocolError::InvalidBulkLength);
        }
        if self.limits.unauthenticated && length > RequestLimits::UNAUTHENTICATED_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        self.position = header_end;
        Ok(Some(length))
    }

    /// Reads the number of the header whose type byte is at `start`. Returns it and the end of the header.
    #[inline(always)]
    fn header(
        &mut self,
        bytes: &[u8],
        start: usize,
        header: Header,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        match short_number(&bytes[start + 1..]) {
            Some((value, length)) => {
                self.scanned = 0;
                Ok(Some((value, start + 1 + length)))
            }
            None => self.unusual_header(&bytes[start..], start, header),
        }
    }

    /// Handles a header that is incomplete, negative, malformed or long. `line` starts with its type byte.
    #[cold]
    fn unusual_header(
        &mut self,
        line: &[u8],
        start: usize,
        header: Header,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let Some(line_end) = self.find_line_end(b'\r', line).ok_or(header.too_long())? else {
            return Ok(None);
        };
        if line.len() < line_end + 2 {
            self.scanned = line_end;
            return Ok(None);
        }
        self.scanned = 0;
        let value = parse_integer(&line[1..line_end]).ok_or(header.invalid())?;
        Ok(Some((value, start + line_end + 2)))
    }

    fn inline(&mut self, bytes: &[u8], requests: &mut Requests) -> Result<Step, ProtocolError> {
        let Some(line_end) = self.find_line_end(b'\n', bytes).ok_or(ProtocolError::InlineTooLong)? else {
            return Ok(Step::NeedBytes(1));
        };
        self.scanned = 0;
        let line = bytes[..line_end].strip_suffix(b"\r").unwrap_or(&bytes[..line_end]);
        let ranges_before = requests.ranges.len();
        inline::split(line, &mut requests.unescaped, &mut requests.ranges)
            .ok_or(ProtocolError::UnbalancedQuotes)?;
        if requests.ranges.len() > ranges_before {
            requests.push(Source::Unescaped);
        }
        Ok(Step::Done(line_end + 1))
    }

    /// The position of `end` in `line`, if it has arrived. `None` if the line is too long, whether or not its
    /// end has arrived: the result must not depend on how the line was split.
    fn find_line_end(&mut self, end: u8, line: &[u8]) -> Option<Option<usize>> {
        let window = &line[..line.len().min(LINE_BYTES_MAX + 1)];
        match memchr(end, &window[self.scanned..]) {
            Some(found) => Some(Some(self.scanned + found)),
            None if line.len() > LINE_BYTES_MAX => None,
            None => {
                self.scanned = window.len();
                Some(None)
            }
        }
    }
}

/// Reads up to nine digits and a complete line end, which covers nearly every header. Returns the number and
/// its length in bytes, or `None` if the header needs the general parser.
#[inline(always)]
fn short_number(line: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0i64;
    for (index, &byte) in line.iter().take(10).enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + i64::from(byte - b'0'),
            b'\r' if index > 0 && line.len() > index + 1 && (line[0] != b'0' || index == 1) => {
                return Some((value, index + 2));
            }
            _ => return None,
        }
    }
    None
}

/// Redis's strict integer syntax: no plus, no leading zeros, no blanks, no minus zero.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |value, &byte| {
        let digit = i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        // Negative, because the range of negative numbers is larger.
        value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
