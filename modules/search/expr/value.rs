//! Values of properties and expressions: their conversions, and their order.

use crate::error::{Kind, SearchError};
use crate::number::{NumberText, format_number};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;
use std::sync::Arc;

/// A value of a property or of an expression.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ExprValue<'a> {
    #[default]
    Null,
    Number(f64),
    Text(Cow<'a, [u8]>),
    List(Arc<[ExprValue<'static>]>),
    /// The values at a path at which a document may have several.
    Several(Arc<SeveralValues>),
}

/// Values at a path: expressions, sorting and grouping see one, replies show another.
#[derive(Clone, Debug, PartialEq)]
pub struct SeveralValues {
    pub seen: ExprValue<'static>,
    pub shown: ExprValue<'static>,
}

impl ExprValue<'_> {
    pub fn of_bool(boolean: bool) -> ExprValue<'static> {
        ExprValue::Number(f64::from(boolean))
    }

    /// The value that expressions see.
    pub fn seen(&self) -> &ExprValue<'_> {
        match self {
            ExprValue::Several(several) => &several.seen,
            value => value,
        }
    }

    /// As a number, as C's `strtod` reads the whole of a text. An empty text is 0.
    pub fn number(&self) -> Option<f64> {
        match self.seen() {
            ExprValue::Number(number) => Some(*number),
            ExprValue::Text(text) => parse_number(text),
            _ => None,
        }
    }

    /// The text of a text; numbers are none.
    pub fn text(&self) -> Option<&[u8]> {
        match self.seen() {
            ExprValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Not zero, or not empty.
    pub fn is_true(&self) -> bool {
        match self.seen() {
            ExprValue::Number(number) => *number != 0.0,
            ExprValue::Text(text) => !text.is_empty(),
            ExprValue::List(list) => !list.is_empty(),
            _ => false,
        }
    }

    /// Converted to a text: numbers in the reply's format, lists and nulls empty.
    pub fn to_text(&self) -> Cow<'_, [u8]> {
        match self.seen() {
            ExprValue::Text(text) => Cow::Borrowed(text),
            ExprValue::Number(number) => Cow::Owned(number_text(*number).as_bytes().to_vec()),
            _ => Cow::Borrowed(b""),
        }
    }

    /// The same value, without a copy of a text.
    #[inline]
    pub fn borrowed(&self) -> ExprValue<'_> {
        match self {
            ExprValue::Null => ExprValue::Null,
            ExprValue::Number(number) => ExprValue::Number(*number),
            ExprValue::Text(text) => ExprValue::Text(Cow::Borrowed(text)),
            ExprValue::List(list) => ExprValue::List(list.clone()),
            ExprValue::Several(several) => ExprValue::Several(several.clone()),
        }
    }

    /// A copy that borrows nothing.
    pub fn to_static(&self) -> ExprValue<'static> {
        self.borrowed().into_owned()
    }

    /// What reading all of it costs beyond that of a number: by the length of a text or a list, as the work
    /// of evaluating is counted.
    #[inline]
    pub fn size(&self) -> usize {
        const TEXT_BYTES: usize = 64;
        match self.seen() {
            ExprValue::Text(text) => text.len() / TEXT_BYTES,
            ExprValue::List(list) => list.len(),
            _ => 0,
        }
    }

    /// The bytes that a copy takes beyond its own size, estimated.
    pub fn heap_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        match self {
            ExprValue::Null | ExprValue::Number(_) => 0,
            ExprValue::Text(text) => ALLOCATION + text.len(),
            ExprValue::List(list) => {
                let each = |value: &ExprValue<'static>| size_of::<ExprValue<'static>>() + value.heap_bytes();
                ALLOCATION + list.iter().map(each).sum::<usize>()
            }
            ExprValue::Several(several) => {
                ALLOCATION
                    + size_of::<SeveralValues>()
                    + several.seen.heap_bytes()
                    + several.shown.heap_bytes()
            }
        }
    }

    pub fn into_owned(self) -> ExprValue<'static> {
        match self {
            ExprValue::Null => ExprValue::Null,
            ExprValue::Number(number) => ExprValue::Number(number),
            ExprValue::Text(text) => ExprValue::Text(Cow::Owned(text.into_owned())),
            ExprValue::List(list) => ExprValue::List(list),
            ExprValue::Several(several) => ExprValue::Several(several),
        }
    }

    /// The number that RediSearch's error texts have for the type.
    pub fn type_number(&self) -> u8 {
        match self.seen() {
            ExprValue::Number(_) => 1,
            ExprValue::Text(_) => 3,
            ExprValue::Null => 4,
            _ => 6,
        }
    }
}

/// A number as replies show it: integers as such, others with twelve digits. A NaN keeps its sign.
pub fn number_text(number: f64) -> NumberText {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if number == number.trunc() && (-LIMIT..LIMIT).contains(&number) {
        let mut text = NumberText::default();
        write!(text, "{}", number as i64).expect("twenty bytes fit");
        return text;
    }
    if number.is_nan() && number.is_sign_negative() {
        let mut text = NumberText::default();
        text.write_str("-nan").expect("four bytes fit");
        return text;
    }
    format_number(number)
}

/// The number that is the whole text, as C's `strtod` reads it: after white space, decimal or hexadecimal,
/// infinite or NaN. `None` if it is too large or too small.
pub fn parse_number(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = text.iter().position(|byte| !is_space(byte))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let number = match digits {
        [b'0', b'x' | b'X', hexadecimal @ ..] => parse_hexadecimal(hexadecimal)?,
        [b'0'..=b'9' | b'.', ..] => parse_decimal(digits)?,
        _ if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") => f64::INFINITY,
        [b'n' | b'N', b'a' | b'A', b'n' | b'N', payload @ ..] if is_nan_payload(payload) => f64::NAN,
        _ => return None,
    };
    Some(if negative { -number } else { number })
}

/// Nothing, or letters and digits in parentheses.
fn is_nan_payload(text: &[u8]) -> bool {
    let inner = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")"));
    let is_word = |inner: &[u8]| inner.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.is_empty() || inner.is_some_and(is_word)
}

fn parse_decimal(digits: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let is_zero = || {
        let mantissa = digits.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        mantissa.clone().all(|byte| matches!(byte, b'0' | b'.'))
    };
    // What overflows or underflows is out of range.
    (number.is_finite() && (number != 0.0 || is_zero())).then_some(number)
}

fn parse_hexadecimal(digits: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(digits).ok()?;
    let (mantissa, exponent) = match text.split_once(['p', 'P']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut number = 0.0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        number = number * 16.0 + f64::from(char::from(digit).to_digit(16)?);
    }
    let scale = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    Some(number * f64::from(scale).exp2())
        .filter(|scaled| scaled.is_finite() && (*scaled != 0.0 || number == 0.0))
}

/// A NaN is equal to each number, as RediSearch compares them.
fn order_of_numbers(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or(Ordering::Equal)
}

/// The order of values of the same type. Lists are compared by their first elements.
fn order_of_same(left: &ExprValue<'_>, right: &ExprValue<'_>) -> Option<Ordering> {
    Some(match (left, right) {
        (ExprValue::Null, ExprValue::Null) => Ordering::Equal,
        (ExprValue::Number(left), ExprValue::Number(right)) => order_of_numbers(*left, *right),
        (ExprValue::Text(left), ExprValue::Text(right)) => left.cmp(right),
        (ExprValue::List(left), ExprValue::List(right)) => match (left.first(), right.first()) {
            (Some(left), Some(right)) => compare_values(left, right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        },
        (ExprValue::Null, _) => Ordering::Less,
        (_, ExprValue::Null) => Ordering::Greater,
        _ => return None,
    })
}

/// A total order for sorting: nulls, numbers, NaN, texts, lists. Lists are compared by their first elements.
/// Unlike the order of expressions, no text is a number here: such an order has circles.
pub fn compare_values(left: &ExprValue<'_>, right: &ExprValue<'_>) -> Ordering {
    let rank = |value: &ExprValue<'_>| match value {
        ExprValue::Null | ExprValue::Several(_) => 0,
        ExprValue::Number(_) => 1,
        ExprValue::Text(_) => 2,
        ExprValue::List(_) => 3,
    };
    match (left.seen(), right.seen()) {
        (ExprValue::Number(left), ExprValue::Number(right)) => match left.partial_cmp(right) {
            Some(order) => order,
            None => left.is_nan().cmp(&right.is_nan()),
        },
        (ExprValue::Text(left), ExprValue::Text(right)) => left.cmp(right),
        (ExprValue::List(left), ExprValue::List(right)) => match (left.first(), right.first()) {
            (Some(left), Some(right)) => compare_values(left, right),
            (left, right) => left.is_some().cmp(&right.is_some()),
        },
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

/// Both values as numbers, if one of them is a number.
fn numbers(left: &ExprValue<'_>, right: &ExprValue<'_>) -> Option<(Option<f64>, Option<f64>)> {
    let is_number = |value: &ExprValue<'_>| matches!(value, ExprValue::Number(_));
    (is_number(left) || is_number(right)).then(|| (left.number(), right.number()))
}

/// The order of two values; fails if a number is compared with what is none.
pub fn order_or_fail(left: &ExprValue<'_>, right: &ExprValue<'_>) -> Result<Ordering, SearchError> {
    let (left, right) = (left.seen(), right.seen());
    if let Some(order) = order_of_same(left, right) {
        return Ok(order);
    }
    let wrong = |value: &ExprValue<'_>| Kind::TextToNumber.of(value.text().unwrap_or(b"(null)"));
    match numbers(left, right) {
        None => Ok(left.to_text().cmp(&right.to_text())),
        Some((Some(left), Some(right))) => Ok(order_of_numbers(left, right)),
        Some((None, _)) => Err(wrong(left)),
        Some((_, None)) => Err(wrong(right)),
    }
}

/// Equality; a number is equal to no text that is none.
pub fn are_equal(left: &ExprValue<'_>, right: &ExprValue<'_>) -> bool {
    let (left, right) = (left.seen(), right.seen());
    let same = order_of_same(left, right).map(|order| order == Ordering::Equal);
    same.unwrap_or_else(|| match numbers(left, right) {
        None => left.to_text() == right.to_text(),
        Some((Some(left), Some(right))) => order_of_numbers(left, right) == Ordering::Equal,
        Some(_) => false,
    })
}
