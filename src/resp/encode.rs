//! Appends replies in RESP2 or RESP3 to a connection's output.
//!
//! Every method works in both protocols: a type that RESP2 lacks is written as Redis writes it there.
//!
//! | method | RESP3 | RESP2 |
//! |---|---|---|
//! | `null`, `null_array` | `_` | `$-1`, `*-1` |
//! | `map_header(n)` | `%n` | `*2n` |
//! | `set_header`, `push_header` | `~n`, `>n` | `*n` |
//! | `double` | `,` | bulk |
//! | `boolean` | `#t`, `#f` | `:1`, `:0` |
//! | `big_number`, `verbatim` | `(`, `=` | bulk |
//!
//! A header contains the number of elements that follow; the caller writes them. The encoder does not check
//! this: the reply checks in tests find a handler that announces three elements and writes two.

use memchr::memchr2;

/// The protocol version of a connection: RESP2 until it sends `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends replies to `output`.
#[derive(Debug)]
pub struct Encoder<'o> {
    output: &'o mut Vec<u8>,
    protocol: Protocol,
}

impl<'o> Encoder<'o> {
    pub fn new(output: &'o mut Vec<u8>, protocol: Protocol) -> Self {
        Self { output, protocol }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From now on replies are written in `protocol` (HELLO and RESET change it).
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Bytes in the output.
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// A short status without line ends, like `PONG`.
    pub fn simple_string(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'+', text.as_ref());
    }

    pub fn ok(&mut self) {
        self.output.extend_from_slice(b"+OK\r\n");
    }

    /// An error: its code in capitals, a space, its text.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'-', text.as_ref());
    }

    pub fn integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.raw_line(b':', digits.format(value).as_bytes());
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.output.reserve(bytes.len() + 32);
        self.header(b'$', bytes.len());
        self.output.extend_from_slice(bytes);
        self.output.extend_from_slice(b"\r\n");
    }

    /// An integer as a bulk string.
    pub fn bulk_integer(&mut self, value: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(value));
    }

    /// An absent value.
    pub fn null(&mut self) {
        self.output.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// An absent array, like the reply of an EXEC that WATCH aborted.
    pub fn null_array(&mut self) {
        self.output.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// `elements` replies follow.
    pub fn array_header(&mut self, elements: usize) {
        self.header(b'*', elements);
    }

    /// `pairs` times a key and a value follow.
    pub fn map_header(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', pairs * 2),
            Protocol::Resp3 => self.header(b'%', pairs),
        }
    }

    /// `elements` replies follow, in no particular order and without duplicates.
    pub fn set_header(&mut self, elements: usize) {
        self.resp3_header(b'~', elements);
    }

    /// `elements` replies follow that do not answer a command.
    pub fn push_header(&mut self, elements: usize) {
        self.resp3_header(b'>', elements);
    }

    /// A float, by [`format_double`].
    pub fn double(&mut self, value: f64) {
        let mut text = [0; DOUBLE_BYTES_MAX];
        let length = format_double(value, &mut text);
        match self.protocol {
            Protocol::Resp2 => self.bulk(&text[..length]),
            Protocol::Resp3 => self.raw_line(b',', &text[..length]),
        }
    }

    pub fn boolean(&mut self, value: bool) {
        self.output.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// An integer of any size, as decimal digits.
    pub fn big_number(&mut self, digits: impl AsRef<[u8]>) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(digits),
            Protocol::Resp3 => self.line(b'(', digits.as_ref()),
        }
    }

    /// Text to be displayed verbatim. `format` is `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &[u8; 3], text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.output.extend_from_slice(format);
                self.output.push(b':');
                self.output.extend_from_slice(text);
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Replies that were encoded before, in this protocol.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.output.extend_from_slice(encoded);
    }

    fn resp3_header(&mut self, kind: u8, elements: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', elements),
            Protocol::Resp3 => self.header(kind, elements),
        }
    }

    fn header(&mut self, kind: u8, count: usize) {
        write_header(self.output, kind, count);
    }

    /// A line of foreign text. Line ends in it become blanks, as in Redis: text that quotes a client's bytes
    /// must not be able to end the reply.
    fn line(&mut self, kind: u8, text: &[u8]) {
        if memchr2(b'\r', b'\n', text).is_none() {
            return self.raw_line(kind, text);
        }
        let blank = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        let text: Vec<u8> = text.iter().map(blank).collect();
        self.raw_line(kind, &text);
    }

    fn raw_line(&mut self, kind: u8, text: &[u8]) {
        self.output.reserve(text.len() + 3);
        self.output.push(kind);
        self.output.extend_from_slice(text);
        self.output.extend_from_slice(b"\r\n");
    }
}

/// A type byte, a count and a line end, for requests and replies.
pub(crate) fn write_header(output: &mut Vec<u8>, kind: u8, count: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(count).as_bytes();
    output.push(kind);
    output.extend_from_slice(digits);
    output.extend_from_slice(b"\r\n");
}

/// The longest text of [`format_double`], in bytes: sign, 17 digits, point, `e-308`.
pub const DOUBLE_BYTES_MAX: usize = 25;

/// The largest whole number that Redis writes as an integer: half of the range of its integers.
const WHOLE_MAX: f64 = (1i64 << 62) as f64;

/// Writes a float as Redis does since 7.2 and returns the text's length in bytes. Whole numbers up to 2^62
/// are written as integers; others with the fewest digits that read back as the same value, with an exponent
/// where the plain form is long; also `inf`, `-inf`, `nan`. (Redis 7.0 printed 17 digits: 0.1 was
/// 0.10000000000000001.) Source: `d2string` and the fpconv library in Redis.
pub fn format_double(value: f64, text: &mut [u8; DOUBLE_BYTES_MAX]) -> usize {
    let mut text = Text { bytes: text, length: 0 };
    if value.is_nan() {
        text.append(b"nan");
        return text.length;
    }
    if value != 0.0 && value.abs() <= WHOLE_MAX && value.fract() == 0.0 {
        text.append(itoa::Buffer::new().format(value as i64).as_bytes());
        return text.length;
    }
    if value.is_sign_negative() {
        text.append(b"-");
    }
    if value.is_infinite() {
        text.append(b"inf");
    } else if value == 0.0 {
        text.append(b"0");
    } else {
        let (digits, exponent) = Digits::shortest(value.abs());
        text.place_point(digits.as_slice(), exponent);
    }
    text.length
}

/// The significant digits of a positive float, without a point and without trailing zeros.
struct Digits {
    bytes: [u8; 17],
    length: usize,
}

impl Digits {
    /// The fewest digits d1 d2 d3... for which d1.d2d3... times ten to the returned exponent reads back as
    /// `value`.
    fn shortest(value: f64) -> (Self, i32) {
        use std::io::Write;
        let mut buffer = [0u8; 32];
        let mut unwritten = &mut buffer[..];
        write!(unwritten, "{value:e}").expect("17 digits, a point and an exponent fit into 32 bytes");
        let unwritten_bytes = unwritten.len();
        let text = &buffer[..buffer.len() - unwritten_bytes];
        let mut digits = Digits { bytes: [0; 17], length: 0 };
        let mut rest = text.iter();
        for &byte in rest.by_ref().take_while(|&&byte| byte != b'e').filter(|&&byte| byte != b'.') {
            digits.bytes[digits.length] = byte;
            digits.length += 1;
        }
        let exponent = std::str::from_utf8(rest.as_slice()).expect("formatted numbers are ASCII");
        (digits, exponent.parse().expect("the exponent is an integer"))
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

struct Text<'t> {
    bytes: &'t mut [u8; DOUBLE_BYTES_MAX],
    length: usize,
}

impl Text<'_> {
    fn append(&mut self, part: &[u8]) {
        self.bytes[self.length..self.length + part.len()].copy_from_slice(part);
        self.length += part.len();
    }

    /// Places the point by the rules of the fpconv library that Redis uses.
    fn place_point(&mut self, digits: &[u8], exponent: i32) {
        let count = digits.len() as i32;
        // The power of ten of the last digit.
        let last_exponent = exponent - count + 1;
        if last_exponent >= 0 && exponent < count + 7 {
            self.append(digits);
            self.append(&b"0000000"[..last_exponent as usize]);
        } else if last_exponent < 0 && (last_exponent > -7 || exponent.abs() < 4) {
            if exponent < 0 {
                self.append(b"0.");
                self.append(&b"0000000"[..(-exponent - 1) as usize]);
                self.append(digits);
            } else {
                let (whole, fraction) = digits.split_at(exponent as usize + 1);
                self.append(whole);
                self.append(b".");
                self.append(fraction);
            }
        } else {
            self.append(&digits[..1]);
            if count > 1 {
                self.append(b".");
                self.append(&digits[1..]);
            }
            self.append(if exponent < 0 { b"e-" } else { b"e+" });
            self.append(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
        }
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
