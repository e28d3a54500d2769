//! `cjson`: JSON texts, as in lua-cjson 2.1.0.

use crate::lua::checked::{CallArguments, ErrorText, add, internal};
use crate::lua::number::write_precise;
use mlua::{Lua, Table, Value};
use parking_lot::Mutex;
use std::sync::Arc;

/// Tables inside tables that are read or written at most, whatever a script sets.
const DEPTH_MAX: usize = 1000;
/// The longest text that is made, in bytes: the longest string that a command takes.
const MADE_BYTES_MAX: usize = 512 << 20;

/// What scripts can set, for each table of functions that `cjson.new` makes.
#[derive(Clone, Copy)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth_max: i64,
    decode_depth_max: i64,
    precision: i64,
    keep_buffer: bool,
    encode_invalid: Invalid,
    decode_invalid: bool,
}

/// What becomes of numbers that JSON does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Refuse,
    Write,
    Null,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: DEPTH_MAX as i64,
            decode_depth_max: DEPTH_MAX as i64,
            precision: 14,
            keep_buffer: true,
            encode_invalid: Invalid::Refuse,
            decode_invalid: true,
        }
    }
}

pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let settings = Arc::new(Mutex::new(Settings::default()));
    let encoding = settings.clone();
    add(lua, &library, "encode", move |lua, arguments| {
        if arguments.len() != 1 {
            return Err(arguments.wrong(0, "expected 1 argument"));
        }
        let mut writer = Writer { text: Vec::new(), settings: *encoding.lock() };
        writer.value(arguments.get(0).unwrap_or(&Value::Nil), 0)?;
        Ok(Value::String(lua.create_string(&writer.text).map_err(internal)?))
    })?;
    let decoding = settings.clone();
    add(lua, &library, "decode", move |lua, arguments| {
        if arguments.len() != 1 {
            return Err(arguments.wrong(0, "expected 1 argument"));
        }
        let text = arguments.text(0)?;
        let text = text.as_bytes();
        decode(lua, &text, *decoding.lock())
    })?;
    add_settings(lua, &library, &settings)?;
    library.raw_set("new", lua.create_function(|lua, _: mlua::MultiValue| self::library(lua))?)?;
    library.raw_set("null", Value::NULL)?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    Ok(library)
}

type SharedSettings = Arc<Mutex<Settings>>;

fn add_settings(lua: &Lua, library: &Table, settings: &SharedSettings) -> mlua::Result<()> {
    type Field = fn(&mut Settings) -> &mut i64;
    let integers: [(&'static str, Field, i64, i64); 3] = [
        ("encode_max_depth", |settings| &mut settings.encode_depth_max, 1, i64::from(i32::MAX)),
        ("decode_max_depth", |settings| &mut settings.decode_depth_max, 1, i64::from(i32::MAX)),
        ("encode_number_precision", |settings| &mut settings.precision, 1, 14),
    ];
    for (name, field, min, max) in integers {
        let settings = settings.clone();
        add(lua, library, name, move |_, arguments| {
            let mut settings = settings.lock();
            integer_option(arguments, 0, field(&mut settings), (min, max))?;
            Ok(Value::Number(*field(&mut settings) as f64))
        })?;
    }
    type Switch = fn(&mut Settings) -> &mut bool;
    let switches: [(&'static str, Switch); 2] = [
        ("encode_keep_buffer", |settings| &mut settings.keep_buffer),
        ("decode_invalid_numbers", |settings| &mut settings.decode_invalid),
    ];
    for (name, field) in switches {
        let settings = settings.clone();
        add(lua, library, name, move |_, arguments| {
            let mut settings = settings.lock();
            let field = field(&mut settings);
            match arguments.get(0) {
                None | Some(Value::Nil) => {}
                value => *field = switch(arguments, value)? == Invalid::Write,
            }
            Ok(Value::Boolean(*field))
        })?;
    }
    let invalid = settings.clone();
    add(lua, library, "encode_invalid_numbers", move |lua, arguments| {
        let mut settings = invalid.lock();
        match arguments.get(0) {
            None | Some(Value::Nil) => {}
            value => settings.encode_invalid = switch(arguments, value)?,
        }
        Ok(match settings.encode_invalid {
            Invalid::Null => Value::String(lua.create_string("null").map_err(internal)?),
            other => Value::Boolean(other == Invalid::Write),
        })
    })?;
    let sparse = settings.clone();
    add(lua, library, "encode_sparse_array", move |_, arguments| {
        let mut settings = sparse.lock();
        if let Some(Value::Boolean(convert)) = arguments.get(0) {
            settings.sparse_convert = *convert;
        }
        let bounds = (0, i64::from(i32::MAX));
        integer_option(arguments, 1, &mut settings.sparse_ratio, bounds)?;
        integer_option(arguments, 2, &mut settings.sparse_safe, bounds)?;
        Ok((settings.sparse_convert, settings.sparse_ratio as f64, settings.sparse_safe as f64))
    })
}

fn integer_option(
    arguments: &CallArguments<'_>,
    index: usize,
    field: &mut i64,
    (min, max): (i64, i64),
) -> Result<(), ErrorText> {
    if matches!(arguments.get(index), None | Some(Value::Nil)) {
        return Ok(());
    }
    let value = arguments.number(index)? as i64;
    if !(min..=max).contains(&value) {
        return Err(arguments.wrong(index, &format!("expected integer between {min} and {max}")));
    }
    *field = value;
    Ok(())
}

fn switch(arguments: &CallArguments<'_>, value: Option<&Value>) -> Result<Invalid, ErrorText> {
    match value {
        Some(Value::Boolean(is_on)) => Ok(if *is_on { Invalid::Write } else { Invalid::Refuse }),
        _ => {
            let text = arguments.text(0)?;
            match &*text.as_bytes() {
                b"off" => Ok(Invalid::Refuse),
                b"on" => Ok(Invalid::Write),
                b"null" => Ok(Invalid::Null),
                other => {
                    let complaint = format!("invalid option '{}'", String::from_utf8_lossy(other));
                    Err(arguments.wrong(0, &complaint))
                }
            }
        }
    }
}

struct Writer {
    text: Vec<u8>,
    settings: Settings,
}

fn cannot(value: &Value, reason: &str) -> ErrorText {
    let kind = match value {
        Value::Integer(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        value => value.type_name(),
    };
    format!("Cannot serialise {kind}: {reason}")
}

/// A table can contain others several times, and those others again: its text has a bound of its own.
pub fn check_size(bytes: usize) -> Result<(), ErrorText> {
    match bytes <= MADE_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("Cannot serialise: more than {MADE_BYTES_MAX} bytes")),
    }
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), ErrorText> {
        check_size(self.text.len())?;
        match value {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Number(number) => return self.number(value, *number),
            Value::Integer(number) => return self.number(value, *number as f64),
            Value::Boolean(truth) => self.text.extend_from_slice(if *truth { b"true" } else { b"false" }),
            Value::Nil => self.text.extend_from_slice(b"null"),
            Value::LightUserData(data) if data.0.is_null() => self.text.extend_from_slice(b"null"),
            Value::Table(table) => return self.table(table, depth + 1),
            other => return Err(cannot(other, "type not supported")),
        }
        Ok(())
    }

    fn number(&mut self, value: &Value, number: f64) -> Result<(), ErrorText> {
        if !number.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refuse => return Err(cannot(value, "must not be NaN or Inf")),
                Invalid::Null => {
                    self.text.extend_from_slice(b"null");
                    return Ok(());
                }
                Invalid::Write if number.is_nan() => {
                    self.text.extend_from_slice(b"nan");
                    return Ok(());
                }
                Invalid::Write => {}
            }
        }
        write_precise(number, self.settings.precision as usize, &mut self.text);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.text.push(b'"');
        for byte in text {
            let escape = match byte {
                b'"' | b'\\' | b'/' => *byte,
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                0..=31 | 127 => {
                    let digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
                    self.text.extend_from_slice(b"\\u00");
                    self.text.extend_from_slice(&digits);
                    continue;
                }
                _ => {
                    self.text.push(*byte);
                    continue;
                }
            };
            self.text.extend_from_slice(&[b'\\', escape]);
        }
        self.text.push(b'"');
    }

    /// The length of a list; `None` for an object, as which an empty table is written.
    fn list_length(&self, table: &Table) -> Result<Option<i64>, ErrorText> {
        let (mut items, mut max, mut is_list) = (0, 0_i64, true);
        let counted = table.for_each(|key: Value, _: Value| {
            let index = match key {
                Value::Integer(index) => index,
                Value::Number(index) if index.trunc() == index => index as i64,
                _ => 0,
            };
            is_list &= index >= 1;
            max = max.max(index);
            items += 1;
            Ok(())
        });
        counted.map_err(internal)?;
        if !is_list || items == 0 {
            return Ok(None);
        }
        let Settings { sparse_convert, sparse_ratio, sparse_safe, .. } = self.settings;
        if sparse_ratio > 0 && max > items * sparse_ratio && max > sparse_safe {
            return match sparse_convert {
                true => Ok(None),
                false => Err("Cannot serialise table: excessively sparse array".to_owned()),
            };
        }
        Ok(Some(max))
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), ErrorText> {
        let depth_max = (self.settings.encode_depth_max as usize).min(DEPTH_MAX);
        if depth > depth_max {
            return Err(format!("Cannot serialise, excessive nesting ({depth})"));
        }
        if let Some(length) = self.list_length(table)? {
            self.text.push(b'[');
            for index in 1..=length {
                if index > 1 {
                    self.text.push(b',');
                }
                self.value(&table.raw_get(index).map_err(internal)?, depth)?;
            }
            self.text.push(b']');
            return Ok(());
        }
        self.text.push(b'{');
        // Not by a call for each pair: calls of Lua inside calls are few.
        for (index, pair) in table.pairs::<Value, Value>().enumerate() {
            if index > 0 {
                self.text.push(b',');
            }
            let (key, value) = pair.map_err(internal)?;
            self.pair(&key, &value, depth)?;
        }
        self.text.push(b'}');
        Ok(())
    }

    fn pair(&mut self, key: &Value, value: &Value, depth: usize) -> Result<(), ErrorText> {
        match key {
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Number(_) | Value::Integer(_) => {
                self.text.push(b'"');
                self.value(key, depth)?;
                self.text.push(b'"');
            }
            other => return Err(cannot(other, "table key must be a number or string")),
        }
        self.text.push(b':');
        self.value(value, depth)
    }
}

/// A token and where it begins.
#[derive(Clone)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    /// What is wrong with the text.
    Wrong(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Text(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Wrong(complaint) => complaint,
        }
    }
}

struct Reader<'l, 't> {
    lua: &'l Lua,
    text: &'t [u8],
    at: usize,
    /// Where the last token begins.
    token_at: usize,
    depth: usize,
    settings: Settings,
}

fn decode(lua: &Lua, text: &[u8], settings: Settings) -> Result<Value, ErrorText> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err("JSON parser does not support UTF-16 or UTF-32".to_owned());
    }
    let mut reader = Reader { lua, text, at: 0, token_at: 0, depth: 0, settings };
    let token = reader.next();
    let value = reader.value(token)?;
    match reader.next() {
        Token::End => Ok(value),
        token => Err(reader.expected("the end", &token)),
    }
}

impl Reader<'_, '_> {
    fn expected(&self, wanted: &str, token: &Token) -> ErrorText {
        format!("Expected {wanted} but found {} at character {}", token.name(), self.token_at + 1)
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Token {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.byte(0) {
            0 => return Token::End,
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return Token::Wrong("invalid number");
                }
                return self.number();
            }
            _ => return self.word(),
        };
        self.at += 1;
        single
    }

    fn word(&mut self) -> Token {
        let rest = &self.text[self.at..];
        for (word, token) in
            [("true", Token::Boolean(true)), ("false", Token::Boolean(false)), ("null", Token::Null)]
        {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_number = matches!(self.byte(0), b'i' | b'I' | b'n' | b'N' | b'+');
        if may_be_number && self.settings.decode_invalid && self.is_invalid_number() {
            return self.number();
        }
        Token::Wrong("invalid token")
    }

    /// Whether it is a number of C and not one of JSON.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.text[self.at..];
        if rest.first() == Some(&b'+') {
            return true;
        }
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let begins = |name: &[u8]| rest.len() >= 3 && rest[..3].eq_ignore_ascii_case(name);
        match rest {
            [b'0', second, ..] => second.eq_ignore_ascii_case(&b'x') || second.is_ascii_digit(),
            [first, ..] if *first <= b'9' => false,
            _ => begins(b"inf") || begins(b"nan"),
        }
    }

    fn number(&mut self) -> Token {
        let rest = &self.text[self.at..];
        match longest_number(rest) {
            Some((number, length)) => {
                self.at += length;
                Token::Number(number)
            }
            None => Token::Wrong("invalid number"),
        }
    }

    fn wrong(&mut self, complaint: &'static str) -> Token {
        self.token_at = self.at;
        Token::Wrong(complaint)
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.byte(0) {
                b'"' => break,
                0 => return self.wrong("unexpected end of string"),
                b'\\' => {
                    let escaped = match self.byte(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => {
                            let Some((character, length)) = self.unicode() else {
                                return self.wrong("invalid unicode escape code");
                            };
                            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                            self.at += length;
                            continue;
                        }
                        _ => return self.wrong("invalid escape code"),
                    };
                    text.push(escaped);
                    self.at += 2;
                }
                byte => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token::Text(text)
    }

    /// A character in the form of `\uXXXX`, or a pair of them, and the length of that.
    fn unicode(&self) -> Option<(char, usize)> {
        let unit = |at: usize| {
            let digits = self.text.get(self.at + at..self.at + at + 6)?;
            let digits = digits.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0_u32, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
        };
        let first = unit(0)?;
        if !(0xd800..0xe000).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        let second = unit(6).filter(|second| (0xdc00..0xe000).contains(second) && first < 0xdc00)?;
        Some((char::from_u32(0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff))?, 12))
    }

    fn descend(&mut self) -> Result<(), ErrorText> {
        self.depth += 1;
        if self.depth > (self.settings.decode_depth_max as usize).min(DEPTH_MAX) {
            let (depth, at) = (self.depth, self.at);
            return Err(format!("Found too many nested data structures ({depth}) at character {at}"));
        }
        Ok(())
    }

    fn value(&mut self, token: Token) -> Result<Value, ErrorText> {
        Ok(match token {
            Token::Text(text) => Value::String(self.lua.create_string(&text).map_err(internal)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(truth) => Value::Boolean(truth),
            Token::Null => Value::NULL,
            Token::ObjectBegin => self.object()?,
            Token::ArrayBegin => self.array()?,
            token => return Err(self.expected("value", &token)),
        })
    }

    fn object(&mut self) -> Result<Value, ErrorText> {
        self.descend()?;
        let table = self.lua.create_table().map_err(internal)?;
        let mut token = self.next();
        while !matches!(token, Token::ObjectEnd) {
            let Token::Text(key) = token else { return Err(self.expected("object key string", &token)) };
            let colon = self.next();
            if !matches!(colon, Token::Colon) {
                return Err(self.expected("colon", &colon));
            }
            let value = self.next();
            let value = self.value(value)?;
            let key = self.lua.create_string(&key).map_err(internal)?;
            table.raw_set(key, value).map_err(internal)?;
            token = self.next();
            match token {
                Token::ObjectEnd => {}
                Token::Comma => {
                    token = self.next();
                    if !matches!(token, Token::Text(_)) {
                        return Err(self.expected("object key string", &token));
                    }
                }
                token => return Err(self.expected("comma or object end", &token)),
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }

    fn array(&mut self) -> Result<Value, ErrorText> {
        self.descend()?;
        let table = self.lua.create_table().map_err(internal)?;
        let mut token = self.next();
        let mut index = 1;
        while !(index == 1 && matches!(token, Token::ArrayEnd)) {
            let value = self.value(token)?;
            table.raw_set(index, value).map_err(internal)?;
            index += 1;
            match self.next() {
                Token::ArrayEnd => break,
                Token::Comma => token = self.next(),
                token => return Err(self.expected("comma or array end", &token)),
            }
        }
        self.depth -= 1;
        Ok(Value::Table(table))
    }
}

/// The longest beginning that is a number as C reads it, and its length.
fn longest_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let unsigned = &text[sign..];
    let negate = |number: f64| if text[0] == b'-' { -number } else { number };
    let begins = |name: &str| {
        unsigned.len() >= name.len() && unsigned[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    for (name, number) in [("infinity", f64::INFINITY), ("inf", f64::INFINITY), ("nan", f64::NAN)] {
        if begins(name) {
            return Some((negate(number), sign + name.len()));
        }
    }
    if begins("0x") {
        let digits = unsigned[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let hex = std::str::from_utf8(&unsigned[2..2 + digits]).ok()?;
        let number = hex.chars().filter_map(|digit| digit.to_digit(16));
        let number = number.fold(0.0, |sum, digit| sum * 16.0 + f64::from(digit));
        return (digits > 0).then(|| (negate(number), sign + 2 + digits));
    }
    let count = |from: usize| unsigned[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = count(0);
    let mut has_digits = end > 0;
    if unsigned.get(end) == Some(&b'.') {
        let decimals = count(end + 1);
        has_digits |= decimals > 0;
        end += usize::from(has_digits) * (1 + decimals);
    }
    if !has_digits {
        return None;
    }
    if matches!(unsigned.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(unsigned.get(end + 1), Some(b'-' | b'+')));
        let digits = count((end + 1 + sign).min(unsigned.len()));
        if digits > 0 {
            end += 1 + sign + digits;
        }
    }
    let number: f64 = std::str::from_utf8(&unsigned[..end]).ok()?.parse().ok()?;
    Some((negate(number), sign + end))
}
